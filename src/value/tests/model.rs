//! Any type that serde's data model has, and any value of it.
//!
//! [`Data`] is written by the very calls that a derived `Serialize` makes, and read by those that a derived
//! `Deserialize` makes for its [`Type`].

use std::cell::RefCell;

use serde::{
    de::{DeserializeSeed, EnumAccess, Error as _, MapAccess, SeqAccess, VariantAccess},
    ser::{
        SerializeMap, SerializeSeq, SerializeStruct, SerializeStructVariant, SerializeTuple,
        SerializeTupleStruct, SerializeTupleVariant,
    },
};

use super::{
    leaf::{Leaf, LeafData},
    *,
};

pub(super) type Label = &'static str;

#[derive(Clone, Debug)]
pub(super) enum Type {
    Leaf(Leaf),
    Option(Box<Type>),
    Newtype(Box<Type>),
    Seq(Box<Type>),
    Tuple(Vec<Type>),
    TupleStruct(Vec<Type>),
    Map(Box<Type>, Box<Type>),
    Struct(Vec<(Label, Type)>),
    Enum(Vec<(Label, Variant<Type>)>),
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Data {
    Leaf(LeafData),
    None,
    Some(Box<Data>),
    Newtype(Box<Data>),
    Seq(Vec<Data>),
    Tuple(Vec<Data>),
    TupleStruct(Vec<Data>),
    Map(Vec<(Data, Data)>),
    Struct(Vec<(Label, Data)>),
    Variant(u32, Label, Box<Variant<Data>>),
}

/// What a variant holds is a tuple in `Tuple`, a struct in `Struct`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Variant<T> {
    Unit,
    Newtype(T),
    Tuple(T),
    Struct(T),
}

/// What a `Serialize` says about how long its lists, maps and structs are.
#[derive(Clone, Copy, Debug)]
pub(super) enum Lengths {
    Right,
    /// Of lists and maps only: nothing else may leave it open.
    Unknown,
    /// As nobody should, and as hand-written code does.
    Zero,
}

impl Lengths {
    fn of(self, items: usize) -> usize {
        match self {
            Self::Right | Self::Unknown => items,
            Self::Zero => 0,
        }
    }

    fn hint(self, items: usize) -> Option<usize> {
        match self {
            Self::Unknown => None,
            Self::Right | Self::Zero => Some(self.of(items)),
        }
    }
}

#[derive(Clone, Copy)]
pub(super) struct Written<'a> {
    pub(super) data: &'a Data,
    pub(super) lengths: Lengths,
}

impl Serialize for Written<'_> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let lengths = self.lengths;
        let written = |data| Written { data, lengths };
        macro_rules! each {
            ($begin:expr, $items:expr, $method:ident $(, $name:ident)?) => {{
                let mut to = $begin?;
                for each!(@item item $($name)?) in $items {
                    to.$method($($name,)? &written(item))?;
                }
                to.end()
            }};
            (@item $item:ident) => { $item };
            (@item $item:ident $name:ident) => { ($name, $item) };
        }
        match self.data {
            Data::Leaf(leaf) => leaf.serialize(to),
            Data::None => to.serialize_none(),
            Data::Some(data) => to.serialize_some(&written(data)),
            Data::Newtype(data) => to.serialize_newtype_struct("Newtype", &written(data)),
            Data::Seq(items) => each!(
                to.serialize_seq(lengths.hint(items.len())),
                items,
                serialize_element
            ),
            Data::Tuple(items) => each!(
                to.serialize_tuple(lengths.of(items.len())),
                items,
                serialize_element
            ),
            Data::TupleStruct(items) => each!(
                to.serialize_tuple_struct("Tuple", lengths.of(items.len())),
                items,
                serialize_field
            ),
            Data::Map(entries) => {
                let mut to = to.serialize_map(lengths.hint(entries.len()))?;
                for (key, value) in entries {
                    to.serialize_entry(&written(key), &written(value))?;
                }
                to.end()
            }
            Data::Struct(fields) => each!(
                to.serialize_struct("Struct", lengths.of(fields.len())),
                fields,
                serialize_field,
                name
            ),
            Data::Variant(index, variant, content) => match &**content {
                Variant::Unit => to.serialize_unit_variant("Enum", *index, variant),
                Variant::Newtype(data) => {
                    to.serialize_newtype_variant("Enum", *index, variant, &written(data))
                }
                Variant::Tuple(Data::Tuple(items)) => each!(
                    to.serialize_tuple_variant("Enum", *index, variant, lengths.of(items.len())),
                    items,
                    serialize_field
                ),
                Variant::Struct(Data::Struct(fields)) => each!(
                    to.serialize_struct_variant("Enum", *index, variant, lengths.of(fields.len())),
                    fields,
                    serialize_field,
                    name
                ),
                other => panic!("no such variant: {other:?}"),
            },
        }
    }
}

thread_local! {
    static TYPE: RefCell<Type> = const { RefCell::new(Type::Leaf(Leaf::Unit)) };
}

/// A value of the thread's `TYPE`: [`decode`] takes no seed.
struct OfType(Data);

impl<'de> Deserialize<'de> for OfType {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        TYPE.with_borrow(|of| of.deserialize(from)).map(OfType)
    }
}

