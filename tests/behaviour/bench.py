# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the behaviour table stands on: a client, a name server, certificates, and a mirror that runs from rendered files."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import functools
import gzip
import hashlib
import html.parser
import http.client
import ipaddress
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import time
import typing as t
import urllib.parse
import urllib.request
from pathlib import Path

import dnslib
import dnslib.server
import yaml
from ansible_collections.nearby.mirrors.plugins.module_utils.health import examine
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from registry import HTML, JSON, V1HTML, Project, Registry, free_port

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
PIP = f"{JSON}, {V1HTML}; q=0.1, text/html; q=0.01"
ACCEPT = {JSON: PIP, V1HTML: V1HTML, HTML: "text/html"}

# ------------------------------------------------------------------------------------------------------------- client


@dataclasses.dataclass
class Reply:
    """An answer as the client saw it; times are seconds since the request began."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes
    complete: bool
    first_byte: float
    seconds: float

    def __getitem__(self, header: str) -> str:
        """A header's value, its lines joined; empty where there is none."""
        return ", ".join(self.headers.get_all(header) or [])

    @property
    def type(self) -> str:
        return self["Content-Type"].split(";")[0].strip().lower()

    @property
    def cache(self) -> str:
        """hit, stale or miss, as Cache-Status tells it (RFC 9211)."""
        told = self["Cache-Status"]
        return "stale" if "detail=STALE" in told else "hit" if "; hit" in told else "miss" if "; fwd" in told else "untold"

    @property
    def plain(self) -> bytes:
        return gzip.decompress(self.body) if self["Content-Encoding"] == "gzip" else self.body

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.body).hexdigest()

    @property
    def links(self) -> list[str]:
        """Every URL in the body, whatever representation it has."""
        if self.type.endswith("json"):
            return list(_json_links(json.loads(self.plain)))
        parser = _Links()
        parser.feed(self.plain.decode())
        return parser.found


def _json_links(value: t.Any, key: str = "") -> t.Iterator[str]:
    if isinstance(value, dict):
        for name, item in value.items():
            yield from _json_links(item, name)
    elif isinstance(value, list):
        for item in value:
            yield from _json_links(item, key)
    elif isinstance(value, str) and (key in ("url", "provenance") or "://" in value):
        yield value


