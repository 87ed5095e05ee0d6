//! [`Writer`]: keeps a value that is a string apart from every other, which becomes JSON.

use std::fmt;

use bytes::Bytes;
use serde::{Serialize, Serializer, ser::Error as _};
use serde_json::Error;

use super::{check::Checked, is_null, is_object, must_quote};

pub(super) type Json = serde_json::Serializer<Vec<u8>>;

/// Puts a value that is a string into `bare`, every other into `json`.
pub(super) struct Writer<'a> {
    pub(super) json: &'a mut Json,
    pub(super) bare: &'a mut Option<Bytes>,
    /// The value is the content of a `Some`, and must differ from `None`.
    pub(super) in_some: bool,
    /// Whether the value as a whole is `None`, for who wants to know.
    pub(super) is_none: Option<&'a mut bool>,
}

macro_rules! to_json {
    ($($method:ident($($arg:ident: $type:ty),*) -> $ok:ty;)*) => {$(
        fn $method(self, $($arg: $type),*) -> Result<$ok, Error> {
            Checked::outermost(self.json, self.in_some).$method($($arg),*)
        }
    )*};
}

impl<'a> Serializer for Writer<'a> {
    type Ok = ();
    type Error = Error;
    type SerializeSeq = <Checked<&'a mut Json> as Serializer>::SerializeSeq;
    type SerializeTuple = <Checked<&'a mut Json> as Serializer>::SerializeTuple;
    type SerializeTupleStruct = <Checked<&'a mut Json> as Serializer>::SerializeTupleStruct;
    type SerializeTupleVariant = <Checked<&'a mut Json> as Serializer>::SerializeTupleVariant;
    type SerializeMap = <Checked<&'a mut Json> as Serializer>::SerializeMap;
    type SerializeStruct = <Checked<&'a mut Json> as Serializer>::SerializeStruct;
    type SerializeStructVariant = <Checked<&'a mut Json> as Serializer>::SerializeStructVariant;

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

    /// serde's default panics where a `Display` fails.
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
            is_none: None,
            ..self
        })
    }

    fn serialize_none(self) -> Result<(), Error> {
        if let Some(is_none) = self.is_none {
            *is_none = true;
        }
        Checked::outermost(self.json, self.in_some).serialize_none()
    }

    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        value.serialize(Writer {
            is_none: None,
            ..self
        })
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<(), Error> {
        Checked::outermost(self.json, self.in_some)
            .serialize_newtype_variant(name, index, variant, value)
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
        serialize_f32(value: f32) -> ();
        serialize_f64(value: f64) -> ();
        serialize_bytes(value: &[u8]) -> ();
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
