# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How long a run may take, and how fast it may go."""

from __future__ import annotations

import time
from collections.abc import Callable


class OutOfTime(Exception):
    """The time of the run is over."""


class Clock:
    """The time of one run: `limit` is in seconds, 0 for none."""

    def __init__(self, limit: float = 0, now: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep) -> None:
        self.now, self.sleep = now, sleep
        self.started = now()
        self.end = self.started + limit if limit else float("inf")

    @property
    def seconds(self) -> float:
        return self.now() - self.started

    def share(self, part: float) -> Clock:
        """A clock that ends after this part of the time that is left. Raises OutOfTime."""
        self.check()
        return Clock((self.end - self.now()) * part, self.now, self.sleep)

    def check(self) -> None:
        """Raises OutOfTime."""
        if self.now() >= self.end:
            raise OutOfTime

    def wait(self, moment: float) -> None:
        """Until then, or until the end of the run. Raises OutOfTime."""
        self.check()
        self.sleep(max(0.0, min(moment, self.end) - self.now()))
        self.check()


class Pace:
    """So many of something (bytes, requests) each second, 0 for any number; what is taken is waited for afterwards."""

    def __init__(self, rate: float, clock: Clock) -> None:
        self.rate, self.clock, self.free, self.taken = rate, clock, 0.0, 0

    def take(self, amount: int) -> None:
        """Wait for what was taken before. Raises OutOfTime, and then nothing is taken."""
        self.clock.wait(self.free)
        self.taken += amount
        if self.rate:
            self.free = max(self.free, self.clock.now()) + amount / self.rate
