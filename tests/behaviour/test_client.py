# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The behaviour table, what clients do: names, smuggling, poisoning, many connections and slow ones, old protocols."""

from __future__ import annotations

import contextlib
import os
import re
import resource
import socket
import time
import typing as t
import urllib.parse

import pytest
from bench import ACCEPT, Fresh, Mirror, World, at_once, fetch, good, raw, show
from promises import promise, table
from registry import HTML, JSON

Make = t.Callable[..., Fresh]

# ---------------------------------------------------------------------------------------------------------------- names


@promise("closed")
@pytest.mark.parametrize(
    "host", ["stranger.test", "mirror.test.stranger.test", "xmirror.test", "192.0.2.77", "[2001:db8::77]:80", "pool.test"]
)
def test_a_name_that_is_not_the_mirrors(mirror: Mirror, spare: Mirror, fresh: Make, host: str) -> None:
    """Whatever is asked for, warm or cold; only a load balancer's question for health is answered."""
    project = fresh()
    assert good(mirror.get(project.index), project.page(HTML))
    for path in project.index, project.file, "/", "/mirror.json", "/nothing", "/healthy", "/tools/x", f"/pypi/pypi/{project.name}/json":
        for port in "", ":8080":
            name = host if "]:" in host else host + port
            reply = mirror.get(path, {"Host": name})
            assert reply.status == 421 and reply.body.startswith(b"The mirror has no such name; "), (path, show(reply))
    assert mirror.get("/health", {"Host": host}).body == b"ok\n"
    assert [request["path"] for request in project.asked()] == [f"/simple/{project.name}/"]
    assert spare.get("/", {"Host": host}).status == 421


@promise("closed")
@pytest.mark.parametrize(
    ("method", "host", "path", "status"),
    [
        ("GET", "stranger.test", "", 421),
        ("POST", "mirror.test", "", 405),
        ("PUT", "mirror.test", "", 405),
        ("GET", "mirror.test", "/../", 400),
        ("GET", "mirror.test", "", 413),
    ],
)
def test_a_body_is_the_last_of_what_a_request_is_refused_for(
    mirror: Mirror, fresh: Make, method: str, host: str, path: str, status: int
) -> None:
    project = fresh()
    reply = mirror.get(f"{project.index}{path}", {"Host": host, "Content-Length": "5"}, method=method, body=b"12345")
    assert (reply.status, project.asked()) == (status, []), show(reply)
    assert ("GET, HEAD" in reply["Allow"]) == (status == 405), show(reply)


@promise("closed")
def test_every_name_of_the_mirror(mirror: Mirror, fresh: Make) -> None:
    project = fresh()
    for host in "mirror.test", "MIRROR.Test", "mirror.test.", "localhost", socket.gethostname(), "127.0.0.1", "[::1]":
        for port in "", ":80", ":8080", f":{mirror.address[1]}":
            assert good(mirror.get(project.index, {"Host": host + port}), project.page(HTML)), host + port
    assert good(mirror.get(f"http://mirror.test:8080{project.index}", {"Host": "mirror.test:8080"}), project.page(HTML))
    assert len(project.asked()) == 1


@promise("closed")
def test_the_address_that_a_client_connected_to(spare: Mirror, fresh: Make) -> None:
    """It is a name of the mirror, and no other address is."""
    project = fresh()
    for port in "", f":{spare.address[1]}":
        assert good(fetch(("127.0.0.7", spare.address[1]), project.index, {"Host": f"127.0.0.7{port}"}), project.page(HTML))
        assert fetch(("127.0.0.7", spare.address[1]), project.index, {"Host": f"127.0.0.8{port}"}).status == 421


@promise("closed")
def test_names_that_were_added(mirror: Mirror, spare: Mirror, fresh: Make) -> None:
    project = fresh()
    for host in "front.test", "front.test:443", "default", "a.pool.test", "a.b.pool.test:81":
        assert good(spare.get(project.index, {"Host": host}), project.page(HTML)), host
        assert mirror.get(project.index, {"Host": host}).status == 421, host


