//! What has no parts, in the data model of [`model`](super::model): each read and written as the Rust type that it is.

use proptest::prelude::*;

use super::*;

macro_rules! leaves {
    ($($leaf:ident: $type:ty = $any:expr;)*) => {
        #[derive(Clone, Copy, Debug)]
        pub(super) enum Leaf { $($leaf,)* }

        #[derive(Clone, Debug, PartialEq)]
        pub(super) enum LeafData { $($leaf($type),)* }

        impl Leaf {
            pub(super) const ALL: &[Leaf] = &[$(Leaf::$leaf,)*];

            pub(super) fn any(self) -> BoxedStrategy<LeafData> {
                match self { $(Leaf::$leaf => $any.prop_map(LeafData::$leaf).boxed(),)* }
            }

            pub(super) fn read<'de, D: Deserializer<'de>>(self, from: D) -> Result<LeafData, D::Error> {
                match self { $(Leaf::$leaf => <$type>::deserialize(from).map(LeafData::$leaf),)* }
            }
        }

        impl Serialize for LeafData {
            fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
                match self { $(LeafData::$leaf(data) => data.serialize(to),)* }
            }
        }
    };
}

leaves! {
    Bool: bool = any::<bool>();
    I8: i8 = any::<i8>();
    I16: i16 = any::<i16>();
    I32: i32 = any::<i32>();
    I64: i64 = any::<i64>();
    I128: i128 = any::<i128>();
    U8: u8 = any::<u8>();
    U16: u16 = any::<u16>();
    U32: u32 = any::<u32>();
    U64: u64 = any::<u64>();
    U128: u128 = any::<u128>();
    F32: Float<f32> = float().prop_map(|number| Float(number as f32));
    F32Bits: Float<f32> = any::<u32>().prop_map(|bits| Float(f32::from_bits(bits)));
    F64: Float<f64> = float().prop_map(Float);
    F64Bits: Float<f64> = any::<u64>().prop_map(|bits| Float(f64::from_bits(bits)));
    Char: char = prop_oneof![any::<char>(), prop::sample::select(vec!['"', '{', 'n', '3', '\\', '\0'])];
    Text: String = properties::text();
    Shown: Shown = properties::text().prop_map(Shown);
    Bytes: Bytes<false> = any::<Vec<u8>>().prop_map(Bytes);
    ByteBuf: Bytes<true> = any::<Vec<u8>>().prop_map(Bytes);
    Unit: () = Just(());
    UnitStruct: Unit = Just(Unit);
}

/// Few that are not finite, or hardly any larger value could be stored.
fn float() -> impl Strategy<Value = f64> {
    let odd = [0.0, -0.0, 1.0, 1e16, 1e-7, 5e-324, 1e-45, 2e-39, f64::MAX];
    let infinite = [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    prop_oneof![
        6 => any::<f64>(),
        3 => prop::sample::select(odd.to_vec()),
        1 => prop::sample::select(infinite.to_vec()),
    ]
}

/// The same bits are the same number.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
#[serde(transparent)]
pub(super) struct Float<T>(pub(super) T);

impl PartialEq for Float<f32> {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

impl PartialEq for Float<f64> {
    fn eq(&self, other: &Self) -> bool {
        self.0.to_bits() == other.0.to_bits()
    }
}

/// Written through its `Display`.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(transparent)]
pub(super) struct Shown(pub(super) String);

impl Serialize for Shown {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(&self.0)
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Bytes<const OWNED: bool>(pub(super) Vec<u8>);

impl<const OWNED: bool> Serialize for Bytes<OWNED> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_bytes(&self.0)
    }
}

impl<'de, const OWNED: bool> Deserialize<'de> for Bytes<OWNED> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        /// As that of the crate `serde_bytes`.
        struct AnyBytes;
        impl<'de> Visitor<'de> for AnyBytes {
            type Value = Vec<u8>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("bytes")
            }

            fn visit_bytes<E>(self, bytes: &[u8]) -> Result<Vec<u8>, E> {
                Ok(bytes.to_vec())
            }

            fn visit_seq<A: serde::de::SeqAccess<'de>>(
                self,
                mut from: A,
            ) -> Result<Vec<u8>, A::Error> {
                let mut bytes = Vec::new();
                while let Some(byte) = from.next_element()? {
                    bytes.push(byte);
                }
                Ok(bytes)
            }
        }
        let bytes = if OWNED {
            from.deserialize_byte_buf(AnyBytes)
        } else {
            from.deserialize_bytes(AnyBytes)
        };
        bytes.map(Bytes)
    }
}
