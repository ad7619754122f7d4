"""Secure sums without noise, to compare them with plain ones."""

from types import ModuleType

MODULE = "willis.shared.secure_sum.noise"


def tamper(noise: ModuleType) -> None:
    honest = vars(noise)["discrete_gaussian"]
    vars(noise)["discrete_gaussian"] = lambda n, scale: honest(n, scale) * 0
