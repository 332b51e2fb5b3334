# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture Go module proxy: the GOPROXY protocol with a public proxy's header semantics, and a log of all it was asked.

Lists and records have a short lifetime, files of versions a longer one, and so has what is not there: 404 where nothing is known, 410
where something was. A checksum database is proxied below ``sumdb/``; its signatures are worth nothing.
Source: the Go modules reference, "GOPROXY protocol" and "Checksum database".
"""

from __future__ import annotations

import hashlib
import io
import re
import typing as t
import zipfile

from paths import Found, Paths

DATABASE = "sum.test"
EXPIRES = "Thu, 31 Dec 2099 23:59:59 GMT"


class GoProxy(Paths):
    """``modules`` has versions by module, with paths as URLs have them (``!x`` for ``X``)."""

    FILE = {"ETag": '"{md5}"', "Last-Modified": "{modified}", "Cache-Control": "public, max-age=10800", "Expires": EXPIRES, "Age": "12"}
    HEADERS: t.ClassVar = {
        r"/@v/v\d[^/]*\.(?:info|mod|zip)$": FILE,
        r"^sumdb/[^/]+/(?:supported$|tile/)": FILE | {"Cache-Control": "public, max-age=3600"},
        "": FILE | {"Cache-Control": "public, max-age=60"},
    }
    ABSENT: t.ClassVar = {"Content-Type": "text/plain; charset=UTF-8", "Cache-Control": "public, max-age=1800", "Expires": EXPIRES}

    def __init__(self) -> None:
        super().__init__()
        self.modules: dict[str, dict[str, int]] = {}
        self.branches: dict[str, str] = {}
        self.size = 0

    def publish(self, module: str, version: str, size: int = 0) -> None:
        """A version; a size makes its archive hold as many bytes that cannot be packed."""
        self.modules.setdefault(module, {})[version] = size
        self.size += 1

    def archive(self, module: str, version: str) -> bytes:
        out, real = io.BytesIO(), re.sub("!(.)", lambda match: match[1].upper(), module)
        payload = b"".join(hashlib.sha256(b"%d" % number).digest() for number in range(self.modules[module][version] // 32))
        with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
            for name, body in {"go.mod": f"module {real}\n".encode(), "payload": payload}.items():
                archive.writestr(zipfile.ZipInfo(f"{real}@{version}/{name}", (2020, 1, 1, 0, 0, 0)), body)
        return out.getvalue()

    def find(self, path: str) -> Found:
        """Body and media type."""
        if path == f"sumdb/{DATABASE}/supported":
            return b"", "text/plain"
        if path == f"sumdb/{DATABASE}/latest":
            return f"go.sum database tree\n{self.size}\nhash\n\n— {DATABASE} signature\n".encode(), "text/plain; charset=UTF-8"
        if asked := re.fullmatch(rf"sumdb/{DATABASE}/lookup/(.+)@(.+)", path):
            if asked[2] not in self.modules.get(asked[1], {}):
                return None
            return f"7\n{asked[1]} {asked[2]} h1:sum\n\ngo.sum database tree\n{self.size}\n".encode(), "text/plain; charset=UTF-8"
        if re.fullmatch(rf"sumdb/{DATABASE}/tile/8/(?:data|\d+)/(?:x\d{{3}}/)*\d{{3}}(?:\.p/\d+)?", path):
            return hashlib.sha256(path.encode()).digest(), "application/octet-stream"
        module, _at, rest = path.rpartition("/@")
        versions = self.modules.get(module, {})
        if rest == "v/list" and versions:
            return ("\n".join(versions) + "\n").encode(), "text/plain; charset=UTF-8"
        if rest == "latest" and versions:
            return f'{{"Version":"{list(versions)[-1]}"}}'.encode(), "application/json"
        version, _dot, kind = rest.removeprefix("v/").rpartition(".")
        if kind == "info" and (resolved := self.branches.get(f"{module}@{version}", version if version in versions else "")):
            return f'{{"Version":"{resolved}","Time":"2026-01-02T03:04:05Z"}}'.encode(), "application/json"
        if version in versions and kind == "mod":
            return f"module {module}\n".encode(), "text/plain; charset=UTF-8"
        if version in versions and kind == "zip":
            return self.archive(module, version), "application/zip"
        return None
