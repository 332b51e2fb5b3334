# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Shows at the end of a run what the mirrors took from their upstreams."""

from __future__ import annotations

import pytest
from upstreams import SUMS


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if SUMS:
        terminalreporter.section("from upstream")
        terminalreporter.write_line("\n".join(SUMS))
