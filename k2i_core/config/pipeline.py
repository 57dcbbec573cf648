"""The whole pipeline file as one value."""

import re
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, PrivateAttr, WithJsonSchema

from k2i_core.config.format import Format
from k2i_core.config.kafka import Kafka
from k2i_core.config.maintenance import Maintenance
from k2i_core.config.monitoring import Monitoring
from k2i_core.config.orchestration import Orchestration
from k2i_core.config.privacy import Privacy
from k2i_core.config.problems import quoted
from k2i_core.config.redaction import masked_tree
from k2i_core.config.routing import PLACED, PLACEHOLDER, RoutedTable, rules_name
from k2i_core.config.sections import Catalog, DeadLetters, Flush, Hot
from k2i_core.config.serving import Serve
from k2i_core.config.settings import Section
from k2i_core.config.table import Table
from k2i_core.config.transforms import Transform
from k2i_core.config.units import bounded_count
from k2i_core.config.user_checks import Check
from k2i_core.schema.iceberg_types import IcebergField, PrimitiveType

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}")

WORKERS_MAX = 256

VALUE_COLUMN = "value"

VALUE_TYPES: Mapping[str, PrimitiveType] = MappingProxyType(
    {"string": PrimitiveType.STRING, "raw": PrimitiveType.BINARY}
)
"""Format whose whole value is one column → the type of that column."""


KEY_TYPES: Mapping[str, PrimitiveType] = MappingProxyType(
    {
        **VALUE_TYPES,
        "int": PrimitiveType.INT,
        "long": PrimitiveType.LONG,
    }
)
"""Format of keys that are one value without a schema → the type of their column."""


ENVELOPE_FIELDS = (
    IcebergField("__op", PrimitiveType.STRING),
    IcebergField("__ts_ms", PrimitiveType.LONG),
)
"""What a table has of Debezium's envelopes in any case."""


def _check_name(value: str) -> str:
    if not _NAME.fullmatch(value):
        message = (
            f"{quoted(value)} is not a pipeline name; "
            "allowed: up to 64 letters, digits, _ and -, the first no _ or -"
        )
        raise ValueError(message)
    return value


def _read_off(value: object) -> object:
    return {"enabled": False} if value is False or value == "off" else value


def _name_off(value: object) -> object:
    return "off" if value is False else value


