# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""go against the real module proxy and the real checksum database, through a mirror that is deployed on this machine.

Go reads what the role configure_mirrors wrote, and has no way out but the mirror: whatever else it asks goes to a proxy that is not
there. The mirror is cut off by a name server that no longer knows its upstream. Needs root, go and the registry.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote

import pytest
from installs import HITS, NOWHERE, Mirror
from upstreams import EACH, FIRST, Names, bodies, cut_off, environment_of, mirror_of, patiently, reached, written

# The first of them needs one with capitals in its path, and others of other hosts than their names say.
MAIN = """package main

import (
	"fmt"

	"golang.org/x/sync/errgroup"
	"gopkg.in/yaml.v3"
	"honnef.co/go/tools/config"
)

func main() {
	var group errgroup.Group
	group.Go(func() error {
		text, err := yaml.Marshal(map[string]bool{"checks": len(config.DefaultConfig.Checks) > 0})
		fmt.Print(string(text))
		return err
	})
	if group.Wait() != nil {
		panic("no text")
	}
}
"""
MOD = """module example.org/demo

go 1.17

require (
	golang.org/x/sync v0.7.0
	gopkg.in/yaml.v3 v3.0.1
	honnef.co/go/tools v0.3.3
)
"""
SAYS = "checks: true\n"
USED = re.compile(r"/@v/.+\.(?:zip|mod|info)$|/sumdb/.+/(?:lookup|tile)/")


def go_tool() -> str:
    found = shutil.which("go", path=f"{os.environ['PATH']}:/usr/local/go/bin")
    return found or pytest.fail("go is not installed; run make host")


def told(name: str) -> str:
    """A setting of the go command as this machine has it."""
    return subprocess.run([go_tool(), "env", name], capture_output=True, text=True, check=True, cwd="/").stdout.strip()


def module_proxy() -> str:
    """The one that go asks on this machine."""
    return next(part for part in told("GOPROXY").replace("|", ",").split(",") if part.startswith("http")).rstrip("/")


@pytest.fixture(scope="module")
def upstream() -> str:
    url = module_proxy()
    reached(f"{url}/golang.org/x/sync/@v/list", "the Go module proxy")
    return url


@pytest.fixture(scope="module")
def both(upstream: str, request: pytest.FixtureRequest) -> Iterator[tuple[Mirror, Names]]:
    with mirror_of({"type": "golang", "upstream": upstream}, urls=[upstream], mirror_engine=request.param) as both:
        yield both


@pytest.fixture
def mirror(both: tuple[Mirror, Names]) -> Mirror:
    return both[0]


@dataclass
class Build:
    """What one build of the project asked of the mirror, and what it left behind."""

    says: str
    sums: str
    modules: set[str]
    access: list[dict]
    upstream: list[dict]


@pytest.fixture
def build(mirror: Mirror, tmp_path: Path) -> Callable[..., Build]:
    """Builds the project with nothing that go has fetched left from before: ``build(proxy, sums="")``."""

    def run(proxy: str, sums: str = "") -> Build:
        folder = tmp_path / f"build-{len(list(tmp_path.iterdir()))}"
        project = folder / "project"
        project.mkdir(parents=True)
        for name, text in {"main.go": MAIN, "go.mod": MOD, "go.sum": sums}.items():
            (project / name).write_text(text)
        positions = mirror.positions()
        patiently(lambda: go(folder, proxy, "mod", "download"), 1 if closed(proxy) else 3)
        go(folder, proxy, "build", "-o", "demo", ".")
        cache = folder / "modules/cache/download"
        return Build(
            subprocess.run([project / "demo"], capture_output=True, text=True, check=True).stdout,
            (project / "go.sum").read_text(),
            {str(path.relative_to(cache)) for path in cache.rglob("*") if path.is_file() and USED.search(str(path))},
            [line for line in mirror.since(positions, "access.log") if line["uri"].startswith("/golang/")],
            mirror.since(positions, "upstream.log"),
        )

    return run


