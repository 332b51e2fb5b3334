# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What configure_mirrors writes for podman, buildah and skopeo, and that it is put back."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest
from node_lab import document, make_control, snapshot, write_files

FILES = {
    "system": "etc/containers/registries.conf.d/nearby-mirrors.conf",
    "user": "home/ci/.config/containers/registries.conf.d/nearby-mirrors.conf",
}


def site(name: str, upstream: str, registry: str) -> dict[str, str]:
    path = f"/v2/{name}/"
    return {"name": name, "type": "oci", "path": path, "index": path, "upstream": upstream, "registry": registry}


SITES = [site("images", "https://images.example.org", "images.example.org"), site("own", "http://own.test:5000", "own.test:5000")]


@pytest.mark.parametrize("scope", FILES)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_images_are_asked_of_the_mirror_first_and_that_is_put_back(tmp_path: Path, scope: str, scheme: str) -> None:
    control, root = make_control(tmp_path), tmp_path / "root"
    write_files(root, {"etc/containers/registries.conf": (0o644, 'unqualified-search-registries = ["images.example.org"]\n')})
    before = snapshot(root)
    given = {"configure_mirrors_root": str(root), "configure_mirrors_scope": scope, "configure_mirrors_home": "/home/ci"}
    hosts = {"n": given | {"configure_mirrors_document": document(f"{scheme}://mirror.test:8080", sites=SITES)}}
    run = control.play("nodes", hosts)
    assert run.code == 0, run.output
    configured = snapshot(root)
    plain = {"insecure": True} if scheme == "http" else {}
    assert tomllib.loads((root / FILES[scope]).read_text()) == {
        "registry": [
            {
                "prefix": "images.example.org",
                "location": "images.example.org",
                "mirror": [{"location": "mirror.test:8080/images"} | plain],
            },
            {
                "prefix": "own.test:5000",
                "location": "own.test:5000",
                "insecure": True,
                "mirror": [{"location": "mirror.test:8080/own"} | plain],
            },
        ]
    }
    assert not control.play("nodes", hosts).changed("n") and snapshot(root) == configured
    assert control.play("nodes", hosts, extra={"configure_mirrors_state": "absent"}).code == 0
    assert snapshot(root) == before


def test_a_mirror_that_does_not_tell_what_it_mirrors_changes_nothing(tmp_path: Path) -> None:
    control, root = make_control(tmp_path), tmp_path / "root"
    write_files(root, {"etc/hostname": (0o644, "node\n")})
    given = {"configure_mirrors_root": str(root), "configure_mirrors_probe": False}
    run = control.play("nodes", {"n": given | {"mirror_info": {"oci": {"url": "http://mirror.test:8080/v2/images"}}}})
    assert run.code == 0, run.output
    assert not (root / FILES["system"]).exists()
