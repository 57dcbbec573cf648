"""A pipeline, its clock and its runs, without any service: for the tests of this folder."""

from collections.abc import Mapping
from typing import Any

import dagster as dg

from k2i_core.config import Pipeline, parse_pipeline

SECRET = "hunter2-never-shown"


def pipeline(**changes: Any) -> Pipeline:
    document: Mapping[str, object] = {
        "name": "orders",
        "kafka": {
            "bootstrap_servers": "localhost:9092",
            "topics": ["orders"],
            "properties": {
                "security.protocol": "SASL_SSL",
                "sasl.mechanism": "PLAIN",
                "sasl.username": "ann",
                "sasl.password": SECRET,
            },
        },
        "catalog": {
            "type": "sql",
            "uri": f"postgresql+psycopg2://ann:{SECRET}@localhost/catalog",
            "warehouse": "s3://lake",
            "s3.secret-access-key": SECRET,
        },
        "table": {
            "identifier": "sales.orders",
            "columns": [
                {"name": "order_id", "type": "long", "required": True, "doc": "unique"},
                {"name": "amount", "type": "decimal(9,2)"},
            ],
        },
        "monitoring": {"freshness": {"warn": "5m", "fail": "15m"}},
        "orchestration": {"owners": ["team:data"], "tags": {"tier": "gold"}},
        **changes,
    }
    return parse_pipeline(document)


class SetClock:
    """A wall clock that stands where it is put."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def now_ms(self) -> int:
        return int(self.seconds * 1000)

    def boot_seconds(self) -> float:
        return self.seconds

    def sleep(self, seconds: float) -> None:
        self.seconds += seconds


def events_text(instance: dg.DagsterInstance, run_id: str) -> str:
    """Everything that a run stored, as one text."""
    run = instance.get_run_by_id(run_id)
    return "\n".join([repr(run), *(entry.to_json() for entry in instance.all_logs(run_id))])
