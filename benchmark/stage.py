# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is measured: a fixture registry, mirrors as the role renders them in front of it, and a plain static server."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import time
import typing as t
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent
sys.path[:0] = [str(REPOSITORY / folder) for folder in (".collections", "tests/behaviour", "tests/registry")]

import bench  # noqa: E402
from archive import Archive, Suite  # noqa: E402
from npmregistry import NpmRegistry  # noqa: E402

JSON, HTML = "application/vnd.pypi.simple.v1+json", "text/html"
NAMESPACE, HOST, CLIENT, LOOPBACK = "nearby-benchmark", "10.86.46.1", "10.86.46.2", "127.0.0.1"
INSIDE = ("ip", "netns", "exec", NAMESPACE)
LOG_FLUSH_SECONDS = 1.5  # both servers write their logs at least once a second
READ_SIZE = 1 << 20  # of a download, in bytes
CORES = sorted(os.sched_getaffinity(0))
SERVERS, CLIENTS = CORES[0], set(CORES[1:]) or set(CORES)


@contextlib.contextmanager
def link() -> t.Iterator[None]:
    """A network namespace for all servers, which clients on this side reach over a pair of virtual Ethernet devices. Needs root.

    A mirror's clients are on other hosts. Loopback is no such way: its packets are of 64 KB, and no device is in between. Neither have
    they a say in which worker runs where: all servers are on one core, each with one worker, and all clients on the others.
    """
    pair = ("nearby-bench-c", "nearby-bench-s")  # of at most 15 letters

    def ip(command: str) -> None:
        subprocess.run(["ip", *command.split()], check=True)

    with contextlib.ExitStack() as stack:
        os.sched_setaffinity(0, CLIENTS)
        stack.callback(os.sched_setaffinity, 0, CORES)
        if Path("/run/netns", NAMESPACE).exists():  # of a run that was killed
            ip(f"netns del {NAMESPACE}")
        ip(f"netns add {NAMESPACE}")
        stack.callback(ip, f"netns del {NAMESPACE}")
        ip(f"link add {pair[0]} type veth peer name {pair[1]} netns {NAMESPACE}")
        stack.callback(ip, f"link del {pair[0]}")
        ip(f"address add {CLIENT}/30 dev {pair[0]}")
        ip(f"link set {pair[0]} up")
        ip(f"-n {NAMESPACE} address add {HOST}/30 dev {pair[1]}")
        ip(f"-n {NAMESPACE} link set {pair[1]} up")
        ip(f"-n {NAMESPACE} link set lo up")
        # One that paces by what bandwidth it thinks there is (BBR) would make that the limit, where the processor is to be it.
        subprocess.run([*INSIDE, "sysctl", "-qw", "net.ipv4.tcp_congestion_control=reno"], check=True)
        yield


class Registry:
    """The fixture registry as a process of its own, so that its work is not the clients'. Its verbs are methods."""

    def __init__(self) -> None:
        control = bench.free_port()
        script = REPOSITORY / "tests" / "registry" / "registry.py"
        listen = ["--listen", f"{HOST}:0", "--files-listen", f"{HOST}:0", "--control-listen", f"{HOST}:{control}"]
        self.process = subprocess.Popen([*INSIDE, sys.executable, script, *listen], stdout=subprocess.PIPE, text=True)
        assert self.process.stdout
        self.urls: dict[str, str] = json.loads(self.process.stdout.readline())
        self.control = f"http://{HOST}:{control}"
        for _attempt in range(100):
            with contextlib.suppress(OSError):
                self.call("forget")
                return
            time.sleep(0.05)
        raise RuntimeError("The fixture registry's control port does not answer.")

    def call(self, verb: str, **arguments: t.Any) -> t.Any:
        """One verb of the registry."""
        with urllib.request.urlopen(f"{self.control}/{verb}", json.dumps(arguments).encode(), timeout=120) as answer:
            return json.load(answer)

    def files(self, project: str) -> list[dict[str, t.Any]]:
        """A project's files as its own index tells of them (PEP 691)."""
        page = urllib.request.Request(f"{self.urls['index']}/simple/{project}/", headers={"Accept": JSON})
        with urllib.request.urlopen(page, timeout=120) as answer:
            found: list[dict[str, t.Any]] = json.load(answer)["files"]
        return found

    def sent(self, path: str = "") -> int:
        """Bytes of bodies sent since the log was emptied, for paths that the expression finds."""
        return sum(request["sent"] for request in self.call("requests", path=path))

    def close(self) -> None:
        self.process.terminate()
        self.process.wait(10)