class _Links(html.parser.HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found += [value for name, value in attrs if value and (name in ("href", "src", "data-provenance") or "://" in value)]


def fetch(
    address: tuple[str, int],
    target: str,
    headers: t.Mapping[str, str] | None = None,
    *,
    method: str = "GET",
    body: bytes | None = None,
    timeout: float = 30,
    abort_after: int | None = None,
    context: ssl.SSLContext | None = None,
) -> Reply:
    """One request on a connection of its own, sent exactly as given: ``target`` is not normalised, no header is added but Host.

    A body that ends early gives a reply with ``complete`` false; ``abort_after`` hangs up after so many bytes. With a ``context`` it
    speaks TLS, and asks for mirror.test.
    Raises OSError or http.client.HTTPException where there is no answer at all.
    """
    headers = {"Host": "mirror.test", **(headers or {})}
    connection = http.client.HTTPConnection(*address, timeout=timeout)
    began = time.monotonic()
    try:
        if context:
            connection.connect()
            connection.sock = context.wrap_socket(connection.sock, server_hostname="mirror.test")
        connection.putrequest(method, target, skip_host=True, skip_accept_encoding=True)
        for name, value in headers.items():
            connection.putheader(name, value)
        connection.endheaders(body)
        response = connection.getresponse()
        parts, complete, first_byte, got = [], True, 0.0, 0
        try:
            while piece := response.read1(1 << 20) if response.length is None or response.length else b"":
                first_byte = first_byte or time.monotonic() - began
                parts.append(piece)
                got += len(piece)
                if abort_after is not None and got >= abort_after:
                    complete = False
                    break
            complete = complete and not response.length
        except (http.client.IncompleteRead, OSError):
            complete = False
        return Reply(response.status, response.headers, b"".join(parts), complete, first_byte, time.monotonic() - began)
    finally:
        connection.close()


def raw(address: tuple[str, int], request: bytes, timeout: float = 5) -> str:
    """Send bytes as they are; returns all that comes back until the other side closes, or says no more for a while."""
    with socket.create_connection(address, timeout=timeout) as connection:
        connection.sendall(request)
        answer = b""
        with contextlib.suppress(OSError):
            while piece := connection.recv(65536):
                answer += piece
                connection.settimeout(0.3)
    return answer.decode("latin-1")


def at_once(count: int, call: t.Callable[[int], t.Any]) -> list[t.Any]:
    """The results of ``count`` calls, all under way at the same time."""
    with concurrent.futures.ThreadPoolExecutor(count) as pool:
        return list(pool.map(call, range(count)))


def until(met: t.Callable[[], t.Any], seconds: float = 10, every: float = 0.1) -> t.Any:
    """Ask again and again until the answer is true; the last answer."""
    end = time.monotonic() + seconds
    while not (answer := met()) and time.monotonic() < end:
        time.sleep(every)
    return answer


def good(reply: Reply, body: bytes, kind: str = "") -> bool:
    """Whether a reply is 200, complete, of that type where one is given, and has exactly that body."""
    return reply.status == 200 and reply.complete and reply.plain == body and kind in ("", reply.type)


def on_mirror(link: str, page: str, site: str) -> str:
    """A link's path, if the link, seen from a page, is within its site; else empty."""
    url = urllib.parse.urlsplit(urllib.parse.urljoin(f"http://mirror.test{page}", link))
    return url.path if (url.scheme, url.netloc) == ("http", "mirror.test") and url.path.startswith(f"/{site}/") else ""


def show(reply: Reply) -> str:
    """What to say of a reply that is not as it should be."""
    about = f"{len(reply.body)} bytes, complete={reply.complete}, {reply.seconds:.2f} s"
    return f"{reply.status} {dict(reply.headers.items())} {about}: {reply.body[:150]!r}"


EXPIRED, LAPSED = 4.3, 3.2


def age(seconds: float = LAPSED) -> None:
    """Wait until a page of the site ``brief`` is too old even to be served while it is refreshed; or, with ``EXPIRED``, until one
    of the site ``steady`` is expired but may still be. An engine may count whole seconds, so that all takes up to a second longer."""
    time.sleep(seconds)


def on_the_second() -> None:
    """Wait until a second begins: what an engine that counts whole ones keeps for 1 s is a hit for the rest of it."""
    time.sleep(-time.time() % 1)


# --------------------------------------------------------------------------------------------------- names, certificates


def hosts_of(address: str) -> Path:
    """The file that says what a name server at that address does."""
    return Path(tempfile.gettempdir(), f"hosts-{address}")


class Names(dnslib.server.BaseResolver):
    """A name server on loopback, and a file of hosts that says the same.

    ``table`` maps a name to its addresses (with blanks between), and is to be replaced; ``mode`` is answer, missing (NXDOMAIN), or
    silent.
    """

    def __init__(self) -> None:
        self.server = dnslib.server.DNSServer(self, port=0, address="127.0.0.1", logger=dnslib.server.DNSLogger(logf=lambda _line: None))
        self.server.start_thread()
        self.address = f"127.0.0.1:{self.server.server.server_address[1]}"
        self.hosts = hosts_of(self.address)
        self.table: dict[str, str] = {}
        self.mode = "answer"

    def stop(self) -> None:
        self.server.stop()
        self.hosts.unlink()

    def __setattr__(self, name: str, value: t.Any) -> None:
        super().__setattr__(name, value)
        if name in ("table", "mode"):
            known = self.table if getattr(self, "mode", "") == "answer" else {}
            self.hosts.write_text("".join(f"{address} {name}\n" for name, addresses in known.items() for address in addresses.split()))

    def resolve(self, request: dnslib.DNSRecord, handler: t.Any) -> dnslib.DNSRecord:
        if self.mode == "silent":
            time.sleep(30)
        reply, name = request.reply(), str(request.q.qname).rstrip(".")
        if self.mode == "missing" or name not in self.table:
            reply.header.rcode = dnslib.RCODE.NXDOMAIN
        else:
            for address in self.table[name].split():
                kind = "AAAA" if ":" in address else "A"
                if request.q.qtype == getattr(dnslib.QTYPE, kind):
                    reply.add_answer(dnslib.RR(request.q.qname, request.q.qtype, rdata=getattr(dnslib, kind)(address), ttl=1))
        return reply


def certificate(
    directory: Path,
    kind: str,
    name: str,
    issuer: tuple[x509.Certificate, ec.EllipticCurvePrivateKey] | None = None,
    days: tuple[int, int] = (-1, 30),
) -> tuple[tuple[str, str], tuple[x509.Certificate, ec.EllipticCurvePrivateKey]]:
    """Make a certificate for a name (and its files) or an address, valid from and to so many days from now; without an issuer it signs
    itself.

    Returns the paths of certificate and key, and both as objects, to issue others with.
    """
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.datetime.now(datetime.UTC)
    subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    signer = issuer[0].subject if issuer else subject
    names: list[x509.GeneralName] = [x509.DNSName(name), x509.DNSName(f"files-{name}")]
    if re.fullmatch(r"[0-9.]+", name):
        names = [x509.IPAddress(ipaddress.ip_address(name))]
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(signer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + datetime.timedelta(days[0]))
        .not_valid_after(now + datetime.timedelta(days[1]))
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=kind == "ca", path_length=None), critical=True)
        .sign(issuer[1] if issuer else key, hashes.SHA256())
    )
    paths = directory / f"{kind}.pem", directory / f"{kind}.key"
    paths[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
    paths[1].write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))
    return (str(paths[0]), str(paths[1])), (made, key)


