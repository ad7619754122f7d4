"""A site's patches on disk: one file for all subjects, read by memory map.

The file holds float16 patches, subject after subject, ``spec.per_subject`` each; ``index.json`` says what
they are and is written last, by one rename: a folder without a fitting index holds no store. Memory stays
flat however many patches there are, in building and in reading. The folder is the site's own and never
leaves it; still, no pseudonym and no path is written to it. One builder a folder at a time.
"""

import hashlib
import json
import os
import shutil
from collections import deque
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, Float16, Float32, Int
from pydantic import Field
from torch import Tensor

from willis.client.cohort import Cohort, Subject
from willis.client.patches import cut_patches, load_subject
from willis.shared.errors import CohortError, StateError
from willis.shared.patch import PatchSpec
from willis.shared.settings import Settings
from willis.shared.whole_file import write_whole

FORMAT = 1
THREADS = 2
WINDOW = 8  # subjects read ahead of the writer

Progress = Callable[[int, int], None]


class Index(Settings):
    """What a store holds.

    Attributes:
        format: Of the store; another one is rebuilt.
        key: Digest of spec, cohort content and seed.
        spec: How the patches were cut.
        spec_digest: SHA-256 of the spec.
        n_subjects: Subjects in the file.
        patches: Name of the file beside the index.
        subjects: :func:`subject_mark` of every subject in the file, in its order; none in an older store.
    """

    format: int
    key: str
    spec: PatchSpec
    spec_digest: str
    n_subjects: int = Field(ge=1)
    patches: str = Field(pattern=r"^patches-[0-9a-f]{16}\.npy$")
    subjects: tuple[str, ...] = ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the array in the file: (patch, channel, *space)."""
        return (self.n_subjects * self.spec.per_subject, self.spec.n_channels, *self.spec.size)


@dataclass(frozen=True)
class PatchStore:
    """Patches by subject; see :func:`build_store`, :func:`open_store`.

    Every patch that is handed out is flipped at random along each spatial axis, image and label alike, where
    the spec allows it.

    Attributes:
        index: What the store holds.
    """

    index: Index
    _patches: Float16[np.ndarray, "patch channel *space"] = field(repr=False)
    _kept: Int[np.ndarray, " subject"] | None = field(default=None, repr=False)

    @property
    def spec(self) -> PatchSpec:
        """How the patches were cut."""
        return self.index.spec

    @property
    def n_subjects(self) -> int:
        """Subjects; they are numbered from 0 in the cohort's order."""
        return self.index.n_subjects if self._kept is None else len(self._kept)

    @property
    def per_subject(self) -> int:
        """Patches of each subject."""
        return self.spec.per_subject

    @property
    def n_patches(self) -> int:
        """Patches of all subjects."""
        return self.n_subjects * self.per_subject

    def leave_out(self, left_out: Collection[int]) -> "PatchStore":
        """Return the store without some subjects, numbered as in the file; its index has a key of its own."""
        kept = np.array([place for place in range(self.index.n_subjects) if place not in left_out], dtype=int)
        key = hashlib.sha256(json.dumps([self.index.key, kept.tolist()]).encode()).hexdigest()
        return PatchStore(self.index.model_copy(update={"key": key}), self._patches, kept)

    def bag(
        self, subject_index: int, k: int, rng: np.random.Generator
    ) -> Float[Tensor, "patch channel *space"]:
        """Return ``k`` distinct patches of one subject, drawn (and flipped) afresh at each call.

        Raises:
            ValueError: There is no such subject, or it has fewer than ``k`` patches.
        """
        if not 0 <= subject_index < self.n_subjects:
            raise ValueError(f"subject_index must be 0 to {self.n_subjects - 1}, got {subject_index}")
        if not 1 <= k <= self.per_subject:
            raise ValueError(f"k must be 1 to per_subject ({self.per_subject}), got {k}")
        chosen = rng.choice(self.per_subject, size=k, replace=False)
        return self._flipped(subject_index * self.per_subject + chosen, rng)

    def patch(self, flat_index: int, rng: np.random.Generator) -> Float[Tensor, " channel *space"]:
        """Return one patch: patch ``i`` belongs to subject ``i // per_subject``.

        Raises:
            ValueError: There is no such patch.
        """
        if not 0 <= flat_index < self.n_patches:
            raise ValueError(f"flat_index must be 0 to {self.n_patches - 1}, got {flat_index}")
        return self._flipped(np.array([flat_index]), rng)[0]

    def sample(self, n: int, rng: np.random.Generator) -> Float[Tensor, "patch channel *space"]:
        """Return ``n`` patches, each equally likely; distinct ones unless ``n`` exceeds ``n_patches``.

        Raises:
            ValueError: ``n`` is below 1.
        """
        if not n >= 1:
            raise ValueError(f"n must be at least 1, got {n}")
        return self._flipped(rng.choice(self.n_patches, size=n, replace=n > self.n_patches), rng)

    def _flipped(self, chosen: np.ndarray, rng: np.random.Generator) -> Float[Tensor, "patch channel *space"]:
        if self._kept is not None:
            subject, own = np.divmod(chosen, self.per_subject)
            chosen = self._kept[subject] * self.per_subject + own
        patches = self._patches[chosen].astype(np.float32)
        for axis in range(2, patches.ndim) if self.spec.flips else ():
            turned = rng.random(len(patches)) < 0.5
            patches[turned] = np.flip(patches[turned], axis)
        return torch.from_numpy(patches)


