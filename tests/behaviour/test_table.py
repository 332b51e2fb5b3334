# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table: what a mirror promises, row by row, for every engine.

Run it with ``pytest tests/behaviour``; it ends with the table of promises. No root, no containers, no network.

A row is a test here, or a parameter of one, and carries its promise (``promises.PROMISES``). It knows nothing of the
engine: it asks ``mirror`` as a client would, and looks at status, headers, bytes, times, and at the log of the fixture
registry behind it. To add one:

1. Find the test whose shape fits, and add a line to its list. Else write a test with ``@promise("...")``.
2. Take a project of its own with ``fresh()``: nobody asked for it before, so it is cold. ``fresh("brief")`` is the same
   registry behind a site whose pages are fresh for 1 s (and may be served stale for 1 s more while being refreshed).
   ``project.index`` and ``project.file`` are its paths on the mirror, ``project.page(type)`` and ``project.content`` the
   bytes that should arrive, ``project.asked()`` what upstream was asked.
3. Faults: ``project.registry.fault(path=project.pattern, status=503)`` and so on (``registry.FAULT_FIELDS``); they are healed after
   the row. A row that mostly waits is ``@patient``: such rows run side by side, so one touches only what is of its own projects.
4. See it fail: break in the rendered configuration what the row guards, with ``--break``::

       pytest tests/behaviour -k set_cookie --break 'proxy_hide_header Set-Cookie;=>'

Sites: ``pypi``; ``brief`` and ``steady`` (lifetimes of 1 s and 3 s); ``tools`` (generic, ``v1.0/...`` never changes, the files of ``pypi``
are at a declared origin) and ``nightly`` (the same with a lifetime of 1 s); ``rooted`` (as ``brief``, with a port of its own);
``gone`` and ``hung`` (to take their registry away); ``edges`` (several addresses); ``bare`` (HTML only, no validators, no lifetimes);
``relative`` (relative links); ``moving`` (address changes); ``edge`` (one
address); ``good``, ``turning``, ``selfsigned``, ``expired``, ``wrongname``, ``unknown`` (TLS).
A new engine is a line in ``bench.ENGINES``.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import re
import threading
import time
import typing as t
import urllib.parse

import pytest
from bench import (
    ACCEPT,
    EXPIRED,
    LAPSED,
    PIP,
    Fresh,
    Mirror,
    Reply,
    World,
    age,
    at_once,
    fetch,
    good,
    on_mirror,
    on_the_second,
    raw,
    show,
    until,
)
from promises import patient, promise, table
from registry import HTML, JSON, V1HTML, Registry

BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,*/*;q=0.8"
UV = f"{JSON}, {V1HTML};q=0.2, text/html;q=0.01"
MEDIA = list(ACCEPT)
BOTH = [JSON, HTML]
Make = t.Callable[..., Fresh]


# ------------------------------------------------------------------------------------------------------- representation


@promise("representation")
@table(
    "accept, kind",
    {
        "pip": (PIP, JSON),
        "uv": (UV, JSON),
        "pip before 22.2": ("text/html", HTML),
        "browser": (BROWSER, HTML),
        "none given": (None, HTML),
        "anything": ("*/*", HTML),
        "any text": ("text/*", HTML),
        "json": (JSON, JSON),
        "json latest": (JSON.replace("v1", "latest"), JSON),
        "v1 html": (V1HTML, V1HTML),
        "html latest": (V1HTML.replace("v1", "latest"), V1HTML),
        "upper case": (JSON.upper(), JSON),
        "weight 1.0": (f"{JSON};q=1.0", JSON),
        "json or else anything": (f"{JSON}, */*;q=0.01", JSON),
        "no blanks": (f"{JSON},{V1HTML};q=0.1,text/html;q=0.01", JSON),
        "weights reversed": (f"text/html;q=0.01, {V1HTML};q=0.1, {JSON}", JSON),
        "json refused": (f"{JSON};q=0, text/html", HTML),
        "html refused": (f"text/html;q=0, {JSON}", JSON),
        "html rather than json": (f"text/html, {JSON};q=0.5", HTML),
        "html a little rather than json": (f"text/html;q=0.6, {JSON};q=0.5", HTML),
        "v1 html rather than json": (f"{JSON};q=0.2, {V1HTML};q=0.9", V1HTML),
        "something else or html": ("application/json, text/html;q=0.5", HTML),
        "anything but html": ("*/*, text/html;q=0", (JSON, V1HTML, 406)),
        "html or else nothing": ("text/html, */*;q=0", HTML),
        "any application": ("application/*", (JSON, V1HTML, 406)),
        "only json, refused": (f"{JSON};q=0", 406),
        "plain json": ("application/json", 406),
        "xml": ("application/xml", 406),
        "image": ("image/*", 406),
    },
)
def test_negotiation(mirror: Mirror, fresh: Make, accept: str | None, kind: t.Any) -> None:
    project = fresh()
    for _time in "cold", "warm":
        reply = mirror.get(project.index, {"Accept": accept} if accept is not None else {})
        allowed = kind if isinstance(kind, tuple) else (kind,)
        if reply.status == 200:
            assert reply.type in allowed and reply.body == project.page(reply.type), show(reply)
        else:
            assert reply.status in allowed, show(reply)


@promise("representation")
def test_accept_in_two_lines(mirror: Mirror, fresh: Make) -> None:
    project = fresh()
    answer = raw(
        mirror.address,
        f"GET {project.index} HTTP/1.1\r\nHost: mirror.test\r\nConnection: close\r\n"
        f"Accept: {JSON}\r\nAccept: text/html;q=0.1\r\n\r\n".encode(),
    )
    assert f"Content-Type: {JSON}" in answer, answer[:500]


@promise("representation")
@pytest.mark.parametrize("turn", range(6))
def test_representations_never_mix(mirror: Mirror, fresh: Make, turn: int) -> None:
    """Six bodies of one URL, asked for cold in every rotation, by several, and again."""
    project, wanted = fresh(), list(itertools.product(MEDIA, ["gzip", ""]))
    for kind, encoding in (wanted[turn:] + wanted[:turn]) * 2:
        reply = mirror.get(project.index, {"Accept": ACCEPT[kind], "Accept-Encoding": encoding})
        assert good(reply, project.page(kind), kind), show(reply)
        assert reply["Content-Encoding"] in ("", encoding)


@promise("representation")
def test_representations_never_mix_when_asked_at_once(mirror: Mirror, fresh: Make) -> None:
    project = fresh()
    project.registry.fault(path=project.name, delay=0.3)
    replies = at_once(24, lambda number: mirror.get(project.index, {"Accept": ACCEPT[MEDIA[number % 3]]}))
    for number, reply in enumerate(replies):
        assert good(reply, project.page(MEDIA[number % 3]), MEDIA[number % 3]), show(reply)


@promise("representation")
@pytest.mark.parametrize("kind", MEDIA)
def test_vary_tells_later_caches(mirror: Mirror, fresh: Make, kind: str) -> None:
    project = fresh()
    for _time in "cold", "warm":
        vary = mirror.get(project.index, {"Accept": ACCEPT[kind]})["Vary"].lower()
        assert "accept," in vary + "," and "accept-encoding" in vary


@promise("representation")
@table(
    "asked, encoded",
    {
        "pip": ("gzip, deflate", True),
        "uv": ("gzip, br", True),
        "only gzip": ("gzip", True),
        "upper case": ("GZIP", True),
        "a weight": ("br;q=1.0, gzip;q=0.8, *;q=0.1", True),
        "identity": ("identity", False),
        "none": (None, False),
        "gzip refused": ("gzip;q=0", False),
        "gzip refused with digits": ("gzip;q=0.000, identity", False),
        "only brotli": ("br", False),
        "a name that only begins so": ("gzipped", False),
    },
)
def test_encoding(mirror: Mirror, fresh: Make, asked: str | None, encoded: bool) -> None:
    project = fresh()
    headers = {"Accept": PIP} | ({"Accept-Encoding": asked} if asked is not None else {})
    for _time in "cold", "warm":
        reply = mirror.get(project.index, headers)
        assert good(reply, project.page(JSON), JSON), show(reply)
        assert reply["Content-Encoding"] == ("gzip" if encoded else ""), show(reply)


@promise("representation")
@pytest.mark.parametrize("kind", BOTH)
def test_a_page_of_4000_files(world: World, mirror: Mirror, kind: str) -> None:
    project = Fresh(world.registries["pypi"], "large", "pypi")
    for encoding in "gzip", "", "gzip", "":
        reply = mirror.get(project.index, {"Accept": ACCEPT[kind], "Accept-Encoding": encoding})
        assert good(reply, project.page(kind), kind), show(reply)
        assert reply["Content-Encoding"] == encoding and len(reply.plain) > 1_000_000
    assert len([link for link in reply.links if "/pypi/files/" in link]) == 4000
    assert [reply.cache] == ["hit"], show(reply)


@promise("representation")
def test_an_index_that_only_has_html(mirror: Mirror, fresh: Make) -> None:
    """Behind some egress proxies and private indexes there is no negotiation, no validator, and no lifetime."""
    project = fresh("bare")
    on_the_second()
    for accept in PIP, "text/html", UV, PIP:
        reply = mirror.get(project.index, {"Accept": accept})
        assert good(reply, project.page(HTML), HTML), show(reply)
    assert reply.cache == "hit", show(reply)


# ---------------------------------------------------------------------------------------------------------------- links


@promise("links")
@pytest.mark.parametrize("encoding", ["gzip", ""])
@pytest.mark.parametrize("kind", MEDIA)
@pytest.mark.parametrize("site", ["pypi", "relative", "bare"])
def test_links_of_a_page(mirror: Mirror, fresh: Make, site: str, kind: str, encoding: str) -> None:
    project = fresh(site)
    for _time in "cold", "warm":
        reply = mirror.get(project.index, {"Accept": ACCEPT[kind], "Accept-Encoding": encoding})
        assert reply.links and all(on_mirror(link, project.index, site) for link in reply.links), reply.links
    files = [link for link in reply.links if "provenance" not in link]
    assert len(files) == 2
    for link, artifact in zip(files, project.project.artifacts, strict=True):
        path = on_mirror(link, project.index, site)
        assert path.endswith(artifact.path)
        assert mirror.get(path).sha256 == artifact.sha256


