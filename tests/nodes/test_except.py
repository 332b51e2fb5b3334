# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Types that are left alone: never configured, and put back where an earlier run has configured them."""

from __future__ import annotations

from pathlib import Path

from node_lab import document, make_control, snapshot, write_files

SITES = [
    *document()["sites"],
    {"name": "npm", "type": "npm", "path": "/npm/", "index": "/npm/", "upstream": "https://registry.example.org"},
    {"name": "debian", "type": "deb", "path": "/debian/", "index": "/debian/", "upstream": "http://archive.example.org/debian"},
]
THERE = {
    "etc/apt/sources.list": (0o600, "deb http://archive.example.org/debian stable main # ours\n"),
    "etc/npmrc": (0o640, "fund=false\n"),
    "etc/pip.conf": (0o644, "[global]\ntimeout = 9\n"),
}


def test_what_is_left_alone_is_as_it_was_and_the_rest_is_configured(tmp_path: Path) -> None:
    control = make_control(tmp_path)
    given = {"configure_mirrors_document": document(sites=SITES)}
    roots = {name: tmp_path / "nodes" / name for name in ("fresh", "configured")}
    hosts = {name: given | {"configure_mirrors_root": str(root)} for name, root in roots.items()}
    for root in roots.values():
        write_files(root, THERE)
    before = snapshot(roots["fresh"])
    assert control.play("nodes", {"configured": hosts["configured"]}).code == 0
    full = snapshot(roots["configured"])
    assert all(full[path] != before[path] for path in THERE)

    some = {"configure_mirrors_except": ["deb", "npm"]}
    run = control.play("nodes", hosts, extra=some)
    assert run.code == 0, run.output
    after = snapshot(roots["fresh"])
    assert [path for path in THERE if after[path] != before[path]] == ["etc/pip.conf"]
    environment = after["etc/nearby-mirrors/environment"][3]
    assert b"PIP_INDEX_URL=" in environment and b"NPM_CONFIG" not in environment
    assert snapshot(roots["configured"]).keys() == after.keys() < full.keys()
    assert all(entry == after[path] for path, entry in snapshot(roots["configured"]).items() if not path.endswith("state.json"))
    again = control.play("nodes", hosts, extra=some)
    assert not any(again.changed(name) for name in hosts)

    run = control.play("nodes", hosts, extra={"configure_mirrors_except": ["deb", "npm", "pypi"]})
    assert run.code == 0, run.output
    for root in roots.values():
        after = snapshot(root)
        assert all(after[path] == before[path] for path in THERE)
        assert b"INDEX" not in after["etc/nearby-mirrors/environment"][3]

    assert control.play("nodes", hosts).code == 0
    assert snapshot(roots["configured"]).keys() == full.keys()
    assert control.play("nodes", hosts, extra=some | {"configure_mirrors_state": "absent"}).code == 0
    assert [snapshot(root) for root in roots.values()] == [before, before]
