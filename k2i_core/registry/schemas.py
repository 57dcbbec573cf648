"""The schemas of a registry: fetched when a record first names one, then kept.

What an id means never changes, so a schema is kept until it is one of too many. That an id means
nothing is believed for a while only. Failing to ask is tried again, each time later, up to a limit
in seconds.
"""

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Mapping
from typing import Any, TypeAlias, TypeVar, cast
from uuid import UUID

from k2i_core.clock import Clock
from k2i_core.errors import ConfigError, UnavailableError
from k2i_core.registry.client import NotInRegistryError, RegistryClient, RegistrySettings
from k2i_core.schema.registered import (
    NamedText,
    NoSuchSchema,
    SchemaId,
    SchemaLanguage,
    WriterSchema,
)

SCHEMAS_MAX = 10_000
"""Schemas that are kept. Larger: garbage that looks like ids fills the memory; smaller: a topic of
many schemas asks again and again."""

REFERENCES_MAX = 1_000
"""Schemas that one schema refers to, directly or not. Larger: a hostile one asks without end;
smaller: an honest one does not fit."""

FIRST_WAIT_SECONDS = 0.2
WAIT_SECONDS_MAX = 5.0
"""Pause between attempts. Larger: a registry that is back is noticed late; smaller: one that is
coming up is asked in vain."""

_LANGUAGES = {
    "AVRO": SchemaLanguage.AVRO,
    "PROTOBUF": SchemaLanguage.PROTOBUF,
    "JSON": SchemaLanguage.JSON_SCHEMA,
}

_AnswerT = TypeVar("_AnswerT")


_Belief: TypeAlias = tuple[WriterSchema | NoSuchSchema, float]


class _BrokenSchemaError(Exception):
    """The registry has a schema that nobody can use."""


class RegistrySchemas:
    """What the registry has, as far as it was asked; for any number of threads."""

    def __init__(self, client: RegistryClient, settings: RegistrySettings, clock: Clock) -> None:
        """Ask nothing yet."""
        self._client = client
        self._settings = settings
        self._clock = clock
        self._lock = threading.Lock()
        self._known: OrderedDict[SchemaId, _Belief] = OrderedDict()

    def find(self, schema_id: SchemaId) -> WriterSchema | NoSuchSchema | None:
        """Return what is known of a schema, None when it has to be fetched."""
        with self._lock:
            found, believed_until = self._known.get(schema_id, (None, 0.0))
        if isinstance(found, NoSuchSchema) and self._clock.boot_seconds() > believed_until:
            return None
        return found

    def fetch(self, schema_ids: frozenset[SchemaId]) -> None:
        """Fetch schemas; afterwards each is known, or known not to exist.

        Raises:
            UnavailableError: The registry did not answer within its limit.
            ConfigError: The registry refuses us.

        """
        for schema_id in sorted(schema_ids, key=str):
            if self.find(schema_id) is not None:
                continue
            found: WriterSchema | NoSuchSchema
            try:
                kind = "guids" if isinstance(schema_id, UUID) else "ids"
                answer = self._patiently("schemas", kind, str(schema_id))
                found = self._schema(schema_id, answer)
            except NotInRegistryError:
                found = NoSuchSchema(schema_id)
            except _BrokenSchemaError as error:
                found = NoSuchSchema(schema_id, str(error))
            self._keep(schema_id, found)

    def latest(self, subject: str) -> WriterSchema | None:
        """Return the newest schema of a subject, asked now; None when there is no such subject.

        Raises:
            UnavailableError, ConfigError: As `fetch`.

        """
        try:
            answer = self._patiently("subjects", subject, "versions", "latest")
            return self._schema(_whole(answer, "id"), answer)
        except (NotInRegistryError, _BrokenSchemaError):
            return None

    def subject_count(self) -> int:
        """Ask once how many subjects there are, to see whether the registry answers.

        Raises:
            UnavailableError, ConfigError: As `fetch`.

        """
        answer = self._client.ask("subjects")
        if not isinstance(answer, list):
            raise _strange_answer()
        return len(cast("list[object]", answer))

    def _keep(self, schema_id: SchemaId, found: WriterSchema | NoSuchSchema) -> None:
        believed_until = self._clock.boot_seconds() + self._settings.cache_seconds
        with self._lock:
            self._known[schema_id] = (found, believed_until)
            while len(self._known) > SCHEMAS_MAX:
                self._known.popitem(last=False)

    def _patiently(self, *path: str) -> Any:  # noqa: ANN401 - JSON; the caller checks its shape
        return patiently(lambda: self._client.ask(*path), self._clock, self._settings.seconds_max)

    def _schema(self, schema_id: SchemaId, answer: object) -> WriterSchema:
        text = _member(answer, "schema")
        kind = _member(answer, "schemaType") or "AVRO"
        if not isinstance(text, str) or not isinstance(kind, str):
            raise _strange_answer()
        if kind not in _LANGUAGES:
            message = "the schema is of a type that is not known"
            raise _BrokenSchemaError(message)
        references: dict[str, str] = {}
        self._add_references(answer, references, set())
        named = tuple(NamedText(name, text_) for name, text_ in references.items())
        return WriterSchema(schema_id, _LANGUAGES[kind], text, named)

    def _add_references(
        self, answer: object, references: dict[str, str], underway: set[str]
    ) -> None:
        """Add what a schema refers to, before it what that refers to itself."""
        for reference in _references(answer):
            name, subject = _text(reference, "name"), _text(reference, "subject")
            if name in references or name in underway:
                continue
            underway.add(name)
            if len(underway) > REFERENCES_MAX:
                message = f"a schema refers to more than schemas={REFERENCES_MAX}"
                raise _BrokenSchemaError(message)
            version = str(_whole(reference, "version"))
            try:
                referred = self._patiently("subjects", subject, "versions", version)
            except NotInRegistryError as error:
                message = (
                    f"the schema refers to one that the registry lacks, "
                    f"subject={subject} version={version}"
                )
                raise _BrokenSchemaError(message) from error
            self._add_references(referred, references, underway)
            references[name] = _text(referred, "schema")


def patiently(ask: Callable[[], _AnswerT], clock: Clock, seconds_max: float) -> _AnswerT:
    """Ask until there is an answer or the time is up; at least once.

    Raises:
        UnavailableError: There was none in time.

    """
    deadline = clock.boot_seconds() + seconds_max
    wait_seconds = FIRST_WAIT_SECONDS
    while True:
        try:
            return ask()
        except UnavailableError:
            if clock.boot_seconds() + wait_seconds >= deadline:
                raise
        clock.sleep(wait_seconds)
        wait_seconds = min(2 * wait_seconds, WAIT_SECONDS_MAX)


def _member(answer: object, key: str) -> object:
    if not isinstance(answer, Mapping):
        raise _strange_answer()
    return cast("Mapping[str, object]", answer).get(key)


def _text(answer: object, key: str) -> str:
    found = _member(answer, key)
    if not isinstance(found, str):
        raise _strange_answer()
    return found


def _whole(answer: object, key: str) -> int:
    found = _member(answer, key)
    if not isinstance(found, int):
        raise _strange_answer()
    return found


def _references(answer: object) -> Iterator[object]:
    found = _member(answer, "references")
    if isinstance(found, list):
        yield from cast("list[object]", found)


def _strange_answer() -> ConfigError:
    return ConfigError("schema registry gives an answer that is none of a registry: check the url")
