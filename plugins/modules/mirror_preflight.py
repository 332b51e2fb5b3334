#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror_preflight
author: The nearby.mirrors founders (!UNKNOWN)
version_added: 0.1.0
short_description: Tells whether this host can serve as a mirror
description:
  - Looks at the user, the addresses, the ports, the disk, the room for pages on their way and the certificate files that a mirror
    needs, before anything is changed.
  - Fails with one sentence for each thing that is in the way, and warns of a certificate that expires soon.
  - It leaves nothing behind, so check mode makes no difference.
options:
  addresses:
    description: Addresses that the mirror listens on. Each has to be one of this host's, or to stand for all of them.
    type: list
    elements: str
    required: true
  port:
    description: TCP port that the mirror listens on.
    type: int
    required: true
  pid_path:
    description: File in which the mirror's server keeps its process id. A port that this process holds is not in the way.
    type: path
    required: true
  programs:
    description: Names that this process may have, since after a crash its id may be another one's.
    type: list
    elements: str
    required: true
  cache_path:
    description: Folder that the cache lives in. It need not exist yet.
    type: path
    required: true
  run_path:
    description:
      - Folder of the sockets. It need not exist yet.
      - With O(engine=nginx), its filesystem has to have room for the index pages that are on their way, which is 80 MiB.
    type: path
    required: true
  user:
    description: The user that the cache belongs to. It has to exist.
    type: str
    default: www-data
  engine:
    description: The web server that is to serve.
    type: str
    default: nginx
  sites:
    description:
      - The sites as the inventory gives them. One that needs what O(engine) cannot do is in the way.
      - The ports that sites have of their own are looked at as O(port) is.
    type: list
    elements: raw
    default: []
  min_free:
    description: Bytes that have to stay free on the filesystem of O(cache_path), as a number with an optional C(k), C(m) or C(g).
    type: str
    required: true
  ca_path:
    description: File with the certificates that upstreams are verified against.
    type: path
    required: true
  certificate:
    description:
      - File with the mirror's own certificate, where it speaks TLS. Empty where it does not.
      - It has to fit to O(key), to be valid now, and to be for each of O(names). What clients trust is not known here.
    type: path
    default: ''
  key:
    description: File with the key of O(certificate).
    type: path
    default: ''
  names:
    description: Names and addresses by which clients reach the mirror, as in the variables C(mirror_fqdn) and C(mirror_aliases).
    type: list
    elements: str
    default: []
"""

EXAMPLES = r"""
- name: Refuse what is in the way of a mirror
  nearby.mirrors.mirror_preflight:
    addresses: ["0.0.0.0"]
    port: 80
    pid_path: /run/nearby-mirror/mirror.pid
    programs: [nginx]
    cache_path: /var/cache/nearby-mirror
    run_path: /run/nearby-mirror
    min_free: 2g
    ca_path: /etc/ssl/certs/ca-certificates.crt
"""

RETURN = r"""
running:
  description: Whether the mirror's server runs already.
  type: bool
  returned: always
ca_sha256:
  description: The SHA-256 of O(ca_path), empty where it cannot be read.
  type: str
  returned: always
certificate_sha256:
  description: The SHA-256 of O(certificate), empty where there is none.
  type: str
  returned: always
archives:
  description: The Debian-style archives that this host's own apt sources name, in their order.
  type: list
  elements: dict
  returned: always
  contains:
    url:
      description: The archive, without a trailing slash. Of a list of mirrors the last one.
      type: str
    suites:
      description: The suites that the host takes from there.
      type: list
      elements: str
free:
  description: Bytes that are free on the filesystem of the cache, or that the cache takes there and would give back.
  type: int
  returned: always
limits:
  description: What the engine does not do, by name.
  type: list
  elements: str
  returned: always
