"""Finding the bad elements of an array.

Goal: exactly the bad ones, in order, with few calls, whatever reader and caller believe.
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
        self.parse_schema = SCHEMA

    def read(self, texts: pa.StringArray) -> pa.RecordBatch:
        self.calls += 1
        refused = [n for n, text in enumerate(texts.to_pylist()) if text in self.bad]
        if refused:
            hints = {"right": refused[0], "none": None, "first": 0, "last": len(texts) - 1}
            raise UnreadableError(hints.get(self.hint, 10_000))
        return pa.RecordBatch.from_arrays([texts], schema=SCHEMA)


GUESSES = {
    "right": lambda text, bad: text in bad,
    "nobody": lambda _text, _bad: False,
    "everybody": lambda _text, _bad: True,
    "wrong": lambda text, bad: text not in bad,
    "some": lambda text, _bad: len(text) == 1,
}


@pytest.mark.parametrize("guess", GUESSES)
@pytest.mark.parametrize("hint", ["right", "none", "first", "last", "beyond"])
@pytest.mark.parametrize("bad", PATTERNS, ids=len)
@pytest.mark.parametrize("count", [100, 700])
def test_exactly_the_bad_texts_are_left_out(
    bad: set[int], hint: str, guess: str, count: int
) -> None:
    reader = PickyReader(bad, hint)
    texts = pa.array([str(index) for index in range(count)])

    rows, unreadable = read_good(texts, reader, lambda text: GUESSES[guess](text, reader.bad))

    assert unreadable == sorted(bad)
    assert rows.column("t").to_pylist() == [str(n) for n in range(count) if n not in bad]
    assert reader.calls <= 4 * count


def test_one_bad_text_among_many_costs_few_calls() -> None:
    texts = pa.array([str(index) for index in range(20_000)])

    for hint, guess, calls_max in (
        ("right", "nobody", 20),
        ("none", "nobody", 40),
        ("none", "right", 20),
    ):
        reader = PickyReader({12_345}, hint)
        read_good(texts, reader, lambda text, g=guess, r=reader: GUESSES[g](text, r.bad))
        assert reader.calls <= calls_max


def test_many_bad_texts_cost_a_few_calls_each_when_the_guess_is_right() -> None:
    texts = pa.array([str(index) for index in range(20_000)])
    reader = PickyReader(set(range(0, 20_000, 20)), "none")

    read_good(texts, reader, lambda text: text in reader.bad)

    assert reader.calls <= 3 * 1_000


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
