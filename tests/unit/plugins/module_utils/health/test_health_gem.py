# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a gem index: a healthy mirror of one passes, and each fault is found by the checks that are there for it."""

from __future__ import annotations

import base64
import gzip
import hashlib
from dataclasses import replace

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.health import gem
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client, Headers, Response
from fake_mirror import SENT_ELSEWHERE, moved

MIRROR = "http://mirror.test:8080"
SITE = {"name": "gem", "type": "gem", "path": "/gem/", "upstream": "https://gems.test", "index": "/gem/", "probe": "demo"}
CONTENT = b"all that is in a gem"
INFO = b"---\n1.0.0 |checksum:" + b"0" * 64 + b"\n1.1.0-java rake:>= 1&< 3|checksum:%s,ruby:>= 3.0\n"
INFO %= hashlib.sha256(CONTENT).hexdigest().encode()
VERSIONS = b"created_at: 2026-01-02T03:04:05Z\n---\ndemo 1.0.0 %s\nother 2.0,2.1-x86-linux %s\ndemo 1.1.0-java %s\n"
VERSIONS %= b"0" * 32, b"1" * 32, hashlib.md5(INFO).hexdigest().encode()
BODIES = {
    "versions": VERSIONS,
    "info/demo": INFO,
    "gems/demo-1.1.0-java.gem": CONTENT,
    "prerelease_specs.4.8.gz": gzip.compress(b"\x04\x08[\x00"),
}
CALLERS = {"checksum", "gem_hit", "gem_head", "gem_range"}


class Mirror(Client):
    """`changes` replace bodies, or statuses, by the end of their path; `headers` those of pages."""

    def __init__(self, changes: dict[str, object] | None = None, **headers: str) -> None:
        super().__init__()
        self.changes, self.headers = changes or {}, {name.replace("_", "-"): value for name, value in headers.items()}
        self.seen: set[str] = set()
        self.stale = self.cold = False

    def request(self, method, url, headers=None, max_body=None, redirects=0, origins=()):
        path = url[len(MIRROR + "/gem/") :]
        if url == MIRROR + "/health":
            return Response(200, Headers({}), b"ok\n", url=url)
        changed = next((value for part, value in self.changes.items() if path.endswith(part)), None)
        status = changed if isinstance(changed, int) else 200 if path in BODIES or isinstance(changed, bytes) else 404
        body = changed if isinstance(changed, bytes) else BODIES[path] if status == 200 else b"not found\n"
        said = "nearby; hit" + "; detail=STALE" * self.stale if url in self.seen and not self.cold else "nearby; fwd=uri-miss"
        self.seen.add(url)
        digest = base64.b64encode(hashlib.sha256(body).digest()).decode()
        told = {"Cache-Status": said, "ETag": f'W/"{hashlib.md5(body).hexdigest()}"', "Accept-Ranges": "bytes"}
        told |= {"Digest": f"sha-256={digest}", "Repr-Digest": f"sha-256=:{digest}:"} | self.headers
        if "gzip" in (headers or {}).get("Accept-Encoding", "") and status == 200:
            body, told = gzip.compress(body), told | {"Content-Encoding": "gzip"}
        response = Response(status, Headers(told | {"Content-Length": str(len(body))}), body, url=url)
        if status == 200 and "Range" in (headers or {}):
            first, last = headers["Range"][len("bytes=") :].split("-")
            start, end = (int(first), int(last)) if first else (len(body) - int(last), len(body) - 1)
            part = Headers({"Content-Range": f"bytes {start}-{end}/{len(body)}"})
            response = replace(response, status=206, body=body[start : end + 1], headers=part)
        return replace(response, body=b"") if method == "HEAD" else response


def examine(mirror, **site):
    report = health.examine(mirror, MIRROR, [SITE | site], sleep=lambda _seconds: None)
    return {entry["check"]: (entry["verdict"], entry["detail"]) for entry in report.checks if entry["site"]}


def verdicts(found, kind):
    return {check for check, (verdict, _detail) in found.items() if verdict == kind}


