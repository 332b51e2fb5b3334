# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
from __future__ import annotations

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.scrub import REGISTRIES

ONE, LONG = "1" * 64, "a" * 128


@pytest.mark.parametrize(("path", "digests"), [
    (f"library/app/blobs/sha256:{ONE}", {"sha256": ONE}),
    (f"app/manifests/sha256:{ONE}", {"sha256": ONE}),
    (f"app/manifests/sha256%3A{ONE}", {"sha256": ONE}),
    (f"app/blobs/sha512:{LONG}", {"sha512": LONG}),
    (f"app/blobs/blake3:{ONE}", {}),
    (f"app/blobs/sha256:{ONE}/more", {}),
    ("app/manifests/one", {}),
])  # fmt: skip
def test_a_path_holds_its_digest(path, digests):
    assert REGISTRIES["oci"].named(f"/v2/images/{path}") == digests
