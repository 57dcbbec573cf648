"""What docs/privacy.md shows is what happens.

Goal: whoever copies the example gets the row that the page shows. Method: its file is read, its
record decoded and protected, and the result is written as the page writes it.
"""

import re
from pathlib import Path

import pyarrow as pa
import yaml

from k2i_core.config.load import read_pipeline
from k2i_core.config.privacy import ACTIONS, Privacy
from k2i_core.records import POLLED_SCHEMA
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.settings import declared_schema
from k2i_core.wiring.transforms import transforms_of
from tests.unit.transform.chains import apply

PAGE = (Path(__file__).parents[3] / "docs" / "privacy.md").read_text(encoding="utf-8")
YAML, RECORD, ROW, TAGS = re.findall(
    r"^```(?:yaml|json|text)\n(.*?)^```", PAGE, re.DOTALL | re.MULTILINE
)


def test_the_record_of_the_page_becomes_the_row_that_it_shows():
    pipeline = read_pipeline(YAML, "privacy.md")
    declared = declared_schema(pipeline)
    assert declared is not None
    decoder = Formats(pipeline, clock=None).make_decoder(declared)  # type: ignore[arg-type]
    made = transforms_of(pipeline)
    assert made is not None
    polled = {"topic": "customers", "partition": 0, "offset": 0, "value": RECORD.encode()}
    decoded = decoder.decode(pa.RecordBatch.from_pylist([polled], POLLED_SCHEMA))
    (row,) = apply(made, decoded.rows).rows.to_pylist()
    assert "".join(f"{name:8} {value}\n" for name, value in row.items()) == ROW


def test_the_table_names_every_action():
    assert re.findall(r"^\| `(\w+)` \|", PAGE, re.MULTILINE) == list(ACTIONS)


def test_the_tags_of_the_page_are_settings():
    section = yaml.safe_load(TAGS)["privacy"]
    assert Privacy.model_validate({**section, "secret": "x" * 16}).tags == section["tags"]
