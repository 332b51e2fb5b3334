# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lock files of real clients, made through the mirrors of two regions from the real registries.

Each region's mirror has an address and a cache of its own, and a node that the role configure_mirrors pointed at it. The clients have no
way out but the mirror: whatever else they ask goes to a proxy that is not there. Needs root, npm, cargo, go, uv and the registries.
"""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

from deploying import PORT, deployed, playbook
from test_cargo import PROJECT as CRATE
from test_cargo import cargo_tool
from test_golang import MAIN, MOD, go_tool, module_proxy
from test_npm import PROJECT as PACKAGE
from test_npm import configured
from upstreams import NOWHERE

REGIONS = ("127.0.0.1", "127.0.0.2")
NAME = "mirror.regions.test"  # of the mirror of each region
PYPROJECT = """[project]
name = "demo"
version = "0.1.0"
requires-python = ">=3.11"
dependencies = ["flask==3.0.3"]
"""
EXPORT = """uv lock
uv export --frozen --no-emit-project --output-file requirements.txt
uv venv
uv pip sync --require-hashes requirements.txt
"""
# As a region's own name server would: the mirror's name is that of this region's mirror.
NAMED = """mount --bind "$HOME/hosts" /etc/hosts
exec uv lock
"""
# The lock file of each client, what else there is in the project, and what makes the lock file.
CLIENTS = {
    "npm": ("package-lock.json", {"package.json": json.dumps(PACKAGE)}, lambda: ["npm", "install", "--package-lock-only"]),
    "cargo": ("Cargo.lock", CRATE, lambda: [cargo_tool(), "generate-lockfile"]),
    "go": ("go.sum", {"go.mod": MOD, "main.go": MAIN}, lambda: [go_tool(), "mod", "tidy"]),
    "uv": ("uv.lock", {"pyproject.toml": PYPROJECT}, lambda: ["uv", "lock"]),
    "uv, one name": ("uv.lock", {"pyproject.toml": PYPROJECT}, lambda: ["unshare", "--mount", "sh", "-ec", NAMED]),
    "uv export": ("requirements.txt", {"pyproject.toml": PYPROJECT}, lambda: ["sh", "-ec", EXPORT]),
}
ADDRESSED = {"uv"}  # these write the index's own address into their lock files


def lock(client: str, node: Path, address: str) -> str:
    """The lock file that a client makes on a node, with nothing of its own left from before."""
    file, project, command = CLIENTS[client]
    folder, home = node / "srv" / client, node / "home" / client
    for name, text in project.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    home.mkdir(parents=True)
    told = dict(line.split("=", 1) for line in (node / "etc/nearby-mirrors/environment").read_text().splitlines() if "=" in line)
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CARGO_HOME": str(home / "cargo"),
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", f"{Path.home()}/.rustup"),
        "GOENV": "off",
        "GOTOOLCHAIN": "local",
        "GOFLAGS": "-modcacherw",
        "UV_PYTHON_DOWNLOADS": "never",
        "NPM_CONFIG_UPDATE_NOTIFIER": "false",
        **dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE),
        **dict.fromkeys(("no_proxy", "NO_PROXY"), ",".join(REGIONS)),
        **{name: shlex.split(value)[0] for name, value in told.items() if value},
    }
    if client == "uv, one name":
        (home / "hosts").write_text(f"{address} {NAME}\n")
        environment |= {
            name: value.replace(address, NAME) for name, value in environment.items() if name in told or name.lower() == "no_proxy"
        }
    done = subprocess.run(command(), env=environment, cwd=folder, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, f"{client}: {done.stdout}{done.stderr}"
    return (folder / file).read_text()


def test_the_lock_files_of_two_regions_are_the_same(tmp_path: Path) -> None:
    made: dict[str, dict[str, str]] = {client: {} for client in CLIENTS}
    own = {"golang": module_proxy(), "npm": configured("registry").rstrip("/")}
    sites = ["pypi", "cargo", *({"type": type_, "upstream": url} for type_, url in own.items())]
    for address in REGIONS:
        (node := tmp_path / address).mkdir()
        with deployed(mirror_sites=sites, mirror_fqdn=address, mirror_addresses=[address], mirror_aliases=[NAME], mirror_port=PORT) as url:
            baked = playbook("bake", configure_mirrors_root=str(node), configure_mirrors_url=url, configure_mirrors_required=True)
            assert baked.returncode == 0, baked.stdout
            for client, locks in made.items():
                locks[url] = lock(client, node, address)
    for client, locks in made.items():
        (here, first), (there, second) = locks.items()
        assert len(first) > 500 and (here in first, there in second) == (client in ADDRESSED,) * 2, client
        assert first.replace(here, there) == second, f"{client}: the lock files differ in more than the mirror's address"
