# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The README's first command on a fresh Debian, with PyPI itself as upstream, and its undoing. Needs root and containers."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PREREQUISITES = "apt-get update -q && apt-get install -qy --no-install-recommends git make python3"
PACKAGES = "dpkg-query --show --showformat='${db:Status-Status} ${binary:Package}\\n' | sort"
FOLDERS = "ls -d /etc/nearby-mirror /var/*/nearby-mirror /run/nearby-mirror /root/nearby/.venv 2>/dev/null || true"


def run(*command: str, **options) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=900, check=False, **options)


class Machine:
    """A container with nothing on it but a minimal Debian, and no init system."""

    def __init__(self, suite: str) -> None:
        built = run(sys.executable, str(ROOT / "molecule/shared/image.py"), suite)
        assert built.returncode == 0, built.stderr
        image = json.loads(built.stdout)["images"][suite]
        self.name = f"quickstart-{suite}"
        version = run("stat", "--file-system", "--format=%T", "/sys/fs/cgroup").stdout.strip()
        runtime = [] if version == "cgroup2fs" else ["--runtime", "runc"]
        limits = ["--ulimit", "nofile=16384:16384", "--ulimit", "nproc=16384:16384"]
        started = run("podman", "run", "--detach", "--replace", *runtime, *limits, "--name", self.name, image, "sleep", "3000")
        assert started.returncode == 0, started.stderr

    def shell(self, script: str, **options) -> str:
        result = run("podman", "exec", "--interactive", self.name, "bash", "-euo", "pipefail", "-c", script, **options)
        assert result.returncode == 0, f"{script}\n{result.stdout[-6000:]}\n{result.stderr[-3000:]}"
        return result.stdout


@pytest.fixture(scope="module", params=["bookworm", "trixie"])
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    machine = Machine(request.param)
    try:
        machine.shell(PREREQUISITES)
        files = run("git", "-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard").stdout.splitlines()
        present = [file for file in files if (ROOT / file).exists()]
        archive = subprocess.run(["tar", "--create", "--directory", str(ROOT), *present], capture_output=True, check=True).stdout
        unpack = [
            "podman",
            "exec",
            "--interactive",
            machine.name,
            "sh",
            "-c",
            "mkdir /root/nearby && tar --extract --directory /root/nearby",
        ]
        subprocess.run(unpack, input=archive, check=True)
        yield machine
    finally:
        run("podman", "rm", "--force", "--time", "0", machine.name)


@pytest.mark.timeout(1500)  # images are made
def test_one_command_up_and_one_down(machine: Machine) -> None:
    before = machine.shell(PACKAGES)
    output = machine.shell("cd /root/nearby && make quickstart")
    rows = re.findall(r"^(pip|uv) +(cold|warm) +([\d.]+) +(\d+) +(\d+) +(\d+) +([\d.]+) MB$", output, re.MULTILINE)
    assert [row[:2] for row in rows] == [("pip", "cold"), ("pip", "warm"), ("uv", "cold"), ("uv", "warm")], output[-3000:]
    print(output[output.index("client  ") :])
    for _client, state, _seconds, packages, _hits, misses, megabytes in rows:
        assert int(packages) > 5
        assert (int(misses) > 0) == (state == "cold")
        assert (float(megabytes) > 1) == (state == "cold")
    assert "running at http://127.0.0.1:8080/" in output
    ask = "import urllib.request as u; print(u.urlopen('http://127.0.0.1:8080/health').read().decode())"
    assert machine.shell(f'python3 -c "{ask}"').strip() == "ok"

    machine.shell("cd /root/nearby && make clean-quickstart")
    assert machine.shell(PACKAGES) == before
    assert machine.shell(FOLDERS) == ""
