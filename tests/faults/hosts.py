# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The lab of a fault run: hosts as in the molecule scenarios, what runs on them, and what a load is made of."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import importlib.util
import json
import os
import random
import re
import subprocess
import sys
import time
import typing as t
import urllib.error
import urllib.request
from pathlib import Path

HERE = Path(__file__).resolve().parent
REPOSITORY = HERE.parent.parent
sys.path[:0] = [str(REPOSITORY / "tests" / folder) for folder in ("behaviour", "registry")]

import bench  # noqa: E402
import registry as fixture  # noqa: E402

SHARED = REPOSITORY / "molecule" / "shared"
SCENARIO = "faults"
UPSTREAM, MIRROR, FRESH, NODE = (f"{name}.{SCENARIO}.test" for name in ("upstream", "mirror", "fresh", "node"))
CACHE = "/var/cache/nearby-mirror"
CA = "/etc/ssl/faults.pem"  # of the run, on the mirrors and on the node
EDGES = range(11, 17)  # the registry's addresses beside its own
USUAL_EDGES = [11, 12, 13, 14]
PATIENCE = 15  # seconds that pip waits for an answer
JSON, HTML = fixture.JSON, fixture.HTML
PIP = f"{JSON}, application/vnd.pypi.simple.v1+html; q=0.1, text/html; q=0.01"
SETTINGS = """\
[defaults]
forks = 8
task_timeout = 600
[ssh_connection]
pipelining = true
ssh_args = -F '{shared}/ssh_config' -o ControlMaster=auto -o ControlPersist=60s
"""


def command(*arguments: str, check: bool = True, **options: t.Any) -> subprocess.CompletedProcess[str]:
    """Run a command of this machine. Raises RuntimeError with what it said."""
    done = subprocess.run(arguments, capture_output=True, text=True, check=False, **{"timeout": 300, **options})
    if check and done.returncode:
        raise RuntimeError(f"{' '.join(arguments)[:300]}: {(done.stdout + done.stderr)[-3000:]}")
    return done


@dataclasses.dataclass
class Item:
    """Something to ask for: where, how, and the size and SHA-256 of each body that is right."""

    path: str
    headers: dict[str, str]
    right: list[tuple[int, str]]


