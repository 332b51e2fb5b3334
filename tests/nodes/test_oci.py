# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What configure_mirrors writes for podman, buildah and skopeo, containerd, dockerd and buildkitd, and that it is put back."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path

import pytest
from node_lab import Story, Told, document, make_control, snapshot, write_files

FILES = {
    "system": "etc/containers/registries.conf.d/nearby-mirrors.conf",
    "user": "home/ci/.config/containers/registries.conf.d/nearby-mirrors.conf",
}


def site(name: str, upstream: str, registry: str) -> dict[str, str]:
    path = f"/v2/{name}/"
    return {"name": name, "type": "oci", "path": path, "index": path, "upstream": upstream, "registry": registry}


CONFIG = {"system": "etc", "user": "home/ci/.config"}  # of daemons, which run as a user as well
SITES = [site("images", "https://images.example.org", "images.example.org"), site("own", "http://own.test:5000", "own.test:5000")]


IMAGES = {"etc/containers/registries.conf": (0o644, 'unqualified-search-registries = ["images.example.org"]\n')}
TOLD = {
    f"oci-{scheme}-{scope}": Told(
        {
            "configure_mirrors_scope": scope,
            "configure_mirrors_home": "/home/ci",
            "configure_mirrors_document": document(f"{scheme}://mirror.test:8080", sites=SITES),
        },
        IMAGES,
    )
    for scheme in ("http", "https")
    for scope in FILES
}
TOLD["oci-untold"] = Told(
    {"configure_mirrors_probe": False, "mirror_info": {"oci": {"url": "http://mirror.test:8080/v2/images"}}},
    {"etc/hostname": (0o644, "node\n")},
)


@pytest.mark.parametrize("scope", FILES)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_images_are_asked_of_the_mirror_first_and_that_is_put_back(told: Story, scope: str, scheme: str) -> None:
    name = f"oci-{scheme}-{scope}"
    plain = {"insecure": True} if scheme == "http" else {}
    assert tomllib.loads(told.text("configured", name, FILES[scope])) == {
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
    assert not told.runs["again"].changed(name) and told.after["again"][name] == told.after["configured"][name]
    assert told.after["put back"][name] == told.after["before"][name]


@pytest.mark.parametrize("scope", CONFIG)
@pytest.mark.parametrize("scheme", ["http", "https"])
def test_daemons_ask_the_mirror_first_and_that_is_put_back(tmp_path: Path, scope: str, scheme: str) -> None:
    control, root = make_control(tmp_path), tmp_path / "root"
    top = root / CONFIG[scope]
    there = {
        "docker/daemon.json": (0o600, '{"registry-mirrors": ["https://old.test"], "debug":true}'),
        "containerd/certs.d/own.test:5000/hosts.toml": (0o644, '[host."https://old.test"]\ncapabilities = ["pull"]\n'),
        "buildkit/buildkitd.toml": (0o644, "# mine\ndebug = true\n"),
    }
    write_files(root, {f"{CONFIG[scope]}/{path}": file for path, file in there.items()})
    before = snapshot(root)
    given = {"configure_mirrors_root": str(root), "configure_mirrors_scope": scope, "configure_mirrors_home": "/home/ci"}
    sites = [*SITES, site("default", "https://default.docker.test", "docker.test") | {"port": 5000}]
    hosts = {"n": given | {"configure_mirrors_document": document(f"{scheme}://mirror.test:8080", sites=sites)}}
    run = control.play("nodes", hosts)
    assert run.code == 0, run.output
    configured = snapshot(root)

    def host(name: str) -> dict[str, object]:
        return {f"{scheme}://mirror.test:8080/v2/{name}": {"capabilities": ["pull", "resolve"], "override_path": True}}

    hosts_of = {
        name: tomllib.loads((top / f"containerd/certs.d/{name}/hosts.toml").read_text()) for name in ("images.example.org", "docker.test")
    }
    assert hosts_of == {
        "images.example.org": {"server": "https://images.example.org", "host": host("images")},
        "docker.test": {"server": "https://default.docker.test", "host": host("default")},
    }
    merged = tomllib.loads((top / "containerd/certs.d/own.test:5000/hosts.toml").read_text())
    assert list(merged["host"].items()) == [*host("own").items(), ("https://old.test", {"capabilities": ["pull"]})], "in this order"
    insecure = {"insecure-registries": ["mirror.test:5000"]} if scheme == "http" else {}
    assert (
        json.loads((top / "docker/daemon.json").read_text())
        == {
            "registry-mirrors": [f"{scheme}://mirror.test:5000", "https://old.test"],
            "debug": True,
        }
        | insecure
    )
    assert tomllib.loads((top / "buildkit/buildkitd.toml").read_text()) == {
        "debug": True,
        "registry": {
            "images.example.org": {"mirrors": ["mirror.test:8080/images"]},
            "own.test:5000": {"mirrors": ["mirror.test:8080/own"], "http": True},
            "docker.test": {"mirrors": ["mirror.test:8080/default"]},
        }
        | ({"mirror.test:8080": {"http": True}} if scheme == "http" else {}),
    }
    assert not control.play("nodes", hosts).changed("n") and snapshot(root) == configured
    assert control.play("nodes", hosts, extra={"configure_mirrors_state": "absent"}).code == 0
    assert snapshot(root) == before


@pytest.mark.parametrize(
    "other", [site("default", "https://default.test", "docker.test"), site("images", "https://images.test", "images.test") | {"port": 5000}]
)
def test_dockerd_is_told_of_the_registry_alone_that_it_has_mirrors_of(tmp_path: Path, other: dict[str, object]) -> None:
    control, root = make_control(tmp_path), tmp_path / "root"
    write_files(root, {"etc/hostname": (0o644, "node\n")})
    run = control.play("nodes", {"n": {"configure_mirrors_root": str(root), "configure_mirrors_document": document(sites=[other])}})
    assert run.code == 0, run.output
    assert (root / "etc/containerd/certs.d" / str(other["registry"])).exists() and not (root / "etc/docker").exists()


def test_a_mirror_that_does_not_tell_what_it_mirrors_changes_nothing(told: Story) -> None:
    files = told.after["configured"]["oci-untold"]
    assert FILES["system"] not in files
    assert not [path for path in files if path.startswith(("etc/containerd", "etc/docker", "etc/buildkit"))]
