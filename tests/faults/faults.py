# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults, as a list. To add one, add a line or a few to FAULTS.

A fault's steps are functions of the lab: ``before`` while all is well, ``inject`` a second into the load, ``heal`` when the load has
ended, ``after`` when all that was seen has been asked for again. What a step counts beside the load goes through ``lab.count``.

Figures, each as "failed of": requests of the load, ``before`` the fault, ``warm`` and ``cold``; ``wrong``, whole answers with another body
than upstream's; ``stored``, all that was asked for, warm and cold, asked for again after the fault; ``recovery``, whether a new release
then shows.
``wanted`` has the share that may fail, ANY where it is only told; what it does not name may not fail at all.
What an engine is known not to do is no matter of ``wanted``, but of its limits (module_utils/engines.py).
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import socket
import ssl
import time
import typing as t
import urllib.request
from email.utils import parsedate_to_datetime
from pathlib import Path

from hosts import CACHE, EDGES, FRESH, MIRROR, NODE, UPSTREAM, USUAL_EDGES, Item, Lab, bench, command

ANY = 1.0
LOST = 64  # requests that may be sent twice where what holds the connections is killed: one of each client
CLOSED = 20  # and for each reload, which closes the connections that clients keep, while some of them send (RFC 9112, 9.6)
Step = t.Callable[[Lab], None]
Entries = list[tuple[float, str, Item]]


def nothing(_lab: Lab) -> None:
    """No step."""


def calm(lab: Lab) -> None:
    """The registry, its names and its addresses are as they should be, and the mirror speaks HTTP."""
    lab.registry("back")
    lab.registry("show", kind="good")
    lab.registry("configure")
    for number in EDGES:
        lab.on(UPSTREAM, f"ip address add {lab.prefix}.{number}/24 dev eth0 2>/dev/null || true")
    lab.addresses(USUAL_EDGES)
    lab.registry("name", mode="answer")
    if lab.tls:
        for name in ("mirror_tls_certificate", "mirror_tls_key"):
            del lab.variables[name]
        lab.tls = False
        lab.deploy()


@dataclasses.dataclass(frozen=True)
class Fault:
    name: str
    told: str  # to a reader of RESULTS.md
    inject: Step = nothing
    heal: Step = calm
    before: Step = nothing
    after: Step = nothing
    wanted: t.Mapping[str, float] = dataclasses.field(default_factory=dict)
    site: str = "pypi"  # or secure, whose registry speaks TLS
    seconds: float = 12  # that the load takes; none if 0
    cold: int = 60  # projects that nobody asked for before, each with two pages and three files
    more: t.Callable[[Lab], Entries] | None = None  # requests beside the usual
    down: float = 0  # seconds in which nobody may be able to connect
    again: int = 0  # requests that may be sent twice, as their connection was lost before the answer began
    quick: bool = False  # whether it is part of a quick run


# ------------------------------------------------------------------------------------------------------------ upstream


def answers(**fault: t.Any) -> Step:
    """The registry does that (registry.FAULT_FIELDS)."""
    return lambda lab: lab.registry("fault", **fault)


def cut(**fault: t.Any) -> Step:
    """The registry's bodies end early, those of refreshes too: without entity tags each of them has a body."""

    def inject(lab: Lab) -> None:
        lab.registry("configure", etag=False)
        lab.registry("fault", **fault)

    return inject


def vanishes(lab: Lab) -> None:
    lab.registry("vanish")


def shows(kind: str) -> Step:
    """The registry shows a certificate of that kind."""
    return lambda lab: lab.registry("show", kind=kind)


def distrusted(lab: Lab) -> None:
    """What the registry was asked by somebody who should not have trusted it."""
    lab.count("accepted", lab.registry("trusted"), sum(lab.told["kinds"][kind]["of"] for kind in ("warm", "cold")))
    calm(lab)


def redirected(lab: Lab) -> None:
    """Clients that were sent elsewhere."""
    kinds = lab.told["kinds"].values()
    lab.count("redirected", sum(kind["reasons"].get("status 302", 0) for kind in kinds), sum(kind["of"] for kind in kinds))
    calm(lab)


