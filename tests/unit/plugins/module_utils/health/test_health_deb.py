# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a Debian-style archive: a healthy mirror of one passes, and each fault is found by the checks that are there for it."""

from __future__ import annotations

import gzip
import hashlib
import lzma
from email.utils import formatdate

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.health import deb
from fake_mirror import SENT_ELSEWHERE, FakeMirror, moved, verdicts, verdicts_of

NOW, HOUR, DAY = 1_800_000_000, 3600, 86400
MIRROR, UPSTREAM = "http://mirror.test:8080", "http://archive.test/debian"
SITE = {"name": "debian", "type": "deb", "path": "/debian/", "upstream": UPSTREAM, "index": "/debian/", "suites": ["stable", "flat/"]}
PACKAGES_OF_THEIR_OWN = {"package", "package_hit", "package_head", "package_range"}
SIGNATURE = "-----BEGIN PGP SIGNATURE-----\n\nabc\n-----END PGP SIGNATURE-----\n"


def digest(body: bytes) -> str:
    return hashlib.sha256(body).hexdigest()


POOL = {"pool/d/demo/demo_1_all.deb": b"small " * 40, "pool/b/big/big_1_all.deb": b"large " * 90}
PACKAGES = "\n".join(
    f"Package: {path.split('/')[2]}\nFilename: {path}\nSize: {len(body)}\nSHA256: {digest(body)}\nDescription: x\n"
    for path, body in POOL.items()
).encode()
INDICES = {
    "main/binary-all/Packages": PACKAGES,  # as in real archives, it is named and not there
    "main/binary-all/Packages.gz": gzip.compress(PACKAGES, mtime=0),
    "main/binary-all/Packages.xz": lzma.compress(PACKAGES),
    "main/debian-installer/binary-all/Packages": b"Filename: none.udeb\nSize: 1\nSHA256: 0\n" + b" " * 50,  # not for apt
    "main/binary-all/Release": b"Component: main\n",
}


def when(moment: float) -> str:
    return formatdate(moment, usegmt=True).replace("GMT", "UTC")


BY_DIGEST = "Acquire-By-Hash: yes\n"


def release(
    suite: str, age: float = 2 * DAY, files: dict[str, bytes] = INDICES, more: str = BY_DIGEST, until: str = when(NOW + 5 * DAY)
) -> str:
    said = f"Suite: {suite}\nDate: {when(NOW - age)}\n{more}Valid-Until: {until}\nSHA256:\n"
    return said + "".join(f" {digest(body)} {len(body):8} {path}\n" for path, body in files.items())


def signed(text: str) -> bytes:
    return f"-----BEGIN PGP SIGNED MESSAGE-----\nHash: SHA512\n\n{text}{SIGNATURE}".encode()


BODIES: dict[str, bytes] = {
    "dists/stable/InRelease": signed(release("stable")),
    "flat/Release": release("flat", more="").encode(),
    "flat/Release.gpg": SIGNATURE.encode(),
    **{
        f"{at}{path}": body
        for at in ("dists/stable/", "flat/")
        for path, body in INDICES.items()
        if not path.endswith("binary-all/Packages") or "installer" in path
    },
    **{f"dists/stable/main/binary-all/by-hash/SHA256/{digest(body)}": body for body in INDICES.values()},
    **POOL,
}


class Archive(FakeMirror):
    """The upstream and a mirror of it; `changes` replace the mirror's bodies, or its statuses; `theirs` those of upstream."""

    def __init__(self, **changes: object) -> None:
        super().__init__()
        self.changes: dict[str, object] = changes
        self.theirs: dict[str, object] = {}

    def find(self, url, headers):
        ours = url.startswith(MIRROR)
        path = url[len(MIRROR + "/debian/") if ours else len(UPSTREAM + "/") :]
        return (self.changes if ours else self.theirs).get(path, BODIES.get(path, 404))


def examine(archive, upstream=True, **site):
    return verdicts_of(archive, MIRROR, SITE | site, archive if upstream else None, now=NOW)


def test_a_healthy_mirror():
    found = examine(Archive())
    assert verdicts(found, "good") == {check.__name__ for check in deb.CHECKS}, found
    assert found["package"] == ("good", "demo_1_all.deb, 240 bytes"), "the smallest one"
    assert found["valid"] == ("good", "5.0 days left")


