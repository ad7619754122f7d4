"""Certificates for tests: an authority, and what it signs, as PEM files."""

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID


@dataclass(frozen=True)
class MadeCertificate:
    """One party's files."""

    cert: Path
    key: Path
    ca: Path

    def toml(self) -> str:
        """Return it as an inline table of ``site.toml``."""
        return f'{{ cert = "{self.cert}", key = "{self.key}", ca = "{self.ca}" }}'


class MadeAuthority:
    """An authority of its own, in a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder, self._key = folder, ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"test authority {folder.name}")])
        self.ca = folder / "ca.pem"
        root = _builder(self._name, self._name, self._key).add_extension(
            x509.BasicConstraints(ca=True, path_length=0), critical=True
        )
        self.ca.write_bytes(_pem(root.sign(self._key, hashes.SHA256())))

    def sign(self, name: str) -> MadeCertificate:
        """Return the files of a party at 127.0.0.1; its key is for its owner alone."""
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        names = [x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
        leaf = _builder(subject, self._name, key).add_extension(
            x509.SubjectAlternativeName(names), critical=False
        )
        made = MadeCertificate(self._folder / f"{name}.pem", self._folder / f"{name}.key", self.ca)
        made.cert.write_bytes(_pem(leaf.sign(self._key, hashes.SHA256())))
        plain = serialization.NoEncryption()
        made.key.touch(mode=0o600)
        made.key.write_bytes(
            key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
        )
        return made


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey
) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
    )


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
