# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

from __future__ import annotations

import os
import stat
import sys
from pathlib import Path

import pytest
import yaml
from ansible_collections.nearby.mirrors.plugins.module_utils import client_config
from ansible_collections.nearby.mirrors.plugins.module_utils.apt import merge_apt
from ansible_collections.nearby.mirrors.plugins.module_utils.client_config import (
    ConfigError,
    Keeper,
    Tree,
    merge_cargo,
    merge_gem,
    merge_maven,
    merge_options,
    merge_pip,
    merge_uv,
    merge_yarn,
    remarks,
    with_trusted_hosts,
)

SAVED = "/var/lib/nearby-mirrors/saved"
PIP = "# managed\n[global]\nindex-url = http://m.test/pypi/simple/\ntrusted-host = m.test\n"
PIP_TLS = "[global]\nindex-url = https://n.test/pypi/simple/\n"
UV = '# managed\n[[index]]\nurl = "http://m.test/pypi/simple/"\ndefault = true\n'
CARGO = '# managed\n[source.crates-io]\nreplace-with = "nearby"\n\n[source.nearby]\nregistry = "sparse+http://m.test/cargo/"\n'
SET = "index-url = http://m.test/pypi/simple/\n"
TRUST = "trusted-host = m.test\n"

PIP_ROWS = {
    "nothing there": ("", PIP),
    "other options and comments stay in place": (
        "# mine\n[global]\n; why\ncert = /my.pem\n\n[install]\nuser = no\n",
        "# mine\n[global]\n" + TRUST + SET + "; why\ncert = /my.pem\n\n[install]\nuser = no\n",
    ),
    "an index is replaced where it stood": (
        "[global]\ncert = /my.pem\nindex-url = https://old.test/simple\ntimeout = 9\n",
        "[global]\n" + TRUST + "cert = /my.pem\n" + SET + "timeout = 9\n",
    ),
    "pip's other spellings of a name": (
        "[global]\nIndex_URL: https://old.test/simple\n--index-url = https://older.test/simple\n",
        "[global]\n" + TRUST + SET,
    ),
    "a list is added to": (
        "[global]\ntrusted-host = a.test\n    b.test\n# why\n    c.test\nretries = 1\n",
        "[global]\n" + SET + "trusted-host = a.test b.test c.test m.test\n# why\nretries = 1\n",
    ),
    "indented options are not continuations": (
        "[global]\n  index-url = https://old.test/simple\n  cert = /my.pem\n",
        "[global]\n  " + TRUST + "  " + SET + "  cert = /my.pem\n",
    ),
    "a value over several lines goes as a whole": (
        "[global]\nindex-url =\n  https://old.test/simple\ncert = /my.pem\n",
        "[global]\n" + TRUST + SET + "cert = /my.pem\n",
    ),
    "no such section, no newline at the end": (
        "[install]\nuser = no",
        "[install]\nuser = no\n[global]\n" + TRUST + SET,
    ),
    "windows' line ends": (
        "[global]\r\ncert = /my.pem\r\n",
        "[global]\r\n" + (TRUST + SET).replace("\n", "\r\n") + "cert = /my.pem\r\n",
    ),
    "a per cent sign": ("[global]\nproxy = http://u%40:p@x.test\n", "[global]\n" + TRUST + SET + "proxy = http://u%40:p@x.test\n"),
}

UV_ROWS = {
    "nothing there": ("", UV),
    "keys of the top level stay above the tables": ("offline = false\n", "offline = false\n" + UV),
    "no newline at the end": ("offline = false", "offline = false\n" + UV),
    "tables and their comments stay below": (
        "offline = false\n# about pip\n[pip]\nstrict = true\n",
        "offline = false\n" + UV + "\n# about pip\n[pip]\nstrict = true\n",
    ),
    "another default is kept behind ours": (
        '[[index]]\nurl = "https://old.test/simple"\ndefault = true\n',
        UV + '\n[[index]]\nurl = "https://old.test/simple"\ndefault = true\n',
    ),
    "brackets in an array are no header": (
        'environments = [\n"a",\n]\n[pip]\nstrict = true\n',
        'environments = [\n"a",\n]\n' + UV + "\n[pip]\nstrict = true\n",
    ),
}

CARGO_ROWS = {
    "nothing there": ("", CARGO),
    "all else stays above": ("# mine\n[net]\nretry = 9\n", "# mine\n[net]\nretry = 9\n\n" + CARGO),
    "no newline at the end": ("paths = []", "paths = []\n\n" + CARGO),
    "another replacement makes room, and what it named stays": (
        '[source.crates-io]\nreplace-with = "corp"\n[source.corp]\nregistry = "sparse+https://corp.test/"\n',
        '[source.corp]\nregistry = "sparse+https://corp.test/"\n\n' + CARGO,
    ),
    "tables and comments behind it stay": (
        '[ source . \'crates-io\' ] # why\nreplace-with = "corp"\n# about linux\n[target.\'cfg(target_os = "linux")\']\nlinker = "cc"\n',
        '# about linux\n[target.\'cfg(target_os = "linux")\']\nlinker = "cc"\n\n' + CARGO,
    ),
    "a source of our name": ('[source.nearby]\ndirectory = "vendor"\n\n[net]\nretry = 9\n', "[net]\nretry = 9\n\n" + CARGO),
}

