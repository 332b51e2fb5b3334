# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for the sparse index of crates, on a mirror of their own, whose pages are fresh for 1 s."""

from __future__ import annotations

import gzip
import json
import typing as t
from urllib.parse import urlsplit

import bench
import pytest
from bench import World, age, at_once, on_the_second, show
from crates import CrateIndex, Crates, prefix
from promises import promise, table

MEGABYTE = 1 << 20


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage = tmp_path_factory.mktemp(f"cargo-{request.param}"), request.config.getoption("breakage")
    with Crates() as crates, Crates("store.test") as store, Crates("stranger.test") as stranger:
        store.bodies = stranger.bodies = crates.bodies
        origins = [crates.url, store.url]
        with bench.one_site(root, request.param, CrateIndex(crates), breakage, type="cargo", origins=origins) as world:
            world.names.table |= dict.fromkeys(("files.test", "store.test", "stranger.test"), "127.0.0.1")
            world.registries["store"], world.stranger = store, stranger  # type: ignore[assignment]
            yield world


@pytest.fixture
def index(world: World) -> t.Iterator[CrateIndex]:
    yield world.registries["cargo"]  # type: ignore[misc]
    world.registries["cargo"].crates.back()  # type: ignore[attr-defined]


@pytest.fixture
def crate(index: CrateIndex, numbers: t.Iterator[int]) -> str:
    """A crate that nobody has asked for, with one version."""
    name = f"Row_{next(numbers)}-demo"
    index.publish(name, "1.0.0")
    return name


def get(world: World, path: str, headers: dict[str, str] | None = None, **options: t.Any) -> bench.Reply:
    """What cargo sends, which takes what is packed on the way."""
    sent = {"Accept-Encoding": "gzip", "User-Agent": "cargo/1.95.0", "cargo-protocol": "version=1"}
    return world.mirror.get(f"/cargo/{path}", sent | (headers or {}), **options)


def body(reply: bench.Reply) -> bytes:
    return gzip.decompress(reply.body) if reply["Content-Encoding"] == "gzip" else reply.body


def page(name: str) -> str:
    return f"{prefix(name)}/{name}".lower()


def file(index: CrateIndex, name: str, version: str = "1.0.0") -> str:
    """A crate's path on the mirror, below the site."""
    return "files/" + index.crates.path(name, version)


def asked(index: CrateIndex, name: str) -> list[int]:
    return index.crates.requests(index.crates.path(name, "1.0.0"))


@promise("links")
@table(
    "template",
    {
        "appended": "/crates",
        "at the root": "",
        "markers": "/{lowerprefix}/{crate}/{version}.crate",
        "all markers": "/{prefix}/{crate}-{version}/{sha256-checksum}",
    },
)
def test_downloads_stay_on_the_mirror(world: World, index: CrateIndex, crate: str, template: str) -> None:
    index.crates.template = template
    age()
    reply = get(world, "config.json")
    own = f"http://mirror.test:{world.mirror.address[1]}/cargo"
    assert (reply.status, reply.type) == (200, "application/json"), show(reply)
    assert json.loads(body(reply)) == {"dl": f"{own}/files{template}", "api": f"{own}/not-offered/web.test"}
    found = get(world, file(index, crate))
    assert (found.status, found.body) == (200, index.crates.bodies[crate, "1.0.0"]), show(found)


@promise("closed")
@table("method", {"search": "GET", "publish": "PUT", "yank": "DELETE"})
def test_the_web_api_is_not_offered(world: World, index: CrateIndex, method: str) -> None:
    api = urlsplit(json.loads(body(get(world, "config.json")))["api"]).path.removeprefix("/cargo/")
    before = len(index.asked), len(index.crates.asked)
    for path in f"{api}/api/v1/crates?q=demo", "api/v1/crates?q=demo", "":
        reply = get(world, path, method=method)
        assert reply.status == (404 if method == "GET" else 405), show(reply)
    assert (len(index.asked), len(index.crates.asked)) == before


