# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Puts a release of a mirror in force, or leaves the one before it: staged, checked, tried, swapped, probed, rolled back.

A release is a folder, named after the digest of its files, that holds all that a configuration is made of. `current` is a
symbolic link to the one in force, and the server reads its configuration by way of that link.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import glob
import hashlib
import json
import os
import pwd
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .health import Options, examine
from .host import can_listen, listeners, lives, overlap, running_pid
from .http import Client, HttpError

CONFIGURATION, ENGINE, UNIT = "mirror.conf", "engine.json", "nearby-mirror.service"
PLACEHOLDER = "@RELEASE@"
UNITS = "/etc/systemd/system"
DIGEST_LENGTH = 16
COMMAND_SECONDS = 120
ANSWER_SECONDS = 15  # until a server that was started or reloaded answers with its new release
# Downloads under way when the engine is changed may take so long. Nobody is answered meanwhile, and pip asks again for longer.
DRAIN_SECONDS = 5
RELEASED_SECONDS = 2  # for which a server that is stopped may hold its sockets
ENDED_SECONDS = 3  # for which there has been no process, after which none is waited for
# For a moment after a reload old workers answer as well, with a certificate from before, which nobody here trusts any more, or without.
OVERLAP_SECONDS = 0.5
PR_SET_PDEATHSIG = 1


class Refused(Exception):
    """Why a release is not in force, and what is instead: one sentence without a full stop."""


@dataclass(frozen=True)
class Engine:
    """How a server is run, as a release's engine.json has it. To an argument list is added which configuration it is about.

    `trial` runs in the foreground. `reload` and `stop` (gracefully) are names of signals to the process in `pid_path`. `listen` has
    the addresses and ports that clients reach it at, `certificate` is the file of its own, where it speaks TLS.
    """

    name: str
    process: str
    check: Sequence[str]
    start: Sequence[str]
    trial: Sequence[str]
    reload: str
    stop: str
    url: str
    pid_path: str
    log_path: str
    listen: Sequence[Sequence[Any]] = ()
    certificate: str = ""

    @classmethod
    def of(cls, files: Mapping[str, str]) -> Engine:
        try:
            return cls(**json.loads(files[ENGINE]))
        except (ValueError, KeyError, TypeError) as error:
            raise Refused(f"{ENGINE} of a release says no more how its server is run ({error}); put back what it was") from error

    @property
    def scheme(self) -> str:
        return self.url.partition(":")[0]

    @property
    def pid(self) -> int:
        return running_pid(self.pid_path, self.process)

    @property
    def dual(self) -> bool:
        """Whether its socket at :: is for addresses of both kinds, with which there is none at 0.0.0.0."""
        return self.name == "apache"

    @property
    def sockets(self) -> set[tuple[str, int]]:
        found = {(address, port) for address, port in self.listen}
        return found - {("0.0.0.0", port) for address, port in found if address == "::" and self.dual}

    def clashes(self, address: str, port: int) -> bool:
        """Whether a socket of its own is there, or is in the way of one there."""
        return any(own == port and overlap(held, address, self.dual) for held, own in self.sockets)

    def must_stop_for(self, new: Engine) -> bool:
        """Whether another server is to run; or the same one where it listens at 0.0.0.0 and is to listen at 192.0.2.1, say, since at a
        reload both sockets would have to be there at once."""
        if self.process != new.process:
            return True
        return any(self.clashes(*wanted) for wanted in new.sockets - self.sockets)

    def runs(self, release: str) -> bool:
        """Whether the server answers with a release."""
        return release_at(self.url, self.certificate) == release

    def log(self) -> ErrorLog:
        return ErrorLog(os.path.join(self.log_path, "error.log"))


def name_of(files: Mapping[str, str]) -> str:
    """The digest of a release's files, by their paths, before it is written into them."""
    return hashlib.sha256(json.dumps(dict(files), sort_keys=True).encode()).hexdigest()[:DIGEST_LENGTH]


def filled(files: Mapping[str, str], name: str) -> dict[str, str]:
    return {path: text.replace(PLACEHOLDER, name) for path, text in files.items()}


# ------------------------------------------------------------------------------------------------------------ on the disk


