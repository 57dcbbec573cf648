"""`k2i check` and the checks of a file in `k2i validate`, as a person runs them.

Goal: what is printed says which check failed and what to do; the exit code tells a script; a check
goes on from the last one that held.
Method: the command line in this process, on a real table.
"""

import json
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from k2i_core.cli.main import app
from k2i_core.wiring.stored_state import load_state
from tests.integration.audit.audited_table import P0, AuditedTable, local


@pytest.fixture
def orders(tmp_path) -> AuditedTable:
    orders = AuditedTable(tmp_path)
    orders.commit()
    return orders


def k2i(orders: AuditedTable, *arguments: str, **changes):
    document = {**orders.settings, **changes}
    path = Path(orders.pipeline.state_directory).parent / "orders.yaml"
    path.write_text(yaml.safe_dump(document))
    command, *options = arguments
    return CliRunner().invoke(app, [command, str(path), *options])


def test_a_sound_table_holds_and_the_next_check_goes_on(orders):
    first = k2i(orders, "check")
    assert first.exit_code == 0, first.output
    assert "✓ row_counts" in first.output
    assert "holds: everything in sales.orders: 80 offsets in 1 files" in first.output

    orders.commit(5)
    second = json.loads(k2i(orders, "check", "--json").output)
    assert (second["holds"], second["everything"], second["offsets"]) == (True, False, 10)
    assert k2i(orders, "check", "--full").exit_code == 0


def test_a_fault_is_named_with_what_to_do_and_found_again(orders):
    k2i(orders, "check")
    orders.append_elsewhere({P0: [3]})

    for _ in range(2):
        found = k2i(orders, "check")
        assert found.exit_code == 1
        assert "✗ no_duplicates" in found.output
        assert "orders/0[40,40): appended again, from below=1" in found.output
        assert "what to do: list the offsets with `k2i verify`" in found.output
        assert "DOES NOT HOLD" in found.output


def test_what_is_accepted_is_not_found_again(orders):
    k2i(orders, "check")
    orders.append_elsewhere({P0: [3]})

    assert k2i(orders, "check", "--accept").exit_code == 1
    assert k2i(orders, "check").exit_code == 0


def test_a_warning_does_not_fail_the_command(orders):
    checks = [{"name": "any", "sql": "FROM orders", "severity": "warn"}]
    found = k2i(orders, "check", checks=checks)

    assert found.exit_code == 0
    assert "! any" in found.output


def test_a_lost_or_torn_state_costs_one_check_of_everything(orders):
    k2i(orders, "check")
    state = Path(orders.pipeline.state_directory) / "orders" / "audit.json"
    assert load_state(orders.pipeline) is not None
    state.write_text(state.read_text()[:40])

    assert json.loads(k2i(orders, "check", "--json").output)["everything"]


def test_a_missing_file_is_named_and_nothing_crashes(orders):
    local(orders.files()[0].file_path).unlink()
    found = json.loads(k2i(orders, "check", "--full", "--json").output)

    broken = {check["name"] for check in found["checks"] if not check["passed"]}
    assert {"files", "row_counts", "second_reader"} <= broken


@pytest.mark.parametrize("sql", ["DROP TABLE orders", "SELECT 1; SELECT 2", "SELEC 1"])
def test_validate_refuses_sql_that_is_not_one_select(orders, sql):
    refused = k2i(orders, "validate", checks=[{"name": "odd", "sql": sql}])

    assert refused.exit_code == 2
    assert "check odd: failed" in refused.output


def test_validate_accepts_a_select_whatever_it_is_about(orders):
    accepted = k2i(orders, "validate", checks=[{"name": "odd", "sql": "SELECT x FROM nowhere"}])

    assert accepted.exit_code == 0, accepted.output
    assert "check odd: ok: one SELECT" in accepted.output
