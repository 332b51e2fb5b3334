#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A fixture registry: PyPI's read protocol with PyPI's header semantics, faults on demand, and a log of all it was asked.

Python's standard library only. It runs inside pytest::

    with Registry() as registry:
        registry.fault(path="/simple/six/", status=503)
        ...
        registry.requests(path="^/simple/")

or by itself, on any host with Python 3.11::

    python3 registry.py --listen 0.0.0.0:8000 --files-listen 0.0.0.0:8001 --files-url http://files.test:8001 \\
        --control-listen 127.0.0.1:8002

where the same verbs are ``POST /<verb>`` on the control port, with the keyword arguments as a JSON object::

    curl http://127.0.0.1:8002/fault -d '{"path": "^/simple/", "status": 503}'
    curl http://127.0.0.1:8002/requests -d '{"origin": "files"}'

What it speaks: PEP 503 (HTML), PEP 691 (JSON, negotiated, 406), PEP 658 and 714 (``.metadata``), PEP 700 (versions, size,
upload-time), PEP 740 (provenance), PEP 792 (status), the legacy ``/pypi/<project>/json``, 301 for names that are not normalised.
What it holds (all content is made when first asked for, and is the same bytes on every host):

=============  ============================================================================================
sampleproj     2 versions, 3 files (a wheel and an sdist, a wheel); installs, needs fixture-dep, has provenance
fixture-dep    1 wheel and 1 sdist
localproj      a wheel whose name holds ``+`` (``%2B`` in its link)
large          4,000 files; the index page is above 1 MB in JSON and in HTML
big            three wheels: 1.0 of 10 KB, 2.0 of 5 MB, 3.0 of 200 MB
=============  ============================================================================================
"""

from __future__ import annotations

import argparse
import base64
import contextlib
import dataclasses
import functools
import gzip
import hashlib
import html
import http.server
import io
import itertools
import json
import pathlib
import random
import re
import socket
import ssl
import struct
import tarfile
import threading
import time
import typing as t
import urllib.parse
import zipfile
from email.utils import formatdate, parsedate_to_datetime

EPOCH = 1_700_000_000  # every timestamp derives from it, so that bodies are the same on every run
CHUNK = 256 * 1024
JSON, V1HTML, HTML = "application/vnd.pypi.simple.v1+json", "application/vnd.pypi.simple.v1+html", "text/html"
MEDIA_TYPES = {  # what may be asked for -> what is answered, in the server's order of preference
    HTML: HTML,
    V1HTML: V1HTML,
    JSON: JSON,
    "application/vnd.pypi.simple.latest+html": V1HTML,
    "application/vnd.pypi.simple.latest+json": JSON,
}


def normalize(name: str) -> str:
    """A project's name as PEP 503 normalises it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def preferences(header: str) -> dict[str, float]:
    """``{token: q}`` of an Accept or Accept-Encoding header (RFC 9110, 12.4.2)."""
    found = {}
    for item in header.lower().split(","):
        token, *parameters = (part.strip() for part in item.split(";"))
        quality = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        if token:
            found[token] = float(quality) if re.fullmatch(r"[01](\.\d*)?", quality) else 0.0
    return found


def negotiate(accept: str | None) -> str | None:
    """The media type to answer with, or None where nothing is acceptable (PEP 691, "server-driven")."""
    wanted = preferences(accept or "*/*")
    best, chosen = 0.0, None
    for asked, answered in MEDIA_TYPES.items():
        quality = wanted.get(asked, wanted.get(asked.split("/")[0] + "/*", wanted.get("*/*", 0.0)))
        if quality > best:
            best, chosen = quality, answered
    return chosen


# ------------------------------------------------------------------------------------------------------------ content

BACKEND = """\
import pathlib
import zipfile


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    name, tree = pathlib.Path("WHEEL-NAME").read_text(), pathlib.Path("tree")
    with zipfile.ZipFile(pathlib.Path(wheel_directory, name), "w") as wheel:
        for path in sorted(tree.rglob("*")):
            if path.is_file():
                wheel.write(path, path.relative_to(tree).as_posix())
    return name
"""


def metadata(name: str, version: str, requires: t.Iterable[str] = ()) -> bytes:
    """The core metadata of a distribution."""
    lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", "Summary: A fixture", "Requires-Python: >=3.8"]
    return ("\n".join(lines + [f"Requires-Dist: {item}" for item in requires]) + "\n").encode()


