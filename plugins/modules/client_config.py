#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: client_config
short_description: Write clients' configuration files, or put back what was there before
version_added: 0.1.0
author: The nearby.mirrors founders (!UNKNOWN)
description:
  - Writes the files of all clients in one go; if one cannot be written, none is.
  - Before a file is first changed, its content, mode, owner and time of change are saved, or the fact that it was not
    there, and O(state=absent) puts exactly that back, after any number of runs.
  - What somebody else changed in a file in between is never lost. With O(state=present) it stays in files that are
    merged; a file that is wholly ours is written anew, and the edited one kept beside it as C(<path>.edited).
    O(state=absent) puts the original back and keeps the edited file in the same way. A warning says so.
  - Used by the role P(nearby.mirrors.configure_mirrors#role).
attributes:
  check_mode:
    description: Can run in check mode, where it changes nothing.
    support: full
  diff_mode:
    description: Returns a diff of every file.
    support: full
options:
  state:
    description: Whether the files are configured, or as they were before the first run.
    type: str
    choices: [present, absent]
    default: present
  files:
    description: All files that are wanted; one that was written before and is not among them any more is put back.
    type: list
    elements: dict
    default: []
    suboptions:
      path:
        description: Path of the file; a relative one is below O(home). With O(files[].merge=rpm) its last part may be a pattern.
        type: path
        required: true
      content:
        description: What the file says where there was none before.
        type: str
        required: true
      merge:
        description:
          - How O(files[].content) goes into a file that is there.
          - V(none) replaces it.
          - V(environment) does, too, but keeps trusted what the file merged as V(pip) trusts.
          - V(pip) sets the same options and keeps all other lines; C(trusted-host) is added to.
          - V(uv) adds the C([[index]]) and keeps all other lines.
          - V(npm) and V(variables) set the same options and keep all other lines.
          - V(yarn) sets the same settings, adds to the same lists, and keeps all others.
          - V(rpm) takes lines of an upstream and its mirror's URL, and puts the latter in front of each C(baseurl) below the former. It
            makes no file, and leaves alone repositories with credentials, a C(metalink) or a C(mirrorlist). A line C([<repository>])
            with URLs makes them the C(baseurl) of that repository, where it has such a list, which becomes a comment.
          - V(cargo) adds the tables, in the place of those that have their names, and keeps all others.
          - V(maven) adds the C(<mirror>) and keeps all else.
          - V(apt) is about all sources in the folder O(files[].path), such as C(/etc/apt). Each line of O(files[].content) is an archive,
            the mirror's URL of it, and a name. Sources of the archive are led to a list of mirrors, C(mirrors/nearby-<name>.list), with
            the archive behind the mirror; lists of mirrors that name the archive get the mirror in front. All else stays.
            C(apt.conf.d/90nearby-mirrors) has apt ask the next mirror of a list instead of the same one again.
          - V(containerd) is about the folder O(files[].path), such as C(/etc/containerd/certs.d). Each line of O(files[].content) is the
            name of a registry of images, the mirror's URL of it, and its own URL. The mirror becomes the first host in
            C(<registry>/hosts.toml), and the registry its C(server) where there was no such file; all else stays.
          - V(docker) puts what is in the lists in front of what is there, and keeps all other keys.
          - V(buildkit) adds the tables whose names are not there, and keeps all else.
          - V(gem) puts the source in front of those that are there, and keeps all other lines.
        type: str
        choices: [none, environment, variables, pip, uv, npm, yarn, rpm, cargo, containerd, docker, buildkit, maven, apt, gem]
        default: none
      needs:
        description: This path, or the folder that it is below, such as a client's own; where that is not there, the file is left alone.
        type: path
        default: ''
      instead:
        description: File that is written instead, where it is there and O(files[].path) is not, since its client reads one of them only.
        type: path
        default: ''
      shadowed_by:
        description: Files that, when they exist, the client reads instead of this one; a warning says so.
        type: list
        elements: path
        default: []
  saved:
    description: Folder of the originals; a relative one is below O(home).
    type: path
    required: true
  root:
    description: Folder that holds the file system to configure, such as a chroot; empty for this host's own.
    type: path
    default: ''
  home:
    description: Home that relative paths are below, as seen from inside O(root).
    type: path
    default: ''
"""

EXAMPLES = r"""
- name: Point pip at a mirror
  nearby.mirrors.client_config:
    saved: /var/lib/nearby-mirrors/saved
    files:
      - path: /etc/pip.conf
        merge: pip
        content: |
          [global]
          index-url = https://mirror01.region-a.example.org/pypi/simple/

- name: Put back what was there before
  nearby.mirrors.client_config:
    saved: /var/lib/nearby-mirrors/saved
    state: absent
"""

RETURN = r"""
files:
  description: The files that were changed, in order; empty on failure.
  returned: always
  type: list
  elements: dict
  contains:
    path:
      description: The file, as seen from inside O(root).
      type: str
    action:
      description: V(written), V(restored), V(removed), or V(kept) for an edited file that was put aside.
      type: str
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nearby.mirrors.plugins.module_utils.client_config import MERGES, ConfigError, Keeper, Tree


def home_of(params: dict) -> str:
    """The home that relative paths are below; "" where none of them is. Raises ConfigError."""
    relative = [path for path in [params["saved"], *(file["path"] for file in params["files"])] if path[:1] != "/"]
    if params["home"] or not relative:
        return params["home"]
    if params["root"]:
        raise ConfigError("nobody's home is known below {}: set configure_mirrors_home".format(params["root"]))
    return os.path.expanduser("~")


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": {"type": "path", "required": True},
                    "content": {"type": "str", "required": True},
                    "merge": {"type": "str", "choices": list(MERGES), "default": "none"},
                    "needs": {"type": "path", "default": ""},
                    "instead": {"type": "path", "default": ""},
                    "shadowed_by": {"type": "list", "elements": "path", "default": []},
                },
            },
            "saved": {"type": "path", "required": True},
            "root": {"type": "path", "default": ""},
            "home": {"type": "path", "default": ""},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        keeper = Keeper(Tree(params["root"], home_of(params)), params["saved"])
        plan = keeper.absent() if params["state"] == "absent" else keeper.present(params["files"])
        for warning in plan.warnings:
            module.warn(warning + ".")
        if not module.check_mode:
            keeper.make(plan)
    except ConfigError as error:
        module.fail_json(msg=f"{error}; nothing was changed.", files=[])
    module.exit_json(changed=plan.changed, files=plan.files(), diff=plan.diff())


if __name__ == "__main__":
    main()