NPM = "# ours\nregistry=http://m.test/npm/\n"
NPM_ROWS = {
    "nothing there": ("", NPM),
    "another registry": ("fund=false\n registry = https://old.test/\n; end\n", NPM + "fund=false\n; end\n"),
    "a scope's registry": ("@a:registry=https://a.test/", NPM + "@a:registry=https://a.test/"),
    "what only begins so": ("registry-x=1\n", NPM + "registry-x=1\n"),
}

MIRROR = (
    "    <mirror>\n      <id>nearby-mirrors</id>\n      <mirrorOf>central</mirrorOf>\n      <url>http://m.test/maven</url>\n    </mirror>\n"
)
MIRRORS = f"  <mirrors>\n{MIRROR}  </mirrors>\n"
MAVEN = f'<!-- managed -->\n<settings xmlns="http://settings.test">\n{MIRRORS}</settings>\n'
THEIRS = "    <mirror><id>a</id><mirrorOf>*</mirrorOf><url>https://a.test</url></mirror>\n"
FORMER = "    <mirror>\n      <url>https://old.test</url>\n      <id> nearby-mirrors </id>\n    </mirror>\n"

MAVEN_ROWS = {
    "nothing there": ("", MAVEN),
    "nothing in it": ("<settings>\n</settings>", f"<settings>\n{MIRRORS}</settings>"),
    "other settings and comments stay in place": (
        "<?xml version='1.0'?>\n<!-- <mirrors> --><settings xmlns='x' >\n  <a>0</a><!-- </settings> -->\n</settings>\n",
        f"<?xml version='1.0'?>\n<!-- <mirrors> --><settings xmlns='x' >\n  <a>0</a><!-- </settings> -->\n{MIRRORS}</settings>\n",
    ),
    "ours is the first": (
        f"<settings>\n  <mirrors>\n{THEIRS}  </mirrors>\n</settings>\n",
        f"<settings>\n  <mirrors>\n{MIRROR}{THEIRS}  </mirrors>\n</settings>\n",
    ),
    "mirrors, but none": ("<settings>\n  <mirrors />\n</settings>\n", f"<settings>\n{MIRRORS}</settings>\n"),
    "ours of an earlier run": (
        f"<settings>\n  <mirrors>\n{THEIRS}{FORMER}  </mirrors>\n</settings>\n",
        f"<settings>\n  <mirrors>\n{MIRROR}{THEIRS}  </mirrors>\n</settings>\n",
    ),
    "an example in a comment": (
        f"<settings>\n  <mirrors>\n    <!--\n{FORMER}    -->\n{THEIRS}  </mirrors>\n</settings>\n",
        f"<settings>\n  <mirrors>\n{MIRROR}    <!--\n{FORMER}    -->\n{THEIRS}  </mirrors>\n</settings>\n",
    ),
    "windows' line ends": (
        "<settings>\r\n</settings>\r\n",
        f"<settings>\r\n{MIRRORS}</settings>\r\n".replace("\r", "").replace("\n", "\r\n"),
    ),
    "another encoding": (
        "<?xml version='1.0' encoding='ISO-8859-1'?>\n<settings><a>\udce9</a></settings>\n",
        f"<?xml version='1.0' encoding='ISO-8859-1'?>\n<settings><a>\udce9</a>{MIRRORS}</settings>\n",
    ),
}

GEM = "# managed\n# In the place of https://gems.test\n:sources:\n- http://m.test/gem/\n"
GEM_ROWS = {
    "nothing there": ("", GEM),
    "all else stays in place": (
        "---\n# mine\n:backtrace: true\ngem: --no-document\n",
        "---\n# mine\n:backtrace: true\ngem: --no-document\n" + GEM,
    ),
    "no newline at the end": (":backtrace: true", ":backtrace: true\n" + GEM),
    "what the mirror stands in for goes, what else there is stays": (
        ":backtrace: true\n:sources:\n- https://gems.test/\n# why\n- https://x.test\n:verbose: true\n",
        ":backtrace: true\n" + GEM + "# why\n- https://x.test\n:verbose: true\n",
    ),
    "indented and quoted": (
        ":sources:\n  - 'https://x.test/' # mine\n  - \"https://gems.test\"\n\n:verbose: true\n",
        GEM + "- 'https://x.test/' # mine\n\n:verbose: true\n",
    ),
    "on one line": (":sources: [https://gems.test/, 'https://x.test']\n", GEM + "- 'https://x.test'\n"),
    "none": (":sources: []\n:verbose: true\n", GEM + ":verbose: true\n"),
    "another one with that beginning": (":sources:\n- https://gems.test.example.org/\n", GEM + "- https://gems.test.example.org/\n"),
    "windows' line ends": (":sources:\r\n- https://gems.test/\r\n:verbose: true\r\n", GEM + ":verbose: true\r\n"),
}

