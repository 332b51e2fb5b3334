# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""skopeo, podman, buildah, containerd, dockerd and buildkitd against a registry of images, Debian's docker-registry, through a mirror
that is deployed on this machine.

Images have a name that the mirror alone knows the registry's address of, so that there is no way to it but the mirror. Each client
begins with an empty store. Needs root, docker-registry, skopeo, podman, buildah, containerd, dockerd, runc, go and the Go module proxy.
"""

from __future__ import annotations

import contextlib
import functools
import gzip
import hashlib
import http.client
import io
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from deploying import CACHE, CONFIG, LOG, RUN, deployed, playbook, quickstart, recap, start
from installs import HITS, NOWHERE, Mirror
from packageurl.validate import DEFINITIONS_BY_TYPE
from test_golang import go_tool, told
from upstreams import until

import bench  # isort: skip
from ociregistry import OciRegistry  # isort: skip
from registry import free_port  # isort: skip

FETCHED = Path(f"{CACHE}-fetchers")
REGISTRY, IMAGE = "docker.test", "library/app"  # a name that dockerd's own registry could have
LAYER_SIZE = 3_000_000
BUILDKIT = "v0.12.5"  # 0.12 is the first that knows mirrors with a path


def surroundings(home: Path) -> dict[str, str]:
    """For a client: no settings of this machine's, and no way out but to this machine."""
    environment = {"PATH": os.environ["PATH"], "HOME": str(home), "LANG": "C.UTF-8", "XDG_RUNTIME_DIR": str(home)}
    return environment | {"http_proxy": NOWHERE, "https_proxy": NOWHERE, "no_proxy": "127.0.0.1,localhost"}


def run(*command: str | Path, home: Path, check: bool = True) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, env=surroundings(home), cwd=home, capture_output=True, text=True, timeout=120, check=False)
    assert not check or done.returncode == 0, f"{command}:\n{done.stdout}{done.stderr}"
    return done


def layout(folder: Path) -> None:
    """An image of one layer that cannot be packed, as a folder (OCI image layout specification)."""
    (folder / "blobs/sha256").mkdir(parents=True)

    def blob(body: bytes, media_type: str) -> dict[str, object]:
        name = hashlib.sha256(body).hexdigest()
        (folder / "blobs/sha256" / name).write_bytes(body)
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": f"sha256:{name}", "size": len(body)}

    layer = io.BytesIO()
    with tarfile.open(fileobj=layer, mode="w") as archive:
        content = os.urandom(LAYER_SIZE)
        member = tarfile.TarInfo("payload")
        member.size = len(content)
        archive.addfile(member, io.BytesIO(content))
    packed = blob(layer.getvalue(), "layer.v1.tar")
    config = {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": [packed["digest"]]}}
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": blob(json.dumps(config).encode(), "config.v1+json"),
        "layers": [packed],
    }
    entry = blob(json.dumps(manifest).encode(), "manifest.v1+json") | {"annotations": {"org.opencontainers.image.ref.name": "latest"}}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion": "1.0.0"}')


@dataclass
class Upstream:
    """A registry that takes and gives images, to everybody."""

    folder: Path
    port: int
    process: subprocess.Popen[bytes] | None = None

    def asked(self, seen: int = 0) -> list[str]:
        """The requests for manifests and blobs after so many, each with its status: ``HEAD .../manifests/latest 200``."""
        lines = re.findall(r'"([A-Z]+) (\S*/(?:manifests|blobs)/\S+) HTTP/[0-9.]+" ([0-9]+) ', (self.folder / "log").read_text())
        return [" ".join(line) for line in lines][seen:]

    def start(self) -> None:
        config = {
            "version": 0.1,
            "log": {"level": "error"},
            "storage": {"filesystem": {"rootdirectory": f"{self.folder}/registry"}},
        }
        (self.folder / "config.yml").write_text(json.dumps(config | {"http": {"addr": f"127.0.0.1:{self.port}"}}))
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(["docker-registry", "serve", self.folder / "config.yml"], stdout=log, stderr=subprocess.DEVNULL)

        def answers() -> bool:
            with contextlib.suppress(OSError):
                return bool(urllib.request.urlopen(f"http://127.0.0.1:{self.port}/v2/", timeout=5).status == 200)
            return False

        assert until(answers, 10), "docker-registry does not answer"

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def push(self) -> None:
        shutil.rmtree(self.folder / "layout", ignore_errors=True)
        layout(self.folder / "layout")
        place = f"docker://127.0.0.1:{self.port}/{IMAGE}:latest"
        run("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{self.folder}/layout:latest", place, home=self.folder)


