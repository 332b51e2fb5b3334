# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is named by its digest and lists packages: Debian's indices, and the primaries of RPM repositories."""

from __future__ import annotations

import bz2
import gzip
import hashlib
import lzma
import os
import tracemalloc
from dataclasses import replace

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import REGISTRIES, lists
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.base import Route

DEB, RPM = REGISTRIES["deb"], REGISTRIES["rpm"]
ONE, TWO, LONG = "1" * 64, "a" * 64, "b" * 128
BINARY = "/debian/dists/stable/main/binary-amd64/by-hash/SHA256"


@pytest.mark.parametrize(("path", "digests", "lists"), [
    (f"{BINARY}/{ONE}", {"sha256": ONE}, True),
    (f"/debian/dists/stable/updates/main/binary-all/by-hash/SHA512/{LONG}", {"sha512": LONG}, True),
    (f"/debian/dists/stable/main/by-hash/SHA256/{ONE}", {"sha256": ONE}, False),
    (f"/debian/dists/stable/main/binary-amd64/Packages.diff/by-hash/SHA256/{ONE}", {"sha256": ONE}, False),
    (f"/debian/by-hash/MD5Sum/{ONE[:32]}", {"md5": ONE[:32]}, False),
    (f"/debian/dists/stable/main/binary-amd64/by-hash/BLAKE/{ONE}", {}, False),
    ("/debian/pool/main/d/demo/demo_1.0_all.deb", {}, False),
])  # fmt: skip
def test_debian_paths(path, digests, lists):
    assert DEB.named(path) == digests and DEB.lists(path) is lists


@pytest.mark.parametrize(("path", "digests", "lists"), [
    (f"/rpm/9/os/repodata/{ONE}-primary.xml.gz", {"sha256": ONE}, True),
    (f"/rpm/repodata/{ONE[:40]}-primary.xml.zck", {"sha1": ONE[:40]}, True),
    (f"/rpm/repodata/{LONG}-primary.xml", {"sha512": LONG}, True),
    (f"/rpm/repodata/{ONE}-primary.sqlite.bz2", {"sha256": ONE}, False),
    (f"/rpm/repodata/{ONE}-filelists.xml.gz", {"sha256": ONE}, False),
    (f"/rpm/repodata/{ONE[:50]}-primary.xml.gz", {}, False),
    ("/rpm/repodata/primary.xml.gz", {}, False),
    ("/rpm/Packages/d/demo-1.0-1.noarch.rpm", {}, False),
])  # fmt: skip
def test_rpm_paths(path, digests, lists):
    assert RPM.named(path) == digests and RPM.lists(path) is lists


PACKAGES = f"""Package: demo
Filename: pool/main/d/demo/demo_1.0+b_all.deb
Description: Filename: and
 SHA256: elsewhere
SHA256: {ONE}
Size: 3

Package: flat
Filename: ./flat_1_all.deb
SHA256: {TWO.upper()}

Package: bare
Filename: pool/bare_1_all.deb
""".encode()
PRIMARY = f"""<?xml version="1.0"?><metadata xmlns="http://linux.duke.edu/metadata/common" packages="3">
<package type="rpm"><name>demo</name><checksum type="sha256" pkgid="YES">{ONE}</checksum><summary>a</summary>
<location href="Packages/d/demo-1.0%2Bb-1.noarch.rpm"/></package>
<package type='rpm'><checksum pkgid='YES' type='sha'>{TWO[:40].upper()}</checksum><location href='other&amp;-1-1.noarch.rpm'/></package>
<package type="rpm"><checksum type="sha256" pkgid="YES">{TWO}</checksum>
<location xml:base="https://elsewhere.test/" href="away-1-1.noarch.rpm"/></package>
<package type="rpm"><location href="bare-1-1.noarch.rpm"/></package></metadata>""".encode()
LISTED = {
    "deb": (DEB, f"{BINARY}/{ONE}", PACKAGES, {
        "/debian/pool/main/d/demo/demo_1.0+b_all.deb": {"sha256": ONE}, "/debian/flat_1_all.deb": {"sha256": TWO},
    }),
    "rpm": (RPM, f"/rpm/9/repodata/{ONE}-primary.xml.gz", PRIMARY, {
        "/rpm/9/Packages/d/demo-1.0+b-1.noarch.rpm": {"sha256": ONE}, "/rpm/9/other&-1-1.noarch.rpm": {"sha1": TWO[:40]},
    }),
}  # fmt: skip
PACKED = {"plain": bytes, "gzip": gzip.compress, "xz": lzma.compress, "bzip2": bz2.compress}


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("kind", LISTED)
@pytest.mark.parametrize("size", [1, 7, 1 << 20])
def test_a_list(kind, packed, size):
    registry, path, text, listed = LISTED[kind]
    body = PACKED[packed](text)
    if size == 1 and packed != "plain":
        size = 6  # the first piece tells how it is packed
    assert dict(registry.listed(path, (body[begin : begin + size] for begin in range(0, len(body), size)))) == listed


