# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""gem and Bundler against a gem index that gem itself has made, through a mirror of each engine on loopback.

The clients are configured by the role configure_mirrors. They know the registry by a name that the mirror alone can resolve, so that
there is no way to it but the mirror. Needs ruby and bundler, neither root nor a real registry.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from deploying import playbook
from installs import NOWHERE, flush

import bench  # isort: skip
from gemindex import GemIndex  # isort: skip

PROGRAM = 'require "nearby-demo"; puts NearbyDemo::BASE'
# What Ruby reads first where it is to find the registry itself, by the name that the mirror alone can resolve.
NAMES = """require "socket"
{Socket => :tcp, TCPSocket => :open}.each do |type, way|
  type.singleton_class.prepend(Module.new do
    define_method(way) { |host, *rest, **more, &block| super(host.sub("registry.test", "127.0.0.1"), *rest, **more, &block) }
  end)
end
"""


class Gems:
    """Gems that are made with ``gem build`` and indexed with ``gem generate_index``; what this does not make, the fixture registry does."""

    def __init__(self, folder: Path, index: GemIndex) -> None:
        self.folder, self.index = folder, index
        (folder / "gems").mkdir(parents=True)

    def release(self, name: str, version: str, needs: str = "") -> None:
        work = self.folder / f"{name}-{version}"
        (work / "lib").mkdir(parents=True)
        module = name.title().replace("-", "")
        base = f'require "{needs.split(":")[0]}"\n' if needs else ""
        value = "NearbyBase::BASE" if needs else repr(version)
        (work / f"lib/{name}.rb").write_text(f"{base}module {module}\n  BASE = {value}\nend\n")
        dependency = f"  it.add_dependency({', '.join(map(json.dumps, needs.split(':')))})\n" if needs else ""
        (work / "a.gemspec").write_text(
            f"Gem::Specification.new do |it|\n  it.name, it.version = {name!r}, {version!r}\n  it.summary = it.author = 'a fixture'\n"
            f"  it.files = ['lib/{name}.rb']\n{dependency}end\n"
        )
        ruby(self.folder, "gem", "build", "--force", "--output", f"{self.folder}/gems/{name}-{version}.gem", "a.gemspec", cwd=work)
        ruby(self.folder, "gem", "generate_index", "--directory", str(self.folder))
        self.index.publish(name, version, (self.folder / f"gems/{name}-{version}.gem").read_bytes(), needs)
        made = [path for path in self.folder.rglob("*.[rg]z") if path.parent == self.folder or "quick" in path.parts]
        self.index.files |= {str(path.relative_to(self.folder)): path.read_bytes() for path in made}


def ruby(home: Path, *command: str, cwd: Path | None = None, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """A command of Ruby's with no settings of this machine's, and with no way out but to this machine."""
    assert shutil.which(command[0]), f"{command[0]} is not installed; run make host"
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "BUNDLE_SILENCE_ROOT_WARNING": "1"}
    environment |= {"http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": "127.0.0.1,localhost", **more}
    done = subprocess.run(command, cwd=cwd or home, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert not check or done.returncode == 0, f"{' '.join(command)}:\n{done.stdout}{done.stderr}"
    return done


@dataclass
class Lab:
    """A mirror, the registry behind it, and one beside it that it knows nothing of; nodes are homes that are pointed at the mirror."""

    world: bench.World
    index: GemIndex
    private: GemIndex
    gems: Gems
    folder: Path
    count: int = field(default=0)

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.world.mirror.address)

    @property
    def upstream(self) -> str:
        return str(self.world.mirror.sites[0]["upstream"])

    def node(self) -> Node:
        """A node with nothing on it but what the role writes."""
        self.count += 1
        home = self.folder / f"home-{self.count}"
        home.mkdir()
        configured(home, configure_mirrors_url=self.url)
        return Node(home, self)

    def log(self) -> list[tuple[str, int, str]]:
        """Paths below the site, statuses and ranges that clients have asked for so far."""
        flush(self.world.mirror.process.pid, self.world.mirror.root / "log")
        return [(line["uri"].removeprefix("/gem/"), line["status"], line["range"]) for line in self.world.mirror.log("^/gem/")]


