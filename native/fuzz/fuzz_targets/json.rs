//! The JSON reader: any columns, any bytes. What it takes for a row must be JSON to serde, too.

#![no_main]

use std::sync::Arc;

use arrow_array::BinaryArray;
use arrow_schema::{DataType, Field, FieldRef, Fields, Schema, TimeUnit};
use k2i_native::columns::Epochs;
use k2i_native::json::Reader;
use k2i_native_fuzz::{Choices, DEPTH, check, field, list_of, made, map_of, parts, timestamp};
use libfuzzer_sys::fuzz_target;

/// Those of a row begin at any of them.
const NAMES: [&str; 7] = ["a", "b", "id", "ä", "q\"", "s\\", ""];

fuzz_target!(|input: &[u8]| {
    let (mut choices, records) = parts(input);
    let skips_empty = choices.yes();
    let mut epochs = Epochs::new();
    let schema = Arc::new(Schema::new(columns(&mut choices, &mut epochs, "", DEPTH)));
    let reader = Reader::new(schema.clone(), epochs, skips_empty).expect("columns that JSON has");
    let records = made(&records, |choices| object(choices, schema.fields()).into_bytes());
    let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
    let rows = check(&schema, &records, |records| {
        // Somewhere inside of an array, as in a polled batch.
        let around = [[b"{".as_slice()].as_slice(), records, &[b"\"}"]].concat();
        let values = BinaryArray::from_iter_values(around).slice(1, records.len());
        reader.read(&values).expect("verdicts")
    });
    for row in rows {
        let object = serde_json::from_slice::<serde_json::Map<_, _>>(row);
        assert!(object.is_ok(), "{object:?}");
    }
});

/// Columns below a path, and which of the timestamps among them are numbers.
fn columns(choices: &mut Choices, epochs: &mut Epochs, path: &str, depth: usize) -> Vec<Field> {
    // More than a dozen are found by a hash.
    let count = choices.one_of(if path.is_empty() { &[1, 2, 3, 14] } else { &[1, 2, 3] });
    let first = choices.below(NAMES.len());
    let dot = if path.is_empty() { "" } else { "." };
    (first..first + count)
        .map(|place| {
            let name = NAMES.get(place).map_or_else(|| format!("c{place}"), ToString::to_string);
            column(choices, epochs, &name, &format!("{path}{dot}{name}"), depth)
        })
        .collect()
}

fn column(
    choices: &mut Choices,
    epochs: &mut Epochs,
    name: &str,
    path: &str,
    depth: usize,
) -> Field {
    let is_nullable = !choices.yes();
    let type_ = match choices.below(if depth > 0 { 19 } else { 16 }) {
        0 => DataType::Int64,
        1 => DataType::Utf8,
        2 => DataType::Boolean,
        3 => DataType::Int32,
        4 => DataType::Float32,
        5 => DataType::Float64,
        6 => DataType::Decimal128(10, 2),
        7 => DataType::Decimal128(38, 0),
        8 => DataType::Decimal128(38, 38),
        9 => DataType::Date32,
        10 => DataType::Time64(TimeUnit::Microsecond),
        zoned @ 11..=12 => {
            if choices.yes() {
                epochs.insert(path.to_owned(), choices.one_of(&[1, 1_000, 1_000_000]));
            }
            timestamp(zoned == 12)
        }
        13 => DataType::FixedSizeBinary(16),
        14 => DataType::FixedSizeBinary(2),
        15 => DataType::Binary,
        16 => list_of(column(choices, epochs, "element", &format!("{path}[]"), depth - 1)),
        17 => {
            let value = column(choices, epochs, "value", &format!("{path}{{}}"), depth - 1);
            map_of(DataType::Utf8, value)
        }
        _ => DataType::Struct(columns(choices, epochs, path, depth - 1).into()),
    };
    field(name, type_, is_nullable)
}

fn object(choices: &mut Choices, fields: &Fields) -> String {
    let pair = |field: &FieldRef| {
        let name = serde_json::to_string(field.name()).expect("a text");
        format!("{name}:{}", value(choices, field))
    };
    format!("{{{}}}", fields.iter().map(pair).collect::<Vec<_>>().join(","))
}

/// A value as it may be spelled.
fn value(choices: &mut Choices, field: &Field) -> String {
    if field.is_nullable() && choices.below(5) == 4 {
        return "null".to_owned();
    }
    let count = choices.below(4);
    let spelled: &[&str] = match field.data_type() {
        DataType::Boolean => &["true", "false"],
        DataType::Int32 => &["0", "-7", "2147483647"],
        DataType::Int64 => &["0", "-7", "9223372036854775807"],
        DataType::Float32 | DataType::Float64 => &["0", "-1.5", "1e10"],
        DataType::Decimal128(38, 38) => &["0", "0.25", "\"-0.1\""],
        DataType::Decimal128(_, _) => &["0", "-7", "\"12\"", "99.00"],
        DataType::Date32 => &["\"2024-02-29\"", "\"0001-01-02\""],
        DataType::Time64(_) => &["\"10:11\"", "\"23:59:59.9\""],
        DataType::Timestamp(_, None) => &["\"2024-02-29\"", "\"2024-02-29 10:11\"", "1700000000"],
        DataType::Timestamp(_, _) => &["\"2024-02-29T10:11Z\"", "1700000000"],
        DataType::FixedSizeBinary(16) => &["\"123e4567-e89b-12d3-a456-426614174000\""],
        DataType::FixedSizeBinary(_) => &["\"YWI=\""],
        DataType::Binary => &["\"\"", "\"YWI=\""],
        DataType::List(element) => {
            let elements: Vec<_> = (0..count).map(|_| value(choices, element)).collect();
            return format!("[{}]", elements.join(","));
        }
        DataType::Map(entries, _) => {
            let DataType::Struct(parts) = entries.data_type() else { unreachable!() };
            let entry = |at| format!("\"k{at}\":{}", value(choices, &parts[1]));
            return format!("{{{}}}", (0..count).map(entry).collect::<Vec<_>>().join(","));
        }
        DataType::Struct(fields) => return object(choices, fields),
        _ => &["\"\"", "\"a\"", "\"\\u00e4\"", "\"\u{e4}\\n\""],
    };
    choices.one_of(spelled).to_owned()
}
