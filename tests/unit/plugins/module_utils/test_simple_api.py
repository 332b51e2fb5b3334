# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Index pages in all the shapes that registries give them."""

from __future__ import annotations

import json

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.simple_api import MEDIA_TYPES, File, parse, representation, strongest

INDEX = "https://index.test"
URL = INDEX + "/simple/demo/"
JSON = MEDIA_TYPES["json"][0]

HTML = {
    "least": ('<a href="../../f/a-1.tar.gz">a-1.tar.gz</a>', File("a-1.tar.gz", INDEX + "/f/a-1.tar.gz")),
    "digest": (
        '<a href="https://files.test/a-1.zip#sha256=00&egg=a">x</a>',
        File("a-1.zip", "https://files.test/a-1.zip", {"sha256": "00", "egg": "a"})),
    "base": ('<base href="https://files.test/d/"><a href="a-1.whl">x</a>', File("a-1.whl", "https://files.test/d/a-1.whl")),
    "escapes": ('<a href="/a%2B1.whl?x=1&amp;y=2">x</a>', File("a+1.whl", INDEX + "/a%2B1.whl?x=1&y=2")),
    "metadata": ('<a href="/a.whl" data-core-metadata="sha256=11">x</a>', File("a.whl", INDEX + "/a.whl", core_metadata={"sha256": "11"})),
    "metadata of old": ('<a href="/a.whl" data-dist-info-metadata="true">x</a>', File("a.whl", INDEX + "/a.whl", core_metadata={})),
    "no metadata": ('<a href="/a.whl" data-core-metadata="false">x</a>', File("a.whl", INDEX + "/a.whl")),
    "all else": (
        '<A HREF="/a.whl" data-upload-time="2026-01-01T00:00:00Z" data-provenance="/p">x</A>',
        File("a.whl", INDEX + "/a.whl", upload_time="2026-01-01T00:00:00Z", provenance=INDEX + "/p")),
    "an odd suffix with a digest": ('<a href="/a.rpm#sha256=2">x</a>', File("a.rpm", INDEX + "/a.rpm", {"sha256": "2"})),
}  # fmt: skip


@pytest.mark.parametrize("name", HTML)
def test_html(name):
    text, expected = HTML[name]
    assert parse(text.encode(), "text/html", URL).files == (expected,)


@pytest.mark.parametrize("text", ["", "<a>x</a>", '<a href="">x</a>', '<a href="#top">x</a>', '<a href="https://about.test/">about</a>'])
def test_html_without_files(text):
    page = parse(text.encode(), "text/html", URL)
    assert page.files == () and page.links == ()


def test_links_are_as_written():
    text = '<a href="../a.whl#sha256=1" data-provenance="//p.test/x">x</a>'
    assert parse(text.encode(), "text/html", URL).links == ("../a.whl", "//p.test/x")


ENTRIES = {
    "least": ({}, File("a.whl", INDEX + "/f/a.whl")),
    "all": (
        {"hashes": {"sha256": "0"}, "size": 3, "upload-time": "2026-01-01T00:00:00Z", "core-metadata": {"sha256": "1"}, "provenance": "/p"},
        File("a.whl", INDEX + "/f/a.whl", {"sha256": "0"}, 3, "2026-01-01T00:00:00Z", {"sha256": "1"}, INDEX + "/p")),
    "metadata": ({"core-metadata": True}, File("a.whl", INDEX + "/f/a.whl", core_metadata={})),
    "no metadata": ({"core-metadata": False, "dist-info-metadata": True}, File("a.whl", INDEX + "/f/a.whl")),
    "metadata of old": ({"dist-info-metadata": {"sha256": "1"}}, File("a.whl", INDEX + "/f/a.whl", core_metadata={"sha256": "1"})),
    "nulls": ({"provenance": None, "size": None, "upload-time": None, "hashes": None}, File("a.whl", INDEX + "/f/a.whl")),
}  # fmt: skip


@pytest.mark.parametrize("name", ENTRIES)
def test_json(name):
    given, expected = ENTRIES[name]
    document = {"files": [{"filename": "a.whl", "url": "/f/a.whl", **given}], "meta": {"_last-serial": 7}}
    page = parse(json.dumps(document).encode(), JSON, URL)
    assert page.files == (expected,) and page.serial == 7


@pytest.mark.parametrize("told, serial", [(7, 7), ("7", 7), (None, None), ("many", None), ([7], None)])
def test_a_serial_is_a_number_however_it_is_told(told, serial):
    assert parse(json.dumps({"files": [], "meta": {"_last-serial": told}}).encode(), JSON, URL).serial == serial


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b"{}", b'{"files": [{}]}', b'{"files": null}', b'{"files": [], "meta": 3}'])
def test_json_that_is_none(body):
    with pytest.raises(ValueError, match="is no PEP 691 document"):
        parse(body, JSON, URL)


def test_types():
    assert [representation(media_types[-1]) for media_types in MEDIA_TYPES.values()] == ["json", "v1html", "html"]
    with pytest.raises(ValueError, match="type 'application/json', which is no index page"):
        parse(b"{}", "application/json", URL)


@pytest.mark.parametrize(("lengths", "algorithm"), [
    ({"sha512": 128, "sha256": 64, "md5": 32}, "sha256"),
    ({"sha1": 40, "sha512": 128}, "sha512"),
    ({"md5": 32, "sha1": 40}, "sha1"),
    ({"egg": 99, "shake_128": 99}, ""),
    ({}, ""),
])  # fmt: skip
def test_the_digest_to_compare(lengths, algorithm):
    assert strongest({name: "0" * length for name, length in lengths.items()}) == algorithm