class Releases:
    """The releases below a folder. One that was never in force is dated 1970, and goes with the next deploy."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.link = os.path.join(path, "current")

    def folder(self, name: str) -> str:
        return os.path.join(self.path, "releases", name)

    @property
    def current(self) -> str:
        """Name of the release in force, empty if there is none."""
        try:
            name = os.path.basename(os.readlink(self.link))
        except OSError:
            return ""
        return name if os.path.isfile(os.path.join(self.folder(name), ENGINE)) else ""

    def read(self, name: str) -> dict[str, str]:
        """A release's files by their paths in it; none where there is no such release."""
        files, top = {}, self.folder(name)
        for folder, _folders, names in os.walk(top) if name else ():
            for file in names:
                path = os.path.join(folder, file)
                if os.path.isfile(path):
                    with open(path, encoding="utf-8", errors="surrogateescape") as handle:
                        files[os.path.relpath(path, top)] = handle.read()
        return files

    def strays(self, name: str, files: Mapping[str, str]) -> Iterator[str]:
        """What lies in a release's folder beside its files and their folders; what is in a folder comes before the folder itself."""
        wanted = [os.path.join(self.folder(name), path) for path in files]
        for folder, folders, names in os.walk(self.folder(name), topdown=False):
            for path in (os.path.join(folder, entry) for entry in (*names, *folders)):
                needed = is_own(path, os.path.isdir) and any(file.startswith(f"{path}/") for file in wanted)
                if not needed and not (path in wanted and is_own(path, os.path.isfile)):
                    yield path

    def elsewhere(self, name: str) -> str:
        """Why what is deleted in a release's folder would be deleted in another place; empty, if it would not."""
        folder = self.folder(name)
        with open("/proc/self/mounts", "rb") as mounts:
            points = [line.split()[1].decode("unicode_escape") for line in mounts]
        inside = [point for point in points if point.startswith(os.path.realpath(folder) + "/")]
        return f"{folder} is a link" if os.path.islink(folder) else f"{inside[0]} is a mounted filesystem" if inside else ""

    def write(self, name: str, files: Mapping[str, str]) -> None:
        """Each file in one step: those of a release that somebody has edited are put right while it is in force. Nothing else stays,
        since the name is the digest of all that a release has. Raises Refused."""
        if reason := self.elsewhere(name):
            raise Refused(f"{reason}, and a release is a folder with nothing of others in it; take that away; nothing was changed")
        for path in self.strays(name, files):
            (os.rmdir if is_own(path, os.path.isdir) else os.unlink)(path)
        for path, text in files.items():
            target = os.path.join(self.folder(name), path)
            os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
            replace(target, text)
        if name != self.current:
            os.utime(self.folder(name), (0, 0))

    def point(self, name: str) -> None:
        """Make it the one in force, in one step."""
        made = f"{self.link}.new"
        with contextlib.suppress(FileNotFoundError):
            os.unlink(made)
        os.symlink(os.path.join("releases", name), made)
        os.replace(made, self.link)
        os.utime(self.folder(name))

    def remove(self, name: str) -> None:
        if name and name != self.current and not self.elsewhere(name):
            shutil.rmtree(self.folder(name), ignore_errors=True)

    def prune(self, keep: int) -> None:
        """Leave so many beside the one in force: those that were put in force last."""
        found = [entry for entry in os.scandir(self.folder("")) if entry.is_dir(follow_symlinks=False)]
        ages = {entry.name: entry.stat().st_mtime for entry in found}
        others = sorted(ages.keys() - {self.current}, key=lambda name: ages[name], reverse=True)
        for number, name in enumerate(others):
            if number >= keep or not ages[name]:
                self.remove(name)


def is_own(path: str, kind: Callable[[str], bool]) -> bool:
    """Whether there is a file or folder, and not a link to one that lies elsewhere."""
    return kind(path) and not os.path.islink(path)


def replace(path: str, text: str) -> None:
    """Write a file that is there as a whole or not at all."""
    made = f"{path}.new"
    with open(made, "w", encoding="utf-8", errors="surrogateescape") as file:
        file.write(text)
        os.fchmod(file.fileno(), 0o644)
    os.replace(made, path)


