# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Checks of a site of type golang: what the go command relies on, played on the newest version of one module.

Source: the Go modules reference, "GOPROXY protocol"; golang.org/x/mod/sumdb/dirhash for the sums.
"""

from __future__ import annotations

import base64
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from typing import Any

from ..http import Response
from .base import (
    Probe,
    Skip,
    Verdict,
    ask_upstream,
    bad,
    expect,
    get_small,
    good,
    is_stale,
    judge_head,
    judge_hit,
    judge_lag,
    judge_range,
    stays_stale,
    why,
)

ABSENT = (404, 410)  # what makes go ask the next proxy
SEMVER = re.compile(r"v(\d+)\.(\d+)\.(\d+)(-[0-9A-Za-z.-]+)?(?:\+incompatible)?")


def _module(probe: Probe) -> str:
    """The path of the module's folder of versions."""
    if not probe.site.probe:
        raise Skip("no module to look at is known; set probe: for this site")
    return f"{probe.site.index}{probe.site.probe}/@v/"


def _listed(response: Response) -> list[str]:
    """The versions of an `@v/list`, the oldest first. Raises ValueError."""
    text = response.decoded().decode("utf-8", "replace")
    lines = [(SEMVER.fullmatch(line), line) for line in (fields[0] for fields in map(str.split, text.split("\n")) if fields)]
    strange = [line for match, line in lines if not match]
    if strange:
        raise ValueError(f"{response.url} lists {strange[0][:60]!r}, which is no version")
    ordered = [([int(part) for part in match.groups()[:3]], not match[4], line) for match, line in lines if match]
    return [line for _numbers, _release, line in sorted(ordered)]


def _newest(probe: Probe) -> str:
    listed = _listed(expect(probe.get(_module(probe) + "list")))
    if not listed:
        raise Skip("the module has no version")
    return listed[-1]


def escaped(version: str) -> str:
    """A version as it stands in a path ("Module cache", case-encoding)."""
    return re.sub("[A-Z]", lambda capital: "!" + capital[0].lower(), version)


def _file(probe: Probe, ending: str) -> str:
    """The path of a file of the newest version."""
    return f"{_module(probe)}{escaped(_newest(probe))}{ending}"


def _archive(probe: Probe) -> Response:
    """The newest version's `.zip`."""
    return get_small(probe, _file(probe, ".zip"))


def _contents(response: Response) -> dict[str, bytes]:
    try:
        with zipfile.ZipFile(io.BytesIO(response.body)) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, zipfile.LargeZipFile, OSError, RuntimeError, NotImplementedError) as error:
        raise ValueError(f"{response.url} is no whole archive ({error})") from error


def _object(response: Response) -> Mapping[str, Any]:
    try:
        value = json.loads(response.decoded())
    except ValueError as error:
        raise ValueError(f"{response.url} is no JSON") from error
    if not isinstance(value, dict) or not SEMVER.fullmatch(str(value.get("Version"))):
        raise ValueError(f"{response.url} tells no version")
    return value


def sum_of(files: Mapping[str, bytes]) -> str:
    """The `h1:` sum of files by their names, as it stands in go.sum."""
    lines = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


def database() -> str:
    """The name of the checksum database that the go command on this host asks. Raises Skip."""
    said = os.environ.get("GOSUMDB", "")
    go = shutil.which("go")
    if not said and go:
        asked = subprocess.run([go, "env", "GOSUMDB"], capture_output=True, text=True, timeout=30, check=False, cwd="/")
        said = asked.stdout
    name = (said.split() or [""])[0].split("+")[0]
    if name in ("", "off"):
        raise Skip("which checksum database go asks is not known here; set GOSUMDB, or install go")
    return name


def versions(probe: Probe) -> Verdict:
    """The list of versions is one."""
    listed = _listed(expect(probe.get(_module(probe) + "list")))
    return good(f"{len(listed)} versions") if listed else bad(f"{probe.url(_module(probe))}list is empty")


def latest(probe: Probe) -> Verdict:
    """`@latest`, which a proxy may do without, tells a version."""
    path = _module(probe)[: -len("@v/")] + "@latest"
    response = probe.get(path)
    if response.status not in ABSENT:
        return good(_object(expect(response))["Version"])
    theirs = ask_upstream(probe, path)
    if theirs.status == 200:
        return bad(f"{response.url} answered {response.status}, upstream has it")
    raise Skip("upstream has none")