BAD_ROWS = {
    "not YAML": (merge_gem, "<html>\n", GEM, "is not a configuration that gem reads"),
    "one mapping on one line": (merge_gem, "{:sources: [https://x.test]}\n", GEM, "is not a configuration that gem reads"),
    "a source that is no list": (merge_gem, ":sources: https://x.test\n", GEM, "put each of them on a line"),
    "sources twice": (merge_gem, ":sources: []\n:sources: []\n", GEM, "put each of them on a line"),
    "sources over several lines": (merge_gem, ":sources: [https://x.test,\n  https://y.test]\n", GEM, "put each of them on a line"),
    "an alias": (merge_gem, ":sources:\n- *other\n", GEM, "put each of them on a line"),
    "not XML": (merge_maven, "<settings><mirrors></settings>\n", MAVEN, "is not well-formed XML"),
    "no settings": (merge_maven, "<project/>\n", MAVEN, "holds <project>"),
    "settings without an end": (merge_maven, "<settings/>\n", MAVEN, "cannot be merged"),
    "settings with a prefix": (merge_maven, "<s:settings xmlns:s='x'></s:settings>\n", MAVEN, "cannot be merged"),
    "mirrors with an attribute": (merge_maven, f"<settings><mirrors a='b'>{THEIRS}</mirrors></settings>\n", MAVEN, "cannot be merged"),
    "mirrors with an attribute, but none": (merge_maven, "<settings><mirrors a='b'></mirrors></settings>\n", MAVEN, "cannot be merged"),
    "mirrors elsewhere": (merge_maven, "<settings><a><mirrors></mirrors></a></settings>\n", MAVEN, "cannot be merged"),
    "not INI": (merge_pip, "cert = /my.pem\n", PIP, "is not a configuration that pip reads"),
    "an option twice": (merge_pip, "[global]\ncert = a\ncert = b\n", PIP, "is not a configuration that pip reads"),
    "not TOML": (merge_uv, "offline =\n", UV, "is not valid TOML"),
    "an inline index": (merge_uv, 'index = [{url = "https://old.test/simple"}]\n', UV, "write \\[\\[index\\]\\] tables"),
    "not TOML for cargo": (merge_cargo, "offline =\n", CARGO, "is not valid TOML"),
    "a source in one line": (merge_cargo, 'source.crates-io.replace-with = "corp"\n', CARGO, "write its sources as"),
    "a source's header inside a string": (merge_cargo, "a = '''\n[source.nearby]\n'''\n", CARGO, "write its sources as"),
    "a header inside a string": (merge_uv, "cache-dir = '''\n[pip]\n'''\n", UV, "cannot be merged"),
}


@pytest.mark.parametrize(("there", "wanted"), PIP_ROWS.values(), ids=PIP_ROWS)
def test_pip_conf_keeps_what_is_not_ours(there: str, wanted: str) -> None:
    assert merge_pip(there, PIP) == wanted
    assert merge_pip(wanted, PIP, PIP) == wanted, "merging again changes nothing"


@pytest.mark.parametrize(("there", "wanted"), UV_ROWS.values(), ids=UV_ROWS)
def test_uv_toml_keeps_what_is_not_ours(there: str, wanted: str) -> None:
    assert merge_uv(there, UV) == wanted
    assert merge_uv(wanted, UV, UV) == wanted, "merging again changes nothing"


@pytest.mark.parametrize(("there", "wanted"), CARGO_ROWS.values(), ids=CARGO_ROWS)
def test_cargos_file_keeps_what_is_not_ours(there: str, wanted: str) -> None:
    assert merge_cargo(there, CARGO) == wanted
    assert merge_cargo(wanted, CARGO, CARGO) == wanted, "merging again changes nothing"


@pytest.mark.parametrize(("there", "wanted"), NPM_ROWS.values(), ids=NPM_ROWS)
def test_npmrc_keeps_what_is_not_ours(there: str, wanted: str) -> None:
    assert merge_options(there, NPM) == wanted
    assert merge_options(wanted, NPM, NPM) == wanted, "merging again changes nothing"


YARN = 'npmRegistryServer: "http://m.test/npm/"\nunsafeHttpWhitelist:\n  - "m.test"\n'
YARN_ROWS = {
    "nothing there": ("", YARN),
    "settings and comments stay in place": (
        "# ours\nnodeLinker: pnp\n\n# why\nnpmScopes:\n  corp:\n    npmRegistryServer: https://corp.test\n",
        "# ours\nnodeLinker: pnp\n\n# why\nnpmScopes:\n  corp:\n    npmRegistryServer: https://corp.test\n" + YARN,
    ),
    "a registry is replaced, what is said of another setting is not": (
        '---\n"npmRegistryServer": https://old.test\n# of telemetry\nenableTelemetry: false',
        "---\n# of telemetry\nenableTelemetry: false\n" + YARN,
    ),
    "a list is added to": (
        "unsafeHttpWhitelist:\n- a.test # why\n- 'b.test'\nnodeLinker: pnp\n",
        "nodeLinker: pnp\n" + YARN + '  - "a.test"\n  - "b.test"\n',
    ),
    "a list on one line is, too": ('unsafeHttpWhitelist: [m.test, "c.test"]\n', YARN + '  - "c.test"\n'),
}


