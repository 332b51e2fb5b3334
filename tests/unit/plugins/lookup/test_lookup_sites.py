# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import sys

import pytest
from ansible.errors import AnsibleLookupError
from ansible_collections.nearby.mirrors.plugins.lookup.sites import LookupModule, default_upstream

PATTERN = {"name": "tools", "type": "generic", "upstream": "http://host.test", "immutable": ["v(1"]}
OPTIONS = {
    "discovered": {},
    "own_addresses": [],
    "own_port": 80,
    "own_url": "",
    "archives": [],
    "fetcher_port": 5801,
    "fetcher_settings": "",
}


def test_a_site_that_cannot_be_offered_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ansible adds what each cause of an error says to what it says itself."""
    monkeypatch.setattr(LookupModule, "set_options", lambda _lookup, **_options: None)
    monkeypatch.setattr(LookupModule, "get_option", lambda _lookup, name: OPTIONS[name])
    with pytest.raises(AnsibleLookupError) as caught:
        LookupModule().run([[PATTERN]])
    assert "Site 'tools': immutable 'v(1' is no valid expression" in str(caught.value)
    assert str(caught.value).count("Site 'tools'") == 1 and caught.value.__cause__ is None


def test_the_library_is_to_be_installed_for_the_python_that_lacks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "packageurl.validate", None)
    with pytest.raises(AnsibleLookupError, match=f"run {sys.executable} -m pip install packageurl-python there"):
        default_upstream("pypi")