def info(probe: Probe) -> Verdict:
    """`.info` tells of the version that was asked for."""
    path = _file(probe, ".info")
    told = _object(expect(probe.get(path)))["Version"]
    return good(told) if path.endswith(f"/{escaped(told)}.info") else bad(f"{probe.url(path)} tells of {told}")


def absent(probe: Probe) -> Verdict:
    """What is not there is answered as upstream answers it: go asks the next proxy on 404 and 410 alone."""
    path = _module(probe) + "v0.0.0-19700101000000-000000000000.info"
    response = probe.get(path)
    if response.status in ABSENT:
        return good(f"answered {response.status}")
    if why(response):
        return bad(f"{response.url} answered {response.status}{why(response)}")
    theirs = ask_upstream(probe, path)
    if theirs.status == response.status:
        return good(f"answered {response.status}, as upstream does")
    return bad(f"{response.url} answered {response.status}, upstream {theirs.status}")


def archive(probe: Probe) -> Verdict:
    """`.zip` is whole, and the go.mod in it is what `.mod` has."""
    response = _archive(probe)
    files = _contents(response)
    module = expect(probe.get(_file(probe, ".mod"))).body
    inside = next((body for name, body in files.items() if re.fullmatch(r"[^@]*@[^/]*/go\.mod", name)), module)
    if inside != module:
        return bad(f"{response.url} has another go.mod in it than the .mod beside it")
    return good(f"{len(files)} files, {len(response.body)} bytes")


def checksum(probe: Probe) -> Verdict:
    """`.zip` and `.mod` have the sums that the checksum database, asked through the mirror, tells."""
    name = f"{probe.site.path}sumdb/{database()}"
    supported = probe.get(f"{name}/supported")
    if supported.status in ABSENT:
        raise Skip("upstream proxies no checksum database, so go asks it itself")
    expect(supported)
    response, version = _archive(probe), _newest(probe)
    record = expect(probe.get(f"{name}/lookup/{probe.site.probe}@{escaped(version)}")).decoded().decode("utf-8", "replace")
    told = {fields[1]: fields[2] for fields in (line.split(" ") for line in record.split("\n")) if len(fields) == 3}
    found = {
        version: sum_of(_contents(response)),
        f"{version}/go.mod": sum_of({"go.mod": expect(probe.get(_file(probe, ".mod"))).body}),
    }
    for key, value in found.items():
        if told.get(key) != value:
            return bad(f"{probe.site.probe} {key} has {value}, the checksum database says {told.get(key, 'nothing')}; purge it")
    return good(f"{found[version]} of {probe.site.probe} {version}")


def list_hit(probe: Probe) -> Verdict:
    """A repeated request for the list is answered from the cache."""
    return judge_hit(probe, _module(probe) + "list")


def archive_hit(probe: Probe) -> Verdict:
    """A repeated request for a file is answered from the cache."""
    return judge_hit(probe, _file(probe, ".zip"))


def archive_head(probe: Probe) -> Verdict:
    """HEAD of a file tells what GET sends."""
    return judge_head(probe, _file(probe, ".zip"))


def archive_range(probe: Probe) -> Verdict:
    """A range of a file has the bytes of that slice."""
    return judge_range(probe, _archive(probe))


def freshness(probe: Probe) -> Verdict:
    """The list is not served stale: one that had just expired is refreshed within moments."""
    path = _module(probe) + "list"
    response = expect(probe.until(lambda found: not is_stale(found), lambda: probe.get(path)))
    if is_stale(response):
        return stays_stale(probe, response)
    return good("not stale")


def lag(probe: Probe) -> Verdict:
    """The list has the versions that upstream's has, or not for long others."""
    path = _module(probe) + "list"
    return judge_lag(probe, ask_upstream(probe, path), probe.get(path), lambda response: set(_listed(response)))


CHECKS = (
    versions, latest, info, absent, archive, checksum, list_hit, archive_hit, archive_head, archive_range, freshness, lag,
)  # fmt: skip