@contextlib.contextmanager
def locked(
    path: str,
    timeout: float,
    who: str,
    clock: Callable[[], float] = time.monotonic,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock of this host's deploys. It goes with the processes that hold it. Raises Refused, naming who holds it."""
    deadline = clock() + timeout
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        os.fchmod(descriptor, 0o600)  # whoever can open it can hold it for ever
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if os.path.exists(path) and os.path.samestat(os.fstat(descriptor), os.stat(path)):
                break
        except BlockingIOError:
            if clock() >= deadline:
                holder = os.pread(descriptor, 1000, 0).decode("utf-8", "replace").strip()
                os.close(descriptor)
                raise Refused(f"Another deploy is at work on this host ({holder or 'of which nothing is known'})") from None
            sleep(0.5)
        os.close(descriptor)
    try:
        os.truncate(descriptor, 0)
        os.pwrite(descriptor, who.encode(), 0)
        yield
    finally:
        os.truncate(descriptor, 0)
        os.close(descriptor)


# ---------------------------------------------------------------------------------------------------------- as a process


def run(command: Sequence[str]) -> str:
    """What went wrong with a command, empty if nothing did."""
    try:
        done = subprocess.run(
            list(command), stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="replace", timeout=COMMAND_SECONDS, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    return (done.stderr.strip() or done.stdout.strip() or f"exit status {done.returncode}") if done.returncode else ""


def explain(engine: str, output: str) -> str:
    """A checker's refusal, as one sentence without a full stop."""
    lacking = re.search(r"""(?:unknown directive|Invalid command) ["']([^"']+)""", output)
    if lacking:
        return f"This host's {engine} does not know the directive {lacking[1]}, so its package lacks a module that the mirror needs"
    lacking = re.search(r"[Cc]annot load \S*?(mod_\w+)", output)
    if lacking:
        return f"This host's {engine} has no {lacking[1]}, a module that the mirror needs; install the package that has it"
    return f"{engine} refuses the configuration: {' '.join(output.split())}"


def detached(work: Callable[[], str]) -> str:
    """What `work` returns, done in a process that goes on to its end although this one is killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setsid()
            null = os.open(os.devnull, os.O_RDWR)
            for standard in range(3):
                os.dup2(null, standard)
            try:
                told = work()
            except Exception as error:  # there is nobody else to tell
                told = f"The deploy itself failed with {type(error).__name__}: {error}"
            os.write(writer, told.encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        told = pipe.read().decode()
    os.waitpid(child, 0)
    return told


def die_with(parent: int) -> Callable[[], None]:
    """For `preexec_fn`: the new process ends when its parent does, however that ends (prctl(2))."""

    def prepare() -> None:
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return prepare


def free_ports(names: Sequence[str]) -> dict[str, int]:
    """A free port of the loopback interface for each name."""
    with contextlib.ExitStack() as held:
        servers = [held.enter_context(socket.create_server(("127.0.0.1", 0))) for _name in names]
        return {name: server.getsockname()[1] for name, server in zip(names, servers, strict=True)}


def until(met: Callable[[], bool], seconds: float) -> bool:
    deadline = time.monotonic() + seconds
    while not met():
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.05)
    return True


def release_at(url: str, certificate: str = "") -> str:
    """The release that a mirror says it runs, empty if it does not answer, or with another certificate."""
    try:
        return Client(timeout=10, certificate=certificate).get(f"{url}/health").headers.get("X-Release")
    except HttpError:
        return ""


class ErrorLog:
    """What a server writes to its error log from now on."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.begin = os.path.getsize(path) if os.path.exists(path) else 0

    def fault(self) -> str:
        """The first line that tells of the gravest fault, in brackets; empty if there is none."""
        try:
            with open(self.path, encoding="utf-8", errors="replace") as file:
                file.seek(self.begin)
                lines = [line.strip() for line in file]
        except OSError:
            return ""
        # An old worker that ends what it has finds its own sockets gone, and goes on with those of the new ones.
        lines = [line for line in lines if ".sock failed (2:" not in line]
        found = (line for level in ("emerg", "crit", "error") for line in lines if re.search(rf"\b{level}\b", line))
        return next((f" ({line[-300:]})" for line in found), "")


# ----------------------------------------------------------------------------------------------------------- as a service


class Bare:
    """The server where there is no service manager."""

    def unit(self) -> dict[str, str]:
        """The unit as the service manager has it, by its path in a release; empty where it lacks one."""
        return {}

    def present(self) -> bool:
        """Whether the service manager has a unit."""
        return False

    def installed(self, files: Mapping[str, str]) -> bool:
        """Whether the service manager has the unit of a release with these files, and starts it at boot."""
        return True

    def install(self, files: Mapping[str, str]) -> bool:
        """Whether something was changed."""
        return False

    def uninstall(self) -> bool:
        return False

    def start(self, engine: Engine, configuration: str) -> str:
        os.makedirs(os.path.dirname(engine.pid_path), mode=0o755, exist_ok=True)
        return run([*engine.start, configuration])

    def reload(self, engine: Engine, configuration: str) -> str:
        pid = engine.pid
        if not pid:
            return f"{engine.name} has ended"
        if problem := run([*engine.check, configuration]):
            return explain(engine.name, problem)
        os.kill(pid, getattr(signal, engine.reload))
        return ""

    def stop(self, engine: Engine, seconds: float = DRAIN_SECONDS, leave: bool = False) -> bool:
        """Let it finish what is under way, for so long. To `leave` it is enough that it has let go of its port and its pid file:
        Apache does so at once, and then serves to the end what is under way.
        """
        pid = engine.pid
        if not pid:
            return False

        def stopped() -> bool:
            return engine.pid != pid if leave else not lives(pid)

        for kind, patience in ((engine.stop, seconds), ("SIGTERM", 5.0), ("SIGKILL", 5.0)):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, getattr(signal, kind))
            if until(stopped, patience):
                break
        return True


class Systemd(Bare):
    """The server as a unit of systemd."""

    @property
    def target(self) -> str:
        return os.path.join(UNITS, UNIT)

    def unit(self) -> dict[str, str]:
        try:
            with open(self.target, encoding="utf-8", errors="surrogateescape") as file:
                return {UNIT: file.read()}
        except OSError:
            return {UNIT: ""}

    def present(self) -> bool:
        return os.path.lexists(self.target)

    def enabled(self) -> bool:
        return not run(["systemctl", "is-enabled", "--quiet", UNIT])

    def installed(self, files: Mapping[str, str]) -> bool:
        return self.unit() == {UNIT: files[UNIT]} and self.enabled()

    def install(self, files: Mapping[str, str]) -> bool:
        if self.installed(files):
            return False
        replace(self.target, files[UNIT])
        run(["systemctl", "daemon-reload"])
        if not self.enabled():
            run(["systemctl", "enable", "--quiet", UNIT])
        return True

    def uninstall(self) -> bool:
        if not self.present():
            return False
        run(["systemctl", "disable", "--quiet", "--now", UNIT])
        os.unlink(self.target)
        run(["systemctl", "daemon-reload"])
        run(["systemctl", "reset-failed", UNIT])
        return True

    def start(self, engine: Engine, configuration: str) -> str:
        run(["systemctl", "reset-failed", UNIT])
        return run(["systemctl", "restart", UNIT])

    def reload(self, engine: Engine, configuration: str) -> str:
        return super().reload(engine, configuration) if engine.pid else run(["systemctl", "restart", UNIT])

    def stop(self, engine: Engine, seconds: float = DRAIN_SECONDS, leave: bool = False) -> bool:
        # The unit cannot start again before all of it has ended.
        stopped = super().stop(engine, seconds)
        run(["systemctl", "stop", UNIT])
        return stopped


# --------------------------------------------------------------------------------------------------------------- a deploy


@dataclass
class Deploy:
    """Puts `files` in force as a release. `trial` has those that are other ones on trial, with the placeholders @TRIAL@ for the
    folder of all that is read and written then, and @PORT@ and the like, each of which becomes a free port; `state_path` is
    a folder of the mirror's own, `user` its workers' user.
    """

    releases: Releases
    service: Bare
    files: Mapping[str, str]
    trial: Mapping[str, str]
    state_path: str
    user: str
    verify: bool = True
    upstream_ca_path: str = ""
    keep: int = 3
    answer_seconds: float = ANSWER_SECONDS

    def __post_init__(self) -> None:
        self.name = name_of(self.files)
        self.contents = filled(self.files, self.name)
        self.engine = Engine.of(self.contents)
        self.before = self.releases.current
        self.folder = self.releases.folder(self.name)

    @property
    def intact(self) -> bool:
        strays = any(self.releases.strays(self.name, self.contents))
        return not strays and self.releases.read(self.name) == self.contents

    @property
    def previous(self) -> Engine | None:
        """How the release in force is run; this one as it was rendered, whoever has edited it since."""
        return Engine.of(self.contents if self.before == self.name else self.releases.read(self.before)) if self.before else None

    @property
    def answers(self) -> bool:
        return self.engine.runs(self.name)

    @property
    def settled(self) -> bool:
        """Whether the server runs this release already, as it was rendered."""
        return self.before == self.name and self.intact and self.answers

    @property
    def pending(self) -> bool:
        """Whether a deploy would change something."""
        return not (self.settled and self.service.installed(self.contents))

    def __call__(self) -> bool:
        """Whether something was changed. Raises Refused."""
        shutil.rmtree(self.trial_folder, ignore_errors=True)
        if self.settled:
            changed = self.service.install(self.contents)
            self.judge(self.engine.url, "The mirror is not healthy", self.engine.log())
            return changed
        old = self.previous
        if old and old.pid and old.pid_path != self.engine.pid_path:
            raise Refused(f"The mirror runs with {old.pid_path} and cannot move to {self.engine.pid_path}; take it off first")
        made = not os.path.isdir(self.folder)
        if not self.intact:
            self.releases.write(self.name, self.contents)
        try:
            self.check()
            # The one in force has had its trial; it is to run again, whatever its upstreams do now.
            if self.before != self.name:
                self.try_out()
            self.check_ports(old)
            problem = detached(self.commit)
            if problem:
                raise Refused(problem)
        except Refused:
            if made:  # one from before stays, as a way back
                self.releases.remove(self.name)
            raise
        self.releases.prune(self.keep)
        return True

    def check(self) -> None:
        """Have the engine's own checker look at the release where it lies, as a whole."""
        problem = run([*self.engine.check, os.path.join(self.folder, CONFIGURATION)])
        if problem:
            raise Refused(explain(self.engine.name, problem))

    def check_ports(self, old: Engine | None) -> None:
        """Whether somebody has taken a port since the host was looked at: Nginx refuses a reload that cannot have it, Apache ends."""
        if old and old.pid and old.listen:
            for address, port in self.engine.listen:
                # One that an earlier version deployed may listen at more than it says.
                own = any(old.pid in holder.pids and holder.address == address for holder in listeners(port))
                if not own and not old.clashes(address, port) and not can_listen(address, port):
                    raise Refused(f"Port {port} on {address} was taken while the release was on trial; nothing was changed")

    @property
    def trial_folder(self) -> str:
        return os.path.join(self.state_path, "trial")

    def try_out(self) -> None:
        """Serve the release beside the one in force, on a port and from folders of its own, and play the clients."""
        top = self.trial_folder
        owner = pwd.getpwnam(self.user)
        for name in ("run", "log", "cache", "temp"):
            os.makedirs(os.path.join(top, name), mode=0o755)
            if name in ("cache", "temp"):
                os.chown(os.path.join(top, name), owner.pw_uid, owner.pw_gid)
        texts = filled({**self.files, **self.trial}, self.name)
        ports = free_ports(sorted({mark for text in texts.values() for mark in re.findall("@PORT[0-9]*@", text)} | {"@PORT@"}))
        for path, text in texts.items():
            for mark, value in {**ports, "@TRIAL@": top}.items():
                text = text.replace(mark, str(value))
            os.makedirs(os.path.dirname(os.path.join(top, path)), mode=0o755, exist_ok=True)
            replace(os.path.join(top, path), text)
        configuration, url = os.path.join(top, CONFIGURATION), f"{self.engine.scheme}://127.0.0.1:{ports['@PORT@']}"

        def answers() -> bool:
            return release_at(url, self.engine.certificate) == self.name

        log = ErrorLog(os.path.join(top, "log", "error.log"))
        with open(os.path.join(top, "stderr"), "w+", encoding="utf-8", errors="replace") as stderr:
            server = subprocess.Popen(
                [*self.engine.trial, configuration],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=stderr,
                preexec_fn=die_with(os.getpid()),
            )
            try:
                until(lambda: server.poll() is not None or answers(), self.answer_seconds)
                if not answers():
                    stderr.seek(0)
                    told = " ".join(stderr.read().split())[-300:]
                    raise Refused(f"The release does not start on trial: {told or 'it does not answer'}{log.fault()}; nothing was changed")
                self.judge(url, "The release fails its trial, so nothing was changed", log)
            finally:
                server.terminate()
                try:
                    server.wait(10)
                except subprocess.TimeoutExpired:
                    server.kill()
                    server.wait()
                shutil.rmtree(top, ignore_errors=True)

    def judge(self, url: str, sentence: str, log: ErrorLog) -> None:
        """Play the clients. Raises Refused with that sentence and what is wrong."""
        problem = self.health(url, log)
        if problem:
            raise Refused(f"{sentence}: {problem}")

    def health(self, url: str, log: ErrorLog) -> str:
        if not self.verify:
            return ""
        client, upstream = Client(certificate=self.engine.certificate), Client(ca_path=self.upstream_ca_path)
        # That a certificate expires soon, or a page is an old one, is no fault of a release.
        report = examine(client, url, upstream=upstream, options=Options(min_certificate_days=0, max_lag=sys.maxsize))
        return report.failure and report.failure + log.fault()

    def commit(self) -> str:
        """Swap, run, probe; and back, where there is a way back. Returns what is wrong, and what is in force then."""
        old, log = self.previous, self.engine.log()
        problem = self.enforce(self.name, self.engine, old)
        if not problem and not self.comes(self.engine, self.name, old):
            problem = f"{self.engine.url} does not answer with the new release{log.fault()}"
        problem = problem or self.health(self.engine.url, log)
        if not problem:
            return ""
        if self.before == self.name:
            return f"The mirror is not healthy: {problem}"
        if not old:
            self.service.stop(self.engine)
            self.service.uninstall()
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.releases.link)
            return f"The release was taken back, and there is none from before: {problem}"
        again = self.enforce(self.before, old, self.engine)
        if not self.comes(old, self.before, self.engine):  # it may not even have been signalled, and then it went on
            return f"The release failed: {problem}; and the one before it, {self.before}, does not come back: {again or 'no answer'}"
        return f"The release was taken back, and the one before it, {self.before}, is in force again: {problem}"

    def comes(self, engine: Engine, name: str, other: Engine | None) -> bool:
        """Whether the server answers with a release in time; one that has ended is not waited for. `other` is how it ran before.

        One answer is enough: just after a reload, the next one may be an old worker's again.
        """
        came, lived = False, time.monotonic()

        def decided() -> bool:
            nonlocal came, lived
            came = engine.runs(name)
            lived = time.monotonic() if engine.pid else lived
            return came or time.monotonic() - lived > ENDED_SECONDS

        until(decided, self.answer_seconds)
        if came and (engine.certificate or other and other.certificate):
            time.sleep(OVERLAP_SECONDS)
        return came

    def enforce(self, name: str, engine: Engine, other: Engine | None) -> str:
        """Have the server run that release, whoever ran before; what went wrong."""
        try:
            return self._enforce(name, engine, other)
        except (OSError, ValueError, KeyError) as error:  # a full disk, a file that is gone: there is still a way back
            return f"{type(error).__name__}: {error}"

    def _enforce(self, name: str, engine: Engine, other: Engine | None) -> str:
        if other and other.must_stop_for(engine):
            self.service.stop(other, leave=True)
            # What ends may still hold its sockets for a moment, and Apache does not try twice.
            until(lambda: all(can_listen(address, port) for address, port in engine.listen), RELEASED_SECONDS)
        self.releases.point(name)
        self.service.install(self.releases.read(name))
        running = engine if engine.pid else other if other and other.pid else None
        clear_sockets(os.path.dirname(engine.pid_path))
        configuration = os.path.join(self.releases.link, CONFIGURATION)
        return self.service.reload(running, configuration) if running else self.service.start(engine, configuration)


