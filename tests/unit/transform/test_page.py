"""What docs/transforms.md shows is what happens.

Goal: whoever copies an example gets the rows that the page shows. Method: its pipeline files are
read, its records decoded and transformed, and the result is written as the page writes it.
"""

import re
from pathlib import Path

import pyarrow as pa
import pytest
import yaml

from k2i_core.config.load import read_pipeline
from k2i_core.config.transforms import STEPS, Transform
from k2i_core.ingest.decoding import DecodeSettings, decode_batch
from k2i_core.offsets import OffsetRange, TopicPartition
from k2i_core.records import POLLED_SCHEMA, DecodedBatch, PolledBatch
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.settings import declared_schema
from k2i_core.wiring.transforms import transforms_of
from tests.unit.transform.chains import transforms

PAGE = (Path(__file__).parents[3] / "docs" / "transforms.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```(yaml|json|text)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE)


def block(kind: str, number: int = 0) -> str:
    return [text for name, text in BLOCKS if name == kind][number]


def decoded_example(pipeline_number: int, records_number: int) -> DecodedBatch:
    pipeline = read_pipeline(block("yaml", pipeline_number), "transforms.md")
    values = block("json", records_number).encode().splitlines()
    records = pa.RecordBatch.from_pylist(
        [
            {"topic": "orders", "partition": 0, "offset": 100 + n, "value": value}
            for n, value in enumerate(values)
        ],
        schema=POLLED_SCHEMA,
    )
    ranges = (OffsetRange(TopicPartition("orders", 0), 100, 100 + len(values)),)
    declared = declared_schema(pipeline)
    assert declared is not None
    decoder = Formats(pipeline, clock=None).make_decoder(declared)  # type: ignore[arg-type] - no registry
    settings = DecodeSettings("sales.orders", {}, transforms=transforms_of(pipeline))
    decoded = decode_batch(PolledBatch(records, ranges, 1, 0.0), decoder, settings, 0)
    assert isinstance(decoded, DecodedBatch)
    return decoded


def lines_of(decoded: DecodedBatch) -> list[list[str]]:
    rows = decoded.rows.drop_columns(["_kafka"])
    listed = (row.values() for row in rows.to_pylist())
    return [rows.schema.names, *(["null" if v is None else str(v) for v in row] for row in listed)]


def shown(number: int) -> list[list[str]]:
    return [re.split(r" {2,}", line) for line in block("text", number).splitlines()]


def test_the_records_of_the_page_become_the_rows_that_it_shows():
    decoded = decoded_example(0, 0)
    *rows, last = shown(0)
    assert rows == lines_of(decoded)
    (letter,) = decoded.dead_letters.to_pylist()
    said = f"{letter['stage']} {letter['error_class']}: {letter['message']}"
    assert last == [said]
    (counted,) = decoded.ranges
    assert (counted.counts.row_count, counted.counts.filtered_count) == (2, 1)
    assert counted.counts.dead_letter_count == 1


def test_the_exploded_records_of_the_page_become_the_rows_that_it_shows():
    decoded = decoded_example(2, 1)
    assert lines_of(decoded) == shown(1)
    (counted,) = decoded.ranges
    assert (counted.counts.row_count, counted.counts.extra_row_count) == (2, 1)
    assert (counted.counts.filtered_count, counted.counts.dead_letter_count) == (1, 0)


def test_the_expressions_of_the_page_can_be_computed():
    schema = pa.schema(
        [
            ("ts", pa.timestamp("us", tz="UTC")),
            ("items", pa.list_(pa.struct([("sku", pa.string())]))),
            ("payload", pa.string()),
            ("amount", pa.float64()),
        ]
    )
    made = transforms(*yaml.safe_load(block("yaml", 1))["transforms"])
    assert made.check(schema).names[-4:] == ["day", "skus", "channel", "grade"]


@pytest.mark.parametrize("text", re.findall(r"^\| `(.+?)` \|", PAGE, re.MULTILINE))
def test_every_step_of_the_table_is_one(text):
    Transform.model_validate(yaml.safe_load(text))


def test_the_table_names_every_step():
    named = re.findall(r"^\| `(\w+):", PAGE, re.MULTILINE)
    assert sorted(named) == sorted(STEPS)
