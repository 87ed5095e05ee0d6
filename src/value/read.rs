//! [`Reader`]: gives a type the text in the form it asks for.

use std::{borrow::Cow, cell::Cell};

use serde::{
    Serialize,
    de::{DeserializeOwned, Deserializer, IntoDeserializer, Visitor},
};
use serde_json::{Error, de::StrRead};

use super::{is_null, is_object, unquote};

/// Gives a type the text in the form it asks for.
pub(super) struct Reader<'de> {
    pub(super) text: &'de str,
    /// What is inside a `Some`, where that differs from `text`.
    pub(super) unquoted: Option<&'de str>,
    /// The quotes are off: `text` is a string, whatever it looks like.
    pub(super) is_string: bool,
    /// Whether `deserialize_any` gave JSON, once it was called; on the second attempt, whether it has to.
    pub(super) any_is_json: &'de Cell<Option<bool>>,
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

/// Whether `deserialize_any` should first give `text` as JSON.
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
