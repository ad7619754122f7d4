"""What a release's signed ``release.json`` says to a collector: study, shape, privacy; read without torch."""

from typing import Annotated

from pydantic import ConfigDict, Field, StringConstraints

from willis.shared.errors import ReleaseError
from willis.shared.federation_plan import Name
from willis.shared.privacy import PrivacySpent
from willis.shared.settings import Settings, parse

FORMAT = 3  # of the sheet, as `willis.shared.release_sheet` has it
_Side = Annotated[int, Field(ge=1, le=4096)]
_Line = Annotated[str, StringConstraints(min_length=1, max_length=200)]


class _Part(Settings):
    """A part of the sheet; the rest of it is for those who read the release itself."""

    model_config = ConfigDict(extra="ignore")


class SheetPatch(_Part):
    """What is drawn.

    Attributes:
        size: Pixels along each axis.
        channels: Of the image.
    """

    size: tuple[_Side, ...] = Field(min_length=2, max_length=3)
    channels: tuple[_Line, ...] = Field(min_length=1, max_length=64)


class SheetStudy(_Part):
    """The study."""

    name: Name
    patch: SheetPatch


class SignedSheet(_Part):
    """The parts of ``release.json`` that a collector is told.

    Attributes:
        format: Version of the layout.
        network: Privacy of the release.
    """

    format: int
    study: SheetStudy
    network: PrivacySpent

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Of one image: channels, then pixels along each axis."""
        return len(self.study.patch.channels), *self.study.patch.size


def read_sheet(sheet: dict[str, object], *, release: str) -> SignedSheet:
    """Return what a sheet says.

    Raises:
        ReleaseError: It is of another format, or does not fit.
    """
    if sheet.get("format") != FORMAT:
        raise ReleaseError(
            f"release {release}: its sheet is of format {str(sheet.get('format'))[:20]}, this Willis reads "
            f"{FORMAT}; install the Willis of the hub"
        )
    return parse(sheet, SignedSheet, where=f"release {release}: its sheet", error=ReleaseError)