class Lab:
    """All hosts of a run, from a ``with`` statement's begin to its end."""

    def __init__(self, folder: Path, engine: str, keep: bool) -> None:
        self.folder, self.engine, self.keep = folder, engine, keep
        self.prefix = ""
        self.variables: dict[str, t.Any] = {"mirror_engine": engine}
        self.tls = False  # whether the mirror under test speaks it
        self.local = fixture.Registry()  # never opened: it tells what the bodies should be
        self.mount = folder / "cache"
        self.names: dict[str, list[str]] = {}
        self.versions: dict[str, str] = {}

    # -- hosts

    def __enter__(self) -> Lab:
        (self.folder / "ansible.cfg").write_text(SETTINGS.format(shared=SHARED))
        self.destroy()
        with contextlib.ExitStack() as stack:
            stack.callback(self.__exit__)
            self.create()
            stack.pop_all()
        return self

    def __exit__(self, *_exception: object) -> None:
        if not self.keep:
            self.destroy()

    def create(self) -> None:
        # A network without podman's name server: the lab has its own, and that one can fail.
        network = f"nearby-{SCENARIO}"
        command("podman", "network", "create", "--disable-dns", "--label", f"nearby.lab={SCENARIO}", network)
        inspected = json.loads(command("podman", "network", "inspect", network).stdout)
        self.prefix = inspected[0]["subnets"][0]["gateway"].rpartition(".")[0]
        # A filesystem of the cache's own, which can be filled and made read-only.
        image = self.folder / "cache.img"
        command("truncate", "--size", "600M", str(image))
        command("mkfs.ext4", "-q", str(image))
        self.mount.mkdir()
        command("mount", "-o", "loop", str(image), str(self.mount))
        self.play(SHARED / "create.yml")
        self.start_upstream()
        self.copy(HERE / "load.py", NODE, "/opt/load.py")
        self.copy(self.folder / "tls" / "ca.pem", NODE, CA)
        for host in (MIRROR, FRESH):
            self.copy(self.folder / "tls" / "ca.pem", host, CA)

    def start_upstream(self) -> None:
        tls = self.folder / "tls"
        tls.mkdir()
        wildcard, (_paths, self.issuer) = "*.upstream.test", bench.certificate(tls, "ca", "Fault run CA")
        bench.certificate(tls, "good", wildcard, self.issuer, days=(-30, 30))
        bench.certificate(tls, "expired", wildcard, self.issuer, days=(-30, -1))
        bench.certificate(tls, "wrong", "another.test", self.issuer)
        bench.certificate(tls, "selfsigned", wildcard)
        origin = importlib.util.find_spec("dnslib")
        assert origin and origin.origin
        self.on(UPSTREAM, "mkdir -p /opt/upstream")
        for path in (tls, HERE / "upstream.py", REPOSITORY / "tests/registry/registry.py", Path(origin.origin).parent):
            self.copy(path, UPSTREAM, "/opt/upstream/")
        forward = re.findall(r"^nameserver\s+(\S+)", Path("/etc/resolv.conf").read_text(), re.MULTILINE)[0]
        for number in EDGES:
            self.on(UPSTREAM, f"ip address add {self.prefix}.{number}/24 dev eth0")
        self.on(
            UPSTREAM, f"systemd-run --quiet --unit upstream python3 /opt/upstream/upstream.py {self.prefix} {forward} /opt/upstream/tls"
        )
        assert bench.until(lambda: self.reachable(f"http://{self.prefix}.10:8002/describe"), 20), "the registry does not start"
        self.addresses(USUAL_EDGES)
        self.registry("name", table={MIRROR: [f"{self.prefix}.20"], FRESH: [f"{self.prefix}.21"], NODE: [f"{self.prefix}.30"]})

    def destroy(self) -> None:
        self.play(SHARED / "destroy.yml")
        # Those of earlier runs that were killed or asked to keep their hosts, too.
        for mounted in command("findmnt", "--noheadings", "--output", "TARGET", "--list", "--types", "ext4").stdout.split():
            if re.fullmatch(r"nearby-faults-\w+/cache", "/".join(Path(mounted).parts[-2:])):
                command("umount", mounted)

    def copy(self, path: Path, host: str, target: str) -> None:
        command("podman", "cp", str(path), f"{host}:{target}")

    def on(self, host: str, script: str, check: bool = True, **options: t.Any) -> str:
        """Run a script as root on a host; what it printed."""
        return command("podman", "exec", host, "bash", "-euo", "pipefail", "-c", script, check=check, **options).stdout

    def empty(self) -> None:
        """The mirror has nothing stored."""
        self.on(MIRROR, f"systemctl stop nearby-mirror; rm -rf {CACHE}/*; systemctl start nearby-mirror")

    def killed_deploy(self, host: str, **options: t.Any) -> Played:
        """A deploy that is killed, and with it what it runs on the host."""
        played = self.start_deploy(host=host, **options).result(check=False)
        # No other Python runs there.
        self.on(host, "for each in /proc/[0-9]*; do if grep -qs ^python3 $each/comm; then kill -9 ${each#/proc/} || true; fi; done")
        return played

    # -- the registry and its names

    def registry(self, verb: str, **arguments: t.Any) -> t.Any:
        request = urllib.request.Request(f"http://{self.prefix}.10:8002/{verb}", json.dumps(arguments).encode())
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.load(answer)

    @staticmethod
    def reachable(url: str) -> bool:
        with contextlib.suppress(OSError):
            return bool(urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=3).status == 200)
        return False

    def addresses(self, numbers: t.Iterable[int]) -> None:
        """Let the registry's names lead to these of its addresses."""
        table = [f"{self.prefix}.{number}" for number in numbers]
        self.registry("name", table={"index.upstream.test": table, "files.upstream.test": table})

    def publish(self, project: str, version: str, size: int = 0, kinds: str = "wheel sdist") -> None:
        for where in (self.registry, lambda verb, **arguments: getattr(self.local, verb)(**arguments)):
            where("publish", project=project, version=version, kinds=kinds, size=size)

    def publish_many(self, projects: list[str], size: int) -> None:
        self.registry("publish_many", projects=projects, size=size)
        for project in projects:
            self.local.publish(project, "1.0", size=size)

    # -- what can be asked for

    def pages(self, name: str, site: str = "pypi") -> list[Item]:
        """A project's page in both representations, as it should arrive."""
        project = self.local.projects[name]
        made = []
        for kind, accept in ((JSON, PIP), (HTML, "text/html")):
            body = project.page(kind, f"/{site}/files", f"/{site}")
            headers = {"Accept": accept, "Accept-Encoding": "gzip"}
            made.append(Item(f"/{site}/simple/{name}/", headers, [(len(body), hashlib.sha256(body).hexdigest())]))
        return made

    def files(self, name: str, site: str = "pypi") -> list[Item]:
        """A project's files, with the metadata beside a wheel."""
        made = []
        for artifact in self.local.projects[name].artifacts:
            made.append(Item(f"/{site}/files{artifact.path}", {}, [(len(artifact.content), artifact.sha256)]))
            if artifact.core:
                core = (len(artifact.core), hashlib.sha256(artifact.core).hexdigest())
                made.append(Item(f"/{site}/files{artifact.path}.metadata", {}, [core]))
        return made

    def all_of(self, projects: t.Iterable[str], site: str = "pypi") -> list[Item]:
        return [item for name in projects for item in (*self.pages(name, site), *self.files(name, site))]

    # -- load

    def load(self, entries: list[tuple[float, str, Item]]) -> Load:
        return Load(self, entries)

    def ask(self, items: list[Item], seconds: float = 0, kind: str = "asked") -> dict[str, t.Any]:
        """Ask for all of them once; how it went."""
        pause = max(seconds / max(1, len(items)), 0.003)
        return self.load([(number * pause, kind, item) for number, item in enumerate(items)]).result()

    # -- plays

    def play(self, playbook: str | Path, *arguments: str, check: bool = True, **variables: t.Any) -> Played:
        return self.start_play(playbook, *arguments, **variables).result(check)

    def start_play(self, playbook: str | Path, *arguments: str, kill: dict[str, t.Any] | None = None, **variables: t.Any) -> Play:
        """Start a playbook; ``kill`` is the point at which it is to be killed (callbacks/killer.py)."""
        environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))} | {
            "ANSIBLE_CONFIG": str(self.folder / "ansible.cfg"),
            "ANSIBLE_COLLECTIONS_PATH": str(REPOSITORY / ".collections"),
            "ANSIBLE_HOME": str(self.folder / "ansible"),
            "ANSIBLE_NOCOLOR": "1",
            "MOLECULE_EPHEMERAL_DIRECTORY": str(self.folder),
            "MOLECULE_SCENARIO_NAME": SCENARIO,
        }
        if kill:
            environment |= {
                "ANSIBLE_CALLBACK_PLUGINS": str(HERE / "callbacks"),
                "ANSIBLE_CALLBACKS_ENABLED": "killer",
                "FAULTS_KILL": json.dumps(kill),
            }
        told = {"lab_prefix": self.prefix, "lab_cache": str(self.mount), **self.variables, **variables}
        program = str(Path(sys.executable).parent / "ansible-playbook")
        return Play([program, str(playbook), "-i", str(HERE / "inventory"), "-e", json.dumps(told), *arguments], environment, self.folder)

    def deploy(self, *arguments: str, check: bool = True, host: str = MIRROR, **variables: t.Any) -> Played:
        return self.start_deploy(*arguments, host=host, **variables).result(check)

    def start_deploy(self, *arguments: str, host: str = MIRROR, **variables: t.Any) -> Play:
        return self.start_play("nearby.mirrors.site", "--limit", host, *arguments, **variables)


