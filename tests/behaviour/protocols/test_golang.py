# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for the Go module proxy's protocol, on a mirror of their own, whose lists are fresh for 1 s."""

from __future__ import annotations

import gzip
import typing as t

import bench
import pytest
from bench import LAGS, World, age, at_once, lag, on_the_second, show
from goproxy import DATABASE, GoProxy
from promises import promise, table

MEGABYTE = 1 << 20


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage = tmp_path_factory.mktemp(f"golang-{request.param}"), request.config.getoption("breakage")
    with GoProxy() as store, GoProxy() as stranger:
        origins = [f"http://store.test:{store.port}"]
        with bench.one_site(root, request.param, GoProxy(), breakage, type="golang", origins=origins) as world:
            world.names.table |= dict.fromkeys(("store.test", "stranger.test"), "127.0.0.1")
            world.registries["store"], world.stranger = store, stranger  # type: ignore[assignment]
            store.modules = stranger.modules = world.registries["golang"].modules  # type: ignore[attr-defined]
            yield world


@pytest.fixture
def proxy(world: World) -> GoProxy:
    return world.registries["golang"]  # type: ignore[return-value]


@pytest.fixture
def module(proxy: GoProxy, numbers: t.Iterator[int]) -> str:
    """The path of a module that nobody has asked for, with one version."""
    name = f"example.org/!row-{next(numbers)}/demo"
    proxy.publish(name, "v1.0.0")
    return name


def get(world: World, path: str, headers: dict[str, str] | None = None, **options: t.Any) -> bench.Reply:
    """What go sends, which takes what is packed on the way."""
    return world.mirror.get(f"/golang/{path}", {"Accept-Encoding": "gzip", "User-Agent": "Go-http-client/1.1"} | (headers or {}), **options)


def body(reply: bench.Reply) -> bytes:
    return gzip.decompress(reply.body) if reply["Content-Encoding"] == "gzip" else reply.body


@promise("protocol")
@table("rest", {"versions": "v/list", "newest": "latest"})
def test_what_changes_is_revalidated(world: World, proxy: GoProxy, module: str, rest: str) -> None:
    path = f"{module}/@{rest}"
    on_the_second()
    first, second = get(world, path), get(world, path)
    assert (first.status, body(first)) == (200, proxy.find(path)[0]) and second.cache == "hit", show(second)  # type: ignore[index]
    age()
    assert body(get(world, path)) == body(first)
    assert proxy.requests(path) == [200, 304], "it has to be revalidated, not fetched anew"
    proxy.publish(module, "v1.1.0")
    age()
    assert b"v1.1.0" in body(get(world, path))


@promise("protocol")
def test_a_branch_moves(world: World, proxy: GoProxy, module: str) -> None:
    path = f"{module}/@v/main.info"
    proxy.branches[f"{module}@main"] = "v1.0.0"
    assert b"v1.0.0" in body(get(world, path))
    proxy.branches[f"{module}@main"] = "v1.0.1-0.20260102030405-0123456789ab"
    age()
    assert b"v1.0.1-0" in body(get(world, path))


@promise("protocol")
@table(
    "version",
    {
        "release": "v1.2.3",
        "candidate": "v1.2.3-!r!c.1",
        "incompatible": "v2.0.0+incompatible",
        "pseudo": "v0.0.0-20200102030405-01ab",
        "go itself": "v0.0.1-go1.26.9.linux-amd64",
    },
)
@table("kind", {"info": "info", "mod": "mod", "zip": "zip"})
def test_files_of_a_version_never_change(world: World, proxy: GoProxy, module: str, version: str, kind: str) -> None:
    proxy.publish(module, version)
    path = f"{module}/@v/{version}.{kind}"
    first = get(world, path)
    assert (first.status, body(first)) == (200, proxy.find(path)[0]), show(first)  # type: ignore[index]
    proxy.failing = True
    again = get(world, path)
    assert (again.cache, body(again)) == ("hit", body(first)), show(again)
    assert len(proxy.requests(path)) == 1, "its path reaches upstream as it came, and once"


