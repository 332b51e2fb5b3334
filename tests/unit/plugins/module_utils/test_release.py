# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Releases of a server that is run as Nginx and Apache are, on loopback."""

from __future__ import annotations

import contextlib
import getpass
import json
import os
import signal
import socket
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible.module_utils.testing import patch_module_args
from ansible_collections.nearby.mirrors.plugins.module_utils import release
from ansible_collections.nearby.mirrors.plugins.module_utils.release import Bare, Deploy, Refused, Releases, locked, take_down
from ansible_collections.nearby.mirrors.plugins.modules import release as module
from registry import free_port

SCRIPT = Path(__file__).parent / "fake_engine.py"


class Host:
    """A host with two engines, `alpha` and `beta`, and a mirror on one port."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.releases = Releases(str(root / "etc"))
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        for folder in ("etc", "log", "run", "state"):
            (root / folder).mkdir()
        for engine in ("alpha", "beta"):
            (root / engine).symlink_to(sys.executable)

    def deploy(
        self,
        text: str,
        engine: str = "alpha",
        refuse: str = "",
        health: str = "ok",
        trial: str = "ok",
        start: tuple = (),
        listen: list | None = None,
        **options,
    ) -> Deploy:
        command = [str(self.root / engine), str(SCRIPT)]
        described = {
            "name": engine,
            "process": engine,
            **{verb: [*command, verb] for verb in ("check", "start", "trial")} | ({"start": start} if start else {}),
            "reload": "SIGHUP",
            "stop": "SIGQUIT",
            "url": self.url,
            "pid_path": str(self.root / "run/mirror.pid"),
            "log_path": str(self.root / "log"),
            "listen": listen or [["127.0.0.1", self.port]],
        }
        served = {"port": self.port, "pid": described["pid_path"], "release": "@RELEASE@", "health": health, "refuse": refuse}
        tried = {**served, "port": 0, "pid": "@TRIAL@/run/mirror.pid", "health": trial}
        files = {"mirror.conf": json.dumps(served), "engine.json": json.dumps(described), "nearby-mirror.service": "[Unit]"}
        files["www/index.html"] = text
        options = {"user": getpass.getuser(), "answer_seconds": 20.0} | options
        configuration = {"mirror.conf": json.dumps(tried).replace('"port": 0', '"port": @PORT@')}
        return Deploy(self.releases, Bare(), files, configuration, str(self.root / "state"), **options)

    @property
    def pid(self) -> int:
        path = self.root / "run/mirror.pid"
        return int(path.read_text()) if path.exists() else 0

    def served(self) -> str:
        with urllib.request.urlopen(f"{self.url}/health", timeout=5) as answer:
            return answer.headers["X-Release"]

    def kept(self) -> set[str]:
        return {path.name for path in (self.root / "etc/releases").iterdir()}

    def processes(self) -> list[str]:
        """The command lines of all that runs from this host's folder."""
        found = []
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                line = path.read_text().replace("\0", " ")
                found += [line] if str(self.root) in line else []
        return found


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    host = Host(tmp_path)
    yield host
    take_down(host.releases, Bare())
    assert release.until(lambda: not host.processes(), 5), host.processes()


def test_the_first_the_same_and_another_one(host: Host) -> None:
    first = host.deploy("first")
    assert first() is True
    assert host.served() == host.releases.current == first.name
    assert (host.root / "etc/current/www/index.html").read_text() == "first"
    pid = host.pid
    assert host.deploy("first")() is False
    second = host.deploy("second")
    assert second.settled is False
    assert second() is True
    assert host.served() == second.name and host.pid == pid, "reloaded, not restarted"
    assert host.kept() == {first.name, second.name}
    assert not (host.root / "state/trial").exists()


ANY, ANY6, ONE, OTHER, ONE6, BEHIND = "0.0.0.0", "::", "192.0.2.1", "192.0.2.2", "2001:db8::1", "127.86.46.2"


@pytest.mark.parametrize(
    ("old", "new", "moving"),
    [
        ([ANY], [ONE], ["nginx", "apache"]),
        ([ONE], [ANY], ["nginx", "apache"]),
        ([ONE], [ONE, OTHER], []),
        ([ONE, OTHER], [OTHER], []),
        ([ANY], [ANY, ANY6], ["apache"]),
        ([ANY, ANY6], [ANY], ["apache"]),
        ([ANY, ANY6], [ANY6], []),
        ([ANY6], [ONE], ["apache"]),
        ([ANY], [ONE6, BEHIND], ["nginx", "apache"]),
        ([ONE6, BEHIND], [ANY, ONE6], ["nginx", "apache"]),
    ],
)
def test_addresses_for_which_a_server_has_to_stop_first(host: Host, old: list[str], new: list[str], moving: list[str]) -> None:
    for name in "nginx", "apache":
        engines = [host.deploy("any", name, listen=[[address, 80] for address in addresses]).engine for addresses in (old, new)]
        elsewhere = host.deploy("any", name, listen=[[address, 81] for address in new]).engine
        assert engines[0].must_stop_for(engines[1]) is (name in moving)
        assert not engines[0].must_stop_for(elsewhere)


