# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the issue demands, and how the results are told."""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import re
import subprocess
import typing as t
from pathlib import Path

from peers import DEVPI, GIVE_UP, HERD, PROXPI, RATE

# What must be reached: where it stands in the results, at least or at most, how much.
FLOORS = [
    ("hits.index_json_small.ratio", ">=", 0.7),
    ("hits.index_json_large.ratio", ">=", 0.9),
    ("hits.index_html_large.ratio", ">=", 0.9),
    ("hits.file_10k.ratio", ">=", 0.75),
    ("hits.file_5m.ratio", ">=", 0.85),
    ("hits.file_200m.ratio", ">=", 0.85),
    ("hits.npm_document.ratio", ">=", 0.9),
    ("hits.npm_tarball.ratio", ">=", 0.75),
    ("hits.deb_release.ratio", ">=", 0.9),
    ("hits.deb_package.ratio", ">=", 0.85),
    # Apache's were set by a trial over loopback.
    ("engines.apache.loopback.index_json_large.ratio", ">=", 0.75),
    ("engines.apache.loopback.index_html_large.ratio", ">=", 0.75),
    ("engines.apache.loopback.file_5m.ratio", ">=", 1.0),
    ("cold.failed", "<=", 0),
    ("engines.apache.cold.failed", "<=", 0),
    ("cold.upstream_bytes_ratio", "<=", 1.02),
    ("cold.last_client_ratio", "<=", 1.15),
    ("cold.joiner_first_byte_seconds", "<=", 0.2),
    ("deploy.second_changed", "<=", 0),
    ("deploy.configure_mirrors_second_changed", "<=", 0),
]
TITLES = {
    "index_json_small": "index of 3 files, JSON",
    "index_json_large": "index of 4,000 files, JSON",
    "index_html_large": "index of 4,000 files, HTML",
    "file_10k": "file of 10 KB",
    "file_5m": "file of 5 MB",
    "file_200m": "file of 200 MB",
    "npm_document": "npm, document of 500 versions",
    "npm_tarball": "npm, tarball of 10 KB",
    "deb_release": "deb, InRelease",
    "deb_package": "deb, package of 5 MB",
}
PARTS = {"hits": "hits", "loopback": "hits over loopback"}
QUIET = 0.1  # the share of the processors that others may have without a word


def missed(results: dict[str, t.Any]) -> list[str]:
    """A sentence for every figure that was measured and is not good enough."""
    sentences = []
    for path, sign, limit in FLOORS:
        value: t.Any = results
        for key in path.split("."):
            value = value.get(key) if isinstance(value, dict) else None
        if value is not None and not (value >= limit if sign == ">=" else value <= limit):
            sentences.append(f"{path} is {value}, and must be {sign} {limit}")
    return sentences


def engines(results: dict[str, t.Any]) -> dict[str, dict[str, t.Any]]:
    """The results of each engine, Nginx's first, by the path below which they stand."""
    return {"": results} | {f"engines.{engine}.": found for engine, found in results.get("engines", {}).items()}


def engine_name(path: str) -> str:
    return path.removeprefix("engines.").removesuffix(".") or "nginx"


def missed_alone(results: dict[str, t.Any]) -> list[str]:
    """A sentence for every kind of hit that is good enough, but not so under one of its loads taken alone."""
    sentences = []
    limits = {path: limit for path, sign, limit in FLOORS if sign == ">="}
    for path, found in engines(results).items():
        for part, name, case in [(which, *told) for which in PARTS for told in found.get(which, {}).items()]:
            limit = limits.get(f"{path}{part}.{name}.ratio", 0)
            low = {load: ratio for load, ratio in case["ratios_by_connections"].items() if ratio < limit <= case["ratio"]}
            if low:
                told = " and ".join(f"{ratio:.2f} with {load} connections" for load, ratio in low.items())
                sentences.append(f"{engine_name(path)}, {PARTS[part]}, {TITLES[name]}: {told}, below {limit}")
    return sentences


