"""Patches of one seed in any order: drawn in the sampler's blocks, the blocks of late kept in memory."""

from collections import OrderedDict
from collections.abc import Sequence

from jaxtyping import Float
from torch import Tensor

from willis.shared.patch import LabelledPatches
from willis.shared.recipes.contract import Sampler


class DrawnBlocks:
    """Draws the patches that are asked for, each block once while it is remembered.

    Guarantees:
        Patch i is the sampler's patch i, whatever was asked for before.

    Args:
        sampler: What draws.
        n: Patches of the whole series; none is drawn beyond, where the sampler can draw less than a block.
        seed: Of the series.
        block: How many patches the sampler draws at once whatever it is asked for; 1 where it draws singly.
        memory: Bytes of patches that are kept at most; what one call asks for is kept while it is served.
    """

    def __init__(self, sampler: Sampler, *, n: int, seed: int, block: int, memory: int) -> None:
        self._sampler, self._n, self._seed = sampler, n, seed
        self.block, self._memory = block, memory
        self._kept: OrderedDict[int, LabelledPatches] = OrderedDict()
        self._bytes = 0

    def patches(self, wanted: Sequence[int]) -> list[Float[Tensor, " channel *space"]]:
        """Return patches by their numbers, 0 to n - 1; they are views of what is kept: change none."""
        needed = sorted({number // self.block for number in wanted})
        for first, last in _runs([one for one in needed if one not in self._kept]):
            self._draw(first, last)
        for one in needed:
            self._kept.move_to_end(one)
        found = [self._kept[number // self.block][number % self.block] for number in wanted]
        self._forget()
        return found

    def _draw(self, first: int, last: int) -> None:
        start, end = first * self.block, min((last + 1) * self.block, self._n)
        drawn = self._sampler.draw(first=start, n=end - start, seed=self._seed)
        for number, patches in enumerate(drawn.split(self.block), first):
            # Without a copy, one block that is kept would hold the memory of the whole draw.
            self._kept[number] = patches if first == last else patches.clone()
            self._bytes += patches.nbytes

    def _forget(self) -> None:
        while self._bytes > self._memory and self._kept:
            self._bytes -= self._kept.popitem(last=False)[1].nbytes


def _runs(numbers: list[int]) -> list[tuple[int, int]]:
    """Return the first and the last of every run of consecutive numbers, which rise."""
    runs: list[tuple[int, int]] = []
    for number in numbers:
        if runs and number == runs[-1][1] + 1:
            runs[-1] = (runs[-1][0], number)
        else:
            runs.append((number, number))
    return runs
