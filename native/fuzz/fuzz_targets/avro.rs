//! The Avro reader: any plan of a writer's schema, any bytes.

#![no_main]

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema, TimeUnit};
use k2i_native::avro::{Plan, Record};
use k2i_native::binary::Reader;
use k2i_native_fuzz::{
    Choices, DEPTH, check, field, list_of, made, map_of, parts, read_records, timestamp,
};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|input: &[u8]| {
    let (mut choices, records) = parts(input);
    let (plan, type_) = record(&mut choices, DEPTH);
    let schema = match type_ {
        Some(DataType::Struct(fields)) => Arc::new(Schema::new(fields)),
        _ => return, // Python refuses a schema without a column.
    };
    let records = made(&records, |choices| {
        let mut bytes = Vec::new();
        write(choices, &plan, &mut bytes);
        bytes
    });
    let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
    let plan = Record::new(plan).expect("types that Avro has");
    let reader = Reader::new(schema.clone(), Box::new(plan)).expect("columns that Avro has");
    check(&schema, &records, |records| read_records(&reader, records));
});

/// A type, and the column that it becomes: none if it holds nothing.
type Planned = (Plan, Option<DataType>);

fn plan(kind: &str, parts: Vec<Plan>) -> Plan {
    Plan { kind: kind.to_owned(), logical: None, byte_count: 0, symbols: Vec::new(), parts }
}

fn leaf(kind: &str, logical: Option<&str>, type_: DataType) -> (Plan, DataType) {
    let logical = logical.map(str::to_owned);
    (Plan { logical, ..plan(kind, Vec::new()) }, type_)
}

fn fixed(byte_count: usize, logical: Option<&str>, type_: DataType) -> (Plan, DataType) {
    let (plan, type_) = leaf("fixed", logical, type_);
    (Plan { byte_count, ..plan }, type_)
}

fn struct_of(fields: Vec<Field>) -> DataType {
    DataType::Struct(fields.into())
}

/// Any type; inside of a union, one that is no union.
fn planned(choices: &mut Choices, depth: usize, is_branch: bool) -> Planned {
    let nested = if is_branch { 3 } else { 5 };
    match choices.below(if depth > 0 { 2 + nested } else { 2 }) {
        0 => some_leaf(choices),
        1 => (plan("null", Vec::new()), None),
        2 => record(choices, depth - 1),
        3 => around("array", choices, depth, |element| list_of(field("element", element, true))),
        4 => around("map", choices, depth, |value| {
            map_of(DataType::Utf8, field("value", value, true))
        }),
        5 => optional(choices, depth - 1),
        _ => members(choices, depth - 1),
    }
}

fn some_leaf(choices: &mut Choices) -> Planned {
    let time = DataType::Time64(TimeUnit::Microsecond);
    let duration = ["months", "days", "millis"].map(|name| field(name, DataType::Int64, true));
    let (plan, type_) = match choices.below(27) {
        0 => leaf("long", None, DataType::Int64),
        1 => leaf("string", None, DataType::Utf8),
        2 => leaf("int", None, DataType::Int32),
        3 => leaf("boolean", None, DataType::Boolean),
        4 => leaf("float", None, DataType::Float32),
        5 => leaf("double", None, DataType::Float64),
        6 => leaf("bytes", None, DataType::Binary),
        7 => leaf("int", Some("date"), DataType::Date32),
        8 => leaf("int", Some("time-millis"), time),
        9 => leaf("long", Some("time-micros"), time),
        10 => leaf("long", Some("timestamp-millis"), timestamp(true)),
        11 => leaf("long", Some("timestamp-micros"), timestamp(true)),
        12 => leaf("long", Some("timestamp-nanos"), timestamp(true)),
        13 => leaf("long", Some("local-timestamp-millis"), timestamp(false)),
        14 => leaf("long", Some("local-timestamp-micros"), timestamp(false)),
        15 => leaf("long", Some("local-timestamp-nanos"), timestamp(false)),
        16 => leaf("string", Some("uuid"), DataType::FixedSizeBinary(16)),
        17 => leaf("bytes", Some("decimal"), DataType::Decimal128(9, 2)),
        18 => leaf("bytes", Some("decimal"), DataType::Decimal128(38, 0)),
        19 => fixed(3, None, DataType::FixedSizeBinary(3)),
        20 => fixed(16, Some("uuid"), DataType::FixedSizeBinary(16)),
        21 => fixed(12, Some("duration"), struct_of(duration.to_vec())),
        22 => fixed(2, Some("decimal"), DataType::Decimal128(3, 1)),
        23 => fixed(20, Some("decimal"), DataType::Decimal128(38, 10)),
        24 | 25 => {
            let (plan, type_) = leaf("enum", None, DataType::Utf8);
            (Plan { symbols: ["RED", "", "GREEN"].map(str::to_owned).to_vec(), ..plan }, type_)
        }
        _ => leaf("unread", None, DataType::Utf8),
    };
    (plan, Some(type_))
}

