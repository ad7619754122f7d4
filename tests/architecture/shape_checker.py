"""The type checker that runs under the tests: shapes and dtypes of arrays, and nothing else.

pytest's ``--jaxtyping-packages`` decorates every function of the rooms with it (see pyproject.toml). Other
types are pyright's: tests hand wrong ones in on purpose, to see them refused by the code itself.
"""

from collections.abc import Callable
from typing import Any, get_args

from beartype import beartype
from jaxtyping import AbstractArray


def check(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return the function, refusing arrays that are not as its annotations say."""
    hints = getattr(function, "__annotations__", {})
    function.__annotations__ = {name: hint for name, hint in hints.items() if names_an_array(hint)}
    return beartype(function)


def names_an_array(hint: object) -> bool:
    """Whether an array stands anywhere in a type."""
    if isinstance(hint, type) and issubclass(hint, AbstractArray):
        return True
    return any(names_an_array(part) for part in get_args(hint))
