# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hits against plain static serving: the same bytes, the same load, turn by turn."""

from __future__ import annotations

import concurrent.futures
import dataclasses
import json
import re
import statistics
import subprocess
import time
import typing as t
import urllib.parse
from pathlib import Path

from stage import HTML, INSIDE, JSON, LOG_FLUSH_SECONDS, LOOPBACK, Download, Registry, Server, bench, drain

HERE = Path(__file__).resolve().parent
CONNECTIONS = (4, 8, 16)  # of the load tool; what a server makes of a large body depends much on it
NPM = "application/vnd.npm.install-v1+json; q=1.0, application/json; q=0.8, */*"
HITS = ("HIT", "REVALIDATED", "STALE", "UPDATING")  # from what is stored, while an expired page is refreshed, too
LINE = re.compile(r'"status":(\d+),"bytes":(\d+),.*?"cache":"([A-Z-]*)"')


@dataclasses.dataclass(frozen=True)
class Case:
    """One body: of which project, which of its files or its page, what the client says it takes, and how it is asked for.

    Those of other types than PyPI's stand below a path of the mirror, and only mirrors are asked for them.
    """

    name: str
    project: str = ""
    filename: str = ""
    accept: str = ""
    path: str = ""
    whole: int = 0  # so many whole downloads on each connection; 0: as many as go into a turn

    @property
    def headers(self) -> dict[str, str]:
        return {"Accept": self.accept, "Accept-Encoding": "gzip"} if self.accept else {}

    @property
    def upstream(self) -> str:
        """Finds what upstream is asked for it."""
        return re.escape(self.filename or self.path or f"/simple/{self.project}/")


@dataclasses.dataclass
class Turn:
    """What one server did in one turn: responses a second, their times and the processor's for each in seconds, bytes from upstream."""

    connections: int
    rate: float
    cpu: float
    responses: int
    upstream: int
    p50: float = 0.0
    p99: float = 0.0


HUGE = Case("file_200m", "big", "big-3.0-py3-none-any.whl", whole=2)
CASES = (
    Case("index_json_small", "sampleproj", accept=JSON),
    Case("index_json_large", "large", accept=JSON),
    Case("index_html_large", "large", accept=HTML),
    Case("file_10k", "big", "big-1.0-py3-none-any.whl"),
    Case("file_5m", "big", "big-2.0-py3-none-any.whl"),
    HUGE,
    Case("npm_document", accept=NPM, path="/npm/large"),
    Case("npm_tarball", path="/npm/large/-/large-1.0.0.tgz"),
    Case("deb_release", path="/debian/dists/stable/InRelease"),
    Case("deb_package", path="/debian/pool/main/d/demo/demo_1.0-1_all.deb"),
)


def path_of(server: Server, project: str, filename: str = "") -> str:
    """Where the server has a project's page, or one of its files, which its page links to."""
    page = f"{server.index}{project}/"
    if not filename:
        return page
    reply = bench.fetch(server.address, page, {"Accept": f"{JSON}, {HTML};q=0.5"}, timeout=120)
    for link in reply.links:
        url = urllib.parse.urlsplit(urllib.parse.urljoin(page, link))
        if url.path.endswith(f"/{filename}") and (server.leads_past_it or not url.netloc or url.port == server.address[1]):
            return url.path
    raise RuntimeError(f"{server.name} has no link to {filename} at {page}: {reply.status}")


def warm(case: Case, server: Server, registry: Registry) -> tuple[str, bench.Reply, int]:
    """Ask until upstream is not asked any more: the path, the answer, and the bytes that upstream sent. Raises RuntimeError."""
    path, sent = case.path or path_of(server, case.project, case.filename), 0
    for _attempt in range(20):  # a body is stored a moment after its last byte was sent
        registry.call("forget")
        reply = bench.fetch(server.address, path, case.headers, timeout=120)
        if reply.status != 200 or not reply.complete:
            raise RuntimeError(f"{path}: {reply.status} from {server.name}")
        if not registry.call("requests", path=case.upstream) and reply.cache in ("hit", "untold"):
            return path, reply, sent
        time.sleep(0.2)
        sent += registry.sent(case.upstream)
    raise RuntimeError(f"{path} does not become a hit of {server.name}: {reply['Cache-Status']}")


def alike(reply: bench.Reply, other: bench.Reply) -> bool:
    """Whether both have the same body, but for the port of the mirror where links name it."""
    return len({re.sub(rb"(mirror\.test:)\d+", rb"\1", each.plain) for each in (reply, other)}) == 1


def publish(case: Case, static: Server, reply: bench.Reply) -> str:
    """Give the static server the same bytes; its path for them. Raises RuntimeError where it sends others."""
    suffix = {JSON: ".json", HTML: ".html", NPM: ".json"}.get(case.accept, Path(case.filename or case.path).suffix)
    file = static.root / "www" / f"{case.name}{suffix}"
    file.write_bytes(reply.plain)
    if reply["Content-Encoding"] == "gzip":
        file.with_name(f"{file.name}.gz").write_bytes(reply.body)
    if bench.fetch(static.address, f"/{file.name}", case.headers, timeout=120).body != reply.body:
        raise RuntimeError(f"The static server has other bytes for {case.name}.")
    return f"/{file.name}"


