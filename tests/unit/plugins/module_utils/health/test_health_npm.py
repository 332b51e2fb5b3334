# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of an npm registry: a healthy mirror of one passes, and each fault is found by the checks that are there for it."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.catalogue.npm import INSTALL
from ansible_collections.nearby.mirrors.plugins.module_utils.health import npm
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client, Headers, Response

MIRROR, OWN = "http://127.0.0.1:8080", "http://mirror.test:8080"
SITE = {"name": "npm", "type": "npm", "path": "/npm/", "upstream": "https://registry.test", "probe": "@a/demo"}
TARBALL = b"a tarball"
LINK = f"{OWN}/npm/@a/demo/-/demo-1.10.0.tgz"
USERS = {"digest", "tarball_hit", "tarball_head", "tarball_range"}


def document(link: str = LINK, body: bytes = TARBALL, versions: tuple[str, ...] = ("1.2.0", "1.10.0"), **dist: str) -> bytes:
    dist = dist or {"integrity": "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode()}
    made = {version: {"dist": {"tarball": link.replace("1.10.0", version), **dist}} for version in versions}
    return json.dumps({"dist-tags": {"latest": "1.10.0"}, "versions": made}).encode()


class Mirror(Client):
    """``part`` and ``whole`` are the document's two representations."""

    def __init__(self, part: bytes | int = document(), whole: bytes | None = None, tarball: bytes | int = TARBALL) -> None:
        super().__init__()
        self.part, self.tarball = part, tarball
        self.whole = whole or (part if isinstance(part, bytes) else document())
        self.seen: set[tuple[str, str]] = set()
        self.said = "nearby; hit"

    def request(self, method, url, headers=None, max_body=None, redirects=0, origins=()):
        headers = headers or {}
        if url == MIRROR + "/health":
            return Response(200, Headers({}), b"ok\n", url=url)
        found = self.tarball if url == MIRROR + LINK[len(OWN) :] else self.part if INSTALL in headers.get("Accept", "") else self.whole
        assert url.startswith((MIRROR + "/npm/@a%2Fdemo", MIRROR + "/npm/@a/demo/-/")), url
        status, body = (found, b"") if isinstance(found, int) else (200, found)
        said = self.said if (url, headers.get("Accept", "")) in self.seen else "nearby; fwd=uri-miss"
        self.seen.add((url, headers.get("Accept", "")))
        answer = {"Content-Length": str(len(body)), "Cache-Status": said, "Content-Type": "application/json"}
        if status == 200 and "Range" in headers:
            first, last = headers["Range"][len("bytes=") :].split("-")
            start, end = (int(first), int(last)) if first else (len(body) - int(last), len(body) - 1)
            status, answer["Content-Range"], body = 206, f"bytes {start}-{end}/{len(body)}", body[start : end + 1]
        return Response(status, Headers(answer), b"" if method == "HEAD" else body, url=url)


def examine(mirror, **site):
    report = health.examine(mirror, MIRROR, [SITE | site], None, sleep=lambda _seconds: None)
    return {entry["check"]: (entry["verdict"], entry["detail"]) for entry in report.checks if entry["site"]}


def verdicts(found, kind):
    return {check for check, (verdict, _detail) in found.items() if verdict == kind}


def test_a_healthy_mirror():
    found = examine(Mirror())
    assert verdicts(found, "good") == {check.__name__ for check in npm.CHECKS}, found
    assert found["links"] == ("good", f"all on {OWN}")
    assert found["digest"] == ("good", "sha512 of 9 bytes")


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        (Mirror(b"<html>"), {"representations", "links", *USERS}),
        (Mirror(document(versions=())), {"representations", "links", *USERS}),
        (Mirror(502), {"representations", "links", "document_hit", "freshness", *USERS}),
        (Mirror(whole=document(versions=("1.10.0",))), {"representations"}),
        (Mirror(whole=document("https://registry.test/npm/demo-1.10.0.tgz")), {"links"}),
        (Mirror(whole=document("https://files.test/demo-1.10.0.tgz")), {"links"}),
        (Mirror(tarball=b"another"), {"digest"}),
        (Mirror(document(shasum=hashlib.sha1(b"another").hexdigest())), {"digest"}),
        (Mirror(tarball=404), USERS),
    ],
)
def test_fault(mirror, expected):
    assert verdicts(examine(mirror), "bad") == expected


def test_stale_and_never_a_hit():
    mirror = Mirror()
    mirror.said = "nearby; hit; detail=STALE"
    mirror.seen = {(f"{MIRROR}/npm/@a%2Fdemo", npm.ACCEPT)}
    assert verdicts(examine(mirror), "bad") == {"freshness"}
    mirror = Mirror()
    mirror.said = "nearby; fwd=uri-miss"
    assert verdicts(examine(mirror), "bad") == {"document_hit", "tarball_hit"}


def test_what_cannot_be_judged_is_skipped():
    assert verdicts(examine(Mirror(), probe=""), "skipped") == {check.__name__ for check in npm.CHECKS}
    assert verdicts(examine(Mirror(document(tag="none"))), "skipped") == {"digest"}


def test_the_strongest_digest_counts():
    weak = "sha1-" + base64.b64encode(hashlib.sha1(TARBALL).digest()).decode()
    wrong = "sha512-" + base64.b64encode(hashlib.sha512(b"another").digest()).decode()
    assert verdicts(examine(Mirror(document(integrity=f"{weak} {wrong}?x"))), "bad") == {"digest"}
    assert examine(Mirror(document(shasum=hashlib.sha1(TARBALL).hexdigest())))["digest"] == ("good", "sha1 of 9 bytes")
