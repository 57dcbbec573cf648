//! Avro records to rows, along a plan that Python makes of the writer's schema
//! (`k2i_core/decode/native_binary.py`), which decides what becomes which column.

#![forbid(unsafe_code)]

use crate::binary::{self, Bytes, push_symbol, push_text};
use crate::columns::{Column, Object, Uncertain, Values, certain};
use crate::json::leaves::{self, MICROSECONDS_OF_DAY};

const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// What Python says of a type; its words are those of `AvroPlan`.
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct Plan {
    pub kind: String,
    pub logical: Option<String>,
    pub byte_count: usize,
    pub symbols: Vec<String>,
    pub parts: Vec<Plan>,
}

/// A type whose values come next.
enum Node {
    Null,
    Boolean,
    Int,
    Date,
    TimeMillis,
    Long,
    TimeMicros,
    Timestamp { per_microsecond: i64, microseconds: i64 },
    Float,
    Double,
    Bytes,
    Text,
    Uuid,
    Fixed(usize),
    Duration,
    /// As a fixed of so many bytes, or with its length before it.
    Decimal(Option<usize>),
    Enum(Vec<String>),
    Record(Vec<Part>),
    Array(Box<Node>),
    Map(Box<Node>),
    /// A union that is a column of its one type, or null.
    Optional(Vec<Part>),
    /// A union that is a struct with a field for each of its types.
    Members(Vec<Part>),
    /// Records that have one are left to Python.
    Unread,
}

struct Part {
    node: Node,
    /// Whether there is a column for it: there is none for what holds nothing.
    is_stored: bool,
}

pub struct Record {
    parts: Vec<Part>,
}

impl Record {
    /// An error says what is not read here.
    pub fn new(plan: Plan) -> Result<Self, String> {
        match Node::new(plan)? {
            Node::Record(parts) => Ok(Self { parts }),
            _ => Err("no record".to_owned()),
        }
    }
}

impl binary::Plan for Record {
    fn read(&self, row: &mut Object, record: &[u8]) -> Result<(), Uncertain> {
        let mut bytes = Bytes::new(record);
        read_fields(&self.parts, &mut row.columns, &mut bytes)?;
        if bytes.is_empty() { Ok(()) } else { Err(Uncertain) }
    }
}

fn read_fields(
    parts: &[Part],
    columns: &mut [Column],
    bytes: &mut Bytes,
) -> Result<(), Uncertain> {
    let mut columns = columns.iter_mut();
    for part in parts {
        if part.is_stored {
            part.node.read(columns.next().ok_or(Uncertain)?, bytes)?;
        } else {
            part.node.skip(bytes)?;
        }
    }
    Ok(())
}

/// Bytes with their length before them.
#[inline(always)]
fn sized<'a>(bytes: &mut Bytes<'a>) -> Result<&'a [u8], Uncertain> {
    let length = bytes.zigzag()?;
    bytes.span(length as u64)
}

/// The place of the branch of a union that comes next.
#[inline(always)]
fn branch(parts: &[Part], bytes: &mut Bytes) -> Result<usize, Uncertain> {
    let place = usize::try_from(bytes.zigzag()?).map_err(|_| Uncertain)?;
    if place < parts.len() { Ok(place) } else { Err(Uncertain) }
}

/// Runs `read` for each element of an array or a map.
fn each<'a>(
    bytes: &mut Bytes<'a>,
    mut read: impl FnMut(&mut Bytes<'a>) -> Result<(), Uncertain>,
) -> Result<(), Uncertain> {
    loop {
        let mut count = bytes.zigzag()?;
        if count < 0 {
            count = certain(count.checked_neg())?;
            bytes.varint()?; // How many bytes they have, for those who pass over them.
        }
        // No element has no bytes: those are `Unread`.
        if count > bytes.len() as i64 {
            return Err(Uncertain);
        }
        if count == 0 {
            return Ok(());
        }
        for _ in 0..count {
            read(bytes)?;
        }
    }
}

impl Node {
    fn new(plan: Plan) -> Result<Self, String> {
        let parts = plan
            .parts
            .into_iter()
            .map(|part| Node::new(part).map(|node| Part { is_stored: node.is_stored(), node }))
            .collect::<Result<Vec<_>, _>>()?;
        let timestamp = |per_microsecond, microseconds| Self::Timestamp {
            per_microsecond,
            microseconds,
        };
        Ok(match (plan.kind.as_str(), plan.logical.as_deref()) {
            ("null", _) => Self::Null,
            ("boolean", _) => Self::Boolean,
            ("int", None) => Self::Int,
            ("int", Some("date")) => Self::Date,
            ("int", Some("time-millis")) => Self::TimeMillis,
            ("long", None) => Self::Long,
            ("long", Some("time-micros")) => Self::TimeMicros,
            ("long", Some("timestamp-millis" | "local-timestamp-millis")) => timestamp(1, 1000),
            ("long", Some("timestamp-micros" | "local-timestamp-micros")) => timestamp(1, 1),
            ("long", Some("timestamp-nanos" | "local-timestamp-nanos")) => timestamp(1000, 1),
            ("float", _) => Self::Float,
            ("double", _) => Self::Double,
            ("bytes", None) => Self::Bytes,
            ("bytes", Some("decimal")) => Self::Decimal(None),
            ("string", None) => Self::Text,
            ("string", Some("uuid")) => Self::Uuid,
            ("fixed", None | Some("uuid")) => Self::Fixed(plan.byte_count),
            ("fixed", Some("duration")) => Self::Duration,
            ("fixed", Some("decimal")) => Self::Decimal(Some(plan.byte_count)),
            ("enum", _) => Self::Enum(plan.symbols),
            ("record", _) => Self::Record(parts),
            ("array", _) => Self::Array(Box::new(only(parts)?)),
            ("map", _) => Self::Map(Box::new(only(parts)?)),
            ("optional", _) => Self::Optional(parts),
            ("members", _) => Self::Members(parts),
            ("unread", _) => Self::Unread,
            (kind, logical) => return Err(format!("type {kind} {}", logical.unwrap_or_default())),
        })
    }

