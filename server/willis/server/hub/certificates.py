"""The hub's own authority and the certificate of its server: elliptic curves, no third party.

Sites get the authority's certificate in their kit and trust no other, so nobody else's authority can stand
between a site and its hub.
"""

import ipaddress
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_pem_private_key,
)
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from willis.shared.errors import StateError
from willis.shared.whole_file import write_whole

AUTHORITY_DAYS = 3650
SERVER_DAYS = 730
RENEWED_BEFORE_DAYS = 60
_LATE_CLOCK = timedelta(hours=1)  # a site's clock may be that much behind on the first day


def make_authority(key_file: Path, certificate_file: Path, *, host: str) -> None:
    """Make an authority for one hub; the key is for its owner alone.

    Raises:
        StateError: One of the files is there already: every site's kit holds that authority.
    """
    for path in (key_file, certificate_file):
        if path.exists():
            raise StateError(f"{path} is there already; an authority that sites trust is never overwritten")
    key = ec.generate_private_key(ec.SECP384R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"Willis hub {host}"[:64])])
    public = key.public_key()
    usage = _usage(signs_certificates=True)
    builder = (
        _builder(name, name, days=AUTHORITY_DAYS)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )
    write_whole(key_file, _pem(key), private=True)
    write_whole(certificate_file, builder.sign(key, SHA256()).public_bytes(Encoding.PEM))


def make_server_certificate(authority: tuple[Path, Path], server: tuple[Path, Path], *, host: str) -> None:
    """Make a new key and certificate for the hub's server, signed by its authority.

    The certificate names the host, ``localhost`` and 127.0.0.1: nginx reaches SuperLink by the same one.

    Args:
        authority: Its key and its certificate.
        server: Where key and certificate go; what is there is replaced.
        host: Name or IPv4 address by which sites reach the hub.

    Raises:
        StateError: The authority cannot be read, or the files cannot be written.
    """
    signer, issuer = _read_authority(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host[:64])])
    builder = _leaf(
        key, name, issuer=issuer, days=SERVER_DAYS, use=ExtendedKeyUsageOID.SERVER_AUTH
    ).add_extension(x509.SubjectAlternativeName(_names(host)), critical=False)
    # A crash between the two leaves a pair that does not fit, which `is_due` sees.
    certificate = builder.sign(signer, SHA256()).public_bytes(Encoding.PEM)
    write_whole(server[1], certificate)
    write_whole(server[0], _pem(key), private=True)


def make_client_certificate(authority: tuple[Path, Path], *, name: str, days: int) -> tuple[bytes, bytes]:
    """Make a key and a certificate for somebody who calls the hub; it is good for nothing else.

    Args:
        authority: Its key and its certificate.
        name: Of the caller.
        days: Until it ends.

    Returns:
        Certificate and private key, PEM.

    Raises:
        StateError: The authority cannot be read.
    """
    signer, issuer = _read_authority(authority)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = _leaf(key, subject, issuer=issuer, days=days, use=ExtendedKeyUsageOID.CLIENT_AUTH)
    return builder.sign(signer, SHA256()).public_bytes(Encoding.PEM), _pem(key)


def is_due(server: tuple[Path, Path], *, host: str) -> bool:
    """Return whether the server's certificate must be made (anew): none, ending soon, or not fitting."""
    return days_left(server, host=host) < RENEWED_BEFORE_DAYS


def days_left(server: tuple[Path, Path], *, host: str) -> float:
    """Return for how many days the server's certificate is good yet; 0 where none is there that fits.

    It reads the server's own key and certificate, and nothing of the authority's.

    Raises:
        StateError: One of the files cannot be read.
    """
    key_file, certificate_file = server
    if not (key_file.exists() and certificate_file.exists()):
        return 0.0
    try:
        key = load_pem_private_key(key_file.read_bytes(), None)
        certificate = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    except (OSError, ValueError) as fault:
        raise StateError(
            f"cannot read the hub's certificate in {key_file.parent}: remove both files"
        ) from fault
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    if certificate.public_key() != key.public_key() or list(names) != _names(host):
        return 0.0
    return max(0.0, (certificate.not_valid_after_utc - datetime.now(UTC)) / timedelta(days=1))


def _read_authority(authority: tuple[Path, Path]) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key_file, certificate_file = authority
    try:
        signer = load_pem_private_key(key_file.read_bytes(), None)
        issuer = x509.load_pem_x509_certificate(certificate_file.read_bytes())
    except (OSError, ValueError) as fault:
        raise StateError(f"cannot read the hub's authority in {key_file.parent}: restore it") from fault
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    return signer, issuer


def _leaf(
    key: ec.EllipticCurvePrivateKey,
    subject: x509.Name,
    *,
    issuer: x509.Certificate,
    days: int,
    use: x509.ObjectIdentifier,
) -> x509.CertificateBuilder:
    """Return what a certificate of one party says, but for its names."""
    public, theirs = key.public_key(), issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier)
    return (
        _builder(subject, issuer.subject, days=days)
        .public_key(public)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(theirs.value), critical=False
        )
    )


def _builder(subject: x509.Name, issuer: x509.Name, *, days: int) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _LATE_CLOCK)
        .not_valid_after(now + timedelta(days=days))
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _names(host: str) -> list[x509.GeneralName]:
    loopback = ipaddress.ip_address("127.0.0.1")
    names: list[x509.GeneralName] = [x509.DNSName("localhost"), x509.IPAddress(loopback)]
    try:
        own: x509.GeneralName = x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        own = x509.DNSName(host)
    return names if own in names else [own, *names]


def _pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