def moves(lab: Lab) -> None:
    """The registry's names lead to other addresses, and nobody is at the old ones."""
    lab.addresses([15, 16])
    for number in USUAL_EDGES:
        lab.on(UPSTREAM, f"ip address del {lab.prefix}.{number}/24 dev eth0")


def edges(numbers: t.Iterable[int]) -> Step:
    return lambda lab: lab.addresses(numbers)


def edge_silent(lab: Lab) -> None:
    lab.on(UPSTREAM, f"ip address del {lab.prefix}.13/24 dev eth0")


def edge_dead(lab: Lab) -> None:
    lab.registry("fault", address=f"{lab.prefix}.13", status=502)


def names(mode: str) -> Step:
    return lambda lab: lab.registry("name", mode=mode)


DEAD = {"cold": ANY}  # nothing can be had that nobody had before
BROKEN = {"cold": ANY}  # a client notices
EDGE = {"cold": 0.003}
UNSEEN = {"bad before the scrub": ANY}  # no server looks at what it sends


def herd(lab: Lab) -> Entries:
    """50 clients at once for a page and for a file that nobody asked for before."""
    name = lab.fresh_name("herd")
    lab.publish(name, "1.0", 3_000_000, "wheel")
    lab.registry("fault", path=name.replace("-", "[-_]"), delay=0.3, rate=3_000_000)
    lab.herd = name
    page, file = lab.pages(name)[0], lab.files(name)[0]
    return [(3 + number / 500, "herd", item) for item in (page, file) for number in range(50)]


def fetches(lab: Lab) -> None:
    """One fetch is right, each more is one too many."""
    for origin, pattern in (("index", f"/simple/{lab.herd}/"), ("files", r"\.whl$")):
        asked = [
            request
            for request in lab.registry("requests", path=pattern, origin=origin)
            if lab.herd.replace("-", "_") in request["path"].replace("-", "_")
        ]
        before = [request for request in asked if request["time"] < lab.ended]
        lab.count(f"fetches of a {'page' if origin == 'index' else 'file'} beyond the first", len(before) - 1, 50)
    calm(lab)


# ---------------------------------------------------------------------------------------------------------------- disk


def stored(lab: Lab) -> list[Path]:
    """In order, so that each third of them is of every kind that an engine stores."""
    return sorted(path for path in lab.mount.rglob("*") if path.is_file() and "lost+found" not in path.parts)


def full(lab: Lab) -> None:
    command("dd", "if=/dev/zero", f"of={lab.mount}/filler", "bs=1M", check=False)
    command("dd", "if=/dev/zero", f"of={lab.mount}/rest", "bs=1k", check=False)


def not_full(lab: Lab) -> None:
    for name in ("filler", "rest"):
        (lab.mount / name).unlink(missing_ok=True)


def one_disk(lab: Lab) -> None:
    """Cache and temporary files are on the filesystem that gets full, and 100 MB are stored that are asked for no more."""
    lab.deploy(mirror_cache_path=f"{CACHE}/nearby-mirror-cache", mirror_temp_path=f"{CACHE}/nearby-mirror-temp")
    names = [lab.fresh_name("bulk") for _number in range(10)]
    lab.publish_many(names, 5_000_000)
    lab.ask([item for name in names for item in lab.files(name)], 10)


def two_disks(lab: Lab) -> None:
    lab.deploy()
    lab.on(MIRROR, f"rm -rf {CACHE}/nearby-mirror-*")


def remount(mode: str) -> Step:
    return lambda lab: lab.on(MIRROR, f"for _ in $(seq 50); do mount -o remount,bind,{mode} {CACHE} && exit; sleep 0.1; done; exit 1")


def wiped(lab: Lab) -> None:
    lab.on(MIRROR, f"for _ in 1 2 3 4 5; do rm -rf {CACHE}/* && exit; done")


def heads_overwritten(lab: Lab) -> None:
    for number, path in enumerate(stored(lab)):
        if number % 3 == 0:
            with path.open("r+b") as file:
                file.write(b"\xa5" * min(64, path.stat().st_size))
    lab.bad = lab.warm


