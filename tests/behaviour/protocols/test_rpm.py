# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for trees of RPM repositories, on a mirror of their own."""

from __future__ import annotations

import re
import typing as t

import bench
import pytest
from bench import World, age, at_once, good, on_the_second, show
from promises import promise, table
from rpmtree import RpmTree, sha256

LIFETIME = 6  # seconds, of all but repodata
IMMUTABLE = (
    "Packages/d/demo-1.0-1.noarch.rpm",
    "libdemo++-1.0~rc1^git2-1.noarch.rpm",
    "drpms/demo-1.0-1_1.1-1.noarch.drpm",
    f"repodata/{40 * 'a'}-filelists.xml.gz",
    f"repodata/{128 * 'a'}-comps-Demo.xml",
)


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage = tmp_path_factory.mktemp(f"rpm-{request.param}"), request.config.getoption("breakage")
    with bench.one_site(root, request.param, RpmTree(), breakage, type="rpm", lifetime=LIFETIME) as world:
        yield world


@pytest.fixture
def tree(world: World) -> RpmTree:
    return world.registries["rpm"]  # type: ignore[return-value]


@pytest.fixture
def repository(numbers: t.Iterator[int]) -> str:
    """The path of a repository that nobody has asked for."""
    return f"{next(numbers)}/x86_64/os"


def get(world: World, path: str, headers: dict[str, str] | None = None, **options: t.Any) -> bench.Reply:
    """What dnf sends, which has no cache answer it."""
    sent = {"User-Agent": "libdnf", "Accept": "*/*", "Cache-Control": "no-cache", "Pragma": "no-cache"}
    return world.mirror.get(f"/rpm/{path}", sent | (headers or {}), **options)


@promise("protocol")
@table("digests", {"digests in names": True, "plain names": False})
def test_what_repomd_names_always_fits_it(world: World, tree: RpmTree, repository: str, digests: bool) -> None:
    for version in "1.0", "2.0":
        repomd, signature, primary, _package = tree.publish(repository, version, digests)
        page = get(world, repomd)
        assert good(page, tree.files[repomd]) and f">{version}<".encode() in page.body, show(page)
        assert get(world, signature).body == f"signature of {page.sha256}\n".encode()
        assert re.findall(rb">([0-9a-f]{64})<", page.body) == [get(world, primary).sha256.encode()]
        age()


@promise("protocol")
def test_who_began_before_upstream_published_can_finish(world: World, tree: RpmTree, repository: str) -> None:
    _repomd, _signature, primary, package = tree.publish(repository, "1.0")
    seen = [get(world, path).body for path in (primary, package)]
    tree.publish(repository, "2.0")
    assert primary not in tree.files
    assert [get(world, path).body for path in (primary, package)] == seen


@promise("protocol")
def test_a_signature_that_came_too_late_fits_the_next_time(world: World, tree: RpmTree, repository: str) -> None:
    repomd, signature, *_rest = tree.publish(repository, "1.0")
    before = get(world, repomd)
    tree.publish(repository, "2.0")
    assert get(world, signature).body != f"signature of {before.sha256}\n".encode(), "as it would be without a mirror"
    age()
    page = get(world, repomd)
    assert get(world, signature).body == f"signature of {page.sha256}\n".encode()


@promise("protocol")
def test_repomd_is_revalidated_and_the_rest_is_fresh_for_its_lifetime(world: World, tree: RpmTree, repository: str) -> None:
    repomd, *_rest = tree.publish(repository, "1.0")
    rest = f"{repository}/.treeinfo"
    tree.files[rest] = b"[general]\nversion = 1.0\n" * 20
    on_the_second()
    assert [get(world, path).cache for path in (repomd, rest, repomd, rest)] == ["miss", "miss", "hit", "hit"]
    age()
    again, other = get(world, repomd), get(world, rest)
    assert (again.status, other.cache) == (200, "hit"), show(other)
    assert (tree.requests(repomd), tree.requests(rest)) == ([200, 304], [200])


@promise("protocol")
def test_packages_and_what_is_named_by_digest_never_change(world: World, tree: RpmTree, repository: str) -> None:
    paths = [f"{repository}/{name}" for name in IMMUTABLE]
    tree.files |= {path: path.encode() * 20 for path in paths}
    assert all(good(get(world, path), tree.files[path]) for path in paths)
    tree.failing = True
    age(LIFETIME + 1.5)
    for path in paths:
        reply = get(world, path)
        assert reply.cache == "hit" and good(reply, tree.files[path]), show(reply)
    assert [len(tree.requests(path)) for path in paths] == [1] * len(paths), "their paths reach upstream as they came, and once"


@promise("once")
def test_fifty_cold_clients_fetch_a_package_once(world: World, tree: RpmTree, repository: str) -> None:
    path = f"{repository}/demo-3.0-1.noarch.rpm"
    tree.files[path] = b"".join(sha256(b"%d" % number).encode() for number in range(48 * 1024))
    replies = at_once(50, lambda _number: get(world, path))
    assert all(good(reply, tree.files[path]) for reply in replies)
    assert len(tree.requests(path)) == 1


@promise("http")
def test_head_and_ranges_of_a_package(world: World, tree: RpmTree, repository: str) -> None:
    *_others, path = tree.publish(repository, "1.0")
    whole = tree.files[path]
    for _time in "cold", "warm":
        head, part = get(world, path, method="HEAD"), get(world, path, {"Range": "bytes=10-19"})
        assert (head.status, head["Content-Length"], head.body) == (200, str(len(whole)), b""), show(head)
        assert (part.status, part.body) == (206, whole[10:20]), show(part)


@promise("protocol")
@table(
    "name", {"signature": "repodata/repomd.xml.asc", "primary": f"repodata/{64 * 'a'}-primary.xml.gz", "package": "demo-9.0-1.noarch.rpm"}
)
def test_what_is_not_there_is_told_and_not_stored(world: World, tree: RpmTree, repository: str, name: str) -> None:
    path = f"{repository}/{name}"
    for _time in "first", "second":
        reply = get(world, path)
        assert reply.status == 404 and reply.cache != "hit", show(reply)
    tree.files[path] = b"here it is\n"
    assert good(get(world, path), b"here it is\n")


@promise("stale")
def test_a_repository_that_was_seen_is_served_while_upstream_is_away(world: World, tree: RpmTree, repository: str) -> None:
    paths = tree.publish(repository, "1.0")
    first = [get(world, path).body for path in paths]
    tree.failing = True
    age()
    replies = [get(world, path) for path in paths]
    assert [reply.body for reply in replies] == first
    assert [reply.cache for reply in replies] == ["stale", "stale", "hit", "hit"]
    assert get(world, f"{repository}/repodata/unseen.xml").status in (502, 503)