@pytest.fixture(scope="module")
def upstream(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Upstream]:
    for tool in "docker-registry", "skopeo", "podman", "buildah", "containerd", "dockerd":
        assert shutil.which(tool), f"{tool} is not installed; run make host"
    upstream = Upstream(tmp_path_factory.mktemp("upstream"), free_port())
    upstream.start()
    upstream.push()
    yield upstream
    upstream.stop()


def fetching() -> dict[str, int]:
    """The processes that fetch for the mirror, by their names."""
    running = subprocess.run(["pgrep", "-a", "docker-registry"], capture_output=True, text=True, check=False).stdout.splitlines()
    return {Path(line.split()[-1]).stem: int(line.split()[0]) for line in running if f" {CONFIG}/fetchers/" in line}


def fetched_for() -> list[str]:
    """For which sites, and whether passing."""
    return sorted(name.rpartition(".")[0] for name in fetching())


def tags(url: str, repository: str) -> list[str]:
    with urllib.request.urlopen(f"{url}/v2/{repository}/tags/list", timeout=20) as answer:
        return json.loads(answer.read())["tags"]


def test_what_fetches_comes_and_goes_with_its_site(upstream: Upstream) -> None:
    one, two = ({"type": "oci", "name": name, "upstream": f"http://127.0.0.1:{upstream.port}"} for name in ("one", "two"))
    with OciRegistry() as guarded:
        guarded.anonymous = "basic"
        refused = quickstart(mirror_sites=[{**one, "upstream": f"http://127.0.0.1:{guarded.port}"}])
        assert refused.returncode and "answered 401, and this mirror pulls anonymously only; set another upstream" in refused.stdout
        assert not fetching()
    with deployed(mirror_sites=[one, two]) as url:
        both = fetching()
        assert fetched_for() == ["one", "one.passing", "two", "two.passing"]
        more = quickstart(mirror_sites=[one, two, "pypi"], mirror_verify=False)
        assert more.returncode == 0 and fetching() == both, "what serves changed, and what fetches did not"
        away = quickstart(mirror_sites=[one, {**two, "upstream": NOWHERE, "origins": []}], __mirror_fetcher_patience=3)
        assert away.returncode and "docker-registry does not run for each site of the type oci: let this host reach" in away.stdout
        assert fetching() == both, "what the release in force needs goes on"
        done = quickstart(mirror_sites=[two])
        assert done.returncode == 0, done.stdout
        assert fetching() == {name: pid for name, pid in both.items() if name.startswith("two.")}
        assert {path.stem for path in (CONFIG / "fetchers").iterdir()} == {path.name for path in FETCHED.iterdir()} == set(fetching())
        assert {path.name for path in RUN.glob("fetcher-*")} == {f"fetcher-{name}.pid" for name in fetching()}
        assert tags(url, f"two/{IMAGE}") == ["latest"]
        none = quickstart(mirror_sites=["pypi"], mirror_verify=False)
        assert none.returncode == 0 and not fetching() and not list(FETCHED.iterdir()), none.stdout
    assert not fetching()


def test_another_upstream_is_fetched_from_when_its_release_is_in_force_and_not_before(upstream: Upstream) -> None:
    site = {"type": "oci", "name": "images", "upstream": f"http://127.0.0.1:{upstream.port}"}
    with OciRegistry() as other, deployed(mirror_sites=[site]) as url:
        moved = {**site, "upstream": f"http://127.0.0.1:{other.port}"}
        for name in "one", "two":
            other.push(name, name, name.encode())
        checked = quickstart("--check", mirror_sites=[moved])
        assert checked.returncode == 0, checked.stdout
        killed = start("quickstart", mirror_sites=[moved])
        assert killed.stdout
        assert any("What fetches has its unit" in line for line in killed.stdout), "its configuration is written"
        os.killpg(killed.pid, signal.SIGKILL)
        killed.wait()
        completed = quickstart(mirror_sites=[moved])
        assert completed.returncode == 0 and "one" in tags(url, "images/one"), completed.stdout
        after = fetching()
        refused = quickstart(mirror_sites=[{**site, "probe": "none:latest"}])
        assert refused.returncode and "fails its trial, so nothing was changed" in re.sub(r"\s+", " ", refused.stdout), refused.stdout
        assert after.items() <= fetching().items() and "two" in tags(url, "images/two")
        again = quickstart(mirror_sites=[moved])
        assert again.returncode == 0 and fetching() == after, again.stdout


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def mirror(request: pytest.FixtureRequest, upstream: Upstream) -> Iterator[Mirror]:
    site = {"type": "oci", "name": "images", "upstream": f"http://127.0.0.1:{upstream.port}", "registry": REGISTRY}
    site |= {"port": free_port()}
    variables = {"mirror_sites": [site | {"lifetime": 1, "probe": f"{IMAGE}:latest"}], "mirror_engine": request.param}
    with deployed(**variables) as url:
        again = quickstart(**variables)
        assert recap(again.stdout)["changed"] == 0, again.stdout
        yield Mirror(url, LOG, CACHE, RUN / "mirror.pid")


