# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import subprocess
import sys

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.host import free_bytes, listeners, overlaps, running_pid


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
    ("one", "other", "expected"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "192.0.2.1", False),
        ("0.0.0.0", "192.0.2.1", True),
        ("192.0.2.1", "0.0.0.0", True),
        ("::", "::1", True),
        ("0.0.0.0", "::", False),
    ],
)
def test_overlap(one, other, expected):
    assert overlaps(one, other) is expected


@pytest.mark.parametrize(("content", "expected"), [(str(os.getpid()), os.getpid()), ("4194305", 0), ("", 0), ("x", 0), (None, 0)])
def test_running_pid(tmp_path, content, expected):
    path = tmp_path / "pid"
    if content is not None:
        path.write_text(content)
    assert running_pid(str(path)) == expected


def test_free_bytes_of_a_folder_to_be(tmp_path):
    assert free_bytes(str(tmp_path / "not" / "yet")) == pytest.approx(free_bytes(str(tmp_path)), rel=0.1)
