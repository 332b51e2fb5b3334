# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A node's repositories go through the same story: check mode, configured, again, another mirror, put back."""

from __future__ import annotations

from pathlib import Path

from node_lab import document, make_control, snapshot, write_files

FOLDER = "etc/yum.repos.d"
BASE = "[base]\nname = Base $releasever\nbaseurl=https://rpm.example.org/pub/$releasever/$basearch/os/\ngpgcheck=1\ngpgkey=file:///k\n"
EXTRA = "# kept\n[extra]\nbaseurl = https://extra.example.org/9/\n[extra-source]\nbaseurl=https://extra.example.org/src/\nenabled=0\n"
LISTED = "[listed]\nmetalink=https://list.example.org/?repo=9\n#baseurl=https://rpm.example.org/pub/9/\n"
FILES = {
    f"{FOLDER}/base.repo": (0o640, BASE),
    f"{FOLDER}/extra.repo": (0o644, EXTRA),
    f"{FOLDER}/listed.repo": (0o644, LISTED),
    f"{FOLDER}/other.repo": (0o644, "[other]\nbaseurl=https://other.example.org/\n"),
}
SITES = [
    {"name": "rpm", "type": "rpm", "path": "/rpm/", "index": "/rpm/", "upstream": "https://rpm.example.org/pub"},
    {"name": "extra", "type": "rpm", "path": "/extra/", "index": "/extra/", "upstream": "https://extra.example.org"},
]
EXPECTED = {
    "base.repo": BASE.replace("=https://rpm", "=http://mirror.test:8080/rpm/$releasever/$basearch/os/ https://rpm"),
    "extra.repo": EXTRA.replace("= https", "= http://mirror.test:8080/extra/9/ https").replace(
        "=https", "=http://mirror.test:8080/extra/src/ https"
    ),
}


def test_repositories_are_fronted_and_put_back(tmp_path: Path) -> None:
    control = make_control(tmp_path)
    root = tmp_path / "node"
    root.mkdir()
    write_files(root, FILES)
    before = snapshot(root)
    variables = {"configure_mirrors_root": str(root), "configure_mirrors_document": document(sites=SITES)}

    def tell(*arguments: str, **extra: object) -> dict[str, str]:
        run = control.play("nodes", {"node": variables}, *arguments, extra=extra)
        assert run.code == 0, run.output
        told.append(run)
        return {path.name: path.read_text() for path in (root / FOLDER).iterdir()}

    told: list = []
    originals = {Path(name).name: text for name, (_mode, text) in FILES.items()}
    assert tell("--check", "--diff") == originals and snapshot(root) == before
    assert tell() == originals | EXPECTED
    assert "[listed] is kept, and dnf asks its metalink" in " ".join(told[-1].output.split())
    assert oct((root / FOLDER / "base.repo").stat().st_mode & 0o777) == "0o640"
    tell()
    assert told[0].changed("node") and told[1].changed("node") and not told[2].changed("node")
    moved = tell(configure_mirrors_document=document("https://other.test", sites=SITES))
    assert moved == originals | {name: text.replace("http://mirror.test:8080", "https://other.test") for name, text in EXPECTED.items()}
    assert not any(word in text for text in moved.values() for word in ("gpgcheck=0", "sslverify", "fastestmirror"))
    tell(configure_mirrors_state="absent")
    assert snapshot(root) == before


def test_a_user_has_no_repositories_of_its_own(tmp_path: Path) -> None:
    control = make_control(tmp_path)
    root = tmp_path / "node"
    root.mkdir()
    write_files(root, FILES)
    variables = {"configure_mirrors_root": str(root), "configure_mirrors_document": document(sites=SITES)}
    extra = {"configure_mirrors_scope": "user", "configure_mirrors_home": "/home/ci"}
    run = control.play("nodes", {"node": variables}, extra=extra)
    assert run.code == 0, run.output
    assert (root / FOLDER / "base.repo").read_text() == BASE and (root / "home/ci/.config/nearby-mirrors/environment").exists()