class Pipeline(Section):
    """Topics → tables. Made by `load_pipeline` or `parse_pipeline`, which check it as a whole."""

    name: Annotated[str, AfterValidator(_check_name)] = Field(
        description="Name of the pipeline; kept in the table, so that no other pipeline writes it.",
        examples=["orders"],
    )
    kafka: Kafka = Field(
        description="Where records come from.",
        examples=[{"bootstrap_servers": "localhost:9092", "topics": ["orders"]}],
    )
    format: Format = Field(
        default=Format(), description="What the bytes are.", examples=[{"value": "json"}]
    )
    catalog: Catalog = Field(
        description="Which Iceberg catalog holds the tables.",
        examples=[
            {"type": "sql", "uri": "sqlite:///.k2i/catalog.db", "warehouse": ".k2i/warehouse"}
        ],
    )
    table: Table = Field(
        description="Where rows go and how they lie there.",
        examples=[{"identifier": "sales.orders"}],
    )
    transforms: tuple[Transform, ...] = Field(
        default=(),
        description="What is made of the columns of the records, step by step. table.columns are "
        "then those of the records, and the table's follow from them.",
        examples=[[{"rename": {"ts": "created_at"}}, {"filter": "amount > 0"}]],
    )
    privacy: Privacy | None = Field(
        default=None,
        description="What must not be written plainly: not to hot rows, files or dead letters.",
        examples=[{"columns": {"email": "hash"}, "secret": "${file:/run/secrets/k2i-privacy}"}],
    )
    tables: tuple[RoutedTable, ...] = Field(
        default=(),
        description="Several tables instead of one, filled from the same topics.",
        examples=[
            [
                {"identifier": "sales.orders", "match": {"field": "type", "pattern": "order"}},
                {"identifier": "sales.others"},
            ]
        ],
    )
    flush: Flush = Field(
        default=Flush(),
        description="When buffered rows become files and a commit.",
        examples=[{"max_age": "30s", "max_bytes": "128MiB", "max_rows": 1_000_000}],
    )
    hot: Annotated[
        Hot,
        BeforeValidator(_read_off),
        WithJsonSchema({"anyOf": [Hot.model_json_schema(), {"enum": ["off", False]}]}),
    ] = Field(
        default=Hot(),
        description="Rows that are decoded and not in the table yet, for readers on the same host; "
        "off for none.",
        examples=[{"max_bytes": "512MiB"}, "off"],
    )
    dead_letters: DeadLetters = Field(
        default=DeadLetters(),
        description="Where records go that cannot become rows.",
        examples=[{"table": "sales.orders_dead_letters"}],
    )
    workers: Annotated[int, bounded_count(1, WORKERS_MAX)] = Field(
        default=1,
        description="Processes that share the Kafka partitions: partition % workers.",
        examples=[2],
    )
    native: Annotated[Literal["auto", "off", "required"], BeforeValidator(_name_off)] = Field(
        default="auto",
        description="Whether to use the wheel k2i-native: where it is installed, never, or not to "
        "start without. It makes nothing but speed.",
        examples=["required"],
    )
    state_directory: Path = Field(
        default=Path(".k2i/state"),
        description="Where workers on this host keep their transaction logs. A relative path "
        "counts from the working directory.",
        examples=[".k2i/state"],
    )
    maintenance: Maintenance = Field(
        default=Maintenance(),
        description="How the table is kept healthy.",
        examples=[{"expiration": {"older_than": "7d"}}],
    )
    monitoring: Monitoring = Field(
        default=Monitoring(),
        description="From where on the orchestrator's checks warn, and fail.",
        examples=[{"freshness": {"warn": "5m", "fail": "15m"}}],
    )
    checks: tuple[Check, ...] = Field(
        default=(),
        description="Checks of your own for the rows, evaluated with every audit.",
        examples=[
            [
                {
                    "name": "amounts_are_positive",
                    "sql": "SELECT * FROM orders WHERE amount < 0",
                    "severity": "warn",
                }
            ]
        ],
    )
    orchestration: Orchestration = Field(
        default=Orchestration(),
        description="How the orchestrator runs the pipeline.",
        examples=[{"owners": ["team:data"], "tags": {"tier": "gold"}}],
    )
    serve: Serve = Field(
        default=Serve(),
        description="Who may read the table over Arrow Flight SQL, and how much at once.",
        examples=[{"max_queries": 8}],
    )
    _secrets: frozenset[str] = PrivateAttr(default=frozenset())
    _part_of: str | None = PrivateAttr(default=None)

    @property
    def group_id(self) -> str:
        """Consumer group that shows the committed offsets to lag tools."""
        return self.kafka.group_id or f"k2i-{self.name}"

    @property
    def explodes(self) -> bool:
        """Whether a record may become several rows, of several tables in any."""
        listed = (self.transforms, *(table.transforms for table in self.tables))
        return any(step.explode is not None for steps in listed for step in steps)

    @property
    def lead(self) -> RoutedTable | None:
        """The first of several tables with a name of its own; it accounts for what is no one's."""
        return next((table for table in self.tables if not table.is_template), None)

    @property
    def rules_name(self) -> str:
        """Name of the rules by which records find their tables; empty where there is one."""
        return rules_name(self.tables) if self.tables else ""

    def one_table(self, identifier: str) -> "Pipeline | None":
        """Return this pipeline as everybody sees it who looks at one of its tables alone.

        None for a table that is not one of them. Only ingestion needs the others.
        """
        if not self.tables:
            return self if identifier == self.table.identifier else None
        if identifier == self.dead_letter_table:
            return None
        fixed = [table for table in self.tables if table.identifier == identifier]
        made = [table for table in self.tables if table.value_of(identifier) is not None]
        for table in (*fixed, *made):
            return self._alone(table, identifier)
        return None

    @property
    def entries(self) -> tuple["Pipeline", ...]:
        """This pipeline once for each entry of `tables`, alone, with some name for {value}."""
        return tuple(
            self._alone(table, table.identifier.replace(PLACEHOLDER, PLACED))
            for table in self.tables
        )

    def _alone(self, table: RoutedTable, identifier: str) -> "Pipeline":
        """Return this pipeline with one table, and what is said there in its usual places."""
        compaction = self.maintenance.compaction
        if table.z_order_by and compaction.order == "table":
            z_order = {"order": "z_order", "z_order_by": table.z_order_by}
            compaction = compaction.model_copy(update=z_order)
        alone = self.model_copy(
            update={
                "table": table.named(identifier),
                "tables": (),
                "transforms": table.transforms,
                "checks": table.checks,
                "monitoring": self.monitoring.model_copy(update={"unique_key": table.unique_key}),
                "maintenance": self.maintenance.model_copy(update={"compaction": compaction}),
            }
        )
        alone._part_of = self.table.identifier  # noqa: SLF001 - a copy of this very class
        return alone

    @property
    def is_one_of_several(self) -> bool:
        """Whether this is about one of several tables alone."""
        return self._part_of is not None

    @property
    def declared_tables(self) -> tuple["Pipeline", ...]:
        """This pipeline once for each table that the file names, alone, the lead first."""
        names = [table.identifier for table in self.tables if not table.is_template]
        alone = [self.one_table(name) for name in names or [self.table.identifier]]
        return tuple(one for one in alone if one is not None)

    @property
    def leads(self) -> bool:
        """Whether this is about the one table, or about the lead of several or all of them."""
        return self._part_of in (None, self.table.identifier)

    @property
    def label(self) -> str:
        """The name; of one of several tables alone, with the table's name behind it."""
        if self._part_of is None:
            return self.name
        return f"{self.name}_{self.table.identifier.replace('.', '_')}"

    @property
    def dead_letter_table(self) -> str:
        """Identifier of the dead-letter table."""
        return self.dead_letters.table or f"{self.table.identifier}_dead_letters"

    @property
    def hot_directories(self) -> tuple[Path, ...]:
        """Where hot rows may lie, in order of preference."""
        return self.hot.directory, self.state_directory / self.name / "hot"

    def declared_columns(self) -> tuple[IcebergField, ...] | None:
        """Return the table's columns without `_kafka`; None when they follow from something else.

        From the first records, from a schema, from transforms, or from what privacy leaves.
        """
        is_derived = self.transforms or self.privacy is not None
        return None if is_derived else self.record_columns()

    def record_columns(self) -> tuple[IcebergField, ...] | None:
        """Return the columns that the records have; None when they are to be inferred."""
        return declared_columns(self.format, self.table)

    def time_formats(self) -> dict[str, str]:
        """Return column → epoch_s, epoch_ms or epoch_us, for the timestamps that are numbers."""
        columns = self.table.columns or ()
        return {column.name: column.format for column in columns if column.format != "iso"}

    def redacted(self) -> dict[str, Any]:
        """Return the settings as they are written in a file, without secrets: for every print."""
        # Of the two only what was written, because the other one says the same.
        left_out = {"table"} if self.tables else {"tables"}
        return masked_tree(self.model_dump(mode="json", exclude=left_out), self._secrets)

    def with_secrets(self, secrets: frozenset[str]) -> "Pipeline":
        """Return the same pipeline that also hides these values, wherever they stand."""
        known = self.model_copy()
        known._secrets = self._secrets | secrets  # noqa: SLF001 - a copy of this very class
        return known

    def __repr__(self) -> str:
        return f"Pipeline({self.redacted()!r})"

    __str__ = __repr__


def declared_columns(format_: Format | None, table: Table) -> tuple[IcebergField, ...] | None:
    """Return the columns that the file declares or implies; None when nothing is known of them."""
    key_column = None if format_ is None else format_.key_column_name
    key_type = KEY_TYPES.get(format_.key) if format_ and key_column else None
    key = (IcebergField(key_column, key_type),) if key_column and key_type else ()
    if table.columns is not None:
        columns = tuple(column.field for column in table.columns)
        implied = (*ENVELOPE_FIELDS, *key) if format_ and format_.envelope else key
        names = [column.name for column in columns]
        return (*columns, *(field for field in implied if field.name not in names))
    if format_ is None or format_.value not in VALUE_TYPES or (key_column and not key):
        return None
    return (IcebergField(VALUE_COLUMN, VALUE_TYPES[format_.value]), *key)
