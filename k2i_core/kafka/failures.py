"""What each error code of librdkafka means for a reader that keeps its own positions.

Every code that `KafkaError` names has exactly one reaction here; a test fails on a code without
one, so that a new version of the library cannot bring an unnoticed error. A code unknown at run
time counts as REBUILD: stop this client, build a new one at the last position.
"""

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType

from confluent_kafka import KafkaError, KafkaException

from k2i_core.errors import ConfigError, DataLossError, ErrorKind, K2iError, UnavailableError
from k2i_core.kafka.settings import Secrets


class Reaction(Enum):
    """What the adapter does about an error."""

    END_REACHED = auto()
    """Not an error: the position is the end of the log, past aborted and control records."""

    LOST = auto()
    """The wanted offset is not in the log any more: DataLossError."""

    WAIT = auto()
    """librdkafka goes on by itself once the brokers allow it: seen in the health, never raised."""

    TOPIC_GONE = auto()
    """The topic may be deleted, or its metadata late: ask for its id."""

    REFUSED = auto()
    """Credentials or certificates: ConfigError, unless it worked before."""

    FORBIDDEN = auto()
    """This user may not read the topic: ConfigError."""

    INVALID = auto()
    """The settings ask for something that is not possible: ConfigError."""

    MIRROR = auto()
    """Consumer group matters; only the mirror of offsets needs a group: logged."""

    REBUILD = auto()
    """Not possible for this reader, or fatal for the client: UnavailableError, build a new one."""


_CODE_NAMES: Mapping[Reaction, str] = {
    Reaction.END_REACHED: "_PARTITION_EOF",
    Reaction.LOST: "_AUTO_OFFSET_RESET _LOG_TRUNCATION OFFSET_OUT_OF_RANGE",
    Reaction.WAIT: """
        _ALL_BROKERS_DOWN _DESTROY_BROKER _IN_PROGRESS _INTR _MSG_TIMED_OUT _NODE_UPDATE _NOENT
        _NO_OFFSET _OUTDATED _PARTIAL _PREV_IN_PROGRESS _QUEUE_FULL _RESOLVE _RETRY _TIMED_OUT
        _TIMED_OUT_QUEUE _TRANSPORT _UNDERFLOW _UNKNOWN_BROKER _WAIT_CACHE _WAIT_COORD
        BROKER_NOT_AVAILABLE ELIGIBLE_LEADERS_NOT_AVAILABLE FENCED_LEADER_EPOCH
        FETCH_SESSION_ID_NOT_FOUND INVALID_FETCH_SESSION_EPOCH KAFKA_STORAGE_ERROR
        LEADER_NOT_AVAILABLE LISTENER_NOT_FOUND LOG_DIR_NOT_FOUND NETWORK_EXCEPTION NOT_CONTROLLER
        NOT_LEADER_FOR_PARTITION OFFSET_NOT_AVAILABLE PREFERRED_LEADER_NOT_AVAILABLE
        REASSIGNMENT_IN_PROGRESS REBOOTSTRAP_REQUIRED REPLICA_NOT_AVAILABLE REQUEST_TIMED_OUT
        STALE_BROKER_EPOCH STALE_CTRL_EPOCH THROTTLING_QUOTA_EXCEEDED UNKNOWN UNKNOWN_LEADER_EPOCH
        UNSTABLE_OFFSET_COMMIT
    """,
    Reaction.TOPIC_GONE: """
        _UNKNOWN_PARTITION _UNKNOWN_TOPIC INCONSISTENT_TOPIC_ID UNKNOWN_TOPIC_ID
        UNKNOWN_TOPIC_OR_PART
    """,
    Reaction.REFUSED: """
        _AUTHENTICATION _SSL DELEGATION_TOKEN_AUTHORIZATION_FAILED
        DELEGATION_TOKEN_AUTH_DISABLED DELEGATION_TOKEN_EXPIRED DELEGATION_TOKEN_NOT_FOUND
        DELEGATION_TOKEN_OWNER_MISMATCH DELEGATION_TOKEN_REQUEST_NOT_ALLOWED ILLEGAL_SASL_STATE
        INVALID_PRINCIPAL_TYPE PRINCIPAL_DESERIALIZATION_FAILURE SASL_AUTHENTICATION_FAILED
        SECURITY_DISABLED UNACCEPTABLE_CREDENTIAL UNSUPPORTED_SASL_MECHANISM
    """,
    Reaction.FORBIDDEN: "CLUSTER_AUTHORIZATION_FAILED TOPIC_AUTHORIZATION_FAILED",
    Reaction.INVALID: """
        _CONFLICT _INVALID_ARG _INVALID_TYPE _NOT_CONFIGURED _NOT_IMPLEMENTED _UNKNOWN_PROTOCOL
        _UNSUPPORTED_FEATURE INVALID_CONFIG INVALID_REGULAR_EXPRESSION INVALID_REQUEST
        MISMATCHED_ENDPOINT_TYPE POLICY_VIOLATION TOPIC_EXCEPTION UNSUPPORTED_ENDPOINT_TYPE
        UNSUPPORTED_FOR_MESSAGE_FORMAT UNSUPPORTED_VERSION
    """,
    Reaction.MIRROR: """
        _ASSIGNMENT_LOST _ASSIGN_PARTITIONS _EXISTING_SUBSCRIPTION _MAX_POLL_EXCEEDED
        _REVOKE_PARTITIONS _UNKNOWN_GROUP COORDINATOR_LOAD_IN_PROGRESS COORDINATOR_NOT_AVAILABLE
        FENCED_INSTANCE_ID FENCED_MEMBER_EPOCH GROUP_AUTHORIZATION_FAILED GROUP_ID_NOT_FOUND
        GROUP_MAX_SIZE_REACHED GROUP_SUBSCRIBED_TO_TOPIC ILLEGAL_GENERATION
        INCONSISTENT_GROUP_PROTOCOL INVALID_COMMIT_OFFSET_SIZE INVALID_GROUP_ID
        INVALID_SESSION_TIMEOUT MEMBER_ID_REQUIRED NON_EMPTY_GROUP NOT_COORDINATOR
        OFFSET_METADATA_TOO_LARGE REBALANCE_IN_PROGRESS STALE_MEMBER_EPOCH UNKNOWN_MEMBER_ID
        UNRELEASED_INSTANCE_ID UNSUPPORTED_ASSIGNOR
    """,
    # A batch that cannot be read (_BAD_MSG and its kin) is here because going on would move the
    # position past it; a new client asks for it again.
    Reaction.REBUILD: """
        _APPLICATION _BAD_COMPRESSION _BAD_MSG _CRIT_SYS_RESOURCE _DESTROY _FAIL _FATAL _FENCED _FS
        _GAPLESS_GUARANTEE _INCONSISTENT _INVALID_DIFFERENT_RECORD _ISR_INSUFF
        _KEY_DESERIALIZATION _KEY_SERIALIZATION _NOOP _PURGE_INFLIGHT _PURGE_QUEUE _READ_ONLY
        _STATE _VALUE_DESERIALIZATION _VALUE_SERIALIZATION NO_ERROR
        CONCURRENT_TRANSACTIONS DUPLICATE_RESOURCE DUPLICATE_SEQUENCE_NUMBER DUPLICATE_VOTER
        ELECTION_NOT_NEEDED FEATURE_UPDATE_FAILED FENCED_STATE_EPOCH INCONSISTENT_VOTER_SET
        INVALID_MSG INVALID_MSG_SIZE INVALID_PARTITIONS INVALID_PRODUCER_EPOCH
        INVALID_PRODUCER_ID_MAPPING INVALID_RECORD INVALID_RECORD_STATE INVALID_REGISTRATION
        INVALID_REPLICATION_FACTOR INVALID_REPLICA_ASSIGNMENT INVALID_REQUIRED_ACKS
        INVALID_SHARE_SESSION_EPOCH INVALID_TIMESTAMP INVALID_TRANSACTION_TIMEOUT INVALID_TXN_STATE
        INVALID_UPDATE_VERSION INVALID_VOTER_KEY MSG_SIZE_TOO_LARGE NOT_ENOUGH_REPLICAS
        NOT_ENOUGH_REPLICAS_AFTER_APPEND NO_REASSIGNMENT_IN_PROGRESS OPERATION_NOT_ATTEMPTED
        OUT_OF_ORDER_SEQUENCE_NUMBER PRODUCER_FENCED RECORD_LIST_TOO_LARGE RESOURCE_NOT_FOUND
        SHARE_SESSION_LIMIT_REACHED SHARE_SESSION_NOT_FOUND STREAMS_INVALID_TOPOLOGY
        STREAMS_INVALID_TOPOLOGY_EPOCH STREAMS_TOPOLOGY_FENCED TELEMETRY_TOO_LARGE
        TOPIC_ALREADY_EXISTS TOPIC_DELETION_DISABLED TRANSACTIONAL_ID_AUTHORIZATION_FAILED
        TRANSACTION_ABORTABLE TRANSACTION_COORDINATOR_FENCED UNKNOWN_CONTROLLER_ID
        UNKNOWN_PRODUCER_ID UNKNOWN_SUBSCRIPTION_ID UNSUPPORTED_COMPRESSION_TYPE VOTER_NOT_FOUND
    """,
}

