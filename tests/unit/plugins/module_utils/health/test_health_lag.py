# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a mirror is behind its upstream is told alike for all types whose pages have no times of their own."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import formatdate

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client, Headers, HttpError, Response
from fake_mirror import verdicts_of

MIRROR, UPSTREAM, NOW = "http://mirror.test:8080", "https://upstream.test", 1_800_000_000
TOKENS = "https://tokens.test/token?service=upstream.test&scope=repository%3Alibrary/app%3Apull"
CHALLENGE = {"WWW-Authenticate": 'Bearer realm="https://tokens.test/token",service="upstream.test",scope="repository:library/app:pull"'}


def digest(version: str) -> str:
    return f"sha256:{version.replace('.', ''):0>64}"


def npm(*versions: str, **more: object) -> Response:
    made = {version: {"dist": {"tarball": f"/npm/demo/-/demo-{version}.tgz"}} for version in versions}
    return Response(200, body=json.dumps({"dist-tags": {"latest": versions[-1]}, "versions": made, **more}).encode())


def golang(*versions: str) -> Response:
    return Response(200, body="".join(f"v{version}\n" for version in versions).encode())


def gem(*versions: str) -> Response:
    return Response(200, body=b"---\n" + "".join(f"{version} |checksum:{'0' * 64}\n" for version in versions).encode())


def oci(*versions: str) -> Response:
    return Response(200, Headers({"Docker-Content-Digest": digest(versions[-1])}))


# By type: the probe, the page's path below the site and below upstream, how it is made, and what it calls a version.
PAGES: dict[str, tuple[str, str, str, Callable[..., Response], Callable[[str], str]]] = {
    "npm": ("demo", "/npm/demo", "/demo", npm, str),
    "golang": ("example.org/demo", "/golang/example.org/demo/@v/list", "/example.org/demo/@v/list", golang, "v{}".format),
    "gem": ("demo", "/gem/info/demo", "/info/demo", gem, str),
    "oci": ("library/app:one", "/v2/oci/library/app/manifests/one", "/v2/library/app/manifests/one", oci, digest),
}
every = pytest.mark.parametrize("kind", PAGES)


class Both(Client):
    """A mirror and its upstream, which have ``pages`` by whole URLs; a list is answered one after the other."""

    def __init__(self, pages: dict[str, object]) -> None:
        super().__init__()
        self.pages, self.asked = pages, []

    def request(self, method, url, headers=None, max_body=None, redirects=0, origins=()):
        self.asked.append((url, (headers or {}).get("Authorization", "")))
        page = self.pages.get(url, Response(404, url=url))
        page = page.pop(0) if isinstance(page, list) else page
        if isinstance(page, Exception):
            raise page
        return Response(page.status, page.headers, b"" if method == "HEAD" else page.body, url)


def lag(kind: str, theirs: object, ours: Response | None = None, asks: bool = True, **pages: object) -> tuple[str, str, list]:
    """Verdict, detail, and what upstream was asked."""
    probe, path, there, make, _name = PAGES[kind]
    world = Both({MIRROR + path: ours or make("1.0.0"), UPSTREAM + there: theirs, **pages})
    site = {"name": kind, "type": kind, "path": "/v2/oci/" if kind == "oci" else f"/{kind}/", "upstream": UPSTREAM, "probe": probe}
    verdict, detail = verdicts_of(world, MIRROR, site, world if asks else None, now=NOW)["lag"]
    return verdict, detail, [asked for asked in world.asked if asked[0] == UPSTREAM + there]


def changed(page: Response, seconds: float) -> Response:
    """The page, which says that it was changed so many seconds ago."""
    return Response(page.status, Headers([*page.headers.fields, ("Last-Modified", formatdate(NOW - seconds, usegmt=True))]), page.body)


@every
def test_what_is_the_same_is_no_lag_and_takes_one_request(kind: str) -> None:
    verdict, detail, asked = lag(kind, PAGES[kind][3]("1.0.0"))
    assert (verdict, detail, len(asked)) == ("good", "as upstream's", 1)


@every
@pytest.mark.parametrize(("seconds", "expected"), [(3600, "good"), (3601, "bad")])
@pytest.mark.parametrize("versions", [("1.0.0", "1.1.0"), ("1.1.0",)])
def test_a_mirror_may_lag_behind_for_a_while(kind: str, seconds: int, expected: str, versions: tuple[str, ...]) -> None:
    _probe, path, _there, make, name = PAGES[kind]
    verdict, detail, _asked = lag(kind, changed(make(*versions), seconds))
    assert verdict == expected and detail.startswith(f"{MIRROR}{path} and upstream's differ in "), detail
    assert name("1.1.0") in detail and detail.endswith(f"; upstream's was changed {seconds} s ago"), detail


@every
def test_what_was_taken_back_is_not_offered_for_long(kind: str) -> None:
    make = PAGES[kind][3]
    assert lag(kind, changed(make("1.0.0"), 7200), make("1.0.0", "1.1.0"))[0] == "bad"


@every
def test_what_does_not_tell_since_when_is_named_and_not_judged(kind: str) -> None:
    verdict, detail, _asked = lag(kind, PAGES[kind][3]("1.0.0", "1.1.0"))
    assert verdict == "skipped" and PAGES[kind][4]("1.1.0") in detail and detail.endswith("does not tell since when"), detail


@every
def test_an_upstream_that_cannot_be_asked(kind: str) -> None:
    page = Response(200, body=b"<html>")
    for theirs, said in (HttpError("GET it failed"), "could not be asked"), (Response(503), "answered 503"), (page, "of no use"):
        verdict, detail, _asked = lag(kind, theirs)
        assert verdict == "skipped" and said in detail, detail
    assert lag(kind, Response(503), asks=False) == ("skipped", "upstream was not to be asked", [])


@pytest.mark.parametrize("whole", [False, True])
@pytest.mark.parametrize(("seconds", "expected"), [(3600, "good"), (3601, "bad")])
def test_a_document_tells_when_it_was_changed(whole: bool, seconds: int, expected: str) -> None:
    told = {"modified": datetime.fromtimestamp(NOW - seconds, UTC).isoformat().replace("+00:00", "Z")}
    page = npm("1.0.0", "1.1.0", **({"time": told} if whole else told))
    assert lag("npm", changed(page, 0 if expected == "bad" else 9999))[0] == expected, "what it tells counts, and not its headers"


def test_upstream_may_want_the_token_that_it_gives_everybody() -> None:
    theirs = [Response(401, Headers(CHALLENGE)), changed(oci("1.1.0"), 7200)]
    verdict, _detail, asked = lag("oci", theirs, **{TOKENS: Response(200, body=b'{"token": "for-all"}')})
    assert (verdict, [said for _url, said in asked]) == ("bad", ["", "Bearer for-all"])


@pytest.mark.parametrize("answer", [Response(401), HttpError("GET it failed")])
def test_upstream_may_give_no_token(answer: object) -> None:
    verdict, detail, _asked = lag("oci", [Response(401, Headers(CHALLENGE)), Response(401)], **{TOKENS: answer})
    assert verdict == "skipped" and ("answered 401" in detail or "could not be asked" in detail), detail
