# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Lock files of real clients, made through the mirrors of two regions from the real registries, and made without a mirror.

Each region's mirror has an address and a cache of its own, and a node that the role configure_mirrors pointed at it. The clients have no
way out but the mirror: whatever else they ask goes to a proxy that is not there. Needs root, npm, cargo, go, uv and the registries.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.sites import resolve_sites
from deploying import CACHE, LOG, PORT, RUN, deployed, playbook
from installs import NOWHERE, Mirror, new_environment
from packageurl.validate import DEFINITIONS_BY_TYPE
from test_cargo import PROJECT as CRATE
from test_cargo import cargo_tool
from test_golang import MAIN, MOD, go_tool, module_proxy
from test_npm import PROJECT as PACKAGE
from test_npm import configured
from upstreams import reached

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
# How requirements with hashes are made, and how they are installed into ./venv.
MADE = {
    "compile": "uv pip compile --quiet --generate-hashes --output-file requirements.txt pyproject.toml",
    "export": "uv lock --quiet; uv export --quiet --frozen --no-emit-project --output-file requirements.txt",
}
YARN = "node $YARN install --non-interactive"
INSTALLED = {
    "pip": "venv/bin/python -m pip install --quiet --require-hashes --requirement requirements.txt",
    "uv pip": "uv pip sync --quiet --python venv/bin/python --require-hashes requirements.txt",
}


@pytest.fixture(scope="module", autouse=True)
def registries() -> None:
    """They answer from here, or the tests say so."""
    urls = {name: DEFINITIONS_BY_TYPE[name].default_repository_url for name in ("pypi", "cargo")}
    index = resolve_sites(["cargo"], lambda _type: urls["cargo"], {}, [], 80)[0]["upstream"]
    reached(f"{urls['pypi']}/simple/flask/", "PyPI")
    reached(f"{index}/config.json", "the Rust crate registry")
    reached(f"{module_proxy()}/golang.org/x/sync/@v/list", "the Go module proxy")
    reached(f"{configured('registry').rstrip('/')}/isarray", "the npm registry")


def told(node: Path) -> dict[str, str]:
    """The variables that a node's clients get from the role."""
    lines = (node / "etc/nearby-mirrors/environment").read_text().splitlines()
    pairs = (line.split("=", 1) for line in lines if "=" in line)
    return {name: shlex.split(value)[0] for name, value in pairs if value}


