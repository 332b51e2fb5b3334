#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what a mirror's hits, cold herds and deploys cost, beside other proxies, in one run; writes RESULTS.md and results.json.

Needs root, the engines, wrk, what molecule/shared needs, and PyPI and Debian for the others. A quick run only prints, and so does a
part (--only), unless its results are to take the places of those that an earlier whole run had (--replace). To see what a change of
Nginx's configuration is worth, measure it beside the one that is::

    benchmark/run.py --only hits --try 'no-log=access_log [^;]*access.log[^;]*;=>access_log off;'

Ends with 1 and a list where a figure misses what is demanded (report.FLOORS).
"""

from __future__ import annotations

import argparse
import contextlib
import datetime
import json
import os
import resource
import sys
import tempfile
import time
import typing as t
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent)]

import cold  # noqa: E402
import deploy  # noqa: E402
import hits  # noqa: E402
import peers  # noqa: E402
import report  # noqa: E402
import stage  # noqa: E402

PARTS = ("hits", "cold", "peers", "deploy")
HERE = Path(__file__).resolve().parent


def say(text: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def machine_busy() -> float:
    """Seconds that the processors spent on anything since boot; waiting is not work."""
    user, nice, system, _idle, _wait, irq, softirq, steal = Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]
    return sum(map(int, (user, nice, system, irq, softirq, steal))) / os.sysconf("SC_CLK_TCK")


def own_busy(servers: list[stage.Server]) -> float:
    """Of that what this program, its finished children and the servers spent."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used) + sum(server.cpu_seconds() for server in servers)


def merge(results: dict[str, t.Any], more: dict[str, t.Any]) -> None:
    """Add to nested results."""
    for key, value in more.items():
        if isinstance(value, dict):
            merge(results.setdefault(key, {}), value)
        else:
            results[key] = value


def replaced(earlier: dict[str, t.Any], results: dict[str, t.Any], parts: t.Iterable[str]) -> dict[str, t.Any]:
    """An earlier run's results with those of parts in their places, and when and where these were made."""
    told = {part: {"date": results["date"], "kernel": results["machine"]["kernel"]} for part in parts}
    of_engines = {name: earlier["engines"].get(name, {}) | found for name, found in results.get("engines", {}).items()}
    new = {key: value for key, value in results.items() if key not in ("date", "machine", "engines")}
    return earlier | new | {"engines": earlier["engines"] | of_engines, "again": earlier.get("again", {}) | told}


def by_engine(part: str, found: dict[str, t.Any]) -> dict[str, t.Any]:
    """Nginx's results stand at the top, those of the others below ``engines``."""
    return {part: found.pop("nginx"), "engines": {engine: {part: results} for engine, results in found.items()}}


def measure_hits(
    folder: Path, static: stage.Server, mirrors: list[stage.Server], registry: stage.Registry, options: argparse.Namespace
) -> dict[str, t.Any]:
    """All cases, over the link and, but for those that wrk does not load, over loopback."""
    tried = []
    for rule in options.tries:
        name, _equals, change = rule.partition("=")
        tried.append(stage.changed(mirrors[0], folder / name, change.split(" && ")))
    results: dict[str, dict[str, t.Any]] = {part: {mirror.name: {} for mirror in mirrors} for part in ("hits", "loopback")}
    with contextlib.ExitStack() as stack:
        for server in tried:
            stack.enter_context(server)
        measured = [*mirrors, *tried]
        busy, own, began = machine_busy(), own_busy([static, *measured]), time.monotonic()
        for part, case in [(part, case) for case in hits.CASES for part in results if part == "hits" or not case.whole]:
            turns, sizes = hits.measure(
                case, static, measured, registry, options.loads, options.repetitions, options.seconds, loopback=part == "loopback"
            )
            for server in measured:
                found = hits.summary(turns[static.name], turns[server.name], sizes[server.name])
                cpu = f"{found['mirror_cpu_microseconds']:,.1f} µs, static {found['static_cpu_microseconds']:,.1f}"
                say(f"{part:8} {case.name:17} {server.name:7} ratio {found['ratio']:.3f} {found['ratios_by_connections']} {cpu}")
                if server in mirrors:
                    results[part][server.name][case.name] = found
        others = (machine_busy() - busy) - (own_busy([static, *measured]) - own)
        share = max(0.0, others) / (time.monotonic() - began) / (os.cpu_count() or 1)
    found = {"others_share": round(share, 3)}
    for part, by_name in results.items():
        merge(found, by_engine(part, by_name))
    return found


