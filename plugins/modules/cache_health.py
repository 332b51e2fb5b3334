#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: cache_health
author: The nearby.mirrors founders (!UNKNOWN)
version_added: 0.1.0
short_description: Proves that a caching mirror is healthy
description:
  - Plays what clients do against a mirror, and gives one verdict for each check.
  - Runs from anywhere that reaches the mirror, such as the controller, a job node or the mirror itself.
  - It fails if one check is bad, and says which. Checks that cannot judge are V(skipped) and say why.
  - Where the mirror refuses something, or cannot refresh it, since its upstream redirects it to an origin that the site does not declare,
    the check says so, and names the origin. Of images it does not, for the program that fetches them follows redirects.
  - Of a site of type V(pypi) it looks at the page of one project, its C(probe), as JSON and as HTML, at its links, its smallest
    file, the file's metadata and provenance, at cache hits, C(HEAD), C(Range) and compression, and at upload times and serials
    next to those of upstream.
  - Of a site of type V(npm) it looks at the document of one package in both representations, whose tarballs have to be on the mirror,
    and at the newest tarball, which has to have the digest that the document tells.
  - Of a site of type V(deb) it looks at the Release of each of its suites, at an index, and at a package, which have to have the digests
    that the archive tells.
  - Of a site of type V(golang) it looks at the list of one module's versions, and at the files of the newest, which have to be
    whole, with the sums that the checksum database tells. Which database that is says C(GOSUMDB), in the environment or by go itself.
  - Of a site of type V(rpm) it looks at one repository of the tree, its C(probe), whose list of packages and one small package have to
    have the digests that the repository tells, and at what it names elsewhere. A list that is packed with zstd is
    read where Python is 3.14 or later, or the program C(zstd) is there.
  - Of a site of type V(cargo) it looks at where C(config.json) leads, which has to be the mirror, at the index file of one crate,
    and at the newest version that is not yanked, which has to have the sum that the index tells.
  - Of a site of type V(maven) it looks at the metadata of one project, next to those of upstream, and at the C(.pom) and C(.jar) of
    its newest release. Each has to have the digest that is in the C(.sha1) beside it.
  - Of a site of type V(gem) it looks at the list of all gems, at the page of one of them, which has to be the one that the list
    tells, and at the gem that came last, which has to have the digest that its page tells.
  - Of a site of type V(oci) it looks at the tag of one image, its C(probe), at its manifest and at its configuration, which have to have
    the digests by which they are named, and at cache hits, C(HEAD) and C(Range). Without a C(probe) it looks whether the mirror says
    that it is a registry of images, and no further.
  - Of a site of type V(generic) it looks at the prefix, and at a file if C(probe) names one.
  - For the types V(npm), V(golang), V(gem) and V(oci) it compares versions and tags, or the digest of the tag, with those of upstream, as
    C(lag). Where they differ and upstream tells neither in the page nor as C(Last-Modified) when it was changed, that is V(skipped),
    and the detail says what differs. It takes one request to upstream, and for V(oci) up to two more for the token that everybody gets.
  - Of a site that has a port of its own it plays one of these there, too, as C(port), with the scheme of O(url).
