# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes tell Maven and Gradle: where a package has brought its files, in a home always, and nothing once it is put back."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_lab import document, make_control, snapshot, write_files

URL = "http://mirror.test:8080/maven"
SITE = {"name": "maven", "type": "maven", "path": "/maven/", "index": "/maven/", "upstream": "https://repository.example.org/maven2"}
SETTINGS = "<!-- <mirrors> of ours -->\n<settings>\n  <mirrors>\n    <mirror><id>a</id></mirror>\n  </mirrors>\n</settings>\n"
NODES = {
    "bare": ("system", {"etc/hostname": (0o644, "node\n")}, []),
    "packaged": (
        "system",
        {"etc/maven/settings.xml": (0o640, SETTINGS), "usr/share/gradle/init.d/readme.txt": (0o644, "scripts\n")},
        ["etc/maven/settings.xml", "usr/share/gradle/init.d/nearby-mirrors.init.gradle"],
    ),
    "home": ("user", {}, ["home/ci/.gradle/init.d/nearby-mirrors.init.gradle", "home/ci/.m2/settings.xml"]),
    "settled home": (
        "user",
        {"home/ci/.m2/settings.xml": (0o600, SETTINGS)},
        ["home/ci/.gradle/init.d/nearby-mirrors.init.gradle", "home/ci/.m2/settings.xml"],
    ),
}


@pytest.mark.parametrize(("scope", "files", "wanted"), NODES.values(), ids=NODES)
def test_what_maven_and_gradle_are_told(tmp_path: Path, scope: str, files: dict, wanted: list[str]) -> None:
    control, root = make_control(tmp_path), tmp_path / "root"
    root.mkdir()
    write_files(root, files)
    before = snapshot(root)
    given = {
        "configure_mirrors_root": str(root),
        "configure_mirrors_home": "/home/ci",
        "configure_mirrors_scope": scope,
        "configure_mirrors_document": document(sites=[*document()["sites"], SITE]),
    }
    for changed in True, False:
        run = control.play("bake", {}, extra=given)
        assert (run.code, run.changed("localhost")) == (0, changed), run.output
    after = snapshot(root)
    assert [path for path, entry in after.items() if b"/maven" in entry[3] and "state.json" not in path] == wanted
    for path in wanted:
        text = after[path][3].decode()
        if path in before:
            assert after[path][:3] == before[path][:3] and text.startswith(SETTINGS.partition("<mirrors>\n")[0])
        assert (f"<url>{URL}</url>" if path.endswith("xml") else f"repository.url = '{URL}/'\n") in text
        assert ("central" if path.endswith("xml") else SITE["upstream"]) in text
    run = control.play("bake", {}, extra=given | {"configure_mirrors_state": "absent"})
    assert run.code == 0 and snapshot(root) == before, run.output


def test_settings_that_cannot_be_added_to_are_left_and_one_sentence_says_so(tmp_path: Path) -> None:
    control, root = make_control(tmp_path), tmp_path / "root"
    write_files(root, {"etc/maven/settings.xml": (0o644, "<settings>\n")})
    before = snapshot(root)
    given = {"configure_mirrors_root": str(root), "configure_mirrors_document": document(sites=[*document()["sites"], SITE])}
    run = control.play("bake", {}, extra=given)
    assert run.code != 0 and snapshot(root) == before
    assert run.failure("localhost").startswith("/etc/maven/settings.xml is not well-formed XML (")
    assert run.failure("localhost").endswith("; nothing was changed.") and "\n" not in run.failure("localhost")
