# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's repositories go through the same story: check mode, configured, again, another mirror, put back."""

from __future__ import annotations

from pathlib import Path

from node_lab import Story, Told, document

FOLDER = "etc/yum.repos.d"
BASE = "[base]\nname = Base $releasever\nbaseurl=https://rpm.example.org/pub/$releasever/$basearch/os/\ngpgcheck=1\ngpgkey=file:///k\n"
EXTRA = "# kept\n[extra]\nbaseurl = https://extra.example.org/9/\n[extra-source]\nbaseurl=https://extra.example.org/src/\nenabled=0\n"
LISTED = "[listed]\nmetalink=https://list.example.org/?repo=9\n#baseurl=https://rpm.example.org/pub/9/\n"
NAMED = "[baseos]\n#baseurl=https://x.example.org/\nmirrorlist=https://list.example.org/?repo=9\ngpgcheck=1\n"
FILES = {
    f"{FOLDER}/base.repo": (0o640, BASE),
    f"{FOLDER}/extra.repo": (0o644, EXTRA),
    f"{FOLDER}/listed.repo": (0o644, LISTED),
    f"{FOLDER}/named.repo": (0o644, NAMED),
    f"{FOLDER}/other.repo": (0o644, "[other]\nbaseurl=https://other.example.org/\n"),
}
SITES = [
    {
        "name": "rpm",
        "type": "rpm",
        "path": "/rpm/",
        "index": "/rpm/",
        "upstream": "https://rpm.example.org/pub",
        "repositories": {"baseos": "$releasever/BaseOS/$basearch/os"},
    },
    {"name": "extra", "type": "rpm", "path": "/extra/", "index": "/extra/", "upstream": "https://extra.example.org"},
]
PATH = "$releasever/BaseOS/$basearch/os/"
EXPECTED = {
    "named.repo": NAMED.replace(
        "mirrorlist=",
        f"baseurl=http://mirror.test:8080/rpm/{PATH} https://rpm.example.org/pub/{PATH}\n# nearby-mirrors: mirrorlist=",
    ),
    "base.repo": BASE.replace("=https://rpm", "=http://mirror.test:8080/rpm/$releasever/$basearch/os/ https://rpm"),
    "extra.repo": EXTRA.replace("= https", "= http://mirror.test:8080/extra/9/ https").replace(
        "=https", "=http://mirror.test:8080/extra/src/ https"
    ),
}


USER = {"configure_mirrors_scope": "user", "configure_mirrors_home": "/home/ci"}
TOLD = {
    "rpm": Told(
        {"configure_mirrors_document": document(sites=SITES)},
        FILES,
        {"configure_mirrors_document": document("https://other.test", sites=SITES)},
    ),
    "rpm-user": Told({"configure_mirrors_document": document(sites=SITES), **USER}, FILES),
}


def test_repositories_are_fronted_and_put_back(told: Story) -> None:
    def files(step: str) -> dict[str, str]:
        return {Path(path).name: told.text(step, "rpm", path) for path in told.after[step]["rpm"] if Path(path).parent == Path(FOLDER)}

    before = told.after["before"]["rpm"]
    originals = {Path(name).name: text for name, (_mode, text) in FILES.items()}
    assert told.runs["check"].changed("rpm") and told.after["check"]["rpm"] == before
    assert told.runs["configured"].changed("rpm") and files("configured") == originals | EXPECTED
    assert "[listed] is kept, and dnf asks its metalink" in str(told.runs["configured"].of("rpm"))
    assert told.after["configured"]["rpm"][f"{FOLDER}/base.repo"][0].endswith("640")
    assert not told.runs["again"].changed("rpm")
    moved = files("moved")
    assert moved == originals | {name: text.replace("http://mirror.test:8080", "https://other.test") for name, text in EXPECTED.items()}
    assert not any(word in text for text in moved.values() for word in ("gpgcheck=0", "sslverify", "fastestmirror"))
    assert told.after["put back"]["rpm"] == before


def test_a_user_has_no_repositories_of_its_own(told: Story) -> None:
    assert told.text("configured", "rpm-user", f"{FOLDER}/base.repo") == BASE
    assert "home/ci/.config/nearby-mirrors/environment" in told.after["configured"]["rpm-user"]