def lock(client: str, node: Path, address: str) -> str:
    """The lock file that a client makes on a node, with nothing of its own left from before."""
    file, project, command = CLIENTS[client]
    folder, home = node / "srv" / client, node / "home" / client
    for name, text in project.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    home.mkdir(parents=True)
    ours = told(node)
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
        **ours,
    }
    if client == "uv, one name":
        (home / "hosts").write_text(f"{address} {NAME}\n")
        environment |= {
            name: value.replace(address, NAME) for name, value in environment.items() if name in ours or name.lower() == "no_proxy"
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


@dataclass
class Job:
    """A project in a folder of its own, with a mirror nearby."""

    mirror: Mirror
    told: dict[str, str]
    yarn: Path
    folder: Path

    def run(self, command: str, through: bool = True, way_out: bool = False) -> tuple[subprocess.CompletedProcess[str], list[str]]:
        """A command with nothing of the client's own left from before, and the paths that the mirror was asked for meanwhile.

        It is configured as the role does it and has no way out but the mirror; or one as well; or it is as without a mirror.
        """
        home = tempfile.mkdtemp(prefix="home-", dir=self.folder)
        for left in "node_modules", ".venv":
            shutil.rmtree(self.folder / left, ignore_errors=True)
        environment = {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOME": home, "UV_PYTHON_DOWNLOADS": "never"}
        environment |= {"YARN": str(self.yarn), "YARN_CACHE_FOLDER": f"{home}/yarn"}
        environment |= {name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS") if name in os.environ}
        environment |= self.told if through else {"NPM_CONFIG_REGISTRY": configured("registry")}
        if through and not way_out:
            environment |= dict.fromkeys(("http_proxy", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"), NOWHERE)
            environment |= dict.fromkeys(("no_proxy", "NO_PROXY"), "127.0.0.1")
        positions = self.mirror.positions()
        done = subprocess.run(
            ["sh", "-ec", command], env=environment, cwd=self.folder, capture_output=True, text=True, timeout=300, check=False
        )
        return done, [line["uri"] for line in self.mirror.since(positions, "access.log") if line["status"] in (200, 304)]

    def lock(self, command: str, file: str) -> str:
        """The lock file that a command makes without the mirror."""
        done, asked = self.run(command, through=False)
        assert done.returncode == 0 and not asked, done.stdout + done.stderr
        made = (self.folder / file).read_text()
        assert len(made) > 500 and self.mirror.url not in made
        return made


@pytest.fixture(scope="class")
def region(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Mirror, dict[str, str], Path]]:
    node, tools = tmp_path_factory.mktemp("node"), tmp_path_factory.mktemp("tools")
    subprocess.run(["npm", "install", "--silent", "--prefix", tools, "yarn@1"], check=True, timeout=300)
    with deployed(mirror_sites=["pypi", {"type": "npm", "upstream": configured("registry").rstrip("/")}]) as url:
        baked = playbook("bake", configure_mirrors_root=str(node), configure_mirrors_url=url, configure_mirrors_required=True)
        assert baked.returncode == 0, baked.stdout
        yield Mirror(url, LOG, CACHE, RUN / "mirror.pid"), told(node), tools / "node_modules/yarn/bin/yarn.js"


@pytest.fixture
def job(region: tuple[Mirror, dict[str, str], Path], tmp_path: Path) -> Job:
    (tmp_path / "pyproject.toml").write_text(PYPROJECT)
    (tmp_path / "package.json").write_text(json.dumps(PACKAGE))
    return Job(*region, tmp_path)


class TestMadeWithoutAMirror:
    @pytest.mark.parametrize("made", MADE)
    @pytest.mark.parametrize("installed", INSTALLED)
    def test_requirements_with_hashes_install_through_one(self, job: Job, made: str, installed: str) -> None:
        pinned = set(re.findall(r"(?m)^([\w.-]+)==([\w.]+) \\$", job.lock(MADE[made], "requirements.txt")))
        assert len(pinned) > 5
        shutil.copytree(new_environment(), job.folder / "venv", symlinks=True)
        done, asked = job.run(INSTALLED[installed])
        assert done.returncode == 0, done.stdout + done.stderr
        files = {uri.rpartition("/")[2].lower().replace("_", "-") for uri in asked if not uri.endswith(".metadata")}
        for name, version in pinned:
            assert any(file.startswith(f"{name.lower()}-{version}") for file in files), f"{name} {version} did not come through the mirror"
        assert (job.folder / "venv/bin/flask").exists()

    @pytest.mark.parametrize(
        ("file", "lock", "install"),
        [
            ("uv.lock", "uv lock", "uv sync --frozen"),
            ("yarn.lock", YARN, f"{YARN} --frozen-lockfile"),
        ],
        ids=["uv", "yarn 1"],
    )
    def test_these_lead_past_one(self, job: Job, file: str, lock: str, install: str) -> None:
        """Each goes where its lock file says, which is nowhere for a node that reaches the mirror alone."""
        said = job.lock(lock, file)
        hosts = {urlsplit(url).hostname for url in re.findall(r"https?://[^\s\"#]+", said)}
        refused, asked = job.run(install)
        assert refused.returncode and not asked, refused.stdout + refused.stderr
        assert any(str(host) in refused.stdout + refused.stderr for host in hosts), refused.stdout + refused.stderr
        done, asked = job.run(install, way_out=True)
        assert done.returncode == 0 and not asked, done.stdout + done.stderr
        assert (job.folder / file).read_text() == said
        (job.folder / file).unlink()
        done, asked = job.run(lock)
        assert done.returncode == 0 and asked, "without its lock file it asks the mirror: " + done.stdout + done.stderr
