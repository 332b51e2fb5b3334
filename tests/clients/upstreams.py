# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""A mirror that is deployed on this machine, in front of real registries, which its name server can take away from it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import socket
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from deploying import CACHE, LOG, RUN, deployed, playbook
from installs import HITS, Mirror

sys.path[:0] = [str(Path(__file__).parents[1] / name) for name in ("behaviour", "registry")]

from bench import ENGINES, Names, until  # noqa: E402

# A fixture `both` takes its mirror's engine so. What costs much is done with the first one alone.
EACH = pytest.mark.parametrize("both", list(ENGINES), indirect=True)
FIRST = pytest.mark.parametrize("both", list(ENGINES)[:1], indirect=True)
OWN_NAMES = """mount --bind "$0" /etc/hosts
echo hosts: files >"$0.nss"
mount --bind "$0.nss" /etc/nsswitch.conf
rm "$0.nss"
exec "$@"
"""
SUMS: list[str] = []  # shown at the end of the run


def patiently(call: Callable[[], Any], times: int = 3) -> Any:
    """What a call gives that a real registry may fail; it is made so many times at most, 2 s apart."""
    for _time in range(times - 1):
        with contextlib.suppress(Exception):
            return call()
        time.sleep(2)
    return call()


def reached(url: str, registry: str) -> None:
    """Skip or fail, as was asked for, where a registry does not answer at one of its URLs."""
    try:
        patiently(lambda: urllib.request.urlopen(url, timeout=20).close())
    except (urllib.error.URLError, OSError) as error:
        if os.environ.get("NEARBY_SKIP_UNREACHABLE") == "1":
            pytest.skip(f"{registry} cannot be reached ({error})")
        pytest.fail(f"{registry} cannot be reached ({error}); set NEARBY_SKIP_UNREACHABLE=1 to skip what needs it")


@contextlib.contextmanager
def mirror_of(*sites: dict[str, Any], urls: list[str], **variables: Any) -> Iterator[tuple[Mirror, Names]]:
    """A mirror of these sites, and its name server, which knows the hosts of ``urls`` and no others; ``variables`` are the role's."""
    if variables.get("mirror_engine") == "apache" and Path("/run/systemd/system").is_dir():
        pytest.skip("systemd starts the server where it sees the machine's own names, and is not cut off by this test's")
    names = Names()
    hosts = {urlsplit(url).hostname or "": urlsplit(url).port or {"http": 80, "https": 443}[urlsplit(url).scheme] for url in urls}
    names.table = {"localhost": "127.0.0.1"} | {
        host: " ".join({str(found[4][0]) for found in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)})
        for host, port in hosts.items()
    }
    try:
        # Apache knows no name server of its own, and has the file that says the same.
        within = ["unshare", "--mount", "sh", "-ec", OWN_NAMES, str(names.hosts)] if variables.get("mirror_engine") == "apache" else []
        with deployed(*within, mirror_sites=list(sites), mirror_resolvers=[names.address], **variables) as url:
            yield Mirror(url, LOG, CACHE, RUN / "mirror.pid"), names
    finally:
        names.stop()


@contextlib.contextmanager
def cut_off(names: Names, unseen: str) -> Iterator[None]:
    """The mirror reaches no upstream; ``unseen`` is a URL on it that nobody asks for otherwise."""
    try:
        names.mode = "missing"
        assert until(lambda: status(unseen) == 502, 15), "the mirror still reaches its upstream"
        yield
    finally:
        names.mode = "answer"


def bodies(mirror: Mirror, what: str, access: list[dict], upstream: list[dict]) -> list[str]:
    """What upstream sent the body of meanwhile; that something is unchanged (304) has none. The run ends with a line of it."""
    sent = [line for line in upstream if {"200", "206"} & set(re.findall(r"\d+", line["status"]))]
    size = sum(int(number) for line in sent for number in re.findall(r"\d+", line["bytes"]))
    unchanged = sum(line["status"].endswith("304") for line in upstream if line not in sent)
    hits, misses = (sum(line["cache"] in words for line in access) for words in (HITS, {"MISS", "EXPIRED"}))
    SUMS.append(
        f"{mirror.engine:<9}{what:<28}{len(access):>5} requests,{hits:>5} hits,{misses:>5} misses; from upstream: "
        f"{len(sent):>4} bodies,{size / 1e6:>6.1f} MB,{unchanged:>4} unchanged,{len(upstream) - len(sent) - unchanged:>4} others"
    )
    return [line["url"] for line in sent]


def validated(url: str) -> bool:
    """Whether upstream can say of what is there that it is unchanged; where it gives no validator, or is asked through what takes them out,
    each revalidation has a body."""
    with patiently(lambda: urllib.request.urlopen(url, timeout=20)) as answer:
        return bool(answer.headers["ETag"] or answer.headers["Last-Modified"])


def written(mirror: Mirror, folder: Path, everyone: bool = False) -> Path:
    """The home of a user whose clients the role configure_mirrors has pointed at the mirror, or the root of a node where all users' are."""
    folder.mkdir()
    user = {"configure_mirrors_scope": "user", "configure_mirrors_home": str(folder)}
    scope = {"configure_mirrors_root": str(folder)} if everyone else user
    here = {"nearby_hosts": "localhost", "ansible_connection": "local", "configure_mirrors_required": True}
    done = playbook("nodes", configure_mirrors_url=mirror.url, **scope, **here)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def environment_of(home: Path) -> dict[str, str]:
    """The variables that the role has written for that user."""
    return told(home / ".config/nearby-mirrors/environment")


def told(file: Path) -> dict[str, str]:
    pairs = (line.split("=", 1) for line in file.read_text().splitlines() if "=" in line and not line.startswith("#"))
    return {name: shlex.split(value)[0] if "'" in value else value for name, value in pairs}


def status(url: str) -> int:
    try:
        return int(urllib.request.urlopen(url, timeout=20).status)
    except urllib.error.HTTPError as error:
        return error.code
