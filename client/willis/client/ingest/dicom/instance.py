"""What intake keeps of one DICOM file: numbers, allow-listed codes, and keyed digests of what identifies."""

from dataclasses import dataclass

KINDS = ("mr", "enhanced-mr", "ct", "enhanced-ct", "seg", "label-map-seg", "rtstruct", "other")


@dataclass(frozen=True, repr=False)
class Instance:
    """One DICOM file, as far as intake reads it. No text that a person typed is in it.

    Attributes:
        file: Keyed digest of the path relative to the export; the path itself is kept nowhere.
        subject: Pseudonym; empty where the patient is not known.
        study: Keyed digest of StudyInstanceUID.
        series: Keyed digest of SeriesInstanceUID.
        uid: Keyed digest of SOPInstanceUID.
        frame_of_reference: Keyed digest; empty where absent.
        kind: One of :data:`KINDS`.
        modality: Allow-listed code, else empty.
        series_number: 0 where absent; so are the next two.
        instance_number: It need not follow position.
        acquisition_number: Of one series, where it was acquired more than once.
        study_day: The study's date in days since a day of the patient's own, 0 where absent: for order and
            differences.
        born: Keyed digest of birth date and sex; empty where absent.
        rows: Pixels along a column.
        columns: Pixels along a row.
        frames: 1 for a classic instance.
        position: ImagePositionPatient in mm (LPS), None where absent.
        orientation: ImageOrientationPatient, row then column cosines, None where absent.
        spacing: PixelSpacing in mm: between rows, between columns.
        thickness: SliceThickness in mm.
        echo_time: In ms.
        temporal: TemporalPositionIdentifier, 0 where absent.
        b_value: Of diffusion, in s/mm2.
        phase: M, P, R or I: magnitude, phase, real, imaginary; empty where not told.
        syntax: Transfer syntax UID.
        pixels: SHA-256 of the pixel data; empty until somebody asked.
        matches: Bit i is set where pattern i of the site's rule fits.
        sequence: Allow-listed ScanningSequence codes.
        faults: What speaks against it in its header alone, as codes.
        references: Keyed digests of the series that a segmentation is of.
    """

    file: str
    subject: str
    study: str
    series: str
    uid: str
    frame_of_reference: str
    kind: str
    modality: str
    series_number: int
    instance_number: int
    acquisition_number: int
    study_day: int
    born: str
    rows: int
    columns: int
    frames: int
    position: tuple[float, float, float] | None
    orientation: tuple[float, float, float, float, float, float] | None
    spacing: tuple[float, float] | None
    thickness: float | None
    echo_time: float | None
    temporal: int
    b_value: float | None
    phase: str
    syntax: str
    pixels: str
    matches: int
    sequence: tuple[str, ...]
    faults: tuple[str, ...]
    references: tuple[str, ...]


@dataclass(frozen=True)
class Left:
    """A file of the export that is no instance.

    Attributes:
        file: Keyed digest of its relative path.
        code: ``not-dicom``, ``damaged``, ``dicomdir``, ``unreadable`` or ``link``.
    """

    file: str
    code: str
