"""A hub's own settings: ``hub.toml``."""

from ipaddress import IPv4Address
from typing import Annotated

from pydantic import Field, StringConstraints, model_validator

from willis.shared.settings import Settings

Host = Annotated[str, StringConstraints(pattern=r"^[A-Za-z0-9]([A-Za-z0-9.-]{0,251}[A-Za-z0-9])?$")]


class HubSettings(Settings):
    """Where a hub is reached, and where its own programs meet.

    Attributes:
        host: Name or IPv4 address by which sites reach the hub; its certificate is made out to it.
        port: The one port that sites connect to; nginx listens there.
        listen: Address of this machine that nginx listens on.
        inner_port: Port of the loopback where Flower's SuperLink listens; nobody outside reaches it.
    """

    host: Host
    port: int = Field(default=443, ge=1, le=65535)
    listen: IPv4Address = IPv4Address("0.0.0.0")
    inner_port: int = Field(default=18443, ge=1024, le=65535)

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
