"""Realistic, unique events for the demo, the tests and the benchmarks, with a few bad ones.

| Set | Shape | About |
|---|---|---|
| `ORDERS` | nested: items, decimals as text and as numbers, an optional note | 270 bytes |
| `FLAT` | ten typed columns, for benchmarks | 225 bytes |
| `WIDE` | the same ten and free text, for benchmarks | 1,000 bytes |

An event is a function of the seed, its id and the time of id 0, and of nothing else: a run that
goes on where another stopped makes the events that one long run would have made. Ids are never
repeated, and neither are values, because compression makes a small replayed set look up to a third
faster than real traffic. Every event starts with its id, bad ones too, so that the last record of
a Kafka partition tells where to go on.
"""

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Protocol, TypedDict

EPOCH_MS = 1_767_225_600_000
"""2026-01-01T00:00:00Z: when event 0 happened unless the caller says otherwise. An event
happens each millisecond."""

_BLOCK = 1_024
"""Events that share a random generator. Larger: more is made in vain when a range starts or ends
inside a block. Smaller: seeding, some ten microseconds, weighs more on each event."""
_LATENESS_MS = 1_023
"""How much earlier than its place in the topic an event of `FLAT` and `WIDE` may have happened: in
order, its time would compress to nothing."""
_WORDS_PER_TEXT = 102


class Column(TypedDict):
    """A column as a pipeline file declares it."""

    name: str
    type: str
    required: bool


class BadKind(StrEnum):
    """The ways in which an event can be unusable."""

    INVALID_JSON = "invalid-json"
    WRONG_TYPE = "wrong-type"
    MISSING_REQUIRED = "missing-required"
    OUT_OF_RANGE = "out-of-range"
    INVALID_UTF8 = "invalid-utf8"


@dataclass(frozen=True, slots=True)
class Events:
    """Consecutive events; index n is the event `start_id + n`.

    Attributes:
        start_id: The first id.
        keys: One Kafka key an event: the customer or user.
        values: One JSON object an event, or what is left of it.
        bad: Id → what is wrong with it.
    """

    start_id: int
    keys: Sequence[bytes]
    values: Sequence[bytes]
    bad: Mapping[int, BadKind]


@dataclass(frozen=True, slots=True)
class _Spoiler:
    """How to make an event of one set unusable: pattern and replacement on its bytes."""

    kind: BadKind
    pattern: re.Pattern[bytes]
    replacement: bytes


class EventMaker(Protocol):
    """What makes events, of whatever format."""

    def make(
        self, start_id: int, count: int, *, seed: int, bad_share: float, epoch_ms: int
    ) -> Events:
        """Make consecutive events, as `EventSet.make`."""
        ...


@dataclass(frozen=True, slots=True)
class EventSet:
    """One shape of events.

    Attributes:
        name: For the command line.
        columns: The columns that hold all of it, in Iceberg's types.
    """

    name: str
    columns: tuple[Column, ...]
    _make_block: Callable[[int, int, random.Random], tuple[list[str], list[str]]]
    _spoilers: tuple[_Spoiler, ...]

    def make(
        self,
        start_id: int,
        count: int,
        *,
        seed: int = 0,
        bad_share: float = 0.0,
        epoch_ms: int = EPOCH_MS,
    ) -> Events:
        """Make the events `[start_id, start_id + count)`.

        Args:
            start_id: First id, at least 0.
            count: How many; may be 0.
            seed: Another seed gives other values for the same ids.
            bad_share: Between 0 and 1: how probable it is for an event to be bad.
            epoch_ms: When event 0 happened, in milliseconds since 1970; event n is n ms later,
                or up to a second less.
        """
        assert start_id >= 0
        assert count >= 0
        assert 0.0 <= bad_share <= 1.0
        next_id = start_id + count
        first_block_id = start_id - start_id % _BLOCK if count else next_id
        keys: list[bytes] = []
        values: list[bytes] = []
        bad: dict[int, BadKind] = {}
        for block_id in range(first_block_id, next_id, _BLOCK):
            generator = random.Random(f"{self.name}/{seed}/{block_id}")  # noqa: S311 - not a secret
            block_keys, block_values = self._make_block(block_id, epoch_ms, generator)
            first, last = max(start_id, block_id), min(next_id, block_id + _BLOCK)
            part = slice(first - block_id, last - block_id)
            # One encoding for many strings; JSON never holds a bare line feed.
            keys += "\n".join(block_keys[part]).encode().split(b"\n")
            values += "\n".join(block_values[part]).encode().split(b"\n")
            if bad_share > 0:
                for event_id, kind in self._choose_bad(block_id, bad_share, generator):
                    if first <= event_id < last:
                        index = event_id - start_id
                        values[index] = self._spoil(values[index], kind)
                        bad[event_id] = kind
        return Events(start_id, keys, values, bad)

    def _choose_bad(
        self, block_id: int, bad_share: float, generator: random.Random
    ) -> list[tuple[int, BadKind]]:
        kinds = [spoiler.kind for spoiler in self._spoilers]
        return [
            (block_id + index, generator.choice(kinds))
            for index in range(_BLOCK)
            if generator.random() < bad_share
        ]

    def _spoil(self, value: bytes, kind: BadKind) -> bytes:
        spoiler = next(one for one in self._spoilers if one.kind is kind)
        spoiled = spoiler.pattern.sub(spoiler.replacement, value, count=1)
        assert spoiled != value
        return spoiled


