# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for registries of images, on a mirror of their own, whose tags are fresh for 1 s.

The mirror's docker-registry runs from the configuration that the role renders; the registry wants tokens, and has its blobs elsewhere.
"""

from __future__ import annotations

import hashlib
import json
import subprocess
import typing as t
from pathlib import Path

import bench
import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.discovery import DiscoveryError, Found, discover
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from bench import LAGS, World, age, at_once, fetcher, lag, on_the_second, show, until
from ociregistry import CREDENTIALS, DOCKER_LIST, DOCKER_MANIFEST, INDEX, MANIFEST, READERS, TOKEN, OciRegistry, digest
from promises import promise, table

MEGABYTE = 1 << 20
ALL = ", ".join((INDEX, MANIFEST, DOCKER_LIST, DOCKER_MANIFEST))


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage, registry = tmp_path_factory.mktemp(f"oci-{request.param}"), request.config.getoption("breakage"), OciRegistry()
    variables = {"mirror_fetcher_port": bench.free_port(), "mirror_fetcher_path": f"{root}/fetchers"}
    upstream = f"http://127.0.0.1:{registry.port}"  # docker-registry asks this machine's own name servers
    site = {"type": "oci", "name": "images", "upstream": upstream, "port": bench.free_port()}
    with bench.one_site(root, request.param, registry, breakage, variables=variables, **site) as world:
        yield world


@pytest.fixture(scope="module")
def fetching(world: World) -> t.Iterator[None]:
    with fetcher(world.mirror):
        yield


@pytest.fixture
def registry(world: World) -> OciRegistry:
    return world.registries["oci"]  # type: ignore[return-value]


@pytest.fixture
def image(registry: OciRegistry, fetching: None, numbers: t.Iterator[int]) -> str:
    """A repository that no row has asked for before, on a mirror that fetches; its image ``one`` has a layer of its own."""
    name = f"library/row-{next(numbers)}"
    registry.push(name, "one", name.encode() * 1000)
    return name


def get(world: World, path: str, headers: t.Mapping[str, str] | None = None, **options: t.Any) -> bench.Reply:
    """As clients ask, most of whom accept all kinds of manifests."""
    return world.mirror.get(f"/v2/images/{path}", {"Accept": ALL, "Accept-Encoding": "gzip"} | dict(headers or {}), **options)


def parts(registry: OciRegistry, image: str, tag: str = "one") -> tuple[str, dict[str, t.Any]]:
    """The digest of a tag's manifest, and the manifest."""
    named = registry.tags[image][tag]
    return named, json.loads(registry.bodies[named][0])


@promise("stale")
def test_what_was_seen_is_served_while_nothing_fetches(world: World, registry: OciRegistry) -> None:
    registry.push("seen", "one", b"seen")
    path = f"seen/blobs/{digest(b'seen')}"
    with fetcher(world.mirror):
        assert [get(world, asked).status for asked in ("seen/manifests/one", path)] == [200, 200]
    age()
    tag, blob, unseen = (get(world, asked) for asked in ("seen/manifests/one", path, "unseen/manifests/one"))
    assert (tag.status, tag.cache, blob.status, blob.cache) == (200, "stale", 200, "hit"), show(tag)
    assert unseen.status in (502, 503, 504), show(unseen)


@promise("protocol")
def test_the_mirror_says_that_it_is_a_registry(world: World) -> None:
    reply = world.mirror.get("/v2/")
    assert (reply.status, reply["Docker-Distribution-API-Version"], reply.body) == (200, "registry/2.0", b"{}\n"), show(reply)
    assert world.mirror.get("/v2/", method="HEAD").status == 200
    assert world.mirror.get("/v2/other/library/app/manifests/one").status == 404


