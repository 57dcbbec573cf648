"""Both ways to decode JSON, for tests that must hold on either.

A module that imports `both_json_paths` runs once with `JsonDecoder` and once with the native reader
before it, under the name `JsonDecoder`. Without the wheel the second run is skipped.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import pyarrow as pa
import pytest

from k2i_core.decode.json_decoder import JsonDecoder
from k2i_core.decode.native_json import NativeJsonDecoder, accelerated
from k2i_core.native import find_native

NATIVE = find_native("auto")
needs_native = pytest.mark.skipif(NATIVE.library is None, reason=NATIVE.detail)


def no_failure(reason: str) -> None:
    """The reader itself must never fail."""
    raise AssertionError(reason)


def native_decoder(
    row_schema: pa.Schema,
    *,
    time_formats: Mapping[str, str] | None = None,
    may_add_columns: bool = False,
) -> NativeJsonDecoder | JsonDecoder:
    """What `JsonDecoder(…)` would be, with the native reader before it."""
    assert NATIVE.library is not None
    formats = time_formats or {}
    decoder = JsonDecoder(row_schema, time_formats=formats, may_add_columns=may_add_columns)
    return accelerated(
        decoder,
        NATIVE.library,
        time_formats=formats,
        may_add_columns=may_add_columns,
        report_failure=no_failure,
    )


PATHS: Mapping[str, Any] = {"python": JsonDecoder, "native": native_decoder}


@pytest.fixture(
    scope="module", autouse=True, params=["python", pytest.param("native", marks=needs_native)]
)
def both_json_paths(request: pytest.FixtureRequest) -> Iterator[None]:
    """Run the tests of the importing module on one path, then on the other."""
    module: Any = request.module
    kept = module.JsonDecoder
    module.JsonDecoder = PATHS[request.param]
    yield
    module.JsonDecoder = kept
