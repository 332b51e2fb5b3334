# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""What an operator and clients see of a mirror on this machine that speaks TLS. Needs root, no network."""

from __future__ import annotations

import http.client
import re
import shutil
import ssl
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench import certificate
from deploying import CONFIG, PORT, RUN, deployed, playbook, quickstart, recap, rotate, start
from registry import Registry

INDEX = "/pypi/simple/sampleproj/"
ENGINES = ("nginx", "apache")
CHECK = {"nginx": ["nginx", "-q", "-t", "-c"], "apache": ["apache2", "-t", "-f"]}


class Certificates:
    """Folders with a certificate and its key, as a program that renews them leaves them; `live` is the mirror's own."""

    def __init__(self, root: Path) -> None:
        self.root = root
        (self.ca, _key), self.issuer = certificate(root, "ca", "Fixture CA")
        for name, given in {"live": {}, "next": {}, "expired": {"days": (-30, -1)}, "stranger": {"name": "another.test"}}.items():
            (root / name).mkdir()
            self.issue(name, **given)

    def issue(self, which: str, name: str = "127.0.0.1", **given: Any) -> None:
        certificate(self.root / which, "mirror", name, self.issuer, **given)

    def settings(self, which: str = "live", key: str = "") -> dict[str, str]:
        return {"mirror_tls_certificate": f"{self.root / which}/mirror.pem", "mirror_tls_key": f"{self.root / (key or which)}/mirror.key"}

    @property
    def live(self) -> bytes:
        return ssl.PEM_cert_to_DER_cert((self.root / "live/mirror.pem").read_text())

    def ask(self, path: str = INDEX) -> tuple[bytes, str, bytes]:
        """The body, the release, and the certificate that was shown, on a connection of its own. Raises OSError, HTTPException."""
        context = ssl.create_default_context(cafile=self.ca)
        connection = http.client.HTTPSConnection("127.0.0.1", PORT, timeout=20, context=context)
        try:
            connection.request("GET", path)
            shown = connection.sock.getpeercert(binary_form=True)
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise http.client.HTTPException(f"{path} answered {answer.status}")
            return body, answer.getheader("X-Release", ""), shown
        finally:
            connection.close()

    def state(self) -> tuple[str, str, str, bytes]:
        """What a deploy that is refused leaves as it is: the process, the release in force, the one that is served, the certificate."""
        _body, release, shown = self.ask("/health")
        return (RUN / "mirror.pid").read_text(), (CONFIG / "current").readlink().name, release, shown


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Certificates:
    return Certificates(tmp_path_factory.mktemp("certificates"))


@pytest.fixture(scope="module")
def site() -> Iterator[dict]:
    with Registry() as registry:
        yield {"type": "pypi", "upstream": registry.index_url, "probe": "sampleproj", "lifetime": 2}


@pytest.fixture(scope="module")
def mirror(certificates: Certificates, site: dict) -> Iterator[None]:
    with deployed(mirror_sites=[site], **certificates.settings()):
        yield