@promise("protocol")
@table("kind", {"oci": MANIFEST, "docker": DOCKER_MANIFEST})
@table("accepted", {"all": ALL, "one kind": DOCKER_MANIFEST, "anything": "*/*", "nothing": ""})
@table("tag", {"image": "one", "many platforms": "one-all"})
def test_a_manifest_comes_as_it_is(world: World, registry: OciRegistry, image: str, kind: str, accepted: str, tag: str) -> None:
    registry.push(image, "one", image.encode(), kind)
    named = registry.tags[image][tag]
    for reference in tag, named:
        reply = get(world, f"{image}/manifests/{reference}", {"Accept": accepted})
        body, media_type = registry.bodies[named]
        assert (reply.status, reply.body, reply.type) == (200, body, media_type), show(reply)
        told = reply["Docker-Content-Digest"], reply["Content-Encoding"], reply["Content-Length"]
        assert told == (named, "", str(len(body))), show(reply)


@promise("protocol")
def test_a_tag_is_fresh_within_its_lifetime_and_then_asked_for_again(world: World, registry: OciRegistry, image: str) -> None:
    path = f"{image}/manifests/one"
    on_the_second()
    first, second = get(world, path), get(world, path)
    assert (first.cache, second.cache) == ("miss", "hit"), show(second)
    old = registry.tags[image]["one"]
    registry.push(image, "one", b"another layer")
    age()
    reply = get(world, path)
    assert reply["Docker-Content-Digest"] == registry.tags[image]["one"] != old, show(reply)


@promise("protocol")
def test_what_has_a_digest_never_changes(world: World, registry: OciRegistry, image: str) -> None:
    named, manifest = parts(registry, image)
    paths = [f"{image}/manifests/{named}", *(f"{image}/blobs/{part['digest']}" for part in (manifest["config"], *manifest["layers"]))]
    for path in paths:
        first = get(world, path)
        assert (first.status, digest(first.body)) == (200, path.rpartition("/")[2]), show(first)
    registry.failing = True
    age()
    for path in paths:
        again = get(world, path)
        assert (again.status, again.cache, digest(again.body)) == (200, "hit", path.rpartition("/")[2]), show(again)


@promise("protocol")
def test_head_of_a_cached_tag_is_no_pull(world: World, registry: OciRegistry, image: str) -> None:
    named, _manifest = parts(registry, image)
    on_the_second()
    get(world, f"{image}/manifests/one")
    asked = len(registry.asked)
    head = get(world, f"{image}/manifests/one", method="HEAD")
    assert (head.status, head.cache, head.body, head["Docker-Content-Digest"]) == (200, "hit", b"", named), show(head)
    assert head["Content-Length"] == str(len(registry.bodies[named][0])), show(head)
    assert len(registry.asked) == asked


@promise("http")
def test_head_and_ranges_of_a_blob(world: World, registry: OciRegistry, image: str) -> None:
    layer = image.encode() * 1000
    path = f"{image}/blobs/{digest(layer)}"
    for _time in "cold", "warm":
        head, part = get(world, path, method="HEAD"), get(world, path, {"Range": "bytes=10-19"})
        assert (head.status, head["Content-Length"]) == (200, str(len(layer))), show(head)
        assert (part.status, part.body) == (206, layer[10:20]), show(part)
    assert registry.fetched(digest(layer)) == 1, registry.asked


