# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for the npm registry's protocol, on a mirror of their own, whose documents are fresh for 1 s."""

from __future__ import annotations

import gzip
import json
import typing as t

import bench
import pytest
from bench import Reply, World, age, at_once, on_the_second, show
from npmregistry import FULL, INSTALL, NpmRegistry
from promises import promise, table

MEGABYTE = 1 << 20
NPM = f"{INSTALL}; q=1.0, application/json; q=0.8, */*"
ASKED = {"install": (NPM, INSTALL), "whole": (FULL, FULL), "anything": ("*/*", FULL), "nothing said": (None, FULL)}
NAMES = {"plain": "{}", "scoped": "@scope%2f{}", "scoped, capital": "@scope%2F{}", "scoped, with a slash": "@scope/{}"}


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage = tmp_path_factory.mktemp(f"npm-{request.param}"), request.config.getoption("breakage")
    passing, origins = {"name": "open", "posts": True}, ["http://tarballs.test"]
    with bench.one_site(root, request.param, NpmRegistry(), breakage, passing, type="npm", origins=origins) as world:
        yield world


@pytest.fixture
def registry(world: World) -> NpmRegistry:
    return world.registries["npm"]  # type: ignore[return-value]


@pytest.fixture
def package(registry: NpmRegistry, numbers: t.Iterator[int]) -> str:
    """The name of a package that nobody has asked for, with one version; there is one of that name in a scope, too."""
    name = f"row-{next(numbers)}"
    for each in name, f"@scope/{name}":
        registry.publish(each, "1.0.0")
    return name


def get(world: World, path: str, accept: str | None = NPM, **options: t.Any) -> Reply:
    headers = {"Accept-Encoding": "gzip"} | ({"Accept": accept} if accept else {}) | options.pop("headers", {})
    return world.mirror.get(f"/npm/{path}", headers, **options)


def arrives(world: World, registry: NpmRegistry, name: str, media_type: str) -> bytes:
    """The document as it should arrive: upstream's own, with all links on the mirror."""
    return registry.document(name, media_type).replace(registry.url.encode(), f"http://mirror.test:{world.mirror.address[1]}/npm".encode())


@promise("representation")
@table("spelled", NAMES)
@table("accept, media_type", ASKED)
def test_a_document(world: World, registry: NpmRegistry, package: str, spelled: str, accept: str | None, media_type: str) -> None:
    path = spelled.format(package)
    name = package if spelled == "{}" else f"@scope/{package}"
    on_the_second()
    for cache in "miss", "hit":
        reply = get(world, path, accept)
        assert (reply.status, reply.type, reply.cache) == (200, media_type, cache), show(reply)
        assert reply.plain == arrives(world, registry, name, media_type), show(reply)
    assert registry.requests(path) == [200], "its name reaches upstream as it came, and once"


@promise("representation")
def test_representations_never_mix(world: World, registry: NpmRegistry, package: str) -> None:
    registry.delay = 0.1
    replies = at_once(24, lambda number: get(world, package, [NPM, FULL][number % 2]))
    for number, reply in enumerate(replies):
        media_type = [INSTALL, FULL][number % 2]
        assert reply.type == media_type and reply.plain == arrives(world, registry, package, media_type), show(reply)
    assert len(registry.requests(package)) == 2


@promise("links")
@pytest.mark.parametrize("origin", ["http://registry.test:{}", "http://tarballs.test", "http://tarballs.test:80"])
@pytest.mark.parametrize("accept", [NPM, FULL])
def test_tarballs_are_on_the_mirror(world: World, registry: NpmRegistry, package: str, accept: str, origin: str) -> None:
    registry.files_url = origin.format(registry.port)
    try:
        document = json.loads(get(world, package, accept).plain)
    finally:
        registry.files_url = registry.url
    links = {entry["dist"]["tarball"] for entry in document["versions"].values()}
    where = "npm" if "registry" in origin else "npm/files"
    assert links == {f"http://mirror.test:{world.mirror.address[1]}/{where}/{package}/-/{package}-1.0.0.tgz"}


@promise("links")
def test_a_manifest(world: World, registry: NpmRegistry, package: str) -> None:
    reply = get(world, f"{package}/1.0.0", FULL)
    assert json.loads(reply.plain)["dist"]["tarball"].startswith("http://mirror.test:"), show(reply)


@promise("protocol")
@table("spelled", NAMES)
def test_a_tarball_never_changes(world: World, registry: NpmRegistry, package: str, spelled: str) -> None:
    name = package if spelled == "{}" else f"@scope/{package}"
    path = f"{spelled.format(package)}/-/{package}-1.0.0.tgz"
    whole = registry.tarball(name, "1.0.0")
    first = get(world, path)
    assert (first.status, first.body) == (200, whole), show(first)
    registry.failing = True
    age()
    again, part = get(world, path), get(world, path, headers={"Range": "bytes=10-19"})
    assert (again.cache, again.body) == ("hit", whole), show(again)
    assert (part.status, part.body) == (206, whole[10:20]), show(part)
    assert len(registry.requests(path)) == 1