def read_event_id(value: bytes) -> int | None:
    """Return the id that a record's value starts with; None when it is no event of ours."""
    match = re.match(rb'\{"[a-z]+_id":(\d+)', value)
    return int(match[1]) if match else None


def _spoilers(text_column: str, small_int_column: str) -> tuple[_Spoiler, ...]:
    text = text_column.encode()
    small_int = small_int_column.encode()
    return (
        _Spoiler(BadKind.INVALID_JSON, re.compile(rb'"[^"]*"[^"]*\Z'), b""),
        _Spoiler(
            BadKind.WRONG_TYPE,
            re.compile(b'"' + small_int + rb'":\d+'),
            b'"' + small_int + b'":"many"',
        ),
        _Spoiler(BadKind.MISSING_REQUIRED, re.compile(b'"' + text + rb'":"[^"]*",'), b""),
        _Spoiler(
            BadKind.OUT_OF_RANGE,
            re.compile(b'"' + small_int + rb'":\d+'),
            b'"' + small_int + b'":3000000000',
        ),
        _Spoiler(
            BadKind.INVALID_UTF8,
            re.compile(b'"' + text + rb'":"[^"]*"'),
            b'"' + text + b'":"\xff\xfe"',
        ),
    )


def _timestamps(block_id: int, epoch_ms: int, lateness_ms: Sequence[int]) -> list[str]:
    first_ms = epoch_ms + block_id
    # Added up, because a local time zone must not come into it.
    start = datetime(1970, 1, 1, tzinfo=UTC)
    prefixes = {
        second: (start + timedelta(seconds=second)).strftime("%Y-%m-%dT%H:%M:%S.")
        for second in range((first_ms - _LATENESS_MS) // 1_000, (first_ms + _BLOCK) // 1_000 + 1)
    }
    moments = [first_ms + index - late for index, late in enumerate(lateness_ms)]
    return [f"{prefixes[moment // 1_000]}{moment % 1_000:03d}Z" for moment in moments]


def _words_64(generator: random.Random, count: int) -> memoryview:
    return memoryview(generator.randbytes(count * 8)).cast("Q")


_STATUSES = ("placed", "paid", "packed", "shipped", "delivered", "cancelled", "returned", "paid")
_CURRENCIES = ("EUR", "USD", "GBP", "CHF", "SEK", "PLN", "EUR", "USD")
_NOTES = (
    "leave at the door",
    "ring twice",
    "gift wrap, please",
    "livraison après 18 h",
    "call before delivery",
    "no plastic bags",
    "Hinterhaus, 2. Stock",
    "third floor, left",
)


@cache
def _item_tails() -> tuple[tuple[str, int], ...]:
    """Everything of an item but its article number, with its worth in cents."""
    tails: list[tuple[str, int]] = []
    for index in range(4_096):
        quantity, cents = index % 5 + 1, 199 + index * 37 % 19_800
        price = f"{cents // 100}.{cents % 100:02d}"
        tails.append((f'","quantity":{quantity},"price":{price}}}', quantity * cents))
    return tuple(tails)


def _make_orders(
    block_id: int, epoch_ms: int, generator: random.Random
) -> tuple[list[str], list[str]]:
    tails = _item_tails()
    words = _words_64(generator, 2 * _BLOCK)
    keys: list[str] = []
    values: list[str] = []
    times = _timestamps(block_id, epoch_ms, [0] * _BLOCK)
    for index, created_at in enumerate(times):
        first, second = words[2 * index], words[2 * index + 1]
        customer_id = first % 200_003 + 1
        items: list[str] = []
        cents = 0
        for _ in range((first >> 24) % 3 + 1):
            tail, worth = tails[second & 4_095]
            items.append(f'{{"sku":"SKU-{(second >> 12) % 50_000:05d}{tail}')
            cents += worth
            second >>= 20
        note = f',"note":"{_NOTES[first >> 61]}"' if first & 0x7000_0000 == 0 else ""
        keys.append(str(customer_id))
        values.append(
            f'{{"order_id":{block_id + index},"customer_id":{customer_id},'
            f'"status":"{_STATUSES[first >> 58 & 7]}",'
            f'"amount":"{cents // 100}.{cents % 100:02d}",'
            f'"currency":"{_CURRENCIES[first >> 55 & 7]}","priority":{first >> 50 & 7},'
            f'"created_at":"{created_at}","items":[{",".join(items)}]{note}}}'
        )
    return keys, values


_EVENT_TYPES = ("view", "view", "view", "search", "click", "add_to_cart", "purchase", "view")
_COUNTRIES = (
    *("DE", "US", "GB", "FR", "NL", "PL", "SE", "ES"),
    *("IT", "AT", "CH", "DK", "NO", "FI", "CZ", "PT"),
)
_BOOLEANS = ("false", "true")
_SECTIONS = ("products", "articles", "brands", "offers", "search", "account", "help", "products")


def _flat_heads(
    block_id: int, epoch_ms: int, generator: random.Random
) -> tuple[list[str], list[str]]:
    """Keys, and values without the closing brace."""
    words = _words_64(generator, 3 * _BLOCK)
    firsts = words[::3]
    times = _timestamps(block_id, epoch_ms, [first >> 27 & _LATENESS_MS for first in firsts])
    keys: list[str] = []
    heads: list[str] = []
    columns = zip(times, firsts, words[1::3], words[2::3], strict=True)
    for event_id, (created_at, first, high, low) in enumerate(columns, start=block_id):
        user_id = first % 2_000_003 + 1
        cents = (first >> 21) % 50_000 + 99
        keys.append(str(user_id))
        heads.append(
            f'{{"event_id":{event_id},"user_id":{user_id},"session_id":"{high:016x}{low:016x}",'
            f'"event_type":"{_EVENT_TYPES[first >> 61]}",'
            f'"country":"{_COUNTRIES[first >> 57 & 15]}",'
            f'"price":{cents // 100}.{cents % 100:02d},"quantity":{(first >> 54 & 7) + 1},'
            f'"created_at":"{created_at}","is_mobile":{_BOOLEANS[first >> 53 & 1]},'
            f'"path":"/{_SECTIONS[first >> 50 & 7]}/{first >> 37 & 8191}"'
        )
    return keys, heads


def _make_flat(
    block_id: int, epoch_ms: int, generator: random.Random
) -> tuple[list[str], list[str]]:
    keys, heads = _flat_heads(block_id, epoch_ms, generator)
    return keys, [f"{head}}}" for head in heads]


@cache
def _word_pairs() -> tuple[str, ...]:
    """Every pair of 256 invented words: one lookup gives two of them."""
    generator = random.Random("words")  # noqa: S311 - not a secret
    syllables = [first + vowel for first in "bdfgklmnprstvz" for vowel in "aeiou"]
    words = ["".join(generator.choices(syllables, k=generator.randint(1, 4))) for _ in range(256)]
    return tuple(f"{first} {second}" for first in words for second in words)


def _make_wide(
    block_id: int, epoch_ms: int, generator: random.Random
) -> tuple[list[str], list[str]]:
    keys, heads = _flat_heads(block_id, epoch_ms, generator)
    pair_count = _WORDS_PER_TEXT // 2
    numbers = memoryview(generator.randbytes(_BLOCK * (pair_count + 4) * 2)).cast("H")
    pair = _word_pairs().__getitem__
    values: list[str] = []
    for index, head in enumerate(heads):
        start = index * (pair_count + 4)
        end = start + pair_count
        tag_1, tag_2, campaign, agent = numbers[end : end + 4]
        values.append(
            f'{head},"user_agent":"Mozilla/5.0 (X11; Linux x86_64) Version/{agent % 40}.{agent}",'
            f'"referrer":"https://www.example.com/{pair(campaign).replace(" ", "-")}",'
            f'"tags":["{pair(tag_1)}","{pair(tag_2)}"],'
            f'"text":"{" ".join(map(pair, numbers[start:end]))}"}}'
        )
    return keys, values


def _columns(*declarations: str) -> tuple[Column, ...]:
    """Read `name: type` or, for a column that must be there, `name!: type`."""
    pairs = [declaration.split(": ", 1) for declaration in declarations]
    return tuple(
        Column(name=name.rstrip("!"), type=kind, required=name.endswith("!"))
        for name, kind in pairs
    )


_FLAT_COLUMNS = _columns(
    "event_id!: long",
    "user_id!: long",
    "session_id: string",
    "event_type!: string",
    "country: string",
    "price: double",
    "quantity: int",
    "created_at: timestamptz",
    "is_mobile: boolean",
    "path: string",
)

ORDERS = EventSet(
    "orders",
    _columns(
        "order_id!: long",
        "customer_id!: long",
        "status!: string",
        "amount!: decimal(12, 2)",
        "currency!: string",
        "priority: int",
        "created_at!: timestamptz",
        "items: list<struct<sku: string, quantity: int, price: decimal(10, 2)>>",
        "note: string",
    ),
    _make_orders,
    _spoilers("currency", "priority"),
)
FLAT = EventSet("flat", _FLAT_COLUMNS, _make_flat, _spoilers("event_type", "quantity"))
WIDE = EventSet(
    "wide",
    (
        *_FLAT_COLUMNS,
        *_columns("user_agent: string", "referrer: string", "tags: list<string>", "text: string"),
    ),
    _make_wide,
    _spoilers("event_type", "quantity"),
)

EVENT_SETS = {one.name: one for one in (ORDERS, FLAT, WIDE)}