@pytest.mark.parametrize(("there", "wanted"), YARN_ROWS.values(), ids=YARN_ROWS)
def test_yarnrc_keeps_what_is_not_ours(there: str, wanted: str) -> None:
    assert merge_yarn(there, YARN) == wanted
    assert merge_yarn(wanted, YARN, YARN) == wanted, "merging again changes nothing"
    assert yaml.safe_load(wanted) == (yaml.safe_load(there) or {}) | yaml.safe_load(wanted[wanted.index(YARN) :])


@pytest.mark.parametrize(
    "there",
    [
        "unsafeHttpWhitelist: [\n  a.test\n]\n",
        "unsafeHttpWhitelist: a.test\n",
        "unsafeHttpWhitelist: &hosts\n  - a.test\n",
        "unsafeHttpWhitelist:\n  - {a: b}\n",
        "{nodeLinker: pnp}\n",
        "nodeLinker: pnp\n...\n",
        "nodeLinker: pnp\n---\n",
        "# only\n  indented: 1\n",
        "? nodeLinker\n: pnp\n",
    ],
)
def test_yarnrc_in_another_form_is_left_alone(there: str) -> None:
    with pytest.raises(ConfigError, match="has a form that cannot be merged"):
        merge_yarn(there, YARN)


def test_a_comment_at_the_margin_is_within_what_goes_on_below_it() -> None:
    there = "unsafeHttpWhitelist:\n  - a.test\n# why\n  - b.test\nnpmScopes:\n# of corp\n  corp: {}\n"
    assert merge_yarn(there, YARN) == "npmScopes:\n# of corp\n  corp: {}\n" + YARN + '  - "a.test"\n  - "b.test"\n'


SESSION = "# managed\nGOPROXY='http://m.test/golang|https://p.test,direct'\nNEARBY_MIRROR=http://m.test\n"


@pytest.mark.parametrize(
    ("there", "wanted"),
    [
        ('PATH="/bin"\nexport GOPROXY=off\n# ours', SESSION + 'PATH="/bin"\n# ours'),
        ("GOPROXY = off\r\nLANG=C\r\n", SESSION + "LANG=C\r\n"),
    ],
)
def test_variables_take_the_place_of_those_that_are_there(there: str, wanted: str) -> None:
    assert merge_options(there, SESSION) == wanted
    assert merge_options(wanted, SESSION, SESSION) == wanted


def test_what_was_put_in_is_taken_out_where_something_else_was_edited() -> None:
    edited = SESSION.replace("http://m.test/golang|", "") + "LANG=C\n"
    assert merge_options(edited, "NEARBY_MIRROR=http://n.test\n", SESSION) == (
        "NEARBY_MIRROR=http://n.test\nGOPROXY='https://p.test,direct'\nLANG=C\n"
    )


def test_yarnrc_loses_what_another_mirror_had_put_in() -> None:
    tls = 'npmRegistryServer: "https://n.test/npm/"\n'
    assert merge_yarn("nodeLinker: pnp\n" + YARN + '  - "a.test"\n', tls, YARN) == (
        'nodeLinker: pnp\nunsafeHttpWhitelist:\n  - "m.test"\n  - "a.test"\n' + tls
    )
    assert merge_yarn("nodeLinker: pnp\n" + YARN, tls, YARN) == "nodeLinker: pnp\n" + tls


@pytest.mark.parametrize(("there", "wanted"), MAVEN_ROWS.values(), ids=MAVEN_ROWS)
def test_settings_xml_keeps_what_is_not_ours(there: str, wanted: str) -> None:
    assert merge_maven(there, MAVEN) == wanted
    assert merge_maven(wanted, MAVEN, MAVEN) == wanted, "merging again changes nothing"


@pytest.mark.parametrize(("there", "wanted"), GEM_ROWS.values(), ids=GEM_ROWS)
def test_gemrc_keeps_what_is_not_ours(there: str, wanted: str) -> None:
    assert merge_gem(there, GEM) == wanted
    assert merge_gem(wanted, GEM, GEM) == wanted, "merging again changes nothing"
    read = yaml.safe_load(wanted)
    assert read[":sources"][0] == "http://m.test/gem/" and set(yaml.safe_load(there) or {}) | {":sources"} == set(read)


def test_the_former_mirror_is_no_source_any_more() -> None:
    another = GEM.replace("m.test", "n.test")
    there = yaml.safe_dump({":sources": ["http://m.test/gem/", "https://x.test"], ":verbose": True})  # as gem sources writes it
    assert merge_gem(there, another, GEM) == another + "- https://x.test\n:verbose: true\n"
    assert merge_gem(GEM + ":verbose: true\n", another, GEM) == another + ":verbose: true\n"