class Server:
    """A running server: its address, its log, its processor time, and below which path it has the simple API."""

    def __init__(
        self,
        name: str,
        root: Path,
        command: list[str],
        address: tuple[str, int],
        index: str = "/pypi/simple/",
        *,
        ready: str = "/health",
        environment: t.Mapping[str, str] | None = None,
        leads_past_it: bool = False,
    ) -> None:
        self.name, self.root, self.address, self.index, self.ready = name, root, address, index, ready
        self.command = [*INSIDE, "taskset", "--cpu-list", str(SERVERS), *command]
        self.leads_past_it = leads_past_it  # the links of its pages are those of upstream
        self.environment = {**os.environ, **(environment or {})}
        self.log = next(root.glob("log"), root) / "access.log"
        self.process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Server:
        self.start()
        return self

    def __exit__(self, *_exception: object) -> None:
        self.stop()

    def start(self) -> None:
        """Run it until it answers. Raises RuntimeError where it does not."""
        with (self.root / "output").open("ab") as output:
            self.process = subprocess.Popen(self.command, cwd=self.root, env=self.environment, stdout=output, stderr=output)
        answers = bench.until(lambda: self.process.poll() is not None or self.is_up(), 120, 0.02)  # type: ignore[union-attr]
        if not answers or self.process.poll() is not None:
            self.stop()
            raise RuntimeError(f"The server {self.name} did not start:\n{(self.root / 'output').read_text()[-3000:]}")

    def is_up(self) -> bool:
        with contextlib.suppress(OSError):
            return bench.fetch(self.address, self.ready).status == 200
        return False

    def stop(self) -> None:
        if self.process:
            self.process.terminate()
            self.process.wait(10)
            self.process = None

    def empty(self) -> None:
        """Stop, forget all that was stored, start again."""
        self.stop()
        for path in (self.root / "cache").rglob("*"):
            if path.is_file():
                path.unlink()
        self.start()

    def cpu_seconds(self) -> float:
        """Processor time that it has used with all its children, in user and in kernel mode."""
        assert self.process
        return sum(map(process_seconds, tree(self.process.pid)))

    def log_since(self, position: int) -> str:
        """What was logged since the log had that size; to be asked LOG_FLUSH_SECONDS after the last response."""
        with self.log.open() as log:
            log.seek(position)
            return log.read()


def tree(pid: int) -> t.Iterator[int]:
    """A process and all below it."""
    yield pid
    with contextlib.suppress(OSError):
        for children in Path(f"/proc/{pid}/task").glob("*/children"):
            for child in children.read_text().split():
                yield from tree(int(child))


def process_seconds(pid: int) -> float:
    """Processor time of a process's threads, and of its children that are gone."""
    try:
        threads = sum(int(path.read_text().split()[0]) for path in Path(f"/proc/{pid}/task").glob("*/schedstat"))
        gone = sum(map(int, Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[13:15]))
    except OSError:
        return 0.0
    return threads / 1e9 + gone / os.sysconf("SC_CLK_TCK")


@contextlib.contextmanager
def further() -> t.Iterator[list[dict[str, t.Any]]]:
    """Sites of other types, with what hits.CASES ask of them, in front of registries on the clients' side."""
    with NpmRegistry(CLIENT) as npm, Archive(CLIENT) as archive:
        npm.url = npm.files_url = f"http://{CLIENT}:{npm.port}"
        for number in range(500):
            npm.publish("large", f"1.{number}.0", 10_000)
        archive.suites["stable"] = Suite("stable", 1, others=1200)
        archive.size = 5_000_000
        yield [
            {"name": "npm", "type": "npm", "upstream": npm.url, "origins": [npm.url], "lifetime": 86400},
            {"name": "debian", "type": "deb", "upstream": f"http://{CLIENT}:{archive.port}", "lifetime": 86400},
        ]


def mirror(root: Path, registry: Registry, engine: str, sites: t.Iterable[dict[str, t.Any]]) -> Server:
    """The mirror: the role's own rendered configuration, not yet started."""
    site = {"name": "pypi", "type": "pypi", "upstream": registry.urls["index"], "origins": [registry.urls["files"]], "lifetime": 86400}
    rendered = bench.Mirror(root, engine, [site, *sites], mirror_addresses=[HOST, LOOPBACK], mirror_workers=1)
    rendered.render()
    return Server(engine, root, bench.ENGINES[engine](root), (HOST, rendered.address[1]))