# ------------------------------------------------------------------------------------------------------------- mirror


LAGS = {"a moment ago": (10, "good"), "long ago": (7200, "bad")}


def lag(mirror: Mirror, site: dict[str, t.Any], upstream: t.Any, ago: float) -> tuple[str, str]:
    """The verdict of cache_health's ``lag``, with its detail, where a registry that changed so many seconds ago is the upstream."""
    upstream.changed = time.time() - ago
    site = {"path": f"/{site['type']}/", "name": site["type"], "upstream": f"http://127.0.0.1:{upstream.port}"} | site
    report = examine(Client(), f"http://127.0.0.1:{mirror.address[1]}", [site], Client())
    return next((check["verdict"], check["detail"]) for check in report.checks if check["check"] == "lag")


# Apache asks the host's own resolver and does not run as root: it sees the bench's hosts in the place of this machine's.
NAMESPACE = ["unshare", "--mount", "--propagation", "slave", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
APACHE = """
test ! -e hosts || mount --bind hosts /etc/hosts
echo hosts: files > nsswitch.conf
test ! -e hosts || mount --bind nsswitch.conf /etc/nsswitch.conf
exec unshare --user --map-user=33 --map-group=33 chrt --batch 0 /usr/sbin/apache2 -DFOREGROUND -f "$0/etc/mirror.conf"
"""
NGINX = "daemon off;" + "".join(f"env FAKETIME_{name};" for name in ("TIMESTAMP_FILE", "NO_CACHE", "DONT_FAKE_MONOTONIC"))
ENGINES: dict[str, t.Callable[[Path], list[str]]] = {  # how an engine is run in the foreground, from the rendered files
    "nginx": lambda root: ["/usr/sbin/nginx", "-c", f"{root}/etc/mirror.conf", "-e", f"{root}/log/error.log", "-g", NGINX],
    "apache": lambda root: [*NAMESPACE, "--wd", str(root), "sh", "-ec", APACHE, str(root)],
}


FACTS = tempfile.TemporaryDirectory()
RELOAD = {"nginx": signal.SIGHUP, "apache": signal.SIGUSR1}


class Mirror:
    """A mirror below a directory: rendered by the role, run as a child of this process, without root."""

    def __init__(self, root: Path, engine: str, sites: list[dict[str, t.Any]], **variables: t.Any) -> None:
        self.root, self.engine, self.sites = root, engine, sites
        self.address = ("127.0.0.1", free_port())
        self.process: subprocess.Popen[bytes] | None = None
        self.environment: dict[str, str] = {}
        self.told = ""  # by the role
        certificate = variables.get("mirror_tls_certificate")
        self.context = ssl.create_default_context(cafile=certificate) if certificate and Path(certificate).exists() else None
        self.variables = {
            "mirror_engine": engine,
            "mirror_sites": sites,
            "mirror_fqdn": "mirror.test",
            "mirror_region": "test",
            "mirror_addresses": ["127.0.0.1"],
            "mirror_port": self.address[1],
            "mirror_user": "root" if os.geteuid() == 0 and engine == "nginx" else "",
            **{
                f"mirror_{name}_path": f"{root}/{folder}"
                for name, folder in {"config": "etc", "log": "log", "cache": "cache", "temp": "temp", "run": "run", "www": "www"}.items()
            },
            **variables,
        }

    def render(self) -> None:
        """Have the role write the configuration. Raises CalledProcessError with Ansible's output printed."""
        for folder in ("etc", "log", "cache", "temp", "run", "www"):
            (self.root / folder).mkdir(parents=True, exist_ok=True)
        hosts = self.root / "hosts"
        if self.variables.get("mirror_resolvers") and not hosts.is_symlink():
            hosts.symlink_to(hosts_of(self.variables["mirror_resolvers"][0]))
        variables = self.root / "variables.json"
        variables.write_text(json.dumps(self.variables, indent=2))
        playbook = Path(sys.executable).parent / "ansible-playbook"
        environment = {
            **os.environ,
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".collections"),
            "ANSIBLE_LOCALHOST_WARNING": "false",
            "ANSIBLE_INVENTORY_UNPARSED_WARNING": "false",
            "ANSIBLE_LOCAL_TEMP": str(self.root / "ansible"),
            "ANSIBLE_PYTHON_INTERPRETER": sys.executable,
            "ANSIBLE_CACHE_PLUGIN": "jsonfile",  # the facts of this machine are gathered once for all mirrors
            "ANSIBLE_CACHE_PLUGIN_CONNECTION": FACTS.name,
            "PYTHONPATH": str(REPOSITORY / "tests" / "preloaded"),
        }
        done = subprocess.run(
            [playbook, "-i", "localhost,", HERE / "render.yml", "-e", f"@{variables}"],
            env=environment,
            cwd=self.root,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        if done.returncode:
            raise RuntimeError(f"The role did not render its configuration:\n{done.stdout}")
        self.told = done.stdout
        rendered = (self.root / "files.json").read_text()
        release = hashlib.sha256(rendered.encode()).hexdigest()[:8]
        for name, text in json.loads(rendered).items():
            (path := self.root / "etc" / name).parent.mkdir(exist_ok=True)
            path.write_text(text.replace("@RELEASE@", release))

    def replace(self, pattern: str, text: str) -> None:
        """Replace in the rendered configuration. Raises ValueError where the pattern finds nothing."""
        for path in (self.root / "etc").rglob("*.conf"):
            changed, count = re.subn(pattern, text, path.read_text())
            if not count:
                raise ValueError(f"nothing in {path} is {pattern!r}")
            path.write_text(changed)

    def start(self) -> None:
        shutil.rmtree(self.root / "run", ignore_errors=True)  # as a service's RuntimeDirectory
        (self.root / "run").mkdir()
        self.process = subprocess.Popen(
            ENGINES[self.engine](self.root),
            env={**os.environ, **self.environment},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )

        def answers() -> bool:
            assert self.process
            if self.process.poll() is not None:
                raise RuntimeError(f"{self.engine} did not start:\n{self.process.stderr.read().decode()}{self.errors()}")  # type: ignore[union-attr]
            with contextlib.suppress(OSError):
                return self.get("/health").status == 200
            return False

        assert until(answers, 10, 0.02), f"{self.engine} does not answer:\n{self.errors()}"

    def clear(self) -> None:
        """Stop, and leave the configuration and the logs, but not what was stored."""
        self.stop()
        for folder in "cache", "temp":
            shutil.rmtree(self.root / folder, ignore_errors=True)

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def reload(self) -> None:
        """Have it read its configuration again, with requests going on."""
        assert self.process
        self.process.send_signal(RELOAD[self.engine])

    @property
    def runs(self) -> bool:
        return bool(self.process) and self.process.poll() is None

    def workers(self) -> list[int]:
        """The processes that the server has started."""
        assert self.process
        return [int(pid) for pid in Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()]

    def kill(self) -> None:
        """End it with all its workers at once, as a service manager does with what a killed server leaves behind."""
        assert self.process
        workers = self.workers()
        self.process.kill()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(10)
        self.process = None

    def wipe(self) -> None:
        """Delete every stored object, below the running server."""
        for path in self.cached():
            path.unlink(missing_ok=True)

    def cached(self) -> list[Path]:
        return [Path(folder, name) for folder, _folders, names in os.walk(self.root / "cache") for name in names]  # while it changes

    def errors(self) -> str:
        log = self.root / "log" / "error.log"
        return log.read_text() if log.exists() else ""

    def get(self, target: str, headers: t.Mapping[str, str] | None = None, **options: t.Any) -> Reply:
        return fetch(self.address, target, headers, context=self.context, **options)

    def attempt(self, target: str, headers: t.Mapping[str, str] | None = None) -> Reply | None:
        """The reply; None where it hangs up instead."""
        with contextlib.suppress(ConnectionError, http.client.HTTPException):
            return self.get(target, headers, timeout=20)
        return None

    def log(self, pattern: str) -> list[dict[str, t.Any]]:
        """The access log's lines whose path the pattern finds."""
        lines = (self.root / "log" / "access.log").read_text().splitlines()
        return [entry for entry in map(json.loads, lines) if re.search(pattern, entry["uri"])]


@contextlib.contextmanager
def fetcher(mirror: Mirror) -> t.Iterator[None]:
    """The docker-registries of a mirror's first site, until they are not needed any more."""

    def answers(address: str) -> bool:
        with contextlib.suppress(OSError):
            urllib.request.urlopen(f"http://{address}/", timeout=5).close()
            return True
        return False

    with contextlib.ExitStack() as running:
        for configuration in (mirror.root / "etc").glob(f"{mirror.sites[0]['name']}.*.yml"):
            told = yaml.safe_load(configuration.read_text())
            if ".passing." in configuration.name:  # as the role's tasks do
                folder = Path(told["storage"]["filesystem"]["rootdirectory"])
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "docker").unlink(missing_ok=True)
                (folder / "docker").symlink_to("nothing-is-kept")
            log = running.enter_context((mirror.root / "log" / f"{configuration.stem}.log").open("w"))
            process = subprocess.Popen(["docker-registry", "serve", configuration], stdout=log, stderr=log)
            running.callback(process.wait, 10)
            running.callback(process.terminate)
            assert until(functools.partial(answers, told["http"]["addr"]), 10), "docker-registry does not answer"
        yield


