# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import base64
import json

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Response
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import REGISTRIES
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.base import Site, spelled

NPM = REGISTRIES["npm"]
SITE = Site("npm", "npm", "/npm/", "https://registry.test/repository", "/npm/", ())
ONE, TWO = bytes(range(64)), bytes(range(64, 128))
SHA1 = "0123456789abcdef0123456789abcdef01234567"


def sri(digest: bytes, algorithm: str = "sha512") -> str:
    return f"{algorithm}-{base64.b64encode(digest).decode()}"


@pytest.mark.parametrize(("path", "project", "releases"), [
    ("demo/-/demo-1.0.0.tgz", "demo", [("demo", "1.0.0")]),
    ("demo/-/demo-1.0.0-rc.1+x-y.tgz", "demo", [("demo", "1.0.0-rc.1+x-y")]),
    ("demo-2/-/demo-2-3.0.0.tgz", "demo-2", [("demo-2", "3.0.0")]),
    ("@scope/demo/-/demo-1.0.0.tgz", "@scope/demo", [("@scope/demo", "1.0.0")]),
    ("@scope%2fdemo/-/demo-1.0.0.tgz", "@scope/demo", [("@scope/demo", "1.0.0")]),
    ("files/below/demo/-/demo-1.0.0.tgz?x=1", "demo", [("demo", "1.0.0")]),
    ("@scope/demo/-/@scope/demo-1.0.0.tgz", "@scope/demo", [("@scope/demo", "1.0.0")]),
    ("demo/-/other-1.0.0.tgz", "demo", []),
    ("demo/other", "", []),
])  # fmt: skip
def test_paths(path, project, releases):
    assert NPM.projects(f"/npm/{path}") == (project,) and list(NPM.releases(f"/npm/{path}")) == releases


def test_the_question_goes_to_upstream():
    assert NPM.question(SITE, "@scope/demo")[0] == "https://registry.test/repository/@scope%2Fdemo"
    assert NPM.question(SITE, "") is None


@pytest.mark.parametrize(("dist", "digests"), [
    ({"integrity": sri(ONE), "shasum": SHA1.upper()}, {"sha512": ONE.hex(), "sha1": SHA1}),
    ({"integrity": f"{sri(ONE)}?opt {sri(TWO[:32], 'sha256')}"}, {"sha512": ONE.hex(), "sha256": TWO[:32].hex()}),
    ({"shasum": SHA1}, {"sha1": SHA1}),
    ({"integrity": "md5-abc", "shasum": None}, {}),
])  # fmt: skip
def test_a_document(dist, digests):
    document = {"versions": {"1.0.0": {"dist": {"tarball": "https://files.test:443/@scope%2fdemo/-/demo-1.0.0.tgz", **dist}}}}
    found = NPM.read(Response(200, body=json.dumps(document).encode(), url="https://registry.test/demo"))
    assert found == {"https://files.test/@scope/demo/-/demo-1.0.0.tgz": digests}
    assert NPM.key("", "https://files.test/@scope/demo/-/demo-1.0.0.tgz") == spelled(next(iter(found)))


@pytest.mark.parametrize(
    "body", ["", "[]", '{"versions": [1]}', '{"versions": {"1.0.0": {}}}', '{"versions": {"1": {"dist": {"tarball": 1}}}}']
)
def test_what_is_no_document(body):
    with pytest.raises(ValueError, match="is no document of a package"):
        NPM.read(Response(200, body=body.encode(), url="https://registry.test/demo"))


NEW = {
    "": {"name": "our-own", "version": "9.0.0"},
    "node_modules/demo": {"version": "1.0.0", "resolved": "https://elsewhere.test/npm/demo/-/demo-1.0.0.tgz", "integrity": sri(ONE)},
    "node_modules/demo/node_modules/@scope/demo": {"version": "2.0.0", "integrity": sri(TWO)},
    "node_modules/alias": {"name": "real", "version": "3.0.0", "integrity": sri(ONE, "sha512")},
    "node_modules/git": {"version": "1.0.0", "resolved": "git+ssh://git@example.org/git.git#0a1b", "integrity": sri(TWO)},
    "node_modules/url": {"version": "1.0.0", "resolved": "https://example.org/other.tgz", "integrity": sri(TWO)},
    "node_modules/linked": {"resolved": "packages/linked", "link": True},
}
OLD = {
    "demo": {"version": "1.0.0", "resolved": "https://registry.test/demo/-/demo-1.0.0.tgz", "integrity": sri(ONE),
             "dependencies": {"@scope/demo": {"version": "2.0.0", "integrity": sri(TWO)}}},
    "alias": {"version": "npm:real@3.0.0", "integrity": sri(ONE)},
}  # fmt: skip


@pytest.mark.parametrize("lock", [{"lockfileVersion": 3, "packages": NEW}, {"lockfileVersion": 1, "dependencies": OLD}])
def test_a_lock_file(lock):
    assert NPM.locked(json.dumps(lock)) == {
        ("demo", "1.0.0"): {("sha512", ONE.hex())},
        ("@scope/demo", "2.0.0"): {("sha512", TWO.hex())},
        ("real", "3.0.0"): {("sha512", ONE.hex())},
    }


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '{"lockfileVersion": 3, "packages": []}', '{"packages": {"a": {"integrity": "sha512-aa=="}}}']
)
def test_what_is_no_lock_file(text):
    assert NPM.locked(text) == {}
