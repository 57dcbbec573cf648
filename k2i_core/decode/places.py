"""What was decoded of some values, told as of all of them."""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from k2i_core.decode.arrow import AnyArray, indices
from k2i_core.decode.cursors import Integers
from k2i_core.records import DecodedValues, DecodeFailure


def among(
    decoded: DecodedValues, places: Integers, others: Mapping[int, DecodeFailure]
) -> DecodedValues:
    """Return what a decoder made of the values at `places` as if it had been given all of them.

    Args:
        decoded: Of the values at `places` alone.
        places: Ascending.
        others: All other values, each a failure.

    """
    if decoded.proposed_schema is not None or decoded.missing_schema_ids:
        return decoded
    if (breaking := decoded.breaking) is not None:
        return replace(decoded, breaking=replace(breaking, index=int(places[breaking.index])))
    failures = dict(others)
    for failure in decoded.failures:
        place = int(places[failure.index])
        failures[place] = replace(failure, index=place)
    if not failures:
        return decoded
    return DecodedValues(
        rows=decoded.rows,
        row_indices=indices(places[kept_places(decoded)]),
        failures=tuple(failures[place] for place in sorted(failures)),
    )


def kept_places(decoded: DecodedValues) -> Integers:
    """Return which of the values each row was made of."""
    if decoded.row_indices is None:
        return np.arange(decoded.rows.num_rows)
    return decoded.row_indices.to_numpy()


def spread(array: AnyArray, places: Integers, count: int) -> AnyArray:
    """Return `count` elements: those of `array` at their places, null at all others."""
    found = np.zeros(count, np.int64)
    is_absent = np.ones(count, np.bool_)
    found[places] = np.arange(len(places))
    is_absent[places] = False
    return array.take(indices(found, is_absent))
