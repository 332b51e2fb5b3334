# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

from pathlib import Path

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.stores import ApacheStore, Foreign

BODY = bytes(range(250))


def only(stage):
    return next(iter(stage.store.walk()))


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


def test_parts_of_another_slice_size_are_another_artifact(stage):
    stage.put("one.whl", BODY)
    stage.unit = 1000
    stage.put("one.whl", BODY)
    assert sorted({artifact.unit for artifact in stage.store.walk()}) == [100, 1000]


@pytest.mark.parametrize("name", ["one.whl", "a|b.whl"])
@pytest.mark.parametrize("length", [0, 1, 250])
def test_a_whole_is_one_artifact(stage, name, length):
    stage.unit = 0
    file = stage.put_part(name, BODY[:length], answer=f"HTTP/1.1 200 OK\r\nContent-Length: {length}")
    artifact = only(stage)
    stored = stage.store.look(artifact)
    assert (artifact.path, artifact.unit, stored.size, stored.complete, stored.flaw) == (stage.path(name), 0, length, True, "")
    assert [(part.file, part.start, part.length) for part in stored.parts] == ([(str(file), 0, length)])


def test_a_whole_that_is_cut(stage):
    stage.unit = 0
    stage.put_part("one.whl", BODY[:100], answer="HTTP/1.1 200 OK\r\nContent-Length: 250")
    assert stage.store.look(only(stage)).flaw == "100 of 250 bytes are stored"


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
    assert list(stage.store.walk()) == [] and stage.store.unreadable == {reason: 1}


def test_files_that_are_being_written_are_not_looked_at(stage):
    file = stage.put("one.whl", BODY[:50])[0]
    file.rename(file.with_name(file.name + ".0000000012"))
    assert list(stage.store.walk()) == [] and not stage.store.unreadable


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


def test_links_are_not_followed(stage):
    first, second, _third = stage.put("one.whl", BODY)
    elsewhere = stage.folder / "elsewhere"
    second.rename(elsewhere)
    second.symlink_to(elsewhere)
    with pytest.raises(OSError, match="symbolic links"):
        stage.store.look(only(stage))
    first.rename(elsewhere)
    first.symlink_to(elsewhere)
    assert str(first) not in {artifact.file for artifact in stage.store.walk()}


def test_folders_of_another_depth(stage):
    for file in stage.put("one.whl", BODY):
        deep = stage.folder / "artifact" / file.name[-2:] / file.name
        deep.parent.mkdir(exist_ok=True)
        file.rename(deep)
    assert stage.store.look(only(stage)).complete


def test_a_page_has_its_form_and_what_it_told(stage):
    stage.put_page("a%7Cb|c", b"{}", "json|")
    (page,) = stage.store.walk()
    assert (page.path, page.form, page.identity) == ("/pypi/simple/a%7Cb|c/", "json", "4e5f6071")
    assert stage.store.look(page).told == {"content-type": "application/vnd.pypi.simple.v1+json"}


# --------------------------------------------------------------------------------------------------------------- Apache

KEY = "http://mirror/pypi/files/a+b.whl?artifact;0a1b2c3d;;;a%2Bb.whl"


def put(folder: Path, key: str = KEY, body: bytes = BODY, status: int = 200, form: int = 6, told: str = "", name: str = "x") -> Path:
    """Store an answer as mod_cache_disk does; the header's file."""
    file = folder / "a" / "B" / f"{name}.header"
    file.parent.mkdir(parents=True, exist_ok=True)
    file.with_suffix(".data").write_bytes(body)
    inode = file.with_suffix(".data").stat().st_ino
    head = ApacheStore.HEADER.pack(form, status, len(key), 0, 0, 0, 0, 0, inode, 0, 1, 0, 0, 0, 0, 0)
    told = told or f"Content-Length: {len(body)}"
    file.write_bytes(head + key.encode() + f"ETag: x\r\n{told}\r\n\r\nHost: fill\r\nContent-Length: 1\r\n\r\n".encode())
    return file


def test_apache_stores_wholes(tmp_path):
    file = put(tmp_path)
    store = ApacheStore(str(tmp_path))
    (artifact,) = store.walk()
    assert (artifact.path, artifact.identity, artifact.unit) == ("/pypi/files/a%2Bb.whl", "0a1b2c3d", 0)
    stored = store.look(artifact)
    ((part),) = stored.parts
    assert (part.file, part.offset, part.length) == (str(file.with_suffix(".data")), 0, 250) and stored.complete and not stored.flaw
    store.purge(stored)
    assert not file.exists() and not file.with_suffix(".data").exists()


@pytest.mark.parametrize(("key", "path"), [
    ("http://mirror/tools/v1/x?artifact;1;;;v1/x", "/tools/v1/x"),
    ("http://mirror/tools/v1/a;b?artifact;1;;;v1/a;b?c=d?e", "/tools/v1/a;b?c=d?e"),
    ("http://mirror/pypi/simple/six/?index;1;json;gzip;six/", "/pypi/simple/six/"),
    ("http://mirror/pypi/simple/six/?", None),
])  # fmt: skip
def test_apache_keys(tmp_path, key, path):
    put(tmp_path, key)
    assert [item.path for item in ApacheStore(str(tmp_path)).walk()] == [path] * bool(path)


def test_apache_pages(tmp_path):
    put(tmp_path, "http://mirror/pypi/simple/six/?index;1;json;gzip;six/", told="Content-Encoding: gzip")
    store = ApacheStore(str(tmp_path))
    (page,) = store.walk()
    assert (page.path, page.form, page.identity) == ("/pypi/simple/six/", "json gzip", "1")
    assert store.look(page).told["content-encoding"] == "gzip" and not store.look(page).flaw


def test_apache_serves_no_body_of_another_header(tmp_path):
    file = put(tmp_path)
    store = ApacheStore(str(tmp_path))
    (artifact,) = store.walk()
    stored = store.look(artifact)
    data = file.with_suffix(".data")
    data.rename(data.with_suffix(".old"))
    assert not store.look(artifact).complete
    data.write_bytes(BODY)
    assert not store.look(artifact).complete
    store.purge(stored)
    assert data.exists() and file.exists(), "what was stored meanwhile is left alone"


def test_apache_short_bodies_and_other_answers(tmp_path):
    put(tmp_path, told="Content-Length: 251")
    store = ApacheStore(str(tmp_path))
    (artifact,) = store.walk()
    assert store.look(artifact).flaw == "250 of 251 bytes are stored"
    put(tmp_path, status=302)
    with pytest.raises(Foreign, match="302"):
        store.look(artifact)


@pytest.mark.parametrize(("form", "cut", "reason"), [
    (7, None, "of format 7 of Apache's cache, where 6 is known"),
    (6, 50, "too short for a header of Apache's cache"),
    (6, 0, "too short for a header of Apache's cache"),
    (5, None, ""),
])  # fmt: skip
def test_apache_files_of_another_kind(tmp_path, form, cut, reason):
    file = put(tmp_path, form=form)
    file.write_bytes(file.read_bytes()[:cut])
    store = ApacheStore(str(tmp_path))
    assert list(store.walk()) == [] and store.unreadable == ({reason: 1} if reason else {})
