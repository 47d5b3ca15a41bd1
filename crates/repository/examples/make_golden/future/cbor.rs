//! Structures as the format page describes them, with more in them than version 1 knows.

/// A value of RFC 8949 in definite-length form.
#[derive(Clone, Debug)]
pub(crate) enum Value {
    Number(u64),
    Bytes(Vec<u8>),
    Text(String),
    Bool(bool),
    Array(Vec<Value>),
    Map(Vec<(Value, Value)>),
    /// Already encoded.
    Raw(&'static [u8]),
}

impl From<u64> for Value {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&[u8]> for Value {
    fn from(bytes: &[u8]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl<const N: usize> From<&[u8; N]> for Value {
    fn from(bytes: &[u8; N]) -> Self {
        Self::Bytes(bytes.to_vec())
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.into())
    }
}

/// A map with small integer keys, and two more that no reader of version 1 knows.
pub(crate) fn structure(known: impl IntoIterator<Item = (u64, Value)>) -> Value {
    let numbered = |(key, value)| (Value::Number(key), value);
    let mut pairs: Vec<(Value, Value)> = known.into_iter().map(numbered).collect();
    pairs.push((Value::Number(90), unknown()));
    pairs.push((Value::Number(1000), Value::Raw(b"\xf6"))); // null
    Value::Map(pairs)
}

/// An array with fixed positions, and two more behind them.
pub(crate) fn positions(known: impl IntoIterator<Item = Value>) -> Value {
    let mut values: Vec<Value> = known.into_iter().collect();
    values.push(unknown());
    values.push(Value::Number(7));
    Value::Array(values)
}

/// A map of texts, whose keys are content.
pub(crate) fn texts(pairs: &[(&str, &str)]) -> Value {
    Value::Map(pairs.iter().map(|(key, value)| ((*key).into(), (*value).into())).collect())
}

/// Something to skip: nested, with a tag, a float and a negative number.
fn unknown() -> Value {
    Value::Array(vec![
        Value::Map(vec![("from".into(), "the future".into()), ("n".into(), 1.into())]),
        Value::Raw(b"\xc1\xfb\x41\xd4\x52\xd9\xe8\x00\x00\x00"), // tag 1, a double
        Value::Raw(b"\x39\x03\xe7"),                             // -1000
    ])
}

impl Value {
    /// The value's bytes.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut out = Vec::new();
        self.write(&mut out);
        out
    }

    fn write(&self, out: &mut Vec<u8>) {
        match self {
            Self::Number(number) => head(out, 0, *number),
            Self::Bytes(bytes) => {
                head(out, 2, bytes.len() as u64);
                out.extend_from_slice(bytes);
            }
            Self::Text(text) => {
                head(out, 3, text.len() as u64);
                out.extend_from_slice(text.as_bytes());
            }
            Self::Bool(value) => out.push(if *value { 0xf5 } else { 0xf4 }),
            Self::Array(values) => {
                head(out, 4, values.len() as u64);
                values.iter().for_each(|value| value.write(out));
            }
            Self::Map(pairs) => {
                head(out, 5, pairs.len() as u64);
                for (key, value) in pairs {
                    key.write(out);
                    value.write(out);
                }
            }
            Self::Raw(bytes) => out.extend_from_slice(bytes),
        }
    }
}

/// Major type and argument in the shortest form.
fn head(out: &mut Vec<u8>, major: u8, argument: u64) {
    let bytes = argument.to_be_bytes();
    let (short, len) = match argument {
        0..=23 => return out.push(major << 5 | bytes[7]),
        24..=0xff => (24, 1),
        0x100..=0xffff => (25, 2),
        0x1_0000..=0xffff_ffff => (26, 4),
        _ => (27, 8),
    };
    out.push(major << 5 | short);
    out.extend_from_slice(&bytes[8 - len..]);
}