@promise("protocol")
@table("spelled", {"as go does": "%21", "as it is written": "!"})
@table("rest", {"index": "list", "artifact": "v1.0.0.zip"})
def test_capitals_arrive_as_they_came(world: World, proxy: GoProxy, module: str, spelled: str, rest: str) -> None:
    path = f"{module.replace('!', spelled)}/@v/{rest}"
    on_the_second()
    for cache in "miss", "hit":
        reply = get(world, path)
        assert (reply.status, reply.cache) == (200, cache), show(reply)
    assert proxy.requests(path) == [206 if rest.endswith("zip") and world.mirror.engine == "nginx" else 200]


@promise("protocol")
def test_files_of_a_version_outlive_every_lifetime(world: World, proxy: GoProxy, module: str) -> None:
    paths = [f"{module}/@v/v1.0.0.zip", f"sumdb/{DATABASE}/lookup/{module}@v1.0.0"]
    first = [body(get(world, path)) for path in paths]
    proxy.publish(module, "v1.1.0")
    age()
    assert [body(get(world, path)) for path in paths] == first
    assert [len(proxy.requests(path)) for path in paths] == [1, 1]


@promise("once")
def test_fifty_cold_clients_fetch_once(world: World, proxy: GoProxy, module: str) -> None:
    proxy.publish(module, "v2.0.0", 3 * MEGABYTE)
    path = f"{module}/@v/v2.0.0.zip"
    replies = at_once(50, lambda _number: get(world, path))
    assert {reply.sha256 for reply in replies if reply.status == 200 and reply.complete} == {replies[0].sha256}
    assert all(reply.status == 200 and len(reply.body) > 3 * MEGABYTE for reply in replies)
    assert len(proxy.requests(path)) == 1


@promise("http")
def test_head_and_ranges(world: World, proxy: GoProxy, module: str) -> None:
    path = f"{module}/@v/v1.0.0.zip"
    whole = proxy.archive(module, "v1.0.0")
    for _time in "cold", "warm":
        head, part = get(world, path, method="HEAD"), get(world, path, {"Range": "bytes=10-19"})
        assert (head.status, head["Content-Length"]) == (200, str(len(whole))), show(head)
        assert (part.status, part.body) == (206, whole[10:20]), show(part)


@promise("http")
@pytest.mark.parametrize("size", [0, 9 * MEGABYTE])
@table("kind", {"info": "info", "mod": "mod", "zip": "zip"})
def test_a_file_that_lies_at_another_declared_origin_is_fetched_from_there(
    world: World, proxy: GoProxy, module: str, kind: str, size: int
) -> None:
    """As proxies do that keep archives in a store of their own."""
    store: GoProxy = world.registries["store"]  # type: ignore[assignment]
    proxy.publish(module, "v1.5.0", size)
    path = f"{module}/@v/v1.5.0.{kind}"
    proxy.moved[path] = f"http://store.test:{store.port}/{path}"
    first = get(world, path)
    assert (first.status, first.complete, first.body) == (200, True, store.find(path)[0]), show(first)  # type: ignore[index]
    assert not first["Location"] and store.requests(path)
    proxy.failing = store.failing = True
    again, part = get(world, path), get(world, path, {"Range": "bytes=3-9"})
    store.failing = False
    assert (again.cache, again.body) == ("hit", first.body), show(again)
    assert (part.status, part.body) == (206, first.body[3:10]), show(part)


@promise("closed")
@table("kind", {"info": "info", "mod": "mod", "zip": "zip"})
def test_a_redirect_to_an_origin_that_is_not_declared_is_refused(world: World, proxy: GoProxy, module: str, kind: str) -> None:
    path = f"{module}/@v/v1.0.0.{kind}"
    proxy.moved[path] = f"http://stranger.test:{world.stranger.port}/{path}"  # type: ignore[attr-defined]
    for _time in "first", "second":
        reply = get(world, path)
        assert reply.status == 502 and not reply["Location"], "anything but 404 and 410, which go would believe: " + show(reply)
    assert world.stranger.asked == []  # type: ignore[attr-defined]
    del proxy.moved[path]
    reply = get(world, path)
    assert (reply.status, body(reply)) == (200, proxy.find(path)[0]), show(reply)  # type: ignore[index]


