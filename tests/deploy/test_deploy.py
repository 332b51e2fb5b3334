# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operator sees of a deploy on this machine, with the fixture registry as upstream. Needs root, no network."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import yaml
from ansible_collections.nearby.mirrors.plugins.module_utils.host import listeners
from deploying import CONFIG, FOLDERS, LOG, PORT, RUN, SETTINGS, STATE, URL, deployed, playbook, quickstart, recap, rotate, start
from registry import Registry, free_port

INDEX = "/pypi/simple/sampleproj/"
MIRROR_PID = RUN / "mirror.pid"
ROLE = Path(__file__).parents[2] / "roles/mirror"
ENGINES = ("nginx", "apache")


@pytest.fixture(scope="module")
def registry() -> Iterator[Registry]:
    with Registry() as running:
        running.fault(path="^/v2/", status=401, headers={"WWW-Authenticate": 'Basic realm="images"'})
        yield running


@pytest.fixture(scope="module")
def site(registry: Registry) -> dict:
    return {"type": "pypi", "upstream": registry.index_url, "probe": "sampleproj", "lifetime": 2}


@pytest.fixture(scope="module")
def mirror(site: dict) -> Iterator[str]:
    checked = quickstart("--check", mirror_sites=[site])
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert not [folder for folder in FOLDERS if folder.exists()], "check mode changed something"
    with deployed(mirror_sites=[site]) as url:
        yield url


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, mirror: str, site: dict) -> Iterator[str]:
    """The engine that the mirror runs with."""
    assert quickstart(mirror_sites=[site], mirror_engine=request.param).returncode == 0
    yield request.param
    assert quickstart(mirror_sites=[site]).returncode == 0


@contextlib.contextmanager
def mounted(option: str, place: str = "/mnt/nearby-mirror-test") -> Iterator[Path]:
    """A filesystem of its own."""
    folder = Path(place)
    with contextlib.ExitStack() as stack:
        folder.mkdir()
        stack.callback(folder.rmdir)
        subprocess.run(["mount", "-t", "tmpfs", "-o", option, "tmpfs", folder], check=True)
        stack.callback(subprocess.run, ["umount", folder], check=True)
        yield folder


def answers(url: str) -> bool:
    with contextlib.suppress(OSError):
        urllib.request.urlopen(url, timeout=20).close()
        return True
    return False


def listens(port: int) -> bool:
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), timeout=20).close()
        return True
    return False