def wheel_tree(name: str, version: str, core: bytes, payload: bytes = b"") -> dict[str, bytes]:
    """The files of a wheel by their path, with a right RECORD."""
    module, info = re.sub(r"[-_.]+", "_", name).lower(), re.sub(r"[-_.]+", "_", name).lower() + f"-{version}.dist-info"
    tree = {
        f"{module}/__init__.py": f"version = {version!r}\n".encode(),
        f"{info}/METADATA": core,
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: fixture\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    if payload:
        tree[f"{module}/payload.bin"] = payload
    record = [
        f"{path},sha256={base64.urlsafe_b64encode(hashlib.sha256(body).digest()).rstrip(b'=').decode()},{len(body)}"
        for path, body in tree.items()
    ]
    tree[f"{info}/RECORD"] = "\n".join([*record, f"{info}/RECORD,,", ""]).encode()
    return tree


def wheel(tree: dict[str, bytes]) -> bytes:
    """A wheel of those files; stored, since compressors differ from host to host."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_STORED) as archive:
        for path, body in tree.items():
            archive.writestr(zipfile.ZipInfo(path, (2020, 1, 1, 0, 0, 0)), body)
    return out.getvalue()


def sdist(name: str, version: str, core: bytes) -> bytes:
    """A source distribution that builds without any other package: its backend is in its tree."""
    module = re.sub(r"[-_.]+", "_", name).lower()
    files = {
        "PKG-INFO": core,
        "pyproject.toml": b'[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n',
        "backend.py": BACKEND.encode(),
        "WHEEL-NAME": f"{module}-{version}-py3-none-any.whl".encode(),
        **{f"tree/{path}": body for path, body in wheel_tree(name, version, core).items()},
    }
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for path, body in files.items():
            member = tarfile.TarInfo(f"{module}-{version}/{path}")
            member.size, member.mtime = len(body), EPOCH
            archive.addfile(member, io.BytesIO(body))
    compressed = gzip.compress(packed.getvalue(), compresslevel=0, mtime=0)
    return compressed[:9] + b"\xff" + compressed[10:]  # which Pythons set differently: the operating system, here "unknown"


@dataclasses.dataclass
class Artifact:
    """One file of a release; its content is made by ``make`` when it is first wanted."""

    filename: str
    version: str
    make: t.Callable[[], bytes]
    core: bytes | None = None  # its core metadata, served as <path>.metadata
    provenance: bool = False
    uploaded: int = EPOCH
    yanked: str = ""

    @functools.cached_property
    def content(self) -> bytes:
        return self.make()

    @functools.cached_property
    def sha256(self) -> str:
        return hashlib.sha256(self.content).hexdigest()

    @functools.cached_property
    def path(self) -> str:
        """The file's path on the files origin, as PyPI derives it: the blake2b-256 digest, cut at 2, 2 and 60."""
        digest = hashlib.blake2b(self.content, digest_size=32).hexdigest()
        return f"/packages/{digest[:2]}/{digest[2:4]}/{digest[4:]}/{urllib.parse.quote(self.filename)}"


class Project:
    """A project: its files, its serial, its status (PEP 792)."""

    def __init__(self, name: str, artifacts: t.Iterable[Artifact] = (), requires: t.Iterable[str] = ()) -> None:
        self.name, self.requires, self.status = normalize(name), tuple(requires), "active"
        self.artifacts = list(artifacts)
        self.serial = 1_000_000
        self.pages: dict[tuple[t.Any, ...], bytes] = {}
        self.lock = threading.RLock()

    @property
    def versions(self) -> list[str]:
        return list(dict.fromkeys(artifact.version for artifact in self.artifacts))

    def release(self, version: str, kinds: str = "wheel sdist", size: int = 0, provenance: bool = False) -> Project:
        """Add a version, with the files that ``kinds`` names; ``size`` is the wheel's payload in bytes."""
        core = metadata(self.name, version, self.requires)
        stem = f"{self.name.replace('-', '_')}-{version}"

        def make_wheel() -> bytes:
            payload = random.Random(f"{self.name} {version}").randbytes(size) if size else b""
            return wheel(wheel_tree(self.name, version, core, payload))

        uploaded = EPOCH + 86_400 * len(self.artifacts)
        if "wheel" in kinds:
            self.artifacts.append(Artifact(f"{stem}-py3-none-any.whl", version, make_wheel, core, provenance, uploaded))
        if "sdist" in kinds:
            self.artifacts.append(Artifact(f"{stem}.tar.gz", version, lambda: sdist(self.name, version, core), None, provenance, uploaded))
        return self

    def entry(self, artifact: Artifact, files_url: str, index_url: str) -> dict[str, t.Any]:
        """A file in PEP 691 JSON, with the keys that PyPI gives."""
        core = {"sha256": hashlib.sha256(artifact.core).hexdigest()} if artifact.core else False
        provenance = f"{index_url}/integrity/{self.name}/{artifact.version}/{urllib.parse.quote(artifact.filename)}/provenance"
        return {
            "core-metadata": core,
            "data-dist-info-metadata": core,
            "filename": artifact.filename,
            "hashes": {"sha256": artifact.sha256},
            "provenance": provenance if artifact.provenance else None,
            "requires-python": ">=3.8",
            "size": len(artifact.content),
            "upload-time": time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(artifact.uploaded)),
            "url": files_url + artifact.path,
            "yanked": artifact.yanked or False,
        }

    def page(self, media_type: str, files_url: str, index_url: str) -> bytes:
        """The project's page in one representation; kept until the project changes."""
        key = (media_type, files_url, index_url, self.serial, self.status, len(self.artifacts))
        with self.lock:
            if key not in self.pages:
                entries = [self.entry(artifact, files_url, index_url) for artifact in self.artifacts]
                build = {JSON: self._json, "legacy": self._legacy}.get(media_type, self._html)
                self.pages[key] = build(entries).encode()
            return self.pages[key]

    def _json(self, entries: list[dict[str, t.Any]]) -> str:
        return json.dumps(
            {
                "alternate-locations": [],
                "files": entries,
                "meta": {"_last-serial": self.serial, "api-version": "1.4"},
                "name": self.name,
                "project-status": {"status": self.status},
                "versions": self.versions,
            },
            separators=(",", ":"),
        )

    def _html(self, entries: list[dict[str, t.Any]]) -> str:
        lines = []
        for entry in entries:
            attributes = {"href": f"{entry['url']}#sha256={entry['hashes']['sha256']}", "data-requires-python": entry["requires-python"]}
            if entry["core-metadata"]:
                attributes |= dict.fromkeys(("data-dist-info-metadata", "data-core-metadata"), "sha256=" + entry["core-metadata"]["sha256"])
            if entry["provenance"]:
                attributes["data-provenance"] = entry["provenance"]
            tag = " ".join(f'{name}="{html.escape(value)}"' for name, value in attributes.items())
            lines.append(f"<a {tag} >{entry['filename']}</a><br />")
        return (
            "<!DOCTYPE html>\n<html>\n  <head>\n"
            '    <meta name="pypi:repository-version" content="1.4">\n'
            f'    <meta name="pypi:project-status" content="{self.status}">\n'
            f"    <title>Links for {self.name}</title>\n  </head>\n  <body>\n    <h1>Links for {self.name}</h1>\n"
            + "\n".join(lines)
            + f"\n</body>\n</html>\n<!--SERIAL {self.serial}-->"
        )

    def _legacy(self, entries: list[dict[str, t.Any]]) -> str:
        files: dict[str, list[dict[str, t.Any]]] = {version: [] for version in self.versions}
        for artifact, entry in zip(self.artifacts, entries, strict=True):
            files[artifact.version].append(
                {
                    "digests": {"sha256": artifact.sha256},
                    "filename": artifact.filename,
                    "size": entry["size"],
                    "packagetype": "bdist_wheel" if artifact.filename.endswith(".whl") else "sdist",
                    "upload_time_iso_8601": entry["upload-time"],
                    "url": entry["url"],
                    "yanked": bool(entry["yanked"]),
                }
            )
        return json.dumps(
            {
                "info": {"name": self.name, "version": self.versions[-1], "requires_dist": list(self.requires)},
                "last_serial": self.serial,
                "releases": files,
                "urls": files[self.versions[-1]],
                "vulnerabilities": [],
            },
            separators=(",", ":"),
        )


