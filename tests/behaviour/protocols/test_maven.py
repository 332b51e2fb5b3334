# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for Maven repositories, on a mirror of their own, whose site has the lifetime that sites have."""

from __future__ import annotations

import gzip
import hashlib
import time
import typing as t

import bench
import pytest
from bench import LAPSED, World, age, at_once, on_the_second, show
from mavenrepo import BESIDE, MavenRepo, beside
from promises import promise, table

MEGABYTE = 1 << 20
SITE_LIFETIME = 300


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage = tmp_path_factory.mktemp(f"maven-{request.param}"), request.config.getoption("breakage")
    with bench.one_site(root, request.param, MavenRepo(), breakage, type="maven", lifetime=SITE_LIFETIME) as world:
        yield world


@pytest.fixture
def repository(world: World) -> MavenRepo:
    return world.registries["maven"]  # type: ignore[return-value]


@pytest.fixture
def project(repository: MavenRepo, numbers: t.Iterator[int]) -> str:
    """The path of a project that nobody has asked for, with one release."""
    name = f"org/example/row-{next(numbers)}/demo"
    repository.publish(name, "1.0")
    return name


def get(world: World, path: str, headers: dict[str, str] | None = None, **options: t.Any) -> bench.Reply:
    """What Maven sends, which takes what is packed on the way."""
    sent = {"Accept-Encoding": "gzip,deflate", "User-Agent": "Apache-Maven/3.8.7", "Cache-control": "no-cache"}
    return world.mirror.get(f"/maven/{path}", sent | (headers or {}), **options)


def body(reply: bench.Reply) -> bytes:
    return gzip.decompress(reply.body) if reply["Content-Encoding"] == "gzip" else reply.body


def release(project: str, version: str, ending: str) -> str:
    return f"{project}/{version}/{project.rpartition('/')[2]}-{version}{ending}"


def fits(world: World, path: str, kind: str) -> bool:
    """Whether a file and what is beside it are of one generation, as a client sees them who asks for one after the other."""
    replies = [get(world, path), get(world, f"{path}.{kind}")]
    assert [reply.status for reply in replies] == [200, 200], "\n".join(map(show, replies))
    return beside(body(replies[0]), kind) == body(replies[1])


@promise("protocol")
@table("version", {"release": "1.0.1", "qualified": "2.0-RC1", "odd": "1.0.0+build.5", "timed": "20040616"})
@table("ending", {"pom": ".pom", "jar": ".jar", "sources": "-sources.jar", "module": ".module"})
@table("kind", {"itself": "", "checksum": ".sha1", "signature": ".asc"})
def test_files_of_a_release_never_change(world: World, repository: MavenRepo, project: str, version: str, ending: str, kind: str) -> None:
    repository.publish(project, version)
    path = release(project, version, ending + kind)
    first = get(world, path)
    assert (first.status, body(first)) == (200, repository.find(path)[0]), show(first)  # type: ignore[index]
    repository.publish(project, version)  # which a registry never does
    again = get(world, path)
    assert (again.cache, body(again)) == ("hit", body(first)), show(again)
    assert len(repository.requests(path)) == 1, "its path reaches upstream as it came, and once"
    assert int(first["Cache-Control"].partition("max-age=")[2].split(",")[0]) > SITE_LIFETIME, "it lives longer than a page: " + show(first)


@promise("protocol")
@table("kind", {"itself": "", **{kind: f".{kind}" for kind in BESIDE}})
def test_metadata_and_what_is_beside_it_are_revalidated_each_second(world: World, repository: MavenRepo, project: str, kind: str) -> None:
    path = f"{project}/maven-metadata.xml{kind}"
    on_the_second()
    first, second = get(world, path), get(world, path)
    assert (first.status, body(first)) == (200, repository.find(path)[0]) and second.cache == "hit", show(second)  # type: ignore[index]
    age()
    assert body(get(world, path)) == body(first)
    assert repository.requests(path) == [200, 304], "it has to be revalidated, not fetched anew"
    repository.publish(project, "1.1")
    age()
    assert body(get(world, path)) == repository.find(path)[0] != body(first)  # type: ignore[index]


