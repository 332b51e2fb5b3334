# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Real clients against real registries, through a mirror that the collection deploys on this machine for the occasion.

Needs root and the registries. Where one cannot be reached these tests fail, unless NEARBY_SKIP_UNREACHABLE=1 is set.
"""

from __future__ import annotations

import os
import urllib.error
import urllib.request
from collections.abc import Iterator

import pytest
from deploying import CACHE, LOG, RUN, deployed
from installs import Mirror, install, table
from packageurl.validate import DEFINITIONS_BY_TYPE


@pytest.fixture(scope="module")
def registry() -> None:
    """PyPI answers from here, or the tests say so."""
    url = DEFINITIONS_BY_TYPE["pypi"].default_repository_url
    try:
        urllib.request.urlopen(f"{url}/simple/pip/", timeout=20).close()
    except (urllib.error.URLError, OSError) as error:
        if os.environ.get("NEARBY_SKIP_UNREACHABLE") == "1":
            pytest.skip(f"PyPI cannot be reached ({error})")
        pytest.fail(f"PyPI cannot be reached ({error}); set NEARBY_SKIP_UNREACHABLE=1 to skip what needs it")


@pytest.fixture(scope="module")
def mirror(registry: None) -> Iterator[Mirror]:
    with deployed() as url:
        yield Mirror(url, LOG, CACHE, RUN / "mirror.pid")


@pytest.mark.parametrize("client", ["pip", "uv"])
def test_a_real_project_installs_cold_then_warm(mirror: Mirror, client: str) -> None:
    mirror.purge()
    cold = install(mirror, client, "cold")
    warm = install(mirror, client, "warm")
    print(table([cold, warm]))
    for one in (cold, warm):
        assert len(one.distributions) > 5
        assert one.unaccounted() == [], "installed, but not in the mirror's access log"
        assert all(line["status"] < 500 for line in one.access)
    assert cold.misses > 0 and cold.upstream_bytes > 1_000_000
    assert warm.misses == 0
    artifacts = [line for line in warm.access if "/files/" in line["uri"] and line["status"] != 404]
    assert artifacts and {line["cache"] for line in artifacts} == {"HIT"}
