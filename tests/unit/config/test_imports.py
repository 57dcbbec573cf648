"""Goal: a pipeline file is read and checked without loading any heavy library.

Method: a fresh interpreter loads the sample, with columns, partition fields and sort fields, and
one in which these do not fit together, then what `k2i validate` is made of, and tells which modules
it has after that.
"""

import subprocess
import sys

import pytest

from tests.unit.config.pipeline_texts import SAMPLE

HEAVY = ("pyarrow", "numpy", "pyiceberg", "duckdb", "confluent_kafka")

BROKEN = SAMPLE.replace("type: timestamptz", "type: list<string>").replace(
    "sort_by: [created_at]", "sort_by: [created_at, nothing]"
)

PROGRAM = f"""
import sys
from k2i_core.config import json_schema
from k2i_core.config.load import read_pipeline
from k2i_core.errors import ConfigError

try:
    pipeline = read_pipeline(sys.stdin.read(), "orders.yaml")
    assert pipeline.declared_columns()
    assert pipeline.redacted()
except ConfigError as error:
    print(len(str(error).splitlines()), "problems")
json_schema()
import k2i_core.cli.validate
print(*(name for name in {HEAVY!r} if name in sys.modules))
"""


@pytest.mark.parametrize(
    ("text", "told"), [(SAMPLE, "\n"), (BROKEN, "3 problems\n\n")], ids=["sample", "broken"]
)
def test_a_pipeline_file_is_checked_without_any_heavy_library(text, told):
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        input=text,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.stdout, done.stderr) == (told, "")
