//! Protobuf records to rows, along a plan that Python makes of the writer's schema
//! (`k2i_core/decode/native_binary.py`), which decides what becomes which column.

#![forbid(unsafe_code)]

use std::collections::HashMap;

use crate::binary::{self, Bytes, push_symbol, push_text};
use crate::columns::{Column, Object, Uncertain, Values, certain};
use crate::json::leaves;

const VARINT: u64 = 0;
const EIGHT_BYTES: u64 = 1;
const SPAN: u64 = 2;
const FOUR_BYTES: u64 = 5;

const NANOSECONDS: std::ops::RangeInclusive<i32> = 0..=999_999_999;

/// What Python says of a field; its words are those of `ProtobufPlan`.
#[cfg_attr(feature = "python", derive(pyo3::FromPyObject))]
pub struct Plan {
    pub number: u64,
    pub kind: String,
    pub is_repeated: bool,
    pub is_stored: bool,
    pub presence: String,
    pub oneof: Option<usize>,
    pub symbols: HashMap<i32, String>,
    pub parts: Vec<Plan>,
}

/// A message type: its fields, ascending by number.
struct Message {
    fields: Vec<Field>,
    /// Tag, place of the field, and whether the tag says that its values are packed.
    tags: Vec<(u64, usize, bool)>,
}

struct Field {
    tag: u64,
    /// Where it is stored among the columns of its message: nowhere if it holds nothing.
    column: Option<usize>,
    is_repeated: bool,
    /// What is there once at most and not seen by the length of a column: a bit for each.
    once: u64,
    missing: Missing,
    element: Element,
}

enum Missing {
    Default,
    Null,
    Uncertain,
}

enum Element {
    Leaf(Leaf),
    Message(Message),
    /// A message of one field, that stands for the field.
    Wrapper(Message),
    /// The tags of its two fields.
    Timestamp { seconds: u64, nanoseconds: u64 },
    /// A message without fields.
    Empty,
    /// Records that have one are left to Python.
    Unread,
}

enum Leaf {
    Double,
    Float,
    Int64,
    UInt64,
    Int32,
    Fixed64,
    Fixed32,
    Bool,
    Text,
    Bytes,
    UInt32,
    Enum(Symbols),
    SFixed32,
    SFixed64,
    SInt32,
    SInt64,
}

/// Names by number, ascending.
struct Symbols(Vec<(i32, String)>);

pub struct Record {
    frame: Vec<u8>,
    message: Message,
}

impl Record {
    /// Plans messages behind a frame of exactly these bytes; an error says what is not read here.
    pub fn new(fields: Vec<Plan>, frame: Vec<u8>) -> Result<Self, String> {
        Ok(Self { frame, message: Message::new(fields)? })
    }
}

impl binary::Plan for Record {
    fn read(&self, row: &mut Object, record: &[u8]) -> Result<(), Uncertain> {
        // An empty message says that it is one by its frame only.
        if record.is_empty() {
            return Err(Uncertain);
        }
        let message = certain(record.strip_prefix(self.frame.as_slice()))?;
        self.message.read(&mut row.columns, row.len, Bytes::new(message))
    }
}

impl Message {
    fn new(plans: Vec<Plan>) -> Result<Self, String> {
        let mut bits = Bits::new(&plans);
        let mut column_count = 0;
        let mut fields = Vec::with_capacity(plans.len());
        for plan in plans {
            let once = bits.of(&plan)?;
            let column = plan.is_stored.then_some(column_count);
            column_count += usize::from(plan.is_stored);
            fields.push(Field::new(plan, column, once)?);
        }
        fields.sort_by_key(|field| field.tag);
        let mut tags = Vec::new();
        for (place, field) in fields.iter().enumerate() {
            tags.push((field.tag, place, false));
            if field.is_repeated && field.tag & 7 != SPAN {
                tags.push((field.tag & !7 | SPAN, place, true));
            }
        }
        tags.sort_unstable();
        Ok(Self { fields, tags })
    }