def machine() -> dict[str, t.Any]:
    """What the figures were measured on."""

    def said(*command: str) -> str:
        with contextlib.suppress(FileNotFoundError):  # who does not compare needs no other proxies
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            return (done.stdout + done.stderr).strip()
        return ""

    cpu = re.search(r"model name\s*:\s*(.+)", Path("/proc/cpuinfo").read_text())
    memory = int(re.findall(r"MemTotal:\s*(\d+)", Path("/proc/meminfo").read_text())[0])
    release = platform.freedesktop_os_release()
    return {
        "processor": cpu[1] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(memory / 2**20, 1),
        "kernel": platform.release(),
        "system": f"{release.get('PRETTY_NAME', '')} ({Path('/etc/debian_version').read_text().strip()})",
        "nginx": said("/usr/sbin/nginx", "-v").rpartition("/")[2],
        "apache": (re.findall(r"Apache/([\d.]+)", said("/usr/sbin/apache2", "-v")) or ["?"])[0],
        "squid": (re.findall(r"Version (\S+)", said("/usr/sbin/squid", "-v")) or ["?"])[0],
        "python": platform.python_version(),
        "ansible_core": importlib.metadata.version("ansible-core"),
        "wrk": (re.findall(r"wrk \S*?([\d.]+\S*)", said("wrk", "-v")) or ["?"])[0],
    }


def table(head: list[str], rows: list[list[str]]) -> str:
    """A table in Markdown; all columns but the first are numbers."""
    rule = [":--", *["--:"] * (len(head) - 1)]
    return "\n".join("| " + " | ".join(row) + " |" for row in [head, rule, *rows])


def tables(results: dict[str, t.Any]) -> str:
    """What was measured, as Markdown."""
    parts = []
    floors = {path: f"{sign} {limit:g}" for path, sign, limit in FLOORS}
    measured = engines(results)
    for part in [part for part in PARTS if part in results]:
        head = [
            PARTS[part],
            "engine",
            "bytes",
            "static /s",
            "mirror /s",
            "ratio",
            "wanted",
            "with 4, 8, 16 connections",
            "seen",
            "static µs",
            "mirror µs",
        ]
        rows = [
            [
                TITLES[name],
                engine_name(path),
                f"{case['bytes']:,}",
                f"{case['static_rps']:,.0f}",
                f"{case['mirror_rps']:,.0f}",
                f"**{case['ratio']:.2f}**",
                floors.get(f"{path}{part}.{name}.ratio", ""),
                ", ".join(f"{ratio:.2f}" for ratio in case["ratios_by_connections"].values()),
                f"{case['ratio_least']:.2f} to {case['ratio_greatest']:.2f}",
                f"{case['static_cpu_microseconds']:,.1f}",
                f"{case['mirror_cpu_microseconds']:,.1f}",
            ]
            for name in results[part]
            for path, found in measured.items()
            for case in [found[part][name]]
        ]
        parts.append(table(head, rows))
    if "cold" in results:
        told = {
            "bytes from upstream / the file's": "upstream_bytes_ratio",
            "last client done, seconds": "last_client_seconds",
            "one client alone, seconds": "alone_seconds",
            "last client / one alone": "last_client_ratio",
            "first byte, median client, seconds": "median_first_byte_seconds",
            "first byte, client that joins 1 s later, seconds": "joiner_first_byte_seconds",
            "clients that did not get the file in time, of all runs": "failed",
        }
        rows = [
            [
                title,
                *(
                    cell
                    for path, found in measured.items()
                    for cell in (f"{found['cold'][name]:.3f}", floors.get(f"{path}cold.{name}", ""))
                ),
            ]
            for title, name in told.items()
        ]
        columns = [column for path in measured for column in (engine_name(path), "wanted")]
        parts.append(table([f"cold, {results['cold']['clients']} clients, a file of 200 MB at 10 MB/s", *columns], rows))
    if peers := results.get("peers"):
        head = ["hits", "server", "bytes", "requests/s", "ratio to the limit", "p50 ms", "p99 ms", "CPU s / 1,000", "bytes from upstream"]
        rows = [
            [
                TITLES[name],
                server,
                f"{row['bytes']:,}",
                f"{row['rps']:,.1f}",
                f"**{row['ratio']:.2g}**" if row["ratio"] < 0.1 else f"**{row['ratio']:.2f}**",
                f"{row['p50_milliseconds']:,.2f}",
                f"{row['p99_milliseconds']:,.2f}",
                f"{row['cpu_seconds_per_1000']:.3f}",
                f"{row['upstream_bytes']:,}",
            ]
            if row
            else [TITLES[name], server, "not offered", *[""] * 6]
            for name, servers in peers["hits"].items()
            for server, row in servers.items()
        ]
        parts.append(table(head, rows))
        head = [
            f"cold, {peers['clients']} clients, a file of 20 MB at 2 MB/s",
            "bytes from upstream / the file's",
            "first byte, median client, s",
            "last client done, s",
            "failed",
        ]
        rows = [
            [
                server,
                f"{row['upstream_bytes_ratio']:.2f}",
                f"{row['median_first_byte_seconds']:.2f}",
                f"{row['last_client_seconds']:.2f}",
                f"{row['failed']} of {peers['clients']}",
            ]
            for server, row in peers["cold"].items()
        ]
        parts.append(table(head, rows))
    if deploy := results.get("deploy"):
        rows = [
            ["first deploy of a fresh host", f"{deploy['first_seconds']:.1f}", ""],
            ["second deploy", f"{deploy['second_seconds']:.1f}", f"{deploy['second_changed']:.0f}"],
            ["configure_mirrors on a node", f"{deploy['configure_mirrors_seconds']:.1f}", ""],
            ["the same again", f"{deploy['configure_mirrors_second_seconds']:.1f}", f"{deploy['configure_mirrors_second_changed']:.0f}"],
        ]
        parts.append(table(["deploy", "seconds", "changed"], rows))
    return "\n\n".join(parts)


