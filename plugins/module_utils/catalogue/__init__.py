# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Every ecosystem that a mirror can offer. Adding one is a file beside this one, and its name here."""

from __future__ import annotations

from .cargo import CARGO
from .deb import DEB
from .ecosystem import Ecosystem, Representation, Route
from .gem import GEM
from .generic import GENERIC
from .golang import GOLANG
from .maven import MAVEN
from .npm import NPM
from .oci import OCI
from .pypi import PYPI
from .rpm import RPM

ECOSYSTEMS: dict[str, Ecosystem] = {
    ecosystem.type: ecosystem for ecosystem in (PYPI, NPM, DEB, RPM, GOLANG, CARGO, MAVEN, GEM, OCI, GENERIC)
}

__all__ = ["ECOSYSTEMS", "Ecosystem", "Representation", "Route"]
