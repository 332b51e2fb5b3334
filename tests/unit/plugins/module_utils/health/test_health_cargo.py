# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a sparse index of crates: a healthy mirror of one passes, and each fault is found by the checks that are there for it."""

from __future__ import annotations

import hashlib
import json

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.health import cargo
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Headers, HttpError, Response
from fake_mirror import SENT_ELSEWHERE, FakeMirror, by_end, moved, verdicts, verdicts_of

MIRROR, NAMED, UPSTREAM = "http://127.0.0.1:8080", "http://mirror.test", "https://index.test"
SITE = {"name": "cargo", "type": "cargo", "path": "/cargo/", "upstream": UPSTREAM, "index": "/cargo/", "probe": "Demo-x"}
CRATE = b"not packed, which nobody looks at"
NOW = 1_700_000_000


def entry(version, **changes):
    told = {"name": "Demo-x", "vers": version, "cksum": hashlib.sha256(CRATE).hexdigest(), "pubtime": "2023-11-01T00:00:00Z"}
    return json.dumps(told | changes)


def lines(*entries):
    return "".join(line + "\n" for line in entries).encode()


def config(**changes):
    return json.dumps({"dl": f"{NAMED}/cargo/files/crates", "api": f"{NAMED}/cargo/not-offered/web.test"} | changes).encode()


INDEX = lines(entry("1.0.0", cksum="0" * 64), entry("1.1.0"), entry("1.2.0", cksum="0" * 64, yanked=True))
BODIES = {
    "/mirror.json": json.dumps({"url": NAMED}).encode(),
    "/cargo/config.json": config(),
    "/cargo/de/mo/demo-x": INDEX,
    "/cargo/files/crates/Demo-x/1.1.0/download": CRATE,
    "/cargo/files/moved/demo.crate": CRATE,
}
ALL = {check.__name__ for check in cargo.CHECKS}
ON_CRATE = {"checksum", "crate_hit", "crate_head", "crate_range"}


class Registry(FakeMirror):
    """The upstream and a mirror of it; `changes` replace the mirror's bodies, or its statuses, by the end of their paths."""

    def __init__(self, changes: dict[str, object] | None = None) -> None:
        super().__init__()
        self.changes = changes or {}
        self.theirs: object = INDEX

    def request(self, method, url, headers=None, max_body=None, redirects=0, origins=()):
        changed = by_end(self.changes, url)
        if isinstance(changed, str) and redirects:
            url = MIRROR + changed
        return super().request(method, url, headers)

    def find(self, url, headers):
        if url.startswith(UPSTREAM):
            assert url == f"{UPSTREAM}/de/mo/demo-x"
            if not isinstance(self.theirs, bytes):
                raise HttpError("no way")
            return Response(200, body=self.theirs, url=url)
        assert url.startswith(MIRROR), "whatever it calls itself, it is asked where it was to be asked"
        changed = by_end(self.changes, path := url[len(MIRROR) :])
        if isinstance(changed, str):
            return Response(302, Headers({"Location": changed}), url=url)
        return changed if changed is not None else BODIES.get(path, 404)


def examine(registry, upstream=True, options=None, **site):
    return verdicts_of(registry, MIRROR, SITE | site, registry if upstream else None, options, now=NOW)


def test_a_healthy_mirror():
    found = examine(Registry())
    assert verdicts(found, "good") == ALL, found
    assert found["versions"] == ("good", "3 versions")
    assert "Demo-x 1.1.0" in found["checksum"][1], "the newest one that is not yanked"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"config.json": b"<html>"}, {"config", *ON_CRATE}),
        ({"config.json": b"{}"}, {"config", *ON_CRATE}),
        ({"config.json": 502}, {"config", *ON_CRATE}),
        ({"config.json": config(dl="https://files.test/crates")}, {"config", *ON_CRATE}),
        ({"config.json": config(dl=f"{NAMED}/pypi/files")}, {"config", *ON_CRATE}),
        ({"config.json": config(api="https://web.test")}, {"config"}),
        ({"mirror.json": 404}, {"config", *ON_CRATE}),
        ({"demo-x": b"<html>\n"}, {"versions", "lag", *ON_CRATE}),
        ({"demo-x": lines(entry("1.2.0", cksum="0"))}, {"versions", "lag", *ON_CRATE}),
        ({"demo-x": lines(entry("1.1.0", name="other"))}, {"versions", "lag", *ON_CRATE}),
        ({"demo-x": lines(entry("1.0.0"))}, {"lag", *ON_CRATE}),
        ({"demo-x": 502}, {"versions", "index_hit", "freshness", "lag", *ON_CRATE}),
        ({"download": CRATE[:-1]}, {"checksum"}),
        ({"download": 404}, ON_CRATE),
    ],
)
def test_fault(changes, expected):
    assert verdicts(examine(Registry(changes)), "bad") == expected


