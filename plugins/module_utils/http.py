# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One bounded HTTP client: every request has a deadline and a size limit, every certificate is verified.

It shows what is on the wire: bodies stay encoded, redirects are followed only on request, and `http_proxy` and its kin
are ignored, because a mirror stands next to the one who asks, and what it can reach is what it reaches without a proxy.
"""

from __future__ import annotations

import http.client
import io
import os
import re
import socket
import ssl
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from urllib.parse import SplitResult, quote, urljoin, urlsplit

MEBIBYTE = 1024 * 1024
REDIRECTS = (301, 302, 303, 307, 308)
DEFAULT_PORTS = {"http": 80, "https": 443}
# A body after HEAD is a fault that shows at once, so a server that keeps the connection open is not waited for.
HEAD_BODY_SECONDS = 0.5


class HttpError(Exception):
    """No answer that can be used. The text is one sentence without a full stop: method, URL and what went wrong."""


class BodyTooLarge(HttpError):
    """There was an answer, whose body is larger than what was to be read of it."""


class Headers:
    """Header fields in the order received; names are case-insensitive, and one name may have several values."""

    def __init__(self, fields: Mapping[str, str] | Iterable[tuple[str, str]] = ()) -> None:
        self.fields = list(fields.items() if isinstance(fields, Mapping) else fields)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.fields if key.lower() == name.lower()]

    def get(self, name: str, default: str = "") -> str:
        """All values of a field as one list, joined with commas (RFC 9110, section 5.3)."""
        return ", ".join(self.all(name)) or default

    def __contains__(self, name: str) -> bool:
        return bool(self.all(name))

    def __repr__(self) -> str:
        return f"Headers({self.fields!r})"


@dataclass(frozen=True)
class Response:
    """An answer as it came: `body` is still encoded, `milliseconds` runs from before the connection to the last byte."""

    status: int
    headers: Headers = field(default_factory=Headers)
    body: bytes = b""
    url: str = ""
    milliseconds: float = 0.0
    certificate_days: float | None = None

    @property
    def media_type(self) -> str:
        return self.headers.get("Content-Type").split(";")[0].strip().lower()

    def decoded(self, limit: int = 256 * MEBIBYTE) -> bytes:
        """The body without its Content-Encoding (gzip or identity), at most `limit` bytes. Raises HttpError."""
        coding = self.headers.get("Content-Encoding", "identity").strip().lower()
        if coding == "identity":
            return self.body
        if coding not in ("gzip", "x-gzip"):
            raise HttpError(f"{self.url} answered in the encoding {coding!r}, which nobody asked for")
        plain, rest = bytearray(), self.body
        while True:
            member = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            try:
                plain += member.decompress(rest, limit + 1 - len(plain))
            except zlib.error as error:
                raise HttpError(f"{self.url} answered gzip that does not decode: {error}") from error
            if len(plain) > limit:
                raise HttpError(f"{self.url} decodes to more than {limit} bytes")
            if not member.eof:
                raise HttpError(f"{self.url} answered gzip that ends early")
            rest = member.unused_data
            if not rest:
                return bytes(plain)


def origin(url: str) -> str:
    """`scheme://host[:port]` of an absolute URL, lower case, without a default port; `""` for any other reference."""
    try:
        parts = urlsplit(url)
        host, port = parts.hostname, parts.port
    except ValueError:
        return ""
    if not parts.scheme or not host:
        return ""
    tail = "" if port in (None, DEFAULT_PORTS.get(parts.scheme)) else f":{port}"
    return f"{parts.scheme}://[{host}]{tail}" if ":" in host else f"{parts.scheme}://{host}{tail}"


def trusting(path: str) -> ssl.SSLContext:
    """A client's context that trusts the first certificate of a PEM file and no other, whatever name it is for. Raises HttpError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    try:
        with open(path, encoding="ascii", errors="replace") as file:
            found = re.search(f"{ssl.PEM_HEADER}.*?{ssl.PEM_FOOTER}", file.read(), re.DOTALL)
        context.load_verify_locations(cadata=found[0] if found else "")
    except (OSError, ValueError) as error:
        raise HttpError(f"the certificate {path} cannot be used: {error}") from error
    return context


