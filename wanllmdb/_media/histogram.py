"""Histograms."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self

from wanllmdb import _values
from wanllmdb._media.base import Document, Place, Value
from wanllmdb.errors import InvalidInputError

if TYPE_CHECKING:
    from wanllmdb._media.documents import Reader

MAX_BINS = 512


class Histogram(Value):
    """Counts of values in bins.

    Args:
        sequence: The values: numbers, or an array of any shape; those that are not
            finite are left out.
        np_histogram: The counts and the edges, as `numpy.histogram` gives them,
            instead.
        num_bins: How many bins the values are counted in, all of one width; 1 to 512.

    Attributes:
        histogram: The counts.
        bins: The edges of the bins, one more than counts.

    Raises:
        InvalidInputError: there are no values, too many bins, or not one edge more
            than counts.
    """

    TYPE = "histogram"

    def __init__(
        self,
        sequence: Any = None,
        np_histogram: tuple[Any, Any] | None = None,
        num_bins: int = _values.HISTOGRAM_BINS,
    ) -> None:
        if np_histogram is not None:
            if len(np_histogram) != 2:
                raise InvalidInputError(
                    f"np_histogram holds {len(np_histogram)} things, not 2.",
                    hint="Give (counts, edges).",
                )
            counts, edges = (_numbers(part) for part in np_histogram)
        else:
            _check_bins(num_bins)
            made = _values.histogram(_numbers(sequence), num_bins)
            counts, edges = made["values"], made["bins"]
        self._set(counts, edges)

    def _set(self, counts: Sequence[float], edges: Sequence[float]) -> None:
        _check_bins(len(counts))
        if len(edges) != len(counts) + 1:
            raise InvalidInputError(
                f"A histogram of {len(counts)} counts has {len(edges)} edges.",
                hint="Give one edge more than counts.",
            )
        self.histogram, self.bins = list(counts), list(edges)

    def __repr__(self) -> str:
        return f"<Histogram of {len(self.histogram)} bins>"

    def _document(self, place: Place) -> Document:
        del place
        return {"_type": self.TYPE, "values": self.histogram, "bins": self.bins}

    @classmethod
    def _of(cls, document: Mapping[str, Any], reader: Reader) -> Self:
        del reader
        made = cls.__new__(cls)
        made._set(_numbers(document["values"]), _numbers(document["bins"]))
        return made


def _check_bins(count: int) -> None:
    if not 1 <= count <= MAX_BINS:
        raise InvalidInputError(
            f"A histogram has 1 to {MAX_BINS} bins, not {count}.", hint="Use fewer."
        )


def _numbers(values: Any) -> list[float]:
    """Numbers of a sequence or of an array of any shape."""
    found = list(_leaves(values))
    for number in found:
        if not isinstance(number, (bool, int, float)):
            raise InvalidInputError(
                f"A histogram is of numbers, not of a {type(number).__name__}.",
                hint="Give a sequence of numbers, or np_histogram=.",
            )
    return [int(x) if isinstance(x, bool) else x for x in found]


def _leaves(values: Any) -> Iterator[Any]:
    if hasattr(values, "tolist"):
        values = values.detach() if hasattr(values, "detach") else values
        values = values.tolist()
    if isinstance(values, Iterable) and not isinstance(values, (str, bytes, Mapping)):
        for value in values:
            yield from _leaves(value)
    else:
        yield values
