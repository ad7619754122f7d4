"""``[pacs]`` of ``site.toml``: where the site listens, who may send to it, where it fetches from."""

import ipaddress
import ssl
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, StringConstraints, model_validator

from willis.shared.errors import StateError
from willis.shared.settings import Settings, refuse

_GIB = 1024**3


def _host(text: str) -> str:
    try:
        ipaddress.ip_network(text)
    except ValueError:
        raise ValueError("must be an address such as 10.0.0.7 or a network such as 10.0.0.0/24") from None
    return text


def _address(text: str) -> str:
    try:
        ipaddress.ip_address(text)
    except ValueError:
        raise ValueError("must be an address of this machine such as 127.0.0.1 or 0.0.0.0") from None
    return text


AeTitle = Annotated[str, StringConstraints(pattern=r"^[!-\[\]-~]([ -\[\]-~]{0,14}[!-\[\]-~])?$")]
HostOrNetwork = Annotated[str, AfterValidator(_host)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Tls(Settings):
    """Certificates of a mutual TLS connection, PEM; 1.2 is the least version.

    Attributes:
        cert: What this site shows.
        key: Its private key; readable by its owner alone.
        ca: The authority that must have signed what the peer shows.
    """

    cert: Path
    key: Path
    ca: Path

    def under(self, base: Path) -> "Tls":
        """Return the same with relative paths started at ``base``."""
        return Tls(cert=base / self.cert, key=base / self.key, ca=base / self.ca)

    def context(self, purpose: ssl.Purpose) -> ssl.SSLContext:
        """Return a context that shows our certificate and asks for the peer's.

        Raises:
            StateError: A file cannot be read, or others than its owner may open the key.
        """
        try:
            check_owner_alone(self.key, what="private key")
            context = ssl.create_default_context(purpose, cafile=self.ca)
            context.load_cert_chain(self.cert, self.key)
        except ssl.SSLError as fault:
            raise StateError(f"{self.cert}, {self.key} and {self.ca} make no TLS: {fault.reason}") from fault
        except OSError as fault:
            raise StateError(f"cannot read {self.cert}, {self.key} or {self.ca}: {fault.strerror}") from fault
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.verify_mode = ssl.CERT_REQUIRED
        return context


class Caller(Settings):
    """One that may send to the site.

    Attributes:
        ae_title: What it calls itself.
        host: The address or network that it must call from; None is any.
    """

    ae_title: AeTitle
    host: HostOrNetwork | None = None


class Source(Settings):
    """The PACS that studies are fetched from by C-GET or C-MOVE.

    Attributes:
        ae_title: Its AE title.
        host: Name or address; with TLS its certificate must name it.
        port: Its DICOM port.
        tls: None is plaintext: on loopback, or behind a tunnel.
    """

    ae_title: AeTitle
    host: str = Field(min_length=1)
    port: Port
    tls: Tls | None = None


class Web(Settings):
    """The PACS that studies are fetched from by DICOMweb. A proxy of the environment is not used.

    Attributes:
        url: Root of its QIDO-RS and WADO-RS, without the ``/studies``.
        token: File of a bearer token; readable by its owner alone.
        ca: The authority that signed its certificate; None takes the system's.
        tls: Certificates where it asks for ours too; takes the place of ``ca``.
    """

    url: str
    token: Path | None = None
    ca: Path | None = None
    tls: Tls | None = None

    @model_validator(mode="after")
    def _is_sound(self) -> "Web":
        parts = urlsplit(self.url)
        faults = []
        if parts.scheme not in ("http", "https") or not parts.hostname:
            faults.append("url: must begin with https:// or http:// and a host")
        if parts.username is not None or parts.query or parts.fragment:
            faults.append("url: must have no user, query or fragment; a token goes into a file")
        if parts.scheme == "http" and (self.tls is not None or self.ca is not None):
            faults.append("url: is http, tls and ca ask for https")
        if parts.scheme == "http" and self.token is not None and not _is_loopback(parts.hostname or ""):
            faults.append("token: would travel in the clear, use https")
        refuse(faults)
        return self


class PacsSettings(Settings):
    """Where the site listens and fetches; nothing of it leaves the hospital.

    Attributes:
        ae_title: What the site is called by; an association that calls another is refused.
        spool: Folder for what arrives; identifiable where the export is, so on a disk of the hospital.
        listen: Address to listen on.
        port: Port to listen on.
        callers: Who may send; anybody else is refused.
        tls: None is plaintext: on loopback, or behind a tunnel.
        watermark_bytes: An instance that would leave less free on the spool's disk is refused.
        silence_s: A study is complete when nothing of it came for so long.
        most_associations: At a time.
        most_instance_bytes: A larger instance is cut off; so much memory is used for each association.
        source: For ``fetch --by get`` and ``move``.
        web: For ``fetch --by web``.
    """

    ae_title: AeTitle
    spool: Path
    listen: Annotated[str, AfterValidator(_address)] = "127.0.0.1"
    port: Port = 11112
    callers: tuple[Caller, ...] = ()
    tls: Tls | None = None
    watermark_bytes: int = Field(default=10 * _GIB, ge=0)
    silence_s: float = Field(default=60.0, gt=0, le=86400)
    most_associations: int = Field(default=4, ge=1, le=64)
    most_instance_bytes: int = Field(default=_GIB, ge=1024)
    source: Source | None = None
    web: Web | None = None

    @model_validator(mode="after")
    def _strangers_need_tls(self) -> "PacsSettings":
        if self.tls is None and not _is_loopback(self.listen):
            lacking = [caller.ae_title for caller in self.callers if caller.host is None]
            refuse([f"callers: {title} needs a host where there is no tls" for title in lacking])
        return self

    def under(self, base: Path) -> "PacsSettings":
        """Return the same with relative paths started at ``base``, the folder of ``site.toml``."""
        source, web = self.source, self.web
        if source is not None:
            source = source.model_copy(update={"tls": source.tls and source.tls.under(base)})
        if web is not None:
            files = {"token": web.token and base / web.token, "ca": web.ca and base / web.ca}
            web = web.model_copy(update={**files, "tls": web.tls and web.tls.under(base)})
        paths = {"spool": base / self.spool, "tls": self.tls and self.tls.under(base)}
        return self.model_copy(update={**paths, "source": source, "web": web})

    def knows(self, ae_title: str, address: str) -> bool:
        """Whether instances are taken from one who calls himself so and calls from there."""
        fits: Callable[[str], bool] = lambda host: (  # noqa: E731
            ipaddress.ip_address(address) in ipaddress.ip_network(host)
        )
        return any(
            one.ae_title == ae_title.strip() and (one.host is None or fits(one.host)) for one in self.callers
        )


def check_owner_alone(path: Path, *, what: str) -> None:
    """Refuse a secret that others than its owner may open.

    Raises:
        StateError: They may, or it cannot be looked at.
    """
    try:
        open_to = stat.S_IMODE(path.stat().st_mode) & 0o077
    except OSError as fault:
        raise StateError(f"cannot read the {what} {path}: {fault.strerror}") from fault
    if open_to:
        raise StateError(f"others than its owner may open the {what} {path}: chmod 600 it")


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
