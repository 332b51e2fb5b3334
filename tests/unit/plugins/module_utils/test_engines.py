# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import re

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import engines


@pytest.mark.parametrize("engine", list(engines.ENGINES))
def test_an_engine_that_exists_refuses_nothing_plain(engine: str) -> None:
    assert engines.refusals(engine, [{"name": "pypi", "type": "pypi"}, {"type": "generic", "query": True, "immutable": ["x"]}]) == []


def test_an_engine_that_does_not_exist() -> None:
    assert engines.refusals("caddy", []) == ["mirror_engine 'caddy' is unknown; set one of apache, nginx."]


def test_a_site_that_needs_what_the_engine_lacks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(engines.ENGINES, "apache", (engines.Limit("queries", "It drops queries.", options=("query",)),))
    sites = [{"name": "pypi"}, {"name": "ask", "query": True}, {"name": "mute", "query": False}]
    assert engines.refusals("apache", sites) == ["Site 'ask': query is not to be had with mirror_engine 'apache'. It drops queries."]


def test_a_limit_is_said_once_and_in_a_sentence() -> None:
    for limits in engines.ENGINES.values():
        assert len({limit.key for limit in limits}) == len(limits)
        for limit in limits:
            assert re.fullmatch(r"[A-Z].*\.", limit.sentence) and re.compile(limit.rows)