@pytest.mark.parametrize(("merge", "there", "ours", "sentence"), BAD_ROWS.values(), ids=BAD_ROWS)
def test_what_cannot_be_merged_is_refused(merge, there: str, ours: str, sentence: str) -> None:
    if merge in (merge_uv, merge_cargo) and sys.version_info < (3, 11):
        pytest.skip("TOML is checked with Python 3.11 and newer")
    with pytest.raises(ConfigError, match=sentence):
        merge(there, ours)


def test_a_merge_that_went_wrong_is_noticed(monkeypatch) -> None:
    monkeypatch.setattr(client_config, "_set_pip_option", lambda lines, key, value: [])
    with pytest.raises(ConfigError, match="cannot be merged"):
        merge_pip("[global]\ncert = /my.pem\n", PIP)


def test_a_mirror_with_tls_takes_the_former_ones_trust_away() -> None:
    there = "[global]\ncert = /my.pem\ntrusted-host = a.test m.test\n"
    assert merge_pip(there, PIP_TLS, PIP) == ("[global]\nindex-url = https://n.test/pypi/simple/\ncert = /my.pem\ntrusted-host = a.test\n")
    assert "trusted-host" not in merge_pip(PIP, PIP_TLS, PIP)


def test_the_variable_trusts_what_the_file_trusts() -> None:
    text = "PIP_TRUSTED_HOST=m.test\nexport PIP_TRUSTED_HOST=m.test\nX=1\n"
    assert with_trusted_hosts(text, ["a.test", "m.test"]) == (
        "PIP_TRUSTED_HOST=a.test m.test\nexport PIP_TRUSTED_HOST='a.test m.test'\nX=1\n"
    )
    assert with_trusted_hosts("X=1\n", ["a.test"]) == "X=1\n"


def test_what_leads_past_the_mirror_is_remarked_on() -> None:
    pip = "[global]\nextra-index-url = https://x.test/\nno-index = 1\n[install]\nindex-url = https://y.test/\n"
    assert len(remarks("/etc/pip.conf", "pip", pip)) == 3
    assert remarks("/etc/pip.conf", "pip", PIP + "no-index = false\n") == []
    assert len(remarks("/etc/gemrc", "gem", GEM + "- https://x.test\n")) == 1
    assert remarks("/etc/gemrc", "gem", GEM) == []
    if client_config.tomllib:
        assert len(remarks("/etc/uv/uv.toml", "uv", 'no-index = true\n[[index]]\nurl = "https://x.test/"\n')) == 2
        assert remarks("/etc/uv/uv.toml", "uv", UV) == []
        assert len(remarks("/.cargo/config.toml", "cargo", "[net]\noffline = true\n" + CARGO)) == 1
        assert remarks("/.cargo/config.toml", "cargo", CARGO) == []


DEB822 = """Types: deb
URIs: http://archive.test/debian
# http://archive.test/debian
Suites: stable stable-updates
Components: main
Signed-By: /usr/share/keyrings/archive.gpg

Types: deb
URIs:
  https://other.test/debian
  http://archive.test/debian-security/
Suites: stable-security
Components: main
"""
ONE_LINE = """# deb http://archive.test/debian stable main
deb [arch=amd64 signed-by=/k.gpg]  https://archive.test/debian/ stable main # http://archive.test/debian
deb-src http://archive.test/debian-security stable-security main"""
CLOUD = "# list\nhttps://archive.test/debian\nhttp://second.test/debian\n"
ARCHIVES = "http://archive.test/debian http://m.test/debian/ debian\nhttp://archive.test/debian-security http://m.test/sec/ sec\n"
OTHERS = "http://else.test/debian http://n.test/debian/ debian\n"
LIST, SECURITY = "mirror+file:/etc/apt/mirrors/nearby-debian.list", "mirror+file:/etc/apt/mirrors/nearby-sec.list"
APT_ROWS = {
    "deb822": (
        DEB822,
        DEB822.replace("URIs: http://archive.test/debian\n", f"URIs: {LIST}\n").replace("http://archive.test/debian-security/", SECURITY),
    ),
    "one line": (
        ONE_LINE,
        ONE_LINE.replace("https://archive.test/debian/", LIST).replace("http://archive.test/debian-security", SECURITY),
    ),
    "a list of mirrors": (CLOUD, CLOUD.replace("https:", "http://m.test/debian/\tpriority:1\nhttps:")),
    "another archive": (DEB822.replace("archive", "else"), DEB822.replace("archive", "else")),
    "no newline, windows' line ends": (
        "URIs: http://archive.test/debian\r\nURIs:http://archive.test/debian",
        f"URIs: {LIST}\r\nURIs:{LIST}",
    ),
    "nothing there": ("", ""),
}


@pytest.mark.parametrize(("there", "wanted"), APT_ROWS.values(), ids=APT_ROWS)
def test_sources_keep_what_is_not_ours(there: str, wanted: str) -> None:
    assert merge_apt(there, ARCHIVES) == wanted
    assert merge_apt(wanted, ARCHIVES, ARCHIVES) == wanted, "merging again changes nothing"