@promise("protocol")
@table("name", {"config": "", "one": "a", "two": "ab", "three": "abc", "four": "abcd", "hyphen": "a-b-c_d", "capitals": "Cargo"})
def test_the_index_is_revalidated(world: World, index: CrateIndex, name: str) -> None:
    path = page(name) if name else "config.json"
    if name:
        index.publish(name, "1.0.0")
    age()
    already = len(index.requests(path))
    on_the_second()
    first, second = get(world, path), get(world, path)
    assert first.status == 200 and second.cache == "hit", show(second)
    assert not name or body(first) == index.find(path)[0]  # type: ignore[index]
    same = get(world, path, {"If-None-Match": first["ETag"]})
    assert (same.status, same.body) == (304, b""), show(same)
    age()
    assert body(get(world, path)) == body(first)
    assert set(index.requests(path)[already + 1 :]) == {304}, "it has to be revalidated, not fetched anew"
    if name:
        index.publish(name, "1.1.0")
    else:
        index.crates.template = "/moved"
    age()
    assert (b"1.1.0" if name else b"/moved") in body(get(world, path))


@promise("protocol")
def test_crates_never_change(world: World, index: CrateIndex, crate: str) -> None:
    path = file(index, crate)
    first = get(world, path)
    assert (first.status, first.body) == (200, index.crates.bodies[crate, "1.0.0"]), show(first)
    index.crates.failing = True
    age()
    again = get(world, path)
    assert (again.cache, again.body) == ("hit", first.body), show(again)
    assert len(asked(index, crate)) == 1, "its path reaches upstream as it came, and once"


@promise("once")
def test_fifty_cold_clients_fetch_once(world: World, index: CrateIndex, numbers: t.Iterator[int]) -> None:
    name = f"herd-{next(numbers)}"
    index.publish(name, "1.0.0", 800_000)
    replies = at_once(50, lambda _number: get(world, file(index, name)))
    assert {(reply.status, reply.complete, reply.sha256) for reply in replies} == {(200, True, replies[0].sha256)}
    assert replies[0].body == index.crates.bodies[name, "1.0.0"]
    assert len(asked(index, name)) == 1


@promise("http")
def test_head_and_ranges(world: World, index: CrateIndex, crate: str) -> None:
    path, whole = file(index, crate), index.crates.bodies[crate, "1.0.0"]
    for _time in "cold", "warm":
        head, part = get(world, path, method="HEAD"), get(world, path, {"Range": "bytes=10-19"})
        assert (head.status, head["Content-Length"]) == (200, str(len(whole))), show(head)
        assert (part.status, part.body) == (206, whole[10:20]), show(part)


@promise("protocol")
@pytest.mark.parametrize("status", [404, 410])
@table("kind", {"index": False, "crate": True})
def test_what_is_not_there_is_told_as_upstream_tells_it_and_not_stored(
    world: World, index: CrateIndex, numbers: t.Iterator[int], kind: bool, status: int
) -> None:
    name = f"none-{next(numbers)}"
    path = f"crates/{name}/1.0.0/download" if kind else page(name)
    registry = index.crates if kind else index
    if status == 410:
        registry.gone.add(path)
    for _time in "first", "second":
        reply = get(world, f"files/{path}" if kind else path)
        assert (reply.status, body(reply)) == (status, registry.why(path, status)) and reply.cache != "hit", show(reply)
    registry.gone.discard(path)
    index.publish(name, "1.0.0")
    reply = get(world, f"files/{path}" if kind else path)
    assert (reply.status, body(reply)) == (200, registry.find(path)[0]), show(reply)  # type: ignore[index]


@promise("http")
@table(
    "form",
    {
        "whole": "{origin}/elsewhere/{path}",
        "path": "/elsewhere/{path}",
        "signed": "{origin}/elsewhere/{path}?of=a%2Fb%3D",
        "at another origin": "{store}/elsewhere/{path}",
        "at another origin, signed": "{store}/elsewhere/{path}?of=a%2Fb%3D",
    },
)
def test_a_redirect_to_a_declared_origin_is_followed_by_the_mirror(world: World, index: CrateIndex, crate: str, form: str) -> None:
    index.publish(crate, "1.0.0", size=9 << 20)
    path, store = index.crates.path(crate, "1.0.0"), world.registries["store"]
    index.crates.moved[path] = form.format(origin=index.crates.url, store=store.url, path=path)  # type: ignore[attr-defined]
    first = get(world, f"files/{path}")
    assert (first.status, first.body) == (200, index.crates.bodies[crate, "1.0.0"]), show(first)
    there = store if "{store}" in form else index.crates
    assert there.requests(form.format(origin="", store="", path=path)[1:]), "it is asked for there as the redirect says"
    index.crates.failing = there.failing = True
    again = get(world, f"files/{path}")
    assert (again.cache, again.body) == ("hit", first.body), show(again)


