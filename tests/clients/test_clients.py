# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""pip and uv against the real PyPI, through a mirror that the collection deploys on this machine for the occasion.

They have no way out but the mirror: whatever else they ask goes to a proxy that is not there. The mirror is cut off by a name server
that no longer knows its upstream. Needs root and the registry. Where one cannot be reached these tests, and the others of this folder,
fail, unless NEARBY_SKIP_UNREACHABLE=1 is set.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.discovery import discover
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from ansible_collections.nearby.mirrors.plugins.module_utils.sites import resolve_sites
from installs import HITS, Mirror, clean_environment, command, install, table
from packageurl.validate import DEFINITIONS_BY_TYPE
from upstreams import EACH, FIRST, Names, bodies, cut_off, mirror_of, patiently, reached


@pytest.fixture(scope="module")
def urls() -> list[str]:
    """Where PyPI is, and where its files are."""
    default = DEFINITIONS_BY_TYPE["pypi"].default_repository_url
    (site,) = resolve_sites(["pypi"], lambda _type: default, {}, [], 80)
    reached(f"{site['upstream']}/simple/pip/", "PyPI")
    return [str(site["upstream"]), *patiently(lambda: discover(Client(timeout=20), site)).origins]


@pytest.fixture(scope="module")
def both(urls: list[str], request: pytest.FixtureRequest) -> Iterator[tuple[Mirror, Names]]:
    with mirror_of({"type": "pypi"}, urls=urls, mirror_engine=request.param) as both:
        yield both


@EACH
def test_a_real_project_installs_cold_then_warm_then_cut_off(both: tuple[Mirror, Names]) -> None:
    installs(both, "uv")


@FIRST
def test_so_it_does_with_pip(both: tuple[Mirror, Names]) -> None:
    installs(both, "pip")


def installs(both: tuple[Mirror, Names], client: str) -> None:
    mirror, names = both
    mirror.purge()
    cold = install(mirror, client, "cold")
    warm = install(mirror, client, "warm")
    with cut_off(names, f"{mirror.url}/pypi/simple/never-asked-for/"):
        away = install(mirror, client, "cut off")
    print(table([cold, warm, away]))
    came = {one.state: bodies(mirror, f"{client}, {one.state}", one.access, one.upstream) for one in (cold, warm, away)}
    assert cold.misses > 0 and cold.upstream_bytes > 1_000_000 and came["cold"]
    for one in (cold, warm, away):
        assert len(one.distributions) > 5 and one.distributions == cold.distributions
        assert one.unaccounted() == [], "installed, but not in the mirror's access log"
    assert all(line["status"] < 500 for line in (*cold.access, *warm.access))
    for one in (warm, away):
        assert came[one.state] == [], "fetched from upstream"
        assert {line["cache"] for line in one.access if line["status"] in (200, 206)} <= HITS, "not from the cache"
        files = [line for line in one.access if "/files/" in line["uri"] and line["status"] in (200, 206)]
        assert files and {line["cache"] for line in files} == {"HIT"}


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_they_have_no_other_way_out(urls: list[str], tmp_path: Path, client: str) -> None:
    wanted = command(client, Path(sys.executable), f"{urls[0]}/simple/", ("--target", str(tmp_path / "got"), "iniconfig"))
    at_once = {"PIP_RETRIES": "0", "UV_HTTP_RETRIES": "0"}
    environment = clean_environment(tmp_path, "http://127.0.0.1") | at_once
    assert subprocess.run(wanted, env=environment, capture_output=True, timeout=120, check=False).returncode != 0
    assert not list(tmp_path.glob("got/iniconfig*"))