def test_a_server_may_listen_at_more_than_its_release_says(host: Host) -> None:
    host.deploy("first", listen=[["192.0.2.1", host.port]])()
    pid = host.pid
    assert host.deploy("second", listen=[["192.0.2.1", host.port], ["127.0.0.1", host.port]])() is True
    assert host.pid == pid


def test_a_server_whose_own_socket_is_in_the_way_is_started_anew(host: Host) -> None:
    host.deploy("first")()
    pid = host.pid
    second = host.deploy("second", listen=[["0.0.0.0", host.port]])
    assert second() is True
    assert host.served() == second.name and host.pid != pid


def test_a_server_that_was_killed_is_started_though_the_trial_would_fail(host: Host) -> None:
    host.deploy("first")()
    os.kill(host.pid, signal.SIGKILL)
    again = host.deploy("first")
    assert release.until(lambda: not again.engine.pid, 5)
    again.trial = {"mirror.conf": "no configuration"}
    assert again() is True
    assert host.served() == host.releases.current


def test_sockets_that_nobody_listens_on_are_taken_away(host: Host) -> None:
    dead, alive = host.root / "run/dead.sock", host.root / "run/alive.sock"
    with socket.socket(socket.AF_UNIX) as killed, socket.socket(socket.AF_UNIX) as other:
        killed.bind(str(dead))
        other.bind(str(alive))
        other.listen()
        killed.close()
        host.deploy("first")()
        assert alive.exists() and not dead.exists()


REFUSED = {
    "checker": ({"refuse": "line 3: no"}, "alpha refuses the configuration: line 3: no"),
    "trial does not start": ({"trial": "dead"}, "does not start on trial: no socket"),
    "trial is unhealthy": ({"trial": "ill"}, "fails its trial, so nothing was changed: health: .*nobody knows that name"),
}


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("name", REFUSED)
def test_what_does_not_pass_changes_nothing(host: Host, name: str, before: bool) -> None:
    if before:
        host.deploy("first")()
    kept, options = host.kept() if before else set(), REFUSED[name][0]
    with pytest.raises(Refused, match=REFUSED[name][1]):
        host.deploy("second", **options)()
    assert host.kept() == kept
    if before:
        assert {host.served()} == {host.releases.current} == kept
    else:
        assert not host.processes()


@pytest.mark.parametrize("engine", ["alpha", "beta"])
def test_what_fails_in_force_is_taken_back(host: Host, engine: str) -> None:
    host.deploy("first")()
    first = host.served()
    with pytest.raises(Refused, match=f"the one before it, {first}, is in force again: health: .*nobody knows that name"):
        host.deploy("second", engine, health="ill")()
    assert host.served() == host.releases.current == first
    assert host.kept() == {first}
    assert host.deploy("first")() is False


def test_one_that_ends_in_a_reload_is_not_waited_for(host: Host) -> None:
    host.deploy("first")()
    first, began = host.served(), time.monotonic()
    with pytest.raises(Refused, match=f"the one before it, {first}, is in force again: {host.url} does not answer"):
        host.deploy("second", health="dead", answer_seconds=60.0)()
    assert host.served() == first and time.monotonic() - began < 30


class Answers:
    """A server that answers with one release after the other, each after so many seconds."""

    certificate, pid = "", 7

    def __init__(self, clock: list[float], seconds: float, *releases: str) -> None:
        self.clock, self.seconds, self.releases = clock, seconds, list(releases)

    def runs(self, name: str) -> bool:
        self.clock[0] += self.seconds
        return self.releases.pop(0) == name


@pytest.mark.parametrize(
    ("seconds", "releases"),
    [(0.0, ("old", "new", "old")), (4.0, ("", "", "new"))],
    ids=["an old worker answers once more", "one that lives is slow"],
)
def test_one_answer_of_the_new_release_is_enough(
    host: Host, monkeypatch: pytest.MonkeyPatch, seconds: float, releases: tuple[str, ...]
) -> None:
    clock = [0.0]
    monkeypatch.setattr(release.time, "monotonic", lambda: clock[0])
    deploy = host.deploy("any", answer_seconds=15.0)
    assert deploy.comes(Answers(clock, seconds, *releases), "new", None)  # type: ignore[arg-type]


