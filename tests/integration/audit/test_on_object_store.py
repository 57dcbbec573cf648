"""Proof and queries where a company's table is: in an object store, behind a REST catalog.

Goal: both work with nothing but what the catalog hands out, and a query reaches no other object.
Method: a real S3 and Iceberg REST catalog.
"""

import pytest
from pyiceberg.catalog import load_catalog

from k2i_core.audit.findings import FindingKind
from k2i_core.audit.verify import verify
from k2i_core.dev.object_store import PLAIN_BUCKET, ObjectStore
from k2i_core.errors import ConfigError
from k2i_core.query.committed import query
from tests.integration.audit.audited_table import P0 as AUDITED
from tests.integration.audit.audited_table import AuditedTable, failed, faults
from tests.integration.audit.ledger_table import P0, LedgerTable


@pytest.fixture
def lake(object_store: ObjectStore, namespace: str) -> LedgerTable:
    catalog = load_catalog("lake", **object_store.catalog_properties())
    lake = LedgerTable.create_in(catalog, namespace)
    lake.commit(P0, 0, 10, rows=[o for o in range(10) if o != 4], dead=[4])
    return lake


def test_a_table_in_an_object_store_is_proven(lake):
    assert verify(lake.table, lake.ledger(), dead_letters=lake.dead_letters).holds

    lake.append_rows(P0, [7])

    (finding,) = verify(lake.table, lake.ledger(), dead_letters=lake.dead_letters).findings
    assert finding.kind is FindingKind.DOUBLED


def test_a_live_object_that_is_gone_is_a_finding(lake):
    lake.table.io.delete(next(iter(lake.table.inspect.files()["file_path"])).as_py())

    findings = verify(lake.table, lake.ledger(), dead_letters=lake.dead_letters).findings

    assert FindingKind.FILE_UNREADABLE in {finding.kind for finding in findings}


def test_a_table_in_an_object_store_is_queried(lake):
    with query(lake.table, "SELECT count(*) AS n, sum(order_id) AS s FROM orders") as result:
        assert result.read_all().to_pylist() == [{"n": 9, "s": 41}]


def test_a_query_reaches_no_other_object(lake, object_store):
    with object_store.file_system().open_output_stream(f"{PLAIN_BUCKET}/secret.txt") as stream:
        stream.write(b"secret")

    with pytest.raises(ConfigError, match="and nothing else, no files, no hosts"):
        query(lake.table, f"FROM read_text('s3://{PLAIN_BUCKET}/secret.txt')").read_all()


def test_the_secret_cannot_be_queried(lake, object_store):
    try:
        with query(lake.table, "FROM duckdb_secrets()") as result:
            shown = str(result.read_all().to_pylist())
    except ConfigError as error:
        shown = str(error)

    assert object_store.secret_key not in shown


@pytest.fixture
def orders(object_store: ObjectStore, namespace: str, tmp_path) -> AuditedTable:
    columns = [
        {"name": "order_id", "type": "long", "required": True},
        {"name": "note", "type": "string"},
    ]
    orders = AuditedTable(
        tmp_path,
        catalog={"type": "rest", **object_store.catalog_properties()},
        table={"identifier": f"{namespace}.orders", "columns": columns},
        checks=[{"name": "low", "sql": "SELECT * FROM orders WHERE order_id < 0"}],
    )
    orders.commit()
    return orders


def test_a_table_in_an_object_store_is_audited(orders):
    assert failed(orders.audit()) == set()
    orders.commit()
    orders.rewrite()
    orders.commit()

    assert failed(orders.audit()) == set()
    assert failed(orders.audit(is_full=True)) == set()


def test_a_missing_and_a_doubled_object_are_found_by_an_audit(orders):
    orders.audit()
    orders.append_elsewhere({AUDITED: [3]})
    orders.commit()
    gone = orders.files()[-1].file_path
    orders.table.io.delete(gone)
    found = orders.audit()

    assert failed(found) == {"files", "no_duplicates", "row_counts", "low"}
    assert faults(found, "files") == (f"missing: {gone}",)
