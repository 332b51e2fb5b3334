# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for archives of Debian packages, on a mirror of their own."""

from __future__ import annotations

import re
import time
import typing as t

import bench
import pytest
from archive import Archive, Suite
from bench import World, age, at_once, on_the_second, show
from promises import promise, table

MEGABYTE = 1 << 20
INDEX = "main/binary-all/Packages"
SNAPSHOT = "archive/debian/20260101T000000Z"


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage = tmp_path_factory.mktemp(f"deb-{request.param}"), request.config.getoption("breakage")
    origin = f"http://registry.test:{(archive := Archive()).port}"
    snapshot = {"name": "snapshot", "upstream": f"{origin}/{SNAPSHOT}", "origins": [origin]}
    sites = snapshot, snapshot | {"name": "undeclared", "origins": []}
    with bench.one_site(root, request.param, archive, breakage, *sites, type="deb", name="debian", lifetime=300) as world:
        yield world


@pytest.fixture
def archive(world: World) -> Archive:
    return world.registries["deb"]  # type: ignore[return-value]


@pytest.fixture
def make(archive: Archive, numbers: t.Iterator[int]) -> t.Callable[..., Suite]:
    """Makes a suite that nobody has asked for: ``make(kept)``."""

    def suite(kept: int = 3) -> Suite:
        new = Suite(f"row-{next(numbers)}", kept)
        archive.suites[new.name] = new
        return new

    return suite


@pytest.fixture
def file(numbers: t.Iterator[int]) -> str:
    """The path of a package that nobody has asked for."""
    return f"pool/main/d/demo/demo_{next(numbers)}-1_all.deb"


def get(world: World, path: str, headers: dict[str, str] | None = None, **options: t.Any) -> bench.Reply:
    """What apt sends, which has everything as it is."""
    return world.mirror.get(f"/debian/{path}", {"User-Agent": "Debian APT-HTTP/1.3 (2.6.1)", **(headers or {})}, **options)


def digest(release: bytes, name: str = INDEX) -> str:
    """The SHA-256 that a Release tells of an index."""
    found = re.search(rf" ([0-9a-f]{{64}}) +[0-9]+ {name}\n", release.decode())
    assert found, release
    return found[1]


def by_hash(release: bytes, name: str = INDEX) -> str:
    return f"{name.rpartition('/')[0]}/by-hash/SHA256/{digest(release, name)}"


@promise("protocol")
@table(
    "path",
    {
        "signed": "dists/{}/InRelease",
        "not signed": "dists/{}/Release",
        "index": "dists/{}/main/binary-all/Packages.gz",
        "flat": "{}/InRelease",
    },
)
def test_what_changes_is_revalidated(world: World, archive: Archive, make: t.Callable[..., Suite], path: str) -> None:
    suite = make()
    path = path.format(suite.name)
    on_the_second()
    first, second = get(world, path), get(world, path)
    assert (first.status, first.body) == (200, archive.find(path)[0]) and second.cache == "hit", show(second)  # type: ignore[index]
    age()
    assert get(world, path).body == first.body
    assert archive.requests(path) == [200, 304], "it has to be revalidated, not fetched anew, and within seconds"
    suite.publish()
    age()
    assert get(world, path).body == archive.find(path)[0] != first.body  # type: ignore[index]


@promise("protocol")
@table(
    "path",
    {
        "package": "pool/main/d/demo/demo_{}-1_all.deb",
        "source": "pool/main/d/demo/demo_{}.orig.tar.xz",
        "flat": "demo_{}-1_all.deb",
        "installer's": "flat/demo_{}-1_amd64.udeb",
        "escaped": "pool/main/g/g%2b%2b/g%2b%2b_{}%7erc1-1_amd64.deb",
    },
)
def test_what_has_its_version_in_its_name_never_changes(world: World, archive: Archive, numbers: t.Iterator[int], path: str) -> None:
    path = path.format(next(numbers))
    first = get(world, path)
    assert first.status == 200 and first.complete, show(first)
    archive.failing = True
    again = get(world, path)
    assert (again.cache, again.body) == ("hit", first.body), show(again)
    assert len(archive.requests(path)) == 1, "its path reaches upstream as it came, and once"


