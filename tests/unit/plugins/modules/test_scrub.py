# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest
import yaml
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.pace import OutOfTime
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.stores import NginxStore
from ansible_collections.nearby.mirrors.plugins.module_utils.sites import resolve_sites
from ansible_collections.nearby.mirrors.plugins.modules import scrub

ENTRY = {"type": "pypi", "upstream": "https://index.test", "origins": ["https://files.test"]}
SITES = resolve_sites([ENTRY], lambda _type: None, {}, [], 80)


@pytest.fixture
def given(tmp_path):
    """Parameters of a mirror that stores nothing yet."""
    (tmp_path / "cache" / "artifact").mkdir(parents=True)
    (tmp_path / "mirror.json").write_text(json.dumps({"version": 1, "engine": "nginx", "sites": SITES}))
    return {
        name: str(tmp_path / path) for name, path in (("document", "mirror.json"), ("cache_path", "cache"), ("state_file", "state.json"))
    }


def test_nothing_is_stored(play, documented, given):
    result = play(scrub, **given)
    documented(scrub, result)
    assert result["complete"] and not result["changed"] and result["summary"].startswith("pypi: 0 looked at, 0 good, 0 bad")


def test_the_document_of_a_url(play, given, world):
    world.document = {"version": 1, "engine": "nginx", "sites": SITES}
    assert play(scrub, **{**given, "document": "http://mirror.test:8080/mirror.json"})["complete"]


@pytest.mark.parametrize(("changes", "said"), [
    ({"document": "/nowhere/mirror.json"}, "the mirror document /nowhere/mirror.json cannot be read (No such file or directory)"),
    ({"cache_path": "/nowhere"}, "there is no folder /nowhere/artifact; set cache_path"),
    ({"state_file": "/nowhere/state"}, "the state file /nowhere/state cannot be written"),
    ({"lock_files": ["/nowhere"]}, "the lock file /nowhere (lock_files) cannot be read"),
    ({"sites": [{"name": "pypi"}], "engine": "nginx"}, "sites[0] is no site of a mirror document"),
])  # fmt: skip
def test_bad_input_is_one_sentence(play, documented, given, changes, said):
    result = play(scrub, **{**given, **changes})
    documented(scrub, result)
    assert result["failed"] and said in result["msg"] and result["msg"].startswith("Nothing was scrubbed: ")


@pytest.mark.parametrize(("text", "said"), [
    ("{}", "is no mirror document"),
    ("nothing", "is no mirror document"),
    ('{"version": 2}', "has version 2, where 1 is known"),
    ('{"version": 1, "engine": "other", "sites": []}', "the engine 'other' is not known; set engine to one of nginx, apache"),
])  # fmt: skip
def test_a_document_that_is_none(play, given, tmp_path, text, said):
    (tmp_path / "mirror.json").write_text(text)
    assert said in play(scrub, **given)["msg"]


def test_sites_want_an_engine(play, given):
    assert "engine" in play(scrub, **given, sites=SITES)["msg"]
    assert play(scrub, **given, sites=SITES, engine="nginx")["complete"]


@pytest.fixture
def bad(monkeypatch):
    """Two finds, instead of a run; whether they are to be purged is as asked."""

    def run(self):
        entry = {"site": "pypi", "reason": "", "expected": "", "found": "", "purged": self.purge}
        self.state.bad = [{**entry, "path": "/pypi/files/a"}, {**entry, "path": "/pypi/files/b"}]

    monkeypatch.setattr(scrub.Scrub, "run", run)


@pytest.mark.parametrize(("limit", "fails"), [(0, False), (1, True), (2, True), (3, False)])
def test_how_many_bad_ones_fail(play, documented, given, bad, limit, fails):
    result = play(scrub, **given, fail_on_bad=limit)
    documented(scrub, result)
    assert result.get("failed", False) is fails and len(result["bad"]) == 2
    assert fails == ("2 artifacts or pages were bad, such as /pypi/files/a" in result.get("msg", ""))


@pytest.mark.parametrize("changes", [{"report_only": True}, {"_ansible_check_mode": True}])
def test_telling_changes_nothing(play, given, bad, tmp_path, changes):
    result = play(scrub, **given, **changes)
    assert result["changed"] is False and not any(entry["purged"] for entry in result["bad"]) and not (tmp_path / "state.json").exists()
    assert play(scrub, **given)["changed"] is True


def test_a_store_that_cannot_be_listed_in_time_fails(play, documented, given, monkeypatch):
    def late(_clock):
        raise OutOfTime

    monkeypatch.setattr(scrub.Clock, "check", late)
    key = b"\nKEY: 1|/pypi/files/a|bytes=0-9\n"
    file = Path(given["cache_path"]) / "artifact" / hashlib.md5(key[6:-1]).hexdigest()
    size = NginxStore.HEADER.size + len(key)
    file.write_bytes(NginxStore.HEADER.pack(5, 0, 0, 0, 0, 0, 0, 0, size, size, 0, b"", 0, b"", b"") + key)
    result = play(scrub, **given)
    documented(scrub, result)
    assert result["failed"] and "Nothing was looked at" in result["msg"] and "raise time_limit" in result["msg"]


def test_its_defaults_are_where_the_role_puts_things():
    root = Path(__file__).resolve().parents[4]
    defaults = yaml.safe_load((root / "roles/mirror/defaults/main.yml").read_text())
    constants = yaml.safe_load((root / "roles/mirror/vars/main.yml").read_text())
    options = yaml.safe_load(scrub.DOCUMENTATION)["options"]
    assert options["document"]["default"] == f"{defaults['mirror_config_path']}/current/www/mirror.json"
    assert options["cache_path"]["default"] == defaults["mirror_cache_path"]
    assert options["state_file"]["default"] == f"{constants['__mirror_state_path']}/scrub.json"


def test_documentation_has_every_parameter(play, given):
    documented = yaml.safe_load(scrub.DOCUMENTATION)["options"]
    arguments = play(scrub, **given)["invocation"]["module_args"]
    assert set(arguments) == set(documented) | {"ca_path", "timeout"}
    for name, option in documented.items():
        shown = 50 * 1024 * 1024 if name == "read_rate" else option.get("default")
        assert arguments[name] == given.get(name, shown)
