"""What the properties of binary formats share: damaged records, and values compared."""

import math
from typing import Any

from hypothesis import strategies as st


def same(left: Any, right: Any) -> bool:
    if isinstance(left, float) and isinstance(right, float):
        return left == right or (math.isnan(left) and math.isnan(right))
    if isinstance(left, dict) and isinstance(right, dict):
        return left.keys() == right.keys() and all(same(left[key], right[key]) for key in left)
    if isinstance(left, list | tuple) and isinstance(right, list | tuple):
        return len(left) == len(right) and all(map(same, left, right))
    return left == right


@st.composite
def damaged(draw: st.DrawFn, value: bytes) -> bytes:
    kind = draw(st.integers(0, 3))
    if kind == 0:
        return value[: draw(st.integers(0, len(value)))]
    if kind == 1:
        return value + draw(st.binary(min_size=1, max_size=4))
    if kind == 2 or not value:
        return draw(st.binary(max_size=20))
    place = draw(st.integers(0, len(value) - 1))
    flipped = value[place] ^ (1 << draw(st.integers(0, 7)))
    return value[:place] + bytes([flipped]) + value[place + 1 :]
