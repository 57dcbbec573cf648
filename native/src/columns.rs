//! Columns under construction: each grows by one value, and can forget the last.
//!
//! What a value is read from stands where it is read: `json`, `avro`, `protobuf`.

#![forbid(unsafe_code)]

use std::collections::{HashMap, HashSet};
use std::hash::Hash;
use std::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use arrow_array::{
    ArrayRef, BinaryArray, BooleanArray, Date32Array, Decimal128Array, FixedSizeBinaryArray,
    Float32Array, Float64Array, Int32Array, Int64Array, ListArray, MapArray, RecordBatch,
    StringArray, StructArray, Time64MicrosecondArray, TimestampMicrosecondArray,
};
use arrow_buffer::{BooleanBufferBuilder, Buffer, NullBufferBuilder, OffsetBuffer, ScalarBuffer};
use arrow_schema::{ArrowError, DataType, FieldRef, Fields};

/// This record is not a row for certain; the Python decoder has the last word on it.
#[derive(Debug, PartialEq, Eq)]
pub struct Uncertain;

/// Whether a record became a row, one after the other.
pub struct Rows {
    pub rows: RecordBatch,
    /// Records that are rows, ascending.
    pub certain: Vec<i64>,
    /// The others, ascending.
    pub uncertain: Vec<i64>,
}

/// Larger batches are not read here: their columns could need more than 31 bits of offsets.
pub const BATCH_BYTES_MAX: usize = 1 << 30;

/// Structs with more fields than this find them by a hash.
const LINEAR_FIELDS_MAX: usize = 12;

/// Maps with more entries than this look for equal keys by a hash.
pub const LINEAR_KEYS_MAX: usize = 16;

/// What columns are made for.
#[derive(Clone, Copy)]
pub struct Room {
    /// How many values come at most.
    pub count: usize,
    /// How many bytes the values are read from: most are smaller as columns.
    pub byte_count: usize,
}

pub struct Column {
    field: FieldRef,
    pub is_required: bool,
    pub len: usize,
    pub nulls: NullBufferBuilder,
    pub values: Values,
}

pub enum Values {
    Boolean(BooleanBufferBuilder),
    Int32(Vec<i32>),
    Int64(Vec<i64>),
    Float32(Vec<f32>),
    Float64(Vec<f64>),
    Decimal { values: Vec<i128>, precision: u8, scale: u8 },
    Timestamp { values: Vec<i64>, has_zone: bool },
    /// A timestamp that is spelled as a number of units since 1970.
    Epoch { values: Vec<i64>, unit_microseconds: i64 },
    Date(Vec<i32>),
    Time(Vec<i64>),
    Uuid(Vec<u8>),
    Fixed { bytes: Vec<u8>, width: usize },
    Binary(Texts),
    Text(Texts),
    List { offsets: Vec<i32>, element: Box<Column> },
    Struct(Object),
    /// The columns of keys and of values.
    Map { offsets: Vec<i32>, entries: Box<[Column; 2]> },
}

/// Bytes of any length, one after the other.
pub struct Texts {
    offsets: Vec<i32>,
    pub bytes: Vec<u8>,
    /// How many values there is room for.
    count: usize,
    /// Bytes a value in the last batch that was finished.
    usual_bytes: Arc<AtomicUsize>,
}

impl Texts {
    fn new() -> Self {
        Self {
            offsets: vec![0],
            bytes: Vec::new(),
            count: 0,
            usual_bytes: Arc::new(AtomicUsize::new(8)),
        }
    }

    /// Empty, with room for as many bytes as `room` is likely to bring: to grow is to copy.
    fn fresh(&self, room: Room) -> Self {
        let mut offsets = Vec::with_capacity(room.count + 1);
        offsets.push(0);
        let usual_bytes = room.count.saturating_mul(self.usual_bytes.load(Ordering::Relaxed));
        Self {
            offsets,
            bytes: Vec::with_capacity(room.byte_count.min(usual_bytes.saturating_mul(9) / 8)),
            count: room.count,
            usual_bytes: self.usual_bytes.clone(),
        }
    }

    fn finish(self) -> (OffsetBuffer<i32>, Buffer) {
        if self.count > 0 {
            self.usual_bytes.store(self.bytes.len().div_ceil(self.count), Ordering::Relaxed);
        }
        (offset_buffer(self.offsets), Buffer::from_vec(self.bytes))
    }

