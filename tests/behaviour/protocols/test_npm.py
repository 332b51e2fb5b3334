# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for the npm registry's protocol, on a mirror of their own, whose documents are fresh for 1 s."""

from __future__ import annotations

import gzip
import json
import typing as t

import bench
import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.health import examine
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from bench import LAGS, Reply, World, age, at_once, lag, on_the_second, show
from npmregistry import FULL, INSTALL, NpmRegistry
from promises import promise, table

MEGABYTE = 1 << 20
KEYS = "-/npm/v1/keys"
NPM = f"{INSTALL}; q=1.0, application/json; q=0.8, */*"
ASKED = {"install": (NPM, INSTALL), "whole": (FULL, FULL), "anything": ("*/*", FULL), "nothing said": (None, FULL)}
NAMES = {"plain": "{}", "scoped": "@scope%2f{}", "scoped, capital": "@scope%2F{}", "scoped, with a slash": "@scope/{}"}


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage = tmp_path_factory.mktemp(f"npm-{request.param}"), request.config.getoption("breakage")
    passing, origins = {"name": "open", "posts": True, "port": bench.free_port()}, ["http://tarballs.test"]
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
@pytest.mark.parametrize("origin", ["http://tarballs.test", "http://tarballs.test:80"])
def test_a_document_that_lies_at_a_declared_origin(world: World, registry: NpmRegistry, package: str, origin: str) -> None:
    """With its scheme's own port written out it is the same origin (RFC 9110, 4.2.3)."""
    registry.moved[package] = f"{origin}/there"
    reply = get(world, package)
    assert (reply.status, reply["Location"].removeprefix(f"http://mirror.test:{world.mirror.address[1]}")) == (302, "/npm/files/there"), (
        show(reply)
    )


@promise("links")
def test_a_manifest(world: World, registry: NpmRegistry, package: str) -> None:
    reply = get(world, f"{package}/1.0.0", FULL)
    assert json.loads(reply.plain)["dist"]["tarball"].startswith("http://mirror.test:"), show(reply)


@pytest.fixture
def large(registry: NpmRegistry, package: str) -> str:
    """A package whose document is as large as the largest that are installed every day."""
    registry.packages[package] = {f"1.{number}.0": 0 for number in range(3000)}
    registry.needs[package] = 120
    assert len(registry.document(package, FULL)) > 10_000_000
    return package


@promise("representation")
@table("accept, media_type", {name: ASKED[name] for name in ("install", "whole")})
def test_a_large_document_is_rewritten_whole(world: World, registry: NpmRegistry, large: str, accept: str, media_type: str) -> None:
    document = arrives(world, registry, large, media_type)
    assert document.count(f"/npm/{large}/-/".encode()) == len(registry.packages[large])
    for encoding in "gzip", "identity":
        for _time in "cold", "warm":
            reply = get(world, large, accept, headers={"Accept-Encoding": encoding})
            assert (reply.status, reply.type, reply.complete, reply.plain == document) == (200, media_type, True, True), reply.headers
    assert 206 not in registry.requests(large)


@promise("once")
def test_a_large_document_is_sent_once_by_upstream(world: World, registry: NpmRegistry, large: str) -> None:
    replies = at_once(20, lambda _number: get(world, large, FULL))
    assert {(reply.status, reply.complete, reply.sha256) for reply in replies} == {(200, True, replies[0].sha256)}
    assert replies[0].plain == arrives(world, registry, large, FULL)
    for _time in range(2):
        age()
        assert get(world, large, FULL).sha256 == replies[0].sha256
    assert registry.requests(large)[0] == 200 and set(registry.requests(large)[1:]) == {304}, registry.requests(large)
    registry.failing = True
    age()
    reply = get(world, large, FULL)
    assert (reply.status, reply.cache, reply.sha256) == (200, "stale", replies[0].sha256), reply.headers


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


@pytest.fixture
def lay(registry: NpmRegistry) -> t.Iterator[t.Callable[[str], None]]:
    """Have the registry keep its tarballs elsewhere."""
    before = registry.layout
    yield lambda layout: setattr(registry, "layout", layout)
    registry.layout = before


