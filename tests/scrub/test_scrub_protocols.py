# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of each protocol, on a real store: a bit of every other artifact is flipped, and after one scrub none of them is served."""

from __future__ import annotations

import contextlib
import hashlib
import io
import lzma
import re
import typing as t
import zipfile
from pathlib import Path

import bench
import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.health.golang import sum_of
from crates import CrateIndex, Crates
from gemindex import GemIndex
from goproxy import DATABASE, GoProxy
from mavenrepo import MavenRepo
from npmregistry import NpmRegistry
from ociregistry import OciRegistry
from paths import Found, Paths
from rpmtree import RpmTree
from scrub_stage import SLICE, Scrubbed

SLICED = {"mirror_slice_size": f"{SLICE // 1024}k"}
Stored = dict[str, bytes]  # what is right, by its path on the mirror; every other one is flipped, so lists of packages are at odd places


@contextlib.contextmanager
def oci(root: Path, engine: str) -> t.Iterator[tuple[bench.Mirror, Stored]]:
    registry, artifacts = OciRegistry(), {}
    variables = {"mirror_fetcher_port": bench.free_port(), "mirror_fetcher_path": f"{root}/fetchers", **SLICED}
    site = {"type": "oci", "name": "images", "upstream": f"http://127.0.0.1:{registry.port}"}
    for number in range(4):
        layer = hashlib.shake_128(b"%d" % number).digest(number * SLICE + 100)
        config, (blob, *_more) = (registry.push(f"app-{number}", "one", layer)[key] for key in ("config", "layers"))
        names = {"manifests": registry.tags[f"app-{number}"]["one"], "blobs": blob["digest"]}
        artifacts |= {f"/v2/images/app-{number}/{kind}/{name}": registry.bodies[name][0] for kind, name in names.items()}
        artifacts[f"/v2/images/app-{number}/blobs/{config['digest']}"] = registry.bodies[config["digest"]][0]
    with bench.one_site(root, engine, registry, [], variables=variables, **site) as world, bench.fetcher(world.mirror):
        yield world.mirror, artifacts


@contextlib.contextmanager
def npm(root: Path, engine: str) -> t.Iterator[tuple[bench.Mirror, Stored]]:
    registry, artifacts = NpmRegistry(), {}
    registry.url = registry.files_url = f"http://127.0.0.1:{registry.port}"
    for number in range(4):
        for name in f"app-{number}", f"@scope/app-{number}":
            registry.publish(name, "1.0.0", number * SLICE)
            artifacts[f"/npm/{registry.tarball_path(name, '1.0.0')}"] = registry.tarball(name, "1.0.0")
    with bench.one_site(root, engine, registry, [], variables=SLICED, type="npm", upstream=registry.url, origins=[]) as world:
        yield world.mirror, artifacts


@contextlib.contextmanager
def cargo(root: Path, engine: str) -> t.Iterator[tuple[bench.Mirror, Stored]]:
    with Crates() as crates:
        registry = CrateIndex(crates)
        for number in range(8):
            registry.publish(f"App_{number}", "1.0.0-rc.1", number * SLICE)
        artifacts = {f"/cargo/files/{crates.path(*crate)}": body for crate, body in crates.bodies.items()}
        site = {"type": "cargo", "upstream": f"http://127.0.0.1:{registry.port}", "origins": [crates.url]}
        with bench.one_site(root, engine, registry, [], variables=SLICED, **site) as world:
            world.names.table |= {"files.test": "127.0.0.1"}
            yield world.mirror, artifacts


@contextlib.contextmanager
def one(root: Path, engine: str, kind: str, registry: Paths) -> t.Iterator[bench.Mirror]:
    """A mirror with a site that has all from its upstream."""
    site = {"type": kind, "upstream": f"http://127.0.0.1:{registry.port}"}
    with bench.one_site(root, engine, registry, [], variables=SLICED, **site) as world:
        yield world.mirror


@contextlib.contextmanager
def deb(root: Path, engine: str) -> t.Iterator[tuple[bench.Mirror, Stored]]:
    tree = RpmTree()
    pool = {
        f"pool/main/a/app/app_1.{number}+b_all.deb": hashlib.shake_128(b"%d" % number).digest(number * SLICE + 9) for number in range(7)
    }
    text = "".join(f"Filename: {path}\nSHA256: {hashlib.sha256(body).hexdigest()}\n\n" for path, body in pool.items())
    index = lzma.compress(text.encode())
    tree.files = pool | {f"dists/stable/main/binary-all/by-hash/SHA256/{hashlib.sha256(index).hexdigest()}": index}
    with one(root, engine, "deb", tree) as mirror:
        yield mirror, {f"/deb/{path}": body for path, body in tree.files.items()}


