# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The upstream and its names are gone, the mirrors have started again since, and every index page is stale."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

import pytest
from lab import fetch, pip_install, uv_install, version_in
from testinfra.host import Host

testinfra_hosts = ["ansible://nodes"]

MIRRORS = [f"{name}.default.test" for name in ("mirror12", "bare12", "mirror13", "bare13", "apache13")]


@pytest.mark.parametrize("mirror", MIRRORS)
def test_the_upstream_is_gone_for_the_mirror(other: Callable[[str], Host], mirror: str) -> None:
    assert other(mirror).run("getent hosts index.upstream.test").failed


@pytest.mark.parametrize("mirror", MIRRORS)
def test_what_was_seen_is_served_stale(host: Host, mirror: str) -> None:
    answer = fetch(host, f"http://{mirror}/pypi/simple/sampleproj/", Accept="text/html")
    assert answer.status == 200
    assert answer.headers["cache-status"] == "nearby; hit; detail=STALE"
    assert answer.seconds < 5


@pytest.mark.parametrize("mirror", MIRRORS)
def test_what_was_not_seen_fails_soon(host: Host, mirror: str) -> None:
    answer = fetch(host, f"http://{mirror}/pypi/simple/localproj/", timeout=30)
    assert answer.status in (502, 504)
    assert answer.seconds < 15


# Those that have switched their engine have a new cache, into which nobody has had this fetched.
@pytest.mark.parametrize("mirror", [f"{name}.default.test" for name in ("mirror12", "bare12", "bare13")])
def test_a_stored_file_is_still_on_the_port_of_its_site(host: Host, mirror: str) -> None:
    page = fetch(host, f"http://{mirror}/pypi/simple/sampleproj/", Accept="application/vnd.pypi.simple.v1+json").json
    wheel = next(file for file in page["files"] if file["filename"].endswith(".whl"))
    answer = fetch(host, f"http://{mirror}:8081/" + wheel["url"].removeprefix("/pypi/files/"))
    assert hashlib.sha256(answer.body).hexdigest() == wheel["hashes"]["sha256"]


@pytest.mark.parametrize("mirror", MIRRORS)
def test_the_mirror_itself_is_well(host: Host, mirror: str) -> None:
    assert fetch(host, f"http://{mirror}/health").body == b"ok\n"


@pytest.mark.parametrize(("client", "install"), [("pip", pip_install), ("uv", uv_install)])
def test_a_client_still_installs(host: Host, client: str, install: Callable[..., str]) -> None:
    install(host, f"/tmp/{client}-cut-off", "sampleproj")
    assert version_in(host, f"/tmp/{client}-cut-off", "sampleproj") == "2.0.0"
