# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What one run leaves to the next, in a file that is always whole, whenever the run is killed."""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Callable
from typing import IO, Any

from .base import BadInput

VERSION = 1
EVERY = 1.0  # seconds between two writes, where nothing was purged


class State:
    """`after` has, for each site, the last artifact that was looked at in its round; it lacks sites whose round is over.
    `finished` has the time at which a site's last round ended. `page` is the last page that was looked at, empty where the next
    run begins with the first. `bad` are finds that no report has told yet.

    Without a path, nothing is kept. Only one run at a time has a file; BadInput is raised for the others.
    """

    def __init__(self, path: str, now: Callable[[], float]) -> None:
        self.path, self.now, self.written = path, now, float("-inf")
        self.after: dict[str, list[str]] = {}
        self.finished: dict[str, float] = {}
        self.page: list[str] = []
        self.bad: list[dict[str, Any]] = []
        self.lock: IO[str] | None = None

    def load(self) -> None:
        """Raises BadInput."""
        if not self.path:
            return
        try:
            self.lock = open(self.path + ".lock", "w", encoding="utf-8")  # noqa: SIM115 -- for as long as the run
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise BadInput(f"another scrub runs with the state file {self.path}; wait for its end, or set another state_file") from error
        except OSError as error:
            raise BadInput(f"the state file {self.path} cannot be written ({error.strerror}); set another state_file") from error
        try:
            with open(self.path, encoding="utf-8") as file:
                kept = json.load(file)
            if kept["version"] != VERSION:
                raise ValueError("version {}, where {} is known".format(kept["version"], VERSION))
            self.after, self.finished, self.bad = dict(kept["after"]), dict(kept["finished"]), list(kept["bad"])
            self.page = list(kept.get("page", []))
        except FileNotFoundError:
            return
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise BadInput(f"the state file {self.path} cannot be read ({error}); remove it, and the scrub begins anew") from error

    def told(self) -> None:
        """The finds have been reported."""
        self.bad = []
        self.save()

    def save(self, at_once: bool = True) -> None:
        if not self.lock or not (at_once or self.now() - self.written >= EVERY):
            return
        self.written = self.now()
        kept = {"version": VERSION, "after": self.after, "finished": self.finished, "page": self.page, "bad": self.bad}
        with open(self.path + ".new", "w", encoding="utf-8") as file:
            json.dump(kept, file, indent=1)
            file.flush()
            os.fsync(file.fileno())
        os.replace(self.path + ".new", self.path)
