# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Plays a module with given parameters, and holds what it returns to its RETURN."""

from __future__ import annotations

import json

import pytest
import yaml
from ansible.module_utils.testing import patch_module_args


class Play:
    def __init__(self, world, monkeypatch, capsys) -> None:
        self.world, self.monkeypatch, self.capsys = world, monkeypatch, capsys
        self.clients: list[dict] = []

    def __call__(self, module, **parameters):
        def client(**given):
            self.clients.append(given)
            return self.world

        self.monkeypatch.setattr(module, "Client", client)
        with patch_module_args({**parameters}), pytest.raises(SystemExit):
            module.main()
        return json.loads(self.capsys.readouterr().out)


@pytest.fixture
def play(world, monkeypatch, capsys):
    return Play(world, monkeypatch, capsys)


@pytest.fixture
def documented():
    """Whether a result has the keys, and the keys below them, that RETURN documents, and no other."""

    def check(module, result):
        described = yaml.safe_load(module.RETURN)
        own = {key for key in result if key not in ("changed", "failed", "msg", "invocation", "exception")}
        assert own == set(described)
        for key, entry in described.items():
            inner = result[key] if isinstance(result[key], list) else result[key].values() if entry["type"] == "dict" else ()
            for item in inner:
                assert set(item) == set(entry["contains"]) if "contains" in entry else isinstance(item, str)

    return check
