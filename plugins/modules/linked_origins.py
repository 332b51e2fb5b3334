#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: linked_origins
author: The nearby.mirrors founders (!UNKNOWN)
version_added: 0.1.0
short_description: Tells which origins a registry's index links to
description:
  - Asks each registry for the index page of one project, and tells to which origins its absolute links lead, and which
    representations it offers. A registry of type V(cargo) tells in C(config.json) where its crates are.
  - Asks an archive of the type V(deb) whether it has the suites of its site, and what components these have.
  - It runs on the mirror, because what counts is what the mirror can reach.
  - If a registry cannot be read it fails, and says which variable to set instead.
options:
  sites:
    description: The sites to look at.
    type: list
    elements: dict
    required: true
    suboptions:
      name:
        description: Name of the site.
        type: str
        required: true
      type:
        description:
          - Package-url type of the site. Only indexes of the types V(pypi), V(npm) and V(cargo) link to other origins.
          - A registry of the type V(oci) has to let everybody pull; with O(sites[].probe), that image.
        type: str
        required: true
      upstream:
        description: Base URL of the registry, above C(simple/) or C(config.json).
        type: str
        required: true
      index_url:
        description: Where a registry of the type V(pypi) has its index. If it is empty, C(simple/) below O(sites[].upstream) is taken.
        type: str
        default: ''
      probe:
        description:
          - A project that the registry has. If it is empty, V(pip) is taken for a site of type V(pypi).
          - For V(oci) an image, as C(repository:tag). If it is empty, whether everybody may pull is told by whether everybody is given a
            token.
        type: str
        default: ''
      suites:
        description: Suites that a registry of the type V(deb) has to have.
        type: list
        elements: str
        default: []
extends_documentation_fragment:
  - nearby.mirrors.http
  - nearby.mirrors.http.read_only
  - ansible.builtin.action_common_attributes
seealso:
  - module: nearby.mirrors.cache_health
"""

EXAMPLES = r"""
- name: Find out where the index keeps its files
  nearby.mirrors.linked_origins:
    sites:
      - name: pypi
        type: pypi
        upstream: https://index.example.org
        probe: sampleproject
  register: discovered
"""

RETURN = r"""
sites:
  description: What was found, by the name of the site. A site that was not looked at because an earlier one failed is missing.
  type: dict
  returned: always
  contains:
    origins:
      description:
        - The origins of absolute links that lead out of the upstream, as C(scheme://host[:port]), the one with the most links first,
          by name among equals.
        - The upstream's own origin comes last, and is there only if links lead to it beside the upstream's path.
      type: list
      elements: str
      sample: [https://files.example.org]
    representations:
      description: Which of V(json), V(v1html) and V(html) the registry answers with when it is asked for them.
      type: list
      elements: str
      sample: [json, v1html, html]
    components:
      description: What the suites of an archive have, as their Release files say.
      type: list
      elements: str
      sample: [main, contrib]
    vendor:
      description: The C(Origin) in the Release of an archive's first suite, in small letters.
      type: str
      sample: debian
  sample:
    pypi:
      origins: [https://files.example.org]
      representations: [json, v1html, html]
      components: []
      vendor: ""
"""

import dataclasses

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nearby.mirrors.plugins.module_utils.discovery import DiscoveryError, discover
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client


def main() -> None:
    site = {
        "name": {"type": "str", "required": True},
        "type": {"type": "str", "required": True},
        "upstream": {"type": "str", "required": True},
        "index_url": {"type": "str", "default": ""},
        "probe": {"type": "str", "default": ""},
        "suites": {"type": "list", "elements": "str", "default": []},
    }
    module = AnsibleModule(
        argument_spec={
            "sites": {"type": "list", "elements": "dict", "required": True, "options": site},
            "ca_path": {"type": "path", "default": ""},
            "timeout": {"type": "float", "default": 30},
        },
        supports_check_mode=True,
    )
    client = Client(ca_path=module.params["ca_path"], timeout=module.params["timeout"])
    found: dict = {}
    for given in module.params["sites"]:
        try:
            found[given["name"]] = dataclasses.asdict(discover(client, given))
        except DiscoveryError as error:
            module.fail_json(msg=str(error), changed=False, sites=found)
    module.exit_json(changed=False, sites=found)


if __name__ == "__main__":
    main()