def emptied(lab: Lab) -> None:
    for number, path in enumerate(stored(lab)):
        if number % 3 == 0:
            path.write_bytes(b"")
    lab.bad = lab.warm


def halved(lab: Lab) -> None:
    for number, path in enumerate(stored(lab)):
        if number % 3 == 0:
            with path.open("r+b") as file:
                file.truncate(path.stat().st_size // 2)
    lab.bad = lab.warm


def flipped(lab: Lab) -> None:
    """One bit in each of 30 stored files."""
    wanted = [lab.local.projects[name].artifacts[0] for name in lab.warm_names]
    lab.bad = [lab.files(name)[0] for name in lab.warm_names]
    paths = stored(lab)
    for artifact in wanted:
        copies = 0
        for path in paths:
            if (at := path.read_bytes().find(artifact.content)) >= 0:
                with path.open("r+b") as file:
                    file.seek(at + len(artifact.content) // 2)
                    file.write(bytes([artifact.content[len(artifact.content) // 2] ^ 1]))
                copies += 1
        if not copies:
            raise RuntimeError(f"{artifact.filename} is not in the cache")
    lab.count("bad before the scrub", lab.ask(lab.bad)["kinds"]["asked"]["failed"], len(lab.bad))


def scrubbed(lab: Lab) -> None:
    """What is still bad after one scrub, and whether the registry is believed and not the mirror."""
    told = lab.play("nearby.mirrors.scrub", "--limit", MIRROR, nearby_scrub_request_rate=0, nearby_scrub_time_limit=300)
    lab.note(re.findall(r"^ *\"(.*looked at.*)\"", told.output, re.MULTILINE))
    lab.count("after a scrub", lab.ask(lab.bad)["kinds"]["asked"]["failed"], len(lab.bad))
    # A page in plain HTML has nothing that tells whether it is whole (docs/scrub.md), and none of these is for the next fault to find.
    lab.empty()


def corrupt_files(lab: Lab) -> None:
    """Cold files come as wrong bytes of the right length, which nobody can see; 30 of them are asked for."""
    name = [lab.fresh_name("corrupt") for _number in range(30)]
    lab.publish_many(name, 20_000)
    lab.bad = [lab.files(each)[0] for each in name]
    lab.registry("fault", origin="files", path="corrupt", corrupt=True)
    told = lab.ask(lab.bad)["kinds"]["asked"]
    lab.count("bad before the scrub", told["failed"], told["of"])


# ------------------------------------------------------------------------------------------------------------- process


def downloads(lab: Lab) -> Entries:
    """Ten clients that each take a cold file of 12 MB, two of them the same; at the registry's rate that takes most of the load."""
    projects = [lab.fresh_name("download") for _number in range(5)]
    lab.publish_many(projects, 12_000_000)
    lab.registry("fault", path="download", rate=1_500_000)
    return [(number / 5, "download", lab.files(name)[0]) for number, name in enumerate(projects * 2)]


def reloads(lab: Lab) -> None:
    for _time in range(RELOADS):
        lab.on(MIRROR, "systemctl reload nearby-mirror")
        time.sleep(1)


RELOADS = 5
MASTER = "master=$(cat /run/nearby-mirror/mirror.pid)"


def kills_worker(lab: Lab) -> None:
    """The one that has most open: not one that ends as it is of the configuration before, nor what cleans the cache."""
    each = "$(ls /proc/$each/fd | wc -l) $each $(tr '\\0' ' ' < /proc/$each/cmdline)"
    shown = lab.on(MIRROR, f"{MASTER}; for each in $(cat /proc/$master/task/$master/children); do echo {each}; done")
    workers = re.findall(r"^(\d+) (\d+) (?:nginx: worker process$|/usr/sbin/apache2 )", shown, re.MULTILINE)
    if not workers:
        raise RuntimeError(f"there is no worker among the master's children:\n{shown}")
    files, worker = max((int(files), worker) for files, worker in workers)
    lab.on(MIRROR, f"kill -9 {worker}")
    if not bench.until(lambda: not lab.on(MIRROR, f"grep -s 'State:.[^Z]' /proc/{worker}/status || true"), 5):
        raise RuntimeError("the worker lives on")
    lab.note(f"killed one of {len(workers)} workers, which had {files} files and connections open")


def kills_master(lab: Lab) -> None:
    lab.on(MIRROR, f"{MASTER}; kill -9 $master")


def reboots(lab: Lab) -> None:
    command("podman", "restart", "--time", "30", MIRROR)


def boots_without_names(lab: Lab) -> None:
    lab.registry("name", mode="silent")
    reboots(lab)


def own_clock(lab: Lab) -> None:
    """The mirror's server reads a clock that can be set."""
    lab.on(MIRROR, "dpkg --status libfaketime >/dev/null 2>&1 || { apt-get update -q && apt-get install -qy libfaketime; }")
    library = lab.on(MIRROR, "ls /usr/lib/*/faketime/libfaketime.so.1").strip()
    lab.on(
        MIRROR,
        f"""echo +0d > /etc/faketimerc
        mkdir -p /run/systemd/system/nearby-mirror.service.d
        cd /run/systemd/system/nearby-mirror.service.d
        printf '[Service]\\nEnvironment=LD_PRELOAD={library} FAKETIME_NO_CACHE=1\\n' > clock.conf
        systemctl daemon-reload && systemctl restart nearby-mirror""",
    )


def told_by(lab: Lab, header: str) -> str:
    """A header of the mirror's answer at /health."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with opener.open(f"http://{lab.prefix}.20/health", timeout=10) as answer:
        return str(answer.headers[header])


def clock(days: int) -> Step:
    """The mirror's clock is wrong by so many days, and 20 answers of its server have that date."""

    def moved(lab: Lab) -> bool:
        return abs(parsedate_to_datetime(told_by(lab, "Date")).timestamp() - time.time() - days * 86400) < 60

    def inject(lab: Lab) -> None:
        lab.on(MIRROR, f"echo {days:+}d > /etc/faketimerc")
        time.sleep(1)
        lab.count("answers of another day", sum(not moved(lab) for _time in range(20)), 20)

    return inject


def clock_right(lab: Lab) -> None:
    lab.on(MIRROR, "echo +0d > /etc/faketimerc")


def usual_clock(lab: Lab) -> None:
    lab.on(MIRROR, "rm -r /run/systemd/system/nearby-mirror.service.d; systemctl daemon-reload; systemctl restart nearby-mirror")


# --------------------------------------------------------------------------------------------------------- certificate

CERTIFICATE, KEY = "/etc/ssl/mirror/mirror.pem", "/etc/ssl/mirror/mirror.key"
RELOAD = "systemctl reload nearby-mirror 2>&1 && echo reloaded || journalctl --unit nearby-mirror --since=-10s --output cat"


def issues(*parts: str, days: tuple[int, int] = (-1, 30)) -> Step:
    """Another certificate of the mirror's, and its key, or one of the two, takes the place of what is there."""

    def inject(lab: Lab) -> None:
        made = bench.certificate(lab.folder / "tls", "mirror", MIRROR, lab.issuer, days)[0]
        lab.on(MIRROR, f"mkdir -p {Path(KEY).parent}")
        for source, target in zip(made, (CERTIFICATE, KEY), strict=True):
            if target in (parts or (CERTIFICATE, KEY)):
                lab.copy(Path(source), MIRROR, target)

    return inject


def listens_by_tls(lab: Lab) -> None:
    issues()(lab)
    lab.variables |= {"mirror_tls_certificate": CERTIFICATE, "mirror_tls_key": KEY}
    lab.tls = True
    lab.deploy()


def shown(lab: Lab) -> str:
    """The digest of the certificate that a new connection sees. Raises OSError where it is not of the CA, not valid, of another name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(lab.folder / "tls" / "ca.pem")
    with socket.create_connection((f"{lab.prefix}.20", 443), 10) as below, context.wrap_socket(below, server_hostname=MIRROR) as connection:
        return hashlib.sha256(connection.getpeercert(binary_form=True) or b"").hexdigest()


def taken_away(lab: Lab) -> None:
    lab.on(MIRROR, f"rm {CERTIFICATE}")


def others(lab: Lab, wanted: str) -> int:
    """How many of 20 new connections see another certificate, or none."""
    seen = []
    for _time in range(20):
        try:
            seen.append(shown(lab))
        except OSError as error:
            seen.append(str(error))
    if strange := {each for each in seen if each != wanted}:
        lab.note(f"instead of {wanted}: {strange}")
    return sum(each != wanted for each in seen)


def refuses(spoil: Step, deploy: str, reload: str) -> Step:
    """With the files as they are then, a deploy of another configuration and a reload are refused, each with its sentence.

    Neither changes anything: the same process serves the same release with the same certificate.
    """

    def inject(lab: Lab) -> None:
        running = "cat /run/nearby-mirror/mirror.pid; readlink /etc/nearby-mirror/current"
        certificate, before = shown(lab), lab.on(MIRROR, running)
        spoil(lab)
        played = lab.deploy(check=False, **other(20))
        said = re.findall(r'"msg": "(.*?)"', played.output)[-1:]
        lab.note(said)
        lab.count("deploys accepted", not (played.code and not played.changed and said and re.fullmatch(deploy, said[0])), 1)
        told = lab.on(MIRROR, RELOAD)
        lab.note(told)
        lab.count("reloads accepted", "reloaded" in told.splitlines() or not re.search(reload, told), 1)
        time.sleep(2)  # an Apache that was told to read them has ended by then
        other_server = lab.on(MIRROR, running, check=False) != before
        lab.count("another process or release", other_server, 1)
        lab.count("another certificate", others(lab, certificate), 20)
        if other_server:  # which may have ended for good, and the clients would wait for it
            issues()(lab)
            lab.on(MIRROR, "systemctl reset-failed nearby-mirror; systemctl start nearby-mirror")

    return inject


def renewed(lab: Lab) -> None:
    """One that is put in force by a deploy, then one by a reload."""
    failed: list[int] = []
    seen = [shown(lab)]
    for act in (lambda: lab.deploy(check=False).code, lambda: "reloaded" not in lab.on(MIRROR, RELOAD).splitlines()):
        issues()(lab)
        failed.append(bool(act()))
        time.sleep(1)
        wanted = hashlib.sha256(ssl.PEM_cert_to_DER_cert((lab.folder / "tls" / "mirror.pem").read_text())).hexdigest()
        if wanted in seen:
            raise RuntimeError("the certificate is not another one")
        seen.append(wanted)
        failed.append(others(lab, wanted))
    for figure, of, count in zip(
        ("deploys refused", "not shown after a deploy", "reloads refused", "not shown after a reload"), (1, 20, 1, 20), failed, strict=True
    ):
        lab.count(figure, count, of)


# ------------------------------------------------------------------------------------------------------------- deploys


def other(number: int) -> dict[str, t.Any]:
    """Another configuration, with each engine."""
    return {"mirror_artifact_timeout": 60 + number}


def deploys_twice(lab: Lab) -> None:
    """Both succeed, or one says who is at it; what comes of it is one of the two, whole."""
    both = [lab.start_deploy(**other(number)) for number in (1, 2)]
    ended = [deploy.result(check=False) for deploy in both]
    refused = [played for played in ended if played.code]
    clear = [played for played in refused if re.search(r"deploy", "".join(re.findall(r"fatal: .*(?:\n.*)?", played.output)))]
    for played in refused:
        lab.note(re.findall(r'"msg": "(.*?)"', played.output)[-1:])
    lab.count("deploys", max(len(refused) - len(clear), len(refused) == 2), 2)
    lab.count("convergence", 0 if converges(lab, MIRROR) else 1, 1)


def converges(lab: Lab, host: str, **variables: t.Any) -> bool:
    """A deploy succeeds, and the next one changes nothing."""
    first = lab.deploy(host=host, check=False, **variables)
    second = lab.deploy(host=host, check=False, **variables)
    for played in (first, second):
        if played.code:
            lab.note(played.output[-800:])
    if second.changed:
        lab.note(f"changed again: {second.changes}")
    return first.code == 0 and second.code == 0 and second.changed == 0


RELEASE = "The release is in force"  # the task that touches what runs
FOLDERS = "The mirror's folders are there"  # the last one before it that changes something
MOMENTS = (0.2, 0.4, 0.6, 0.8, 1, 1.5, 2, 2.5, 3, 4, 6)  # seconds into it; it takes 1 to 3
FIRST_MOMENTS = (0.2, 0.4, 0.6)  # on a host that has no mirror yet; it takes 0.7 to 1.5 there
SWAP = 1.0  # seconds in which nobody may be able to connect after a kill


def deploy_killed(lab: Lab) -> None:
    """Deploys of one other configuration are killed after their first, second, ... result, until one has fewer; then it has to converge.

    Then those of further ones are killed at moments of the task that touches what runs, and after each kill the next deploy has
    to converge. All that is warm is asked for after every kill.
    """
    kills = unserved = checks = unconverged = 0
    down = 0.0

    def after(killed: str) -> None:
        nonlocal kills, unserved, down
        told = lab.ask(lab.warm)
        kills += 1
        down = max(down, told["down_seconds"])
        if told["kinds"]["asked"]["failed"] or told["down_seconds"] > SWAP:
            unserved += 1
            lab.note(f"does not serve when killed {killed}: {told}")

    def check(killed: str, variables: dict[str, t.Any]) -> None:
        nonlocal checks, unconverged
        checks += 1
        if not converges(lab, MIRROR, **variables):
            unconverged += 1
            lab.note(f"does not converge when killed {killed}")

    before = told_by(lab, "X-Release")
    results = 1
    while (played := lab.killed_deploy(MIRROR, kill={"results": results}, **other(10))).killed:
        after(played.killed)
        results += 1
    check(f"after up to {results - 1} results", other(10))
    for number, seconds in enumerate(MOMENTS, 11):
        played = lab.killed_deploy(MIRROR, kill={"task": RELEASE, "seconds": seconds}, **other(number))
        if not played.killed:  # the task was faster
            break
        after(played.killed)
        check(played.killed, other(number))
        if told_by(lab, "X-Release") == before:
            raise RuntimeError("the deploys that are killed do not change the release")
        before = told_by(lab, "X-Release")
    if checks < 4:
        raise RuntimeError(f"no more than {checks - 1} deploys were killed while they put a release in force")
    lab.note(f"killed after {results - 1} results and at {checks - 1} moments; down for {down} s at most after a kill")
    lab.count("serving after a kill", unserved, kills)
    lab.count("convergence", unconverged, checks)
    lab.deploy()


def fresh_deploy_killed(lab: Lab) -> None:
    """A first deploy is killed after its first change, the next one after its own first, and so on until there is nothing to change.

    Where one begins with a change that was seen already, it is let go on to the next one. Before the release is first put in force, this
    is killed at its moments, the earliest first. Each kill is counted, and all of them come before the one check.
    """
    killed: list[str] = []
    changes = 1
    while len(killed) < 30:
        where = lab.killed_deploy(FRESH, kill={"changes": changes}).killed
        if not where:
            break
        changes = changes + 1 if where in killed else 1
        killed.append(where)
        if FOLDERS in where and not any(RELEASE in each for each in killed):
            # One that is killed late may have it in force, and the next one has nothing to do.
            killed += filter(None, (lab.killed_deploy(FRESH, kill={"task": RELEASE, "seconds": each}).killed for each in FIRST_MOMENTS))
    for each in killed:
        lab.note(f"killed {each}")
    moments = sum(" into: " in each for each in killed)
    lab.count("kills in the release missed", len(FIRST_MOMENTS) - moments, len(FIRST_MOMENTS))
    lab.count(f"convergence after {len(killed)} kills", not converges(lab, FRESH), 1)


def node_without_mirror(lab: Lab) -> None:
    """Nothing is at the first address, nobody listens at the second, and the third is no mirror."""
    state = "find /etc /root -xdev -type f -not -path '*/.ansible/*' -exec sha256sum {} + | sort | sha256sum"
    urls = [f"http://{lab.prefix}.99", f"http://{lab.prefix}.10:9", "http://nobody.faults.test"]
    failed = 0
    before = lab.on(NODE, state)
    for url in urls:
        played = lab.play("nearby.mirrors.nodes", check=False, configure_mirrors_url=url)
        said = "The mirror cannot be used, so nothing was changed on this node" in re.sub(r"\s+", " ", played.output)
        failed += played.code != 0 or played.changed != 0 or not said or lab.on(NODE, state) != before
    lab.count("nodes", failed, len(urls))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


# ---------------------------------------------------------------------------------------------------------------- list

FAULTS = [
    Fault("upstream_refused_expired", "refuses connections", vanishes, wanted=DEAD),
    Fault("upstream_hung_expired", "takes requests and says nothing", answers(hang=True), wanted=DEAD),
    Fault("upstream_slow", "takes 1 s to begin, then 50 KB/s", answers(delay=1, rate=50_000)),
    *(
        Fault(f"upstream_{status}_expired", f"answers {status}", answers(status=status), wanted=DEAD, quick=status == 502)
        for status in (429, 500, 502, 503, 504)
    ),
    Fault("upstream_truncated_length", "shorter than announced", cut(cut=200), wanted=BROKEN, quick=True),
    Fault("upstream_truncated_chunk", "no last chunk", cut(cut=200, framing="chunked"), wanted=BROKEN),
    Fault("upstream_truncated_close", "no length, no chunks, cut", cut(cut=200, framing="close"), wanted=BROKEN),
    Fault("upstream_truncated_reset", "reset in the body", cut(cut=200, reset=True), wanted=BROKEN),
    Fault(
        "upstream_wrong_bytes_of_files",
        "30 cold files of wrong bytes and the right length, then a scrub",
        corrupt_files,
        after=scrubbed,
        wanted=UNSEEN,
        seconds=0,
    ),
    Fault("upstream_wrong_bytes_of_pages", "pages' wrong bytes of the right length", cut(corrupt=True, origin="index"), wanted=BROKEN),
    Fault("upstream_redirect_loop", "redirects each page to itself", cut(redirect="self", origin="index"), wanted=DEAD),
    Fault(
        "upstream_redirect_off_site",
        "redirects to a host that nobody declared",
        cut(redirect="https://elsewhere.test/"),
        redirected,
        wanted=DEAD,
    ),
    Fault("upstream_certificate_expired", "certificate expired", shows("expired"), distrusted, site="secure", wanted=DEAD, quick=True),
    Fault("upstream_certificate_wrong_name", "certificate of another name", shows("wrong"), distrusted, site="secure", wanted=DEAD),
    Fault("upstream_certificate_self_signed", "certificate signed by itself", shows("selfsigned"), distrusted, site="secure", wanted=DEAD),
    Fault("upstream_address_change", "four addresses leave, two others come", moves, wanted=EDGE),
    Fault("names_missing", "the name server knows no name any more", names("missing"), wanted=DEAD),
    Fault(
        "names_silent_at_boot",
        "the mirror boots while the name server is silent",
        boots_without_names,
        wanted=DEAD,
        seconds=20,
        down=120,
        again=LOST,
    ),
    Fault(
        "edge_502_of_six_connections",
        "one address, and one of six connections answers 502",
        answers(edges=6, status=502),
        before=edges([11]),
        wanted=EDGE,
        cold=200,
        quick=True,
    ),
    Fault("edge_502_of_six_addresses", "one of six addresses answers 502", edge_dead, before=edges(EDGES), wanted=EDGE, cold=200),
    Fault("edge_silent_of_six_addresses", "one of six addresses is gone", edge_silent, before=edges(EDGES), wanted=EDGE, cold=200),
    Fault("herd_of_50", "no fault: 50 clients at once for a cold page and file", more=herd, after=fetches),
    Fault("disk_full", "the cache's filesystem is full", full, not_full, quick=True),
    Fault(
        "disk_full_one_disk",
        "the same, and temporary files are on it, too",
        full,
        not_full,
        before=one_disk,
        after=two_disks,
    ),
    Fault("disk_read_only", "the cache's filesystem is read-only", remount("ro"), remount("rw")),
    Fault("disk_wiped", "all that is stored is deleted", wiped),
    Fault(
        "stored_heads_overwritten",
        "64 bytes at the begin of each third stored file; a scrub follows",
        heads_overwritten,
        after=scrubbed,
    ),
    Fault("stored_emptied", "each third stored file is empty; a scrub follows", emptied, after=scrubbed),
    Fault(
        "stored_halved",
        "each third stored file ends half-way; a scrub follows",
        halved,
        after=scrubbed,
    ),
    Fault(
        "stored_bits_flipped",
        "one bit in each of 30 stored files, then a scrub",
        flipped,
        after=scrubbed,
        wanted=UNSEEN,
        seconds=0,
        quick=True,
    ),
    Fault("reloads_during_downloads", "five reloads during ten downloads", reloads, more=downloads, again=RELOADS * CLOSED, quick=True),
    Fault("kill_9_of_a_worker", "kill -9 of the worker that has most open", kills_worker, again=LOST),
    Fault("kill_9_of_the_master", "kill -9 of the master", kills_master, down=10, again=LOST, quick=True),
    Fault("reboot", "the mirror's host reboots", reboots, seconds=20, down=120, again=LOST),
    Fault(
        "clock_ahead", "the mirror's clock is 2 days ahead, as its answers say", clock(2), clock_right, before=own_clock, after=usual_clock
    ),
    Fault(
        "clock_behind",
        "the mirror's clock is 2 days behind, as its answers say",
        clock(-2),
        clock_right,
        before=own_clock,
        after=usual_clock,
    ),
    *(
        Fault(f"listener_certificate_{name}", told, refuses(spoil, deploy, reload), issues(), before=listens_by_tls, after=calm, seconds=20)
        for name, told, spoil, deploy, reload in (
            (
                "missing",
                "the mirror's own certificate is taken away, then a deploy and a reload are tried",
                taken_away,
                rf"mirror_tls_certificate {CERTIFICATE} cannot be read \(No such file or directory\); [^.]*\.",
                f"The certificate {CERTIFICATE} cannot be read or has expired",
            ),
            (
                "mismatched",
                "the mirror's own certificate gets another's key, then a deploy and a reload are tried",
                issues(KEY),
                rf"The key {KEY} is not that of the first certificate in {CERTIFICATE}; [^.]*\.",
                f"The key {KEY} is not that of the certificate {CERTIFICATE}",
            ),
            (
                "expired",
                "an expired one takes the place of the mirror's own certificate, then a deploy and a reload are tried",
                issues(days=(-30, -1)),
                rf"The certificate {CERTIFICATE} has expired, on [^.;]*; renew it\.",
                f"The certificate {CERTIFICATE} cannot be read or has expired",
            ),
        )
    ),
    Fault(
        "listener_certificate_renewed",
        "a new certificate of the mirror's own is deployed, and a second new one is reloaded",
        renewed,
        nothing,
        before=listens_by_tls,
        after=calm,
        seconds=30,
        again=2 * CLOSED,
    ),
    Fault("two_deploys_at_once", "two deploys at once", deploys_twice, seconds=40, again=3 * CLOSED),
    Fault(
        "deploy_killed",
        "a deploy is killed after its first, second, ... result, then it has to converge;"
        " others are killed while they put another release in force, and each of these has to converge",
        deploy_killed,
        seconds=300,
        again=(len(MOMENTS) + 1) * CLOSED,
    ),
    Fault(
        "fresh_deploy_killed",
        "the first deploys to a host are killed after each change and while they put the release in force;"
        " after all of these, it has to converge",
        fresh_deploy_killed,
        seconds=0,
    ),
    Fault("node_without_mirror", "a node whose mirror cannot be reached", node_without_mirror, seconds=0, quick=True),
]

__all__ = ["ANY", "FAULTS", "Entries", "Fault"]