def on_its_port(world: World, path: str, accept: str = PIP, **headers: str) -> Reply:
    """What the site ``rooted`` answers on the port of its own."""
    port = next(site["port"] for site in world.mirror.sites if site["name"] == "rooted")
    return fetch(("127.0.0.1", port), path, {"Accept": accept, "Accept-Encoding": "gzip"} | headers)


@promise("links")
@pytest.mark.parametrize("kind", MEDIA)
def test_links_of_a_page_hold_on_a_port_of_its_own(world: World, mirror: Mirror, fresh: Make, kind: str) -> None:
    """They are paths on the mirror, and the site's port answers these, too."""
    project = fresh("rooted")
    page = on_its_port(world, f"/simple/{project.name}/", ACCEPT[kind])
    assert good(page, project.page(kind), kind), show(page)
    assert until(lambda: mirror.get(project.index, {"Accept": ACCEPT[kind], "Accept-Encoding": "gzip"}).cache == "hit", 3)
    assert len(project.asked("index")) == 1, "what is stored for the port is not what is stored for the path"
    for artifact in project.project.artifacts:
        assert f"/rooted/files{artifact.path}" in [link.partition("#")[0] for link in page.links]
    for link in (link.partition("#")[0] for link in page.links):
        assert on_its_port(world, link, "*/*").status == 200, link
    assert on_its_port(world, project.file).sha256 == on_its_port(world, f"/files{project.project.artifacts[0].path}").sha256
    assert len([request for request in project.asked("files") if request["path"] == project.project.artifacts[0].path]) == 1


@promise("links")
@table(
    "asked, location",
    {
        "page": ("/simple/Row-Redirect/", "/simple/row-redirect/"),
        "legacy": ("/pypi/Row.Redirect/json", "/pypi/row-redirect/json"),
        "at its path": ("/rooted/simple/Row-Redirect/", "/simple/row-redirect/"),
    },
)
def test_redirects_hold_on_a_port_of_its_own(world: World, mirror: Mirror, asked: str, location: str) -> None:
    world.registries["rooted"].publish("row-redirect", "1.0")
    at_its_path = f"/rooted{asked.removeprefix('/rooted')}"
    for _time in "cold", "warm":
        assert mirror.get(at_its_path)["Location"] == f"/rooted{location}"
        reply = on_its_port(world, asked)
        assert (reply.status, reply["Location"]) == (301, location), show(reply)
    assert on_its_port(world, location).status == 200


@promise("closed")
@table("path", {"the mirror's": "/mirror.json", "health": "/health", "page": "/", "another site": "/pypi/simple/large/"})
def test_a_port_of_its_own_has_one_site(world: World, path: str) -> None:
    assert on_its_port(world, path).status == 404
    assert on_its_port(world, path, Host="stranger.test").status == 421


@promise("links")
@table("path", {"all projects": "simple/", "legacy": "pypi/large/json", "a name with +": "simple/localproj/"})
@pytest.mark.parametrize("kind", BOTH)
def test_links_of_other_pages(mirror: Mirror, path: str, kind: str) -> None:
    for _time in "cold", "warm":
        reply = mirror.get(f"/pypi/{path}", {"Accept": f"{kind}, application/json;q=0.9", "Accept-Encoding": "gzip"})
        assert reply.status == 200
        if not (path == "simple/" and kind == JSON):
            assert reply.links
        assert [link for link in reply.links if not on_mirror(link, f"/pypi/{path}", "pypi")] == []


@promise("links")
def test_paths_map_one_to_one(mirror: Mirror, fresh: Make) -> None:
    """The path below files/ is upstream's, to the letter: a lock file carries over between regions."""
    project = fresh()
    for artifact in project.project.artifacts:
        assert mirror.get(f"/pypi/files{artifact.path}").sha256 == artifact.sha256
        assert artifact.path in [request["path"] for request in project.asked("files")]


@promise("links")
@table("location", {"absolute": "http://{host}/elsewhere", "another scheme": "ftp://{host}/x", "no scheme": "//{host}/x"})
def test_redirects_elsewhere_are_not_passed_on(world: World, mirror: Mirror, fresh: Make, location: str) -> None:
    host = urllib.parse.urlsplit(world.stranger.index_url).netloc
    for path in (project := fresh()).index, project.file:
        fault = project.registry.fault(path=project.pattern, redirect=location.format(host=host))
        reply = mirror.get(path)
        assert reply.status >= 400 or on_mirror(reply["Location"], path, "pypi"), show(reply)
        project.registry.heal(fault)
        assert mirror.get(path).status == 200
    assert world.stranger.requests() == []


# ------------------------------------------------------------------------------------------------------------- protocol


@promise("protocol")
def test_metadata_beside_a_file(mirror: Mirror, fresh: Make) -> None:
    """PEP 658 and 714."""
    project = fresh()
    page = json.loads(mirror.get(project.index, {"Accept": JSON}).body)
    wheel = next(entry for entry in page["files"] if entry["filename"].endswith(".whl"))
    for _time in "cold", "warm":
        reply = mirror.get(wheel["url"] + ".metadata")
        assert reply.status == 200 and reply.sha256 == wheel["core-metadata"]["sha256"]
    html = mirror.get(project.index, {"Accept": HTML}).body.decode()
    assert f'data-core-metadata="sha256={reply.sha256}"' in html


@promise("protocol")
def test_fields_of_the_json_page(mirror: Mirror, fresh: Make) -> None:
    """PEP 700 and 792: nothing is lost on the way."""
    project = fresh()
    project.registry.set_status(project.name, "archived")
    page = json.loads(mirror.get(project.index, {"Accept": JSON}).body)
    assert page["project-status"] == {"status": "archived"} and page["versions"] == ["1.0"]
    assert all(entry["upload-time"].endswith("Z") and entry["size"] > 0 for entry in page["files"])
    assert 'name="pypi:project-status" content="archived"' in mirror.get(project.index).body.decode()


@promise("protocol")
def test_provenance(mirror: Mirror, fresh: Make) -> None:
    """PEP 740: the link in each representation leads, through the mirror, to the attestation of that file."""
    project = fresh()
    entry = json.loads(mirror.get(project.index, {"Accept": JSON}).body)["files"][0]
    assert f'data-provenance="{entry["provenance"]}"' in mirror.get(project.index).body.decode()
    for cache in "miss", "hit":
        reply = mirror.get(entry["provenance"], {"Accept": "application/vnd.pypi.integrity.v1+json"})
        assert reply.type == "application/vnd.pypi.integrity.v1+json" and reply.cache == cache, show(reply)
        assert json.loads(reply.body)["attestation_bundles"][0]["attestations"][0]["envelope"]["statement"] == entry["hashes"]["sha256"]


@promise("protocol")
def test_legacy_json(mirror: Mirror, fresh: Make) -> None:
    project = fresh()
    for cache in "miss", "hit":
        reply = mirror.get(f"/pypi/pypi/{project.name}/json")
        assert good(reply, project.page("legacy"), "application/json") and reply.cache == cache, show(reply)


@promise("protocol")
@pytest.mark.parametrize("kind", MEDIA)
def test_the_serial_is_passed_on(mirror: Mirror, fresh: Make, kind: str) -> None:
    project = fresh()
    project.registry.set_serial(project.name, 31_415_926)
    for cache in "miss", "hit":
        reply = mirror.get(project.index, {"Accept": ACCEPT[kind]})
        assert reply["X-PyPI-Last-Serial"] == "31415926" and reply.cache == cache, show(reply)


@promise("protocol")
@table(
    "asked, location",
    {
        "upper case": ("/pypi/simple/Row-Redirect/", "/pypi/simple/row-redirect/"),
        "dots": ("/pypi/simple/row.redirect/", "/pypi/simple/row-redirect/"),
        "underscores": ("/pypi/simple/row__redirect/", "/pypi/simple/row-redirect/"),
        "no slash": ("/pypi/simple/row-redirect", "/pypi/simple/row-redirect/"),
        "neither": ("/pypi/simple/Row_Redirect", "/pypi/simple/row-redirect/"),
        "all projects": ("/pypi/simple", "/pypi/simple/"),
        "legacy": ("/pypi/pypi/Row.Redirect/json", "/pypi/pypi/row-redirect/json"),
    },
)
def test_redirects(world: World, mirror: Mirror, asked: str, location: str) -> None:
    """They stay on the mirror whatever name or port the client used: the location is a path."""
    world.registries["pypi"].publish("row-redirect", "1.0")
    for host in "mirror.test", "mirror.test:8080", "[::1]:81":
        reply = mirror.get(asked, {"Host": host, "Accept": PIP})
        assert (reply.status, reply["Location"]) == (301, location), show(reply)
    assert mirror.get(location, {"Accept": PIP}).status == 200


@promise("protocol")
def test_absolute_redirects_of_the_upstream_stay_on_the_mirror(mirror: Mirror, fresh: Make) -> None:
    project = fresh()
    project.registry.fault(path=f"^/simple/{project.name}/$", redirect=f"{project.registry.index_url}/simple/large/")
    assert mirror.get(project.index)["Location"] == "/pypi/simple/large/"


# ----------------------------------------------------------------------------------------------------------------- http

TARGETS = {"json": ("index", JSON), "html": ("index", HTML), "file": ("file", "")}


@promise("http")
@pytest.mark.parametrize("first", ["HEAD", "GET"])
@table("what, kind", TARGETS)
def test_head(mirror: Mirror, fresh: Make, what: str, kind: str, first: str) -> None:
    """Cold and warm; and a HEAD never leaves an empty body behind."""
    project, headers = fresh(), {"Accept": ACCEPT.get(kind, "*/*")}
    path, body = (project.index, project.page(kind)) if what == "index" else (project.file, project.content)
    for method in first, "HEAD", "GET", "HEAD":
        reply = mirror.get(path, headers, method=method)
        assert reply.status == 200 and reply.body == (body if method == "GET" else b""), show(reply)
        assert kind in ("", reply.type)
        if method == "HEAD" and reply.cache == "hit":
            assert reply["Content-Length"] in (str(len(body)), "" if what == "index" else None), show(reply)
    assert reply.cache == "hit"


