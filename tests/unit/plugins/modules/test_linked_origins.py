# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from ansible_collections.nearby.mirrors.plugins.modules import linked_origins

SITES = [
    {"name": "pypi", "type": "pypi", "upstream": "https://index.test", "probe": "demo"},
    {"name": "tools", "type": "generic", "upstream": "https://tools.test"},
]


def test_found(play, documented):
    result = play(linked_origins, sites=SITES, ca_path="/ca.pem", timeout=3, _ansible_check_mode=True)
    documented(linked_origins, result)
    assert result["changed"] is False and list(result["sites"]) == ["pypi", "tools"]
    assert result["sites"]["pypi"]["origins"] == ["https://files.test"]
    assert play.clients == [{"ca_path": "/ca.pem", "timeout": 3.0}]


def test_no_reach(play, documented, world, unreachable):
    world.faults.append(unreachable)
    result = play(linked_origins, sites=SITES[::-1])
    documented(linked_origins, result)
    assert result["failed"] and list(result["sites"]) == ["tools"]
    assert "set origins: in mirror_sites for site 'pypi'" in result["msg"]


def test_incomplete_site(play):
    assert "missing required arguments: upstream" in play(linked_origins, sites=[{"name": "pypi", "type": "pypi"}])["msg"]
