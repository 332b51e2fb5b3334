# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What configure_mirrors writes for npm, pnpm and yarn, and that it is put back."""

from __future__ import annotations

from pathlib import Path

import pytest
from node_lab import document, make_control, snapshot, write_files

SITE = {"name": "npm", "type": "npm", "path": "/npm/", "index": "/npm/", "upstream": "https://registry.example.org"}
URL = "http://mirror.test:8080/npm/"
FILES = {"system": ["etc/npmrc", "usr/etc/npmrc", "usr/local/etc/npmrc"], "user": ["home/ci/.npmrc"]}
ENVIRONMENT = {"system": "etc/nearby-mirrors/environment", "user": "home/ci/.config/nearby-mirrors/environment"}


@pytest.mark.parametrize("scope", FILES)
def test_npm_is_pointed_at_the_mirror_and_put_back(tmp_path: Path, scope: str) -> None:
    control, root = make_control(tmp_path), tmp_path / "root"
    write_files(root, {FILES[scope][0]: (0o600, "; ours\nregistry = https://old.test/\n@a:registry=https://a.test/\nfund=false\n")})
    before = snapshot(root)
    given = {"configure_mirrors_root": str(root), "configure_mirrors_scope": scope, "configure_mirrors_home": "/home/ci"}
    hosts = {"n": given | {"configure_mirrors_document": document(sites=[SITE])}}
    run = control.play("nodes", hosts)
    assert run.code == 0 and "the registry of @a is kept, and npm takes its packages from there" in run.output
    configured = snapshot(root)
    for path in FILES[scope]:
        settings = [line for line in (root / path).read_text().splitlines() if not line.startswith("#")]
        there = ["; ours", "@a:registry=https://a.test/", "fund=false"] if path == FILES[scope][0] else []
        assert settings == [f"registry={URL}", "omit-lockfile-registry-resolved=true", *there]
    variables = dict(line.split("=", 1) for line in (root / ENVIRONMENT[scope]).read_text().splitlines() if line[:1] != "#")
    assert variables == {
        "NEARBY_MIRROR": "http://mirror.test:8080",
        "NPM_CONFIG_REGISTRY": URL,
        "NPM_CONFIG_OMIT_LOCKFILE_REGISTRY_RESOLVED": "true",
        "YARN_NPM_REGISTRY_SERVER": URL,
        "YARN_UNSAFE_HTTP_WHITELIST": "mirror.test",
    }
    assert not control.play("nodes", hosts).changed("n") and snapshot(root) == configured
    assert control.play("nodes", hosts, extra={"configure_mirrors_state": "absent"}).code == 0
    assert snapshot(root) == before