REACTIONS: Mapping[int, Reaction] = MappingProxyType(
    {
        getattr(KafkaError, name): reaction
        for reaction, names in _CODE_NAMES.items()
        for name in names.split()
    }
)
"""librdkafka error code → reaction."""


PASSING = frozenset({Reaction.WAIT, Reaction.MIRROR, Reaction.TOPIC_GONE})
"""Reactions that let reading go on behind the error."""


def reaction_to(error: KafkaError) -> Reaction:
    """Return what to do about an error; fatal for the client outweighs its code."""
    if error.fatal():
        return Reaction.REBUILD
    return REACTIONS.get(error.code(), Reaction.REBUILD)


def error_of(exception: KafkaException) -> KafkaError | None:
    """Return the librdkafka error inside an exception; None when it carries only text."""
    first = exception.args[0] if exception.args else None
    return first if isinstance(first, KafkaError) else None


def described(error: KafkaError, secrets: Secrets) -> str:
    """Return `kafka_error=NAME reason="…"`, without secrets."""
    return f'kafka_error={error.name()} reason="{secrets.removed_from(error.str())}"'


def translated(error: KafkaError, action: str, secrets: Secrets) -> K2iError:
    """Return the k2i error for a librdkafka error met while doing `action`.

    Args:
        error: From an exception, a callback or a message.
        action: What was tried, with its values: `topic description of topics=a,b`.
        secrets: Taken out of the reason.

    Returns:
        ConfigError, DataLossError or UnavailableError, as the reaction says.

    """
    message = f"{action} failed: {described(error, secrets)}"
    match reaction_to(error):
        case Reaction.REFUSED | Reaction.FORBIDDEN | Reaction.INVALID:
            return ConfigError(f"{message}, check kafka.properties and the rights of this user")
        case Reaction.TOPIC_GONE:
            return ConfigError(message, kind=ErrorKind.TOPIC_MISSING)
        case Reaction.LOST:
            return DataLossError(message)
        case Reaction.WAIT | Reaction.MIRROR | Reaction.END_REACHED | Reaction.REBUILD:
            return UnavailableError(message)
