# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The gem registry and indexes of its kind: the compact index, and the index of marshalled specifications that came before it.

Source: the RubyGems guides, "Compact Index API"; the files that `gem generate_index` makes. Neither has links, so nothing is rewritten.
"""

from __future__ import annotations

from .ecosystem import Ecosystem, Route

GEM = Ecosystem(
    type="gem",
    index="",
    probe="rake",
    page="info/{}",
    whole_links=True,
    routes=(
        Route("artifact", "artifact", "", match=r"(?:gems/[^/]+\.gem|quick/Marshal\.4\.8/[^/]+\.gemspec\.rz)"),
        # gem asks for what has changed since it had its copy, not since what it had was made: what changed in between, it never gets.
        Route("specifications", "index", "", match=r"(?:latest_|prerelease_)?specs\.4\.8\.gz", lifetime=60),
        # That the site itself answers tells gem that there is a compact index.
        Route("index", "index", "", match=r"(?:versions|names|info/[^/]+)?"),
    ),
)
