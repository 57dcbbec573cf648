"""Decoders under damaged records: bits flipped, ends cut off, frames broken, records mixed up.

Goal: no crash, no hang, no wrong row: what a record becomes is what it becomes alone, and a record
that is whole stays a row.
Method: valid records of every format, some of them damaged at random, decoded together and one by
one, with and without the native readers. Two seconds in the suite; `make soak` gives each format as
long as it is told. One of them alone for ten minutes:

    .venv/bin/python -m pytest tests/e2e/test_fuzzed_formats.py -m soak --soak-seconds 600 \
        --timeout 0 -k csv
"""

import gc
import json
import random
from typing import Any

import pyarrow as pa
import pytest

from benchmarks.formats import encoded_samples
from k2i_core.clock import SystemClock
from k2i_core.decode.schema_decoder import SchemaDecoder
from k2i_core.ingest.ports import Decoder
from k2i_core.schema.registered import NoSuchSchema, SchemaId, SchemaLanguage, WriterSchema
from tests.json_paths import needs_native

SECONDS = 2.0
BATCH_SECONDS_MAX = 20.0
RECORDS = 60
SAMPLES = 300

FORMATS = ("json", "avro", "protobuf", "avro behind a number", "msgpack", "arrow_ipc", "csv")
NATIVE_FORMATS = ("json natively", "avro natively", "protobuf natively")
FRAME = b"\0\0\0\0\7"

each_format = pytest.mark.parametrize(
    "name", [*FORMATS, *(pytest.param(name, marks=needs_native) for name in NATIVE_FORMATS)]
)

Sample = tuple[Decoder, list[bytes]]
"""What decodes a format, and whole records of it."""


class OneSchema:
    """A registry that knows one number."""

    def find(self, schema_id: SchemaId) -> WriterSchema | NoSuchSchema:
        if schema_id == 7:
            return WriterSchema(7, SchemaLanguage.AVRO, "")
        return NoSuchSchema(schema_id)


def samples() -> dict[str, Sample]:
    made: dict[str, Sample] = encoded_samples(SAMPLES)
    avro, whole = made["avro"]
    assert isinstance(avro, SchemaDecoder)
    framed = SchemaDecoder(avro.row_schema, OneSchema(), avro._make_reader)
    made["avro behind a number"] = framed, [FRAME + value for value in whole]
    return made


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


def is_row(verdict: str) -> bool:
    return verdict.startswith("{")


class Fuzz:
    """Counts what was decoded."""

    def __init__(self, seed: int) -> None:
        self.chosen = random.Random(seed)
        self.record_count = self.damaged_count = self.failure_count = 0

    def round(self, decoder: Decoder, whole: list[bytes]) -> None:
        """Decode a batch, some of it damaged, and each damaged record again, alone."""
        chosen, clock = self.chosen, SystemClock()
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
                assert alone == verdict or not (is_row(alone) or is_row(verdict))
            else:
                assert is_row(verdict), verdict
        self.record_count += len(values)
        self.damaged_count += sum(is_damaged)
        self.failure_count += sum(not is_row(verdict) for verdict in together)

    def go_on(self, seconds: float, *formats: Sample) -> None:
        """Let the formats take turns."""
        clock = SystemClock()
        ends = clock.boot_seconds() + seconds
        while clock.boot_seconds() < ends:
            for decoder, whole in formats:
                self.round(decoder, whole)


def test_a_damaged_record_of_any_format_harms_only_itself(seed: int) -> None:
    Fuzz(seed).go_on(SECONDS, *samples().values())


@each_format
def test_damaged_records_leave_no_circles_behind(name: str, seed: int) -> None:
    """An exception that is kept keeps its frames, and with them the whole batch, until the next
    garbage collection; while a worker polls there is hardly any."""
    decoder, whole = samples()[name]
    chosen = random.Random(seed)
    values = [damage(chosen.choice(whole), chosen.choice(whole), chosen) for _ in range(RECORDS)]
    array = pa.array(values, pa.binary())
    gc.collect()
    gc.disable()
    try:
        assert decoder.decode(array).failures
        assert gc.collect() == 0
    finally:
        gc.enable()


@pytest.mark.soak
@each_format
def test_damaged_records_for_as_long_as_told(
    name: str, seed: int, soak_seconds: float, record_property
) -> None:
    fuzz = Fuzz(seed)
    fuzz.go_on(soak_seconds, samples()[name])

    record_property("records", fuzz.record_count)
    record_property("damaged", fuzz.damaged_count)
    record_property("failures", fuzz.failure_count)
    assert 0 < fuzz.failure_count <= fuzz.damaged_count
