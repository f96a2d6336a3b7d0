//! JSON as the original writes and reads it: Go's `encoding/json` (HP §0).
//!
//! Invariants: what [`encode`] writes is byte for byte what Go writes for the same data; [`decode`] never panics, takes
//! keys in any case, ignores unknown ones, leaves a field alone at `null`, and its error texts are Go's wherever one
//! of its clients may see them.

mod syntax;

use serde::Serialize;
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;
use serde_json::ser::{CharEscape, Formatter};
use std::fmt;
use std::io;

/// The largest payload that is looked at; a longer one is refused unread (spec §8).
pub const MAX_PAYLOAD: usize = 256 * 1024;

/// Why a payload is not what it should be. The texts follow `failed unmarshal request: ` in replies.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// It is not JSON; Go's wording.
    #[error("{0}")]
    Syntax(String),
    /// It is JSON of another type; Go's wording.
    #[error("json: cannot unmarshal {found} into Go {target}")]
    Type {
        /// What it is: `string`, `number 12.5`, ….
        found: String,
        /// Where it should have gone: `value of type launcherapi.ListArgs`, `struct field ListArgs.name of type string`.
        target: String,
    },
    /// It is longer than [`MAX_PAYLOAD`].
    #[error("payload of {length} bytes exceeds the limit of {MAX_PAYLOAD}")]
    TooLong {
        /// Its length in bytes.
        length: usize,
    },
    /// It is not UTF-8.
    #[error("payload is not valid UTF-8")]
    NotUtf8,
}

/// A value that does not fit where it should go; the place is added on the way up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    found: String,
    wanted: String,
    field: Option<String>,
}

impl Mismatch {
    fn new(found: &Value, wanted: &str) -> Self {
        Mismatch {
            found: found_word(found),
            wanted: wanted.to_owned(),
            field: None,
        }
    }

    /// The same, inside field `name` of `structure`; an inner place that is known already wins, as in Go.
    #[must_use]
    pub fn in_field(mut self, structure: &str, name: &str) -> Self {
        self.field = Some(match self.field {
            None => format!("{structure}.{name}"),
            Some(inner) => inner,
        });
        self
    }
}

impl From<Mismatch> for DecodeError {
    fn from(mismatch: Mismatch) -> Self {
        DecodeError::Type {
            found: mismatch.found,
            target: match mismatch.field {
                Some(field) => format!("struct field {field} of type {}", mismatch.wanted),
                None => format!("value of type {}", mismatch.wanted),
            },
        }
    }
}

