"""The k2i exception tree, cut by what the handler must do next.

K2iError
├── ConfigError               fix the settings; never retried
├── UnavailableError          a dependency did not answer; retry with backoff
├── ConflictError             another writer won; reload the checkpoint and start over
│   └── FencedError           another worker owns these Kafka partitions; stop
├── CommitStateUnknownError   the commit may have landed; read back before anything else
├── DataError                 one record cannot be used; dead-letter it and go on
├── IncompatibleSchemaError   no record can be used; pause the table until an operator acts
├── TooManyDeadLettersError   most records cannot be used; pause until an operator acts
├── DataLossError             Kafka dropped offsets unread; pause until an operator accepts the gap
└── CorruptionError           an invariant is broken; stop and page

Nothing is raised for back-pressure or an empty poll: those are outcomes, not errors.
"""

from enum import StrEnum


class ErrorKind(StrEnum):
    """Stable codes for logs, metrics and alerts. Append-only: never rename or remove one."""

    CHECKPOINT_GAP = "checkpoint-gap"
    CHECKPOINT_STALE = "checkpoint-stale"
    CHECKPOINT_UNPROVEN = "checkpoint-unproven"
    CLOCK_BEHIND_TABLE = "clock-behind-table"
    CLUSTER_CHANGED = "cluster-changed"
    COMMIT_EXHAUSTED = "commit-exhausted"
    COMMIT_ROLLED_BACK = "commit-rolled-back"
    COMMIT_UNKNOWN = "commit-unknown"
    CONFIG_INVALID = "config-invalid"
    CONFIG_UNREADABLE = "config-unreadable"
    DEAD_LETTER_SHARE = "dead-letter-share"
    FILES_TOO_OLD = "files-too-old"
    FORMAT_VERSION = "format-version"
    HOT_PAGE_UNREADABLE = "hot-page-unreadable"
    INPUTS_GONE = "inputs-gone"
    LEDGER_UNREADABLE = "ledger-unreadable"
    METADATA_UNREADABLE = "metadata-unreadable"
    NOT_SUPPORTED_YET = "not-supported-yet"
    OFFSETS_LOST = "offsets-lost"
    OWNER_CHANGED = "owner-changed"
    PATH_OUTSIDE_TABLE = "path-outside-table"
    PIPELINE_CHANGED = "pipeline-changed"
    RECORD_INVALID = "record-invalid"
    ROLLED_BACK_OUTSIDE = "rolled-back-outside"
    ROUTING_CHANGED = "routing-changed"
    ROWS_CHANGED = "rows-changed"
    SCHEMA_INCOMPATIBLE = "schema-incompatible"
    SERVICE_UNAVAILABLE = "service-unavailable"
    STORAGE_UNAVAILABLE = "storage-unavailable"
    TABLE_CHANGED = "table-changed"
    TABLE_MISSING = "table-missing"
    TABLE_PAUSED = "table-paused"
    TOPIC_MISSING = "topic-missing"
    TOPIC_RECREATED = "topic-recreated"
    TRANSACTION_LOG_CORRUPT = "transaction-log-corrupt"


class K2iError(Exception):
    """Root of every error k2i raises on purpose.

    The message is for people: lower case, no full stop, values as `name=value`, never a secret and
    never record contents. `kind` is for programs.
    """

    def __init__(self, message: str, *, kind: ErrorKind) -> None:
        """Keep the stable code next to the free-form message."""
        super().__init__(message)
        self.kind = kind


class ConfigError(K2iError):
    """The settings are wrong; only a change of settings helps."""

    def __init__(self, message: str, *, kind: ErrorKind = ErrorKind.CONFIG_INVALID) -> None:
        """Default to the code for a setting that does not validate."""
        super().__init__(message, kind=kind)


class UnavailableError(K2iError):
    """A dependency did not answer; retry with backoff."""

    def __init__(self, message: str, *, kind: ErrorKind = ErrorKind.SERVICE_UNAVAILABLE) -> None:
        """Default to the code for a service that does not answer."""
        super().__init__(message, kind=kind)


class ConflictError(K2iError):
    """Another writer moved the table; reload the checkpoint before the next attempt."""


class FencedError(ConflictError):
    """Another worker owns these Kafka partitions now; stop this one and delete nothing."""


class CommitStateUnknownError(K2iError):
    """The commit may or may not have landed; read the table back before any retry or clean-up."""

    def __init__(self, message: str, *, kind: ErrorKind = ErrorKind.COMMIT_UNKNOWN) -> None:
        """Default to the one code this class has."""
        super().__init__(message, kind=kind)


class DataError(K2iError):
    """One record cannot be decoded or written; dead-letter it and go on."""

    def __init__(self, message: str, *, kind: ErrorKind = ErrorKind.RECORD_INVALID) -> None:
        """Default to the code for a record that does not fit."""
        super().__init__(message, kind=kind)


class IncompatibleSchemaError(K2iError):
    """The writer's schema breaks the table's; pause the table until an operator acts."""

    def __init__(self, message: str, *, kind: ErrorKind = ErrorKind.SCHEMA_INCOMPATIBLE) -> None:
        """Default to the code for a schema that does not fit."""
        super().__init__(message, kind=kind)


class TooManyDeadLettersError(K2iError):
    """Most records would become dead letters; pause the pipeline until an operator acts."""

    def __init__(self, message: str, *, kind: ErrorKind = ErrorKind.DEAD_LETTER_SHARE) -> None:
        """Default to the one code this class has."""
        super().__init__(message, kind=kind)


class DataLossError(K2iError):
    """Kafka dropped offsets before they were read; pause until an operator accepts the gap."""

    def __init__(self, message: str, *, kind: ErrorKind = ErrorKind.OFFSETS_LOST) -> None:
        """Default to the code for offsets below the log start."""
        super().__init__(message, kind=kind)


class CorruptionError(K2iError):
    """An invariant is broken, in stored state or in this program; a retry cannot help."""
