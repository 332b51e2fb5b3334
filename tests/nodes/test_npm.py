# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What configure_mirrors writes for npm, pnpm and yarn, and that it is put back."""

from __future__ import annotations

import pytest
from node_lab import Story, Told, document

SITE = {"name": "npm", "type": "npm", "path": "/npm/", "index": "/npm/", "upstream": "https://registry.example.org"}
URL = "http://mirror.test:8080/npm/"
FILES = {"system": ["etc/npmrc", "usr/etc/npmrc", "usr/local/etc/npmrc"], "user": ["home/ci/.npmrc"]}
ENVIRONMENT = {"system": "etc/nearby-mirrors/environment", "user": "home/ci/.config/nearby-mirrors/environment"}
LOGIN = {"system": "etc/profile.d/nearby-mirrors.sh", "user": "home/ci/.config/nearby-mirrors/environment.sh"}
YARNRC = {"system": ".yarnrc.yml", "user": "home/ci/.yarnrc.yml"}
YARN = f'npmRegistryServer: "{URL}"\nunsafeHttpWhitelist:\n  - "mirror.test"\n'


def variables(told: Story, name: str, path: str) -> dict[str, str]:
    return dict(line.split("=", 1) for line in told.text("configured", name, path).splitlines() if line and line[0] != "#")


THERE = "; ours\nregistry = https://old.test/\n@a:registry=https://a.test/\nfund=false\n"
TOLD = {
    f"npm-{scope}": Told(
        {
            "configure_mirrors_scope": scope,
            "configure_mirrors_home": "/home/ci",
            "configure_mirrors_document": document(sites=[SITE]),
        },
        {paths[0]: (0o600, THERE), "etc/environment": (0o644, 'PATH="/opt/bin:/bin"\n')},
    )
    for scope, paths in FILES.items()
}
PREFIXED = "@corp:registry=https://corp.test/\n"
TOLD["npm-prefix"] = Told({"configure_mirrors_document": document(sites=[SITE])}, {"usr/local/etc/npmrc": (0o600, PREFIXED)})
TOLD["npm-address"] = Told({"configure_mirrors_document": document("http://[fd00::1]:8080", sites=[SITE])})


def test_yarn_trusts_an_address_as_a_whole(told: Story) -> None:
    assert "\nYARN_UNSAFE_HTTP_WHITELIST=[fd00::1]\n" in told.text("configured", "npm-address", ENVIRONMENT["system"])


def test_no_variable_hides_what_an_image_has_told_its_npm(told: Story) -> None:
    for path in "etc/environment", LOGIN["system"], ENVIRONMENT["system"]:
        assert "GLOBALCONFIG" not in told.text("configured", "npm-prefix", path) and "COREPACK" in told.text(
            "configured", "npm-prefix", path
        )
    assert told.text("configured", "npm-prefix", "usr/local/etc/npmrc").endswith(PREFIXED)
    assert "would hide the other options of /usr/local/etc/npmrc, and is not set" in str(told.runs["configured"].of("npm-prefix"))
    assert not told.runs["again"].changed("npm-prefix")
    assert told.after["put back"]["npm-prefix"] == told.after["before"]["npm-prefix"]


@pytest.mark.parametrize("scope", FILES)
def test_npm_is_pointed_at_the_mirror_and_put_back(told: Story, scope: str) -> None:
    name = f"npm-{scope}"
    assert "the registry of @a is kept, and npm takes its packages from there" in str(told.runs["configured"].of(name))
    for path in FILES[scope]:
        settings = [line for line in told.text("configured", name, path).splitlines() if not line.startswith("#")]
        there = ["; ours", "@a:registry=https://a.test/", "fund=false"] if path == FILES[scope][0] else []
        assert settings == [f"registry={URL}", "omit-lockfile-registry-resolved=true", *there]
    assert told.text("configured", name, YARNRC[scope]) == YARN
    assert variables(told, name, ENVIRONMENT[scope]) == {
        "NEARBY_MIRROR": "http://mirror.test:8080",
        "COREPACK_NPM_REGISTRY": URL[:-1],
        "NPM_CONFIG_REGISTRY": URL,
        "NPM_CONFIG_OMIT_LOCKFILE_REGISTRY_RESOLVED": "true",
        "PNPM_CONFIG_REGISTRY": URL,
        "YARN_NPM_REGISTRY_SERVER": URL,
        "YARN_UNSAFE_HTTP_WHITELIST": "mirror.test",
    }
    session = {"NEARBY_MIRROR": "http://mirror.test:8080", "COREPACK_NPM_REGISTRY": URL[:-1]}
    if scope == "system":
        session |= {"NPM_CONFIG_GLOBALCONFIG": "/etc/npmrc", "PNPM_CONFIG_REGISTRY": URL}
        assert variables(told, name, "etc/environment") == {"PATH": '"/opt/bin:/bin"', **session}
    assert {key.removeprefix("export "): value for key, value in variables(told, name, LOGIN[scope]).items()} == session
    assert not told.runs["again"].changed(name) and told.after["again"][name] == told.after["configured"][name]
    assert told.after["put back"][name] == told.after["before"][name]