@functools.cache  # no test changes it
def large() -> Project:
    """4,000 files: 200 versions of 20 files, of which one is a wheel that installs on Linux and the rest are small stubs."""
    project = Project("large")
    for number in range(1, 201):
        version = f"{number}.0"
        project.release(version, "wheel", provenance=True)
        for tag in [
            f"cp3{minor}-cp3{minor}-{platform}"
            for minor in range(8, 14)
            for platform in ("macosx_10_9_x86_64", "macosx_11_0_arm64", "win_amd64")
        ] + ["pp310-pypy310_pp73-win_amd64"]:
            filename = f"large-{version}-{tag}.whl"
            project.artifacts.append(
                Artifact(
                    filename,
                    version,
                    functools.partial(str.encode, f"stub of {filename}\n"),
                    metadata("large", version),
                    True,
                    EPOCH + number,
                )
            )
    return project


def catalogue() -> dict[str, Project]:
    """The projects that a fresh registry holds."""
    local = Project("localproj").release("1.0+cu118", "wheel")
    sample = Project("sampleproj", requires=["fixture-dep>=1"]).release("1.0.0", provenance=True).release("2.0.0", "wheel", provenance=True)
    big = Project("big").release("1.0", "wheel", 10_000).release("2.0", "wheel", 5_000_000).release("3.0", "wheel", 200_000_000)
    return {project.name: project for project in (sample, Project("fixture-dep").release("1.0"), local, large(), big)}


# ------------------------------------------------------------------------------------------------------------- faults

FAULT_FIELDS: dict[str, t.Any] = {
    "path": "regular expression searched in the path with its query; all, if not given",
    "origin": "index or files; both, if not given",
    "times": "apply to that many requests only",
    "every": "apply to each n-th connection only",
    "edges": "apply to one of so many connections, drawn for each (a dead CDN edge); the draws are the same on every run",
    "address": "apply to connections to this address only, of the several that the origin has",
    "interim": "send a response of this status (1xx) before the answer",
    "status": "answer with this status and a short body",
    "delay": "seconds before the headers",
    "rate": "bytes per second on each connection",
    "framing": "how the body ends: length (default), chunked, or close (neither length nor chunks, as HTTP/1.0 did)",
    "cut": "end after so many bytes of body",
    "reset": "true: end the cut body with a reset instead of a close",
    "hang": "true: read the request, and say nothing",
    "drop": "true: read the request, and close the connection without an answer",
    "corrupt": "true: wrong bytes of the right length",
    "redirect": "answer 302 to this location",
    "headers": "object of headers to add or replace; a value may be a list for several lines, null takes the header away",
}


