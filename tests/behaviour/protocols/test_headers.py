# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table's rows for what registries say of caches and to one client, on one mirror with a site of each type.

What each of them says stands in its fixture; how pages are revalidated by it, among the rows of its protocol.
"""

from __future__ import annotations

import contextlib
import dataclasses
import typing as t

import bench
import pytest
from archive import Archive, Suite
from bench import World, on_the_second, show, until
from crates import CrateIndex, Crates
from gemindex import GemIndex
from goproxy import GoProxy
from mavenrepo import MavenRepo
from npmregistry import NpmRegistry
from paths import Paths
from promises import promise, table
from rpmtree import RpmTree

LIFETIME, DECADE = 7, 3650 * 86400
COOKIE = "of-one-client"
UPSTREAMS_OWN = ("Set-Cookie", "Expires", "Surrogate-Control", "Surrogate-Key", "X-Cache")
CLIENTS: tuple[dict[str, str], ...] = (
    {"User-Agent": "one", "Accept-Language": "de"},
    {"User-Agent": "two", "Origin": "http://elsewhere.test", "Cookie": "_cfuvid=mine"},
    {"Accept": "text/plain, */*;q=0.1", "X-Requested-With": "three"},
)


@dataclasses.dataclass
class Case:
    """A registry, the paths of a page and of a file in it, with a number in the place of each ``{0}``, and how both come to be there.

    ``below`` is where the site has what is at another origin, ``files``.
    """

    registry: Paths
    page: str
    file: str
    publish: t.Callable[[str], object]
    lifetime: int = LIFETIME
    files: Paths | None = None
    below: str = ""


def npm() -> Case:
    made = NpmRegistry()
    return Case(made, "row-{0}", "row-{0}/-/row-{0}-1.0.0.tgz", lambda number: made.publish(f"row-{number}", "1.0.0"))


def deb() -> Case:
    made = Archive()

    def publish(number: str) -> None:
        made.suites[f"row-{number}"] = Suite(f"row-{number}", 3)

    return Case(made, "dists/row-{0}/InRelease", "pool/main/d/demo/demo_{0}-1_all.deb", publish, 1)


def rpm() -> Case:
    made = RpmTree()
    return Case(made, "{0}/repodata/repomd.xml", "{0}/Packages/d/demo-1.0-1.noarch.rpm", lambda number: made.publish(number, "1.0"), 1)


def golang() -> Case:
    made = GoProxy()
    paths = "example.org/row-{0}/@v/list", "example.org/row-{0}/@v/v1.0.0.zip"
    return Case(made, *paths, lambda number: made.publish(f"example.org/row-{number}", "v1.0.0"))


def cargo() -> Case:
    made = CrateIndex(crates := Crates())
    paths = "ro/w-/row-{0}", "crates/row-{0}/1.0.0/download"
    return Case(made, *paths, lambda number: made.publish(f"row-{number}", "1.0.0"), files=crates, below="files/")


def maven() -> Case:
    made = MavenRepo()
    paths = "row-{0}/demo/maven-metadata.xml", "row-{0}/demo/1.0/demo-1.0.jar"
    return Case(made, *paths, lambda number: made.publish(f"row-{number}/demo", "1.0"), 1)


def gem() -> Case:
    made = GemIndex()
    return Case(made, "info/row-{0}", "gems/row-{0}-1.0.0.gem", lambda number: made.publish(f"row-{number}", "1.0.0", number.encode() * 99))


TYPES = {made.__name__: made for made in (npm, deb, rpm, golang, cargo, maven, gem)}


@pytest.fixture(scope="module")
def cases() -> t.Iterator[dict[str, Case]]:
    with contextlib.ExitStack() as stack:
        made = {name: make() for name, make in TYPES.items()}
        for case in made.values():
            for registry in filter(None, (case.registry, case.files)):
                stack.enter_context(registry)
        yield made


@pytest.fixture(scope="module", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, cases: dict[str, Case], tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root, breakage = tmp_path_factory.mktemp(f"headers-{request.param}"), request.config.getoption("breakage")
    sites = [
        {
            "type": name,
            "name": name,
            "upstream": f"http://registry.test:{case.registry.port}",
            "origins": [f"http://files.test:{(case.files or case.registry).port}"],
            "lifetime": LIFETIME,
        }
        for name, case in cases.items()
    ]
    with bench.one_site(root, request.param, Paths(), breakage, *sites, type="generic", name="other") as world:
        world.names.table |= {"files.test": "127.0.0.1"}
        yield world


@pytest.fixture
def number(cases: dict[str, Case], numbers: t.Iterator[int]) -> str:
    """Of a page and a file of each type that nobody has asked for."""
    number = f"headers{next(numbers)}"
    for case in cases.values():
        case.publish(number)
    return number


def place(case: Case, what: str, number: str) -> tuple[Paths, str, str]:
    """Whom the mirror asks for it, by which path, and what clients ask for below the site."""
    path = getattr(case, what).format(number)
    return (case.registry, path, path) if what == "page" else (case.files or case.registry, path, case.below + path)


def stored(mirror: bench.Mirror, text: str) -> bool:
    return any(text.encode() in path.read_bytes() for path in mirror.cached() if path.exists())


@promise("closed")
@pytest.mark.parametrize("what", ["page", "file"])
@table("kind", {name: name for name in TYPES})
def test_how_long_it_lives_its_route_says(world: World, cases: dict[str, Case], number: str, kind: str, what: str) -> None:
    """Whatever its registry says; and what that says to one client, or to a cache of its own, no other one gets."""
    case = cases[kind]
    registry, path, asked = place(case, what, number)
    lifetime = case.lifetime if what == "page" else DECADE
    on_the_second()
    for cache in "miss", "hit":
        reply = world.mirror.get(f"/{kind}/{asked}", {"Accept-Encoding": "gzip"})
        assert (reply.status, reply.cache, reply.complete) == (200, cache, True), show(reply)
        assert f"max-age={lifetime}" in reply["Cache-Control"].split(", "), show(reply)
        assert [name for name in UPSTREAMS_OWN if reply[name]] == [] and COOKIE not in str(reply.headers), show(reply)
        assert reply["Age"] in ("", "0", "1"), "its own, if any: " + show(reply)
    assert len(registry.requests(path)) == 1
    assert until(lambda: stored(world.mirror, path), 3), "what is stored is found on the disk"
    assert not stored(world.mirror, COOKIE)


@promise("representation")
@pytest.mark.parametrize("what", ["page", "file"])
@table("kind", {name: name for name in TYPES if name != "npm"})
def test_what_a_registry_varies_by_makes_no_other_page(world: World, cases: dict[str, Case], number: str, kind: str, what: str) -> None:
    """Nor does anything else that clients say, where there is one representation. What is vary's for later caches is the mirror's word."""
    registry, path, asked = place(cases[kind], what, number)
    on_the_second()
    replies = [world.mirror.get(f"/{kind}/{asked}", headers) for headers in CLIENTS]
    assert {(reply.status, reply.sha256) for reply in replies} == {(200, replies[0].sha256)}
    assert [reply.cache for reply in replies] == ["miss", "hit", "hit"]
    assert {reply["Vary"] for reply in replies} == {"Accept-Encoding" if what == "page" else ""}, show(replies[0])
    assert len(registry.requests(path)) == 1


@promise("whole")
@pytest.mark.parametrize("what", ["page", "file"])
@table("kind", {name: name for name in TYPES})
def test_how_long_something_is_missing_no_registry_says(world: World, cases: dict[str, Case], kind: str, what: str, number: str) -> None:
    """Each who asks is told what is so now, and in words that no cache on the way keeps for longer."""
    case, later = cases[kind], f"later{number}"
    registry, path, asked = place(case, what, later)
    if kind == "deb" and what == "file":  # which has whatever is asked of it
        registry.gone.add(path)
    for _time in "first", "second":
        reply = world.mirror.get(f"/{kind}/{asked}", {"Accept-Encoding": "gzip"})
        assert (reply.status, reply.cache) in ((404, "miss"), (410, "miss")), show(reply)
        assert [name for name in UPSTREAMS_OWN if reply[name]] == [] and COOKIE not in str(reply.headers), show(reply)
        assert not reply["Cache-Control"] or "no-store" in reply["Cache-Control"], show(reply)
    assert len(registry.requests(path)) == 2
    registry.gone.discard(path)
    case.publish(later)
    reply = world.mirror.get(f"/{kind}/{asked}", {"Accept-Encoding": "gzip"})
    assert (reply.status, reply.cache) == (200, "miss"), show(reply)