@dataclass
class Node:
    home: Path
    lab: Lab

    def run(self, *command: str, **more: str) -> str:
        """The output of a command in the node's project, with what the role has set."""
        lines = (self.home / ".config/nearby-mirrors/environment").read_text().splitlines()
        variables = dict(line.split("=", 1) for line in lines if re.match(r"\w+=", line))
        project = self.home / "project"
        project.mkdir(exist_ok=True)
        return ruby(self.home, *command, cwd=project, **variables, GEM_HOME=f"{self.home}/gems", **more).stdout

    def gemfile(self, private: bool = False) -> None:
        lines = [f'source "{self.lab.upstream}"', 'gem "nearby-demo"']
        if private:
            lines.append(f'source("http://localhost:{self.lab.private.port}") {{ gem "nearby-private" }}')
        (self.home / "project").mkdir(exist_ok=True)
        (self.home / "project/Gemfile").write_text("\n".join(lines) + "\n")

    @property
    def lock(self) -> str:
        return (self.home / "project/Gemfile.lock").read_text()

    def copy(self, page: str) -> Path:
        """Bundler's own copy of a page of the index."""
        (path,) = (self.home / ".bundle/cache/compact_index").rglob(page)
        return path


def configured(home: Path, **variables: object) -> None:
    ours = {"nearby_hosts": "localhost", "configure_mirrors_scope": "user", "configure_mirrors_home": str(home)}
    ours |= {"configure_mirrors_required": True}
    done = playbook("nodes", **ours | variables)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def lab(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    root, folder = (tmp_path_factory.mktemp(f"{name}-{request.param}") for name in ("mirror", "gems"))
    with GemIndex() as private, bench.one_site(root, request.param, GemIndex(), [], type="gem", probe="nearby-demo") as world:
        index = world.registries["gem"]
        for number in range(20):  # as many as make a page worth packing
            index.versions += f"other-{number} 1.0 {number:032x}\n".encode()
        gems = Gems(folder / "index", index)
        gems.release("nearby-base", "1.0.0")
        gems.release("nearby-demo", "1.0.0", "nearby-base:>= 1")
        Gems(folder / "private", private).release("nearby-private", "1.0.0")
        gems.release("nearby-private", "6.6.6")  # somebody else's, of that name
        yield Lab(world, index, private, gems, folder)


@pytest.fixture
def node(lab: Lab) -> Iterator[Node]:
    yield lab.node()
    lab.index.back()


Install = Callable[[Node], str]
INSTALLS = {"gem": ("gem", "install", "--no-document", "nearby-demo"), "bundle": ("bundle", "install")}


@pytest.mark.parametrize("client", INSTALLS)
def test_what_is_installed_once_is_installed_again_without_upstream(lab: Lab, node: Node, client: str) -> None:
    node.gemfile()
    start, asked = len(lab.log()), len(lab.index.asked)
    node.run(*INSTALLS[client])
    version = node.run("ruby", "-e", PROGRAM).strip()
    got = {path for path, status, _range in lab.log()[start:] if status == 200}
    assert {f"gems/nearby-base-{version}.gem", "gems/nearby-demo-1.0.0.gem", "info/nearby-demo"} <= got, got
    assert not {path for path in got if "specs.4.8" in path}, "the compact index has to be used, and not what came before it"
    assert {path for path, _status in lab.index.asked[asked:]} <= got

    lab.index.failing = True
    other, start, asked = lab.node(), len(lab.log()), len(lab.index.asked)
    other.gemfile()
    bench.age()
    other.run(*INSTALLS[client])
    assert other.run("ruby", "-e", PROGRAM).strip() == version
    assert {status for _path, status, _range in lab.log()[start:]} == {200}
    assert {status for _path, status in lab.index.asked[asked:]} == {503}, "pages alone are asked for again, in vain"
    assert not [path for path, _status in lab.index.asked[asked:] if path.startswith(("gems/", "quick/"))]
    if client == "bundle":
        assert other.lock == node.lock and f"remote: {lab.upstream}/" in node.lock and lab.url not in node.lock


def test_a_lock_file_that_was_made_without_a_mirror_installs_through_one(lab: Lab, node: Node, tmp_path: Path) -> None:
    node.gemfile()
    shutil.copy(node.home / "project/Gemfile", tmp_path)
    (tmp_path / "names.rb").write_text(NAMES)
    start, asked = len(lab.log()), len(lab.index.asked)
    ruby(tmp_path, "bundle", "lock", GEM_HOME=f"{tmp_path}/gems", RUBYOPT=f"-r{tmp_path}/names.rb", no_proxy="registry.test")
    assert len(lab.log()) == start and ("info/nearby-demo", 200) in lab.index.asked[asked:], "not from the registry itself"
    direct = (tmp_path / "Gemfile.lock").read_text()
    (node.home / "project/Gemfile.lock").write_text(direct)
    node.run("bundle", "install", BUNDLE_FROZEN="true")
    assert node.lock == direct and f"remote: {lab.upstream}/" in direct
    version = re.findall(r"nearby-base \((\d.*)\)", direct)[0]
    assert node.run("bundle", "exec", "ruby", "-e", PROGRAM).strip() == version
    got = {path for path, status, _range in lab.log()[start:] if status == 200}
    assert {f"gems/nearby-base-{version}.gem", "gems/nearby-demo-1.0.0.gem"} <= got, got
    other = lab.node()
    other.gemfile()
    other.run("bundle", "lock")
    assert other.lock == direct, "the one that is made through a mirror is the same"


def test_the_index_before_the_compact_one_installs_too(lab: Lab, node: Node) -> None:
    lab.index.gone |= {"", "versions", "info/nearby-base", "info/nearby-demo"}
    bench.age(4.3)
    lab.world.mirror.wipe()
    try:
        start = len(lab.log())
        node.run(*INSTALLS["gem"])
        assert ("specs.4.8.gz", 200) in [(path, status) for path, status, _range in lab.log()[start:]]
    finally:
        lab.index.gone.clear()


def test_a_new_version_comes_by_a_range(lab: Lab, node: Node) -> None:
    node.gemfile()
    node.run("bundle", "install")
    before, start = node.lock, len(lab.log())
    version = f"1.{lab.count}.0"
    lab.gems.release("nearby-base", version)
    bench.age()
    node.run("bundle", "update")
    assert f"nearby-base ({version})" in node.lock and f"nearby-base ({version})" not in before
    asked = lab.log()[start:]
    for page in "versions", "info/nearby-base":
        assert [(status, range_[:6]) for path, status, range_ in asked if path == page] == [(206, "bytes=")], asked
    assert node.copy("versions").read_bytes() == lab.index.versions
    assert node.run("bundle", "exec", "ruby", "-e", PROGRAM).strip() == version


@pytest.mark.parametrize(
    ("change", "statuses"),
    [
        (lambda page: page + b"nearby-base 9.9.9 " + b"0" * 32 + b"\n", [416, 200, 200]),
        (lambda page: page[:-70] + b"x" * 60, [206, 200]),
    ],
    ids=["longer", "another"],
)
def test_a_copy_that_the_mirrors_page_does_not_continue_is_fetched_anew(
    lab: Lab, node: Node, change: Callable[[bytes], bytes], statuses: list[int]
) -> None:
    node.gemfile()
    node.run("bundle", "install")
    page, start = node.copy("versions"), len(lab.log())
    page.write_bytes(change(page.read_bytes()))
    node.run("bundle", "update")
    asked = lab.log()[start:]
    assert [status for path, status, _range in asked if path == "versions"] == statuses
    assert page.read_bytes() == lab.index.versions
    assert not [path for path, _status, _range in asked if "specs.4.8" in path], "Bundler has given the index up"


def test_private_sources_are_asked_themselves(lab: Lab, node: Node) -> None:
    node.gemfile(private=True)
    start = len(lab.log())
    node.run("bundle", "install")
    assert "nearby-private (1.0.0)" in node.lock
    assert not [path for path, _status, _range in lab.log()[start:] if "nearby-private" in path]
    assert ("gems/nearby-private-1.0.0.gem", 200) in lab.private.asked


def test_bundler_falls_back_to_the_registry(lab: Lab, node: Node) -> None:
    node.gemfile(private=True)
    dead = {"BUNDLE_MIRROR__LOCALHOST": f"{NOWHERE}/gem/", "BUNDLE_MIRROR__LOCALHOST__FALLBACK_TIMEOUT": "3"}
    node.run("bundle", "install", **dead)
    assert "nearby-private (1.0.0)" in node.lock


def test_the_mirror_is_healthy(lab: Lab) -> None:
    report = health.examine(Client(), lab.url)
    assert not report.bad, report.failure
    checks = {entry["check"]: entry["verdict"] for entry in report.checks if entry["site"] == "gem"}
    assert checks.pop("lag") == "skipped", "this machine does not know the upstream by its name"
    assert len(checks) + 1 == len(health.gem.CHECKS) and set(checks.values()) == {"good"}, report.checks


def test_everything_is_put_back(lab: Lab) -> None:
    home = lab.folder / "home-back"
    home.mkdir()
    gemrc = home / ".gemrc"
    gemrc.write_text(f":verbose: false\n:sources:\n- {lab.upstream}/\n- http://localhost:{lab.private.port}/\n")
    before = gemrc.read_bytes()
    configured(home, configure_mirrors_url=lab.url)
    listed = ruby(home, "gem", "sources").stdout.split()
    assert [line for line in listed if "://" in line] == [f"{lab.url}/gem/", f"http://localhost:{lab.private.port}/"]
    configured(home, configure_mirrors_state="absent")
    assert gemrc.read_bytes() == before and not (home / ".config").exists()
