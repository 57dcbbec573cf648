//! Text to values that JSON has no type for. `None` is "not for certain".
//!
//! The rules are those of `k2i_core/decode/json_values.py`, whose table lists them.

pub const MICROSECONDS_OF_DAY: i64 = 86_400_000_000;
const MICROSECONDS: std::ops::RangeInclusive<i64> =
    -62_135_596_800_000_000..=253_402_300_799_999_999;

/// Digits that 128 bits hold, whichever they are.
const DECIMAL_DIGITS_MAX: usize = 38;

/// Microseconds in the years 0001 to 9999, which is what readers can show.
pub fn in_years(microseconds: i64) -> Option<i64> {
    MICROSECONDS.contains(&microseconds).then_some(microseconds)
}

#[inline(always)]
fn two_digits(text: &[u8], at: usize) -> Option<i64> {
    let (&tens, &ones) = (text.get(at)?, text.get(at + 1)?);
    if !tens.is_ascii_digit() || !ones.is_ascii_digit() {
        return None;
    }
    Some(i64::from(tens - b'0') * 10 + i64::from(ones - b'0'))
}

/// `YYYY-MM-DD`, as days since 1970.
pub fn date(text: &[u8]) -> Option<i32> {
    if text.len() != 10 || text[4] != b'-' || text[7] != b'-' {
        return None;
    }
    let year = two_digits(text, 0)? * 100 + two_digits(text, 2)?;
    let (month, day) = (two_digits(text, 5)?, two_digits(text, 8)?);
    let is_leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let last_day = match month {
        1 | 3 | 5 | 7 | 8 | 10 | 12 => 31,
        4 | 6 | 9 | 11 => 30,
        2 => 28 + i64::from(is_leap),
        _ => return None,
    };
    if year == 0 || day == 0 || day > last_day {
        return None;
    }
    // Years begin in March, so that the leap day is the last one of its year.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let day_of_year = (153 * month + 2) / 5 + day - 1;
    let days = 365 * year + year / 4 - year / 100 + year / 400 + day_of_year - 719_468;
    i32::try_from(days).ok()
}

/// `hh[:mm[:ss[.fraction]]]` at the start of a text: microseconds, and what follows.
fn clock(text: &[u8]) -> Option<(i64, &[u8])> {
    let mut seconds = two_digits(text, 0)? * 3600;
    if seconds >= 24 * 3600 {
        return None;
    }
    let mut rest = &text[2..];
    for unit in [60, 1] {
        if rest.first() != Some(&b':') {
            return Some((seconds * 1_000_000, rest));
        }
        let count = two_digits(rest, 1)?;
        if count > 59 {
            return None;
        }
        seconds += count * unit;
        rest = &rest[3..];
    }
    let mut microseconds = 0;
    if rest.first() == Some(&b'.') {
        let length = rest[1..].iter().take_while(|byte| byte.is_ascii_digit()).count();
        if length == 0 {
            return None;
        }
        // Digits beyond the sixth are cut off.
        for place in 0..6 {
            let digit = if place < length { rest[1 + place] - b'0' } else { 0 };
            microseconds = microseconds * 10 + i64::from(digit);
        }
        rest = &rest[1 + length..];
    }
    Some((seconds * 1_000_000 + microseconds, rest))
}

/// A time of day, as microseconds since midnight.
pub fn time(text: &[u8]) -> Option<i64> {
    let (microseconds, rest) = clock(text)?;
    rest.is_empty().then_some(microseconds)
}

/// A date with a time, with a zone exactly where one is wanted: microseconds since 1970 UTC.
pub fn timestamp(text: &[u8], has_zone: bool) -> Option<i64> {
    let days = i64::from(date(text.get(..10)?)?);
    let midnight = days * MICROSECONDS_OF_DAY;
    if text.len() == 10 {
        return if has_zone { None } else { Some(midnight) };
    }
    if !matches!(text[10], b'T' | b' ') {
        return None;
    }
    let (microseconds, zone) = clock(&text[11..])?;
    if !has_zone {
        return if zone.is_empty() { Some(midnight + microseconds) } else { None };
    }
    in_years(midnight + microseconds - zone_offset(zone)?)
}

