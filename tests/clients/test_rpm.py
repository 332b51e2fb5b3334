# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""dnf against a repository that rpmbuild, rpmsign and createrepo_c made, on a node that the role configured.

There is no public registry that a purl names, so the upstream is a server on loopback and the mirror is the behaviour table's, of each
engine: it can be stopped, and its upstream can fail, within a moment. Needs root, for dnf's own root folder, and the three tools.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("behaviour", "registry", "nodes")]

import bench  # noqa: E402
from ansible_collections.nearby.mirrors.plugins.module_utils.health import examine  # noqa: E402
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client  # noqa: E402
from installs import HITS, flush  # noqa: E402
from node_lab import make_control, write_files  # noqa: E402
from rpmtree import RpmTree  # noqa: E402

REPOSITORY = "9/noarch/os"
SPEC = """Name: {name}
Version: 1.0
Release: 1
Summary: A demonstration
License: MIT
BuildArch: noarch
{requires}
%description
A demonstration.
%install
mkdir -p %{{buildroot}}/usr/share/demo
echo {says} > %{{buildroot}}/usr/share/demo/{name}
%files
/usr/share/demo/{name}
"""


@dataclass
class Workshop:
    """Makes repositories that are signed with a key of its own."""

    folder: Path
    home: str

    @property
    def key(self) -> Path:
        return self.folder / "key.asc"

    def run(self, *command: str | Path) -> str:
        environment = {"PATH": os.environ["PATH"], "HOME": self.home, "GNUPGHOME": self.home, "LANG": "C.UTF-8"}
        done = subprocess.run(command, env=environment, cwd=self.folder, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    def package(self, name: str, target: Path, says: str, requires: str = "", signed: bool = True) -> None:
        spec = self.folder / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, says=says, requires=requires))
        self.run("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {self.folder}/build", "--define", f"_rpmdir {target}", spec)
        if signed:
            self.run(
                "rpmsign",
                "--define",
                "_gpg_name demo",
                "--define",
                f"__gpg {shutil.which('gpg')}",
                "--addsign",
                *target.glob(f"noarch/{name}-*.rpm"),
            )

    def repository(self, says: str) -> Path:
        """A tree with one repository of three packages: one that needs another one, and one that nobody signed."""
        tree = self.folder / says
        target = tree / REPOSITORY
        self.package("demo-lib", target, says)
        self.package("demo-app", target, says, "Requires: demo-lib")
        self.package("demo-unsigned", target, says, signed=False)
        self.run("createrepo_c", "--quiet", target)
        self.run("gpg", "--batch", "--armor", "--detach-sign", target / "repodata/repomd.xml")
        return tree


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    for tool in "dnf", "rpmbuild", "rpmsign", "createrepo_c":
        assert shutil.which(tool), f"{tool} is not installed; run make host"
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:  # its sockets need a short path
        workshop = Workshop(tmp_path_factory.mktemp("workshop"), home)
        workshop.run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "demo", "rsa2048", "sign", "never")
        workshop.key.write_text(workshop.run("gpg", "--armor", "--export"))
        yield workshop
        workshop.run("gpgconf", "--kill", "all")


@pytest.fixture(scope="module")
def trees(workshop: Workshop) -> dict[str, Path]:
    return {says: workshop.repository(says) for says in ("first", "second")}


@pytest.fixture(params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, trees: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Iterator[bench.World]:
    tree = RpmTree()
    tree.load(trees["first"])
    site = {"type": "rpm", "upstream": f"http://127.0.0.1:{tree.port}", "probe": REPOSITORY, "lifetime": 300}
    site["repositories"] = {"listed": "$releasever/noarch/os"}
    with bench.one_site(tmp_path_factory.mktemp(f"dnf-{request.param}"), request.param, tree, [], **site) as world:
        yield world


@dataclass
class Node:
    """A root folder that dnf installs into, with nothing of this machine's own."""

    root: Path

    def dnf(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        options = {
            "reposdir": self.root / "etc/yum.repos.d",
            "cachedir": self.root / "var/cache/dnf",
            "logdir": self.root / "var/log",
            "persistdir": self.root / "var/lib/dnf",
            "module_platform_id": "platform:demo",
        }
        command = ["dnf", "-y", "--noplugins", f"--config={self.root}/etc/dnf/dnf.conf", f"--installroot={self.root}", "--releasever=9"]
        command += [f"--setopt={name}={value}" for name, value in options.items()]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.root), "LANG": "C.UTF-8"}
        return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True, timeout=120, check=False)

    def install(self, package: str) -> str:
        """What the installed library says."""
        done = self.dnf("install", package)
        assert done.returncode == 0, done.stdout + done.stderr
        assert (self.root / f"usr/share/demo/{package}").exists()
        return (self.root / "usr/share/demo/demo-lib").read_text().strip()


