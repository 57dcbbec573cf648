"""Section `privacy`: what must not be written plainly, anywhere."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from k2i_core.config.problems import quoted
from k2i_core.config.redaction import redacted_mapping
from k2i_core.config.settings import Scalars, Section, Texts, refused_keys

ACTIONS = ("mask", "hash", "tokenise", "redact", "drop")

TAGGED_FORMATS = ("avro", "json_schema", "protobuf")
"""Formats whose schemas carry tags that can be read."""

SECRET_CHARACTERS_MIN = 16
"""Shorter ones can be found by trying."""


def _check_action(path: str, action: str) -> None:
    if not path:
        message = "a column needs a name"
        raise ValueError(message)
    if action not in ACTIONS:
        message = f"{quoted(action)} is no action; write one of {', '.join(ACTIONS)}"
        raise ValueError(message)


class Privacy(Section):
    """What is done to values before anything is written anywhere."""

    columns: Annotated[Texts, Scalars(_check_action, Texts)] = Field(
        default_factory=Texts,
        description="Column of the records, or one that a transform makes → mask (stars; the last "
        "four of nine letters or more stay), hash (HMAC-SHA256 under the secret), tokenise (a "
        "pseudonym under the secret, other in each column), redact (a constant, or null) or drop. "
        "A path leads inside: customer.email, items[].note.",
        examples=[{"email": "hash", "customer.name": "mask"}],
    )
    secret: str | None = Field(
        default=None,
        description="For hash and tokenise; at least 16 characters. With another one, equal values "
        "get other hashes.",
        examples=["${file:/run/secrets/k2i-privacy}"],
    )
    key: Literal["keep", "drop", "hash", "tokenise", "redact"] = Field(
        default="drop", description="What is done to _kafka.key.", examples=["hash"]
    )
    headers: Literal["keep", "drop"] = Field(
        default="drop", description="What is done to _kafka.headers.", examples=["keep"]
    )
    dead_letter_bytes: Literal["keep", "drop"] = Field(
        default="drop",
        description="Whether a dead letter keeps the bytes of its value, in which anything may "
        "stand. Without them it cannot be replayed: its offset says where to find it in the topic.",
        examples=["keep"],
    )
    tags: Annotated[Texts, Scalars(_check_action, Texts)] = Field(
        default_factory=Texts,
        description="Tag that a writer's schema gives to a field (confluent:tags; in Protobuf "
        "confluent.field_meta) → what is done to that field. Of several the first one here counts.",
        examples=[{"PII": "hash"}],
    )

    @model_validator(mode="after")
    def _check_secret(self) -> "Privacy":
        is_needed = bool(
            {"hash", "tokenise"} & {*self.columns.values(), *self.tags.values(), self.key}
        )
        if self.secret is None and is_needed:
            raise refused_keys({"secret": "is required for hash and tokenise"})
        if self.secret is not None and len(self.secret) < SECRET_CHARACTERS_MIN:
            reason = f"has fewer than {SECRET_CHARACTERS_MIN} characters"
            raise refused_keys({"secret": reason})
        return self

    @model_serializer(mode="wrap")
    def _redacted(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        shown = handler(self)
        return {
            **{key: value for key, value in shown.items() if key != "secret"},
            **(redacted_mapping({"secret": self.secret}) if self.secret is not None else {}),
        }

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        yield from self.model_dump(mode="json").items()
