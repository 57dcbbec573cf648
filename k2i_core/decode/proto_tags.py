"""Tags that a Protobuf schema gives to its fields: Confluent's option `field_meta`.

    import "confluent/meta.proto";
    message Person { string email = 1 [(confluent.field_meta).tags = "PII"]; }

The option is found by its numbers, which are the same whoever compiled the schema.
"""

from collections.abc import Iterator
from typing import Any

from k2i_core.decode.proto_schema import CompiledSchema, Message, MessageTree
from k2i_core.schema.tags import ELEMENT, NESTING_MAX, VALUE, Steps, Tagged, TagsInside


def tagged_fields(compiled: CompiledSchema, message_name: str | None) -> tuple[Tagged, ...]:
    """Return the fields that have tags, as `schema.tags` does.

    Args:
        compiled: The schema.
        message_name: Full name of the messages that records are; None for any of the schema, and
            then a tag counts for the fields of its name in all of them.

    """
    if message_name is not None:
        named = compiled.messages.get(message_name)
        messages = [] if named is None else [named]
    else:
        messages = [message for root in compiled.roots for message in _messages(root)]
    finder = _Finder()
    return tuple(tagged for one in messages for tagged in finder.fields(one, (), ()))


def _messages(tree: MessageTree) -> Iterator[Message]:
    if not tree.message.is_entry:
        yield tree.message
    for inside in tree.inside:
        yield from _messages(inside)


class _Finder:
    """Looks through messages; one that contains itself, once."""

    def __init__(self) -> None:
        self._inside = TagsInside()

    def fields(
        self, message: Message, path: Steps, around: tuple[Message, ...]
    ) -> Iterator[Tagged]:
        if len(around) > NESTING_MAX:
            return
        for field in message.fields:
            step = (*path, field.name)
            if field.tags:
                yield step, field.tags
            inner: Any = field.message
            if inner is not None and inner.is_entry:
                step, inner = (*step, VALUE), inner.fields[1].message
            elif field.is_repeated:
                step = (*step, ELEMENT)
            if inner is None:
                continue
            inside = (*around, message)
            if inner not in inside:
                yield from self.fields(inner, step, inside)
            elif tags := self._inside.of(inner, self.fields(inner, (), ())):
                yield step, tags
