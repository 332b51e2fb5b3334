# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.host import (
    can_listen,
    cannot_hold,
    existing,
    free_bytes,
    has_address,
    listeners,
    overlap,
    running_pid,
    used_bytes,
)


@pytest.mark.parametrize(("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::1")])
def test_a_listener_and_its_holder_are_found(family, address):
    with socket.socket(family) as server:
        try:
            server.bind((address, 0))
        except OSError:
            pytest.skip(f"{address} is not there")
        port = server.getsockname()[1]
        assert list(listeners(port)) == [], "bound only"
        server.listen()
        (found,) = listeners(port)
    assert (found.address, found.port, found.pids) == (address, port, (os.getpid(),))
    assert found.program
    assert list(listeners(port)) == [], "closed again"


def test_the_holder_is_who_was_started_first_whatever_its_number():
    with socket.create_server(("127.0.0.1", 0)) as server:
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, pass_fds=[server.fileno()])
        try:
            (found,) = listeners(server.getsockname()[1])
            assert found.pids == (os.getpid(), child.pid)
        finally:
            child.communicate(b"\n")


@pytest.mark.parametrize(
    ("held", "wanted", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", False),
        ("127.0.0.1", "127.0.0.2", True),
        ("0.0.0.0", "127.0.0.2", False),
        ("127.0.0.2", "0.0.0.0", False),
        ("dual-stack", "127.0.0.1", False),
        ("127.0.0.1", "192.0.2.1", True),
    ],
)
def test_where_a_server_could_listen(held, wanted, expected):
    if held == "dual-stack":
        server = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        server = socket.create_server((held, 0))
    with server:
        assert can_listen(wanted, server.getsockname()[1]) is expected


@pytest.mark.parametrize("dual", [False, True])
@pytest.mark.parametrize(("one", "other"), [("0.0.0.0", "::"), ("192.0.2.1", "::"), ("192.0.2.1", "::1"), ("192.0.2.1", "192.0.2.2")])
def test_sockets_that_overlap_or_not(one, other, dual):
    assert overlap(one, other, dual) is overlap(other, one, dual) is (dual and other == "::")


@pytest.mark.parametrize(("one", "other"), [("0.0.0.0", "192.0.2.1"), ("::", "::1"), ("::1", "::1")])
def test_sockets_that_overlap(one, other):
    assert overlap(one, other, False) and overlap(other, one, False)


@pytest.mark.parametrize(
    ("address", "own"), [("127.0.0.1", True), ("0.0.0.0", True), ("::", True), ("192.0.2.1", False), ("fe80::1", False)]
)
def test_addresses_of_this_host(address, own):
    assert has_address(address) is own


OWN = Path("/proc/self/comm").read_text().strip()


@pytest.mark.parametrize(
    ("content", "program", "found"),
    [(str(os.getpid()), OWN, True), (str(os.getpid()), "nginx", False), ("4194305", OWN, False), ("", OWN, False), (None, OWN, False)],
)
def test_running_pid(tmp_path, content, program, found):
    path = tmp_path / "pid"
    if content is not None:
        path.write_text(content)
    assert running_pid(str(path), program) == (os.getpid() if found else 0)


def test_a_process_that_has_ended_does_not_run(tmp_path):
    child = subprocess.Popen([sys.executable, "-c", ""])
    try:
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        (tmp_path / "pid").write_text(str(child.pid))
        assert Path(f"/proc/{child.pid}/comm").read_text().strip()
        assert running_pid(str(tmp_path / "pid"), Path(f"/proc/{child.pid}/comm").read_text().strip()) == 0
    finally:
        child.wait()


def test_used_bytes(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a/b").write_bytes(bytes(100_000))
    assert 100_000 <= used_bytes(str(tmp_path)) <= 110_000
    assert used_bytes(str(tmp_path / "none")) == 0


def test_what_can_hold_a_cache(tmp_path):
    own = pwd.getpwuid(os.geteuid()).pw_name
    assert cannot_hold(str(tmp_path / "not" / "yet"), own) == "" and not list(tmp_path.iterdir())
    assert cannot_hold("/proc/nearby-mirror", own)


def test_free_bytes_of_a_folder_to_be(tmp_path):
    assert free_bytes(str(tmp_path / "not" / "yet")) == pytest.approx(free_bytes(str(tmp_path)), rel=0.1)


def test_a_folder_to_be_below_the_present_one(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert existing("not/yet") == str(tmp_path)
