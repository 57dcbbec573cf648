//! JSON values into columns: each column reads one value after the other.

use super::leaves;
use super::scanner::Scanner;
use crate::columns::{Column, LINEAR_KEYS_MAX, Object, Uncertain, Values, certain};

/// What reading a batch needs besides the text.
pub struct Workspace {
    /// Text without its escapes.
    pub scratch: Vec<u8>,
    /// Names of the empty unknown fields of the objects that are being read.
    pub unknown: Vec<Vec<u8>>,
    /// Whether unknown fields that hold nothing are left out.
    pub skips_empty: bool,
}

impl Object {
    /// Reads one object as one more value of each column.
    pub fn read(
        &mut self,
        scanner: &mut Scanner,
        workspace: &mut Workspace,
    ) -> Result<(), Uncertain> {
        scanner.expect(b'{')?;
        let unknown_before = workspace.unknown.len();
        if !scanner.take(b'}') {
            // Most producers write their fields in one order; most tables have the same.
            let mut next = 0;
            loop {
                if scanner.skip_whitespace() != Some(b'"') {
                    return Err(Uncertain);
                }
                match self.find(next, scanner, workspace)? {
                    Some(place) => {
                        let column = &mut self.columns[place];
                        if column.len > self.len {
                            return Err(Uncertain); // The key is there twice.
                        }
                        scanner.expect(b':')?;
                        scanner.skip_whitespace();
                        column.read(scanner, workspace)?;
                        next = place + 1;
                    }
                    None => skip_empty(scanner, workspace, unknown_before)?,
                }
                if !scanner.take(b',') {
                    scanner.expect(b'}')?;
                    break;
                }
            }
        }
        workspace.unknown.truncate(unknown_before);
        for column in &mut self.columns {
            if column.len == self.len {
                column.push_missing()?;
            }
        }
        self.len += 1;
        Ok(())
    }

    /// The place of the field whose key comes next; `None` for one that may be left out.
    #[inline]
    fn find(
        &self,
        guess: usize,
        scanner: &mut Scanner,
        workspace: &mut Workspace,
    ) -> Result<Option<usize>, Uncertain> {
        if let Some(Some(quoted)) = self.names.quoted.get(guess) {
            if scanner.take_text(quoted) {
                return Ok(Some(guess));
            }
        }
        let name = scanner.string(&mut workspace.scratch)?;
        match self.names.find(name) {
            Some(place) => Ok(Some(place)),
            None if workspace.skips_empty => {
                workspace.unknown.push(name.to_vec());
                Ok(None)
            }
            None => Err(Uncertain),
        }
    }
}

/// Leaves out an unknown field that holds nothing: null, `{}` or `[]`.
fn skip_empty(
    scanner: &mut Scanner,
    workspace: &mut Workspace,
    unknown_before: usize,
) -> Result<(), Uncertain> {
    let (name, earlier) = workspace.unknown[unknown_before..].split_last().ok_or(Uncertain)?;
    if earlier.contains(name) || earlier.len() >= LINEAR_KEYS_MAX {
        return Err(Uncertain);
    }
    scanner.expect(b':')?;
    let is_empty = match scanner.skip_whitespace() {
        Some(b'n') => scanner.take_text(b"null"),
        Some(b'{') => scanner.take(b'{') && scanner.take(b'}'),
        Some(b'[') => scanner.take(b'[') && scanner.take(b']'),
        _ => false,
    };
    if is_empty { Ok(()) } else { Err(Uncertain) }
}

impl Column {
    #[inline]
    fn read(
        &mut self,
        scanner: &mut Scanner,
        workspace: &mut Workspace,
    ) -> Result<(), Uncertain> {
        if scanner.peek() == Some(b'n') {
            if !scanner.take_text(b"null") {
                return Err(Uncertain);
            }
            return self.push_missing();
        }
        self.values.read(scanner, workspace)?;
        self.added();
        Ok(())
    }