/// Go's word for what a value is; a number with its digits when it does not fit an integer.
fn found_word(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(_) => "bool".to_owned(),
        Value::Number(_) => "number".to_owned(),
        Value::String(_) => "string".to_owned(),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// Something a JSON value can be stored into, by Go's rules.
pub trait GoValue {
    /// Takes over what `value` says; `null` changes nothing.
    ///
    /// # Errors
    /// The value is of another type.
    fn set(&mut self, value: &Raw) -> Result<(), Mismatch>;
}

/// A struct of the original with its fields.
pub trait GoStruct: Default {
    /// The type's name as Go's errors give it, `launcherapi.ListArgs`.
    const GO_TYPE: &'static str;

    /// The field of that JSON key, compared by `same`; none when there is none.
    fn field(&mut self, same: &dyn Fn(&str) -> bool) -> Option<(&'static str, &mut dyn GoValue)>;
}

/// A JSON value whose objects keep the order and the doubles of their keys, as Go reads them one after the other.
#[derive(Debug, Clone, PartialEq)]
pub enum Raw {
    /// Anything but an object or an array that holds one.
    Plain(Value),
    /// An array.
    Array(Vec<Raw>),
    /// An object.
    Object(Vec<(String, Raw)>),
}

impl Raw {
    /// The same as a common JSON value; of a key that occurs twice the last counts.
    #[must_use]
    pub fn to_value(&self) -> Value {
        match self {
            Raw::Plain(value) => value.clone(),
            Raw::Array(items) => Value::Array(items.iter().map(Raw::to_value).collect()),
            Raw::Object(entries) => Value::Object(
                entries
                    .iter()
                    .map(|(key, value)| (key.clone(), value.to_value()))
                    .collect(),
            ),
        }
    }

    fn is_null(&self) -> bool {
        *self == Raw::Plain(Value::Null)
    }

    fn mismatch(&self, wanted: &str) -> Mismatch {
        match self {
            Raw::Plain(value) => Mismatch::new(value, wanted),
            Raw::Array(_) => Mismatch::new(&Value::Array(Vec::new()), wanted),
            Raw::Object(_) => Mismatch::new(&Value::Object(serde_json::Map::new()), wanted),
        }
    }
}

struct RawVisitor;

impl<'de> Visitor<'de> for RawVisitor {
    type Value = Raw;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Raw, E> {
        Ok(Raw::Plain(Value::Null))
    }

    fn visit_bool<E>(self, value: bool) -> Result<Raw, E> {
        Ok(Raw::Plain(Value::Bool(value)))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.into()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.into()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Raw, E> {
        Ok(Raw::Plain(value.into()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Raw, E> {
        Ok(Raw::Plain(Value::String(value.to_owned())))
    }

    fn visit_string<E>(self, value: String) -> Result<Raw, E> {
        Ok(Raw::Plain(Value::String(value)))
    }

    fn visit_seq<A: serde::de::SeqAccess<'de>>(self, mut seq: A) -> Result<Raw, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element()? {
            items.push(item);
        }
        Ok(Raw::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Raw, A::Error> {
        let mut entries = Vec::new();
        while let Some(entry) = map.next_entry()? {
            entries.push(entry);
        }
        Ok(Raw::Object(entries))
    }
}

impl<'de> Deserialize<'de> for Raw {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Raw, D::Error> {
        deserializer.deserialize_any(RawVisitor)
    }
}

impl GoValue for String {
    fn set(&mut self, value: &Raw) -> Result<(), Mismatch> {
        if value.is_null() {
            return Ok(());
        }
        let Raw::Plain(Value::String(text)) = value else {
            return Err(value.mismatch("string"));
        };
        text.clone_into(self);
        Ok(())
    }
}

impl GoValue for bool {
    fn set(&mut self, value: &Raw) -> Result<(), Mismatch> {
        if value.is_null() {
            return Ok(());
        }
        let Raw::Plain(Value::Bool(flag)) = value else {
            return Err(value.mismatch("bool"));
        };
        *self = *flag;
        Ok(())
    }
}

impl GoValue for i64 {
    fn set(&mut self, value: &Raw) -> Result<(), Mismatch> {
        if value.is_null() {
            return Ok(());
        }
        let Raw::Plain(Value::Number(number)) = value else {
            return Err(value.mismatch("int"));
        };
        let Some(number) = number.as_i64() else {
            let mut mismatch = value.mismatch("int");
            mismatch.found = format!("number {number}");
            return Err(mismatch);
        };
        *self = number;
        Ok(())
    }
}

/// An object of anything, as `Limits` is.
impl GoValue for serde_json::Map<String, Value> {
    fn set(&mut self, value: &Raw) -> Result<(), Mismatch> {
        if value.is_null() {
            return Ok(());
        }
        let Raw::Object(entries) = value else {
            return Err(value.mismatch("map[string]interface {}"));
        };
        for (key, value) in entries {
            self.insert(key.clone(), value.to_value());
        }
        Ok(())
    }
}

impl<T: GoValue + Default> GoValue for Vec<T> {
    fn set(&mut self, value: &Raw) -> Result<(), Mismatch> {
        if value.is_null() {
            self.clear();
            return Ok(());
        }
        let Raw::Array(items) = value else {
            return Err(value.mismatch("[]string"));
        };
        let mut taken = Vec::with_capacity(items.len());
        for item in items {
            let mut one = T::default();
            one.set(item)?;
            taken.push(one);
        }
        *self = taken;
        Ok(())
    }
}

impl<T: GoStruct> GoValue for T {
    fn set(&mut self, value: &Raw) -> Result<(), Mismatch> {
        if value.is_null() {
            return Ok(());
        }
        let Raw::Object(entries) = value else {
            return Err(value.mismatch(T::GO_TYPE));
        };
        let name = T::GO_TYPE.rsplit('.').next().unwrap_or_default();
        let mut first = None;
        for (key, value) in entries {
            let exact = |field: &str| field == key;
            let folded = |field: &str| field.eq_ignore_ascii_case(key);
            // Exact first, then in any case; looked up twice as both borrow the whole struct.
            let known = self.field(&exact).is_some();
            let found = if known {
                self.field(&exact)
            } else {
                self.field(&folded)
            };
            let Some((field, target)) = found else {
                continue;
            };
            // Go goes on after a mismatch and reports the first.
            if let Err(mismatch) = target.set(value) {
                first.get_or_insert(mismatch.in_field(name, field));
            }
        }
        first.map_or(Ok(()), Err)
    }
}

/// Reads a payload the Go way into a new `T`.
///
/// # Errors
/// It is too long, not UTF-8, not JSON (an empty one too), or JSON of another type.
pub fn decode<T: GoValue + Default>(payload: &[u8]) -> Result<T, DecodeError> {
    if payload.len() > MAX_PAYLOAD {
        return Err(DecodeError::TooLong {
            length: payload.len(),
        });
    }
    decode_reply(payload)
}

/// As [`decode`], for replies that were asked for, which may be long.
///
/// # Errors
/// As [`decode`], without a limit of the length.
pub fn decode_reply<T: GoValue + Default>(payload: &[u8]) -> Result<T, DecodeError> {
    let text = std::str::from_utf8(payload).map_err(|_| DecodeError::NotUtf8)?;
    let raw: Raw = serde_json::from_str(text)
        .map_err(|error| DecodeError::Syntax(syntax::in_the_words_of_go(text, &error)))?;
    let mut value = T::default();
    value.set(&raw)?;
    Ok(value)
}

/// Writes `value` as Go does: compact, `<`, `>`, `&`, U+2028 and U+2029 as `\u….`.
///
/// Empty when `value` cannot be JSON, which none of this crate's types is.
#[must_use]
pub fn encode<T: Serialize + ?Sized>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(128);
    let mut serializer = serde_json::Serializer::with_formatter(&mut bytes, GoFormatter);
    match value.serialize(&mut serializer) {
        Ok(()) => bytes,
        Err(_) => Vec::new(),
    }
}

struct GoFormatter;

impl Formatter for GoFormatter {
    fn write_string_fragment<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        fragment: &str,
    ) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(['<', '>', '&', '\u{2028}', '\u{2029}']) {
            let (plain, tail) = rest.split_at(at);
            writer.write_all(plain.as_bytes())?;
            let mut chars = tail.chars();
            if let Some(special) = chars.next() {
                write!(writer, "\\u{:04x}", u32::from(special))?;
            }
            rest = chars.as_str();
        }
        writer.write_all(rest.as_bytes())
    }

    fn write_char_escape<W: io::Write + ?Sized>(
        &mut self,
        writer: &mut W,
        escape: CharEscape,
    ) -> io::Result<()> {
        match escape {
            CharEscape::Quote => writer.write_all(b"\\\""),
            CharEscape::ReverseSolidus => writer.write_all(b"\\\\"),
            CharEscape::Solidus => writer.write_all(b"/"),
            CharEscape::LineFeed => writer.write_all(b"\\n"),
            CharEscape::CarriageReturn => writer.write_all(b"\\r"),
            CharEscape::Tab => writer.write_all(b"\\t"),
            // Go before 1.22 has no short form of these.
            CharEscape::Backspace => writer.write_all(b"\\u0008"),
            CharEscape::FormFeed => writer.write_all(b"\\u000c"),
            CharEscape::AsciiControl(byte) => write!(writer, "\\u{byte:04x}"),
        }
    }
}

/// Declares a struct of the original with its JSON keys in Go's order; it writes itself with serde, and reads itself
/// by [`GoStruct`] and, where a file holds it, by serde.
macro_rules! go_struct {
    ($(#[$meta:meta])* pub struct $name:ident: $go:literal { $($(#[$field_meta:meta])* $field:ident: $ty:ty => $key:literal,)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(default)]
        pub struct $name { $($(#[$field_meta])* #[serde(rename = $key)] pub $field: $ty,)* }

        impl $crate::golang::GoStruct for $name {
            const GO_TYPE: &'static str = $go;
            fn field(&mut self, same: &dyn Fn(&str) -> bool) -> Option<(&'static str, &mut dyn $crate::golang::GoValue)> {
                $(if same($key) { return Some(($key, &mut self.$field)); })*
                None
            }
        }
    };
}
pub(crate) use go_struct;

#[cfg(test)]
mod tests;
