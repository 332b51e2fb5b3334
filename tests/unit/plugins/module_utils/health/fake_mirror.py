# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mirror as the checks of one ecosystem ask it, without a network."""

from __future__ import annotations

from dataclasses import replace

from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client, Headers, Response


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
