# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""RPM repositories as dnf and zypper read them: any number of them in one tree, each with its ``repodata/``.

Source: createrepo_c(8) and dnf.conf(5). Links are relative to the repository, so nothing is rewritten.
"""

from __future__ import annotations

from .ecosystem import Ecosystem, Route

# Name, version, release, architecture. What has no version in its name, such as the newest release of something, changes.
PACKAGE = r"[^/]+-[0-9][^/-]*-[^/-]+\.[^/.-]+\.d?rpm"

RPM = Ecosystem(
    type="rpm",
    index="",
    together=True,
    mirror_info=("fedora", "epel", "opensuse"),
    page="{}/repodata/repomd.xml",
    routes=(
        Route("artifact", "artifact", "", match=rf"(?:.+/)?(?:repodata/[0-9a-f]{{32,128}}-[^/]+|{PACKAGE})"),
        # repomd.xml, its signature, and what it names without a digest: files of one generation, so none may outlive another.
        Route("repodata", "index", "", match=r"(?:.+/)?repodata/[^/]+", lifetime=1),
        Route("rest", "index", ""),
    ),
)
