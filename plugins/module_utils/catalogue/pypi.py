# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""PyPI and indexes of its kind.

Simple repository API: PEP 503, 629, 658, 691, 700, 714, 740, 792 (packaging.python.org/specifications).
"""

from __future__ import annotations

from .ecosystem import Ecosystem, Representation, Route

JSON = "application/vnd.pypi.simple.v1+json"
V1_HTML = "application/vnd.pypi.simple.v1+html"

PYPI = Ecosystem(
    type="pypi",
    index="simple/",
    probe="pip",
    lifetime=300,
    linked=True,
    link_prefixes=('href="', '"url":"', '"url": "'),
    serial_header="X-PyPI-Last-Serial",
    mirror_info="pypi",
    representations=(
        Representation("json", (JSON, "application/vnd.pypi.simple.latest+json"), f"{JSON}, {V1_HTML};q=0.2, text/html;q=0.1"),
        Representation("v1html", (V1_HTML, "application/vnd.pypi.simple.latest+html"), f"{V1_HTML}, text/html;q=0.1"),
        Representation("html", ("text/html", "text/*", "*/*"), "text/html"),
    ),
    routes=(
        Route("simple", "index", "simple/", links="all", negotiated=True),
        Route("integrity", "index", "integrity/"),
        Route("project", "index", "pypi/", links="files", match=r"[^/]+(?:/[^/]+)?/json"),
        Route("artifact", "artifact", "", match=r".+\.(?:whl|tar\.gz|tar\.bz2|zip|egg|exe|msi)(?:\.metadata|\.asc)?"),
    ),
)
