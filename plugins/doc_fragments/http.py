# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Options of everything that asks over HTTP, and what all can say that only ask."""

from __future__ import annotations


class ModuleDocFragment:
    DOCUMENTATION = r"""
options:
  ca_path:
    description:
      - The CA certificates to trust, as a PEM file or a directory of hashed ones.
      - They replace the host's bundle, which is used if this is empty. Certificates are always verified.
    type: path
    default: ''
  timeout:
    description: Seconds that each request may take, from the connection to the last byte.
    type: float
    default: 30
notes:
  - C(http_proxy), C(https_proxy) and the like are ignored. A mirror is next to whoever asks it, and the mirror's web
    server asks upstream without a proxy as well.
"""

    READ_ONLY = r"""
attributes:
  check_mode:
    support: full
    description: It changes nothing, so check mode makes no difference.
  diff_mode:
    support: N/A
    description: It changes nothing.
  platform:
    platforms: posix
    support: full
"""
