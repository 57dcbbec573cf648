//! The JSON reader: any columns, any bytes. What it takes for a row must be JSON to serde, too.

#![no_main]

use std::sync::Arc;

use arrow_array::BinaryArray;
use arrow_schema::{DataType, Field, Schema, TimeUnit};
use k2i_native::columns::Epochs;
use k2i_native::json::Reader;
use k2i_native_fuzz::{Choices, DEPTH, check, field, list_of, map_of, parts, timestamp};
use libfuzzer_sys::fuzz_target;

/// Those of a row begin at any of them.
const NAMES: [&str; 7] = ["a", "b", "id", "ä", "q\"", "s\\", ""];

fuzz_target!(|input: &[u8]| {
    let (mut choices, records) = parts(input);
    let skips_empty = choices.yes();
    let mut epochs = Epochs::new();
    let schema = Arc::new(Schema::new(columns(&mut choices, &mut epochs, "", DEPTH)));
    let reader = Reader::new(schema.clone(), epochs, skips_empty).expect("columns that JSON has");
    let certain = check(&schema, &records, |records| {
        // Somewhere inside of an array, as in a polled batch.
        let around = [[b"{".as_slice()].as_slice(), records, &[b"\"}"]].concat();
        let values = BinaryArray::from_iter_values(around).slice(1, records.len());
        reader.read(&values).expect("verdicts")
    });
    for place in certain {
        let object = serde_json::from_slice::<serde_json::Map<_, _>>(records[place]);
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
