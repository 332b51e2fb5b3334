# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for gem indexes, on a mirror of their own, whose pages are fresh for 1 s."""

from __future__ import annotations

import base64
import hashlib
import time
import typing as t

import bench
import pytest
from bench import LAGS, World, age, at_once, lag, on_the_second, show
from gemindex import SPECIFICATIONS, GemIndex
from promises import promise, table

MEGABYTE = 1 << 20
ENCODINGS = {"identity": {}, "gzip": {"Accept-Encoding": "gzip;q=1.0,deflate;q=0.6,identity;q=0.3"}}
PAGES = {"versions": "versions", "info": "info/{}"}


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage = tmp_path_factory.mktemp(f"gem-{request.param}"), request.config.getoption("breakage")
    with bench.one_site(root, request.param, GemIndex(), breakage, type="gem") as world:
        yield world


@pytest.fixture
def index(world: World) -> GemIndex:
    return world.registries["gem"]  # type: ignore[return-value]


@pytest.fixture
def gem(index: GemIndex, numbers: t.Iterator[int]) -> str:
    """The name of a gem that nobody has asked for, with one version, and with enough beside it for pages to be worth packing."""
    name = f"Row_{next(numbers)}.gem-x"
    for version in "0.9.0.pre", "1.0.0-java", "1.0.0":
        index.publish(name, version, f"{name} {version}".encode() * 20, "rake:>= 1&< 99,base64:= 0.1")
    return name


def get(world: World, path: str, headers: t.Mapping[str, str] | None = None, **options: t.Any) -> bench.Reply:
    return world.mirror.get(f"/gem/{path}", headers, **options)


def twice(world: World, path: str, headers: t.Mapping[str, str] | None = None, **options: t.Any) -> t.Iterator[tuple[str, bench.Reply]]:
    """The replies before and after a page is stored, both within a second: what has just been sent is stored a moment later."""
    on_the_second()
    yield "fresh", get(world, path, headers, **options)
    time.sleep(0.05)
    yield "hit", get(world, path, headers, **options)


def unseen(path: str) -> None:
    """Wait until what others have stored of a page that all rows share is not served any more."""
    if not path.startswith("info/"):
        age()


def tag(body: bytes) -> str:
    return f'"{hashlib.md5(body).hexdigest()}"'


def checked(reply: bench.Reply, whole: bytes) -> bool:
    """Whether all that Bundler checks a file against, in any of its releases, is said of these bytes."""
    digest = base64.b64encode(hashlib.sha256(whole).digest()).decode()
    said = reply["ETag"].removeprefix("W/"), reply["Digest"], reply["Repr-Digest"]
    return said == (tag(whole), f"sha-256={digest}", f"sha-256=:{digest}:")


def more(copy: bytes) -> dict[str, str]:
    """What Bundler sends for what came behind its copy: it asks for the last byte again, lest the range be empty."""
    return {"If-None-Match": tag(copy), "Range": f"bytes={len(copy) - 1}-"}


@promise("protocol")
@table("rest", PAGES | {"names": "names", "root": "", "specifications": "latest_specs.4.8.gz"})
def test_what_changes_is_revalidated(world: World, index: GemIndex, gem: str, rest: str) -> None:
    path = rest.format(gem)
    unseen(path)
    before = len(index.requests(path))
    (_fresh, first), (_hit, second) = twice(world, path)
    assert (first.status, first.body) == (200, index.find(path)[0]) and second.cache == "hit", show(second)  # type: ignore[index]
    age()
    assert get(world, path).body == first.body
    assert index.requests(path)[-1] == 304 and len(index.requests(path)) == before + 2, "it has to be revalidated, not fetched anew"
    if path:
        index.publish(f"{gem}-new" if path == "names" else gem, "1.1.0", b"new")
        age()
        assert get(world, path).body == index.find(path)[0] != first.body  # type: ignore[index]


@promise("protocol")
@table("encoding", ENCODINGS)
@table("rest", PAGES)
def test_tag_and_digests_are_those_of_what_was_sent(world: World, index: GemIndex, gem: str, rest: str, encoding: dict[str, str]) -> None:
    path = rest.format(gem)
    whole = index.find(path)[0]  # type: ignore[index]
    unseen(path)
    for cache, reply in twice(world, path, encoding):
        assert reply.plain == whole and checked(reply, whole) and (cache != "hit" or reply.cache == "hit"), show(reply)
    index.failing = True
    index.publish(gem, "1.1.0", b"new")
    age()
    reply = get(world, path, encoding)
    assert reply.cache == "stale" and reply.plain == whole and checked(reply, whole), show(reply)