LAYOUTS = {
    "below a folder": "~/11/{name}/{version}.tgz",
    "without an ending": "download/{name}/{version}/0123456789abcdef",
    "of some mirrors": "{name}/download/{name}-{version}.tgz",
}


@promise("protocol")
@table("layout", LAYOUTS)
@table("spelled", {"plain": "{}", "scoped": "@scope/{}"})
def test_a_tarball_lies_where_its_registry_keeps_it(
    world: World, registry: NpmRegistry, package: str, lay: t.Callable[[str], None], spelled: str, layout: str
) -> None:
    name = spelled.format(package)
    lay(layout)
    link = json.loads(get(world, name).plain)["versions"]["1.0.0"]["dist"]["tarball"]
    path = link.removeprefix(f"http://mirror.test:{world.mirror.address[1]}/npm/")
    assert path == registry.tarball_path(name, "1.0.0")
    whole = registry.tarball(name, "1.0.0")
    first = get(world, path)
    assert (first.status, first.body) == (200, whole), show(first)
    registry.failing = True
    age()
    again = get(world, path)
    assert (again.status, again.cache, again.body) == (200, "hit", whole), show(again)


@promise("whole")
def test_what_is_no_document_is_refused_without_its_body(
    world: World, registry: NpmRegistry, package: str, lay: t.Callable[[str], None]
) -> None:
    registry.publish(package, "1.0.0", MEGABYTE)
    lay("{name}.tgz")
    reply = get(world, f"{package}.tgz")
    assert reply.status == 502 and len(reply.body) < 1000, show(reply)


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


@promise("stale")
def test_a_registry_that_heeds_no_conditions_is_no_trouble(world: World, registry: NpmRegistry, package: str) -> None:
    """The public one at times sends what is unchanged again, with the same tag; clients of the mirror are told that it is."""
    first = get(world, package)
    registry.forgetful.add(package)
    age()
    again = get(world, package)
    assert again.plain == first.plain and registry.requests(package) == [200, 200], show(again)
    same = get(world, package, headers={"If-None-Match": first["ETag"]})
    assert (same.status, same.body) == (304, b""), show(same)


@promise("protocol")
@table("spelled", NAMES)
def test_attestations_arrive_as_they_are(world: World, registry: NpmRegistry, package: str, spelled: str) -> None:
    """As npm and pnpm ask for them when they verify; what a version was built from is not on the mirror, and its link is no file's."""
    name = package if spelled == "{}" else f"@scope/{package}"
    path = f"-/npm/v1/attestations/{spelled.format(package)}@1.0.0"
    on_the_second()
    for cache in "miss", "hit":
        reply = get(world, path, FULL)
        assert (reply.status, reply.type, reply.cache) == (200, FULL, cache), show(reply)
        assert reply.plain == registry.attestations(name, "1.0.0")[0], show(reply)  # type: ignore[index]
    assert registry.requests(path) == [200], "its name reaches upstream as it came"
    for _time in "first", "second":
        absent = get(world, path.replace("1.0.0", "9.0.0"), FULL)
        assert (absent.status, absent.plain, absent.cache) == (404, registry.why(path), "miss"), show(absent)
    registry.failing = True
    age()
    reply = get(world, path, FULL)
    assert (reply.status, reply.cache, reply.plain) == (200, "stale", registry.attestations(name, "1.0.0")[0]), show(reply)  # type: ignore[index]


@promise("protocol")
def test_keys_are_revalidated(world: World, registry: NpmRegistry) -> None:
    age()
    already = len(registry.requests(KEYS))
    on_the_second()
    first, second = get(world, KEYS, FULL), get(world, KEYS, FULL)
    assert (first.status, first.plain, second.cache) == (200, registry.find(KEYS)[0], "hit"), show(second)  # type: ignore[index]
    age()
    assert get(world, KEYS, FULL).plain == first.plain
    assert set(registry.requests(KEYS)[already + 1 :]) == {304}, "they have to be revalidated, not fetched anew"


