# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Response
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import REGISTRIES
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.base import Site

GEM = REGISTRIES["gem"]
SITE = Site("gem", "gem", "/gem/", "https://gems.test", "/gem/", ())
ONE, TWO, THREE = "1" * 64, "a" * 64, "3" * 64


@pytest.mark.parametrize(("name", "releases"), [
    ("demo-1.0.gem", [("demo", "1.0")]),
    ("demo-tool-1.0.pre.gem", [("demo-tool", "1.0.pre")]),
    ("demo-1.0-x86_64-linux-gnu.gem", [("demo", "1.0-x86_64-linux-gnu")]),
    ("demo-1.0-arm64-darwin-20.gem", [("demo", "1.0-arm64-darwin-20"), ("demo-1.0-arm64-darwin", "20")]),
    ("demo-2-1.0.gem", [("demo", "2-1.0"), ("demo-2", "1.0")]),
    ("a-1-2-3-4.gem", [("a", "1-2-3-4"), ("a-1", "2-3-4"), ("a-1-2", "3-4")]),
    ("demo.gem", []),
    ("-1.gem", []),
])  # fmt: skip
def test_file_names(name, releases):
    assert list(GEM.releases(f"/gem/gems/{name}")) == releases
    assert GEM.projects(f"/gem/gems/{name}") == (tuple(gem for gem, _version in releases) or ("",))


def test_a_specification_has_no_digest():
    assert GEM.projects("/gem/quick/Marshal.4.8/demo-1.0.gemspec.rz") == ("",) and GEM.question(SITE, "") is None


def test_the_page_of_a_gem():
    url, _headers = GEM.question(SITE, "demo")
    body = (
        f"---\n1.0 |checksum:{ONE}\n1.1-java other:>= 1&< 2,more:= 3|ruby:>= 2.0,checksum:{TWO.upper()},rubygems:> 1\n"
        f"1.2 |ruby:>= 1\n1.3 |checksum:{ONE[1:]}\n2.0 |checksum:{THREE},ruby:>= 3.0\n"
    )
    assert GEM.read(Response(200, body=body.encode(), url=url)) == {
        "https://gems.test/gems/demo-1.0.gem": {"sha256": ONE},
        "https://gems.test/gems/demo-1.1-java.gem": {"sha256": TWO},
        "https://gems.test/gems/demo-2.0.gem": {"sha256": THREE},
    }
    assert GEM.key("", "https://gems.test/gems/demo-1.0.gem") == "https://gems.test/gems/demo-1.0.gem"


LOCK = f"""
GEM
  remote: https://gems.test/
  specs:
    demo (1.0)

DEPENDENCIES
  demo

CHECKSUMS
  demo (1.0) sha256={ONE}
  demo (1.0-java) sha256={TWO.upper()},sha512={"b" * 128}
  bare (2.0)

BUNDLED WITH
  2.6.0
"""


@pytest.mark.parametrize("text", [LOCK, LOCK.replace("\n", "\r\n"), LOCK[: LOCK.index("\nBUNDLED")]])
def test_a_lock_file(text):
    assert GEM.locked(text) == {
        ("demo", "1.0"): {("sha256", ONE)},
        ("demo", "1.0-java"): {("sha256", TWO), ("sha512", "b" * 128)},
    }


def test_a_lock_file_without_checksums():
    assert GEM.locked(LOCK.replace("CHECKSUMS", "OTHERS")) == {}
