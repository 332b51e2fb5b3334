# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The upstream is back under another address, with a new release; nobody touched a mirror."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from lab import fetch, pip_install, soon, uv_install, version_in
from testinfra.host import Host

testinfra_hosts = ["ansible://nodes"]

MIRRORS = [f"{name}.default.test" for name in ("mirror12", "bare12", "mirror13", "bare13", "apache13")]
REFRESH_SECONDS = 60


@pytest.mark.parametrize("mirror", MIRRORS)
def test_the_mirror_finds_it_again(host: Host, mirror: str) -> None:
    """A page that was never asked for before, and one that was stale."""

    def found() -> bool:
        try:
            unseen = fetch(host, f"http://{mirror}/pypi/simple/localproj/")
            stale = fetch(host, f"http://{mirror}/pypi/simple/sampleproj/")
        except AssertionError as error:
            # The lab's own name server has just been told of the other address. All else that keeps an answer away is the mirror's.
            if "Temporary failure in name resolution" not in str(error):
                raise
            return False
        return unseen.status == 200 and "sampleproj-3.0.0" in stale.text

    assert soon(found, REFRESH_SECONDS)


@pytest.mark.parametrize(("client", "install"), [("pip", pip_install), ("uv", uv_install)])
def test_a_client_installs_the_new_release(host: Host, client: str, install: Callable[..., str]) -> None:
    install(host, f"/tmp/{client}-restored", "sampleproj", "localproj")
    assert version_in(host, f"/tmp/{client}-restored", "sampleproj") == "3.0.0"
    assert version_in(host, f"/tmp/{client}-restored", "localproj") == "1.0+cu118"
