# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the verify stages of all scenarios share: a pytest plugin that sees the test hosts as a client would."""

from __future__ import annotations

import base64
import json
import shlex
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import pytest
from testinfra.host import Host

Seen = TypeVar("Seen")

# Runs on a test host with Python and nothing else; says what came back, faults of HTTP included.
CLIENT = """
import base64, json, sys, time, urllib.error, urllib.request
asked = json.loads(sys.argv[1])
opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
request = urllib.request.Request(asked["url"], headers=asked["headers"], method=asked["method"])
begun = time.monotonic()
try:
    answer = opener.open(request, timeout=asked["timeout"])
except urllib.error.HTTPError as error:
    answer = error
body = answer.read()
print(json.dumps({
    "status": answer.status, "headers": {name.lower(): value for name, value in answer.headers.items()},
    "body": base64.b64encode(body).decode(), "seconds": time.monotonic() - begun,
}))
"""


@dataclass(frozen=True)
class Answer:
    """A response as it came; header names are in lower case, ``seconds`` is the time to its last byte."""

    status: int
    headers: dict[str, str]
    body: bytes
    seconds: float

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


def fetch(host: Host, url: str, method: str = "GET", timeout: float = 20, **headers: str) -> Answer:
    """Ask for *url* from *host*; a header's underscores stand for hyphens."""
    asked = {
        "url": url,
        "method": method,
        "timeout": timeout,
        "headers": {name.replace("_", "-"): value for name, value in headers.items()},
    }
    told = json.loads(host.check_output("python3 -c %s %s", CLIENT, json.dumps(asked)))
    return Answer(told["status"], told["headers"], base64.b64decode(told["body"]), told["seconds"])


def pip_install(host: Host, folder: str, *arguments: str) -> str:
    """Install with the host's pip into *folder*, from the network and not from pip's own cache; return what pip says."""
    said: str = host.check_output(
        "rm -rf %s && pip install --no-cache-dir --disable-pip-version-check --root-user-action ignore --target %s "
        + shlex.join(arguments).replace("%", "%%"),
        folder,
        folder,
    )
    return said


def uv_install(host: Host, folder: str, *arguments: str) -> str:
    """Install with the host's uv into *folder*, from the network and not from uv's own cache; return what uv says."""
    said: str = host.check_output(
        "rm -rf %s && uv --no-progress pip install --no-cache --python /usr/bin/python3 --target %s " + shlex.join(arguments) + " 2>&1",
        folder,
        folder,
    )
    return said


def version_in(host: Host, folder: str, module: str) -> str:
    """Import *module* from *folder* with the host's Python and return its version."""
    version: str = host.check_output("cd / && PYTHONPATH=%s python3 -c %s", folder, f"import {module}; print({module}.version)")
    return version


def log_lines(host: Host, path: str) -> list[dict[str, Any]]:
    """The lines of a log that is one JSON object a line."""
    return [json.loads(line) for line in host.check_output("cat %s", path).splitlines()]


def soon(look: Callable[[], Seen], seconds: float) -> Seen:
    """Look once a second until what is seen is true, *seconds* at the most; return what was seen last."""
    deadline = time.monotonic() + seconds
    while not (seen := look()) and time.monotonic() < deadline:
        time.sleep(1)
    return seen


@pytest.fixture(scope="module")
def settings(host: Host) -> dict[str, Any]:
    """The host's variables, as the inventory gives them."""
    variables: dict[str, Any] = host.ansible.get_variables()
    return variables


@pytest.fixture(scope="module")
def other(host: Host, request: pytest.FixtureRequest) -> Callable[[str], Host]:
    """Another host of the scenario by its name."""
    inventory = request.config.getoption("--ansible-inventory")

    def find(name: str) -> Host:
        return host.get_host(f"ansible://{name}?ansible_inventory={inventory}")

    return find
