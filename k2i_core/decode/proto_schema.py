"""A compiled Protobuf schema → its message types, as plain values.

The compiler's output (a serialized `FileDescriptorSet`) is read with Google's own library, which
also reads the few values that whole-array steps cannot: those that contain themselves, and
`google.protobuf.Struct`.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Any

from k2i_core.decode.unusable_schema import UnusableSchemaError

if TYPE_CHECKING:
    from google.protobuf.descriptor_pool import DescriptorPool


FIELD_META = 1088
"""Number of the option `confluent.field_meta`."""

META_TAGS = 3
"""Number of the tags in it."""


class Kind(Enum):
    """Types of fields; the value is the number in a descriptor."""

    DOUBLE = 1
    FLOAT = 2
    INT64 = 3
    UINT64 = 4
    INT32 = 5
    FIXED64 = 6
    FIXED32 = 7
    BOOL = 8
    STRING = 9
    GROUP = 10
    MESSAGE = 11
    BYTES = 12
    UINT32 = 13
    ENUM = 14
    SFIXED32 = 15
    SFIXED64 = 16
    SINT32 = 17
    SINT64 = 18


class Presence(Enum):
    """What it means when a record lacks a field."""

    DEFAULT = "zero, empty or false"
    NULL = "null"
    REQUIRED = "a mistake"


@dataclass(slots=True, eq=False)
class Message:
    """A message type; filled after it is made, because it may contain itself.

    Attributes:
        name: Full name, without a leading dot.
        is_entry: Made by the compiler for a map field.
    """

    name: str
    fields: list["MessageField"] = field(default_factory=list["MessageField"])
    is_entry: bool = False


@dataclass(frozen=True, slots=True, eq=False)
class MessageField:
    """A field of a message.

    Attributes:
        oneof: Which of its message's oneofs it belongs to; None for none.
        message: Type of a message field.
        symbols: Names of an enum by number.
        tags: What Confluent's option says that it is.
    """

    name: str
    number: int
    kind: Kind
    is_repeated: bool
    presence: Presence
    oneof: int | None = None
    message: Message | None = None
    symbols: dict[int, str] = field(default_factory=dict[int, str])
    tags: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True, eq=False)
class CompiledSchema:
    """All types of a schema.

    Attributes:
        roots: Messages of the schema's own file, in order, each with those inside of it.
        messages: Every message by full name.
        pool: Google's own view of the same.
    """

    roots: tuple["MessageTree", ...]
    messages: dict[str, Message]
    pool: "DescriptorPool"


@dataclass(frozen=True, slots=True, eq=False)
class MessageTree:
    """A message and the messages declared inside of it, as a frame's indices count them."""

    message: Message
    inside: tuple["MessageTree", ...]


def read_descriptors(serialized: bytes, file_name: str) -> CompiledSchema:
    """Return the types of a compiled schema.

    Args:
        serialized: A `FileDescriptorSet` with all imports.
        file_name: Which of its files is the schema; the others are imported.

    Raises:
        UnusableSchemaError: It uses what is not supported.

    """
    from google.protobuf import descriptor_pb2, descriptor_pool  # noqa: PLC0415 - optional

    files = descriptor_pb2.FileDescriptorSet.FromString(serialized).file
    pool = descriptor_pool.DescriptorPool()
    messages: dict[str, Message] = {}
    enums: dict[str, dict[int, str]] = {}
    described: list[tuple[Any, Any, str]] = []
    for file in files:
        pool.Add(file)  # pyright: ignore[reportAttributeAccessIssue] - missing in the stubs
        prefix = f"{file.package}." if file.package else ""
        for enum in file.enum_type:
            enums[prefix + enum.name] = _symbols(enum)
        for descriptor, name in _nested(file.message_type, prefix):
            messages[name] = Message(name, is_entry=descriptor.options.map_entry)
            described.append((file, descriptor, name))
            for enum in descriptor.enum_type:
                enums[f"{name}.{enum.name}"] = _symbols(enum)
    for file, descriptor, name in described:
        messages[name].fields += [
            _field(file, each, messages, enums, is_entry=messages[name].is_entry)
            for each in descriptor.field
        ]
    own = next(file for file in files if file.name == file_name)
    prefix = f"{own.package}." if own.package else ""
    roots = tuple(_tree(each, prefix, messages) for each in own.message_type)
    if not roots:
        message = "the schema has no message"
        raise UnusableSchemaError(message)
    return CompiledSchema(roots, messages, pool)


def _symbols(enum: Any) -> dict[int, str]:  # noqa: ANN401 - descriptors are typed in stubs only
    # Of aliases, the first is the name.
    return {value.number: value.name for value in reversed(enum.value)}


def _nested(descriptors: Any, prefix: str) -> Iterator[tuple[Any, str]]:  # noqa: ANN401 - as above
    for descriptor in descriptors:
        yield descriptor, prefix + descriptor.name
        yield from _nested(descriptor.nested_type, f"{prefix}{descriptor.name}.")


def _tree(descriptor: Any, prefix: str, messages: dict[str, Message]) -> MessageTree:  # noqa: ANN401 - as above
    name = prefix + descriptor.name
    inside = tuple(_tree(each, f"{name}.", messages) for each in descriptor.nested_type)
    return MessageTree(messages[name], inside)


def _field(
    file: Any,  # noqa: ANN401 - as above
    descriptor: Any,  # noqa: ANN401 - as above
    messages: dict[str, Message],
    enums: dict[str, dict[int, str]],
    *,
    is_entry: bool,
) -> MessageField:
    kind = Kind(descriptor.type)
    if kind is Kind.GROUP:
        message = "the schema has a group; use a message instead"
        raise UnusableSchemaError(message)
    type_name = descriptor.type_name.lstrip(".")
    return MessageField(
        name=descriptor.name,
        number=descriptor.number,
        kind=kind,
        is_repeated=descriptor.label == descriptor.LABEL_REPEATED,
        presence=(
            Presence.DEFAULT
            if is_entry and kind is not Kind.MESSAGE
            else _presence(file, descriptor, kind)
        ),
        oneof=descriptor.oneof_index if descriptor.HasField("oneof_index") else None,
        message=messages[type_name] if kind is Kind.MESSAGE else None,
        symbols=enums[type_name] if kind is Kind.ENUM else {},
        tags=_tags(descriptor.options),
    )


def _tags(options: Any) -> frozenset[str]:  # noqa: ANN401 - as above
    return frozenset(
        tag.decode(errors="replace")
        for meta in _parts(options.SerializeToString(), FIELD_META)
        for tag in _parts(meta, META_TAGS)
    )


def _parts(serialized: bytes, number: int) -> Iterator[bytes]:
    """Yield the texts and messages of one number in a message whose type is not known."""
    from google.protobuf.empty_pb2 import Empty  # noqa: PLC0415 - optional
    from google.protobuf.unknown_fields import UnknownFieldSet  # noqa: PLC0415 - optional

    for found in UnknownFieldSet(Empty.FromString(serialized)):
        if found.field_number == number and isinstance(found.data, bytes):
            yield found.data


def _presence(file: Any, descriptor: Any, kind: Kind) -> Presence:  # noqa: ANN401 - as above
    if descriptor.label == descriptor.LABEL_REQUIRED:
        return Presence.REQUIRED
    is_explicit = (
        kind is Kind.MESSAGE or descriptor.HasField("oneof_index") or file.syntax != "proto3"
    )
    return Presence.NULL if is_explicit else Presence.DEFAULT
