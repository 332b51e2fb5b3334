# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import io
import re
import tracemalloc
import zipfile

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.health.golang import sum_of
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Response
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import REGISTRIES
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub.base import Site

SITE = Site("go", "golang", "/go/", "https://proxy.test/go", "/go/", ())
STORED = ["/go/sumdb/sum.test/lookup/example.org/a@v1.0.0", "/go/sumdb/sum.test/tile/8/0/001", "/go/example.org/a/@v/v1.0.0.zip"]
GO = REGISTRIES["golang"].knowing(SITE, STORED)
ONE, TWO = "1" * 43 + "=", "B" * 43 + "="
FILES = {"go.mod": b"module example.org/a\n", "b.go": b"package a\n", "a/z.txt": b"", "ä.go": b"package a // \xc3\xa4\n"}


class Pipe(io.BytesIO):
    """What Go writes an archive to, and so it has each sum behind its file."""

    def seekable(self) -> bool:
        return False

    def tell(self) -> int:
        raise OSError


def archive(files: dict[str, bytes], compression: int = zipfile.ZIP_DEFLATED, out: io.BytesIO | None = None) -> bytes:
    out = out or io.BytesIO()
    with zipfile.ZipFile(out, "w", compression) as file:
        for name, body in files.items():
            file.writestr(name, body)
    return out.getvalue()


def digest(body: bytes, path: str = "/go/example.org/a/@v/v1.0.0.zip") -> str:
    return GO.digest(path, io.BytesIO(body))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_the_sum_is_of_what_an_archive_holds(compression):
    for files in FILES, dict(reversed(FILES.items())), {}:
        assert f"h1:{digest(archive(files, compression))}" == sum_of(files)


def test_the_sum_of_a_go_mod():
    assert f"h1:{digest(FILES['go.mod'], '/go/example.org/a/@v/v1.0.0.mod')}" == sum_of({"go.mod": FILES["go.mod"]})


def test_names_are_bytes():
    """An archive that does not say that its names are in UTF-8 has the same sum: Go takes them as they are."""
    said = archive({"ä.go": b""})
    unsaid = said.replace(b"\x00\x08", b"\x00\x00")
    assert zipfile.ZipFile(io.BytesIO(unsaid)).namelist() != ["ä.go"] and digest(unsaid) == digest(said)


@pytest.mark.parametrize(
    "body", [b"", b"no archive", archive(FILES)[:-30], archive({"a": b"x"}, zipfile.ZIP_BZIP2), archive({"a": b"x"}, zipfile.ZIP_LZMA)]
)
def test_what_is_no_archive_of_a_module_has_no_sum(body):
    assert digest(body) == ""


@pytest.mark.parametrize("out", [io.BytesIO, Pipe])
@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED])
def test_a_flipped_bit(compression, out):
    """None of contents, names and what else Go looks at has the same sum; others, such as those of dates, change nothing that is
    unpacked. None raises.
    """
    whole = archive(FILES, compression, out())
    right, same = digest(whole), set()
    for position in range(len(whole)):
        for bit in range(8):
            wrong = bytearray(whole)
            wrong[position] ^= 1 << bit
            if digest(bytes(wrong)) == right:
                same.add(position)
    directory = whole.index(b"PK\1\2")
    assert f"h1:{right}" == sum_of(FILES) and directory + 12 in same, "a date of the directory"
    places = [(whole.rindex(name.encode()), len(name.encode())) for name in FILES]
    places += [(len(whole) - 12, 12)]
    for entry in re.finditer(rb"PK\x01\x02", whole):
        places += [(entry.start() + 16, 4), (entry.start() + 24, 10)]  # its checksum, its size, and the lengths of what follows
    if compression == zipfile.ZIP_STORED:
        places += [(whole.index(content), len(content)) for content in FILES.values() if content]
    if out is Pipe:
        places += [(found.end(), 4) for found in re.finditer(rb"PK\x07\x08", whole)]
        assert len(list(re.finditer(rb"PK\x07\x08", whole))) == len(FILES)
    assert not any(same & set(range(begin, begin + length)) for begin, length in places)


def test_a_file_that_is_packed_without_an_end_is_damaged():
    """All its content is there, but Go reads on."""
    whole = bytearray(archive({"go.mod": FILES["go.mod"]}))
    assert digest(bytes(whole))
    whole[30 + len("go.mod")] ^= 1  # that this is the last block
    assert digest(bytes(whole)) == ""


def test_an_archive_is_not_held_in_memory():
    body = io.BytesIO(archive({"large": bytes(64 << 20)}, zipfile.ZIP_STORED))
    tracemalloc.start()
    GO.digest("/go/example.org/a/@v/v1.0.0.zip", body)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 8 << 20


@pytest.mark.parametrize(("path", "project", "release"), [
    ("example.org/a/@v/v1.0.0.zip", "sum.test/lookup/example.org/a@v1.0.0", ("example.org/a", "v1.0.0")),
    ("example.org/a/@v/v1.0.0.mod", "sum.test/lookup/example.org/a@v1.0.0", ("example.org/a", "v1.0.0/go.mod")),
    ("example.org/!b/v2/@v/v2.0.0-!r!c1.zip", "sum.test/lookup/example.org/!b/v2@v2.0.0-!r!c1", ("example.org/B/v2", "v2.0.0-RC1")),
    ("example.org/a/@v/v1.0.0%2Bincompatible.zip", "sum.test/lookup/example.org/a@v1.0.0+incompatible",
     ("example.org/a", "v1.0.0+incompatible")),
    ("example.org/a/@v/v1.0.0.info", "", None),
    ("sumdb/sum.test/lookup/example.org/a@v1.0.0", "", None),
])  # fmt: skip
def test_paths(path, project, release):
    assert GO.projects(f"/go/{path}") == (project,) and GO.releases(f"/go/{path}") == ((release,) if release else ())
    question = GO.question(SITE, project)
    assert question[0].replace("%2B", "+") == f"https://proxy.test/go/sumdb/{project}" if project else question is None


def test_without_a_database_nobody_is_asked():
    assert REGISTRIES["golang"].knowing(SITE, STORED[1:]).projects(STORED[2]) == ("",)


def test_a_record():
    body = (
        f"7\nexample.org/B v1.0.0-RC1 h1:{ONE}\nexample.org/B v1.0.0-RC1/go.mod h1:{TWO}\n\n"
        f"go.sum database tree\n8\nexample.org/B v9.0.0 h1:{TWO}\n"
    )
    url = "https://proxy.test/go/sumdb/sum.test/lookup/example.org/!b@v1.0.0-!r!c1"
    file = "https://proxy.test/go/example.org/!b/@v/v1.0.0-!r!c1"
    assert GO.read(Response(200, body=body.encode(), url=url)) == {f"{file}.zip": {"h1": ONE}, f"{file}.mod": {"h1": TWO}}


def test_a_lock_file():
    text = f"example.org/a v1.0.0 h1:{ONE}\r\nexample.org/a v1.0.0/go.mod h1:{TWO}\nexample.org/b v1.0.0/go.mod h1:{ONE}\nother\n"
    assert GO.locked(text) == {
        ("example.org/a", "v1.0.0"): {("h1", ONE)},
        ("example.org/a", "v1.0.0/go.mod"): {("h1", TWO)},
        ("example.org/b", "v1.0.0/go.mod"): {("h1", ONE)},
    }