# ------------------------------------------------------------------------------------------------------------- smuggling

TWICE = "GET /smuggled HTTP/1.1\r\nHost: mirror.test\r\n\r\n"


@promise("closed")
@table(
    "lines",
    {
        "a length and chunks": f"Content-Length: {len(TWICE) + 5}\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n{TWICE}",
        "chunks and a length": f"Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n{len(TWICE):x}\r\n{TWICE}\r\n0\r\n\r\n",
        "a blank before the colon": f"Transfer-Encoding : chunked\r\nContent-Length: 4\r\n\r\n{len(TWICE):x}\r\n{TWICE}\r\n0\r\n\r\n",
        "a tab before the coding": f"Transfer-Encoding:\tchunked\r\n\r\n0\r\n\r\n{TWICE}",
        "a folded coding": f"Transfer-Encoding:\r\n chunked\r\n\r\n0\r\n\r\n{TWICE}",
        "a folded length": f"Content-Length:\r\n {len(TWICE)}\r\n\r\n{TWICE}",
        "two codings": f"Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n\r\n0\r\n\r\n{TWICE}",
        "two lengths": f"Content-Length: 0\r\nContent-Length: {len(TWICE)}\r\n\r\n{TWICE}",
        "two lengths in one": f"Content-Length: 0, {len(TWICE)}\r\n\r\n{TWICE}",
        "a length with a sign": f"Content-Length: +{len(TWICE)}\r\n\r\n{TWICE}",
        "a negative length": f"Content-Length: -1\r\n\r\n{TWICE}",
        "a length in hexadecimal": f"Content-Length: 0x20\r\n\r\n{TWICE}",
        "a length, and a body that is a request": f"Content-Length: {len(TWICE)}\r\n\r\n{TWICE}",
        "chunks that hold a request": f"Transfer-Encoding: chunked\r\n\r\n{len(TWICE):x}\r\n{TWICE}\r\n0\r\n\r\n",
        "an underscore": f"Content_Length: 0\r\nTransfer_Encoding: chunked\r\nContent-Length: {len(TWICE)}\r\n\r\n{TWICE}",
    },
)
@pytest.mark.parametrize("what", ["index", "file"])
def test_smuggling(mirror: Mirror, fresh: Make, what: str, lines: str) -> None:
    """What is in the body of one request is no request of its own, neither here nor upstream."""
    project = fresh()
    path, body = (project.file, project.content) if what == "file" else (project.index, project.page(HTML))
    with contextlib.suppress(OSError):
        answer = raw(mirror.address, f"GET {path} HTTP/1.1\r\nHost: mirror.test\r\n{lines}".encode())
        assert re.match(r"HTTP/1.1 (4\d\d|501)", answer), answer[:300]
        assert answer.count("HTTP/1.1 ") == 1, answer[:1000]
    assert project.registry.requests("smuggled") == [] and all(request["body"] == 0 for request in project.asked())
    assert good(mirror.get(path), body)


@promise("http")
def test_the_absolute_form_of_the_mirror_itself(mirror: Mirror, fresh: Make) -> None:
    """As a proxy is asked (RFC 9112, 3.2.2)."""
    project = fresh()
    assert good(mirror.get(project.index), project.page(HTML))
    request = f"GET http://mirror.test{project.index} HTTP/1.1\r\nHost: mirror.test\r\nConnection: close\r\n\r\n"
    for _time in range(2):
        answer = raw(mirror.address, request.encode())
        assert answer.startswith("HTTP/1.1 200 ") and "Cache-Status: nearby; hit\r\n" in answer, answer
        assert project.page(HTML) in answer.encode("latin-1")
    assert len(project.asked("index")) == 1


