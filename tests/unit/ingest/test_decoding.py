"""Every polled record becomes exactly one of row, dead letter and tombstone, and is counted as it.

Goal: I1 within a batch; a bad record touches none of its neighbours. Method: all mixes of good, bad
and empty values around a decoder with known verdicts, against counting by hand.
"""

import numpy as np
import pyarrow as pa
from hypothesis import given
from hypothesis import strategies as st

from k2i_core.ingest.decoding import (
    DecodeSettings,
    MissingSchemas,
    WiderSchema,
    decode_batch,
    fingerprint,
)
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import (
    DEAD_LETTER_SCHEMA,
    POLLED_SCHEMA,
    DecodedBatch,
    DecodedValues,
    DecodeFailure,
    PolledBatch,
)
from tests.fakes.judging_decoder import BAD, GOOD, JudgingDecoder
from tests.fakes.memory_files import origins_of

P0, P1 = TopicPartition("orders", 0), TopicPartition("orders", 1)
OTHER = TopicPartition("returns", 1)
SETTINGS = DecodeSettings("sales.orders", {})
values = st.sampled_from([GOOD, BAD, None])


def polled(of_partitions: dict[TopicPartition, list[bytes | None]], start: int = 5) -> PolledBatch:
    flat = [
        (tp, start + n, value)
        for tp, listed in of_partitions.items()
        for n, value in enumerate(listed)
    ]
    records = pa.RecordBatch.from_pylist(
        [
            {"topic": tp.topic, "partition": tp.kafka_partition, "offset": o, "value": value}
            for tp, o, value in flat
        ],
        schema=POLLED_SCHEMA,
    )
    ranges = tuple(OffsetRange(tp, start, start + len(v)) for tp, v in of_partitions.items() if v)
    return PolledBatch(records, ranges, 7, 0.0)


def offsets_of(rows: pa.RecordBatch) -> list[tuple[TopicPartition, int]]:
    return origins_of(rows)


@given(st.sampled_from([P1, OTHER]), st.lists(values, max_size=8), st.lists(values, max_size=8))
def test_every_record_is_exactly_one_of_row_dead_letter_and_tombstone(beside, first, second):
    listed = {P0: first, beside: second}
    decoded = decode_batch(polled(listed), JudgingDecoder(), SETTINGS, 0)

    expected = {
        kind: [
            (tp, 5 + n) for tp, v in listed.items() for n, value in enumerate(v) if value == kind
        ]
        for kind in (GOOD, BAD)
    }
    assert offsets_of(decoded.rows) == expected[GOOD]
    assert offsets_of(decoded.dead_letters) == expected[BAD]
    for counted in decoded.ranges:
        own = listed[counted.offsets.topic_partition]
        assert counted.counts.row_count == own.count(GOOD)
        assert counted.counts.dead_letter_count == own.count(BAD)
        assert counted.counts.tombstone_count == own.count(None)
        assert counted.counts.byte_count == sum(len(value or b"") for value in own)


@given(st.lists(values, min_size=1, max_size=8), st.sets(st.integers(5, 12)))
def test_a_standing_verdict_is_kept_whatever_the_decoder_thinks(listed, judged):
    settings = DecodeSettings("sales.orders", {P0: np.array(sorted(judged), np.int64)})
    decoded = decode_batch(polled({P0: listed}), JudgingDecoder(), settings, 0)

    assert not {o for _, o in offsets_of(decoded.rows)} & judged
    assert not {o for _, o in offsets_of(decoded.dead_letters)} & judged
    (counted,) = decoded.ranges
    standing = sum(1 for n, v in enumerate(listed) if 5 + n in judged and v is not None)
    fresh = sum(1 for n, v in enumerate(listed) if 5 + n not in judged and v == BAD)
    assert counted.counts.dead_letter_count == standing + fresh
    assert counted.counts.record_count == len(listed)


def test_a_verdict_on_one_partition_says_nothing_about_another():
    settings = DecodeSettings("sales.orders", {P1: np.array([5])})
    decoded = decode_batch(polled({P0: [GOOD], P1: [GOOD]}), JudgingDecoder(), settings, 0)

    assert offsets_of(decoded.rows) == [(P0, 5)]


