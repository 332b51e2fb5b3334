# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""apt against an archive that publishes all the time, signed with a key of its own, through a mirror of each engine on loopback.

apt knows the mirror alone, so it has nowhere to go on to. Needs root, apt, dpkg-deb and gpg, no real archive.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import os
import re
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from installs import NOWHERE, flush

import bench  # isort: skip
from archive import Archive, Suite  # isort: skip

SECONDS, EVERY, KEPT = 15, 0.3, 100  # so long, a generation that often, and so many of them stay by their digests
ENOUGH, AT_MOST = 4, 60  # generations that each node has seen, for which it goes on longer; seconds
LONGER = 3  # seconds for which, as the operator is told, two generations may come where nothing is to be had by its digest
MISFIT = re.compile(r"Hash Sum mismatch|unexpected size")
CONTROL = "Package: demo\nVersion: {}\nArchitecture: all\nMaintainer: Nobody <nobody@example.org>\nDescription: a fixture\n"


class Workshop:
    """Signs with a key of its own, and makes packages."""

    def __init__(self, folder: Path, home: str) -> None:
        self.folder, self.home = folder, home
        self.run("gpg", "--batch", "--quiet", "--passphrase", "", "--quick-gen-key", "demo", "ed25519", "sign", "never")
        self.key = folder / "key.asc"
        self.key.write_bytes(self.run("gpg", "--armor", "--export"))
        self.keyring = self.run("gpg", "--export")

    def run(self, *command: str | Path, given: bytes = b"") -> bytes:
        environment = {"PATH": os.environ["PATH"], "HOME": self.home, "GNUPGHOME": self.home}
        return subprocess.run(command, env=environment, input=given, stdout=subprocess.PIPE, check=True).stdout

    @functools.cache  # noqa: B019
    def signed(self, text: bytes) -> bytes:
        return self.run("gpg", "--batch", "--quiet", "--clear-sign", "--output", "-", given=text)

    @functools.cache  # noqa: B019
    def package(self, generation: int) -> bytes:
        return self.deb(f"demo-{generation}", CONTROL.format(generation))

    @functools.cache  # noqa: B019
    def deb(self, name: str, control: str) -> bytes:
        """A package with nothing in it."""
        root = self.folder / name
        (root / "DEBIAN").mkdir(parents=True, exist_ok=True)
        (root / "DEBIAN/control").write_text(control)
        self.run("dpkg-deb", "-Znone", "--build", root, f"{root}.deb")
        return Path(f"{root}.deb").read_bytes()

    @functools.cache  # noqa: B019
    def index(self, name: str, generation: int) -> bytes:
        package = self.package(generation)
        told = f"Filename: {path(generation)}\nSize: {len(package)}\nSHA256: {hashlib.sha256(package).hexdigest()}\n"
        others = "".join(f"\n{CONTROL.format(generation).replace('demo', f'other-{number}')}" for number in range(200))
        plain = f"{CONTROL.format(generation)}{told}{others}".encode()
        return gzip.compress(plain, mtime=0) if name.endswith(".gz") else plain


class Signed(Suite):
    """A suite whose generations are whole ones: nobody is answered while one is being published."""

    def __init__(self, name: str, kept: int, workshop: Workshop) -> None:
        super().__init__(name, kept, generation=1)
        self.workshop, self.lock = workshop, threading.Lock()
        self.older = 0  # so often an index of a generation was asked for that is not the newest

    def index(self, name: str, generation: int) -> bytes:
        return self.workshop.index(name, generation)

    def release(self) -> bytes:
        return super().release().replace(b"SHA256:", f"Architectures: all\nComponents: main\nVersion: {self.generation}\nSHA256:".encode())

    def find(self, rest: str) -> bytes | None:
        with self.lock:
            if rest == "InRelease":
                return self.workshop.signed(self.release())
            body = super().find(rest)
            self.older += "/by-hash/" in rest and body is not None and body not in self.newest()
            return body

    def newest(self) -> list[bytes]:
        return [self.index(name, self.generation) for name in ("Packages", "Packages.gz")]

    def publish(self) -> None:
        with self.lock:
            self.workshop.package(self.generation + 1)
            super().publish()

    @contextlib.contextmanager
    def publishing(self) -> Iterator[None]:
        """It publishes a generation after the other meanwhile."""
        done = threading.Event()

        def work() -> None:
            while not done.wait(EVERY):
                self.publish()

        (thread := threading.Thread(target=work)).start()
        try:
            yield
        finally:
            done.set()
            thread.join()


class Packages(Archive):
    def __init__(self, workshop: Workshop) -> None:
        super().__init__()
        self.workshop = workshop

    def suite(self, name: str, kept: int) -> Signed:
        self.suites[name] = made = Signed(name, kept, self.workshop)
        return made

    def found(self, name: str) -> bytes:
        return self.workshop.package(int(name.split("_")[1]))


def path(generation: int) -> str:
    return f"pool/main/d/demo/demo_{generation}_all.deb"