@promise("closed")
@table(
    "sent, statuses",
    {
        "bare line feeds": ("GET {path} HTTP/1.1\nHost: mirror.test\nConnection: close\n\n", (200, 400)),
        "a folded header": ("GET {path} HTTP/1.1\r\nHost: mirror.test\r\nX-A: b\r\n c\r\nConnection: close\r\n\r\n", (200, 400)),
        "a folded host": ("GET {path} HTTP/1.1\r\nHost: mirror.test\r\n .stranger.test\r\nConnection: close\r\n\r\n", (200, 400, 421)),
        "a blank before the host's colon": ("GET {path} HTTP/1.1\r\nHost : mirror.test\r\nConnection: close\r\n\r\n", (400,)),
        "two hosts": ("GET {path} HTTP/1.1\r\nHost: mirror.test\r\nHost: stranger.test\r\n\r\n", (400,)),
        "absolute form of another host": (
            "GET http://stranger.test{path} HTTP/1.1\r\nHost: mirror.test\r\nConnection: close\r\n\r\n",
            (400, 421),
        ),
        "a lone carriage return": ("GET {path} HTTP/1.1\r\nHost: mirror.test\r\nX-A: b\rX-B: c\r\nConnection: close\r\n\r\n", (200, 400)),
        "a zero in a header": ("GET {path} HTTP/1.1\r\nHost: mirror.test\r\nX-A: b\x00c\r\nConnection: close\r\n\r\n", (400,)),
        "a header without a name": ("GET {path} HTTP/1.1\r\nHost: mirror.test\r\n: c\r\nConnection: close\r\n\r\n", (200, 400)),
        "a huge header": ("GET {path} HTTP/1.1\r\nHost: mirror.test\r\nX-A: " + "b" * 100_000 + "\r\n\r\n", (400, 431, 494)),
        "5,000 headers": ("GET {path} HTTP/1.1\r\nHost: mirror.test\r\n" + "X-A: b\r\n" * 5_000 + "\r\n", (400, 431, 494)),
        "a long path": ("GET {path}" + "x" * 100_000 + " HTTP/1.1\r\nHost: mirror.test\r\n\r\n", (400, 414)),
        "a long query": ("GET {path}?" + "x" * 100_000 + " HTTP/1.1\r\nHost: mirror.test\r\n\r\n", (400, 414)),
        "no version": ("GET {path}\r\n\r\n", (200, 400, 421)),
        "a version to come": ("GET {path} HTTP/3.0\r\nHost: mirror.test\r\n\r\n", (400, 505)),
        "not http": ("\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + "\x00" * 100, (400,)),
    },
)
def test_requests_that_are_malformed_or_large(mirror: Mirror, fresh: Make, sent: str, statuses: tuple[int, ...]) -> None:
    """They are refused, or understood as their sender meant them; the mirror goes on."""
    project = fresh()
    with contextlib.suppress(OSError):
        answer = raw(mirror.address, sent.replace("{path}", project.index).encode("latin-1"))
        status = re.match(r"HTTP/1.1 (\d+)", answer)
        assert (int(status[1]) if status else 400) in statuses or (not status and project.name in answer and 200 in statuses), answer[:300]
        assert answer.count("HTTP/1.1 ") <= 1 and "stranger" not in answer
    assert [request["path"] for request in project.asked()] in ([], [f"/simple/{project.name}/"])
    assert good(mirror.get(project.index), project.page(HTML))


# ------------------------------------------------------------------------------------------------------------- poisoning

MARK = "marker-9c1d.test"
HEADERS = [
    "X-Forwarded-For",
    "X-Forwarded-Host",
    "X-Forwarded-Server",
    "X-Forwarded-Proto",
    "X-Forwarded-Scheme",
    "X-Forwarded-Port",
    "X-Forwarded-Prefix",
    "X-Forwarded-Path",
    "X-Forwarded-Uri",
    "X-Forwarded",
    "X-Host",
    "X-Original-Host",
    "X-Original-URL",
    "X-Original-URI",
    "X-Rewrite-URL",
    "X-HTTP-Host-Override",
    "X-HTTP-Method-Override",
    "X-Method-Override",
    "X-Real-IP",
    "X-Client-IP",
    "True-Client-IP",
    "X-ProxyUser-Ip",
    "X-Wap-Profile",
    "Forwarded",
    "Via",
    "Origin",
    "Referer",
    "Cookie",
    "Authorization",
    "User-Agent",
    "Accept-Language",
    "Accept-Charset",
    "Cache-Control",
    "Pragma",
    "From",
    "Base-URL",
    "Proxy-Host",
    "Request-Uri",
    "Destination",
    "Max-Forwards",
    "Content-Type",
    "Content-Encoding",
    "Trailer",
    "SOAPAction",
    "X-Unframed",
    "X-Refresh",
    "X-Stored-Serial",
    "X-Later-Part",
    "X-Accel-Redirect",
    "X-Sendfile",
    "If-Match",
    "X-Random-Q7Z2",
]


@promise("bounded")
@table(
    "what, kind",
    {"json": ("index", JSON), "html": ("index", HTML), "file": ("file", ""), "redirect": ("redirect", ""), "nothing": ("none", "")},
)
def test_no_header_poisons_what_others_get(mirror: Mirror, fresh: Make, what: str, kind: str) -> None:
    """One client sends a mark in every header it can think of, cold; another one gets just what it would have got."""
    project = fresh()
    path = {
        "index": project.index,
        "file": project.file,
        "redirect": f"/pypi/simple/{project.name.upper()}/",
        "none": f"/pypi/simple/{project.name}-none/",
    }[what]
    headers = {"Accept": ACCEPT.get(kind, "*/*")}
    mirror.get(path, headers | dict.fromkeys(HEADERS, MARK))
    reply = mirror.get(path, headers)
    assert MARK not in str(reply.headers) and MARK.encode() not in reply.plain and MARK not in str(project.asked())
    if what == "redirect":
        assert (reply.status, reply["Location"]) == (301, project.index), show(reply)
    elif what == "none":
        assert reply.status == 404
    else:
        assert good(reply, project.page(kind) if kind else project.content, kind), show(reply)


@promise("bounded")
def test_what_a_client_says_of_its_way_leads_no_redirect_astray(mirror: Mirror, fresh: Make) -> None:
    headers = {
        "X-Forwarded-Host": MARK,
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Port": "444",
        "X-Forwarded-Prefix": "/x",
        "Forwarded": f"host={MARK}",
    }
    for path in f"/pypi/simple/{fresh().name.upper()}/", "/pypi/simple", "/pypi":
        location = mirror.get(path, headers)["Location"]
        assert urllib.parse.urlsplit(location)[:2] == ("", ""), location


# ------------------------------------------------------------------------------------------------------ slow and many


@contextlib.contextmanager
def held(mirror: Mirror, count: int, request: bytes) -> t.Iterator[list[socket.socket]]:
    """So many connections that have sent this and stay open."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = max(soft, count + 500)
    if hard < wanted and os.geteuid():
        pytest.skip(f"this user may open {hard} files")
    resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, max(hard, wanted)))
    with contextlib.ExitStack() as stack:
        connections = []
        for _number in range(count):
            connections.append(stack.enter_context(socket.create_connection(mirror.address, timeout=10)))
            connections[-1].sendall(request)
        yield connections


@promise("held")
@table(
    "sent",
    {
        "in the middle of a header": b"GET / HTTP/1.1\r\nHost: mirror.test\r\nX-",
        "in the middle of a line": b"GET /pypi/sim",
        "nothing sent": b"",
        "idle after a request": b"GET /health HTTP/1.1\r\nHost: mirror.test\r\n\r\n",
    },
)
def test_half_open_requests_block_nobody(mirror: Mirror, fresh: Make, sent: bytes) -> None:
    """So many take a stock Nginx down, and one that has only raised its limits fails none of 20 others."""
    projects = [fresh() for _number in range(20)]
    with held(mirror, 8000, sent):
        replies = [mirror.get(project.index, timeout=12) for project in projects]
        assert all(good(reply, project.page(HTML)) for reply, project in zip(replies, projects, strict=True))
        assert max(reply.seconds for reply in replies) < 12, "pip gives up after 15 s"


@promise("held")
def test_slow_readers_hold_up_nobody(mirror: Mirror, fresh: Make) -> None:
    """A hundred clients fetch a large cold file and do not read on; others get it, and theirs."""
    slow, other = fresh(size=9_000_000, kinds="wheel"), fresh()
    request = f"GET {slow.file} HTTP/1.1\r\nHost: mirror.test\r\n\r\n".encode()
    with held(mirror, 100, request) as connections:
        time.sleep(0.5)
        for reply, body in (
            (mirror.get(other.index), other.page(HTML)),
            (mirror.get(other.file), other.content),
            (mirror.get(slow.file), slow.content),
        ):
            assert good(reply, body) and reply.seconds < 3, show(reply)
        got = b""
        while len(got) < len(slow.content):
            got += connections[0].recv(1 << 20)
        assert got.endswith(slow.content), "who reads at last does not get the whole file"
    assert sum(request["sent"] for request in slow.asked("files")) <= 1.02 * len(slow.content)


@promise("http")
@pytest.mark.parametrize("when", ["cold", "warm"])
def test_pipelining(mirror: Mirror, fresh: Make, when: str) -> None:
    """Answers come in the order of the requests."""
    project = fresh()
    wanted = [
        (project.index, project.page(HTML)),
        (project.file, project.content),
        ("/health", b"ok\n"),
        (project.index, project.page(HTML)),
    ] * 3
    if when == "warm":
        mirror.get(project.index)
        mirror.get(project.file)
    requests = "".join(f"GET {path} HTTP/1.1\r\nHost: mirror.test\r\n\r\n" for path, _body in wanted)
    answer = raw(mirror.address, requests.encode()).encode("latin-1")
    for _path, body in wanted:
        head, _blank, rest = answer.partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 200 "), head[:200]
        if b"transfer-encoding: chunked" in head.lower():
            content, rest = unchunk(rest)
        else:
            length = int(re.search(rb"(?i)content-length: (\d+)", head)[1])  # type: ignore[index]
            content, rest = rest[:length], rest[length:]
        assert content == body
        answer = rest
    assert answer == b""


def unchunk(data: bytes) -> tuple[bytes, bytes]:
    """A chunked body without its chunks, and what follows it."""
    body = b""
    while True:
        size, _line, data = data.partition(b"\r\n")
        body, data = body + data[: int(size, 16)], data[int(size, 16) + 2 :]
        if int(size, 16) == 0:
            return body, data


@promise("http")
@pytest.mark.parametrize("when", ["cold", "warm"])
@table("host", {"with a name": "Host: mirror.test\r\n", "without a name": ""})
def test_http_1_0(mirror: Mirror, fresh: Make, host: str, when: str) -> None:
    """No chunks, and the connection ends with the body."""
    project = fresh()
    for path, body in (project.index, project.page(HTML)), (project.file, project.content):
        if when == "warm":
            mirror.get(path)
        answer = raw(mirror.address, f"GET {path} HTTP/1.0\r\n{host}\r\n".encode()).encode("latin-1")
        head, _blank, content = answer.partition(b"\r\n\r\n")
        assert re.match(rb"HTTP/1\.[01] 200 ", head) and b"chunked" not in head and content == body, head


@promise("http")
def test_at_once_from_many(world: World, mirror: Mirror, fresh: Make) -> None:
    """300 clients on different things, cold and warm, are all served."""
    projects = [fresh(kinds="wheel") for _number in range(30)]

    def one(number: int) -> bool:
        project = projects[number % 30]
        return good(mirror.get(project.index), project.page(HTML)) and good(mirror.get(project.file), project.content)

    assert all(at_once(300, one))
