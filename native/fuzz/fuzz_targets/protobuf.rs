//! The Protobuf reader: any plan of a message, any bytes.

#![no_main]

use std::sync::Arc;

use arrow_schema::{DataType, Field, Schema};
use k2i_native::binary::Reader;
use k2i_native::protobuf::{Plan, Record};
use k2i_native_fuzz::{
    Choices, DEPTH, check, field, list_of, made, map_of, parts, read_records, timestamp,
};
use libfuzzer_sys::fuzz_target;

const NUMBER_MAX: u64 = (1 << 29) - 1;

fuzz_target!(|input: &[u8]| {
    let (mut choices, records) = parts(input);
    let frame = choices.one_of(&[&b""[..], b"\0", b"\x02\x04"]).to_vec();
    let (plans, columns) = message(&mut choices, DEPTH);
    if columns.is_empty() {
        return; // Python refuses a message without a column.
    }
    let schema = Arc::new(Schema::new(columns));
    let records = made(&records, |choices| [&frame, write(choices, &plans).as_slice()].concat());
    let records: Vec<_> = records.iter().map(Vec::as_slice).collect();
    let plan = Record::new(plans, frame).expect("types that Protobuf has");
    let reader = Reader::new(schema.clone(), Box::new(plan)).expect("columns that Protobuf has");
    check(&schema, &records, |records| read_records(&reader, records));
});

fn plan(number: u64, kind: &str, parts: Vec<Plan>) -> Plan {
    Plan {
        number,
        kind: kind.to_owned(),
        is_repeated: false,
        is_stored: true,
        presence: "default".to_owned(),
        oneof: None,
        symbols: Default::default(),
        parts,
    }
}

/// Fields of a message, and the columns of those that hold something.
fn message(choices: &mut Choices, depth: usize) -> (Vec<Plan>, Vec<Field>) {
    let count = choices.one_of(&[1, 2, 3, 0, 5]);
    let is_backwards = choices.yes();
    let (mut plans, mut columns) = (Vec::new(), Vec::new());
    for place in 0..count {
        let number = match (is_backwards, choices.below(8)) {
            (_, 7) => NUMBER_MAX - place,
            (false, _) => place + 1,
            (true, _) => 20 - place,
        };
        let (plan, type_) = planned(choices, number, depth);
        columns.extend(type_.map(|type_| field(&format!("f{place}"), type_, true)));
        plans.push(plan);
    }
    (plans, columns)
}

/// A field, and the type of its column: none if it holds nothing.
fn planned(choices: &mut Choices, number: u64, depth: usize) -> (Plan, Option<DataType>) {
    if depth > 0 && choices.below(6) == 5 {
        return map(choices, number, depth - 1);
    }
    let (mut plan, element) = value(choices, number, depth);
    match choices.below(5) {
        0 => {}
        1 => plan.presence = "null".to_owned(),
        2 => plan.presence = "required".to_owned(),
        3 => {
            plan.presence = "null".to_owned();
            plan.oneof = Some(choices.below(2));
        }
        _ => {
            plan.is_repeated = true;
            return (plan, element.map(|type_| list_of(field("element", type_, true))));
        }
    }
    (plan, element)
}

fn map(choices: &mut Choices, number: u64, depth: usize) -> (Plan, Option<DataType>) {
    let keys = ["string", "int32", "int64", "uint64", "bool", "fixed32", "sfixed64", "sint32"];
    let (key, key_type) = leaf(1, choices.one_of(&keys));
    let (value, value_type) = value(choices, 2, depth);
    let (kind, parts) = match value_type {
        Some(_) => ("map", vec![key, value]),
        None => ("unread", Vec::new()),
    };
    let type_ = value_type.map(|type_| map_of(key_type, field("value", type_, true)));
    (Plan { is_repeated: true, is_stored: type_.is_some(), ..plan(number, kind, parts) }, type_)
}