def test_what_is_mirrored_no_longer_is_led_back() -> None:
    assert merge_apt(APT_ROWS["deb822"][1], OTHERS, ARCHIVES) == DEB822.replace("debian-security/", "debian-security")
    assert merge_apt(APT_ROWS["a list of mirrors"][1], OTHERS, ARCHIVES) == CLOUD


def sources(root: Path) -> list[dict]:
    for path, text in {"sources.list": ONE_LINE, "sources.list.d/debian.sources": DEB822, "mirrors/debian.list": CLOUD}.items():
        (root / "etc/apt" / path).parent.mkdir(parents=True, exist_ok=True)
        (root / "etc/apt" / path).write_text(text)
    (root / "etc/apt/sources.list.d/off.list.disabled").write_text(ONE_LINE)
    return [{"path": "/etc/apt", "content": ARCHIVES, "merge": "apt"}]


def test_sources_are_led_to_the_mirror_and_put_back(root: Path) -> None:
    wanted = sources(root)
    before = snapshot(root)
    assert run(root, wanted).warnings == []
    apt = root / "etc/apt"
    assert (apt / "mirrors/nearby-debian.list").read_text() == (
        "http://m.test/debian/\tpriority:1\nhttps://archive.test/debian\tpriority:2\nhttp://archive.test/debian\tpriority:3\n"
    ), "behind the mirror is what the node itself had"
    rows = {"sources.list": "one line", "sources.list.d/debian.sources": "deb822", "mirrors/debian.list": "a list of mirrors"}
    assert {path: (apt / path).read_text() for path in rows} == {path: APT_ROWS[row][1] for path, row in rows.items()}
    assert (apt / "sources.list.d/off.list.disabled").read_text() == ONE_LINE
    assert (apt / "apt.conf.d/90nearby-mirrors").read_text().endswith('Acquire::Retries "0";\n')
    assert not run(root, wanted).changed
    run(root, None)
    assert snapshot(root) == before


def test_sources_that_were_edited_or_removed_since(root: Path) -> None:
    wanted = sources(root)
    run(root, wanted)
    edited, removed = root / "etc/apt/sources.list", root / "etc/apt/sources.list.d/debian.sources"
    edited.write_text(edited.read_text() + "\ndeb http://archive.test/debian new main\n")
    removed.unlink()
    run(root, wanted)
    assert edited.read_text().endswith(f"deb {LIST} new main\n") and edited.read_text().count(LIST) == 2 and not removed.exists()
    assert not run(root, wanted).changed
    run(root, [{**wanted[0], "content": OTHERS}])
    assert "mirror+file" not in edited.read_text() and not (root / "etc/apt/mirrors/nearby-debian.list").exists()
    run(root, None)
    assert edited.read_text() == ONE_LINE and removed.read_text() == DEB822


def test_sources_of_other_archives_are_left_alone_with_a_warning(root: Path) -> None:
    sources(root)
    before = snapshot(root)
    plan = run(root, [{"path": "/etc/apt", "content": OTHERS, "merge": "apt"}])
    assert snapshot(root) == before and not plan.changed
    assert plan.warnings == ["no source of /etc/apt is what the mirror mirrors (http://else.test/debian), so apt does not use it"]
    assert run(root, [{"path": "/etc/apt", "content": "", "merge": "apt"}]).warnings == []
    assert run(root, [{"path": "/etc/none", "content": OTHERS, "merge": "apt"}]).warnings == []


# -- files ----------------------------------------------------------------------------------------------------------


def files(pip: str = PIP, extra: str = "A=1\n") -> list[dict]:
    return [
        {"path": "/etc/pip.conf", "content": pip, "merge": "pip"},
        {"path": "/etc/nearby-mirrors/environment", "content": extra, "merge": "environment"},
    ]


def snapshot(root: Path) -> dict[str, tuple]:
    """Every path below a root with all that has to come back."""
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        content = str(path.readlink()) if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        when = status.st_mtime_ns if path.is_file() and not path.is_symlink() else 0
        found[str(path.relative_to(root))] = (stat.S_IFMT(status.st_mode), status.st_mode, status.st_uid, content, when)
    return found


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path


def run(root: Path, wanted: list[dict] | None):
    keeper = Keeper(Tree(str(root)), SAVED)
    plan = keeper.absent() if wanted is None else keeper.present(wanted)
    keeper.make(plan)
    return plan


def prepare_file(root: Path) -> None:
    (root / "etc/pip.conf").write_bytes(b"[global]\ncert = /\xff.pem")
    (root / "etc/pip.conf").chmod(0o640)
    os.utime(root / "etc/pip.conf", (1, 1))


def prepare_link(root: Path) -> None:
    (root / "opt").mkdir()
    (root / "opt/pip.conf").write_text("[global]\ncert = /my.pem\n")
    (root / "etc/pip.conf").symlink_to("/opt/pip.conf")


def prepare_dangling_link(root: Path) -> None:
    (root / "etc/pip.conf").symlink_to("../nowhere")


