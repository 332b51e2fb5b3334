# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mirror on this machine, deployed with the collection's own playbook and taken off again. Needs root."""

from __future__ import annotations

import contextlib
import json
import os
import re
import subprocess
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PORT = 18765
URL = f"http://127.0.0.1:{PORT}"
CONFIG, CACHE, STATE, LOG, RUN = (Path(f"/{path}/nearby-mirror-test") for path in ("etc", "var/cache", "var/lib", "var/log", "run"))
FOLDERS = [CONFIG, CACHE, STATE, LOG, RUN]
# Beside a mirror that somebody runs on this machine.
SETTINGS = {
    "mirror_port": PORT,
    "mirror_config_path": str(CONFIG),
    "mirror_cache_path": str(CACHE),
    "mirror_temp_path": f"{STATE}/temp",
    "mirror_fetcher_path": f"{CACHE}-fetchers",
    "mirror_log_path": str(LOG),
    "mirror_run_path": str(RUN),
    "__mirror_state_path": str(STATE),
}


def environment() -> dict[str, str]:
    """This process's own, with what has modules start sooner."""
    return os.environ | {"PYTHONPATH": str(Path(__file__).with_name("preloaded"))}


def quickstart(*arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """One run of the quickstart playbook with the given variables."""
    return playbook("quickstart", *arguments, **SETTINGS | variables)


def rotate(state: Path) -> subprocess.CompletedProcess[str]:
    """One run of logrotate, as each night's; `state` is where it keeps when it did what."""
    return run("logrotate", "--force", "--state", str(state), f"/etc/logrotate.d/{CONFIG.name}")


def playbook(name: str, *arguments: str, **variables: Any) -> subprocess.CompletedProcess[str]:
    """One run of a playbook of the collection."""
    return run(*command(name, *arguments, **variables))


def run(*begun: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(begun, env=environment(), capture_output=True, text=True, timeout=900, check=False)


def command(name: str, *arguments: str, **variables: Any) -> list[str]:
    return ["ansible-playbook", f"nearby.mirrors.{name}", *arguments, "-e", json.dumps(variables)]


def start(name: str, **variables: Any) -> subprocess.Popen[str]:
    """A run of a playbook that is under way, in a process group of its own."""
    begun = command(name, **SETTINGS | variables)
    return subprocess.Popen(begun, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True)


def recap(output: str) -> dict[str, int]:
    """The counters in the last line that ansible-playbook printed."""
    return {key: int(value) for key, value in re.findall(r"(\w+)=(\d+)", output.strip().splitlines()[-1])}


@contextlib.contextmanager
def deployed(*within: str, **variables: Any) -> Iterator[str]:
    """The mirror's base URL while it is there; afterwards nothing of it is left.

    ``variables`` are the role's, and ``within`` is the beginning of a command that the playbook, and so the server, is started by.
    """
    scheme = "https" if variables.get("mirror_tls_certificate") else "http"
    url = f"{scheme}://{variables.get('mirror_fqdn', '127.0.0.1')}:{variables.get('mirror_port', PORT)}"
    assert os.geteuid() == 0, "This deploys a mirror on this machine; run it as root."
    here = [str(folder) for folder in FOLDERS if folder.exists()]
    assert not here, f"A mirror is deployed on this machine already ({here[0]}); take it off first (make clean-quickstart)."
    result = run(*within, *command("quickstart", **SETTINGS | variables))
    try:
        assert result.returncode == 0, result.stdout + result.stderr
        yield url
    finally:
        removed = quickstart(mirror_state="absent")
        assert removed.returncode == 0, removed.stdout + removed.stderr
    assert not [folder for folder in FOLDERS if folder.exists()]
    with contextlib.suppress(OSError):
        urllib.request.urlopen(f"{url}/health", timeout=5)
        raise AssertionError("It still answers.")
