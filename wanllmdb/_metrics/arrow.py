"""Between NumPy and Arrow by their buffers, without pandas.

`pyarrow.array` and `to_numpy` import pandas wherever it is installed, which takes half
a second of CPU: too much for the end of a training run that never asked for it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import pyarrow as pa
    from numpy.typing import NDArray


def array(
    values: NDArray[Any], missing: NDArray[Any] | None = None, kind: Any = None
) -> pa.Array:
    """An Arrow array of NumPy's numbers or bools, of the same width.

    Args:
        values: One-dimensional.
        missing: Where it is true, the result is null.
        kind: Arrow type of the same width; default that of the values.
    """
    import numpy as np
    import pyarrow as pa

    valid, nulls = None, 0
    if missing is not None:
        nulls = int(np.count_nonzero(missing))
        if nulls:
            valid = pa.py_buffer(np.packbits(~missing, bitorder="little").tobytes())
    if values.dtype == bool:
        held: Any = np.packbits(values, bitorder="little").tobytes()
    else:
        held = np.ascontiguousarray(values)
    kind = kind or pa.from_numpy_dtype(values.dtype)
    return pa.Array.from_buffers(
        kind, len(values), [valid, pa.py_buffer(held)], null_count=nulls
    )


def texts(values: Sequence[str | None]) -> pa.Array:
    """An Arrow array of texts; None is null."""
    import numpy as np
    import pyarrow as pa

    encoded = [b"" if value is None else value.encode() for value in values]
    ends = np.zeros(len(values) + 1, np.int64)
    np.cumsum([len(text) for text in encoded], out=ends[1:])
    missing = np.array([value is None for value in values], bool)
    valid, nulls = None, int(np.count_nonzero(missing))
    if nulls:
        valid = pa.py_buffer(np.packbits(~missing, bitorder="little").tobytes())
    return pa.Array.from_buffers(
        pa.large_string(), len(values),
        [valid, pa.py_buffer(ends), pa.py_buffer(b"".join(encoded))], null_count=nulls,
    ).cast(pa.string())  # fmt: skip


def coded(numbers: NDArray[Any], names: Sequence[str]) -> pa.DictionaryArray:
    """An Arrow array of few different texts, given by their numbers."""
    import numpy as np
    import pyarrow as pa

    return pa.DictionaryArray.from_arrays(
        array(np.asarray(numbers).astype(np.int32)), texts(names or [""])
    )


def numbers(column: pa.Array | pa.ChunkedArray) -> NDArray[Any]:
    """The numbers or bools of an Arrow column that has no nulls; times are ints."""
    import numpy as np
    import pyarrow as pa

    if isinstance(column, pa.ChunkedArray):
        if column.num_chunks != 1:
            return (
                np.concatenate([numbers(chunk) for chunk in column.chunks])
                if column.num_chunks else np.empty(0, np.int64)
            )  # fmt: skip
        column = column.chunk(0)
    first, end = column.offset, column.offset + len(column)
    data = column.buffers()[1]
    if pa.types.is_boolean(column.type):
        bits = np.frombuffer(data, np.uint8) if data else np.empty(0, np.uint8)
        return np.unpackbits(bits, bitorder="little")[first:end].astype(bool)
    if pa.types.is_timestamp(column.type):
        kind = np.dtype(np.int64)
    else:
        kind = np.dtype(column.type.to_pandas_dtype())
    return (np.frombuffer(data, kind) if data else np.empty(0, kind))[first:end]


def valid(column: pa.ChunkedArray) -> NDArray[Any]:
    """Where a column holds a value."""
    return numbers(column.is_valid())
