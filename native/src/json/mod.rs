//! JSON objects to rows: which records are rows for certain, and what their columns are.
//!
//! Every other record goes to the Python decoder, whose verdict and words are the only ones that
//! anybody sees. So nothing here explains a failure, and nothing here may be more tolerant than
//! `k2i_core/decode`; to be less tolerant costs time and nothing else.

#![forbid(unsafe_code)]

pub mod leaves;
mod objects;
mod scanner;

use std::sync::Arc;

use arrow_array::{Array, BinaryArray, RecordBatch};
use arrow_schema::{ArrowError, DataType, SchemaRef};

use crate::columns::{BATCH_BYTES_MAX, Epochs, Object, Room, Rows, Uncertain};
use objects::Workspace;
use scanner::Scanner;

pub struct Reader {
    schema: SchemaRef,
    row: Object,
    skips_empty: bool,
}

impl Reader {
    /// An error says what is not read here.
    pub fn new(schema: SchemaRef, mut epochs: Epochs, skips_empty: bool) -> Result<Self, String> {
        if schema.fields().is_empty() {
            return Err("no columns".to_owned());
        }
        if let Some(field) = schema.fields().iter().find(|field| has_other_keys(field.data_type())) {
            return Err(format!("{}: a map of keys that are no texts", field.name()));
        }
        let row = Object::new(schema.fields(), "", &mut epochs)?;
        if let Some(path) = epochs.keys().next() {
            return Err(format!("{path}: a time format for no timestamp"));
        }
        Ok(Self { schema, row, skips_empty })
    }

    /// Reads n values.
    pub fn read(&self, values: &BinaryArray) -> Result<Rows, ArrowError> {
        let mut workspace = Workspace {
            scratch: Vec::new(),
            unknown: Vec::new(),
            skips_empty: self.skips_empty,
        };
        let offsets = values.value_offsets();
        let (first, last) = (offsets[0] as usize, offsets[values.len()] as usize);
        if last - first > BATCH_BYTES_MAX {
            return Err(ArrowError::OffsetOverflowError(last - first));
        }
        let mut row = self.row.fresh(Room { count: values.len(), byte_count: last - first });
        // All at once, because that is much faster: then only a cut inside a character is bad.
        let text = std::str::from_utf8(&values.value_data()[first..last]).ok();
        let mut certain = Vec::with_capacity(values.len());
        let mut uncertain = Vec::new();
        for (index, bounds) in offsets.windows(2).enumerate() {
            let (start, end) = (bounds[0] as usize - first, bounds[1] as usize - first);
            let record = values.value(index);
            let is_text = match text {
                Some(text) => text.is_char_boundary(start) && text.is_char_boundary(end),
                None => std::str::from_utf8(record).is_ok(),
            };
            let count = row.len;
            if is_text && values.is_valid(index) && read_one(&mut row, record, &mut workspace).is_ok()
            {
                certain.push(index as i64);
            } else {
                row.truncate(count);
                workspace.unknown.clear();
                uncertain.push(index as i64);
            }
        }
        let rows = RecordBatch::try_new(Arc::clone(&self.schema), row.finish()?)?;
        Ok(Rows { rows, certain, uncertain })
    }
}

/// Whether there is a map in it whose keys are no texts, as they are in JSON.
fn has_other_keys(type_: &DataType) -> bool {
    match type_ {
        DataType::Map(entries, _) => match entries.data_type() {
            DataType::Struct(parts) => {
                *parts[0].data_type() != DataType::Utf8 || has_other_keys(parts[1].data_type())
            }
            _ => true,
        },
        DataType::List(element) => has_other_keys(element.data_type()),
        DataType::Struct(fields) => fields.iter().any(|field| has_other_keys(field.data_type())),
        _ => false,
    }
}