@dataclasses.dataclass
class Settings:
    """How the whole registry behaves; ``bare`` is what some egress proxies and private indexes leave of it."""

    etag: bool = True
    cache_control: bool = True
    vary: bool = True
    serial: bool = True
    gzip: bool = True
    negotiate: bool = True
    ranges: bool = True

    @classmethod
    def bare(cls) -> Settings:
        return cls(**{field.name: field.name == "ranges" for field in dataclasses.fields(cls)})


@dataclasses.dataclass
class Request:
    """A line of the log; ``sent`` counts bytes of body, ``complete`` is false while it runs and after a cut."""

    time: float
    origin: str
    method: str
    path: str
    headers: dict[str, str]
    status: int = 0
    sent: int = 0
    body: int = 0
    complete: bool = False


class Throttle:
    """So many bytes per second, shared by all who take from it, first come first served."""

    def __init__(self, rate: float) -> None:
        self.rate, self.free, self.lock = rate, 0.0, threading.Lock()

    def take(self, amount: int) -> None:
        with self.lock:
            now = time.monotonic()
            self.free = max(self.free, now) + amount / self.rate
            wait = self.free - now
        time.sleep(wait)


class Registry:
    """The registry with its two origins. Its public methods are the verbs of the control port too."""

    VERBS = (
        "fault",
        "heal",
        "configure",
        "limit",
        "publish",
        "put",
        "set_serial",
        "set_status",
        "vanish",
        "back",
        "certify",
        "requests",
        "forget",
        "describe",
    )

    def __init__(
        self,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        files_listen: tuple[str, int] = ("127.0.0.1", 0),
        *,
        index_url: str = "",
        files_url: str = "",
        relative: bool = False,
        certificate: tuple[str, str] | None = None,
    ) -> None:
        self.settings, self.projects = Settings(), catalogue()
        self.faults: dict[int, dict[str, t.Any]] = {}
        self.counter = itertools.count(1)
        self.log: list[Request] = []
        self.log_file: t.TextIO | None = None
        self.total: Throttle | None = None
        self.relative, self.certificate = relative, certificate
        self.released = threading.Event()
        self.compressed: dict[bytes, bytes] = {}
        self.documents: dict[str, tuple[bytes, str]] = {}
        self.lock = threading.Lock()
        self.origins = {"index": Origin(self, "index", listen), "files": Origin(self, "files", files_listen)}
        self.index_url = index_url or self.origins["index"].url
        self.files_url = "../.." if relative else files_url or self.origins["files"].url

    def __enter__(self) -> Registry:
        for origin in self.origins.values():
            origin.open()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.vanish()

    # -- the verbs

    def fault(self, **fault: t.Any) -> int:
        """Add a fault (FAULT_FIELDS); of several that fit a request, a later one's fields win. Returns its number."""
        if unknown := set(fault) - set(FAULT_FIELDS):
            raise ValueError(f"unknown: {sorted(unknown)}; a fault has {sorted(FAULT_FIELDS)}")
        self.faults[number := next(self.counter)] = fault
        return number

    def heal(self, number: int | None = None) -> None:
        """Forget one fault; or all faults and limits, and let go of requests that hang."""
        if number is not None:
            self.faults.pop(number, None)
            return
        self.faults.clear()
        self.total = None
        self.released.set()
        self.released = threading.Event()

    def configure(self, *, bare: bool = False, **settings: bool) -> dict[str, bool]:
        """Set settings; the others go back to PyPI's behaviour, or to that of a bare index."""
        self.settings = dataclasses.replace(Settings.bare() if bare else Settings(), **settings)
        return dataclasses.asdict(self.settings)

    def limit(self, total: float | None = None) -> None:
        """Limit the bytes of bodies per second, over all connections together."""
        self.total = Throttle(total) if total else None

    def publish(self, project: str, version: str, kinds: str = "wheel sdist", size: int = 0) -> list[str]:
        """Add a version to a project, which is made if need be. Returns the paths of all its files."""
        found = self.projects.setdefault(normalize(project), Project(project))
        with found.lock:
            found.release(version, kinds, size, provenance=True)
            found.serial += 1
            return [artifact.path for artifact in found.artifacts]

    def put(self, path: str, text: str, media_type: str = "text/plain") -> None:
        """Serve a text at any path of the index's origin, exactly as written, ahead of what is there."""
        self.documents[path] = (text.encode(), media_type)

    def set_serial(self, project: str, serial: int) -> None:
        """Set a project's serial, forwards or backwards."""
        self.projects[normalize(project)].serial = serial

    def set_status(self, project: str, status: str) -> None:
        """Set a project's status: active, archived, quarantined, deprecated."""
        self.projects[normalize(project)].status = status

    def vanish(self, how: str = "refuse") -> None:
        """Go away: ``refuse`` closes the ports and all connections, ``hang`` accepts and says nothing."""
        if how == "hang":
            self.fault(hang=True)
            return
        for origin in self.origins.values():
            origin.close()

    def back(self) -> None:
        """Come back after ``vanish``, on the same ports."""
        self.heal()
        for origin in self.origins.values():
            origin.open()

    def certify(self, certificate: str, key: str) -> None:
        """Show another certificate to new connections; sessions that were begun with the one before can still be resumed."""
        self.certificate = certificate, key
        for origin in self.origins.values():
            if origin.server and origin.server.tls:
                origin.server.tls.load_cert_chain(certificate, key)

    def requests(self, path: str = "", origin: str = "", method: str = "") -> list[dict[str, t.Any]]:
        """What was asked, oldest first."""
        return [
            dataclasses.asdict(request)
            for request in list(self.log)
            if re.search(path, request.path) and origin in ("", request.origin) and method in ("", request.method)
        ]

    def forget(self) -> None:
        """Empty the log."""
        self.log.clear()

    def describe(self) -> dict[str, t.Any]:
        """Where it is and how it is set."""
        return {
            "index": self.index_url,
            "files": self.files_url,
            "settings": dataclasses.asdict(self.settings),
            "faults": list(self.faults.values()),
            "projects": {name: project.serial for name, project in self.projects.items()},
        }

    # -- what the handlers ask

    def plan(self, request: Request, connection: int, address: str) -> dict[str, t.Any]:
        """The faults that fit a request on that connection to that address, as one."""
        plan: dict[str, t.Any] = {}
        with self.lock:
            for fault in list(self.faults.values()):
                if (
                    re.search(fault.get("path", ""), request.path)
                    and fault.get("origin", request.origin) == request.origin
                    and connection % fault.get("every", 1) == 0
                    and random.Random(connection).randrange(fault.get("edges", 1)) == 0
                    and fault.get("address", address) == address
                    and fault.get("times", 1) > 0
                ):
                    plan |= fault
                    if "times" in fault:
                        fault["times"] -= 1
        return plan

    def compress(self, body: bytes) -> bytes:
        if body not in self.compressed:
            self.compressed[body] = gzip.compress(body, 6, mtime=0)
        return self.compressed[body]

    def artifact(self, path: str) -> tuple[Artifact, bytes] | None:
        """The file at a path, and the content or metadata that the path means."""
        bare = path.removesuffix(".metadata")
        filename = urllib.parse.unquote(bare.rsplit("/", 1)[-1])
        project = self.projects.get(normalize(filename.split("-")[0]))
        for artifact in project.artifacts if project else ():
            if artifact.filename == filename and urllib.parse.unquote(artifact.path) == urllib.parse.unquote(bare):
                if path == bare:
                    return artifact, artifact.content
                return (artifact, artifact.core) if artifact.core else None
        return None


