# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for an index that is its upstream itself, with its files beside its projects, as indexes of wheels for one
kind of processor are. Its mirror is its own, and its pages are fresh for 1 s."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import typing as t
from pathlib import Path
from urllib.parse import quote

import bench
import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.health import examine
from ansible_collections.nearby.mirrors.plugins.module_utils.health.base import Options
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from bench import PIP, World, age, at_once, fetch, on_mirror, show, until
from paths import S3, Found, Paths
from promises import promise, table
from registry import wheel, wheel_tree

BASE = "whl/cpu"
Wheels = tuple[str, str, bytes]


class WheelIndex(Paths):
    """Pages of links to files above them, written as paths of the host; nothing is to be had as JSON."""

    HEADERS: t.ClassVar = {r"\.whl$": S3, "": S3 | {"Cache-Control": "no-cache,no-store,must-revalidate"}}

    def __init__(self) -> None:
        super().__init__()
        self.wheels: dict[str, dict[str, bytes]] = {}

    def find(self, path: str) -> Found:
        project, slash, rest = path.removeprefix(f"{BASE}/").partition("/")
        if slash and not rest and project in self.wheels:
            return self.page(project), "text/html"
        for wheels in self.wheels.values():
            if not slash and project in wheels:
                return wheels[project], "application/octet-stream"
        return None

    def page(self, project: str, base: str = BASE) -> bytes:
        lines = [
            f'<a href="/{base}/{quote(name)}#sha256={hashlib.sha256(body).hexdigest()}">{name}</a><br/>'
            for name, body in self.wheels[project].items()
        ]
        return "\n".join(["<!DOCTYPE html><html><body>", *lines, "</body></html>"]).encode()


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage = tmp_path_factory.mktemp(f"wheels-{request.param}"), request.config.getoption("breakage")
    index = WheelIndex()
    options = {"type": "pypi", "name": "wheels", "upstream": f"http://registry.test:{index.port}/{BASE}", "index": "", "origins": []}
    with bench.one_site(root, request.param, index, breakage, {"name": "ported", "port": bench.free_port()}, **options) as world:
        yield world


@pytest.fixture
def index(world: World) -> WheelIndex:
    return world.registries["pypi"]  # type: ignore[return-value]


@pytest.fixture
def wheels(index: WheelIndex, numbers: t.Iterator[int]) -> Wheels:
    """A project that nobody has asked for: its name, its second file's, and that one's bytes."""
    project = f"row-{next(numbers)}"
    names = [f"row_{project[4:]}-{version}+cpu-py3-none-any.whl" for version in ("1.0", "1.1")]
    index.wheels[project] = {name: name.encode() * 1000 for name in names}
    return project, names[1], index.wheels[project][names[1]]


@promise("links")
@table("accept", {"pip": PIP, "a browser": "text/html", "anything": "*/*"})
def test_links_of_a_page_lead_to_files_of_the_mirror(world: World, index: WheelIndex, wheels: Wheels, accept: str) -> None:
    project, name, content = wheels
    for _time in range(2):
        reply = world.mirror.get(f"/wheels/{project}/", {"Accept": accept})
        assert (reply.status, reply.type, reply.plain) == (200, "text/html", index.page(project, "wheels")), show(reply)
    links = [on_mirror(link, f"/wheels/{project}/", "wheels") for link in reply.links]
    assert links == [f"/wheels/{quote(each)}" for each in index.wheels[project]]
    assert fetch(world.mirror.address, links[1]).body == content and name in links[1].replace("%2B", "+")


@promise("protocol")
@table("spelling", {"as a link has it": "%2B", "plain": "+"})
def test_a_file_is_kept_though_it_has_no_folder_of_its_own(world: World, index: WheelIndex, wheels: Wheels, spelling: str) -> None:
    path = wheels[1].replace("+", spelling)
    assert world.mirror.get(f"/wheels/{path}").body == wheels[2]
    assert until(lambda: world.mirror.get(f"/wheels/{path}").cache == "hit")
    age()
    reply = world.mirror.get(f"/wheels/{path}")
    assert (reply.cache, reply.body, len(index.requests(f"{BASE}/{path}"))) == ("hit", wheels[2], 1), show(reply)


@promise("protocol")
def test_pip_installs_from_it(world: World, index: WheelIndex, wheels: Wheels, tmp_path: Path) -> None:
    project, name = wheels[0], f"row_{wheels[0][4:]}-2.0+cpu-py3-none-any.whl"
    core = f"Metadata-Version: 2.1\nName: {project}\nVersion: 2.0+cpu\n".encode()
    index.wheels[project][name] = wheel(wheel_tree(project.replace("-", "_"), "2.0+cpu", core))
    url = "http://{}:{}/wheels/".format(*world.mirror.address)
    command = [sys.executable, "-m", "pip", "install", "--isolated", "--no-cache-dir", "--target", str(tmp_path), "--index-url", url]
    subprocess.run([*command, f"{project}==2.0"], check=True, env={"PATH": os.environ["PATH"]})
    assert list(tmp_path.glob("row_*-2.0+cpu.dist-info/METADATA")), list(tmp_path.iterdir())
    assert [len(index.requests(f"{BASE}/{path}")) for path in (f"{project}/", quote(name))] == [1, 1], index.asked


@promise("stale")
def test_what_was_seen_is_served_while_upstream_fails(world: World, index: WheelIndex, wheels: Wheels) -> None:
    paths = [f"/wheels/{wheels[0]}/", f"/wheels/{quote(wheels[1])}"]
    seen = [world.mirror.get(path, {"Accept": PIP}).body for path in paths]
    assert until(lambda: world.mirror.get(paths[1]).cache == "hit")
    index.failing = True
    age()
    for path, body in zip(paths, seen, strict=True):
        reply = world.mirror.get(path, {"Accept": PIP})
        assert (reply.status, reply.body) == (200, body), show(reply)


@promise("once")
def test_fifty_cold_clients_fetch_once(world: World, index: WheelIndex, wheels: Wheels) -> None:
    index.delay = 0.3
    for path in f"{wheels[0]}/", quote(wheels[1]):
        replies = at_once(50, lambda _number, path=path: world.mirror.get(f"/wheels/{path}", {"Accept": PIP}))
        assert {reply.status for reply in replies} == {200}, replies
        assert len([status for status in index.requests(f"{BASE}/{path}") if status != 304]) == 1, index.asked


@promise("links")
def test_on_a_port_of_its_own(world: World, index: WheelIndex, wheels: Wheels) -> None:
    (site,) = [site for site in world.mirror.sites if "port" in site]
    address = (world.mirror.address[0], site["port"])
    page = fetch(address, f"/{wheels[0]}/", {"Accept": PIP})
    assert (page.status, page.plain) == (200, index.page(wheels[0], "ported")), show(page)
    assert [fetch(address, path).body for path in (page.links[1].partition("#")[0], f"/{quote(wheels[1])}")] == [wheels[2]] * 2
    assert fetch(address, "/not-there/").status == 404


@promise("itself")
def test_health_sees_its_pages_and_files(world: World, index: WheelIndex, wheels: Wheels) -> None:
    site = {"name": "wheels", "type": "pypi", "path": "/wheels/", "index": "/wheels/", "probe": wheels[0], "representations": ["html"]}
    report = examine(Client(), f"http://127.0.0.1:{world.mirror.address[1]}", sites=[site], upstream=None, options=Options())
    told = {check["check"]: check["verdict"] for check in report.checks}
    assert not report.bad, report.checks
    assert {told[name] for name in ("index_html", "links", "artifact_digest", "artifact_hit", "index_hit")} == {"good"}, report.checks
