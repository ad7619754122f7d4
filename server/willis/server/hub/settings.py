"""A hub's own settings: ``hub.toml``."""

from ipaddress import IPv4Address
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from willis.shared.settings import Settings

Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]


class CollectionSettings(Settings):
    """What ``willis hub serve`` lets collectors do.

    Attributes:
        port: For those who show a token (TLS).
        certificate_port: For those who show a client certificate (mutual TLS).
        most_pairs: In one draw.
        most_bytes: Of one stream; a fetch goes on in the next.
        calls_a_minute: Of one collector.
        streams_a_collector: Fetches and draws of one collector at once.
        streams: Fetches and draws of all at once.
        stall_s: A stream whose reader takes nothing for that long is ended, seconds.
    """

    port: int = Field(default=8444, ge=1, le=65535)
    certificate_port: int = Field(default=8445, ge=1, le=65535)
    most_pairs: int = Field(default=100_000, ge=1, le=10_000_000)
    most_bytes: int = Field(default=8 << 30, ge=1 << 20)
    calls_a_minute: int = Field(default=120, ge=1)
    streams_a_collector: int = Field(default=4, ge=1)
    streams: int = Field(default=32, ge=1, le=256)
    stall_s: float = Field(default=120.0, gt=0)

    @model_validator(mode="after")
    def _two_ports(self) -> "CollectionSettings":
        if self.port == self.certificate_port:
            raise ValueError(f"port and certificate_port must differ, got {self.port} for both")
        return self


class HubSettings(Settings):
    """Where a hub is reached, and where its own programs meet.

    Attributes:
        host: Name or IPv4 address by which sites reach the hub; its certificate is made out to it.
        port: The one port that sites connect to; nginx listens there.
        listen: Address of this machine that nginx listens on.
        inner_port: Port of the loopback where Flower's SuperLink listens; nobody outside reaches it.
        collection: What collectors of releases may do.
    """

    host: Host
    port: int = Field(default=443, ge=1, le=65535)
    listen: IPv4Address = IPv4Address("0.0.0.0")
    inner_port: int = Field(default=18443, ge=1024, le=65535)
    collection: CollectionSettings = CollectionSettings()

    @model_validator(mode="after")
    def _two_ports(self) -> "HubSettings":
        if self.port == self.inner_port:
            raise ValueError(f"port and inner_port must differ, got {self.port} for both")
        return self

    @property
    def address(self) -> str:
        """What sites connect to, ``host:port``."""
        return f"{self.host}:{self.port}"

    @property
    def own_door(self) -> str:
        """Address by which this machine itself reaches nginx."""
        return "127.0.0.1" if self.listen.is_unspecified else str(self.listen)
