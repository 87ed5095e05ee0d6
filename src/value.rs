//! A session field's value to the text of one Redis hash field, and back.
//!
//! - A value that serializes to a string is stored as that text, bare: `abdullah`, not `"abdullah"`. Everything else
//!   is compact JSON: `3`, `true`, `null`, `{"a":1}`.
//! - Reading follows the type that is read, so a `String` comes back whatever its text looks like (`3`, `null`, `{}`).
//! - `None` is `null`. For `Some("null")` to be something else it is quoted, `"null"`; and for `Some("\"null\"")` to be
//!   something else again, so is every text that is itself the quoted form of such a text. All else in a `Some` is bare.
//! - In the same way, a unit variant whose name begins with `{` is quoted, for it to differ from a variant with data.
//! - A type that takes what there is (`serde_json::Value`, an untagged enum) is given JSON where the text is an object,
//!   an array, or exactly what serde_json writes for a number, a boolean or null; else a string. `1.10` is a string: as
//!   a number it would lose its zero. So is `"q"`: its quotes are part of it. If the type refuses the one, it is given
//!   the other.
//!
//! What such a type cannot know is whether `3` was written as a number or as a string: `Value::String("3")` comes back
//! as `Value::Number(3)`, and likewise any string that is also the text of something else. As everywhere in serde's
//! JSON, `Some(None)` and `Some(())` come back as `None`. NaN and the infinities are refused where they are the value
//! itself; deeper, in a struct or a `Vec`, serde_json writes `null` for them.

use std::{borrow::Cow, cell::Cell, fmt};

use bytes::Bytes;
use serde::{
    Serialize, Serializer,
    de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor},
    ser::Error as _,
};
use serde_json::{Error, de::StrRead};

#[cfg(test)]
mod tests;

/// The text to store for `value`.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, Error> {
    let mut json = Json::new(Vec::new());
    let mut bare = None;
    value.serialize(Writer {
        json: &mut json,
        bare: &mut bare,
        in_some: false,
    })?;
    // Boxed first: `Bytes` would pay for a `Vec`'s spare capacity with one more allocation, and keep it.
    Ok(bare.unwrap_or_else(|| json.into_inner().into_boxed_slice().into()))
}

/// The value that `text` stands for.
pub(crate) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let unquoted = unquote(text, is_null);
    let any_is_json = Cell::new(None);
    let read = || {
        T::deserialize(Reader {
            text,
            unquoted: unquoted.as_deref(),
            is_string: false,
            any_is_json: &any_is_json,
        })
    };
    match (read(), any_is_json.get()) {
        // `T` takes what there is, but not what it was given. If it takes neither, the first error is the telling one.
        // JSON all the same, which serde_json does not read: as a string it would be taken for another value.
        (Err(first), Some(true)) if first.to_string().starts_with("recursion limit") => Err(first),
        (Err(first), Some(was_json)) => {
            any_is_json.set(Some(!was_json));
            read().map_err(|_| first)
        }
        (result, _) => result,
    }
}

/// `null` is what a `None` is stored as.
fn is_null(text: &str) -> bool {
    text == "null"
}

/// An object is what an enum's variant with data is stored as.
fn is_object(text: &str) -> bool {
    text.starts_with('{')
}

/// Whether `text` cannot be stored bare: it is `taken`, or is what such a text is stored as, at any number of removes.
fn must_quote(text: &str, taken: fn(&str) -> bool) -> bool {
    let mut text = Cow::Borrowed(text);
    // A loop, not a recursion: the depth is in the hands of whoever wrote the text.
    while !taken(&text) {
        match string_literal(&text) {
            Some(content) => text = Cow::Owned(content),
            None => return false,
        }
    }
    true
}

/// What was quoted because of [`must_quote`]; `None` for a text that was stored bare.
fn unquote(text: &str, taken: fn(&str) -> bool) -> Option<String> {
    string_literal(text).filter(|content| must_quote(content, taken))
}

fn string_literal(text: &str) -> Option<String> {
    // Saves nearly every text from the parser, whose errors allocate.
    if !text.starts_with('"') {
        return None;
    }
    serde_json::from_str(text).ok()
}