@promise("http")
@table("location", {"beside it": "download", "signed": "download?of=a%2Fb%3D"})
def test_a_redirect_may_name_what_lies_beside_it(world: World, index: CrateIndex, crate: str, location: str) -> None:
    path = index.crates.path(crate, "1.0.0")
    asked = path.replace("download", "asked")
    index.crates.moved[asked] = location
    first = get(world, f"files/{asked}")
    assert (first.status, first.body) == (200, index.crates.bodies[crate, "1.0.0"]), show(first)
    assert index.crates.requests(path.replace("download", location))
    index.crates.failing = True
    assert get(world, f"files/{asked}").cache == "hit"


@promise("closed")
@table("location", {"above it": "../1.0.0/download", "encoded": "x/%2E%2e/download", "from the top": "{origin}/crates/x/../{path}"})
def test_a_redirect_with_dots_in_its_path_is_refused(world: World, index: CrateIndex, crate: str, location: str) -> None:
    """What begins as a declared origin does could lead out of it."""
    path = index.crates.path(crate, "1.0.0").replace("download", "asked")
    index.crates.moved[path] = location.format(origin=index.crates.url, path=path)
    reply = get(world, f"files/{path}")
    assert reply.status == 502 and not reply["Location"] and b"href" not in reply.plain, show(reply)
    assert {asked for asked, _status in index.crates.asked if crate in asked} == {path}, "it is not even asked for"


@promise("http")
def test_head_of_a_file_that_lies_elsewhere(world: World, index: CrateIndex, crate: str) -> None:
    """All of it is fetched and stored where the engine cannot ask for less, and never in part."""
    path, whole = index.crates.path(crate, "1.0.0"), index.crates.bodies[crate, "1.0.0"]
    index.crates.moved[path] = f"/elsewhere/{path}"
    for _time in "cold", "warm":
        reply = get(world, f"files/{path}", method="HEAD")
        assert (reply.status, reply["Content-Length"], reply.body) == (200, str(len(whole)), b""), show(reply)
    assert get(world, f"files/{path}").body == whole


@promise("closed")
@table("second", {"whole": "{origin}/there", "path": "/there", "relative": "there"})
def test_what_is_redirected_twice_is_refused(world: World, index: CrateIndex, crate: str, second: str) -> None:
    path = index.crates.path(crate, "1.0.0")
    index.crates.moved[path] = f"/elsewhere/{path}"
    index.crates.moved[f"elsewhere/{path}"] = second.format(origin=index.crates.url)
    reply = get(world, f"files/{path}")
    assert reply.status == 502 and not reply["Location"] and b"href" not in reply.plain, show(reply)


@promise("closed")
def test_a_redirect_to_an_origin_that_is_not_declared_is_refused(world: World, index: CrateIndex, crate: str) -> None:
    path = index.crates.path(crate, "1.0.0")
    index.crates.moved[path] = f"{world.stranger.url}/{path}"  # type: ignore[attr-defined]
    reply = get(world, f"files/{path}")
    assert reply.status == 502 and not reply["Location"] and b"href" not in reply.plain, show(reply)
    assert world.stranger.asked == []


@promise("stale")
def test_what_was_seen_is_served_while_upstream_is_away(world: World, index: CrateIndex, crate: str) -> None:
    paths = ["config.json", page(crate)]
    first = [body(get(world, path)) for path in paths]
    index.failing = index.crates.failing = True
    age()
    for path, seen in zip(paths, first, strict=True):
        reply = get(world, path)
        assert (reply.status, reply.cache, body(reply)) == (200, "stale", seen), show(reply)
    for path in page("unseen"), file(index, crate):
        assert get(world, path).status in (502, 503), "404 would have cargo believe that there is none"
