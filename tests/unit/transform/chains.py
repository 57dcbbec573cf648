"""Chains as a pipeline file declares them, and records with an origin to put through."""

from typing import Any

import pyarrow as pa

from k2i_core.config.load import parse_pipeline
from k2i_core.records import KAFKA_TYPE, TransformedRows
from k2i_core.transform.chain import Transforms
from k2i_core.wiring.transforms import transforms_of

PIPELINE = {
    "name": "orders",
    "kafka": {"bootstrap_servers": "localhost:9092", "topics": ["orders"]},
    "catalog": {"type": "sql", "uri": "sqlite:///c.db", "warehouse": "w"},
    "table": {"identifier": "sales.orders"},
}


def transforms(*steps: dict[str, Any]) -> Transforms:
    made = transforms_of(parse_pipeline({**PIPELINE, "transforms": list(steps)}))
    assert made is not None
    return made


def origin_of(count: int) -> pa.StructArray:
    one = {"topic": "orders", "partition": 3, "timestamp": None, "key": b"k", "headers": None}
    return pa.array([{**one, "offset": 100 + n} for n in range(count)], KAFKA_TYPE)


def apply(made: Transforms, rows: pa.RecordBatch) -> TransformedRows:
    done = made.apply(rows, origin_of(rows.num_rows))
    assert done.rows.schema.equals(made.derive(rows.schema))
    done.rows.validate(full=True)
    assert len(done.origin) == done.rows.num_rows
    kept = range(rows.num_rows) if done.row_indices is None else done.row_indices.to_pylist()
    assert [100 + n for n in kept] == done.origin.field("offset").to_pylist()
    return done