@pytest.fixture
def home(mirror: Mirror) -> Iterator[Callable[[], Path]]:
    """Makes the home of a user whose clients the role has pointed at the mirror."""
    top = Path(tempfile.mkdtemp(prefix="oci-"))  # podman refuses long paths

    def make() -> Path:
        folder = top / str(len(list(top.iterdir())))
        folder.mkdir()
        scope = {"configure_mirrors_scope": "user", "configure_mirrors_home": str(folder), "configure_mirrors_url": mirror.url}
        done = playbook("nodes", **scope, nearby_hosts="localhost", ansible_connection="local")
        assert done.returncode == 0, done.stdout + done.stderr
        assert (folder / ".config/containers/registries.conf.d/nearby-mirrors.conf").exists(), done.stdout
        policy = folder / ".config/containers/policy.json"
        policy.write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        return folder

    yield make
    shutil.rmtree(top)


def skopeo(home: Path) -> bytes:
    """The layer that came, which was packed when it was pushed."""
    run("skopeo", "copy", f"docker://{REGISTRY}/{IMAGE}:latest", f"dir:{home}/image", home=home)
    return gzip.decompress(max((home / "image").iterdir(), key=lambda path: path.stat().st_size).read_bytes())


def podman(home: Path, program: str = "podman") -> bytes:
    store = [program, f"--root={home}/root", f"--runroot={home}/run", "--storage-driver=vfs"]
    run(*store, "pull", "--quiet", f"{REGISTRY}/{IMAGE}:latest", home=home)
    (found,) = home.glob("root/vfs/dir/*/payload")
    return found.read_bytes()


def buildah(home: Path) -> bytes:
    return podman(home, "buildah")


@contextlib.contextmanager
def daemon(home: Path, address: Path, *command: str | Path) -> Iterator[None]:
    """A daemon of the user's own, until it is not needed any more."""

    def listens() -> bool:
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(address))
            return True
        return False

    with (home / "log").open("w") as log:
        process = subprocess.Popen(command, env=surroundings(home), cwd=home, stdout=log, stderr=log)
    try:
        assert until(listens, 30), (home / "log").read_text()
        yield
    finally:
        process.terminate()
        process.wait(30)


def containerd(home: Path) -> bytes:
    (home / "containerd.toml").write_text(
        f'version = 2\nroot = "{home}/root"\nstate = "{home}/state"\ndisabled_plugins = ["io.containerd.grpc.v1.cri"]\n'
        f'[grpc]\naddress = "{home}/sock"\n'
    )
    client = ["ctr", f"--address={home}/sock", "images", "pull", f"--hosts-dir={home}/.config/containerd/certs.d", "--snapshotter=native"]
    with daemon(home, home / "sock", "containerd", "--config", home / "containerd.toml"):
        run(*client, "--platform=linux/amd64", f"{REGISTRY}/{IMAGE}:latest", home=home)
    (found,) = home.glob("root/io.containerd.snapshotter.v1.native/snapshots/*/payload")
    return found.read_bytes()


def dockerd(home: Path) -> bytes:
    """It names no registry, and means its own."""
    network = ["--bridge=none", "--iptables=false", "--ip6tables=false"]
    place = [f"--data-root={home}/root", f"--exec-root={home}/state", f"--pidfile={home}/pid", f"--host=unix://{home}/sock"]
    settings = ["--storage-driver=vfs", f"--config-file={home}/.config/docker/daemon.json"]
    with daemon(home, home / "sock", "dockerd", *network, *place, *settings):
        connection = http.client.HTTPConnection("docker", timeout=120)
        connection.sock = socket.socket(socket.AF_UNIX)
        connection.sock.connect(f"{home}/sock")
        connection.request("POST", f"/images/create?fromImage={IMAGE}&tag=latest")
        answer = connection.getresponse().read().decode()
        connection.close()
        found = [path.read_bytes() for path in home.glob("root/vfs/dir/*/payload")]
    assert len(found) == 1, answer + (home / "log").read_text()
    return found[0]


def buildkit() -> Path:
    """A folder for buildkitd and buildctl, which Debian has no package of. What is built is kept for the next run, as Go keeps it."""
    return Path(told("GOCACHE")).with_name("nearby-buildkit") / BUILDKIT


