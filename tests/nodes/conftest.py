# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterator

import pytest
from node_lab import Mirror, Story, Told, filled, make_control


@pytest.fixture(scope="session")
def mirror() -> Iterator[Mirror]:
    mirror = Mirror()
    yield mirror
    mirror.server.shutdown()


@pytest.fixture(scope="session")
def told(request: pytest.FixtureRequest, mirror: Mirror, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The nodes in the TOLD of all test files in one story: check mode, configured, again, another mirror, put back, again."""
    nodes: dict[str, Told] = {}
    for module in dict.fromkeys(item.module for item in request.session.items if isinstance(item, pytest.Function)):
        nodes |= getattr(module, "TOLD", {})
    story = Story(make_control(tmp_path_factory.mktemp("told")))
    for name, node in nodes.items():
        story.add(name, filled(node.variables, mirror), node.files, node.at_home)
    whole = {name: story.hosts[name] for name, node in nodes.items() if node.other}
    story.look("before")
    if whole:
        story.tell("check", "--check", "--diff", hosts=whole)
    story.tell("configured")
    story.tell("again")
    if whole:
        story.tell("moved", hosts={name: variables | nodes[name].other for name, variables in whole.items()})
    story.tell("put back", extra={"configure_mirrors_state": "absent"})
    if whole:
        story.tell("put back again", hosts=whole, extra={"configure_mirrors_state": "absent"})
    return story
