# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The configuration was taken off: a node's clients have what they had before, to the byte."""

from __future__ import annotations

from testinfra.host import Host

testinfra_hosts = ["ansible://nodes"]


def test_pip_has_what_prepare_gave_it(host: Host) -> None:
    configuration = host.file("/etc/pip.conf")
    assert configuration.content == b"[global]\ntimeout = 17\n"
    assert configuration.mode == 0o640


def test_uv_has_nothing(host: Host) -> None:
    assert not host.file("/etc/uv").exists


def test_a_login_shell_knows_no_mirror(host: Host) -> None:
    variables = host.check_output("bash -lc env")
    assert "PIP_INDEX_URL" not in variables
    assert "UV_DEFAULT_INDEX" not in variables