def open_store(folder: Path) -> PatchStore:
    """Open a store that was built before.

    Raises:
        StateError: There is no complete store in the folder, or its file has not the promised size.
    """
    try:
        index = Index.model_validate_json((folder / "index.json").read_text(encoding="utf-8"))
        patches = np.load(folder / index.patches, mmap_mode="r", allow_pickle=False)
    except (OSError, EOFError, ValueError) as fault:
        raise StateError(
            f"{folder} holds no complete patch store ({type(fault).__name__}); build it again"
        ) from fault
    if index.format != FORMAT or patches.shape != index.shape or patches.dtype != np.float16:
        raise StateError(
            f"{folder} holds a store of format {index.format} and shape {patches.shape}, "
            f"this version needs {FORMAT} and {index.shape}; build it again"
        )
    return PatchStore(index, patches)


def build_store(
    cohort: Cohort, spec: PatchSpec, folder: Path, *, seed: int, progress: Progress | None = None
) -> PatchStore:
    """Cut every subject's patches into one file; reuse a store that fits.

    1) Compare the key: spec, cohort content (names, paths, sizes, times of change), seed. 2) Check the space.
    3) Cut subjects in parallel, each with dice of its own from (seed, name), so neither the number of threads
    nor another subject has an effect on a patch. 4) Write in order, sync. 5) Rename file, then index.

    Args:
        cohort: Whose patches.
        spec: How to cut them.
        folder: Where the store is, or will be; an older store is replaced only by a complete one.
        seed: Of the patches' places.
        progress: Called with (subjects done, subjects in all).

    Raises:
        CohortError: Nobody is in the cohort, or some subject's scans cannot be used; ``problems`` names all.
        StateError: The disk is full or the folder cannot be written; nothing half-written remains.
    """
    if not len(cohort):
        raise CohortError("a store needs at least one subject, the cohort has 0")
    index = _index(cohort, spec, seed)
    if _holds(folder, index):
        return open_store(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        _write(folder, index, _cut_all(cohort, spec, seed=seed), progress=progress)
    except OSError as fault:
        raise StateError(
            f"cannot write the patch store in {folder}: {type(fault).__name__}: {fault.strerror}; it needs "
            f"{_n_bytes(index) / 1e9:.3g} GB"
        ) from fault
    return open_store(folder)


def subject_mark(key: str, name: str) -> str:
    """Return what stands for a pseudonym in the index of a store with this key."""
    return hashlib.sha256(f"{key}:{name}".encode()).hexdigest()


def _index(cohort: Cohort, spec: PatchSpec, seed: int) -> Index:
    digest = spec.digest()
    key = hashlib.sha256(json.dumps([FORMAT, digest, cohort.content_digest(), seed]).encode()).hexdigest()
    return Index(
        format=FORMAT,
        key=key,
        spec=spec,
        spec_digest=digest,
        n_subjects=len(cohort),
        patches=f"patches-{key[:16]}.npy",
        subjects=tuple(subject_mark(key, subject.name) for subject in cohort.subjects),
    )


def _holds(folder: Path, index: Index) -> bool:
    """Whether the folder has this very store, complete."""
    try:
        return open_store(folder).index == index
    except StateError:
        return False


def _n_bytes(index: Index) -> int:
    return 2 * int(np.prod(index.shape, dtype=np.int64))


def _subject_patches(
    subject: Subject, spec: PatchSpec, seed: int
) -> Float16[np.ndarray, "patch channel *space"]:
    own = int.from_bytes(hashlib.sha256(subject.name.encode()).digest()[:8], "big")
    patches = cut_patches(load_subject(subject, spec), spec, np.random.default_rng([seed, own]))
    return patches.astype(np.float16)


def _cut_all(cohort: Cohort, spec: PatchSpec, *, seed: int) -> Iterator[Float32[np.ndarray, "..."]]:
    """Yield every subject's patches in the cohort's order; at most ``WINDOW`` wait for the writer."""
    problems: list[str] = []
    waiting: deque[tuple[Subject, Future]] = deque()
    subjects = iter(cohort.subjects)
    with ThreadPoolExecutor(THREADS) as pool:
        while True:
            while len(waiting) < WINDOW and (subject := next(subjects, None)) is not None:
                waiting.append((subject, pool.submit(_subject_patches, subject, spec, seed)))
            if not waiting:
                break
            subject, future = waiting.popleft()
            try:
                yield future.result()
            except CohortError as fault:
                problems.append(f"subject {subject.name}: {fault}")
    if problems:
        raise CohortError(f"{len(problems)} of {len(cohort)} subjects cannot be cut into patches", problems)


def _write(folder: Path, index: Index, subjects: Iterator[np.ndarray], *, progress: Progress | None) -> None:
    part = folder / "patches.part"
    wanted, free = _n_bytes(index), shutil.disk_usage(folder).free
    if wanted > free:
        raise StateError(
            f"the patch store needs {wanted / 1e9:.3g} GB, {folder} has {free / 1e9:.3g} GB free"
        )
    try:
        part.touch(mode=0o600)
        with part.open("wb") as file:
            header = {"descr": "<f2", "fortran_order": False, "shape": index.shape}
            np.lib.format.write_array_header_1_0(file, header)
            for done, patches in enumerate(subjects, start=1):
                file.write(patches.astype("<f2", copy=False).tobytes())
                if progress is not None:
                    progress(done, index.n_subjects)
            file.flush()
            os.fsync(file.fileno())
        part.replace(folder / index.patches)
    finally:
        part.unlink(missing_ok=True)
    write_whole(folder / "index.json", index.model_dump_json(indent=2).encode())
    for old in folder.glob("patches-*.npy"):
        if old.name != index.patches:
            old.unlink(missing_ok=True)
