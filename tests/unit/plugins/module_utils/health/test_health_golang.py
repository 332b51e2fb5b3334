# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a Go module proxy: a healthy mirror of one passes, and each fault is found by the checks that are there for it."""

from __future__ import annotations

import io
import zipfile

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils import health
from ansible_collections.nearby.mirrors.plugins.module_utils.health import golang
from fake_mirror import SENT_ELSEWHERE, FakeMirror, by_end, moved, verdicts, verdicts_of

MIRROR, UPSTREAM, DATABASE = "http://mirror.test:8080", "https://proxy.test", "sum.test"
SITE = {"name": "golang", "type": "golang", "path": "/golang/", "upstream": UPSTREAM, "index": "/golang/", "probe": "example.org/demo"}
VERSIONS = ["v1.2.0", "v1.10.0", "v1.10.0-rc.1"]
MOD = b"module example.org/demo\n"
FILES = {"example.org/demo@v1.10.0/go.mod": MOD, "example.org/demo@v1.10.0/demo.go": b"package demo\n"}
CALLERS = {"archive", "archive_hit", "archive_head", "archive_range", "checksum", "info"}


def packed(files: dict[str, bytes]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, body in files.items():
            archive.writestr(name, body)
    return out.getvalue()


def record(files: dict[str, bytes] = FILES, mod: bytes = MOD) -> bytes:
    sums = golang.sum_of(files), golang.sum_of({"go.mod": mod})
    lines = "example.org/demo v1.10.0 {}\nexample.org/demo v1.10.0/go.mod {}\n".format(*sums)
    return f"7\n{lines}\ngo.sum database tree\n9\nhash\n\n— {DATABASE} signature\n".encode()


BODIES = {
    "example.org/demo/@v/list": "\n".join(VERSIONS).encode() + b"\n",
    "example.org/demo/@latest": b'{"Version": "v1.10.0"}',
    "example.org/demo/@v/v1.10.0.info": b'{"Version": "v1.10.0", "Time": "2026-01-02T03:04:05Z"}',
    "example.org/demo/@v/v1.10.0.mod": MOD,
    "example.org/demo/@v/v1.10.0.zip": packed(FILES),
    f"sumdb/{DATABASE}/supported": b"",
    f"sumdb/{DATABASE}/lookup/example.org/demo@v1.10.0": record(),
}


class Proxy(FakeMirror):
    """The upstream and a mirror of it; `changes` replace the mirror's bodies, or its statuses."""

    def __init__(self, **changes: object) -> None:
        super().__init__()
        self.changes: dict[str, object] = changes
        self.theirs: dict[str, int] = {}

    def find(self, url, headers):
        ours = url.startswith(MIRROR)
        path = url[len(MIRROR + "/golang/") if ours else len(UPSTREAM + "/") :]
        changed = by_end(self.changes, path) if ours else self.theirs.get(path)
        return changed if changed is not None else BODIES.get(path, 404)


def examine(proxy, monkeypatch, upstream=True, **site):
    monkeypatch.setenv("GOSUMDB", DATABASE)
    return verdicts_of(proxy, MIRROR, SITE | site, proxy if upstream else None)


def test_a_healthy_mirror(monkeypatch):
    found = examine(Proxy(), monkeypatch)
    assert verdicts(found, "good") == {check.__name__ for check in golang.CHECKS}, found
    assert found["versions"] == ("good", "3 versions")
    assert "v1.10.0" in found["checksum"][1], "the newest one is not the last in the alphabet, nor a release candidate"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"@v/list": b"<html>\n"}, {"versions", "lag", *CALLERS}),
        ({"@v/list": b""}, {"versions"}),
        ({"@v/list": 502}, {"versions", "list_hit", "freshness", "lag", *CALLERS}),
        ({"@latest": b"{}"}, {"latest"}),
        ({"@latest": 404}, {"latest"}),
        ({"@latest": 500}, {"latest"}),
        ({".info": b'{"Version": "v1.2.0"}'}, {"info", "absent"}),
        ({"000000.info": b"{}"}, {"absent"}),
        ({"000000.info": 502}, {"absent"}),
        ({".zip": packed(FILES)[:-30]}, {"archive", "checksum"}),
        ({".zip": packed(FILES | {"example.org/demo@v1.10.0/demo.go": b"package evil\n"})}, {"checksum"}),
        ({".mod": b"module other\n"}, {"archive", "checksum"}),
        ({"@v1.10.0": record(mod=b"module other\n")}, {"checksum"}),
        ({"@v1.10.0": 404}, {"checksum"}),
        ({"/supported": 502}, {"checksum"}),
    ],
)
def test_fault(monkeypatch, changes, expected):
    assert verdicts(examine(Proxy(**changes), monkeypatch), "bad") == expected


