# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of an npm registry: a healthy mirror of one passes, and each fault is found by the checks that are there for it."""

from __future__ import annotations

import base64
import hashlib
import json

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.catalogue.npm import INSTALL
from ansible_collections.nearby.mirrors.plugins.module_utils.health import npm
from fake_mirror import SENT_ELSEWHERE, FakeMirror, moved, verdicts, verdicts_of

MIRROR, OWN = "http://127.0.0.1:8080", "http://mirror.test:8080"
SITE = {"name": "npm", "type": "npm", "path": "/npm/", "upstream": "https://registry.test", "probe": "@a/demo"}
TARBALL = b"a tarball"
LINK = f"{OWN}/npm/@a/demo/-/demo-1.10.0.tgz"
USERS = {"digest", "tarball_hit", "tarball_head", "tarball_range"}


def document(link: str = LINK, body: bytes = TARBALL, versions: tuple[str, ...] = ("1.2.0", "1.10.0"), **dist: str) -> bytes:
    dist = dist or {"integrity": "sha512-" + base64.b64encode(hashlib.sha512(body).digest()).decode()}
    made = {version: {"dist": {"tarball": link.replace("1.10.0", version), **dist}} for version in versions}
    return json.dumps({"dist-tags": {"latest": "1.10.0"}, "versions": made}).encode()


class Mirror(FakeMirror):
    """``part`` and ``whole`` are the document's two representations."""

    def __init__(self, part: bytes | int = document(), whole: bytes | None = None, tarball: bytes | int = TARBALL) -> None:
        super().__init__()
        self.part, self.tarball = part, tarball
        self.whole = whole or (part if isinstance(part, bytes) else document())

    def find(self, url, headers):
        assert url.startswith((MIRROR + "/npm/@a%2Fdemo", MIRROR + "/npm/@a/demo/-/", SITE["upstream"] + "/@a%2Fdemo")), url
        if url == MIRROR + LINK[len(OWN) :]:
            return self.tarball
        return self.part if INSTALL in headers.get("Accept", "") else self.whole

    def told(self, _body):
        return {"Content-Type": "application/json"}


def examine(mirror, **site):
    return verdicts_of(mirror, MIRROR, SITE | site, None)


def test_a_healthy_mirror():
    found = examine(Mirror())
    assert verdicts(found, "good") == {check.__name__ for check in npm.CHECKS} - {"lag"}, found
    assert found["links"] == ("good", f"all on {OWN}")
    assert found["digest"] == ("good", "sha512 of 9 bytes")


@pytest.mark.parametrize(
    ("mirror", "expected"),
    [
        (Mirror(b"<html>"), {"representations", "links", *USERS}),
        (Mirror(document(versions=())), {"representations", "links", *USERS}),
        (Mirror(502), {"representations", "links", "document_hit", "freshness", *USERS}),
        (Mirror(whole=document(versions=("1.10.0",))), {"representations"}),
        (Mirror(tarball=b"another"), {"digest"}),
        (Mirror(document(shasum=hashlib.sha1(b"another").hexdigest())), {"digest"}),
        (Mirror(tarball=404), USERS),
    ],
)
def test_fault(mirror, expected):
    assert verdicts(examine(mirror), "bad") == expected


@pytest.mark.parametrize(("host", "folder"), [("https://registry.test", "/npm/"), ("https://files.test:444", "/")])
def test_a_host_that_links_lead_to_is_named(host, folder):
    found = examine(Mirror(whole=document(f"{host}{folder}demo-1.10.0.tgz")))
    assert verdicts(found, "bad") == {"links"}
    assert found["links"][1] == f"links to tarballs lead to {host}; if the registry has moved its files, run the mirror's playbook again"


@pytest.mark.parametrize(
    ("end", "stale", "expected"),
    [
        ("@a%2Fdemo", False, {"representations", "links", "document_hit", "freshness", *USERS}),
        ("@a%2Fdemo", True, {"freshness"}),
        (".tgz", False, USERS),
    ],
)
def test_where_a_package_moved_to_is_told(end, stale, expected):
    told = moved(Mirror(), MIRROR, SITE, end, stale)
    assert set(told) == expected and all(detail.endswith(SENT_ELSEWHERE) for detail in told.values()), told


def test_stale_and_never_a_hit():
    mirror = Mirror()
    mirror.stale = True
    assert verdicts(examine(mirror), "bad") == {"freshness"}
    mirror = Mirror()
    mirror.cold = True
    assert verdicts(examine(mirror), "bad") == {"document_hit", "tarball_hit"}


def test_what_cannot_be_judged_is_skipped():
    assert verdicts(examine(Mirror(), probe=""), "skipped") == {check.__name__ for check in npm.CHECKS}
    assert verdicts(examine(Mirror(document(tag="none"))), "skipped") == {"digest", "lag"}


def test_the_strongest_digest_counts():
    weak = "sha1-" + base64.b64encode(hashlib.sha1(TARBALL).digest()).decode()
    wrong = "sha512-" + base64.b64encode(hashlib.sha512(b"another").digest()).decode()
    assert verdicts(examine(Mirror(document(integrity=f"{weak} {wrong}?x"))), "bad") == {"digest"}
    assert examine(Mirror(document(shasum=hashlib.sha1(TARBALL).hexdigest())))["digest"] == ("good", "sha1 of 9 bytes")