@promise("protocol")
@table("encoding", {"packed": "gzip,deflate", "as it is": "identity"})
@table("rest", {"metadata": "maven-metadata.xml", "snapshot": "1.1-SNAPSHOT/demo-1.1-SNAPSHOT.jar", "release": "1.0/demo-1.0.jar"})
def test_sums_that_come_with_a_file_are_its_own(world: World, repository: MavenRepo, project: str, rest: str, encoding: str) -> None:
    """Maven's resolver and Gradle take them for what they would ask for beside the file."""
    repository.publish(project, "1.1-SNAPSHOT")

    def true(reply: bench.Reply) -> bool:
        sums = [hashlib.new(name, body(reply)).hexdigest() for name in ("sha1", "md5")]
        return reply.status == 200 and [reply["X-Checksum-SHA1"], reply["X-Checksum-MD5"]] == sums

    path, sent = f"{project}/{rest}", {"Accept-Encoding": encoding}
    first, second = get(world, path, sent), get(world, path, sent)
    assert true(first) and true(second), show(second)
    age()
    assert true(same := get(world, path, sent)) and body(same) == body(first), show(same)
    repository.publish(project, "1.1-SNAPSHOT")
    repository.publish(project, "1.1")
    age()
    assert true(later := get(world, path, sent)), show(later)
    repository.failing = True
    repository.publish(project, "1.2")
    age()
    stale = get(world, path, sent)
    assert true(stale) and body(stale) == body(later), show(stale)
    assert (body(later) == body(first)) == rest.startswith("1.0/")


@promise("protocol")
@table("name", {"plain": "demo-1.1-SNAPSHOT", "timed": "demo-1.1-20260102.030405-6"})
@table("kind", {"itself": "", "checksum": ".sha1"})
def test_snapshots_move(world: World, repository: MavenRepo, project: str, name: str, kind: str) -> None:
    repository.publish(project, "1.1-SNAPSHOT")
    path = f"{project}/1.1-SNAPSHOT/{name}.jar{kind}"
    first = body(get(world, path))
    repository.publish(project, "1.1-SNAPSHOT")
    age()
    assert body(get(world, path)) == repository.find(path)[0] != first  # type: ignore[index]


@promise("protocol")
def test_what_has_no_pair_lives_as_long_as_the_site_says(world: World, repository: MavenRepo, project: str) -> None:
    first = get(world, "archetype-catalog.xml")
    repository.publish(project, "1.1")
    age()
    again = get(world, "archetype-catalog.xml")
    assert (again.cache, body(again)) == ("hit", body(first)), show(again)


@promise("protocol")
@table("seen", {"both": ("", ".sha1"), "the file alone": ("",), "its checksum alone": (".sha1",), "neither": ()})
@table("what", {"metadata": "maven-metadata.xml", "snapshot": "1.1-SNAPSHOT/demo-1.1-SNAPSHOT.jar"})
def test_a_file_and_its_checksum_fit_again_soon_after_they_changed(
    world: World, repository: MavenRepo, project: str, what: str, seen: tuple[str, ...]
) -> None:
    repository.publish(project, "1.1-SNAPSHOT")
    path = f"{project}/{what}"
    for ending in seen:
        get(world, path + ending)
    repository.publish(project, "1.1-SNAPSHOT")
    began = time.monotonic()
    while time.monotonic() - began < LAPSED:  # somebody always asks
        fits(world, path, "sha1")
    assert fits(world, path, "sha1") and body(get(world, path)) == repository.find(path)[0]  # type: ignore[index]


