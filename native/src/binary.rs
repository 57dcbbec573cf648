//! What Avro and Protobuf have in common: numbers and spans of bytes, and the records of a batch.
//!
//! As in `json`, what is not a row for certain goes to the Python decoder, and nothing here may be
//! more tolerant than `k2i_core/decode`.

#![forbid(unsafe_code)]

use arrow_array::RecordBatch;
use arrow_schema::{ArrowError, SchemaRef};

use crate::columns::{BATCH_BYTES_MAX, Column, Epochs, Object, Room, Rows, Uncertain, Values};

const VARINT_BYTES_MAX: usize = 10;
const CONTINUED: u8 = 0x80;

/// One record, or a part of it, from left to right.
pub struct Bytes<'a> {
    rest: &'a [u8],
}

impl<'a> Bytes<'a> {
    pub fn new(rest: &'a [u8]) -> Self {
        Self { rest }
    }

    #[inline(always)]
    pub fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    pub fn len(&self) -> usize {
        self.rest.len()
    }

    /// An unsigned number of at most 64 bits, seven bits a byte, lowest first.
    #[inline(always)]
    pub fn varint(&mut self) -> Result<u64, Uncertain> {
        match self.rest.split_first() {
            Some((&only, rest)) if only < CONTINUED => {
                self.rest = rest;
                Ok(u64::from(only))
            }
            _ => self.long_varint(),
        }
    }

    #[inline]
    fn long_varint(&mut self) -> Result<u64, Uncertain> {
        let mut number = 0;
        for (place, &byte) in self.rest.iter().take(VARINT_BYTES_MAX).enumerate() {
            if place + 1 == VARINT_BYTES_MAX && byte > 1 {
                break;
            }
            number |= u64::from(byte & !CONTINUED) << (7 * place);
            if byte < CONTINUED {
                self.rest = &self.rest[place + 1..];
                return Ok(number);
            }
        }
        Err(Uncertain)
    }

    /// A signed number of at most 64 bits, the small ones of either sign in few bytes.
    #[inline(always)]
    pub fn zigzag(&mut self) -> Result<i64, Uncertain> {
        let number = self.varint()?;
        Ok((number >> 1) as i64 ^ -((number & 1) as i64))
    }

    #[inline(always)]
    pub fn span(&mut self, byte_count: u64) -> Result<&'a [u8], Uncertain> {
        let byte_count = usize::try_from(byte_count).map_err(|_| Uncertain)?;
        let (span, rest) = self.rest.split_at_checked(byte_count).ok_or(Uncertain)?;
        self.rest = rest;
        Ok(span)
    }

    #[inline(always)]
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Uncertain> {
        let (array, rest) = self.rest.split_first_chunk().ok_or(Uncertain)?;
        self.rest = rest;
        Ok(*array)
    }
}

/// One more text, if it is one.
#[inline(always)]
pub fn push_text(column: &mut Column, text: &[u8]) -> Result<(), Uncertain> {
    let Values::Text(texts) = &mut column.values else { return Err(Uncertain) };
    texts.push(std::str::from_utf8(text).map_err(|_| Uncertain)?.as_bytes());
    column.added();
    Ok(())
}

/// One more text that is not in the record, but named by it.
#[inline(always)]
pub fn push_symbol(column: &mut Column, symbol: &str) -> Result<(), Uncertain> {
    let Values::Text(texts) = &mut column.values else { return Err(Uncertain) };
    // A byte may name a long text.
    if texts.bytes.len() + symbol.len() > BATCH_BYTES_MAX {
        return Err(Uncertain);
    }
    texts.push(symbol.as_bytes());
    column.added();
    Ok(())
}

/// How one record becomes one more value of each column.
pub trait Plan: Send + Sync {
    fn read(&self, row: &mut Object, record: &[u8]) -> Result<(), Uncertain>;
}

/// Reads records of one writer's schema.
pub struct Reader {
    schema: SchemaRef,
    row: Object,
    plan: Box<dyn Plan>,
}

impl Reader {
    /// An error says which type is not read here.
    pub fn new(schema: SchemaRef, plan: Box<dyn Plan>) -> Result<Self, String> {
        let row = Object::new(schema.fields(), "", &mut Epochs::new())?;
        Ok(Self { schema, row, plan })
    }

    /// Reads n records that lie in `bytes`.
    pub fn read(&self, bytes: &[u8], starts: &[i64], ends: &[i64]) -> Result<Rows, ArrowError> {
        if bytes.len() > BATCH_BYTES_MAX {
            return Err(ArrowError::OffsetOverflowError(bytes.len()));
        }
        let mut row = self.row.fresh(Room { count: starts.len(), byte_count: bytes.len() });
        let mut certain = Vec::with_capacity(starts.len());
        let mut uncertain = Vec::new();
        for (index, (&start, &end)) in starts.iter().zip(ends).enumerate() {
            let record = bytes.get(start as usize..end as usize).ok_or_else(|| {
                ArrowError::InvalidArgumentError("a record outside of the bytes".to_owned())
            })?;
            let count = row.len;
            if self.plan.read(&mut row, record).is_ok() {
                row.len += 1;
                certain.push(index as i64);
            } else {
                row.truncate(count);
                uncertain.push(index as i64);
            }
        }
        let rows = RecordBatch::try_new(self.schema.clone(), row.finish()?)?;
        Ok(Rows { rows, certain, uncertain })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn varint(bytes: &[u8]) -> Result<u64, Uncertain> {
        let mut bytes = Bytes::new(bytes);
        let number = bytes.varint()?;
        if bytes.is_empty() { Ok(number) } else { Err(Uncertain) }
    }

    #[test]
    fn numbers_end_where_64_bits_end() {
        assert_eq!(varint(&[0]), Ok(0));
        assert_eq!(varint(&[0x96, 1]), Ok(150));
        assert_eq!(varint(&[0x80, 0]), Ok(0));
        assert_eq!(varint(&[[0xff; 9].as_slice(), &[1]].concat()), Ok(u64::MAX));
        for bytes in [
            &[][..],
            &[0x80],
            &[[0xff; 9].as_slice(), &[2]].concat(),
            &[[0x80; 10].as_slice(), &[0]].concat(),
        ] {
            assert_eq!(varint(bytes), Err(Uncertain), "{bytes:?}");
        }
    }

    #[test]
    fn a_span_ends_inside() {
        let mut bytes = Bytes::new(b"abc");
        assert_eq!(bytes.span(2), Ok(&b"ab"[..]));
        assert_eq!(bytes.span(2), Err(Uncertain));
        assert_eq!(bytes.span(u64::MAX), Err(Uncertain));
        assert_eq!(bytes.array::<2>(), Err(Uncertain));
        assert_eq!(bytes.span(1), Ok(&b"c"[..]));
        assert!(bytes.is_empty());
    }
}
