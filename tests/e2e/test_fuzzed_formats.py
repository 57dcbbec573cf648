"""Decoders under damaged records: bits flipped, ends cut off, frames broken, records mixed up.

Goal: no crash, no hang, no wrong row: what a record becomes is what it becomes alone, and a record
that is whole stays a row.
Method: valid records of every format, some of them damaged at random, decoded together and one by
one. Two seconds in the suite; `make soak` goes on for as long as it is told.
"""

import json
import random
from typing import Any

import pyarrow as pa
import pytest

from benchmarks.formats import encoded_samples
from k2i_core.clock import SystemClock
from k2i_core.ingest.ports import Decoder

SECONDS = 2.0
BATCH_SECONDS_MAX = 20.0
RECORDS = 60


def damage(value: bytes, other: bytes, chosen: random.Random) -> bytes:
    match chosen.randrange(5):
        case 0:
            return value[: chosen.randrange(len(value) + 1)]
        case 1:
            return value + chosen.randbytes(chosen.randrange(1, 4))
        case 2:
            return chosen.randbytes(chosen.randrange(40))
        case 3:
            at = chosen.randrange(len(value) + 1)
            return value[:at] + other[chosen.randrange(len(other) + 1) :]
        case _:
            flipped = bytearray(value)
            for _ in range(chosen.randrange(1, 4)):
                flipped[chosen.randrange(len(flipped))] ^= 1 << chosen.randrange(8)
            return bytes(flipped)


def verdicts(decoder: Decoder, values: list[bytes]) -> list[Any]:
    array = pa.array(values, pa.binary())
    assert isinstance(array, pa.BinaryArray)
    decoded = decoder.decode(array)
    decoded.rows.validate(full=True)
    found: list[Any] = [None] * len(values)
    for failure in decoded.failures:
        found[failure.index] = failure.error_class
    places = range(len(values)) if decoded.row_indices is None else decoded.row_indices.to_pylist()
    for place, row in zip(places, decoded.rows.to_pylist(), strict=True):
        assert found[place] is None
        found[place] = json.dumps(row, default=str)
    assert None not in found
    return found


def fuzz(decoder: Decoder, whole: list[bytes], chosen: random.Random) -> None:
    clock = SystemClock()
    values = [chosen.choice(whole) for _ in range(RECORDS)]
    is_damaged = [chosen.random() < 0.3 for _ in values]
    values = [
        damage(value, chosen.choice(whole), chosen) if bad else value
        for value, bad in zip(values, is_damaged, strict=True)
    ]
    started = clock.boot_seconds()
    together = verdicts(decoder, values)
    assert clock.boot_seconds() - started < BATCH_SECONDS_MAX
    for value, bad, verdict in zip(values, is_damaged, together, strict=True):
        if bad:
            [alone] = verdicts(decoder, [value])
            assert (alone == verdict) or not (alone.startswith("{") or verdict.startswith("{"))
        else:
            assert verdict.startswith("{"), verdict


def fuzz_all(seconds: float, seed: int) -> None:
    chosen, clock = random.Random(seed), SystemClock()
    samples: list[tuple[Decoder, list[bytes]]] = encoded_samples(300)
    ends = clock.boot_seconds() + seconds
    while clock.boot_seconds() < ends:
        for decoder, whole in samples:
            fuzz(decoder, whole, chosen)


def test_a_damaged_record_of_any_format_harms_only_itself(seed: int) -> None:
    fuzz_all(SECONDS, seed)


@pytest.mark.soak
def test_damaged_records_for_as_long_as_told(seed: int, soak_seconds: float) -> None:
    fuzz_all(soak_seconds, seed)