    #[inline(always)]
    pub fn push(&mut self, text: &[u8]) {
        self.bytes.extend_from_slice(text);
        self.close();
    }

    /// Ends a text whose bytes are there already.
    #[inline(always)]
    pub fn close(&mut self) {
        // Safe because no batch has as many bytes as 31 bits count; see `BATCH_BYTES_MAX`.
        self.offsets.push(self.bytes.len() as i32);
    }

    fn truncate(&mut self, len: usize) {
        self.offsets.truncate(len + 1);
        self.bytes.truncate(self.offsets[len] as usize);
    }

    fn get(&self, index: usize) -> &[u8] {
        &self.bytes[self.offsets[index] as usize..self.offsets[index + 1] as usize]
    }
}

/// The fields of a struct, or of a whole row.
pub struct Object {
    pub columns: Vec<Column>,
    pub names: Arc<Names>,
    pub len: usize,
}

pub struct Names {
    /// Each name as it is spelled most often: in quotes, without escapes; none that needs one.
    pub quoted: Vec<Option<Vec<u8>>>,
    names: Vec<Vec<u8>>,
    places: HashMap<Vec<u8>, usize>,
}

impl Names {
    fn of(fields: &Fields) -> Self {
        let names: Vec<_> = fields.iter().map(|field| field.name().as_bytes().to_vec()).collect();
        let quoted = |name: &Vec<u8>| {
            let is_plain = !name.iter().any(|byte| matches!(byte, b'"' | b'\\' | ..=0x1f));
            is_plain.then(|| [b"\"", name.as_slice(), b"\""].concat())
        };
        Self {
            quoted: names.iter().map(quoted).collect(),
            places: names.iter().cloned().zip(0..).collect(),
            names,
        }
    }

    pub fn find(&self, name: &[u8]) -> Option<usize> {
        if self.names.len() > LINEAR_FIELDS_MAX {
            return self.places.get(name).copied();
        }
        self.names.iter().position(|one| one == name)
    }
}

/// How columns are spelled that are not spelled as their type says: path → microseconds a unit.
pub type Epochs = HashMap<String, i64>;

impl Object {
    /// Plans the fields of an object.
    ///
    /// `epochs` loses what is used of it. An error says which type is not read here.
    pub fn new(fields: &Fields, path: &str, epochs: &mut Epochs) -> Result<Self, String> {
        let columns = fields
            .iter()
            .map(|field| {
                let dot = if path.is_empty() { "" } else { "." };
                Column::new(field.clone(), &format!("{path}{dot}{}", field.name()), epochs)
            })
            .collect::<Result<Vec<_>, _>>()?;
        let names = Names::of(fields);
        if names.places.len() != columns.len() {
            return Err(format!("{path}: two fields of one name"));
        }
        Ok(Self { columns, names: Arc::new(names), len: 0 })
    }

    /// The same columns, empty.
    pub fn fresh(&self, room: Room) -> Self {
        Self {
            columns: self.columns.iter().map(|column| column.fresh(room)).collect(),
            names: self.names.clone(),
            len: 0,
        }
    }

    fn push_null(&mut self) {
        for column in &mut self.columns {
            column.push_null();
        }
        self.len += 1;
    }

    /// Forgets all values but the first `len`, and what is left of one that was not read to its end.
    pub fn truncate(&mut self, len: usize) {
        for column in &mut self.columns {
            column.truncate(len);
        }
        self.len = len;
    }

    pub fn finish(self) -> Result<Vec<ArrayRef>, ArrowError> {
        self.columns.into_iter().map(Column::finish).collect()
    }
}

impl Column {
    fn new(field: FieldRef, path: &str, epochs: &mut Epochs) -> Result<Self, String> {
        let values = Values::new(&field, path, epochs)?;
        Ok(Self {
            is_required: !field.is_nullable(),
            field,
            len: 0,
            nulls: NullBufferBuilder::new(0),
            values,
        })
    }

    fn fresh(&self, room: Room) -> Self {
        Self {
            field: self.field.clone(),
            is_required: self.is_required,
            len: 0,
            nulls: NullBufferBuilder::new(room.count),
            values: self.values.fresh(room),
        }
    }

