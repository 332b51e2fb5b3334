# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fixture registry itself, asked without a mirror: what the behaviour table takes for granted."""

from __future__ import annotations

import hashlib
import http.client
import json
import subprocess
import sys
import typing as t
from pathlib import Path

import bench
import pytest
from bench import Reply, fetch
from registry import HTML, JSON, V1HTML, Registry, negotiate, normalize

REGISTRY = Path(__file__).parent.parent / "registry" / "registry.py"


@pytest.fixture(scope="module")
def running() -> t.Iterator[Registry]:
    with Registry() as registry:
        yield registry


@pytest.fixture
def registry(running: Registry) -> t.Iterator[Registry]:
    yield running
    running.back()
    running.configure()
    running.forget()


def ask(registry: Registry, path: str, headers: dict[str, str] | None = None, origin: str = "index", **options: t.Any) -> Reply:
    return fetch(registry.origins[origin].address, path, headers, **options)


@pytest.mark.parametrize(
    ("accept", "answer"),
    [
        (None, HTML),
        ("*/*", HTML),
        (f"{JSON}, {V1HTML}; q=0.1, text/html; q=0.01", JSON),
        ("application/vnd.pypi.simple.latest+json", JSON),
        ("application/vnd.pypi.simple.latest+html", V1HTML),
        (f"{JSON};q=0, text/*;q=0.1", HTML),
        (f"*/*;q=0.1, {V1HTML};q=0.2", V1HTML),
        ("text/html;q=0, */*", V1HTML),
        ("application/json", None),
        ("*/*;q=0", None),
    ],
)
def test_negotiate(accept: str | None, answer: str | None) -> None:
    assert negotiate(accept) == answer


def test_normalize() -> None:
    assert normalize("Sample__Pro.j-x") == "sample-pro-j-x"


def test_pages_have_the_headers_of_pypi(registry: Registry) -> None:
    etags = set()
    for accept, encoding in (JSON, ""), (JSON, "gzip"), (HTML, ""), (HTML, "gzip"), (V1HTML, ""):
        reply = ask(registry, "/simple/sampleproj/", {"Accept": accept, "Accept-Encoding": encoding})
        assert (reply.status, reply.type, reply["Content-Encoding"]) == (200, accept, encoding)
        assert (reply["Vary"], reply["Cache-Control"]) == ("Accept, Accept-Encoding", "max-age=600, public")
        assert reply["X-PyPI-Last-Serial"] == "1000000" and not reply["Last-Modified"]
        again = ask(registry, "/simple/sampleproj/", {"Accept": accept, "Accept-Encoding": encoding, "If-None-Match": reply["ETag"]})
        assert again.status == 304 and not again.body and not reply["ETag"].startswith("W/")
        etags.add(reply["ETag"])
    assert len(etags) == 5
    assert ask(registry, "/simple/sampleproj/", {"Accept": "image/png"}).status == 406


def test_both_representations_list_the_same_files(registry: Registry) -> None:
    page, html = (ask(registry, "/simple/large/", {"Accept": accept}) for accept in (JSON, HTML))
    assert min(len(page.body), len(html.body)) > 1_000_000
    files = [entry["url"] for entry in json.loads(page.body)["files"]]
    assert len(files) == 4000 and files == [link.split("#")[0] for link in html.links if "/packages/" in link]


@pytest.mark.parametrize("name", ["sampleproj", "fixture-dep", "localproj"])
def test_files_are_what_the_page_says(registry: Registry, name: str) -> None:
    for entry in json.loads(ask(registry, f"/simple/{name}/", {"Accept": JSON}).body)["files"]:
        path = entry["url"].removeprefix(registry.files_url)
        reply = ask(registry, path, origin="files")
        assert reply.sha256 == entry["hashes"]["sha256"] and len(reply.body) == entry["size"]
        assert path.startswith("/packages/") and hashlib.blake2b(reply.body, digest_size=32).hexdigest() in path.replace("/", "")
        assert reply["Cache-Control"] == "max-age=365000000, immutable, public" and reply["Accept-Ranges"] == "bytes"
        if entry["core-metadata"]:
            assert ask(registry, path + ".metadata", origin="files").sha256 == entry["core-metadata"]["sha256"]
        part = ask(registry, path, {"Range": "bytes=5-9"}, origin="files")
        assert (part.status, part.body, part["Content-Range"]) == (206, reply.body[5:10], f"bytes 5-9/{len(reply.body)}")


