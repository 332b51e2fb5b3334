# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import re
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import engines
from ansible_collections.nearby.mirrors.plugins.modules import mirror_preflight
from ansible_collections.nearby.mirrors.plugins.modules.mirror_preflight import FLIGHT, problems, served, size

BUNDLE = ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt"


@pytest.fixture
def held():
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(autouse=True)
def root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 0)


def found(own_pid=0, free=10 << 30, **changes):
    params = {
        "addresses": ["127.0.0.1"],
        "port": 65000,
        "cache_path": "/c",
        "run_path": "/c",
        "user": "root",
        "engine": "nginx",
        "sites": [],
        "min_free": "2g",
        "ca_path": BUNDLE,
    }
    return problems(params | changes, own_pid, free)


def test_nothing_in_the_way():
    assert found() == []


@pytest.mark.parametrize(
    ("addresses", "sentences"),
    [
        ([], ["mirror_addresses is empty; set it to the addresses that the mirror is to listen on, such as 0.0.0.0 for all IPv4 ones."]),
        (["[::]"], ["mirror_addresses has '[::]', which is no IPv4 or IPv6 address; write one alone, without brackets and port."]),
        (["::1%lo"], ["mirror_addresses has '::1%lo', which is no IPv4 or IPv6 address; write one alone, without brackets and port."]),
        (
            ["127.0.0.1", "eth0", "192.0.2.1"],
            [
                "mirror_addresses has 'eth0', which is no IPv4 or IPv6 address; write one alone, without brackets and port.",
                "mirror_addresses has 192.0.2.1, which is none of this host's addresses; set one that it has.",
            ],
        ),
    ],
)
def test_addresses_that_nobody_could_listen_on(addresses, sentences):
    assert found(addresses=addresses) == sentences


def test_a_user_that_does_not_exist():
    sentence = "mirror_user 'nobody-of-that-name' does not exist on this host; set it to a user that does, such as www-data."
    assert found(user="nobody-of-that-name") == [sentence]


def test_a_held_port_names_the_holder(held):
    (sentence,) = found(port=held)
    assert f"Port {held} on 127.0.0.1 is held by" in sentence and f"process {os.getpid()}" in sentence
    assert found(port=held, addresses=["0.0.0.0"])
    assert found(port=held, addresses=["127.0.0.2"]) == []


@pytest.mark.parametrize("port", [0, -1, 65536, 70000])
def test_a_port_that_is_none(port):
    assert found(port=port) == [f"Port {port} is none; set mirror_port to a number from 1 to 65535."]


def test_a_held_port_of_a_site_names_the_site(held):
    (sentence,) = found(sites=["pypi", {"type": "npm", "name": "packages", "port": held}])
    assert f"Port {held} on 127.0.0.1 is held by" in sentence and sentence.endswith("set port of site 'packages' to another port.")
    assert "set port of site 'npm' to" in found(sites=[{"type": "npm", "port": held}])[0]
    assert found(sites=[{"type": "npm", "port": held}], own_pid=os.getpid()) == []
    assert len(found(port=held, sites=[{"type": "npm", "port": held}])) == 2
    assert found(sites=[{"type": "npm"}, {"type": "npm", "port": "x"}, {"type": "npm", "port": 65536}]) == []


def test_a_site_that_needs_what_the_engine_lacks(monkeypatch):
    monkeypatch.setitem(engines.ENGINES, "slow", (engines.Limit("speed", "It is slow.", options=("fast",)),))
    sites = ["pypi", {"type": "pypi", "fast": False}, {"name": "tools", "fast": True}]
    assert found(engine="slow", sites=sites) == ["Site 'tools': fast is not to be had with mirror_engine 'slow'. It is slow."]
    assert "set one of apache, nginx" in found(engine="varnish")[0]


def test_without_root(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 65534)
    assert "set become to true or log in as root" in found()[0]


def test_the_mirror_itself_may_hold_its_port(held):
    assert found(port=held, own_pid=os.getpid()) == []


