"""Manifest entries of written files: location, Iceberg partition, and statistics from the footer.

Which statistics a column gets follows the table properties `write.metadata.metrics.*`, as in
Iceberg's Java library, where PyIceberg differs: columns inside structs have bounds too, and without
a default set in the table only the first 100 columns have any, because the manifest of a table with
thousands of columns would outgrow its rows. What proof and pruning need is never left out: offset,
Kafka partition and topic, and the columns that the table is sorted by.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace

from pyiceberg.io.pyarrow import (
    MetricModeTypes,
    MetricsMode,
    StatisticsCollector,
    compute_statistics_plan,
    data_file_statistics_from_parquet_metadata,
    match_metrics_mode,
    parquet_path_to_id_mapping,
)
from pyiceberg.manifest import DataFile, DataFileContent, FileFormat
from pyiceberg.schema import Schema
from pyiceberg.table import Table
from pyiceberg.typedef import Record
from pyiceberg.types import BinaryType, StringType, StructType

from k2i_core.records import KAFKA_COLUMN, WrittenFile

_SETTINGS_PREFIX = "write.metadata.metrics."
DEFAULT_PROPERTY = f"{_SETTINGS_PREFIX}default"
COLUMN_PREFIX = f"{_SETTINGS_PREFIX}column."
COLUMN_COUNT_PROPERTY = f"{_SETTINGS_PREFIX}max-inferred-column-defaults"
COLUMN_COUNT_DEFAULT = 100
"""Iceberg's own default. Larger makes the manifests of wide tables slow to write and to read;
smaller loses bounds that a reader could prune by."""

_PROOF_COLUMNS = tuple(f"{KAFKA_COLUMN}.{name}" for name in ("topic", "partition", "offset"))


@dataclass(frozen=True, slots=True)
class _Plan:
    collectors: Mapping[int, StatisticsCollector]
    field_ids: Mapping[str, int]


@dataclass(slots=True)
class DataFileMaker:
    """Makes manifest entries for the files of one table; plans a schema's statistics only once.

    Attributes:
        settings: The table properties that the plans were made from.
        plans: By schema id and sort order id.
    """

    settings: Mapping[str, str] = field(default_factory=dict[str, str])
    plans: dict[tuple[int, int], _Plan] = field(default_factory=dict[tuple[int, int], _Plan])

    def make(self, table: Table, file: WrittenFile) -> DataFile:
        """Return the manifest entry of a written file.

        Raises:
            ValueError: A column of the file does not have the type that the table gives it.

        """
        plan = self._plan(table, file.schema_id)
        statistics = data_file_statistics_from_parquet_metadata(
            parquet_metadata=file.footer,
            stats_columns=dict(plan.collectors),
            parquet_column_mapping=dict(plan.field_ids),
        )
        data_file = DataFile.from_args(
            content=DataFileContent.DATA,
            file_path=file.path,
            file_format=FileFormat.PARQUET,
            partition=Record(*file.iceberg_partition),
            file_size_in_bytes=file.byte_count,
            sort_order_id=file.sort_order_id,
            equality_ids=None,
            key_metadata=None,
            **statistics.to_serialized_dict(),
        )
        data_file.spec_id = file.spec_id
        return data_file

    def _plan(self, table: Table, schema_id: int) -> _Plan:
        metadata = table.metadata
        settings = {k: v for k, v in metadata.properties.items() if k.startswith(_SETTINGS_PREFIX)}
        if self.settings != settings:
            self.settings = settings
            self.plans.clear()
        key = (schema_id, metadata.default_sort_order_id)
        if key not in self.plans:
            schema = table.schemas()[schema_id]
            sorted_by = {f.source_id for f in table.sort_order().fields}
            self.plans[key] = _Plan(
                metrics_plan(schema, settings, sorted_by), parquet_path_to_id_mapping(schema)
            )
        return self.plans[key]


def metrics_plan(
    schema: Schema, properties: Mapping[str, str], sorted_by: set[int]
) -> dict[int, StatisticsCollector]:
    """Decide which statistics each column gets.

    Args:
        schema: The schema that the file was written with.
        properties: The table's.
        sorted_by: Field ids of the sort order.

    Returns:
        Field id of each leaf → what to collect.

    Source:
        Iceberg's table properties `write.metadata.metrics.*` and Java's `MetricsConfig`.

    """
    plan = compute_statistics_plan(schema, dict(properties))
    outside_lists = set(_leaves_outside_lists(schema.as_struct()))
    needed = sorted_by | {schema.find_field(n).field_id for n in _PROOF_COLUMNS if _has(schema, n)}
    inferred_max = int(properties.get(COLUMN_COUNT_PROPERTY, COLUMN_COUNT_DEFAULT))
    for position, (field_id, collector) in enumerate(plan.items()):
        given = properties.get(f"{COLUMN_PREFIX}{collector.column_name}")
        default = properties.get(DEFAULT_PROPERTY)
        if default is None:
            default = "truncate(16)" if position < inferred_max else "none"
        mode = match_metrics_mode(given or default)
        if field_id in needed and mode.type in (MetricModeTypes.NONE, MetricModeTypes.COUNTS):
            mode = match_metrics_mode("truncate(16)")
        plan[field_id] = replace(collector, mode=_fitting(mode, collector, field_id, outside_lists))
    return plan


def _fitting(
    mode: MetricsMode, collector: StatisticsCollector, field_id: int, outside_lists: set[int]
) -> MetricsMode:
    if mode.type in (MetricModeTypes.NONE, MetricModeTypes.COUNTS):
        return mode
    if field_id not in outside_lists:
        return MetricsMode(MetricModeTypes.COUNTS)
    if not isinstance(collector.iceberg_type, StringType | BinaryType):
        return MetricsMode(MetricModeTypes.FULL)
    return mode


def _leaves_outside_lists(struct: StructType) -> Iterator[int]:
    for nested in struct.fields:
        if isinstance(nested.field_type, StructType):
            yield from _leaves_outside_lists(nested.field_type)
        elif nested.field_type.is_primitive:
            yield nested.field_id


def _has(schema: Schema, name: str) -> bool:
    return name in schema.column_names