def test_names_that_are_not_normalised(registry: Registry) -> None:
    for path in "/simple/Sample.Proj/", "/simple/sample-proj":
        assert (ask(registry, path).status, ask(registry, path)["Location"]) == (301, "/simple/sample-proj/")


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        ({"status": 503}, (503, True)),
        ({"cut": 10}, (200, False)),
        ({"cut": 10, "framing": "chunked"}, (200, False)),
        ({"cut": 10, "reset": True}, (200, False)),
        ({"framing": "close"}, (200, True)),
        ({"redirect": "/elsewhere"}, (302, True)),
        ({"times": 0, "status": 500}, (200, True)),
    ],
)
def test_faults(registry: Registry, fault: dict[str, t.Any], seen: tuple[int, bool]) -> None:
    registry.fault(path="sampleproj", **fault)
    reply = ask(registry, "/simple/sampleproj/")
    assert (reply.status, reply.complete) == seen
    assert ask(registry, "/simple/fixture-dep/").status == 200
    if "cut" in fault:
        assert len(reply.body) <= 10
        assert registry.requests("sampleproj")[0]["sent"] == 10 and not registry.requests("sampleproj")[0]["complete"]


@pytest.mark.parametrize("fault", [{"hang": True}, {"drop": True}])
def test_no_answer(registry: Registry, fault: dict[str, t.Any]) -> None:
    registry.fault(**fault)
    with pytest.raises((OSError, http.client.HTTPException)):
        ask(registry, "/simple/", timeout=0.3)


def test_it_goes_and_comes_back(registry: Registry) -> None:
    registry.vanish()
    with pytest.raises(ConnectionRefusedError):
        ask(registry, "/simple/")
    registry.back()
    assert ask(registry, "/simple/").status == 200


def test_rates(registry: Registry) -> None:
    """A limit over all connections, and one for each."""
    path = registry.publish("rated", "1.0", "wheel", 400_000)[0]
    registry.limit(1e6)
    replies = bench.at_once(2, lambda _number: ask(registry, path, origin="files"))
    assert all(reply.complete for reply in replies) and 0.7 < max(reply.seconds for reply in replies) < 5
    registry.heal()
    registry.fault(origin="files", rate=8e5)
    replies = bench.at_once(10, lambda _number: ask(registry, path, origin="files"))
    assert all(0.4 < reply.seconds < 4 for reply in replies), "together they would take 5 s"


def test_every_nth_connection(registry: Registry) -> None:
    registry.fault(every=3, status=502)
    statuses = [ask(registry, "/simple/").status for _number in range(9)]
    assert statuses.count(502) == 3


def test_a_dead_edge(registry: Registry) -> None:
    """Each connection draws its edge; another address is another draw."""
    registry.fault(edges=6, status=502)
    assert 3 <= [ask(registry, "/simple/").status for _number in range(60)].count(502) <= 20
    registry.heal()
    registry.fault(address="127.0.0.2", status=502)
    assert ask(registry, "/simple/").status == 200


def test_an_interim_response(registry: Registry) -> None:
    registry.fault(interim=103)
    answer = bench.raw(registry.origins["index"].address, b"GET /simple/ HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
    assert answer.startswith("HTTP/1.1 103 ") and "\r\n\r\nHTTP/1.1 200 OK\r\n" in answer


def test_bare(registry: Registry) -> None:
    registry.configure(bare=True)
    reply = ask(registry, "/simple/sampleproj/", {"Accept": JSON, "Accept-Encoding": "gzip"})
    assert reply.type == HTML
    assert not any(reply[header] for header in ("ETag", "Cache-Control", "Vary", "X-PyPI-Last-Serial", "Content-Encoding"))


def test_the_command(tmp_path: Path) -> None:
    """The ports, the log and the verbs over HTTP, as other hosts use them."""
    ports = [bench.free_port() for _port in range(3)]
    listen = [f"127.0.0.1:{port}" for port in ports]
    command = [sys.executable, str(REGISTRY), "--listen", listen[0], "--files-listen", listen[1], "--control-listen", listen[2]]
    with subprocess.Popen(
        [*command, "--files-url", "http://files.test:81", "--log", str(tmp_path / "log")], stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout and json.loads(process.stdout.readline())["index"] == f"http://{listen[0]}"

            def verb(name: str, **arguments: t.Any) -> t.Any:
                body = json.dumps(arguments).encode()
                address = ("127.0.0.1", ports[2])
                return json.loads(fetch(address, f"/{name}", {"Content-Length": str(len(body))}, method="POST", body=body).body)

            assert verb("describe")["files"] == "http://files.test:81"
            assert verb("publish", project="new", version="1.0")[0].startswith("/packages/")
            page = fetch(("127.0.0.1", ports[0]), "/simple/new/")
            assert all(link.startswith("http://files.test:81/") for link in page.links if "/packages/" in link)
            verb("fault", path="/simple/", status=503)
            assert fetch(("127.0.0.1", ports[0]), "/simple/new/").status == 503
            assert [request["status"] for request in verb("requests", origin="index")] == [200, 503]
            assert "no verb" in verb("nonsense")["error"] and "unknown" in verb("fault", staus=1)["error"]
            assert bench.until(lambda: len((tmp_path / "log").read_text().splitlines()) == 2)
        finally:
            process.terminate()
