"""Record values → texts that each start and end like one JSON object.

This is half of the proof that a record becomes exactly one row; `json_columns` has the other half.
"""

from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc

from k2i_core.decode.arrow import AnyArray
from k2i_core.decode.isolation import UnfitError, find_unfit
from k2i_core.decode.json_trees import ErrorClass, RecordError

WHITESPACE = " \t\r\n"
"""What JSON allows around a value; Unicode and Python count more, so theirs is not used."""


@dataclass(frozen=True, slots=True)
class FramedTexts:
    """The values that may be JSON objects.

    Attributes:
        texts: m UTF-8 texts, each `{…}` without surrounding whitespace.
        indices: Which of the n values each text is, ascending; None when m = n.
        unframed: The other n - m values, ascending.
    """

    texts: pa.StringArray
    indices: tuple[int, ...] | None
    unframed: tuple[int, ...]


def frame(values: pa.BinaryArray) -> FramedTexts:
    """Set apart the values that are not UTF-8 or not `{…}`.

    Args:
        values: n non-null elements.

    """
    indices: tuple[int, ...] | None = None
    try:
        texts = to_texts(values)
    except UnfitError:
        unfit = set(find_unfit(values, to_texts))
        indices = tuple(index for index in range(len(values)) if index not in unfit)
        texts = to_texts(values.take(pa.array(indices, pa.int64())))
    is_framed = _is_framed(texts)
    if pc.all(is_framed).as_py() is False:
        texts = pc.ascii_trim(texts, characters=WHITESPACE)
        is_framed = _is_framed(texts)
    if pc.all(is_framed).as_py() is False:
        framed = is_framed.to_pylist()
        texts = texts.filter(is_framed)
        indices = tuple(
            index for index, keep in zip(indices or range(len(values)), framed, strict=True) if keep
        )
    kept = range(len(values)) if indices is None else set(indices)
    unframed = () if indices is None else tuple(n for n in range(len(values)) if n not in kept)
    return FramedTexts(texts, indices, unframed)


def to_texts(values: AnyArray) -> pa.StringArray:
    """Return the values as UTF-8 text.

    Raises:
        UnfitError: At least one is not UTF-8: overlong forms and surrogates are not either.

    """
    try:
        texts = values.cast(pa.string())
    except pa.ArrowInvalid as error:
        raise UnfitError from error
    assert isinstance(texts, pa.StringArray)
    return texts


def _is_framed(texts: pa.StringArray) -> pa.BooleanArray:
    return pc.and_(pc.starts_with(texts, pattern="{"), pc.ends_with(texts, pattern="}"))


def to_text(value: bytes) -> str:
    """Return one value as text.

    Raises:
        RecordError: It is not UTF-8.

    """
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        message = f"not utf-8 at byte={error.start}"
        raise RecordError(ErrorClass.INVALID_UTF8, message) from error