def page(results: dict[str, t.Any]) -> str:
    """RESULTS.md."""
    on, peers = results["machine"], results["peers"]
    noise = results["others_share"]
    remark = "" if noise <= QUIET else " That is not quiet: take the ratios with a grain of salt."
    verdict = "".join(f"\n- {sentence}" for sentence in missed(results)) or " nothing."
    alone = "".join(f"\n- {sentence}" for sentence in missed_alone(results)) or " nothing."
    again = "".join(f"; {part} again on {told['date']}, kernel {told['kernel']}" for part, told in results.get("again", {}).items())
    repetitions = {part: results[part]["repetitions"] for part in ("cold", "deploy")}
    repetitions["hits"] = next(iter(results["hits"].values()))["repetitions"]
    return f"""\
# Results

Written by `make benchmark` on {results["date"]}{again}; `results.json` has the same for programs.

Machine: {on["processor"]}, {on["cores"]} cores, {on["memory_gib"]} GiB, {on["system"]}, kernel {on["kernel"]}.
Nginx {on["nginx"]}, Apache {on["apache"]}, Python {on["python"]}, ansible-core {on["ansible_core"]}, wrk {on["wrk"]}.
Everything runs on this machine, load tool included: the servers in a network namespace, their clients at the other end of a pair of
virtual Ethernet devices, and on other cores. Other processes had {noise:.0%} of the processors during the hits.{remark}

Missed of what is wanted:{verdict}

Reached by the middle one of three loads, but missed under one of them:{alone}

{tables(results)}

## What is compared
- All servers have the same core, and each Nginx has one worker; the load tool has another core. Where all had all cores, and two
  workers, chance had it which of them took how many of a few connections: the ratio of the same bytes swayed from 0.7 to 1.05.
- *static* is a plain Nginx that sends files of the same bytes (`static.conf`): sendfile, keepalive, open files kept and the same log as
  the mirror; pages lie there gzipped already (`gzip_static`).
- *mirror* is the configuration that the role renders for an engine, warm, in front of the fixture registries. Clients ask for pages
  as gzip.
- *over loopback* is the same with the load tool beside the server: packets of 64 KB, no device in between. The trial by which the
  ratios that are wanted of Apache were set was made so; over the link it does not reach them, for which see the end of this page. With
  400 KB and more the load tool is the limit there, and takes longer for Nginx's chunks than for a body of known length.
- The namespace's congestion control is Reno, for static files as for mirrors; see the end of this page.
- One turn of {results["seconds_a_turn"]} s for each server, with wrk and 4, 8, and 16 connections; {repetitions["hits"]} times, by turns.
  Rates are medians; the ratio is the middle one of the three loads; *seen* is among neighbouring turns. Of 200 MB there are 8 whole
  downloads a turn, on 4 connections.
- Where *wanted* is empty, there is no ratio to reach.
- µs is the processor time of a server, with all its processes and threads, for one response: it sways less than the rates do where
  others use the machine.
- Every response is checked in the server's log: 200, whole, and a HIT if it came from the mirror.
- Cold: medians of {repetitions["cold"]} runs. A run is one client before an empty mirror, then 64 before an emptied one,
  and one more a second later. The registry counts its bytes; all clients check the length and some the digest.
- The other proxies are in front of the same registry, for the same pages and files, asked as the mirrors are, with
  {peers["connections"]} connections; medians of {peers["repetitions"]} turns of 1 s, or of 5 s where one answer takes long. Of each answer the status is
  checked, and once that it is the same file, or a page of the same files. *bytes* and *bytes from upstream* are bodies; the latter
  from the first request to the last. The herd is given {GIVE_UP:.0f} s, in which {GIVE_UP * RATE / HERD[2]:.0f} times the file fit through the line; who
  has not got all of it by then has failed.
  - nginx, single tier: `single-tier.conf`, which stores what upstream sent, and rewrites and compresses it at every hit.
  - squid: Squid {on["squid"]} as an accelerator (`squid.conf`). It does not rewrite, so the links of its pages lead past it.
  - proxpi: {", ".join(PROXPI)}; one process, since its index is kept in memory, with 64 threads, and told to wait for downloads.
  - devpi: {", ".join(DEVPI)}, a mirror index, otherwise as it comes.
- Deploy: medians of {repetitions["deploy"]} runs of `ansible-playbook` on fresh Debian 13 containers with systemd.
  The first deploy fetches and installs the web server's package, and plays a client against the mirror at its end.

{WHERE}"""


