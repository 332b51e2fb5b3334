# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Of each protocol, on a real store: a bit of every other artifact is flipped, and after one scrub none of them is served."""

from __future__ import annotations

import contextlib
import hashlib
import typing as t
from pathlib import Path

import bench
import pytest
from crates import CrateIndex, Crates
from npmregistry import NpmRegistry
from ociregistry import OciRegistry
from scrub_stage import SLICE, Scrubbed

SLICED = {"mirror_slice_size": f"{SLICE // 1024}k"}
Stored = dict[str, bytes]  # what is right, by its path on the mirror


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


PROTOCOLS = {"oci": oci, "npm": npm, "cargo": cargo}


@pytest.mark.parametrize("engine", bench.ENGINES)
@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_of_flipped_bits_none_is_served_after_one_scrub(tmp_path: Path, protocol: str, engine: str) -> None:
    with PROTOCOLS[protocol](tmp_path, engine) as (mirror, artifacts):
        stage = Scrubbed(mirror, tmp_path / "scrub.json")
        assert all(stage.fetch(path) == body for path, body in artifacts.items())
        bad = sorted(artifacts)[::2]
        for number, path in enumerate(bad):
            stage.flip_bit(path, number / (len(bad) - 1))
        served = [path for path in sorted(artifacts) if stage.fetch(path) != artifacts[path]]
        assert served == bad, "what is stored is served, right or wrong"

        report = stage.scrub()
        (site,) = report["sites"]
        assert (site["looked_at"], site["good"], site["bad"]) == (len(artifacts), len(artifacts) - len(bad), len(bad)), report
        assert sorted(entry["path"] for entry in report["bad"]) == bad and all(entry["purged"] for entry in report["bad"])
        assert [path for path in artifacts if stage.fetch(path) != artifacts[path]] == []
        assert stage.scrub()["sites"][0]["good"] == len(artifacts)
