"""What must not be seen: which keys and values are secrets, and the one place that hides them.

Three things are secret: the value of a key that names a secret (`sasl.password`), whatever came
from a file by `${file:…}` or from a variable that names one (`${DB_PASSWORD}`), and the user part
and secret parameters of an address.
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, cast

STARS = "***"

_SECRET_WORDS = re.compile(
    r"""
    pass(word|wd|phrase) | secret | token | credential | authorization | assertion | jaas
    | \bsas\b | connection.string | account.key | private.key | api.?key | key.pem
    | oauthbearer.config
    """,
    re.IGNORECASE | re.VERBOSE,
)

_PLAIN_ENDINGS = re.compile(
    r"(url|uri|endpoint|location|enabled|scope|expires.at.ms)$", re.IGNORECASE
)
"""Keys about a secret that hold none, such as where a token is asked for."""

_ADDRESS_USER = re.compile(r"(?<=://)\S*@")
_ADDRESS_PARAMETER = re.compile(r"(?<=[?&;])([^=&;?\s]+)=([^&;\s]*)")

MASKED_LENGTH_MIN = 4
"""A secret shorter than this is hidden only where it stands alone in quotes: a single letter would
otherwise be hidden in every word."""


def is_secret_key(key: str) -> bool:
    """Tell whether a key or variable names a secret."""
    return bool(_SECRET_WORDS.search(key.replace("_", "."))) and not _PLAIN_ENDINGS.search(key)


def redacted_text(text: str) -> str:
    """Hide the user part and the secret parameters of every address in `text`."""
    text = _ADDRESS_USER.sub(f"{STARS}@", text)
    return _ADDRESS_PARAMETER.sub(_hidden_parameter, text)


def redacted_value(key: str, value: object) -> Any:  # noqa: ANN401 - any YAML value, as given
    """Return `value` of `key` as it may be shown; mappings and lists are looked into."""
    if is_secret_key(key):
        return STARS
    if isinstance(value, Mapping):
        return redacted_mapping(cast("Mapping[str, object]", value))
    if isinstance(value, list | tuple):
        return [redacted_value(key, element) for element in cast("Iterable[object]", value)]
    return redacted_text(value) if isinstance(value, str) else value


def redacted_mapping(mapping: Mapping[str, object]) -> dict[str, Any]:
    """Return a mapping as it may be shown."""
    return {str(key): redacted_value(str(key), value) for key, value in mapping.items()}


def masked(text: str, secrets: Iterable[str]) -> str:
    """Replace every one of `secrets` in `text` by stars."""
    # Longest first, because one secret may be a part of another.
    for secret in sorted(secrets, key=len, reverse=True):
        if len(secret) >= MASKED_LENGTH_MIN:
            text = text.replace(secret, STARS)
        text = text.replace(f'"{secret}"', f'"{STARS}"')
    return text


def masked_tree(value: object, secrets: frozenset[str]) -> Any:  # noqa: ANN401 - any YAML value
    """Replace `secrets` in every text of a tree of mappings and lists."""
    if isinstance(value, Mapping):
        mapping = cast("Mapping[str, object]", value)
        return {key: masked_tree(element, secrets) for key, element in mapping.items()}
    if isinstance(value, list):
        return [masked_tree(element, secrets) for element in cast("list[object]", value)]
    if isinstance(value, str):
        return STARS if value in secrets else masked(value, secrets)
    return value


def _hidden_parameter(match: re.Match[str]) -> str:
    key, value = match.groups()
    return f"{key}={STARS if is_secret_key(key) else value}"
