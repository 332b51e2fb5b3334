# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A table of nodes goes through one story: check mode, configured, again, another mirror, put back, again."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import yaml
from node_lab import BIN, ROOT, Control, Mirror, Run, Story, Told, document, filled, make_control, snapshot, write_files

TASKS_AT_MOST = 8
SHELLS = {"shell", "command", "raw", "script", "expect"}
SYSTEM = ["etc/nearby-mirrors/environment", "etc/pip.conf", "etc/profile.d/nearby-mirrors.sh", "etc/uv/uv.toml"]
USER = [".config/nearby-mirrors/environment", ".config/nearby-mirrors/environment.sh", ".config/pip/pip.conf", ".config/uv/uv.toml"]
THERE = {
    "etc/pip.conf": (0o640, "# ours\n[global]\ncert = /etc/ssl/our.pem\ntrusted-host = a.test\nindex-url = https://x.test/simple\n"),
    "etc/uv/uv.toml": (0o600, 'offline = false\n[pip]\nstrict = true\n[[index]]\nurl = "https://x.test/simple"\ndefault = true\n'),
    "etc/profile.d/nearby-mirrors.sh": (0o755, "export MINE=1\n"),
    "etc/hostname": (0o644, "node\n"),
}
GO = {"name": "golang", "type": "golang", "path": "/golang/", "index": "/golang/", "upstream": "https://proxy.example.org"}
CARGO = {"name": "cargo", "type": "cargo", "path": "/cargo/", "index": "/cargo/", "upstream": "https://crates.example.org"}
MAVEN = {"name": "maven", "type": "maven", "path": "/maven/", "index": "/maven/", "upstream": "https://repository.example.org/maven2"}
GEMS = {"name": "gem", "type": "gem", "path": "/gem/", "index": "/gem/", "upstream": "https://my-gems.example.org"}
INFO = {"pypi": {"url": "MIRROR/pypi/simple"}}


@dataclass(frozen=True)
class Node:
    """`variables` and `base` are filled as those of a Told.

    `wanted` are files that name the index of Python's packages, `further` others that are written.
    """

    variables: dict
    files: dict = field(default_factory=dict)
    wanted: tuple = tuple(SYSTEM)
    base: str = "MIRROR"
    further: tuple = ("etc/environment",)


NODES = {
    "fresh": Node({"configure_mirrors_url": "MIRROR"}),
    "settled": Node({"configure_mirrors_url": "MIRROR/"}, THERE),
    "document": Node({"configure_mirrors_document": document("https://mirror.test/a")}, base="https://mirror.test/a"),
    "go": Node({"configure_mirrors_document": document(sites=[*document()["sites"], GO])}, base="http://mirror.test:8080"),
    "go-info": Node({"mirror_info": {**INFO, "golang": {"url": "MIRROR/golang"}}}),
    "gem": Node(
        {"configure_mirrors_document": document(sites=[*document()["sites"], GEMS])},
        {"etc/gemrc": (0o644, ":sources:\n- https://my-gems.example.org/\n- https://x.test/\ngem: --no-document\n")},
        base="http://mirror.test:8080",
        further=("etc/environment", "etc/gemrc"),
    ),
    "both": Node({"configure_mirrors_document": document(), "configure_mirrors_url": "MIRROR"}),
    "fqdn": Node({"mirror_fqdn": "ADDRESS", "zuul_site_mirror_fqdn": "wrong.test"}),
    "site-fqdn": Node({"zuul_site_mirror_fqdn": "ADDRESS", "mirror_use_ssl": False}),
    "info": Node({"mirror_info": INFO, "zuul_site_mirror_info": {}}),
    "site-info": Node({"zuul_site_mirror_info": INFO}),
    "user": Node({"configure_mirrors_url": "MIRROR", "configure_mirrors_scope": "user"}, wanted=tuple(USER), further=()),
    "image-user": Node(
        {"configure_mirrors_url": "MIRROR", "configure_mirrors_scope": "user", "configure_mirrors_home": "/home/ci"},
        {"home/ci/.config/pip/pip.conf": (0o600, "[global]\ntimeout = 9\n")},
        wanted=tuple("home/ci/" + path for path in USER),
        further=(),
    ),
}


