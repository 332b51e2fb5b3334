# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: sites
author: The nearby.mirrors founders (!UNKNOWN)
version_added: 0.1.0
short_description: Resolves a mirror's sites to routes
description:
  - Turns C(mirror_sites) as an operator writes them into resolved sites, each with its routes.
  - The upstream of a site is its O(ignore:upstream) in the inventory, else for V(deb) one of O(archives), else the type's default
    repository in the package-url type definitions, read from C(packageurl-python).
options:
  _terms:
    description: The sites, as one list of types (strings) and dictionaries.
    required: true
  discovered:
    description: What M(nearby.mirrors.linked_origins) returned in C(sites), by the site's name.
    type: dict
    default: {}
  own_addresses:
    description: Names and addresses of the mirror itself; none of them may be an upstream.
    type: list
    elements: str
    default: []
  own_port:
    description: The mirror's own port.
    type: int
    default: 80
  own_url:
    description: The mirror's own base URL, without a trailing slash, for links in pages whose clients need them whole.
    type: str
    default: ""
  archives:
    description: What M(nearby.mirrors.mirror_preflight) returned in C(archives), for sites of the type V(deb) without an upstream.
    type: list
    elements: dict
    default: []
  fetcher_port:
    description:
      - The port of what fetches for sites that need it, as those of the type V(oci) do.
      - Each has an address of its own in 127.0.0.0/8, which follows from what it is made of.
    type: int
    default: 5801
  fetcher_settings:
    description: What its configuration has besides what differs from site to site. With another one it is another one, at another address.
    type: str
    default: ""
requirements:
  - packageurl-python
"""

EXAMPLES = r"""
- name: Show the routes of a PyPI mirror
  ansible.builtin.debug:
    msg: "{{ lookup('nearby.mirrors.sites', ['pypi'], wantlist=true) }}"
"""

RETURN = r"""
_raw:
  description: The resolved sites, in the order in which they were given.
  type: list
  elements: dict
"""

import sys

from ansible.errors import AnsibleLookupError
from ansible.plugins.lookup import LookupBase

from ..module_utils.sites import SiteError, resolve_sites


def default_upstream(type_name: str) -> str | None:
    """The type's default repository URL in the package-url definitions (ECMA-427)."""
    try:
        from packageurl.validate import DEFINITIONS_BY_TYPE
    except ImportError as error:
        raise AnsibleLookupError(
            f"The library packageurl-python is missing on the controller; run {sys.executable} -m pip install packageurl-python there."
        ) from error
    definition = DEFINITIONS_BY_TYPE.get(type_name)
    return getattr(definition, "default_repository_url", None) or None


class LookupModule(LookupBase):
    def run(self, terms, variables=None, **kwargs):
        self.set_options(var_options=variables, direct=kwargs)
        try:
            return resolve_sites(
                terms[0],
                default_upstream,
                self.get_option("discovered"),
                self.get_option("own_addresses"),
                self.get_option("own_port"),
                self.get_option("own_url"),
                self.get_option("archives"),
                self.get_option("fetcher_port"),
                self.get_option("fetcher_settings"),
            )
        except SiteError as error:
            raise AnsibleLookupError(str(error)) from None  # Ansible would say the sentence again for each cause
