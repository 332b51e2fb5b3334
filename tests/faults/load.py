# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The clients: ask a mirror for what a schedule says, and verify every answer. Runs on a node; standard library only.

Standard input is one line, a JSON object::

    {"address": [host, port], "host": name, "timeout": seconds, "ca": file with the CA to trust, by https, or none, by http,
     "items": [[path, headers, [size and SHA-256 of each body that is right, ...]], ...],
     "schedule": [[seconds after the start, kind, number of the item], ...]}

Where standard input has not ended by the end of the schedule, the requests of the kind ``warm`` go on at their pace until it has, but for
no longer than GO_ON_SECONDS.

No more than CLIENTS ask at once, but for kinds that are there to do so (HERDS).

Prints ``started``, and at the end one JSON object: for every kind how many were asked and failed and why, and how long and how often
nobody could connect. A failure is a wrong status, a short body, a wrong digest, no answer in time, or a
certificate that is not of the CA, not valid, or of another name. Not a failure, but counted:

* a connection that cannot be made: it is tried again and again, and the time until it can is downtime;
* a connection that is lost before the first byte of the answer: as RFC 9110, 9.2.2 allows, and as pip does, the request is sent once more,
  a quarter of a second later and on a new connection.
"""

from __future__ import annotations

import asyncio
import collections
import collections.abc
import contextlib
import gzip
import hashlib
import json
import ssl
import sys
import threading
import time
import typing as t

CLIENTS, HERDS = 64, ("herd", "download")
GO_ON_SECONDS = 1800
CONNECT_SECONDS, DOWN_SECONDS, RETRY_SECONDS, AGAIN_SECONDS = 3, 150, 0.05, 0.25
Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class LostError(Exception):
    """The connection ended before the answer began."""


class CutError(Exception):
    """The answer ended before its end."""


class Clients:
    def __init__(self, told: dict[str, t.Any]) -> None:
        self.told = told
        self.tls: dict[str, t.Any] = {}
        if told["ca"]:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.load_verify_locations(told["ca"])
            self.tls = {"ssl": context, "server_hostname": told["host"]}
        self.turn = asyncio.Semaphore(CLIENTS)
        self.idle: list[Connection] = []
        self.kinds: dict[str, dict[str, t.Any]] = {}
        self.refused, self.down, self.down_since = 0, 0.0, 0.0
        self.examples: dict[tuple[str, str], str] = {}
        self.over = threading.Event()

    def schedule(self) -> collections.abc.Iterator[tuple[float, str, int]]:
        entries = sorted(self.told["schedule"])
        yield from entries
        warm = [(at, number) for at, kind, number in entries if kind == "warm"]
        if not warm:
            return
        lap = (warm[-1][0] - warm[0][0]) * len(warm) / max(1, len(warm) - 1)
        turn = 1
        while lap and turn * lap < GO_ON_SECONDS:
            for at, number in warm:
                if self.over.is_set():
                    return
                yield at + turn * lap, "warm", number
            turn += 1

    async def run(self) -> dict[str, t.Any]:
        began = time.monotonic()
        tasks = []
        for at, kind, number in self.schedule():
            if (wait := began + at - time.monotonic()) > 0:
                await asyncio.sleep(wait)
            if kind not in HERDS:
                await self.turn.acquire()
            task = asyncio.create_task(self.ask(kind, *self.told["items"][number]))
            if kind not in HERDS:
                task.add_done_callback(lambda _done: self.turn.release())
            tasks.append(task)
        await asyncio.gather(*tasks)
        for _reader, writer in self.idle:
            writer.close()
        return {
            "kinds": self.kinds,
            "refused": self.refused,
            "down_seconds": round(self.down, 2),
            "seconds": round(time.monotonic() - began, 1),
            "examples": list(self.examples.values()),
        }

    async def ask(self, kind: str, path: str, headers: dict[str, str], right: list[list[t.Any]]) -> None:
        counts = self.kinds.setdefault(
            kind, {"of": 0, "failed": 0, "wrong": 0, "retried": 0, "slowest": 0.0, "reasons": collections.Counter()}
        )
        counts["of"] += 1
        began = time.monotonic()
        reason = "lost"
        for last in (False, True):
            try:
                status, body = await self.exchange(path, headers, kept=not last)
                reason = "" if status == 200 else f"status {status}"
                if status == 200 and [len(body), hashlib.sha256(body).hexdigest()] not in right:
                    reason = "wrong body"
                    counts["wrong"] += 1
            except LostError:
                if not last:
                    counts["retried"] += 1
                    await asyncio.sleep(AGAIN_SECONDS)
                    continue
            except CutError:
                reason = "cut"
            except TimeoutError:
                reason = "no answer in time"
            except ConnectionError:
                reason = "no connection"
            except ssl.SSLCertVerificationError:
                reason = "certificate"
            break
        counts["slowest"] = max(counts["slowest"], round(time.monotonic() - began, 2))
        if reason:
            counts["failed"] += 1
            counts["reasons"][reason] += 1
            self.examples.setdefault((kind, reason), f"{kind}: {reason} after {time.monotonic() - began:.1f} s for {path}")

    async def connect(self, kept: bool) -> Connection:
        """A connection, a kept one where that is wanted, however long that takes. Raises ConnectionError where it takes too long."""
        while kept and self.idle:
            reader, writer = self.idle.pop()
            if not reader.at_eof() and not writer.is_closing():
                return reader, writer
            writer.close()
        deadline = time.monotonic() + DOWN_SECONDS
        while time.monotonic() < deadline:
            try:
                made = await asyncio.wait_for(asyncio.open_connection(*self.told["address"], limit=1 << 20, **self.tls), CONNECT_SECONDS)
            except ssl.SSLCertVerificationError:
                raise
            except OSError:
                self.refused += 1
                self.down_since = self.down_since or time.monotonic()
                await asyncio.sleep(RETRY_SECONDS)
            else:
                if self.down_since:
                    self.down += time.monotonic() - self.down_since
                    self.down_since = 0.0
                return made
        raise ConnectionError

    async def exchange(self, path: str, headers: dict[str, str], kept: bool) -> tuple[int, bytes]:
        reader, writer = await self.connect(kept)
        keep = False
        try:
            lines = [f"GET {path} HTTP/1.1", f"Host: {self.told['host']}", *(f"{name}: {value}" for name, value in headers.items())]
            try:
                writer.write(("\r\n".join(lines) + "\r\n\r\n").encode())
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), self.told["timeout"])
            except asyncio.IncompleteReadError as error:
                raise (CutError if error.partial else LostError) from None
            except OSError as error:
                if isinstance(error, TimeoutError):
                    raise
                raise LostError from None
            status, fields = self.parse(head)
            try:
                body = b"" if status == 304 else await self.body(reader, fields)
            except (asyncio.IncompleteReadError, OSError, ValueError) as error:
                if isinstance(error, TimeoutError):
                    raise
                raise CutError from None
            keep = fields.get("connection", "").lower() != "close"
            if fields.get("content-encoding") == "gzip":
                try:
                    body = gzip.decompress(body)
                except (OSError, EOFError):
                    body = b"not gzip"
            return status, body
        finally:
            if keep:
                self.idle.append((reader, writer))
            else:
                writer.close()

    @staticmethod
    def parse(head: bytes) -> tuple[int, dict[str, str]]:
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        return int(first.split()[1]), {
            name.strip().lower(): value.strip() for name, _colon, value in (line.partition(":") for line in lines)
        }

    async def body(self, reader: asyncio.StreamReader, fields: dict[str, str]) -> bytes:
        """The whole body. A client waits for the next bytes as long as for the first."""

        async def read(count: int) -> bytes:
            parts = []
            while count:
                part = await asyncio.wait_for(reader.read(min(count, 1 << 18)), self.told["timeout"])
                if not part:
                    raise CutError
                parts.append(part)
                count -= len(part)
            return b"".join(parts)

        if fields.get("transfer-encoding", "").lower() == "chunked":
            parts = []
            while size := int(await asyncio.wait_for(reader.readuntil(b"\r\n"), self.told["timeout"]), 16):
                parts.append(await read(size))
                await read(2)
            await read(2)
            return b"".join(parts)
        if "content-length" in fields:
            return await read(int(fields["content-length"]))
        fields["connection"] = "close"
        return await reader.read()


def main() -> None:
    clients = Clients(json.loads(sys.stdin.readline()))
    threading.Thread(target=lambda: (sys.stdin.read(), clients.over.set()), daemon=True).start()
    print("started", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        print(json.dumps(asyncio.run(clients.run())))


if __name__ == "__main__":
    main()
