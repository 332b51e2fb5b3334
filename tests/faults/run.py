#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Inject every fault of a list into real hosts while clients are at work; writes RESULTS.md and results.json beside this file.

Needs root and what molecule/shared needs. Hosts are containers: a registry with its name server, a mirror that the role deploys, and a
node with the clients. Each fault has a load of a fixed number of requests, which goes on where making the fault takes longer;
each answer's status, length and SHA-256 is verified.
A quick run (--quick) has a part of the faults and fewer requests, and writes nothing; nor does a part (--only), unless its results are
to take the places of those that an earlier whole run had (--replace).

Ends with 1 and a list where a figure misses what is wanted (faults.FAULTS), but for an engine's known limits.
"""

from __future__ import annotations

import argparse
import datetime
import os
import re
import subprocess
import sys
import tempfile
import time
import typing as t
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent.parent / ".collections")]

import faults  # noqa: E402
import hosts  # noqa: E402
import report  # noqa: E402

ENGINES = ("nginx", "apache")
WARM = 3000
QUICK = 5  # so many times fewer requests, in half the time
SETTLE = 1.0  # seconds of load before a fault


def say(text: str) -> None:
    """Progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


class Run(hosts.Lab):
    """The lab, with what the faults count in it."""

    def __init__(self, *arguments: t.Any, quick: bool) -> None:
        super().__init__(*arguments)
        self.quick = quick
        self.warm_names = [f"warm-{number}" for number in range(30)]
        self.warm: list[hosts.Item] = []
        self.serial = 0
        self.figures: dict[str, dict[str, int]] = {}
        self.notes: list[str] = []
        self.told: dict[str, t.Any] = {}
        self.bad: list[hosts.Item] = []
        self.herd, self.ended, self.down = "", 0.0, 0.0

    def begin(self) -> None:
        """Deploy, and let the mirror see what is to be warm."""
        say(f"{self.engine}: deploying")
        self.deploy()
        self.publish_many(self.warm_names, 20_000)
        self.publish_many(["few-megabytes"], 5_000_000)
        self.publish("pulse", "1.0")

    def fresh_name(self, stem: str) -> str:
        self.serial += 1
        return f"{stem}-{self.serial}"

    def count(self, figure: str, failed: int, of: int) -> None:
        self.figures[figure] = {"failed": int(failed), "of": of}

    def ask(self, *arguments: t.Any, **options: t.Any) -> dict[str, t.Any]:
        """As ever, and what nobody could connect for is kept."""
        told = super().ask(*arguments, **options)
        self.down = max(self.down, told["down_seconds"])
        return told

    def note(self, text: t.Any) -> None:
        self.notes.append(str(text))

    def run(self, fault: faults.Fault) -> dict[str, t.Any]:
        """Inject one fault, and heal it; what was counted."""
        self.figures, self.notes, self.told = {}, [], {}
        faults.calm(self)
        fault.before(self)
        # A page of 4,000 files and a file of 5 MB are among them, but rarely.
        self.warm = self.all_of([*self.warm_names, "few-megabytes"], fault.site) + self.pages("large", fault.site)
        asked = self.ask(self.warm)["kinds"]["asked"]
        if asked["failed"]:  # by what the fault before has left behind, which was counted there
            self.empty()
            asked = self.ask(self.warm)["kinds"]["asked"]
        if asked["failed"]:
            raise RuntimeError(f"before the fault {asked['failed']} of {asked['of']} fail already: {asked['reasons']}")
        self.down = 0.0
        if not fault.seconds:
            fault.inject(self)
            fault.heal(self)
            fault.after(self)
        else:
            self.under_load(fault)
        return {**self.figures.pop("warm", {}), **self.figures, **self.timings()} | ({"notes": self.notes} if self.notes else {})

    def under_load(self, fault: faults.Fault) -> None:
        share = QUICK if self.quick else 1
        warm, seconds = hosts.choice(self.warm, WARM // share, fault.name), fault.seconds / (2 if self.quick else 1)
        names = [self.fresh_name("cold") for _number in range(fault.cold // share)]
        self.publish_many(names, 20_000)
        cold = self.all_of(names, fault.site)
        pace = seconds / len(warm)
        load = self.load(
            [(number * pace, "before", item) for number, item in enumerate(warm[: int(SETTLE / pace)])]
            + [(SETTLE + number * pace, "warm", item) for number, item in enumerate(warm)]
            + [(SETTLE + 0.5 + number * (seconds - 2) / len(cold), "cold", item) for number, item in enumerate(cold)]
            + (fault.more(self) if fault.more else [])
        )
        time.sleep(SETTLE)
        began = time.monotonic()
        try:
            fault.inject(self)
            took = round(time.monotonic() - began, 1)
            self.told = load.result()
        finally:
            fault.heal(self)
        self.told["inject_seconds"] = took
        self.ended = time.time()
        for kind, counts in self.told["kinds"].items():
            self.count(kind, counts["failed"], counts["of"])
        kinds = self.told["kinds"].values()
        self.count("wrong", sum(counts["wrong"] for counts in kinds), sum(counts["of"] for counts in kinds))
        self.recover(fault.site)
        again = self.ask(cold + self.warm)["kinds"]["asked"]
        self.count("stored", again["failed"], again["of"])
        if again["failed"]:
            self.note(f"asked again: {dict(again['reasons'])}")
        fault.after(self)

    def recover(self, site: str) -> None:
        """A new release shows by itself."""
        self.publish("pulse", f"1.{self.fresh_name('')[1:]}")
        page = self.pages("pulse", site)[:1]
        seconds = hosts.eventually(lambda: not self.ask(page)["kinds"]["asked"]["failed"], 30)
        self.count("recovery", int(seconds is None), 1)
        self.told["recovered_seconds"] = seconds

    def timings(self) -> dict[str, t.Any]:
        if not self.told:
            return {"down_seconds": self.down}
        kinds = self.told["kinds"]
        return {
            "slowest_seconds": kinds["warm"]["slowest"],
            "slowest_cold_seconds": kinds["cold"]["slowest"],
            "retried": sum(counts["retried"] for counts in kinds.values()),
            "down_seconds": max(self.told["down_seconds"], self.down),
            "inject_seconds": self.told["inject_seconds"],
            "recovered_seconds": self.told["recovered_seconds"],
            "reasons": {kind: counts["reasons"] for kind, counts in kinds.items() if counts["reasons"]},
            "examples": self.told["examples"],
        }


def commit() -> str:
    return hosts.command("git", "-C", str(HERE), "describe", "--always", "--dirty", check=False).stdout.strip() or "?"


def versions(lab: Run) -> dict[str, str]:
    program = {"nginx": "nginx -v", "apache": "apache2 -v | head -1"}[lab.engine]
    return {
        "engine": re.findall(r"/([\d.]+)", lab.on(hosts.MIRROR, f"{program} 2>&1"))[0],
        "debian": lab.on(hosts.MIRROR, "cat /etc/debian_version").strip(),
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--engine", action="append", choices=ENGINES, help="may be given twice; default: both")
    parser.add_argument("--only", default="", metavar="REGEX", help="faults whose name it finds")
    parser.add_argument("--quick", action="store_true", help="the faults that are marked so, or those of --only, with fewer requests")
    parser.add_argument("--keep", action="store_true", help="leave the last engine's hosts as they are at the end")
    parser.add_argument("--replace", action="store_true", help="write the results of --only, too")
    options = parser.parse_args()
    if options.replace and options.quick:
        parser.error("--replace writes what is measured in full, and --quick measures less")
    if os.geteuid():
        parser.error("this needs root")
    chosen = [
        fault for fault in faults.FAULTS if re.search(options.only, fault.name) and (fault.quick or not options.quick or options.only)
    ]
    if not chosen:
        parser.error(f"no fault's name has {options.only!r} in it; there are {', '.join(fault.name for fault in faults.FAULTS)}")
    engines = options.engine or list(ENGINES)
    misses = []
    measured = commit()  # before the first engine's results change a file
    for engine in engines:
        folder = Path(tempfile.mkdtemp(prefix="nearby-faults-"))
        say(f"{engine}: making hosts in {folder}; images are built the first time")
        results: dict[str, t.Any] = {}
        with Run(folder, engine, options.keep and engine == engines[-1], quick=options.quick) as lab:
            lab.begin()
            seen = versions(lab) | {"commit": measured}
            for number, fault in enumerate(chosen, 1):
                try:
                    results[fault.name] = found = lab.run(fault)
                except (RuntimeError, OSError, AssertionError, subprocess.TimeoutExpired) as error:
                    results[fault.name] = found = {"broken": str(error)[-1500:]}
                missed = report.missed(engine, fault, found)
                misses += [f"{engine} {fault.name}: {sentence}" for sentence in missed]
                say(f"{engine} {number:2}/{len(chosen)} {fault.name:32} {report.told(found)}{'  MISSED' if missed else ''}")
                for line in [*found.get("notes", []), found.get("reasons", {}), *found.get("examples", [])] if missed else []:
                    print(f"           {line}")
        whole = len(chosen) == len(faults.FAULTS) and not options.quick
        if whole or options.replace:
            seen["load"] = f"{os.getloadavg()[2]:.1f}"
            report.write(HERE, engine, seen, {name: one for name, one in results.items() if whole or "broken" not in one}, whole)
            say(f"wrote the part of {engine} in RESULTS.md and results.json")
    for sentence in misses:
        print(f"MISSED: {sentence}")
    return 1 if misses else 0


if __name__ == "__main__":
    sys.exit(main())