@promise("protocol")
def test_a_package_of_a_snapshot_lies_beside_it(world: World, archive: Archive, file: str) -> None:
    """The archive names its place by a path, which is not below the upstream's own, on an origin that is declared."""
    there = f"file/0123abcd/{file.rpartition('/')[2]}"
    archive.moved[f"{SNAPSHOT}/{file}"] = f"/{there}"
    for cache in "miss", "hit":
        reply = world.mirror.get(f"/snapshot/{file}")
        assert (reply.status, reply.body, reply.cache) == (200, archive.found(there), cache), show(reply)
    assert len(archive.requests(there)) == 1


@promise("protocol")
def test_an_index_of_a_snapshot_may_lie_beside_it_too(world: World, archive: Archive, make: t.Callable[..., Suite]) -> None:
    path = f"dists/{make().name}/InRelease"
    archive.moved[f"{SNAPSHOT}/{path}"] = f"/{path}"
    reply = world.mirror.get(f"/snapshot/{path}")
    assert (reply.status, reply["Location"]) == (302, f"/snapshot/files/{path}"), show(reply)
    assert world.mirror.get(reply["Location"]).body == archive.find(path)[0]  # type: ignore[index]


@promise("closed")
@table("location", {"no scheme": "//stranger.test/{}", "three slashes": "///stranger.test/{}", "dots": "/file/../{}"})
def test_a_path_beside_the_upstreams_own_is_one(world: World, archive: Archive, file: str, location: str) -> None:
    archive.moved[f"{SNAPSHOT}/{file}"] = location.format(file)
    reply = world.mirror.get(f"/snapshot/{file}")
    assert reply.status == 502 and not reply["Location"], show(reply)
    assert archive.requests(file) == []


@promise("closed")
@table("location", {"a path": "/{}", "a whole one": "{origin}/{}"})
def test_what_lies_beside_the_upstream_is_refused_where_that_is_not_declared(
    world: World, archive: Archive, make: t.Callable[..., Suite], file: str, location: str
) -> None:
    index = f"dists/{make().name}/InRelease"
    for path in index, file:
        archive.moved[f"{SNAPSHOT}/{path}"] = location.format(path, origin=f"http://registry.test:{archive.port}")
        reply = world.mirror.get(f"/undeclared/{path}")
        assert reply.status == 502 and not reply["Location"], show(reply)
        assert archive.requests(path) == []


@promise("protocol")
@table("encoding", {"as apt asks": None, "packed on the way": {"Accept-Encoding": "gzip"}})
@table("path", {"signed": "dists/{}/InRelease", "index": "dists/{}/main/binary-all/Packages.gz"})
def test_what_is_signed_arrives_as_it_is(
    world: World, archive: Archive, make: t.Callable[..., Suite], path: str, encoding: dict[str, str] | None
) -> None:
    path = path.format(make().name)
    for _time in "cold", "warm":
        reply = get(world, path, encoding)
        assert (reply.status, reply.plain) == (200, archive.find(path)[0]), show(reply)  # type: ignore[index]


@promise("protocol")
@table("seen", {"first": False, "again": True})
def test_what_is_asked_for_by_its_digest_fits_while_upstream_publishes(
    world: World, archive: Archive, make: t.Callable[..., Suite], seen: bool
) -> None:
    """Upstream publishes between the request for InRelease and that for each index, 40 times."""
    suite = make()
    if seen:
        get(world, f"dists/{suite.name}/InRelease")
    archive.turning.add(suite.name)
    for _round in range(40):
        release = get(world, f"dists/{suite.name}/InRelease").body
        for name in INDEX, f"{INDEX}.gz":
            reply = get(world, f"dists/{suite.name}/{by_hash(release, name)}")
            assert (reply.status, reply.sha256) == (200, digest(release, name)), show(reply)
        time.sleep(0.1)
    assert suite.generation > 1, "it has to have published meanwhile"


@promise("protocol")
def test_what_was_fetched_by_its_digest_outlives_upstreams_own(world: World, archive: Archive, make: t.Callable[..., Suite]) -> None:
    """A client that read InRelease before upstream published gets what it names, though upstream keeps the newest alone."""
    suite = make(1)
    release = get(world, f"dists/{suite.name}/InRelease").body
    path, other = (f"dists/{suite.name}/{by_hash(release, name)}" for name in (INDEX, f"{INDEX}.gz"))
    get(world, path)
    suite.publish()
    age()
    assert archive.find(path) is None
    reply = get(world, path)
    assert (reply.status, reply.cache, reply.sha256) == (200, "hit", digest(release)), show(reply)
    assert get(world, other).status == 404, "upstream's own answer, on which apt asks for the index by its path"


