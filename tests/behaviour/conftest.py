# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One mirror of each engine in front of fixture registries, for the whole run; every row works on projects of its own."""

from __future__ import annotations

import collections
import concurrent.futures
import contextlib
import itertools
import re
import sys
import threading
import typing as t
from pathlib import Path

import pytest

sys.path[:0] = [str(Path(__file__).parent), *(str(Path(__file__).parent.parent / name) for name in ("registry", "nodes"))]

import bench  # noqa: E402
from ansible_collections.nearby.mirrors.plugins.module_utils.engines import ENGINES  # noqa: E402
from bench import Fresh, World  # noqa: E402
from promises import PROMISES  # noqa: E402
from registry import Registry  # noqa: E402

SHARED = {"world", "mirror", "fresh", "spare"}  # fixtures that rows side by side may use
OUTCOMES: pytest.StashKey[dict[pytest.Item, concurrent.futures.Future[None]]] = pytest.StashKey()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Rows that mostly wait run side by side when the first of them is due; each then tells its own outcome.

    They share that first one's fixtures; of the rows that disturb the second mirror, one runs at a time. What a row saw among a
    hundred others may be their doing: one that runs again does so alone.
    """
    if not pyfuncitem.get_closest_marker("patient") or getattr(pyfuncitem, "execution_count", 1) > 1:
        return None
    engine = pyfuncitem.callspec.params["world"]
    rows: dict[pytest.Item, concurrent.futures.Future[None]] = pyfuncitem.session.stash.setdefault(OUTCOMES, {})
    if pyfuncitem not in rows:
        items = [
            item
            for item in pyfuncitem.session.items
            if isinstance(item, pytest.Function) and item.get_closest_marker("patient") and item.callspec.params["world"] == engine
        ]
        alone = threading.Lock()

        def run(item: pytest.Function, arguments: dict[str, t.Any]) -> None:
            with alone if "spare" in arguments else contextlib.nullcontext():
                item.obj(**arguments)

        with concurrent.futures.ThreadPoolExecutor(len(items)) as pool:
            for item in items:
                shared = {name: pyfuncitem._request.getfixturevalue(name) for name in item._fixtureinfo.argnames if name in SHARED}
                arguments = {name: item.callspec.params[name] for name in item._fixtureinfo.argnames if name not in SHARED} | shared
                rows[item] = pool.submit(run, item, arguments)
    rows[pyfuncitem].result()
    return True


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--break",
        action="append",
        default=[],
        metavar="REGEX=>TEXT",
        dest="breakage",
        help="replace this in the rendered configuration, to see the rows fail that guard it; may be given several times",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "patient: a row that mostly waits, and may run beside others of its kind")
    config.addinivalue_line("markers", "promise(key): the promise of design that a row holds an engine to")


@pytest.fixture(scope="session", params=list(bench.ENGINES))
def world(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[World]:
    root = tmp_path_factory.mktemp(request.param)
    names = bench.Names()
    bundle, ca = bench.certificate(root, "ca", "Fixture CA")
    certificates: dict[str, tuple[str, str]] = {
        "good": bench.certificate(root, "good", "good.test", ca)[0],
        "selfsigned": bench.certificate(root, "selfsigned", "selfsigned.test")[0],
        "expired": bench.certificate(root, "expired", "expired.test", ca, days=(-30, -1))[0],
        "wrongname": bench.certificate(root, "wrongname", "another.test", ca)[0],
        "unknown": bench.certificate(root, "unknown", "unknown.test", bench.certificate(root, "ca2", "Another CA")[1])[0],
        "turning": bench.certificate(root, "turning", "turning.test", ca)[0],
    }
    registries: dict[str, Registry] = {}
    sites: list[dict[str, t.Any]] = []
    with contextlib.ExitStack() as stack:
        stack.callback(names.stop)

        def registry(host: str, addresses: str = "127.0.0.1", **options: t.Any) -> Registry:
            """A registry of that host name; its links carry the name."""
            new = stack.enter_context(Registry(**options))
            scheme = "https" if new.certificate else "http"
            new.index_url = f"{scheme}://{host}:{new.origins['index'].address[1]}"
            if not new.relative:
                new.files_url = f"{scheme}://files-{host}:{new.origins['files'].address[1]}"
            names.table |= {host: addresses, f"files-{host}": addresses}
            return new

        def site(name: str, behind: Registry, **options: t.Any) -> None:
            registries[name] = behind
            origins = {"origins": [behind.index_url if behind.relative else behind.files_url]} if "type" not in options else {}
            sites.append({"name": name, "type": "pypi", "path": f"/{name}/", "upstream": behind.index_url, **origins, **options})

        main = registry("index.test")
        site("pypi", main)
        site("brief", main, lifetime=1)
        site("rooted", main, lifetime=1, port=bench.free_port())
        for name, lifetime in ("tools", 300), ("nightly", 1):
            static, origins = f"{main.index_url}/static", [main.files_url]
            site(name, main, type="generic", upstream=static, origins=origins, lifetime=lifetime, immutable=[r"v[0-9.]+/.*"])
        site("steady", main, lifetime=3)
        site("gone", registry("gone.test"), lifetime=1)
        site("hung", registry("hung.test"), lifetime=1)
        site("partly", registry("partly.test"), lifetime=1)
        anywhere = ("0.0.0.0", 0)
        site("edges", registry("edges.test", "127.0.0.1 127.0.0.2 127.0.0.3 127.0.0.4", listen=anywhere, files_listen=anywhere))
        site("edge", registry("edge.test"))
        site("bare", registry("bare.test"), lifetime=1)
        site("whole", registry("whole.test"))
        site("relative", registry("relative.test", relative=True))
        site("moving", registry("moving.test"), lifetime=1)
        site("internal", registry("internal.test"), path="/index/internal/")
        for kind, pair in certificates.items():
            site(kind, registry(f"{kind}.test", certificate=pair))
        stranger = registry("stranger.test")
        registries["bare"].configure(bare=True)
        registries["whole"].configure(ranges=False)
        timeouts = {"mirror_index_timeout": 2, "mirror_connect_timeout": 1, "mirror_artifact_timeout": 3}
        variables = {"mirror_resolvers": [names.address], "mirror_upstream_ca_path": bundle[0], **timeouts}
        mirror = bench.Mirror(root, request.param, sites, **variables)
        mirror.render()
        breakage = request.config.getoption("breakage")
        for rule in breakage:
            mirror.replace(*rule.partition("=>")[::2])
        stack.callback(mirror.clear)
        mirror.start()
        yield World(mirror, registries, names, stranger, breakage)


@pytest.fixture(scope="session")
def spare(world: World, tmp_path_factory: pytest.TempPathFactory) -> t.Iterator[bench.Mirror]:
    """A second mirror with a small cache, for rows that would disturb others; it also listens on all addresses, and has further names.

    Its sites: ``pypi`` and ``brief`` as in the world, ``ask`` (generic, with query), ``literal`` and ``aaaa`` (registries at ``[::1]``).
    """
    root, main = tmp_path_factory.mktemp(f"spare-{world.mirror.engine}"), world.registries["pypi"]
    sites = [site for site in world.mirror.sites if site["name"] in ("pypi", "brief")]
    sites.append({"name": "ask", "type": "generic", "upstream": f"{main.index_url}/static", "query": True})
    with contextlib.ExitStack() as stack:
        for name in "literal", "aaaa":
            six = stack.enter_context(Registry(("::1", 0), ("::1", 0)))
            if name == "aaaa":
                six.index_url, six.files_url = (f"http://aaaa.test:{six.origins[kind].address[1]}" for kind in ("index", "files"))
                world.names.table |= {"aaaa.test": "::1"}
            world.registries[name] = six
            sites.append({"name": name, "type": "pypi", "upstream": six.index_url, "origins": [six.files_url]})
        variables = {
            name: world.mirror.variables[name] for name in world.mirror.variables if "timeout" in name or name == "mirror_resolvers"
        }
        small = {"mirror_artifact_max_size": "24m", "mirror_index_max_size": "1m", "mirror_min_free": "4m", "mirror_slice_size": "1m"}
        names = {
            "mirror_addresses": ["0.0.0.0", "::1"],
            "mirror_aliases": ["front.test", "*.pool.test", "default"],
            "__mirror_has_ipv6": True,
        }
        mirror = bench.Mirror(root, world.mirror.engine, sites, **variables, **small, **names)
        mirror.render()
        for rule in world.breakage:
            mirror.replace(*rule.partition("=>")[::2])
        stack.callback(mirror.clear)
        mirror.start()
        yield mirror


@pytest.fixture(autouse=True)
def calm(request: pytest.FixtureRequest) -> t.Iterator[None]:
    """Every row begins with healthy registries and names, and with a second mirror that runs."""
    world, spare = (request.getfixturevalue(name) if name in request.fixturenames else None for name in ("world", "spare"))
    yield
    if world:
        world.names.mode = "answer"
        for registry in (*world.registries.values(), world.stranger):
            registry.back()
            registry.forget()
    if spare and not spare.runs:
        spare.start()


@pytest.fixture
def mirror(world: World) -> bench.Mirror:
    return world.mirror


@pytest.fixture(scope="session")
def numbers() -> t.Iterator[int]:
    return itertools.count(1)


@pytest.fixture
def fresh(world: World, numbers: t.Iterator[int]) -> t.Callable[..., Fresh]:
    """Makes a project: ``fresh(site, size=..., kinds=...)``."""

    def make(site: str = "pypi", size: int = 0, kinds: str = "wheel sdist") -> Fresh:
        new = Fresh(world.registries[site], f"row-{next(numbers)}", site)
        new.registry.publish(new.name, "1.0", kinds, size)
        return new

    return make


# ---------------------------------------------------------------------------------------------------------- the summary


def pytest_terminal_summary(terminalreporter: t.Any) -> None:
    """The table: promise, engine, rows that hold of rows there are; then what an engine is known not to do."""
    table: dict[tuple[str, str], list[str]] = collections.defaultdict(list)
    for outcome in ("passed", "failed", "error", "xfailed"):
        for report in terminalreporter.stats.get(outcome, []):
            properties = dict(getattr(report, "user_properties", ()))
            if "promise" in properties and (report.when == "call" or outcome == "error"):
                table[properties["promise"], properties["engine"]].append(outcome)
    if table:
        terminalreporter.section("what a mirror promises")
        for (key, engine), rows in sorted(table.items(), key=lambda item: list(PROMISES).index(item[0][0])):
            hold, limited = rows.count("passed"), rows.count("xfailed")
            text = f"{engine:7} {hold:3} of {len(rows):3}  {PROMISES[key]}" + (f" ({limited} limited)" if limited else "")
            terminalreporter.line(text, green=hold == len(rows), yellow=0 < limited == len(rows) - hold, red=hold + limited < len(rows))
        for engine in dict.fromkeys(engine for _key, engine in table):
            for limit in ENGINES.get(engine, ()):
                terminalreporter.line(f"{engine}, {limit.key}: {limit.sentence}")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        engine = item.callspec.params.get("world", "") if hasattr(item, "callspec") else ""
        if marker := item.get_closest_marker("promise"):
            item.user_properties += [("promise", marker.args[0]), ("engine", engine)]
        for limit in ENGINES.get(engine, ()):
            if limit.rows and re.search(limit.rows, item.nodeid):
                item.add_marker(pytest.mark.xfail(strict=True, reason=f"{limit.key}: {limit.sentence}"))