each_node = pytest.mark.parametrize("name", NODES)


@each_node
def test_check_mode_shows_all_and_changes_nothing(told: Story, name: str) -> None:
    assert told.runs["check"].changed(name)
    assert told.after["check"] == told.after["before"]
    shown = [diff["after_header"] for record in told.runs["check"].of(name) for diff in record["result"].get("diff") or []]
    assert len(shown) == len(NODES[name].wanted) + len(NODES[name].further)


@each_node
def test_every_client_is_pointed_at_the_mirror(told: Story, name: str, mirror: Mirror) -> None:
    base = filled(NODES[name].base, mirror)
    for path in NODES[name].wanted:
        assert base + "/pypi/simple/" in told.text("configured", name, path), path
    environment = told.text("configured", name, NODES[name].wanted[0]).splitlines()
    assert "NEARBY_MIRROR=" + str(base) in environment
    assert f"PIP_INDEX_URL={base}/pypi/simple/" in environment
    assert f"UV_DEFAULT_INDEX={base}/pypi/simple/" in environment
    assert "extra-index-url" not in "".join(told.text("configured", name, path) for path in NODES[name].wanted)


@pytest.mark.parametrize(
    ("name", "expected"),
    [("go", "http://mirror.test:8080/golang|https://proxy.example.org,direct"), ("go-info", "MIRROR/golang,direct"), ("fresh", "")],
)
def test_go_falls_back_to_what_the_mirror_mirrors(told: Story, name: str, expected: str, mirror: Mirror) -> None:
    value = str(filled(expected, mirror))
    lines = told.text("configured", name, "etc/nearby-mirrors/environment").splitlines()
    assert [line for line in lines if line.startswith("GO")] == [f"GOPROXY={value}"] * bool(value)
    session = told.text("configured", name, "etc/environment")
    assert [shlex.split(line) for line in session.splitlines() if line.startswith("GO")] == [[f"GOPROXY={value}"]] * bool(value)
    script = told.text("configured", name, "etc/profile.d/nearby-mirrors.sh") + 'echo "$GOPROXY"'
    shell = subprocess.run(["sh", "-euc", "GOPROXY=\n" + script], capture_output=True, text=True, check=True)
    assert shell.stdout == value + "\n"


GO_ENV = "home/ci/.config/go/env"
CARGOS = {"system": ".cargo/config.toml", "user": "home/ci/.cargo/config.toml"}
THEIRS = '# ours\n[source.crates-io]\nreplace-with = "corp"\n[source.corp]\ndirectory = "/corp"\n[net]\nretry = 9\n'
TOLD = {
    f"cargo-{scope}": Told(
        {
            "configure_mirrors_scope": scope,
            "configure_mirrors_home": "/home/ci",
            "configure_mirrors_document": document(sites=[CARGO]),
        },
        {path: (0o600, THEIRS)},
    )
    for scope, path in CARGOS.items()
}
OTHER = {"configure_mirrors_document": document("https://other.test"), "configure_mirrors_url": ""}
TOLD["go-user"] = Told(
    {
        "configure_mirrors_scope": "user",
        "configure_mirrors_home": "/home/ci",
        "configure_mirrors_document": document(sites=[GO]),
    },
    {GO_ENV: (0o600, "GOFLAGS=-mod=mod\nGOPROXY=off\n")},
)
TOLD |= {name: Told(node.variables, node.files, OTHER, at_home=name == "user") for name, node in NODES.items()}


def test_go_of_one_user_reads_a_file(told: Story) -> None:
    written = told.text("configured", "go-user", GO_ENV)
    assert written == "GOPROXY=http://mirror.test:8080/golang|https://proxy.example.org,direct\nGOFLAGS=-mod=mod\n"
    assert told.after["put back"]["go-user"] == told.after["before"]["go-user"]


