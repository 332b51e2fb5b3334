# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.stores import Foreign

BODY = bytes(range(250))


def only(stage):
    return next(iter({artifact: artifact for artifact in stage.store.artifacts()}))


def test_slices_make_one_artifact(stage):
    files = stage.put("one.whl", BODY)
    artifact = only(stage)
    stored = stage.store.look(artifact)
    assert (artifact.path, artifact.identity, artifact.unit) == (stage.path("one.whl"), "0a1b2c3d", 100)
    assert stored.size == 250 and stored.complete and not stored.flaw
    assert [part.file for part in stored.parts] == [str(file) for file in files]
    assert [(part.start, part.length) for part in stored.parts] == [(0, 100), (100, 100), (200, 50)]
    assert b"".join(file.read_bytes()[part.offset :] for file, part in zip(files, stored.parts, strict=True)) == BODY


@pytest.mark.parametrize("missing", [0, 1, 2])
def test_a_slice_is_missing(stage, missing):
    files = stage.put("one.whl", BODY)
    files[missing].unlink()
    assert not stage.store.look(only(stage)).complete


def test_a_path_that_is_longer_than_what_is_read_at_first(stage):
    name = "x" * 5000
    stage.put(name, BODY)
    assert only(stage).path == stage.path(name) and stage.store.look(only(stage)).complete


def test_a_path_with_the_sign_between_the_key_s_parts(stage):
    stage.put("a|b.whl", BODY)
    assert only(stage).path == stage.path("a|b.whl")


def test_parts_of_another_slice_size_are_another_artifact(stage, monkeypatch):
    stage.put("one.whl", BODY)
    monkeypatch.setattr("conftest.UNIT", 1000)
    stage.put("one.whl", BODY)
    assert sorted({artifact.unit for artifact in stage.store.artifacts()}) == [100, 1000]


def test_parts_that_tell_of_two_wholes(stage):
    stage.put("one.whl", BODY)
    stage.put_part("one.whl", BODY + b"?", 200)
    assert stage.store.look(only(stage)).flaw == "its parts tell sizes of 250 and 251 bytes"


@pytest.mark.parametrize(("damage", "reason"), [
    (lambda content: content[:100], "too short for a file of Nginx's cache"),
    (lambda content: b"\x06" + content[1:], "of version 6 of Nginx's cache, where 5 is known"),
    (lambda content: content.replace(b"one.whl", b"two.whl"), "without a key that fits its name"),
    (lambda content: content.replace(b"KEY", b"YEK"), "without a key that fits its name"),
    (lambda _content: b"", "too short for a file of Nginx's cache"),
])  # fmt: skip
def test_files_of_another_kind(stage, damage, reason):
    file = stage.put("one.whl", BODY[:50])[0]
    file.write_bytes(damage(file.read_bytes()))
    assert list(stage.store.artifacts()) == [] and stage.store.unreadable == {reason: 1}


def test_files_that_are_being_written_are_not_looked_at(stage):
    file = stage.put("one.whl", BODY[:50])[0]
    file.rename(file.with_name(file.name + ".0000000012"))
    assert list(stage.store.artifacts()) == [] and not stage.store.unreadable


def test_an_answer_that_is_no_file(stage):
    stage.put_part("one.whl", BODY[:50], answer="HTTP/1.1 404 Not Found\r\nContent-Length: 50")
    with pytest.raises(Foreign, match="404"):
        stage.store.look(only(stage))


def test_what_was_purged_is_void_for_who_has_it_open(stage):
    file = stage.put("one.whl", BODY[:50])[0]
    with file.open("rb") as held:
        stage.store.purge(stage.store.look(only(stage)))
        assert not file.exists() and held.read(8) == bytes(8)


def test_a_purge_leaves_alone_what_was_stored_meanwhile(stage):
    file = stage.put("one.whl", BODY[:50])[0]
    stored = stage.store.look(only(stage))
    content = file.read_bytes()
    file.rename(file.with_name("old"))
    file.write_bytes(content)
    stage.store.purge(stored)
    assert file.read_bytes() == content


def test_folders_of_another_depth(stage):
    for file in stage.put("one.whl", BODY):
        deep = stage.folder / "artifact" / file.name[-2:] / file.name
        deep.parent.mkdir(exist_ok=True)
        file.rename(deep)
    assert stage.store.look(only(stage)).complete