def until(met: Callable[[], bool], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while not met() and time.monotonic() < end:
        time.sleep(0.02)
    return met()


def masters() -> list[int]:
    """The main processes of all servers that run from the mirror's folders."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            line = (folder / "cmdline").read_text().replace("\0", " ")
            parent = re.search(r"^PPid:\s*(\d+)", (folder / "status").read_text(), re.MULTILINE)
            if parent and parent[1] == "1" and re.search(rf"(nginx|apache2).* ({CONFIG}|{STATE})/", line):
                found.append(int(folder.name))
    return found


def workers(pid: int) -> list[int]:
    """Ansible's own, each of which is in a session of its own."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def get(url: str, **headers: str) -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, headers=headers), timeout=20) as response:
        return response.read()


def state() -> dict[str, str]:
    """All that a deploy may change: the server's process, which release is in force, and the digests of the releases' files."""
    digests = {str(file): hashlib.sha256(file.read_bytes()).hexdigest() for file in CONFIG.rglob("*") if file.is_file()}
    return digests | {"pid": MIRROR_PID.read_text(), "current": in_force(), "served": served()}


def one_line(result: subprocess.CompletedProcess[str]) -> str:
    return re.sub(r"\s+", " ", result.stdout + result.stderr)


def in_force() -> str:
    return (CONFIG / "current").readlink().name


def served(url: str = URL) -> str:
    """The release that the running server says it has."""
    with urllib.request.urlopen(f"{url}/health", timeout=20) as response:
        return response.headers["X-Release"]


def test_a_cache_with_a_filesystem_of_its_own_is_emptied() -> None:
    with mounted("rw") as place:
        (place / "index/1").mkdir(parents=True)
        (place / "index/1/stored").write_text("page")
        for _time in range(2):
            result = quickstart(mirror_state="absent", mirror_cache_path=str(place))
            assert result.returncode == 0, result.stdout
            assert list(place.iterdir()) == []


def test_a_filesystem_inside_of_a_folder_is_not_the_mirrors_to_empty(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to("/mnt")
    with mounted("rw") as place, mounted("rw", f"{place}/index") as inside:
        for cache in (place, link / place.name):
            (inside / "stored").write_text("page")
            result = quickstart(mirror_state="absent", mirror_cache_path=str(cache))
            assert result.returncode != 0, result.stdout
            assert f"{inside} is a mounted filesystem inside of {cache}, which is to be removed; unmount it first." in one_line(result)
            assert (inside / "stored").exists()
        result = quickstart(mirror_state="absent", mirror_cache_path=str(link / f"{place.name}/index"))
        assert result.returncode == 0, result.stdout
        assert list(inside.iterdir()) == []


def test_a_second_deploy_and_a_check_change_nothing(mirror: str, site: dict) -> None:
    for arguments in ([], ["--check"]):
        result = quickstart(*arguments, mirror_sites=[site])
        assert result.returncode == 0, result.stdout
        assert recap(result.stdout)["changed"] == 0, result.stdout
        assert "Skipped" not in result.stderr
        assert "no variable of the role" not in result.stdout


def test_a_variable_that_means_nothing_is_told(mirror: str, site: dict) -> None:
    result = quickstart("--check", mirror_sites=[site], mirror_prot=1, mirror_info={})
    assert result.returncode == 0, result.stdout
    assert "mirror_prot: no variable of the role mirror; if" in one_line(result), result.stdout


def test_a_changed_configuration_is_in_force_without_a_restart(mirror: str, site: dict) -> None:
    before = MIRROR_PID.read_text()
    result = quickstart(mirror_sites=[site, {"name": "tools", "type": "generic", "upstream": site["upstream"]}])
    assert result.returncode == 0, result.stdout
    assert MIRROR_PID.read_text() == before
    assert get(f"{mirror}/tools/simple/sampleproj/")
    assert [entry["name"] for entry in json.loads(get(f"{mirror}/mirror.json"))["sites"]] == ["pypi", "tools"]
    assert quickstart(mirror_sites=[site]).returncode == 0


def test_a_running_mirror_moves_to_another_port(mirror: str, site: dict) -> None:
    before = MIRROR_PID.read_text()
    moved = quickstart(mirror_sites=[site], mirror_port=8091)
    assert moved.returncode == 0, moved.stdout
    assert get(f"http://127.0.0.1:8091{INDEX}")
    assert quickstart(mirror_sites=[site]).returncode == 0
    assert get(f"{mirror}{INDEX}") and MIRROR_PID.read_text() == before


def test_the_verify_playbook_tells_a_healthy_mirror_from_another(mirror: str) -> None:
    inventory = ["--inventory", "mirror.test,"]
    healthy = playbook("verify", *inventory, nearby_mirrors="all", mirror_fqdn="127.0.0.1", mirror_port=PORT)
    assert healthy.returncode == 0, healthy.stdout + healthy.stderr
    dead = playbook("verify", *inventory, nearby_mirrors="all", mirror_fqdn="127.0.0.1", mirror_port=1)
    assert dead.returncode != 0 and "fatal: [mirror.test" in dead.stdout and "http://127.0.0.1:1" in dead.stdout


def test_files_that_a_registry_moved_are_named_with_their_host_and_the_next_deploy_follows(
    mirror: str, site: dict, registry: Registry
) -> None:
    def verified() -> subprocess.CompletedProcess[str]:
        time.sleep(2 * site["lifetime"] + 1)
        return playbook("verify", "--inventory", "mirror.test,", nearby_mirrors="all", mirror_fqdn="127.0.0.1", mirror_port=PORT)

    before, there = state(), registry.files_url
    with Registry() as other:
        registry.files_url = other.files_url
        try:
            found = verified()
            assert found.returncode != 0, found.stdout
            assert re.search(
                rf"pypi/links: links leave /pypi/: \d+ to {other.files_url} in json, .*; deploy the mirror again", one_line(found)
            )
            assert state() == before
            assert quickstart(mirror_sites=[site]).returncode == 0
            assert verified().returncode == 0
        finally:
            registry.files_url = there
            assert quickstart(mirror_sites=[site]).returncode == 0


def test_a_fault_in_one_region_keeps_the_deploy_from_the_next(mirror: str, tmp_path: Path) -> None:
    hosts = {
        "first.test": {"mirror_region": "a", "mirror_sites": ["conda"], "ansible_connection": "local"},
        "second.test": {"mirror_region": "b", "ansible_connection": "local"},
    }
    inventory = tmp_path / "hosts.json"
    inventory.write_text(json.dumps({"mirrors": {"hosts": hosts}}))
    before = state()
    result = playbook("site", "--inventory", str(inventory), mirror_addresses=["127.0.0.1"], **SETTINGS)
    assert result.returncode != 0 and "fatal: [first.test]" in result.stdout
    reached = re.findall(r"^(?:ok|changed): \[second\.test\]", result.stdout, re.MULTILINE)
    assert reached == [], result.stdout
    assert state() == before


def test_the_quickstart_leaves_a_mirror_of_another_region_alone(mirror: str, site: dict) -> None:
    document = CONFIG / "current/www/mirror.json"
    text = document.read_text()
    document.write_text(text.replace('"region": "quickstart"', '"region": "region-a"'))
    try:
        for state_wanted in ("present", "absent"):
            sentence = "This machine has a mirror already, of the region 'region-a', which the quickstart would take over or take off"
            refused(mirror, {"mirror_sites": [site], "mirror_state": state_wanted}, sentence)
    finally:
        document.write_text(text)


# UPSTREAM is the fixture registry's URL.
BAD_INPUT = {
    "unknown type": ({"mirror_sites": ["conda"]}, "type 'conda' is unknown; set one of"),
    "no default upstream": ({"mirror_sites": [{"name": "tools", "type": "generic"}]}, "no default upstream; set upstream:"),
    "two sites with one path": ({"mirror_sites": ["pypi", {"name": "b", "type": "pypi", "path": "/pypi/"}]}, "share the path /pypi/"),
    "two sites with one port": (
        {"mirror_sites": [{"type": "pypi", "port": 8085}, {"name": "b", "type": "pypi", "port": 8085}]},
        "Site 'b': port 8085 is that of site 'pypi'; set another port.",
    ),
    "upstream without a scheme": ({"mirror_sites": [{"type": "pypi", "upstream": "index.test"}]}, "has no scheme or host"),
    "upstream with credentials": ({"mirror_sites": [{"type": "pypi", "upstream": "https://a:b@index.test"}]}, "has credentials in it"),
    "upstream is this mirror": ({"mirror_sites": [{"type": "pypi", "upstream": f"http://localhost:{PORT}/pypi"}]}, "is this mirror itself"),
    "upstream out of reach": ({"mirror_sites": [{"type": "pypi", "upstream": "http://127.0.0.1:1"}]}, "set origins:"),
    "suites that upstream has not": (
        {"mirror_sites": [{"name": "debian", "type": "deb", "upstream": "UPSTREAM/debian", "suites": ["stable", "new"]}]},
        "Site 'debian': upstream answered 404 where the Release of suite 'stable' should be, UPSTREAM/debian/dists/stable/; correct",
    ),
    "images that not everybody may pull": (
        {"mirror_sites": [{"name": "images", "type": "oci", "upstream": "UPSTREAM"}]},
        "Site 'images': UPSTREAM/v2/ answered 401, and this mirror pulls anonymously only; set another upstream:",
    ),
    "pattern that is no expression": (
        {"mirror_sites": [{"name": "tools", "type": "generic", "upstream": "UPSTREAM", "immutable": ["v[0-9.]+/.*", "v(1"]}]},
        "Site 'tools': immutable 'v(1' is no valid expression (missing ), unterminated subpattern at position 1); correct it",
    ),
    "pattern that is none to the server": (
        {"mirror_sites": [{"name": "tools", "type": "generic", "upstream": "UPSTREAM", "immutable": ["(?P<rest>v1)/.*"]}]},
        "nginx refuses the configuration",
    ),
    "less free disk than the minimum": ({"mirror_min_free": "900000g"}, "less than mirror_min_free"),
    "missing CA file": ({"mirror_upstream_ca_path": "/nowhere/ca.pem"}, "/nowhere/ca.pem does not exist"),
    "engine that does not exist": ({"mirror_engine": "varnish"}, "value of mirror_engine must be one of: nginx, apache, got: varnish"),
    "size that is none": ({"mirror_slice_size": "many"}, "mirror_slice_size 'many' is not of the form"),
    "no addresses": ({"mirror_addresses": []}, "mirror_addresses is empty; set it to the addresses"),
    "address in brackets": ({"mirror_addresses": ["[::1]"]}, "mirror_addresses has '[::1]', which is no IPv4 or IPv6 address"),
    "address of another host": ({"mirror_addresses": ["192.0.2.1"]}, "mirror_addresses has 192.0.2.1, which is none of this host's"),
    "port that is none": ({"mirror_port": 65536}, "mirror_port 65536 is not a number from 1 to 65535; correct it"),
    "port of what fetches that is none": ({"mirror_fetcher_port": 0}, "mirror_fetcher_port 0 is not a number from 1 to 65535"),
    "user that does not exist": ({"mirror_user": "nobody-of-that-name"}, "mirror_user 'nobody-of-that-name' does not exist on this host"),
    "alias with a port": ({"mirror_aliases": ["front.test", "front.test:80"]}, "mirror_aliases has 'front.test:80', which is no host name"),
    "name with a scheme": ({"mirror_fqdn": "http://mirror.test"}, "mirror_fqdn 'http://mirror.test' is no host name"),
    "run folder that outlives a boot": ({"mirror_run_path": "/srv/nearby-mirror"}, "'/srv/nearby-mirror' is not below /run"),
    "folder of somebody else": ({"mirror_log_path": "/var/log"}, "mirror_log_path '/var/log' is not a folder of the mirror's own"),
    # The role's own list is emptied, since this machine has only one operating system.
    "operating system": ({"__mirror_supported": {"Debian": ["99"]}}, "the role mirror supports Debian 99"),
}


@pytest.mark.parametrize("name", BAD_INPUT)
def test_bad_input_leaves_a_running_mirror_as_it_was(mirror: str, site: dict, name: str) -> None:
    variables, sentence = json.loads(json.dumps(BAD_INPUT[name]).replace("UPSTREAM", site["upstream"]))
    refused(mirror, {"mirror_sites": [site]} | variables, sentence)


def refused(mirror: str, variables: dict, sentence: str, *arguments: str) -> None:
    before, page = state(), get(f"{mirror}{INDEX}")
    result = quickstart(*arguments, **variables)
    assert result.returncode != 0, result.stdout
    assert recap(result.stdout)["changed"] == 0, result.stdout
    assert sentence in one_line(result), result.stdout
    assert all(said.count(sentence) < 2 for said in re.findall(r'"msg": "((?:[^"\\]|\\.)*)"', result.stdout)), result.stdout
    assert state() == before
    assert get(f"{mirror}{INDEX}") == page


def test_a_held_port_is_refused_and_its_holder_named(mirror: str, site: dict) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        refused(mirror, {"mirror_sites": [site], "mirror_port": port}, f"Port {port} on 127.0.0.1 is held by")


def test_a_web_server_that_serves_something_else_is_left_alone_and_named(mirror: str, site: dict, tmp_path: Path) -> None:
    port = free_port()
    modules = "".join(f"LoadModule {name}_module /usr/lib/apache2/modules/mod_{name}.so\n" for name in ("mpm_event", "authz_core"))
    configuration = tmp_path / "apache.conf"
    configuration.write_text(
        f"{modules}ServerName other.test\nListen 127.0.0.1:{port}\nDocumentRoot {tmp_path}\nServerRoot {tmp_path}\n"
        f"PidFile {tmp_path}/pid\nDefaultRuntimeDir {tmp_path}\nErrorLog {tmp_path}/log\n"
    )
    other = subprocess.Popen(["/usr/sbin/apache2", "-DFOREGROUND", "-f", str(configuration)])
    try:
        assert until(lambda: listens(port), 20)
        for engine in ENGINES:
            sentence = f"Port {port} on 127.0.0.1 is held by apache2 (process {other.pid})"
            refused(mirror, {"mirror_sites": [site], "mirror_port": port, "mirror_engine": engine}, sentence)
        assert listens(port)
    finally:
        other.terminate()
        other.wait(20)


def test_a_filesystem_that_cannot_hold_the_cache_is_refused(mirror: str, site: dict) -> None:
    with mounted("ro") as place:
        settings = {"mirror_sites": [site], "mirror_cache_path": f"{place}/cache", "mirror_min_free": "0"}
        refused(mirror, settings, f"mirror_cache_path {place}/cache cannot hold a cache of the user www-data (Read-only file system)")


@pytest.mark.parametrize(
    ("engine", "directive"), [("nginx", "sub_filter_once"), ("apache", "SubstituteMaxLineLength")], indirect=["engine"]
)
def test_a_module_that_the_package_lacks_is_named(mirror: str, site: dict, engine: str, directive: str) -> None:
    """To a directive of a module that is not there a server says what it says to one that does not exist."""
    described = yaml.safe_load((ROLE / "vars/main.yml").read_text())["__mirror_engines"][engine]
    program = " ".join(described["check"])
    described["check"] = ["/bin/sh", "-c", f'sed s/{directive}/NoSuchThing/ "$0" > "$0.other"; exec {program} "$0.other"']
    sentence = f"This host's {engine} does not know the directive NoSuchThing, so its package lacks a module that the mirror needs."
    refused(mirror, {"mirror_sites": [site], "mirror_engine": engine, "__mirror_engine": described}, sentence)


def test_without_root_it_is_refused(mirror: str, site: dict) -> None:
    # Somebody who may use neither this machine's environment for tests nor root's folders.
    nobody = {
        "ansible_remote_tmp": "/tmp/nearby-test-nobody",
        "ansible_become_flags": "-s /bin/sh",
        "ansible_python_interpreter": "/usr/bin/python3",
    }
    variables = {"mirror_sites": [site]} | nobody
    refused(mirror, variables, "set become to true or log in as root", "--become", "--become-user", "nobody", "--become-method", "su")


def test_a_configuration_that_the_server_refuses_never_replaces_a_running_one(mirror: str, site: dict) -> None:
    refused(mirror, {"mirror_sites": [site], "mirror_worker_connections": 0}, "worker_connections")


def test_the_addresses_of_a_running_mirror_may_change(mirror: str, site: dict, engine: str) -> None:
    """Also where the server's own socket is in the way of the next one."""
    both = [["::"]] if engine == "apache" else []  # Nginx's is for IPv6 alone
    for addresses in ["0.0.0.0"], ["0.0.0.0", "::"], *both, ["127.0.0.1"]:
        result = quickstart(mirror_sites=[site], mirror_engine=engine, mirror_addresses=addresses)
        assert result.returncode == 0, (addresses, result.stdout)
        assert served() == in_force() and until(lambda: len(masters()) == 1, 20)
        held = {listener.address for listener in listeners(PORT) if not listener.address.startswith("127.86.")}
        assert held == ({"::"} if engine == "apache" and "::" in addresses else set(addresses)), addresses
    assert quickstart(mirror_sites=[site], mirror_engine=engine).returncode == 0


def test_logs_are_rotated_but_not_where_that_would_end_the_server(mirror: str, site: dict, engine: str, tmp_path: Path) -> None:
    bundle, pid = tmp_path / "upstreams.pem", MIRROR_PID.read_text()
    bundle.write_text(Path(ssl.get_default_verify_paths().cafile or "/etc/ssl/certs/ca-certificates.crt").read_text())
    result = quickstart(mirror_sites=[site], mirror_engine=engine, mirror_upstream_ca_path=str(bundle))
    assert result.returncode == 0, result.stdout

    def logs() -> bool:
        """Whether there is a line, without which there is nothing to rotate."""
        return answers(f"{URL}/") and any(log.stat().st_size for log in LOG.glob("access.log"))

    assert until(logs, 5)
    before, done = (LOG / "access.log").stat().st_ino, rotate(tmp_path / "state")
    assert done.returncode == 0 and (LOG / "access.log.1").stat().st_ino == before, done.stderr
    assert until(logs, 5), "it goes on in the new one"
    before = (LOG / "access.log").stat().st_ino
    bundle.write_text("")
    done = rotate(tmp_path / "state")
    if engine == "apache":  # which reads it then
        assert done.returncode == 1 and str(bundle) in done.stderr, done.stderr
    assert ((LOG / "access.log").stat().st_ino == before) is (engine == "apache")
    time.sleep(1)
    assert MIRROR_PID.read_text() == pid and answers(f"{URL}/health")
    assert quickstart(mirror_sites=[site], mirror_engine=engine).returncode == 0


def test_a_port_that_was_taken_during_the_trial_is_told_before_the_swap(mirror: str, site: dict, engine: str) -> None:
    before = state()
    port = free_port()
    deploy = start("quickstart", mirror_sites=[site], mirror_engine=engine, mirror_port=port)
    assert until((STATE / "trial/mirror.conf").exists, 120)
    with socket.create_server(("127.0.0.1", port)):
        output = re.sub(r"\s+", " ", deploy.communicate(timeout=300)[0])
    assert deploy.returncode != 0
    assert f"Port {port} on 127.0.0.1 was taken while the release was on trial; nothing was changed" in output, output
    assert state() == before


def test_a_release_that_fails_in_force_is_taken_back(mirror: str, site: dict, engine: str) -> None:
    """What it writes its errors to is no file when it is reloaded, of which Nginx's checker tells; Apache ends."""
    before, log, lost = state(), LOG / "error.log", []
    deploy = start("quickstart", mirror_sites=[site], mirror_engine=engine, mirror_aliases=["fails.test"])
    assert until((STATE / "trial/mirror.conf").exists, 120)
    log.rename(aside := log.with_suffix(".aside"))
    log.mkdir()
    while deploy.poll() is None:
        asked = time.monotonic()
        if not answers(f"{mirror}{INDEX}"):
            lost.append(asked)
            if log.is_dir():
                log.rmdir()
                aside.rename(log)
        time.sleep(0.02)
    output = re.sub(r"\s+", " ", deploy.communicate()[0])
    assert deploy.returncode != 0
    assert f"the one before it, {before['current']}, is in force again" in output, output
    print(f"{engine}: {len(lost)} lost in {max(lost, default=0) - min(lost, default=0):.2f} s")
    assert bool(lost) == (engine == "apache") and (not lost or lost[-1] - lost[0] < 8)
    if log.is_dir():
        log.rmdir()
        aside.rename(log)
    assert {key: value for key, value in state().items() if key != "pid"} == {key: value for key, value in before.items() if key != "pid"}
    assert recap(quickstart(mirror_sites=[site], mirror_engine=engine).stdout)["changed"] == 0


def test_a_run_folder_stays_where_it_is_while_the_mirror_runs(mirror: str, site: dict) -> None:
    elsewhere = {"mirror_sites": [site], "mirror_run_path": "/run/nearby-mirror-elsewhere", "mirror_port": PORT + 1}
    before = state()
    result = quickstart(**elsewhere)
    assert result.returncode != 0 and "take it off first" in re.sub(r"\s+", " ", result.stdout + result.stderr), result.stdout
    assert state() == before
    Path(elsewhere["mirror_run_path"]).rmdir()


def test_a_second_deploy_waits_or_names_the_first(mirror: str, site: dict) -> None:
    lock = STATE / "lock"
    with lock.open("r+") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        held.write("process 7, begun at noon by ann")
        held.flush()
        refused(
            mirror,
            {"mirror_sites": [site], "mirror_lock_timeout": 1},
            "Another deploy is at work on this host (process 7, begun at noon by ann)",
        )
        waiting = start("quickstart", mirror_sites=[site])
        time.sleep(10)
        assert waiting.poll() is None
        held.truncate(0)
    assert waiting.wait(120) == 0


KILLED_IN = ["Lay out the folders", "Render what the web server reads", "Put it in force", "The release is in force"]


@pytest.mark.parametrize(("engine", "number"), [*(("nginx", number) for number in range(4)), ("apache", 3)], indirect=["engine"])
def test_a_deploy_that_is_killed_leaves_a_mirror_that_serves_and_the_next_one_completes_it(
    mirror: str, site: dict, engine: str, number: int
) -> None:
    page = get(f"{mirror}{INDEX}")
    wanted = {"mirror_sites": [site], "mirror_engine": engine, "mirror_aliases": [f"killed-{number}.test"]}
    killed = start("quickstart", **wanted)
    assert killed.stdout
    for line in killed.stdout:
        if KILLED_IN[number] in line:
            break
    if number == len(KILLED_IN) - 1:  # the module too, as the lock tells it, while its trial is under way
        assert until(lambda: (STATE / "trial/mirror.conf").exists(), 60)
        module = re.match(r"process (\d+)", (STATE / "lock").read_text())
        assert module
        os.kill(int(module[1]), signal.SIGKILL)
    for pid in (*workers(killed.pid), killed.pid):
        os.kill(pid, signal.SIGKILL)
    killed.wait()
    assert get(f"{mirror}{INDEX}") == page
    for changed in (True, False):
        result = quickstart(**wanted)
        assert result.returncode == 0, result.stdout
        assert (recap(result.stdout)["changed"] > 0) is changed, result.stdout
    assert get(f"{mirror}{INDEX}") == page == get(f"{mirror}{INDEX}", Host=f"killed-{number}.test")
    assert not (STATE / "trial").exists()
    assert len(masters()) == 1, masters()


@pytest.mark.parametrize("to", ["apache", "nginx"])
def test_a_running_mirror_changes_its_engine(mirror: str, site: dict, to: str) -> None:
    deploy, begun, lost = start("quickstart", mirror_sites=[site], mirror_engine=to), time.monotonic(), []
    while deploy.poll() is None and time.monotonic() < begun + 300:
        asked = time.monotonic()
        if not answers(f"{mirror}{INDEX}"):
            lost.append(asked)
        time.sleep(0.02)
    assert deploy.wait(10) == 0, deploy.stdout and deploy.stdout.read()
    print(f"to {to}: {len(lost)} lost in {max(lost, default=0) - min(lost, default=0):.2f} s")
    assert not lost or lost[-1] - lost[0] < 8
    assert json.loads(get(f"{mirror}/mirror.json"))["engine"] == to
    process = {"apache": "apache2"}.get(to, to)
    assert until(lambda: [Path(f"/proc/{pid}/comm").read_text().strip() for pid in masters()] == [process], 20), masters()
    again = quickstart(mirror_sites=[site], mirror_engine=to)
    assert recap(again.stdout)["changed"] == 0, again.stdout


def test_what_was_seen_is_served_when_the_registry_is_gone_and_the_server_was_killed(mirror: str, site: dict, registry: Registry) -> None:
    page = get(f"{mirror}{INDEX}")
    registry.vanish()
    try:
        pids = [int(MIRROR_PID.read_text())]
        pids += [int(pid) for pid in Path(f"/proc/{pids[0]}/task/{pids[0]}/children").read_text().split()]
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        time.sleep(1)
        result = quickstart(mirror_sites=[site | {"origins": [registry.files_url]}], mirror_verify=False)
        assert result.returncode == 0, result.stdout
        assert get(f"{mirror}{INDEX}") == page
    finally:
        registry.back()
        assert quickstart(mirror_sites=[site]).returncode == 0
