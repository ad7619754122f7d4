"""``SyntheticPairs``: a release as a data set of PyTorch, its pairs drawn on the fly."""

import operator
import os
from collections.abc import Callable, Sequence
from math import prod
from pathlib import Path
from typing import Any, Literal, SupportsIndex

from torch.utils.data import Dataset

from willis.shared.drawn_blocks import DrawnBlocks
from willis.shared.errors import Unreachable
from willis.shared.export.contrast import Suffix
from willis.shared.networks.build import choose_device
from willis.shared.pair_forms import Form, shape_of
from willis.shared.privacy import PrivacySpent
from willis.shared.recipes.network_sampler import NetworkSampler
from willis.shared.release import read_release
from willis.shared.study import Study
from willis.shared.synthesis import FileForm, PairSource, check_draw, export_pairs

_MOST_WRITTEN = 64  # pairs between two reports of progress


class SyntheticPairs(Dataset[Any]):
    """A map-style data set of n pairs of image and label.

    Guarantees:
        Pair i depends on the release, the seed and i alone: one by one, in batches, by any number of workers
        (forked or spawned), in any order, it is patch i of :func:`willis.shared.synthesis.draw_pairs` and of
        ``willis synthesize``. A smaller ``n`` is the start of the same series. Another kind of device, number
        of threads or version of torch may differ in rounding.
        Drawing costs no privacy, however many pairs: the figure is the release's, ``pairs.spent``.

    Edge cases:
        A network draws blocks of ``pairs.block`` patches, so that rounding does not depend on the batch. A
        block that is remembered is not drawn again; in several workers each draws what its own batches touch,
        so let the batch size be a multiple of ``pairs.block``, or expect blocks to be drawn by each of them.
        A transform that draws at random is seeded by whoever wrote it, not by ``seed``.

    Args:
        release: A release that was read, or its folder, whose digests are checked first.
        n: Pairs in the data set: 1 to 10 000 000.
        seed: At least 0. With ``n`` it fixes every pair.
        device: ``cpu``, ``cuda`` or ``auto`` (CUDA where there is one) draws; pairs come back to the CPU.
        form: What a pair looks like: see :func:`willis.shared.pair_forms.shape_of`.
        transform: Applied to every pair. For spawned workers it must be picklable.
        memory_mib: Most MiB of drawn patches kept in each process, or written at once; 0 keeps none, and
            writes block by block.

    Raises:
        ValueError: A number is out of its range, or there is no such form.
        ReleaseError: The folder is no sound release.
        Unreachable: CUDA or torchio is asked for and there is none.
    """

    def __init__(
        self,
        release: PairSource | Path | str,
        *,
        n: int,
        seed: int,
        device: str = "cpu",
        form: Form = "tensor",
        transform: Callable[[Any], Any] | None = None,
        memory_mib: float = 256,
    ) -> None:
        check_draw(n=n, seed=seed)
        if not memory_mib >= 0:
            raise ValueError(f"memory_mib must be at least 0, got {memory_mib}")
        self._release = read_release(Path(release)) if isinstance(release, str | Path) else release
        self._n, self._seed, self._memory = n, seed, int(min(memory_mib, 2**40) * 2**20)
        self._device = choose_device(device, "device")
        self._shape = shape_of(form, self.study.patch)
        self._transform = transform
        self._blocks: DrawnBlocks | None = None
        self._process = os.getpid()

    @property
    def study(self) -> Study:
        """The protocol by which the generator was trained."""
        return self._release.study

    @property
    def spent(self) -> PrivacySpent:
        """What stands behind every pair; ``spent.sentence()`` says it."""
        return self._release.spent

    @property
    def block(self) -> int:
        """How many pairs are drawn at once."""
        return self._drawn().block

    def __len__(self) -> int:
        """Return n."""
        return self._n

    def __getitem__(self, index: SupportsIndex) -> Any:
        """Return one pair; negative numbers count from the end.

        Raises:
            IndexError: The number is not of this data set.
        """
        return self.__getitems__([index])[0]

    def __getitems__(self, indices: Sequence[SupportsIndex]) -> list[Any]:
        """Return several pairs at once, as a ``DataLoader`` asks for a batch; see :meth:`__getitem__`."""
        numbers = [self._number(index) for index in indices]
        patches = self._drawn().patches(numbers)
        pairs = [self._shape(patch, number) for patch, number in zip(patches, numbers, strict=True)]
        return pairs if self._transform is None else [self._transform(pair) for pair in pairs]

    def write(
        self,
        folder: Path | str,
        *,
        form: FileForm,
        progress: Callable[[int], None] | None = None,
        png_bits: Literal[8, 16] | None = None,
        bids_suffix: Suffix | None = None,
    ) -> Path:
        """Write all n pairs as a data set of files; see :func:`willis.shared.synthesis.export_pairs`.

        The pairs are written as they are drawn: ``transform`` is for training, and is left out.

        Args:
            folder: Must not exist, or be empty.
            form: ``nnunet``, ``bids``, ``npz`` or ``png``.
            png_bits: Of a pixel (``png``); None takes 8.
            bids_suffix: The images' contrast (``bids``); None takes what is usual for the study's family.

        Raises:
            ValueError: There is no such form, or an option is another form's. Nothing is drawn.
            ReleaseError: Pictures (``png``) of volumes are asked for.
            StateError: The folder is not empty or cannot be written; nothing is left there.
        """
        return export_pairs(
            self._release,
            Path(folder),
            n=self._n,
            seed=self._seed,
            form=form,
            batch=self._batch(),
            device=self._device.type,
            progress=progress,
            png_bits=png_bits,
            bids_suffix=bids_suffix,
        )

    def __getstate__(self) -> dict[str, Any]:
        """Return what a worker needs: the release with its arrays, without what was drawn so far."""
        return self.__dict__ | {"_blocks": None}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Take over in another process."""
        self.__dict__.update(state, _process=os.getpid())

    def _batch(self) -> int:
        """Return how many pairs are written at once: whole blocks, as the memory allows, about 64 at most."""
        study, block = self.study, self.block
        blocks = self._memory // (4 * block * study.patch.n_channels * prod(study.patch.size))
        return block * max(1, min(blocks, _MOST_WRITTEN // block))

    def _number(self, index: SupportsIndex) -> int:
        number = operator.index(index)
        if not -self._n <= number < self._n:
            raise IndexError(f"pair {number} of {self._n}: numbers go from {-self._n} to {self._n - 1}")
        return number % self._n

    def _drawn(self) -> DrawnBlocks:
        if self._device.type == "cuda" and os.getpid() != self._process:
            raise Unreachable(
                "a forked worker cannot use the CUDA device of the process it came from; give the DataLoader "
                'num_workers=0 or multiprocessing_context="spawn", or SyntheticPairs device="cpu"'
            )
        if self._blocks is None:
            sampler, block = self._release.sampler(), 1
            if isinstance(sampler, NetworkSampler):
                sampler, block = sampler.to(self._device), sampler.block
            self._blocks = DrawnBlocks(sampler, n=self._n, seed=self._seed, block=block, memory=self._memory)
        return self._blocks