/// Whether a type that takes what there is should first be given `text` as JSON.
fn looks_like_json(text: &str) -> bool {
    match text.trim_start().as_bytes().first() {
        // Need not be valid: if it is not, the type is given the string next.
        Some(b'{' | b'[') => true,
        // The quotes of any other string literal were part of the text when it was stored.
        Some(b'"') => unquote(text, is_null).is_some(),
        _ => {
            matches!(text, "null" | "true" | "false")
                || is_written_as::<u64>(text)
                || is_written_as::<i64>(text)
                || is_written_as::<f64>(text)
        }
    }
}

fn is_written_as<T: Serialize + DeserializeOwned>(text: &str) -> bool {
    let written = serde_json::from_str::<T>(text).and_then(|value| serde_json::to_string(&value));
    written.is_ok_and(|written| written == text)
}

type Json = serde_json::Serializer<Vec<u8>>;

/// Puts a value that is a string into `bare`, every other into `json`.
struct Writer<'a> {
    json: &'a mut Json,
    bare: &'a mut Option<Bytes>,
    /// The value is the content of a `Some`, and must differ from `None`.
    in_some: bool,
}

impl Writer<'_> {
    fn finite(self, is_finite: bool) -> Result<Self, Error> {
        let refused =
            || Error::custom("NaN and infinity cannot be stored: JSON has no such number");
        is_finite.then_some(self).ok_or_else(refused)
    }
}