def measure(
    case: Case,
    static: Server,
    mirrors: list[Server],
    registry: Registry,
    loads: t.Sequence[int],
    repetitions: int,
    seconds: int,
    loopback: bool = False,
) -> tuple[dict[str, list[Turn]], dict[str, int]]:
    """All turns by the servers' names, and the mirrors' sizes of the body. Raises RuntimeError where a response is not as it should be."""
    warmed = {mirror.name: warm(case, mirror, registry) for mirror in mirrors}
    paths = {name: path for name, (path, _reply, _sent) in warmed.items()}
    replies = [reply for _path, reply, _sent in warmed.values()]
    for name, (path, reply, _sent) in warmed.items():
        if not alike(reply, replies[0]) or (case.accept and reply["Content-Encoding"] != "gzip"):
            raise RuntimeError(f"{path}: {name} has other bytes, or not as gzip")
    paths[static.name] = publish(case, static, replies[0])
    servers = [static, *mirrors]
    turns: dict[str, list[Turn]] = {server.name: [] for server in servers}
    loads = loads[:1] if case.whole else loads
    time.sleep(LOG_FLUSH_SECONDS)
    logged = {server.name: server.log.stat().st_size for server in servers}
    for repetition in range(repetitions):
        for connections in loads:
            for server in servers if repetition % 2 else reversed(servers):
                turns[server.name].append(turn(case, server, paths[server.name], registry, connections, seconds, loopback))
    time.sleep(LOG_FLUSH_SECONDS)
    for server in servers:
        count = sum(each.responses for each in turns[server.name])
        cut = 0 if case.whole else sum(1 + load for load in loads) * repetitions  # and each turn's first, which may not be a hit
        verify(f"{case.name}, {server.name}", server.log_since(logged[server.name]), count, cut, "" if server is static else "HIT")
    return turns, {name: len(reply.body) for name, (_path, reply, _sent) in warmed.items()}


def turn(case: Case, server: Server, path: str, registry: Registry, connections: int, seconds: int, loopback: bool = False) -> Turn:
    """Load one server with one case, over the link or from beside it.

    What expired since its last turn is refreshed first: a connection whose first answer had to wait is slower for as long as it lasts.
    """
    registry.call("forget")
    if not case.whole:
        bench.fetch(server.address, path, case.headers, timeout=120)
    cpu, began = server.cpu_seconds(), time.monotonic()
    told: dict[str, float] = {}
    if case.whole:
        with concurrent.futures.ThreadPoolExecutor(connections) as pool:
            list(pool.map(lambda _n: drain(Download(server.address, path) for _m in range(case.whole)), range(connections)))
        count, took = case.whole * connections, time.monotonic() - began
    else:
        headers = [part for name, value in {"Host": "mirror.test", **case.headers}.items() for part in ("-H", f"{name}: {value}")]
        url = f"http://{LOOPBACK if loopback else server.address[0]}:{server.address[1]}{path}"
        command = [
            *(INSIDE if loopback else ()),
            "wrk",
            "-t1",
            f"-c{connections}",
            f"-d{seconds}s",
            "--timeout",
            "30s",
            "-s",
            str(HERE / "wrk.lua"),
            *headers,
            url,
        ]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        if told["errors"] or not told["requests"]:
            raise RuntimeError(f"{case.name}, {server.name}: the load tool tells of {told}")
        count, took = int(told["requests"]), told["seconds"]
    used = server.cpu_seconds() - cpu
    return Turn(connections, count / took, used / count, count, registry.sent(), told.get("p50", 0.0), told.get("p99", 0.0))


def verify(what: str, log: str, count: int, cut: int, cache: str) -> None:
    """Every response was a 200 of one length, and a hit if a mirror's; the load tool's end cuts up to ``cut`` of them."""
    lines = [(status, size, "HIT" if told in HITS else told) for status, size, told in LINE.findall(log)]
    whole = statistics.mode(size for _status, size, _cache in lines) if lines else ""
    good = lines.count(("200", whole, cache))
    if good < count or len(lines) - good > cut:
        odd = next((line for line in lines if line != ("200", whole, cache)), None)
        raise RuntimeError(f"{what}: {count} responses were counted, {good} of {len(lines)} in the log are good, not so {odd}")


def summary(static: list[Turn], mirror: list[Turn], size: int) -> dict[str, t.Any]:
    """Medians over the turns of each load and the ratios of these; the case's own figures are those of the load in the middle.

    That is the load whose ratio is the median. Least and greatest are ratios of two neighbouring turns.
    """
    loads = sorted({each.connections for each in static})
    rates = {load: [statistics.median(each.rate for each in of if each.connections == load) for of in (static, mirror)] for load in loads}
    middle = sorted(loads, key=lambda load: rates[load][1] / rates[load][0])[len(loads) // 2]
    pairs = [ours.rate / theirs.rate for ours, theirs in zip(mirror, static, strict=True)]
    return {
        "bytes": size,
        "repetitions": len(static) // len(loads),
        "connections": middle,
        "static_rps": round(rates[middle][0], 1),
        "mirror_rps": round(rates[middle][1], 1),
        "ratio": round(rates[middle][1] / rates[middle][0], 3),
        "ratios_by_connections": {str(load): round(ours / theirs, 3) for load, (theirs, ours) in rates.items()},
        "ratio_least": round(min(pairs), 3),
        "ratio_greatest": round(max(pairs), 3),
        "static_cpu_microseconds": round(statistics.median(each.cpu for each in static) * 1e6, 1),
        "mirror_cpu_microseconds": round(statistics.median(each.cpu for each in mirror) * 1e6, 1),
    }