# --------------------------------------------------------------------------------------------------------------- wire


def family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


HELD: list[socket.socket] = []  # names of ports that were given to this process, which no two can have at a time


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody listens on, below those that the kernel gives to outgoing connections: it stays free while closed.

    Nobody else who asks here is given it until this process ends, whether or not anybody listens on it by then.
    """
    while True:
        port, name = random.SystemRandom().randrange(20_000, 32_000), socket.socket(socket.AF_UNIX)
        with contextlib.suppress(OSError), socket.create_server((host, port), family=family(host)):
            name.bind(f"\0nearby-port-{port}")
            HELD.append(name)
            return port
        name.close()


class Origin:
    """One port: index or files. Opens and closes as often as wanted, on the same address."""

    def __init__(self, registry: Registry, name: str, address: tuple[str, int]) -> None:
        self.registry, self.name = registry, name
        self.sockets: dict[socket.socket, int] = {}  # open connections by their number
        self.connections = 0
        self.server: Server | None = None
        self.address = address[0], address[1] or free_port(address[0])
        scheme = "https" if registry.certificate else "http"
        host = f"[{self.address[0]}]" if ":" in self.address[0] else self.address[0]
        self.url = f"{scheme}://{host}:{self.address[1]}"

    def open(self) -> None:
        if not self.server:
            self.server = Server(self.address, self)
            threading.Thread(target=self.server.serve, daemon=True).start()

    def close(self) -> None:
        if self.server:
            self.server.end()
            self.server = None
        for connection in list(self.sockets):
            with contextlib.suppress(OSError):  # it was closed meanwhile
                connection.shutdown(socket.SHUT_RDWR)


class Server(http.server.ThreadingHTTPServer):
    """One thread a connection; the TLS handshake is left to that thread."""

    request_queue_size = 1024
    block_on_close = False

    def __init__(self, address: tuple[str, int], origin: Origin) -> None:
        self.origin, self.tls = origin, None
        self.ending, self.ended = False, threading.Event()
        self.address_family = family(address[0])
        if origin.registry.certificate:
            self.tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            self.tls.load_cert_chain(*origin.registry.certificate)
        super().__init__(address, Handler)

    def serve(self) -> None:
        """As serve_forever(), without looking twenty times a second whether to end: a test has many servers."""
        while not self.ending:
            self.handle_request()
        self.ended.set()

    def end(self) -> None:
        self.ending = True
        self.socket.shutdown(socket.SHUT_RDWR)  # who waits for a connection is woken
        self.ended.wait()
        self.server_close()

    def get_request(self) -> tuple[socket.socket, t.Any]:
        connection, address = super().get_request()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.tls:
            connection = self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
        self.origin.connections += 1
        self.origin.sockets[connection] = self.origin.connections
        return connection, address

    def shutdown_request(self, request: t.Any) -> None:
        self.origin.sockets.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: t.Any, client_address: t.Any) -> None:
        """A client that went away, or that refused our certificate, is no news."""


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers one connection's requests."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "fixture", ""
    server: Server
    request_log: Request

    def setup(self) -> None:
        super().setup()
        self.number = self.server.origin.sockets.get(self.request, 0)
        self.registry, self.origin = self.server.origin.registry, self.server.origin.name

    def log_message(self, *_arguments: t.Any) -> None:
        """Nothing on stderr: the registry has its own log."""

    def handle_any(self) -> None:
        target = self.requestline.split()[1]  # as sent: the base class collapses a leading //
        request = Request(time.time(), self.origin, self.command, target, {k.lower(): v for k, v in self.headers.items()})
        self.registry.log.append(request)
        request.body = self.read_body()
        plan = self.registry.plan(request, self.number, self.connection.getsockname()[0])
        self.request_log, self.plan = request, plan
        try:
            if plan.get("hang"):
                self.registry.released.wait(120)
                self.close_connection = True
                return
            if plan.get("drop"):
                self.close_connection = True
                return
            time.sleep(plan.get("delay", 0))
            if "interim" in plan:
                self.connection.sendall(b"HTTP/1.1 %d Interim\r\nLink: </style.css>; rel=preload\r\n\r\n" % plan["interim"])
            if self.command not in ("GET", "HEAD"):
                self.answer(405, {"Allow": "GET, HEAD"}, b"")
            elif "status" in plan:
                self.answer(plan["status"], {"Content-Type": "text/plain"}, f"fault {plan['status']}\n".encode())
            elif "redirect" in plan:
                self.answer(302, {"Location": plan["redirect"]}, b'<a href="%b">Found</a>\n' % plan["redirect"].encode())
            else:
                self.route(*(target.split("?", 1) + [""])[:1])
        except OSError:
            self.close_connection = True
        finally:
            if self.registry.log_file:
                print(json.dumps(dataclasses.asdict(request)), file=self.registry.log_file, flush=True)

    do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_TRACE = do_CONNECT = handle_any

    def read_body(self) -> int:
        if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
            total = 0
            while size := int(self.rfile.readline().split(b";")[0] or b"0", 16):
                total += len(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return total
        return len(self.rfile.read(int(self.headers.get("Content-Length") or 0)))

    # -- what is where

    def route(self, path: str) -> None:
        if self.origin == "index" and path in self.registry.documents:
            self.send_document(*self.registry.documents[path])
        elif path.startswith("/packages/") and (self.origin == "files" or self.registry.relative):
            self.send_artifact(path)
        elif self.origin == "index" and (match := re.fullmatch(r"/simple(?:/([A-Za-z0-9._-]+))?(/?)", path)):
            name, slash = match.groups()
            if not slash or (name and name != normalize(name)):
                self.answer(301, {"Location": f"/simple/{normalize(name)}/" if name else "/simple/"}, b"")
            else:
                self.send_index(name)
        elif self.origin == "index" and (match := re.fullmatch(r"/pypi/([^/]+)/json/?", path)):
            if match[1] != normalize(match[1]):
                self.answer(301, {"Location": f"/pypi/{normalize(match[1])}/json"}, b"")
            elif project := self.registry.projects.get(match[1]):
                self.send_page(
                    project.page("legacy", self.registry.files_url, self.registry.index_url), "application/json", project.serial, 900
                )
            else:
                self.not_found()
        elif self.origin == "index" and (match := re.fullmatch(r"/integrity/([^/]+)/([^/]+)/([^/]+)/provenance", path)):
            self.send_provenance(match[1], urllib.parse.unquote(match[3]))
        else:
            self.not_found()

    def not_found(self) -> None:
        self.answer(404, {"Content-Type": "text/html; charset=UTF-8"}, b"<html><body>404 Not Found</body></html>\n")

    def send_index(self, name: str | None) -> None:
        registry, negotiated = self.registry, self.registry.settings.negotiate
        media_type = negotiate(self.headers.get("Accept")) if negotiated else HTML
        if media_type is None:
            self.answer(406, {"Content-Type": "text/plain", "Vary": "Accept, Accept-Encoding"}, b"406 Not Acceptable\n")
        elif name is None:
            serial = max(project.serial for project in registry.projects.values())
            names = sorted(registry.projects)
            if media_type == JSON:
                body = json.dumps(
                    {
                        "meta": {"_last-serial": serial, "api-version": "1.4"},
                        "projects": [{"name": name, "_last-serial": registry.projects[name].serial} for name in names],
                    }
                )
            else:
                links = "\n".join(f'    <a href="/simple/{name}/">{name}</a>' for name in names)
                body = (
                    f'<!DOCTYPE html>\n<html>\n  <head>\n    <meta name="pypi:repository-version" content="1.4">\n'
                    f"    <title>Simple index</title>\n  </head>\n  <body>\n{links}\n  </body>\n</html>\n<!--SERIAL {serial}-->"
                )
            self.send_page(body.encode(), media_type, serial, 600)
        elif project := registry.projects.get(name):
            self.send_page(project.page(media_type, registry.files_url, registry.index_url), media_type, project.serial, 600)
        else:
            self.not_found()

    def send_page(self, body: bytes, media_type: str, serial: int, max_age: int) -> None:
        settings = self.registry.settings
        headers = {"Content-Type": media_type + ("; charset=UTF-8" if media_type == HTML else "")}
        if settings.gzip and preferences(self.headers.get("Accept-Encoding", "")).get("gzip"):
            body = self.registry.compress(body)
            headers["Content-Encoding"] = "gzip"
        if settings.etag:
            headers["ETag"] = f'"{hashlib.blake2b(body + media_type.encode(), digest_size=11).hexdigest()}"'
        if settings.cache_control:
            headers["Cache-Control"] = f"max-age={max_age}, public"
        if settings.vary:
            headers["Vary"] = "Accept, Accept-Encoding" if media_type != "application/json" else "Accept-Encoding"
        if settings.serial:
            headers["X-PyPI-Last-Serial"] = str(serial)
        self.answer(200, headers, body)

    def send_provenance(self, name: str, filename: str) -> None:
        project = self.registry.projects.get(name)
        if not project:
            return self.not_found()
        for artifact in project.artifacts:
            if artifact.filename == filename and artifact.provenance:
                bundle = {
                    "version": 1,
                    "attestation_bundles": [
                        {
                            "publisher": {"kind": "Fixture", "repository": f"example/{name}"},
                            "attestations": [{"version": 1, "envelope": {"statement": artifact.sha256, "signature": "none"}}],
                        }
                    ],
                }
                self.send_page(json.dumps(bundle).encode(), "application/vnd.pypi.integrity.v1+json", project.serial, 600)
                return None
        return self.not_found()

    def send_artifact(self, path: str) -> None:
        if not (found := self.registry.artifact(path)):
            self.not_found()
            return
        artifact, body = found
        etag = hashlib.md5(artifact.sha256.encode() + path.encode()).hexdigest()
        self.send_file(body, "application/octet-stream", f'"{etag}"', artifact.uploaded, "max-age=365000000, immutable, public")

    def send_document(self, body: bytes, media_type: str) -> None:
        self.send_file(body, media_type, f'"{hashlib.md5(body).hexdigest()}"', EPOCH, "max-age=60")

    def send_file(self, body: bytes, media_type: str, etag: str, modified_at: int, cache_control: str) -> None:
        """A file with validators, and with ranges (one at most, RFC 9110, 14.2)."""
        settings, view, size, status = self.registry.settings, memoryview(body), len(body), 200
        modified = formatdate(modified_at, usegmt=True)
        headers = {"Content-Type": media_type, "Last-Modified": modified}
        if settings.etag:
            headers["ETag"] = etag
        if settings.cache_control:
            headers["Cache-Control"] = cache_control
        if settings.ranges:
            headers["Accept-Ranges"] = "bytes"
            asked = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range", ""))
            if asked and any(asked.groups()) and self.headers.get("If-Range", etag) in (etag, modified):
                first, last = asked.groups()
                start = int(first) if first else max(0, size - int(last))
                end = min(int(last), size - 1) if first and last else size - 1
                if start > end:
                    self.answer(416, {"Content-Range": f"bytes */{size}"}, b"")
                    return
                view, status = view[start : end + 1], 206
                headers["Content-Range"] = f"bytes {start}-{end}/{size}"
        self.answer(status, headers, view)

    # -- how it is sent

    def not_modified(self, headers: dict[str, t.Any]) -> bool:
        if match := self.headers.get("If-None-Match"):
            etags = [tag.strip().removeprefix("W/") for tag in match.split(",")]
            return "ETag" in headers and (headers["ETag"].removeprefix("W/") in etags or "*" in etags)
        if (since := self.headers.get("If-Modified-Since")) and "Last-Modified" in headers:
            return parsedate_to_datetime(headers["Last-Modified"]) <= parsedate_to_datetime(since)
        return False

    def answer(self, status: int, headers: dict[str, t.Any], body: bytes | memoryview) -> None:
        """Send an answer the way the faults want it."""
        plan, request = self.plan, self.request_log
        headers |= plan.get("headers", {})
        if status in (200, 206) and self.not_modified(headers):
            status, body = 304, b""
            headers = {name: value for name, value in headers.items() if name not in ("Content-Type", "Content-Encoding", "Content-Range")}
        if plan.get("corrupt"):
            body = bytes(byte ^ 0x55 for byte in body)
        framing = plan.get("framing", "length")
        if framing == "length":
            if status != 304:
                headers["Content-Length"] = str(len(body))
        elif framing == "chunked" and self.request_version != "HTTP/1.0":
            headers["Transfer-Encoding"] = "chunked"
        else:
            framing = "close"
            headers["Connection"] = "close"
        request.status = status
        self.send_response(status)
        for name, value in headers.items():
            for line in value if isinstance(value, list) else [value]:
                if line is not None:
                    self.send_header(name, line)
        self.end_headers()
        if framing == "close":
            self.close_connection = True
        if self.command == "HEAD" or status == 304:
            request.complete = True
            return
        self.send_body(memoryview(body), framing)

    def send_body(self, body: memoryview, framing: str) -> None:
        plan, request = self.plan, self.request_log
        end = min(plan.get("cut", len(body)), len(body))
        own = Throttle(plan["rate"]) if "rate" in plan else None
        limits = [limit for limit in (own, self.registry.total) if limit]
        step = max(1, min([CHUNK, *(int(limit.rate / 50) for limit in limits)]))
        for start in range(0, end, step):
            piece = body[start : min(start + step, end)]
            for limit in limits:
                limit.take(len(piece))
            if framing == "chunked":
                self.connection.sendall(b"%x\r\n%b\r\n" % (len(piece), bytes(piece)))
            else:
                self.connection.sendall(piece)
            request.sent += len(piece)
        if end < len(body):
            self.close_connection = True
            if plan.get("reset"):
                time.sleep(0.05)  # what was sent should arrive: a reset throws away what waits
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                self.server.origin.sockets.pop(self.connection, None)
                self.rfile.close()
                self.connection.close()
            return
        if framing == "chunked":
            self.connection.sendall(b"0\r\n\r\n")
        request.complete = True


# ------------------------------------------------------------------------------------------------------------ command


class ControlHandler(http.server.BaseHTTPRequestHandler):
    """The registry's verbs over HTTP."""

    registry: Registry

    def do_POST(self) -> None:
        verb, status = self.path.strip("/"), 200
        try:
            if verb not in self.registry.VERBS:
                raise ValueError(f"no verb {verb!r}; there are {', '.join(self.registry.VERBS)}")
            arguments = json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")
            answer = getattr(self.registry, verb)(**arguments)
        except (KeyError, TypeError, ValueError) as error:
            status, answer = 400, {"error": str(error)}
        body = json.dumps(answer).encode() + b"\n"
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_GET = do_POST

    def log_message(self, *_arguments: t.Any) -> None:
        """Nothing on stderr."""


