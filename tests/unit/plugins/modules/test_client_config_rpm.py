# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Repositories that are there get the mirror's URL in front of their own, and lose it again without a trace."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.client_config import Keeper, Tree, merge_rpm, remarks

SAVED, FOLDER = "/var/lib/nearby-mirrors/saved", "etc/yum.repos.d"
OURS = "https://up.test/pub http://m.test/rpm/\nhttps://up.test/pub/extra http://m.test/extra/\nhttp://other.test:81 http://m.test/o/\n"
MOVED = OURS.replace("m.test", "n.test")
# What is put in, at "@".
ROWS = {
    "one": ("[a]\nbaseurl=@https://up.test/pub/9/$basearch/os/\n", "http://m.test/rpm/9/$basearch/os/ "),
    "the upstream itself": ("[a]\nbaseurl = @https://up.test/pub\nx=1\n", "http://m.test/rpm/ "),
    "the deepest upstream": ("[a]\nbaseurl=@https://up.test/pub/extra/9/\n", "http://m.test/extra/9/ "),
    "no such folder": ("[a]\nbaseurl=https://up.test/public/9/\n", ""),
    "another port": ("[a]\nbaseurl=http://other.test/9/\n", ""),
    "without tls": ("[a]\nbaseurl=@http://up.test/pub/9/\n", "http://m.test/rpm/9/ "),
    "several": (
        "[a]\nbaseurl=@https://x.test/ https://up.test/pub/9/, http://other.test:81/9/\n",
        "http://m.test/rpm/9/ http://m.test/o/9/ ",
    ),
    "over lines": ("[a]\nbaseurl=@\n  https://up.test/pub/9/\n  https://x.test/\nname=a\n", "http://m.test/rpm/9/"),
    "windows' line ends": ("[a]\r\nbaseurl=@https://up.test/pub/9/\r\ngpgcheck=1\r\n", "http://m.test/rpm/9/ "),
    "no newline at the end": ("[a]\nbaseurl=@https://up.test/pub/9", "http://m.test/rpm/9 "),
    "there already": ("[a]\nbaseurl=http://m.test/rpm/9/ https://up.test/pub/9/\n", ""),
    "a comment": ("[a]\n#baseurl=https://up.test/pub/9/\nmetalink=https://x.test/\n", ""),
    "credentials": ("[a]\nbaseurl=https://up.test/pub/9/\nusername=me\npassword=secret\n", ""),
    "credentials in the url": ("[a]\nbaseurl=https://me:secret@up.test/pub/9/\n", ""),
    "a certificate": ("[a]\nsslclientcert = /my.pem\nbaseurl=https://up.test/pub/9/\n", ""),
    "a list": ("[a]\nmirrorlist=https://x.test/list\nbaseurl=https://up.test/pub/9/\n", ""),
    "nothing": ("", ""),
}


@pytest.mark.parametrize(("text", "put_in"), ROWS.values(), ids=ROWS)
def test_merge_rpm(text: str, put_in: str) -> None:
    base = text.replace("@", "") if put_in else text
    merged = merge_rpm(base, OURS)
    assert merged == (text.replace("@", put_in) if put_in else text)
    if put_in:
        assert merge_rpm(merged, MOVED, OURS) == merge_rpm(base, MOVED) == merged.replace("m.test", "n.test")
        assert merge_rpm(merged, "", OURS) == base


def test_each_repository_is_its_own() -> None:
    secret, plain = "[b]\nbaseurl=https://up.test/pub/b/\nusername=me\n", "[c]\nbaseurl=https://up.test/pub/c/\ngpgcheck=1\n"
    assert merge_rpm(secret + plain, OURS) == secret + plain.replace("=https", "=http://m.test/rpm/c/ https")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[a]\n#baseurl=https://up.test/pub/9/\nmetalink=https://x.test/\n", "[a] is kept, and dnf asks its metalink"),
        ("[a]\nmirrorlist = https://x.test/\nbaseurl=https://up.test/pub/9/\n", "[a] is kept, and dnf asks its mirrorlist"),
        ("[a]\nenabled=0\nbaseurl=https://up.test/pub/9/\nmetalink=https://x.test/\n", ""),
        ("[a]\nbaseurl=https://x.test/9/\nmetalink=https://x.test/\n", ""),
        ("[a]\nbaseurl=https://up.test/pub/9/\n#metalink=https://x.test/\n", ""),
    ],
)
def test_a_list_that_leads_past_the_mirror_is_told_of(text: str, told: str) -> None:
    found = remarks("/x.repo", "rpm", text, OURS)
    assert len(found) == bool(told) and told in "".join(found)


