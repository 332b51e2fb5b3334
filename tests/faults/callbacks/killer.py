# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills the playbook, its workers and what these run, at a point that FAULTS_KILL says, a JSON object.

{"results": n} after so many results of tasks; {"changes": n} after so many that changed something;
{"task": text, "seconds": s} so long after a task began whose name has that text, unless the task has ended by then.
"""

from __future__ import annotations

import contextlib
import json
import multiprocessing
import os
import signal
import threading

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: killer
type: notification
short_description: Kills the run at a point
description: For the fault run only.
requirements: [FAULTS_KILL in the environment]
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "killer"

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.point = json.loads(os.environ["FAULTS_KILL"])
        self.results = self.changes = 0
        self.timer = None

    def kill(self, where):
        print(f"\nkilled {where}", flush=True)
        for worker in multiprocessing.active_children():  # each has a session of its own, or soon will
            for kill in (os.killpg, os.kill):
                with contextlib.suppress(ProcessLookupError):
                    kill(worker.pid, signal.SIGKILL)
        os.killpg(0, signal.SIGKILL)

    def v2_playbook_on_task_start(self, task, is_conditional):
        if "task" in self.point and self.point["task"] in task.get_name():
            self.timer = threading.Timer(self.point["seconds"], self.kill, [f"{self.point['seconds']} s into: {task.get_name()}"])
            self.timer.start()

    def v2_runner_on_ok(self, result):
        if self.timer:
            self.timer.cancel()
        self.results += 1
        self.changes += bool(result._result.get("changed"))
        if self.results == self.point.get("results") or (result._result.get("changed") and self.changes == self.point.get("changes")):
            self.kill(f"after: {result.task_name}")
