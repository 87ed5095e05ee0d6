//! [`Checked`]: refuses what would not read back, at every depth.
//!
//! serde_json writes `null` for a NaN and for a `Some(None)`, and it writes deeper nesting than it reads. Nobody would
//! notice before the value is read, and by then it is lost. The checks are made while the value is written, so they
//! cost no second pass.

use std::{
    cell::Cell,
    fmt::{self, Display},
};

use serde::{
    Serialize, Serializer,
    ser::{
        Error, SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

/// How many lists and objects inside each other serde_json reads.
const MAX_LEVELS: u8 = 127;

const NOT_FINITE: &str = "a NaN or an infinity cannot be stored: JSON has no such number";
const SOME_OF_NOTHING: &str = "`Some` of nothing cannot be stored: it would be read as `None`";
const TOO_DEEP: &str = "nested deeper than 127 levels: it could not be read";

/// Wraps a serializer of serde_json's, a list or an object that it has begun, or a value inside one.
///
/// A serializer begins a list, the list wraps its values, and a wrapped value wraps the serializer that it is given: so
/// each knows how deep it is, and nothing is written unchecked.
pub(super) struct Checked<T> {
    inner: T,
    /// How many lists and objects are around it.
    levels: u8,
    /// It is the content of a `Some`, and must differ from `None`.
    in_some: bool,
}

impl<T> Checked<T> {
    pub(super) fn outermost(inner: T, in_some: bool) -> Self {
        Self {
            inner,
            levels: 0,
            in_some,
        }
    }

    fn inside(inner: T, levels: u8) -> Self {
        Self {
            inner,
            levels,
            in_some: false,
        }
    }
}

impl<S: Serializer> Checked<S> {
    fn number(self, is_finite: bool) -> Result<S, S::Error> {
        if !is_finite {
            return Err(S::Error::custom(NOT_FINITE));
        }
        Ok(self.inner)
    }

    /// For what is written as `null`.
    fn nothing(self) -> Result<S, S::Error> {
        if self.in_some {
            return Err(S::Error::custom(SOME_OF_NOTHING));
        }
        Ok(self.inner)
    }

    /// The depth inside `by` more lists and objects.
    fn deeper(&self, by: u8) -> Result<u8, S::Error> {
        let levels = self.levels + by;
        if levels > MAX_LEVELS {
            return Err(S::Error::custom(TOO_DEEP));
        }
        Ok(levels)
    }

    /// Begins a value that is `levels` nested lists and objects in JSON.
    fn open<O>(
        self,
        levels: u8,
        begin: impl FnOnce(S) -> Result<O, S::Error>,
    ) -> Result<Checked<O>, S::Error> {
        let levels = self.deeper(levels)?;
        Ok(Checked::inside(begin(self.inner)?, levels))
    }
}

macro_rules! as_it_is {
    ($($method:ident($($arg:ident: $type:ty),*);)*) => {$(
        fn $method(self, $($arg: $type),*) -> Result<S::Ok, S::Error> {
            self.inner.$method($($arg),*)
        }
    )*};
}

/// No list or object is announced as empty: serde_json would close it at once, and an item would spoil the text.
impl<S: Serializer> Serializer for Checked<S> {
    type Ok = S::Ok;
    type Error = S::Error;
    type SerializeSeq = Checked<S::SerializeSeq>;
    type SerializeTuple = Checked<S::SerializeTuple>;
    type SerializeTupleStruct = Checked<S::SerializeTupleStruct>;
    type SerializeTupleVariant = Checked<S::SerializeTupleVariant>;
    type SerializeMap = Checked<S::SerializeMap>;
    type SerializeStruct = Checked<S::SerializeStruct>;
    type SerializeStructVariant = Checked<S::SerializeStructVariant>;

    as_it_is! {
        serialize_bool(value: bool);
        serialize_i8(value: i8);
        serialize_i16(value: i16);
        serialize_i32(value: i32);
        serialize_i64(value: i64);
        serialize_i128(value: i128);
        serialize_u8(value: u8);
        serialize_u16(value: u16);
        serialize_u32(value: u32);
        serialize_u64(value: u64);
        serialize_u128(value: u128);
        serialize_char(value: char);
        serialize_str(value: &str);
        serialize_unit_variant(name: &'static str, index: u32, variant: &'static str);
    }

    fn serialize_f32(self, value: f32) -> Result<S::Ok, S::Error> {
        self.number(value.is_finite())?.serialize_f32(value)
    }

    fn serialize_f64(self, value: f64) -> Result<S::Ok, S::Error> {
        self.number(value.is_finite())?.serialize_f64(value)
    }

    fn serialize_none(self) -> Result<S::Ok, S::Error> {
        self.nothing()?.serialize_none()
    }

    fn serialize_unit(self) -> Result<S::Ok, S::Error> {
        self.nothing()?.serialize_unit()
    }

    fn serialize_unit_struct(self, name: &'static str) -> Result<S::Ok, S::Error> {
        self.nothing()?.serialize_unit_struct(name)
    }

    /// Bytes are a list of numbers.
    fn serialize_bytes(self, value: &[u8]) -> Result<S::Ok, S::Error> {
        self.deeper(1)?;
        self.inner.serialize_bytes(value)
    }

    /// JSON shows no `Some`: its content stands for it.
    fn serialize_some<T: Serialize + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        value.serialize(Self {
            in_some: true,
            ..self
        })
    }

    /// Nor does it show a newtype.
    fn serialize_newtype_struct<T: Serialize + ?Sized>(
        self,
        _: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        value.serialize(self)
    }

    fn serialize_newtype_variant<T: Serialize + ?Sized>(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        value: &T,
    ) -> Result<S::Ok, S::Error> {
        let value = Checked::inside(value, self.deeper(1)?);
        self.inner
            .serialize_newtype_variant(name, index, variant, &value)
    }

    fn serialize_seq(self, _: Option<usize>) -> Result<Self::SerializeSeq, S::Error> {
        self.open(1, |json| json.serialize_seq(None))
    }

    fn serialize_tuple(self, len: usize) -> Result<Self::SerializeTuple, S::Error> {
        self.open(1, |json| json.serialize_tuple(len.max(1)))
    }

    fn serialize_tuple_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleStruct, S::Error> {
        self.open(1, |json| json.serialize_tuple_struct(name, len.max(1)))
    }

    /// A variant with data is an object of one entry; here that is a list.
    fn serialize_tuple_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeTupleVariant, S::Error> {
        self.open(2, |json| {
            json.serialize_tuple_variant(name, index, variant, len.max(1))
        })
    }

    fn serialize_map(self, _: Option<usize>) -> Result<Self::SerializeMap, S::Error> {
        self.open(1, |json| json.serialize_map(None))
    }

    fn serialize_struct(
        self,
        name: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStruct, S::Error> {
        self.open(1, |json| json.serialize_struct(name, len.max(1)))
    }

    fn serialize_struct_variant(
        self,
        name: &'static str,
        index: u32,
        variant: &'static str,
        len: usize,
    ) -> Result<Self::SerializeStructVariant, S::Error> {
        self.open(2, |json| {
            json.serialize_struct_variant(name, index, variant, len.max(1))
        })
    }

    fn collect_str<T: Display + ?Sized>(self, value: &T) -> Result<S::Ok, S::Error> {
        let text = Unfailing {
            value,
            failed: Cell::new(false),
        };
        let written = self.inner.collect_str(&text)?;
        if text.failed.get() {
            return Err(S::Error::custom(fmt::Error));
        }
        Ok(written)
    }
}

macro_rules! with_parts {
    ($($trait:ident: $($method:ident($($key:ident: $type:ty)?)),*;)*) => {$(
        impl<C: $trait> $trait for Checked<C> {
            type Ok = C::Ok;
            type Error = C::Error;

            $(fn $method<T: Serialize + ?Sized>(&mut self, $($key: $type,)? value: &T) -> Result<(), C::Error> {
                self.inner.$method($($key,)? &Checked::inside(value, self.levels))
            })*

            fn end(self) -> Result<C::Ok, C::Error> {
                self.inner.end()
            }
        }
    )*};
}

with_parts! {
    SerializeSeq: serialize_element();
    SerializeTuple: serialize_element();
    SerializeTupleStruct: serialize_field();
    SerializeTupleVariant: serialize_field();
    SerializeMap: serialize_key(), serialize_value();
    SerializeStruct: serialize_field(name: &'static str);
    SerializeStructVariant: serialize_field(name: &'static str);
}

impl<T: Serialize + ?Sized> Serialize for Checked<&T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.inner
            .serialize(Checked::inside(serializer, self.levels))
    }
}

/// Remembers that a `Display` failed, and hides it: serde_json would panic.
struct Unfailing<'a, T: ?Sized> {
    value: &'a T,
    failed: Cell<bool>,
}

impl<T: Display + ?Sized> Display for Unfailing<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.failed.set(self.value.fmt(f).is_err());
        Ok(())
    }
}