/// `Z`, `±hh`, `±hhmm` or `±hh:mm`, as microseconds.
fn zone_offset(zone: &[u8]) -> Option<i64> {
    let (&sign, digits) = zone.split_first()?;
    if sign == b'Z' && digits.is_empty() {
        return Some(0);
    }
    let hours = two_digits(digits, 0)?;
    let minutes = match digits.len() {
        2 => 0,
        4 => two_digits(digits, 2)?,
        5 if digits[2] == b':' => two_digits(digits, 3)?,
        _ => return None,
    };
    if hours > 23 || minutes > 59 {
        return None;
    }
    let offset = (hours * 60 + minutes) * 60_000_000;
    match sign {
        b'+' => Some(offset),
        b'-' => Some(-offset),
        _ => None,
    }
}

/// `-digits[.digits]` as a whole number of 10^-scale, if it is one of at most `precision` digits.
pub fn decimal(text: &[u8], precision: u8, scale: u8) -> Option<i128> {
    let (is_negative, text) = match text.split_first()? {
        (b'-', rest) => (true, rest),
        _ => (false, text),
    };
    let mut unscaled: u128 = 0;
    let mut digit_count = 0;
    let mut fraction_count: Option<usize> = None;
    for (index, &byte) in text.iter().enumerate() {
        match byte {
            b'0'..=b'9' => {
                digit_count += 1;
                if digit_count > DECIMAL_DIGITS_MAX {
                    return None;
                }
                if let Some(count) = &mut fraction_count {
                    *count += 1;
                    if *count > usize::from(scale) {
                        if byte != b'0' {
                            return None;
                        }
                        continue;
                    }
                }
                unscaled = unscaled * 10 + u128::from(byte - b'0');
            }
            b'.' if fraction_count.is_none() && index > 0 && index + 1 < text.len() => {
                fraction_count = Some(0);
            }
            _ => return None,
        }
    }
    if digit_count == 0 {
        return None;
    }
    let shift = u32::from(scale).saturating_sub(fraction_count.unwrap_or(0) as u32);
    let unscaled = unscaled.checked_mul(10_u128.checked_pow(shift)?)?;
    if unscaled >= 10_u128.pow(u32::from(precision)) {
        return None;
    }
    let unscaled = unscaled as i128;
    Some(if is_negative { -unscaled } else { unscaled })
}

