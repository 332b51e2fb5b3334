# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""apt against the archives that this machine's own sources name, through a mirror that is deployed on it and takes them from there.

apt sees a folder in the place of /etc/apt, in a mount namespace of its own, and has its state and cache elsewhere. It has no way out
but the mirror: whatever else it asks goes to a proxy that is not there. The apt of another release installs in a root of its own, from a
network of its own, which leads to this machine and no further. Needs root and the archives.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.apt import uris
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from ansible_collections.nearby.mirrors.plugins.modules.mirror_preflight import own_archives
from deploying import CONFIG, playbook, quickstart, recap
from installs import HITS, NOWHERE, Mirror
from upstreams import EACH, FIRST, Names, bodies, cut_off, mirror_of, reached, validated

PACKAGES = ["hello", "libstdc++6"]  # one of them has a path that has to be escaped
SITES = ["debian", "debian-security"]
OWN_FOLDERS = """for folder in /etc/apt /usr/share/keyrings; do
    test ! -e "$0$folder" || mount --bind "$0$folder" "$folder"
done
exec apt-get "$@"
"""
NETWORK, HERE, THERE = "nearby-node", "10.86.47.1", "10.86.47.2"  # where the node of another release is, and both ends of its link
# As Debian 13 is installed with; 12 reads it, too.
SOURCES = """Types: deb
URIs: {debian}
Suites: {release} {release}-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: {security}
Suites: {release}-security
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg
"""


@pytest.fixture(scope="module")
def archives() -> dict[str, dict]:
    """The archives that this machine takes its packages from, by the site's name."""
    found = {str(archive["url"]).rpartition("/")[2]: archive for archive in reversed(own_archives())}
    if set(SITES) - set(found):
        pytest.fail(f"The sources of this machine name no archive {SITES}; they name {sorted(found)}")
    for name in SITES:
        reached("{url}/dists/{suites[0]}/Release".format(**found[name]), "Debian's archive")
    return {name: found[name] for name in SITES}


@pytest.fixture(scope="module")
def link() -> Iterator[None]:
    """To a network from which this machine can be reached, and nothing else."""

    def ip(command: str) -> None:
        subprocess.run(["ip", *command.split()], check=True)

    if Path("/run/netns", NETWORK).exists():  # of a run that was killed
        ip(f"netns del {NETWORK}")
    ip(f"netns add {NETWORK}")
    try:
        ip(f"link add {NETWORK} type veth peer name eth0 netns {NETWORK}")
        ip(f"address add {HERE}/30 dev {NETWORK}")
        ip(f"link set {NETWORK} up")
        ip(f"-n {NETWORK} address add {THERE}/30 dev eth0")
        ip(f"-n {NETWORK} link set eth0 up")
        yield
        ip(f"link del {NETWORK}")
    finally:
        ip(f"netns del {NETWORK}")


@pytest.fixture(scope="module")
def both(archives: dict[str, dict], link: None, request: pytest.FixtureRequest) -> Iterator[tuple[Mirror, Names]]:
    sites, urls = [{"type": "deb", "name": name} for name in SITES], [archive["url"] for archive in archives.values()]
    with mirror_of(*sites, urls=urls, mirror_engine=request.param, mirror_addresses=["127.0.0.1", HERE]) as both:
        yield both


@dataclass
class Run:
    """What one update and download asked of whom, and what the mirror wrote of it."""

    output: str
    access: list[dict]
    upstream: list[dict]

    @property
    def asked(self) -> list[str]:
        """The URLs, as apt tells them."""
        return sorted("http://" + host + path for path, host in re.findall(r"GET (\S+) HTTP/1\.1\r?\nHost: (\S+)", self.output))


