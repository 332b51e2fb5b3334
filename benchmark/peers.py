# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Other caching proxies in front of the same registry: the same pages and files, warm, and a herd before a cold file."""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import statistics
import subprocess
import sys
import time
import typing as t
import urllib.parse
import urllib.request
from pathlib import Path

import cold
import hits
from stage import HERE, HOST, REPOSITORY, Registry, Server, bench, nginx

PROXPI = ("proxpi==1.3.1", "gunicorn==27.0.1")
DEVPI = ("devpi-server==6.20.3",)
CONNECTIONS = 8
SLOW = 0.05  # seconds that one answer takes; what is slower has longer turns, or there would be too few answers in one
TURN, SLOW_TURN = 1, 5  # seconds
# One alone has the file after 10 s, which is longer than some servers' patience. It is bounded since some multiply it.
HERD = ("herd", "herd-1.0-py3-none-any.whl", 20_000_000)  # project, file, bytes of its payload
RATE = 2_000_000  # bytes a second from upstream
GIVE_UP = 40.0  # seconds
PAGE_FILE = rb"[\w.-]+-[\w.-]+\.(?:whl|tar\.gz)\b"


def environment(root: Path, requirements: t.Iterable[str]) -> Path:
    """A virtual environment with those packages from PyPI; its programs' folder."""
    uv, programs = Path(sys.executable).with_name("uv"), root / "venv" / "bin"
    subprocess.run([uv, "venv", "--quiet", "--python", sys.executable, root / "venv"], check=True)
    subprocess.run([uv, "pip", "install", "--quiet", "--python", programs / "python", *requirements], check=True)
    return programs


def single_tier(root: Path, registry: Registry) -> Server:
    """Nginx that rewrites and compresses at every hit."""
    urls = registry.urls
    return nginx("nginx, single tier", root, "single-tier.conf", "/simple/", INDEX=urls["index"], FILES=urls["files"])


def squid(root: Path, registry: Registry) -> Server:
    """Squid as an accelerator, as Debian ships it."""
    subprocess.run([REPOSITORY / "tests/host-packages", "squid"], check=True, stdout=subprocess.DEVNULL)
    for folder in (root, root / "cache", root / "log"):
        folder.mkdir(parents=True)
        if os.geteuid() == 0:  # it gives its rights away
            shutil.chown(folder, "proxy")
    port = bench.free_port()
    ports = {f"{name.upper()}_PORT": str(urllib.parse.urlsplit(url).port) for name, url in registry.urls.items()}
    text = (HERE / "squid.conf").read_text()
    for word, value in {**ports, "ROOT": str(root), "HOST": HOST, "PORT": str(port)}.items():
        text = text.replace(word, value)
    (root / "squid.conf").write_text(text)
    command = ["/usr/sbin/squid", "-N", "-f", str(root / "squid.conf")]
    subprocess.run([*command, "-z"], check=True, capture_output=True)
    return Server("squid", root, command, (HOST, port), "/simple/", ready="/simple/sampleproj/", leads_past_it=True)


def proxpi(root: Path, registry: Registry) -> Server:
    """proxpi under gunicorn; one process, since its index is kept in memory. It waits for downloads, instead of redirecting."""
    programs, port = environment(root, PROXPI), bench.free_port()
    settings = {"INDEX_URL": f"{registry.urls['index']}/simple/", "CACHE_DIR": str(root / "cache"), "DOWNLOAD_TIMEOUT": "60"}
    command = [str(programs / "gunicorn"), "--preload", "--threads", "64", "--bind", f"{HOST}:{port}", "proxpi.server:app"]
    variables = {f"PROXPI_{name}": value for name, value in settings.items()}
    return Server("proxpi", root, command, (HOST, port), "/index/", ready="/", environment=variables)


