# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every role's argument spec says what its defaults say."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.nearby.mirrors.plugins.module_utils.catalogue import ECOSYSTEMS
from ansible_collections.nearby.mirrors.plugins.module_utils.sites import OPTIONS

ROOT = Path(__file__).resolve().parents[3]
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
TYPES = {"str": str, "path": str, "bool": bool, "int": int, "list": list, "dict": dict}


def read(role: str, part: str) -> dict[str, Any]:
    return yaml.safe_load((ROOT / "roles" / role / part).read_text(encoding="utf-8"))


def spec(role: str) -> dict[str, Any]:
    return read(role, "meta/argument_specs.yml")["argument_specs"]["main"]


def plain(value: Any) -> bool:
    """Whether a default is what it seems, and not an expression that Ansible evaluates."""
    return "{{" not in json.dumps(value)


def all_options(options: dict[str, Any], above: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    for name, option in options.items():
        yield above + name, option
        yield from all_options(option.get("options", {}), f"{above}{name}.")


pytestmark = pytest.mark.parametrize("role", ROLES)


def test_the_spec_has_the_variables_of_the_defaults_and_no_other(role: str) -> None:
    assert set(spec(role)["options"]) == set(read(role, "defaults/main.yml"))


def test_public_variables_carry_the_name_of_the_role(role: str) -> None:
    assert [name for name in read(role, "defaults/main.yml") if not name.startswith(f"{role}_")] == []


def test_the_spec_has_the_values_of_the_defaults(role: str) -> None:
    options = spec(role)["options"]
    differing = {
        name: (value, options[name].get("default", "no default"))
        for name, value in read(role, "defaults/main.yml").items()
        if plain(value) and (name not in options or options[name].get("default", "no default") != value)
    }
    assert differing == {}


def test_defaults_have_the_type_and_are_among_the_choices(role: str) -> None:
    for name, option in spec(role)["options"].items():
        if "default" not in option:
            continue
        assert type(option["default"]) is TYPES[option["type"]], name
        values = option["default"] if option["type"] == "list" else [option["default"]]
        assert all(value in option.get("choices", values) for value in values), name


def test_every_option_is_described(role: str) -> None:
    entry = spec(role)
    assert entry["short_description"] and entry["description"] and entry["version_added"]
    for name, option in all_options(entry["options"]):
        assert option.get("description"), name
        assert option["type"] in TYPES, name
        assert (option["type"] == "list") == ("elements" in option), name


def test_the_spec_holds_before_any_fact_is_known(role: str, tmp_path: Path) -> None:
    """Ansible evaluates all defaults when a role starts, which is before the role can gather facts."""
    playbook = tmp_path / "play.yml"
    task = {"ansible.builtin.validate_argument_spec": {"argument_spec": spec(role)["options"]}}
    play = {"hosts": "localhost", "gather_facts": False, "vars": read(role, "defaults/main.yml"), "tasks": [task]}
    playbook.write_text(json.dumps([play]), encoding="utf-8")
    command = [str(Path(sys.executable).parent / "ansible-playbook"), "--inventory", "localhost,", "--connection", "local", str(playbook)]
    run = subprocess.run(command, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stdout + run.stderr


def test_types_that_can_be_left_alone_are_those_of_the_clients(role: str) -> None:
    choices = [option["choices"] for name, option in spec(role)["options"].items() if name.endswith("_except")]
    clients = read(role, "vars/main.yml").get(f"__{role}_clients", [])
    assert choices == ([sorted({client["type"] for client in clients} - {""})] if clients else [])


def test_sites_are_described_as_the_code_reads_them(role: str) -> None:
    for name, option in spec(role)["options"].items():
        if name.endswith("_sites"):
            assert set(option["options"]) == OPTIONS
            assert set(option["options"]["type"]["choices"]) == set(ECOSYSTEMS)
            (sentence,) = [line for line in option["description"] if line.startswith("Clients use the first site of a type")]
            assert set(re.findall(r"V\((\w+)\)", sentence)) == {kind for kind, ecosystem in ECOSYSTEMS.items() if ecosystem.together}
