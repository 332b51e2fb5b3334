# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""The tests, by what they need. All run in the environment that `make setup-test` made."""

from __future__ import annotations

from pathlib import Path

import nox

nox.options.default_venv_backend = "none"
nox.options.stop_on_first_error = True
PYTHON_CODE = ("plugins", "tests", "benchmark", "molecule", "tools", "noxfile.py")
# Pages are fresh for a second, and the machine may be busy: up to five rows that fail run again, and the summary tells what was wrong.
AGAIN = ("--reruns", "1", "--max-suite-reruns", "5", "--rerun-show-tracebacks", "--rerun-except", "from pytest-timeout")


def pytest(session: nox.Session, folder: str, *options: str) -> None:
    """The tests of a folder, or those that are named."""
    named = any(argument.startswith("tests/") for argument in session.posargs)
    session.run("pytest", *([] if named else [folder]), *options, *session.posargs)


@nox.session
def lint(session: nox.Session) -> None:
    """Form and types; needs nothing."""
    session.run("ruff", "check", *PYTHON_CODE)
    session.run("ruff", "format", "--check", *PYTHON_CODE)
    session.run("mypy", "plugins/module_utils")
    session.run("yamllint", "--strict", ".")
    session.run("ansible-lint", "--offline", "--profile", "production")
    session.run("ansible-galaxy", "collection", "build", "--force", "--output-path", ".cache/archive")
    (archive,) = Path(".cache/archive").glob("*.tar.gz")
    session.run("ansible-galaxy", "collection", "install", "--force", "--offline", "--collections-path", ".cache/installed", str(archive))
    installed = {"ANSIBLE_COLLECTIONS_PATH": str(Path(".cache/installed").resolve())}
    session.run("ansible-doc", "--type", "role", "--list", "nearby.mirrors", env=installed)
    session.run("ansible-playbook", "--syntax-check", "nearby.mirrors.quickstart", env=installed)


@nox.session
def unit(session: nox.Session) -> None:
    """Logic; needs no network."""
    pytest(session, "tests/unit")


@nox.session
def static(session: nox.Session) -> None:
    """What can be told of the rendered configurations without running them; needs the web servers."""
    pytest(session, "tests/static")


@nox.session
def behaviour(session: nox.Session) -> None:
    """What an HTTP client sees, on loopback; needs the web servers."""
    pytest(session, "tests/behaviour", "--ignore", "tests/behaviour/protocols", *AGAIN)


@nox.session
def protocols(session: nox.Session) -> None:
    """The same for each registry's own protocol; these mostly wait, so they run side by side."""
    pytest(session, "tests/behaviour/protocols", "-n", "7", "--dist", "loadfile", *AGAIN)


@nox.session
def nodes(session: nox.Session) -> None:
    """The role configure_mirrors against folders; needs nothing."""
    pytest(session, "tests/nodes")


@nox.session
def deploy(session: nox.Session) -> None:
    """The role mirror on this machine; needs root."""
    pytest(session, "tests/deploy")


@nox.session
def scrub(session: nox.Session) -> None:
    """The module scrub on real stores, on loopback; needs the web servers."""
    pytest(session, "tests/scrub")


@nox.session
def quickstart(session: nox.Session) -> None:
    """The README's first command on fresh machines; needs root, containers and PyPI."""
    pytest(session, "tests/quickstart")


@nox.session
def molecule(session: nox.Session) -> None:
    """Real hosts; needs root and containers."""
    session.run("molecule", "test", "--all", *session.posargs)


@nox.session
def faults(session: nox.Session) -> None:
    """Faults under load, on real hosts, the most telling ones; needs root and containers. `make faults` has all of them."""
    session.run("python", "tests/faults/run.py", *(session.posargs or ["--quick"]))


@nox.session
def clients(session: nox.Session) -> None:
    """Real clients and registries through a mirror on this machine; needs root."""
    pytest(session, "tests/clients")