NAMED = OURS + "[a] http://m.test/rpm/$releasever/ https://up.test/pub/$releasever/\n[a] http://second.test/\n"
ASIDE, BASEURL = "# nearby-mirrors: ", "baseurl=http://m.test/rpm/$releasever/ https://up.test/pub/$releasever/\n"
LISTED = {
    "a metalink": ("[a]\n#baseurl=https://x.test/\n@metalink=https://x.test/?a=b&c=d\ngpgcheck=1\n", 1),
    "a list of mirrors": ("[b]\nbaseurl=https://x.test/\n[a]\nname=a\n@mirrorlist = https://x.test/\n", 1),
    "over lines": ("[a]\n@metalink=https://x.test/\n@  https://y.test/\nenabled=1\n", 1),
    "beside a baseurl": ("[a]\n@baseurl=https://up.test/pub/9/\nname=a\n@metalink=https://x.test/", 1),
    "of another name": ("[b]\nmetalink=https://x.test/\n[a-source]\nmetalink=https://x.test/\n", 0),
    "credentials": ("[a]\nmetalink=https://x.test/\nsslclientcert=/my.pem\n", 0),
    "a comment": ("[a]\nbaseurl=https://x.test/\n#metalink=https://x.test/\n", 0),
}


@pytest.mark.parametrize(("text", "named"), LISTED.values(), ids=LISTED)
def test_a_list_of_a_repository_that_is_named_is_set_aside(text: str, named: int) -> None:
    base, merged = text.replace("@", ""), text.replace("@", BASEURL + ASIDE, 1).replace("@", ASIDE)
    assert merge_rpm(base, NAMED) == merged and remarks("/x.repo", "rpm", merged, NAMED) == []
    assert merge_rpm(merged, NAMED, NAMED) == merged
    assert merge_rpm(merged, NAMED.replace("m.test", "n.test"), NAMED) == merged.replace("m.test", "n.test")
    assert merge_rpm(merged, "", NAMED) == base and merged.count("m.test") == named


A, B = ("[a]\nname=A\nbaseurl=https://up.test/pub/a/\ngpgcheck=1\n", "[b]\nbaseurl=https://x.test/b/\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / FOLDER).mkdir(parents=True)
    for name, text in {"a.repo": A, "b.repo": B, "a.repo.rpmnew": A}.items():
        (tmp_path / FOLDER / name).write_text(text)
    (tmp_path / FOLDER / "a.repo").chmod(0o640)
    return tmp_path


def present(root: Path, ours: str = OURS) -> list[str]:
    keeper = Keeper(Tree(str(root)), SAVED)
    plan = keeper.present([{"path": "/etc/yum.repos.d/*.repo", "content": ours, "merge": "rpm"}])
    keeper.make(plan)
    return [file["path"] for file in plan.files()]


def absent(root: Path) -> None:
    keeper = Keeper(Tree(str(root)), SAVED)
    keeper.make(keeper.absent())


def texts(root: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (root / FOLDER).iterdir()}


def test_only_what_is_mirrored_is_written_and_put_back(root: Path) -> None:
    before = texts(root)
    assert present(root) == ["/etc/yum.repos.d/a.repo"]
    assert texts(root) == before | {"a.repo": A.replace("=https", "=http://m.test/rpm/a/ https")}
    assert (root / FOLDER / "a.repo").stat().st_mode & 0o777 == 0o640
    assert present(root) == []
    assert present(root, MOVED) == ["/etc/yum.repos.d/a.repo"]
    absent(root)
    assert texts(root) == before and not (root / "var").exists()


def test_what_was_edited_since_keeps_its_edits(root: Path) -> None:
    present(root)
    path = root / FOLDER / "a.repo"
    path.write_text(path.read_text() + "[c]\nbaseurl=https://up.test/pub/c/\n")
    present(root, MOVED)
    added = A + "[c]\nbaseurl=https://up.test/pub/c/\n"
    assert path.read_text() == merge_rpm(added, MOVED)
    path.write_text(added)
    absent(root)
    assert path.read_text() == A and (root / FOLDER / "a.repo.edited").read_text() == added


def test_what_was_removed_or_came_since(root: Path) -> None:
    present(root)
    (root / FOLDER / "a.repo").unlink()
    (root / FOLDER / "c.repo").write_text(A)
    assert present(root) == ["/etc/yum.repos.d/c.repo"], "what was removed is not brought back"
    absent(root)
    assert texts(root)["c.repo"] == A


def test_a_node_without_repositories_stays_as_it_is(tmp_path: Path) -> None:
    assert present(tmp_path) == [] and list(tmp_path.iterdir()) == []
