# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a site of type gem: what gem and Bundler rely on, played on the newest version of one gem.

Source: the RubyGems guides, "Compact Index API".
"""

from __future__ import annotations

import base64
import hashlib
import re
import zlib

from ..http import Response
from .base import (
    Probe,
    Skip,
    Verdict,
    ask_upstream,
    bad,
    expect,
    good,
    is_stale,
    judge_head,
    judge_hit,
    judge_lag,
    judge_range,
    stays_stale,
)

ENTRY = re.compile(rb"(\S+) (\S+) ([0-9a-f]{32})")
VERSION = re.compile(rb"([0-9][0-9A-Za-z._-]*) ([^|]*)\|(.+)")


def _lines(body: bytes, url: str, form: re.Pattern[bytes]) -> list[re.Match[bytes]]:
    """The lines of a file of the compact index, without its head. Raises ValueError."""
    head, mark, text = body.rpartition(b"---\n")
    lines = text.split(b"\n")
    if not mark or head and not head.startswith(b"created_at:") or lines.pop():
        raise ValueError(f"{url} is no whole file of the compact index")
    found = [form.fullmatch(line) for line in lines]
    if None in found:
        raise ValueError(f"{url} has the line {lines[found.index(None)][:60]!r}, which is not of the compact index")
    return [match for match in found if match]


def _info(probe: Probe) -> str:
    """The path of the gem's page."""
    if not probe.site.probe:
        raise Skip("no gem to look at is known; set probe: for this site")
    return f"{probe.site.index}info/{probe.site.probe}"


def _newest(probe: Probe) -> tuple[str, str]:
    """The path of the gem that came last, and its SHA-256 as the index tells it, or nothing."""
    response = expect(probe.get(_info(probe)))
    lines = _lines(response.body, response.url, VERSION)
    if not lines:
        raise Skip("the gem has no version")
    told = re.search(rb"(?:^|,)checksum:([0-9a-f]{64})(?:,|$)", lines[-1][3])
    return f"{probe.site.index}gems/{probe.site.probe}-{lines[-1][1].decode()}.gem", told[1].decode() if told else ""


def _gem(probe: Probe) -> tuple[Response, str]:
    """The newest gem, and its SHA-256 as the index tells it."""
    path, checksum = _newest(probe)
    size, limit = expect(probe.head(path)).headers.get("Content-Length"), probe.options.max_artifact_size
    if size.isdigit() and int(size) > limit:
        raise Skip(f"{path} has {size} bytes, above the limit of {limit}")
    return expect(probe.get(path)), checksum


def versions(probe: Probe) -> Verdict:
    """The list of all gems is one."""
    response = expect(probe.get(f"{probe.site.index}versions", Accept_Encoding="gzip"))
    listed = _lines(response.decoded(), response.url, ENTRY)
    return good(f"{len({entry[1] for entry in listed})} gems") if listed else bad(f"{response.url} lists no gem")


def info(probe: Probe) -> Verdict:
    """The page of a gem is the one that the list of all gems tells; of several lines the last one counts."""
    _newest(probe)
    told = {}

    def both() -> Response:
        response = expect(probe.get(f"{probe.site.index}versions", Accept_Encoding="gzip"))
        told.update({entry[1].decode(): entry[3].decode() for entry in _lines(response.decoded(), response.url, ENTRY)})
        return expect(probe.get(_info(probe)))

    def fits(page: Response) -> bool:
        return told.get(probe.site.probe) == hashlib.md5(page.body).hexdigest()

    page = probe.until(fits, both)
    if fits(page):
        return good(f"MD5 {told[probe.site.probe]}")
    listed = told.get(probe.site.probe, "nothing")
    return bad(f"/versions says {listed} of {page.url}, which has another MD5; if that outlasts the site's lifetime, purge both")