@functools.cache
def building() -> subprocess.Popen[str] | None:
    """Their compilation, which gives way to what else is done; None where they are there. A run of many tests begins with it."""
    names = ("buildkitd", "buildctl")
    if all((buildkit() / name).exists() for name in names):
        return None
    module = DEFINITIONS_BY_TYPE["github"].default_repository_url.removeprefix("https://") + "/moby/buildkit"
    return subprocess.Popen(
        ["nice", "-n", "19", go_tool(), "install", *(f"{module}/cmd/{name}@{BUILDKIT}" for name in names)],
        env=os.environ | {"GOBIN": str(buildkit()), "CGO_ENABLED": "0"},
        stderr=subprocess.PIPE,
        text=True,
    )


@functools.cache
def complaint() -> str:
    """What the compiler, which is waited for, has against it at its third try; empty where it has nothing."""
    for _time in range(3):
        if not (compiler := building()):
            return ""
        said = compiler.communicate()[1]
        building.cache_clear()
        if not compiler.returncode or "note: module requires Go" in said:
            break
    return said if compiler.returncode else ""


def buildkitd(home: Path) -> bytes:
    (home / "Dockerfile").write_text(f"FROM {REGISTRY}/{IMAGE}:latest\n")
    if "note: module requires Go" in complaint():
        pytest.skip(f"buildkitd {BUILDKIT} needs a later Go than {told('GOVERSION')}")
    assert not complaint(), complaint()
    tools, address = buildkit(), home / "sock"
    worker = ["--oci-worker=true", "--containerd-worker=false", "--oci-worker-snapshotter=native", f"--root={home}/root"]
    settings = [f"--config={home}/.config/buildkit/buildkitd.toml", f"--addr=unix://{address}"]
    with daemon(home, address, tools / "buildkitd", *settings, *worker):
        context = [f"--local={name}={home}" for name in ("context", "dockerfile")]
        client = [tools / "buildctl", f"--addr=unix://{address}", "build", "--frontend=dockerfile.v0", *context]
        run(*client, f"--output=type=local,dest={home}/image", home=home)
    return (home / "image/payload").read_bytes()


def test_containerd_asks_the_registry_where_the_mirror_is_away(mirror: Mirror, upstream: Upstream, home: Callable[[], Path]) -> None:
    folder = home()
    hosts = folder / f".config/containerd/certs.d/{REGISTRY}/hosts.toml"
    hosts.write_text(hosts.read_text().replace(mirror.url, NOWHERE))
    assert f'[host."{NOWHERE}/v2/images"]' in hosts.read_text()
    before = mirror.positions()
    assert len(containerd(folder)) == LAYER_SIZE
    assert mirror.since(before, "access.log") == []


@pytest.mark.timeout(1200)  # buildkitd is compiled
@pytest.mark.parametrize("pull", [skopeo, podman, buildah, containerd, dockerd, buildkitd])
def test_pulls_cold_and_warm_and_then_without_upstream(
    mirror: Mirror, upstream: Upstream, home: Callable[[], Path], pull: Callable[[Path], bytes]
) -> None:
    upstream.push()
    (layer,) = (path.read_bytes() for path in (upstream.folder / "layout/blobs/sha256").iterdir() if path.stat().st_size > LAYER_SIZE)
    mirror.purge()
    wanted = layer if pull is skopeo else layer[512 : 512 + LAYER_SIZE]
    before = mirror.positions()
    assert pull(home()) == wanted
    cold = [line for line in mirror.since(before, "access.log") if re.match(f"/v2/(?:images/)?{IMAGE}/", line["uri"])]
    assert sum("/blobs/" in line["uri"] and line["status"] == 200 for line in cold) == 2, cold
    kept = [path for path in FETCHED.rglob("data") if path.stat().st_size >= LAYER_SIZE]
    assert not kept, "what fetches has a copy of its own"
    time.sleep(4)
    seen = len(upstream.asked())
    assert pull(home()) == wanted
    asked = upstream.asked(seen)
    assert asked and set(asked) == {f"HEAD /v2/{IMAGE}/manifests/latest 200"}, "a tag is asked for, and no manifest is pulled again"
    upstream.stop()
    try:
        before = mirror.positions()
        assert pull(home()) == wanted
        warm = [line for line in mirror.since(before, "access.log") if re.match(f"/v2/(?:images/)?{IMAGE}/", line["uri"])]
        blobs = [line["cache"] for line in warm if "/blobs/" in line["uri"]]
        assert len(blobs) == 2 and set(blobs) <= HITS, warm
    finally:
        upstream.start()


def test_the_mirror_is_healthy(mirror: Mirror) -> None:
    report = health.examine(Client(), mirror.url, upstream=Client())
    assert not report.failure, report.failure
