#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Installs a real project through a mirror on this machine, with each client, cold and warm, and shows what it took.

Every install goes into a virtual environment of its own, with no cache and no configuration of the client's, so that
each file is asked of the mirror. What the mirror did is read from its own two logs.
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

PROJECT = ("flask", "pandas")
LOGS = "access.log", "upstream.log"
LOG_FLUSH_SECONDS = 1.5  # Nginx writes its logs at least once a second
HITS = {"HIT", "STALE", "UPDATING", "REVALIDATED"}
NOWHERE = "http://127.0.0.1:9"  # a proxy that is not there: who has it has no way out but to a mirror on this machine


def flush(server: int, logs: Path) -> None:
    """Has a server write its logs. Nginx keeps lines back for a while, and writes them when it is to open its logs anew.

    They are to have other names for it meanwhile, to tell when each of its processes has done so; who may not see that waits.
    """
    sizes, end = None, time.monotonic() + 10
    while sizes != (sizes := [(logs / name).stat().st_size for name in LOGS]) and time.monotonic() < end:
        time.sleep(0.3)  # a line follows the last byte of its answer
    if Path(f"/proc/{server}/comm").read_text() != "nginx\n":
        return
    try:
        held(server)
    except PermissionError:
        time.sleep(LOG_FLUSH_SECONDS)
        return
    aside = {logs / name: logs / f"{name}.aside" for name in LOGS}
    for log, other in aside.items():
        log.rename(other)
        log.hardlink_to(other)
    os.kill(server, signal.SIGUSR1)
    end = time.monotonic() + 10
    while (late := held(server) & set(aside.values())) and time.monotonic() < end:
        time.sleep(0.02)
    for other in aside.values():
        other.unlink()
    assert not late, f"a process has not opened its logs anew: {late}"


def held(server: int) -> set[Path]:
    """The files that a server's processes have open. Raises PermissionError where root in a container may not see them."""
    found = set()
    for worker in Path(f"/proc/{server}/task/{server}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError):  # it has ended
            for file in Path(f"/proc/{worker}/fd").iterdir():
                with contextlib.suppress(FileNotFoundError):  # it was closed
                    found.add(file.readlink())
    return found


@dataclass
class Mirror:
    """A mirror on this machine: its base URL and the folders that the role gave it."""

    url: str
    logs: Path = Path("/var/log/nearby-mirror")
    cache: Path = Path("/var/cache/nearby-mirror")
    pid: Path = Path("/run/nearby-mirror/mirror.pid")

    @property
    def engine(self) -> str:
        """As its program is called."""
        return Path("/proc", self.pid.read_text().strip(), "comm").read_text().strip()

    @property
    def index_url(self) -> str:
        with urllib.request.urlopen(f"{self.url}/mirror.json", timeout=10) as response:
            document = json.load(response)
        return self.url + next(site["index"] for site in document["sites"] if site["type"] == "pypi")

    def positions(self) -> dict[str, int]:
        """Where the logs end now, in bytes."""
        flush(int(self.pid.read_text()), self.logs)
        return {name: (self.logs / name).stat().st_size for name in LOGS}

    def since(self, positions: dict[str, int], name: str) -> list[dict]:
        """The lines that a log has got since then."""
        flush(int(self.pid.read_text()), self.logs)
        with (self.logs / name).open(encoding="utf-8") as log:
            log.seek(positions[name])
            return [json.loads(line) for line in log]

    def purge(self) -> None:
        """Empties the cache. Nginx knows what was in it, and has files open, until it is reloaded."""
        for zone in self.cache.iterdir():
            for entry in zone.iterdir() if zone.is_dir() else ():
                shutil.rmtree(entry) if entry.is_dir() else entry.unlink()
        if self.engine == "nginx":
            os.kill(int(self.pid.read_text()), signal.SIGHUP)
            time.sleep(1)


@dataclass
class Install:
    """What one install took. ``access`` and ``upstream`` are the mirror's log lines of it."""

    client: str
    state: str
    seconds: float
    distributions: dict[str, str]
    access: list[dict]
    upstream: list[dict] = field(repr=False)

    @property
    def hits(self) -> int:
        return sum(line["cache"] in HITS for line in self.access)

    @property
    def misses(self) -> int:
        return sum(line["cache"] in {"MISS", "EXPIRED"} for line in self.access)

    @property
    def upstream_bytes(self) -> int:
        return sum(int(number) for line in self.upstream for number in re.findall(r"\d+", line["bytes"]))

    def unaccounted(self) -> list[str]:
        """Distributions that were installed though no file of theirs was fetched from the mirror."""
        served = Counter(
            line["uri"].rsplit("/", 1)[-1].lower().replace("_", "-")
            for line in self.access
            if line["method"] == "GET" and line["status"] in (200, 206)
        )
        return [
            f"{name} {version}"
            for name, version in self.distributions.items()
            if not any(file.startswith(f"{name}-{version}".lower().replace("_", "-")) and not file.endswith(".metadata") for file in served)
        ]


def clean_environment(home: Path, mirror: str) -> dict[str, str]:
    """Nothing of this machine's own settings for pip or uv, and no way out but to the mirror."""
    settings = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "PIP_CONFIG_FILE": os.devnull, "UV_NO_CONFIG": "1"}
    way_out = dict.fromkeys(("http_proxy", "https_proxy", "all_proxy"), NOWHERE) | {"no_proxy": urlsplit(mirror).hostname or ""}
    return settings | way_out


