# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is wanted, and how the results are told."""

from __future__ import annotations

import json
import os
import platform
import re
import typing as t
from pathlib import Path

import faults
from ansible_collections.nearby.mirrors.plugins.module_utils.engines import ENGINES, Limit

Found = dict[str, t.Any]


def figures(found: Found) -> dict[str, dict[str, int]]:
    """Each figure with what failed of how many; the warm requests are the result's own."""
    own = {"warm": {"failed": found["failed"], "of": found["of"]}} if "of" in found else {}
    return own | {name: value for name, value in found.items() if isinstance(value, dict) and "of" in value}


def excuse(engine: str, fault: faults.Fault) -> Limit | None:
    """The engine's known limit that this fault meets, if there is one."""
    return next((limit for limit in ENGINES[engine] if limit.faults and re.search(limit.faults, fault.name)), None)


def missed(engine: str, fault: faults.Fault, found: Found) -> list[str]:
    """A sentence for every figure that is not good enough, and that no known limit excuses."""
    if "broken" in found:
        return [f"the fault could not be injected or healed: {found['broken']}"]
    sentences = []
    limit = excuse(engine, fault)
    for name, value in figures(found).items():
        share = 1.0 if limit and name in limit.figures else fault.wanted.get(name, 0.0)
        if value["failed"] > share * value["of"]:
            sentences.append(f"{name}: failed {value['failed']} of {value['of']}, wanted at most {share:.1%}")
    if found.get("down_seconds", 0) > fault.down:
        sentences.append(f"nobody could connect for {found['down_seconds']} s, wanted at most {fault.down} s")
    if found.get("retried", 0) > fault.again and not (limit and "sent twice" in limit.figures):
        sentences.append(f"sent twice: {found['retried']}, wanted at most {fault.again}")
    return sentences


def told(found: Found) -> str:
    """A result in one line."""
    if "broken" in found:
        return f"BROKEN: {found['broken']}"
    parts = [f"{name}: failed {value['failed']} of {value['of']}" for name, value in figures(found).items()]
    for name, unit in (("slowest_seconds", "s slowest"), ("down_seconds", "s down"), ("retried", "sent twice")):
        if found.get(name):
            parts.append(f"{found[name]} {unit}")
    return ", ".join(parts)


def cell(engine: str, fault: faults.Fault, found: Found | None) -> str:
    if not found:
        return ""
    parts = []
    for name, value in figures(found).items():
        if name in ("warm", "cold") or value["failed"] or name not in ("before", "wrong", "stored", "recovery"):
            parts.append(f"{'' if name == 'warm' else name + ' '}{value['failed']} of {value['of']}")
    if found.get("down_seconds"):
        parts.append(f"down {found['down_seconds']} s")
    if found.get("retried"):
        parts.append(f"sent twice {found['retried']}")
    if limit := excuse(engine, fault):
        parts.append(f"limit: {limit.key}")
    text = ", ".join(parts)
    return f"**{text or 'not injected'}**" if missed(engine, fault, found) else text


def page(results: dict[str, t.Any], about: dict[str, t.Any]) -> str:
    """RESULTS.md."""
    engines = [engine for engine in ("nginx", "apache") if engine in results]
    head = ["fault", "what happens", *engines]
    rows = [
        [fault.name, fault.told, *(cell(engine, fault, results[engine].get(fault.name)) for engine in engines)] for fault in faults.FAULTS
    ]
    table = "\n".join("| " + " | ".join(row) + " |" for row in [head, [":--"] * len(head), *rows])
    sentences = [
        f"- {engine}, {fault.name}: {sentence}"
        for engine in engines
        for fault in faults.FAULTS
        if (found := results[engine].get(fault.name))
        for sentence in missed(engine, fault, found)
    ]
    since: dict[tuple[str, str, str], list[str]] = {}
    for engine in engines:
        for name, one in results[engine].items():
            if "since" in one:
                since.setdefault((engine, one["since"]["date"], one["since"]["commit"]), []).append(name)
    again = [f"- {engine}, again: {', '.join(names)}, {date}, commit {commit}" for (engine, date, commit), names in since.items()]
    ran = "\n".join(
        f"- {engine} {on['engine']} on Debian {on['debian']}, {on['date']}, commit {on['commit']}, load {on['load']}"
        for engine in engines
        for on in [about[engine]]
    )
    ran = "\n".join([ran, *again])
    return f"""\
# Results of the fault run

Written by `make faults`; `results.json` has the same for programs.

Machine: {about["machine"]}.

{ran}

Missed of what is wanted:{chr(10) + chr(10).join(sentences) if sentences else " nothing."}

{table}

## How to read it
- Each row was measured at the commit and time of its engine above, or those of the line *again* that names it.
- Plain figures are warm requests that failed, of those that were sent from when the fault began to be made: pages in both
  representations, which expire after two seconds, and files. There are 3,000, or more where making the fault takes longer than these.
  *cold* are requests for what nobody had asked for before. Failed is a wrong status, a short body, a wrong digest, or no answer within
  15 s. Cold requests have to fail where the registry is away.
- A row says more where that is not 0: *before*, requests of the second before the fault; *wrong*, whole answers with another body than
  the registry's; *stored*, all that was asked for, warm and cold, asked for again after the fault; *recovery*, whether a release that
  comes after it shows by itself.
- *down* is the time in which no connection could be made, from the first refusal to the next success. Clients try again, and such a
  request fails only where its answer does.
- *sent twice*: the connection was lost before the first byte of the answer, so the client asked once more, as pip does. None may be,
  but for {faults.LOST} where what holds the connections is killed, one for each client, and {faults.CLOSED} for each reload: a server
  closes the connections that clients keep, and a client may send on one just then (RFC 9112, 9.6).
- Bold is a miss. *limit* names what the engine is known not to do (docs/reference/engines.md).
- *load* is the load average of the last 15 minutes. A busy machine makes it slower, and outages longer; counts are sound.
"""


def machine() -> str:
    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = int(re.findall(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[0])
    name = cpu[1] if cpu else platform.machine()
    return f"{name}, {os.cpu_count()} cores, {memory / 2**20:.1f} GiB, kernel {platform.release()}, hosts under podman"


def write(folder: Path, engine: str, seen: dict[str, str], found: dict[str, Found], whole: bool) -> None:
    """Put an engine's part into both files, or what a part of it found since; all else stays."""
    path = folder / "results.json"
    results = json.loads(path.read_text()) if path.exists() else {}
    about = {"machine": machine(), engine: seen, **results.pop("about", {})}
    if whole:
        results[engine] = {}
        about |= {"machine": machine(), engine: seen}
    for name, one in found.items():
        since = {} if whole else {"since": {key: seen[key] for key in ("date", "commit")}}
        results.setdefault(engine, {})[name] = {key: value for key, value in one.items() if key != "examples"} | since
    path.write_text(json.dumps({**results, "about": about}, indent=2) + "\n")
    (folder / "RESULTS.md").write_text(page(results, about))
