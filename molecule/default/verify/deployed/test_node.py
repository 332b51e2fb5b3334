# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A job's clients on a node, none of which is told where to go: the node's configuration says it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import pytest
from lab import fetch, log_lines, pip_install, soon, uv_install, version_in
from testinfra.host import Host

testinfra_hosts = ["ansible://nodes"]

MIRRORS = [f"{name}.default.test" for name in ("mirror12", "bare12", "mirror13", "bare13")]
LOG_SECONDS = 5


@pytest.fixture(scope="module")
def own_mirror(settings: dict[str, Any], other: Callable[[str], Host]) -> Host:
    return other(urlsplit(settings["configure_mirrors_url"]).hostname or "")


def asked_of(mirror: Host, address: str, agent: str) -> list[dict[str, Any]]:
    """What the client *agent* at *address* got from *mirror*, oldest first."""
    lines = log_lines(mirror, "/var/log/nearby-mirror/access.log")
    return [line for line in lines if line["client"] == address and line["agent"].startswith(agent)]


def address_of(host: Host) -> str:
    address: str = host.check_output("hostname --all-ip-addresses").split()[0]
    return address


def test_the_upstream_is_out_of_reach(host: Host) -> None:
    """Otherwise the tests below would prove nothing."""
    assert host.run("python3 -c %s", "import socket; socket.create_connection(('index.upstream.test', 8000), 5)").failed


@pytest.mark.parametrize(("client", "install"), [("pip", pip_install), ("uv", uv_install)])
def test_a_client_installs_from_its_mirror(host: Host, own_mirror: Host, client: str, install: Callable[..., str]) -> None:
    before = len(asked_of(own_mirror, address_of(host), client))
    install(host, f"/tmp/{client}", "sampleproj")
    assert version_in(host, f"/tmp/{client}", "sampleproj") == "2.0.0"
    # The project and what it needs: an index page and a wheel of each.
    wanted = (
        "/pypi/simple/sampleproj/",
        "/pypi/simple/fixture-dep/",
        "/sampleproj-2.0.0-py3-none-any.whl",
        "/fixture_dep-1.0-py3-none-any.whl",
    )

    def missing() -> list[str]:
        lines = asked_of(own_mirror, address_of(host), client)[before:]
        assert {line["status"] for line in lines} <= {200, 206, 304}
        return [path for path in wanted if not any(line["uri"].endswith(path) for line in lines)]

    # The log is written in batches.
    assert soon(lambda: not missing(), LOG_SECONDS), missing()


def test_a_login_shell_knows_the_mirror(host: Host) -> None:
    """For clients that are set by variables only: pip is told to read no file."""
    install = "pip install --no-cache-dir --retries 0 --timeout 5 --target /tmp/shell sampleproj"
    host.check_output("rm -rf /tmp/shell && PIP_CONFIG_FILE=/dev/null bash -lc %s", install)
    assert version_in(host, "/tmp/shell", "sampleproj") == "2.0.0"


@pytest.mark.parametrize("mirror", MIRRORS)
def test_every_mirror_serves_every_node(host: Host, mirror: str) -> None:
    pip_install(host, "/tmp/any", "--index-url", f"http://{mirror}/pypi/simple", "--trusted-host", mirror, "sampleproj==1.0.0")
    assert version_in(host, "/tmp/any", "sampleproj") == "1.0.0"


def test_paths_are_equal_in_every_region(host: Host) -> None:
    """So that a lock file of one region holds in another."""
    pages = {fetch(host, f"http://{mirror}/pypi/simple/sampleproj/").body for mirror in MIRRORS}
    assert len(pages) == 1