def test_a_registry_that_moved_its_crates_is_named():
    verdict, detail = examine(Registry({"config.json": config(dl="https://files.test:444/crates")}))["config"]
    assert verdict == "bad"
    assert detail == "dl leads to 'https://files.test:444', not below /cargo/; deploy the mirror again, or set origins: for this site"


@pytest.mark.parametrize(
    ("end", "stale", "expected"),
    [
        ("config.json", False, {"config", *ON_CRATE}),
        ("demo-x", False, {"versions", "index_hit", "freshness", *ON_CRATE}),
        ("demo-x", True, {"freshness"}),
        ("download", False, ON_CRATE),
    ],
)
def test_where_a_crate_moved_to_is_told(end, stale, expected):
    told = moved(Registry(), MIRROR, SITE | {"origins": ["https://crates.test"]}, end, stale, now=NOW)
    assert set(told) == expected and all(detail.endswith(SENT_ELSEWHERE) for detail in told.values()), told


def test_stale_and_never_a_hit():
    registry = Registry()
    registry.stale = True
    assert verdicts(examine(registry), "bad") == {"freshness"}
    registry = Registry()
    registry.cold = True
    assert verdicts(examine(registry), "bad") == {"index_hit", "crate_hit"}


def test_a_crate_that_is_elsewhere_on_the_mirror():
    assert verdicts(examine(Registry({"download": "/cargo/files/moved/demo.crate"})), "good") == ALL


def test_what_is_new_may_be_missing():
    registry = Registry()
    registry.theirs = INDEX + lines(entry("1.3.0", pubtime="2023-11-14T22:13:00Z"), entry("1.4.0", pubtime=None))
    assert examine(registry)["lag"] == ("good", "behind by 2 versions")
    registry.theirs = INDEX + lines(entry("1.3.0", pubtime="2023-11-14T21:13:00Z"))
    assert examine(registry)["lag"] == ("bad", "missing for 3620 s: 1.3.0")


def test_what_cannot_be_judged_is_skipped():
    assert verdicts(examine(Registry(), probe=""), "skipped") == ALL - {"config"}
    assert verdicts(examine(Registry({"demo-x": lines(entry("1.0.0", yanked=True))})), "skipped") == ON_CRATE
    assert verdicts(examine(Registry(), options=health.Options(max_artifact_size=3)), "skipped") == ON_CRATE
    assert verdicts(examine(Registry(), upstream=False), "skipped") == {"lag"}
    registry = Registry()
    registry.theirs = None
    assert examine(registry)["lag"] == ("skipped", "upstream could not be asked: no way")


@pytest.mark.parametrize(
    ("dl", "url"),
    [
        ("http://m.test/d", "http://m.test/d/Demo-x/1.1.0/download"),
        ("http://m.test/{crate}/{version}", "http://m.test/Demo-x/1.1.0"),
        ("http://m.test/{prefix}/{lowerprefix}", "http://m.test/De/mo/de/mo"),
        ("http://m.test/{sha256-checksum}", "http://m.test/" + hashlib.sha256(CRATE).hexdigest()),
    ],
)
def test_where_a_crate_is(dl, url):
    assert cargo.download(dl, json.loads(entry("1.1.0"))) == url


@pytest.mark.parametrize(("name", "folder"), [("a", "1"), ("ab", "2"), ("abc", "3/a"), ("abcd", "ab/cd"), ("cfg-if", "cf/g-")])
def test_folders_of_the_index(name, folder):
    assert cargo.prefix(name) == folder
