# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""apt with Ubuntu's sources, against archives laid out as Ubuntu's and signed with a key of their own, through a mirror of each engine.

The role leads the sources to the mirror. They call the archives by names that the mirror alone can resolve, so that there is no way to
them but the mirror. Needs root, apt, dpkg-deb and gpg, no real archive.
"""

from __future__ import annotations

import gzip
import hashlib
import lzma
import sys
from collections.abc import Iterator
from email.utils import formatdate
from pathlib import Path
from urllib.parse import unquote

import pytest
from installs import HITS, flush
from test_deb import Node, Run
from test_deb_publishing import Workshop, workshop  # noqa: F401

sys.path.insert(0, str(Path(__file__).parents[1] / "nodes"))

import bench  # isort: skip
from archive import Archive  # isort: skip
from node_lab import make_control, write_files  # isort: skip
from paths import EPOCH, Found, Paths  # isort: skip

COMPONENTS = ("main", "restricted", "universe", "multiverse")
KEYRING = "usr/share/keyrings/ubuntu-archive-keyring.gpg"
# As its installers write them: from 24.04 on, and before. What is not for PCs has an archive of its own, with all suites.
DEB822 = f"""Types: deb
URIs: {{archive}}
Suites: noble noble-updates noble-backports
Components: {" ".join(COMPONENTS)}
Signed-By: /{KEYRING}