def changed(origin: Server, root: Path, rules: t.Iterable[str]) -> Server:
    """The mirror once more, named after its folder, with each REGEX=>TEXT applied to its configuration."""
    for folder in ("etc", "log", "cache", "temp", "run", "www"):
        (root / folder).mkdir(parents=True)
    port = bench.free_port()
    text = (origin.root / "etc/mirror.conf").read_text()
    text = text.replace(str(origin.root), str(root)).replace(f":{origin.address[1]}", f":{port}")
    for rule in rules:
        wanted, _arrow, new = rule.partition("=>")
        text, count = re.subn(wanted, new.replace("\\n", "\n"), text, flags=re.MULTILINE)
        if not count:
            raise SystemExit(f"Nothing in the configuration matches {wanted!r}.")
    (root / "etc/mirror.conf").write_text(text)
    return Server(root.name, root, bench.ENGINES["nginx"](root), (HOST, port))


def nginx(name: str, root: Path, template: str, index: str = "", **words: str) -> Server:
    """An Nginx with one of the configurations beside this file, in which the words stand for what is given; not yet started."""
    for folder in ("www", "temp", "cache"):
        (root / folder).mkdir(parents=True)
    port = bench.free_port()
    text = (HERE / template).read_text()
    for word, value in {"ROOT": str(root), "HOST": HOST, "PORT": str(port), **words}.items():
        text = re.sub(rf"\b{word}\b", value, text)
    (root / "nginx.conf").write_text(text)
    command = ["/usr/sbin/nginx", "-c", f"{root}/nginx.conf", "-e", f"{root}/error.log", "-g", "daemon off;"]
    return Server(name, root, command, (HOST, port), index)


def static(root: Path) -> Server:
    """Plain static serving of root/www, not yet started."""
    return nginx("static", root, "static.conf")


class Download:
    """One response whose body is counted, and hashed if wanted; else the kernel throws it away, which costs next to nothing."""

    def __init__(self, address: tuple[str, int], path: str, digest: bool = False) -> None:
        self.began = time.monotonic()
        self.socket = socket.create_connection(address, timeout=120)
        self.socket.sendall(f"GET {path} HTTP/1.1\r\nHost: mirror.test\r\nConnection: close\r\n\r\n".encode())
        self.sha256 = hashlib.sha256() if digest else None
        self.buffer = bytearray(READ_SIZE)
        self.head = b""
        self.length: int | None = None
        self.got = 0
        self.first_byte = self.seconds = 0.0
        self.done = False
        self.error = ""

    def read(self) -> None:
        """Take what is there. Raises OSError, and RuntimeError where the answer is not a 200 with a length."""
        if self.length is None:
            self.head += self.socket.recv(4096)
            head, separator, rest = self.head.partition(b"\r\n\r\n")
            if not separator:
                if not self.head or len(self.head) > 65536:
                    raise RuntimeError(f"no answer: {self.head[:200]!r}")
                return
            self.head = head
            length = re.search(rb"(?im)^content-length:\s*(\d+)", head)
            if not head.startswith(b"HTTP/1.1 200 ") or not length:
                raise RuntimeError(f"not a whole answer: {head[:200]!r}")
            self.length = int(length[1])
            self.take(rest, len(rest))
            return
        if self.sha256:
            count = self.socket.recv_into(self.buffer)
            self.take(memoryview(self.buffer)[:count], count)
        else:
            count = self.socket.recv_into(self.buffer, 0, socket.MSG_TRUNC)
            self.take(b"", count)
        if not count:
            raise RuntimeError(f"the body ended after {self.got} of {self.length} bytes")

    def take(self, data: bytes | memoryview, count: int) -> None:
        if count and not self.first_byte:
            self.first_byte = time.monotonic() - self.began
        if self.sha256:
            self.sha256.update(data)
        self.got += count
        if self.got == self.length:
            self.done, self.seconds = True, time.monotonic() - self.began
            self.socket.close()

    def header(self, name: str) -> str:
        found = re.search(rb"(?im)^" + name.encode() + rb":\s*(.*?)\r?$", self.head)
        return found[1].decode() if found else ""


def drain(downloads: t.Iterable[Download]) -> None:
    """Read all of them to their end, one after the other within one thread."""
    for download in downloads:
        while not download.done:
            download.read()
