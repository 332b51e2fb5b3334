# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a site of type maven: what Maven and Gradle rely on, played on the newest release of one project.

Source: Maven, "Repository Layout" and "Repository Metadata"; Maven Resolver, "About Checksums".
"""

from __future__ import annotations

import calendar
import hashlib
import re
import time
from dataclasses import dataclass
from xml.etree import ElementTree

from ..http import Response
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
    judge_range,
    stays_stale,
)

VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Metadata:
    """What a `maven-metadata.xml` tells; `newest` is the release, else the latest; `updated` is in seconds since the epoch, or 0."""

    newest: str
    versions: tuple[str, ...]
    updated: int


def _project(probe: Probe) -> str:
    """The path of the project's folder."""
    if not probe.site.probe:
        raise Skip("no project to look at is known; set probe: for this site")
    return f"{probe.site.index}{probe.site.probe}/"


def _page(probe: Probe) -> str:
    return _project(probe) + "maven-metadata.xml"


def _parse(response: Response, root: str) -> ElementTree.Element:
    """The document, without namespaces. Raises ValueError."""
    body = response.decoded()
    try:
        if b"<!DOCTYPE" in body:
            raise ValueError("it defines a document type")
        element = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError) as error:
        raise ValueError(f"{response.url} is no XML that Maven reads ({error})") from error
    for one in element.iter():
        one.tag = one.tag.rpartition("}")[2]
    if element.tag != root:
        raise ValueError(f"{response.url} is {element.tag[:60]}, not {root}")
    return element


def _metadata(response: Response) -> Metadata:
    found = _parse(expect(response), "metadata")
    versions = tuple(version.text or "" for version in found.iterfind("versioning/versions/version"))
    newest = found.findtext("versioning/release") or found.findtext("versioning/latest") or ""
    if not VERSION.fullmatch(newest):
        raise ValueError(f"{response.url} tells neither a release nor a latest version")
    updated = found.findtext("versioning/lastUpdated") or ""
    try:
        seconds = calendar.timegm(time.strptime(updated, "%Y%m%d%H%M%S"))
    except ValueError:
        seconds = 0
    return Metadata(newest, versions, seconds)


def _file(probe: Probe, ending: str) -> str:
    """The path of a file of the newest release."""
    newest = _metadata(probe.get(_page(probe))).newest
    return f"{_project(probe)}{newest}/{probe.site.probe.rpartition('/')[2]}-{newest}{ending}"


def _told(probe: Probe, path: str) -> str:
    """The digest that is told beside a file. Raises Skip where none is."""
    response = probe.get(path + ".sha1")
    if response.status == 404:
        raise Skip(f"there is no {response.url}")
    found = re.search(rb"\b[0-9a-fA-F]{40}\b", expect(response).decoded())
    if not found:
        raise ValueError(f"{response.url} holds no digest")
    return found[0].decode().lower()


def _judge(probe: Probe, response: Response, path: str) -> Verdict:
    """Whether a file has the digest that is told beside it."""
    digest, told = hashlib.sha1(response.decoded(), usedforsecurity=False).hexdigest(), _told(probe, path)
    return good(f"sha1 {digest}") if digest == told else bad(f"{response.url} has sha1 {digest}, {path}.sha1 says {told}; purge both")


def metadata(probe: Probe) -> Verdict:
    """The metadata tell a newest version, which is one of those that they list."""
    response = probe.get(_page(probe))
    found = _metadata(response)
    if found.newest not in found.versions:
        return bad(f"{response.url} tells of {found.newest}, and does not list it")
    return good(f"{len(found.versions)} versions, {found.newest}")


def metadata_checksum(probe: Probe) -> Verdict:
    """The metadata have the digest that is told beside them; upstream may just be changing them."""
    path = _page(probe)

    def fits(response: Response) -> bool:
        return _judge(probe, expect(response), path).verdict == "good"

    return _judge(probe, expect(probe.until(fits, lambda: probe.get(path))), path)


def pom(probe: Probe) -> Verdict:
    """`.pom` is one, and has the digest that is told beside it."""
    path = _file(probe, ".pom")
    response = expect(probe.get(path))
    _parse(response, "project")
    return _judge(probe, response, path)


def jar(probe: Probe) -> Verdict:
    """`.jar`, where there is one, has the digest that is told beside it."""
    path = _file(probe, ".jar")
    if probe.head(path).status == 404 and ask_upstream(probe, path).status == 404:
        raise Skip("upstream has none")
    return _judge(probe, get_small(probe, path), path)


def metadata_hit(probe: Probe) -> Verdict:
    """A repeated request for the metadata is answered from the cache."""
    return judge_hit(probe, _page(probe))


def file_hit(probe: Probe) -> Verdict:
    """A repeated request for a file is answered from the cache."""
    return judge_hit(probe, _file(probe, ".pom"))


def file_head(probe: Probe) -> Verdict:
    """HEAD of a file tells what GET sends."""
    return judge_head(probe, _file(probe, ".pom"))


def file_range(probe: Probe) -> Verdict:
    """A range of a file has the bytes of that slice."""
    return judge_range(probe, expect(probe.get(_file(probe, ".pom"))))


def freshness(probe: Probe) -> Verdict:
    """The metadata are not served stale: what had just expired is refreshed within moments."""
    path = _page(probe)
    response = expect(probe.until(lambda found: not is_stale(found), lambda: probe.get(path)))
    if is_stale(response):
        return stays_stale(probe, response)
    return good("not stale")


def lag(probe: Probe) -> Verdict:
    """What upstream lists, the mirror lists not much later."""
    path = _page(probe)
    theirs, ours = _metadata(ask_upstream(probe, path)), _metadata(probe.get(path))
    missing = [version for version in theirs.versions if version not in ours.versions]
    if not missing:
        return good(f"all {len(theirs.versions)} versions")
    age = int(probe.now()) - theirs.updated
    if age > probe.options.max_lag:
        return bad(f"{probe.url(path)} lacks {missing[-1]}, upstream was last changed {age} s ago")
    raise Skip(f"{missing[-1]} is missing, which upstream lists since {age} s")


CHECKS = (
    metadata, metadata_checksum, pom, jar, metadata_hit, file_hit, file_head, file_range, freshness, lag,
)  # fmt: skip