fn read_one(
    row: &mut Object,
    record: &[u8],
    workspace: &mut Workspace,
) -> Result<(), Uncertain> {
    let mut scanner = Scanner::new(record);
    row.read(&mut scanner, workspace)?;
    scanner.skip_whitespace();
    if scanner.is_at_end() { Ok(()) } else { Err(Uncertain) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use arrow_array::cast::AsArray;
    use arrow_array::types::Int64Type;
    use arrow_schema::{DataType, Field, Schema};

    fn reader(skips_empty: bool) -> Reader {
        let place = Field::new("city", DataType::Utf8, false);
        let fields = vec![
            Field::new("id", DataType::Int64, false),
            Field::new("tags", DataType::List(Arc::new(Field::new("element", DataType::Utf8, true))), true),
            Field::new("place", DataType::Struct(vec![place].into()), true),
        ];
        Reader::new(Arc::new(Schema::new(fields)), Epochs::new(), skips_empty).unwrap()
    }

    fn read(reader: &Reader, records: &[&[u8]]) -> Rows {
        reader.read(&BinaryArray::from_iter_values(records)).unwrap()
    }

    #[test]
    fn what_is_left_of_an_uncertain_record_is_forgotten() {
        let good: &[u8] = br#"{"id":1,"tags":["a","b"],"place":{"city":"x"}}"#;
        let records: [&[u8]; 6] = [
            good,
            br#"{"id":2,"tags":["c","d"],"place":{"city":"y"},}"#,
            br#"{"id":2,"tags":["c","d"],"place":{"city":null}}"#,
            br#"{"place":{"city":"y"},"tags":["c",1]}"#,
            b"{\"id\":3,\"tags\":[\"\xff\"]}",
            good,
        ];
        let read = read(&reader(false), &records);
        assert_eq!((read.certain, read.uncertain), (vec![0, 5], vec![1, 2, 3, 4]));
        assert_eq!(read.rows.slice(0, 1), read.rows.slice(1, 1));
        assert_eq!(read.rows.column(1).as_list::<i32>().values().len(), 4);
    }

    #[test]
    fn a_character_that_two_records_share_makes_both_uncertain() {
        let read = read(&reader(false), &[b"{\"id\":1}\xc3", b"\xa4{\"id\":2}", b"{\"id\":3}"]);
        assert_eq!(read.uncertain, [0, 1]);
        assert_eq!(read.rows.column(0).as_primitive::<Int64Type>().value(0), 3);
    }

    #[test]
    fn unknown_fields_that_hold_nothing_are_left_out_only_where_that_is_wanted() {
        let records: [&[u8]; 6] = [
            br#"{"x":null,"id":1,"y":{ },"z":[ ],"place":{"q":[],"city":"a"}}"#,
            br#"{"id":1,"x":null,"x":{}}"#,
            br#"{"id":1,"x":[null]}"#,
            br#"{"id":1,"x":0}"#,
            br#"{"id":1,"x":nul}"#,
            br#"{"id":1,"x":null,"place":{"x":null,"city":"a"}}"#,
        ];
        assert_eq!(read(&reader(true), &records).certain, [0, 5]);
        assert_eq!(read(&reader(false), &records).certain, [0_i64; 0]);
    }

    #[test]
    fn a_name_that_needs_an_escape_is_not_read_without_it() {
        let fields = ["q\"", "b\\", "t\t"].map(|name| Field::new(name, DataType::Int64, true));
        let schema = Arc::new(Schema::new(fields.to_vec()));
        let reader = Reader::new(schema, Epochs::new(), false).unwrap();
        let records: [&[u8]; 4] = [
            br#"{"q\"":1,"b\\":2,"t\t":3}"#,
            br#"{"q"":1}"#,
            br#"{"q\"":1,"b\":2}"#,
            b"{\"q\\\"\":1,\"b\\\\\":2,\"t\t\":3}",
        ];
        assert_eq!(read(&reader, &records).certain, [0]);
    }

    #[test]
    fn a_type_that_json_has_not_is_refused() {
        let schema = Schema::new(vec![Field::new("x", DataType::Int8, true)]);
        assert!(Reader::new(Arc::new(schema), Epochs::new(), false).is_err());
        assert!(Reader::new(Arc::new(Schema::empty()), Epochs::new(), false).is_err());
    }
}
