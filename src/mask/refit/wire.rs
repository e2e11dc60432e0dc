//! Protocol buffers as bytes on the wire: as much as it takes to change a few fields of a message and keep the rest.

/// What a field holds.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Value<'a> {
    Varint(u64),
    /// Bytes, a text or a message.
    Bytes(&'a [u8]),
    /// A fixed number of 4 or 8 bytes.
    Fixed(&'a [u8]),
}

/// What becomes of a field.
pub(super) enum Edit {
    Keep,
    Drop,
    Varint(u64),
    Bytes(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Field<'a> {
    pub(super) number: u64,
    pub(super) value: Value<'a>,
    /// The whole field as it is written.
    pub(super) raw: &'a [u8],
}

/// The fields of a message, in their order; an error ends it.
pub(super) fn fields(message: &[u8]) -> impl Iterator<Item = Result<Field<'_>, String>> {
    let mut rest = message;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let field = take(&mut rest).ok_or_else(|| "a field is cut off".to_owned());
        if field.is_err() {
            rest = &[];
        }
        Some(field)
    })
}

/// The values of the fields with one number.
pub(super) fn all(message: &[u8], number: u64) -> impl Iterator<Item = Value<'_>> {
    fields(message).flatten().filter(move |f| f.number == number).map(|f| f.value)
}

/// The first such field, as bytes.
pub(super) fn bytes(message: &[u8], number: u64) -> Option<&[u8]> {
    all(message, number).find_map(|v| if let Value::Bytes(b) = v { Some(b) } else { None })
}

/// The first such field, as a number.
pub(super) fn number(message: &[u8], number: u64) -> Option<u64> {
    all(message, number).find_map(|v| if let Value::Varint(n) = v { Some(n) } else { None })
}

/// Repeated numbers, packed or not.
pub(super) fn numbers(message: &[u8], number: u64) -> Vec<u64> {
    let mut out = Vec::new();
    for value in all(message, number) {
        match value {
            Value::Varint(n) => out.push(n),
            Value::Bytes(mut packed) => out.extend(std::iter::from_fn(|| varint(&mut packed))),
            Value::Fixed(_) => {}
        }
    }
    out
}

/// Writes a message anew, with the fields that `edit` changes.
pub(super) fn rewrite(
    message: &[u8],
    mut edit: impl FnMut(Field<'_>) -> Result<Edit, String>,
) -> Result<Vec<u8>, String> {
    let mut out = Vec::with_capacity(message.len() + 16);
    for field in fields(message) {
        let field = field?;
        match edit(field)? {
            Edit::Keep => out.extend_from_slice(field.raw),
            Edit::Drop => {}
            Edit::Varint(n) => {
                write_varint(&mut out, field.number << 3);
                write_varint(&mut out, n);
            }
            Edit::Bytes(bytes) => {
                write_varint(&mut out, field.number << 3 | 2);
                write_varint(&mut out, bytes.len() as u64);
                out.extend_from_slice(&bytes);
            }
        }
    }
    Ok(out)
}

fn write_varint(out: &mut Vec<u8>, mut n: u64) {
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
}

fn varint(rest: &mut &[u8]) -> Option<u64> {
    let mut n = 0;
    for shift in (0..64).step_by(7) {
        let byte = *rest.split_off_first()?;
        n |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(n);
        }
    }
    None
}

fn take<'a>(rest: &mut &'a [u8]) -> Option<Field<'a>> {
    let whole = *rest;
    let key = varint(rest)?;
    let value = match key & 7 {
        0 => Value::Varint(varint(rest)?),
        1 => Value::Fixed(rest.split_off(..8)?),
        2 => {
            let length = usize::try_from(varint(rest)?).ok()?;
            Value::Bytes(rest.split_off(..length)?)
        }
        5 => Value::Fixed(rest.split_off(..4)?),
        _ => return None,
    };
    Some(Field { number: key >> 3, value, raw: &whole[..whole.len() - rest.len()] })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_read_changed_and_kept() {
        // 1: 300; 2: "ab"; 3: a float; 4: packed 1, 2.
        let message =
            [&[0x08, 0xac, 0x02, 0x12, 2, b'a', b'b', 0x1d][..], &1f32.to_le_bytes(), &[0x22, 2, 1, 2]].concat();
        assert_eq!(number(&message, 1), Some(300));
        assert_eq!(bytes(&message, 2), Some(&b"ab"[..]));
        assert_eq!(numbers(&message, 4), [1, 2]);
        assert_eq!(fields(&message).count(), 4);
        let same = rewrite(&message, |_| Ok(Edit::Keep)).unwrap();
        assert_eq!(same, message);
        let other = rewrite(&message, |f| {
            Ok(match f.number {
                1 => Edit::Varint(7),
                2 => Edit::Bytes(vec![b'x'; 200]),
                3 => Edit::Drop,
                _ => Edit::Keep,
            })
        })
        .unwrap();
        assert_eq!(number(&other, 1), Some(7));
        assert_eq!(bytes(&other, 2), Some(&[b'x'; 200][..]));
        assert_eq!((number(&other, 3), numbers(&other, 4)), (None, vec![1, 2]));
    }

    #[test]
    fn what_is_cut_off_is_an_error() {
        for message in [&[0x08][..], &[0x12, 5, b'a'], &[0x0d, 0, 0], &[0x0b], &[0xff; 12]] {
            assert!(fields(message).any(|f| f.is_err()), "{message:?}");
            assert!(rewrite(message, |_| Ok(Edit::Keep)).is_err());
        }
    }
}
