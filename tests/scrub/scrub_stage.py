# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A mirror in front of a fixture registry, its store, and the module run on it as an operator runs it."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import subprocess
import sys
import typing as t
from pathlib import Path

import bench
from registry import Artifact, Registry

SLICE = 64 * 1024  # so that many of the files have several slices
SITE = "pypi"


@dataclasses.dataclass
class Scrubbed:
    """Any mirror."""

    mirror: bench.Mirror
    state: Path

    def fetch(self, path: str) -> bytes:
        """What a client gets at a path of the mirror."""
        reply = self.mirror.get(path)
        assert reply.status == 200 and reply.complete, bench.show(reply)
        return reply.body

    def files(self, path: str) -> list[tuple[Path, int]]:
        """The files of the store that hold what is at a path, in the order of its bytes, and where in them it begins."""
        if self.mirror.engine == "apache":
            headers = (self.mirror.root / "cache").rglob("*.header")
            return [(file.with_suffix(".data"), 0) for file in headers if f"{path}?".encode() in file.read_bytes()]
        key, found = re.compile(rb"\|%s\|(?:bytes=(\d+)-\d+)?\n" % re.escape(path.encode())), {}
        for file in (self.mirror.root / "cache" / "artifact").rglob("*"):
            if file.is_file() and (part := key.search(content := file.read_bytes()[:4096])):
                found[int(part[1] or 0)] = file, content.index(b"\r\n\r\n") + 4
        return [found[start] for start in sorted(found)]

    def flip_bit(self, path: str, place: float = 0.5) -> None:
        """Flip one bit as a failing disk does, in the file itself and under the running server; 0 is the first byte, 1 the last."""
        parts = [(file, begin, file.stat().st_size - begin) for file, begin in self.files(path)]
        position = int(place * (sum(length for _file, _begin, length in parts) - 1))
        for part, begin, length in parts:
            if position < length:
                with part.open("r+b") as file:
                    file.seek(begin + position)
                    byte = file.read(1)
                    file.seek(begin + position)
                    file.write(bytes([byte[0] ^ 0x10]))
                return
            position -= length
        raise AssertionError(f"{path} is not stored")

    def command(self, **options: t.Any) -> list[str]:
        given = {
            "document": f"{self.mirror.root}/etc/www/mirror.json",
            "cache_path": f"{self.mirror.root}/cache",
            "state_file": str(self.state),
            "request_rate": 0,
            "read_rate": 0,
            **options,
        }
        check = ["--check"] if given.pop("check_mode", False) else []
        ansible = str(Path(sys.executable).parent / "ansible")
        return [ansible, "localhost", "-m", "nearby.mirrors.scrub", "-a", json.dumps(given), *check]

    @property
    def environment(self) -> dict[str, str]:
        return {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(bench.REPOSITORY / ".collections"),
            "ANSIBLE_LOCAL_TEMP": str(self.mirror.root / "ansible"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_NOCOLOR": "1",
        }

    def scrub(self, **options: t.Any) -> dict[str, t.Any]:
        """Run the module through Ansible; what it returned."""
        done = subprocess.run(self.command(**options), env=self.environment, capture_output=True, text=True, check=False)
        told, arrow, result = done.stdout.partition("=> ")
        assert arrow, done.stdout + done.stderr
        return {"failed": "FAILED" in told, **json.loads(result)}


@dataclasses.dataclass
class Stage(Scrubbed):
    """A mirror of PyPI."""

    registry: Registry

    def path(self, artifact: Artifact) -> str:
        return f"/{SITE}/files{artifact.path}"

    def get(self, artifact: Artifact) -> bytes:
        return self.fetch(self.path(artifact))

    def stored(self, artifact: Artifact) -> list[tuple[Path, int]]:
        return self.files(self.path(artifact))

    def flip(self, artifact: Artifact, place: float = 0.5) -> None:
        self.flip_bit(self.path(artifact), place)

    def pages(self, name: str) -> list[Path]:
        """The files of the store that hold a project's pages."""
        files = [file for file in self.mirror.cached() if f"/{SITE}/simple/{name}/".encode() in file.read_bytes()[:4096]]
        return [file.with_suffix(".data") for file in files if file.suffix == ".header"] if self.mirror.engine == "apache" else files

    def play(self, **variables: t.Any) -> tuple[int, str]:
        """Run the playbook; its exit code, and what it told."""
        current = self.mirror.root / "etc" / "current"
        if not current.exists():
            current.symlink_to(".")
        given = {
            "ansible_connection": "local",
            "mirror_config_path": f"{self.mirror.root}/etc",
            "mirror_cache_path": f"{self.mirror.root}/cache",
            "nearby_scrub_state_file": str(self.state),
            "nearby_mirrors": "all",
            **variables,
        }
        playbook = str(Path(sys.executable).parent / "ansible-playbook")
        command = [playbook, "nearby.mirrors.scrub", "--inventory", "mirror.test,", "--extra-vars", json.dumps(given)]
        done = subprocess.run(command, env=self.environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False)
        return done.returncode, done.stdout

    def module_process(self) -> int:
        """The process that holds the state file."""
        inode = Path(f"{self.state}.lock").stat().st_ino
        (line,) = (line for line in Path("/proc/locks").read_text().splitlines() if f":{inode} " in line)
        return int(line.split()[4])

    def publish(self, name: str, releases: int, size: int) -> list[Artifact]:
        """A project's new wheels, stored by the mirror."""
        for number in range(1, releases + 1):
            self.registry.publish(name, f"{number}.0", "wheel", size)
        artifacts = self.registry.projects[name].artifacts
        for artifact in artifacts:
            assert self.get(artifact) == artifact.content
        return artifacts