@contextlib.contextmanager
def rpm(root: Path, engine: str) -> t.Iterator[tuple[bench.Mirror, Stored]]:
    tree = RpmTree()
    paths = [path for number in range(8) for path in sorted(tree.publish(f"os-{number}", "1.0"))]
    with one(root, engine, "rpm", tree) as mirror:
        yield mirror, {f"/rpm/{path}": tree.files[path] for path in paths if path.endswith((".rpm", "primary.xml.gz"))}


@contextlib.contextmanager
def gem(root: Path, engine: str) -> t.Iterator[tuple[bench.Mirror, Stored]]:
    index = GemIndex()
    for number in range(8):
        index.publish(f"app-{number}", "1.0-arm64-darwin-20", hashlib.shake_128(b"%d" % number).digest(number * SLICE + 9))
    with one(root, engine, "gem", index) as mirror:
        yield mirror, {f"/gem/{path}": body for path, body in index.files.items() if path.endswith(".gem")}


@contextlib.contextmanager
def maven(root: Path, engine: str) -> t.Iterator[tuple[bench.Mirror, Stored]]:
    repository, artifacts = MavenRepo(), {}
    for number in range(4):
        repository.publish(f"org/example/app-{number}", "1.0", number * SLICE + 9)
        for ending in "jar", "jar.sha1", "pom", "pom.asc":
            path = f"org/example/app-{number}/1.0/app-{number}-1.0.{ending}"
            artifacts[f"/maven/{path}"] = repository.find(path)[0]  # type: ignore[index]
    # Of each kind of file two are flipped, and two are not.
    with one(root, engine, "maven", repository) as mirror:
        yield mirror, {path: artifacts[path] for path in sorted(artifacts, key=lambda path: (path.rpartition("1.0.")[2], path))}


class Summed(GoProxy):
    """A proxy whose checksum database has the right sums."""

    def find(self, path: str) -> Found:
        asked = re.fullmatch(rf"sumdb/{DATABASE}/lookup/(.+)@(.+)", path)
        if not asked:
            return super().find(path)
        module, version = asked.groups()
        with zipfile.ZipFile(io.BytesIO(self.archive(module, version))) as archive:
            files = {name: archive.read(name) for name in archive.namelist()}
        go_mod = super().find(f"{module}/@v/{version}.mod")[0]  # type: ignore[index]
        sums = f"{module} {version} {sum_of(files)}\n{module} {version}/go.mod {sum_of({'go.mod': go_mod})}\n"
        return f"7\n{sums}\ngo.sum database tree\n{self.size}\n".encode(), "text/plain; charset=UTF-8"


@contextlib.contextmanager
def golang(root: Path, engine: str) -> t.Iterator[tuple[bench.Mirror, Stored]]:
    proxy, artifacts = Summed(), {}
    for number in range(4):
        proxy.publish(f"example.org/app-{number}", "v1.0.0", number * SLICE + 9)
        for ending in "mod", "zip":
            path = f"example.org/app-{number}/@v/v1.0.0.{ending}"
            artifacts[f"/golang/{path}"] = proxy.find(path)[0]  # type: ignore[index]
    with one(root, engine, "golang", proxy) as mirror:
        mirror.get(f"/golang/sumdb/{DATABASE}/lookup/example.org/app-0@v1.0.0")  # as go does, which tells the database's name
        yield mirror, {path: artifacts[path] for path in sorted(artifacts, key=lambda path: path[::-1])}


PROTOCOLS = {"oci": oci, "npm": npm, "cargo": cargo, "deb": deb, "rpm": rpm, "gem": gem, "maven": maven, "golang": golang}


@pytest.mark.parametrize("engine", bench.ENGINES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_of_flipped_bits_none_is_served_after_one_scrub(tmp_path: Path, protocol: str, engine: str) -> None:
    with PROTOCOLS[protocol](tmp_path, engine) as (mirror, artifacts):
        stage = Scrubbed(mirror, tmp_path / "scrub.json")
        assert all(stage.fetch(path) == body for path, body in artifacts.items())
        bad = list(artifacts)[::2]
        for number, path in enumerate(bad):
            stage.flip_bit(path, number / (len(bad) - 1))
        served = [path for path in artifacts if stage.fetch(path) != artifacts[path]]
        assert served == bad, "what is stored is served, right or wrong"

        report = stage.scrub()
        (site,) = report["sites"]
        assert (site["good"], site["bad"]) == (len(artifacts) - len(bad), len(bad)), report
        assert sorted(entry["path"] for entry in report["bad"]) == sorted(bad) and all(entry["purged"] for entry in report["bad"])
        assert [path for path in artifacts if stage.fetch(path) != artifacts[path]] == []
        assert stage.scrub()["sites"][0]["good"] == len(artifacts)