SIZE = 9_000_000  # of a file in the rows on ranges; more than two slices of 4 MiB


@pytest.fixture(scope="module")
def ranged(world: World) -> Fresh:
    """A file that was fetched whole already."""
    world.registries["pypi"].publish("row-ranged", "1.0", "wheel", SIZE)
    project = Fresh(world.registries["pypi"], "row-ranged", "pypi")
    assert good(world.mirror.get(project.file), project.content)
    project.registry.forget()
    return project


@promise("http")
def test_a_file_is_stored_once_though_upstream_knows_no_ranges(mirror: Mirror, fresh: Make) -> None:
    """It sends the whole file for each part: a client may get more than it asked for, the disk may not."""
    project = fresh("whole", size=SIZE, kinds="wheel")
    before = sum(path.stat().st_size for path in mirror.cached())
    assert mirror.get(project.file).sha256 == project.project.artifacts[0].sha256
    for start in 0, 4_200_000, 8_400_000, 5_000_000:
        reply = mirror.get(project.file, {"Range": f"bytes={start}-{start + 9}"})
        assert reply.status in (200, 206) and project.content[start : start + 10] in reply.body
    assert sum(path.stat().st_size for path in mirror.cached()) - before < 1.1 * SIZE


RANGES: dict[str, tuple[str, t.Callable[[int], tuple[int, int] | None]]] = {
    "first byte": ("bytes=0-0", lambda size: (0, 1)),
    "beginning": ("bytes=0-999", lambda size: (0, 1000)),
    "middle": ("bytes=5000000-5000099", lambda size: (5_000_000, 5_000_100)),
    "over a slice's end": ("bytes=4194300-4194310", lambda size: (4_194_300, 4_194_311)),
    "over two slices' ends": ("bytes=4000000-8500000", lambda size: (4_000_000, 8_500_001)),
    "from the last slice's begin": ("bytes=8388608-", lambda size: (8_388_608, size)),
    "open end": ("bytes=8999000-", lambda size: (8_999_000, size)),
    "last bytes": ("bytes=-500", lambda size: (size - 500, size)),
    "end beyond the end": ("bytes=8999990-99999999", lambda size: (8_999_990, size)),
    "begin beyond the end": ("bytes=99999999-", lambda size: None),
}


@promise("http")
@pytest.mark.parametrize("when", ["cold", "warm"])
@table("asked, cut", RANGES)
def test_range(mirror: Mirror, fresh: Make, ranged: Fresh, when: str, asked: str, cut: t.Callable[[int], tuple[int, int] | None]) -> None:
    project = ranged if when == "warm" else fresh(size=SIZE, kinds="wheel")
    body, reply = project.content, mirror.get(project.file, {"Range": asked})
    if limits := cut(len(body)):
        begin, end = limits
        assert reply.status == 206 and reply.body == body[begin:end] and reply.complete, show(reply)
        assert reply["Content-Range"] == f"bytes {begin}-{end - 1}/{len(body)}"
    else:
        assert reply.status == 416 and reply["Content-Range"] in (f"bytes */{len(body)}", ""), show(reply)
    if when == "warm":
        assert [request["sent"] for request in project.asked("files") if request["sent"]] == []
    else:
        assert good(mirror.get(project.file), body)
        assert sum(request["sent"] for request in project.asked("files")) <= 1.02 * len(body)


@promise("http")
@table(
    "asked",
    {
        "not a range": "bytes=a-b",
        "another unit": "lines=1-2",
        "reversed": "bytes=9-1",
        "two": "bytes=0-9,20-29",
        "many": "bytes=" + ",".join(["0-0"] * 50),
    },
)
def test_ranges_that_are_none_or_too_many(mirror: Mirror, ranged: Fresh, asked: str) -> None:
    reply = mirror.get(ranged.file, {"Range": asked})
    assert reply.status == 416 or good(reply, ranged.content), show(reply)


@promise("http")
def test_if_range(mirror: Mirror, ranged: Fresh) -> None:
    whole = mirror.get(ranged.file, method="HEAD")
    for validator, status in (
        (whole["ETag"], 206),
        (whole["Last-Modified"], 206),
        ('"another"', 200),
        ("Mon, 01 Jan 2001 00:00:00 GMT", 200),
    ):
        assert mirror.get(ranged.file, {"Range": "bytes=0-9", "If-Range": validator}).status == status, validator


@promise("http")
@pytest.mark.parametrize("kind", MEDIA)
def test_if_none_match_on_a_page(mirror: Mirror, fresh: Make, kind: str) -> None:
    project, headers = fresh(), {"Accept": ACCEPT[kind]}
    etag = mirror.get(project.index, headers)["ETag"]
    assert etag
    rows = {etag: 304, f'"x", {etag}': 304, "*": 304, '"another"': 200, 'W/"another"': 200}
    for tag, status in rows.items():
        reply = mirror.get(project.index, {**headers, "If-None-Match": tag})
        assert reply.status == status and (reply.body == b"") == (status == 304), (tag, show(reply))
    assert reply["ETag"] == etag
    other = mirror.get(project.index, {"Accept": ACCEPT[MEDIA[MEDIA.index(kind) - 1]], "If-None-Match": etag})
    assert other.status == 200, "the tag of one representation stands for another one"


@promise("http")
@patient
@pytest.mark.parametrize("kind", MEDIA)
def test_if_none_match_on_a_lapsed_page(mirror: Mirror, fresh: Make, kind: str) -> None:
    project, headers = fresh("brief"), {"Accept": ACCEPT[kind]}
    etag = mirror.get(project.index, headers)["ETag"]
    age()
    reply = mirror.get(project.index, {**headers, "If-None-Match": etag})
    assert reply.status == 304 and reply.body == b"", show(reply)


@promise("http")
@pytest.mark.parametrize("kind", MEDIA)
def test_if_none_match_on_a_page_that_is_no_longer_stored(mirror: Mirror, fresh: Make, kind: str) -> None:
    project, headers = fresh(), {"Accept": ACCEPT[kind]}
    etag = mirror.get(project.index, headers)["ETag"]
    mirror.wipe()
    reply = mirror.get(project.index, {**headers, "If-None-Match": etag})
    assert (reply.status == 304 and not reply.body) or good(reply, project.page(kind), kind), show(reply)
    assert good(mirror.get(project.index, headers), project.page(kind), kind)


@promise("http")
@patient
def test_a_changed_page_is_sent_to_who_asks_with_the_old_tag(mirror: Mirror, fresh: Make) -> None:
    project = fresh("brief")
    etag = mirror.get(project.index)["ETag"]
    project.registry.publish(project.name, "2.0")
    age()
    reply = mirror.get(project.index, {"If-None-Match": etag})
    assert good(reply, project.page(HTML)), show(reply)


@promise("http")
@pytest.mark.parametrize("when", ["cold", "warm"])
def test_conditions_on_a_file(mirror: Mirror, fresh: Make, when: str) -> None:
    known = fresh()
    seen = mirror.get(known.file)
    for header, value, status in (
        ("If-None-Match", seen["ETag"], 304),
        ("If-None-Match", '"another"', 200),
        ("If-Modified-Since", seen["Last-Modified"], 304),
        ("If-Modified-Since", "Mon, 01 Jan 2001 00:00:00 GMT", 200),
        ("If-Modified-Since", "Wed, 01 Jan 2025 00:00:00 GMT", 304),
    ):
        if when == "cold":
            mirror.wipe()
        reply = mirror.get(known.file, {header: value})
        assert reply.status == status and reply.body == (known.content if status == 200 else b""), (header, value, show(reply))
        assert good(mirror.get(known.file), known.content)


@promise("http")
@patient
@pytest.mark.parametrize("kind", BOTH)
def test_an_unchanged_page_is_not_sent_again_by_upstream(mirror: Mirror, fresh: Make, kind: str) -> None:
    project, headers = fresh("brief"), {"Accept": ACCEPT[kind]}
    assert mirror.get(project.index, headers).cache == "miss"
    age()
    assert good(mirror.get(project.index, headers), project.page(kind), kind)
    assert [request["status"] for request in project.asked()] == [200, 304]
    assert until(lambda: mirror.get(project.index, headers).cache == "hit", 3)  # it is fresh for 1 s


@promise("http")
@table("header", {"no-cache": ("Cache-Control", "no-cache"), "max-age=0": ("Cache-Control", "max-age=0"), "pragma": ("Pragma", "no-cache")})
def test_clients_cannot_force_a_refetch(mirror: Mirror, fresh: Make, header: tuple[str, str]) -> None:
    """pip sends max-age=0 with every index page."""
    project = fresh()
    for path in project.index, project.file:
        for _time in range(3):
            assert mirror.get(path, dict([header])).status == 200
    assert len(project.asked()) == 2


@promise("http")
@table("written", {"encoded": "localproj-1.0%2Bcu118", "plain": "localproj-1.0+cu118"})
def test_a_plus_in_a_file_name(world: World, mirror: Mirror, written: str) -> None:
    artifact = world.registries["pypi"].projects["localproj"].artifacts[0]
    path = "/pypi/files" + re.sub("localproj-1.0(%2B|[+])cu118", written, artifact.path)
    for _time in "cold", "warm":
        assert mirror.get(path).sha256 == artifact.sha256
    assert good(mirror.get(path + ".metadata"), artifact.core or b"")


