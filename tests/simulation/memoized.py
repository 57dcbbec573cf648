"""The real code's pure functions, remembered: all worlds ask them the same few questions."""

from collections.abc import Iterable
from functools import lru_cache
from typing import Any
from unittest.mock import patch

from k2i_core import ledger
from k2i_core.iceberg import ancestry, operations
from k2i_core.ingest import decoding, writing
from k2i_core.ingest.decoding import Breaking, DecodeSettings
from k2i_core.ingest.ports import FetchSchemas
from k2i_core.records import DecodedBatch, PolledBatch
from tests.fakes.judging_decoder import JudgingDecoder

REMEMBERED_MAX = 10_000

decode_entry = lru_cache(REMEMBERED_MAX)(ledger.decode_entry)

_batches: dict[object, DecodedBatch | Breaking] = {}


def memoized() -> Iterable[Any]:
    """Return the patches."""
    yield patch.object(ancestry, "decode_entry", decode_entry)
    yield patch.object(operations, "decode_entry", decode_entry)
    yield patch.object(writing, "decode_fetching", _decode_fetching)


def _decode_fetching(
    polled: PolledBatch,
    decoder: JudgingDecoder,
    settings: DecodeSettings,
    now_ms: int,
    _fetch_schemas: FetchSchemas,
) -> object:
    key = (
        settings.target_table,
        polled.ranges,
        tuple(polled.records.column("offset").to_pylist()),
        tuple(polled.records.column("partition").to_pylist()),
        tuple(polled.records.column("value").to_pylist()),
        decoder.version,
        decoder.accepts_breaking,
        settings.transforms is None,
        tuple((tp, tuple(offsets.tolist())) for tp, offsets in settings.verdicts.items()),
        polled.refused,
    )
    decoded = _batches.get(key)
    if decoded is None:
        fresh = decoding.decode_batch(polled, decoder, settings, now_ms)
        assert isinstance(fresh, DecodedBatch | Breaking)
        if len(_batches) >= REMEMBERED_MAX:
            _batches.clear()
        _batches[key] = decoded = fresh
    return decoded
