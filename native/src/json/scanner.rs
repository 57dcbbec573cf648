//! One JSON text, read from left to right: whitespace, strings and numbers, strictly.
//!
//! Nothing is guessed: what the grammar of RFC 8259 does not allow is `Uncertain`, and so is
//! what nobody needs fast. A text is valid UTF-8 when it comes here.

use crate::columns::Uncertain;

pub struct Scanner<'a> {
    bytes: &'a [u8],
    at: usize,
}

/// So many bytes of a string are looked through in words before blocks are tried.
const WORDS_BYTES: usize = 32;
const BLOCK_BYTES: usize = 32;

const ONES: u64 = 0x0101_0101_0101_0101;
const HIGHS: u64 = 0x8080_8080_8080_8080;
const QUOTES: u64 = ONES * b'"' as u64;
const BACKSLASHES: u64 = ONES * b'\\' as u64;

/// Eight bytes at once: a high bit for each quote, backslash and control character. Bits above
/// the lowest one may be wrong, because a subtraction borrows from the byte above.
#[inline(always)]
fn specials(word: u64) -> u64 {
    let quotes = word ^ QUOTES;
    let backslashes = word ^ BACKSLASHES;
    let found = (quotes.wrapping_sub(ONES) & !quotes)
        | (backslashes.wrapping_sub(ONES) & !backslashes)
        | (word.wrapping_sub(ONES * 0x20) & !word);
    found & HIGHS
}

#[inline(always)]
fn is_special(byte: &u8) -> bool {
    (*byte == b'"') | (*byte == b'\\') | (*byte < 0x20)
}

#[inline(always)]
fn word_at(bytes: &[u8], at: usize) -> Option<u64> {
    let chunk = bytes.get(at..at + 8)?;
    Some(u64::from_le_bytes(chunk.try_into().ok()?))
}

