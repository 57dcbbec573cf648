"""Which version of a format's mapping a table was made with, kept in its properties for ever."""

from collections.abc import Callable, Iterator

from k2i_core.config import Pipeline
from k2i_core.decode.arrow_columns import MAPPING_VERSION as ARROW_MAPPING_VERSION
from k2i_core.decode.avro_columns import MAPPING_VERSION as AVRO_MAPPING_VERSION
from k2i_core.decode.debezium import MAPPING_VERSION as DEBEZIUM_MAPPING_VERSION
from k2i_core.decode.json_schema import MAPPING_VERSION as JSON_SCHEMA_MAPPING_VERSION
from k2i_core.decode.proto_columns import MAPPING_VERSION as PROTO_MAPPING_VERSION
from k2i_core.errors import ConfigError

MAPPING_PROPERTY = "k2i.format-mapping"
"""Property of a table: how its columns were made of the writers' schemas, for ever."""

KEY_MAPPING_PROPERTY = "k2i.key-format-mapping"
"""The same of the column of keys."""

ENVELOPE_MAPPING_PROPERTY = "k2i.envelope-mapping"
"""How columns were made of the envelopes."""

_MAPPINGS = {
    "arrow_ipc": f"arrow_ipc/{ARROW_MAPPING_VERSION}",
    "avro": f"avro/{AVRO_MAPPING_VERSION}",
    "json_schema": f"json_schema/{JSON_SCHEMA_MAPPING_VERSION}",
    "protobuf": f"protobuf/{PROTO_MAPPING_VERSION}",
}


def mapping_property(pipeline: Pipeline) -> dict[str, str]:
    """Return the properties that a new table of this format gets."""
    return dict(_mappings(pipeline))


def check_mapping(pipeline: Pipeline, properties: "Callable[[str], str | None]") -> None:
    """Refuse a table whose columns were made in a way that this version does not know.

    Raises:
        ConfigError: Use the version of k2i that made the table, or a newer one.

    """
    for name, wanted in _mappings(pipeline):
        found = properties(name)
        if found is not None and found != wanted:
            message = (
                f"table={pipeline.table.identifier} has {name}={found}, this k2i knows "
                f"{wanted}: use the k2i that made the table, or a newer one"
            )
            raise ConfigError(message)


def _mappings(pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    format_ = pipeline.format
    if format_.value in _MAPPINGS:
        yield MAPPING_PROPERTY, _MAPPINGS[format_.value]
    if format_.envelope is not None:
        yield ENVELOPE_MAPPING_PROPERTY, f"{format_.envelope}/{DEBEZIUM_MAPPING_VERSION}"
    if format_.key in _MAPPINGS:
        yield KEY_MAPPING_PROPERTY, _MAPPINGS[format_.key]
