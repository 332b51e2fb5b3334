# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Is this mirror healthy? The checks that all mirrors share, and the dispatch to those of each site's type.

Adding an ecosystem is one file with its `CHECKS`, and its line in `CHECKS_BY_TYPE`.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from ..http import MEBIBYTE, Client, HttpError
from ..mirror_document import VERSION, at_port
from . import cargo, deb, gem, generic, golang, maven, npm, oci, pypi, rpm
from .base import BAD, GOOD, SKIPPED, Options, Probe, Site, Skip, Verdict, bad, expect, good

Check = Callable[..., Verdict]
CHECKS_BY_TYPE: dict[str, tuple[type[Probe], tuple[Check, ...]]] = {
    "pypi": (pypi.PypiProbe, pypi.CHECKS),
    "npm": (Probe, npm.CHECKS),
    "golang": (Probe, golang.CHECKS),
    "rpm": (rpm.RpmProbe, rpm.CHECKS),
    "cargo": (Probe, cargo.CHECKS),
    "maven": (Probe, maven.CHECKS),
    "deb": (Probe, deb.CHECKS),
    "gem": (Probe, gem.CHECKS),
    "oci": (Probe, oci.CHECKS),
    "generic": (Probe, generic.CHECKS),
}
# What is played on a site's own port, too, where it is not the first of its checks: one that only the site itself can pass there.
ON_ITS_PORT: dict[str, tuple[Check, ...]] = {
    "pypi": (pypi.index_json, pypi.index_html),
    "cargo": (cargo.versions,),  # its config.json leads to the mirror's own port
    "oci": (oci.tag,),
    "generic": (generic.sample,),
}


def read_document(client: Client, base: str) -> list[Site]:
    """The sites of the mirror at `base`. Raises HttpError, or ValueError with a sentence."""
    response = expect(client.get(base + "/mirror.json", max_body=4 * MEBIBYTE))
    try:
        document = json.loads(response.body)
        version, entries = document["version"], document["sites"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{response.url} is no mirror document") from error
    if version != VERSION:
        advice = "update nearby.mirrors here, or deploy the mirror again from here"
        raise ValueError(f"{response.url} has version {version}, and only version {VERSION} is known; {advice}")
    return sites_from(entries, response.url + " sites")


def sites_from(entries: Any, where: str) -> list[Site]:
    """Raises ValueError with a sentence."""
    if not isinstance(entries, list):
        raise ValueError(f"{where} is not a list")
    return [Site.from_dict(entry, f"{where}[{number}]") for number, entry in enumerate(entries)]


def health(probe: Probe) -> Verdict:
    """The answer that load balancers look at."""
    response = expect(probe.get("/health"))
    text = response.body.decode("utf-8", "replace").strip()
    return good("ok") if text == "ok" else bad(f"{response.url} says {text[:60]!r}, not 'ok'")


def certificate(probe: Probe) -> Verdict:
    """Days until the mirror's own certificate expires."""
    if probe.base.startswith("http://"):
        raise Skip("plain http")
    days, wanted = probe.get("/health").certificate_days or 0.0, probe.options.min_certificate_days
    detail = f"{days:g} days left"
    return good(detail) if days >= wanted else bad(f"{detail}, fewer than {wanted}; renew the mirror's certificate")


def port(probe: Probe) -> Verdict:
    """Whether the site is on its own port as well: the first of the checks that can judge, played there."""
    base = at_port(probe.base, probe.site.port, "The mirror document")
    there = replace(probe, base=base, site=probe.site.at_its_port)
    reason = "no checks are known"
    for check in ON_ITS_PORT.get(probe.site.type, CHECKS_BY_TYPE.get(probe.site.type, (Probe, ()))[1][:1]):
        try:
            verdict = check(there)
        except Skip as skipped:
            reason = str(skipped)
            continue
        return replace(verdict, detail=f"{check.__name__} at {base}: {verdict.detail}")
    raise Skip(reason)


def unknown_type(probe: Probe) -> Verdict:
    raise Skip(f"no checks are known for the type {probe.site.type!r}; update nearby.mirrors here")


@dataclass
class Report:
    """`checks` as the module returns them: site (empty for the mirror as a whole), check, verdict, detail, milliseconds."""

    checks: list[dict[str, Any]] = field(default_factory=list)

    def add(self, site: str, check: str, judge: Callable[[], Verdict], clock: Callable[[], float]) -> bool:
        """Run one check; False where the mirror gave it no answer at all."""
        started, answered = clock(), True
        try:
            verdict = judge()
        except Skip as reason:
            verdict = Verdict(SKIPPED, str(reason))
        except (HttpError, ValueError) as error:
            verdict, answered = bad(str(error)), not isinstance(error, HttpError)
        except Exception as error:  # a check's own fault is a finding, and must not hide those of the others
            verdict = bad(f"the check itself failed with {type(error).__name__}: {error}")
        milliseconds = round((clock() - started) * 1000, 1)
        entry = {"site": site, "check": check, "verdict": verdict.verdict, "detail": verdict.detail}
        self.checks.append({**entry, "milliseconds": milliseconds})
        return answered

    @property
    def bad(self) -> list[str]:
        return [label(entry) for entry in self.checks if entry["verdict"] == BAD]

    @property
    def summary(self) -> str:
        counts = {kind: sum(entry["verdict"] == kind for entry in self.checks) for kind in (GOOD, BAD, SKIPPED)}
        return ", ".join(f"{number} {kind}" for kind, number in counts.items())

    @property
    def failure(self) -> str:
        """The first bad check of each site with its detail, and how many more of the site's are bad."""
        found: dict[str, list[dict[str, Any]]] = {}
        for entry in self.checks:
            if entry["verdict"] == BAD:
                found.setdefault(entry["site"], []).append(entry)
        return "; ".join(
            "{}: {}".format(label(first), first["detail"]) + (f" (and {len(more)} more of its checks)" if more else "")
            for first, *more in found.values()
        )


def label(entry: Mapping[str, Any]) -> str:
    return "/".join(filter(None, (entry["site"], entry["check"])))


def examine(
    client: Client,
    base: str,
    sites: Iterable[Mapping[str, Any]] | None = None,
    upstream: Client | None = None,
    options: Options | None = None,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
    now: Callable[[], float] = time.time,
) -> Report:
    """Play every check on the mirror at `base` (no trailing slash). `sites` stand in for those of its document."""
    report, found = Report(), []
    common: dict[str, Any] = {
        "client": client,
        "base": base,
        "upstream": upstream,
        "options": options or Options(),
        "sleep": sleep,
        "now": now,
    }

    def document() -> Verdict:
        if sites is None:
            found.extend(read_document(client, base))
            return good(f"{len(found)} sites")
        found.extend(sites_from(sites, "sites"))
        raise Skip("sites were given")

    whole = Probe(site=Site("", "", "/"), **common)
    if not report.add("", "health", lambda: health(whole), clock):
        return report
    report.add("", "certificate", lambda: certificate(whole), clock)
    report.add("", "document", document, clock)
    for site in found:
        kind, checks = CHECKS_BY_TYPE.get(site.type, (Probe, (unknown_type,)))
        probe = kind(site=site, **common)
        for check in checks:
            report.add(site.name, check.__name__, functools.partial(check, probe), clock)
        if site.port:
            report.add(site.name, "port", functools.partial(port, probe), clock)
    return report