REFUSED = {
    "missing": (("none", ""), "/none/mirror.pem cannot be read (No such file or directory); put the file there, or set it to another one."),
    "mismatched": (("live", "next"), "/next/mirror.key is not that of the first certificate in"),
    "expired": (("expired", ""), "/expired/mirror.pem has expired, on"),
    "of another name": (
        ("stranger", ""),
        "/stranger/mirror.pem is not for 127.0.0.1; get one that is, or correct mirror_fqdn and",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_certificate_that_is_not_right_changes_nothing(mirror: None, certificates: Certificates, site: dict, name: str) -> None:
    which, sentence = REFUSED[name]
    refused(certificates, sentence, mirror_sites=[site], **certificates.settings(*which))


WORDS = {
    "no key": ({"mirror_tls_key": ""}, "Of mirror_tls_certificate and mirror_tls_key one is set and the other one is not"),
    "no certificate": ({"mirror_tls_certificate": ""}, "Of mirror_tls_certificate and mirror_tls_key one is set and the other one is not"),
}


@pytest.mark.parametrize("name", WORDS)
def test_what_does_not_go_together_is_refused(mirror: None, certificates: Certificates, site: dict, name: str) -> None:
    variables, sentence = WORDS[name]
    refused(certificates, sentence, **{"mirror_sites": [site], **certificates.settings(), **variables})


def refused(certificates: Certificates, sentence: str, **variables: object) -> None:
    before = certificates.state()
    result = quickstart(**variables)
    assert result.returncode != 0 and recap(result.stdout)["changed"] == 0, result.stdout
    assert sentence in re.sub(r"\s+", " ", result.stdout + result.stderr), result.stdout
    assert certificates.state() == before


@pytest.mark.parametrize("engine", ENGINES)
def test_a_renewed_certificate_is_taken_over_under_load(mirror: None, certificates: Certificates, site: dict, engine: str) -> None:
    variables = {"mirror_sites": [site], "mirror_engine": engine, **certificates.settings()}
    if engine != ENGINES[0]:
        moved = quickstart(**variables)
        assert moved.returncode == 0, moved.stdout
    same = quickstart(**variables)
    assert same.returncode == 0 and recap(same.stdout)["changed"] == 0, same.stdout
    old, before, page = certificates.live, certificates.state(), certificates.ask()[0]
    seen: list[bytes] = []
    failed: list[str] = []
    done = threading.Event()

    def load() -> None:
        while not done.wait(0.02):  # the deploy is to have its turn, too
            try:
                body, _release, shown = certificates.ask()
                seen.append(shown)
                failed.extend(["another page"] if body != page else [])
            except (OSError, http.client.HTTPException) as error:
                failed.append(repr(error))

    certificates.issue("live")
    clients = [threading.Thread(target=load) for _client in range(4)]
    for client in clients:
        client.start()
    try:
        deploy = start("quickstart", **variables)
        output = deploy.communicate(timeout=280)[0]
        time.sleep(1)
    finally:
        done.set()
        for client in clients:
            client.join()
    print(f"{engine}: {len(seen)} requests, {len(failed)} failed")
    assert deploy.returncode == 0, output
    assert failed == [] and len(seen) > 100
    assert set(seen) == {old, certificates.live} and seen[-1] == certificates.live
    after = certificates.state()
    assert after[0] == before[0] and after[1] == after[2] != before[1], "another release, and the same process"


@pytest.mark.parametrize("engine", ENGINES[::-1])
def test_what_is_not_right_by_then_is_not_reloaded(
    mirror: None, certificates: Certificates, site: dict, engine: str, tmp_path: Path
) -> None:
    """By hand, or where logs are rotated, after the files of a running mirror have been replaced."""
    deploy = quickstart(mirror_sites=[site], mirror_engine=engine, **certificates.settings())
    assert deploy.returncode == 0, deploy.stdout
    command = ["sh", CONFIG / "current/tls.sh", "dated", *CHECK[engine], CONFIG / "current/mirror.conf"]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
    pid = certificates.state()[0]
    for spoilt, sentence in ("next/mirror.key", "is not that of"), ("expired/mirror.pem", "has expired"):
        shutil.copy(certificates.root / spoilt, certificates.root / "live")
        told = subprocess.run(command, capture_output=True, text=True, check=False)
        done = rotate(tmp_path / "state")
        assert done.returncode == (engine == "apache"), done.stderr  # Nginx reads no certificate then
        time.sleep(1)  # an Apache that is told to read them has ended by then
        assert told.returncode == 1 and sentence in told.stderr, told
        assert certificates.state()[0] == pid
        certificates.issue("live")
    for file in (certificates.root / "live").iterdir():
        file.unlink()
    rotate(tmp_path / "state")
    time.sleep(1)
    assert certificates.state()[0] == pid, "both are gone, and so are as alike as a pair"
    certificates.issue("live")


def test_a_running_mirror_goes_to_plain_http_and_back(mirror: None, certificates: Certificates, site: dict) -> None:
    """On the same port, so that for a moment workers of both kinds answer there."""
    for settings, scheme in ({"mirror_use_ssl": True}, "http"), (certificates.settings(), "https"):
        deploy = quickstart(mirror_sites=[site], **settings)
        assert deploy.returncode == 0, deploy.stdout
        assert ("mirror_use_ssl is true, and the mirror speaks http" in re.sub(r"\s+", " ", deploy.stdout)) == (scheme == "http")
        assert f'"{scheme}://' in (CONFIG / "current/www/mirror.json").read_text()


def test_the_verify_playbook_asks_by_https(mirror: None, certificates: Certificates, monkeypatch: pytest.MonkeyPatch) -> None:
    options = {"nearby_mirrors": "all", "mirror_fqdn": "127.0.0.1", "mirror_port": PORT, **certificates.settings()}
    strange = playbook("verify", "--inventory", "mirror.test,", **options)
    assert strange.returncode != 0 and "is not trusted by the host's CA bundle" in re.sub(r"\s+", " ", strange.stdout), strange.stdout
    monkeypatch.setenv("SSL_CERT_FILE", certificates.ca)
    trusted = playbook("verify", "--inventory", "mirror.test,", **options)
    assert trusted.returncode == 0, trusted.stdout
