#!/usr/bin/python
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

DOCUMENTATION = r"""
module: scrub
author: The nearby.mirrors founders (!UNKNOWN)
version_added: 0.1.0
short_description: Checks what a mirror stores, and removes what is not what the registry has
description:
  - No web server checks again what it has stored. This does, on the mirror's host, below the running server.
  - It reads each stored artifact, and compares its digest with what the registry says, asked directly and not through the mirror, with
    what the operator's lock files say, or with the digest that is its name. What does not match is purged, so that the next client gets
    it from upstream again.
  - An artifact without a digest from one of them is V(unknown), and left alone. Nothing is purged because upstream is away.
  - It can be stopped at any moment, and the next run goes on where it stopped. A run that has looked at everything ends a round, and the
    next one begins anew.
  - What tells an artifact's digest depends on the site's type. Of V(pypi), V(npm), V(cargo) and V(gem) it is the page of its project, of
    V(maven) the file beside it, of V(golang) its record in the checksum database, each of which is asked for once in a run. In V(oci),
    and of metadata in V(deb) and V(rpm), it is the path itself; packages of these are compared with the lists of packages that are stored
    under such a path, which are read for a fifth of the time at most. Sites of type V(generic) are checked against lock files only.
  - Pages of an index have no digest anywhere. One that contradicts itself is purged, for a registry that says that nothing has changed
    keeps it in place for ever. A page in gzip has a checksum, others have a length or have to be JSON. Pages come first and take a tenth
    of the time at most; the next run goes on with those that were left, or begins with the first again.
options:
  document:
    description: The mirror document, as a path or a URL. It tells which sites the mirror has, and its engine.
    type: str
    default: /etc/nearby-mirror/current/www/mirror.json
  sites:
    description:
      - The sites, instead of those of the mirror document.
      - Takes entries of a mirror document or of the P(nearby.mirrors.sites#lookup) lookup. O(engine) is required with it.
    type: list
    elements: dict
  engine:
    description: The web server that stores the artifacts. By default what the mirror document says.
    type: str
    choices: [nginx, apache]
  cache_path:
    description: The role's C(mirror_cache_path).
    type: path
    default: /var/cache/nearby-mirror
  lock_files:
    description:
      - Files on the mirror's host with digests to compare with, before the registry is asked.
      - Requirements or constraints of pip with C(--hash=sha256:), as C(pip-compile --generate-hashes) and C(uv export) write them;
        C(package-lock.json) and C(npm-shrinkwrap.json) of npm; C(Cargo.lock); C(go.sum); C(Gemfile.lock) with checksums, which Bundler
        keeps from 2.6 on.
      - An artifact of a pinned release has to have one of its digests. If it has none of them, the registry decides, since a lock file may
        leave files of a release out. With O(upstream_check=false) it is bad.
      - Lists of C(sha256sum) or C(sha512sum), whose names are paths on the mirror. An artifact that is listed has to have that digest.
    type: list
    elements: path
    default: []
  upstream_check:
    description: Whether to ask the registries. If not, artifacts are checked against what O(lock_files) and their own names say.
    type: bool
    default: true
  report_only:
    description: Whether to tell what is bad, and purge nothing. It begins with the first artifact then, and does not touch O(state_file).
    type: bool
    default: false
  fail_on_bad:
    description: Fail where as many artifacts and pages are bad, after purging them. V(0) never fails because of that.
    type: int
    default: 0
  time_limit:
    description:
      - Seconds after which a run ends, not counting the end of a request that is under way. V(0) is no limit.
      - A run that cannot even list the store in that time fails.
    type: int
    default: 3600
  read_rate:
    description: Bytes of artifacts and pages to read in a second, at most. V(0) is no limit.
    type: bytes
    default: 50M
  request_rate:
    description: Requests to upstream in a second, at most. V(0) is no limit.
    type: float
    default: 5
  state_file:
    description: Where a run leaves to the next one how far it got. Only one run at a time can have it.
    type: path
    default: /var/lib/nearby-mirror/scrub.json
extends_documentation_fragment:
  - nearby.mirrors.http
  - ansible.builtin.action_common_attributes
attributes:
  check_mode:
    support: full
    description: As with O(report_only).
  diff_mode:
    support: none
  platform:
    platforms: posix
    support: full
seealso:
  - module: nearby.mirrors.cache_health
"""

EXAMPLES = r"""
- name: Look for half an hour, and go on from there the next time
  nearby.mirrors.scrub:
    time_limit: 1800

- name: Only tell, and fail if anything is bad
  nearby.mirrors.scrub:
    report_only: true
    fail_on_bad: 1

- name: Compare with the lock files of our own projects, while the registry cannot be reached
  nearby.mirrors.scrub:
    lock_files: [/etc/nearby-mirror/constraints.txt]
    upstream_check: false
"""

