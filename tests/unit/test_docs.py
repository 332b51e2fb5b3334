# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the documentation points at is there."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.nearby.mirrors.plugins.module_utils.sites import resolve_sites

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted([ROOT / "README.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("roles/*/README.md")])
VARIABLES = {name for path in ROOT.glob("roles/*/defaults/main.yml") for name in yaml.safe_load(path.read_text(encoding="utf-8"))}


def anchors(page: Path) -> set[str]:
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    broken = []
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text(encoding="utf-8")):
        path, _, anchor = link.partition("#")
        target = page if not path else page.parent / path
        if re.match(r"[a-z]+:", link):
            continue
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_variables_and_targets_exist(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M))
    playbooks = {
        path.relative_to(ROOT / "playbooks").with_suffix("").as_posix().replace("/", ".") for path in ROOT.glob("playbooks/**/*.yml")
    }
    zuul = {"mirror_info", "mirror_use_ssl"}
    unknown = set(re.findall(r"`((?:mirror|configure_mirrors)_[a-z_]+)(?:=[^`]*|:[^`]*)?`", text)) - VARIABLES - zuul - {"mirror_document"}
    assert {name for name in unknown if not (ROOT / f"plugins/modules/{name}.py").exists()} == set()
    assert set(re.findall(r"\bmake ([a-z][a-z-]+)`", text)) - targets == set()
    assert set(re.findall(r"ansible-playbook nearby\.mirrors\.([a-z.]+)", text)) - playbooks == set()


@pytest.fixture(scope="module")
def inventory() -> dict[str, Any]:
    command = [str(Path(sys.executable).parent / "ansible-inventory"), "--inventory", str(ROOT / "docs/examples/inventory"), "--list"]
    return json.loads(subprocess.run(command, env=os.environ, capture_output=True, text=True, check=True).stdout)


def test_the_example_inventory_has_three_regions_of_mirrors_and_nodes(inventory: dict[str, Any]) -> None:
    variables = inventory["_meta"]["hostvars"]
    assert {variables[host]["mirror_region"] for host in inventory["mirrors"]["hosts"]} == {"region-a", "region-b", "region-c"}
    mirrors = {f"http://{host}" for host in inventory["mirrors"]["hosts"]}
    assert {variables[host]["configure_mirrors_url"] for host in inventory["nodes"]["hosts"]} <= mirrors


def test_the_example_inventory_sets_what_the_roles_read(inventory: dict[str, Any]) -> None:
    for host, variables in inventory["_meta"]["hostvars"].items():
        unknown = {name for name in variables if not name.startswith("ansible_")} - VARIABLES
        assert unknown == set(), host
        if "mirror_sites" in variables:
            assert resolve_sites(variables["mirror_sites"], lambda _type: "https://index.example.org", {}, [], 80)
