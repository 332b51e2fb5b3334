# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs on the upstream's host: the fixture registry, once plain and once behind TLS, and the lab's name server.

Standard library, registry.py and dnslib. ``python3 upstream.py PREFIX FORWARD FOLDER``: the first three numbers of the lab's
addresses, the name server for all other names, the folder with the certificates.
"""

from __future__ import annotations

import http.server
import sys
import threading
import typing as t
from pathlib import Path

import dnslib
import dnslib.server
from registry import ControlHandler, Registry, Request


class Names(dnslib.server.BaseResolver):
    """``table`` maps a name to its addresses; ``mode`` is answer, missing (NXDOMAIN) or silent."""

    def __init__(self, forward: str) -> None:
        self.table: dict[str, list[str]] = {}
        self.mode, self.forward = "answer", forward

    def resolve(self, request: dnslib.DNSRecord, handler: t.Any) -> dnslib.DNSRecord:
        name, reply = str(request.q.qname).rstrip(".").lower(), request.reply()
        if self.mode == "silent":
            raise dnslib.DNSError("says nothing")
        if self.mode == "answer" and name not in self.table and not name.endswith(".test"):
            return dnslib.DNSRecord.parse(request.send(self.forward, 53, timeout=5))
        if self.mode == "missing" or name not in self.table:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        elif request.q.qtype == dnslib.QTYPE.A:
            for address in self.table[name]:
                reply.add_answer(dnslib.RR(request.q.qname, dnslib.QTYPE.A, rdata=dnslib.A(address), ttl=1))
        return reply


class Upstream(Registry):
    """The registry, with verbs for what is beside it: the same behind TLS, and the names of its addresses."""

    VERBS = (*Registry.VERBS, "show", "trusted", "name", "publish_many")

    def __init__(self, port: int, folder: Path, names: Names, secure: Upstream | None = None) -> None:
        self.folder, self.names, self.secure = folder, names, secure
        scheme = "http" if secure else "https"
        super().__init__(
            listen=("0.0.0.0", port),
            files_listen=("0.0.0.0", port + 1),
            index_url=f"{scheme}://index.upstream.test:{port}",
            files_url=f"{scheme}://files.upstream.test:{port + 1}",
            certificate=None if secure else self.pair("good"),
        )
        if secure:
            self.projects = secure.projects

    def pair(self, kind: str) -> tuple[str, str]:
        return f"{self.folder}/{kind}.pem", f"{self.folder}/{kind}.key"

    def show(self, kind: str) -> None:
        """Show the certificate of that kind; no session outlives the change, since all connections are closed."""
        assert self.secure
        self.secure.vanish()
        self.secure.certificate = self.pair(kind)
        self.secure.back()
        self.secure.forget()

    def trusted(self) -> int:
        """How many requests came through the certificate that is shown."""
        assert self.secure
        return len(self.secure.requests())

    def plan(self, request: Request, connection: int, address: str) -> dict[str, t.Any]:
        plan = super().plan(request, connection, address)
        return plan | ({"redirect": request.path} if plan.get("redirect") == "self" else {})

    def name(self, mode: str = "answer", table: dict[str, list[str]] | None = None) -> None:
        """Have the name server answer otherwise; a table's names are added to those that it knows."""
        self.names.mode = mode
        self.names.table |= table or {}

    def publish_many(self, projects: list[str], size: int) -> None:
        for project in projects:
            self.publish(project, "1.0", size=size)


def main(prefix: str, forward: str, folder: str) -> None:
    names = Names(forward)
    for protocol in ({}, {"tcp": True}):
        quiet = dnslib.server.DNSLogger(logf=lambda _line: None)
        dnslib.server.DNSServer(names, port=53, address=f"{prefix}.10", logger=quiet, **protocol).start_thread()
    with Upstream(8443, Path(folder), names) as secure, Upstream(8000, Path(folder), names, secure) as upstream:
        control = type("Control", (ControlHandler,), {"registry": upstream})
        http.server.ThreadingHTTPServer((f"{prefix}.10", 8002), control).serve_forever()


if __name__ == "__main__":
    threading.stack_size(512 * 1024)
    main(*sys.argv[1:])
