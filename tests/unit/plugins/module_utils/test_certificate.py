# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What is said of a certificate before a mirror serves with it."""

from __future__ import annotations

import datetime
import ipaddress
import time
from pathlib import Path

import pytest
from ansible_collections.nearby.mirrors.plugins.module_utils.certificate import examine
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa

DAY = 86400
NAMES = ["mirror.test", "*.pool.test", "192.0.2.1", "fd00::1"]
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8


def write(folder: Path, name: str = "mirror", names=tuple(NAMES), passphrase: bytes = b"", kind: str = "ec", **given) -> tuple[str, str]:
    """Files of a certificate that signs itself, valid from now on for 100 days, and of its key."""
    key = ec.generate_private_key(ec.SECP256R1()) if kind == "ec" else rsa.generate_private_key(65537, 2048)
    subject, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "another.test")]), datetime.datetime.now(datetime.UTC)
    addresses = [name for name in names if name[0].isdigit() or ":" in name]
    subjects = [x509.IPAddress(ipaddress.ip_address(n)) if n in addresses else x509.DNSName(n) for n in names]
    builder = (
        x509.CertificateBuilder(subject, subject, key.public_key(), x509.random_serial_number())
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(100))
        .add_extension(x509.SubjectAlternativeName(subjects), critical=False)
    )
    if usage := given.get("usage"):
        builder = builder.add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
    hidden = serialization.BestAvailableEncryption(passphrase) if passphrase else serialization.NoEncryption()
    certificate_file, key_file = folder / f"{name}.pem", folder / f"{name}.key"
    certificate_file.write_bytes(builder.sign(key, hashes.SHA256()).public_bytes(PEM))
    key_file.write_bytes(key.private_bytes(PEM, PKCS8, hidden))
    return str(certificate_file), str(key_file)


def test_one_that_is_right(tmp_path):
    names = ["mirror.test", "a.pool.test", "*.pool.test", "192.0.2.1", "fd00::1", "[fd00::1]", "*"]
    assert examine(*write(tmp_path), names, time.time() + 1) == ([], [])


def test_what_follows_it_in_its_file_does_not_count(tmp_path):
    certificate, key = write(tmp_path)
    with Path(certificate).open("a") as chain:
        chain.write(Path(write(tmp_path, "issuer", ["issuer.test"])[0]).read_text())
    assert examine(certificate, key, ["mirror.test"], time.time() + 1) == ([], [])
    (sentence,), _soon = examine(certificate, key, ["issuer.test"], time.time() + 1)
    assert "is not for issuer.test" in sentence


def test_names_that_it_is_not_for_are_told_at_once(tmp_path):
    certificate, key = write(tmp_path)
    strange = ["another.test", "pool.test", "a.b.pool.test", "*.test", "192.0.2.2", "[::1]", f"{'a' * 64}.test"]
    found, soon = examine(certificate, key, ["mirror.test", *strange], time.time() + 1)
    assert found == [
        f"The certificate {certificate} is not for {', '.join(strange)}; get one that is, or correct mirror_fqdn and mirror_aliases."
    ]
    assert soon == []


@pytest.mark.parametrize(
    ("days", "refused", "warned"),
    [(-1, "is not valid before ", ""), (85, "", ""), (87, "", "expires within 14 days, on "), (100.1, "has expired, on ", "")],
)
def test_dates(tmp_path, days, refused, warned):
    certificate, key = write(tmp_path)
    for sentences, wanted in zip(examine(certificate, key, NAMES, time.time() + days * DAY), (refused, warned), strict=True):
        assert len(sentences) == bool(wanted)
        assert not wanted or f"The certificate {certificate} {wanted}" in sentences[0] and "GMT" in sentences[0]


@pytest.mark.parametrize("kind", ["ec", "rsa"])
def test_another_key(tmp_path, kind):
    certificate, _key = write(tmp_path)
    _certificate, key = write(tmp_path, "other", kind=kind)
    sentence = f"The key {key} is not that of the first certificate in {certificate}; set mirror_tls_key to its own."
    assert examine(certificate, key, NAMES, time.time()) == ([sentence], [])


def test_files_that_are_not_there(tmp_path):
    certificate, key = write(tmp_path)
    advice = "; put the file there, or set it to another one."
    (sentence,), _soon = examine("/none", key, NAMES, time.time())
    assert sentence == f"mirror_tls_certificate /none cannot be read (No such file or directory){advice}"
    (sentence,), _soon = examine(certificate, str(tmp_path), NAMES, time.time())
    assert sentence == f"mirror_tls_key {tmp_path} cannot be read (Is a directory){advice}"


def test_files_that_are_something_else(tmp_path):
    certificate, key = write(tmp_path, passphrase=b"secret")
    (empty := tmp_path / "empty").write_text("")
    _certificate, plain = write(tmp_path, "plain")
    for paths in (certificate, key), (str(empty), plain), (plain, plain), (_certificate, str(empty)):
        (sentence,), soon = examine(*paths, NAMES, time.time())
        assert sentence.startswith(f"The certificate {paths[0]} and its key {paths[1]} cannot be served (")
        assert sentence.endswith("); each has to be a PEM file, the key without a passphrase.") and soon == []


def test_one_that_is_for_clients(tmp_path):
    (sentence,), _soon = examine(*write(tmp_path, usage=x509.ExtendedKeyUsageOID.CLIENT_AUTH), NAMES, time.time())
    assert "cannot be served (" in sentence and "purpose" in sentence
