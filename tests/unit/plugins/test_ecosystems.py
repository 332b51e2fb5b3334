# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is there of an ecosystem is also looked at."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible_collections.nearby.mirrors.plugins.module_utils.catalogue import ECOSYSTEMS
from ansible_collections.nearby.mirrors.plugins.module_utils.discovery import DISCOVERIES
from ansible_collections.nearby.mirrors.plugins.module_utils.health import CHECKS_BY_TYPE
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import REGISTRIES
from ansible_collections.nearby.mirrors.plugins.modules import cache_health

UTILS = Path(__file__).resolve().parents[3] / "plugins/module_utils"
FILES = {folder: {path.stem for path in (UTILS / folder).glob("*.py")} for folder in ("catalogue", "discovery", "health", "scrub")}


@pytest.mark.parametrize(
    ("folder", "table"), [("catalogue", ECOSYSTEMS), ("discovery", DISCOVERIES), ("health", CHECKS_BY_TYPE), ("scrub", REGISTRIES)]
)
def test_the_file_of_a_type_has_its_line(folder: str, table: Mapping[str, Any]) -> None:
    types = FILES["catalogue"] - {"__init__", "ecosystem"}
    assert set(table) == types & FILES[folder]


def test_each_type_has_checks_that_are_described() -> None:
    described = re.findall(r"Of a site of type V\((\w+)\)", " ".join(yaml.safe_load(cache_health.DOCUMENTATION)["description"]))
    assert sorted(described) == sorted(ECOSYSTEMS) == sorted(CHECKS_BY_TYPE)