fn record(choices: &mut Choices, depth: usize) -> Planned {
    let count = choices.one_of(&[1, 2, 3, 0, 4]);
    together("record", (0..count).map(|_| planned(choices, depth, false)).collect())
}

/// A list or a map of a type.
fn around(
    kind: &str,
    choices: &mut Choices,
    depth: usize,
    type_of: impl Fn(DataType) -> DataType,
) -> Planned {
    match planned(choices, depth - 1, false) {
        (part, Some(type_)) => (plan(kind, vec![part]), Some(type_of(type_))),
        // Of what holds nothing there may be any number, so that it is JSON.
        (_, None) => (plan("unread", Vec::new()), Some(DataType::Utf8)),
    }
}

fn optional(choices: &mut Choices, depth: usize) -> Planned {
    let (there, type_) = planned(choices, depth, true);
    let null = plan("null", Vec::new());
    let parts = match choices.below(3) {
        0 => vec![null, there],
        1 => vec![there, null],
        _ => vec![there],
    };
    (plan("optional", parts), type_)
}

fn members(choices: &mut Choices, depth: usize) -> Planned {
    let count = choices.one_of(&[2, 3, 4]);
    let mut parts: Vec<_> = (0..count).map(|_| planned(choices, depth, true)).collect();
    if choices.yes() {
        parts.insert(choices.below(count), (plan("null", Vec::new()), None));
    }
    together("members", parts)
}

/// A struct of those parts that hold something.
fn together(kind: &str, planned: Vec<Planned>) -> Planned {
    let (parts, types): (Vec<_>, Vec<_>) = planned.into_iter().unzip();
    let fields: Vec<_> = types
        .into_iter()
        .flatten()
        .enumerate()
        .map(|(place, type_)| field(&format!("f{place}"), type_, true))
        .collect();
    let type_ = if fields.is_empty() { None } else { Some(struct_of(fields)) };
    (plan(kind, parts), type_)
}

/// One value as the plan says; numbers are small.
fn write(choices: &mut Choices, plan: &Plan, out: &mut Vec<u8>) {
    let parts = &plan.parts;
    match (plan.kind.as_str(), plan.logical.as_deref()) {
        ("boolean", _) => out.push(choices.below(2) as u8),
        // Zigzag: the even ones are not negative.
        ("int" | "long", _) => out.push(choices.below(64) as u8 * 2),
        ("float", _) => out.extend([choices.below(256) as u8; 4]),
        ("double", _) => out.extend([choices.below(256) as u8; 8]),
        ("string", Some(_)) => {
            out.push(36 * 2);
            out.extend(b"123e4567-e89b-12d3-a456-426614174000");
        }
        ("bytes", Some(_)) => out.extend([2, choices.below(256) as u8]),
        ("bytes" | "string", _) => text(choices, out),
        ("fixed", _) => out.extend(vec![choices.one_of(&[0, 0xff, 7]); plan.byte_count]),
        ("enum", _) => out.push(choices.below(plan.symbols.len()) as u8 * 2),
        ("record", _) => parts.iter().for_each(|part| write(choices, part, out)),
        (kind @ ("array" | "map"), _) => {
            let count = choices.below(4);
            if count > 0 {
                out.push(count as u8 * 2);
            }
            for at in 0..count {
                if kind == "map" {
                    out.extend([2, b'a' + at as u8]);
                }
                write(choices, &parts[0], out);
            }
            out.push(0);
        }
        ("optional" | "members", _) => {
            let place = choices.below(parts.len());
            out.push(place as u8 * 2);
            write(choices, &parts[place], out);
        }
        _ => {} // Nothing, or what is left to Python.
    }
}

fn text(choices: &mut Choices, out: &mut Vec<u8>) {
    let text = choices.one_of(&["", "a", "\u{e4}", "more of it"]);
    out.push(text.len() as u8 * 2);
    out.extend(text.as_bytes());
}
