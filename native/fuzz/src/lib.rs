//! What the fuzz targets share: the parts of an input, and what holds of whatever is read.
//!
//! An input is a plan and records, with `SEPARATOR` between them. A plan is a row of choices, so
//! that any bytes are a plan, and each is one that Python would make of some schema. A record that
//! begins with `WRITTEN` is a row of choices, too: of values, and of a damage. Others are what they
//! are.

#![forbid(unsafe_code)]

use arrow_array::cast::AsArray;
use arrow_array::types::{
    Date32Type, Decimal128Type, Time64MicrosecondType, TimestampMicrosecondType,
};
use arrow_array::{Array, RecordBatch};
use arrow_schema::{DataType, Field, Fields, Schema, TimeUnit};
use k2i_native::binary::Reader;
use k2i_native::columns::Rows;

/// Rare in records of any format; in `words.dict`, so that inputs have it.
const SEPARATOR: &[u8] = b"\xff\xfe";

const WRITTEN: u8 = 0xfd;

const MICROSECONDS_OF_DAY: i64 = 86_400_000_000;

/// The years 0001 to 9999.
const DAYS: std::ops::RangeInclusive<i64> = -719_162..=2_932_896;

/// Levels of columns below a row.
pub const DEPTH: usize = 3;

/// Choices of a plan, made by bytes.
pub struct Choices<'a> {
    rest: &'a [u8],
}

impl Choices<'_> {
    /// A number below `count`: the first when all choices are made.
    pub fn below(&mut self, count: usize) -> usize {
        let Some((&byte, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        usize::from(byte) % count
    }

    pub fn one_of<T: Clone>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())].clone()
    }

    pub fn yes(&mut self) -> bool {
        self.below(2) == 1
    }
}

/// The plan of an input, and what its records are made from.
pub fn parts(input: &[u8]) -> (Choices<'_>, Vec<&[u8]>) {
    let (mut parts, mut rest) = (Vec::new(), input);
    while let Some(at) = rest.windows(SEPARATOR.len()).position(|bytes| bytes == SEPARATOR) {
        parts.push(&rest[..at]);
        rest = &rest[at + SEPARATOR.len()..];
    }
    parts.push(rest);
    (Choices { rest: parts[0] }, parts.split_off(1))
}

/// The records: those that are choices are written.
pub fn made(parts: &[&[u8]], write: impl Fn(&mut Choices) -> Vec<u8>) -> Vec<Vec<u8>> {
    let one = |part: &&[u8]| match part.split_first() {
        Some((&WRITTEN, rest)) => {
            let mut choices = Choices { rest };
            let record = write(&mut choices);
            damaged(record, &mut choices)
        }
        _ => part.to_vec(),
    };
    parts.iter().map(one).collect()
}

/// A record that is damaged if choices say so.
fn damaged(mut record: Vec<u8>, choices: &mut Choices) -> Vec<u8> {
    let place = choices.below(record.len() + 1);
    match choices.below(5) {
        1 => record.truncate(place),
        2 => record.insert(place, choices.one_of(b"{}[],:\"\\ 0n\xc3\xff\x80\x02\x00")),
        3 if place < record.len() => record[place] ^= 1 << choices.below(8),
        4 if place < record.len() => {
            record.remove(place);
        }
        _ => {}
    }
    record
}

/// A column of a type. Sixteen bytes are a uuid, which is a type of its own to readers.
pub fn field(name: &str, type_: DataType, is_nullable: bool) -> Field {
    let is_uuid = type_ == DataType::FixedSizeBinary(16);
    let field = Field::new(name, type_, is_nullable);
    if !is_uuid {
        return field;
    }
    let metadata = [("ARROW:extension:name".to_owned(), "arrow.uuid".to_owned())];
    field.with_metadata(metadata)
}

pub fn list_of(element: Field) -> DataType {
    DataType::List(element.into())
}

pub fn map_of(key: DataType, value: Field) -> DataType {
    let entry = Fields::from(vec![field("key", key, false), value]);
    DataType::Map(Field::new("entries", DataType::Struct(entry), false).into(), false)
}