Types: deb
URIs: {{security}}
Suites: noble-security
Components: {" ".join(COMPONENTS)}
Signed-By: /{KEYRING}
"""
ONE_LINE = """deb {archive} jammy main restricted
deb {archive} jammy-updates main restricted
deb {archive} jammy universe
deb {archive} jammy-updates universe
deb {archive} jammy-backports main restricted universe multiverse
deb {security} jammy-security main restricted
deb {security} jammy-security universe
"""
# By node: its architecture, the file with its sources, that with the key, and the sites of the mirror that it is to use.
NODES = {
    "noble": ("amd64", "etc/apt/sources.list.d/ubuntu.sources", KEYRING, ("ubuntu", "ubuntu-security")),
    "jammy": ("amd64", "etc/apt/sources.list", "etc/apt/trusted.gpg.d/ubuntu-keyring.gpg", ("ubuntu", "ubuntu-security")),
    "ports": ("arm64", "etc/apt/sources.list.d/ubuntu.sources", KEYRING, ("ubuntu-ports",)),
}
# By what a suite's name ends with and by component: name, version, what it needs. Nobody gets a backport without asking for it.
PACKAGES = {
    ("", "main"): ("libdemo++1", "1.0-1", ""),
    ("", "universe"): ("demo", "1.0-1", "libdemo++1"),
    ("-updates", "universe"): ("demo", "1.0-1ubuntu0.1", "libdemo++1 (>= 1.0-1ubuntu0.2)"),
    ("-security", "main"): ("libdemo++1", "1.0-1ubuntu0.2", ""),
    ("-backports", "universe"): ("demo", "2.0-1~bpo1", "libdemo++1"),
}
NEWEST = {"demo_1.0-1ubuntu0.1_{}.deb", "libdemo++1_1.0-1ubuntu0.2_{}.deb"}
CONTROL = "Package: {}\nVersion: {}\nArchitecture: {}\nDepends: {}\nMaintainer: Nobody <nobody@example.org>\nDescription: a fixture\n"


class Ubuntu(Paths):
    """All archives in one: who asks for a path gets it by any of its names."""

    HEADERS = Archive.HEADERS

    def __init__(self, workshop: Workshop) -> None:  # noqa: F811
        super().__init__()
        self.workshop = workshop
        self.files: dict[str, bytes] = {}
        for tree, release, architecture in ("ubuntu", "noble", "amd64"), ("ubuntu", "jammy", "amd64"), ("ubuntu-ports", "noble", "arm64"):
            for suite in "", "-updates", "-backports", "-security":
                self.publish(tree, release + suite, suite, architecture)

    def find(self, path: str) -> Found:
        return (self.files[path], "application/octet-stream") if path in self.files else None

    def publish(self, tree: str, name: str, suite: str, architecture: str) -> None:
        indices = {}
        for component in COMPONENTS:
            told = self.package(tree, component, architecture, *PACKAGES[suite, component]) if (suite, component) in PACKAGES else b""
            path = f"{component}/binary-{architecture}/Packages"
            indices |= {path: told, f"{path}.gz": gzip.compress(told, mtime=0), f"{path}.xz": lzma.compress(told)}
        said = f"Origin: Ubuntu\nLabel: Ubuntu\nSuite: {name}\nCodename: {name.partition('-')[0]}\n"
        said += f"Date: {formatdate(EPOCH, usegmt=True).replace('GMT', 'UTC')}\nArchitectures: {architecture}\n"
        said += f"Components: {' '.join(COMPONENTS)}\nAcquire-By-Hash: yes\n"
        said += "NotAutomatic: yes\nButAutomaticUpgrades: yes\nSHA256:\n" if suite == "-backports" else "SHA256:\n"
        for path, body in indices.items():
            digest = hashlib.sha256(body).hexdigest()
            said += f" {digest} {len(body):16} {path}\n"
            if path.endswith("z"):  # it tells of what is unpacked, too, which is not there
                self.files |= {f"{tree}/dists/{name}/{path.rpartition('/')[0]}/by-hash/SHA256/{digest}": body}
        self.files[f"{tree}/dists/{name}/InRelease"] = self.workshop.signed(said.encode())

    def package(self, tree: str, component: str, architecture: str, name: str, version: str, needs: str) -> bytes:
        """What the index of its component says of a package."""
        control = CONTROL.format(name, version, architecture, needs).replace("Depends: \n", "")
        file = f"{name}_{version}_{architecture}.deb"
        body = self.workshop.deb(file, control)
        path = f"pool/{component}/d/demo/{file}"
        self.files[f"{tree}/{path}"] = body
        return f"{control}Filename: {path}\nSize: {len(body)}\nSHA256: {hashlib.sha256(body).hexdigest()}\n\n".encode()


@pytest.fixture(params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, workshop: Workshop) -> Iterator[bench.World]:  # noqa: F811
    archive = Ubuntu(workshop)
    urls = {"ubuntu": "archive.test:{}/ubuntu", "ubuntu-security": "security.test:{}/ubuntu", "ubuntu-ports": "ports.test:{}/ubuntu-ports"}
    sites = [{"name": name, "type": "deb", "upstream": "http://" + url.format(archive.port)} for name, url in urls.items()]
    with bench.one_site(tmp_path_factory.mktemp(f"ubuntu-{request.param}"), request.param, archive, [], *sites[1:], **sites[0]) as world:
        world.names.table = dict.fromkeys(("archive.test", "security.test", "ports.test"), "127.0.0.1")
        yield world


def test_apt_with_ubuntus_sources_downloads_cold_then_without_the_archive(
    world: bench.World,
    workshop: Workshop,  # noqa: F811
    tmp_path: Path,
) -> None:
    archive, control, url = world.registries["deb"], make_control(tmp_path), "http://{}:{}".format(*world.mirror.address)
    upstreams = {str(site["name"]): f"{site['upstream']}/" for site in world.mirror.sites}
    nodes = {name: Node(tmp_path / name) for name in NODES}
    for name, (_architecture, file, key, sites) in NODES.items():
        text = (DEB822 if file.endswith(".sources") else ONE_LINE).format(archive=upstreams[sites[0]], security=upstreams[sites[-1]])
        write_files(nodes[name].root, {file: (0o644, text), key: (0o644, "")})
        (nodes[name].root / key).write_bytes(workshop.keyring)
    settings = {name: {"configure_mirrors_url": url, "configure_mirrors_root": str(node.root)} for name, node in nodes.items()}
    run = control.play("nodes", settings)
    assert run.code == 0, run.output

    def runs(state: str) -> Run:
        """An update and a download on each node with nothing of apt's own left from before."""
        flush(world.mirror.process.pid, world.mirror.root / "log")
        start, output, packages = len(world.mirror.log("")), "", set()
        for name, (architecture, *_rest) in NODES.items():
            folder = tmp_path / f"{name}-{state}"
            options = ("-o", f"APT::Architecture={architecture}", "-o", f"APT::Architectures::={architecture}")
            output += nodes[name].apt(folder, *options, "update") + nodes[name].apt(folder, *options, "install", "-dqy", "demo")
            got = {unquote(path.name) for path in (folder / "cache/archives").glob("*.deb")}
            assert got == {package.format(architecture) for package in NEWEST}, output
            packages |= got
        flush(world.mirror.process.pid, world.mirror.root / "log")
        run = Run(output, world.mirror.log("")[start:], [])
        assert run.asked == sorted(url + line["uri"] for line in run.access), "each file is in the mirror's log"
        assert {line["status"] for line in run.access} == {200}
        assert {line["uri"].split("/")[1] for line in run.access} == set(upstreams)
        assert {unquote(line["uri"]).rpartition("/")[2] for line in run.access if line["uri"].endswith(".deb")} == packages
        return run

    cold = runs("cold")
    archive.failing, asked = True, len(archive.asked)
    bench.age()
    away = runs("away")
    assert away.asked == cold.asked
    assert {line["cache"] for line in away.access} <= HITS, "not from the cache"
    again = archive.asked[asked:]
    assert again and {(path.rpartition("/")[2], status) for path, status in again} == {("InRelease", 503)}, again
