# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The client against a server on loopback that does what a test tells it to."""

from __future__ import annotations

import datetime
import gzip
import ipaddress
import socket
import ssl
import threading
import time
from contextlib import contextmanager

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.http import BodyTooLarge, Client, Headers, HttpError, Response, origin

OK = b"HTTP/1.1 200 OK\r\n"


@contextmanager
def serving(*answers, context=None, pause=0.0):
    """A server that reads one request per connection and sends the next answer, in pieces with a pause between them.

    Yields its port and the list of what it was asked; an answer is bytes, or a list of pieces.
    """
    asked, held = [], []
    listener = socket.create_server(("127.0.0.1", 0))
    listener.settimeout(5)

    def serve():
        for answer in answers:
            try:
                connection, _address = listener.accept()
                connection.settimeout(5)
                connection = context.wrap_socket(connection, server_side=True) if context else connection
                held.append(connection)
                asked.append(connection.recv(65536))
                for piece in [answer] if isinstance(answer, bytes) else answer:
                    connection.sendall(piece)
                    time.sleep(pause)
                if answer != []:
                    connection.close()
            except OSError:
                continue

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1], asked
    finally:
        listener.close()
        thread.join(6)
        for connection in held:
            connection.close()


def ask(*answers, method="GET", headers=None, client=None, path="/", **limits):
    with serving(*answers) as (port, asked):
        url = f"http://127.0.0.1:{port}{path}"
        return (client or Client(timeout=5)).request(method, url, headers, **limits), asked


def refusal(*answers, **given):
    with pytest.raises(HttpError) as caught:
        ask(*answers, **given)
    return str(caught.value)


def test_get():
    body = OK + b"Content-Length: 2\r\nX-A: 1\r\nx-a: 2\r\nContent-Type: Text/HTML; charset=utf-8\r\n\r\nhi"
    response, asked = ask(body, path="/a b/%2e?q=1 2", headers={"Accept": "x/y"})
    assert (response.status, response.body, response.media_type) == (200, b"hi", "text/html")
    assert response.headers.get("X-A") == "1, 2" and response.headers.all("x-A") == ["1", "2"] and "x-a" in response.headers
    assert response.headers.get("X-B", "none") == "none"
    assert response.milliseconds > 0 and response.certificate_days is None
    lines = asked[0].split(b"\r\n")
    assert lines[0] == b"GET /a%20b/%2e?q=1%202 HTTP/1.1"
    assert {b"Accept: x/y", b"Accept-Encoding: identity", b"Connection: close", b"User-Agent: nearby.mirrors"} <= set(lines)


def test_environment_proxies_are_ignored(monkeypatch):
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    assert ask(OK + b"Content-Length: 0\r\n\r\n")[0].status == 200