@promise("http")
def test_parts_of_a_large_blob_fit_whoever_asked_for_which_first(world: World, registry: OciRegistry, image: str) -> None:
    layer = b"".join(b"%07d\n" % number for number in range(9 * MEGABYTE // 8))
    registry.push(image, "large", layer)
    path = f"{image}/blobs/{digest(layer)}"
    cold = True
    for start in 6 * MEGABYTE, 10, 5 * MEGABYTE, 8 * MEGABYTE:
        part = get(world, path, {"Range": f"bytes={start}-{start + 99}"})
        wanted = [(206, layer[start : start + 100])]
        # Apache may send the first who asks the whole, which a server may (RFC 9110, section 14.2).
        assert (part.status, part.body) in (wanted + [(200, layer)] if cold and world.mirror.engine == "apache" else wanted), show(part)
        cold = False
    assert digest(get(world, path).body) == digest(layer)
    assert registry.fetched(digest(layer)) == 1, registry.asked


@promise("once")
def test_fifty_cold_clients_fetch_a_blob_once(world: World, registry: OciRegistry, image: str) -> None:
    layer = image.encode() * 200_000
    registry.push(image, "cold", layer)
    replies = at_once(50, lambda _number: get(world, f"{image}/blobs/{digest(layer)}"))
    assert [digest(reply.body) for reply in replies if reply.complete] == [digest(layer)] * 50
    assert not until(lambda: registry.fetched(digest(layer)) > 1, 3), registry.asked
    assert registry.fetched(digest(layer)) == 1, registry.asked


@promise("once")
def test_a_blob_that_takes_long_is_fetched_once(world: World, registry: OciRegistry, image: str) -> None:
    layer = image.encode() * 200_000
    registry.push(image, "long", layer)
    registry.pause = 12  # Nginx takes a slice of another file for lost after 10 s
    try:
        replies = at_once(5, lambda _number: get(world, f"{image}/blobs/{digest(layer)}", timeout=60))
    finally:
        registry.pause = 0
    assert [digest(reply.body) for reply in replies] == [digest(layer)] * 5
    assert registry.fetched(digest(layer)) == 1, registry.asked


@promise("once")
def test_the_cache_has_the_only_copy_of_a_blob(world: World, registry: OciRegistry, image: str) -> None:
    layer = hashlib.shake_256(image.encode()).digest(5 * MEGABYTE + 5)
    registry.push(image, "copies", layer)
    get(world, f"{image}/blobs/{digest(layer)}")

    def copies() -> list[Path]:
        command = ["find", "cache", "fetchers", "-type", "f", "-size", f"+{len(layer) - 1}c"]
        found = subprocess.run(command, cwd=world.mirror.root, capture_output=True, text=True, check=False).stdout.split()
        files = [world.mirror.root / path for path in found]
        return [path for path in files if path.exists() and layer in path.read_bytes()]

    assert until(copies) and not until(lambda: len(copies()) > 1, 1), copies()


@promise("closed")
def test_tokens_are_the_mirrors_and_credentials_of_clients_stay_here(world: World, registry: OciRegistry, image: str) -> None:
    named, manifest = parts(registry, image)
    registry.told.clear()
    for path in f"{image}/manifests/one", f"{image}/manifests/{named}", f"{image}/blobs/{manifest['layers'][0]['digest']}":
        reply = get(world, path, {"Authorization": "Bearer of-a-client"})
        assert reply.status == 200 and not reply["WWW-Authenticate"] and not reply["Location"], show(reply)
        assert TOKEN not in str(reply.headers), show(reply)
    told = {said for _path, said in registry.told}
    assert told == {"", f"Bearer {TOKEN}"}, told
    assert {said for path, said in registry.told if path.startswith("store/")} == {""}, "a blob store has signed its address"


def wanted(registry: OciRegistry, image: str, tag: str = "one") -> dict[str, bytes]:
    """All that a pull of a tag asks for, with what it gets."""
    named, manifest = parts(registry, image, tag)
    digests = {f"blobs/{part['digest']}": part["digest"] for part in (manifest["config"], *manifest["layers"])}
    return {path: registry.bodies[name][0] for path, name in {f"manifests/{tag}": named, f"manifests/{named}": named, **digests}.items()}


def stored(mirror: bench.Mirror, image: str, *bodies: bytes) -> list[Path]:
    """The files of the mirror, and of what fetches for it, in which a repository's name or one of these bodies is."""
    files = [path for folder in ("cache", "fetchers") for path in (mirror.root / folder).rglob("*") if path.is_file()]
    return [path for path in files if any(text in path.read_bytes() for text in (f"{image}/".encode(), *bodies))]


@promise("closed")
@table("said", {"credentials": CREDENTIALS, "their token": f"Bearer {READERS}"})
def test_what_takes_credentials_is_neither_fetched_nor_shared(world: World, registry: OciRegistry, image: str, said: str) -> None:
    """Who may read a private repository gets nothing of it from the mirror, nor does who asks after that."""
    pull = wanted(registry, image)
    registry.private.add(image)
    for path in pull:
        assert bench.fetch(("127.0.0.1", registry.port), f"/v2/{image}/{path}", {"Authorization": said}).status in (200, 307), path
        for headers in {"Authorization": said}, {}:
            for method in "GET", "HEAD":
                reply = get(world, f"{image}/{path}", headers, method=method)
                assert reply.status >= 400 and reply.cache != "hit" and not reply["Docker-Content-Digest"], show(reply)
                assert method == "HEAD" or list(json.loads(reply.plain)) == ["errors"], show(reply)
    assert stored(world.mirror, image, *pull.values()) == []
    registry.private.remove(image)
    for path, body in pull.items():
        assert get(world, f"{image}/{path}").body == body, path
    assert until(lambda: len(stored(world.mirror, image, *pull.values())) >= len(pull), 3), "what is public is found on the disk"


@promise("closed")
def test_a_deploy_tells_that_not_everybody_may_pull(registry: OciRegistry, image: str) -> None:
    """The registry gives everybody a token, and looks at it when it is asked for an image."""
    site = {"name": "images", "type": "oci", "upstream": f"http://127.0.0.1:{registry.port}", "probe": f"{image}:one"}
    assert discover(Client(), site) == Found()
    registry.private.add(image)
    with pytest.raises(DiscoveryError, match=f"/v2/{image}/manifests/one answered 401, and this mirror pulls anonymously only"):
        discover(Client(), site)


@promise("itself")
def test_a_deploy_tells_which_sites_have_no_probe(world: World) -> None:
    """Their health is good as long as the mirror itself answers."""
    assert "images: no file is fetched on trial, and health can tell little; set probe of the site." in world.mirror.told


@promise("once")
@table("tag", {"image": "one", "many platforms": "one-all"})
def test_a_warm_pull_takes_no_body_from_upstream(world: World, registry: OciRegistry, image: str, tag: str) -> None:
    """Nor does it cost one of the pulls that a registry allows, which are manifests: a tag is asked for by HEAD, and nothing else is."""
    named, _manifest = parts(registry, image)
    pull = {f"manifests/{tag}": registry.bodies[registry.tags[image][tag]][0]} | wanted(registry, image)
    for path, body in pull.items():
        assert get(world, f"{image}/{path}").body == body, path
    sent, asked = len(registry.sent), len(registry.asked)
    for _time in range(2):
        age()
        for path, body in pull.items():
            for reply in get(world, f"{image}/{path}", method="HEAD"), get(world, f"{image}/{path}"):
                told = reply["Docker-Content-Digest"], reply["ETag"].removeprefix("W/")
                assert reply.status == 200 and reply.body in (b"", body), show(reply)
                assert "manifests" not in path or told == (digest(body), f'"{digest(body)}"'), show(reply)
    assert [path for path in registry.sent[sent:] if path.startswith((f"v2/{image}/", "store/"))] == []
    again = {path for path, status in registry.asked[asked:] if status == 200 and path.startswith((f"v2/{image}/", "store/"))}
    assert again == {f"v2/{image}/manifests/{name}" for name in (tag, "one")}


@promise("stale")
def test_what_was_public_is_served_on_once_its_repository_is_private(world: World, registry: OciRegistry, image: str) -> None:
    """As long as it is stored; what is not stored is not to be had any more."""
    registry.push(image, "two", b"another layer of " + image.encode())
    pull = wanted(registry, image)
    for path, body in pull.items():
        assert get(world, f"{image}/{path}").body == body, path
    registry.private.add(image)
    age()
    for path, body in pull.items():
        reply = get(world, f"{image}/{path}")
        assert (reply.status, reply.body) == (200, body), show(reply)
    for path in wanted(registry, image, "two").keys() - pull.keys():
        reply = get(world, f"{image}/{path}")
        assert reply.status >= 400, show(reply)


@promise("stale")
@table("status", {"is away": 503, "allows no more pulls": 429})
def test_a_tag_that_was_seen_is_served_while_upstream(world: World, registry: OciRegistry, image: str, status: int) -> None:
    first = get(world, f"{image}/manifests/one")
    registry.failing = status
    age()
    reply, unseen = get(world, f"{image}/manifests/one"), get(world, f"{image}/blobs/sha256:{'0' * 64}")
    assert (reply.status, reply.body) == (200, first.body), show(reply)
    assert unseen.status >= 500, show(unseen)
    registry.failing = False
    registry.push(image, "one", b"a later layer")
    age()
    assert get(world, f"{image}/manifests/one")["Docker-Content-Digest"] == registry.tags[image]["one"]


@promise("protocol")
@table(
    "path, status",
    {
        "tag": ("manifests/none", 404),
        "manifest": (f"manifests/sha256:{'1' * 64}", 500),  # as docker-registry 2.8 tells it
        "blob": (f"blobs/sha256:{'1' * 64}", 404),
    },
)
def test_what_is_not_there_is_not_stored(world: World, registry: OciRegistry, image: str, path: str, status: int) -> None:
    for _time in "first", "second":
        reply = get(world, f"{image}/{path}")
        assert (reply.status, reply.type) == (status, "application/json") and reply.cache != "hit", show(reply)
        assert json.loads(reply.plain)["errors"], show(reply)


@promise("protocol")
def test_tags_are_listed(world: World, registry: OciRegistry, image: str) -> None:
    reply = get(world, f"{image}/tags/list")
    assert json.loads(reply.plain) == {"name": image, "tags": ["one", "one-all"]}, show(reply)


def on_its_port(world: World, path: str, headers: t.Mapping[str, str] | None = None, **options: t.Any) -> bench.Reply:
    """As dockerd asks what stands in ``registry-mirrors``."""
    address = ("127.0.0.1", world.mirror.sites[0]["port"])
    return bench.fetch(address, path, {"Accept": ALL, "Accept-Encoding": "gzip"} | dict(headers or {}), **options)


@promise("protocol")
@table("first", {"its port": True, "its path": False})
def test_a_port_of_its_own_is_a_registry(world: World, registry: OciRegistry, image: str, first: bool) -> None:
    """One fetch and one file, whichever way it was asked for."""
    reply = on_its_port(world, "/v2/")
    assert (reply.status, reply["Docker-Distribution-API-Version"], reply.body) == (200, "registry/2.0", b"{}\n"), show(reply)
    named, manifest = parts(registry, image)
    on_the_second()
    for path in f"manifests/{named}", f"blobs/{manifest['layers'][0]['digest']}", "manifests/one":
        ways = [lambda path=path: on_its_port(world, f"/v2/{image}/{path}"), lambda path=path: get(world, f"{image}/{path}")]
        cold, warm = (way() for way in (ways if first else reversed(ways)))
        assert (cold.status, cold.cache, warm.status, warm.cache) == (200, "miss", 200, "hit"), (path, show(cold), show(warm))
        assert cold.body == warm.body == registry.bodies[path.rpartition("/")[2] if ":" in path else named][0]
    tags = on_its_port(world, f"/v2/{image}/tags/list")
    assert json.loads(tags.plain)["tags"] == ["one", "one-all"], show(tags)


@promise("protocol")
def test_a_repository_on_a_port_of_its_own_may_be_called_as_the_site(world: World, registry: OciRegistry, fetching: None) -> None:
    registry.push("images/app", "one", b"called as the site")
    reply = on_its_port(world, "/v2/images/app/manifests/one")
    assert (reply.status, reply["Docker-Content-Digest"]) == (200, registry.tags["images/app"]["one"]), show(reply)


@promise("closed")
def test_on_a_port_of_its_own_there_is_nothing_else(world: World, image: str) -> None:
    for path in "/", "/health", "/mirror.json", "/v2", f"/{image}/manifests/one", f"/v2/{image}/blobs/uploads/", "/v2/_catalog":
        assert on_its_port(world, path).status == 404, path
    for path in "/v2/", f"/v2/{image}/manifests/one", "/health":
        assert on_its_port(world, path, {"Host": "stranger.test"}).status == 421, path
    assert on_its_port(world, f"/v2/{image}/manifests/one", {"Content-Length": "0"}, method="PUT").status == 405


@promise("itself")
@table("ago, expected", LAGS)
def test_health_tells_that_upstream_has_had_another_one_for_long(world: World, image: str, ago: int, expected: str) -> None:
    """What the mirror asks stands still, and what health asks has gone on."""
    with OciRegistry() as newer:
        newer.push(image, "one", b"newer")
        verdict, detail = lag(world.mirror, {"type": "oci", "name": "images", "path": "/v2/images/", "probe": f"{image}:one"}, newer, ago)
    assert verdict == expected and newer.tags[image]["one"] in detail, detail