@promise("protocol")
@table("stored", {"nothing": [], "the page": ["identity"], "the packed page": ["gzip"]})
@table("rest", PAGES)
def test_what_was_appended_comes_as_a_range(world: World, index: GemIndex, gem: str, rest: str, stored: list[str]) -> None:
    path = rest.format(gem)
    copy = index.find(path)[0]  # type: ignore[index]
    index.publish(gem, "1.1.0", b"new")
    whole = index.find(path)[0]  # type: ignore[index]
    unseen(path)
    on_the_second()
    for encoding in stored:
        assert get(world, path, ENCODINGS[encoding]).plain == whole
    part = get(world, path, more(copy))
    assert (part.status, part["Content-Encoding"], copy + part.body[1:]) == (206, "", whole), show(part)
    assert part["Content-Range"] == f"bytes {len(copy) - 1}-{len(whole) - 1}/{len(whole)}" and checked(part, whole), show(part)
    assert 206 not in index.requests(path), "a part of a page is never what is stored"
    assert get(world, path).body == whole


@promise("protocol")
@table("encoding", ENCODINGS)
def test_who_has_all_of_a_page_is_told_so(world: World, index: GemIndex, gem: str, encoding: dict[str, str]) -> None:
    path = f"info/{gem}"
    for _time in "miss", "hit":
        assert get(world, path, encoding | more(index.info[gem])).status == 304


@promise("protocol")
def test_a_client_that_has_more_than_the_mirror_is_not_led_astray(world: World, index: GemIndex, gem: str) -> None:
    path, old = f"info/{gem}", index.info[gem]
    for encoding in ENCODINGS.values():
        assert get(world, path, encoding).plain == old
    index.failing = True
    index.publish(gem, "1.1.0", b"new")
    longer = get(world, path, more(index.info[gem]))
    assert longer.status == 416, "there is nothing at that place, after which Bundler asks for all: " + show(longer)
    another = old[: len(old) - 40] + b"\n"
    part = get(world, path, more(another))
    assert part.status == 206 and checked(part, old), "the sums of what the mirror has tell that it does not fit: " + show(part)
    assert another + part.body[1:] != old
    full = get(world, path, ENCODINGS["gzip"])
    assert full.plain == old and checked(full, old), show(full)


@promise("protocol")
@table("rest", {"gem": "gems/{}-1.0.0.gem", "platform": "gems/{}-1.0.0-java.gem", "specification": "quick/Marshal.4.8/{}-1.0.0.gemspec.rz"})
def test_files_of_a_version_never_change(world: World, index: GemIndex, gem: str, rest: str) -> None:
    path = rest.format(gem)
    first = get(world, path)
    assert (first.status, first.body) == (200, index.files[path]), show(first)
    index.files[path] = b"another"
    index.failing = True
    age()
    again = get(world, path)
    assert (again.cache, again.body) == ("hit", first.body), show(again)
    assert len(index.requests(path)) == 1, "its path reaches upstream as it came, and once"


