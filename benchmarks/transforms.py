"""What transforms and privacy cost a row, beside decoding it."""

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import pyarrow as pa

from benchmarks.bench import Bench
from benchmarks.figures import Figure, Group, Result, figure
from k2i_core.config import parse_pipeline
from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.records import KAFKA_TYPE
from k2i_core.wiring.transforms import transforms_of

BATCH_ROWS = 20_000
ROUNDS = 10

COLUMNS = pa.schema(
    [
        pa.field("order_id", pa.int64()),
        pa.field("price", pa.string()),
        pa.field("quantity", pa.int64()),
        pa.field("status", pa.string()),
        pa.field("email", pa.string()),
        pa.field("payload", pa.string()),
        pa.field("customer", pa.struct([("id", pa.int64()), ("city", pa.string())])),
    ]
)

_Steps = Sequence[Mapping[str, Any]]
_COLUMN_STEPS: _Steps = [
    {"rename": {"order_id": "id"}},
    {"flatten": ["customer"]},
    {"constant": {"source": "eu"}},
    {"kafka": {"topic": "source_topic", "offset": "source_offset"}},
]
_CAST: _Steps = [{"cast": {"price": "decimal(12, 2)"}}]
_SQL: _Steps = [{"sql": {"total": "quantity * 2 + order_id"}}]
_FILTER: _Steps = [{"filter": "status <> 'test'"}]

CASES: Mapping[str, tuple[_Steps, Mapping[str, str]]] = {
    "rename, flatten, constant, kafka": (_COLUMN_STEPS, {}),
    "cast of a text to decimal": (_CAST, {}),
    "one sql expression": (_SQL, {}),
    "filter": (_FILTER, {}),
    "jmespath, two expressions": (
        [{"jmespath": {"payload": {"a": "customer.address.city", "b": "items[].sku"}}}],
        {},
    ),
    "all of these but jmespath": ([*_CAST, *_SQL, *_FILTER, *_COLUMN_STEPS], {}),
    "hash of one column": ([], {"email": "hash"}),
    "mask of one column": ([], {"email": "mask"}),
}


def run(bench: Bench) -> Result:
    """Measure typical steps over batches in memory."""
    records = [_record(number) for number in range(BATCH_ROWS)]
    rows = pa.RecordBatch.from_pylist(records, schema=COLUMNS)
    origin = _origin(BATCH_ROWS)
    costs: dict[str, list[float]] = {"decoding JSON": []}
    values = pa.array([json.dumps(record).encode() for record in records], pa.binary())
    assert isinstance(values, pa.BinaryArray)
    decoder = JsonDecoder(COLUMNS)
    for _ in range(bench.options.repeat):
        costs["decoding JSON"].append(_cost(partial(decoder.decode, values)))
        for name, (steps, columns) in CASES.items():
            pipeline = parse_pipeline(_settings(steps, columns))
            made = transforms_of(pipeline)
            assert made is not None
            made.apply(rows, origin)  # plans the chain
            costs.setdefault(name, []).append(_cost(partial(made.apply, rows, origin)))
    figures: tuple[Figure, ...] = tuple(figure(n, "ns/row", *c) for n, c in costs.items())
    return Result(
        "transforms",
        {"repeat": bench.options.repeat},
        (Group(f"batches of {BATCH_ROWS:,} rows", figures),),
        ("ns/row: processor time of the steps alone, one thread",),
    )


def _cost(do: Callable[[], object]) -> float:
    started = time.process_time()
    for _ in range(ROUNDS):
        do()
    return (time.process_time() - started) / (ROUNDS * BATCH_ROWS) * 1e9


def _settings(steps: _Steps, columns: Mapping[str, str]) -> dict[str, object]:
    privacy = {"columns": dict(columns), "secret": "measured and not a secret", "key": "keep"}
    return {
        "name": "measured",
        "kafka": {"bootstrap_servers": "localhost:9092", "topics": ["measured"]},
        "catalog": {"type": "sql", "uri": "sqlite:///c.db", "warehouse": "w"},
        "table": {"identifier": "bench.measured"},
        "transforms": list(steps),
        **({"privacy": privacy} if columns else {}),
    }


def _record(number: int) -> dict[str, Any]:
    return {
        "order_id": number,
        "price": f"{number % 500}.50",
        "quantity": number % 7,
        "status": "test" if number % 10 == 0 else "new",
        "email": f"customer{number}@example.org",
        "payload": '{"customer": {"address": {"city": "Ulm"}}, "items": [{"sku": "a"}]}',
        "customer": {"id": number, "city": f"city {number % 100}"},
    }


def _origin(count: int) -> pa.StructArray:
    one = {"topic": "measured", "partition": 0, "timestamp": None, "key": None, "headers": None}
    made = pa.array([{**one, "offset": n} for n in range(count)], KAFKA_TYPE)
    assert isinstance(made, pa.StructArray)
    return made