def test_a_healthy_mirror():
    found = examine(Mirror())
    assert verdicts(found, "good") == {check.__name__ for check in gem.CHECKS} - {"lag"}, found
    assert found["versions"] == ("good", "2 gems")
    assert found["sums"] == ("good", "MD5 and SHA-256")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"versions": b"<html>\n"}, {"versions", "info"}),
        ({"versions": VERSIONS[:-1]}, {"versions", "info"}),
        ({"versions": VERSIONS + b"demo 1.2.0 sum\n"}, {"versions", "info"}),
        ({"versions": b"created_at: now\n---\n"}, {"versions", "info"}),
        ({"versions": VERSIONS + b"demo 1.2.0 %s\n" % (b"2" * 32)}, {"info"}),
        ({"versions": 502}, {"versions", "info"}),
        ({"info/demo": INFO + b"1.2.0 |ruby:>= 3\n"}, {"info", *CALLERS}),
        ({"info/demo": INFO[:-1]}, {"info", *CALLERS}),
        ({"info/demo": b"<html>"}, {"info", *CALLERS}),
        ({"info/demo": 502}, {"info", "sums", "appended", "index_hit", "freshness", *CALLERS}),
        ({".gem": CONTENT + b"!"}, {"checksum"}),
        ({".gem": 404}, CALLERS),
        ({"_specs.4.8.gz": gzip.compress(b"\x04\x08[\x00")[:-3]}, {"specifications"}),
        ({"_specs.4.8.gz": gzip.compress(b"<html>")}, {"specifications"}),
        ({"_specs.4.8.gz": 502}, {"specifications"}),
        ({"no-such-gem": 502}, {"absent"}),
        ({"no-such-gem": b"<html>"}, {"absent"}),
    ],
)
def test_fault(changes, expected):
    assert verdicts(examine(Mirror(changes)), "bad") == expected


@pytest.mark.parametrize(
    "headers",
    [
        {"ETag": f'"{"0" * 32}"'},
        {"Digest": f"sha-256={'A' * 43}="},
        {"Repr_Digest": f"sha-256=:{'A' * 43}=:"},
        {"Repr_Digest": f'sha-256="{"A" * 43}="'},
    ],
)
def test_sums_of_another_page(headers):
    assert verdicts(examine(Mirror(**headers)), "bad") == {"sums"}


@pytest.mark.parametrize(
    ("end", "stale", "expected"),
    [
        ("versions", False, {"versions", "info"}),
        ("info/demo", False, {"info", "sums", "appended", "index_hit", "freshness", *CALLERS}),
        ("info/demo", True, {"freshness"}),
        (".gem", False, CALLERS),
        ("specs.4.8.gz", False, {"specifications"}),
    ],
)
def test_where_a_gem_moved_to_is_told(end, stale, expected):
    told = moved(Mirror(), MIRROR, SITE, end, stale)
    assert set(told) == expected and all(detail.endswith(SENT_ELSEWHERE) for detail in told.values()), told


def test_stale_and_never_a_hit():
    mirror = Mirror()
    mirror.stale = True
    assert verdicts(examine(mirror), "bad") == {"freshness"}
    mirror = Mirror()
    mirror.cold = True
    assert verdicts(examine(mirror), "bad") == {"index_hit", "gem_hit"}


def test_what_cannot_be_judged_is_skipped():
    found = examine(Mirror({"_specs.4.8.gz": 404}, ETag='"of-another-kind"', Digest="", Repr_Digest="", Accept_Ranges=""))
    assert verdicts(found, "skipped") == {"specifications", "sums", "appended", "lag"}
    assert verdicts(examine(Mirror(), probe=""), "skipped") == {check.__name__ for check in gem.CHECKS} - {
        "versions",
        "specifications",
        "absent",
    }
    bare = INFO.replace(b"checksum:", b"sha:")
    told = VERSIONS.replace(hashlib.md5(INFO).hexdigest().encode(), hashlib.md5(bare).hexdigest().encode())
    assert verdicts(examine(Mirror({"info/demo": bare, "versions": told})), "skipped") == {"checksum", "lag"}
