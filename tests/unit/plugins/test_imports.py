# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on targets imports the standard library, Ansible's module_utils and what this collection has below its own; no more."""

from __future__ import annotations

import ast
import functools
import sys
from pathlib import Path

import pytest

PLUGINS = Path(__file__).resolve().parents[3] / "plugins"
OURS = "ansible_collections.nearby.mirrors.plugins."


@functools.cache
def imported(path: Path) -> list[str]:
    """The names that a file imports anywhere in it, with what they are imported from: `os`, `ansible.module_utils.basic.AnsibleModule`."""
    package, names = (OURS + ".".join(path.relative_to(PLUGINS).parts[:-1])).split("."), []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names += [name.name for name in node.names]
        elif isinstance(node, ast.ImportFrom):
            above = package[: len(package) + 1 - node.level] if node.level else []
            names += [".".join([*above, *filter(None, [node.module]), name.name]) for name in node.names]
    return names


def own(name: str) -> Path | None:
    """The file of ours that an imported name is, or is in."""
    parts = name.removeprefix(OURS).split(".")
    files = (PLUGINS.joinpath(*parts[:count]) for count in range(len(parts), 0, -1))
    return next((found for file in files for found in (file.with_suffix(".py"), file / "__init__.py") if found.exists()), None)


@pytest.mark.parametrize("module", sorted(path.name for path in (PLUGINS / "modules").glob("*.py")))
def test_a_module_needs_nothing_that_its_target_may_not_have(module: str) -> None:
    waiting, seen = [PLUGINS / "modules" / module], set()
    while waiting:
        seen.add(path := waiting.pop())
        for name in imported(path):
            if name.startswith(OURS):
                found = own(name)
                assert found and found.is_relative_to(PLUGINS / "module_utils"), f"{path.name} imports {name}"
                waiting += {found} - seen
            else:
                foreign = name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("ansible.module_utils.")
                assert not foreign, f"{path.name} imports {name}, which a target may not have"
    assert len(seen) > 1