@pytest.mark.parametrize(
    "body", [b"\x28\xb5\x2f\xfdzstd", gzip.compress(b"")[:10] + b"\xff" * 50, b"\xfd7zXZ" + bytes(50), b"BZh9" + bytes(50)]
)
def test_what_is_no_list(body):
    with pytest.raises(lists.DAMAGED):
        list(DEB.listed(f"{BINARY}/{ONE}", [body]))


# The less each packs at once, the less it holds of what it unpacks.
@pytest.mark.parametrize("pack", [gzip.compress, lambda text: lzma.compress(text, preset=0), lambda text: bz2.compress(text, 1)])
def test_a_list_is_not_held_in_memory_and_does_not_grow_for_ever(pack, monkeypatch):
    text = (PACKAGES + b"\n") * 30_000
    body = pack(text)
    tracemalloc.start()
    assert len(dict(DEB.listed(f"{BINARY}/{ONE}", [body]))) == 2
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 6 << 20 < len(text)
    monkeypatch.setattr(lists, "LARGEST", 3 << 20)
    with pytest.raises(ValueError, match="it has more than"):
        list(DEB.listed(f"{BINARY}/{ONE}", [body]))
    monkeypatch.setattr(lists, "LONGEST", 1 << 20)
    with pytest.raises(ValueError, match="an entry has more than"):
        list(DEB.listed(f"{BINARY}/{ONE}", [pack(b" " * (4 << 20))]))


# ----------------------------------------------------------------------------------------------------------------- runs


@pytest.fixture
def archive(stage):
    """The stage as a Debian archive. It puts files below the archive's root."""
    stage.site = replace(
        stage.site, type="deb", path="/pypi/files/packages/", routes=(Route(stage.path(""), "https://archive.test/", "0a1b2c3d"),)
    )
    return stage


def listing(*packages: tuple[str, bytes]) -> bytes:
    return gzip.compress(
        "".join(f"Filename: pool/{name}\nSHA256: {hashlib.sha256(body).hexdigest()}\n\n" for name, body in packages).encode()
    )


def put_list(stage, body: bytes, digest: str = "", arch: str = "amd64"):
    return stage.put(f"dists/stable/main/binary-{arch}/by-hash/SHA256/{digest or hashlib.sha256(body).hexdigest()}", body)


def tell(report) -> tuple[int, ...]:
    (site,) = report["sites"]
    return tuple(site[key] for key in ("looked_at", "good", "bad", "unknown", "incomplete"))


def test_packages_have_the_digests_that_a_stored_list_tells(archive):
    put_list(archive, listing(("right_1_all.deb", b"right"), ("a+b_1_all.deb", b"right"), ("wrong_1_all.deb", b"right")))
    for name, body in ("right_1_all.deb", b"right"), ("a%2bb_1_all.deb", b"right"), ("unlisted_1_all.deb", b"right"):
        archive.put(f"pool/{name}", body)
    (gone,) = archive.put("pool/wrong_1_all.deb", b"wrong")
    for upstream in True, False:
        report = archive.scrub(upstream=upstream, purge=False, state="")
        assert tell(report) == (5, 3, 1, 1, 0) and archive.index.asked == []
        assert report["bad"][0]["reason"] == "a stored list of packages has another digest"
    archive.scrub()
    assert not gone.exists()


def test_a_list_that_is_damaged_or_not_whole_tells_nothing(archive):
    body = listing(("one_1_all.deb", b"right"))
    archive.put("pool/one_1_all.deb", b"wrong")
    parts = put_list(archive, body)
    put_list(archive, listing(("one_1_all.deb", b"other")), "1" * 64, "arm64")
    part = parts[-1]
    content = part.read_bytes()
    part.unlink()
    assert tell(archive.scrub(purge=False, state="")) == (3, 0, 1, 1, 1)
    part.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    assert tell(archive.scrub(purge=False, state="")) == (3, 0, 2, 1, 0)
    part.write_bytes(content)
    assert tell(archive.scrub(purge=False, state="")) == (3, 1, 2, 0, 0)


def test_lists_are_read_from_the_newest_on_until_all_is_found(archive):
    archive.put("pool/one_1_all.deb", b"right")
    archive.put("pool/two_1_all.deb", b"right")
    made = [("amd64", "one"), ("amd64", "none"), ("amd64", "never"), ("arm64", "two"), ("arm64", "never")]
    for age, (arch, name) in enumerate(made):
        for file in put_list(archive, listing((f"{name}_1_all.deb", b"right"), (f"{age}_1_all.deb", b""))[: archive.unit * 9], arch=arch):
            os.utime(file, (1000 - age, 1000 - age))
    read, look = [], archive.store.look
    archive.store.look = lambda item: read.append(item) or look(item)
    assert tell(archive.scrub())[1] == 7
    before = read[: len(read) - 7]
    assert [item.path.partition("binary-")[2][:5] for item in before] == ["amd64", "arm64"], "one of each folder has all"


def test_lists_take_a_fifth_of_the_time(archive):
    archive.put("pool/one_1_all.deb", b"right")
    for number in range(50):
        put_list(archive, listing((f"{number}_1_all.deb", b"")))
    report = archive.scrub(limit=100, bytes_rate=10)
    assert report["seconds"] <= 100
    assert 20 < report["sites"][0]["good"] * 10 < 95, "what is left of the time is for the artifacts"