@promise("once")
def test_fifty_cold_clients_fetch_once(world: World, index: GemIndex, gem: str) -> None:
    index.publish(gem, "2.0.0", b"0123456789abcdef" * (3 * MEGABYTE // 16))
    path = f"gems/{gem}-2.0.0.gem"
    replies = at_once(50, lambda _number: get(world, path))
    assert {(reply.status, reply.complete, reply.sha256) for reply in replies} == {
        (200, True, hashlib.sha256(index.files[path]).hexdigest())
    }
    # The gem is smaller than a slice, as which Nginx asks for it.
    assert index.requests(path) == [200 if world.mirror.engine == "apache" else 206]


@promise("http")
def test_head_and_ranges_of_a_gem(world: World, index: GemIndex, gem: str) -> None:
    path = f"gems/{gem}-1.0.0.gem"
    whole = index.files[path]
    for _time in "cold", "warm":
        head, part = get(world, path, method="HEAD"), get(world, path, {"Range": "bytes=10-19"})
        assert (head.status, head["Content-Length"]) == (200, str(len(whole))), show(head)
        assert (part.status, part.body) == (206, whole[10:20]), show(part)


@promise("http")
@table("encoding", ENCODINGS)
def test_head_of_a_large_page_stores_it(world: World, index: GemIndex, gem: str, encoding: dict[str, str]) -> None:
    index.info[gem] = b"---\n" + b"".join(
        b"%s |checksum:%064d\n" % (hashlib.sha256(b"%d" % n).hexdigest().encode(), n) for n in range(40000)
    )
    assert len(index.info[gem]) > 5 * MEGABYTE
    for cache, head in twice(world, f"info/{gem}", encoding, method="HEAD"):
        # It is answered before all of it is stored, for which the second one may have to wait: then that is no hit.
        assert (head.status, head.body) == (200, b"") and (cache == "hit" or head.cache != "hit"), show(head)
        assert tag(index.info[gem]) in head["ETag"], show(head)
        assert encoding or head["Content-Length"] == str(len(index.info[gem])), show(head)
    assert len(index.requests(f"info/{gem}")) == 1
    assert get(world, f"info/{gem}", encoding).plain == index.info[gem]


@promise("protocol")
def test_gem_is_told_that_there_is_a_compact_index(world: World, index: GemIndex) -> None:
    for path in "", "versions":
        unseen(path)
        for cache, reply in twice(world, path, method="HEAD"):
            assert (reply.status, reply.body) == (200, b"") and (cache != "hit" or reply.cache == "hit"), show(reply)
    index.failing = True
    age()
    for path in "", "versions":
        reply = get(world, path, method="HEAD")
        assert (reply.status, reply.cache) == (200, "stale"), "what HEAD alone was asked of is kept as well: " + show(reply)


@promise("protocol")
@table("rest", {"page": "info/{}", "specifications": "specs.4.8.gz"})
def test_specifications_arrive_as_they_are_and_pages_are_packed(world: World, index: GemIndex, gem: str, rest: str) -> None:
    path = rest.format(gem)
    unseen(path)
    reply = get(world, path, ENCODINGS["gzip"])
    assert reply.plain == index.find(path)[0], show(reply)  # type: ignore[index]
    packed = path not in SPECIFICATIONS and len(reply.plain) >= 256  # what is smaller may come as it is
    assert reply["Content-Encoding"] == "gzip" if packed else path not in SPECIFICATIONS or not reply["Content-Encoding"], show(reply)


@promise("protocol")
@table("rest", {"info": "info/{}", "gem": "gems/{}-1.0.0.gem", "specification": "quick/Marshal.4.8/{}-1.0.0.gemspec.rz"})
def test_what_is_not_there_is_told_as_upstream_tells_it_and_not_stored(
    world: World, index: GemIndex, numbers: t.Iterator[int], rest: str
) -> None:
    name = f"none-{next(numbers)}"
    path = rest.format(name)
    for _time in "first", "second":
        reply = get(world, path)
        assert (reply.status, reply.body) == (404, index.why(path)) and reply.cache != "hit", show(reply)
        assert get(world, path, method="HEAD").status == 404
    index.publish(name, "1.0.0", b"here")
    reply = get(world, path)
    assert (reply.status, reply.body) == (200, index.find(path)[0]), show(reply)  # type: ignore[index]


@promise("closed")
@table(
    "path",
    {
        "old dependencies": "api/v1/dependencies?gems=rake,rack",
        "account": "api/v1/api_key",
        "page": "gems/rake",
        "below": "info/rake/more",
        "other": "sign_up",
    },
)
def test_nothing_but_the_index_and_its_files_is_asked_for(world: World, index: GemIndex, path: str) -> None:
    assert get(world, path).status == 404
    assert not [asked for asked, _status in index.asked if asked.startswith(path.split("?")[0])]


@promise("bounded")
def test_a_query_makes_no_other_page(world: World, index: GemIndex, gem: str) -> None:
    on_the_second()
    assert get(world, f"info/{gem}?1").body == get(world, f"info/{gem}?2").body
    assert len(index.requests(f"info/{gem}")) == 1


@promise("http")
@table("rest", {"info": "info/{}", "gem": "gems/{}-1.0.0.gem"})
def test_redirects_name_the_mirror_as_clients_follow_no_others(world: World, index: GemIndex, gem: str, rest: str) -> None:
    """Those of files the mirror follows by itself."""
    path, target = rest.format(f"{gem}-moved"), rest.format(gem)
    upstream = world.mirror.sites[0]["upstream"]
    for where in f"{upstream}/{target}", f"/{target}":
        index.moved[path] = where
        reply = get(world, path)
        if target in index.files:
            assert (reply.status, reply.body) == (200, index.files[target]), show(reply)
        else:
            here = f"http://mirror.test:{world.mirror.address[1]}/gem/{target}"
            assert (reply.status, reply["Location"]) == (302, here), show(reply)
        age()


@promise("stale")
def test_what_was_seen_is_served_while_upstream_is_away(world: World, index: GemIndex, gem: str) -> None:
    seen, unseen, whole = f"info/{gem}", "info/rake", index.info[gem]
    get(world, seen)
    index.failing = True
    age()
    reply, part, other = get(world, seen), get(world, seen, {"Range": "bytes=9-"}), get(world, unseen)
    assert (reply.status, reply.cache, reply.body) == (200, "stale", whole), show(reply)
    assert (part.status, part.cache, part.body) == (206, "stale", whole[9:]) and checked(part, whole), show(part)
    assert other.status in (502, 503), "anything but 404, after which there would be no such gem: " + show(other)


@promise("itself")
@table("ago, expected", LAGS)
def test_health_tells_that_upstream_has_had_another_one_for_long(world: World, index: GemIndex, gem: str, ago: int, expected: str) -> None:
    """What the mirror asks stands still, and what health asks has gone on."""
    with GemIndex() as newer:
        newer.info = dict(index.info)
        newer.publish(gem, "1.1.0", b"newer")
        verdict, detail = lag(world.mirror, {"type": "gem", "probe": gem}, newer, ago)
    assert verdict == expected and "differ in 1.1.0;" in detail, detail