/// A number as the nearest double, if it is finite.
#[inline]
pub fn double(text: &[u8]) -> Option<f64> {
    let number: f64 = std::str::from_utf8(text).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

/// A number as the nearest float, if it is finite.
#[inline]
pub fn float(text: &[u8]) -> Option<f32> {
    let number: f32 = std::str::from_utf8(text).ok()?.parse().ok()?;
    number.is_finite().then_some(number)
}

/// 8-4-4-4-12 hexadecimal digits.
pub fn uuid(text: &[u8]) -> Option<[u8; 16]> {
    let mut bytes = [0; 16];
    if text.len() != 36 {
        return None;
    }
    let mut at = 0;
    for (place, byte) in bytes.iter_mut().enumerate() {
        if matches!(place, 4 | 6 | 8 | 10) {
            if text[at] != b'-' {
                return None;
            }
            at += 1;
        }
        let high = (text[at] as char).to_digit(16)?;
        let low = (text[at + 1] as char).to_digit(16)?;
        *byte = (high * 16 + low) as u8;
        at += 2;
    }
    Some(bytes)
}

/// Padded base64 (RFC 4648 section 4), appended to `out`; bits behind the last byte are ignored.
pub fn base64(text: &[u8], out: &mut Vec<u8>) -> Option<()> {
    if text.len() % 4 != 0 {
        return None;
    }
    let padding = text.iter().rev().take(2).take_while(|&&byte| byte == b'=').count();
    let digits = &text[..text.len() - padding];
    for chunk in digits.chunks(4) {
        let mut bits: u32 = 0;
        for &byte in chunk {
            let value = match byte {
                b'A'..=b'Z' => byte - b'A',
                b'a'..=b'z' => byte - b'a' + 26,
                b'0'..=b'9' => byte - b'0' + 52,
                b'+' => 62,
                b'/' => 63,
                _ => return None,
            };
            bits = bits << 6 | u32::from(value);
        }
        bits <<= 6 * (4 - chunk.len());
        let bytes = bits.to_be_bytes();
        out.extend_from_slice(&bytes[1..chunk.len()]);
    }
    Some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn days_are_counted_from_1970() {
        assert_eq!(date(b"1970-01-01"), Some(0));
        assert_eq!(date(b"1969-12-31"), Some(-1));
        assert_eq!(date(b"2024-02-29"), Some(19_782));
        assert_eq!(date(b"0001-01-01"), Some(-719_162));
        assert_eq!(date(b"9999-12-31"), Some(2_932_896));
        for text in ["2023-02-29", "1900-02-29", "0000-01-01", "2024-13-01", "2024-00-10",
                     "2024-04-31", "2024-01-00", "2024-1-01", "2024/01/01", "+024-01-01", ""] {
            assert_eq!(date(text.as_bytes()), None, "{text}");
        }
    }

    #[test]
    fn a_timestamp_has_a_zone_where_one_is_wanted() {
        let at = 1_704_067_200_000_000; // 2024-01-01
        assert_eq!(timestamp(b"2024-01-01", false), Some(at));
        assert_eq!(timestamp(b"2024-01-01 10", false), Some(at + 36_000_000_000));
        assert_eq!(timestamp(b"2024-01-01T00:00:01.5", false), Some(at + 1_500_000));
        assert_eq!(timestamp(b"2024-01-01T00:00:00.1234567", false), Some(at + 123_456));
        assert_eq!(timestamp(b"2024-01-01T00:00Z", true), Some(at));
        assert_eq!(timestamp(b"2024-01-01T01:30+01:30", true), Some(at));
        assert_eq!(timestamp(b"2023-12-31T23-0100", true), Some(at));
        for text in ["2024-01-01", "2024-01-01T00:00", "2024-01-01T00:00z", "2024-01-01t00:00Z",
                     "2024-01-01T00:00+24", "2024-01-01T00:00:00.Z", "2024-01-01T24:00Z",
                     "2024-01-01T00:00+1", "2024-01-01T00:00+01:60", "0001-01-01T00:00+01",
                     "9999-12-31T23:59-01", "2024-01-01T00:00 Z", "ä024-01-01T00:00Z"] {
            assert_eq!(timestamp(text.as_bytes(), true), None, "{text}");
        }
    }

    #[test]
    fn a_decimal_fits_exactly_or_not_at_all() {
        assert_eq!(decimal(b"1.5", 10, 2), Some(150));
        assert_eq!(decimal(b"-0.01", 10, 2), Some(-1));
        assert_eq!(decimal(b"7", 10, 2), Some(700));
        assert_eq!(decimal(b"1.500", 10, 2), Some(150));
        assert_eq!(decimal(b"99999999.99", 10, 2), Some(9_999_999_999));
        assert_eq!(decimal(&[b'9'; 38], 38, 0), Some(10_i128.pow(38) - 1));
        for text in ["100000000", "1.501", "1e2", "", "-", ".5", "5.", "1.2.3", "+1", " 1"] {
            assert_eq!(decimal(text.as_bytes(), 10, 2), None, "{text}");
        }
        assert_eq!(decimal(&[b'9'; 39], 38, 0), None);
        assert_eq!(decimal(&[b'9'; 38], 38, 38), None);
    }

    #[test]
    fn bytes_come_out_of_base64_and_uuids() {
        let decoded = |text: &str| {
            let mut out = vec![7];
            base64(text.as_bytes(), &mut out).map(|()| out[1..].to_vec())
        };
        assert_eq!(decoded("").unwrap(), b"");
        assert_eq!(decoded("YQ==").unwrap(), b"a");
        assert_eq!(decoded("YR==").unwrap(), b"a");
        assert_eq!(decoded("YWI=").unwrap(), b"ab");
        assert_eq!(decoded("+/+/").unwrap(), [0xfb, 0xff, 0xbf]);
        for text in ["YQ", "YQ=", "====", "Y===", "YQ==YQ==", "Y Q=", "-_-_", "Y=Q="] {
            assert_eq!(decoded(text), None, "{text}");
        }
        assert_eq!(uuid(b"00010203-0405-0607-0809-0A0b0c0d0e0F").unwrap()[10..], [10, 11, 12, 13, 14, 15]);
        assert_eq!(uuid(b"00010203-0405-0607-0809-0A0b0c0d0e0"), None);
        assert_eq!(uuid(b"0001020300405-0607-0809-0A0b0c0d0e0F"), None);
        assert_eq!(uuid(b"0001020g-0405-0607-0809-0A0b0c0d0e0F"), None);
    }
}