/// One value of a field, or an element of several. Whether a message is there can always be told.
fn value(choices: &mut Choices, number: u64, depth: usize) -> (Plan, Option<DataType>) {
    let kind = choices.one_of(&KINDS);
    let (plan, type_) = match choices.below(if depth > 0 { 11 } else { 7 }) {
        0..=2 => {
            let (plan, type_) = leaf(number, kind);
            return (plan, Some(type_));
        }
        3 => {
            let parts = vec![plan(1, "int64", Vec::new()), plan(2, "int32", Vec::new())];
            (plan(number, "timestamp", parts), Some(timestamp(true)))
        }
        4 => {
            let (value, type_) = leaf(1, kind);
            (plan(number, "wrapper", vec![value]), Some(type_))
        }
        5 => (plan(number, "unread", Vec::new()), Some(DataType::Utf8)),
        6 => (plan(number, "empty", Vec::new()), None),
        _ => match message(choices, depth - 1) {
            (parts, _) if parts.is_empty() => (plan(number, "empty", parts), None),
            (_, columns) if columns.is_empty() => (plan(number, "unread", Vec::new()), None),
            (parts, columns) => {
                (plan(number, "message", parts), Some(DataType::Struct(columns.into())))
            }
        },
    };
    (Plan { presence: "null".to_owned(), is_stored: type_.is_some(), ..plan }, type_)
}

const KINDS: [&str; 16] = [
    "int64", "string", "int32", "bool", "double", "float", "uint64", "fixed64", "fixed32", "bytes",
    "uint32", "enum", "sfixed32", "sfixed64", "sint32", "sint64",
];

fn leaf(number: u64, kind: &str) -> (Plan, DataType) {
    let type_ = match kind {
        "double" => DataType::Float64,
        "float" => DataType::Float32,
        "uint64" | "fixed64" => DataType::Decimal128(20, 0),
        "int32" | "sint32" | "sfixed32" => DataType::Int32,
        "bool" => DataType::Boolean,
        "string" | "enum" => DataType::Utf8,
        "bytes" => DataType::Binary,
        _ => DataType::Int64,
    };
    let mut plan = plan(number, kind, Vec::new());
    if kind == "enum" {
        plan.symbols = [(0, "NONE"), (5, "FIVE"), (-1, "")]
            .map(|(number, name)| (number, name.to_owned()))
            .into();
    }
    (plan, type_)
}

/// A message with some of its fields, in their order.
fn write(choices: &mut Choices, plans: &[Plan]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for plan in plans {
        let count = choices.one_of(if plan.is_repeated { &[1, 2, 3, 0] } else { &[1, 1, 1, 0] });
        for _ in 0..count {
            write_field(choices, plan, &mut bytes);
        }
    }
    bytes
}

fn write_field(choices: &mut Choices, plan: &Plan, out: &mut Vec<u8>) {
    let (wire_type, value) = match plan.kind.as_str() {
        "double" | "fixed64" | "sfixed64" => (1, vec![choices.below(256) as u8; 8]),
        "float" | "fixed32" | "sfixed32" => (5, vec![choices.below(256) as u8; 4]),
        "string" => (2, sized(choices.one_of(&["", "a", "\u{e4}", "more"]).as_bytes().to_vec())),
        "bytes" => (2, sized(vec![0xff; choices.below(4)])),
        "message" | "map" | "timestamp" | "wrapper" => (2, sized(write(choices, &plan.parts))),
        "empty" | "unread" => (2, sized(Vec::new())),
        "bool" => (0, vec![choices.below(2) as u8]),
        _ => (0, vec![choices.below(128) as u8]),
    };
    varint(plan.number << 3 | wire_type, out);
    out.extend(value);
}

fn sized(bytes: Vec<u8>) -> Vec<u8> {
    let mut out = Vec::new();
    varint(bytes.len() as u64, &mut out);
    out.extend(bytes);
    out
}

fn varint(mut number: u64, out: &mut Vec<u8>) {
    while number > 0x7f {
        out.push(number as u8 | 0x80);
        number >>= 7;
    }
    out.push(number as u8);
}