@promise("http")
@table(
    "path",
    {
        "encoded slash": "@scope%2fname",
        "encoded slash, upper case": "@scope%2Fother",
        "encoded colon": "a%3Ab",
        "encoded at": "%40scope/name",
        "encoded blank": "a%20b",
        "utf-8": "%C3%A9",
        "tilde, plus, comma": "a~b+c,d;e=f",
    },
)
def test_encoded_characters_arrive_unchanged(world: World, mirror: Mirror, path: str) -> None:
    registry = world.registries["tools"]
    for stem in "", "v1.0/":
        registry.put(f"/static/{stem}{path}", f"this is {stem}{path}")
        for cache in "miss", "hit":
            reply = mirror.get(f"/tools/{stem}{path}")
            assert good(reply, f"this is {stem}{path}".encode()) and reply.cache == cache, show(reply)
        assert [request["path"] for request in registry.requests(re.escape(f"/{stem}{path}"))][-1:] == [f"/static/{stem}{path}"]


@promise("http")
def test_a_hit_costs_upstream_nothing(mirror: Mirror, fresh: Make) -> None:
    project = fresh()
    targets = [(project.index, kind, encoding) for kind in MEDIA for encoding in ("gzip", "")] + [(project.file, HTML, "")]
    for path, kind, encoding in targets:
        mirror.get(path, {"Accept": ACCEPT[kind], "Accept-Encoding": encoding})
    project.registry.forget()
    for path, kind, encoding in targets:
        assert mirror.get(path, {"Accept": ACCEPT[kind], "Accept-Encoding": encoding}).cache == "hit"
    assert project.registry.requests() == []


@promise("http")
def test_several_requests_on_one_connection(mirror: Mirror, fresh: Make) -> None:
    project = fresh()
    connection = http.client.HTTPConnection(mirror.address[0], mirror.address[1], timeout=10)
    for path, status, body in [
        (project.index, 200, project.page(HTML)),
        (project.file, 200, project.content),
        ("/pypi/simple/none-such/", 404, b""),
        (project.index, 200, project.page(HTML)),
    ]:
        connection.request("GET", path, headers={"Host": "mirror.test"})
        response = connection.getresponse()
        content = response.read()
        assert response.status == status and body in (b"", content), path
    connection.close()


# ----------------------------------------------------------------------------------------------------------------- once


@promise("once")
def test_50_clients_of_one_cold_page(mirror: Mirror, fresh: Make) -> None:
    project = fresh()
    project.registry.fault(path=project.name, delay=0.5)
    replies = at_once(50, lambda _number: mirror.get(project.index, {"Accept": PIP, "Accept-Encoding": "gzip"}))
    assert all(good(reply, project.page(JSON), JSON) for reply in replies)
    assert len(project.asked()) == 1


@promise("once")
@patient
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("changed", [False, True], ids=["unchanged", "changed"])
def test_50_clients_of_one_expired_page(mirror: Mirror, fresh: Make, kind: str, changed: bool) -> None:
    project, headers = fresh("steady"), {"Accept": ACCEPT[kind]}
    before = mirror.get(project.index, headers).body
    if changed:
        project.registry.publish(project.name, "2.0")
    project.registry.fault(path=project.pattern, delay=0.5)
    age(EXPIRED)
    replies = at_once(50, lambda _number: mirror.get(project.index, headers))
    assert all(good(reply, before, kind) or good(reply, project.page(kind), kind) for reply in replies)
    # The clients are answered before the page is asked for behind their backs.
    assert until(lambda: len(asked := project.asked()) > 1 and all(request["status"] for request in asked))
    assert [request["status"] for request in project.asked()] == [200, 200 if changed else 304]


@promise("once")
@patient
@pytest.mark.parametrize("kind", BOTH)
def test_50_clients_of_one_lapsed_page(mirror: Mirror, fresh: Make, kind: str) -> None:
    """Who comes after a long silence may have to wait, but an unchanged page is not sent again."""
    project, headers = fresh("brief"), {"Accept": ACCEPT[kind]}
    before = mirror.get(project.index, headers).body
    age()
    assert all(good(reply, before, kind) for reply in at_once(50, lambda _number: mirror.get(project.index, headers)))
    assert {request["status"] for request in project.asked()[1:]} == {304}


@promise("once")
@table("rate", {"slow upstream": 4e6, "fast upstream": None, "slower than mirror_artifact_timeout": 1e6})
def test_50_clients_of_one_cold_file(mirror: Mirror, fresh: Make, rate: float | None) -> None:
    project = fresh(size=SIZE, kinds="wheel")
    body = project.content
    project.registry.limit(rate)
    replies = at_once(50, lambda _number: mirror.get(project.file))
    assert {(reply.status, reply.complete, reply.sha256) for reply in replies} == {(200, True, project.project.artifacts[0].sha256)}
    assert sum(request["sent"] for request in project.asked("files")) <= 1.02 * len(body)


@promise("once")
def test_20_cold_ranges_of_one_file(mirror: Mirror, fresh: Make) -> None:
    project = fresh(size=SIZE, kinds="wheel")
    body, step = project.content, SIZE // 20
    replies = at_once(20, lambda number: mirror.get(project.file, {"Range": f"bytes={number * step}-{number * step + step - 1}"}))
    assert [reply.body == body[number * step : (number + 1) * step] for number, reply in enumerate(replies)] == [True] * 20
    assert sum(request["sent"] for request in project.asked("files")) <= 1.02 * len(body)


@promise("once")
def test_who_comes_later_starts_before_the_first_has_finished(mirror: Mirror, fresh: Make) -> None:
    project = fresh(size=16_000_000, kinds="wheel")
    assert project.content
    project.registry.limit(4e6)
    first: list[Reply] = []
    thread = threading.Thread(target=lambda: first.append(mirror.get(project.file)))
    thread.start()
    time.sleep(1)
    second = mirror.get(project.file)
    thread.join()
    assert good(first[0], project.content) and good(second, project.content)
    assert second.first_byte < 1, f"{second.first_byte:.2f} s to the first byte, {first[0].first_byte:.2f} s for the first client"
    assert first[0].seconds < 6, f"{first[0].seconds:.2f} s where 4 s is all that the rate needs"
    assert sum(request["sent"] for request in project.asked("files")) <= 1.02 * len(project.content)


@promise("once")
def test_a_client_that_hangs_up_spoils_nothing(mirror: Mirror, fresh: Make) -> None:
    project = fresh(size=SIZE, kinds="wheel")
    body = project.content
    project.registry.limit(2e7)
    mirror.get(project.file, abort_after=100_000)
    replies = at_once(3, lambda _number: mirror.get(project.file))
    assert all(good(reply, body) for reply in replies), [show(reply) for reply in replies]


# ---------------------------------------------------------------------------------------------------------------- whole

SHORT = {
    "by length, closed": {"framing": "length"},
    "by length, reset": {"framing": "length", "reset": True},
    "by chunks, closed": {"framing": "chunked"},
    "by chunks, reset": {"framing": "chunked", "reset": True},
    "unframed": {"framing": "close"},
    "unframed, reset": {"framing": "close", "reset": True},
}


@promise("whole")
@table("fault", SHORT)
@table(
    "what, cut",
    {
        "json": (JSON, 300),
        "html": (HTML, 300),
        "json at once": (JSON, 0),
        "file": ("file", 5000),
        "file at once": ("file", 0),
        "file in its second slice": ("file", 4_500_000),
    },
)
def test_a_body_that_ends_early(mirror: Mirror, fresh: Make, fault: dict[str, t.Any], what: str, cut: int) -> None:
    project = fresh(size=SIZE if what == "file" else 0, kinds="wheel" if what == "file" else "wheel sdist")
    path, body = (project.file, project.content) if what == "file" else (project.index, project.page(what))
    headers = {"Accept": ACCEPT.get(what, "*/*")}
    beyond = cut if cut < 4_194_304 else cut - 4_194_304  # a slice is a request of its own
    project.registry.fault(path=project.pattern, cut=beyond, **fault)
    for _time in range(2):
        with contextlib.suppress(http.client.HTTPException, ConnectionError):
            reply = mirror.get(path, headers, timeout=12)
            assert reply.seconds < 12, f"the client is left waiting: {show(reply)}"
            if fault["framing"] != "close" or "reset" in fault:  # else nobody can know
                assert reply.status >= 400 or not reply.complete or reply.body == body, show(reply)
    project.registry.heal()
    for _time in range(2):
        reply = mirror.get(path, headers)
        assert good(reply, body), show(reply)


@promise("whole")
@pytest.mark.parametrize("what", ["index", "file"])
def test_a_whole_body_without_framing_is_not_kept(mirror: Mirror, fresh: Make, what: str) -> None:
    """Nobody can tell that it is whole, unless it is compressed: a registry that does not compress."""
    project = fresh("bare" if what == "index" else "pypi")
    path, body = (project.file, project.content) if what == "file" else (project.index, project.page(HTML))
    project.registry.fault(path=project.pattern, framing="close")
    for count in 1, 2:
        reply = mirror.get(path)
        assert reply.status >= 400 or not reply.complete or good(reply, body), show(reply)
        assert len(project.asked()) >= count


@promise("whole")
@patient
@pytest.mark.parametrize("kind", BOTH)
@table("fault", SHORT)
def test_a_refresh_that_ends_early_leaves_the_page_as_it_was(mirror: Mirror, fresh: Make, fault: dict[str, t.Any], kind: str) -> None:
    project, headers = fresh("steady"), {"Accept": ACCEPT[kind]}
    before = mirror.get(project.index, headers).body
    project.registry.publish(project.name, "2.0")
    number = project.registry.fault(path=project.pattern, cut=400, **fault)
    age(EXPIRED)
    for _time in range(3):
        reply = mirror.get(project.index, headers)
        assert good(reply, before, kind), show(reply)
        time.sleep(0.1)
    project.registry.heal(number)
    assert until(lambda: good(mirror.get(project.index, headers), project.page(kind), kind))


@promise("whole")
@patient
@pytest.mark.parametrize("kind", BOTH)
@table("fault", {name: fault for name, fault in SHORT.items() if name != "unframed"})
def test_a_late_refresh_that_ends_early_is_seen_by_nobody(mirror: Mirror, fresh: Make, fault: dict[str, t.Any], kind: str) -> None:
    """Past both lifetimes a client waits for the refresh, and is not to get a part of it."""
    project, headers = fresh("brief"), {"Accept": ACCEPT[kind], "Accept-Encoding": "gzip"}
    before = mirror.get(project.index, headers).plain
    project.registry.publish(project.name, "2.0")
    project.registry.fault(path=project.pattern, cut=400, **fault)
    age()
    for _time in range(2):
        reply = mirror.get(project.index, headers)
        assert good(reply, before, kind) and reply.cache == "stale", show(reply)