@promise("protocol")
@table("seen", {"first": False, "again": True})
def test_what_is_asked_for_by_its_path_fits_seconds_after_upstream_has_published(
    world: World, make: t.Callable[..., Suite], seen: bool
) -> None:
    """With an archive that has nothing by its digest; whatever was asked for before, and in whatever order."""
    suite = make(0)
    paths = [f"dists/{suite.name}/{name}" for name in ("InRelease", INDEX, f"{INDEX}.gz")]
    for path in reversed(paths) if seen else paths[1:]:
        get(world, path)
    suite.publish()
    age()
    release, plain, packed = (get(world, path) for path in paths)
    assert plain.sha256 == digest(release.body) and packed.sha256 == digest(release.body, f"{INDEX}.gz")


@promise("stale")
def test_what_was_seen_is_served_while_upstream_is_away(world: World, archive: Archive, make: t.Callable[..., Suite]) -> None:
    suite = make()
    path = f"dists/{suite.name}/InRelease"
    release = get(world, path).body
    get(world, f"dists/{suite.name}/{by_hash(release)}")
    archive.failing = True
    age()
    reply, index = get(world, path), get(world, f"dists/{suite.name}/{by_hash(release)}")
    assert (reply.status, reply.cache, reply.body) == (200, "stale", release), show(reply)
    assert (index.cache, index.sha256) == ("hit", digest(release)), show(index)
    other = get(world, f"dists/{suite.name}/Release")
    assert other.status in (502, 503), "anything but 404, after which apt would believe that there is none: " + show(other)
    archive.failing = False
    suite.publish()
    age()
    get(world, path)
    age()
    assert get(world, path).body == archive.find(path)[0] != release  # type: ignore[index]


@promise("once")
def test_fifty_cold_clients_fetch_once(world: World, archive: Archive, file: str) -> None:
    archive.size = 3 * MEGABYTE
    try:
        replies = at_once(50, lambda _number: get(world, file))
        assert {(reply.status, reply.complete, reply.body == archive.found(file)) for reply in replies} == {(200, True, True)}
    finally:
        archive.size = 1000
    assert len(archive.requests(file)) == 1


@promise("http")
def test_head_ranges_and_conditions(world: World, archive: Archive, file: str) -> None:
    """apt goes on where a download was cut, as long as the file is still the one that it began with."""
    whole = archive.found(file)
    for _time in "cold", "warm":
        head, part = get(world, file, method="HEAD"), get(world, file, {"Range": "bytes=100-"})
        assert (head.status, head["Content-Length"]) == (200, str(len(whole))), show(head)
        assert (part.status, part.body) == (206, whole[100:]), show(part)
        assert head["Last-Modified"]
        rest = get(world, file, {"Range": "bytes=100-", "If-Range": head["Last-Modified"]})
        assert (rest.status, rest.body) == (206, whole[100:]), show(rest)
        other = get(world, file, {"Range": "bytes=100-", "If-Range": "Sat, 01 Jan 2000 00:00:00 GMT"})
        assert (other.status, other.body) == (200, whole), show(other)
        same = get(world, file, {"If-Modified-Since": head["Last-Modified"]})
        assert (same.status, same.body) == (304, b""), show(same)


@promise("protocol")
@table("path", {"suite": "dists/none-{}/InRelease", "digest": "dists/none-{}/main/by-hash/SHA256/0a1b", "flat": "none-{}/Packages"})
def test_what_is_not_there_is_told_and_not_stored(world: World, archive: Archive, numbers: t.Iterator[int], path: str) -> None:
    number = next(numbers)
    path = path.format(number)
    for _time in "first", "second":
        reply = get(world, path)
        assert (reply.status, reply.cache) == (404, "miss"), show(reply)
    assert archive.requests(path) == [404, 404]
    if path.endswith("InRelease"):
        archive.suites[f"none-{number}"] = Suite(f"none-{number}", 3)
        assert get(world, path).status == 200
