# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
name: mirror_document
author: The nearby.mirrors founders
version_added: 0.1.0
short_description: Builds what a mirror says of itself
description: Turns resolved sites into the mirror document that is published at C(/mirror.json).
options:
  _input:
    description: Resolved sites, from P(nearby.mirrors.sites#lookup).
    type: list
    elements: dict
    required: true
  name:
    description: The mirror's name.
    type: str
    required: true
  region:
    description: The region that the mirror serves.
    type: str
    required: true
  url:
    description: The mirror's base URL, without a trailing slash.
    type: str
    required: true
  engine:
    description: The web server that serves.
    type: str
    required: true
  ports:
    description: Ports of sites by their names, in the place of those that the sites have.
    type: dict
"""

EXAMPLES = r"""
- name: Show a mirror document
  ansible.builtin.debug:
    msg: >-
      {{ query('nearby.mirrors.sites', ['pypi'])
         | nearby.mirrors.mirror_document('m1', 'region-a', 'http://m1.example.org', 'nginx') }}
"""

RETURN = r"""
_value:
  description: The mirror document.
  type: dict
"""

from ..module_utils.mirror_document import build


class FilterModule:
    def filters(self):
        return {"mirror_document": build}
