# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PyPI and indexes of its kind.

Simple repository API: PEP 503, 629, 658, 691, 700, 714, 740, 792 (packaging.python.org/specifications).
"""

from __future__ import annotations

from ..simple_api import MEDIA_TYPES, SERIAL_HEADER
from .ecosystem import Ecosystem, Representation, Route

JSON, V1_HTML = MEDIA_TYPES["json"][0], MEDIA_TYPES["v1html"][0]

PYPI = Ecosystem(
    type="pypi",
    index="simple/",
    probe="pip",
    lifetime=300,
    linked=True,
    link_prefixes=('href="', '"url":"', '"url": "'),
    serial_header=SERIAL_HEADER,
    mirror_info=("pypi",),
    representations=(
        Representation("json", MEDIA_TYPES["json"], f"{JSON}, {V1_HTML};q=0.2, text/html;q=0.1"),
        Representation("v1html", MEDIA_TYPES["v1html"], f"{V1_HTML}, text/html;q=0.1"),
        Representation("html", (*MEDIA_TYPES["html"], "text/*", "*/*"), "text/html"),
    ),
    routes=(
        Route("simple", "index", "simple/", links="all", negotiated=True),
        Route("integrity", "index", "integrity/"),
        Route("project", "index", "pypi/", links="files", match=r"[^/]+(?:/[^/]+)?/json"),
        Route("artifact", "artifact", "", match=r".+\.(?:whl|tar\.gz|tar\.bz2|zip|egg|exe|msi)(?:\.metadata|\.asc)?"),
    ),
)