def measure_cold(mirrors: list[stage.Server], registry: stage.Registry, repetitions: int) -> dict[str, t.Any]:
    results = {}
    for mirror in mirrors:
        runs = []
        for _repetition in range(repetitions):
            runs.append(found := cold.run(mirror, registry))
            say(f"cold  {mirror.name:7} " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
        results[mirror.name] = cold.summary(runs)
    return by_engine("cold", results)


def measure_peers(
    folder: Path, static: stage.Server, mirrors: list[stage.Server], registry: stage.Registry, repetitions: int
) -> dict[str, t.Any]:
    """The mirrors and the other proxies, by kind of hit and by server; what one does not offer is None."""
    say("peers: installing them")
    project, _filename, size = peers.HERD
    registry.call("publish", project=project, version="1.0", kinds="wheel", size=size)
    found: dict[str, t.Any] = {
        "connections": peers.CONNECTIONS,
        "clients": cold.CLIENTS,
        "repetitions": repetitions,
        "hits": {},
        "cold": {},
    }
    with contextlib.ExitStack() as stack:
        servers = [*mirrors, *(stack.enter_context(peer(folder / peer.__name__, registry)) for peer in peers.ALL)]
        for case in hits.CASES:
            if not case.whole and not case.path:
                found["hits"][case.name] = rows = peers.measure(case, static, servers, registry, repetitions)
                say(f"peers {case.name:17} " + ", ".join(f"{name} {row['ratio'] if row else '-'}" for name, row in rows.items()))
        for server in servers:
            found["cold"][server.name] = row = peers.herd(server, registry)
            say(f"peers {server.name:17} " + ", ".join(f"{name} {value}" for name, value in row.items()))
    return {"peers": found}


def measure_deploys(folder: Path, repetitions: int) -> dict[str, t.Any]:
    folder.mkdir()
    say("deploy: making hosts; images are built the first time")
    with deploy.Lab(folder) as lab:
        runs = []
        for repetition in range(repetitions):
            runs.append(found := deploy.run(lab, repetition + 1))
            say("deploy " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))
    return {"deploy": deploy.summary(runs)}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--only", default=",".join(PARTS), help="parts to run, with commas between: " + ", ".join(PARTS))
    parser.add_argument("--quick", action="store_true", help="less of each; no peers and no deploy, unless --only names them")
    parser.add_argument("--replace", action="store_true", help="write the results of --only, too")
    parser.add_argument("--repetitions", type=int, help="turns of each server for each kind of hit and load; default 5, quick 3")
    parser.add_argument("--connections", help="of the load tool, with commas between; default 4,8,16, quick 8")
    parser.add_argument("--try", action="append", default=[], dest="tries", metavar="NAME=REGEX=>TEXT", help="another server; see above")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    if options.replace and options.quick:
        parser.error("a quick run's results take no places")
    whole = set(parts) == set(PARTS) and not options.quick
    if options.quick and set(parts) == set(PARTS):
        parts = ["hits", "cold"]
    options.repetitions = options.repetitions or (3 if options.quick else 5)
    options.loads = [int(count) for count in options.connections.split(",")] if options.connections else hits.CONNECTIONS
    if options.quick and not options.connections:
        options.loads = hits.CONNECTIONS[1:2]
    earlier = json.loads((HERE / "results.json").read_text()) if options.replace else {}
    options.seconds = 1
    if os.geteuid():
        parser.error("network namespaces and containers need root")
    now = datetime.datetime.now(datetime.UTC)
    results: dict[str, t.Any] = {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "seconds_a_turn": options.seconds,
    }
    with tempfile.TemporaryDirectory(prefix="nearby-benchmark-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # a server that gives its rights away has its files below
        if {"hits", "cold", "peers"} & set(parts):
            say("rendering the mirrors' configurations with the role")
            with contextlib.ExitStack() as stack:
                stack.enter_context(stage.link())
                registry = stage.Registry()
                stack.callback(registry.close)
                for project in {case.project for case in hits.CASES if case.project}:
                    registry.files(project)  # content is made when it is first wanted, which may take longer than a mirror waits
                sites = stack.enter_context(stage.further())
                static = stack.enter_context(stage.static(folder / "static"))
                mirrors = [stack.enter_context(stage.mirror(folder / engine, registry, engine, sites)) for engine in stage.bench.ENGINES]
                if "hits" in parts:
                    merge(results, measure_hits(folder, static, mirrors, registry, options))
                if "cold" in parts:
                    merge(results, measure_cold(mirrors, registry, 1 if options.quick else 3))
                if "peers" in parts:
                    merge(results, measure_peers(folder, static, mirrors, registry, 1 if options.quick else 2))
        if "deploy" in parts:
            results |= measure_deploys(folder / "deploy", 1 if options.quick else 3)
    results["machine"] = report.machine()
    if options.replace and not whole:
        results = replaced(earlier, results, parts)
    print("\n" + report.tables(results) + "\n")
    if whole or options.replace:
        (HERE / "RESULTS.md").write_text(report.page(results))
        (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        say("wrote RESULTS.md and results.json")
    for sentence in (misses := report.missed(results)):
        print(f"MISSED: {sentence}")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
