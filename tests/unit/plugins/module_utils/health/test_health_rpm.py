# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a tree of RPM repositories: a healthy mirror of one passes, and each fault is found by the checks that are there for it."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import shutil
import sys
import time
import types

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.health import rpm
from fake_mirror import SENT_ELSEWHERE, FakeMirror, by_end, moved, verdicts, verdicts_of

MIRROR, UPSTREAM, NOW = "http://mirror.test:8080", "https://rpm.test/pub", 1_700_100_000
SITE = {"name": "rpm", "type": "rpm", "path": "/rpm/", "upstream": UPSTREAM, "index": "/rpm/", "probe": "9/os"}
PACKAGE, HREF = b"a small package\n", "Packages/s/small-1.0-1.noarch.rpm"
OF_PACKAGES = {"package", "package_hit", "package_head", "package_range"}
ALL = {check.__name__ for check in rpm.CHECKS}


def primary_of(*packages: str) -> bytes:
    return "<metadata xmlns='http://linux.duke.edu/metadata/common'>{}</metadata>".format("".join(packages)).encode()


def entry(href: str, body: bytes, kind: str = "sha256", base: str = "", size: int = 0) -> str:
    return (
        f"<package type='rpm'><checksum type='{kind}'>{hashlib.new(rpm.ALGORITHMS.get(kind, kind), body).hexdigest()}</checksum>"
        f"<size package='{size or len(body)}'/><location {base} href='{href}'/></package>"
    )


LARGE = entry("Packages/l/large-1.0-1.noarch.rpm", b"not fetched", size=1 << 40)
PRIMARY = primary_of(LARGE, entry(HREF, PACKAGE))


def repomd_of(packed: bytes, made: int = NOW - 90_000, href: str = "", more: str = "", size: int = 0) -> bytes:
    digest = hashlib.sha256(packed).hexdigest()
    return (
        f"<?xml version='1.0'?><repomd xmlns='http://linux.duke.edu/metadata/repo'><revision>{made}</revision>{more}<data type='primary'>"
        f"<checksum type='sha256'>{digest}</checksum><location href='{href or f'repodata/{digest}-primary.xml'}'/>"
        f"<timestamp>{made}</timestamp><size>{size or len(packed)}</size></data></repomd>"
    ).encode()


class Tree(FakeMirror):
    """The upstream and a mirror of it; `changes` replace the mirror's bodies, or its statuses."""

    def __init__(self, packed: bytes = gzip.compress(PRIMARY), repomd: bytes = b"", **changes: object) -> None:
        super().__init__()
        self.bodies = {"9/os/repodata/repomd.xml": repomd or repomd_of(packed), "primary.xml": packed, HREF: PACKAGE}
        self.changes: dict[str, object] = changes
        self.theirs: object = self.bodies["9/os/repodata/repomd.xml"]

    def find(self, url, headers):
        if not url.startswith(MIRROR):
            return self.theirs
        found = by_end(self.changes | {end: body for end, body in self.bodies.items() if end not in self.changes}, url)
        return 404 if found is None else found


def examine(tree, upstream=True, **site):
    return verdicts_of(tree, MIRROR, SITE | site, tree if upstream else None, now=NOW)


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, bz2.compress, bytes], ids=["gz", "xz", "bz2", "xml"])
def test_a_healthy_mirror(pack):
    tree = Tree(pack(PRIMARY))
    found = examine(tree)
    assert verdicts(found, "good") == ALL, found
    assert found["package"] == ("good", HREF), "the smallest"
    assert not any("large" in url for url in tree.seen)


ZSTD = b"\x28\xb5\x2f\xfd"


def by_zstd(text: bytes) -> bytes:
    """A frame of one block that is not packed (RFC 8878, 3.1.1)."""
    return ZSTD + b"\xa0" + len(text).to_bytes(4, "little") + (len(text) << 3 | 1).to_bytes(3, "little") + text


@pytest.fixture
def program(tmp_path, monkeypatch):
    """Has this script alone be the program zstd, or none."""
    monkeypatch.setenv("PATH", str(tmp_path))

    def write(script=""):
        if script:
            (tmp_path / "zstd").write_text(f"#!/bin/sh\nPATH=/usr/bin:/bin\n{script}\n")
            (tmp_path / "zstd").chmod(0o755)

    return write