macro_rules! to_json {
    ($($method:ident($($arg:ident: $type:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $($arg: $type),*) -> Result<$ok, Error> {
            self.json.$method($($arg),*)
        }
    )*};
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = <&'a mut Json as Serializer>::SerializeSeq;
    type SerializeTuple = <&'a mut Json as Serializer>::SerializeTuple;
    type SerializeTupleStruct = <&'a mut Json as Serializer>::SerializeTupleStruct;
    type SerializeTupleVariant = <&'a mut Json as Serializer>::SerializeTupleVariant;
    type SerializeMap = <&'a mut Json as Serializer>::SerializeMap;
    type SerializeStruct = <&'a mut Json as Serializer>::SerializeStruct;
    type SerializeStructVariant = <&'a mut Json as Serializer>::SerializeStructVariant;

    fn serialize_str(self, text: &str) -> Result<(), Error> {
        if self.in_some && must_quote(text, is_null) {
            return self.json.serialize_str(text);
        }
        *self.bare = Some(Bytes::copy_from_slice(text.as_bytes()));
        Ok(())
    }

    fn serialize_char(self, char: char) -> Result<(), Error> {
        self.serialize_str(char.encode_utf8(&mut [0; 4]))
    }

    /// serde's own would panic where a `Display` fails.
    fn collect_str<T: fmt::Display + ?Sized>(self, value: &T) -> Result<(), Error> {
        let mut text = String::new();
        fmt::write(&mut text, format_args!("{value}")).map_err(Error::custom)?;
        self.serialize_str(&text)
    }

    fn serialize_unit_variant(
        self,
        _: &'static str,
        _: u32,
        variant: &'static str,
    ) -> Result<(), Error> {
        if must_quote(variant, is_object) {
            self.serialize_str(&serde_json::to_string(variant)?)
        } else {
            self.serialize_str(variant)
        }
    }

    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<(), Error> {
        value.serialize(Writer {
            in_some: true,
            ..self
        })
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        self.json
            .serialize_newtype_variant(name, index, variant, value)
    }

    fn serialize_f32(self, value: f32) -> Result<(), Error> {
        self.finite(value.is_finite())?.json.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<(), Error> {
        self.finite(value.is_finite())?.json.serialize_f64(value)
    }

    to_json! {
        serialize_bool(value: bool) -> ();
        serialize_i8(value: i8) -> ();
        serialize_i16(value: i16) -> ();
        serialize_i32(value: i32) -> ();
        serialize_i64(value: i64) -> ();
        serialize_i128(value: i128) -> ();
        serialize_u8(value: u8) -> ();
        serialize_u16(value: u16) -> ();
        serialize_u32(value: u32) -> ();
        serialize_u64(value: u64) -> ();
        serialize_u128(value: u128) -> ();
        serialize_bytes(value: &[u8]) -> ();
        serialize_none() -> ();
        serialize_unit() -> ();
        serialize_unit_struct(name: &'static str) -> ();
        serialize_seq(len: Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(len: usize) -> Self::SerializeTuple;
        serialize_tuple_struct(name: &'static str, len: usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> Self::SerializeTupleVariant;
        serialize_map(len: Option<usize>) -> Self::SerializeMap;
        serialize_struct(name: &'static str, len: usize) -> Self::SerializeStruct;
        serialize_struct_variant(name: &'static str, index: u32, variant: &'static str, len: usize) -> Self::SerializeStructVariant;
    }
}

/// Gives a type the text in the form it asks for.
struct Reader<'de> {
    text: &'de str,
    /// What is inside a `Some`, where that differs from `text`.
    unquoted: Option<&'de str>,
    /// The quotes are off: `text` is a string, whatever it looks like.
    is_string: bool,
    /// What a type that takes what there is was given, once it has asked; on the second attempt, what to give it.
    any_is_json: &'de Cell<Option<bool>>,
}

impl<'de> Reader<'de> {
    fn json<T>(
        self,
        read: impl FnOnce(&mut serde_json::Deserializer<StrRead<'de>>) -> Result<T, Error>,
    ) -> Result<T, Error> {
        let mut json = serde_json::Deserializer::from_str(self.text);
        let value = read(&mut json)?;
        json.end()?;
        Ok(value)
    }
}

macro_rules! from_text {
    ($($method:ident)*) => {$(
        fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
            visitor.visit_borrowed_str(self.text)
        }
    )*};
}

macro_rules! from_json {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {$(
        fn $method<V: Visitor<'de>>(self, $($arg: $type,)* visitor: V) -> Result<V::Value, Error> {
            self.json(|json| json.$method($($arg,)* visitor))
        }
    )*};
}

impl<'de> Deserializer<'de> for Reader<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        if self.is_string {
            return self.deserialize_str(visitor);
        }
        let is_json = self
            .any_is_json
            .get()
            .unwrap_or_else(|| looks_like_json(self.text));
        self.any_is_json.set(Some(is_json));
        if is_json {
            self.json(|json| json.deserialize_any(visitor))
        } else {
            self.deserialize_str(visitor)
        }
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Error> {
        match self.unquoted {
            Some(text) => visitor.visit_some(Reader {
                text,
                is_string: true,
                ..self
            }),
            None if is_null(self.text) => visitor.visit_none(),
            None => visitor.visit_some(self),
        }
    }

    fn deserialize_enum<V: Visitor<'de>>(
        self,
        name: &'static str,
        variants: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        if is_object(self.text) {
            return self.json(|json| json.deserialize_enum(name, variants, visitor));
        }
        let variant = unquote(self.text, is_object).map_or(Cow::Borrowed(self.text), Cow::Owned);
        visitor.visit_enum(variant.into_deserializer())
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_newtype_struct(self)
    }

    from_text! { deserialize_str deserialize_string deserialize_char deserialize_identifier deserialize_ignored_any }

    from_json! {
        deserialize_bool();
        deserialize_i8();
        deserialize_i16();
        deserialize_i32();
        deserialize_i64();
        deserialize_i128();
        deserialize_u8();
        deserialize_u16();
        deserialize_u32();
        deserialize_u64();
        deserialize_u128();
        deserialize_f32();
        deserialize_f64();
        deserialize_bytes();
        deserialize_byte_buf();
        deserialize_unit();
        deserialize_unit_struct(name: &'static str);
        deserialize_seq();
        deserialize_tuple(len: usize);
        deserialize_tuple_struct(name: &'static str, len: usize);
        deserialize_map();
        deserialize_struct(name: &'static str, fields: &'static [&'static str]);
    }
}