def sums(probe: Probe) -> Verdict:
    """What a page's answer says of its content holds, packed or not: Bundler refuses a page for which it does not."""
    said = set()
    for encoding in "identity", "gzip":
        response = expect(probe.get(_info(probe), Accept_Encoding=encoding))
        plain = response.decoded()
        tag = re.fullmatch(r'(?:W/)?"([0-9a-f]{32})"', response.headers.get("ETag"))
        if tag and tag[1] != hashlib.md5(plain).hexdigest():
            return bad(f"{response.url} as {encoding} has the entity tag {tag[1]}, and another MD5; purge it")
        digests = ", ".join([response.headers.get("Digest"), response.headers.get("Repr-Digest")])
        told = re.findall(r"sha-256=[:\"]?([A-Za-z0-9+/]{43}=)", digests)
        if any(base64.b64decode(one) != hashlib.sha256(plain).digest() for one in told):
            return bad(f"{response.url} as {encoding} has another SHA-256 than its headers tell; purge it")
        said |= {"MD5"} if tag else set()
        said |= {"SHA-256"} if told else set()
    if not said:
        raise Skip("upstream sends neither digests nor an entity tag that is one")
    return good(" and ".join(sorted(said)))


def appended(probe: Probe) -> Verdict:
    """What came behind a client's copy of a page is to be had as a range."""
    response = expect(probe.get(_info(probe)))
    if response.headers.get("Accept-Ranges") != "bytes":
        raise Skip("upstream gives no ranges of pages, so Bundler fetches them as a whole")
    return judge_range(probe, response)


def specifications(probe: Probe) -> Verdict:
    """The index that came before the compact one can be read."""
    response = probe.get(f"{probe.site.index}prerelease_specs.4.8.gz")
    if response.status == 404:
        raise Skip("upstream has none")
    try:
        plain = zlib.decompress(expect(response).body, wbits=16 + zlib.MAX_WBITS)
    except zlib.error as error:
        return bad(f"{response.url} is no whole archive ({error})")
    return (
        good(f"{len(plain)} bytes") if plain.startswith(b"\x04\x08[") else bad(f"{response.url} holds no list of Ruby's marshal format 4.8")
    )


def absent(probe: Probe) -> Verdict:
    """A gem that is not there is answered so, or clients would take it for a failure."""
    response = expect(probe.get(f"{probe.site.index}info/nearby-mirrors-has-no-such-gem"), 404)
    return good(f"answered {response.status}")


def checksum(probe: Probe) -> Verdict:
    """A gem has the SHA-256 that the index tells."""
    response, told = _gem(probe)
    if not told:
        raise Skip("the index tells no checksum")
    found = hashlib.sha256(response.body).hexdigest()
    return (
        good(f"{len(response.body)} bytes")
        if found == told
        else bad(f"{response.url} has the SHA-256 {found}, the index says {told}; purge it")
    )


def index_hit(probe: Probe) -> Verdict:
    """A repeated request for a page is answered from the cache."""
    return judge_hit(probe, _info(probe))


def gem_hit(probe: Probe) -> Verdict:
    """A repeated request for a gem is answered from the cache."""
    return judge_hit(probe, _newest(probe)[0])


def gem_head(probe: Probe) -> Verdict:
    """HEAD of a gem tells what GET sends."""
    return judge_head(probe, _newest(probe)[0])


def gem_range(probe: Probe) -> Verdict:
    """A range of a gem has the bytes of that slice."""
    return judge_range(probe, _gem(probe)[0])


def freshness(probe: Probe) -> Verdict:
    """A page is not served stale: one that had just expired is refreshed within moments."""
    response = expect(probe.until(lambda found: not is_stale(found), lambda: probe.get(_info(probe))))
    if is_stale(response):
        return stays_stale(probe, response)
    return good("not stale")


def lag(probe: Probe) -> Verdict:
    """A page has the versions that upstream's has, or not for long others."""
    path = _info(probe)

    def told(response: Response) -> set[str]:
        return {line[1].decode() for line in _lines(response.body, response.url, VERSION)}

    return judge_lag(probe, ask_upstream(probe, path), probe.get(path), told)


CHECKS = (
    versions, info, sums, appended, specifications, absent, checksum, index_hit, gem_hit, gem_head, gem_range, freshness, lag,
)  # fmt: skip
