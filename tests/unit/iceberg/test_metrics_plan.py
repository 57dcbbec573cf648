"""Which columns get statistics.

Goal: what proof and pruning read is always there, and wide tables do not drown in their manifests.
"""

import pyarrow as pa
import pytest
from pyiceberg.io.pyarrow import MetricModeTypes

from k2i_core.iceberg.data_files import metrics_plan
from k2i_core.iceberg.tables import with_kafka
from k2i_core.iceberg.types import iceberg_schema

SCHEMA = iceberg_schema(
    with_kafka(
        pa.schema(
            [
                pa.field("id", pa.int64()),
                pa.field("name", pa.string()),
                pa.field("place", pa.struct([pa.field("city", pa.string())])),
                pa.field("items", pa.list_(pa.struct([pa.field("sku", pa.string())]))),
            ]
        )
    )
)
WIDE = iceberg_schema(
    with_kafka(pa.schema([pa.field(f"c{n:03}", pa.string()) for n in range(150)]))
)
PROOF = ("_kafka.topic", "_kafka.partition", "_kafka.offset")


def modes(
    properties: dict[str, str], schema: object = SCHEMA, sorted_by: tuple[str, ...] = ()
) -> dict[str, str]:
    assert isinstance(schema, type(SCHEMA))
    ids = {schema.find_field(name).field_id for name in sorted_by}
    plan = metrics_plan(schema, properties, ids)
    return {
        collector.column_name: (
            f"truncate({collector.mode.length})"
            if collector.mode.type is MetricModeTypes.TRUNCATE
            else collector.mode.type.value
        )
        for collector in plan.values()
    }


def test_bounds_reach_into_structs_but_not_into_lists() -> None:
    assert modes({}) == {
        "id": "full",
        "name": "truncate(16)",
        "place.city": "truncate(16)",
        "items.element.sku": "counts",
        "_kafka.topic": "truncate(16)",
        "_kafka.partition": "full",
        "_kafka.offset": "full",
        "_kafka.timestamp": "full",
        "_kafka.key": "truncate(16)",
        "_kafka.headers.element.key": "counts",
        "_kafka.headers.element.value": "counts",
    }


def test_the_tables_own_properties_are_followed() -> None:
    found = modes(
        {
            "write.metadata.metrics.default": "counts",
            "write.metadata.metrics.column.name": "full",
            "write.metadata.metrics.column.place.city": "none",
        }
    )

    assert found["id"] == "counts"
    assert found["name"] == "full"
    assert found["place.city"] == "none"


@pytest.mark.parametrize("schema", [SCHEMA, WIDE])
@pytest.mark.parametrize("default", ["none", "counts"])
def test_what_proof_needs_is_never_left_out(schema: object, default: str) -> None:
    found = modes({"write.metadata.metrics.default": default}, schema)

    assert [found[name] for name in PROOF] == ["truncate(16)", "full", "full"]


def test_columns_beyond_the_first_hundred_have_no_statistics_but_for_proof_and_order() -> None:
    found = modes({}, WIDE, sorted_by=("c149",))

    assert found["c099"] == "truncate(16)"
    assert found["c100"] == "none"
    assert found["c149"] == "truncate(16)"
    assert found["_kafka.key"] == "none"
    assert found["_kafka.offset"] == "full"


def test_a_default_of_the_table_counts_for_all_columns() -> None:
    assert modes({"write.metadata.metrics.default": "full"}, WIDE)["c149"] == "full"


def test_the_number_of_columns_can_be_changed() -> None:
    limit = {"write.metadata.metrics.max-inferred-column-defaults": "1"}

    assert modes(limit)["id"] == "full"
    assert modes(limit)["name"] == "none"