    pub fn push_null(&mut self) {
        self.values.push_null();
        self.nulls.append_null();
        self.len += 1;
    }

    /// Counts one more value, which `values` holds already.
    #[inline(always)]
    pub fn added(&mut self) {
        self.nulls.append_non_null();
        self.len += 1;
    }

    /// Zero, empty or false.
    pub fn push_default(&mut self) {
        self.values.push_null();
        self.added();
    }

    fn truncate(&mut self, len: usize) {
        self.values.truncate(len);
        if self.nulls.len() > len {
            self.nulls.truncate(len);
        }
        self.len = len;
    }

    fn finish(mut self) -> Result<ArrayRef, ArrowError> {
        let nulls = self.nulls.finish();
        self.values.finish(&self.field, self.len, nulls)
    }

    /// Whether two values at or behind `first` are equal, none of which is null.
    pub fn has_equal(&self, first: usize) -> Result<bool, Uncertain> {
        let places = first..self.len;
        Ok(match &self.values {
            Values::Text(texts) => has_equal(places, |place| texts.get(place)),
            Values::Int32(values) => has_equal(places, |place| values[place]),
            Values::Int64(values) => has_equal(places, |place| values[place]),
            Values::Decimal { values, .. } => has_equal(places, |place| values[place]),
            Values::Boolean(values) => has_equal(places, |place| values.get_bit(place)),
            _ => return Err(Uncertain),
        })
    }
}

impl Values {
    fn new(field: &FieldRef, path: &str, epochs: &mut Epochs) -> Result<Self, String> {
        let extension = field.extension_type_name();
        let is_uuid = extension == Some("arrow.uuid");
        if let (Some(name), false) = (extension, is_uuid) {
            return Err(format!("{path}: extension type {name}"));
        }
        Ok(match field.data_type() {
            DataType::Boolean => Self::Boolean(BooleanBufferBuilder::new(0)),
            DataType::Int32 => Self::Int32(Vec::new()),
            DataType::Int64 => Self::Int64(Vec::new()),
            DataType::Float32 => Self::Float32(Vec::new()),
            DataType::Float64 => Self::Float64(Vec::new()),
            DataType::Decimal128(precision, scale) if *scale >= 0 => Self::Decimal {
                values: Vec::new(),
                precision: *precision,
                scale: scale.unsigned_abs(),
            },
            DataType::Timestamp(arrow_schema::TimeUnit::Microsecond, zone)
                if zone.as_deref().is_none_or(|zone| zone == "UTC") =>
            {
                match epochs.remove(path) {
                    Some(unit_microseconds) => {
                        Self::Epoch { values: Vec::new(), unit_microseconds }
                    }
                    None => Self::Timestamp { values: Vec::new(), has_zone: zone.is_some() },
                }
            }
            DataType::Date32 => Self::Date(Vec::new()),
            DataType::Time64(arrow_schema::TimeUnit::Microsecond) => Self::Time(Vec::new()),
            DataType::FixedSizeBinary(16) if is_uuid => Self::Uuid(Vec::new()),
            DataType::FixedSizeBinary(width) if *width > 0 => {
                Self::Fixed { bytes: Vec::new(), width: width.unsigned_abs() as usize }
            }
            DataType::Binary => Self::Binary(Texts::new()),
            DataType::Utf8 => Self::Text(Texts::new()),
            DataType::List(element) => Self::List {
                offsets: vec![0],
                element: Box::new(Column::new(element.clone(), &format!("{path}[]"), epochs)?),
            },
            DataType::Struct(fields) if !fields.is_empty() => {
                Self::Struct(Object::new(fields, path, epochs)?)
            }
            DataType::Map(entries, _) => match entries.data_type() {
                DataType::Struct(parts) if parts.len() == 2 => {
                    let inside = format!("{path}{{}}");
                    Self::Map {
                        offsets: vec![0],
                        entries: Box::new([
                            Column::new(parts[0].clone(), &inside, epochs)?,
                            Column::new(parts[1].clone(), &inside, epochs)?,
                        ]),
                    }
                }
                other => return Err(format!("{path}: type {other}")),
            },
            other => return Err(format!("{path}: type {other}")),
        })
    }

