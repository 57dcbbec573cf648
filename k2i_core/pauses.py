"""Why nothing more is committed to a table until an operator acted, as its properties say it (I8).

A pause is written by one commit that asserts the head it was built on, so that no other worker's
rows can land behind it unseen. Pure values.
"""

import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass

from k2i_core.errors import ErrorKind, IncompatibleSchemaError

PAUSED_KEY = "k2i.paused"
"""Table property: the pause, empty or missing while there is none."""

ACCEPTED_KEY = "k2i.accepted-schemas"
"""Table property: writers' schemas whose records may be dead letters, as an operator decided."""

FILE_SCHEMA = "file"
"""Stands for the number of the schema in a file."""

REASON_CHARACTERS_MAX = 1_000
"""Larger: a hostile schema fills the table's properties; smaller: the columns are not all named."""


@dataclass(frozen=True, slots=True)
class Pause:
    """One pause.

    Attributes:
        schema_id: Of the writer's schema that breaks the table; `FILE_SCHEMA` for the file's.
        reason: Column by column.
        position: Topic, Kafka partition and offset of the first record that was held back.
        paused_at: UTC, as ISO 8601.
    """

    schema_id: str
    reason: str
    position: str
    paused_at: str

    def encode(self) -> str:
        """Return the property's text."""
        return json.dumps(asdict(self), separators=(",", ":"))

    def __str__(self) -> str:
        return f"schema={self.schema_id} since {self.position} at {self.paused_at}: {self.reason}"


def decode_pause(text: str | None) -> Pause | None:
    """Read the property; None when it is not set, or empty. What cannot be read is a pause, too."""
    if not text:
        return None
    try:
        return Pause(**json.loads(text))
    except (ValueError, TypeError):
        return Pause(
            "unknown", f"table property {PAUSED_KEY} is not what k2i wrote", "unknown", "-"
        )


def encode_accepted(schema_ids: Iterable[str]) -> str:
    """Return the property's text."""
    return json.dumps(sorted(schema_ids))


def decode_accepted(text: str | None) -> frozenset[str]:
    """Read the property; what cannot be read accepts nothing."""
    try:
        return frozenset(json.loads(text)) if text else frozenset()
    except (ValueError, TypeError):
        return frozenset()


def paused_error(identifier: str, pause: Pause) -> IncompatibleSchemaError:
    """Return what to raise instead of committing to a paused table."""
    message = (
        f"table={identifier} is paused, {pause}; change the table, the schema or the settings, or "
        f"let these records become dead letters, and go on with `k2i table resume`"
    )
    return IncompatibleSchemaError(message, kind=ErrorKind.TABLE_PAUSED)
