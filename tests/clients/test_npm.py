# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""npm, pnpm, both yarns and corepack against the real npm registry, through a mirror that is deployed on this machine.

They read what the role configure_mirrors wrote for a user, or for all users, and have no way out but the mirror: whatever else they ask
goes to a proxy that is not there. Needs root, npm and the registry.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import threading
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import pytest
from installs import HITS, NOWHERE, Mirror
from upstreams import EACH, FIRST, Names, bodies, cut_off, mirror_of, patiently, reached, told, written

from registry import free_port  # isort: skip

# A scoped package, one with dependencies, one whose dependencies have none of their own.
PROJECT = {"name": "demo", "version": "1.0.0", "dependencies": {"@sindresorhus/is": "4.6.0", "chalk": "4.1.2", "isarray": "2.0.5"}}
# From 11 on pnpm reads other files; 12 is a program of its own, where 11 needs a later node than Debian 12 has.
CLIENTS = {
    "pnpm 10": ("pnpm10@npm:pnpm@10.34.9", "node", "pnpm10/bin/pnpm.cjs"),
    "pnpm 12": ("pnpm12@npm:pnpm@12.21.0", "pnpm12/pnpm"),
    "yarn 1": ("yarn@1.22.22", "node", "yarn/bin/yarn.js"),
    "yarn 4": ("@yarnpkg/cli-dist@4.18.1", "node", "@yarnpkg/cli-dist/bin/yarn.js"),
}
COREPACK = "corepack@0.34.7"
INSTALL = {
    "npm": ["install"],
    "pnpm 10": ["install", "--no-frozen-lockfile"],
    "pnpm 12": ["install", "--no-frozen-lockfile"],
    "yarn 1": ["install", "--non-interactive"],
    "yarn 4": ["install", "--no-immutable"],
}
LOCKS = {
    "npm": "package-lock.json",
    **dict.fromkeys(("pnpm 10", "pnpm 12"), "pnpm-lock.yaml"),
    **dict.fromkeys(("yarn 1", "yarn 4"), "yarn.lock"),
}
NEUTRAL = {"npm", "pnpm 10", "pnpm 12", "yarn 4"}
OF_ALL_USERS = """for folder in etc usr/etc usr/local/etc; do
    mkdir -p "/$folder"
    mount -t overlay -o "lowerdir=$0/$folder:/$folder" overlay "/$folder"
done
exec "$@"
"""


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
        ["npm", "install", "--silent", "--prefix", folder, COREPACK, *(package for package, *_program in CLIENTS.values())],
        check=True,
        timeout=300,
    )
    return folder / "node_modules"


def program(client: str, tools: Path) -> list[str]:
    if client == "npm":
        return ["npm"]
    *node, path = CLIENTS[client][1:]
    return [*node, str(tools / path)]


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
    told = {}
    if isinstance(registry, Path):  # the files are to say it all
        for name in ".npmrc", ".yarnrc.yml":
            shutil.copy(registry / name, folder)
    else:
        told = dict.fromkeys(("NPM_CONFIG_REGISTRY", "PNPM_CONFIG_REGISTRY", "YARN_NPM_REGISTRY_SERVER"), registry)
        told["YARN_UNSAFE_HTTP_WHITELIST"] = "127.0.0.1"
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
    command = [*program(client, tools), *INSTALL[client]]
    done = subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True, timeout=300, check=False)
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


