# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Begins with what takes long to compile, and shows at the end of a run what the mirrors took from their upstreams."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from upstreams import SUMS


@pytest.fixture(scope="session", autouse=True)
def compiled(request: pytest.FixtureRequest) -> Iterator[None]:
    """What the tests of buildkitd wait for is begun with before all others, which mostly wait themselves."""
    module = next((item.module for item in request.session.items if "buildkitd" in item.name), None)
    compiler = module.building() if module else None
    yield
    if compiler:
        compiler.terminate()


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if SUMS:
        terminalreporter.section("from upstream")
        terminalreporter.write_line("\n".join(SUMS))
