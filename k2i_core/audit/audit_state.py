"""What an audit that found no error leaves for the next one. Values and their JSON form."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from k2i_core.audit.content_checks import NullCount
from k2i_core.audit.row_audit import AuditMark, read_mark
from k2i_core.audit.table_delta import TableMark, read_table_mark

STATE_VERSION = 2


@dataclass(frozen=True, slots=True)
class AuditState:
    """How far an audit came.

    Attributes:
        ledger: The checkpoint up to which rows were counted.
        table: The snapshot up to which files were looked at.
        nulls: Field id → nulls among the values of the audits so far, older ones faded.
    """

    ledger: AuditMark
    table: TableMark
    nulls: Mapping[int, NullCount] = field(default_factory=dict[int, NullCount])

    def to_json(self) -> dict[str, Any]:
        """Return what `read_state` reads."""
        return {
            "version": STATE_VERSION,
            "ledger": self.ledger.to_json(),
            "table": self.table.to_json(),
            "nulls": {str(i): [c.nulls, c.values] for i, c in sorted(self.nulls.items())},
        }


def read_state(document: object) -> AuditState | None:
    """Read a state back; None for anything else, and then everything is audited again."""
    try:
        known = cast("Mapping[str, Any]", document)
        if known["version"] != STATE_VERSION:
            return None
        ledger = read_mark(known["ledger"])
        nulls = cast("Mapping[str, list[int]]", known["nulls"])
        counts = {int(i): NullCount(int(n), int(v)) for i, (n, v) in nulls.items()}
        return AuditState(ledger, read_table_mark(known["table"]), counts) if ledger else None
    except (KeyError, TypeError, ValueError, AttributeError):
        return None