@pytest.mark.parametrize("scope", CARGOS)
def test_cargos_source_is_replaced_and_put_back(told: Story, scope: str) -> None:
    name = f"cargo-{scope}"
    nearby = {"registry": "sparse+http://mirror.test:8080/cargo/"}
    assert tomllib.loads(told.text("configured", name, CARGOS[scope])) == {
        "source": {"corp": {"directory": "/corp"}, "crates-io": {"replace-with": "nearby"}, "nearby": nearby},
        "net": {"retry": 9},
    }
    assert not told.runs["again"].changed(name) and told.after["again"][name] == told.after["configured"][name]
    assert told.after["put back"][name] == told.after["before"][name]


def test_ruby_asks_the_mirror_for_what_it_mirrors_and_others_for_theirs(told: Story) -> None:
    read = yaml.safe_load(told.text("configured", "gem", "etc/gemrc"))
    assert read == {":sources": ["http://mirror.test:8080/gem/", "https://x.test/"], "gem": "--no-document"}
    lines = told.text("configured", "gem", "etc/nearby-mirrors/environment").splitlines()
    assert [line for line in lines if line.startswith("BUNDLE")] == [
        "BUNDLE_MIRROR__MY___GEMS__EXAMPLE__ORG=http://mirror.test:8080/gem/",
        "BUNDLE_MIRROR__MY___GEMS__EXAMPLE__ORG__FALLBACK_TIMEOUT=3",
    ]


@each_node
def test_only_a_mirror_without_tls_is_trusted_by_name(told: Story, name: str, mirror: Mirror) -> None:
    base = urlsplit(str(filled(NODES[name].base, mirror)))
    for path in NODES[name].wanted:
        if "uv.toml" not in path:
            lines = told.text("configured", name, path).lower().replace("_", "-").splitlines()
            trusting = any("trusted-host" in line and base.netloc in line for line in lines)
            assert trusting == (base.scheme == "http"), path


@each_node
def test_nothing_changes_the_second_time(told: Story, name: str) -> None:
    assert told.runs["configured"].changed(name)
    assert not told.runs["again"].changed(name)
    assert told.after["again"] == told.after["configured"]


@each_node
def test_another_mirror_replaces_the_first_without_a_trace(told: Story, name: str, mirror: Mirror) -> None:
    for path in NODES[name].wanted:
        text = told.text("moved", name, path)
        assert "https://other.test/pypi/simple/" in text
        assert mirror.address not in text


@each_node
def test_all_is_put_back_byte_for_byte(told: Story, name: str) -> None:
    assert told.runs["put back"].changed(name)
    assert told.after["put back"][name] == told.after["before"][name]
    assert not told.runs["put back again"].changed(name)
    assert told.after["put back again"][name] == told.after["before"][name]


@each_node
@pytest.mark.parametrize("step", ["configured", "again", "put back"])
def test_few_tasks_run_and_none_is_a_shell(told: Story, name: str, step: str) -> None:
    done = told.runs[step].done(name)
    assert 0 < len(done) <= TASKS_AT_MOST
    assert len(told.runs[step].of(name)) <= TASKS_AT_MOST, "counting the skipped ones, too"
    assert not SHELLS & {record["action"].rpartition(".")[2] for record in done}


def test_what_was_there_goes_on_working(told: Story) -> None:
    after = told.after["configured"]["settled"]
    pip, uv = after["etc/pip.conf"], after["etc/uv/uv.toml"]
    assert pip[0].endswith("640")
    assert uv[0].endswith("600")
    assert pip[3].decode().startswith("# ours\n[global]\ncert = /etc/ssl/our.pem\ntrusted-host = a.test ")
    assert "strict = true" in uv[3].decode()
    assert "PIP_TRUSTED_HOST=a.test 127." in told.text("configured", "settled", SYSTEM[0])