def test_the_mirror_itself_may_hold_its_port_at_another_address(held):
    assert found(port=held, own_pid=os.getpid(), addresses=["0.0.0.0"]) == []
    script = f"import socket; held = socket.create_server(('127.0.0.2', {held})); print(flush=True); input()"
    other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        other.stdout.readline()
        (sentence,) = found(port=held, own_pid=os.getpid(), addresses=["0.0.0.0"])
        assert f"Port {held} on 0.0.0.0 is held by" in sentence and f"process {other.pid}" in sentence
    finally:
        other.communicate(b"\n")


def test_the_mirror_itself_may_hold_its_port_for_both_kinds_of_addresses():
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        assert found(port=port, own_pid=os.getpid(), addresses=["0.0.0.0", "::"]) == []
        assert found(port=port, addresses=["0.0.0.0"])


def test_another_program_may_hold_the_port_for_the_other_kind_of_addresses():
    """Nginx listens on :: for IPv6 alone, so that 0.0.0.0 is another socket."""
    with socket.create_server(("::", 0), family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        script = f"import socket; held = socket.create_server(('0.0.0.0', {port})); print(flush=True); input()"
        other = subprocess.Popen([sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        try:
            other.stdout.readline()
            assert found(port=port, own_pid=os.getpid(), addresses=["::"]) == []
            (sentence,) = found(port=port, own_pid=os.getpid(), addresses=["0.0.0.0", "::"])
            assert f"Port {port} on 0.0.0.0 is held by" in sentence and f"process {other.pid}" in sentence
        finally:
            other.communicate(b"\n")
        assert found(port=port, own_pid=os.getpid(), addresses=["0.0.0.0", "::"]) == []


@pytest.mark.parametrize(("engine", "used", "refused"), [("nginx", 0, True), ("nginx", 1 << 20, False), ("apache", 0, False)])
def test_room_for_pages_on_their_way(monkeypatch, tmp_path, engine, used, refused):
    (tmp_path / "flight").mkdir()
    (tmp_path / "flight/page").write_bytes(bytes(used))
    monkeypatch.setattr(mirror_preflight, "free_bytes", lambda path: (79 << 20) + (1 << 19))
    said = found(engine=engine, run_path=str(tmp_path))
    assert bool(said) is refused
    assert not said or f"mirror_run_path {tmp_path} has 79 MiB free, less than the 80 MiB" in said[0]


def test_that_room_is_what_the_template_takes():
    text = (Path(__file__).parents[4] / "roles/mirror/templates/nginx/mirror.conf.j2").read_text()
    sizes = re.search(r"/flight .* max_size=(\w+) min_free=(\w+)", text)
    assert sizes and sum(size(text) for text in sizes.groups()) == FLIGHT


def test_disk_certificates_and_size(tmp_path):
    assert "1024 MiB free, less than mirror_min_free (2048 MiB)" in found(free=1 << 30)[0]
    assert "is no size" in found(min_free="lots")[0]
    assert "does not exist" in found(ca_path=str(tmp_path / "none.pem"))[0]
    (tmp_path / "bad.pem").write_text("nothing")
    assert "cannot be read" in found(ca_path=str(tmp_path / "bad.pem"))[0]
    assert len(found(free=0, ca_path="/none", port=65000)) == 2, "all that is in the way is told at once"


def test_certificates_are_looked_at_where_the_mirror_has_one(monkeypatch):
    monkeypatch.setattr(mirror_preflight.certificate, "examine", lambda *given: ([f"refused {given}"], ["soon"]))
    given = {"certificate": "/c.pem", "key": "/c.key", "names": ["mirror.test"]}
    assert served(given, 7) == (["refused ('/c.pem', '/c.key', ['mirror.test'], 7)"], ["soon"])
    assert served(given | {"certificate": ""}, 7) == ([], [])
    monkeypatch.setattr(mirror_preflight.shutil, "which", lambda _name: None)
    assert "install the package openssl" in served(given, 7)[0][1]


@pytest.mark.parametrize(("text", "expected"), [("2g", 2 << 30), ("10M", 10 << 20), ("5", 5), ("", None), ("2t", None)])
def test_size(text, expected):
    assert size(text) == expected
