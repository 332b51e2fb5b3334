# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Headers, Response
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import REGISTRIES, BadInput, read_locks
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.base import Route, Site, spelled

PYPI = REGISTRIES["pypi"]
ONE, TWO = "1" * 64, "2" * 64


@pytest.mark.parametrize(("name", "readings"), [
    ("demo-1.0-py3-none-any.whl", [("demo", "1")]),
    ("Demo_Tool-1.0.1-2-cp311-cp311-manylinux_2_17_x86_64.manylinux2014_x86_64.whl", [("demo-tool", "1.0.1")]),
    ("localproj-1.0%2Bcu118-py3-none-any.whl", [("localproj", "1+cu118")]),
    ("demo_tool-1.0.tar.gz", [("demo-tool", "1")]),
    ("demo-tool-1.0rc1.zip", [("demo-tool", "1rc1")]),
    ("demo-2-tool-1.0.tar.gz", [("demo-2-tool", "1"), ("demo", "2.tool.1")]),
    ("demo-1.0-1.tar.gz", [("demo-1-0", "1"), ("demo", "1.post1")]),
    ("zope.interface-5.0.tar.bz2", [("zope-interface", "5")]),
    ("demo-1.0-py2.7.egg", [("demo", "1.0.py2.7")]),
    ("demo-1.0.win32-py2.7.exe", [("demo", "1.0.win32.py2.7")]),
    ("demo-dev.tar.gz", [("demo", "dev")]),
    ("demo.zip", [("demo", "")]),
    ("demo-1.0-py3-none-any.whl?x=1", [("demo", "1")]),
])  # fmt: skip
def test_file_names(name, readings):
    assert list(PYPI.releases(f"/pypi/files/packages/01/23/{name}")) == readings
    assert list(PYPI.projects(f"/pypi/files/packages/01/23/{name}")) == list(dict.fromkeys(project for project, _version in readings))


@pytest.mark.parametrize(("one", "other", "same"), [
    ("1.0-1", "1.0.1", False),
    ("1.0-1", "1.0.post1", True),
    ("1.0_1", "1.post1", True),
    ("1.0.0", "v1", True),
    ("1.0.post1", "1.0.0-r1", True),
    ("1.0.post1", "1.0+post1", False),
    ("1.0alpha.2", "1.0a2", True),
    ("1.0-preview", "1.0rc0", True),
    ("1.0.dev", "1.0_dev0", True),
    ("01.02", "1.2", True),
    ("0!1.0", "1.0", True),
    ("2!1.0", "1.0", False),
    ("1.0+cu118", "1.0_cu118", True),
    ("1.0+cu.118", "1.0+CU-118", True),
    ("1.0+cu118", "1.0", False),
    ("1.0+1", "1.0.post1", False),
    ("2011k-beta", "2011k_beta", True),
])  # fmt: skip
def test_a_release_has_one_key_however_it_is_spelled(one, other, same):
    locked = [set(PYPI.locked(f"demo=={version} --hash=sha256:{ONE}")) for version in (one, other)]
    assert (locked[0] == locked[1]) is same


def test_metadata_belongs_to_its_project_but_is_no_release():
    for end in ".metadata", ".asc":
        assert PYPI.releases("/pypi/files/demo-1.0-py3-none-any.whl" + end) == ()
        assert PYPI.projects("/pypi/files/demo-1.0-py3-none-any.whl" + end) == ("demo",)


