"""Draw labelled patches from a release, into memory or into files.

Patch i of a seed is the same whatever else is drawn with it.
"""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Literal, Protocol, get_args

import torch

from willis.shared.export.bids import write_bids
from willis.shared.export.contrast import Suffix
from willis.shared.export.nnunet import write_nnunet
from willis.shared.export.npz import write_npz
from willis.shared.export.png import write_png
from willis.shared.export.room import FileForm, Noun, fitting
from willis.shared.networks.build import choose_device
from willis.shared.patch import LabelledPatches, PatchSpec
from willis.shared.prior.families import Family
from willis.shared.privacy import PrivacySpent
from willis.shared.recipes.contract import Sampler
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.study import Study

MOST_PATCHES = 10_000_000

# The contrast in which most people see what a family draws; BIDS has no name for one that is not known.
_SUFFIXES: dict[Family, Suffix] = {
    Family.VESSELS: "angio",
    Family.LESIONS: "FLAIR",
    Family.ORGAN: "T1w",
}


class PairSource(Protocol):
    """What pairs are drawn from: a :class:`~willis.shared.release.GeneratorRelease` is one."""

    @property
    def study(self) -> Study:
        """The protocol it was trained by."""
        ...

    @property
    def spent(self) -> PrivacySpent:
        """What it cost in privacy."""
        ...

    @property
    def digest(self) -> str:
        """SHA-256 that names it."""
        ...

    def sampler(self) -> Sampler:
        """Return what draws labelled patches."""
        ...


def draw_pairs(
    release: PairSource,
    *,
    n: int,
    seed: int,
    batch: int = 64,
    device: str = "auto",
    progress: Callable[[int], None] | None = None,
) -> LabelledPatches:
    """Draw n labelled patches.

    Guarantees:
        Patch i depends on the release, the seed and i alone: the same for any ``n`` and ``batch``. Another
        kind of device, or another version of torch, may differ in rounding.

    Args:
        n: 1 to 10 000 000.
        seed: At least 0.
        batch: Patches between two calls of ``progress``.
        device: ``auto``, ``cpu`` or ``cuda``.
        progress: Gets the number of patches drawn so far.

    Returns:
        float32 (n, channel, *size) on the CPU: image channels in [-1, 1], the label exactly -1 or 1.

    Raises:
        ValueError: ``n``, ``seed`` or ``batch`` is out of its range.
        Unreachable: CUDA is asked for and there is none.
    """
    check_draw(n=n, seed=seed, batch=batch)
    patches = torch.empty((n, release.study.patch.n_channels, *release.study.patch.size))
    done = 0
    for some in _counted(stream_pairs(release, n=n, seed=seed, batch=batch, device=device), progress):
        patches[done : done + len(some)] = some
        done += len(some)
    return patches


def stream_pairs(
    release: PairSource, *, n: int, seed: int, batch: int = 64, device: str = "auto"
) -> Iterator[LabelledPatches]:
    """Yield the patches of :func:`draw_pairs` in batches, so that they need not fit in memory.

    Raises:
        ValueError: At once, as :func:`draw_pairs`.
    """
    check_draw(n=n, seed=seed, batch=batch)
    chosen = choose_device(device, "device")
    sampler = release.sampler()
    if isinstance(sampler, NetworkSampler):
        sampler = sampler.to(chosen)
    return _batches(sampler, n=n, seed=seed, batch=batch)


def export_pairs(
    release: PairSource,
    folder: Path,
    *,
    n: int,
    seed: int,
    form: FileForm,
    batch: int = 64,
    device: str = "auto",
    progress: Callable[[int], None] | None = None,
    png_bits: Literal[8, 16] | None = None,
    bids_suffix: Suffix | None = None,
) -> Path:
    """Draw the patches of :func:`draw_pairs` into files, with the privacy figure beside them.

    Args:
        form: ``nnunet``, ``bids``, ``npz`` or ``png``.
        png_bits: Of a pixel (``png``); None takes 8.
        bids_suffix: The images' contrast (``bids``); None takes angio for vessels, FLAIR for lesions and
            T1w for organs.

    Returns:
        The data set's folder (``nnunet``, ``bids``, ``png``), or the file (``npz``).

    Raises:
        ValueError: As :func:`draw_pairs`; there is no such form; ``png_bits`` or ``bids_suffix`` is given
            beside another form than its own.
        ReleaseError: Pictures (``png``) of a release that draws volumes are asked for.
        StateError: The folder is not empty or cannot be written; nothing is left there.
    """
    _check_form(form, png_bits=png_bits, bids_suffix=bids_suffix)
    batches = _counted(stream_pairs(release, n=n, seed=seed, batch=batch, device=device), progress)
    return write_pairs(
        batches,
        folder,
        release=release,
        spec=release.study.patch,
        n=n,
        form=form,
        told=f"drawn with seed {seed}",
        png_bits=png_bits,
        bids_suffix=bids_suffix,
    )


