# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for a mirror that speaks TLS, with a site on a port of its own and one whose links are whole."""

from __future__ import annotations

import json
import ssl
import typing as t
import warnings
from pathlib import Path

import bench
import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.health import examine
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client, HttpError
from bench import World, show
from npmregistry import FULL, NpmRegistry
from promises import promise

SIZE = 1 << 20


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage = tmp_path_factory.mktemp(f"tls-{request.param}"), request.config.getoption("breakage")
    certificate, key = bench.certificate(root, "mirror", "mirror.test")[0]
    variables = {"mirror_tls_certificate": certificate, "mirror_tls_key": key}
    own = {"name": "open", "port": bench.free_port()}
    with bench.one_site(root, request.param, NpmRegistry(), breakage, own, variables=variables, type="npm", origins=[]) as world:
        world.registries["npm"].publish("demo", "1.0.0", SIZE)  # type: ignore[attr-defined]
        yield world


@pytest.fixture
def registry(world: World) -> NpmRegistry:
    return world.registries["npm"]  # type: ignore[return-value]


@pytest.fixture
def package(registry: NpmRegistry, numbers: t.Iterator[int]) -> str:
    """A package that nobody has asked for."""
    name = f"row-{next(numbers)}"
    registry.publish(name, "1.0.0", SIZE)
    return name


@pytest.fixture
def own_port(world: World) -> tuple[str, int]:
    return "127.0.0.1", world.mirror.sites[1]["port"]


def base(world: World) -> str:
    return f"https://mirror.test:{world.mirror.address[1]}"


@promise("http")
def test_a_page_is_a_hit_and_its_links_begin_with_https(world: World, registry: NpmRegistry, package: str) -> None:
    wanted = registry.document(package, FULL).replace(registry.url.encode(), f"{base(world)}/npm".encode())
    bench.on_the_second()
    for cache in "miss", "hit":
        reply = world.mirror.get(f"/npm/{package}", {"Accept": FULL, "Accept-Encoding": "gzip"})
        assert (reply.status, reply.plain, reply.cache) == (200, wanted, cache), show(reply)
    assert registry.requests(package) == [200]


@promise("http")
def test_a_file_is_a_hit_and_has_ranges(world: World, registry: NpmRegistry, package: str) -> None:
    body, path = registry.tarball(package, "1.0.0"), f"/npm/{registry.tarball_path(package, '1.0.0')}"
    for cache in "miss", "hit":
        reply = world.mirror.get(path)
        assert (reply.status, reply.body, reply.cache) == (200, body, cache), show(reply)
    part = world.mirror.get(path, {"Range": "bytes=1000-1999"})
    assert (part.status, part.body, part.cache) == (206, body[1000:2000], "hit"), show(part)


@promise("http")
def test_a_site_has_its_own_port(world: World, registry: NpmRegistry, own_port: tuple[str, int]) -> None:
    page = bench.fetch(own_port, "/demo", {"Accept": FULL}, context=world.mirror.context)
    assert page.plain == registry.document("demo", FULL).replace(registry.url.encode(), f"{base(world)}/open".encode()), show(page)
    assert bench.fetch(own_port, "/health", context=world.mirror.context).status == 404


@promise("http")
def test_a_target_may_be_a_whole_url(world: World) -> None:
    reply = world.mirror.get(f"{base(world)}/npm/demo", {"Accept": FULL})
    assert reply.status == 200, show(reply)


@promise("itself")
def test_it_says_https_of_itself(world: World) -> None:
    document = json.loads(world.mirror.get("/mirror.json").body)
    assert document["url"] == base(world)
    page = world.mirror.get("/").plain.decode()
    assert base(world) in page and "http://mirror.test" not in page


@promise("itself")
def test_its_own_checks_pass_where_its_certificate_alone_is_trusted(world: World, registry: NpmRegistry) -> None:
    site = {"name": "npm", "type": "npm", "probe": "demo", "upstream": registry.url}
    url = f"https://127.0.0.1:{world.mirror.address[1]}"
    report = examine(Client(certificate=world.mirror.variables["mirror_tls_certificate"]), url, sites=[site])
    assert report.bad == [], report.failure
    with pytest.raises(HttpError, match="is not trusted by the host's CA bundle"):
        Client().get(f"{url}/health")


@promise("closed")
def test_another_name_is_refused(world: World) -> None:
    assert world.mirror.get("/npm/demo", {"Host": "other.test"}).status == 421
    assert world.mirror.get("/health", {"Host": "other.test"}).status == 200


@promise("closed")
def test_plain_http_is_told_so(world: World, own_port: tuple[str, int]) -> None:
    for address in world.mirror.address, own_port:
        answer = bench.raw(address, b"GET /npm/demo HTTP/1.1\r\nHost: mirror.test\r\n\r\n")
        status, _headers, body = answer.split(" ", 2)[1], *answer.split("\r\n\r\n", 1)
        assert status == "400" and "plain HTTP" in body, answer


@promise("closed")
@pytest.mark.parametrize("version", [ssl.TLSVersion(0x0300 + minor) for minor in (1, 2, 3, 4)], ids=lambda version: version.name)
def test_old_protocols_are_refused(world: World, version: ssl.TLSVersion, own_port: tuple[str, int]) -> None:
    context = ssl.create_default_context(cafile=world.mirror.variables["mirror_tls_certificate"])
    context.set_ciphers("ALL:@SECLEVEL=0")
    with warnings.catch_warnings(action="ignore", category=DeprecationWarning):
        context.minimum_version = context.maximum_version = version
    for address in world.mirror.address, own_port:
        if version < ssl.TLSVersion.TLSv1_2:
            with pytest.raises(ssl.SSLError, match="(?i)protocol version"):
                bench.fetch(address, "/", context=context)
        else:
            assert bench.fetch(address, "/", context=context).status in (200, 404)


@promise("reloads")
def test_a_renewed_certificate_is_shown_after_a_reload(world: World) -> None:
    mirror = world.mirror
    certificate = Path(mirror.variables["mirror_tls_certificate"])
    bench.certificate(certificate.parent, "mirror", "mirror.test")
    renewed = ssl.create_default_context(cafile=str(certificate))

    def shown() -> bool:
        try:
            return bench.fetch(mirror.address, "/health", context=renewed).status == 200
        except ssl.SSLCertVerificationError:
            return False

    assert not shown() and mirror.get("/health").status == 200
    mirror.reload()
    mirror.context = renewed
    assert bench.until(shown)