@promise("protocol")
@table("spelled", NAMES)
def test_tags_are_revalidated_and_outlive_their_upstream(world: World, registry: NpmRegistry, package: str, spelled: str) -> None:
    """As ``npm dist-tag ls`` asks for them."""
    path, name = f"-/package/{spelled.format(package)}/dist-tags", package if spelled == "{}" else f"@scope/{package}"
    on_the_second()
    for cache in "miss", "hit":
        reply = get(world, path, FULL)
        assert (reply.status, reply.type, reply.cache) == (200, FULL, cache), show(reply)
        assert json.loads(reply.plain) == {"latest": "1.0.0"}, show(reply)
    age()
    assert json.loads(get(world, path, FULL).plain) == {"latest": "1.0.0"}
    assert registry.requests(path) == [200, 304], "its name reaches upstream as it came, and is asked for again"
    registry.publish(name, "1.1.0")
    age()
    assert json.loads(get(world, path, FULL).plain) == {"latest": "1.1.0"}
    registry.failing = True
    age()
    reply = get(world, path, FULL)
    assert (reply.status, reply.cache, json.loads(reply.plain)) == (200, "stale", {"latest": "1.1.0"}), show(reply)


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


def on_its_port(world: World, path: str, accept: str | None = NPM, **options: t.Any) -> Reply:
    """As :func:`get`, of the site ``open`` on the port of its own."""
    headers = {"Accept-Encoding": "gzip"} | ({"Accept": accept} if accept else {}) | options.pop("headers", {})
    return bench.fetch(("127.0.0.1", world.mirror.sites[1]["port"]), f"/{path}", headers, **options)


@promise("links")
@table("spelled", NAMES)
@table("first", {"its port": True, "its path": False})
def test_a_port_of_its_own_and_the_path_are_one(world: World, registry: NpmRegistry, package: str, spelled: str, first: bool) -> None:
    """One fetch and one file, whichever way it was asked for; and links that hold either way."""
    path = spelled.format(package)
    name = package if spelled == "{}" else f"@scope/{package}"
    on_the_second()

    def both(path: str) -> list[Reply]:
        ways = [lambda: on_its_port(world, path), lambda: world.mirror.get(f"/open/{path}", {"Accept": NPM, "Accept-Encoding": "gzip"})]
        return [way() for way in (ways if first else reversed(ways))]

    document = registry.document(name, INSTALL).replace(
        registry.url.encode(), f"http://mirror.test:{world.mirror.address[1]}/open".encode()
    )
    cold, warm = both(path)
    assert (cold.status, cold.cache, warm.status, warm.cache) == (200, "miss", 200, "hit"), show(cold) + show(warm)
    assert cold.plain == warm.plain == document and registry.requests(path) == [200]
    tarball = f"{path}/-/{package}-1.0.0.tgz"
    cold, warm = both(tarball)
    assert cold.body == warm.body == registry.tarball(name, "1.0.0") and (cold.cache, warm.cache) == ("miss", "hit"), show(warm)
    assert len(registry.requests(tarball)) == 1


@promise("protocol")
@table("name", {"the site's": "open", "the mirror's health": "health", "the mirror's document": "mirror.json", "a scope's": "@open/open"})
def test_on_a_port_of_its_own_all_names_are_the_registrys(world: World, registry: NpmRegistry, name: str) -> None:
    registry.publish(name, "1.0.0")
    registry.publish(name, "1.1.0")
    document, manifest = on_its_port(world, name), on_its_port(world, f"{name}/1.1.0", FULL)
    assert document.status == 200 and json.loads(document.plain)["name"] == name, show(document)
    assert manifest.status == 200 and json.loads(manifest.plain)["version"] == "1.1.0", show(manifest)
    tarball = on_its_port(world, registry.tarball_path(name, "1.1.0"))
    assert tarball.body == registry.tarball(name, "1.1.0"), show(tarball)