"""

import glob
import hashlib
import ipaddress
import os
import pwd
import re
import shutil
import ssl
import time
from collections.abc import Mapping

from ansible.module_utils.basic import AnsibleModule

from ..module_utils import certificate
from ..module_utils.apt import SOURCES, archives
from ..module_utils.engines import ENGINES, refusals
from ..module_utils.host import can_listen, cannot_hold, free_bytes, has_address, listeners, overlap, running_pid, used_bytes

FLIGHT = 80 << 20  # what the configuration's cache `flight` may take, and what it leaves free
UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def size(text: str) -> int | None:
    """Bytes from a size as Nginx writes it, or None where it is none."""
    match = re.fullmatch(r"([0-9]+)([kmg]?)", text.strip().lower())
    return int(match.group(1)) * UNITS[match.group(2)] if match else None


def sha256(path: str) -> str:
    try:
        with open(path, "rb") as file:
            return hashlib.sha256(file.read()).hexdigest()
    except OSError:
        return ""


def read(path: str) -> str:
    try:
        with open(path, encoding="utf-8", errors="replace") as file:
            return file.read()
    except OSError:
        return ""


def own_archives(config: str = "/etc/apt") -> list[dict]:
    return archives((read(path) for pattern in SOURCES for path in sorted(glob.glob(os.path.join(config, pattern)))), read)


def unfit(addresses: list[str]) -> list[str]:
    """What keeps a server from listening on these addresses, whichever port it is."""
    if not addresses:
        return ["mirror_addresses is empty; set it to the addresses that the mirror is to listen on, such as 0.0.0.0 for all IPv4 ones."]
    found = []
    for address in addresses:
        try:
            plain = "%" not in str(ipaddress.ip_address(address))
        except ValueError:
            plain = False
        if not plain:
            found.append(f"mirror_addresses has '{address}', which is no IPv4 or IPv6 address; write one alone, without brackets and port.")
        elif not has_address(address):
            found.append(f"mirror_addresses has {address}, which is none of this host's addresses; set one that it has.")
    return found


def exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def held(addresses: list[str], port: int, own_pid: int, option: str) -> list[str]:
    """Who else holds a port on one of the addresses, in one sentence; none where nobody does."""
    if not 0 < port < 65536:
        return [f"Port {port} is none; set {option} to a number from 1 to 65535."]
    holders = list(listeners(port))
    own = [holder.address for holder in holders if own_pid in holder.pids]
    others = [holder for holder in holders if own_pid not in holder.pids]
    # Apache listens on all addresses of both kinds with one socket, which nobody's for IPv4 can be beside.
    dual = not any("." in holder.address for holder in others)
    for address in addresses:
        if address in own or can_listen(address, port):
            continue
        other = next((holder for holder in others if overlap(holder.address, address, not any("." in held for held in own))), None)
        if not other and any(overlap(held, address, dual) for held in own):
            continue
        who = f"{other.program} (process {other.pids[0]})" if other and other.pids else "another program"
        return [f"Port {port} on {address} is held by {who}; stop it or set {option} to another port."]
    return []


def served(params: dict, now: float) -> tuple[list[str], list[str]]:
    """What is in the way of TLS, and what is to be warned of."""
    if not params["certificate"]:
        return [], []
    found, soon = certificate.examine(params["certificate"], params["key"], params["names"], now)
    if not shutil.which("openssl"):
        found.append("This host has no openssl, by which a certificate is looked at before each reload; install the package openssl.")
    return found, soon


def problems(params: dict, own_pid: int, free: int) -> list[str]:
    sites = [site for site in params["sites"] if isinstance(site, Mapping)]
    found = refusals(params["engine"], sites)
    if os.geteuid():
        user = pwd.getpwuid(os.geteuid()).pw_name
        found.append(f"The role mirror installs a service but runs as {user}; set become to true or log in as root.")
    misplaced = unfit(params["addresses"])
    addresses = [] if misplaced else params["addresses"]
    found += misplaced + held(addresses, params["port"], own_pid, "mirror_port")
    for site in sites:
        if type(site.get("port")) is int and 0 < site["port"] < 65536:  # what is none, the lookup refuses
            found += held(addresses, site["port"], own_pid, f"port of site '{site.get('name', site.get('type'))}'")
    minimum = size(params["min_free"])
    if minimum is None:
        found.append(f"mirror_min_free '{params['min_free']}' is no size; write a number with k, m or g, for example 2g.")
    elif free < minimum:
        found.append(
            f"The filesystem of {params['cache_path']} has {free >> 20} MiB free, less than mirror_min_free ({minimum >> 20} MiB);"
            " free some, or set mirror_cache_path or mirror_min_free."
        )
    room = free_bytes(params["run_path"]) + used_bytes(os.path.join(params["run_path"], "flight"))
    if params["engine"] == "nginx" and room < FLIGHT:
        found.append(
            f"The filesystem of mirror_run_path {params['run_path']} has {room >> 20} MiB free, less than the {FLIGHT >> 20} MiB that Nginx"
            " needs for index pages on their way; make that filesystem larger, or set mirror_run_path to a folder on another one."
        )
    if not exists(params["user"]):
        found.append(f"mirror_user '{params['user']}' does not exist on this host; set it to a user that does, such as www-data.")
    elif reason := cannot_hold(params["cache_path"], params["user"]):
        found.append(
            f"The filesystem of mirror_cache_path {params['cache_path']} cannot hold a cache of the user {params['user']} ({reason});"
            " set mirror_cache_path to a folder on another one."
        )
    if not os.path.isfile(params["ca_path"]):
        found.append(f"The certificate file {params['ca_path']} does not exist; install ca-certificates or set mirror_upstream_ca_path.")
    else:
        try:
            ssl.create_default_context(cafile=params["ca_path"])
        except (ssl.SSLError, OSError) as error:
            found.append(f"The certificate file {params['ca_path']} cannot be read ({error}); set mirror_upstream_ca_path to a PEM bundle.")
    return found


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "addresses": {"type": "list", "elements": "str", "required": True},
            "port": {"type": "int", "required": True},
            "pid_path": {"type": "path", "required": True},
            "programs": {"type": "list", "elements": "str", "required": True},
            "cache_path": {"type": "path", "required": True},
            "run_path": {"type": "path", "required": True},
            "user": {"type": "str", "default": "www-data"},
            "engine": {"type": "str", "default": "nginx"},
            "sites": {"type": "list", "elements": "raw", "default": []},
            "min_free": {"type": "str", "required": True},
            "ca_path": {"type": "path", "required": True},
            "certificate": {"type": "path", "default": ""},
            "key": {"type": "path", "default": ""},
            "names": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    own_pid = next(filter(None, (running_pid(module.params["pid_path"], name) for name in module.params["programs"])), 0)
    # A full cache is no full disk: the server makes room when it has to.
    free = free_bytes(module.params["cache_path"]) + used_bytes(module.params["cache_path"])
    result = {"changed": False, "running": bool(own_pid), "free": free, "ca_sha256": sha256(module.params["ca_path"])}
    result["certificate_sha256"] = sha256(module.params["certificate"])
    result["archives"] = own_archives()
    result["limits"] = [limit.key for limit in ENGINES.get(module.params["engine"], ())]
    refused, soon = served(module.params, time.time())
    found = problems(module.params, own_pid, free) + refused
    for sentence in soon:
        module.warn(sentence)
    if found:
        module.fail_json(msg=" ".join(found), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
