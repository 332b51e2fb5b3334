# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""apt against the archives that this machine's own sources name, through a mirror that is deployed on it and takes them from there.

apt sees a folder in the place of /etc/apt, in a mount namespace of its own, and has its state and cache elsewhere. It has no way out
but the mirror: whatever else it asks goes to a proxy that is not there. Needs root and the archives.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.apt import uris
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from ansible_collections.nearby.mirrors.plugins.modules.mirror_preflight import own_archives
from deploying import CONFIG, playbook, quickstart, recap
from installs import HITS, LOG_FLUSH_SECONDS, NOWHERE, Mirror
from upstreams import EACH, FIRST, Names, bodies, cut_off, mirror_of, reached, validated

PACKAGES = ["hello", "libstdc++6"]  # one of them has a path that has to be escaped
SITES = ["debian", "debian-security"]


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
def both(archives: dict[str, dict], request: pytest.FixtureRequest) -> Iterator[tuple[Mirror, Names]]:
    sites = [{"type": "deb", "name": name} for name in SITES]
    with mirror_of(*sites, urls=[archive["url"] for archive in archives.values()], mirror_engine=request.param) as both:
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


class Node:
    """A folder with a copy of this machine's sources and of the keys that they trust."""

    def __init__(self, root: Path) -> None:
        self.root = root
        for path in "sources.list", "sources.list.d", "trusted.gpg.d", "keyrings", "mirrors":
            source, copy = Path("/etc/apt", path), root / "etc/apt" / path
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
            ["unshare", "--mount", "sh", "-ec", 'mount --bind "$0" /etc/apt; exec apt-get "$@"', f"{self.root}/etc/apt"]
            + [*options, *proxies, *arguments],
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
        time.sleep(LOG_FLUSH_SECONDS)
        assert {path.name.split("_")[0] for path in (folder / "got").glob("*.deb")} == set(PACKAGES), output[-3000:]
        access = [line for line in mirror.since(positions, "access.log") if line["agent"].startswith("Debian APT")]
        return Run(output, access, mirror.since(positions, "upstream.log"))


@pytest.fixture
def node(tmp_path: Path) -> Node:
    return Node(tmp_path / "node")


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
    mirror.purge()
    cold = node.install(mirror, tmp_path / "cold")
    assert cold.asked == sorted(mirror.url + line["uri"] for line in cold.access), "each file came through the mirror, and is in its log"
    assert {line["status"] for line in cold.access} <= {200, 304}
    assert sum("/by-hash/" in url for url in cold.asked) >= len(SITES) and sum(url.endswith(".deb") for url in cold.asked) == len(PACKAGES)
    assert bodies(mirror, "apt, cold", cold.access, cold.upstream)
    warm = node.install(mirror, tmp_path / "warm")
    with cut_off(names, f"{mirror.url}/debian/unseen"):
        away = node.install(mirror, tmp_path / "away")
    releases = [f"{archive['url']}/dists/{suite}/InRelease" for archive in archives.values() for suite in archive["suites"]]
    again = {url for url in releases if not validated(url)}
    for state, one, anew in ("warm", warm, again), ("cut off", away, set()):
        assert one.asked == sorted(mirror.url + line["uri"] for line in one.access) == cold.asked
        assert set(bodies(mirror, f"apt, {state}", one.access, one.upstream)) <= anew, "fetched from upstream"
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


@FIRST
def test_apt_of_another_release(both: tuple[Mirror, Names], archives: dict[str, dict], tmp_path: Path) -> None:
    """The other release that nodes may have: its root is made through the mirror, configured as an image, and updated in there."""
    mirror, url = both[0], archives["debian"]["url"]
    release = next(suite for suite in ("trixie", "bookworm") if suite not in archives["debian"]["suites"])
    root = tmp_path / "root"
    keys = "--keyring=/usr/share/keyrings/debian-archive-keyring.gpg"
    subprocess.run(["mmdebstrap", "--quiet", "--variant=apt", keys, release, str(root), f"{mirror.url}/debian"], check=True, timeout=250)
    (root / "etc/apt/sources.list").write_text(f"deb {url} {release} main\n")
    done = playbook("bake", configure_mirrors_root=str(root), configure_mirrors_url=mirror.url)
    assert done.returncode == 0, done.stdout + done.stderr
    proxies = ["-o", f"Acquire::http::Proxy={NOWHERE}", "-o", "Acquire::http::Proxy::127.0.0.1=DIRECT"]
    for command in ["update", "-o", "APT::Update::Error-Mode=any"], ["install", "-qy", "hello"]:
        subprocess.run(["unshare", "--mount", "chroot", root, "apt-get", *proxies, *command], check=True, timeout=200)
    assert subprocess.run(["unshare", "--mount", "chroot", root, "hello"], capture_output=True, check=True).stdout == b"Hello, world!\n"
    assert (root / "etc/apt/sources.list").read_text() == f"deb mirror+file:/etc/apt/mirrors/nearby-debian.list {release} main\n"


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
