# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a registry of images: a healthy mirror of one passes, and each fault is found by the checks that are there for it."""

from __future__ import annotations

import hashlib
import json

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.health import oci
from fake_mirror import FakeMirror, by_end, verdicts, verdicts_of

MIRROR = "http://mirror.test:8080"
SITE = {
    "name": "images",
    "type": "oci",
    "path": "/v2/images/",
    "upstream": "https://images.test",
    "index": "/v2/images/",
    "probe": "library/app:one",
}


def digest(body: bytes) -> str:
    return f"sha256:{hashlib.sha256(body).hexdigest()}"


CONFIG = b'{"architecture": "amd64"}'
IMAGE = json.dumps({"config": {"digest": digest(CONFIG)}}).encode()
OTHER = json.dumps({"config": {"digest": digest(b"another")}}).encode()
PLATFORMS = [
    {"digest": digest(OTHER), "platform": {"architecture": "arm64", "os": "linux"}},
    {"digest": digest(IMAGE), "platform": {"architecture": "amd64", "os": "linux", "variant": "v1"}},
]
INDEX = json.dumps({"manifests": PLATFORMS}).encode()
OF_BLOB = {"blob_hit", "blob_head", "blob_range", "config"}


class Images(FakeMirror):
    """`changes` replace the mirror's bodies by the end of their path, or its statuses; `tells` is what headers say instead."""

    def __init__(self, tag: bytes = INDEX, tells: dict[str, str] | None = None, **changes: object) -> None:
        super().__init__()
        bodies = {f"blobs/{digest(CONFIG)}": CONFIG} | {f"manifests/{digest(body)}": body for body in (IMAGE, OTHER, tag)}
        self.bodies: dict[str, object] = {**bodies, "manifests/one": tag, f"{MIRROR}/v2/": b"{}", **changes}
        self.tells = tells or {}

    def find(self, url, headers):
        found = by_end(self.bodies, url)
        return 404 if found is None else found

    def told(self, body):
        return {"Docker-Distribution-API-Version": "registry/2.0", "Docker-Content-Digest": digest(body)} | self.tells


def examine(images, **site):
    return verdicts_of(images, MIRROR, SITE | site, None)


@pytest.mark.parametrize("tag", [IMAGE, INDEX])
def test_a_healthy_mirror(tag):
    found = examine(Images(tag))
    assert verdicts(found, "good") == {check.__name__ for check in oci.CHECKS} - {"lag"}, found
    assert digest(CONFIG) in found["config"][1], "of the manifests of several platforms it takes that of amd64"


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        (Images(tells={"Docker-Distribution-API-Version": ""}), {"support"}),
        (Images(tells={"Docker-Content-Digest": digest(b"")}), {"tag", "manifest"}),
        (Images(tells={"Docker-Content-Digest": "none"}), {"tag", "manifest"}),
        (Images(b"<html>"), OF_BLOB),
        (Images(b"[]"), OF_BLOB),
        (Images(b'{"config": {"digest": "../../x"}}'), OF_BLOB),
        (Images(b'{"manifests": [7]}'), OF_BLOB),
        (Images(**{f"blobs/{digest(CONFIG)}": b'{"architecture": "evil!"}'}), {"config"}),
        (Images(**{f"blobs/{digest(CONFIG)}": 404}), OF_BLOB),
        (Images(**{f"manifests/{digest(INDEX)}": IMAGE}), {"manifest"}),
        (Images(**{f"manifests/{digest(INDEX)}": 500}), {"manifest"}),
        (Images(**{"manifests/one": 502}), {"tag", "manifest", "tag_hit", "tag_head", "freshness", *OF_BLOB}),
        (Images(**{f"{MIRROR}/v2/": 404}), {"support"}),
    ],
)
def test_fault(images, expected):
    assert verdicts(examine(images), "bad") == expected


def test_stale_and_never_a_hit():
    images = Images()
    images.stale = True
    assert verdicts(examine(images), "bad") == {"freshness"}
    images = Images()
    images.cold = True
    assert verdicts(examine(images), "bad") == {"tag_hit", "blob_hit"}


def test_without_an_image_only_support_is_judged():
    found = examine(Images(), probe="")
    assert verdicts(found, "good") == {"support"}
    assert verdicts(found, "skipped") == {check.__name__ for check in oci.CHECKS} - {"support"}
    assert found["tag"][1] == "no image to look at is known; set probe: for this site"