def devpi(root: Path, registry: Registry) -> Server:
    """devpi-server with a mirror index of the registry."""
    programs, port = environment(root, DEVPI), bench.free_port()
    data = str(root / "server")
    subprocess.run(
        [programs / "devpi-init", "--serverdir", data, "--no-root-pypi", "--root-passwd", "root"], check=True, capture_output=True
    )
    command = [str(programs / "devpi-server"), "--serverdir", data, "--host", HOST, "--port", str(port)]
    server = Server("devpi", root, command, (HOST, port), "/root/mirror/+simple/", ready="/+api")
    url = f"http://{HOST}:{port}"

    def call(method: str, path: str, body: dict[str, t.Any], **headers: str) -> dict[str, t.Any]:
        asked = urllib.request.Request(
            url + path,
            json.dumps(body).encode(),
            {"Content-Type": "application/json", "Accept": "application/json", **headers},
            method=method,
        )
        with urllib.request.urlopen(asked, timeout=30) as answer:
            found: dict[str, t.Any] = json.load(answer)
        return found

    with server:
        token = call("POST", "/+login", {"user": "root", "password": "root"})["result"]["password"]
        basic = base64.b64encode(f"root:{token}".encode()).decode()
        index = {"type": "mirror", "mirror_url": f"{registry.urls['index']}/simple/", "volatile": False}
        call("PUT", "/root/mirror", index, **{"X-Devpi-Auth": basic})
    return server


ALL = (single_tier, squid, proxpi, devpi)


def same(case: hits.Case, ours: bench.Reply, theirs: bench.Reply) -> bool:
    """Whether it is the same file, or a page of as many files."""
    if not case.accept:
        return bool(ours.body == theirs.body)
    return {*re.findall(PAGE_FILE, ours.plain)} == {*re.findall(PAGE_FILE, theirs.plain)}


def measure(case: hits.Case, static: Server, servers: list[Server], registry: Registry, repetitions: int) -> dict[str, t.Any]:
    """What each server makes of one body, the static one first; the static one has the bytes of the second."""
    warmed = {server.name: hits.warm(case, server, registry) for server in servers}
    warmed = {name: each for name, each in warmed.items() if case.accept in ("", each[1].type)}
    first = warmed[servers[0].name][1]
    paths = {static.name: hits.publish(case, static, first), **{name: path for name, (path, _reply, _sent) in warmed.items()}}
    turns: dict[str, list[hits.Turn]] = {name: [] for name in paths}
    for name, (path, reply, _sent) in warmed.items():
        if not same(case, first, reply):
            raise RuntimeError(f"{path}: {name} has another body")
    for _repetition in range(repetitions):
        for server in (static, *servers):
            if server.name in paths:
                seconds = SLOW_TURN if server is not static and warmed[server.name][1].seconds > SLOW else TURN
                turns[server.name].append(hits.turn(case, server, paths[server.name], registry, CONNECTIONS, seconds))
    found: dict[str, t.Any] = {server.name: None for server in (static, *servers)}
    limit = statistics.median(turn.rate for turn in turns[static.name])
    for name, theirs in turns.items():
        _path, reply, sent = warmed.get(name, ("", first, 0))
        medians = {field: statistics.median(getattr(turn, field) for turn in theirs) for field in ("rate", "cpu", "p50", "p99")}
        found[name] = {
            "bytes": len(reply.body),
            "rps": round(medians["rate"], 1),
            "ratio": round(medians["rate"] / limit, 4),
            "p50_milliseconds": round(medians["p50"] * 1e3, 3),
            "p99_milliseconds": round(medians["p99"] * 1e3, 3),
            "cpu_seconds_per_1000": round(medians["cpu"] * 1e3, 4),
            "upstream_bytes": sent + sum(turn.upstream for turn in theirs),
        }
    return found


def herd(server: Server, registry: Registry) -> dict[str, float]:
    """A herd before a file that the server has not seen."""
    project, filename, _size = HERD
    (file,) = registry.files(project)
    path = hits.path_of(server, project, filename)
    registry.call("forget")
    registry.call("limit", total=RATE)
    try:
        downloads = cold.herd(server.address, path, cold.CLIENTS, give_up=GIVE_UP)
        time.sleep(0.5)
        sent = registry.sent(filename)
    finally:
        registry.call("limit", total=None)
    return {
        "upstream_bytes_ratio": round(sent / file["size"], 2),
        "median_first_byte_seconds": round(statistics.median(download.first_byte for download in downloads), 2),
        "last_client_seconds": round(max(download.seconds for download in downloads), 2),
        "failed": sum(not cold.good(download, file) for download in downloads),
    }
