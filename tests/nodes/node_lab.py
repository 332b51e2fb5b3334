# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Real `ansible-playbook` runs over nodes that are folders, and a small mirror on loopback that notes what it is asked."""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import stat
import subprocess
import sys
import threading
import zipfile
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
BIN = Path(sys.executable).parent
NAME = "nearby.mirrors."


def wheel() -> bytes:
    """The smallest wheel that pip and uv install."""
    members = {
        "sample.py": "",
        "sample-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: sample\nVersion: 1.0\n",
        "sample-1.0.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = "".join(
        "{},sha256={},{}\n".format(
            name,
            base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("="),
            len(text.encode()),
        )
        for name, text in members.items()
    )
    members["sample-1.0.dist-info/RECORD"] = record + "sample-1.0.dist-info/RECORD,,\n"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, text in members.items():
            archive.writestr(name, text)
    return buffer.getvalue()


def document(url: str = "http://mirror.test:8080", **changes) -> dict:
    site = {"name": "pypi", "type": "pypi", "path": "/pypi/", "index": "/pypi/simple/", "probe": "pip"}
    return {"version": 1, "name": "mirror", "region": "a", "url": url, "engine": "nginx", "sites": [site], **changes}


class Mirror:
    """A mirror with one project, `sample`; also a forward proxy, so that it can stand behind any name.

    Below `/later` its document has a later version, below `/useless` no site, and below `/broken` its index is dead.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.wheel = wheel()
        mirror = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                host = parts.netloc or self.headers["Host"]
                mirror.asked.append(f"http://{host}{parts.path}")
                status, kind, body = mirror.answer(host, parts.path)
                self.send_response(status)
                self.send_header("Content-Type", kind)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

            def log_message(self, *args: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.address = f"127.0.0.1:{self.server.server_port}"
        self.url = "http://" + self.address
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, host: str, path: str) -> tuple[int, str, bytes]:
        prefix = next((name for name in ("/later", "/useless", "/broken") if path.startswith(name + "/")), "")
        path = path[len(prefix) :]
        if path == "/mirror.json":
            changes = {"/later": {"version": 2}, "/useless": {"sites": []}}.get(prefix, {})
            return 200, "application/json", json.dumps(document("http://" + host, **changes)).encode()
        if path.startswith("/pypi/simple/") and prefix == "/broken":
            return 502, "text/plain", b"bad gateway\n"
        if path.startswith("/golang/") and path.endswith("/@v/list"):
            return 200, "text/plain", b"v1.0.0\n"
        digest = hashlib.sha256(self.wheel).hexdigest()
        files = [
            {"filename": "sample-1.0-py3-none-any.whl", "url": "/pypi/files/sample-1.0-py3-none-any.whl", "hashes": {"sha256": digest}}
        ]
        if path in ("/pypi/simple/sample/", "/pypi/simple/pip/"):
            page = {"meta": {"api-version": "1.0"}, "name": path.split("/")[-2], "files": files if "sample" in path else []}
            return 200, "application/vnd.pypi.simple.v1+json", json.dumps(page).encode()
        if path == "/pypi/files/sample-1.0-py3-none-any.whl":
            return 200, "application/octet-stream", self.wheel
        return 404, "text/plain", b"not here\n"


@dataclass
class Run:
    """What one `ansible-playbook` did: `records` are the lines of the callback `record`."""

    code: int
    output: str
    records: list[dict] = field(default_factory=list)

    def of(self, host: str) -> list[dict]:
        return [record for record in self.records if record["host"] == host]

    def done(self, host: str) -> list[dict]:
        return [record for record in self.of(host) if record["status"] != "skipped"]

    def changed(self, host: str) -> bool:
        return any(record["result"].get("changed") for record in self.of(host))

    def failure(self, host: str) -> str:
        """The message of the task that failed; "" where none did."""
        return " ".join(record["result"]["msg"] for record in self.of(host) if record["status"] == "failed")


@dataclass
class Control:
    """A control node whose home is `folder`/home, and whose nodes are folders below `folder`."""

    folder: Path

    @property
    def home(self) -> Path:
        return self.folder / "home"

    def environment(self, **more: str) -> dict[str, str]:
        """An environment without this machine's own settings for pip, uv and proxies."""
        kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "LC_ALL")}
        return {**kept, "HOME": str(self.home), "LC_ALL": "C.UTF-8", **more}

    def play(self, playbook: str, hosts: dict[str, dict], *arguments: str, extra: dict | None = None) -> Run:
        inventory, record = self.folder / "inventory.json", self.folder / "record"
        common = {
            "ansible_connection": "local",
            "ansible_become": False,
            "ansible_python_interpreter": sys.executable,
        }
        inventory.write_text(json.dumps({"all": {"vars": common, "children": {"nodes": {"hosts": hosts}}}}))
        (self.folder / "ansible.cfg").touch()
        record.unlink(missing_ok=True)
        done = subprocess.run(
            [BIN / "ansible-playbook", NAME + playbook, "-i", inventory, "-e", json.dumps(extra or {}), *arguments],
            env=self.environment(
                ANSIBLE_COLLECTIONS_PATH=str(ROOT / ".collections"),
                ANSIBLE_CONFIG=str(self.folder / "ansible.cfg"),
                ANSIBLE_FORKS="4",
                ANSIBLE_NOCOLOR="1",
                ANSIBLE_CALLBACK_PLUGINS=str(HERE / "callbacks"),
                ANSIBLE_CALLBACKS_ENABLED="record",
                ANSIBLE_HOME=str(self.folder / "ansible"),
                NEARBY_RECORD=str(record),
                PYTHONPATH=str(ROOT / "tests/preloaded"),
            ),
            cwd=self.folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=120,
            check=False,
        )
        lines = record.read_text().splitlines() if record.exists() else []
        return Run(done.returncode, done.stdout, [json.loads(line) for line in lines])

    def client(self, *command: str | Path, **more: str) -> str:
        """What a real client prints; fails with its output if it does."""
        done = subprocess.run(
            command, env=self.environment(**more), cwd=self.folder, text=True, capture_output=True, timeout=60, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


@dataclass
class Story:
    """Nodes that go through the same runs; `after` each run, by its name, are every node's files."""

    control: Control
    hosts: dict[str, dict] = field(default_factory=dict)
    roots: dict[str, Path] = field(default_factory=dict)
    runs: dict[str, Run] = field(default_factory=dict)
    after: dict[str, dict[str, dict]] = field(default_factory=dict)

    def add(self, name: str, variables: dict, files: dict[str, tuple[int, str]], at_home: bool = False) -> None:
        """A node with these files, in a folder of its own or in the home of the control node itself."""
        root = self.roots[name] = self.control.home if at_home else self.control.folder / "nodes" / name
        root.mkdir(parents=True, exist_ok=True)
        write_files(root, files)
        self.hosts[name] = variables if at_home else {**variables, "configure_mirrors_root": str(root)}

    def tell(self, step: str, *arguments: str, hosts: dict[str, dict] | None = None, extra: dict | None = None) -> None:
        self.runs[step] = run = self.control.play("nodes", self.hosts if hosts is None else hosts, *arguments, extra=extra)
        assert run.code == 0, run.output
        self.look(step)

    def look(self, step: str) -> None:
        self.after[step] = {name: snapshot(root) for name, root in self.roots.items()}

    def text(self, step: str, name: str, path: str) -> str:
        return self.after[step][name][path][3].decode()


def make_control(folder: Path) -> Control:
    control = Control(folder)
    control.home.mkdir()
    return control


@dataclass(frozen=True)
class Told:
    """A node of the story `told`; `variables` may say MIRROR for the mirror's URL, and ADDRESS for its host and port.

    One with `other` variables, which point it at another mirror, goes through all of the story.
    """

    variables: dict
    files: dict[str, tuple[int, str]] = field(default_factory=dict)
    other: dict = field(default_factory=dict)
    at_home: bool = False


def filled(value: Any, mirror: Mirror) -> Any:
    return json.loads(json.dumps(value).replace("MIRROR", mirror.url).replace("ADDRESS", mirror.address))


def write_files(root: Path, files: dict[str, tuple[int, str]]) -> None:
    for path, (mode, text) in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
        (root / path).chmod(mode)


def snapshot(root: Path) -> dict[str, tuple]:
    """Kind, mode, owner and bytes of all below a folder; what Ansible itself keeps in a home is left out."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if name.split("/")[0] in (".ansible", ".cache"):
            continue
        status = path.lstat()
        content = path.read_bytes() if stat.S_ISREG(status.st_mode) else b""
        found[name] = (oct(status.st_mode), status.st_uid, status.st_gid, content)
    return found
