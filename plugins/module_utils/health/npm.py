# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a site of type npm: what npm, pnpm and yarn rely on, played on one package.

Source: npm's "Registry API" and "Package Metadata" (npm/registry, docs); Subresource Integrity (W3C) for `dist.integrity`.
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote, urlsplit

from ..catalogue.npm import INSTALL
from ..http import Response, origin
from .base import (
    Probe,
    Skip,
    Verdict,
    ask_upstream,
    bad,
    expect,
    get_small,
    good,
    is_stale,
    judge_head,
    judge_hit,
    judge_lag,
    judge_range,
    modified,
    moment,
    stays_stale,
)

WHOLE = "application/json"
ACCEPT = f"{INSTALL}; q=1.0, {WHOLE}; q=0.8, */*"
ALGORITHMS = ("sha512", "sha384", "sha256", "sha1")  # the strongest first


def _path(probe: Probe) -> str:
    """The path of the package's document; the slash of a scoped name is sent encoded, as npm does."""
    if not probe.site.probe:
        raise Skip("no package to look at is known; set probe: for this site")
    return probe.site.path + quote(probe.site.probe, safe="@")


def _read(response: Response) -> Mapping[str, Any]:
    """A document of a package. Raises ValueError."""
    expect(response)
    try:
        document = json.loads(response.decoded())
        versions = document["versions"].values()
        if versions and all(isinstance(version["dist"]["tarball"], str) for version in versions):
            return document
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"{response.url} is no document of a package ({type(error).__name__})") from error
    raise ValueError(f"{response.url} names no versions")


def _document(probe: Probe, accept: str = ACCEPT) -> Mapping[str, Any]:
    return _read(probe.get(_path(probe), Accept=accept))


def _newest(probe: Probe) -> Mapping[str, Any]:
    """`dist` of the version that is tagged as the latest."""
    document = _document(probe)
    versions = document["versions"]
    return versions.get(document.get("dist-tags", {}).get("latest")) or list(versions.values())[-1]


def _tarball(probe: Probe) -> str:
    """The path of the newest tarball on the mirror. Raises Skip where it is not on it."""
    link = str(_newest(probe)["dist"]["tarball"])
    if urlsplit(link).path.startswith(probe.site.path):
        return link[len(origin(link)) :] if origin(link) else link
    raise Skip(f"{link} is not on the mirror")


def _archive(probe: Probe) -> Response:
    return get_small(probe, _tarball(probe))


def representations(probe: Probe) -> Verdict:
    """The whole document, and the part of it that installs need, name the same versions."""
    part, whole = probe.get(_path(probe), Accept=ACCEPT), probe.get(_path(probe), Accept=WHOLE)
    if set(_read(part)["versions"]) != set(_read(whole)["versions"]):
        return bad(f"{whole.url} has other versions as {WHOLE} than as {INSTALL}")
    return good(f"{len(_read(part)['versions'])} versions, as {part.media_type} and {whole.media_type}")


def links(probe: Probe) -> Verdict:
    """Every tarball is on the mirror, in both representations.

    The mirror may be asked by another name than its own, which is the one in links; so the paths count, and that there is one host.
    """
    hosts: set[str] = set()
    foreign: set[str] = set()
    for accept in ACCEPT, WHOLE:
        for version in _document(probe, accept)["versions"].values():
            link = version["dist"]["tarball"]
            inside = urlsplit(link).path.startswith(probe.site.path) and origin(link) != origin(probe.site.upstream)
            (hosts if inside else foreign).add(origin(link))
    if foreign or len(hosts) > 1:
        found = ", ".join(sorted(foreign or hosts))
        return bad(f"links to tarballs lead to {found}; if the registry has moved its files, run the mirror's playbook again")
    return good(f"all on {', '.join(hosts)}")


def digest(probe: Probe) -> Verdict:
    """The newest tarball has the digest that the document tells."""
    told, response = _newest(probe)["dist"], _archive(probe)
    values = dict(part.split("?")[0].split("-", 1) for part in str(told.get("integrity") or "").split() if "-" in part)
    if not values and told.get("shasum"):
        values = {"sha1": base64.b64encode(bytes.fromhex(told["shasum"])).decode()}
    algorithm = next((name for name in ALGORITHMS if name in values), "")
    if not algorithm:
        raise Skip(f"{probe.url(_path(probe))} tells no digest")
    found = base64.b64encode(hashlib.new(algorithm, response.body).digest()).decode()
    if found != values[algorithm]:
        return bad(f"{response.url} has {algorithm}-{found}, its document says {algorithm}-{values[algorithm]}; purge it")
    return good(f"{algorithm} of {len(response.body)} bytes")


def document_hit(probe: Probe) -> Verdict:
    """A repeated request for the document is answered from the cache."""
    return judge_hit(probe, _path(probe), Accept=ACCEPT)


def tarball_hit(probe: Probe) -> Verdict:
    """A repeated request for a tarball is answered from the cache."""
    return judge_hit(probe, _tarball(probe))


def tarball_head(probe: Probe) -> Verdict:
    """HEAD of a tarball tells what GET sends."""
    return judge_head(probe, _tarball(probe))


def tarball_range(probe: Probe) -> Verdict:
    """A range of a tarball has the bytes of that slice."""
    return judge_range(probe, _archive(probe))


def freshness(probe: Probe) -> Verdict:
    """The document is not served stale: one that had just expired is refreshed within moments."""
    response = expect(probe.until(lambda found: not is_stale(found), lambda: probe.get(_path(probe), Accept=ACCEPT)))
    if is_stale(response):
        return stays_stale(probe, response)
    return good("not stale")


def _told(response: Response) -> set[str]:
    """The versions, and what is tagged."""
    document = _read(response)
    return {*document["versions"], *(f"{tag}: {version}" for tag, version in document.get("dist-tags", {}).items())}


def _changed(response: Response) -> float | None:
    """As a document tells it, which the whole one does beside the times of its versions."""
    document = _read(response)
    return moment(str(document.get("modified") or (document.get("time") or {}).get("modified"))) or modified(response)


def lag(probe: Probe) -> Verdict:
    """The document tells of the versions and tags that upstream's does, or not for long of others."""
    path = _path(probe)
    return judge_lag(probe, ask_upstream(probe, path, Accept=ACCEPT), probe.get(path, Accept=ACCEPT), _told, _changed)


CHECKS = (
    representations, links, digest, document_hit, tarball_hit, tarball_head, tarball_range, freshness, lag,
)  # fmt: skip
