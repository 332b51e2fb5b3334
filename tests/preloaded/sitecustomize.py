# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Every module brings Ansible's own half of it as source, and compiles it: a third of its processor time. Here it is there, compiled."""

from __future__ import annotations

import contextlib

with contextlib.suppress(ImportError):  # a Python of Debian's that a module has itself run by has none
    import ansible.module_utils.basic  # noqa: F401