@promise("http")
def test_a_port_of_its_own_speaks_http_as_the_mirrors_does(world: World, registry: NpmRegistry, package: str) -> None:
    path = f"{package}/-/{package}-1.0.0.tgz"
    whole = registry.tarball(package, "1.0.0")
    for _time in "cold", "warm":
        head, part = on_its_port(world, path, method="HEAD"), on_its_port(world, path, headers={"Range": "bytes=10-19"})
        assert (head.status, head["Content-Length"], part.status, part.body) == (200, str(len(whole)), 206, whole[10:20]), show(part)
    document = on_its_port(world, package)
    again = on_its_port(world, package, headers={"If-None-Match": document["ETag"]})
    assert document["ETag"] and (again.status, again.body) == (304, b""), show(again)
    said = POSTED | {"Content-Length": "2"}
    posted = on_its_port(world, AUDITS["advisories"], headers=said, method="POST", body=b"{}")
    assert (posted.status, posted.body) == (200, b"{}"), show(posted)


@promise("stale")
def test_a_port_of_its_own_outlives_its_upstream(world: World, registry: NpmRegistry, package: str) -> None:
    first = world.mirror.get(f"/open/{package}", {"Accept": NPM, "Accept-Encoding": "gzip"})
    registry.failing = True
    age()
    reply = on_its_port(world, package)
    assert (reply.status, reply.cache, reply.plain) == (200, "stale", first.plain), show(reply)


@promise("closed")
def test_a_port_of_its_own_is_as_closed_as_the_mirrors(world: World, registry: NpmRegistry, package: str) -> None:
    registry.audits.clear()
    for path in package, "health":
        assert on_its_port(world, path, headers={"Host": "stranger.test"}).status == 421
    for status, options in (
        (405, {"method": "PUT", "body": b"{}", "headers": {"Content-Length": "2"}}),
        (405, {"method": "POST", "body": b"{}", "headers": {"Content-Length": "2"}}),
        (413, {"body": b"{}", "headers": {"Content-Length": "2"}}),
    ):
        assert on_its_port(world, package, **options).status == status
    for path in f"../{package}", f"/{package}", f"%2e%2e/{package}", f"x/../{package}":
        assert on_its_port(world, path).status == 400, path
    for path in "", "-/v1/search?text=x", "-/v1/login":
        assert on_its_port(world, path).status == 404, path
    assert registry.requests(package) == [] and registry.audits == []


@promise("bounded")
def test_a_query_on_a_port_of_its_own_counts_for_nothing(world: World, registry: NpmRegistry, package: str) -> None:
    on_the_second()
    for number in range(5):
        assert on_its_port(world, f"{package}?{number}").status == 200
    assert registry.requests(package) == [200]


@promise("itself")
def test_the_mirror_says_which_port_a_site_has(world: World) -> None:
    port = world.mirror.sites[1]["port"]
    sites = {site["name"]: site for site in json.loads(world.mirror.get("/mirror.json").body)["sites"]}
    assert (sites["npm"].get("port"), sites["open"]["port"]) == (None, port)
    assert f"http://mirror.test:{port}/" in world.mirror.get("/").body.decode()


@promise("itself")
def test_health_is_proven_on_the_port_of_a_site_too(world: World, package: str) -> None:
    port = world.mirror.sites[1]["port"]
    site = {"name": "open", "type": "npm", "path": "/open/", "probe": package}
    base = f"http://127.0.0.1:{world.mirror.address[1]}"
    told = {
        there: next(check for check in examine(Client(), base, [site | {"port": there}]).checks if check["check"] == "port")
        for there in (port, bench.free_port())
    }
    assert [check["verdict"] for check in told.values()] == ["good", "bad"], told
    assert told[port]["detail"].startswith(f"representations at http://127.0.0.1:{port}: ")


@promise("closed")
def test_publishing_is_refused(world: World, package: str) -> None:
    assert get(world, package, method="PUT", body=b"{}", headers={"Content-Length": "2"}).status == 405


@promise("itself")
@table("ago, expected", LAGS)
def test_health_tells_that_upstream_has_had_another_one_for_long(world: World, package: str, ago: int, expected: str) -> None:
    """What the mirror asks stands still, and what health asks has gone on."""
    with NpmRegistry() as newer:
        for version in "1.0.0", "1.1.0":
            newer.publish(package, version)
        verdict, detail = lag(world.mirror, {"type": "npm", "probe": package}, newer, ago)
    assert verdict == expected and "1.1.0, latest: 1.0.0, latest: 1.1.0" in detail, detail
