# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""npm, pnpm and both yarns against the real npm registry, through a mirror that is deployed on this machine.

They read what the role configure_mirrors wrote for a user, and have no way out but the mirror: whatever else they ask goes to a proxy
that is not there. Needs root, npm and the registry.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from installs import HITS, NOWHERE, Mirror
from upstreams import EACH, FIRST, Names, bodies, cut_off, environment_of, mirror_of, reached, written

from registry import free_port  # isort: skip

# A scoped package, one with dependencies, one whose dependencies have none of their own.
PROJECT = {"name": "demo", "version": "1.0.0", "dependencies": {"@sindresorhus/is": "4.6.0", "chalk": "4.1.2", "isarray": "2.0.5"}}
CLIENTS = {
    "pnpm": ("pnpm@9", "pnpm/bin/pnpm.cjs"),
    "yarn 1": ("yarn@1", "yarn/bin/yarn.js"),
    "yarn 4": ("@yarnpkg/cli-dist@4", "@yarnpkg/cli-dist/bin/yarn.js"),
}
INSTALL = {
    "npm": ["npm", "install"],
    "pnpm": ["install", "--no-frozen-lockfile"],
    "yarn 1": ["install", "--non-interactive"],
    "yarn 4": ["install", "--no-immutable"],
}
LOCKS = {"npm": "package-lock.json", "pnpm": "pnpm-lock.yaml", "yarn 1": "yarn.lock", "yarn 4": "yarn.lock"}
NEUTRAL = {"npm", "pnpm", "yarn 4"}


def configured(name: str) -> str:
    """A setting of npm as this machine has it."""
    npm = shutil.which("npm") or pytest.fail("npm is not installed; run make host")
    return subprocess.run([npm, "config", "get", name], capture_output=True, text=True, check=True, cwd="/").stdout.strip()


@pytest.fixture(scope="module")
def upstream() -> str:
    url = configured("registry").rstrip("/")
    reached(f"{url}/isarray", "the npm registry")
    return url