    fn is_stored(&self) -> bool {
        match self {
            Self::Null => false,
            Self::Record(parts) | Self::Optional(parts) | Self::Members(parts) => {
                parts.iter().any(|part| part.is_stored)
            }
            _ => true,
        }
    }

    /// Passes over a value that holds nothing.
    fn skip(&self, bytes: &mut Bytes) -> Result<(), Uncertain> {
        match self {
            Self::Null => Ok(()),
            Self::Record(parts) => parts.iter().try_for_each(|part| part.node.skip(bytes)),
            Self::Optional(parts) | Self::Members(parts) => {
                parts[branch(parts, bytes)?].node.skip(bytes)
            }
            _ => Err(Uncertain),
        }
    }

    /// Reads one more value of a column.
    fn read(&self, column: &mut Column, bytes: &mut Bytes) -> Result<(), Uncertain> {
        match self {
            Self::Text => {
                return push_text(column, sized(bytes)?);
            }
            Self::Enum(symbols) => {
                let place = usize::try_from(bytes.zigzag()?).map_err(|_| Uncertain)?;
                return push_symbol(column, certain(symbols.get(place))?);
            }
            Self::Optional(parts) => {
                return match &parts[branch(parts, bytes)?].node {
                    Self::Null => {
                        column.push_null();
                        Ok(())
                    }
                    there => there.read(column, bytes),
                };
            }
            _ => {}
        }
        // A plan that does not fit its column leaves all records uncertain.
        match (self, &mut column.values) {
            (Self::Members(parts), Values::Struct(object)) => {
                let place = branch(parts, bytes)?;
                if matches!(parts[place].node, Self::Null) {
                    column.push_null();
                    return Ok(());
                }
                read_member(parts, place, object, bytes)?;
            }
            (Self::Record(parts), Values::Struct(object)) => {
                read_fields(parts, &mut object.columns, bytes)?;
                object.len += 1;
            }
            (Self::Array(node), Values::List { offsets, element }) => {
                each(bytes, |bytes| node.read(element, bytes))?;
                offsets.push(element.len as i32);
            }
            (Self::Map(node), Values::Map { offsets, entries }) => {
                let [keys, values] = &mut **entries;
                let first = keys.len;
                each(bytes, |bytes| {
                    push_text(keys, sized(bytes)?)?;
                    node.read(values, bytes)
                })?;
                if keys.has_equal(first)? {
                    return Err(Uncertain);
                }
                offsets.push(keys.len as i32);
            }
            (_, values) => self.read_leaf(values, bytes)?,
        }
        column.added();
        Ok(())
    }

    #[inline]
    fn read_leaf(&self, values: &mut Values, bytes: &mut Bytes) -> Result<(), Uncertain> {
        match (self, values) {
            (Self::Long, Values::Int64(values)) => values.push(bytes.zigzag()?),
            (Self::Int, Values::Int32(values)) => {
                values.push(i32::try_from(bytes.zigzag()?).map_err(|_| Uncertain)?);
            }
            (Self::Double, Values::Float64(values)) => {
                values.push(f64::from_le_bytes(bytes.array()?));
            }
            (Self::Float, Values::Float32(values)) => {
                values.push(f32::from_le_bytes(bytes.array()?));
            }
            (Self::Boolean, Values::Boolean(values)) => match bytes.array()? {
                [byte @ 0..=1] => values.append(byte == 1),
                _ => return Err(Uncertain),
            },
            (
                Self::Timestamp { per_microsecond, microseconds },
                Values::Timestamp { values, .. },
            ) => {
                let mut number = certain(bytes.zigzag()?.checked_mul(*microseconds))?;
                if *per_microsecond > 1 {
                    number = number.div_euclid(*per_microsecond);
                }
                values.push(certain(leaves::in_years(number))?);
            }
            (Self::Date, Values::Date(values)) => {
                let days = bytes.zigzag()?;
                if !DAYS.contains(&days) {
                    return Err(Uncertain);
                }
                values.push(days as i32);
            }
            (Self::TimeMillis, Values::Time(values)) => {
                values.push(time(certain(bytes.zigzag()?.checked_mul(1000))?)?);
            }
            (Self::TimeMicros, Values::Time(values)) => values.push(time(bytes.zigzag()?)?),
            (Self::Bytes, Values::Binary(texts)) => {
                texts.push(sized(bytes)?);
            }
            (Self::Uuid, Values::Uuid(values)) => {
                values.extend_from_slice(&certain(leaves::uuid(sized(bytes)?))?);
            }
            (Self::Fixed(16), Values::Uuid(values)) => {
                values.extend_from_slice(bytes.span(16)?);
            }
            (Self::Fixed(byte_count), Values::Fixed { bytes: values, width })
                if byte_count == width =>
            {
                values.extend_from_slice(bytes.span(*width as u64)?);
            }
            (Self::Decimal(byte_count), Values::Decimal { values, precision, .. }) => {
                let number = match byte_count {
                    Some(byte_count) => bytes.span(*byte_count as u64)?,
                    None => sized(bytes)?,
                };
                values.push(decimal(number, *precision)?);
            }
            (Self::Duration, Values::Struct(object)) => {
                for column in &mut object.columns {
                    let Values::Int64(values) = &mut column.values else { return Err(Uncertain) };
                    values.push(i64::from(u32::from_le_bytes(bytes.array()?)));
                    column.added();
                }
                object.len += 1;
            }
            _ => return Err(Uncertain),
        }
        Ok(())
    }
}

