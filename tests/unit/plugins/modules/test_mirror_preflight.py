# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import socket
import ssl

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import engines
from ansible_collections.nearby.mirrors.plugins.modules.mirror_preflight import problems, size

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
        "user": "root",
        "engine": "nginx",
        "sites": [],
        "min_free": "2g",
        "ca_path": BUNDLE,
    }
    return problems(params | changes, own_pid, free)


def test_nothing_in_the_way():
    assert found() == []


def test_a_held_port_names_the_holder(held):
    (sentence,) = found(port=held)
    assert f"Port {held} on 127.0.0.1 is held by" in sentence and f"process {os.getpid()}" in sentence
    assert found(port=held, addresses=["0.0.0.0"])
    assert found(port=held, addresses=["127.0.0.2"]) == []


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


def test_the_mirror_itself_may_hold_its_port_for_both_kinds_of_addresses():
    with socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True) as server:
        port = server.getsockname()[1]
        assert found(port=port, own_pid=os.getpid(), addresses=["0.0.0.0", "::"]) == []
        assert found(port=port, addresses=["0.0.0.0"])


def test_disk_certificates_and_size(tmp_path):
    assert "1024 MiB free, less than mirror_min_free (2048 MiB)" in found(free=1 << 30)[0]
    assert "is no size" in found(min_free="lots")[0]
    assert "does not exist" in found(ca_path=str(tmp_path / "none.pem"))[0]
    (tmp_path / "bad.pem").write_text("nothing")
    assert "cannot be read" in found(ca_path=str(tmp_path / "bad.pem"))[0]
    assert len(found(free=0, ca_path="/none", port=65000)) == 2, "all that is in the way is told at once"


@pytest.mark.parametrize(("text", "expected"), [("2g", 2 << 30), ("10M", 10 << 20), ("5", 5), ("", None), ("2t", None)])
def test_size(text, expected):
    assert size(text) == expected
