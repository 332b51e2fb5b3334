# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a site of type cargo: what cargo relies on, played on the newest version of one crate that is not yanked.

Source: the Cargo book, "Registry Index".
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from ..http import HttpError, Response, origin
from .base import Probe, Skip, Verdict, bad, expect, good, is_stale, judge_head, judge_hit, judge_range, moment, stays_stale

Entry = Mapping[str, Any]


def prefix(name: str) -> str:
    """The folder of a crate's file in the index."""
    return {1: "1", 2: "2", 3: f"3/{name[:1]}"}.get(len(name), f"{name[:2]}/{name[2:4]}")


def download(dl: str, entry: Entry) -> str:
    """Where `dl` has the crate of an entry."""
    name = entry["name"]
    markers = {
        "{crate}": name,
        "{version}": entry["vers"],
        "{prefix}": prefix(name),
        "{lowerprefix}": prefix(name.lower()),
        "{sha256-checksum}": entry["cksum"],
    }
    if not any(marker in dl for marker in markers):
        dl += "/{crate}/{version}/download"
    for marker, value in markers.items():
        dl = dl.replace(marker, value)
    return dl


def _page(probe: Probe) -> str:
    if not probe.site.probe:
        raise Skip("no crate to look at is known; set probe: for this site")
    name = probe.site.probe.lower()
    return f"{prefix(name)}/{name}"


def _index(probe: Probe) -> Response:
    return expect(probe.get(probe.site.index + _page(probe)))


def _entries(response: Response) -> list[Entry]:
    """The versions of an index file, in the order in which they were published. Raises ValueError."""
    lines = response.decoded().decode("utf-8", "replace").splitlines()
    try:
        entries = [json.loads(line) for line in lines if line.strip()]
        for entry in entries:
            if not re.fullmatch("[0-9a-f]{64}", entry["cksum"]) or not all(isinstance(entry[key], str) for key in ("name", "vers")):
                raise ValueError(entry["cksum"])
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{response.url} is no file of an index") from error
    return entries


def _config(probe: Probe) -> dict[str, Any]:
    response = expect(probe.get(probe.site.index + "config.json"))
    try:
        told = json.loads(response.decoded())
        if not isinstance(told["dl"], str):
            raise TypeError
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{response.url} does not tell where crates are (dl)") from error
    return told


def _own(probe: Probe, link: str) -> str:
    """The path of a link that leads to this site of the mirror, by the address that was asked or by its own; else an empty one."""
    path = urlsplit(link).path
    if not path.startswith(probe.site.path):
        return ""
    if origin(link) == origin(probe.base):
        return path
    document = probe.get("/mirror.json")
    named = json.loads(document.body).get("url", "") if document.status == 200 else ""
    return path if origin(link) == origin(named) else ""


def _crate(probe: Probe) -> tuple[Entry, str]:
    """The newest entry that is not yanked, and the URL on the mirror at which its crate is at last."""
    offered = [entry for entry in _entries(_index(probe)) if not entry.get("yanked")]
    if not offered:
        raise Skip(f"no version of {probe.site.probe} is offered; set probe: for this site to another crate")
    link = download(_config(probe)["dl"], offered[-1])
    path, limit = _own(probe, link), probe.options.max_artifact_size
    if not path:
        raise ValueError(f"crates are at {origin(link) or link!r}, not on the mirror")
    head = expect(probe.follow(path))
    size = head.headers.get("Content-Length")
    if size.isdigit() and int(size) > limit:
        raise Skip(f"{path} has {size} bytes, above the limit of {limit}")
    return offered[-1], head.url


def config(probe: Probe) -> Verdict:
    """What config.json links to is on this site of the mirror."""
    links = {key: str(link) for key, link in _config(probe).items() if key in ("dl", "api") and link}
    strays = [f"{key} leads to {origin(link) or link!r}" for key, link in links.items() if not _own(probe, link)]
    if strays:
        return bad("{}, not below {}; deploy the mirror again, or set origins: for this site".format(" and ".join(strays), probe.site.path))
    return good(", ".join(f"{key} at {urlsplit(link).path}" for key, link in links.items()))


def versions(probe: Probe) -> Verdict:
    """The index file is one, and that of the crate."""
    response = _index(probe)
    names = [entry["name"].lower() for entry in _entries(response)]
    if not names or set(names) != {probe.site.probe.lower()}:
        return bad(f"{response.url} lists {len(names)} versions, of {', '.join(sorted(set(names))) or 'nothing'}")
    return good(f"{len(names)} versions")


def checksum(probe: Probe) -> Verdict:
    """The crate has the sum that the index tells."""
    entry, url = _crate(probe)
    body = expect(probe.get(url)).body
    found = hashlib.sha256(body).hexdigest()
    if found != entry["cksum"]:
        return bad(f"{url} has the SHA-256 {found}, the index says {entry['cksum']}; purge it")
    return good(f"SHA-256 of {entry['name']} {entry['vers']}, {len(body)} bytes")


def index_hit(probe: Probe) -> Verdict:
    """A repeated request for the index file is answered from the cache."""
    return judge_hit(probe, probe.site.index + _page(probe))


def crate_hit(probe: Probe) -> Verdict:
    """A repeated request for a crate is answered from the cache."""
    return judge_hit(probe, _crate(probe)[1])


def crate_head(probe: Probe) -> Verdict:
    """HEAD of a crate tells what GET sends."""
    return judge_head(probe, _crate(probe)[1])


def crate_range(probe: Probe) -> Verdict:
    """A range of a crate has the bytes of that slice."""
    return judge_range(probe, expect(probe.get(_crate(probe)[1])))


def freshness(probe: Probe) -> Verdict:
    """The index is not served stale: a file that had just expired is refreshed within moments."""
    response = probe.until(lambda found: not is_stale(found), lambda: _index(probe))
    if is_stale(response):
        return stays_stale(probe, response)
    return good("not stale")


def lag(probe: Probe) -> Verdict:
    """What upstream published long ago is here. Some lag is what a cache is for."""
    if probe.upstream is None or not probe.site.upstream:
        raise Skip("upstream was not to be asked")
    try:
        theirs = _entries(expect(probe.upstream.get(f"{probe.site.upstream}/{_page(probe)}", redirects=3)))
    except (HttpError, ValueError) as error:
        raise Skip(f"upstream could not be asked: {error}") from error
    ours = {entry["vers"] for entry in _entries(_index(probe))}
    missing = {entry["vers"]: moment(str(entry.get("pubtime", ""))) for entry in theirs if entry["vers"] not in ours}
    ages = {version: probe.now() - since for version, since in missing.items() if since is not None}
    overdue = [version for version, age in ages.items() if age > probe.options.max_lag]
    if overdue:
        return bad(f"missing for {max(ages.values()):.0f} s: {', '.join(overdue[:5])}")
    return good(f"behind by {len(missing)} versions" if missing else "up to date")


CHECKS = (config, versions, checksum, index_hit, crate_hit, crate_head, crate_range, freshness, lag)
