# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What configure_mirrors writes for podman, buildah and skopeo, and that it is put back."""

from __future__ import annotations

import tomllib

import pytest
from node_lab import Story, Told, document

FILES = {
    "system": "etc/containers/registries.conf.d/nearby-mirrors.conf",
    "user": "home/ci/.config/containers/registries.conf.d/nearby-mirrors.conf",
}


def site(name: str, upstream: str, registry: str) -> dict[str, str]:
    path = f"/v2/{name}/"
    return {"name": name, "type": "oci", "path": path, "index": path, "upstream": upstream, "registry": registry}


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


def test_a_mirror_that_does_not_tell_what_it_mirrors_changes_nothing(told: Story) -> None:
    assert FILES["system"] not in told.after["configured"]["oci-untold"]
