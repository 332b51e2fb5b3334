#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: release
author: The nearby.mirrors founders (!UNKNOWN)
version_added: 0.1.0
short_description: Puts a mirror's configuration in force without taking the mirror down
description:
  - Writes a configuration as a release, which is a folder of its own below O(path), named after the digest of its files.
  - Has the web server check it, starts it on a free port of the loopback interface with folders of its own, and plays the clients
    against that trial, as M(nearby.mirrors.cache_health) does.
  - Then makes C(current) a symbolic link to it, reloads the running server, or stops it and starts the other one where the web server
    is another, and plays the clients again. If that goes wrong, the release before it is put in force again.
  - It fails with what was wrong. A release that the server already runs is left as it is, apart from playing the clients.
  - What somebody edited or left in the folder of the release, or in its unit, is put right.
  - What begins with the swap goes on to its end although the module is killed.
  - One deploy at a time works on a host. Another one waits.
options:
  state:
    description: V(absent) stops whichever server runs, and takes its unit off. The releases and the other folders stay.
    type: str
    choices: [present, absent]
    default: present
  path:
    description: Folder of the releases and of C(current).
    type: path
    required: true
  state_path:
    description: Folder of the mirror's own, for the lock and the trial.
    type: path
    required: true
  files:
    description:
      - The files of the release, by their paths in it. C(@RELEASE@) in them becomes the release's name.
      - C(mirror.conf) is the server's configuration, C(engine.json) says how the server is run, C(nearby-mirror.service) is its unit.
    type: dict
    default: {}
  trial:
    description:
      - The files that are other ones on trial, by their paths.
      - C(@TRIAL@) in them becomes the folder for all that is read and written on trial, with the folders C(run), C(log), C(cache)
        and C(temp) for the server; C(@PORT@) becomes its port, C(@PORT1@) and the like become other free ones.
    type: dict
    default: {}
  user:
    description: The user that the server's workers run as.
    type: str
    default: www-data
  systemd:
    description: Whether the server is a unit of systemd.
    type: bool
    default: true
  verify:
    description: Whether to play the clients. If not, it is enough that the server answers with the release.
    type: bool
    default: true
  upstream_ca_path:
    description: File with the certificates that upstreams are verified against while the clients are played.
    type: path
    default: ''
  keep:
    description: How many releases stay beside the one in force. Those go first that were in force longest ago.
    type: int
    default: 3
  lock_timeout:
    description: Seconds to wait for another deploy on the same host.
    type: int
    default: 300
  deployer:
    description: Who deploys, for whoever waits.
    type: str
    default: ''
attributes:
  check_mode:
    support: full
    description: Says what a deploy would change, of the release and of its unit, without a trial.
  diff_mode:
    support: full
    description: Shows what differs from the release in force, and from the unit as systemd has it.
seealso:
  - module: nearby.mirrors.cache_health
"""

EXAMPLES = r"""
- name: Put a configuration in force
  nearby.mirrors.release:
    path: /etc/nearby-mirror
    state_path: /var/lib/nearby-mirror
    files:
      mirror.conf: "{{ configuration }}"
      engine.json: "{{ engine | to_json }}"
      nearby-mirror.service: "{{ unit }}"
    trial:
      mirror.conf: "{{ configuration_of_the_trial }}"
"""

RETURN = r"""
release:
  description: Name of the release, which C(/health) tells in the header C(X-Release); empty for O(state=absent).
  type: str
  returned: always
  sample: 5f2b4c0d9a7e1f36
before:
  description: Name of the release that was in force before, empty if there was none.
  type: str
  returned: always
  sample: 0c9d1e2f3a4b5c6d
"""

import contextlib
import datetime
import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nearby.mirrors.plugins.module_utils.release import (
    Bare,
    Deploy,
    Refused,
    Releases,
    Systemd,
    differences,
    locked,
    stands,
    take_down,
)


def who(deployer: str) -> str:
    """The deploy, for whoever finds the lock held."""
    started = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")
    origin = os.environ.get("SSH_CONNECTION", "").split(" ")[0]
    by = f" by {deployer}" if deployer else ""
    return f"process {os.getpid()}, begun {started}{by}{f' from {origin}' if origin else ''}"


def main() -> None:
    os.umask(0o022)  # the server's user reads what is made here
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "path": {"type": "path", "required": True},
            "state_path": {"type": "path", "required": True},
            "files": {"type": "dict", "default": {}},
            "trial": {"type": "dict", "default": {}},
            "user": {"type": "str", "default": "www-data"},
            "systemd": {"type": "bool", "default": True},
            "verify": {"type": "bool", "default": True},
            "upstream_ca_path": {"type": "path", "default": ""},
            "keep": {"type": "int", "default": 3},
            "lock_timeout": {"type": "int", "default": 300},
            "deployer": {"type": "str", "default": ""},
        },
        required_if=[("state", "present", ("files", "trial"))],
        supports_check_mode=True,
    )
    given = module.params
    releases, service = Releases(given["path"]), Systemd() if given["systemd"] else Bare()
    result = {"changed": False, "release": "", "before": releases.current}
    wait = contextlib.nullcontext()
    if not module.check_mode and os.path.isdir(given["state_path"]):
        wait = locked(os.path.join(given["state_path"], "lock"), given["lock_timeout"], who(given["deployer"]))
    try:
        with wait:
            before = result["before"] = releases.current
            if given["state"] == "absent":
                result["changed"] = (stands if module.check_mode else take_down)(releases, service)
                module.exit_json(**result)
            files, trial = ({path: str(text) for path, text in given[option].items()} for option in ("files", "trial"))
            options = {name: given[name] for name in ("state_path", "user", "verify", "upstream_ca_path", "keep")}
            deploy = Deploy(releases=releases, service=service, files=files, trial=trial, **options)
            result["release"] = deploy.name
            if module._diff:
                result["diff"] = differences({**releases.read(before), **service.unit()}, before, files)
            result["changed"] = deploy.pending if module.check_mode else deploy()
    except Refused as error:
        module.fail_json(msg=" ".join(str(error).split()).rstrip(".") + ".", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
