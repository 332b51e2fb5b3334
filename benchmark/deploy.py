# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The wall time of the playbooks, against containers that boot systemd (molecule/shared). Needs root."""

from __future__ import annotations

import contextlib
import os
import re
import statistics
import subprocess
import sys
import time
import typing as t
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
LAB = REPOSITORY / "molecule" / "shared"
SETTINGS = """\
[defaults]
forks = 8
task_timeout = 600
[ssh_connection]
pipelining = true
ssh_args = -F '{lab}/ssh_config' -o ControlMaster=auto -o ControlPersist=60s
"""


class Lab:
    """Fresh hosts, from a ``with`` statement's begin to its end."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "ansible.cfg").write_text(SETTINGS.format(lab=LAB))

    def __enter__(self) -> Lab:
        self.play(LAB / "destroy.yml")
        with contextlib.ExitStack() as stack:
            stack.callback(self.__exit__)
            self.play(LAB / "create.yml")
            self.play(REPOSITORY / "molecule" / "default" / "prepare.yml", "--limit", "upstreams")
            stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.play(LAB / "destroy.yml")

    def play(self, playbook: str | Path, *arguments: str) -> tuple[float, int]:
        """Run a playbook; the seconds it took, and how many tasks changed something. Raises RuntimeError with its output."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))} | {
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".collections"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "MOLECULE_EPHEMERAL_DIRECTORY": str(self.folder),
            "MOLECULE_SCENARIO_NAME": "benchmark",
        }
        command = [str(Path(sys.executable).parent / "ansible-playbook"), str(playbook), "-i", str(HERE / "inventory"), *arguments]
        began = time.monotonic()
        done = subprocess.run(
            command, env=environment, cwd=self.folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False
        )
        seconds = time.monotonic() - began
        if done.returncode:
            raise RuntimeError(f"{Path(playbook).name} {' '.join(arguments)} failed:\n{done.stdout[-6000:]}")
        return seconds, sum(int(count) for count in re.findall(r"\bchanged=(\d+)", done.stdout))


def run(lab: Lab, number: int) -> dict[str, float]:
    """Deploy the mirror of that number for the first time and again, and point the node at a mirror."""
    mirror = ("--limit", f"mirror{number}.benchmark.test")
    first, _changed = lab.play("nearby.mirrors.site", *mirror)
    second, changed = lab.play("nearby.mirrors.site", *mirror)
    node, pointed = lab.play("nearby.mirrors.nodes")
    if not pointed:
        raise RuntimeError("configure_mirrors changed nothing on a node that had no mirror.")
    again, again_changed = lab.play("nearby.mirrors.nodes")
    lab.play("nearby.mirrors.nodes", "--extra-vars", "configure_mirrors_state=absent")
    return {
        "first_seconds": first,
        "second_seconds": second,
        "second_changed": changed,
        "configure_mirrors_seconds": node,
        "configure_mirrors_second_seconds": again,
        "configure_mirrors_second_changed": again_changed,
    }


def summary(runs: list[dict[str, float]]) -> dict[str, t.Any]:
    """Medians over the repetitions, but the most that a second run changed."""
    medians: dict[str, t.Any] = {name: round(statistics.median(run[name] for run in runs), 1) for name in runs[0]}
    return {"repetitions": len(runs), **medians, **{name: max(run[name] for run in runs) for name in runs[0] if name.endswith("_changed")}}