@pytest.mark.parametrize(
    ("end", "stale", "expected"),
    [
        ("@v/list", False, {"versions", "list_hit", "freshness", *CALLERS}),
        ("@v/list", True, {"freshness"}),
        ("@latest", False, {"latest"}),
        (".zip", False, CALLERS - {"info"}),
        ("000000.info", False, {"absent"}),
        ("/supported", False, {"checksum"}),
    ],
)
def test_where_a_module_moved_to_is_told(monkeypatch, end, stale, expected):
    monkeypatch.setenv("GOSUMDB", DATABASE)
    told = moved(Proxy(), MIRROR, SITE, end, stale)
    assert set(told) == expected and all(detail.endswith(SENT_ELSEWHERE) for detail in told.values()), told


def test_stale_and_never_a_hit(monkeypatch):
    proxy = Proxy()
    proxy.stale = True
    assert verdicts(examine(proxy, monkeypatch), "bad") == {"freshness"}
    proxy = Proxy()
    proxy.cold = True
    assert verdicts(examine(proxy, monkeypatch), "bad") == {"list_hit", "archive_hit"}


def test_what_cannot_be_judged_is_skipped(monkeypatch):
    proxy = Proxy(**{"@latest": 404, "/supported": 404})
    proxy.theirs["example.org/demo/@latest"] = 404
    found = examine(proxy, monkeypatch)
    assert verdicts(found, "skipped") == {"latest", "checksum"}
    assert "so go asks it itself" in found["checksum"][1]
    assert verdicts(examine(Proxy(), monkeypatch, probe=""), "skipped") == {check.__name__ for check in golang.CHECKS}


def test_an_answer_that_is_neither_there_nor_absent_is_compared_with_upstreams(monkeypatch):
    proxy = Proxy(**{"000000.info": 403})
    assert "absent" in verdicts(examine(proxy, monkeypatch, upstream=False), "skipped")
    assert "absent" in verdicts(examine(proxy, monkeypatch), "bad")
    proxy.theirs["example.org/demo/@v/v0.0.0-19700101000000-000000000000.info"] = 403
    assert examine(proxy, monkeypatch)["absent"] == ("good", "answered 403, as upstream does")


@pytest.mark.parametrize(("said", "name"), [("sum.test", "sum.test"), ("sum.test+1a2b+key https://x.test", "sum.test")])
def test_the_database_has_the_name_that_go_gives_it(monkeypatch, said, name):
    monkeypatch.setenv("GOSUMDB", said)
    assert golang.database() == name


def test_without_a_database_sums_are_not_judged(monkeypatch):
    monkeypatch.setenv("GOSUMDB", "off")
    with pytest.raises(health.Skip, match="is not known here"):
        golang.database()
    monkeypatch.delenv("GOSUMDB")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(health.Skip, match="install go"):
        golang.database()


def test_a_sum_is_what_go_makes_of_the_files():
    # of the go.mod of golang.org/x/xerrors at its first version, as its record in the checksum database has it
    assert golang.sum_of({"go.mod": b"module golang.org/x/xerrors\n\ngo 1.11\n"}) == "h1:I/5z698sn9Ka8TeJc9MKroUUfqBBauWjQqLJ2OPfmY0="
    assert golang.sum_of({"b": b"", "a": b""}) == golang.sum_of({"a": b"", "b": b""})