@pytest.mark.skipif(not shutil.which("zstd"), reason="needs the program zstd")
def test_a_list_that_is_packed_with_zstd():
    packed = by_zstd(PRIMARY)
    found = examine(Tree(packed))
    assert verdicts(found, "good") == ALL, found
    for damaged in packed[:-9], ZSTD + b"no":
        assert verdicts(examine(Tree(damaged)), "bad") == {"links", *OF_PACKAGES}


def test_without_zstd_it_says_what_to_install(program):
    program()
    found = examine(Tree(by_zstd(PRIMARY)))
    assert verdicts(found, "skipped") == {"links", *OF_PACKAGES} and "; install the program zstd" in found["package"][1]


@pytest.mark.parametrize(
    ("script", "verdict"),
    [
        ("cat >/dev/null; exec yes '<a/>'", "bad"),
        ("exec sleep 60", "bad"),
        ("exit 1", "bad"),
        (f'cat >/dev/null; echo "{PRIMARY.decode()}"', "good"),
        (f'cat >/dev/null; echo "{PRIMARY.decode()}"; exit 1', "bad"),
    ],
)
def test_zstd_is_bounded_in_time_and_in_what_is_read(program, script, verdict, monkeypatch):
    monkeypatch.setattr(rpm, "UNPACK_SECONDS", 0.3)
    program(script)
    began = time.monotonic()
    assert examine(Tree(by_zstd(PRIMARY)))["package"][0] == verdict
    assert time.monotonic() - began < 5


def test_pythons_own_zstd_is_taken_where_there_is_one(program, monkeypatch):
    class Decompressor:
        def decompress(self, body, max_length):
            assert max_length == rpm.READ
            if not body.startswith(ZSTD + b"\xa0"):
                raise module.ZstdError("no such frame")
            return PRIMARY

    module = types.ModuleType("compression.zstd")
    module.ZstdDecompressor, module.ZstdError = Decompressor, type("ZstdError", (Exception,), {})
    monkeypatch.setitem(sys.modules, "compression.zstd", module)
    program("exit 1")
    assert verdicts(examine(Tree(by_zstd(PRIMARY))), "good") == ALL
    found = examine(Tree(ZSTD + b"no"))
    assert verdicts(found, "bad") == {"links", *OF_PACKAGES} and "no such frame" in found["package"][1]


def test_digests_of_other_kinds():
    assert verdicts(examine(Tree(primary_of(entry(HREF, PACKAGE, "sha")))), "good") == ALL
    assert verdicts(examine(Tree(primary_of(entry(HREF, PACKAGE, "sha512")))), "good") == ALL
    strange = PRIMARY.replace(b"'sha256'", b"'crc32'")
    assert verdicts(examine(Tree(strange)), "skipped") == {"package"}


def test_a_long_list_of_packages_is_read_in_part():
    tree = Tree(gzip.compress(primary_of(entry(HREF, PACKAGE), *[LARGE] * 20_000)))
    assert verdicts(examine(tree), "good") == ALL


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"repomd.xml": b"<html></html>"}, ALL - {"repomd_hit"}),
        ({"repomd.xml": b"no list"}, ALL - {"repomd_hit"}),
        ({"repomd.xml": b"<!DOCTYPE a>" + repomd_of(PRIMARY)}, ALL - {"repomd_hit"}),
        ({"repomd.xml": repomd_of(PRIMARY).replace(b"'primary'", b"'other'")}, ALL - {"repomd_hit", "freshness"}),
        ({"repomd.xml": 404}, ALL),
        ({"repomd.xml": 502}, ALL),
        ({"primary.xml": 404}, {"primary", "links", *OF_PACKAGES}),
        ({"primary.xml": gzip.compress(PRIMARY + b"\n")}, {"primary"}),
        ({"primary.xml": gzip.compress(b"<!DOCTYPE a>" + PRIMARY)}, {"primary", "links", *OF_PACKAGES}),
        ({"primary.xml": b"\x1f\x8bno"}, {"primary", "links", *OF_PACKAGES}),
        ({HREF: PACKAGE + b"!"}, {"package"}),
        ({HREF: 502}, OF_PACKAGES),
    ],
)
def test_fault(changes, expected):
    found = examine(Tree(**changes))
    assert verdicts(found, "bad") == expected, found