def clear_sockets(folder: str) -> None:
    """Take away the sockets in a folder that nobody listens on any more: a server cannot bind to what one that was killed, or one
    that did not come up, has left behind."""
    for path in glob.glob(os.path.join(glob.escape(folder), "*.sock")):
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX) as probe:
            probe.settimeout(1)
            try:
                probe.connect(path)
            except ConnectionRefusedError:
                os.unlink(path)


def stands(releases: Releases, service: Bare) -> bool:
    """Whether there is something to take down."""
    name = releases.current
    return service.present() or bool(name and Engine.of(releases.read(name)).pid)


def take_down(releases: Releases, service: Bare) -> bool:
    """Stop whichever engine runs, for good. Whether there was one."""
    name = releases.current
    stopped = service.stop(Engine.of(releases.read(name)), 30.0) if name else False
    return service.uninstall() or stopped


def differences(old: Mapping[str, str], old_name: str, new: Mapping[str, str]) -> list[dict[str, str]]:
    """What Ansible shows as a diff: the files that differ, apart from the release's own name in them."""
    told = {path: text.replace(old_name, PLACEHOLDER) if old_name else text for path, text in old.items()}
    return [
        {"before_header": path, "after_header": path, "before": told.get(path, ""), "after": new.get(path, "")}
        for path in sorted({*told, *new})
        if told.get(path, "") != new.get(path, "")
    ]
