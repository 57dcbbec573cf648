"""Finding the bad elements of an array.

Goal: exactly the bad ones, in order, with few calls, whatever the reader hints.
Method: readers that refuse chosen elements, hint rightly, wrongly or not at all, and count calls.
"""

import pyarrow as pa
import pytest

from k2i_core.decode.isolation import UnfitError, UnreadableError, find_unfit, read_good

SCHEMA = pa.schema([("t", pa.string())])
PATTERNS = [set[int](), {0}, {99}, {50, 51}, {0, 99}, set(range(100)), set(range(0, 100, 7))]


class PickyReader:
    """Refuses texts in `bad`; `hint` tells which row of the part it names."""

    def __init__(self, bad: set[int], hint: str) -> None:
        self.bad = {str(index) for index in bad}
        self.hint = hint
        self.calls = 0

    def read(self, texts: pa.StringArray) -> pa.RecordBatch:
        self.calls += 1
        refused = [n for n, text in enumerate(texts.to_pylist()) if text in self.bad]
        if refused:
            hints = {"right": refused[0], "none": None, "first": 0, "last": len(texts) - 1}
            raise UnreadableError(hints.get(self.hint, 10_000))
        return pa.RecordBatch.from_arrays([texts], schema=SCHEMA)


@pytest.mark.parametrize("hint", ["right", "none", "first", "last", "beyond"])
@pytest.mark.parametrize("bad", PATTERNS, ids=len)
def test_exactly_the_bad_texts_are_left_out(bad: set[int], hint: str) -> None:
    reader = PickyReader(bad, hint)
    texts = pa.array([str(index) for index in range(100)])

    rows, unreadable = read_good(texts, reader.read, SCHEMA)

    assert unreadable == sorted(bad)
    assert rows.column("t").to_pylist() == [str(n) for n in range(100) if n not in bad]
    assert reader.calls <= 5 * 100


def test_one_bad_text_among_many_costs_few_calls() -> None:
    texts = pa.array([str(index) for index in range(20_000)])

    for hint, calls_max in (("right", 5), ("none", 40)):
        reader = PickyReader({12_345}, hint)
        read_good(texts, reader.read, SCHEMA)
        assert reader.calls <= calls_max


@pytest.mark.parametrize("bad", PATTERNS, ids=len)
def test_exactly_the_unfit_values_are_found(bad: set[int]) -> None:
    def convert(numbers: pa.Int64Array) -> None:
        if bad.intersection(numbers.to_pylist()):
            raise UnfitError

    assert find_unfit(pa.array(range(100)), convert) == sorted(bad)


def test_nothing_is_found_in_nothing() -> None:
    def refuse(_: object) -> None:
        raise UnfitError

    assert find_unfit(pa.array([], pa.int64()), refuse) == []