    fn fresh(&self, room: Room) -> Self {
        let count = room.count;
        match self {
            Self::Boolean(_) => Self::Boolean(BooleanBufferBuilder::new(count)),
            Self::Int32(_) => Self::Int32(Vec::with_capacity(count)),
            Self::Int64(_) => Self::Int64(Vec::with_capacity(count)),
            Self::Float32(_) => Self::Float32(Vec::with_capacity(count)),
            Self::Float64(_) => Self::Float64(Vec::with_capacity(count)),
            Self::Decimal { precision, scale, .. } => Self::Decimal {
                values: Vec::with_capacity(count),
                precision: *precision,
                scale: *scale,
            },
            Self::Timestamp { has_zone, .. } => {
                Self::Timestamp { values: Vec::with_capacity(count), has_zone: *has_zone }
            }
            Self::Epoch { unit_microseconds, .. } => Self::Epoch {
                values: Vec::with_capacity(count),
                unit_microseconds: *unit_microseconds,
            },
            Self::Date(_) => Self::Date(Vec::with_capacity(count)),
            Self::Time(_) => Self::Time(Vec::with_capacity(count)),
            Self::Uuid(_) => Self::Uuid(Vec::with_capacity(count * 16)),
            Self::Fixed { width, .. } => Self::Fixed { bytes: Vec::new(), width: *width },
            Self::Binary(texts) => Self::Binary(texts.fresh(room)),
            Self::Text(texts) => Self::Text(texts.fresh(room)),
            Self::List { element, .. } => {
                let mut offsets = Vec::with_capacity(count + 1);
                offsets.push(0);
                Self::List { offsets, element: Box::new(element.fresh(room)) }
            }
            Self::Struct(object) => Self::Struct(object.fresh(room)),
            Self::Map { entries, .. } => {
                let mut offsets = Vec::with_capacity(count + 1);
                offsets.push(0);
                let [keys, values] = &**entries;
                let entries = Box::new([keys.fresh(room), values.fresh(room)]);
                Self::Map { offsets, entries }
            }
        }
    }

    /// Zero, empty or false.
    pub fn push_null(&mut self) {
        match self {
            Self::Boolean(values) => values.append(false),
            Self::Int32(values) | Self::Date(values) => values.push(0),
            Self::Int64(values)
            | Self::Time(values)
            | Self::Timestamp { values, .. }
            | Self::Epoch { values, .. } => values.push(0),
            Self::Float32(values) => values.push(0.0),
            Self::Float64(values) => values.push(0.0),
            Self::Decimal { values, .. } => values.push(0),
            Self::Uuid(bytes) => bytes.extend_from_slice(&[0; 16]),
            Self::Fixed { bytes, width } => bytes.resize(bytes.len() + *width, 0),
            Self::Binary(texts) | Self::Text(texts) => texts.close(),
            Self::Struct(object) => object.push_null(),
            Self::List { offsets, .. } | Self::Map { offsets, .. } => {
                offsets.push(offsets[offsets.len() - 1]);
            }
        }
    }

    fn truncate(&mut self, len: usize) {
        match self {
            Self::Boolean(values) => values.truncate(len),
            Self::Int32(values) | Self::Date(values) => values.truncate(len),
            Self::Int64(values)
            | Self::Time(values)
            | Self::Timestamp { values, .. }
            | Self::Epoch { values, .. } => values.truncate(len),
            Self::Float32(values) => values.truncate(len),
            Self::Float64(values) => values.truncate(len),
            Self::Decimal { values, .. } => values.truncate(len),
            Self::Uuid(bytes) => bytes.truncate(len * 16),
            Self::Fixed { bytes, width } => bytes.truncate(len * *width),
            Self::Binary(texts) | Self::Text(texts) => texts.truncate(len),
            Self::Struct(object) => object.truncate(len),
            Self::List { offsets, element } => {
                offsets.truncate(len + 1);
                element.truncate(offsets[len] as usize);
            }
            Self::Map { offsets, entries } => {
                offsets.truncate(len + 1);
                for column in entries.iter_mut() {
                    column.truncate(offsets[len] as usize);
                }
            }
        }
    }