    #[inline]
    fn push_missing(&mut self) -> Result<(), Uncertain> {
        if self.is_required {
            return Err(Uncertain);
        }
        self.push_null();
        Ok(())
    }
}

impl Values {
    /// Reads one value that does not begin with `n`.
    #[inline]
    fn read(
        &mut self,
        scanner: &mut Scanner,
        workspace: &mut Workspace,
    ) -> Result<(), Uncertain> {
        match self {
            Self::Text(texts) => texts.push(scanner.string(&mut workspace.scratch)?),
            Self::Int64(values) => values.push(scanner.integer()?),
            Self::Int32(values) => {
                values.push(i32::try_from(scanner.integer()?).map_err(|_| Uncertain)?);
            }
            Self::Float64(values) => values.push(certain(leaves::double(scanner.number()?))?),
            Self::Float32(values) => values.push(certain(leaves::float(scanner.number()?))?),
            Self::Boolean(values) => {
                let is_true = scanner.take_text(b"true");
                if !is_true && !scanner.take_text(b"false") {
                    return Err(Uncertain);
                }
                values.append(is_true);
            }
            Self::Decimal { values, precision, scale } => {
                let text = match scanner.peek() {
                    Some(b'"') => scanner.string(&mut workspace.scratch)?,
                    _ => scanner.number()?,
                };
                values.push(certain(leaves::decimal(text, *precision, *scale))?);
            }
            Self::Timestamp { values, has_zone } => {
                let text = scanner.string(&mut workspace.scratch)?;
                values.push(certain(leaves::timestamp(text, *has_zone))?);
            }
            Self::Epoch { values, unit_microseconds } => {
                let microseconds = scanner.integer()?.checked_mul(*unit_microseconds);
                values.push(certain(microseconds.and_then(leaves::in_years))?);
            }
            Self::Date(values) => {
                values.push(certain(leaves::date(scanner.string(&mut workspace.scratch)?))?);
            }
            Self::Time(values) => {
                values.push(certain(leaves::time(scanner.string(&mut workspace.scratch)?))?);
            }
            Self::Uuid(bytes) => {
                let uuid = certain(leaves::uuid(scanner.string(&mut workspace.scratch)?))?;
                bytes.extend_from_slice(&uuid);
            }
            Self::Fixed { bytes, width } => {
                let before = bytes.len();
                certain(leaves::base64(scanner.string(&mut workspace.scratch)?, bytes))?;
                if bytes.len() - before != *width {
                    return Err(Uncertain);
                }
            }
            Self::Binary(texts) => {
                let text = scanner.string(&mut workspace.scratch)?;
                certain(leaves::base64(text, &mut texts.bytes))?;
                texts.close();
            }
            Self::Struct(object) => object.read(scanner, workspace)?,
            Self::List { offsets, element } => {
                scanner.expect(b'[')?;
                if !scanner.take(b']') {
                    loop {
                        scanner.skip_whitespace();
                        element.read(scanner, workspace)?;
                        if !scanner.take(b',') {
                            scanner.expect(b']')?;
                            break;
                        }
                    }
                }
                offsets.push(element.len as i32);
            }
            Self::Map { offsets, entries } => {
                let [keys, value] = &mut **entries;
                let Values::Text(texts) = &mut keys.values else { return Err(Uncertain) };
                scanner.expect(b'{')?;
                if !scanner.take(b'}') {
                    loop {
                        scanner.skip_whitespace();
                        texts.push(scanner.string(&mut workspace.scratch)?);
                        scanner.expect(b':')?;
                        scanner.skip_whitespace();
                        value.read(scanner, workspace)?;
                        if !scanner.take(b',') {
                            scanner.expect(b'}')?;
                            break;
                        }
                    }
                }
                let first = keys.len;
                keys.nulls.append_n_non_nulls(value.len - first);
                keys.len = value.len;
                if keys.has_equal(first)? {
                    return Err(Uncertain);
                }
                offsets.push(value.len as i32);
            }
        }
        Ok(())
    }
}