def write_pairs(
    batches: Iterable[LabelledPatches],
    folder: Path,
    *,
    release: PairSource,
    spec: PatchSpec,
    n: int,
    form: FileForm,
    told: str,
    noun: Noun = "pairs",
    png_bits: Literal[8, 16] | None = None,
    bids_suffix: Suffix | None = None,
) -> Path:
    """Write what a release drew into files, with the privacy figure beside them; see :func:`export_pairs`.

    Args:
        batches: n in all; one batch is in memory at a time.
        spec: Of what was drawn.
        told: How they were drawn, in a few words.
        noun: What they are.

    Raises:
        ReleaseError: As :func:`export_pairs`.
        StateError: The same.
        ValueError: Form, ``png_bits`` and ``bids_suffix``, as :func:`export_pairs`; no batch is asked for.
    """
    _check_form(form, png_bits=png_bits, bids_suffix=bids_suffix)
    study = release.study
    about = {
        "description": f"Synthetic: {n} {noun} {told} from a generator of study {study.name}",
        "privacy": release.spent.sentence(),
        "release": release.digest,
        "study_digest": study.digest(),
    }
    foreground = study.prior.family.value
    bits = png_bits or 8
    batches = fitting(batches, folder, n=n, form=form, noun=noun, grey_bits=bits if form == "png" else None)
    match form:
        case "npz":
            return write_npz(batches, folder, n=n, spec=spec, about=about)
        case "png":
            return write_png(batches, folder, spec=spec, about=about, bits=bits)
        case "bids":
            suffix = bids_suffix or _SUFFIXES[study.prior.family]
            return write_bids(
                batches,
                folder,
                spec=spec,
                name=study.name,
                foreground=foreground,
                about=about,
                suffix=suffix,
            )
        case "nnunet":
            return write_nnunet(
                batches, folder, spec=spec, name=study.name, foreground=foreground, about=about
            )


def _check_form(form: FileForm, *, png_bits: int | None, bids_suffix: str | None) -> None:
    """Raise ``ValueError`` for a form that is none, and for what means nothing beside it."""
    if form not in get_args(FileForm):
        raise ValueError(f"form must be one of {', '.join(get_args(FileForm))}, got {form!r}")
    for name, given, of in (("png_bits", png_bits, "png"), ("bids_suffix", bids_suffix, "bids")):
        if given is not None and form != of:
            raise ValueError(f"{name} goes with form {of}, and form is {form}; leave {name} out")
    if png_bits not in (None, 8, 16):
        raise ValueError(f"png_bits must be 8 or 16, got {png_bits}")


def _counted(
    batches: Iterator[LabelledPatches], progress: Callable[[int], None] | None
) -> Iterator[LabelledPatches]:
    done = 0
    for some in batches:
        yield some
        done += len(some)
        if progress is not None:
            progress(done)


def check_draw(*, n: int, seed: int, batch: int = 1) -> None:
    """Raise ``ValueError`` unless numbers are such as :func:`draw_pairs` takes."""
    if not 1 <= n <= MOST_PATCHES:
        raise ValueError(f"n must be 1 to {MOST_PATCHES}, got {n}")
    if not seed >= 0:
        raise ValueError(f"seed must be at least 0, got {seed}")
    if not batch >= 1:
        raise ValueError(f"batch must be at least 1, got {batch}")


def _batches(sampler: Sampler, *, n: int, seed: int, batch: int) -> Iterator[LabelledPatches]:
    for first in range(0, n, batch):
        yield sampler.draw(first=first, n=min(batch, n - first), seed=seed)