    fn finish(
        self,
        field: &FieldRef,
        len: usize,
        nulls: Option<arrow_buffer::NullBuffer>,
    ) -> Result<ArrayRef, ArrowError> {
        Ok(match self {
            Self::Boolean(mut values) => Arc::new(BooleanArray::new(values.finish(), nulls)),
            Self::Int32(values) => Arc::new(Int32Array::try_new(values.into(), nulls)?),
            Self::Int64(values) => Arc::new(Int64Array::try_new(values.into(), nulls)?),
            Self::Float32(values) => Arc::new(Float32Array::try_new(values.into(), nulls)?),
            Self::Float64(values) => Arc::new(Float64Array::try_new(values.into(), nulls)?),
            Self::Decimal { values, precision, scale } => Arc::new(
                Decimal128Array::try_new(values.into(), nulls)?
                    .with_precision_and_scale(precision, scale as i8)?,
            ),
            Self::Timestamp { values, .. } | Self::Epoch { values, .. } => Arc::new(
                TimestampMicrosecondArray::try_new(values.into(), nulls)?
                    .with_data_type(field.data_type().clone()),
            ),
            Self::Date(values) => Arc::new(Date32Array::try_new(values.into(), nulls)?),
            Self::Time(values) => {
                Arc::new(Time64MicrosecondArray::try_new(values.into(), nulls)?)
            }
            Self::Uuid(bytes) => {
                Arc::new(FixedSizeBinaryArray::try_new(16, Buffer::from_vec(bytes), nulls)?)
            }
            Self::Fixed { bytes, width } => Arc::new(FixedSizeBinaryArray::try_new(
                width as i32,
                Buffer::from_vec(bytes),
                nulls,
            )?),
            Self::Binary(texts) => {
                let (offsets, bytes) = texts.finish();
                Arc::new(BinaryArray::try_new(offsets, bytes, nulls)?)
            }
            Self::Text(texts) => {
                let (offsets, bytes) = texts.finish();
                Arc::new(StringArray::try_new(offsets, bytes, nulls)?)
            }
            Self::Struct(object) => {
                let DataType::Struct(fields) = field.data_type() else { unreachable!() };
                Arc::new(StructArray::try_new_with_length(
                    fields.clone(),
                    object.finish()?,
                    nulls,
                    len,
                )?)
            }
            Self::List { offsets, element } => Arc::new(ListArray::try_new(
                element.field.clone(),
                offset_buffer(offsets),
                element.finish()?,
                nulls,
            )?),
            Self::Map { offsets, entries } => {
                let DataType::Map(pair, ordered) = field.data_type() else { unreachable!() };
                let DataType::Struct(parts) = pair.data_type() else { unreachable!() };
                let [keys, values] = *entries;
                let columns = vec![keys.finish()?, values.finish()?];
                Arc::new(MapArray::try_new(
                    pair.clone(),
                    offset_buffer(offsets),
                    StructArray::try_new(parts.clone(), columns, None)?,
                    nulls,
                    *ordered,
                )?)
            }
        })
    }
}

#[inline(always)]
pub fn certain<T>(value: Option<T>) -> Result<T, Uncertain> {
    value.ok_or(Uncertain)
}

fn offset_buffer(offsets: Vec<i32>) -> OffsetBuffer<i32> {
    OffsetBuffer::new(ScalarBuffer::from(offsets))
}

fn has_equal<T: Eq + Hash>(mut places: Range<usize>, get: impl Fn(usize) -> T) -> bool {
    if places.len() <= LINEAR_KEYS_MAX {
        let first = places.start;
        return places.any(|one| (first..one).any(|two| get(one) == get(two)));
    }
    let mut seen = HashSet::with_capacity(places.len());
    places.any(|place| !seen.insert(get(place)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_room_for_what_the_last_batch_brought_and_not_for_more_than_there_is() {
        let texts = Texts::new();
        let room = |count, byte_count| texts.fresh(Room { count, byte_count }).bytes.capacity();
        assert_eq!(room(100, 10_000), 900);

        let mut last = texts.fresh(Room { count: 2, byte_count: 3_000 });
        last.push(&[0; 2_500]);
        last.close();
        last.finish();

        assert_eq!(room(8, 20_000), 11_250);
        assert_eq!(room(1_000_000, 20_000), 20_000);
        texts.fresh(Room { count: 0, byte_count: 0 }).finish();
        assert_eq!(room(8, 20_000), 11_250);
    }
}
