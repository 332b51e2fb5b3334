# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""cargo against the real crate registry, through a mirror that is deployed on this machine.

A node is a folder with the file that the role configure_mirrors wrote; cargo reads it from the project's folder upwards. It has no
way out but the mirror: whatever else it asks goes to a proxy that is not there. Needs root, cargo and the registry.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tomllib
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.sites import resolve_sites
from deploying import playbook
from installs import HITS, NOWHERE, Mirror
from packageurl.validate import DEFINITIONS_BY_TYPE
from upstreams import EACH, FIRST, Names, bodies, cut_off, mirror_of, patiently, reached

# Names with a capital, with a hyphen, of three letters, and of more; one of them needs others. Newer ones may need a newer cargo.
PROJECT = {
    "Cargo.toml": """[package]
name = "demo"
version = "0.1.0"
edition = "2021"

[dependencies]
cfg-if = "=1.0.5"
hex = "=0.4.3"
Inflector = "=0.11.4"

aho-corasick = "=1.1.5"
lazy_static = "=1.5.1"
memchr = "=2.8.3"
regex = "=1.13.2"
regex-automata = "=0.4.19"
regex-syntax = "=0.8.12"
""",
    "src/main.rs": """use inflector::Inflector;

cfg_if::cfg_if! {
    if #[cfg(unix)] { const NAME: &str = "ItWorks"; } else { const NAME: &str = ""; }
}

fn main() {
    println!("{}", hex::encode(NAME.to_snake_case()));
}
""",
}
SAYS = b"it_works".hex() + "\n"
SPARSE = (1, 68)  # the first cargo that reads a sparse index


def cargo_tool() -> str:
    found = shutil.which("cargo", path=f"{os.environ['PATH']}:{Path.home()}/.cargo/bin")
    if not found:
        pytest.fail("cargo is not installed; run make host")
    told = subprocess.run([found, "--version"], capture_output=True, text=True, check=True, cwd="/").stdout.strip()
    if tuple(map(int, re.findall(r"\d+", told)[:2])) < SPARSE:
        pytest.fail(f"{found} is {told}, which reads no sparse index; put 1.68 or later on the PATH, on Debian 12 that of cargo-web")
    return found


@pytest.fixture(scope="module")
def upstream() -> str:
    """The sparse index of the crate registry."""
    default = DEFINITIONS_BY_TYPE["cargo"].default_repository_url
    url = str(resolve_sites(["cargo"], lambda _type: default, {}, [], 80)[0]["upstream"])
    reached(f"{url}/config.json", "the Rust crate registry")
    return url


@pytest.fixture(scope="module")
def both(upstream: str, request: pytest.FixtureRequest) -> Iterator[tuple[Mirror, Names]]:
    downloads = json.loads(patiently(lambda: urllib.request.urlopen(f"{upstream}/config.json", timeout=20).read()))["dl"]
    with mirror_of({"type": "cargo"}, urls=[upstream, downloads.split("{")[0]], mirror_engine=request.param) as both:
        yield both


@dataclass
class Build:
    """What one build of the project asked of the mirror, and what it left behind."""

    says: str
    lock: str
    access: list[dict]
    upstream: list[dict]

    @property
    def crates(self) -> set[str]:
        """The crates that the project needs, as parts of their paths."""
        packages = tomllib.loads(self.lock)["package"]
        return {"/{name}/{version}/".format(**package) for package in packages if "source" in package}

    @property
    def unaccounted(self) -> set[str]:
        """Those that did not come through the mirror."""
        served = [line["uri"] for line in self.access if (line["method"], line["status"]) == ("GET", 200)]
        return {crate for crate in self.crates if not any(crate in uri for uri in served)}


@pytest.fixture
def build(both: tuple[Mirror, Names], tmp_path: Path) -> Callable[..., Build]:
    """Builds the project with nothing of cargo's own left from before: ``build(through mirror, lock="")``."""
    mirror = both[0]

    def run(through: bool, lock: str = "") -> Build:
        node = tmp_path / f"node-{len(list(tmp_path.iterdir()))}"
        project = node / "srv/project"
        for name, text in {**PROJECT, **({"Cargo.lock": lock} if lock else {})}.items():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).write_text(text)
        if through:
            baked = playbook("bake", configure_mirrors_root=str(node), configure_mirrors_url=mirror.url, configure_mirrors_required=True)
            assert baked.returncode == 0, baked.stdout
        positions = mirror.positions()
        home = tmp_path / "home"  # what is downloaded to the same path again is not compiled again
        shutil.rmtree(home, ignore_errors=True)
        done = cargo(project, home, through, "run", "--quiet", *(["--locked"] if lock else []))
        assert done.returncode == 0, done.stderr
        access = [line for line in mirror.since(positions, "access.log") if line["uri"].startswith("/cargo/")]
        return Build(done.stdout, (project / "Cargo.lock").read_text(), access, mirror.since(positions, "upstream.log"))

    return run


def cargo(project: Path, home: Path, closed: bool, *arguments: str) -> subprocess.CompletedProcess[str]:
    """The cargo command in the project, with no settings of this machine's; a closed one has no way out but to a mirror on it."""
    proxies = "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY"
    way_out = dict.fromkeys(proxies, NOWHERE) | {"CARGO_NET_RETRY": "0"} if closed else {}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "CARGO_HOME": str(home / "cargo"),
        "CARGO_TARGET_DIR": str(home.with_name("compiled")),
        "RUSTUP_HOME": os.environ.get("RUSTUP_HOME", f"{Path.home()}/.rustup"),
        **{name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ},
        **way_out,
        "no_proxy": "127.0.0.1",
    }
    command = [cargo_tool(), *arguments]
    return subprocess.run(command, env=environment, cwd=project, capture_output=True, text=True, timeout=600, check=False)


@EACH
def test_a_real_project_builds_cold_then_cut_off(both: tuple[Mirror, Names], build: Callable[..., Build]) -> None:
    mirror, names = both
    direct = build(False)
    assert not direct.access and len(direct.crates) >= 5
    mirror.purge()
    cold = build(True)
    assert cold.lock == direct.lock, "Cargo.lock holds nothing of the mirror"
    assert cold.says == direct.says == SAYS
    assert cold.unaccounted == set(), "used, but not in the mirror's access log"
    assert bodies(mirror, "cargo, cold", cold.access, cold.upstream)
    warm = build(True)
    with cut_off(names, f"{mirror.url}/cargo/un/se/unseen"):
        locked = build(True, direct.lock)
        anew = build(True)
    for state, one in {"warm": warm, "cut off, with a lock": locked, "cut off": anew}.items():
        assert (one.says, one.lock) == (SAYS, direct.lock)
        assert one.unaccounted == set()
        assert {line["cache"] for line in one.access if line["status"] == 200} <= HITS, "not from the cache"
        assert bodies(mirror, f"cargo, {state}", one.access, one.upstream) == [], "fetched from upstream"


def test_without_the_mirror_there_is_no_way_out(tmp_path: Path) -> None:
    for name, text in PROJECT.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    done = cargo(tmp_path, tmp_path / "home", True, "fetch")
    assert done.returncode and "127.0.0.1" in done.stderr, done.stderr


@FIRST
def test_a_lock_made_through_the_mirror_builds_without_it(build: Callable[..., Build]) -> None:
    assert build(False, build(True).lock).says == SAYS