    /// Reads one message as one more value of each column, which has `len` of them.
    fn read(&self, columns: &mut [Column], len: usize, mut bytes: Bytes) -> Result<(), Uncertain> {
        let mut seen = 0;
        // Most producers write their fields in order.
        let mut next = 0;
        while !bytes.is_empty() {
            let tag = bytes.varint()?;
            let (place, is_packed) = self.find(next, tag)?;
            let field = &self.fields[place];
            if seen & field.once != 0 {
                return Err(Uncertain); // Of several, the last one counts.
            }
            seen |= field.once;
            next = place;
            let Some(column) = field.column else {
                field.element.skip(&mut bytes)?;
                continue;
            };
            let column = columns.get_mut(column).ok_or(Uncertain)?;
            if field.is_repeated {
                field.read_more(column, is_packed, &mut bytes)?;
            } else if column.len > len {
                return Err(Uncertain);
            } else {
                field.element.read(column, &mut bytes)?;
                next += 1;
            }
        }
        for field in &self.fields {
            field.close(columns, len, seen)?;
        }
        Ok(())
    }

    /// The place of the field that a tag names, and whether its values are packed.
    #[inline(always)]
    fn find(&self, guess: usize, tag: u64) -> Result<(usize, bool), Uncertain> {
        for place in [guess, guess + 1] {
            if self.fields.get(place).is_some_and(|field| field.tag == tag) {
                return Ok((place, false));
            }
        }
        let found = self.tags.binary_search_by_key(&tag, |&(tag, _, _)| tag);
        let (_, place, is_packed) = self.tags[found.map_err(|_| Uncertain)?];
        Ok((place, is_packed))
    }
}

/// Gives a bit to each oneof of several fields, and to each field that no column tells of.
struct Bits {
    member_counts: HashMap<usize, usize>,
    of_oneofs: HashMap<usize, u64>,
    count: u32,
}

impl Bits {
    fn new(plans: &[Plan]) -> Self {
        let mut member_counts = HashMap::new();
        for oneof in plans.iter().filter_map(|plan| plan.oneof) {
            *member_counts.entry(oneof).or_default() += 1;
        }
        Self { member_counts, of_oneofs: HashMap::new(), count: 0 }
    }

    fn of(&mut self, plan: &Plan) -> Result<u64, String> {
        let oneof = plan.oneof.filter(|oneof| self.member_counts[oneof] > 1);
        if let Some(&bit) = oneof.and_then(|oneof| self.of_oneofs.get(&oneof)) {
            return Ok(bit);
        }
        if oneof.is_none() && (plan.is_stored || plan.is_repeated) {
            return Ok(0);
        }
        let bit = 1_u64.checked_shl(self.count).ok_or("too many oneofs and empty messages")?;
        self.count += 1;
        if let Some(oneof) = oneof {
            self.of_oneofs.insert(oneof, bit);
        }
        Ok(bit)
    }
}

impl Field {
    fn new(plan: Plan, column: Option<usize>, once: u64) -> Result<Self, String> {
        let missing = match plan.presence.as_str() {
            "default" => Missing::Default,
            "null" => Missing::Null,
            _ => Missing::Uncertain,
        };
        let (number, is_repeated) = (plan.number, plan.is_repeated);
        let element = Element::new(plan)?;
        let tag = number << 3 | element.wire_type();
        Ok(Self { tag, column, is_repeated, once, missing, element })
    }

    /// Reads one more element of a list or a map, or several that are packed.
    fn read_more(
        &self,
        column: &mut Column,
        is_packed: bool,
        bytes: &mut Bytes,
    ) -> Result<(), Uncertain> {
        match &mut column.values {
            Values::List { element, .. } if is_packed => {
                let mut packed = message(bytes)?;
                while !packed.is_empty() {
                    self.element.read(element, &mut packed)?;
                }
                Ok(())
            }
            Values::List { element, .. } => self.element.read(element, bytes),
            Values::Map { entries, .. } => match &self.element {
                Element::Message(entry) => {
                    let count = entries[0].len;
                    entry.read(&mut entries[..], count, message(bytes)?)
                }
                _ => Err(Uncertain),
            },
            _ => Err(Uncertain),
        }
    }

    /// Ends the column's value, or gives it the one that stands for a missing field.
    #[inline(always)]
    fn close(&self, columns: &mut [Column], len: usize, seen: u64) -> Result<(), Uncertain> {
        let Some(column) = self.column else {
            let is_there = seen & self.once != 0 || self.is_repeated;
            let may_be_missing = !matches!(self.missing, Missing::Uncertain);
            return if is_there || may_be_missing { Ok(()) } else { Err(Uncertain) };
        };
        let column = columns.get_mut(column).ok_or(Uncertain)?;
        if column.len > len {
            return Ok(());
        }
        match (&mut column.values, &self.missing) {
            (Values::List { offsets, element }, _) if self.is_repeated => {
                offsets.push(element.len as i32);
                column.added();
            }
            (Values::Map { offsets, entries }, _) if self.is_repeated => {
                let first = offsets[offsets.len() - 1] as usize;
                if entries[0].has_equal(first)? {
                    return Err(Uncertain); // Of several, the last one counts.
                }
                offsets.push(entries[0].len as i32);
                column.added();
            }
            (_, Missing::Default) => match &self.element {
                Element::Leaf(Leaf::Enum(symbols)) => symbols.push(0, column)?,
                _ => column.push_default(),
            },
            (_, Missing::Null) => column.push_null(),
            (_, Missing::Uncertain) => return Err(Uncertain),
        }
        Ok(())
    }
}