PREPARATIONS = [lambda root: None, prepare_file, prepare_link, prepare_dangling_link]


@pytest.mark.parametrize("prepare", PREPARATIONS, ids=["nothing", "file", "link", "dangling link"])
def test_everything_comes_back_after_any_number_of_runs(root: Path, prepare) -> None:
    prepare(root)
    before = snapshot(root)
    assert run(root, files()).changed
    assert not run(root, files()).changed
    assert run(root, files(PIP_TLS, "A=2\n")).changed
    assert "m.test" not in (root / "etc/pip.conf").read_text(errors="surrogateescape")
    assert run(root, files()).changed
    assert SET in (root / "etc/pip.conf").read_text(errors="surrogateescape")
    assert not (root / "etc/pip.conf").is_symlink()
    assert run(root, None).changed
    assert snapshot(root) == before
    assert not run(root, None).changed


def test_a_file_keeps_its_mode_and_a_new_one_can_be_read_by_all(root: Path) -> None:
    prepare_file(root)
    run(root, files())
    assert (root / "etc/pip.conf").stat().st_mode & 0o777 == 0o640
    assert (root / "etc/nearby-mirrors/environment").stat().st_mode & 0o777 == 0o644
    assert (root / "var/lib/nearby-mirrors/saved").stat().st_mode & 0o777 == 0o700


def test_a_file_no_longer_wanted_is_put_back(root: Path) -> None:
    prepare_file(root)
    original = (root / "etc/pip.conf").read_bytes()
    run(root, files())
    run(root, files()[1:])
    assert (root / "etc/pip.conf").read_bytes() == original
    assert (root / "etc/nearby-mirrors/environment").exists()


STOPS = range(1, 5)  # the state, two files, the state


@pytest.mark.parametrize("forget", [False, True], ids=["rerun", "absent"])
@pytest.mark.parametrize("stop", STOPS)
def test_a_run_that_was_cut_short_loses_no_original(root: Path, monkeypatch, stop: int, forget: bool) -> None:
    prepare_file(root)
    (root / "etc/npmrc").write_text("fund=false\n")
    before = snapshot(root)
    npm = {"path": "/etc/npmrc", "content": NPM, "merge": "npm"}
    run(root, [*files(), npm])
    wanted = [file | {"content": "A=2\n"} for file in files()[1:]] + [npm]
    assert len(Keeper(Tree(str(root)), SAVED).present(wanted).changes) == len(STOPS)
    put, left = Tree.put, [stop]

    def cut(self, path, entry):
        put(self, path, entry)
        left[0] -= 1
        if not left[0]:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Tree, "put", cut)
        with pytest.raises(KeyboardInterrupt):
            run(root, wanted)
    if not forget:
        run(root, wanted)
        assert snapshot(root)["etc/pip.conf"] == before["etc/pip.conf"]
        assert (root / "etc/nearby-mirrors/environment").read_text() == "A=2\n"
        assert (root / "etc/npmrc").read_text() == NPM + "fund=false\n"
        assert not run(root, wanted).changed
    run(root, None)
    assert snapshot(root) == before


def test_an_edit_in_between_is_never_lost(root: Path) -> None:
    prepare_file(root)
    before = snapshot(root)
    run(root, files())
    pip, environment = root / "etc/pip.conf", root / "etc/nearby-mirrors/environment"
    pip.write_bytes(pip.read_bytes() + b"\ntimeout = 9\n")
    environment.write_text("B=1\n")
    plan = run(root, files(PIP_TLS))
    assert b"timeout = 9" in pip.read_bytes()
    assert b"m.test" not in pip.read_bytes()
    assert environment.read_text() == "A=1\n"
    kept = root / "etc/nearby-mirrors/environment.edited"
    assert kept.read_text() == "B=1\n"
    assert [warning for warning in plan.warnings if "environment.edited" in warning]

    pip.write_bytes(pip.read_bytes() + b"retries = 1\n")
    plan = run(root, None)
    assert len(plan.warnings) == 1
    assert b"retries = 1" in (root / "etc/pip.conf.edited").read_bytes()
    (root / "etc/pip.conf.edited").unlink()
    kept.unlink()
    kept.parent.rmdir()
    assert snapshot(root) == before


def test_an_edit_outlives_every_later_run(root: Path) -> None:
    prepare_file(root)
    run(root, files())
    pip = root / "etc/pip.conf"
    pip.write_bytes(pip.read_bytes() + b"\ntimeout = 9\n")
    run(root, files(PIP_TLS))
    assert not run(root, files(PIP_TLS)).changed
    run(root, files())
    assert b"timeout = 9" in pip.read_bytes()
    run(root, None)
    assert b"timeout = 9" in (root / "etc/pip.conf.edited").read_bytes()


