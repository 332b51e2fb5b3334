#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Measure what a mirror's hits, cold herds and deploys cost, in one run; writes RESULTS.md and results.json beside this file.

Needs root, nginx, wrk, and what molecule/shared needs. A part (--only) or a quick run only prints. To see what a change of the
configuration is worth, measure it beside the one that is::

    benchmark/run.py --only hits --try 'no-log=access_log [^;]*access.log[^;]*;=>access_log off;'

Ends with 1 and a list where a figure misses what is demanded (report.FLOORS).
"""

from __future__ import annotations

import argparse
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
import report  # noqa: E402
import stage  # noqa: E402

PARTS = ("hits", "cold", "deploy")
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


def measure_hits(folder: Path, mirror: stage.Server, options: argparse.Namespace) -> dict[str, t.Any]:
    """All cases; the mirror is started already."""
    static = stage.static(folder / "static")
    tried = []
    for rule in options.tries:
        name, _equals, change = rule.partition("=")
        tried.append(stage.changed(mirror, folder / name, change.split(" && ")))
    started = [static, *tried]
    results: dict[str, t.Any] = {}
    try:
        for server in started:
            server.start()
        servers = [mirror, *started]
        busy, own, began = machine_busy(), own_busy(servers), time.monotonic()
        for case in hits.cases(mirror):
            turns, size = hits.measure(case, static, [mirror, *tried], options.loads, options.repetitions, options.seconds)
            results[case.name] = found = hits.summary(turns, size)
            say(f"hits  {case.name:17} ratio {found['ratio']:.3f} {found['ratios_by_connections']}")
            for server in tried:
                other = hits.summary({"static": turns["static"], "mirror": turns[server.name]}, size)
                more = f"{other['mirror_cpu_microseconds']} µs and not {found['mirror_cpu_microseconds']}"
                say(f"      {'':17} ratio {other['ratio']:.3f} {other['ratios_by_connections']} with {server.name}, {more}")
        others = (machine_busy() - busy) - (own_busy(servers) - own)
        share = max(0.0, others) / (time.monotonic() - began) / (os.cpu_count() or 1)
    finally:
        for server in started:
            server.stop()
    return {"hits": results, "others_share": round(share, 3)}


def measure_cold(mirror: stage.Server, registry: stage.Registry, repetitions: int) -> dict[str, t.Any]:
    runs = []
    for _repetition in range(repetitions):
        runs.append(found := cold.run(mirror, registry))
        say("cold  " + ", ".join(f"{name} {value:.3f}" for name, value in found.items()))
    return {"cold": cold.summary(runs)}


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
    parser.add_argument("--quick", action="store_true", help="less of each; no deploy, unless --only names it")
    parser.add_argument("--repetitions", type=int, help="turns of each server for each kind of hit and load; default 5, quick 3")
    parser.add_argument("--connections", help="of the load tool, with commas between; default 4,8,16, quick 8")
    parser.add_argument("--try", action="append", default=[], dest="tries", metavar="NAME=REGEX=>TEXT", help="another server; see above")
    options = parser.parse_args()
    parts = options.only.split(",")
    if unknown := set(parts) - set(PARTS):
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    whole = set(parts) == set(PARTS) and not options.quick
    if options.quick and set(parts) == set(PARTS):
        parts.remove("deploy")
    options.repetitions = options.repetitions or (3 if options.quick else 5)
    options.loads = [int(count) for count in options.connections.split(",")] if options.connections else hits.CONNECTIONS
    if options.quick and not options.connections:
        options.loads = hits.CONNECTIONS[1:2]
    options.seconds = 1
    if "deploy" in parts and os.geteuid():
        parser.error("the deploys need root")
    now = datetime.datetime.now(datetime.UTC)
    results: dict[str, t.Any] = {
        "date": now.strftime("%Y-%m-%d %H:%M UTC"),
        "machine": report.machine(),
        "seconds_a_turn": options.seconds,
    }
    with tempfile.TemporaryDirectory(prefix="nearby-benchmark-") as name:
        folder = Path(name)
        if {"hits", "cold"} & set(parts):
            say("rendering the mirror's configuration with the role")
            registry = stage.Registry()
            try:
                mirror = stage.mirror(folder / "mirror", registry)
                mirror.start()
                try:
                    if "hits" in parts:
                        results |= measure_hits(folder, mirror, options)
                    if "cold" in parts:
                        results |= measure_cold(mirror, registry, 1 if options.quick else 3)
                finally:
                    mirror.stop()
            finally:
                registry.close()
        if "deploy" in parts:
            results |= measure_deploys(folder / "deploy", 1 if options.quick else 3)
    print("\n" + report.tables(results) + "\n")
    if whole:
        (HERE / "RESULTS.md").write_text(report.page(results))
        (HERE / "results.json").write_text(json.dumps(results, indent=2) + "\n")
        say("wrote RESULTS.md and results.json")
    for sentence in (misses := report.missed(results)):
        print(f"MISSED: {sentence}")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
