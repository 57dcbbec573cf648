"""The pipeline file's sections as the plain values that the adapters take."""

from collections.abc import Callable, Mapping
from dataclasses import replace

import pyarrow as pa
from pyiceberg.catalog import Catalog

from k2i_core.config import Pipeline, StartEarliest, StartLatest, StartOffsets, StartTimestamp
from k2i_core.iceberg.catalog import open_catalog
from k2i_core.iceberg.commit import CommitLimits
from k2i_core.iceberg.retention import RetentionLimits
from k2i_core.iceberg.tables import SortedBy, TableSettings, Transformed
from k2i_core.ingest.triggers import FlushLimits
from k2i_core.kafka.settings import KafkaSettings, OffsetsStart, StartPolicy, TimestampStart
from k2i_core.offsets import TopicPartition
from k2i_core.records import DecodeFailure
from k2i_core.schema.arrow_types import to_arrow_schema
from k2i_core.wiring.format_mapping import mapping_property

COMMIT_ATTEMPTS_MAX = 20
"""Requests of one commit. More lets two writers starve each other longer; fewer ends a worker
during an ordinary conflict storm."""

COMMIT_SECONDS_MAX = 300.0
"""How long a commit waits for its catalog. Larger holds a broken worker longer; smaller ends one
during an outage that it could wait out."""

FRESH_LINGER_SECONDS = 0.005
"""How long a poll waits for more records when rows are read before their commit. Larger shows them
later; smaller makes more and smaller batches at a few thousand records a second."""

EXPLODING_POLL_BYTES = 1024 * 1024
"""How much a poll takes where each record may become many rows, which all are in memory at once.
Larger holds more of them; smaller pays the fixed cost of a batch more often."""

POLLS_IN_LIMIT = 16
"""Polls that each limit in bytes has room for at least. Larger polls less at once than it might;
smaller lets the last poll before a small limit overshoot it."""


def catalog_opener(pipeline: Pipeline) -> Callable[[], Catalog]:
    """Return what opens the catalog: once per thread that uses it."""
    name, properties = pipeline.catalog.name, pipeline.catalog.properties.reveal()
    return lambda: open_catalog(name, properties)


def kafka_settings(pipeline: Pipeline) -> KafkaSettings:
    """Return what the Kafka adapter takes."""
    section = pipeline.kafka
    settings = KafkaSettings(
        bootstrap_servers=section.bootstrap_servers,
        group_id=pipeline.group_id,
        topics=tuple(section.topics),
        topic_pattern=section.topic_pattern,
        start=_start_policy(pipeline),
        properties=section.properties.reveal(),
    )
    limit = pipeline.flush.max_buffered_bytes
    if pipeline.hot.enabled:
        settings = replace(settings, poll_linger_seconds=FRESH_LINGER_SECONDS)
        limit = min(limit, pipeline.hot.max_bytes)
    usual = EXPLODING_POLL_BYTES if pipeline.explodes else settings.poll_bytes_max
    return replace(settings, poll_bytes_max=min(usual, limit // POLLS_IN_LIMIT))


def _start_policy(pipeline: Pipeline) -> StartPolicy:
    match pipeline.kafka.start:
        case StartEarliest():
            return "earliest"
        case StartLatest():
            return "latest"
        case StartTimestamp(timestamp_ms):
            return TimestampStart(timestamp_ms)
        case StartOffsets(next_offsets):
            return OffsetsStart(
                {
                    TopicPartition(topic, kafka_partition): offset
                    for topic, offsets in next_offsets.items()
                    for kafka_partition, offset in offsets.items()
                }
            )


def table_settings(
    pipeline: Pipeline, properties: Mapping[str, str] | None = None
) -> TableSettings:
    """Return what a new target table is made of besides its columns.

    Args:
        pipeline: Whose table.
        properties: k2i's own, besides those of the file.

    """
    table = pipeline.table
    return TableSettings(
        partition_by=[Transformed(f.transform, f.column, f.argument) for f in table.partition_by],
        sort_by=[SortedBy(f.column, f.descending, f.nulls_first) for f in table.sort_by],
        properties={
            **mapping_property(pipeline),
            **(properties or {}),
            **{key: str(value) for key, value in table.properties.reveal().items()},
        },
    )


def declared_schema(pipeline: Pipeline) -> pa.Schema | None:
    """Return the records' columns as the file has them; None when they are to be inferred."""
    columns = pipeline.record_columns()
    return None if columns is None else to_arrow_schema(columns)


def flush_limits(pipeline: Pipeline) -> FlushLimits:
    """Return when a generation is sealed and what may be held in memory."""
    flush = pipeline.flush
    return FlushLimits(
        age_seconds_max=flush.max_age,
        byte_count_max=flush.max_bytes,
        record_count_max=flush.max_rows,
        buffered_bytes_max=flush.max_buffered_bytes,
    )


def commit_limits(pipeline: Pipeline) -> CommitLimits:
    """Return the bounds of one commit."""
    expiration = pipeline.maintenance.expiration
    return CommitLimits(
        attempt_count_max=COMMIT_ATTEMPTS_MAX,
        seconds_max=COMMIT_SECONDS_MAX,
        # Half, because orphan removal judges by age and must never see a file that may still land.
        file_age_seconds_max=pipeline.maintenance.orphans.older_than / 2,
        retention=RetentionLimits(
            age_seconds_max=expiration.older_than,
            count_min=expiration.retain_last,
            count_max=expiration.max_snapshots,
        ),
    )


def check_text_keys(keys: pa.Array) -> tuple[DecodeFailure, ...]:
    """Find keys that are not UTF-8 text, among n keys; a record without a key is fine."""
    try:
        keys.cast(pa.string()).validate(full=True)
    except pa.ArrowInvalid:
        return tuple(
            DecodeFailure(index, "invalid_utf8", "key: expected UTF-8 text")
            for index, key in enumerate(keys.to_pylist())
            if key is not None and not _is_text(key)
        )
    return ()


def _is_text(key: bytes) -> bool:
    try:
        key.decode()
    except UnicodeDecodeError:
        return False
    return True
