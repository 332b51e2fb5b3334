# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Kills the playbook's process group after so many tasks that changed something (FAULTS_KILL_AFTER)."""

from __future__ import annotations

import os
import signal

from ansible.plugins.callback import CallbackBase

DOCUMENTATION = r"""
name: killer
type: notification
short_description: Kills the run after so many changes
description: For the fault run only.
requirements: [FAULTS_KILL_AFTER in the environment]
"""


class CallbackModule(CallbackBase):
    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "notification"
    CALLBACK_NAME = "killer"

    def __init__(self, *arguments, **options):
        super().__init__(*arguments, **options)
        self.left = int(os.environ["FAULTS_KILL_AFTER"])

    def v2_runner_on_ok(self, result):
        if result._result.get("changed"):
            self.left -= 1
            if not self.left:
                print(f"killed after: {result.task_name}", flush=True)
                os.killpg(0, signal.SIGKILL)
