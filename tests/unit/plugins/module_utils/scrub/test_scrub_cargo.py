# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Response
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import REGISTRIES
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.base import Site

CARGO = REGISTRIES["cargo"]
SITE = Site("cargo", "cargo", "/cargo/", "https://index.test", "/cargo/", ())
ONE, TWO = "1" * 64, "a" * 64


@pytest.mark.parametrize(("path", "release"), [
    ("crates/demo/1.0.0/download", ("demo", "1.0.0")),
    ("crates/Demo_x/1.0.0-rc.1%2Bbuild/download", ("Demo_x", "1.0.0-rc.1+build")),
    ("api/v1/crates/demo/1.0.0/download", ("demo", "1.0.0")),
    ("crates/demo/demo-1.0.0.crate", ("demo", "1.0.0")),
    ("de/mo/demo-2-1.0.0-alpha-1.crate", ("demo-2", "1.0.0-alpha-1")),
    ("demo/1.0.0.crate", ("demo", "1.0.0")),
    ("demo/1.0.0", ("demo", "1.0.0")),
    ("demo-1.0.0.crate?x=1", ("demo", "1.0.0")),
    ("demo/1.0/download", None),
    ("0a1b2c3d", None),
])  # fmt: skip
def test_paths(path, release):
    path = f"/cargo/files/{path}"
    assert CARGO.releases(path) == ((release,) if release else ())
    assert CARGO.projects(path) == ((release[0],) if release else ("",))
    assert CARGO.key(path, "") == (" ".join(release) if release else "")


@pytest.mark.parametrize(("crate", "page"), [
    ("a", "1/a"), ("ab", "2/ab"), ("abc", "3/a/abc"), ("Demo_x", "de/mo/demo_x"),
])  # fmt: skip
def test_the_question_goes_to_upstream(crate, page):
    assert CARGO.question(SITE, crate)[0] == f"https://index.test/{page}"
    assert CARGO.question(SITE, "") is None


def test_a_page():
    body = f'{{"name":"Demo","vers":"1.0.0","cksum":"{ONE}"}}\n\n{{"name":"Demo","vers":"1.0.0+b","cksum":"{TWO.upper()}","yanked":true}}\n'
    found = CARGO.read(Response(200, body=body.encode(), url="https://index.test/de/mo/demo"))
    assert found == {"Demo 1.0.0": {"sha256": ONE}, "Demo 1.0.0+b": {"sha256": TWO}}
    assert CARGO.key("/cargo/files/crates/Demo/1.0.0+b/download", "") in found


@pytest.mark.parametrize("body", ["<html>", "[]", '{"name": "demo"}'])
def test_what_is_no_page(body):
    with pytest.raises(ValueError, match="is no file of an index"):
        CARGO.read(Response(200, body=body.encode(), url="https://index.test/de/mo/demo"))


NEW = f"""
version = 4

[[package]]
name = "demo"
version = "1.0.0"
source = "registry+https://index.test/"
checksum = "{ONE}"
dependencies = [
 "other",
]

[[package]]
name = "our-own"
version = "0.1.0"

[[package]]
name = "other"
version = "2.0.0+b"
source = "registry+https://index.test/"
checksum = "{TWO}"

[[patch.unused]]
name = "unused"
version = "9.0.0"
"""
OLD = f"""
[[package]]
name = "demo"
version = "1.0.0"
source = "registry+https://index.test/"

[metadata]
"checksum demo 1.0.0 (registry+https://index.test/)" = "{ONE}"
"checksum other 2.0.0+b (registry+https://index.test/)" = "{TWO}"
"checksum git 1.0.0 (git+https://example.org/git)" = "<none>"
"""


@pytest.mark.parametrize("text", [NEW, OLD, NEW.replace("\n", "\r\n")])
def test_a_lock_file(text):
    assert CARGO.locked(text) == {("demo", "1.0.0"): {("sha256", ONE)}, ("other", "2.0.0+b"): {("sha256", TWO)}}


def test_what_is_no_lock_file():
    assert CARGO.locked('[package]\nname = "demo"\nversion = "1.0.0"\n') == {}