@dataclasses.dataclass
class Played:
    """How a playbook ended; ``killed`` is where it was killed, if it was."""

    code: int
    output: str

    @property
    def changed(self) -> int:
        return sum(int(count) for count in re.findall(r"\bchanged=(\d+)", self.output))

    @property
    def changes(self) -> list[str]:
        """The tasks that changed something."""
        found, task = [], ""
        for line in self.output.splitlines():
            if line.startswith("TASK ["):
                task = line[6:].rpartition("]")[0]
            elif line.startswith("changed:"):
                found.append(task)
        return found

    @property
    def killed(self) -> str:
        found = re.search(r"^killed (.*)", self.output, re.MULTILINE)
        return found[1] if found else ""


class Play:
    """A playbook that runs."""

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: Path) -> None:
        self.arguments = arguments
        self.process = subprocess.Popen(
            arguments, env=environment, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )

    def result(self, check: bool = True) -> Played:
        output, _none = self.process.communicate(timeout=900)
        if check and self.process.returncode:
            raise RuntimeError(f"{' '.join(self.arguments[1:])[:400]} failed:\n{output[-6000:]}")
        return Played(self.process.returncode, output)


class Load:
    """Clients at work on the node: (seconds after the start, kind, item) for each request. They do not end before ``result`` is wanted."""

    def __init__(self, lab: Lab, entries: list[tuple[float, str, Item]]) -> None:
        items = {id(item): item for _at, _kind, item in entries}
        numbers = {key: number for number, key in enumerate(items)}
        told = {
            "address": [f"{lab.prefix}.20", 443 if lab.tls else 80],
            "ca": CA if lab.tls else "",
            "host": MIRROR,
            "timeout": PATIENCE,
            "items": [[item.path, item.headers, item.right] for item in items.values()],
            "schedule": [[at, kind, numbers[id(item)]] for at, kind, item in entries],
        }
        self.last = max((at for at, _kind, _item in entries), default=0.0)
        self.process = subprocess.Popen(
            ["podman", "exec", "--interactive", NODE, "python3", "/opt/load.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdin and self.process.stdout
        self.process.stdin.write(json.dumps(told) + "\n")
        self.process.stdin.flush()
        if self.process.stdout.readline().strip() != "started":
            raise RuntimeError("the clients did not start")

    def result(self) -> dict[str, t.Any]:
        assert self.process.stdin and self.process.stdout
        self.process.stdin.close()
        printed = self.process.stdout.read()
        if self.process.wait(timeout=600):
            raise RuntimeError("the clients failed")
        return t.cast("dict[str, t.Any]", json.loads(printed))


def choice(items: list[Item], count: int, seed: str) -> list[Item]:
    """So many of them, each about as often as the others, the same on every run."""
    return random.Random(seed).choices(items, k=count)


def eventually(met: t.Callable[[], t.Any], seconds: float) -> float | None:
    """The seconds until it was true; None where it never was."""
    began = time.monotonic()
    return round(time.monotonic() - began, 1) if bench.until(met, seconds, 0.5) else None
