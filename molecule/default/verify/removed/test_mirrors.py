# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mirrors were taken off: the hosts are as fresh as they were."""

from __future__ import annotations

from testinfra.host import Host

testinfra_hosts = ["ansible://mirrors"]


def test_nothing_listens(host: Host) -> None:
    sockets = host.check_output("ss --no-header --listening --tcp --numeric").splitlines()
    assert {line.split()[3].rpartition(":")[2] for line in sockets} == {"22"}


def test_nothing_is_left(host: Host) -> None:
    assert host.check_output("find / -xdev -path /proc -prune -o -name '*nearby-mirror*' -print") == ""
    assert not host.package("nginx").is_installed and not host.package("apache2-bin").is_installed


def test_nothing_failed(host: Host) -> None:
    """A unit that was taken away while it ran would stay behind as failed."""
    if host.file("/run/systemd/system").exists:
        assert host.check_output("systemctl is-system-running") == "running"