impl<'a> Scanner<'a> {
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { bytes, at: 0 }
    }

    #[inline(always)]
    pub fn peek(&self) -> Option<u8> {
        self.bytes.get(self.at).copied()
    }

    pub fn is_at_end(&self) -> bool {
        self.at == self.bytes.len()
    }

    /// The next byte that is not whitespace, which stays the next.
    #[inline(always)]
    pub fn skip_whitespace(&mut self) -> Option<u8> {
        while let Some(byte) = self.peek() {
            if !matches!(byte, b' ' | b'\t' | b'\r' | b'\n') {
                return Some(byte);
            }
            self.at += 1;
        }
        None
    }

    /// Takes `byte` after any whitespace.
    #[inline(always)]
    pub fn expect(&mut self, byte: u8) -> Result<(), Uncertain> {
        if self.skip_whitespace() == Some(byte) {
            self.at += 1;
            return Ok(());
        }
        Err(Uncertain)
    }

    /// Takes `byte` after any whitespace, if it is there.
    #[inline(always)]
    pub fn take(&mut self, byte: u8) -> bool {
        self.expect(byte).is_ok()
    }

    /// Takes exactly this text, if it comes next.
    #[inline(always)]
    pub fn take_text(&mut self, text: &[u8]) -> bool {
        let is_next = self.bytes[self.at..].starts_with(text);
        if is_next {
            self.at += text.len();
        }
        is_next
    }

    /// A string, without its escapes; `scratch` holds it where there are some.
    #[inline]
    pub fn string<'s>(&mut self, scratch: &'s mut Vec<u8>) -> Result<&'s [u8], Uncertain>
    where
        'a: 's,
    {
        if self.peek() != Some(b'"') {
            return Err(Uncertain);
        }
        let start = self.at + 1;
        let end = self.find_special(start).ok_or(Uncertain)?;
        if self.bytes[end] == b'"' {
            self.at = end + 1;
            return Ok(&self.bytes[start..end]);
        }
        scratch.clear();
        self.unescape(start, end, scratch)?;
        Ok(scratch)
    }

    /// The first quote, backslash or control character at or behind `at`.
    #[inline]
    fn find_special(&self, start: usize) -> Option<usize> {
        let mut at = start;
        while let Some(word) = word_at(self.bytes, at) {
            let found = specials(word);
            if found != 0 {
                return Some(at + (found.trailing_zeros() / 8) as usize);
            }
            at += 8;
            if at - start == WORDS_BYTES {
                at = self.skip_plain(at);
            }
        }
        Some(at + self.bytes.get(at..)?.iter().position(is_special)?)
    }

    /// Skips whole blocks without special characters. The compiler makes wide instructions of it,
    /// which pay for long texts only.
    #[inline(never)]
    fn skip_plain(&self, mut at: usize) -> usize {
        while let Some(block) = self.bytes.get(at..at + BLOCK_BYTES) {
            if block.iter().fold(false, |found, byte| found | is_special(byte)) {
                break;
            }
            at += BLOCK_BYTES;
        }
        at
    }

    #[cold]
    fn unescape(
        &mut self,
        mut start: usize,
        mut end: usize,
        out: &mut Vec<u8>,
    ) -> Result<(), Uncertain> {
        loop {
            out.extend_from_slice(&self.bytes[start..end]);
            match self.bytes[end] {
                b'"' => {
                    self.at = end + 1;
                    return Ok(());
                }
                b'\\' => start = self.escape(end + 1, out)?,
                _ => return Err(Uncertain), // A control character.
            }
            end = self.find_special(start).ok_or(Uncertain)?;
        }
    }

    /// Adds what the escape at `at` means, and returns where the text goes on.
    fn escape(&self, at: usize, out: &mut Vec<u8>) -> Result<usize, Uncertain> {
        let plain = match self.bytes.get(at).ok_or(Uncertain)? {
            b'"' => b'"',
            b'\\' => b'\\',
            b'/' => b'/',
            b'b' => 0x08,
            b'f' => 0x0c,
            b'n' => b'\n',
            b'r' => b'\r',
            b't' => b'\t',
            b'u' => return self.code_point(at + 1, out),
            _ => return Err(Uncertain),
        };
        out.push(plain);
        Ok(at + 1)
    }

    fn code_point(&self, at: usize, out: &mut Vec<u8>) -> Result<usize, Uncertain> {
        let first = self.four_digits(at)?;
        let mut end = at + 4;
        let mut code = first;
        if (0xd800..0xdc00).contains(&first) && self.bytes.get(end..end + 2) == Some(b"\\u") {
            let second = self.four_digits(end + 2)?;
            if (0xdc00..0xe000).contains(&second) {
                code = 0x10000 + ((first - 0xd800) << 10) + (second - 0xdc00);
                end += 6;
            }
        }
        // No character is half a surrogate pair.
        let character = char::from_u32(code).ok_or(Uncertain)?;
        out.extend_from_slice(character.encode_utf8(&mut [0; 4]).as_bytes());
        Ok(end)
    }

    fn four_digits(&self, at: usize) -> Result<u32, Uncertain> {
        let digits = self.bytes.get(at..at + 4).ok_or(Uncertain)?;
        digits.iter().try_fold(0, |code, &byte| {
            Ok(code * 16 + (byte as char).to_digit(16).ok_or(Uncertain)?)
        })
    }

    /// A number as it is spelled.
    #[inline]
    pub fn number(&mut self) -> Result<&'a [u8], Uncertain> {
        let start = self.at;
        if self.peek() == Some(b'-') {
            self.at += 1;
        }
        let first = self.peek();
        let whole = self.digits()?;
        if whole > 1 && first == Some(b'0') {
            return Err(Uncertain);
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digits()?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digits()?;
        }
        Ok(&self.bytes[start..self.at])
    }

    /// At least one digit.
    #[inline(always)]
    fn digits(&mut self) -> Result<usize, Uncertain> {
        let start = self.at;
        while self.peek().is_some_and(|byte| byte.is_ascii_digit()) {
            self.at += 1;
        }
        if self.at == start {
            return Err(Uncertain);
        }
        Ok(self.at - start)
    }

    /// A number without fraction and exponent, if 64 bits hold it.
    #[inline]
    pub fn integer(&mut self) -> Result<i64, Uncertain> {
        let start = self.at;
        let is_negative = self.peek() == Some(b'-');
        if is_negative {
            self.at += 1;
        }
        let first = self.at;
        let mut value: u64 = 0;
        while let Some(byte @ b'0'..=b'9') = self.peek() {
            value = value.wrapping_mul(10).wrapping_add(u64::from(byte - b'0'));
            self.at += 1;
        }
        let count = self.at - first;
        if count == 0
            || (count > 1 && self.bytes[first] == b'0')
            || matches!(self.peek(), Some(b'.' | b'e' | b'E'))
        {
            return Err(Uncertain);
        }
        if count > 18 {
            // Rare enough to be read again, with care for the last digit.
            let text = std::str::from_utf8(&self.bytes[start..self.at]).map_err(|_| Uncertain)?;
            return text.parse().map_err(|_| Uncertain);
        }
        let value = value as i64;
        Ok(if is_negative { -value } else { value })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn string(text: &str) -> Result<String, Uncertain> {
        let mut scratch = Vec::new();
        let mut scanner = Scanner::new(text.as_bytes());
        let bytes = scanner.string(&mut scratch)?.to_vec();
        if !scanner.is_at_end() {
            return Err(Uncertain);
        }
        Ok(String::from_utf8(bytes).unwrap())
    }

    #[test]
    fn a_string_is_what_its_escapes_mean() {
        assert_eq!(string(r#""""#).unwrap(), "");
        assert_eq!(string(r#""a\"\\\/\b\f\n\r\tz""#).unwrap(), "a\"\\/\u{8}\u{c}\n\r\tz");
        assert_eq!(string(r#""\u00e4\ud83d\ude00\u0000""#).unwrap(), "ä😀\0");
        assert_eq!(string("\"0123456789abcdef ä\"").unwrap(), "0123456789abcdef ä");
    }

    #[test]
    fn a_string_that_json_does_not_have_is_uncertain() {
        for text in [
            "\"a", "\"a\\", "\"a\\\"", "\"\\x\"", "\"\\u12\"", "\"\\u12g4\"", "\"\\ud800\"",
            "\"\\ud800\\n\"", "\"\\ud800\\u0041\"", "\"\\udc00\"", "\"a\nb\"", "\"0123456\u{1f}\"",
            "a\"", "",
        ] {
            assert_eq!(string(text), Err(Uncertain), "{text:?}");
        }
    }

    #[test]
    fn the_end_of_a_string_is_found_wherever_it_lies() {
        for length in 0..90 {
            for special in ['"', '\\', '\u{1f}', '\u{0}'] {
                let text = format!("\"{}{special}\"tail tail tail", "ÿ".repeat(length));
                let found = Scanner::new(text.as_bytes()).find_special(1);
                assert_eq!(found, Some(1 + 2 * length), "{text:?}");
            }
        }
    }

    #[test]
    fn integers_end_where_64_bits_end() {
        let read = |text: &str| Scanner::new(text.as_bytes()).integer();
        assert_eq!(read("0"), Ok(0));
        assert_eq!(read("-0"), Ok(0));
        assert_eq!(read("-17,"), Ok(-17));
        assert_eq!(read("9223372036854775807"), Ok(i64::MAX));
        assert_eq!(read("-9223372036854775808"), Ok(i64::MIN));
        for text in [
            "9223372036854775808", "-9223372036854775809", "99999999999999999999999999", "01",
            "-01", "-", "", "+1", "1.0", "1e2", "1E2", "x",
        ] {
            assert_eq!(read(text), Err(Uncertain), "{text:?}");
        }
    }

    #[test]
    fn numbers_keep_their_spelling() {
        for text in ["0", "-0.0", "1e400", "12.5E-07", "1e+2", "10.25"] {
            let mut scanner = Scanner::new(text.as_bytes());
            assert_eq!(scanner.number(), Ok(text.as_bytes()));
            assert!(scanner.is_at_end());
        }
        for text in ["", "-", "01", "00.5", ".5", "1.", "1e", "1e+", "NaN", "-Infinity", "+1"] {
            let mut scanner = Scanner::new(text.as_bytes());
            assert!(scanner.number().is_err(), "{text:?}");
        }
    }
}
