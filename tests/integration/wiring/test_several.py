"""How many tables records may make, against a real catalog.

Goal: `max_tables` holds for all workers together. Method: tables are there that another worker made
since this one started; what it may do then, and what it knows once it has started over.
"""

from pathlib import Path

import pyarrow as pa
import pytest
from pyiceberg.schema import Schema

from k2i_core.clock import SystemClock
from k2i_core.config.load import parse_pipeline
from k2i_core.errors import ConflictError, ErrorKind
from k2i_core.records import POLLED_SCHEMA
from k2i_core.wiring.formats import Formats
from k2i_core.wiring.settings import catalog_opener
from k2i_core.wiring.several import check_room, made_tables, named_tables, router_of


def test_max_tables_counts_what_other_workers_made_since(tmp_path: Path) -> None:
    pipeline = parse_pipeline(
        {
            "name": "shop",
            "kafka": {"bootstrap_servers": "localhost:9092", "topics": ["events"]},
            "catalog": {
                "type": "sql",
                "uri": f"sqlite:///{tmp_path}/catalog.db",
                "warehouse": str(tmp_path / "warehouse"),
            },
            "dead_letters": {"table": "shop.dead_letters"},
            "tables": [
                {
                    "identifier": "shop.{value}",
                    "match": {"field": "type", "pattern": ".*"},
                    "max_tables": 2,
                },
                {"identifier": "shop.rest"},
            ],
        }
    )
    catalog = catalog_opener(pipeline)()
    assert named_tables(pipeline, catalog) == []
    check_room(pipeline, catalog, "shop.a")
    catalog.create_namespace("shop")
    for name in ("rest", "dead_letters", "a", "b"):
        catalog.create_table(f"shop.{name}", Schema())

    check_room(pipeline, catalog, "shop.b")
    with pytest.raises(ConflictError, match=r"shop\.c would be one too many") as refused:
        check_room(pipeline, catalog, "shop.c")
    assert refused.value.kind is ErrorKind.CHECKPOINT_STALE

    # Nothing was committed to them, and they count all the same.
    assert made_tables(pipeline, catalog) == []
    router = router_of(pipeline, Formats(pipeline, SystemClock()), named_tables(pipeline, catalog))
    rows = [
        {"topic": "events", "partition": 0, "offset": n, "value": b'{"type": "%c"}' % text}
        for n, text in enumerate(b"bc")
    ]
    routes = router(pa.RecordBatch.from_pylist(rows, schema=POLLED_SCHEMA))
    assert [routes.tables[code] for code in routes.codes] == ["shop.b", "shop.rest"]
    assert [(f.index, f.error_class) for f in routes.refused] == [(1, "too_many_tables")]