class Node:
    """A node whose files and variables the role has written for all users; it is closed, but for what is here."""

    def __init__(self, mirror: Mirror, root: Path) -> None:
        self.mirror, self.root = mirror, root
        written(mirror, root, everyone=True)
        self.within = ["unshare", "--mount", "sh", "-ec", OF_ALL_USERS, str(root)]
        session = subprocess.run(
            [*self.within, "su", "--shell", "/bin/sh", "nobody", "--command", "env"],
            env={"PATH": os.environ["PATH"]},
            capture_output=True,
            text=True,
            check=True,
        )
        self.variables = told(root / "etc/environment")
        assert self.variables.items() <= {tuple(line.split("=", 1)) for line in session.stdout.splitlines()}, "as pam_env gives them"

    def run(
        self, name: str, *command: str, registry: str = "", more: dict[str, str] | None = None, **project: Any
    ) -> tuple[int, str, list[dict]]:
        """What a new user's job in a project says, and the mirror's log of it; ``registry`` is the project's own."""
        home = self.root / "home" / name  # /.yarnrc.yml is above it as it is above every folder
        folder = home / "project"
        folder.mkdir(parents=True)
        (folder / "package.json").write_text(json.dumps(PROJECT | project))
        (folder / "yarn.lock").touch()  # without it yarn takes the folder for a part of what is above
        if registry:
            (folder / ".npmrc").write_text(f"registry={registry}/\n")
            (folder / ".yarnrc.yml").write_text(f'npmRegistryServer: "{registry}"\nunsafeHttpWhitelist: ["127.0.0.1"]\n')
        environment = surroundings(home, name, f"{self.mirror.url}/npm/")
        ours = {"NPM_CONFIG_REGISTRY", "PNPM_CONFIG_REGISTRY", "YARN_NPM_REGISTRY_SERVER", "YARN_UNSAFE_HTTP_WHITELIST"}
        environment = {key: value for key, value in environment.items() if key not in ours} | self.variables | (more or {})
        positions = self.mirror.positions()
        done = subprocess.run(
            [*self.within, *command],
            env=environment,
            cwd=folder,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        return done.returncode, done.stdout + done.stderr, self.mirror.since(positions, "access.log")


@pytest.fixture(scope="module")
def node(both: tuple[Mirror, Names], tmp_path_factory: pytest.TempPathFactory) -> Node:
    return Node(both[0], tmp_path_factory.mktemp("node") / "root")


@pytest.fixture
def private() -> Iterator[tuple[str, list[str]]]:
    """A registry of a project's own, which has nothing, and the paths that it was asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(404)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}", asked
    server.shutdown()


@FIRST
@pytest.mark.parametrize("client", LOCKS)
def test_all_users_of_a_node_are_led_to_the_mirror_by_whatever_starts_their_jobs(node: Node, tools: Path, client: str) -> None:
    """No login shell is needed: the variables are those that pam_env gives to what sshd starts."""
    code, says, access = node.run(client, *program(client, tools), *INSTALL[client])
    assert code == 0, says
    served = {unquote(line["uri"]).rpartition("/-/")[2] for line in access if line["status"] == 200 and line["uri"].endswith(".tgz")}
    assert len(served) >= 7, access


@FIRST
def test_so_is_an_npm_of_a_prefix_that_nobody_knows(node: Node, tmp_path: Path) -> None:
    code, says, access = node.run("npm, elsewhere", "npm", "install", more={"NPM_CONFIG_PREFIX": str(tmp_path)})
    assert code == 0 and access, says


@FIRST
@pytest.mark.parametrize("client", LOCKS)
def test_a_registry_of_a_projects_own_is_asked_and_the_mirror_is_not(
    node: Node, tools: Path, private: tuple[str, list[str]], client: str
) -> None:
    """Or the names of private packages would be asked of the mirror. pnpm has left no other way than the variable, which wins."""
    url, asked = private
    code, says, access = node.run(f"{client}, own", *program(client, tools), *INSTALL[client], registry=url)
    if client == "pnpm 12":
        assert code == 0 and access and not asked, says
    else:
        assert code != 0 and asked and not access, says


@FIRST
def test_corepack_gets_what_a_project_names_from_the_mirror(node: Node, upstream: str, tools: Path) -> None:
    major = subprocess.run(["node", "--version"], capture_output=True, text=True, check=True).stdout[1:].partition(".")[0]
    if int(major) < 20:
        pytest.skip(f"{COREPACK} needs node 20")
    manifest = json.loads(patiently(lambda: urllib.request.urlopen(f"{upstream}/pnpm/10.34.9", timeout=20).read()))
    algorithm, digest = manifest["dist"]["integrity"].split("-")
    named = f"pnpm@10.34.9+{algorithm}.{base64.b64decode(digest).hex()}"  # as corepack itself writes it down
    code, says, access = node.run("corepack", "node", str(tools / "corepack/dist/corepack.js"), "pnpm", "--version", packageManager=named)
    assert (code, says.split()[-1]) == (0, "10.34.9"), says
    assert any(line["uri"].endswith("/pnpm-10.34.9.tgz") and line["status"] == 200 for line in access), access