pub fn timestamp(has_zone: bool) -> DataType {
    DataType::Timestamp(TimeUnit::Microsecond, has_zone.then(|| "UTC".into()))
}

/// Reads records that lie one behind the other, between other bytes.
pub fn read_records(reader: &Reader, records: &[&[u8]]) -> Rows {
    let (mut bytes, mut starts, mut ends) = (vec![0], Vec::new(), Vec::new());
    for record in records {
        starts.push(bytes.len() as i64);
        bytes.extend_from_slice(record);
        ends.push(bytes.len() as i64);
    }
    bytes.push(0);
    reader.read(&bytes, &starts, &ends).expect("verdicts")
}

/// Reads records together and one by one: each has one verdict, the same both times, and a row is
/// one that a table takes. Rows are read again behind what is left of them when they are cut, so
/// that whatever a record that is no row leaves behind is seen. Returns the records that are rows.
pub fn check<'a>(
    schema: &Schema,
    records: &[&'a [u8]],
    read: impl Fn(&[&[u8]]) -> Rows,
) -> Vec<&'a [u8]> {
    let rows = checked(schema, records, &read).certain.into_iter().map(|at| records[at as usize]);
    let rows: Vec<_> = rows.collect();
    let cut = |row: &&'a [u8]| [&row[..row.len() / 2], &row[..row.len().max(1) - 1], row];
    let records = [records, &rows.iter().flat_map(cut).collect::<Vec<_>>()].concat();
    let together = checked(schema, &records, &read);
    for (place, record) in records.iter().enumerate() {
        let alone = checked(schema, &[record], &read);
        let row = together.certain.binary_search(&(place as i64));
        assert_eq!(row.is_ok(), alone.certain == [0], "record {place} has two verdicts");
        if let Ok(row) = row {
            assert_eq!(together.rows.slice(row, 1), alone.rows, "record {place} has two rows");
        }
    }
    rows
}

fn checked(schema: &Schema, records: &[&[u8]], read: impl Fn(&[&[u8]]) -> Rows) -> Rows {
    let read = read(records);
    assert!(read.certain.is_sorted() && read.uncertain.is_sorted());
    let mut places = [read.certain.as_slice(), &read.uncertain].concat();
    places.sort_unstable();
    assert!(places.into_iter().eq(0..records.len() as i64), "not one verdict for each record");
    assert_eq!(read.rows.num_rows(), read.certain.len());
    assert_eq!(*read.rows.schema(), *schema);
    check_columns(&read.rows);
    read
}

fn check_columns(rows: &RecordBatch) {
    for column in rows.columns() {
        column.to_data().validate_full().expect("an array as Arrow defines it");
        check_values(column);
    }
}

/// What a table's types say of values beyond what Arrow says.
fn check_values(array: &dyn Array) {
    match array.data_type() {
        DataType::Decimal128(precision, _) => {
            let decimals = array.as_primitive::<Decimal128Type>();
            decimals.validate_decimal_precision(*precision).expect("no more digits than it has");
        }
        DataType::Date32 => {
            let days = array.as_primitive::<Date32Type>();
            assert!(days.iter().flatten().all(|day| DAYS.contains(&i64::from(day))));
        }
        DataType::Time64(_) => {
            let times = array.as_primitive::<Time64MicrosecondType>();
            assert!(times.iter().flatten().all(|time| (0..MICROSECONDS_OF_DAY).contains(&time)));
        }
        DataType::Timestamp(_, _) => {
            let stamps = array.as_primitive::<TimestampMicrosecondType>();
            let mut days = stamps.iter().flatten().map(|at| at.div_euclid(MICROSECONDS_OF_DAY));
            assert!(days.all(|day| DAYS.contains(&day)));
        }
        DataType::List(_) => check_values(array.as_list::<i32>().values()),
        DataType::Struct(_) => array.as_struct().columns().iter().for_each(|one| check_values(one)),
        DataType::Map(_, _) => {
            array.as_map().entries().columns().iter().for_each(|one| check_values(one));
        }
        _ => {}
    }
}
