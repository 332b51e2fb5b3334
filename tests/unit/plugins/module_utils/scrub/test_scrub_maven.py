# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Response
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import REGISTRIES
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.base import Site

MAVEN = REGISTRIES["maven"]
SITE = Site("maven", "maven", "/maven/", "https://repo.test/maven2", "/maven/", ())
JAR = "org/example/demo/1.0/demo-1.0.jar"
SHA1, SHA256 = "0123456789abcdef0123456789abcdef01234567", "a" * 64


@pytest.mark.parametrize(("path", "asked"), [
    (JAR, [f"{JAR}.sha1", f"{JAR}.sha256"]),
    (f"{JAR}.sha1", [f"{JAR}.sha1"]),
    (f"{JAR}.md5", [f"{JAR}.md5"]),
    (f"{JAR}.asc", [f"{JAR}.asc"]),
])  # fmt: skip
def test_what_is_asked_for(path, asked):
    projects = MAVEN.projects(f"/maven/{path}")
    assert [MAVEN.question(SITE, project)[0] for project in projects] == [f"https://repo.test/maven2/{path}" for path in asked]


@pytest.mark.parametrize(("ending", "body", "digests"), [
    ("sha1", SHA1, {"sha1": SHA1}),
    ("sha1", f"{SHA1.upper()}\n", {"sha1": SHA1}),
    ("sha1", f"{SHA1}  demo-1.0.jar\n", {"sha1": SHA1}),
    ("sha1", f"SHA1(demo-1.0.jar)= {SHA1}", {"sha1": SHA1}),
    ("sha256", SHA256, {"sha256": SHA256}),
    ("asc", "-----BEGIN", None),
])  # fmt: skip
def test_a_digest_and_its_file(ending, body, digests):
    url = f"https://repo.test/maven2/{JAR}.{ending}"
    own = {url: {"sha256": hashlib.sha256(body.encode()).hexdigest()}}
    assert MAVEN.read(Response(200, body=body.encode(), url=url)) == own | ({url[: -len(ending) - 1]: digests} if digests else {})


@pytest.mark.parametrize("body", ["", "<html>", SHA1[1:], SHA256])
def test_what_is_no_digest(body):
    with pytest.raises(ValueError, match="is no digest"):
        MAVEN.read(Response(200, body=body.encode(), url=f"https://repo.test/maven2/{JAR}.sha1"))
