"""The optional wheel `k2i-native`: whether it is here, and what it offers, as protocols.

The only file that imports it. Whoever uses a part of it has the same part in Python, and works
without; what a part may decide is written where it is used.
"""

import importlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias, cast

import pyarrow as pa

from k2i_core.errors import ConfigError

INTERFACE = 3
"""Of the wheels that fit this version; a wheel names its own."""

Choice: TypeAlias = Literal["auto", "off", "required"]
"""The pipeline file's `native`."""


class NativeJsonReader(Protocol):
    """Reads the records that are rows for certain."""

    def read(
        self, values: pa.BinaryArray, /
    ) -> tuple[pa.RecordBatch, pa.Int64Array, pa.Int64Array]:
        """Read n values, without the interpreter's lock.

        Returns:
            Rows, which of the values they are, and which values are left; both ascending.

        Raises:
            ValueError, RuntimeError: Nothing is known of any value. Ask somebody else.

        """
        ...


@dataclass(frozen=True, slots=True)
class AvroPlan:
    """How the values of an Avro type are read.

    Attributes:
        kind: The type's; of a union, `optional` where it is a column of one type, and `members`
            where it is a struct of several; `unread` for what leaves a record to somebody else.
        logical: The logical type's name.
        byte_count: Of a fixed.
        symbols: Of an enum.
        parts: Fields, element, value or branches, in the order in which they are written.
    """

    kind: str
    logical: str | None = None
    byte_count: int = 0
    symbols: tuple[str, ...] = ()
    parts: tuple["AvroPlan", ...] = ()


@dataclass(frozen=True, slots=True)
class ProtobufPlan:
    """How a field of a message is read.

    Attributes:
        number: The field's.
        kind: As in a descriptor; and `map`, `timestamp`, `wrapper` for a message that stands for
            its one field, `empty` for one without fields, `unread` for what leaves a record to
            somebody else.
        is_repeated: Lists and maps.
        is_stored: Whether there is a column.
        presence: What is there where the field is missing: `default`, `null`, or it is `required`.
        oneof: Of which there is one field at most.
        symbols: Names of an enum by number.
        parts: Fields of a message.
    """

    number: int
    kind: str
    is_repeated: bool
    is_stored: bool
    presence: str
    oneof: int | None
    symbols: Mapping[int, str]
    parts: tuple["ProtobufPlan", ...]


class NativeRecordReader(Protocol):
    """Reads the records of one writer's schema that are rows for certain."""

    def read(
        self, bytes_: "pa.Array[Any]", starts: "pa.Array[Any]", ends: "pa.Array[Any]", /
    ) -> tuple[pa.RecordBatch, pa.Int64Array, pa.Int64Array]:
        """Read n records that lie in `bytes_`, as `NativeJsonReader`."""
        ...


Position: TypeAlias = tuple[str, int, int]
"""Topic, Kafka partition and offset."""

ErrorCode: TypeAlias = tuple[int, str]
"""Of librdkafka, with its text."""


class NativeConsumer(Protocol):
    """librdkafka's consumer with one assignment; works without the interpreter's lock.

    Each method raises RuntimeError when the native part itself fails.
    """

    def fetch(self, count: int, timeout_ms: int, /) -> int:
        """Add up to `count` messages to those that wait to be taken, and return how many came."""
        ...

    def take(
        self,
    ) -> tuple[
        pa.RecordBatch | None,
        int,
        int,
        list[Position],
        list[Position],
        list[ErrorCode],
        tuple[ErrorCode, str | None, int] | None,
    ]:
        """Turn what was fetched into columns, up to the first error that stops.

        Returns:
            Records, their bytes, how many have unreadable headers, next offsets, ends of logs,
            errors that pass, and the one that stops with the topic and Kafka partition it is about.

        """
        ...

    def take_reports(
        self,
    ) -> tuple[list[tuple[int, str, bool]], list[tuple[int, str, str, str]]]:
        """Return errors (code, text, is fatal) and log lines (level, facility, client, text)."""
        ...

    def watermarks(self, topic: str, kafka_partition: int, /) -> tuple[int, int] | None:
        """Return log start and end as the last fetch said."""
        ...

    def close(self) -> None:
        """Leave."""
        ...


class NativeLibrary(Protocol):
    """What the wheel's module holds."""

    INTERFACE: int
    __version__: str

    def JsonReader(  # noqa: N802 - a class of the module
        self, schema: pa.Schema, epochs: Mapping[str, int], *, skips_empty: bool
    ) -> NativeJsonReader:
        """Plan how columns are read.

        Args:
            schema: The columns.
            epochs: Path of a timestamp that is a number → microseconds of its unit.
            skips_empty: Leave unknown fields out that hold nothing.

        Raises:
            ValueError: It does not read such columns.

        """
        ...

    def avro_reader(self, schema: pa.Schema, plan: AvroPlan, /) -> NativeRecordReader:
        """Plan how records are read.

        Args:
            schema: The columns.
            plan: Of a record.

        Raises:
            ValueError: It does not read such columns, or such types.

        """
        ...

    def protobuf_reader(
        self, schema: pa.Schema, fields: Sequence[ProtobufPlan], frame: bytes, /
    ) -> NativeRecordReader:
        """Plan how messages are read.

        Args:
            schema: The columns.
            fields: Of the message.
            frame: What stands before each message; others are left to somebody else.

        Raises:
            ValueError: It does not read such columns, or such types.

        """
        ...

    def Consumer(  # noqa: N802 - a class of the module
        self,
        library: str,
        properties: list[tuple[str, str]],
        positions: list[Position],
        passing_codes: set[int],
        schema: pa.Schema,
        /,
    ) -> NativeConsumer:
        """Assign positions to a new consumer.

        Args:
            library: A library of this process that depends on librdkafka.
            properties: Of librdkafka.
            positions: What to read from where on.
            passing_codes: Errors behind which reading goes on.
            schema: Of a polled batch.

        Raises:
            ValueError: With an error code and its text: a property that librdkafka does not take.
            RuntimeError: The native part failed.

        """
        ...


@dataclass(frozen=True, slots=True)
class Native:
    """What was found, or why nothing is used.

    Attributes:
        library: The module; None when everything runs in Python.
        detail: For logs and `k2i status`.
    """

    library: NativeLibrary | None
    detail: str


def find_native(choice: Choice) -> Native:
    """Look for the wheel, if it may be used.

    Raises:
        ConfigError: It is required and cannot be used. Install it, or require it no longer.

    """
    if choice == "off":
        return Native(None, "switched off by native=off")
    found = _found()
    if choice == "required" and found.library is None:
        message = (
            f"native=required, and {found.detail}: install cargo and run `make setup`, or set "
            f"native=auto"
        )
        raise ConfigError(message)
    return found


def _found() -> Native:
    try:
        module = importlib.import_module("k2i_native")
    except ModuleNotFoundError:
        return Native(None, "k2i-native is not installed")
    except ImportError as error:  # Of another system, or of another processor.
        return Native(None, f"k2i-native cannot be loaded: {error}")
    library = cast("NativeLibrary", module)
    if library.INTERFACE != INTERFACE:
        detail = f"k2i-native has interface={library.INTERFACE}, this k2i needs {INTERFACE}"
        return Native(None, detail)
    return Native(library, f"k2i-native {library.__version__}")