@pytest.mark.parametrize("media_type", ["application/vnd.pypi.simple.v1+json", "text/html"])
def test_a_page(media_type):
    json = (
        '{"files": [{"filename": "a+b-1.0.whl", "url": "../../files/a%2Bb-1.0.whl", "hashes": {"sha256": "11"}, "core-metadata": '
        '{"sha256": "22"}}, {"filename": "c-1.0.zip", "url": "https://files.test:443/c-1.0.zip", "hashes": {}, "core-metadata": true}]}'
    )
    html = (
        '<a href="../../files/a%2Bb-1.0.whl#sha256=11" data-core-metadata="sha256=22">a</a>'
        '<a href="https://files.test:443/c-1.0.zip" data-core-metadata="true">c</a>'
    )
    body = (html if media_type == "text/html" else json).encode()
    found = PYPI.read(Response(200, Headers({"Content-Type": media_type}), body, "https://index.test/simple/a/"))
    assert found == {
        "https://index.test/files/a+b-1.0.whl": {"sha256": "11"},
        "https://index.test/files/a+b-1.0.whl.metadata": {"sha256": "22"},
        "https://files.test/c-1.0.zip": {},
    }
    assert spelled("https://index.test:443/files/a+b-1.0.whl") in found


def test_the_question_goes_to_upstream():
    site = Site("internal", "pypi", "/internal/", "https://index.test/repository/py", "/internal/simple/", ())
    assert PYPI.question(site, "demo")[0] == "https://index.test/repository/py/simple/demo/"


def test_where_an_artifact_came_from():
    routes = (Route("/pypi/files/", "https://files.test/", "a"), Route("/pypi/", "https://index.test/", "b"))
    site = Site("pypi", "pypi", "/pypi/", "https://index.test", "/pypi/simple/", routes)
    assert site.url("a", "/pypi/files/x/y.whl") == "https://files.test/x/y.whl"
    assert site.url("b", "/pypi/x/y.whl") == "https://index.test/x/y.whl"
    assert site.url("", "/pypi/files/y.whl") == "https://files.test/y.whl"
    assert site.url("c", "/pypi/files/y.whl") == "" == site.url("a", "/other/y.whl")


LOCK = f"""
--index-url https://index.test/simple
# demo==9 --hash=sha256:{TWO}
Demo.Tool[extra]==1.0 ; python_version >= "3.8" \\
    --hash=sha256:{ONE} \\
    --hash=sha512:{"A" * 128}
    # via something
other==2.0+cu1 --hash sha256:{TWO}
none==1.0
range>=1.0 --hash=sha256:{ONE}
"""


def test_requirements_with_hashes(tmp_path):
    (tmp_path / "one").write_text(LOCK)
    (tmp_path / "two").write_text(f"demo-tool===1 --hash=sha256:{TWO}\r\n")
    locks = read_locks([str(tmp_path / "one"), str(tmp_path / "two")], REGISTRIES)
    assert locks.releases == {
        ("pypi", "demo-tool", "1"): {("sha256", ONE), ("sha512", "a" * 128), ("sha256", TWO)},
        ("pypi", "other", "2+cu1"): {("sha256", TWO)},
    }
    assert locks.files == {}
    assert locks.of_release("pypi", [("nobody", "1"), ("other", "2+cu1")]) == {("sha256", TWO)}
    assert locks.of_release("npm", [("other", "2+cu1")]) == frozenset()


def test_checksum_lists(tmp_path):
    (tmp_path / "sums").write_text(f"{ONE}  tools/v1/tool+x.tar.gz\n{TWO} */tools/v2/a b\r\n{'3' * 40}  tools/short\n")
    locks = read_locks([str(tmp_path / "sums")], REGISTRIES)
    assert locks.of_file("/tools/v1/tool%2Bx.tar.gz") == {("sha256", ONE)} and locks.of_file("/tools/v2/a%20b") == {("sha256", TWO)}
    assert len(locks.files) == 2 and not locks.of_file("/other/v1/tool+x.tar.gz")


@pytest.mark.parametrize("text", ["", "demo==1.0\n", "demo --hash=md5:11\n", "\xff"])
def test_a_file_that_locks_nothing(tmp_path, text):
    (tmp_path / "lock").write_bytes(text.encode("latin-1"))
    with pytest.raises(BadInput, match="lock_files"):
        read_locks([str(tmp_path / "lock")], REGISTRIES)


def test_a_lock_file_that_is_not_there(tmp_path):
    with pytest.raises(BadInput, match="cannot be read: No such file"):
        read_locks([str(tmp_path / "lock")], REGISTRIES)