def test_the_one_of_two_files_that_its_client_reads_is_written(root: Path) -> None:
    gemrc, other = root / "home/.gemrc", root / "home/.config/gem/gemrc"
    wanted = [{"path": "/home/.gemrc", "instead": "/home/.config/gem/gemrc", "content": GEM, "merge": "gem"}]
    run(root, wanted)
    assert gemrc.exists() and not other.exists()
    run(root, None)
    other.parent.mkdir(parents=True)
    other.write_text(":verbose: true\n")
    for _again in range(2):
        run(root, wanted)
        assert other.read_text() == ":verbose: true\n" + GEM and not gemrc.exists()
    run(root, None)
    assert other.read_text() == ":verbose: true\n"
    gemrc.write_text("")
    run(root, wanted)
    assert gemrc.read_text() == GEM and other.read_text() == ":verbose: true\n"


def test_a_removed_file_is_written_again(root: Path) -> None:
    run(root, files())
    (root / "etc/nearby-mirrors/environment").unlink()
    (root / "etc/nearby-mirrors").rmdir()
    run(root, files())
    assert (root / "etc/nearby-mirrors/environment").read_text() == "A=1\n"


def test_folders_with_something_else_in_them_stay(root: Path) -> None:
    run(root, files())
    (root / "etc/nearby-mirrors/mine").write_text("")
    run(root, None)
    assert [str(path.relative_to(root)) for path in root.rglob("*")] == ["etc", "etc/nearby-mirrors", "etc/nearby-mirrors/mine"]


def test_a_plan_changes_nothing(root: Path) -> None:
    prepare_file(root)
    before = snapshot(root)
    plan = Keeper(Tree(str(root)), SAVED).present(files())
    assert [file["action"] for file in plan.files()] == ["written", "written"]
    assert [diff["before_header"] for diff in plan.diff()] == [
        "/etc/pip.conf (0640)",
        "/etc/nearby-mirrors/environment (absent)",
    ]
    assert snapshot(root) == before


def test_a_write_that_fails_undoes_the_others(root: Path, monkeypatch) -> None:
    prepare_file(root)
    before = snapshot(root)
    put = Tree.put

    def full(self, path, entry):
        if path.endswith("environment") and entry.kind == "file":
            raise OSError(28, "No space left on device")
        put(self, path, entry)

    monkeypatch.setattr(Tree, "put", full)
    with pytest.raises(ConfigError, match="/etc/nearby-mirrors/environment cannot be written: No space left"):
        run(root, files())
    assert snapshot(root) == before


def test_nothing_outside_the_root_is_touched(root: Path, tmp_path_factory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    (root / "etc").rmdir()
    (root / "etc").symlink_to(outside)
    with pytest.raises(ConfigError, match="leads out of"):
        run(root, files())
    assert list(outside.iterdir()) == []


def test_a_link_out_of_the_root_is_not_followed(root: Path, tmp_path_factory) -> None:
    outside = tmp_path_factory.mktemp("outside") / "pip.conf"
    outside.write_text("[global]\ncert = /host.pem\n")
    (root / "etc/pip.conf").symlink_to(outside)
    run(root, files())
    assert "host.pem" not in (root / "etc/pip.conf").read_text()
    assert outside.read_text() == "[global]\ncert = /host.pem\n"
    run(root, None)
    assert (root / "etc/pip.conf").readlink() == outside


@pytest.mark.parametrize("text", ["{", '{"version": 2, "files": {}}', '{"version": 1, "files": {"/a": {}}}'])
def test_damaged_bookkeeping_is_refused(root: Path, text: str) -> None:
    run(root, files())
    before = (root / "etc/pip.conf").read_bytes()
    (root / SAVED.lstrip("/") / "state.json").write_text(text)
    for wanted in (files(PIP_TLS), None):
        with pytest.raises(ConfigError, match="state.json"):
            run(root, wanted)
    assert (root / "etc/pip.conf").read_bytes() == before


@pytest.mark.parametrize("bad", ["relative", "/nonexistent/root"])
def test_a_root_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(ConfigError, match="configure_mirrors_root"):
        Tree(bad)


def test_a_file_that_belongs_to_a_client_is_written_where_the_client_is(root: Path) -> None:
    settings = root / "etc/maven/settings.xml"
    wanted = [{"path": "/etc/maven/settings.xml", "content": MAVEN, "merge": "maven", "needs": "/etc/maven/settings.xml"}]
    before = snapshot(root)
    assert not run(root, wanted).changed and snapshot(root) == before
    settings.parent.mkdir()
    settings.write_text("<settings>\n</settings>\n")
    assert run(root, wanted).changed and MIRRORS in settings.read_text()
    settings.unlink()
    settings.parent.rmdir()
    run(root, wanted)
    run(root, None)
    assert not settings.parent.exists(), "with the client, what its file said is gone for good"


def test_every_way_to_merge_is_documented() -> None:
    from ansible_collections.nearby.mirrors.plugins.modules.client_config import DOCUMENTATION

    told = yaml.safe_load(DOCUMENTATION)["options"]["files"]["suboptions"]["merge"]
    assert told["choices"] == list(client_config.MERGES)
    assert [name for name in client_config.MERGES if not any(f"V({name})" in line for line in told["description"])] == []