# -- real clients -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def baked(tmp_path_factory) -> Path:
    """An image with a pip.conf of its own, configured for `http://mirror.test:8080` from a document alone."""
    control = make_control(tmp_path_factory.mktemp("baked"))
    root = control.folder / "root"
    write_files(root, {"etc/pip.conf": (0o644, "[global]\ncert = /etc/ssl/our.pem\ntrusted-host = a.test\n")})
    (control.folder / "mirror.json").write_text(json.dumps(document()))
    given = {"configure_mirrors_root": str(root), "configure_mirrors_document_file": str(control.folder / "mirror.json")}
    run = control.play("bake", {}, extra=given)
    assert run.code == 0, run.output
    assert len(run.of("localhost")) <= TASKS_AT_MOST
    return root


@pytest.fixture
def node(baked: Path, tmp_path: Path) -> tuple[Control, Path]:
    """A copy of the image, to be broken at will."""
    return make_control(tmp_path), Path(shutil.copytree(baked, tmp_path / "root"))


def through(mirror: Mirror) -> dict[str, str]:
    """The environment in which `mirror.test` is the mirror."""
    return {"http_proxy": mirror.url, "HTTP_PROXY": mirror.url}


def asked_since(mirror: Mirror, start: int) -> list[str]:
    base = "http://mirror.test:8080/pypi"
    asked = mirror.asked[start:]
    assert base + "/simple/sample/" in asked
    assert base + "/files/sample-1.0-py3-none-any.whl" in asked
    return asked


def test_pip_reads_its_file(node: tuple[Control, Path], mirror: Mirror) -> None:
    control, root = node
    conf, start = str(root / "etc/pip.conf"), len(mirror.asked)
    shown = control.client(sys.executable, "-m", "pip", "config", "list", PIP_CONFIG_FILE=conf)
    assert "global.cert='/etc/ssl/our.pem'" in shown
    assert "global.index-url='http://mirror.test:8080/pypi/simple/'" in shown
    assert "global.trusted-host='a.test mirror.test:8080'" in shown
    conf_text = (root / "etc/pip.conf").read_text()
    (root / "etc/pip.conf").write_text(conf_text.replace("cert = /etc/ssl/our.pem\n", ""))
    download = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--dest", control.folder / "got", "sample"]
    control.client(*download, PIP_CONFIG_FILE=conf, **through(mirror))
    asked_since(mirror, start)

    (root / "etc/pip.conf").write_text("[global]\nindex-url = http://mirror.test:8080/pypi/simple/\n")
    with pytest.raises(AssertionError, match="trusted"):
        control.client(*download, PIP_CONFIG_FILE=conf, **through(mirror))


def test_uv_reads_its_file(node: tuple[Control, Path], mirror: Mirror) -> None:
    control, root = node
    start = len(mirror.asked)
    install = [BIN / "uv", "pip", "install", "--no-cache", "--python", sys.executable, "--target", control.folder / "got", "sample"]
    control.client(*install, UV_CONFIG_FILE=str(root / "etc/uv/uv.toml"), **through(mirror))
    asked_since(mirror, start)