class _Wire:
    """A socket whose every wait ends at one deadline, in the shape that http.client wants."""

    def __init__(self, sock: socket.socket, deadline: float, clock: Callable[[], float]) -> None:
        self.sock, self.deadline, self.clock = sock, deadline, clock
        self.reader = io.BufferedReader(_WireReader(self))

    def arm(self) -> socket.socket:
        remaining = self.deadline - self.clock()
        if remaining <= 0:
            raise TimeoutError
        self.sock.settimeout(remaining)
        return self.sock

    def sendall(self, data: bytes) -> None:
        self.arm().sendall(data)

    def makefile(self, *args: object) -> io.BufferedIOBase:
        return self.reader

    def close(self) -> None:
        """http.client closes before the body is read; the client closes the socket itself."""


class _WireReader(io.RawIOBase):
    def __init__(self, wire: _Wire) -> None:
        self.wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer) -> int:
        return self.wire.arm().recv_into(buffer)


class Client:
    """`timeout` (seconds) covers a whole request; `max_body` is in bytes; `ca_path` is a PEM file or a directory of
    hashed ones that replaces the host's bundle. `certificate` is a PEM file whose first certificate alone is trusted instead, whatever
    name it is for: for who asks a server of its own at another address. Name resolution is bounded by the host's resolver alone.
    """

    def __init__(
        self,
        ca_path: str = "",
        timeout: float = 30,
        max_body: int = 64 * MEBIBYTE,
        agent: str = "nearby.mirrors",
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
        certificate: str = "",
    ) -> None:
        self.ca_path, self.timeout, self.max_body, self.agent, self.certificate = ca_path, timeout, max_body, agent, certificate
        self.clock, self.now = clock, now
        self._context: ssl.SSLContext | None = None

    def get(self, url: str, headers: Mapping[str, str] | None = None, **limits) -> Response:
        return self.request("GET", url, headers, **limits)

    def head(self, url: str, headers: Mapping[str, str] | None = None, **limits) -> Response:
        return self.request("HEAD", url, headers, **limits)

    def request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str] | None = None,
        max_body: int | None = None,
        redirects: int = 0,
        origins: Iterable[str] = (),
    ) -> Response:
        """Ask once, on a connection of its own. Up to `redirects` redirects are followed, to the same origin or one of
        `origins`; with none allowed, a redirect is an answer like any other. Raises HttpError, also for a body that
        ends early or is larger than `max_body`.
        """
        limit = self.max_body if max_body is None else max_body
        allowed = {origin(url), *origins}
        followed = 0
        while True:
            response = self._exchange(method, url, dict(headers or {}), limit)
            if not redirects or response.status not in REDIRECTS or "Location" not in response.headers:
                return response
            target = urljoin(url, response.headers.get("Location"))
            if origin(target) not in allowed:
                raise HttpError(f"{method} {url} redirects to another place, {target}")
            followed += 1
            if followed > redirects:
                raise HttpError(f"{method} {url} redirects more than {redirects} times")
            url = target

    def _exchange(self, method: str, url: str, headers: dict[str, str], limit: int) -> Response:
        started = self.clock()
        try:
            parts = urlsplit(url)
            port = parts.port or DEFAULT_PORTS.get(parts.scheme, 0)
        except ValueError as error:
            raise HttpError(f"{url!r} is not a URL: {error}") from error
        if not port or not parts.hostname:
            raise HttpError(f"{url!r} is not a URL of the form http(s)://host[:port]/path")
        if "@" in parts.netloc:
            raise HttpError(f"the URL of {parts.hostname} holds credentials, which this client does not send")
        sock = None
        try:
            sock = self._connect(parts.hostname, port, started + self.timeout, parts.scheme == "https")
            days = self._certificate_days(sock)
            wire = _Wire(sock, started + self.timeout, self.clock)
            connection = http.client.HTTPConnection(parts.hostname, port)
            connection.sock = wire
            fields = {"Host": parts.netloc, "User-Agent": self.agent, "Accept-Encoding": "identity", "Connection": "close"}
            fields.update(headers)
            connection.request(method, _target(parts), headers=fields)
            answer = connection.getresponse()
            received = Headers(answer.getheaders())
            body = self._head_body(wire) if method == "HEAD" else self._body(answer, limit)
        except _TooLarge as error:
            raise BodyTooLarge(f"{method} {url} answered with more than {limit} bytes") from error
        except (OSError, ValueError, http.client.HTTPException) as error:
            raise HttpError(f"{method} {url} failed: {self._reason(error, parts)}") from error
        finally:
            if sock is not None:
                sock.close()
        return Response(answer.status, received, body, url, round((self.clock() - started) * 1000, 1), days)

    def _connect(self, host: str, port: int, deadline: float, tls: bool) -> socket.socket:
        context = self._tls() if tls else None
        failure: OSError = OSError("the name has no address")
        for family, kind, protocol, _name, address in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            sock = None
            try:
                sock = socket.socket(family, kind, protocol)
                sock.settimeout(max(deadline - self.clock(), 0.001))
                sock.connect(address)
                sock.settimeout(max(deadline - self.clock(), 0.001))
                return context.wrap_socket(sock, server_hostname=host) if context else sock
            except OSError as error:
                failure = error
                if sock is not None:
                    sock.close()
                if isinstance(error, ssl.SSLError):
                    break
        raise failure

    def _tls(self) -> ssl.SSLContext:
        if self._context is None and self.certificate:
            self._context = trusting(self.certificate)
        if self._context is None:
            path = self.ca_path
            if path and not os.path.exists(path):
                raise HttpError(f"the CA file {path} (ca_path) does not exist")
            folder = os.path.isdir(path)
            try:
                context = ssl.create_default_context(cafile=None if folder else path or None, capath=path if folder else None)
            except OSError as error:
                raise HttpError(f"the CA file {path} (ca_path) cannot be used: {error}") from error
            # The rule of every other client on the host; Python 3.13 alone refuses CAs for a missing extension.
            context.verify_flags &= ~ssl.VERIFY_X509_STRICT
            self._context = context
        return self._context

    def _certificate_days(self, sock: socket.socket) -> float | None:
        if not isinstance(sock, ssl.SSLSocket):
            return None
        expires = ssl.cert_time_to_seconds(str((sock.getpeercert() or {})["notAfter"]))
        return round((expires - self.now()) / 86400, 1)

    @staticmethod
    def _body(answer: http.client.HTTPResponse, limit: int) -> bytes:
        body = bytearray()
        while True:
            piece = answer.read(65536)
            if not piece:
                break
            body += piece
            if len(body) > limit:
                raise _TooLarge
        if answer.length:
            raise http.client.IncompleteRead(bytes(body), answer.length)
        return bytes(body)

    @staticmethod
    def _head_body(wire: _Wire) -> bytes:
        wire.deadline = min(wire.deadline, wire.clock() + HEAD_BODY_SECONDS)
        try:
            return wire.reader.read1(65536)
        except OSError:
            return b""

    def _reason(self, error: Exception, parts: SplitResult) -> str:
        if isinstance(error, ssl.SSLCertVerificationError):
            trusted = self.certificate or self.ca_path or "the host's CA bundle"
            return f"the certificate is not trusted by {trusted} ({error.verify_message})"
        if isinstance(error, ssl.SSLError) and not isinstance(error, TimeoutError):
            return f"TLS failed ({error.reason or error})"
        if isinstance(error, (TimeoutError, socket.timeout)):
            return f"no complete answer within {self.timeout:g} seconds"
        if isinstance(error, socket.gaierror):
            return f"the name {parts.hostname} does not resolve ({error.strerror})"
        if isinstance(error, http.client.IncompleteRead):
            missing = "" if error.expected is None else f", {error.expected} bytes short"
            return f"the body ended early{missing}"
        if isinstance(error, ConnectionRefusedError):
            return "the connection was refused"
        if isinstance(error, http.client.RemoteDisconnected):
            return "the connection was closed without an answer"
        if isinstance(error, http.client.HTTPException):
            return f"the answer is not HTTP ({type(error).__name__})"
        return str(getattr(error, "strerror", None) or error)


class _TooLarge(Exception):
    pass


def _target(parts: SplitResult) -> str:
    target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~")
    query = quote(parts.query, safe="/%:@!$&'()*+,;=~?")
    return f"{target}?{query}" if query else target