# --------------------------------------------------------------------------------------------------------------- world


@dataclasses.dataclass
class World:
    """The mirror under test, the registries behind it by their site's name, the name server, and an origin nobody declared."""

    mirror: Mirror
    registries: dict[str, Registry]
    names: Names
    stranger: Registry
    breakage: list[str]


@dataclasses.dataclass
class Fresh:
    """A project that no row has asked for before."""

    registry: Registry
    name: str
    site: str

    @property
    def project(self) -> Project:
        return self.registry.projects[self.name]

    @property
    def pattern(self) -> str:
        """Finds the project's paths, its files' included, and no other project's."""
        return re.escape(self.name).replace(r"\-", "[-_]") + r"(?![0-9])"

    @property
    def index(self) -> str:
        return f"/{self.site}/simple/{self.name}/"

    @property
    def file(self) -> str:
        """The first file's path on the mirror."""
        return f"/{self.site}/files{self.project.artifacts[0].path}"

    @property
    def content(self) -> bytes:
        return self.project.artifacts[0].content

    def page(self, media_type: str) -> bytes:
        """The page as it should arrive: upstream's own, with all links on the mirror."""
        files = self.registry.files_url if self.registry.relative else f"/{self.site}/files"
        return self.project.page(media_type, files, f"/{self.site}")

    def asked(self, origin: str = "") -> list[dict[str, t.Any]]:
        """What upstream was asked of it."""
        return self.registry.requests(self.pattern, origin)


@contextlib.contextmanager
def one_site(
    root: Path,
    engine: str,
    registry: t.Any,
    breakage: list[str],
    *more: dict[str, t.Any],
    variables: t.Mapping[str, t.Any] | None = None,
    **site: t.Any,
) -> t.Iterator[World]:
    """A mirror with one site, whose pages are fresh for 1 s, in front of one registry (``paths.Paths``): for the rows of one protocol.

    ``more`` are sites in front of the same registry with other options, ``variables`` further ones of the role's.
    """
    with contextlib.ExitStack() as stack:
        names = Names()
        stack.callback(names.stop)
        stack.enter_context(registry)
        names.table = {"registry.test": "127.0.0.1"}
        upstream = f"http://registry.test:{registry.port}"
        first = {"name": site["type"], "upstream": upstream, "lifetime": 1} | site
        sites = [first, *(first | other for other in more)]
        mirror = Mirror(root, engine, sites, mirror_resolvers=[names.address], mirror_index_timeout=2, **(variables or {}))
        mirror.render()
        for rule in breakage:
            mirror.replace(*rule.partition("=>")[::2])
        stack.callback(mirror.clear)
        mirror.start()
        yield World(mirror, {site["type"]: registry}, names, registry, breakage)
