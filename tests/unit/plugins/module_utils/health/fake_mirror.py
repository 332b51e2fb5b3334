# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mirror as the checks of one ecosystem ask it, without a network."""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client, Headers, HttpError, Response
from ansible_collections.nearby.mirrors.plugins.module_utils.mirror_document import build
from ansible_collections.nearby.mirrors.plugins.module_utils.sites import resolve_sites

ELSEWHERE = "https://moved.test:444"
SENT_ELSEWHERE = f": its upstream sends it to {ELSEWHERE}, which is not among the site's origins"


class FakeMirror(Client):
    """What there is, its ``find`` says; that it is cached, how HEAD and ranges are answered, and /health, is here.

    ``stale``: what was asked for before is served stale. ``cold``: nothing is ever a hit.
    """

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, str]] = set()
        self.stale = self.cold = False

    def find(self, url: str, headers: dict[str, str]) -> bytes | int | Response:
        """The body at a URL, or the status, or the whole answer."""
        raise NotImplementedError

    def told(self, _body: bytes) -> dict[str, str]:
        """Headers beside those that all mirrors send."""
        return {}

    def request(self, method, url, headers=None, max_body=None, redirects=0, origins=()):
        if url.endswith("/health"):
            return Response(200, Headers({}), b"ok\n", url=url)
        found = self.find(url, headers := headers or {})
        if isinstance(found, Response):
            return found
        status, body = (found, b"no\n") if isinstance(found, int) else (200, found)
        key = url, headers.get("Accept", "")
        said = "nearby; hit" + "; detail=STALE" * self.stale if key in self.seen and not self.cold else "nearby; fwd=uri-miss"
        self.seen.add(key)
        answer = {"Content-Length": str(len(body)), "Cache-Status": said} | self.told(body)
        response = Response(status, Headers(answer), body, url=url)
        if status == 200 and "Range" in headers:
            first, last = headers["Range"].removeprefix("bytes=").split("-")
            start, end = (int(first), int(last)) if first else (len(body) - int(last), len(body) - 1)
            part = Headers({"Content-Range": f"bytes {start}-{end}/{len(body)}"})
            response = replace(response, status=206, body=body[start : end + 1], headers=part)
        return replace(response, body=b"") if method == "HEAD" else response


def by_end(changes: dict[str, object], path: str) -> object:
    """The first of the values whose key a path ends with."""
    return next((value for end, value in changes.items() if path.endswith(end)), None)


def verdicts_of(mirror: Client, base: str, site: dict, upstream: Client | None, *options: object, now: float = 0.0):
    """Verdict and detail of each check of a site."""
    report = health.examine(mirror, base, [site], upstream, *options, sleep=lambda _seconds: None, now=lambda: now)
    return {entry["check"]: (entry["verdict"], entry["detail"]) for entry in report.checks if entry["site"]}


def verdicts(found: dict[str, tuple[str, str]], kind: str) -> set[str]:
    return {check for check, (verdict, _detail) in found.items() if verdict == kind}


class Moved(Client):
    """A fake of a mirror and its upstream, which redirects what has a path with such an end: so the mirror refuses that.

    ``stale``: it serves what it had stored instead. ``asked`` are the URLs at which upstream was asked where they lead.
    """

    def __init__(self, fake: Client, base: str, end: str, location: str, stale: bool = False) -> None:
        super().__init__()
        self.fake, self.base, self.end, self.location, self.stale = fake, base, end, location, stale
        self.asked: list[str] = []

    def request(self, method, url, headers=None, max_body=None, redirects=0, origins=()):
        ours = url.startswith(self.base)
        if not urlsplit(url).path.endswith(self.end) or ours and self.stale:
            response = self.fake.request(method, url, headers, max_body, redirects, origins)
            kept = [field for field in response.headers.fields if field[0] != "Cache-Status"]
            stale = Headers([*kept, ("Cache-Status", "nearby; hit; detail=STALE")])
            return replace(response, headers=stale) if ours and urlsplit(url).path.endswith(self.end) else response
        if ours:
            return Response(502, Headers({"Cache-Status": "nearby; fwd=uri-miss"}), b"no\n", url=url)
        if redirects:
            raise HttpError(f"{method} {url} redirects to another place, {self.location}")
        self.asked.append(url)
        return Response(302, Headers({"Location": self.location}), url=url)


def documented(site: dict) -> dict:
    """A site as the mirror document has it."""
    given = {key: site[key] for key in ("name", "type", "path", "upstream", "origins", "probe", "suites") if key in site}
    return build(resolve_sites([given], lambda _type: None, {}, [], 80), "mirror", "", "http://mirror.test", "nginx")["sites"][0]


def moved(fake: Client, base: str, site: dict, end: str, stale: bool = False, now: float = 0.0) -> dict[str, str]:
    """The details of the checks that are bad where upstream redirects what has a path with such an end to another host."""
    world = Moved(fake, base, end, f"{ELSEWHERE}/some/where?signed=1", stale)
    found = verdicts_of(world, base, documented(site), world, now=now)
    assert world.asked and len(world.asked) == len(set(world.asked)), "each place is asked for once, whatever the number of checks"
    return {check: found[check][1] for check in verdicts(found, "bad")}