RETURN = r"""
sites:
  description: What was found at each site, in the order in which they are looked at.
  type: list
  elements: dict
  returned: always
  contains:
    site:
      description: Name of the site.
      type: str
      sample: pypi
    stored:
      description: How many artifacts are stored of it.
      type: int
      sample: 5400
    looked_at:
      description: How many of them this run looked at.
      type: int
      sample: 1201
    good:
      description: Their digest is the right one.
      type: int
      sample: 1180
    bad:
      description: They have another digest, or are not what they say of themselves.
      type: int
      sample: 1
    unknown:
      description: There is nothing to compare them with. See RV(unknown_because).
      type: int
      sample: 12
    incomplete:
      description: Not all their parts are stored, so they cannot be checked.
      type: int
      sample: 8
    remaining:
      description: How many are left of this round.
      type: int
      sample: 4199
    pages:
      description: How many pages of its index this run looked at. They are in none of the numbers before.
      type: int
      sample: 310
    bad_pages:
      description: How many of these contradict themselves.
      type: int
      sample: 0
    after:
      description: The artifact after which the next run goes on; empty where the round is over.
      type: str
      sample: /pypi/files/packages/01/23/4567/demo-1.0.tar.gz
    message:
      description: What upstream said when it could not be asked; empty otherwise.
      type: str
      sample: ''
bad:
  description: The bad artifacts and pages, those also that a run found which was killed before it could tell.
  type: list
  elements: dict
  returned: always
  contains:
    site:
      description: Name of the site.
      type: str
      sample: pypi
    path:
      description: Path on the mirror.
      type: str
      sample: /pypi/files/packages/01/23/4567/demo-1.0.tar.gz
    reason:
      description: What is wrong.
      type: str
      sample: upstream has another digest
    expected:
      description: The right digest, or several of which one is; empty where what is stored contradicts itself.
      type: str
      sample: sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08
    found:
      description: The digest of what is stored; empty where none was looked for.
      type: str
      sample: sha256:60303ae22b998861bce3b28f33eec1be758a213c86c93c076dbe9f558c11c752
    purged:
      description: Whether it is gone.
      type: bool
      sample: true
unknown_because:
  description: How many artifacts and pages could not be judged, and how many files not be read, for which reason.
  type: dict
  returned: always
  sample: {upstream tells no digest of it: 12}
complete:
  description: Whether the round is over at every site.
  type: bool
  returned: always
  sample: false
stopped:
  description: Why the run ended early; empty, if it did not.
  type: str
  returned: always
  sample: the time limit ended
bytes_read:
  description: Bytes of artifacts and pages that were read.
  type: int
  returned: always
  sample: 1288490188
requests:
  description: Requests that upstream was sent.
  type: int
  returned: always
  sample: 210
seconds:
  description: How long the run took.
  type: float
  returned: always
  sample: 60.0
summary:
  description: All that in one sentence.
  type: str
  returned: always
  sample: 'pypi: 1201 looked at, 1180 good, 1 bad, 12 unknown, 8 incomplete, 4199 to go, 0 of 310 pages bad; the time limit ended'
"""

import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.nearby.mirrors.plugins.module_utils.http import Client
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import (
    LISTING,
    REGISTRIES,
    STORES,
    BadInput,
    Clock,
    Pace,
    Scrub,
    State,
    Upstream,
    read_document,
    read_locks,
    read_sites,
)


def prepare(given: dict[str, Any], client: Client, purge: bool) -> Scrub:
    """Raises BadInput."""
    if given["sites"] is None:
        engine, sites = read_document(given["document"], client)
    else:
        engine, sites = "", read_sites(given["sites"], "sites")
    engine = given["engine"] or engine
    if engine not in STORES:
        raise BadInput(f"the engine {engine!r} is not known; set engine to one of {', '.join(STORES)}")
    store = STORES[engine](given["cache_path"])
    if not os.path.isdir(store.root):
        raise BadInput(f"there is no folder {store.root}; set cache_path to the mirror's own")
    locks = read_locks(given["lock_files"], REGISTRIES)
    state = State(given["state_file"] if purge else "", time.monotonic)
    state.load()
    clock = Clock(given["time_limit"])
    upstream = Upstream(client, Pace(given["request_rate"], clock)) if given["upstream_check"] else None
    return Scrub(store, sites, state, clock, Pace(given["read_rate"], clock), upstream, locks, purge)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "document": {"type": "str", "default": "/etc/nearby-mirror/current/www/mirror.json"},
            "sites": {"type": "list", "elements": "dict"},
            "engine": {"type": "str", "choices": list(STORES)},
            "cache_path": {"type": "path", "default": "/var/cache/nearby-mirror"},
            "lock_files": {"type": "list", "elements": "path", "default": []},
            "upstream_check": {"type": "bool", "default": True},
            "report_only": {"type": "bool", "default": False},
            "fail_on_bad": {"type": "int", "default": 0},
            "time_limit": {"type": "int", "default": 3600},
            "read_rate": {"type": "bytes", "default": "50M"},
            "request_rate": {"type": "float", "default": 5},
            "state_file": {"type": "path", "default": "/var/lib/nearby-mirror/scrub.json"},
            "ca_path": {"type": "path", "default": ""},
            "timeout": {"type": "float", "default": 30},
        },
        required_by={"sites": ["engine"]},
        supports_check_mode=True,
    )
    given = module.params
    try:
        scrub = prepare(given, Client(ca_path=given["ca_path"], timeout=given["timeout"]), not (given["report_only"] or module.check_mode))
        scrub.run()
    except BadInput as error:
        module.fail_json(msg=f"Nothing was scrubbed: {error}.", **Scrub.nothing())
    except OSError as error:
        module.fail_json(msg=f"The store cannot be read ({error}); run this as root.", **Scrub.nothing())
    result = scrub.report()
    scrub.state.told()
    if scrub.stopped == LISTING:
        module.fail_json(msg=f"Nothing was looked at, for {LISTING}; raise time_limit.", **result)
    bad, stuck = result["bad"], [entry["path"] for entry in result["bad"] if scrub.purge and not entry["purged"]]
    if stuck:
        module.fail_json(msg=f"{len(stuck)} that are bad could not be purged, such as {stuck[0]}; run this as root.", **result)
    if 0 < given["fail_on_bad"] <= len(bad):
        module.fail_json(msg=f"{len(bad)} artifacts or pages were bad, such as {bad[0]['path']}: {result['summary']}.", **result)
    module.exit_json(changed=any(entry["purged"] for entry in bad), **result)


if __name__ == "__main__":
    main()