@promise("stale")
@table("kind", {kind: kind for kind in BESIDE})
def test_a_checksum_of_a_stale_page_is_its_own(world: World, repository: MavenRepo, project: str, kind: str) -> None:
    path = f"{project}/maven-metadata.xml"
    for version in "1.1", "1.2":
        assert fits(world, path, kind)
        repository.publish(project, version)
        age()
    assert fits(world, path, kind)
    repository.publish(project, "1.3")
    repository.failing = True
    age()
    assert fits(world, path, kind)
    reply = get(world, path)
    assert (reply.cache, b"1.2" in body(reply), b"1.3" in body(reply)) == ("stale", True, False), show(reply)


@promise("stale")
@table("after", {"its page": "", "it": ".sha1"})
def test_a_checksum_fits_though_one_of_both_was_asked_for_alone_just_before_upstream_went_away(
    world: World, repository: MavenRepo, project: str, after: str
) -> None:
    path = f"{project}/maven-metadata.xml"
    assert fits(world, path, "sha1")
    repository.publish(project, "1.1")
    age()
    get(world, path + after)
    repository.failing = True
    age()
    assert fits(world, path, "sha1")


@promise("once")
def test_fifty_cold_clients_fetch_once(world: World, repository: MavenRepo, project: str) -> None:
    repository.publish(project, "2.0", 3 * MEGABYTE)
    path = release(project, "2.0", ".jar")
    replies = at_once(50, lambda _number: get(world, path))
    assert {reply.sha256 for reply in replies if reply.status == 200 and reply.complete} == {replies[0].sha256}
    assert all(reply.status == 200 and len(reply.body) > 3 * MEGABYTE for reply in replies)
    assert len(repository.requests(path)) == 1


@promise("http")
@table("version", {"release": "1.1", "snapshot": "1.1-SNAPSHOT"})
def test_head_and_ranges(world: World, repository: MavenRepo, project: str, version: str) -> None:
    repository.publish(project, version)
    path = release(project, version, ".jar")
    whole = repository.find(path)[0]  # type: ignore[index]
    for _time in "cold", "warm":
        head, part = get(world, path, method="HEAD"), get(world, path, {"Range": "bytes=10-19"})
        lengths = {str(len(whole)), *([""] if "SNAPSHOT" in version else [])}  # of a page that is just being fetched it need not be told
        assert head.status == 200 and head["Content-Length"] in lengths, show(head)
        assert (part.status, part.body) == (206, whole[10:20]), show(part)


@promise("protocol")
@table(
    "rest",
    {
        "metadata": "maven-metadata.xml",
        "its checksum": "maven-metadata.xml.sha1",
        "pom": "9.0/demo-9.0.pom",
        "checksum": "9.0/demo-9.0.pom.sha1",
        "snapshot": "9.0-SNAPSHOT/demo-9.0-SNAPSHOT.jar",
    },
)
def test_what_is_not_there_is_not_there_until_it_is(world: World, repository: MavenRepo, numbers: t.Iterator[int], rest: str) -> None:
    """Maven asks the next repository on 404 alone."""
    project = f"org/example/none-{next(numbers)}/demo"
    path = f"{project}/{rest}"
    for _time in "first", "second":
        reply = get(world, path)
        assert reply.status == 404 and reply.cache != "hit", show(reply)
    repository.publish(project, "9.0")
    repository.publish(project, "9.0-SNAPSHOT")
    reply = get(world, path)
    assert (reply.status, body(reply)) == (200, repository.find(path)[0]), show(reply)  # type: ignore[index]


@promise("stale")
def test_what_was_never_seen_is_not_said_to_be_missing_while_upstream_is_away(world: World, repository: MavenRepo, project: str) -> None:
    repository.failing = True
    for path in f"{project}/maven-metadata.xml", release(project, "1.0", ".pom"):
        reply = get(world, path)
        assert reply.status in (502, 503), "anything but 404, after which Maven believes for a day that there is none: " + show(reply)