@promise("protocol")
@pytest.mark.parametrize("status", [404, 410])
@table(
    "rest",
    {
        "list": "{}/@v/list",
        "newest": "{}/@latest",
        "branch": "{}/@v/main.info",
        "info": "{}/@v/v9.0.0.info",
        "mod": "{}/@v/v9.0.0.mod",
        "zip": "{}/@v/v9.0.0.zip",
        "record": f"sumdb/{DATABASE}/lookup/{{}}@v9.0.0",
    },
)
def test_what_is_not_there_is_told_as_upstream_tells_it_and_not_stored(
    world: World, proxy: GoProxy, numbers: t.Iterator[int], rest: str, status: int
) -> None:
    module = f"example.org/none-{next(numbers)}"
    path = rest.format(module)
    if status == 410:
        proxy.gone.add(path)
    for _time in "first", "second":
        reply = get(world, path)
        assert (reply.status, body(reply)) == (status, proxy.why(path, status)), show(reply)
        assert reply.type == "text/plain" and reply.cache != "hit", show(reply)
    proxy.gone.discard(path)
    proxy.publish(module, "v9.0.0")
    proxy.branches[f"{module}@main"] = "v9.0.0"
    reply = get(world, path)
    assert (reply.status, body(reply)) == (200, proxy.find(path)[0]), show(reply)  # type: ignore[index]


@promise("protocol")
@table("kind", {"list": "list", "zip": "v1.0.0.zip"})
def test_many_who_ask_at_once_are_told_the_same(world: World, proxy: GoProxy, numbers: t.Iterator[int], kind: str) -> None:
    path = f"example.org/none-{next(numbers)}/@v/{kind}"
    replies = at_once(20, lambda _number: get(world, path))
    assert {(reply.status, body(reply).split(b":")[0]) for reply in replies} == {(404, b"not found")}


@promise("protocol")
@table("rest", {"tile": "tile/8/0/x001/{:03}", "partial": "tile/8/1/{:03}.p/17", "data": "tile/8/data/x001/{:03}"})
def test_tiles_of_the_checksum_database_never_change(world: World, proxy: GoProxy, numbers: t.Iterator[int], rest: str) -> None:
    path = f"sumdb/{DATABASE}/{rest.format(next(numbers) % 1000)}"
    for cache in "miss", "hit":
        reply = get(world, path)
        assert (reply.status, reply.cache, reply.body) == (200, cache, proxy.find(path)[0]), show(reply)  # type: ignore[index]
    assert len(proxy.requests(path)) == 1


@promise("protocol")
def test_the_checksum_database_says_that_it_is_there_and_how_large(world: World, proxy: GoProxy, module: str) -> None:
    supported, latest = (f"sumdb/{DATABASE}/{rest}" for rest in ("supported", "latest"))
    assert (get(world, supported).status, get(world, "sumdb/other.test/supported").status) == (200, 404)
    before = body(get(world, latest))
    proxy.publish(module, "v1.1.0")
    age()
    assert body(get(world, latest)) == proxy.find(latest)[0] != before  # type: ignore[index]


@promise("stale")
def test_what_was_seen_is_served_while_upstream_is_away(world: World, proxy: GoProxy, module: str) -> None:
    seen, unseen = f"{module}/@v/list", f"{module}/@latest"
    first = get(world, seen)
    proxy.failing = True
    age()
    reply, other = get(world, seen), get(world, unseen)
    assert (reply.status, reply.cache, body(reply)) == (200, "stale", body(first)), show(reply)
    assert other.status in (502, 503), "anything but 404 and 410, after which go would believe that there is none: " + show(other)


@promise("itself")
@table("ago, expected", LAGS)
def test_health_tells_that_upstream_has_had_another_one_for_long(world: World, module: str, ago: int, expected: str) -> None:
    """What the mirror asks stands still, and what health asks has gone on."""
    with GoProxy() as newer:
        for version in "v1.0.0", "v1.1.0":
            newer.publish(module, version)
        verdict, detail = lag(world.mirror, {"type": "golang", "probe": module}, newer, ago)
    assert verdict == expected and "v1.1.0" in detail, detail
