"""Arrays of any library as NumPy's, none of them imported."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from wanllmdb.errors import InvalidInputError

if TYPE_CHECKING:
    import numpy as np


def is_tensor(value: Any) -> bool:
    """Whether it is a torch tensor, whose channels come first."""
    return hasattr(value, "permute") and hasattr(value, "detach")


def native(value: Any) -> Any:
    """What NumPy takes an array from; a tensor may be on a device, and need gradients.

    Brain floats, which NumPy has none of, become float32.
    """
    if hasattr(value, "detach"):
        value = value.detach().cpu()
    if "bfloat16" in str(getattr(value, "dtype", "")):
        value = value.float() if hasattr(value, "float") else value.astype("float32")
    return value.numpy() if hasattr(value, "numpy") else value


def as_numpy(value: Any, what: str) -> np.ndarray[Any, Any]:
    """An array of any library, or nested lists of numbers, as NumPy's.

    Args:
        value: The array.
        what: Whose it is, for the message.

    Raises:
        InvalidInputError: it is none.
    """
    import numpy as np

    try:
        found = np.asarray(native(value))
    except Exception as error:
        raise InvalidInputError(
            f"{what} takes an array, not this {type(value).__name__} ({error}).",
            hint="Give an array of numbers, or the path of a file.",
        ) from error
    if found.dtype.kind not in "biuf":
        raise InvalidInputError(
            f"{what} takes an array of numbers, not of {found.dtype}.",
            hint="Give an array of numbers, or the path of a file.",
        )
    return found