def closed(proxy: str) -> bool:
    """Whether go is to have no way out but to a mirror on this machine."""
    return proxy.startswith("http://127.0.0.1") and not proxy.startswith(NOWHERE)


def go(folder: Path, proxy: str, *arguments: str, check: bool = True, **more: str) -> subprocess.CompletedProcess[str]:
    """The go command in the project, with no settings of this machine's, and with no way out but to a mirror on it."""
    way_out = {"HTTPS_PROXY": NOWHERE, "HTTP_PROXY": NOWHERE} if closed(proxy) else {}
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder),
        "GOENV": "off",
        "GOPATH": str(folder / "path"),
        "GOMODCACHE": str(folder / "modules"),
        "GOCACHE": str(folder.parent / "compiled"),
        "GOFLAGS": "-mod=mod -modcacherw",
        "GOTOOLCHAIN": "local",
        "GOPROXY": proxy,
        "CGO_ENABLED": "0",
        **{name: os.environ[name] for name in ("SSL_CERT_FILE", "SSL_CERT_DIR") if name in os.environ},
        **way_out,
        **more,
    }
    done = subprocess.run(
        [go_tool(), *arguments], env=environment, cwd=folder / "project", capture_output=True, text=True, timeout=600, check=False
    )
    assert done.returncode == 0 or not check, done.stderr
    return done


@EACH
def test_a_real_project_builds_cold_then_cut_off(
    both: tuple[Mirror, Names], upstream: str, build: Callable[..., Build], tmp_path: Path
) -> None:
    mirror, names = both
    proxy = environment_of(written(mirror, tmp_path / "home"))["GOPROXY"]
    direct = build(upstream)
    assert not direct.access and direct.sums.count("\n") >= 10
    mirror.purge()
    cold = build(proxy)
    assert cold.sums == direct.sums, "go.sum holds nothing of the mirror"
    assert cold.says == direct.says == SAYS
    served = {unquote(line["uri"]).removeprefix("/golang/") for line in cold.access if line["status"] == 200 and line["method"] == "GET"}
    assert cold.modules - served == set(), "used, but not in the mirror's access log"
    assert any("!burnt!sushi" in path for path in served) and any(f"sumdb/{told('GOSUMDB')}/lookup/" in path for path in served)
    assert bodies(mirror, "go, cold", cold.access, cold.upstream)
    warm = build(proxy)
    with cut_off(names, f"{mirror.url}/golang/example.org/unseen/@v/list"):
        locked = build(proxy, direct.sums)
        anew = build(proxy)
    for state, one in {"warm": warm, "cut off, with go.sum": locked, "cut off": anew}.items():
        assert (one.says, one.sums) == (cold.says, direct.sums)
        assert {line["cache"] for line in one.access if line["status"] == 200} <= HITS, "not from the cache"
        assert bodies(mirror, f"go, {state}", one.access, one.upstream) == [], "fetched from upstream"
        assert one.modules <= served
        assert [path for path in one.modules if path.endswith(".zip")]


@FIRST
def test_go_asks_upstream_itself_where_the_mirror_is_away(upstream: str, build: Callable[..., Build]) -> None:
    assert build(f"{NOWHERE}/golang|{upstream},direct").says == SAYS


@FIRST
@pytest.mark.parametrize(("private", "asked"), [("private.test", False), ("", True)])
def test_a_private_module_is_not_asked_of_the_mirror(mirror: Mirror, tmp_path: Path, private: str, asked: bool) -> None:
    (tmp_path / "project").mkdir()
    positions = mirror.positions()
    go(tmp_path, f"{mirror.url}/golang,direct", "list", "-m", "private.test/secret@v1.0.0", check=False, GOPRIVATE=private)
    assert any("private.test" in line["uri"] for line in mirror.since(positions, "access.log")) == asked
