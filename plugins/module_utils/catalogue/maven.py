# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Maven repositories, such as Maven Central. They have no links, so nothing is rewritten.

Source: Maven, "Repository Layout" and "Repository Metadata"; Maven Resolver, "About Checksums".
"""

from __future__ import annotations

from .ecosystem import Ecosystem, Route

# A file of a release is named after the folders that it is in (groups are numbered from 2, see Route).
RELEASE = r"(?:[^/]+/)+([^/]+)/([^/]+)/\2-\3[.-][^/]+"
SNAPSHOT = r"(?:[^/]+/)+[^/]*SNAPSHOT/[^/]+"
METADATA = r"(?:.+/)?maven-metadata\.xml(?:\.[^/]+)?"

MAVEN = Ecosystem(
    type="maven",
    index="",
    probe="junit/junit",
    page="{}/maven-metadata.xml",
    routes=(
        # What changes has its checksums and its signature beside it, under URLs of their own: all are revalidated each second, so
        # that they fit together about as soon as they do upstream.
        Route("changing", "index", "", match=f"{METADATA}|{SNAPSHOT}", lifetime=1),
        Route("release", "artifact", "", match=RELEASE),
        Route("other", "index", ""),
    ),
)