@pytest.fixture(scope="module")
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the clients are that npm itself brings."""
    folder = tmp_path_factory.mktemp("tools")
    subprocess.run(
        ["npm", "install", "--silent", "--prefix", folder, *(package for package, _program in CLIENTS.values())], check=True, timeout=300
    )
    return folder / "node_modules"


@pytest.fixture(scope="module")
def both(upstream: str, request: pytest.FixtureRequest) -> Iterator[tuple[Mirror, Names]]:
    site = {"type": "npm", "upstream": upstream, "port": free_port()}
    with mirror_of(site, urls=[upstream], mirror_engine=request.param) as both:
        yield both


@pytest.fixture
def home(both: tuple[Mirror, Names], tmp_path: Path) -> Path:
    """The home of a user whose clients the role has pointed at the mirror."""
    return written(both[0], tmp_path / "home")


@dataclass
class Install:
    lock: str
    packages: set[str]
    access: list[dict]
    upstream: list[dict]


def surroundings(folder: Path, client: str, registry: str | Path, **more: str) -> dict[str, str]:
    """The client's variables where its registry is given as a URL, or as the home that the role wrote to; closed where that is here."""
    closed = isinstance(registry, Path) or "127.0.0.1" in registry
    way_out = {"HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE, "NO_PROXY": "127.0.0.1"} if closed else {}
    if isinstance(registry, Path):  # npm's file is to say it all
        told = {name: value for name, value in environment_of(registry).items() if name.startswith("YARN_")}
        shutil.copy(registry / ".npmrc", folder)
    else:
        told = {"NPM_CONFIG_REGISTRY": registry, "YARN_NPM_REGISTRY_SERVER": registry, "YARN_UNSAFE_HTTP_WHITELIST": "127.0.0.1"}
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "COREPACK_ENABLE_STRICT": "0",
        "NPM_CONFIG_AUDIT": "false",
        "NPM_CONFIG_UPDATE_NOTIFIER": "false",
        "XDG_DATA_HOME": str(folder / "data"),
        "YARN_NODE_LINKER": "node-modules",
        "YARN_ENABLE_TELEMETRY": "0",
        "YARN_CACHE_FOLDER": str(folder / "cache"),
        **({"YARN_HTTPS_PROXY": NOWHERE} if way_out and client == "yarn 4" else {}),
        **{name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR", "NODE_EXTRA_CA_CERTS") if name in os.environ},
        **told,
        **way_out,
        **more,
    }


def install(mirror: Mirror, folder: Path, client: str, tools: Path, registry: str | Path, lock: str = "", **more: str) -> Install:
    """Install the project with nothing of the client's own left from before."""
    shutil.rmtree(folder, ignore_errors=True)
    project = folder / "project"
    project.mkdir(parents=True)
    (project / "package.json").write_text(json.dumps(PROJECT))
    (project / LOCKS[client]).write_text(lock) if lock else None
    environment = surroundings(folder, client, registry, **more)
    positions = mirror.positions()
    program = INSTALL[client] if client == "npm" else ["node", str(tools / CLIENTS[client][1]), *INSTALL[client]]
    done = subprocess.run(program, env=environment, cwd=project, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    says = subprocess.run(
        ["node", "-e", "console.log(require('isarray')([]), typeof require('chalk').red)"],
        cwd=project,
        capture_output=True,
        text=True,
        check=True,
    )
    assert says.stdout == "true function\n"
    locked = (project / LOCKS[client]).read_text()
    return Install(
        locked,
        set(re.findall(r"[\w.-]+-\d+\.\d+\.\d+(?=\.tgz)", locked))
        or {f"{name.rpartition('/')[2]}-{version}" for name, version in named(locked)},
        mirror.since(positions, "access.log"),
        mirror.since(positions, "upstream.log"),
    )


def named(lock: str) -> set[tuple[str, str]]:
    """Name and version of each package in a lock file that holds no addresses."""
    if lock.startswith("{"):
        packages = json.loads(lock)["packages"]
        return {(path.rpartition("node_modules/")[2], entry["version"]) for path, entry in packages.items() if path}
    return set(re.findall(r"""(?m)^ *(?:resolution: )?['"]?(@?[\w./-]+)@(?:npm:)?(\d+\.\d+\.\d+)['"]?:?$""", lock))


@EACH
def test_a_real_project_installs_cold_then_cut_off(
    both: tuple[Mirror, Names], home: Path, upstream: str, tools: Path, tmp_path: Path
) -> None:
    installs(both, home, upstream, tools, tmp_path, "npm")


@FIRST
@pytest.mark.parametrize("client", CLIENTS)
def test_so_does_another_client(both: tuple[Mirror, Names], home: Path, upstream: str, tools: Path, tmp_path: Path, client: str) -> None:
    installs(both, home, upstream, tools, tmp_path, client)


def installs(both: tuple[Mirror, Names], home: Path, upstream: str, tools: Path, tmp_path: Path, client: str) -> None:
    """Cold, warm, and cut off."""
    mirror, names = both
    direct = install(mirror, tmp_path / "direct", client, tools, upstream + "/", NPM_CONFIG_OMIT_LOCKFILE_REGISTRY_RESOLVED="true")
    assert not direct.access and len(direct.packages) >= 7
    mirror.purge()
    cold = install(mirror, tmp_path / "cold", client, tools, home)
    assert (cold.lock == direct.lock) == (client in NEUTRAL), "whether a lock file holds an address"
    assert tarballs(cold) == cold.packages
    assert bodies(mirror, f"{client}, cold", cold.access, cold.upstream)
    install(mirror, tmp_path / "seen", client, tools, home, cold.lock)  # from such a lock file npm asks for whole documents
    warm = install(mirror, tmp_path / "warm", client, tools, home)
    with cut_off(names, f"{mirror.url}/npm/never-asked-for"):
        again = install(mirror, tmp_path / "again", client, tools, home)
        locked = install(mirror, tmp_path / "locked", client, tools, home, cold.lock)
    for state, one in {"warm": warm, "cut off": again, "cut off, with a lock": locked}.items():
        assert (one.lock, one.packages) == (cold.lock, cold.packages)
        assert {line["cache"] for line in one.access if line["status"] == 200} <= HITS, "not from the cache"
        assert bodies(mirror, f"{client}, {state}", one.access, one.upstream) == [], "fetched from upstream"


def tarballs(install: Install) -> set[str]:
    """Those that came through the mirror."""
    served = {unquote(line["uri"]) for line in install.access if line["status"] == 200}
    return {path.rpartition("/-/")[2].removesuffix(".tgz") for path in served if path.endswith(".tgz")}


@EACH
def test_at_the_root_of_a_host_npm_installs_cold_then_cut_off_and_without_an_audit(
    both: tuple[Mirror, Names], tools: Path, tmp_path: Path
) -> None:
    mirror, names = both
    with urllib.request.urlopen(f"{mirror.url}/mirror.json", timeout=10) as response:
        (port,) = (site["port"] for site in json.load(response)["sites"])
    root = f"http://127.0.0.1:{port}/"
    mirror.purge()
    cold = install(mirror, tmp_path / "cold", "npm", tools, root, NPM_CONFIG_AUDIT="true")
    audits = [line["status"] for line in cold.access if line["method"] == "POST"]
    assert audits and set(audits) == {404}, "npm has asked for an audit, in vain, and has installed all the same"
    assert tarballs(cold) == cold.packages
    audit = subprocess.run(
        ["npm", "audit"],
        env=surroundings(tmp_path / "cold", "npm", root),
        cwd=tmp_path / "cold/project",
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert audit.returncode != 0 and "404" in audit.stderr, audit.stdout + audit.stderr
    with cut_off(names, f"{root}never-asked-for"):
        away = install(mirror, tmp_path / "away", "npm", tools, root)
    assert (away.lock, tarballs(away)) == (cold.lock, cold.packages)
    for state, one in {"cold": cold, "cut off": away}.items():
        below = {(line["uri"].startswith("/npm/"), line["uri"].endswith(".tgz")) for line in one.access}
        assert below == {(True, True), (False, False)}, "documents are at the root, and name tarballs by the mirror's own URL"
        assert bool(bodies(mirror, f"npm at a root, {state}", one.access, one.upstream)) == (state == "cold"), "fetched from upstream"


@FIRST
def test_a_lock_file_of_npm_that_names_the_registry_installs_through_the_mirror(
    both: tuple[Mirror, Names], upstream: str, tools: Path, tmp_path: Path
) -> None:
    mirror, _names = both
    off = {"NPM_CONFIG_OMIT_LOCKFILE_REGISTRY_RESOLVED": "false"}
    direct = install(mirror, tmp_path / "direct", "npm", tools, upstream + "/", **off)
    assert upstream in direct.lock
    through = install(mirror, tmp_path / "through", "npm", tools, f"{mirror.url}/npm/", direct.lock, **off)
    assert sum(line["uri"].endswith(".tgz") for line in through.access) == len(through.packages)