@promise("whole")
@pytest.mark.parametrize("status", [403, 404, 410, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("what", ["index", "file"])
def test_errors_are_not_kept(mirror: Mirror, fresh: Make, status: int, what: str) -> None:
    project = fresh()
    path, body = (project.file, project.content) if what == "file" else (project.index, project.page(HTML))
    project.registry.fault(path=project.pattern, status=status)
    reply = mirror.get(path)
    assert reply.status == status if status < 500 else reply.status >= 500, show(reply)
    project.registry.heal()
    assert good(mirror.get(path), body)


@promise("whole")
def test_a_project_that_appears_is_seen_at_once(world: World, mirror: Mirror) -> None:
    assert mirror.get("/pypi/simple/row-appears/").status == 404
    world.registries["pypi"].publish("row-appears", "1.0")
    assert mirror.get("/pypi/simple/row-appears/").status == 200


# ---------------------------------------------------------------------------------------------------------------- stale

WAYS: dict[str, dict[str, t.Any]] = {
    **{str(status): {"status": status} for status in (403, 429, 500, 502, 503, 504)},
    "hung": {"hang": True},
    "dropped": {"drop": True},
    "garbage": {"headers": {"X-Long": "x" * 100_000}},
    "redirected elsewhere": {"redirect": "http://stranger.test/"},
}


@promise("stale")
@patient
@pytest.mark.parametrize("kind", BOTH)
@pytest.mark.parametrize("way", WAYS)
def test_upstream_fails(mirror: Mirror, fresh: Make, way: str, kind: str) -> None:
    project, headers = fresh("brief"), {"Accept": ACCEPT[kind]}
    before = mirror.get(project.index, headers).body
    age()
    fault = project.registry.fault(path=project.pattern, **WAYS[way])
    for _time in range(2):
        reply = mirror.get(project.index, headers)
        assert good(reply, before, kind) and reply.cache == "stale", show(reply)
        assert reply.seconds < 12, "pip gives up after 15 s"
    project.registry.heal(fault)
    project.registry.publish(project.name, "2.0")
    assert until(lambda: good(mirror.get(project.index, headers), project.page(kind), kind), 5), "it does not refresh by itself"


@promise("stale")
@patient
@table("site, how", {"refused": ("gone", "refuse"), "hung": ("hung", "hang")})
def test_upstream_is_away(mirror: Mirror, fresh: Make, site: str, how: str) -> None:
    project = fresh(site)
    mirror.get(project.file)
    before = {kind: mirror.get(project.index, {"Accept": ACCEPT[kind]}).body for kind in BOTH}
    mirror.get(f"/{site}/simple/")
    age()
    project.registry.vanish(how)
    for kind in BOTH:
        reply = mirror.get(project.index, {"Accept": ACCEPT[kind]})
        assert good(reply, before[kind], kind) and reply.cache == "stale", show(reply)
        assert mirror.get(project.index, {"Accept": ACCEPT[kind]}, method="HEAD").status == 200
    assert good(mirror.get(project.file), project.content)
    assert mirror.get(project.file, {"Range": "bytes=10-19"}).body == project.content[10:20]
    assert mirror.get(f"/{site}/simple/").status == 200
    assert mirror.get(f"/{site}/simple/never-seen/").status in (502, 503, 504)
    assert mirror.get("/health").status == 200
    project.registry.back()
    project.registry.publish(project.name, "2.0")
    assert until(lambda: good(mirror.get(project.index, {"Accept": PIP}), project.page(JSON), JSON), 5), "it does not refresh by itself"
    assert mirror.get(f"/{site}/simple/never-seen/").status == 404


@promise("stale")
@patient
def test_a_page_without_validators_is_served_stale_too(mirror: Mirror, fresh: Make) -> None:
    project = fresh("bare")
    mirror.get(project.index, {"Accept": PIP})
    age()
    project.registry.fault(path=project.pattern, status=503)
    reply = mirror.get(project.index, {"Accept": PIP})
    assert good(reply, project.page(HTML), HTML) and reply.cache == "stale", show(reply)


@promise("stale")
@patient
def test_a_slow_refresh_delays_nobody_just_after_expiry(mirror: Mirror, fresh: Make) -> None:
    """For as long as a page was fresh, it may be served while it is refreshed behind the scenes ..."""
    project = fresh("steady")
    mirror.get(project.index)
    project.registry.fault(path=project.pattern, delay=1)
    age(EXPIRED)
    reply = mirror.get(project.index)
    assert reply.seconds < 0.5 and reply.cache == "stale", show(reply)


@promise("stale")
@patient
def test_no_page_is_older_than_two_lifetimes(mirror: Mirror, fresh: Make) -> None:
    """... but no longer: who comes later gets the present one."""
    project = fresh("brief")
    mirror.get(project.index)
    project.registry.publish(project.name, "2.0")
    age()
    reply = mirror.get(project.index)
    assert good(reply, project.page(HTML)), show(reply)


@promise("stale")
@patient
def test_a_new_version_shows_after_the_lifetime(mirror: Mirror, fresh: Make) -> None:
    project = fresh("brief")
    mirror.get(project.index)
    project.registry.publish(project.name, "2.0")
    assert until(lambda: good(mirror.get(project.index), project.page(HTML)), LAPSED)


# --------------------------------------------------------------------------------------------------------------- serial


@promise("serial")
@patient
@table("site, wait", {"while it may be stale": ("steady", EXPIRED), "later": ("brief", LAPSED)})
@pytest.mark.parametrize("kind", BOTH)
@table(
    "newer, older",
    {"by one": (31_415_926, 31_415_925), "fewer digits": (100_000, 99_999), "first digit": (9_000_000, 1_999_999), "far": (31_415_926, 7)},
)
def test_an_older_page_replaces_no_newer_one(
    mirror: Mirror, fresh: Make, newer: int, older: int, kind: str, site: str, wait: float
) -> None:
    """A CDN edge that lags behind answers with what the mirror had before."""
    project, headers = fresh(site), {"Accept": ACCEPT[kind]}
    registry = project.registry
    registry.set_serial(project.name, newer)
    newest = mirror.get(project.index, headers).body
    registry.set_status(project.name, "archived")  # the page differs
    registry.set_serial(project.name, older)
    age(wait)
    for _time in range(3):
        reply = mirror.get(project.index, headers)
        assert good(reply, newest, kind) and reply["X-PyPI-Last-Serial"] == str(newer), show(reply)
        time.sleep(0.2)
    registry.set_serial(project.name, newer + 1)
    assert until(lambda: good(mirror.get(project.index, headers), project.page(kind), kind), 5), "the next newer one is not taken"


@promise("serial")
@patient
@table(
    "before, after",
    {"by one": (31_415_926, 31_415_927), "more digits": (99_999, 100_000), "the same": (500, 500), "carry": (1_999_999, 2_000_000)},
)
def test_a_newer_page_replaces_an_older_one(mirror: Mirror, fresh: Make, before: int, after: int) -> None:
    project = fresh("brief")
    project.registry.set_serial(project.name, before)
    mirror.get(project.index)
    project.registry.set_status(project.name, "archived")
    project.registry.set_serial(project.name, after)
    assert until(lambda: good(mirror.get(project.index), project.page(HTML)), 4)


# ------------------------------------------------------------------------------------------------------------- verified


@promise("verified")
def test_a_certificate_that_the_bundle_vouches_for(mirror: Mirror, fresh: Make) -> None:
    project = fresh("good")
    for _time in "cold", "warm":
        assert good(mirror.get(project.index, {"Accept": PIP}), project.page(JSON), JSON)


@promise("verified")
@pytest.mark.parametrize("site", ["selfsigned", "expired", "wrongname", "unknown"])
def test_a_certificate_that_nobody_vouches_for(mirror: Mirror, fresh: Make, site: str) -> None:
    project = fresh(site)
    for path in project.index, f"/{site}/pypi/{project.name}/json", project.file, f"/{site}{project.project.artifacts[0].path}":
        reply = mirror.get(path, {"Accept": "*/*"})
        assert reply.status == 502, show(reply)
    assert project.asked() == []


# --------------------------------------------------------------------------------------------------------------- closed

MARK = "marker-7f3a"


@promise("closed")
@pytest.mark.parametrize(
    "header",
    [
        "Authorization",
        "Proxy-Authorization",
        "Cookie",
        "X-Forwarded-For",
        "X-Forwarded-Host",
        "X-Forwarded-Proto",
        "X-Forwarded-Prefix",
        "Forwarded",
        "X-Original-URL",
        "X-Rewrite-URL",
        "X-Host",
        "X-HTTP-Method-Override",
        "Referer",
        "Origin",
        "Via",
        "From",
        "Accept-Language",
        "User-Agent",
        "X-Unframed",
        "X-Accel-Redirect",
        "X-Api-Key",
        "X-Random-4711",
        "If-Match",
        "TE",
        "Upgrade",
        "Expect-CT",
    ],
)
def test_client_headers_do_not_go_upstream(mirror: Mirror, fresh: Make, header: str) -> None:
    project = fresh()
    for path, body in (project.index, project.page(HTML)), (project.file, project.content):
        mirror.get(path, {header: f"/{MARK}"})
        assert good(mirror.get(path), body), "the next client sees something else"
    assert project.asked() and MARK not in json.dumps(project.asked())


@promise("closed")
def test_upstream_sees_the_same_request_from_every_client(mirror: Mirror, fresh: Make) -> None:
    """Only what makes a representation differs, and that in its normal form."""
    first, second = fresh(), fresh()
    mirror.get(first.index, {"Accept": PIP, "Accept-Encoding": "gzip, deflate", "Host": "mirror.test"})
    mirror.get(second.index, {"Accept": f"{JSON};q=0.9, text/html;q=0.2", "Accept-Encoding": "br, gzip;q=0.5", "Host": "MIRROR.test:81"})
    assert first.asked()[0]["headers"] == second.asked()[0]["headers"]
    assert first.asked()[0]["headers"]["host"] == urllib.parse.urlsplit(first.registry.index_url).netloc


@promise("closed")
@table(
    "headers",
    {
        "Set-Cookie": {"Set-Cookie": f"session={MARK}"},
        "Set-Cookie twice": {"Set-Cookie": [f"a={MARK}", f"b={MARK}"]},
        "X-Accel-Redirect": {"X-Accel-Redirect": f"/health?{MARK}"},
        "X-Accel-Expires, at once": {"X-Accel-Expires": "0"},
        "X-Accel-Limit-Rate": {"X-Accel-Limit-Rate": "1"},
        "X-Accel-Buffering": {"X-Accel-Buffering": "no"},
        "X-Accel-Charset": {"X-Accel-Charset": "utf-7"},
        "X-Unframed": {"X-Unframed": "1"},
        "Vary on all": {"Vary": "*"},
        "Vary in two lines": {"Vary": ["Accept", "Accept-Encoding"]},
        "Cache-Control: private": {"Cache-Control": "private, no-store"},
        "Cache-Control in two lines": {"Cache-Control": ["public", "max-age=0"]},
        "Expires in the past": {"Expires": "Thu, 01 Jan 1970 00:00:00 GMT"},
        "Age": {"Age": "100000"},
        "no lifetime": {"Cache-Control": None},
    },
)
@pytest.mark.parametrize("what", ["index", "file"])
def test_upstream_headers_neither_steer_nor_pass(mirror: Mirror, fresh: Make, what: str, headers: dict[str, t.Any]) -> None:
    """A mirror's route says what is kept and for how long; upstream's headers of that kind do not, and no cookie is handed on."""
    project = fresh()
    path, body = (project.file, project.content) if what == "file" else (project.index, project.page(HTML))
    project.registry.fault(path=project.pattern, headers=headers)
    for cache in "miss", "hit", "hit":
        reply = mirror.get(path)
        assert good(reply, body) and reply.cache == cache, show(reply)
        assert MARK not in str(reply.headers) and not any(
            name.lower().startswith(("x-accel", "set-cookie", "x-unframed")) for name in reply.headers
        )
    assert len(project.asked()) == 1


@promise("closed")
@pytest.mark.parametrize(
    "method", ["POST", "PUT", "DELETE", "PATCH", "OPTIONS", "PROPFIND", "PURGE", "INVENTED", "GET|", "TRACE", "CONNECT"]
)
def test_methods(mirror: Mirror, fresh: Make, method: str) -> None:
    project = fresh()
    for path in project.index, project.file, "/", "/health", "/mirror.json":
        answer = raw(
            mirror.address, f"{method} {path} HTTP/1.1\r\nHost: mirror.test\r\nConnection: close\r\nContent-Length: 0\r\n\r\n".encode()
        )
        refused = r"HTTP/1.1 (405|501|400)" if method in ("GET|", "TRACE", "CONNECT") else "HTTP/1.1 405"
        assert re.match(refused, answer), answer[:300]
    assert project.registry.requests() == []


@promise("closed")
@table(
    "body",
    {
        "a length": b"Content-Length: 5\r\n\r\nhello",
        "chunks": b"Transfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "both": b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        "two lengths": b"Content-Length: 5\r\nContent-Length: 6\r\n\r\nhello!",
        "a blank before the colon": b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "chunks after a coding that looks like a path": b"Transfer-Encoding: |/, chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "an unknown coding": b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "a large one": b"Content-Length: 5000000\r\n\r\n" + b"x" * 10_000,
    },
)
@pytest.mark.parametrize("what", ["index", "file"])
def test_a_body_on_get(mirror: Mirror, fresh: Make, what: str, body: bytes) -> None:
    project = fresh()
    path, content = (project.file, project.content) if what == "file" else (project.index, project.page(HTML))
    with contextlib.suppress(OSError):
        answer = raw(mirror.address, f"GET {path} HTTP/1.1\r\nHost: mirror.test\r\n".encode() + body)
        assert re.match(r"HTTP/1.1 (4\d\d|501)", answer), answer[:300]
    assert project.asked() == []
    assert good(mirror.get(path), content)


@promise("closed")
@table(
    "head",
    {
        "two hosts": "GET {path} HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
        "no host": "GET {path} HTTP/1.1\r\n\r\n",
        "an encoded line break": "GET {path}%0d%0aX-Split:%20y HTTP/1.1\r\nHost: mirror.test\r\n\r\n",
        "an encoded zero": "GET {path}%00 HTTP/1.1\r\nHost: mirror.test\r\n\r\n",
    },
)
def test_malformed_requests(mirror: Mirror, fresh: Make, head: str) -> None:
    project = fresh()
    with contextlib.suppress(OSError):
        answer = raw(mirror.address, head.format(path=project.index).encode())
        assert re.match(r"HTTP/1.1 4\d\d|$", answer), answer[:300]
    assert project.asked() == []
    assert good(mirror.get(project.index), project.page(HTML))


@promise("closed")
@table(
    "line",
    {
        "absolute form": "GET http://{stranger}/simple/x/ HTTP/1.1\r\nHost: {stranger}\r\n",
        "absolute form, the mirror's path": "GET http://{stranger}{path} HTTP/1.1\r\nHost: {stranger}\r\n",
        "another host": "GET {path} HTTP/1.1\r\nHost: {stranger}\r\n",
        "connect": "CONNECT {stranger} HTTP/1.1\r\nHost: {stranger}\r\n",
        "two slashes": "GET //{stranger}/simple/x/ HTTP/1.1\r\nHost: mirror.test\r\n",
        "at": "GET @{stranger}/simple/x/ HTTP/1.1\r\nHost: mirror.test\r\n",
        "slash at": "GET /@{stranger}/simple/x/ HTTP/1.1\r\nHost: mirror.test\r\n",
        "at below the site": "GET /pypi/@{stranger}/x.whl HTTP/1.1\r\nHost: mirror.test\r\n",
        "at below files": "GET /pypi/files/@{stranger}/x.whl HTTP/1.1\r\nHost: mirror.test\r\n",
        "at for the slash": "GET /pypi/files@{stranger}/x.whl HTTP/1.1\r\nHost: mirror.test\r\n",
        "colon for the slash": "GET /pypi/files:80@{stranger}/x.whl HTTP/1.1\r\nHost: mirror.test\r\n",
        "dot for the slash": "GET /pypi/files.{stranger}/x.whl HTTP/1.1\r\nHost: mirror.test\r\n",
        "two slashes below files": "GET /pypi/files//{stranger}/x.whl HTTP/1.1\r\nHost: mirror.test\r\n",
        "a url below files": "GET /pypi/files/http://{stranger}/x.whl HTTP/1.1\r\nHost: mirror.test\r\n",
        "backslashes": "GET /pypi/files\\\\{stranger}/x.whl HTTP/1.1\r\nHost: mirror.test\r\n",
        "two dots": "GET /pypi/files/../../{stranger}/x.whl HTTP/1.1\r\nHost: mirror.test\r\n",
        "encoded two dots": "GET /pypi/files/%2e%2e/%2e%2e/{stranger}/x.whl HTTP/1.1\r\nHost: mirror.test\r\n",
        "another site's origin": "GET /pypi/files-{stranger}/x.whl HTTP/1.1\r\nHost: mirror.test\r\n",
        "generic": "GET /tools/@{stranger}/x HTTP/1.1\r\nHost: mirror.test\r\n",
    },
)
def test_no_undeclared_origin_is_reached(world: World, mirror: Mirror, fresh: Make, line: str) -> None:
    project, stranger = fresh(), world.stranger
    for host in stranger.index_url.removeprefix("http://"), "127.0.0.1:{}".format(stranger.origins["index"].address[1]):
        answer = raw(mirror.address, (line.format(stranger=host, path=project.index) + "Connection: close\r\n\r\n").encode())
        assert re.match(r"HTTP/1.1 (4\d\d|50[0-9])", answer) or f"Links for {project.name}" in answer, answer[:300]
    assert stranger.requests() == []
    for registry in world.registries.values():
        assert all(asked["headers"]["host"].split(":")[0] in world.names.table for asked in registry.requests())


@promise("closed")
@table("location", {"a private page": "http://127.0.0.1:{port}/health", "the mirror itself": "/health"})
def test_the_mirror_follows_no_redirect_by_itself(world: World, mirror: Mirror, fresh: Make, location: str) -> None:
    project = fresh()
    project.registry.fault(path=project.name, redirect=location.format(port=mirror.address[1]))
    assert mirror.get(project.index).body != b"ok\n"


# -------------------------------------------------------------------------------------------------------------- bounded


@promise("bounded")
@pytest.mark.parametrize("what", ["index", "file", "legacy", "provenance"])
def test_queries_do_not_count(mirror: Mirror, fresh: Make, what: str) -> None:
    project = fresh()
    artifact = project.project.artifacts[0]
    path = {
        "index": project.index,
        "file": project.file,
        "legacy": f"/pypi/pypi/{project.name}/json",
        "provenance": f"/pypi/integrity/{project.name}/1.0/{artifact.filename}/provenance",
    }[what]
    replies = [mirror.get(f"{path}?{query}") for query in [f"x={number}" for number in range(20)] + ["", "?", "a=%2e%2e/", "format=json"]]
    assert (
        all(reply.status == 400 for reply in replies)
        or len({(reply.status, reply.body) for reply in replies}) == 1
        and replies[0].status == 200
    )
    assert mirror.get(path).status == 200
    assert [request["path"].count("?") for request in project.asked()] == [0]


ODD = {
    "two dots": "/pypi/simple/other/../{name}/",
    "two dots, encoded": "/pypi/simple/other/%2e%2e/{name}/",
    "two dots, half encoded": "/pypi/simple/other/.%2E/{name}/",
    "two dots at the end": "/pypi/simple/{name}/x/..",
    "one dot": "/pypi/simple/./{name}/",
    "two slashes": "/pypi/simple//{name}/",
    "two slashes first": "//pypi/simple/{name}/",
    "two slashes last": "/pypi/simple/{name}//",
    "an encoded letter": "/pypi/simple/%72{rest}/",
    "an encoded hyphen": "/pypi/simple/row%2d{number}/",
    "an encoded slash last": "/pypi/simple/{name}%2f",
    "an encoded slash first": "/pypi/simple%2f{name}/",
    "an encoded question mark": "/pypi/simple/{name}/%3fx",
    "an encoded zero": "/pypi/simple/{name}/%00",
    "an encoded percent": "/pypi/simple/%2572{rest}/",
    "a backslash": "/pypi/simple\\{name}/",
    "an encoded backslash": "/pypi/simple%5c{name}/",
    "a fragment": "/pypi/simple/{name}/#x",
    "a semicolon": "/pypi/simple/{name}/;x",
    "upper case of the site": "/PYPI/simple/{name}/",
    "a broken escape": "/pypi/simple/{name}/%zz",
    "a lone percent": "/pypi/simple/{name}/%",
    "not utf-8": "/pypi/simple/{name}/%ff",
}


@promise("bounded")
@table("form", ODD)
def test_odd_spellings_poison_nothing(mirror: Mirror, fresh: Make, form: str) -> None:
    """An odd spelling is refused, or is another thing than the plain one: asked first, it does not become what the plain one gives."""
    project = fresh()
    odd = form.format(name=project.name, rest=project.name[1:], number=project.name[4:])
    project.registry.fault(
        path=r"[.%\\;#]|//|^/[^s]|x$", status=200, headers={"Content-Type": "text/html"}
    )  # an upstream that takes anything
    answer = raw(mirror.address, f"GET {odd} HTTP/1.1\r\nHost: mirror.test\r\nAccept: text/html\r\nConnection: close\r\n\r\n".encode())
    project.registry.heal()
    plain = mirror.get(project.index, {"Accept": "text/html"})
    assert good(plain, project.page(HTML), HTML), show(plain)
    if "HTTP/1.1 200" in answer:  # then under a key of its own: it is seen to differ, and to have been asked of upstream as it was spelt
        assert project.page(HTML).decode() not in answer and odd.removeprefix("/pypi") in [
            request["path"] for request in project.registry.requests()
        ]
    else:
        assert re.match(r"HTTP/1.1 4\d\d", answer), answer[:300]


@promise("bounded")
def test_strange_requests_store_little(mirror: Mirror, fresh: Make) -> None:
    """Files on disk after 100 wishes for one page: one for each representation and encoding."""
    project = fresh()
    mirror.get(project.index)
    before = len(mirror.cached())
    for number in range(100):
        mirror.get(
            f"{project.index}?{number}",
            {
                "Accept": f"{JSON};q=0.{number + 1}",
                "Accept-Encoding": f"gzip;q=0.{number + 1}",
                "User-Agent": str(number),
                "Cookie": str(number),
            },
        )
    assert len(mirror.cached()) - before <= 6


# ---------------------------------------------------------------------------------------------------------------- names


@promise("names")
def test_an_address_change_is_followed(world: World, mirror: Mirror, fresh: Make) -> None:
    project = fresh("moving")
    old = project.registry
    mirror.get(project.index)
    with contextlib.ExitStack() as stack:
        stack.callback(setattr, world.names, "table", world.names.table)
        new = Registry(
            *(("127.0.0.2", old.origins[kind].address[1]) for kind in ("index", "files")), index_url=old.index_url, files_url=old.files_url
        )
        stack.enter_context(new)
        new.publish("row-moved", "1.0")
        old.vanish()
        world.names.table = world.names.table | {"moving.test": "127.0.0.2", "files-moving.test": "127.0.0.2"}
        assert until(lambda: mirror.get("/moving/simple/row-moved/").status == 200, 10, 0.3), "it keeps to the old address"
        moved = Fresh(new, "row-moved", "moving")
        assert good(mirror.get(moved.file), moved.content)


@promise("names")
@pytest.mark.parametrize("mode", ["missing", "silent"])
def test_a_name_server_that_fails(world: World, mirror: Mirror, fresh: Make, mode: str) -> None:
    """A boot without name service: the mirror starts, and serves what it has."""
    project = fresh("brief")
    before = mirror.get(project.index, {"Accept": PIP}).body
    mirror.get(project.file)
    age()
    world.names.mode = mode
    mirror.stop()
    mirror.start()
    reply = mirror.get(project.index, {"Accept": PIP})
    assert good(reply, before, JSON) and reply.cache == "stale", show(reply)
    assert reply.seconds < 12, "pip gives up after 15 s"
    assert good(mirror.get(project.file), project.content)
    assert mirror.get("/brief/simple/never-seen-before/").status in (502, 504)
    world.names.mode = "answer"
    project.registry.publish(project.name, "2.0")
    assert until(lambda: good(mirror.get(project.index, {"Accept": PIP}), project.page(JSON), JSON), 10), "it does not recover by itself"
    mirror.stop()  # one of its workers may still wait for an answer that was never sent, and a later row for that worker
    mirror.start()


# ----------------------------------------------------------------------------------------------------------------- disk


@promise("disk")
@pytest.mark.parametrize("harm", ["deleted", "emptied", "overwritten", "cut"])
def test_damage_heals(mirror: Mirror, fresh: Make, harm: str) -> None:
    """Cached files that vanish or no longer make sense, while it runs and across a start."""
    project = fresh(size=50_000, kinds="wheel")

    def look() -> bool:
        return good(mirror.get(project.file), project.content) and good(
            mirror.get(project.index, {"Accept": PIP}), project.page(JSON), JSON
        )

    for restart in False, True:
        mirror.wipe()
        assert look()
        for path in mirror.cached():
            if harm == "deleted":
                path.unlink()
            elif harm == "emptied":
                path.write_bytes(b"")
            elif harm == "overwritten":
                path.write_bytes(b"x" * path.stat().st_size)
            else:
                path.write_bytes(path.read_bytes()[:40])
        if restart:
            mirror.stop()
            mirror.start()
        look()  # the first may find the damage
        assert look() and look(), f"restart={restart}"


@promise("disk")
def test_what_is_stored_outlives_a_restart(mirror: Mirror, fresh: Make) -> None:
    project = fresh()
    mirror.get(project.file)
    mirror.get(project.index)
    project.registry.forget()
    mirror.stop()
    mirror.start()
    assert good(mirror.get(project.file), project.content) and good(mirror.get(project.index), project.page(HTML))
    assert project.asked() == []


# --------------------------------------------------------------------------------------------------------------- itself


@promise("itself")
def test_health(world: World, mirror: Mirror) -> None:
    for method, body in ("GET", b"ok\n"), ("HEAD", b""):
        reply = mirror.get("/health", method=method)
        assert (reply.status, reply.type, reply.body) == (200, "text/plain", body)
    assert all(registry.requests() == [] for registry in world.registries.values())


@promise("itself")
def test_the_document(mirror: Mirror) -> None:
    reply = mirror.get("/mirror.json")
    document = json.loads(reply.body)
    assert reply.type == "application/json"
    assert (document["version"], document["name"], document["region"], document["engine"]) == (1, "mirror.test", "test", mirror.engine)
    assert document["url"] == f"http://mirror.test:{mirror.address[1]}"
    assert [site["name"] for site in document["sites"]] == [site["name"] for site in mirror.sites]
    pypi = document["sites"][0]
    assert (pypi["index"], pypi["path"], pypi["upstream"]) == ("/pypi/simple/", "/pypi/", mirror.sites[0]["upstream"])
    assert document["mirror_info"]["pypi"]["url"] == document["url"] + "/pypi/simple"


@promise("itself")
def test_the_landing_page(mirror: Mirror) -> None:
    """It names every site, and needs nothing from elsewhere."""
    reply = mirror.get("/")
    text = reply.body.decode()
    assert reply.type == "text/html" and re.match(r"(<!--.*?-->\s*)?<!doctype html>", text, re.I | re.S)
    assert all(f"/{site['name']}/" in text for site in mirror.sites)
    assert not re.search(r"""(?:src|<link[^>]*href)\s*=\s*["']?(?:https?:)?//|@import|url\(""", text, re.I)


@promise("itself")
@table(
    "path",
    {
        "nothing": "/nothing/here",
        "a folder": "/pypi",
        "configuration": "/mirror.conf",
        "dot file": "/.git/config",
        "status": "/nginx_status",
        "server status": "/server-status",
    },
)
def test_nothing_else_is_served(mirror: Mirror, path: str) -> None:
    reply = mirror.get(path)
    assert reply.status in (301, 404) and (reply.status == 404 or reply["Location"] == path + "/"), show(reply)


@promise("itself")
def test_versions_are_not_told(mirror: Mirror, fresh: Make) -> None:
    for path in "/", "/nothing", fresh().index:
        reply = mirror.get(path)
        assert not re.search(r"/\d+\.\d+", reply["Server"]) and not re.search(rb"(?i)(nginx|apache)/\d", reply.body)


@promise("itself")
@patient
def test_cache_status(mirror: Mirror, fresh: Make) -> None:
    """RFC 9211."""
    project = fresh("steady")
    told = [mirror.get(project.index)["Cache-Status"], mirror.get(project.index)["Cache-Status"]]
    project.registry.publish(project.name, "2.0")
    age(EXPIRED + 3)
    told.append(mirror.get(project.index)["Cache-Status"])
    assert told == ["nearby; fwd=uri-miss", "nearby; hit", "nearby; fwd=stale"]
    lines = until(lambda: len(found := mirror.log(project.pattern)) == 3 and found, 4)
    assert lines and sorted(line["cache"] for line in lines) == ["EXPIRED", "HIT", "MISS"]
    assert [mirror.get(project.file)["Cache-Status"] for _time in range(2)] == ["nearby; fwd=uri-miss", "nearby; hit"]


@promise("itself")
@patient
def test_cache_status_just_after_expiry(mirror: Mirror, fresh: Make) -> None:
    project = fresh("steady")
    mirror.get(project.index)
    age(EXPIRED)
    assert mirror.get(project.index)["Cache-Status"] == "nearby; hit; detail=STALE"
    assert until(lambda: mirror.get(project.index).cache == "hit")


@promise("itself")
def test_the_access_log_has_every_request_and_its_cache_status(mirror: Mirror, fresh: Make) -> None:
    project = fresh()
    for path in project.index, project.index, project.file, project.file:
        mirror.get(path, {"User-Agent": 'quote " backslash \\ end', "Range": "bytes=0-9"} if path == project.file else {"Accept": PIP})
    lines = until(lambda: len(found := mirror.log(project.pattern)) == 4 and found, 4)
    assert lines, "not in the log after 4 s"
    lines.sort(key=lambda line: (line["uri"] == project.file, line["cache"] == "HIT"))  # each worker writes when it has time
    assert [(line["uri"], line["cache"], line["status"]) for line in lines] == [
        (project.index, "MISS", 200),
        (project.index, "HIT", 200),
        (project.file, "MISS", 206),
        (project.file, "HIT", 206),
    ]
    assert lines[-1]["bytes"] == 10 and lines[-1]["range"] == "bytes=0-9" and lines[-1]["agent"] == 'quote " backslash \\ end'
    assert all(line["method"] == "GET" and line["client"] == "127.0.0.1" for line in lines)


@promise("itself")
def test_the_upstream_log_has_every_fetch(mirror: Mirror, fresh: Make) -> None:
    project = fresh()
    mirror.get(project.index)
    mirror.get(project.index)
    mirror.get(project.file)
    log = mirror.root / "log" / "upstream.log"
    urls = [f"{project.registry.index_url}/simple/{project.name}/", f"{project.registry.files_url}{project.project.artifacts[0].path}"]

    def lines() -> list[dict[str, t.Any]]:
        return [line for line in map(json.loads, log.read_text().splitlines()) if line["url"] in urls]

    assert until(lambda: len(lines()) == 2, 4), lines()
    assert {line["url"] for line in lines()} == set(urls)
    assert max(int(line["bytes"]) for line in lines()) >= len(project.content)


# -------------------------------------------------------------------------------------------------------------- generic


@promise("generic")
def test_a_prefix_is_an_upstream(world: World, mirror: Mirror) -> None:
    registry = world.registries["tools"]
    for path in "a.txt", "deep/er/b.bin", "with?mark":
        registry.put(f"/static/{path.split('?')[0]}", f"this is {path}", "text/x-fixture")
        for cache in "miss", "hit":
            reply = mirror.get(f"/tools/{path}")
            assert good(reply, f"this is {path}".encode(), "text/x-fixture") and reply.cache == cache, show(reply)
    registry.put("/secret", "outside the prefix")
    for path in "/tools/../secret", "/tools/%2e%2e/secret", "/tools/..%2fsecret", "/tools//secret", "/secret":
        assert mirror.get(path).body != b"outside the prefix"


@promise("generic")
@patient
def test_what_never_changes_is_fetched_once(world: World, mirror: Mirror) -> None:
    registry = world.registries["tools"]
    for path in "v1.2/tool.tgz", "latest/tool.tgz":
        registry.put(f"/static/{path}", "first")
        assert mirror.get(f"/nightly/{path}").body == b"first"
        registry.put(f"/static/{path}", "other")
    age()
    assert mirror.get("/nightly/v1.2/tool.tgz").body == b"first"
    assert mirror.get("/nightly/latest/tool.tgz").body == b"other"
    assert len(registry.requests("/static/v1.2/tool.tgz")) == 1


@promise("generic")
def test_a_file_that_lies_elsewhere_is_fetched_from_there(world: World, mirror: Mirror) -> None:
    registry = world.registries["tools"]
    registry.put("/static/v2.0/there.tgz", "lies here")
    fault = registry.fault(path="^/static/v2.0/asked.tgz$", redirect=f"{registry.index_url}/static/v2.0/there.tgz")
    assert good(mirror.get("/tools/v2.0/asked.tgz"), b"lies here")
    registry.heal(fault)
    assert mirror.get("/tools/v2.0/asked.tgz").cache == "hit"
    registry.fault(path="^/static/v2.0/secret.tgz$", redirect=f"{world.stranger.index_url}/static/v2.0/there.tgz")
    assert mirror.get("/tools/v2.0/secret.tgz").status == 502 and world.stranger.requests() == []


@promise("generic")
@table("size", {"small": 0, "of several slices": SIZE})
def test_a_file_that_lies_at_another_declared_origin_is_fetched_from_there(mirror: Mirror, fresh: Make, size: int) -> None:
    project = fresh("tools", size=size, kinds="wheel")
    there = f"{project.registry.files_url}{project.project.artifacts[0].path}"
    project.registry.fault(path=f"^/static/v3.0/{project.name}.tgz$", redirect=there)
    for cache in "miss", "hit":
        reply = mirror.get(f"/tools/v3.0/{project.name}.tgz")
        assert good(reply, project.content) and reply.cache == cache, show(reply)
        assert {request["origin"] for request in project.asked()} == ({"index", "files"} if cache == "miss" else set())
        project.registry.forget()


@promise("generic")
def test_what_may_change_and_lies_at_another_declared_origin_is_on_the_mirror_too(mirror: Mirror, fresh: Make) -> None:
    """Its client is redirected to a path on the mirror. What lies there is a file, which never changes, and is asked for without query:
    with one, whoever asks first could choose what all others get."""
    project = fresh("nightly", kinds="wheel")
    path = project.project.artifacts[0].path
    project.registry.fault(path=f"^/static/latest/{project.name}.tgz$", redirect=f"{project.registry.files_url}{path}?signed=1")
    for cache in "miss", "hit":
        reply = mirror.get(f"/nightly/latest/{project.name}.tgz")
        assert (reply.status, reply["Location"].partition("?")[0]) == (302, f"/nightly/files{path}"), show(reply)
        assert reply["Server"] == mirror.get("/")["Server"], "the upstream's own"
        reply = mirror.get(reply["Location"])
        assert good(reply, project.content) and reply.cache == cache, show(reply)
    assert [request["path"] for request in project.asked("files")] == [path]


@promise("closed")
@table("path", {"never changes": "v3.0", "may change": "latest"})
@table(
    "where",
    {
        "another host": "{stranger}",
        "another port": "{declared}:{port}",
        "no scheme": "//stranger.test:{port}",
        "behind a declared origin": "{origin}@stranger.test:{port}",
    },
)
def test_a_redirect_to_an_origin_that_is_not_declared_is_refused(
    world: World, mirror: Mirror, numbers: t.Iterator[int], path: str, where: str
) -> None:
    registry, stranger, rest = world.registries["tools"], world.stranger, f"{path}/refused-{next(numbers)}.tgz"
    port = stranger.origins["index"].address[1]
    declared = registry.files_url.rpartition(":")[0]
    location = where.format(stranger=stranger.index_url, declared=declared, origin=registry.files_url, port=port)
    before = sum(origin.connections for origin in stranger.origins.values())
    fault = registry.fault(path=f"^/static/{rest}$", redirect=f"{location}/simple/")
    reply = mirror.get(f"/tools/{rest}")
    assert reply.status == 502 and not reply["Location"] and b"href" not in reply.plain, show(reply)
    assert sum(origin.connections for origin in stranger.origins.values()) == before
    registry.heal(fault)
    assert mirror.get(f"/tools/{rest}").status == 404, "the refusal is not stored"


@promise("once")
def test_50_clients_of_one_cold_file_of_any_host(world: World, mirror: Mirror) -> None:
    registry = world.registries["tools"]
    registry.put("/static/v4.0/herd.tgz", "wanted by many")
    registry.fault(path="^/static/v4.0/herd.tgz$", delay=0.5)
    replies = at_once(50, lambda _number: mirror.get("/tools/v4.0/herd.tgz"))
    assert all(good(reply, b"wanted by many") for reply in replies), [show(reply) for reply in replies]
    assert len(registry.requests("^/static/v4.0/herd.tgz$")) == 1


@promise("generic")
def test_bodies_are_not_rewritten(world: World, mirror: Mirror) -> None:
    registry = world.registries["tools"]
    text = f'<a href="{registry.index_url}/static/x">x</a> {{"url":"{registry.files_url}/y"}}'
    for media_type in "text/html", "application/json", "text/plain":
        registry.put(f"/static/page-{media_type}", text, media_type)
        assert good(mirror.get(f"/tools/page-{media_type}"), text.encode(), media_type)


@promise("generic")
@patient
def test_stale_and_ranges_work_there_too(world: World, mirror: Mirror) -> None:
    registry = world.registries["tools"]
    registry.put("/static/listing", "0123456789")
    mirror.get("/nightly/listing")
    age()
    registry.fault(path="/listing", status=503)
    reply = mirror.get("/nightly/listing")
    assert reply.body == b"0123456789" and reply.cache == "stale"
    assert mirror.get("/nightly/listing", {"Range": "bytes=2-4"}).body == b"234"


@promise("generic")
@table("path", {"lower": "/tools/..%2ftools/secret", "upper": "/tools/x%2F..%2Fsecret", "at the end": "/tools/x%2f.."})
def test_an_encoded_slash_leads_out_of_no_prefix(world: World, mirror: Mirror, path: str) -> None:
    """A server that decodes it would see dots where the mirror saw none."""
    assert mirror.get(path).status == 400
    assert world.registries["tools"].requests(r"\.\.") == []


@promise("generic")
def test_an_encoding_that_belongs_to_the_body_stays(world: World, mirror: Mirror) -> None:
    registry = world.registries["tools"]
    registry.put("/static/archive", "as it lies there")
    registry.fault(path="^/static/archive$", headers={"Content-Encoding": "gzip"})
    for _time in range(2):
        reply = mirror.get("/tools/archive")
        assert reply.status == 200 and reply.body == b"as it lies there" and reply["Content-Encoding"] == "gzip", show(reply)