@pytest.mark.parametrize(
    ("tree", "where"),
    [
        (Tree(primary_of(entry(HREF, PACKAGE, base="xml:base='https://other.test/pub/'"))), "https://other.test/pub/"),
        (Tree(primary_of(entry("../" + HREF, PACKAGE))), "../" + HREF),
        (Tree(primary_of(entry("https://other.test/" + HREF, PACKAGE))), "https://other.test/" + HREF),
    ],
)
def test_a_package_that_is_elsewhere_is_found(tree, where):
    found = examine(tree)
    assert verdicts(found, "bad") == {"links"} and verdicts(found, "skipped") == OF_PACKAGES
    assert found["links"][1] == f"1 files are elsewhere, such as {where}"
    assert found["package"][1] == f"it is not below its repository, but at {where}"


def test_a_primary_that_is_elsewhere_is_found():
    found = examine(Tree(repomd=repomd_of(PRIMARY, href="https://other.test/primary.xml")))
    assert verdicts(found, "bad") == {"links"} and verdicts(found, "skipped") == {"primary", *OF_PACKAGES}
    assert found["links"][1] == "1 files are elsewhere, such as https://other.test/primary.xml"
    assert found["primary"][1] == "it is not below its repository, but at https://other.test/primary.xml"


@pytest.mark.parametrize(
    ("end", "stale", "expected"),
    [
        ("repomd.xml", False, ALL),
        ("repomd.xml", True, {"freshness"}),
        ("primary.xml", False, {"primary", "links", *OF_PACKAGES}),
        (HREF, False, OF_PACKAGES),
    ],
)
def test_where_a_repository_moved_to_is_told(end, stale, expected):
    told = moved(Tree(), MIRROR, SITE, end, stale, now=NOW)
    assert set(told) == expected and all(detail.endswith(SENT_ELSEWHERE) for detail in told.values()), told


def test_stale_and_never_a_hit():
    tree = Tree()
    tree.stale = True
    assert verdicts(examine(tree), "bad") == {"freshness"}
    tree = Tree()
    tree.cold = True
    assert verdicts(examine(tree), "bad") == {"repomd_hit", "package_hit"}


@pytest.mark.parametrize(("made", "verdict"), [(NOW - 7200, "bad"), (NOW - 60, "good"), (NOW - 100_000, "good")])
def test_an_older_repository_than_upstreams(made, verdict):
    tree = Tree()
    tree.theirs = repomd_of(PRIMARY, made)
    found = examine(tree)
    assert found["freshness"][0] == verdict and str(made) in found["freshness"][1]
    assert verdicts(found, "good") >= ALL - {"freshness"}


def test_what_cannot_be_judged_is_skipped():
    found = examine(Tree(), probe="")
    assert verdicts(found, "skipped") == ALL and "set probe: to the path of one" in found["repomd"][1]
    found = examine(Tree(b"\x04\x22\x4d\x18" + PRIMARY))
    assert verdicts(found, "skipped") == {"links", *OF_PACKAGES} and "packed in a way" in found["package"][1]
    assert verdicts(examine(Tree(repomd=repomd_of(PRIMARY, size=1 << 40))), "skipped") == {"primary", "links", *OF_PACKAGES}
    assert verdicts(examine(Tree(primary_of())), "skipped") == OF_PACKAGES
    assert examine(Tree(), upstream=False)["freshness"] == ("good", "not stale")
    tree = Tree()
    tree.theirs = 503
    assert examine(tree)["freshness"] == ("skipped", "upstream answered 503")


def test_a_site_that_is_a_repository_itself_needs_no_probe():
    tree = Tree()
    tree.bodies["/rpm/repodata/repomd.xml"] = tree.bodies["9/os/repodata/repomd.xml"]
    found = examine(tree, path="/rpm/9/os/", index="/rpm/9/os/", probe="")
    assert verdicts(found, "good") == ALL, found