def test_a_port_that_was_taken_during_the_trial_is_told_before_the_swap(host: Host) -> None:
    host.deploy("first")()
    first, pid = host.served(), host.pid
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(Refused, match=f"^Port {port} on 127.0.0.1 was taken while the release was on trial; nothing was changed$"):
            host.deploy("second", listen=[["127.0.0.1", host.port], ["127.0.0.1", port]])()
        assert (host.served(), host.pid, host.kept()) == (first, pid, {first})
    assert host.deploy("second", listen=[["127.0.0.1", host.port], ["127.0.0.1", port]])() is True


def test_a_server_is_not_told_to_read_what_its_checker_refuses_by_then(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    host.deploy("first")()
    first, second, point = host.served(), host.deploy("second"), Releases.point

    def spoil(releases: Releases, name: str) -> None:
        point(releases, name)
        configuration = Path(second.folder, "mirror.conf")
        configuration.write_text(configuration.read_text().replace('"refuse": ""', '"refuse": "spoilt"'))

    monkeypatch.setattr(Releases, "point", spoil)
    with pytest.raises(Refused, match=f"the one before it, {first}, is in force again: alpha refuses the configuration: spoilt"):
        second()
    assert host.served() == host.releases.current == first


def test_what_does_not_start_in_force_is_taken_back(host: Host) -> None:
    host.deploy("first")()
    first = host.served()
    with pytest.raises(Refused, match=f"{first}, is in force again: beta has no memory"):
        host.deploy("second", "beta", start=[str(host.root / "beta"), "-c", "raise SystemExit('beta has no memory')"])()
    assert host.served() == first


def test_the_first_one_that_fails_in_force_leaves_nothing(host: Host) -> None:
    with pytest.raises(Refused, match="taken back, and there is none from before: health: "):
        host.deploy("first", health="ill")()
    assert host.kept() == set() and host.releases.current == "" and not host.processes()


def test_a_first_release_that_cannot_be_pointed_at_says_why(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_releases: release.Releases, _name: str) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(release.Releases, "point", full)
    with pytest.raises(Refused, match="taken back, and there is none from before: OSError: .*No space left"):
        host.deploy("first")()
    assert host.kept() == set() and host.releases.current == ""


def test_the_engine_changes_there_and_back(host: Host) -> None:
    for number, engine in enumerate(("alpha", "beta", "alpha")):
        assert host.deploy(f"release {number}", engine)() is True
        assert host.served() == host.releases.current
        assert [Path(line.split()[0]).name for line in host.processes()] == [engine]


@pytest.mark.parametrize("path", ["www/index.html", "mirror.conf", "engine.json"])
def test_one_that_somebody_edited_is_put_right(host: Host, path: str) -> None:
    host.deploy("first")()
    file = host.root / "etc/current" / path
    before = file.read_text()
    file.write_text("edited")
    assert host.deploy("first")() is True
    assert file.read_text() == before and host.served() == host.releases.current


def backup(top: Path) -> None:
    (top / "www/index.html~").write_text("first")


def lock_of_an_editor(top: Path) -> None:
    (top / ".#mirror.conf").symlink_to("ann@host.test:1")


def folder(top: Path) -> None:
    (top / "old/www").mkdir(parents=True)
    (top / "old/www/index.html").write_text("first")


def file_for_a_folder(top: Path) -> None:
    (top / "www/index.html").unlink()
    (top / "www").rmdir()
    (top / "www").write_text("")


def folder_for_a_file(top: Path) -> None:
    (top / "www/index.html").unlink()
    (top / "www/index.html/a").mkdir(parents=True)


def link_for_a_file(top: Path) -> None:
    (top / "www/index.html").rename(top.parent.parent / "index.html")
    (top / "www/index.html").symlink_to(top.parent.parent / "index.html")


def link_for_the_engine(top: Path) -> None:
    (top / "engine.json").rename(top.parent.parent / "engine.json")
    (top / "engine.json").symlink_to(top.parent.parent / "engine.json")


def link_for_a_folder(top: Path) -> None:
    (top / "www").rename(top.parent.parent / "www")
    (top / "www").symlink_to(top.parent.parent / "www")


STRAYS = [backup, lock_of_an_editor, folder, file_for_a_folder, folder_for_a_file, link_for_a_file, link_for_the_engine, link_for_a_folder]


@pytest.mark.parametrize("stray", STRAYS)
def test_what_does_not_belong_to_a_release_goes(host: Host, stray: Callable[[Path], None]) -> None:
    first = host.deploy("first")
    first()
    stray(Path(first.folder))
    assert [host.deploy("first")() for _time in range(2)] == [True, False]
    assert host.served() == host.releases.current
    files = {path.relative_to(first.folder): path.is_symlink() for path in Path(first.folder).rglob("*")}
    assert files == {Path(path): False for path in (*first.contents, "www")}


def test_what_is_no_release_is_left_alone_beside_them(host: Host) -> None:
    host.deploy("first")()
    (host.root / "etc/releases/.#first").symlink_to("ann@host.test:1")
    assert host.deploy("second", keep=1)() is True
    assert len(host.kept()) == 3


@pytest.fixture
def systemctl(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a fake systemd's units; it has one enabled while a file says so."""
    units = tmp_path / "units"
    units.mkdir()
    verbs = f"is-enabled) test -e {units}/enabled;; enable) touch {units}/enabled;; disable) rm -f {units}/enabled;;"
    (units / "systemctl").write_text(f'#!/bin/sh\ncase "$1" in {verbs} esac\n')
    (units / "systemctl").chmod(0o755)
    monkeypatch.setenv("PATH", f"{units}:{os.environ['PATH']}")
    monkeypatch.setattr(release, "UNITS", str(units))
    return units


def play(capsys: pytest.CaptureFixture[str], deploy: Deploy, check: bool, **options: str) -> dict:
    """What the module returns."""
    given = {name: getattr(deploy, name) for name in ("state_path", "files", "trial", "user")} | {"path": deploy.releases.path} | options
    with patch_module_args({**given, "_ansible_check_mode": check, "_ansible_diff": True}), pytest.raises(SystemExit):
        module.main()
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("fault", ["none", "missing", "edited", "disabled"])
def test_check_mode_says_of_the_unit_what_a_deploy_does(
    host: Host, systemctl: Path, capsys: pytest.CaptureFixture[str], fault: str
) -> None:
    unit = systemctl / "nearby-mirror.service"
    host.deploy("first")()
    assert play(capsys, host.deploy("first"), check=False)["changed"] is True
    wanted = unit.read_text()
    {
        "none": lambda: None,
        "missing": unit.unlink,
        "edited": lambda: unit.write_text("edited"),
        "disabled": (systemctl / "enabled").unlink,
    }[fault]()
    told = [play(capsys, host.deploy("first"), check=check) for check in (True, False, True, False)]
    assert [result["changed"] for result in told] == [fault != "none"] * 2 + [False] * 2
    differs = {"missing": [("", wanted)], "edited": [("edited", wanted)]}.get(fault, [])
    assert [[(entry["before"], entry["after"]) for entry in result["diff"]] for result in told] == [differs] * 2 + [[]] * 2
    assert unit.read_text() == wanted and (systemctl / "enabled").exists()


@pytest.mark.parametrize("left", ["all", "server", "unit", "release", "nothing"])
def test_check_mode_says_what_would_be_taken_down(host: Host, systemctl: Path, capsys: pytest.CaptureFixture[str], left: str) -> None:
    deploy = host.deploy("first")
    if left in ("all", "server", "release"):
        deploy()
    if left in ("all", "unit"):
        (systemctl / "nearby-mirror.service").write_text("unit")
    if left == "release":
        Bare().stop(deploy.engine)
    told = [play(capsys, deploy, check=check, state="absent")["changed"] for check in (True, False, True, False)]
    assert told == [left in ("all", "server", "unit")] * 2 + [False] * 2


def test_those_that_were_in_force_last_are_kept(host: Host) -> None:
    names = []
    for number in range(5):
        deploy = host.deploy(f"release {number}", keep=2, verify=False)
        deploy()
        names.append(deploy.name)
        time.sleep(0.02)
    assert host.kept() == set(names[2:])
    never = host.deploy("killed before it was in force")
    host.releases.write(never.name, never.contents)
    host.deploy("release 4", keep=2)()
    host.deploy("release 5", keep=2)()
    assert never.name not in host.kept()


def test_a_deploy_that_is_killed_at_any_time_leaves_a_mirror_that_serves(host: Host) -> None:
    """One after the other is killed a little later, until one is done before it would be killed; engines take turns."""
    host.deploy("start")()
    killed, number, delay = 0, 0, 0.0
    while True:
        number, delay = number + 1, delay + 0.02
        engine, before = ("alpha", "beta")[number % 2], host.releases.current
        child = os.fork()
        if not child:
            try:
                with locked(str(host.root / "state/lock"), 20, "a test"):
                    host.deploy(f"release {number}", engine)()
            finally:
                os._exit(0)
        time.sleep(delay)
        os.kill(child, signal.SIGKILL)
        done = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        killed += not done
        with locked(str(host.root / "state/lock"), 20, "a test"):
            wanted = host.deploy(f"release {number}", engine)
            assert host.served() == host.releases.current and host.served() in (before, wanted.name)
            wanted()
        assert host.served() == host.releases.current == wanted.name
        assert len(host.processes()) == 1, host.processes()
        assert host.deploy(f"release {number}", engine)() is False
        if done:
            break
    assert killed >= 5, "it was too quick to be killed"


def test_a_second_deploy_waits_or_names_the_first(tmp_path: Path) -> None:
    lock, held, finish = str(tmp_path / "lock"), threading.Event(), threading.Event()

    def first() -> None:
        with locked(lock, 0, "process 7, begun at noon by ann"):
            held.set()
            finish.wait(10)

    thread = threading.Thread(target=first)
    thread.start()
    held.wait(10)
    slept: list[float] = []
    late = locked(lock, 3, "", clock=lambda: sum(slept), sleep=slept.append)
    with pytest.raises(Refused, match=r"Another deploy .* \(process 7, begun at noon by ann\)"), late:
        pass
    assert sum(slept) == 3
    finish.set()
    with locked(lock, 10, "", sleep=lambda _seconds: thread.join()):
        pass
    assert Path(lock).read_text() == ""


@pytest.mark.parametrize("before", [None, 0o644])
def test_a_lock_is_held_by_nobody_but_its_owner(tmp_path: Path, before: int | None) -> None:
    lock = tmp_path / "lock"
    if before:
        lock.touch(before)
    with locked(str(lock), 0, "first"):
        assert lock.stat().st_mode & 0o777 == 0o600


def test_a_lock_that_was_removed_meanwhile_is_made_anew(tmp_path: Path) -> None:
    lock = tmp_path / "lock"
    with locked(str(lock), 0, "first"):
        lock.unlink()
        with locked(str(lock), 0, "second"):
            assert lock.read_text() == "second"


@pytest.mark.parametrize(
    ("output", "sentence"),
    [
        (
            "AH00526: Syntax error on line 4 of /x:\nInvalid command 'Substitute', perhaps misspelled or defined by a module not",
            "This host's web does not know the directive Substitute, so its package lacks",
        ),
        ('nginx: [emerg] unknown directive "slice" in /x:3', "This host's web does not know the directive slice, so its package lacks"),
        ("apache2: Cannot load /usr/lib/apache2/modules/mod_x.so into server: ...", "This host's web has no mod_x, a module"),
        ("line 3:\n  no", "web refuses the configuration: line 3: no"),
    ],
)
def test_a_refusal_says_which_module_is_missing(output: str, sentence: str) -> None:
    assert release.explain("web", output).startswith(sentence)


def test_a_diff_is_about_what_differs_but_for_the_name() -> None:
    old, new = {"a": "same in abc", "b": "old", "gone": "1"}, {"a": "same in @RELEASE@", "b": "new"}
    told = release.differences(old, "abc", new)
    assert [(entry["before_header"], entry["before"], entry["after"]) for entry in told] == [("b", "old", "new"), ("gone", "1", "")]


def test_what_a_detached_process_does_is_done(tmp_path: Path) -> None:
    def work(path: Path) -> Callable[[], str]:
        def write() -> str:
            path.with_suffix(".begun").touch()
            assert release.until(path.with_suffix(".go").exists, 60)
            path.write_text("done")
            return "told"

        return write

    (tmp_path / "a.go").touch()
    assert release.detached(work(tmp_path / "a")) == "told"
    assert "failed with FileNotFoundError" in release.detached(work(tmp_path / "none/b"))
    child = os.fork()
    if not child:
        release.detached(work(tmp_path / "c"))
        os._exit(0)
    assert release.until((tmp_path / "c.begun").exists, 60)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    assert not (tmp_path / "c").exists()
    (tmp_path / "c.go").touch()
    assert release.until((tmp_path / "c").exists, 60)


def test_the_gravest_fault_since_then_is_told(tmp_path: Path) -> None:
    log = tmp_path / "error.log"
    log.write_text("[emerg] long ago\n")
    told = release.ErrorLog(str(log))
    assert told.fault() == "" and release.ErrorLog(str(tmp_path / "none")).fault() == ""
    with log.open("a") as file:
        file.write("[alert] limit\n[error] first\n[emerg] bind() failed\n[emerg] still could not bind()\n")
    assert told.fault() == " ([emerg] bind() failed)"