/// Bytes with their length before them.
#[inline(always)]
fn sized<'a>(bytes: &mut Bytes<'a>) -> Result<&'a [u8], Uncertain> {
    let length = bytes.varint()?;
    bytes.span(length)
}

#[inline(always)]
fn message<'a>(bytes: &mut Bytes<'a>) -> Result<Bytes<'a>, Uncertain> {
    Ok(Bytes::new(sized(bytes)?))
}

impl Element {
    fn new(plan: Plan) -> Result<Self, String> {
        Ok(match plan.kind.as_str() {
            "message" | "map" => Self::Message(Message::new(plan.parts)?),
            "wrapper" if plan.parts.len() == 1 => Self::Wrapper(Message::new(plan.parts)?),
            "timestamp" => Self::timestamp(&plan.parts)?,
            "empty" => Self::Empty,
            "unread" => Self::Unread,
            kind => Self::Leaf(Leaf::new(kind, plan.symbols)?),
        })
    }

    fn timestamp(parts: &[Plan]) -> Result<Self, String> {
        let tag = |part: &Plan, kind| {
            let fits = part.kind == kind && part.presence == "default" && !part.is_repeated;
            fits.then_some(part.number << 3)
        };
        let tags = match parts {
            [first, second] => tag(first, "int64").zip(tag(second, "int32")),
            _ => None,
        };
        let (seconds, nanoseconds) = tags.ok_or("a timestamp of other fields")?;
        Ok(Self::Timestamp { seconds, nanoseconds })
    }

    fn wire_type(&self) -> u64 {
        match self {
            Self::Leaf(leaf) => leaf.wire_type(),
            _ => SPAN,
        }
    }

    /// Passes over a value that holds nothing.
    fn skip(&self, bytes: &mut Bytes) -> Result<(), Uncertain> {
        match self {
            Self::Empty if message(bytes)?.is_empty() => Ok(()),
            _ => Err(Uncertain),
        }
    }

    /// Reads one more value of a column.
    #[inline]
    fn read(&self, column: &mut Column, bytes: &mut Bytes) -> Result<(), Uncertain> {
        match self {
            Self::Leaf(leaf) => leaf.read(column, bytes),
            Self::Message(fields) => {
                let Values::Struct(object) = &mut column.values else { return Err(Uncertain) };
                fields.read(&mut object.columns, object.len, message(bytes)?)?;
                object.len += 1;
                column.added();
                Ok(())
            }
            Self::Wrapper(fields) => {
                let len = column.len;
                fields.read(std::slice::from_mut(column), len, message(bytes)?)
            }
            Self::Timestamp { seconds, nanoseconds } => {
                let microseconds = timestamp(*seconds, *nanoseconds, message(bytes)?)?;
                let Values::Timestamp { values, .. } = &mut column.values else {
                    return Err(Uncertain);
                };
                values.push(microseconds);
                column.added();
                Ok(())
            }
            Self::Empty | Self::Unread => Err(Uncertain),
        }
    }
}

/// Microseconds since 1970, and what lies beyond the microsecond cut off.
fn timestamp(seconds: u64, nanoseconds: u64, mut bytes: Bytes) -> Result<i64, Uncertain> {
    let (mut whole, mut part) = (None, None);
    while !bytes.is_empty() {
        let tag = bytes.varint()?;
        let slot = match tag {
            tag if tag == seconds => &mut whole,
            tag if tag == nanoseconds => &mut part,
            _ => return Err(Uncertain),
        };
        if slot.replace(bytes.varint()? as i64).is_some() {
            return Err(Uncertain);
        }
    }
    let part = i32::try_from(part.unwrap_or(0)).map_err(|_| Uncertain)?;
    if !NANOSECONDS.contains(&part) {
        return Err(Uncertain);
    }
    // So that no part of a second is beyond the last one.
    let start = certain(whole.unwrap_or(0).checked_mul(1_000_000).and_then(leaves::in_years))?;
    Ok(start + i64::from(part / 1000))
}

