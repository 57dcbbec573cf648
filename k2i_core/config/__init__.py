"""The pipeline file: what may stand in it, how it is read, and every default of the program.

Precedence: command line, then `K2I__SECTION__KEY` in the environment, then the file. Durations are
seconds and sizes bytes once read. No secret is ever in a repr, a message or a dump: `Pipeline` and
`FreeMapping` show stars, and only `FreeMapping.reveal` gives what was written.

text → `document` (lines) → `overlay` (variables, command line) → models → `checks` (between
settings) → `Pipeline`, or one ConfigError with a line for each problem.
"""

from k2i_core.config.format import Format, SchemaRegistry
from k2i_core.config.kafka import (
    Kafka,
    StartEarliest,
    StartLatest,
    StartOffsets,
    StartPolicy,
    StartTimestamp,
)
from k2i_core.config.layout import PartitionField, SortField
from k2i_core.config.load import json_schema, load_pipeline, parse_pipeline
from k2i_core.config.maintenance import (
    Compaction,
    Expiration,
    Maintenance,
    Manifests,
    Orphans,
)
from k2i_core.config.monitoring import DeadLetterShare, Freshness, LagMessages, Monitoring
from k2i_core.config.orchestration import Orchestration
from k2i_core.config.pipeline import Pipeline
from k2i_core.config.routing import Match, RoutedTable
from k2i_core.config.sections import Catalog, DeadLetters, Flush, Hot
from k2i_core.config.serving import Serve
from k2i_core.config.settings import FreeMapping
from k2i_core.config.table import Codec, Column, Table
from k2i_core.config.user_checks import Check

__all__ = [
    "Catalog",
    "Check",
    "Codec",
    "Column",
    "Compaction",
    "DeadLetterShare",
    "DeadLetters",
    "Expiration",
    "Flush",
    "Format",
    "FreeMapping",
    "Freshness",
    "Hot",
    "Kafka",
    "LagMessages",
    "Maintenance",
    "Manifests",
    "Match",
    "Monitoring",
    "Orchestration",
    "Orphans",
    "PartitionField",
    "Pipeline",
    "RoutedTable",
    "SchemaRegistry",
    "Serve",
    "SortField",
    "StartEarliest",
    "StartLatest",
    "StartOffsets",
    "StartPolicy",
    "StartTimestamp",
    "Table",
    "json_schema",
    "load_pipeline",
    "parse_pipeline",
]
