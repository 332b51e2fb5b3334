# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A public index and a private one behind one mirror: who asks one of them never gets anything of the other one."""

from __future__ import annotations

import configparser
import json
import sys
import typing as t
from pathlib import Path

import pytest
from bench import ACCEPT, PIP, Fresh, Mirror, World, at_once, good, on_mirror, show
from node_lab import make_control
from promises import promise, table
from registry import HTML, JSON, V1HTML

Pair = tuple[Fresh, Fresh]
PRIVATE = {"internal": "index/internal", "relative": "relative"}  # a path of its own and files on another host; files beside the index


@pytest.fixture(params=list(PRIVATE))
def pair(request: pytest.FixtureRequest, world: World, numbers: t.Iterator[int]) -> Pair:
    """One project's name in the public index and in the private one: the same version, with files of the same names and other bytes."""
    name, private = f"row-{next(numbers)}", request.param
    both = Fresh(world.registries["pypi"], name, "pypi"), Fresh(world.registries[private], name, PRIVATE[private])
    for number, project in enumerate(both):
        project.registry.publish(name, "1.0", size=1000 * number)
    assert both[0].content != both[1].content and both[0].file.rpartition("/")[2] == both[1].file.rpartition("/")[2]
    return both


@promise("links")
@table("turn", {"public first": 1, "private first": -1})
def test_pages_of_one_name_never_mix(mirror: Mirror, pair: Pair, turn: int) -> None:
    for kind in (JSON, HTML, V1HTML) * 2:
        for project in pair[::turn]:
            for encoding in "gzip", "":
                reply = mirror.get(project.index, {"Accept": ACCEPT[kind], "Accept-Encoding": encoding})
                assert good(reply, project.page(kind), kind), show(reply)


@promise("links")
def test_pages_of_one_name_never_mix_when_asked_at_once(mirror: Mirror, pair: Pair) -> None:
    for project in pair:
        project.registry.fault(path=project.name, delay=0.3)
    replies = at_once(24, lambda number: mirror.get(pair[number % 2].index, {"Accept": PIP}))
    for number, reply in enumerate(replies):
        assert good(reply, pair[number % 2].page(JSON), JSON), show(reply)


@promise("links")
@pytest.mark.parametrize("kind", [JSON, HTML])
def test_links_of_each_index_stay_on_its_own_path_and_lead_to_its_own_bytes(mirror: Mirror, pair: Pair, kind: str) -> None:
    for project in pair * 2:
        reply = mirror.get(project.index, {"Accept": ACCEPT[kind]})
        paths = [on_mirror(link, project.index, project.site) for link in reply.links]
        assert len(paths) == 4 and all(paths), reply.links
        files = [path for path in paths if "/integrity/" not in path]
        assert [mirror.get(path).sha256 for path in files] == [artifact.sha256 for artifact in project.project.artifacts]


@promise("links")
def test_one_path_in_both_indexes_is_two_files(mirror: Mirror, pair: Pair) -> None:
    path = f"dist/{pair[0].name}-1.0-py3-none-any.whl"
    for project in pair:
        project.registry.put(f"/{path}", f"of {project.site}")
    for project in (*pair, *pair):
        reply = mirror.get(f"/{project.site}/{path}")
        assert good(reply, f"of {project.site}".encode()), show(reply)


@promise("closed")
@table("owner", {"public": 0, "private": 1})
def test_what_one_index_has_not_is_asked_of_no_other(mirror: Mirror, pair: Pair, numbers: t.Iterator[int], owner: int) -> None:
    has, lacks = pair[owner], pair[1 - owner]
    name = f"row-{next(numbers)}"
    has.registry.publish(name, "1.0")
    assert mirror.get(f"/{has.site}/simple/{name}/", {"Accept": PIP}).status == 200
    has.registry.forget()
    assert mirror.get(f"/{lacks.site}/simple/{name}/", {"Accept": PIP}).status == 404
    assert lacks.registry.requests(name) and not has.registry.requests(name)


@promise("itself")
def test_pip_of_a_configured_node_asks_one_index(mirror: Mirror, pair: Pair, tmp_path: Path) -> None:
    """It has one index-url, by file and by variables, and gets that index's own version, although the other one has a later one."""
    public, private = pair
    public.registry.publish(public.name, "9.0", "wheel")
    base = f"http://127.0.0.1:{mirror.address[1]}"
    control = make_control(tmp_path)
    given: dict[str, dict[str, t.Any]] = {
        "public": {"configure_mirrors_url": base},
        "private": {"configure_mirrors_info": {"pypi": {"url": f"{base}/{private.site}/simple"}}},
    }
    roots = {name: tmp_path / "nodes" / name for name in given}
    for root in roots.values():
        root.mkdir(parents=True)
    hosts = {name: given[name] | {"configure_mirrors_root": str(root), "configure_mirrors_probe": False} for name, root in roots.items()}
    run = control.play("nodes", hosts)
    assert run.code == 0, run.output
    for name, project, version in ("public", public, "9.0"), ("private", private, "1.0"):
        index = f"{base}/{project.site}/simple/"
        settings = configparser.ConfigParser()
        settings.read(roots[name] / "etc/pip.conf")
        assert {key: value for key, value in settings["global"].items() if "index" in key or "links" in key} == {"index-url": index}
        environment = dict(
            line.split("=", 1) for line in (roots[name] / "etc/nearby-mirrors/environment").read_text().splitlines() if line[:1] != "#"
        )
        assert {key: value for key, value in environment.items() if "INDEX" in key} == {"PIP_INDEX_URL": index, "UV_DEFAULT_INDEX": index}
        reports = []
        for number, settled in enumerate(({"PIP_CONFIG_FILE": str(roots[name] / "etc/pip.conf")}, environment)):
            for registry in public.registry, private.registry:
                registry.forget()
            target, report = tmp_path / f"{name}-{number}", tmp_path / f"{name}-{number}.json"
            pip = [sys.executable, "-m", "pip", "install", "--no-cache-dir", "--only-binary", ":all:", "--target", target]
            control.client(*pip, "--report", report, project.name, **settled)
            (installed,) = json.loads(report.read_text())["install"]
            reports.append(installed)
            payload = target / project.name.replace("-", "_") / "payload.bin"
            assert payload.exists() == (project is private)
            assert not (private if project is public else public).asked()
        wheel = next(a for a in project.project.artifacts if a.version == version and a.filename.endswith(".whl"))
        for installed in reports:
            assert installed["metadata"]["version"] == version
            assert installed["download_info"]["url"].startswith(f"{base}/{project.site}/")
            assert installed["download_info"]["archive_info"]["hashes"]["sha256"] == wheel.sha256
