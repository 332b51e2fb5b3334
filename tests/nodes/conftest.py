# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

from collections.abc import Iterator

import pytest
from node_lab import Mirror, Story, Told, make_control


@pytest.fixture(scope="session")
def mirror() -> Iterator[Mirror]:
    mirror = Mirror()
    yield mirror
    mirror.server.shutdown()


@pytest.fixture(scope="session")
def told(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Story:
    """The nodes in the TOLD of all test files at once, since most of a run is its start: configured, again, and put back."""
    nodes: dict[str, Told] = {}
    for module in dict.fromkeys(item.module for item in request.session.items if isinstance(item, pytest.Function)):
        nodes |= getattr(module, "TOLD", {})
    story = Story(make_control(tmp_path_factory.mktemp("told")))
    for name, node in nodes.items():
        story.add(name, node.variables, node.files)
    whole = {name: story.hosts[name] for name, node in nodes.items() if node.whole}
    other = {
        name: {**variables, "configure_mirrors_document": {**variables["configure_mirrors_document"], "url": "https://other.test"}}
        for name, variables in whole.items()
    }
    story.look("before")
    if whole:
        story.tell("check", "--check", "--diff", hosts=whole)
    story.tell("configured")
    story.tell("again")
    if whole:
        story.tell("moved", hosts=other)
    story.tell("put back", extra={"configure_mirrors_state": "absent"})
    return story
