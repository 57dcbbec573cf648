"""Where brackets, colons, commas and strings of many JSON texts are, by array operations.

    bytes ─► quotes that are not escaped ─► what lies outside strings ─► how deep

What is refused on the way is no JSON object for certain: an odd number of quotes, brackets that do
not close, or more than one value. What is not refused may still be none.
"""

from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from k2i_core.decode.arrow import numbers_of
from k2i_core.decode.isolation import UnreadableError

Positions: TypeAlias = npt.NDArray[np.int64]
Mask: TypeAlias = npt.NDArray[np.bool_]

BRACE, END_BRACE, BRACKET, END_BRACKET, COLON, COMMA = (ord(char) for char in "{}[]:,")
_QUOTE, _BACKSLASH = (ord(char) for char in '"\\')

_IS_TOKEN = np.zeros(256, np.bool_)
_IS_TOKEN[[BRACE, END_BRACE, BRACKET, END_BRACKET, COLON, COMMA]] = True
_STEPS = np.zeros(256, np.int64)
_STEPS[[BRACE, BRACKET]] = 1
_STEPS[[END_BRACE, END_BRACKET]] = -1


class JsonStructure:
    """The structure of n texts that each begin with `{` and end with `}`.

    Attributes:
        data: The bytes of all texts, one after the other.
        starts: Where each text begins, and last where the last one ends; n + 1 positions.
        backslashes: Where they are.
        quotes: Where strings begin and end, in turn.
        tokens: Where brackets, colons and commas are that lie outside strings.
        chars: Which of them each token is.
        depths: How deep each token lies: the outermost bracket, what is directly in it and its end
            at 1.
        opens: Which tokens are `{` or `[`.
    """

    def __init__(self, texts: pa.StringArray) -> None:
        """Find it.

        Args:
            texts: Without null.

        Raises:
            UnreadableError: At least one text is no JSON object; names the first such.

        """
        offsets = _offsets(texts)
        self.data = numbers_of(texts, 2, np.uint8)[offsets[0] : offsets[-1]]
        self.starts = offsets - offsets[0]
        self.backslashes = np.flatnonzero(self.data == _BACKSLASH)
        self.quotes = self._find_quotes()
        # Inside a string there is an odd number of quotes before it.
        tokens = np.flatnonzero(_IS_TOKEN[self.data])
        self.tokens = tokens[np.searchsorted(self.quotes, tokens) % 2 == 0]
        self.chars = self.data[self.tokens]
        steps = _STEPS[self.chars]
        self.opens = np.flatnonzero(steps > 0)
        levels = np.cumsum(steps)
        self._check_levels(levels)
        self.depths = np.where(steps < 0, levels + 1, levels)

    def text_of(self, position: int) -> int:
        """Return which text a position lies in."""
        return int(np.searchsorted(self.starts, position, side="right")) - 1

    def refuse_any(self, tokens: Positions) -> None:
        """Refuse the texts of these tokens, if there are any.

        Raises:
            UnreadableError: There are; names the first text.

        """
        if len(tokens):
            raise UnreadableError(self.text_of(int(self.tokens[tokens.min()])))

    def _find_quotes(self) -> Positions:
        quotes = np.flatnonzero(self.data == _QUOTE)
        if len(self.backslashes):
            # A quote is escaped if the run of backslashes before it is odd.
            is_first = np.diff(self.backslashes, prepend=-2) != 1
            run_starts = np.maximum.accumulate(np.where(is_first, self.backslashes, 0))
            last = np.searchsorted(self.backslashes, quotes) - 1
            is_behind = (last >= 0) & (self.backslashes[last] == quotes - 1)
            quotes = quotes[~is_behind | ((quotes - run_starts[last]) % 2 == 0)]
        counts = np.diff(np.searchsorted(quotes, self.starts))
        self._refuse_texts(counts % 2 != 0)
        return quotes

    def _check_levels(self, levels: Positions) -> None:
        """Check that every text comes back to level 0 with its last token and not before."""
        ends = np.searchsorted(self.tokens, self.starts[1:]) - 1
        # Exactly the last token of each text ends at 0, whatever begins outside is deeper.
        outermost = np.flatnonzero(levels <= 0)
        counts = np.diff(np.searchsorted(outermost, ends, side="right"), prepend=0)
        self._refuse_texts((counts != 1) | (levels[ends] != 0))

    def _refuse_texts(self, is_bad: Mask) -> None:
        if is_bad.any():
            raise UnreadableError(int(np.argmax(is_bad)))


def _offsets(texts: pa.StringArray) -> Positions:
    if not len(texts):
        return np.zeros(1, np.int64)
    offsets = numbers_of(texts, 1, np.int32)[texts.offset : texts.offset + len(texts) + 1]
    return offsets.astype(np.int64)