@pytest.fixture
def node(world: bench.World, workshop: Workshop, tmp_path: Path) -> Callable[..., Node]:
    """Makes a node that the role has pointed at the mirror; ``listed``: its repository has a list of mirrors, which leads nowhere."""
    control = make_control(tmp_path)
    url = "http://127.0.0.1:{}".format
    servers = [f"{url(port)}{{}}/$releasever/noarch/os/".format for port in (world.mirror.address[1], world.registries["rpm"].port)]
    there, fronted = f"baseurl={servers[1]('')}\n", f"baseurl={servers[0]('/rpm')} {servers[1]('')}\n"
    nowhere = f"metalink={url(bench.free_port())}/metalink?repo=demo-$releasever&arch=$basearch\n"

    def make(listed: bool = False) -> Node:
        text = "[{}]\nname=Demo $releasever\n{}enabled=1\ngpgcheck=1\nrepo_gpgcheck=1\ngpgkey=file://{}\n".format(
            *(("listed", nowhere) if listed else ("demo", there)), workshop.key
        )
        root = tmp_path / f"node-{len(list(tmp_path.iterdir()))}"
        (root / "var/log").mkdir(parents=True)
        write_files(root, {"etc/yum.repos.d/demo.repo": (0o644, text), "etc/dnf/dnf.conf": (0o644, "[main]\ngpgcheck=1\n")})
        variables = {"configure_mirrors_url": url(world.mirror.address[1]), "configure_mirrors_root": str(root)}
        run = control.play("nodes", {"node": variables})
        assert run.code == 0, run.output
        expected = text.replace(there, fronted).replace(nowhere, f"{fronted}# nearby-mirrors: {nowhere}")
        assert (root / "etc/yum.repos.d/demo.repo").read_text() == expected
        return Node(root)

    return make


def test_dnf_installs_cold_then_without_upstream_and_then_without_the_mirror(
    world: bench.World, node: Callable[[], Node], trees: dict[str, Path]
) -> None:
    tree, mirror = world.registries["rpm"], world.mirror
    nodes = [node() for _number in range(3)]
    assert isinstance(tree, RpmTree)
    tree.asked.clear()
    assert nodes[0].install("demo-app") == "first"
    flush(mirror.process.pid, mirror.root / "log")
    cold = mirror.log("^/rpm/")
    served = [line["uri"].removeprefix("/rpm/") for line in cold if line["status"] == 200]
    used = {path for path in served if path.startswith(f"{REPOSITORY}/")}
    packages = {path for path in used if path.endswith(".rpm")}
    assert len(packages) == 2 and {f"{REPOSITORY}/repodata/repomd.xml", f"{REPOSITORY}/repodata/repomd.xml.asc"} <= used
    asked = [path for path, _status in tree.asked]
    assert packages <= set(asked) <= used and all(asked.count(path) <= served.count(path) for path in asked), "dnf asked upstream itself"
    once = [path for path in asked if "/repomd.xml" not in path]  # which is asked for anew after a second
    assert len(once) == len(set(once))

    tree.failing = True
    bench.age()
    assert nodes[1].install("demo-app") == "first"
    assert not any(path in packages for path, _status in tree.asked[len(asked) :])
    flush(mirror.process.pid, mirror.root / "log")
    warm = [(line["uri"].removeprefix("/rpm/"), line["status"], line["cache"]) for line in mirror.log("^/rpm/")[len(cold) :]]
    assert {path for path, _status, _cache in warm} == used and {(status, cache in HITS) for _path, status, cache in warm} == {(200, True)}
    assert {cache for path, _status, cache in warm if path in packages} == {"HIT"}
    tree.failing = False

    tree.asked.clear()
    mirror.stop()
    assert nodes[2].install("demo-app") == "first"
    assert packages <= {path for path, _status in tree.asked}
    mirror.start()


def test_a_repository_with_a_list_of_mirrors_is_had_from_the_mirror_and_then_from_its_upstream(
    world: bench.World, node: Callable[..., Node]
) -> None:
    nodes = [node(listed=True) for _number in range(2)]
    assert nodes[0].install("demo-app") == "first"
    flush(world.mirror.process.pid, world.mirror.root / "log")
    served = [line["uri"] for line in world.mirror.log("^/rpm/") if line["status"] == 200 and line["uri"].endswith(".rpm")]
    assert len(served) == 2
    world.mirror.stop()
    assert nodes[1].install("demo-app") == "first"
    world.mirror.start()


def test_signatures_are_checked_as_ever(world: bench.World, node: Callable[[], Node]) -> None:
    done = node().dnf("install", "demo-unsigned")
    assert done.returncode != 0 and "is not signed" in done.stdout + done.stderr, done.stdout + done.stderr


def test_a_package_that_was_built_anew_under_its_name_comes_from_upstream(
    world: bench.World, node: Callable[[], Node], trees: dict[str, Path]
) -> None:
    tree = world.registries["rpm"]
    assert isinstance(tree, RpmTree)
    assert node().install("demo-app") == "first"
    tree.load(trees["second"])
    bench.age()
    assert node().install("demo-app") == "second"


def test_the_mirror_is_healthy(world: bench.World) -> None:
    client = Client(timeout=20)
    report = examine(client, f"http://127.0.0.1:{world.mirror.address[1]}", upstream=client)
    assert not report.bad, report.failure
    assert {entry["verdict"] for entry in report.checks if entry["site"] == "rpm"} == {"good"}, report.checks
