# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What nodes tell Maven and Gradle: where a package has brought its files, in a home always, and nothing once it is put back."""

from __future__ import annotations

import pytest
from node_lab import Story, Told, document

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
    "settled-home": (
        "user",
        {"home/ci/.m2/settings.xml": (0o600, SETTINGS)},
        ["home/ci/.gradle/init.d/nearby-mirrors.init.gradle", "home/ci/.m2/settings.xml"],
    ),
}


TOLD = {
    f"maven-{name}": Told(
        {
            "configure_mirrors_home": "/home/ci",
            "configure_mirrors_scope": scope,
            "configure_mirrors_document": document(sites=[*document()["sites"], SITE]),
        },
        files,
    )
    for name, (scope, files, _wanted) in NODES.items()
}


@pytest.mark.parametrize("name", NODES)
def test_what_maven_and_gradle_are_told(told: Story, name: str) -> None:
    wanted, node = NODES[name][2], f"maven-{name}"
    assert told.runs["configured"].changed(node) and not told.runs["again"].changed(node)
    before, after = told.after["before"][node], told.after["again"][node]
    assert [path for path, entry in after.items() if b"/maven" in entry[3] and "state.json" not in path] == wanted
    for path in wanted:
        text = told.text("again", node, path)
        if path in before:
            assert after[path][:3] == before[path][:3] and text.startswith(SETTINGS.partition("<mirrors>\n")[0])
        assert (f"<url>{URL}</url>" if path.endswith("xml") else f"repository.url = '{URL}/'\n") in text
        assert ("central" if path.endswith("xml") else SITE["upstream"]) in text
    assert told.after["put back"][node] == before