CHUNKED = OK + b"Transfer-Encoding: chunked\r\n\r\n"
BODIES = {
    "length": (OK + b"Content-Length: 3\r\n\r\nabc", b"abc"),
    "chunked": (CHUNKED + b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
    "until the end": (OK + b"\r\nabc", b"abc"),
    "error": (b"HTTP/1.1 503 No\r\nContent-Length: 1\r\n\r\nx", b"x"),
    "not modified": (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
}


@pytest.mark.parametrize("name", BODIES)
def test_body(name):
    assert ask(BODIES[name][0])[0].body == BODIES[name][1]


REFUSALS = {
    "short of its length": (OK + b"Content-Length: 5\r\n\r\nabc", "the body ended early, 2 bytes short"),
    "a chunk cut": (CHUNKED + b"5\r\nabc", "the body ended early"),
    "the last chunk missing": (CHUNKED + b"3\r\nabc\r\n", "the body ended early"),
    "too large": (OK + b"Content-Length: 101\r\n\r\n" + b"x" * 101, "answered with more than 100 bytes"),
    "too large in chunks": (CHUNKED + b"65\r\n" + b"x" * 101 + b"\r\n0\r\n\r\n", "answered with more than 100 bytes"),
    "no HTTP": (b"SSH-2.0-x\r\n", "the answer is not HTTP (BadStatusLine)"),
    "closed": (b"", "the connection was closed without an answer"),
    "endless headers": (OK + b"X: y\r\n" * 200 + b"\r\n", "the answer is not HTTP (HTTPException)"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSALS)
def test_refusal(name):
    answer, sentence = REFUSALS[name]
    with pytest.raises(HttpError) as caught:
        ask(answer, max_body=100)
    text = str(caught.value)
    assert text.startswith("GET http://127.0.0.1:") and text.endswith(sentence)
    assert isinstance(caught.value, BodyTooLarge) == name.startswith("too large")


@pytest.mark.parametrize("start", [b"", OK, OK + b"Content-Length: 9\r\n\r\n"])
def test_deadline_holds_for_a_server_that_drips(start):
    started = time.monotonic()
    with serving([start] + [b"x"] * 20, pause=0.1) as (port, _asked), pytest.raises(HttpError) as caught:
        Client(timeout=0.4).get(f"http://127.0.0.1:{port}/")
    assert str(caught.value).endswith("no complete answer within 0.4 seconds")
    assert time.monotonic() - started < 4


def test_head():
    response, asked = ask(OK + b"Content-Length: 5\r\n\r\n", method="HEAD")
    assert response.headers.get("Content-Length") == "5" and response.body == b"" and asked[0].startswith(b"HEAD / ")


def test_head_shows_a_body_that_must_not_be_there():
    assert ask(OK + b"Content-Length: 5\r\n\r\nabcde", method="HEAD")[0].body == b"abcde"


def test_head_does_not_wait_for_a_connection_left_open():
    started = time.monotonic()
    with serving([OK + b"Content-Length: 5\r\n\r\n"], pause=1.5) as (port, _asked):
        response = Client(timeout=30).head(f"http://127.0.0.1:{port}/")
        assert response.status == 200 and time.monotonic() - started < 1.4


def test_refused():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    with pytest.raises(HttpError, match="failed: the connection was refused$"):
        Client().get(f"http://127.0.0.1:{port}/")


def test_name_that_does_not_resolve(monkeypatch):
    def fail(*_args, **_kwargs):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", fail)
    with pytest.raises(HttpError, match=r"the name host\.test does not resolve \(Name or service not known\)$"):
        Client().get("http://host.test/")


@pytest.mark.parametrize("url", ["mirror.test", "ftp://mirror.test/", "http:///x", "http://mirror.test:x/", "http://mirror.test:99999/"])
def test_bad_url(url):
    with pytest.raises(HttpError, match="is not a URL"):
        Client().get(url)


def test_credentials_are_refused_and_not_repeated():
    with pytest.raises(HttpError) as caught:
        Client().get("http://user:secret@mirror.test/")
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("header", ["a\r\nX-Injected: 1", "a\nb"])
def test_header_injection(header):
    assert "failed:" in refusal(OK, headers={"Accept": header})


def redirect(to):
    return b"HTTP/1.1 302 Found\r\nContent-Length: 0\r\nLocation: " + to + b"\r\n\r\n"


def test_redirects_are_answers_unless_asked_for():
    assert ask(redirect(b"/b"))[0].status == 302


def test_redirects_are_followed_on_request():
    response, asked = ask(redirect(b"b"), OK + b"Content-Length: 1\r\n\r\nx", path="/a/", redirects=1)
    assert response.body == b"x" and response.url.endswith("/a/b") and asked[1].startswith(b"GET /a/b ")


def test_redirects_are_bounded():
    assert refusal(redirect(b"/b"), redirect(b"/b"), redirects=1).endswith("redirects more than 1 times")


def test_redirects_stay_where_they_may():
    assert "redirects to another place, http://other.test/x" in refusal(redirect(b"//other.test/x"), redirects=3)
    with serving(OK + b"Content-Length: 1\r\n\r\nx") as (port, _asked):
        there = f"http://localhost:{port}"
        assert ask(redirect(there.encode() + b"/x"), redirects=1, origins=[there])[0].body == b"x"


ENCODED = {
    "identity": ("identity", b"abc", b"abc"),
    "gzip": ("gzip", gzip.compress(b"abc"), b"abc"),
    "members": ("x-gzip", gzip.compress(b"ab") + gzip.compress(b"c"), b"abc"),
    "exactly": ("gzip", gzip.compress(b"x" * 1000), b"x" * 1000),
    "a bomb": ("gzip", gzip.compress(b"x" * 1001), "decodes to more than 1000 bytes"),
    "cut": ("gzip", gzip.compress(b"abc")[:-1], "ends early"),
    "empty": ("gzip", b"", "ends early"),
    "plain": ("gzip", b"abc", "does not decode"),
    "brotli": ("br", b"abc", "the encoding 'br'"),
}


@pytest.mark.parametrize("name", ENCODED)
def test_decoded(name):
    coding, body, expected = ENCODED[name]
    response = Response(200, Headers({"content-encoding": coding}), body, "http://mirror.test/")
    if isinstance(expected, bytes):
        assert response.decoded(1000) == expected
    else:
        with pytest.raises(HttpError, match=expected):
            response.decoded(1000)


ORIGINS = {
    "https://Files.Test:443/a?b": "https://files.test",
    "http://files.test:8080": "http://files.test:8080",
    "http://[::1]:80/": "http://[::1]",
    "/a": "",
    "//files.test/a": "",
    "mailto:a@b.test": "",
    "http://files.test:x/": "",
    "http://[files.test/": "",
}


@pytest.mark.parametrize("url", ORIGINS)
def test_origin(url):
    assert origin(url) == ORIGINS[url]


def certificate(folder, days=30.0, names=("localhost",)):
    """A self-signed certificate; its PEM file (with the key) and a server's context with it."""
    x509 = pytest.importorskip("cryptography.x509")
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.datetime.now(datetime.UTC)
    alternatives = [x509.DNSName(name) for name in names] + [x509.IPAddress(ipaddress.ip_address("127.0.0.2"))]
    built = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=90))
        .not_valid_after(now + datetime.timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .sign(key, hashes.SHA256())
    )
    secret = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    pem = folder / "server.pem"
    pem.write_bytes(built.public_bytes(serialization.Encoding.PEM) + secret)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    return str(pem), context


def ask_tls(context, ca_path, host="localhost"):
    with serving(OK + b"Content-Length: 2\r\n\r\nhi", context=context) as (port, _asked):
        return Client(ca_path=ca_path, timeout=5).get(f"https://{host}:{port}/")


def test_tls(tmp_path):
    pem, context = certificate(tmp_path)
    response = ask_tls(context, pem)
    assert response.body == b"hi" and response.certificate_days == pytest.approx(30, abs=0.2)


def test_tls_untrusted(tmp_path):
    _pem, context = certificate(tmp_path)
    with pytest.raises(HttpError, match=r"not trusted by the host's CA bundle \(self[- ]signed certificate\)$"):
        ask_tls(context, "")


def test_tls_expired(tmp_path):
    pem, context = certificate(tmp_path, days=-1)
    with pytest.raises(HttpError, match=r"\(certificate has expired\)$"):
        ask_tls(context, pem)


def test_tls_of_another_name(tmp_path):
    pem, context = certificate(tmp_path, names=("other.test",))
    with pytest.raises(HttpError, match="not valid for 'localhost'"):
        ask_tls(context, pem)


def test_tls_of_another_name_where_the_certificate_itself_is_trusted(tmp_path):
    pem, context = certificate(tmp_path, names=("other.test",))
    with serving(OK + b"Content-Length: 2\r\n\r\nhi", context=context) as (port, _asked):
        response = Client(certificate=pem, timeout=5).get(f"https://127.0.0.1:{port}/")
    assert response.body == b"hi" and response.certificate_days == pytest.approx(30, abs=0.2)


def test_only_the_first_certificate_of_its_file_is_trusted(tmp_path):
    (tmp_path / "other").mkdir()
    _pem, context = certificate(tmp_path)
    certificate(tmp_path / "other")
    chain = tmp_path / "chain.pem"
    chain.write_text((tmp_path / "other/server.pem").read_text() + (tmp_path / "server.pem").read_text())
    with serving(OK, context=context) as (port, _asked), pytest.raises(HttpError, match=f"is not trusted by {chain} "):
        Client(certificate=str(chain), timeout=5).get(f"https://localhost:{port}/")


def test_a_certificate_that_is_missing_or_none(tmp_path):
    (empty := tmp_path / "empty.pem").write_text("nothing")
    for path in empty, tmp_path / "none.pem":
        with pytest.raises(HttpError, match=f"the certificate {path} cannot be used: "):
            Client(certificate=str(path)).get("https://127.0.0.1:9/")


def test_tls_spoken_to_a_plain_port():
    with serving(b"HTTP/1.1 400 No\r\n\r\n") as (port, _asked), pytest.raises(HttpError, match="TLS failed"):
        Client(timeout=5).get(f"https://127.0.0.1:{port}/")


def test_ca_file_that_is_missing(tmp_path):
    with pytest.raises(HttpError, match=r"the CA file .*none\.pem \(ca_path\) does not exist$"):
        Client(ca_path=str(tmp_path / "none.pem")).get("https://127.0.0.1:9/")


def test_ca_file_that_is_none(tmp_path):
    (tmp_path / "ca.pem").write_text("no certificate")
    with pytest.raises(HttpError, match=r"\(ca_path\) cannot be used"):
        Client(ca_path=str(tmp_path / "ca.pem")).get("https://127.0.0.1:9/")
