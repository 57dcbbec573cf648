"""Section `maintenance`: how the pipeline's tables are kept healthy, and when."""

from typing import Annotated, Literal, TypeAlias

from pydantic import BeforeValidator, Field, WithJsonSchema

from k2i_core.config.settings import SCHEDULE_SCHEMA, Section, parse_schedule
from k2i_core.config.units import GIB, MIB, bounded_count, bounded_duration, bounded_size

MINUTE = 60.0
HOUR = 3_600.0
DAY = 86_400.0

Schedule: TypeAlias = Annotated[
    str, BeforeValidator(parse_schedule), WithJsonSchema(dict(SCHEDULE_SCHEMA))
]

_SCHEDULE = 'Five fields as in cron, in UTC, or "off". Used by the orchestrator.'


class Compaction(Section):
    """Many small files become few large ones."""

    schedule: Schedule = Field(
        default="*/30 * * * *", description=_SCHEDULE, examples=["*/30 * * * *"]
    )
    target_file_bytes: Annotated[int, bounded_size("1MiB", "1TiB")] = Field(
        default=512 * MIB, description="Size of the files it writes.", examples=["512MiB"]
    )
    min_input_files: Annotated[int, bounded_count(2, 1_000_000)] = Field(
        default=5,
        description="Small files that an Iceberg partition must have before it is worth the work.",
        examples=[5],
    )
    order: Literal["none", "table", "z_order"] = Field(
        default="table",
        description="How rows lie in the files it writes: none, as they come; table, by the "
        "table's sort order, if it has one; z_order, clustered over the columns of z_order_by.",
        examples=["table"],
    )
    z_order_by: tuple[str, ...] = Field(
        default=(), description="Columns for z_order.", examples=[["customer_id", "created_at"]]
    )
    max_memory_bytes: Annotated[int, bounded_size("64MiB", "1TiB")] = Field(
        default=GIB, description="Memory that rewriting may take.", examples=["1GiB"]
    )
    max_bytes: Annotated[int, bounded_size("1MiB", "1000TiB")] = Field(
        default=32 * GIB,
        description="Files read by one run; the worst Iceberg partitions come first.",
        examples=["32GiB"],
    )
    max_duration: Annotated[float, bounded_duration("1s", "24h")] = Field(
        default=20 * MINUTE,
        description="Time after which a run starts on nothing more. In Python: seconds.",
        examples=["20m"],
    )


class Manifests(Section):
    """Many small manifests become few, clustered by Iceberg partition."""

    schedule: Schedule = Field(default="15 * * * *", description=_SCHEDULE, examples=["15 * * * *"])


class Expiration(Section):
    """Old snapshots are given up, and the files that only they needed."""

    schedule: Schedule = Field(default="0 * * * *", description=_SCHEDULE, examples=["0 * * * *"])
    older_than: Annotated[float, bounded_duration("1m", "36500d")] = Field(
        default=7 * DAY,
        description="Age from which a snapshot may go. In Python: seconds.",
        examples=["7d"],
    )
    retain_last: Annotated[int, bounded_count(1, 1_000_000)] = Field(
        default=10, description="Snapshots that stay whatever their age.", examples=[10]
    )
    max_snapshots: Annotated[int, bounded_count(1, 1_000_000)] = Field(
        default=500,
        description="Snapshots beyond this number go whatever their age. At least retain_last.",
        examples=[500],
    )
    reader_grace: Annotated[float, bounded_duration("1m", "365d")] = Field(
        default=HOUR,
        description="Longest time that a query may run: data files stay for at least this long "
        "after a snapshot without them came. In Python: seconds.",
        examples=["1h"],
    )


class Orphans(Section):
    """Files that no snapshot needs are deleted."""

    schedule: Schedule = Field(default="0 3 * * *", description=_SCHEDULE, examples=["0 3 * * *"])
    older_than: Annotated[float, bounded_duration("24h", "3650d")] = Field(
        default=3 * DAY,
        description="Age from which a file may be taken for an orphan; a file near this age is "
        "never committed. In Python: seconds.",
        examples=["3d"],
    )


class Health(Section):
    """Whether the tables need any of it; reads metadata only."""

    schedule: Schedule = Field(
        default="10,25,40,55 * * * *",
        description="When health is measured; a step that is due believes the last one. Five "
        'fields as in cron, in UTC, or "off". Used by the orchestrator.',
        examples=["10,25,40,55 * * * *"],
    )


class Maintenance(Section):
    """How the tables are kept healthy."""

    health: Health = Field(
        default=Health(),
        description="Measuring what the tables need.",
        examples=[{"schedule": "10,25,40,55 * * * *"}],
    )
    compaction: Compaction = Field(
        default=Compaction(), description="Compaction.", examples=[{"target_file_bytes": "512MiB"}]
    )
    manifests: Manifests = Field(
        default=Manifests(),
        description="Manifest rewriting.",
        examples=[{"schedule": "15 * * * *"}],
    )
    expiration: Expiration = Field(
        default=Expiration(), description="Snapshot expiration.", examples=[{"older_than": "7d"}]
    )
    orphans: Orphans = Field(
        default=Orphans(), description="Orphan removal.", examples=[{"older_than": "3d"}]
    )