WHERE = """\
## Where the rest goes
- In Nginx a hit makes two calls more than a static file: each time the server reads the stored header, which holds the response's
  header fields, from the cache file; and a page was compressed on its way, so that its length is not stored, and the end of its chunks
  is written for itself. Of the 4 to 6 µs in all, the checks of host, method, path and body take less than 1. Logging takes less than 1.
- Without the cache of open files a hit would take 4 µs more.
- Pages are sent by sendfile. Copied (`sendfile off`, `output_buffers 1 512k`) a small one takes 4 µs less, and one of 400 KB 15 to 50
  more. Smaller buffers are worse.
- Slices cost nothing that could be measured.
- Apache's event MPM hands a connection back after each response and wakes another thread for the next request. With both cores for
  all, 400 KB took 195 µs where the threads interrupt each other by that, and 140 where they do not (as a batch, `chrt --batch`).
- In a run beside these a bare Apache that sent the same 400 KB as plain files, and logged nothing, took 79 µs over the link, where
  static files of Nginx took 55 and a hit took 90: it had 0.76 of their rate, and the mirror 0.68. So most of the distance is the
  engine's, and a mirror cannot make up for it. Over loopback, where the load tool is the limit, it does not show.
- Of the 11 µs between, 4 are how a body lies in memory: the cache writes it in pieces of 4 KB, and so the kernel has 98 pages to send,
  where a file that was written at once lies in a few large pieces. The same body, written once more in one piece, took 86 µs; on XFS with
  blocks of 64 KB a hit took 83 to 87, and 88 to 94 on ext4. The log is 4, whose lines are written one by one, since Apache's buffer for
  them has no clock. The rest is the cache's: it looks for a header file, reads it, and opens the body. Without the log, TLS, `mod_lua`,
  and what is asked of headers, a small hit took 36 µs instead of 38.
- A larger send buffer (`SendBufferSize`), and the log through a pipe, brought nothing. Without sendfile 400 KB takes 220 µs; 5 MB
  come 1.27 to 1.31 times as fast as static files then, for 1,310 to 1,360 µs instead of 450 to 470, which is not worth it.
- With 1,000 threads in one process, one start of Apache in several was slower than the others by up to a third, all of it in the
  kernel's `futex_wake`: since Linux 6.16 a process has few lists of those that wait, and all threads without work are in one of them.
  With 64 in a process, and 1 or 16 of these, 400 KB took 5 to 8 µs less. There are 12 now.
- A thread sends files through a pipe of its own, and the kernel gives a user 16,384 pages for pipes, 16 to each, and then 2
  (`pipe(7)`). With 2,000 threads Apache sent in pieces of 8 KB, and 400 KB took 240 to 560 µs over the link, where they took
  160 with 1,000. So it begins with 768, since it has other pipes, too, and has more only while that many clients are being waited for.
- What paces counts more than the server. With BBR, static files of 400 KB took 120 to 140 µs over the link instead of 50 to 65, sendfile
  from within a page took nearly twice the time of one from its edge, and ratios swayed by a half.
"""
