# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The faults, as a list. To add one, add a line or a few to FAULTS.

A fault's steps are functions of the lab: ``before`` while all is well, ``inject`` a second into the load, ``heal`` when the load has
ended, ``after`` when all that was seen has been asked for again. What a step counts beside the load goes through ``lab.count``.

Figures, each as "failed of": ``warm`` and ``cold`` requests of the load; ``wrong``, whole answers with another body than upstream's;
``stored``, all that was asked for, warm and cold, asked for again after the fault; ``recovery``, whether a new release then shows.
``wanted`` has the share that may fail, ANY where it is only told; what it does not name may not fail at all.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import time
import typing as t
from pathlib import Path

from hosts import CACHE, EDGES, FRESH, MIRROR, NODE, UPSTREAM, USUAL_EDGES, Item, Lab, command

ANY = 1.0
Step = t.Callable[[Lab], None]
Entries = list[tuple[float, str, Item]]


def nothing(_lab: Lab) -> None:
    """No step."""


def calm(lab: Lab) -> None:
    """The registry, its names and its addresses are as they should be."""
    lab.registry("back")
    lab.registry("show", kind="good")
    lab.registry("configure")
    for number in EDGES:
        lab.on(UPSTREAM, f"ip address add {lab.prefix}.{number}/24 dev eth0 2>/dev/null || true")
    lab.addresses(USUAL_EDGES)
    lab.registry("name", mode="answer")


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
SCRUBBED = "after a scrub"
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
    lab.count(SCRUBBED, lab.ask(lab.bad)["kinds"]["asked"]["failed"], len(lab.bad))


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
    for _time in range(5):
        lab.on(MIRROR, "systemctl reload nearby-mirror")
        time.sleep(1)


MASTER = "master=$(cat /run/nearby-mirror/mirror.pid)"


def kills_worker(lab: Lab) -> None:
    lab.on(MIRROR, f"{MASTER}; set -- $(cat /proc/$master/task/$master/children); kill -9 $1")


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


def clock(offset: str) -> Step:
    return lambda lab: lab.on(MIRROR, f"echo {offset} > /etc/faketimerc")


def clock_right(lab: Lab) -> None:
    lab.on(MIRROR, "echo +0d > /etc/faketimerc")


def usual_clock(lab: Lab) -> None:
    lab.on(MIRROR, "rm -r /run/systemd/system/nearby-mirror.service.d; systemctl daemon-reload; systemctl restart nearby-mirror")


# ------------------------------------------------------------------------------------------------------------- deploys


def deploys_twice(lab: Lab) -> None:
    """Both succeed, or one says who is at it; what comes of it is one of the two, whole."""
    both = [lab.start_deploy(mirror_inactive=inactive) for inactive in ("61d", "62d")]
    ended = [deploy.result(check=False) for deploy in both]
    refused = [played for played in ended if played.code]
    clear = [played for played in refused if re.search(r"deploy", "".join(re.findall(r"fatal: .*(?:\n.*)?", played.output)))]
    for played in refused:
        lab.note(re.findall(r'"msg": "(.*?)"', played.output)[-1:])
    lab.count("deploys", len(refused) - len(clear) + (len(refused) == 2), 2)
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


def deploy_killed(lab: Lab) -> None:
    """Deploys are killed after their third, sixth, ... task; and of the task that touches what runs others, each a bit later.

    Those of the second kind have another configuration each, and the next deploy has to go through.
    """
    points = unserved = unconverged = 0

    def served() -> bool:
        return not lab.ask(lab.warm)["kinds"]["asked"]["failed"]

    for results in range(3, 60, 3):
        played = lab.killed_deploy(MIRROR, kill={"results": results}, mirror_inactive="70d")
        if not played.killed:
            break
        points += 1
        unserved += not served()
    unconverged += not converges(lab, MIRROR, mirror_inactive="70d")
    for number, seconds in enumerate((0.5, 1, 1.5, 2, 3, 4, 6)):
        variables = {"mirror_inactive": f"{71 + number}d"}
        played = lab.killed_deploy(MIRROR, kill={"task": RELEASE, "seconds": seconds}, **variables)
        if not played.killed:
            break
        points += 1
        unserved += not served()
        if not converges(lab, MIRROR, **variables):
            unconverged += 1
            lab.note(f"does not converge when killed {played.killed}")
    lab.count("serving after a kill", unserved, points)
    lab.count("convergence after a kill", unconverged, points)
    lab.deploy()


def fresh_deploy_killed(lab: Lab) -> None:
    """A first deploy is killed after its first change, the next one after its own first, and so on until there is nothing to change.

    Where one begins with a change that was seen already, it is let go on to the next one. In between come kills in the last task.
    """
    seen: set[str] = set()
    changes = 1
    points = [{"task": RELEASE, "seconds": seconds} for seconds in (0.5, 1.5, 3)]
    while len(seen) < 30:
        played = lab.killed_deploy(FRESH, kill={"changes": changes})
        if RELEASE in played.killed or not played.killed:
            break
        changes = changes + 1 if played.killed in seen else 1
        seen.add(played.killed)
        if len(seen) > 3 and points:  # the packages are there by now
            seen.add(lab.killed_deploy(FRESH, kill=points.pop()).killed)
    seen.discard("")  # one that had ended by then
    lab.note(f"killed {sorted(seen)}")
    lab.count("convergence after kills", not converges(lab, FRESH), len(seen))


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
        "names_silent_at_boot", "the mirror boots while the name server is silent", boots_without_names, wanted=DEAD, seconds=20, down=120
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
        wanted={"warm": ANY, "wrong": ANY, "stored": ANY},
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
    Fault("reloads_during_downloads", "five reloads during ten downloads", reloads, more=downloads, quick=True),
    Fault("kill_9_of_a_worker", "kill -9 of a worker", kills_worker),
    Fault("kill_9_of_the_master", "kill -9 of the master", kills_master, down=10, quick=True),
    Fault("reboot", "the mirror's host reboots", reboots, seconds=20, down=120),
    Fault("clock_ahead", "the mirror's clock is 2 days ahead", clock("+2d"), clock_right, before=own_clock, after=usual_clock),
    Fault("clock_behind", "the mirror's clock is 2 days behind", clock("-2d"), clock_right, before=own_clock, after=usual_clock),
    Fault("two_deploys_at_once", "two deploys at once", deploys_twice, seconds=40),
    Fault("deploy_killed", "a deploy is killed after its first, second, ... change", deploy_killed, seconds=60),
    Fault("fresh_deploy_killed", "the same on a host that had no mirror, one kill after the other", fresh_deploy_killed, seconds=0),
    Fault("node_without_mirror", "a node whose mirror cannot be reached", node_without_mirror, seconds=0, quick=True),
]

__all__ = ["ANY", "FAULTS", "Entries", "Fault"]