def test_a_batch_of_moved_positions_alone_is_counted_as_nothing():
    batch = PolledBatch(polled({}).records, (OffsetRange(P0, 5, 9),), 0, 0.0)

    decoded = decode_batch(batch, JudgingDecoder(), SETTINGS, 0)

    assert decoded.rows.num_rows == 0
    assert decoded.ranges[0].offsets == OffsetRange(P0, 5, 9)
    assert decoded.ranges[0].counts.record_count == 0


def test_a_dead_letter_keeps_the_bytes_and_says_why():
    decoded = decode_batch(polled({P0: [GOOD, BAD]}), JudgingDecoder(), SETTINGS, 1_000)

    assert decoded.dead_letters.schema == DEAD_LETTER_SCHEMA
    (letter,) = decoded.dead_letters.to_pylist()
    assert letter["value"] == BAD
    assert (letter["target_table"], letter["stage"]) == ("sales.orders", "value")
    assert letter["error_class"] == "refused"
    assert letter["first_seen"].timestamp() == 1.0
    assert letter["_kafka"]["offset"] == 6


def test_a_bad_key_is_a_dead_letter_once_even_if_the_value_is_bad_too():
    def check_keys(keys: pa.Array) -> tuple[DecodeFailure, ...]:
        return tuple(DecodeFailure(i, "bad_key", "no") for i in range(len(keys)))

    settings = DecodeSettings("sales.orders", {}, check_keys)
    decoded = decode_batch(polled({P0: [GOOD, BAD, None]}), JudgingDecoder(), settings, 0)

    assert decoded.rows.num_rows == 0
    assert [letter["stage"] for letter in decoded.dead_letters.to_pylist()] == ["key", "key"]
    assert decoded.ranges[0].counts.tombstone_count == 1


def test_a_wider_schema_is_handed_back_before_anything_is_counted():
    wider = pa.schema([pa.field("value", pa.binary()), pa.field("more", pa.int64())])

    class Widening(JudgingDecoder):
        def decode(self, records: pa.RecordBatch) -> DecodedValues:
            rows = records.select(["value"]).slice(0, 0)
            return DecodedValues(rows, proposed_schema=wider)

    assert decode_batch(polled({P0: [GOOD]}), Widening(), SETTINGS, 0) == WiderSchema(wider)


def test_missing_schemas_are_handed_back_before_anything_is_counted():
    class Asking(JudgingDecoder):
        def decode(self, records: pa.RecordBatch) -> DecodedValues:
            rows = records.select(["value"]).slice(0, 0)
            return DecodedValues(rows, missing_schema_ids=frozenset({7}))

    found = decode_batch(polled({P0: [GOOD]}), Asking(), SETTINGS, 0)
    assert found == MissingSchemas(frozenset({7}))


def test_a_dead_letter_names_the_schema_of_its_record():
    class Naming(JudgingDecoder):
        def decode(self, records: pa.RecordBatch) -> DecodedValues:
            rows = records.select(["value"]).slice(0, 0)
            failure = DecodeFailure(0, "invalid_encoding", "cut off", schema_id=7)
            return DecodedValues(rows, pa.array([], pa.int64()), (failure,))

    decoded = decode_batch(polled({P0: [BAD]}), Naming(), SETTINGS, 0)
    assert isinstance(decoded, DecodedBatch)
    assert decoded.dead_letters.column("schema_id").to_pylist() == [7]


def test_failures_for_the_same_reason_share_a_fingerprint():
    one, two = (DecodeFailure(n, "invalid_json", f"at byte {n}") for n in (3, 4711))
    other = DecodeFailure(3, "invalid_json", "unexpected end")

    assert fingerprint("value", one)[:4] != ""
    assert fingerprint("value", DecodeFailure(0, "x", "byte 17")) == fingerprint(
        "value", DecodeFailure(9, "x", "byte 42")
    )
    assert fingerprint("value", one) != fingerprint("value", other)
    assert fingerprint("value", one) != fingerprint("key", one)
    assert len(fingerprint("value", two)) == 16