def test_both_read_the_shell_file(node: tuple[Control, Path], mirror: Mirror) -> None:
    control, root = node
    script = '. "$1"; shift; exec "$@"'
    shell = ["sh", "-euc", script, "sh", root / "etc/profile.d/nearby-mirrors.sh"]
    commands = [
        [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--dest", control.folder / "got", "sample"],
        [BIN / "uv", "pip", "install", "--no-cache", "--python", sys.executable, "--target", control.folder / "got", "sample"],
    ]
    for command in commands:
        start = len(mirror.asked)
        control.client(*shell, *command, PIP_CONFIG_FILE="/dev/null", UV_NO_CONFIG="1", **through(mirror))
        asked_since(mirror, start)
    assert control.client(*shell, "printenv", "PIP_TRUSTED_HOST") == "a.test mirror.test:8080\n"


def test_in_a_users_home_both_find_their_files(mirror: Mirror, tmp_path: Path) -> None:
    control = make_control(tmp_path)
    hosts = {"n": {"configure_mirrors_document": document(), "configure_mirrors_scope": "user"}}
    assert control.play("nodes", hosts).code == 0
    for command in (
        [sys.executable, "-m", "pip", "download", "--no-deps", "--no-cache-dir", "--dest", control.folder / "got", "sample"],
        [BIN / "uv", "pip", "install", "--no-cache", "--python", sys.executable, "--target", control.folder / "got", "sample"],
    ):
        start = len(mirror.asked)
        control.client(*command, **through(mirror))
        asked_since(mirror, start)


def test_an_image_is_put_back_from_inside(node: tuple[Control, Path]) -> None:
    """The booted image has another root; here it is a copy, which comes to the same."""
    control, root = node
    given = {"configure_mirrors_root": str(root), "configure_mirrors_state": "absent"}
    assert control.play("bake", {}, extra=given).code == 0
    assert sorted(str(path.relative_to(root)) for path in root.rglob("*")) == ["etc", "etc/pip.conf"]
    assert (root / "etc/pip.conf").read_text() == "[global]\ncert = /etc/ssl/our.pem\ntrusted-host = a.test\n"


# -- what must not happen ---------------------------------------------------------------------------------------------

DEAD = "http://127.0.0.1:1"
CANNOT = "The mirror cannot be used, so nothing was changed on this node: "
LEFT = {
    "refused": ({"configure_mirrors_url": DEAD}, "GET http://127.0.0.1:1/mirror.json failed: the connection was refused."),
    "no-document": ({"configure_mirrors_url": "MIRROR/none"}, "MIRROR/none/mirror.json answered 404, not a mirror document."),
    "later": ({"configure_mirrors_url": "MIRROR/later"}, "MIRROR/later/mirror.json has version 2, and this release"),
    "useless": (
        {"configure_mirrors_url": "MIRROR/useless"},
        "has no site that a client on this node can use (supported: pypi, npm, golang, rpm, cargo, maven, deb, gem, oci).",
    ),
    "dead-index": ({"configure_mirrors_url": "MIRROR/broken"}, "GET MIRROR/broken/pypi/simple/pip/ answered 502."),
    "dead-fqdn": ({"mirror_fqdn": "127.0.0.1:1"}, "the connection was refused."),
    "dead-info": ({"mirror_info": {"pypi": {"url": DEAD + "/simple"}}}, "GET http://127.0.0.1:1/simple/pip/ failed"),
}
REFUSED = {
    "unknown": ({}, "no mirror is known for this node: set configure_mirrors_url"),
    "no-scheme": ({"configure_mirrors_url": "mirror.test"}, "configure_mirrors_url is 'mirror.test', which has no scheme"),
    "credentials": ({"configure_mirrors_url": "http://u:p@mirror.test"}, "configure_mirrors_url has credentials in it"),
    "later-document": ({"configure_mirrors_document": document(version=2)}, "configure_mirrors_document has version 2"),
    "useless-document": ({"configure_mirrors_document": document(sites=[])}, "no site that a client on this node can use"),
    "scope": ({"configure_mirrors_url": "MIRROR", "configure_mirrors_scope": "all"}, "must be one of: system, user, got: all"),
    "unknown-type": ({"configure_mirrors_document": document(), "configure_mirrors_except": ["deb", "apt"]}, "Got no match for: apt"),
    "no-home": (
        {"configure_mirrors_document": document(), "configure_mirrors_scope": "user"},
        "set configure_mirrors_home; nothing was changed.",
    ),
    "odd-pip-conf": ({"configure_mirrors_document": document()}, "/etc/pip.conf is not a configuration that pip reads"),
    "odd-settings": (
        {"configure_mirrors_document": document(sites=[*document()["sites"], MAVEN])},
        "/etc/maven/settings.xml is not well-formed XML (",
    ),
    "required": ({"configure_mirrors_url": DEAD, "configure_mirrors_required": True}, "The mirror cannot be used: GET"),
    "required-info": (
        {"configure_mirrors_info": {"pypi": {"url": DEAD + "/index/internal/simple"}}, "configure_mirrors_required": True},
        "The mirror cannot be used: GET http://127.0.0.1:1/index/internal/simple/pip/ failed",
    ),
}
ODD = {"odd-pip-conf": ("etc/pip.conf", "cert = /etc/ssl/our.pem\n"), "odd-settings": ("etc/maven/settings.xml", "<settings>\n")}


@pytest.fixture(scope="module")
def refusals(mirror: Mirror, tmp_path_factory) -> tuple[Run, dict[str, dict], dict[str, dict]]:
    control = make_control(tmp_path_factory.mktemp("refusals"))
    hosts, roots = {}, {}
    for name, (variables, _sentence) in {**LEFT, **REFUSED}.items():
        roots[name] = control.folder / name
        write_files(roots[name], THERE)
        if name in ODD:
            write_files(roots[name], {ODD[name][0]: (0o644, ODD[name][1])})
        hosts[name] = {"configure_mirrors_root": str(roots[name]), **filled(variables, mirror)}
    before = {name: snapshot(root) for name, root in roots.items()}
    run = control.play("nodes", hosts)
    return run, before, {name: snapshot(root) for name, root in roots.items()}


@pytest.mark.parametrize("name", LEFT)
def test_an_unusable_mirror_leaves_the_node_and_says_why(refusals, name: str, mirror: Mirror) -> None:
    run, before, after = refusals
    said = [record["result"]["msg"] for record in run.done(name) if record["action"].endswith("debug")]
    assert not run.failure(name)
    assert len(said) == 1
    assert said[0].startswith(CANNOT)
    assert filled(LEFT[name][1], mirror) in said[0]
    assert "\n" not in said[0]
    assert after[name] == before[name]


def test_a_variable_that_means_nothing_is_told(mirror: Mirror, tmp_path: Path) -> None:
    """And nothing more, since others may have variables that begin so."""
    control = make_control(tmp_path)
    (tmp_path / "node").mkdir()
    given = {"configure_mirrors_root": str(tmp_path / "node"), "configure_mirrors_url": mirror.url, "configure_mirrors_ulr": "x"}
    run = control.play("nodes", {"node": given})
    assert run.code == 0, run.output
    (said,) = [record["result"]["msg"] for record in run.done("node") if record["action"].endswith("debug")]
    assert said.startswith("configure_mirrors_ulr: no variable of the role configure_mirrors; ")


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_sentence_and_changes_nothing(refusals, name: str) -> None:
    run, before, after = refusals
    record = next(record for record in run.of(name) if record["status"] == "failed")
    message = " ".join(record["result"].get("argument_errors", [record["result"]["msg"]]))
    assert REFUSED[name][1] in message
    assert name not in ODD or message.startswith("/etc/") and message.endswith("; nothing was changed.")
    assert "\n" not in message
    assert "u:p" not in message
    assert after[name] == before[name]


def test_baking_never_configures_this_host(tmp_path: Path) -> None:
    control = make_control(tmp_path)
    run = control.play("bake", {}, extra={"configure_mirrors_document": document()})
    assert run.code != 0
    assert run.failure("localhost").startswith("Set configure_mirrors_root to the folder that holds the image's file system")


def test_the_tasks_of_a_zuul_job_come_by_a_new_connection() -> None:
    """sshd gives what /etc/environment says to those that begin after it was written; the connections here are local ones."""
    (play,) = yaml.safe_load((ROOT / "playbooks/zuul/pre.yml").read_text())
    assert play["post_tasks"][-1]["ansible.builtin.meta"] == "reset_connection"


def test_a_zuul_job_goes_on_whatever_its_mirror_does(mirror: Mirror, tmp_path: Path) -> None:
    control = make_control(tmp_path)
    given = {"none": {}, "dead": {"zuul_site_mirror_fqdn": "127.0.0.1:1"}, "well": {"zuul_site_mirror_fqdn": mirror.address}}
    for name in given:
        (tmp_path / name / "etc").mkdir(parents=True)
    hosts = {name: {"configure_mirrors_root": str(tmp_path / name), **variables} for name, variables in given.items()}
    run = control.play("zuul.pre", hosts)
    assert run.code == 0, run.output
    assert (tmp_path / "well/etc/pip.conf").exists()
    assert not (tmp_path / "dead/etc/pip.conf").exists()
    assert not (tmp_path / "none/etc/pip.conf").exists()
    assert run.done("none") == []