fn only(mut parts: Vec<Part>) -> Result<Node, String> {
    match (parts.pop(), parts.pop()) {
        (Some(part), None) if part.is_stored => Ok(part.node),
        _ => Err("a list or map of nothing".to_owned()),
    }
}

/// Reads the branch at `place`, and leaves the fields of the others null.
fn read_member(
    parts: &[Part],
    place: usize,
    object: &mut Object,
    bytes: &mut Bytes,
) -> Result<(), Uncertain> {
    let mut columns = object.columns.iter_mut();
    for (index, part) in parts.iter().enumerate() {
        if part.is_stored {
            let column = columns.next().ok_or(Uncertain)?;
            if index == place {
                part.node.read(column, bytes)?;
            } else {
                column.push_null();
            }
        } else if index == place {
            part.node.skip(bytes)?;
        }
    }
    object.len += 1;
    Ok(())
}

fn time(microseconds: i64) -> Result<i64, Uncertain> {
    let is_time = (0..MICROSECONDS_OF_DAY).contains(&microseconds);
    if is_time { Ok(microseconds) } else { Err(Uncertain) }
}

/// A two's complement number, highest byte first, of at most `precision` digits.
fn decimal(bytes: &[u8], precision: u8) -> Result<i128, Uncertain> {
    let sign = if certain(bytes.first())? < &0x80 { 0 } else { 0xff };
    let (more, bytes) = bytes.split_at(bytes.len().saturating_sub(16));
    let mut whole = [sign; 16];
    whole[16 - bytes.len()..].copy_from_slice(bytes);
    let number = i128::from_be_bytes(whole);
    // More bytes may say no more than the sign.
    if more.iter().any(|&byte| byte != sign) || (number < 0) != (sign == 0xff) {
        return Err(Uncertain);
    }
    let fits = number.unsigned_abs() < 10_u128.pow(u32::from(precision));
    if fits { Ok(number) } else { Err(Uncertain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_decimal_is_a_number_of_its_digits() {
        assert_eq!(decimal(&[0x7f], 3), Ok(127));
        assert_eq!(decimal(&[0x80], 3), Ok(-128));
        assert_eq!(decimal(&[0xff; 16], 1), Ok(-1));
        assert_eq!(decimal(&[0x03, 0xe7], 3), Ok(999));
        assert_eq!(decimal(&[0; 20], 3), Ok(0));
        assert_eq!(decimal(&[0xff; 20], 3), Ok(-1));
        let long = [[1].as_slice(), &[0; 16]].concat();
        let other_sign = [[0].as_slice(), &[0xff; 16]].concat();
        for bytes in [&[][..], &[0x03, 0xe8], &[0xfc, 0x18], &long, &other_sign] {
            assert_eq!(decimal(bytes, 3), Err(Uncertain), "{bytes:?}");
        }
        assert_eq!(decimal(&i128::MIN.to_be_bytes(), 38), Err(Uncertain));
    }

    #[test]
    fn elements_come_in_blocks() {
        let count = |bytes: &[u8]| {
            let (mut bytes, mut count) = (Bytes::new(bytes), 0);
            each(&mut bytes, |bytes| {
                count += 1;
                bytes.array::<1>().map(|_| ())
            })?;
            if bytes.is_empty() { Ok(count) } else { Err(Uncertain) }
        };
        assert_eq!(count(&[0]), Ok(0));
        assert_eq!(count(&[4, 9, 9, 2, 9, 0]), Ok(3));
        assert_eq!(count(&[3, 4, 9, 9, 0]), Ok(2)); // With their bytes counted.
        for bytes in [&[][..], &[2, 9], &[8, 9, 0], &[0, 0]] {
            assert_eq!(count(bytes), Err(Uncertain), "{bytes:?}");
        }
    }
}
