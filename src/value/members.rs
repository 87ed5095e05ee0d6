//! A struct's members as fields, and back. Each has the text that it would have as a field by itself.

use std::{
    cell::{Cell, RefCell},
    fmt::Display,
    slice,
};

use bytes::Bytes;
use serde::{
    Serialize, Serializer,
    de::{
        DeserializeOwned, DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor,
        value::StrDeserializer,
    },
    forward_to_deserialize_any,
    ser::{Impossible, SerializeStruct},
};
use serde_json::Error;

use super::{encode_some, is_null, is_too_deep, read::Reader, unquote};

/// A member's name and text; none for `None`, which is no field.
pub(crate) type Member = (&'static str, Option<Bytes>);

fn refused() -> Error {
    serde::ser::Error::custom(
        "only a struct with named members can be a session's fields: no map, no tuple, no enum, and no struct with \
         `#[serde(flatten)]`",
    )
}

fn in_member(name: &str, error: impl Display) -> Error {
    serde::ser::Error::custom(format_args!("member {name:?}: {error}"))
}

pub(crate) fn encode_members<T: Serialize + ?Sized>(value: &T) -> Result<Vec<Member>, Error> {
    value.serialize(StructOnly)
}

struct Members(Vec<Member>);

impl SerializeStruct for Members {
    type Ok = Vec<Member>;
    type Error = Error;

    fn serialize_field<T: Serialize + ?Sized>(
        &mut self,
        name: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        let text = encode_some(value).map_err(|error| in_member(name, error))?;
        self.0.push((name, text));
        Ok(())
    }

    /// `skip_serializing_if`.
    fn skip_field(&mut self, name: &'static str) -> Result<(), Error> {
        self.0.push((name, None));
        Ok(())
    }

    fn end(self) -> Result<Vec<Member>, Error> {
        Ok(self.0)
    }
}

struct StructOnly;

macro_rules! refuse {
    ($($method:ident($($type:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $(_: $type),*) -> Result<$ok, Error> {
            Err(refused())
        }
    )*};
}

impl Serializer for StructOnly {
    type Ok = Vec<Member>;
    type Error = Error;
    type SerializeSeq = Impossible<Self::Ok, Error>;
    type SerializeTuple = Impossible<Self::Ok, Error>;
    type SerializeTupleStruct = Impossible<Self::Ok, Error>;
    type SerializeTupleVariant = Impossible<Self::Ok, Error>;
    type SerializeMap = Impossible<Self::Ok, Error>;
    type SerializeStruct = Members;
    type SerializeStructVariant = Impossible<Self::Ok, Error>;

    fn serialize_struct(self, _: &'static str, count: usize) -> Result<Members, Error> {
        Ok(Members(Vec::with_capacity(count)))
    }

    fn serialize_some<T: Serialize + ?Sized>(self, _: &T) -> Result<Self::Ok, Error> {
        Err(refused())
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: &T,
    ) -> Result<Self::Ok, Error> {
        Err(refused())
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        _: u32,
        _: &'static str,
        _: &T,
    ) -> Result<Self::Ok, Error> {
        Err(refused())
    }

    refuse! {
        serialize_bool(bool) -> Self::Ok;
        serialize_i8(i8) -> Self::Ok;
        serialize_i16(i16) -> Self::Ok;
        serialize_i32(i32) -> Self::Ok;
        serialize_i64(i64) -> Self::Ok;
        serialize_u8(u8) -> Self::Ok;
        serialize_u16(u16) -> Self::Ok;
        serialize_u32(u32) -> Self::Ok;
        serialize_u64(u64) -> Self::Ok;
        serialize_f32(f32) -> Self::Ok;
        serialize_f64(f64) -> Self::Ok;
        serialize_char(char) -> Self::Ok;
        serialize_str(&str) -> Self::Ok;
        serialize_bytes(&[u8]) -> Self::Ok;
        serialize_none() -> Self::Ok;
        serialize_unit() -> Self::Ok;
        serialize_unit_struct(&'static str) -> Self::Ok;
        serialize_unit_variant(&'static str, u32, &'static str) -> Self::Ok;
        serialize_seq(Option<usize>) -> Self::SerializeSeq;
        serialize_tuple(usize) -> Self::SerializeTuple;
        serialize_tuple_struct(&'static str, usize) -> Self::SerializeTupleStruct;
        serialize_tuple_variant(&'static str, u32, &'static str, usize) -> Self::SerializeTupleVariant;
        serialize_map(Option<usize>) -> Self::SerializeMap;
        serialize_struct_variant(&'static str, u32, &'static str, usize) -> Self::SerializeStructVariant;
    }
}

/// The struct whose members these fields are. There may be others, too.
pub(crate) fn decode_members<T: DeserializeOwned>(
    fields: impl Iterator<Item = (String, Bytes)>,
) -> Result<T, Error> {
    let fields: Vec<_> = fields.map(Field::new).collect();
    loop {
        let reading = Cell::new(None);
        let error = match T::deserialize(Struct {
            fields: &fields,
            reading: &reading,
        }) {
            Ok(value) => return Ok(value),
            Err(error) => error,
        };
        match reading.get() {
            None => return Err(error),
            // As for a value by itself: a type that accepts anything is given the other form, once.
            Some(field) => Field::take_other_form(field, error)?,
        }
    }
}

struct Field {
    name: String,
    /// The error of one that is no text.
    text: Result<String, Error>,
    unquoted: Option<String>,
    /// As in [`Reader`].
    any_is_json: Cell<Option<bool>>,
    /// What the first form has led to.
    first: RefCell<Option<Error>>,
}

impl Field {
    fn new((name, text): (String, Bytes)) -> Self {
        let text = match std::str::from_utf8(&text) {
            Ok(text) => Ok(text.to_owned()),
            Err(error) => Err(in_member(&name, error)),
        };
        let unquoted = text.as_ref().ok().and_then(|text| unquote(text, is_null));
        Self {
            name,
            text,
            unquoted,
            any_is_json: Cell::new(None),
            first: RefCell::new(None),
        }
    }

    /// Makes the next attempt give the other form. An error where there is none.
    fn take_other_form(&self, error: Error) -> Result<(), Error> {
        let mut first = self.first.borrow_mut();
        match (first.take(), self.any_is_json.get()) {
            (Some(first), _) => Err(in_member(&self.name, first)),
            (None, Some(was_json)) if !(was_json && is_too_deep(&error)) => {
                self.any_is_json.set(Some(!was_json));
                *first = Some(error);
                Ok(())
            }
            (None, _) => Err(in_member(&self.name, error)),
        }
    }
}

struct Struct<'de> {
    fields: &'de [Field],
    /// The field whose value is being read.
    reading: &'de Cell<Option<&'de Field>>,
}

impl<'de> Deserializer<'de> for Struct<'de> {
    type Error = Error;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Error> {
        Err(refused())
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        names: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Error> {
        visitor.visit_map(Access {
            names,
            fields: self.fields.iter(),
            next: None,
            reading: self.reading,
        })
    }

    forward_to_deserialize_any! {
        bool i8 i16 i32 i64 i128 u8 u16 u32 u64 u128 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The fields that are members.
struct Access<'de> {
    names: &'static [&'static str],
    fields: slice::Iter<'de, Field>,
    next: Option<&'de Field>,
    reading: &'de Cell<Option<&'de Field>>,
}

impl<'de> MapAccess<'de> for Access<'de> {
    type Error = Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(
        &mut self,
        seed: K,
    ) -> Result<Option<K::Value>, Error> {
        let names = self.names;
        self.next = (self.fields).find(|field| names.contains(&&*field.name));
        let Some(field) = self.next else {
            return Ok(None);
        };
        let name: StrDeserializer<'_, Error> = field.name.as_str().into_deserializer();
        seed.deserialize(name).map(Some)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Error> {
        let field = self.next.take().ok_or_else(refused)?;
        let text = (field.text.as_ref()).map_err(serde::de::Error::custom)?;
        self.reading.set(Some(field));
        let value = seed.deserialize(Reader {
            text,
            unquoted: field.unquoted.as_deref(),
            is_string: false,
            any_is_json: &field.any_is_json,
        })?;
        self.reading.set(None);
        Ok(value)
    }
}