/// [`decode`], for a type that is known only now.
pub(super) fn decode_as(of: &Type, text: &str) -> Result<Data, Error> {
    TYPE.set(of.clone());
    decode::<OfType>(text).map(|read| read.0)
}

impl<'de> DeserializeSeed<'de> for &Type {
    type Value = Data;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Data, D::Error> {
        match self {
            Type::Leaf(leaf) => leaf.read(from).map(Data::Leaf),
            Type::Option(_) => from.deserialize_option(self),
            Type::Newtype(_) => from.deserialize_newtype_struct("Newtype", self),
            Type::Seq(_) => from.deserialize_seq(self),
            Type::Tuple(types) => from.deserialize_tuple(types.len(), self),
            Type::TupleStruct(types) => from.deserialize_tuple_struct("Tuple", types.len(), self),
            Type::Map(..) => from.deserialize_map(self),
            // Names that serde_json does not look at.
            Type::Struct(_) => from.deserialize_struct("Struct", &[], self),
            Type::Enum(_) => from.deserialize_enum("Enum", &[], self),
        }
    }
}

impl<'de> Visitor<'de> for &Type {
    type Value = Data;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "a value of {self:?}")
    }

    fn visit_none<E: serde::de::Error>(self) -> Result<Data, E> {
        match self {
            Type::Option(_) => Ok(Data::None),
            _ => Err(E::custom("none")),
        }
    }

    fn visit_unit<E: serde::de::Error>(self) -> Result<Data, E> {
        self.visit_none()
    }

    fn visit_some<D: Deserializer<'de>>(self, from: D) -> Result<Data, D::Error> {
        match self {
            Type::Option(of) => of.deserialize(from).map(|data| Data::Some(data.into())),
            _ => Err(D::Error::custom("some")),
        }
    }

    fn visit_newtype_struct<D: Deserializer<'de>>(self, from: D) -> Result<Data, D::Error> {
        match self {
            Type::Newtype(of) => of.deserialize(from).map(|data| Data::Newtype(data.into())),
            _ => Err(D::Error::custom("newtype")),
        }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut from: A) -> Result<Data, A::Error> {
        let mut items = Vec::new();
        match self {
            Type::Seq(of) => {
                while let Some(item) = from.next_element_seed(&**of)? {
                    items.push(item);
                }
                Ok(Data::Seq(items))
            }
            Type::Tuple(types) | Type::TupleStruct(types) => {
                for of in types {
                    let item = from.next_element_seed(of)?;
                    items.push(item.ok_or_else(|| A::Error::custom("too short"))?);
                }
                Ok(match self {
                    Type::Tuple(_) => Data::Tuple(items),
                    _ => Data::TupleStruct(items),
                })
            }
            _ => Err(A::Error::custom("a list")),
        }
    }

    fn visit_map<A: MapAccess<'de>>(self, mut from: A) -> Result<Data, A::Error> {
        match self {
            Type::Map(key, value) => {
                let mut entries = Vec::new();
                while let Some(entry) = from.next_entry_seed(&**key, &**value)? {
                    entries.push(entry);
                }
                Ok(Data::Map(entries))
            }
            Type::Struct(fields) => {
                let mut read = BTreeMap::new();
                while let Some(field) = from.next_key_seed(Identifier(fields))? {
                    let (name, of) = &fields[field];
                    if read.insert(*name, from.next_value_seed(of)?).is_some() {
                        return Err(A::Error::duplicate_field(name));
                    }
                }
                let field = |(name, _): &(Label, Type)| {
                    let data = read.remove(name);
                    Ok((*name, data.ok_or_else(|| A::Error::missing_field(name))?))
                };
                fields
                    .iter()
                    .map(field)
                    .collect::<Result<_, _>>()
                    .map(Data::Struct)
            }
            _ => Err(A::Error::custom("an object")),
        }
    }

    fn visit_enum<A: EnumAccess<'de>>(self, from: A) -> Result<Data, A::Error> {
        let Type::Enum(variants) = self else {
            return Err(A::Error::custom("an enum"));
        };
        let (index, from) = from.variant_seed(Identifier(variants))?;
        let (name, variant) = &variants[index];
        let content = match variant {
            Variant::Unit => from.unit_variant().map(|()| Variant::Unit),
            Variant::Newtype(of) => from.newtype_variant_seed(of).map(Variant::Newtype),
            Variant::Tuple(of) => from.tuple_variant(0, of).map(Variant::Tuple),
            Variant::Struct(of) => from.struct_variant(&[], of).map(Variant::Struct),
        };
        let index = u32::try_from(index).unwrap();
        Ok(Data::Variant(index, name, content?.into()))
    }
}

/// Reads the name of a field or a variant as its position.
struct Identifier<'a, T>(&'a [(Label, T)]);

impl<'de, T> DeserializeSeed<'de> for Identifier<'_, T> {
    type Value = usize;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<usize, D::Error> {
        from.deserialize_identifier(self)
    }
}

impl<T> Visitor<'_> for Identifier<'_, T> {
    type Value = usize;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a name")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<usize, E> {
        let position = self.0.iter().position(|(name, _)| *name == text);
        position.ok_or_else(|| E::custom(format!("no {text:?}")))
    }
}