class Node:
    """apt with folders of its own and one source: a suite of an archive at some URL."""

    def __init__(self, folder: Path, url: str, suite: str, key: Path) -> None:
        self.folder = folder
        for name in "state/lists/partial", "cache/archives/partial", "got", "none":
            (folder / name).mkdir(parents=True)
        (folder / "status").touch()
        (folder / "sources.list").write_text(f"deb [arch=all signed-by={key}] {url} {suite} main\n")

    def apt(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        settings = {
            "Dir::Etc::sourcelist": f"{self.folder}/sources.list",
            **{f"Dir::Etc::{name}": f"{self.folder}/none" for name in ("sourceparts", "parts", "preferencesparts", "trustedparts")},
            **{f"Dir::Etc::{name}": os.devnull for name in ("main", "preferences", "trusted")},
            "Dir::State": f"{self.folder}/state",
            "Dir::State::status": f"{self.folder}/status",
            "Dir::Cache": f"{self.folder}/cache",
            "Acquire::http::Proxy": NOWHERE,
            "Acquire::http::Proxy::127.0.0.1": "DIRECT",
            "APT::Sandbox::User": "root",
            "Acquire::Retries": "0",  # as the role configure_mirrors sets it
            "APT::Update::Error-Mode": "any",
        }
        options = [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]
        return subprocess.run(
            ["apt-get", *options, *arguments],
            env={"PATH": os.environ["PATH"], "LC_ALL": "C"},
            cwd=self.folder / "got",
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=60,
            check=False,
        )

    def forget(self) -> None:
        for entry in (self.folder / "state/lists").iterdir():
            entry.unlink() if entry.is_file() else None

    @property
    def generation(self) -> int:
        """The one whose InRelease apt has."""
        (release,) = (self.folder / "state/lists").glob("*_InRelease")
        return int(re.findall(r"(?m)^Version: (\d+)$", release.read_text())[0])

    def download(self) -> int:
        """The version of the package that apt gets."""
        done = self.apt("download", "demo")
        assert done.returncode == 0, done.stdout
        (package,) = (self.folder / "got").glob("*.deb")
        told = subprocess.run(["dpkg-deb", "--field", package, "Version"], stdout=subprocess.PIPE, check=True).stdout
        package.unlink()
        return int(told)


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:  # its sockets need a short path
        workshop = Workshop(tmp_path_factory.mktemp("workshop"), home)
        yield workshop
        workshop.run("gpgconf", "--kill", "all")


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, workshop: Workshop) -> Iterator[bench.World]:
    root = tmp_path_factory.mktemp(f"publishing-{request.param}")
    with bench.one_site(root, request.param, Packages(workshop), [], type="deb", name="debian", lifetime=300) as world:
        yield world


@pytest.fixture
def archive(world: bench.World) -> Packages:
    return world.registries["deb"]  # type: ignore[return-value]


def mirror_url(world: bench.World) -> str:
    return "http://{}:{}/debian".format(*world.mirror.address)


def test_apt_updates_while_an_archive_with_digests_publishes(
    world: bench.World, archive: Packages, workshop: Workshop, tmp_path: Path
) -> None:
    """Two nodes at once; one of them has nothing left from the time before."""
    suite = archive.suite("hashed", KEPT)
    archive.turning.add(suite.name)  # so it has published between InRelease and the index, too
    nodes = [Node(tmp_path / name, mirror_url(world), suite.name, workshop.key) for name in ("first", "second")]
    began = time.monotonic()

    def updates(number: int) -> list[int]:
        node, seen = nodes[number], []
        while (passed := time.monotonic() - began) < SECONDS or (len(set(seen)) < ENOUGH and passed < AT_MOST):
            node.forget() if number else None
            done = node.apt("update")
            assert done.returncode == 0 and not MISFIT.search(done.stdout), done.stdout
            seen.append(node.generation)
            time.sleep(0.2)
        return seen

    with suite.publishing():
        seen = bench.at_once(len(nodes), updates)
        versions = [node.download() for node in nodes]
    assert versions == [generations[-1] for generations in seen], "not the newest that apt has been told of"
    flush(world.mirror.process.pid, world.mirror.root / "log")
    log = [(line["uri"], line["status"]) for line in world.mirror.log("^/debian/dists/hashed/.*/")]
    times, different = ([number(generations) for generations in seen] for number in (len, lambda found: len(set(found))))
    print(f"{suite.generation} generations; {times} updates, to {different} of them; upstream gave {suite.older} older indices")
    assert log and {("/by-hash/" in uri, status) for uri, status in log} == {(True, 200)}, "apt had to ask for an index by its path"
    assert suite.older, "it has to have published between InRelease and the index"
    assert all(generations == sorted(generations) for generations in seen) and min(different) >= ENOUGH, seen


def test_apt_updates_soon_after_an_archive_without_digests_has_published(
    world: bench.World, archive: Packages, workshop: Workshop, tmp_path: Path
) -> None:
    """One of InRelease and the index was asked for just before, and is on the mirror; the other one is not, or has expired."""
    suite, misfits = archive.suite("plain", 0), []
    archive.turning.add(suite.name)
    done = Node(tmp_path / "direct", f"http://127.0.0.1:{archive.port}", suite.name, workshop.key).apt("update")
    assert done.returncode and MISFIT.search(done.stdout), "from the archive itself, which published in between: " + done.stdout
    archive.turning.clear()
    node = Node(tmp_path / "node", mirror_url(world), suite.name, workshop.key)
    assert node.apt("update").returncode == 0
    for asked in "InRelease", "main/binary-all/Packages.gz":
        bench.age()
        bench.on_the_second()
        assert world.mirror.get(f"/debian/dists/{suite.name}/{asked}").status == 200
        node.forget()  # or it would be told that its InRelease is the newest, and ask for nothing more
        suite.publish()
        published = time.monotonic()
        done = node.apt("update")
        assert done.returncode == 0 or MISFIT.search(done.stdout), done.stdout
        misfits.append(done.returncode != 0)
        time.sleep(max(published + LONGER - time.monotonic(), 0))
        done = node.apt("update")
        assert done.returncode == 0, f"{time.monotonic() - published:.1f} s after the publication: {done.stdout}"
        assert node.generation == node.download() == suite.generation
    print(f"two generations just after a publication: {misfits}")