STABLE, FLAT = "dists/stable/InRelease", "flat/Release"
BY_PATH, BY_HASH = (
    "dists/stable/main/binary-all/Release",
    f"dists/stable/main/binary-all/by-hash/SHA256/{digest(b'Component: main' + bytes([10]))}",
)
ALL = {check.__name__ for check in deb.CHECKS}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({STABLE: 404}, ALL),
        ({STABLE: 502}, ALL),
        ({STABLE: release("stable").encode()}, {"releases"}),
        ({STABLE: signed("Suite: stable\n")}, {"releases", "lag"}),
        ({STABLE: signed(release("stable", until="soon"))}, {"valid"}),
        ({"flat/Release.gpg": 404}, {"releases"}),
        ({"flat/Release.gpg": b"<html>\n"}, {"releases"}),
        ({FLAT: release("flat", more="", until=when(NOW - DAY)).encode()}, {"valid"}),
        ({STABLE: signed(release("stable", 9 * DAY))}, {"lag"}),
        ({BY_PATH: b"Component: evil\n"}, {"indices"}),
        ({BY_HASH: b"Component: evil\n"}, {"indices"}),
        ({BY_HASH: 404}, {"indices"}),
        ({"pool/d/demo/demo_1_all.deb": b"evil"}, {"package"}),
        ({"pool/d/demo/demo_1_all.deb": 404}, PACKAGES_OF_THEIR_OWN),
    ],
)
def test_fault(changes, expected):
    assert verdicts(examine(Archive(**changes)), "bad") == expected


def test_lists_of_packages_that_cannot_be_unpacked():
    smallest = min((len(body), path) for path, body in INDICES.items() if "Packages." in path)[1]
    assert verdicts(examine(Archive(**{f"dists/stable/{smallest}": b"\x1f\x8b nonsense"})), "bad") >= PACKAGES_OF_THEIR_OWN


def test_what_upstream_has_published_just_now_is_no_lag():
    archive = Archive()
    archive.theirs[STABLE] = signed(release("stable", HOUR / 2))
    assert "lag" in verdicts(examine(archive), "good")
    archive.theirs[STABLE] = signed(release("stable", 2 * HOUR))
    assert "upstream has had a newer one for 7200 s" in examine(archive)["lag"][1]
    archive.theirs[STABLE] = 503
    assert "lag" in verdicts(examine(archive), "skipped")
    assert "lag" in verdicts(examine(Archive(), upstream=False), "skipped")


def test_an_archive_that_publishes_during_the_check_is_no_fault():
    archive = Archive()
    first = archive.request

    def publishing(method, url, headers=None, max_body=None, redirects=0, origins=()):
        if url.endswith(BY_PATH):
            archive.changes.update({BY_PATH: b"Component: next\n", STABLE: signed(release("stable", DAY))})
        return first(method, url, headers)

    archive.request = publishing
    assert "indices" in verdicts(examine(archive), "good")


@pytest.mark.parametrize(
    ("end", "stale", "expected"),
    [
        (STABLE, False, ALL),
        (STABLE, True, {"freshness"}),
        ("/Packages.gz", False, PACKAGES_OF_THEIR_OWN),
        (BY_PATH, False, {"indices"}),
        (BY_HASH, False, {"indices"}),
        ("demo_1_all.deb", False, PACKAGES_OF_THEIR_OWN),
    ],
)
def test_where_an_archive_moved_to_is_told(end, stale, expected):
    told = moved(Archive(), MIRROR, SITE, end, stale, now=NOW)
    assert set(told) == expected and all(detail.endswith(SENT_ELSEWHERE) for detail in told.values()), told


def test_stale_and_never_a_hit():
    archive = Archive()
    archive.stale = True
    assert verdicts(examine(archive), "bad") == {"freshness"}
    archive = Archive()
    archive.cold = True
    assert verdicts(examine(archive), "bad") == {"release_hit", "package_hit"}


def test_what_cannot_be_judged_is_skipped():
    assert verdicts(examine(Archive(), suites=[]), "skipped") == ALL
    small = {"main/binary-all/Release": b"Component: main\n"}
    found = examine(Archive(**{STABLE: signed(release("stable", files=small)), FLAT: release("flat", files=small).encode()}))
    assert verdicts(found, "skipped") == PACKAGES_OF_THEIR_OWN
    found = examine(Archive(**{STABLE: signed(release("stable").replace("Valid-Until", "X"))}), suites=["stable"])
    assert verdicts(found, "skipped") == {"valid"}


def test_suites_have_to_be_a_list():
    with pytest.raises(ValueError, match="suites that are no list"):
        health.sites_from([SITE | {"suites": "stable"}], "sites")