@dataclass
class Node:
    """A folder with sources and the keys that they trust, which apt sees in the place of this machine's own."""

    root: Path

    def copy(self) -> None:
        """This machine's own."""
        for path in "sources.list", "sources.list.d", "trusted.gpg.d", "keyrings", "mirrors":
            source, copy = Path("/etc/apt", path), self.root / "etc/apt" / path
            if source.is_dir():
                shutil.copytree(source, copy)
            elif source.is_file():
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy)

    def configure(self, **variables: object) -> None:
        done = playbook("bake", configure_mirrors_root=str(self.root), **variables)
        assert done.returncode == 0, done.stdout + done.stderr

    def files(self) -> dict[str, bytes]:
        return {str(path.relative_to(self.root)): path.read_bytes() for path in self.root.rglob("*") if path.is_file()}

    def apt(self, folder: Path, *arguments: str, way_out: bool = False) -> str:
        """What apt-get says; fails where it does."""
        for name in "state/lists/partial", "cache/archives/partial", "got":
            (folder / name).mkdir(parents=True, exist_ok=True)
        (folder / "status").touch()
        proxies = [] if way_out else ["-o", f"Acquire::http::Proxy={NOWHERE}", "-o", f"Acquire::https::Proxy={NOWHERE}"]
        settings = {
            "Dir::State": f"{folder}/state",
            "Dir::State::status": f"{folder}/status",
            "Dir::Cache": f"{folder}/cache",
            "Acquire::http::Proxy::127.0.0.1": "DIRECT",
            "APT::Sandbox::User": "root",
            "APT::Update::Error-Mode": "any",
            "Debug::Acquire::http": "1",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        done = subprocess.run(
            ["unshare", "--mount", "sh", "-ec", OWN_FOLDERS, self.root, *options, *proxies, *arguments],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            cwd=folder / "got",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=600,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    def install(self, mirror: Mirror, folder: Path, way_out: bool = False) -> Run:
        """An update and a download with nothing of apt's own left from before."""
        positions = mirror.positions()
        output = self.apt(folder, "update", way_out=way_out) + self.apt(folder, "download", *PACKAGES, way_out=way_out)
        assert {path.name.split("_")[0] for path in (folder / "got").glob("*.deb")} == set(PACKAGES), output[-3000:]
        access = [line for line in mirror.since(positions, "access.log") if line["agent"].startswith("Debian APT")]
        return Run(output, access, mirror.since(positions, "upstream.log"))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    node = Node(tmp_path / "node")
    node.copy()
    return node


@EACH
def test_a_mirror_of_this_machines_own_archives_is_healthy(both: tuple[Mirror, Names], archives: dict[str, dict]) -> None:
    client = Client(timeout=60)
    report = health.examine(client, both[0].url, upstream=client)
    verdicts = {(entry["site"], entry["check"]): (entry["verdict"], entry["detail"]) for entry in report.checks}
    print(*(f"{site}/{check}: {verdict}: {detail}" for (site, check), (verdict, detail) in verdicts.items()), sep="\n")
    assert not report.bad, report.failure
    for name in SITES:
        assert verdicts[name, "releases"] == ("good", ", ".join(archives[name]["suites"]))
        assert {verdicts[name, check][0] for check in ("lag", "indices", "package", "release_hit", "package_hit")} == {"good"}


@EACH
def test_apt_updates_and_downloads_cold_then_cut_off(
    both: tuple[Mirror, Names], archives: dict[str, dict], node: Node, tmp_path: Path
) -> None:
    mirror, names = both
    node.configure(configure_mirrors_url=mirror.url)
    releases = [f"{archive['url']}/dists/{suite}/InRelease" for archive in archives.values() for suite in archive["suites"]]
    again = {url for url in releases if not validated(url)}
    for number in range(2):
        mirror.purge()
        cold, warm = (node.install(mirror, tmp_path / f"{state}-{number}") for state in ("cold", "warm"))
        came = set(bodies(mirror, "apt, warm", warm.access, warm.upstream))
        if not came & set(releases) - again:
            break  # else an archive has published in between, which it does not do twice
    assert cold.asked == sorted(mirror.url + line["uri"] for line in cold.access), "each file came through the mirror, and is in its log"
    assert {line["status"] for line in cold.access} <= {200, 304}
    assert sum("/by-hash/" in url for url in cold.asked) >= len(SITES) and sum(url.endswith(".deb") for url in cold.asked) == len(PACKAGES)
    assert bodies(mirror, "apt, cold", cold.access, cold.upstream)
    with cut_off(names, f"{mirror.url}/debian/unseen"):
        away = node.install(mirror, tmp_path / "away")
    assert came <= again and not bodies(mirror, "apt, cut off", away.access, away.upstream), "fetched from upstream"
    for one, anew in (warm, again), (away, set()):
        assert one.asked == sorted(mirror.url + line["uri"] for line in one.access) == cold.asked
        old = [line for line in one.access if not anew or not line["uri"].endswith("/InRelease")]
        assert {line["cache"] for line in old} <= HITS, "not from the cache"


@FIRST
def test_apt_goes_on_to_the_archive_where_the_mirror_is_away(both: tuple[Mirror, Names], node: Node, tmp_path: Path) -> None:
    """The node is baked for a mirror at an address where nobody answers."""
    mirror = both[0]
    (tmp_path / "mirror.json").write_bytes(Client().get(f"{mirror.url}/mirror.json").body)
    node.configure(configure_mirrors_document_file=str(tmp_path / "mirror.json"), configure_mirrors_url=NOWHERE)
    run = node.install(mirror, tmp_path / "direct", way_out=True)
    assert not run.access and run.asked and not any("127.0.0.1" in url for url in run.asked)


@FIRST
def test_apt_goes_on_to_the_archive_where_the_mirror_has_no_way_out(both: tuple[Mirror, Names], node: Node, tmp_path: Path) -> None:
    mirror, names = both
    node.configure(configure_mirrors_url=mirror.url)
    mirror.purge()
    with cut_off(names, f"{mirror.url}/debian/unseen"):
        run = node.install(mirror, tmp_path / "direct", way_out=True)
    assert {line["status"] for line in run.access} <= {502, 504} and len([url for url in run.asked if mirror.url in url]) == len(run.access)


@dataclass
class Root:
    """The root of the other release that nodes may have, on a network of its own."""

    folder: Path
    release: str

    def make(self, mirror: Mirror) -> None:
        """Through a mirror."""
        keys = "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg"
        command = ["mmdebstrap", "--quiet", "--variant=apt", keys, self.release, str(self.folder), f"{mirror.url}/debian"]
        subprocess.run(command, check=True, timeout=250)

    def run(self, *command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ip", "netns", "exec", NETWORK, "chroot", self.folder, *command],
            env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=250,
            check=False,
        )

    def apt(self, *arguments: str) -> str:
        done = self.run("apt-get", "-o", "Debug::Acquire::http=1", "-o", "APT::Update::Error-Mode=any", *arguments)
        assert done.returncode == 0, done.stdout[-3000:]
        return done.stdout

    def install(self, mirror: Mirror) -> tuple[Run, set[str]]:
        """An update and an installation with nothing of apt's own left from before, and the packages that it has fetched."""
        self.run("dpkg", "--purge", PACKAGES[0])
        self.apt("clean")
        for path in (self.folder / "var/lib/apt/lists").iterdir():
            path.unlink() if path.is_file() else None
        positions = mirror.positions()
        output = self.apt("update") + self.apt("install", "-qy", "--reinstall", *PACKAGES)
        said = self.run("hello")
        assert said.stdout == "Hello, world!\n", said.stdout
        packages = {path.name for path in (self.folder / "var/cache/apt/archives").glob("*.deb")}
        access = [line for line in mirror.since(positions, "access.log") if line["agent"].startswith("Debian APT")]
        return Run(output, access, mirror.since(positions, "upstream.log")), packages


@pytest.fixture(scope="module")
def other(archives: dict[str, dict], tmp_path_factory: pytest.TempPathFactory) -> Root:
    release = next(suite for suite in ("trixie", "bookworm") if suite not in archives["debian"]["suites"])
    return Root(tmp_path_factory.mktemp("other") / release, release)


@EACH
def test_apt_of_another_release_installs_cold_then_cut_off(both: tuple[Mirror, Names], archives: dict[str, dict], other: Root) -> None:
    """Its root is made through the first mirror, and configured as an image for each."""
    mirror, names = both
    if not other.folder.exists():
        other.make(mirror)
    (debian, security), source = (archives[name]["url"] for name in SITES), other.folder / "etc/apt/sources.list.d/debian.sources"
    source.write_text(SOURCES.format(release=other.release, debian=debian, security=security))
    (other.folder / "etc/apt/sources.list").write_text("")
    refused = other.run("apt-get", "update", "-o", "Acquire::Retries=0", "-o", "APT::Update::Error-Mode=any")
    assert refused.returncode, "it has another way out: " + refused.stdout

    url = mirror.url.replace("127.0.0.1", HERE)
    done = playbook("bake", configure_mirrors_root=str(other.folder), configure_mirrors_url=url)
    assert done.returncode == 0, done.stdout + done.stderr
    lists = dict(zip(("debian", "security"), (f"mirror+file:/etc/apt/mirrors/nearby-{name}.list" for name in SITES), strict=True))
    assert source.read_text() == SOURCES.format(release=other.release, **lists)
    mirror.purge()
    cold, packages = other.install(mirror)
    with cut_off(names, f"{mirror.url}/debian/unseen"):
        away, again = other.install(mirror)
    assert {package.split("_")[0] for package in packages} == set(PACKAGES) and again == packages
    for state, run in ("cold", cold), ("cut off", away):
        assert run.asked == sorted(url + line["uri"] for line in run.access) == cold.asked, "each file is in the mirror's log"
        assert {unquote(line["uri"]).rpartition("/")[2] for line in run.access if line["uri"].endswith(".deb")} == packages
        assert {line["status"] for line in run.access} == {200}
        came = bodies(mirror, f"apt of {other.release}, {state}", run.access, run.upstream)
        assert bool(came) == (state == "cold"), "fetched from upstream"
    assert {line["cache"] for line in away.access} <= HITS, "not from the cache"
    print(*away.asked, sep="\n")
    done = playbook("bake", configure_mirrors_root=str(other.folder), configure_mirrors_state="absent")
    assert done.returncode == 0, done.stdout + done.stderr


@FIRST
def test_what_upstream_lacks_is_refused_before_anything_is_changed(both: tuple[Mirror, Names], archives: dict[str, dict]) -> None:
    before = (CONFIG / "current").readlink()
    for site, sentence in (
        ({"upstream": archives["debian"]["url"], "suites": ["none"]}, "answered 404 where the Release of suite 'none' should be"),
        ({"suites": ["none"]}, "no apt source of the mirror host has its suites, or ends in /debian; set upstream: for it in mirror_sites"),
    ):
        refused = quickstart(mirror_sites=[{"type": "deb", "name": "debian", **site}])
        assert refused.returncode and sentence in refused.stdout, refused.stdout
        assert recap(refused.stdout)["changed"] == 0 and (CONFIG / "current").readlink() == before


@FIRST
def test_sources_are_as_they_were_once_they_are_put_back(both: tuple[Mirror, Names], node: Node) -> None:
    before = node.files()
    node.configure(configure_mirrors_url=both[0].url)
    after = node.files()
    led = b"\n".join(after[path] for path in before if after[path] != before[path]).decode()
    was = b"\n".join(before[path] for path in before if after[path] != before[path]).decode()
    lists = {f"mirror+file:/etc/apt/mirrors/nearby-{name}.list" for name in SITES}
    assert set(uris(led)) == lists and "trusted" not in led.replace("trusted.gpg", "").lower()
    assert [line for line in led.splitlines() if "mirror+file:" not in line] == [line for line in was.splitlines() if not uris(line + "\n")]
    node.configure(configure_mirrors_state="absent")
    assert node.files() == before