options:
  url:
    description:
      - Base URL of the mirror, such as V(http://mirror.example.org:8080).
      - Its sites are read from the mirror document, C(/mirror.json), unless O(sites) is given.
    type: str
    required: true
  sites:
    description:
      - The sites to check, instead of those of the mirror document.
      - Takes entries of a mirror document or of the P(nearby.mirrors.sites#lookup) lookup, of which C(name) and C(type) are required,
        and C(path), C(port), C(upstream), C(index), C(probe), C(suites), C(representations), C(origins) and C(routes) are used.
      - Without C(routes) it is not known where the mirror fetches what it has, and so nothing is told of redirects.
    type: list
    elements: dict
  report_only:
    description: Whether to succeed although a check is bad.
    type: bool
    default: false
  upstream_check:
    description:
      - Whether to ask upstream too, to compare files, digests, upload times and serials, and to tell where it redirects what the mirror
        refuses.
      - Where upstream cannot be reached from here, the checks that need it are V(skipped).
    type: bool
    default: true
  upstream_ca_path:
    description: As O(ca_path), but for asking upstream.
    type: path
    default: ''
  max_artifact_size:
    description: The largest file to download, in bytes. If the project has none that is as small, the checks of files are V(skipped).
    type: int
    default: 33554432
  min_certificate_days:
    description: The mirror's certificate is bad if it expires in fewer days.
    type: int
    default: 14
  max_lag:
    description:
      - The mirror is bad if a file that upstream uploaded more than this many seconds ago is not in its index. For npm, golang, gem
        and oci it is bad if its page differs from upstream's, and upstream's was changed more than so many seconds ago.
      - Set more where a site's C(lifetime) is more than half of it.
      - A lag below that is what a cache is for, and is only told in the detail.
    type: int
    default: 3600
extends_documentation_fragment:
  - nearby.mirrors.http
  - nearby.mirrors.http.read_only
  - ansible.builtin.action_common_attributes
seealso:
  - module: nearby.mirrors.linked_origins
"""

EXAMPLES = r"""
- name: Fail unless the mirror is healthy
  nearby.mirrors.cache_health:
    url: http://mirror01.region-a.example.org:8080
  delegate_to: localhost

- name: Look at a mirror whose upstream cannot be reached from here
  nearby.mirrors.cache_health:
    url: https://mirror01.region-a.example.org
    ca_path: /etc/ssl/our-ca.pem
    upstream_check: false
    report_only: true
  register: health

- name: Show what is wrong
  ansible.builtin.debug:
    msg: "{{ health.checks | selectattr('verdict', 'eq', 'bad') }}"
"""

RETURN = r"""
url:
  description: The base URL of the mirror, without a trailing slash.
  type: str
  returned: always
  sample: http://mirror01.region-a.example.org:8080
checks:
  description: All checks in the order in which they ran.
  type: list
  elements: dict
  returned: always
  contains:
    site:
      description: Name of the site; empty for a check of the mirror as a whole.
      type: str
      sample: pypi
    check:
      description: Name of the check.
      type: str
      sample: links
    verdict:
      description: V(good), V(bad), or V(skipped) where the check cannot judge.
      type: str
      sample: good
    detail:
      description: What was found, or why it was skipped.
      type: str
      sample: 4000 in json, 4000 in v1html, 4000 in html
    milliseconds:
      description: How long the check took.
      type: float
      sample: 12.5
bad:
  description: The bad checks, as RV(checks[].site) and RV(checks[].check) with a slash between them.
  type: list
  elements: str
  returned: always
  sample: [pypi/links]
summary:
  description: How many checks had which verdict.
  type: str
  returned: always
  sample: 20 good, 1 bad, 2 skipped
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nearby.mirrors.plugins.module_utils.health import Options, examine
from ansible_collections.nearby.mirrors.plugins.module_utils.http import MEBIBYTE, Client

LOG = "Look at /var/log/nearby-mirror/error.log on the mirror and deploy it again"
URL = "Check the URL, and whether the mirror runs there"


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "url": {"type": "str", "required": True},
            "sites": {"type": "list", "elements": "dict"},
            "report_only": {"type": "bool", "default": False},
            "upstream_check": {"type": "bool", "default": True},
            "ca_path": {"type": "path", "default": ""},
            "upstream_ca_path": {"type": "path", "default": ""},
            "timeout": {"type": "float", "default": 30},
            "max_artifact_size": {"type": "int", "default": 32 * MEBIBYTE},
            "min_certificate_days": {"type": "int", "default": 14},
            "max_lag": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    given = module.params
    base = given["url"].rstrip("/")
    limits = {"timeout": given["timeout"], "max_body": max(64 * MEBIBYTE, given["max_artifact_size"])}
    report = examine(
        Client(ca_path=given["ca_path"], **limits),
        base,
        sites=given["sites"],
        upstream=Client(ca_path=given["upstream_ca_path"], **limits) if given["upstream_check"] else None,
        options=Options(given["max_artifact_size"], given["min_certificate_days"], given["max_lag"]),
    )
    result = {"changed": False, "url": base, "checks": report.checks, "bad": report.bad, "summary": report.summary}
    if report.bad and not given["report_only"]:
        advice = f"{URL if 'health' in report.bad else LOG}, or set report_only to go on all the same."
        module.fail_json(msg=f"The mirror {base} is not healthy: {report.failure}. {advice}", **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
