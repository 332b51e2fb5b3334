# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How the mirror gets into the files of containerd, dockerd and buildkitd."""

from __future__ import annotations

import json
import sys

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.client_config import (
    ConfigError,
    hosts_of_containerd,
    merge_buildkit,
    merge_containerd,
    merge_docker,
    remarks,
)

LINES = "# managed\n\nimages.test http://m.test/v2/images/ https://images.test\nown.test:5000 http://m.test/v2/own/ http://own.test:5000\n"
MIRROR = '[host."http://m.test/v2/images"]\ncapabilities = ["pull", "resolve"]\noverride_path = true\n'
HOSTS = '# managed\nserver = "https://images.test"\n\n' + MIRROR
OWN = HOSTS.replace("images.test", "own.test:5000").replace("https:", "http:").replace("/images", "/own")
ANOTHER = HOSTS.replace("http://m.test", "https://n.test")
THEIRS = '[host."https://other.test"]\ncapabilities = ["pull"]\n'
DOCKER = '{\n    "registry-mirrors": ["http://m.test:5000"],\n    "insecure-registries": ["m.test:5000"]\n}\n'
BUILDKIT = '# managed\n[registry."images.test"]\nmirrors = ["m.test/images"]\n\n[registry."m.test"]\nhttp = true\n'

HOSTS_ROWS = {
    "nothing there": ("", HOSTS),
    "its server stays": ('server = "https://old.test"\n', 'server = "https://old.test"\n' + MIRROR),
    "no newline at the end": ('server = "https://old.test"', 'server = "https://old.test"\n' + MIRROR),
    "other hosts and their comments come behind": ("# why\n" + THEIRS, MIRROR + "\n# why\n" + THEIRS),
    "a host of our name": (MIRROR.replace("true", "false") + THEIRS, MIRROR + "\n" + THEIRS),
}
DOCKER_ROWS = {
    "nothing there": ("", DOCKER),
    "all else stays": (
        '{"debug": true}',
        {"debug": True, "registry-mirrors": ["http://m.test:5000"], "insecure-registries": ["m.test:5000"]},
    ),
    "lists are added to": (
        '{"registry-mirrors": ["https://old.test"], "insecure-registries": ["10.0.0.0/8"]}',
        {"registry-mirrors": ["http://m.test:5000", "https://old.test"], "insecure-registries": ["m.test:5000", "10.0.0.0/8"]},
    ),
}
BUILDKIT_ROWS = {
    "nothing there": ("", BUILDKIT),
    "all else stays above": ("debug = true\n[worker.oci]\ngc = true\n", "debug = true\n[worker.oci]\ngc = true\n\n" + BUILDKIT),
    "no newline at the end": ("debug = true", "debug = true\n\n" + BUILDKIT),
    "what it says of a registry stays": (
        '[ registry . "images.test" ]\nca = ["/ca.pem"]\n[[registry."images.test".keypair]]\nkey = "/k.pem"\n',
        '[ registry . "images.test" ]\nca = ["/ca.pem"]\n[[registry."images.test".keypair]]\nkey = "/k.pem"\n'
        '\n# managed\n[registry."m.test"]\nhttp = true\n',
    ),
    "it says all by itself": (
        "[registry.'images.test']\nhttp = true\n[registry.'m.test']\nhttp = true\n",
        "[registry.'images.test']\nhttp = true\n[registry.'m.test']\nhttp = true\n",
    ),
}
BAD_ROWS = {
    "hosts.toml that is none": (merge_containerd, "server =\n", HOSTS, "is not valid TOML"),
    "hosts in one line": (merge_containerd, 'host = {"https://x.test" = {}}\n', HOSTS, "write its hosts as"),
    "buildkitd.toml that is none": (merge_buildkit, "debug =\n", BUILDKIT, "is not valid TOML"),
    "a registry in one line": (merge_buildkit, 'registry = {"x.test" = {}}\n', BUILDKIT, "write its own as"),
    "daemon.json that is none": (merge_docker, "{", DOCKER, "is not valid JSON"),
    "daemon.json with something else": (merge_docker, "[]", DOCKER, "is not a JSON object"),
    "mirrors that are no list": (merge_docker, '{"registry-mirrors": "https://x.test"}', DOCKER, "has registry-mirrors as no list"),
}


def test_each_registry_has_a_file_with_itself_behind_the_mirror() -> None:
    assert list(hosts_of_containerd("/certs.d", LINES)) == [
        ("/certs.d/images.test/hosts.toml", HOSTS),
        ("/certs.d/own.test:5000/hosts.toml", OWN),
    ]


@pytest.mark.parametrize(("there", "wanted"), HOSTS_ROWS.values(), ids=HOSTS_ROWS)
def test_hosts_toml_keeps_what_is_not_ours(there: str, wanted: str) -> None:
    assert merge_containerd(there, HOSTS) == wanted
    assert merge_containerd(wanted, HOSTS, HOSTS) == wanted, "merging again changes nothing"
    assert "//m.test" not in merge_containerd(wanted, ANOTHER, HOSTS)


@pytest.mark.parametrize(("there", "wanted"), DOCKER_ROWS.values(), ids=DOCKER_ROWS)
def test_daemon_json_keeps_what_is_not_ours(there: str, wanted: str | dict) -> None:
    merged = merge_docker(there, DOCKER)
    assert (merged if isinstance(wanted, str) else json.loads(merged)) == wanted
    assert merge_docker(merged, DOCKER, DOCKER) == merged, "merging again changes nothing"
    with_tls = json.loads(merge_docker(merged, '{"registry-mirrors": ["https://n.test:5000"]}', DOCKER))
    assert with_tls["registry-mirrors"][0] == "https://n.test:5000" and "m.test:5000" not in json.dumps(with_tls)


@pytest.mark.parametrize(("there", "wanted"), BUILDKIT_ROWS.values(), ids=BUILDKIT_ROWS)
def test_buildkitd_toml_keeps_what_is_not_ours(there: str, wanted: str) -> None:
    assert merge_buildkit(there, BUILDKIT) == wanted
    assert merge_buildkit(wanted, BUILDKIT, BUILDKIT) == wanted, "merging again changes nothing"
    another = merge_buildkit(wanted, BUILDKIT.replace("m.test", "n.test"), BUILDKIT)
    assert '[registry."m.test"]' not in another and another.count("# managed") == 1
    kept = remarks("/etc/buildkit/buildkitd.toml", "buildkit", wanted, BUILDKIT)
    assert len(kept) == ("images.test" in there) and all("of the registry images.test is kept" in sentence for sentence in kept)


@pytest.mark.parametrize(("merge", "there", "ours", "sentence"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_what_cannot_be_merged_is_refused(merge, there: str, ours: str, sentence: str) -> None:
    if merge is not merge_docker and sys.version_info < (3, 11):
        pytest.skip("TOML is checked with Python 3.11 and newer")
    with pytest.raises(ConfigError, match=sentence):
        merge(there, ours)
