"""What a decoder says of each record, side by side."""

from typing import Any

from k2i_core.records import DecodedValues


def verdicts(decoded: DecodedValues, count: int) -> list[Any]:
    """Each record's row, or class and message of its failure; never both and never neither."""
    decoded.rows.validate(full=True)
    found: list[Any] = [None] * count
    for failure in decoded.failures:
        found[failure.index] = (failure.error_class, failure.message)
    places = range(count) if decoded.row_indices is None else decoded.row_indices.to_pylist()
    for place, row in zip(places, decoded.rows.to_pylist(), strict=True):
        assert found[place] is None
        found[place] = row
    assert None not in found
    return found
