"""Compaction on an Iceberg REST catalog with S3: files are rewritten and proven over the network.

Goal: what holds on local files holds there. Method: one table on a real catalog and a real store.
"""

import pytest

from k2i_core.maintenance.compaction import compact_table
from k2i_core.maintenance.manifests import rewrite_table_manifests
from tests.integration.maintenance.fed_table import FedTable, options, orders


@pytest.mark.parametrize("order", ["none", "z_order"])
def test_small_files_become_one_on_an_object_store(object_store, namespace: str, order) -> None:
    fed = FedTable(object_store.catalog_properties(), identifier=f"{namespace}.orders")
    for n in range(4):
        fed.commit(orders(n * 50, 50))

    report = compact_table(fed.maintained(), options(order=order, z_order_by=("id", "city")))

    assert report.figures["rows_checked"] == 200
    assert len(fed.files()) == 1
    assert fed.offsets() == list(range(200))
    fed.commit(orders(200, 10))
    assert "good" in rewrite_table_manifests(fed.maintained()).did
