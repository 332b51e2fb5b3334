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
from pathlib import Path

from stage import LOG_FLUSH_SECONDS, Download, Server, bench, drain

JSON, HTML = "application/vnd.pypi.simple.v1+json", "text/html"
HERE = Path(__file__).resolve().parent
CONNECTIONS = (4, 8, 16)  # of the load tool; what a server makes of a large body depends much on it
LINE = re.compile(r'"status":(\d+),"bytes":(\d+),.*?"cache":"([A-Z-]*)"')


@dataclasses.dataclass(frozen=True)
class Case:
    """One body: its path on the mirror, what the client says it takes, and how it is asked for."""

    name: str
    path: str
    accept: str = ""
    gzip: bool = False
    whole: int = 0  # so many whole downloads on each connection; 0: as many as go into a turn

    @property
    def headers(self) -> dict[str, str]:
        headers = {"Accept": self.accept} if self.accept else {}
        return headers | ({"Accept-Encoding": "gzip"} if self.gzip else {})


@dataclasses.dataclass
class Turn:
    """What one server did in one turn: responses a second, and its processor time for each in seconds."""

    connections: int
    rate: float
    cpu: float
    responses: int


def files(mirror: Server) -> list[dict[str, t.Any]]:
    """The files of 10 KB, 5 MB and 200 MB, as the mirror's own index tells of them (PEP 691)."""
    page = json.loads(bench.fetch(mirror.address, "/pypi/simple/big/", {"Accept": JSON}).body)
    found: list[dict[str, t.Any]] = page["files"]
    return found


def cases(mirror: Server) -> list[Case]:
    """What is measured."""
    small, medium, huge = (file["url"] for file in files(mirror))
    return [
        Case("index_json_small", "/pypi/simple/sampleproj/", JSON, True),
        Case("index_json_large", "/pypi/simple/large/", JSON, True),
        Case("index_html_large", "/pypi/simple/large/", HTML, True),
        Case("file_10k", small),
        Case("file_5m", medium),
        Case("file_200m", huge, whole=2),
    ]


def prepare(case: Case, static: Server, mirrors: t.Iterable[Server]) -> tuple[dict[str, str], int]:
    """Warm the mirrors, and give the static server the same bytes.

    Returns the paths by the servers' names, and the size of the body in bytes. Raises RuntimeError where a mirror has no hit
    or the bodies differ.
    """
    suffix = {JSON: ".json", HTML: ".html"}.get(case.accept, Path(case.path).suffix)
    file = static.root / "www" / f"{case.name}{suffix}"
    paths, body, plain = {static.name: f"/{file.name}"}, b"", b""
    for server in mirrors:
        paths[server.name] = case.path
        for _attempt in range(10):  # a body is stored a moment after its last byte was sent
            reply = bench.fetch(server.address, case.path, case.headers, timeout=120)
            if reply.status != 200 or not reply.complete or (case.gzip and reply["Content-Encoding"] != "gzip"):
                raise RuntimeError(f"{case.path}: {reply.status} {reply['Content-Encoding']} from {server.name}")
            if reply["Cache-Status"] == "nearby; hit":
                break
            time.sleep(0.2)
        else:
            raise RuntimeError(f"{case.path} does not become a hit of {server.name}: {reply['Cache-Status']}")
        if body and reply.plain != plain:
            raise RuntimeError(f"{case.path}: {server.name} has other bytes")
        body, plain = reply.body, reply.plain
    file.write_bytes(plain)
    if case.gzip:
        file.with_name(file.name + ".gz").write_bytes(body)
    if bench.fetch(static.address, paths[static.name], case.headers, timeout=120).body != body:
        raise RuntimeError(f"The static server has other bytes for {case.name}.")
    return paths, len(body)


def measure(
    case: Case, static: Server, mirrors: list[Server], loads: t.Sequence[int], repetitions: int, seconds: int
) -> tuple[dict[str, list[Turn]], int]:
    """All turns by the servers' names, and the size of the body. Raises RuntimeError where a response is not as it should be."""
    paths, size = prepare(case, static, mirrors)
    servers = [static, *mirrors]
    turns: dict[str, list[Turn]] = {server.name: [] for server in servers}
    loads = loads[:1] if case.whole else loads
    time.sleep(LOG_FLUSH_SECONDS)
    logged = {server.name: server.log.stat().st_size for server in servers}
    for repetition in range(repetitions):
        for connections in loads:
            for server in servers if repetition % 2 else reversed(servers):
                turns[server.name].append(turn(case, server, paths[server.name], connections, seconds))
    time.sleep(LOG_FLUSH_SECONDS)
    for server in servers:
        count = sum(each.responses for each in turns[server.name])
        cut = 0 if case.whole else sum(loads) * repetitions
        verify(f"{case.name}, {server.name}", server.log_since(logged[server.name]), count, cut, "" if server is static else "HIT")
    return turns, size


def turn(case: Case, server: Server, path: str, connections: int, seconds: int) -> Turn:
    """Load one server with one case."""
    cpu, began = server.cpu_seconds(), time.monotonic()
    if case.whole:
        with concurrent.futures.ThreadPoolExecutor(connections) as pool:
            list(pool.map(lambda _n: drain(Download(server.address, path) for _m in range(case.whole)), range(connections)))
        count, took = case.whole * connections, time.monotonic() - began
    else:
        headers = [part for name, value in case.headers.items() for part in ("-H", f"{name}: {value}")]
        url = f"http://{server.address[0]}:{server.address[1]}{path}"
        command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "30s", "-s", str(HERE / "wrk.lua"), *headers, url]
        told = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines()[-1])
        if told["errors"] or not told["requests"]:
            raise RuntimeError(f"{case.name}, {server.name}: the load tool tells of {told}")
        count, took = told["requests"], told["seconds"]
    return Turn(connections, count / took, (server.cpu_seconds() - cpu) / count, count)


def verify(what: str, log: str, count: int, cut: int, cache: str) -> None:
    """Every response was a 200 of one length, and a hit if a mirror's; the load tool's end cuts up to ``cut`` of them."""
    lines = [match.groups() for match in LINE.finditer(log)]
    whole = statistics.mode(size for _status, size, _cache in lines) if lines else ""
    good = lines.count(("200", whole, cache))
    if good < count or len(lines) - good > cut:
        odd = next((line for line in lines if line != ("200", whole, cache)), None)
        raise RuntimeError(f"{what}: {count} responses were counted, {good} of {len(lines)} in the log are good, not so {odd}")


def summary(turns: dict[str, list[Turn]], size: int) -> dict[str, t.Any]:
    """Medians over the turns of each load and the ratios of these; the case's own figures are those of the load in the middle.

    That is the load whose ratio is the median. Least and greatest are ratios of two neighbouring turns.
    """
    static, mirror = turns["static"], turns["mirror"]
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