def address(text: str) -> tuple[str, int]:
    """``host:port`` as a tuple."""
    host, _colon, port = text.rpartition(":")
    return host, int(port)


def main() -> None:
    parser = argparse.ArgumentParser(description="A fixture registry that speaks PyPI's read protocol.")
    parser.add_argument("--listen", type=address, default=("127.0.0.1", 8000), metavar="HOST:PORT", help="the index")
    parser.add_argument("--files-listen", type=address, default=("127.0.0.1", 8001), metavar="HOST:PORT", help="the files")
    parser.add_argument("--control-listen", type=address, metavar="HOST:PORT", help="the control port; none, if not given")
    parser.add_argument("--index-url", default="", help="the index's own address in the links that it gives (provenance)")
    parser.add_argument("--files-url", default="", help="the address of the files in links; default: where they listen")
    parser.add_argument("--relative", action="store_true", help="relative links, files on the index's own port")
    parser.add_argument("--certificate", nargs=2, metavar=("CERTFILE", "KEYFILE"), help="speak TLS on both ports")
    parser.add_argument("--rate", type=float, help="bytes per second, over all connections together")
    parser.add_argument("--bare", action="store_true", help="HTML only, no ETag, no Cache-Control, no Vary, no serial, no gzip")
    parser.add_argument("--log", help="append each request to this file, one JSON object a line")
    options = parser.parse_args()
    registry = Registry(
        options.listen,
        options.files_listen,
        index_url=options.index_url,
        files_url=options.files_url,
        relative=options.relative,
        certificate=tuple(options.certificate) if options.certificate else None,
    )
    registry.configure(bare=options.bare)
    registry.limit(options.rate)
    if options.log:
        registry.log_file = pathlib.Path(options.log).open("a", encoding="utf-8")  # noqa: SIM115 -- until the process ends
    with registry, contextlib.suppress(KeyboardInterrupt):
        if options.control_listen:
            handler = type("Control", (ControlHandler,), {"registry": registry})
            control = http.server.ThreadingHTTPServer(options.control_listen, handler)
            threading.Thread(target=control.serve_forever, daemon=True).start()
        print(json.dumps({name: origin.url for name, origin in registry.origins.items()}), flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