def command(client: str, python: Path, index_url: str, project: tuple[str, ...]) -> list[str]:
    if client == "pip":
        return [
            str(python),
            "-m",
            "pip",
            "install",
            "-q",
            "--no-cache-dir",
            "--disable-pip-version-check",
            "--index-url",
            index_url,
            *project,
        ]
    uv = shutil.which("uv", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if not uv:
        raise SystemExit("uv is not installed; run pip install uv.")
    return [uv, "pip", "install", "-q", "--no-cache", "--python", str(python), "--default-index", index_url, *project]


@functools.cache
def new_environment() -> Path:
    """A virtual environment with pip and nothing else, to be copied: to make one takes longer than many an install."""
    folder = tempfile.TemporaryDirectory(prefix="nearby-venv-")
    atexit.register(folder.cleanup)
    subprocess.run([sys.executable, "-m", "venv", folder.name], check=True)
    return Path(folder.name)


def install(mirror: Mirror, client: str, state: str, project: tuple[str, ...] = PROJECT) -> Install:
    """One install into a new virtual environment. Raises CalledProcessError where the client fails."""
    with tempfile.TemporaryDirectory(prefix="nearby-install-") as folder:
        home = Path(folder)
        environment = clean_environment(home, mirror.url)
        shutil.copytree(new_environment(), home / "venv", symlinks=True)
        python = home / "venv/bin/python"
        listing = [str(python), "-m", "pip", "list", "--format=json", "--disable-pip-version-check"]
        before = json.loads(subprocess.run(listing, check=True, env=environment, capture_output=True).stdout)
        positions = mirror.positions()
        start = time.monotonic()
        subprocess.run(command(client, python, mirror.index_url, project), check=True, env=environment, timeout=900)
        seconds = time.monotonic() - start
        after = json.loads(subprocess.run(listing, check=True, env=environment, capture_output=True).stdout)
        known = {entry["name"] for entry in before}
        return Install(
            client,
            state,
            seconds,
            {entry["name"]: entry["version"] for entry in after if entry["name"] not in known},
            [line for line in mirror.since(positions, "access.log") if line["uri"] != "/mirror.json"],
            mirror.since(positions, "upstream.log"),
        )


def table(installs: list[Install]) -> str:
    """The installs as a table for a terminal."""
    head = f"{'client':<8}{'cache':<8}{'seconds':>8}{'packages':>10}{'HIT':>6}{'MISS':>6}{'from upstream':>16}"
    rows = [
        f"{one.client:<8}{one.state:<8}{one.seconds:>8.1f}{len(one.distributions):>10}{one.hits:>6}{one.misses:>6}"
        f"{one.upstream_bytes / 1e6:>13.1f} MB"
        for one in installs
    ]
    return "\n".join([head, "-" * len(head), *rows])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mirror", required=True, help="base URL of the mirror on this machine")
    parser.add_argument(
        "--purge", action="store_true", help="empty the mirror's cache before each client, so that the first install is cold"
    )
    parser.add_argument("--clients", nargs="+", default=["pip", "uv"], choices=["pip", "uv"])
    parser.add_argument("project", nargs="*", default=list(PROJECT), help="what to install (default: %(default)s)")
    arguments = parser.parse_args()
    mirror = Mirror(arguments.mirror.rstrip("/"))
    installs = []
    for client in arguments.clients:
        if arguments.purge:
            mirror.purge()
        for state in ("cold", "warm"):
            print(f"{client} installs {' '.join(arguments.project)}, {state} ...", file=sys.stderr, flush=True)
            try:
                installs.append(install(mirror, client, state, tuple(arguments.project)))
            except subprocess.CalledProcessError as error:
                raise SystemExit(f"{client} failed with exit code {error.returncode}; {mirror.logs}/error.log may say why.") from None
    missing = {f"{one.client}: {name}" for one in installs for name in one.unaccounted()}
    print(f"\n{table(installs)}\n")
    if missing:
        raise SystemExit(f"Installed, but not in the mirror's log: {', '.join(sorted(missing))}.")
    print(f"Every file came through the mirror, which is running at {mirror.url}/ (make clean-quickstart takes it off).")


if __name__ == "__main__":
    main()