impl Leaf {
    fn new(kind: &str, symbols: HashMap<i32, String>) -> Result<Self, String> {
        Ok(match kind {
            "double" => Self::Double,
            "float" => Self::Float,
            "int64" => Self::Int64,
            "uint64" => Self::UInt64,
            "int32" => Self::Int32,
            "fixed64" => Self::Fixed64,
            "fixed32" => Self::Fixed32,
            "bool" => Self::Bool,
            "string" => Self::Text,
            "bytes" => Self::Bytes,
            "uint32" => Self::UInt32,
            "enum" => Self::Enum(Symbols::new(symbols)),
            "sfixed32" => Self::SFixed32,
            "sfixed64" => Self::SFixed64,
            "sint32" => Self::SInt32,
            "sint64" => Self::SInt64,
            _ => return Err(format!("type {kind}")),
        })
    }

    fn wire_type(&self) -> u64 {
        match self {
            Self::Double | Self::Fixed64 | Self::SFixed64 => EIGHT_BYTES,
            Self::Float | Self::Fixed32 | Self::SFixed32 => FOUR_BYTES,
            Self::Text | Self::Bytes => SPAN,
            _ => VARINT,
        }
    }

    #[inline]
    fn read(&self, column: &mut Column, bytes: &mut Bytes) -> Result<(), Uncertain> {
        match self {
            Self::Text => {
                return push_text(column, sized(bytes)?);
            }
            Self::Enum(symbols) => {
                return symbols.push(int(bytes.varint()? as i64)?, column);
            }
            _ => {}
        }
        // A plan that does not fit its column leaves all records uncertain.
        match (self, &mut column.values) {
            (Self::Double, Values::Float64(values)) => {
                values.push(f64::from_le_bytes(bytes.array()?));
            }
            (Self::Float, Values::Float32(values)) => {
                values.push(f32::from_le_bytes(bytes.array()?));
            }
            (Self::Int64, Values::Int64(values)) => values.push(bytes.varint()? as i64),
            (Self::SInt64, Values::Int64(values)) => values.push(bytes.zigzag()?),
            (Self::SFixed64, Values::Int64(values)) => {
                values.push(i64::from_le_bytes(bytes.array()?));
            }
            (Self::UInt32, Values::Int64(values)) => {
                let number = u32::try_from(bytes.varint()?).map_err(|_| Uncertain)?;
                values.push(i64::from(number));
            }
            (Self::Fixed32, Values::Int64(values)) => {
                values.push(i64::from(u32::from_le_bytes(bytes.array()?)));
            }
            (Self::Int32, Values::Int32(values)) => values.push(int(bytes.varint()? as i64)?),
            (Self::SInt32, Values::Int32(values)) => values.push(int(bytes.zigzag()?)?),
            (Self::SFixed32, Values::Int32(values)) => {
                values.push(i32::from_le_bytes(bytes.array()?));
            }
            (Self::UInt64, Values::Decimal { values, .. }) => {
                values.push(i128::from(bytes.varint()?));
            }
            (Self::Fixed64, Values::Decimal { values, .. }) => {
                values.push(i128::from(u64::from_le_bytes(bytes.array()?)));
            }
            (Self::Bool, Values::Boolean(values)) => match bytes.varint()? {
                number @ 0..=1 => values.append(number == 1),
                _ => return Err(Uncertain),
            },
            (Self::Bytes, Values::Binary(texts)) => {
                texts.push(sized(bytes)?);
            }
            _ => return Err(Uncertain),
        }
        column.added();
        Ok(())
    }
}

#[inline(always)]
fn int(number: i64) -> Result<i32, Uncertain> {
    i32::try_from(number).map_err(|_| Uncertain)
}

impl Symbols {
    fn new(symbols: HashMap<i32, String>) -> Self {
        let mut symbols: Vec<_> = symbols.into_iter().collect();
        symbols.sort_unstable();
        Self(symbols)
    }

    /// Adds the name of a number; one without a name is its digits.
    fn push(&self, number: i32, column: &mut Column) -> Result<(), Uncertain> {
        match self.0.binary_search_by_key(&number, |(number, _)| *number) {
            Ok(place) => push_symbol(column, &self.0[place].1),
            Err(_) => push_symbol(column, &number.to_string()),
        }
    }
}
