#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: mirror_document
short_description: Find out what a mirror offers to this node
version_added: 0.1.0
author: The nearby.mirrors founders (!UNKNOWN)
description:
  - Reads the document of a mirror and says which index a client on this node has to use.
  - Probes the mirror as a client would, so that nothing is written for a mirror that does not answer.
  - Used by the role P(nearby.mirrors.configure_mirrors#role); changes nothing.
attributes:
  check_mode:
    description: Can run in check mode, where it does the same.
    support: full
  diff_mode:
    description: Returns details on what has changed in diff mode.
    support: N/A
options:
  url:
    description:
      - Base URL of the mirror; the document is fetched from C(/mirror.json) below it, from the node.
      - With O(document) as well, nothing is fetched, and the indexes are taken to be below this URL.
    type: str
    default: ''
  document:
    description: The document itself. Neither fetches nor probes, so it needs no network.
    type: dict
    default: {}
  mirror_info:
    description: Zuul's C(mirror_info), used when neither O(document) nor O(url) is given.
    type: dict
    default: {}
  types:
    description: The ecosystems that the clients on this node speak.
    type: list
    elements: str
    default: [pypi]
  left_alone:
    description: Those of O(types) whose clients are not to use the mirror. Their indexes are neither probed nor returned.
    type: list
    elements: str
    default: []
  probe:
    description: Whether to ask every index for its probe project before calling the mirror usable.
    type: bool
    default: true
  timeout:
    description: Seconds that one request may take.
    type: int
    default: 10
  required:
    description: Whether a mirror that cannot be used is an error. A wrong option always is.
    type: bool
    default: false
"""

EXAMPLES = r"""
- name: Find out what the mirror offers
  nearby.mirrors.mirror_document:
    url: http://mirror01.region-a.example.org:8080
  register: found
"""

RETURN = r"""
usable:
  description: Whether the mirror answered as it should.
  returned: always
  type: bool
reason:
  description: In one sentence, why the mirror cannot be used; empty when it can.
  returned: always
  type: str
mirror:
  description: What the mirror offers; empty when it cannot be used.
  returned: always
  type: dict
  contains:
    url:
      description: Base URL, without a trailing slash.
      type: str
    name:
      description: The mirror's name for itself.
      type: str
    indexes:
      description:
        - By ecosystem, the index to use, with the keys C(url), C(host) (with its port, if there is one), C(plain)
          (true where there is no TLS), C(probe) (the project that was asked for) and C(upstream) (what the index is a mirror of,
          if that is known).
        - Where clients use all sites of a type, C(sites) has them, with the keys C(name), C(url), C(upstream), for V(oci) C(registry),
          C(own_url) where one has a port of its own, and C(repositories) where one of type V(rpm) names some.
      type: dict
    left_out:
      description: By ecosystem, what is wrong with an index that does not answer; its clients are not pointed at it, with a warning.
      type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from ansible_collections.nearby.mirrors.plugins.module_utils.mirror_document import BadInput, Unusable, find


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "default": ""},
            "document": {"type": "dict", "default": {}},
            "mirror_info": {"type": "dict", "default": {}},
            "types": {"type": "list", "elements": "str", "default": ["pypi"]},
            "left_alone": {"type": "list", "elements": "str", "default": []},
            "probe": {"type": "bool", "default": True},
            "timeout": {"type": "int", "default": 10},
            "required": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    params = module.params
    result = {"usable": False, "reason": "", "mirror": {}}
    try:
        result["mirror"] = find(
            Client(timeout=params["timeout"]).get,
            params["types"],
            params["url"],
            params["document"],
            params["mirror_info"],
            params["probe"],
            params["left_alone"],
        )
        result["usable"] = True
        for kind, why in result["mirror"]["left_out"].items():
            module.warn(f"The mirror's index for {kind} is left out, and its clients are not pointed at it: {why}.")
    except BadInput as error:
        result["reason"] = str(error)
        module.fail_json(msg=f"{error}; nothing was changed.", **result)
    except Unusable as error:
        result["reason"] = str(error)
        if params["required"]:
            module.fail_json(msg=f"The mirror cannot be used: {error}; nothing was changed.", **result)
    module.exit_json(changed=False, **result)


if __name__ == "__main__":
    main()