@promise("once")
def test_fifty_cold_clients_fetch_a_tarball_once(world: World, registry: NpmRegistry, package: str) -> None:
    registry.publish(package, "2.0.0", 3 * MEGABYTE)
    path = registry.tarball_path(package, "2.0.0")
    replies = at_once(50, lambda _number: get(world, path))
    assert {(reply.status, reply.complete, reply.sha256) for reply in replies} == {(200, True, replies[0].sha256)}
    assert len(replies[0].body) > 3 * MEGABYTE
    assert len(registry.requests(path)) == 1


@promise("stale")
def test_a_document_is_revalidated_and_outlives_its_upstream(world: World, registry: NpmRegistry, package: str) -> None:
    first = get(world, package)
    age()
    assert get(world, package).plain == first.plain
    assert registry.requests(package) == [200, 304]
    registry.publish(package, "1.1.0")
    age()
    assert json.loads(get(world, package).plain)["dist-tags"] == {"latest": "1.1.0"}
    registry.failing = True
    age()
    reply = get(world, package)
    assert json.loads(reply.plain)["dist-tags"] == {"latest": "1.1.0"} and reply.cache == "stale", show(reply)


@promise("whole")
def test_what_is_not_there_is_not_kept(world: World, registry: NpmRegistry, numbers: t.Iterator[int]) -> None:
    name = f"absent-{next(numbers)}"
    for path in name, f"{name}/-/{name}-1.0.0.tgz":
        assert get(world, path).status == 404
    registry.publish(name, "1.0.0")
    for path in name, f"{name}/-/{name}-1.0.0.tgz":
        assert get(world, path).status == 200


@promise("protocol")
@table(
    "path, status",
    {"keys": ("-/npm/v1/keys", 200), "ping": ("-/ping", 200), "search": ("-/v1/search?text=x", 404), "login": ("-/v1/login", 404)},
)
def test_the_registrys_own_interface(world: World, path: str, status: int) -> None:
    assert get(world, path, FULL).status == status


AUDITS = {
    "advisories": "-/npm/v1/security/advisories/bulk",
    "quick audit": "-/npm/v1/security/audits/quick",
    "audit": "-/npm/v1/security/audits",
}
POSTED = {"Content-Type": FULL, "Authorization": "Bearer marker", "Cookie": "marker=1", "X-Marker": "marker"}


def post(world: World, path: str, body: bytes, **headers: str) -> Reply:
    return world.mirror.get(path, POSTED | {"Content-Length": str(len(body))} | headers, method="POST", body=body)


@promise("closed")
@table("path", AUDITS)
def test_an_audit_is_told_that_there_is_none(world: World, registry: NpmRegistry, path: str) -> None:
    registry.audits.clear()
    for method in "POST", "GET":
        reply = post(world, f"/npm/{path}", b"{}") if method == "POST" else get(world, path)
        assert reply.status == 404 and registry.audits == [], show(reply)


@promise("closed")
@table("path", AUDITS)
def test_an_audit_goes_upstream_where_the_site_says_so(world: World, registry: NpmRegistry, path: str) -> None:
    body = gzip.compress(b'{"isarray": ["2.0.5"]}' * 1000)
    for _time in range(2):
        registry.audits.clear()
        reply = post(world, f"/open/{path}", body, **{"Content-Encoding": "gzip"})
        assert (reply.status, reply.type, reply.body) == (200, FULL, b"{}"), show(reply)
        (audit,) = registry.audits
        assert (audit["path"], audit["body"]) == (f"/{path}", gzip.decompress(body)) and "marker" not in str(audit["headers"])
    assert post(world, f"/open/{path}", b"x" * 10_000_000).status == 413


@promise("closed")
@table(
    "path",
    {"a document": "/open/isarray", "the document": "/mirror.json", "elsewhere": "/open/-/npm/v1/security/other", "health": "/health"},
)
def test_nothing_else_is_posted(world: World, registry: NpmRegistry, path: str) -> None:
    registry.audits.clear()
    assert post(world, path, b"{}").status == 405 and registry.audits == []


@promise("stale")
@pytest.mark.parametrize("what", ["failing", "away"])
def test_an_audit_fails_where_upstream_does(world: World, registry: NpmRegistry, what: str) -> None:
    registry.audits.clear()
    registry.failing = what == "failing"
    if what == "away":
        world.names.mode = "missing"
        age()
    reply = post(world, f"/open/{AUDITS['audit']}", b"{}")
    assert reply.status >= 500 and registry.audits == [] and reply.seconds < 12, show(reply)


@promise("closed")
def test_publishing_is_refused(world: World, package: str) -> None:
    assert get(world, package, method="PUT", body=b"{}", headers={"Content-Length": "2"}).status == 405
