//! Just deeper than can be read, and just not.

use proptest::prelude::*;

use super::{
    any_type::{LEVELS, comes_back_or_is_refused},
    leaf::{Bytes, Leaf, LeafData},
    model::{Data, Lengths, Type, Variant, Written},
    *,
};

/// What has one other thing in it.
#[derive(Clone, Copy, Debug)]
enum Around {
    Some,
    Newtype,
    Seq,
    Tuple,
    TupleStruct,
    Map,
    Struct,
    NewtypeVariant,
    TupleVariant,
    StructVariant,
}

impl Around {
    const ALL: &[Self] = &[
        Self::Some,
        Self::Newtype,
        Self::Seq,
        Self::Tuple,
        Self::TupleStruct,
        Self::Map,
        Self::Struct,
        Self::NewtypeVariant,
        Self::TupleVariant,
        Self::StructVariant,
    ];

    /// How many lists and objects JSON has for it.
    fn levels(self) -> usize {
        match self {
            Self::Some | Self::Newtype => 0,
            Self::Seq
            | Self::Tuple
            | Self::TupleStruct
            | Self::Map
            | Self::Struct
            | Self::NewtypeVariant => 1,
            Self::TupleVariant | Self::StructVariant => 2,
        }
    }

    fn of(self, (of, data): (Type, Data)) -> (Type, Data) {
        let variant = |of, data| {
            let data = Data::Variant(0, "A", Box::new(data));
            (Type::Enum(vec![("A", of)]), data)
        };
        match self {
            Self::Some => (Type::Option(of.into()), Data::Some(data.into())),
            Self::Newtype => (Type::Newtype(of.into()), Data::Newtype(data.into())),
            Self::Seq => (Type::Seq(of.into()), Data::Seq(vec![data])),
            Self::Tuple => (Type::Tuple(vec![of]), Data::Tuple(vec![data])),
            Self::TupleStruct => (Type::TupleStruct(vec![of]), Data::TupleStruct(vec![data])),
            Self::Map => {
                let key = Data::Leaf(LeafData::U8(1));
                let of = Type::Map(Type::Leaf(Leaf::U8).into(), of.into());
                (of, Data::Map(vec![(key, data)]))
            }
            Self::Struct => (
                Type::Struct(vec![("a", of)]),
                Data::Struct(vec![("a", data)]),
            ),
            Self::NewtypeVariant => variant(Variant::Newtype(of), Variant::Newtype(data)),
            Self::TupleVariant => {
                let (of, data) = Self::Tuple.of((of, data));
                variant(Variant::Tuple(of), Variant::Tuple(data))
            }
            Self::StructVariant => {
                let (of, data) = Self::Struct.of((of, data));
                variant(Variant::Struct(of), Variant::Struct(data))
            }
        }
    }
}

/// What stands in the middle, and how many lists and objects JSON has for it.
fn middles() -> [(usize, (Type, Data)); 5] {
    let leaf = |of, data| (Type::Leaf(of), Data::Leaf(data));
    let of = || Type::Leaf(Leaf::Bool).into();
    [
        (0, leaf(Leaf::U8, LeafData::U8(1))),
        (0, leaf(Leaf::Text, LeafData::Text("[{".to_owned()))),
        (1, leaf(Leaf::Bytes, LeafData::Bytes(Bytes(vec![])))),
        (1, (Type::Seq(of()), Data::Seq(vec![]))),
        (1, (Type::Map(of(), of()), Data::Map(vec![]))),
    ]
}

#[track_caller]
fn is_stored_unless_too_deep(levels: usize, of: &Type, data: &Data) {
    comes_back_or_is_refused(of, data, Lengths::Right).unwrap();
    let lengths = Lengths::Right;
    let result = encode(&Written { data, lengths });
    assert_eq!(result.is_ok(), levels <= LEVELS, "{levels} levels");
    if let Err(error) = result {
        assert!(error.to_string().contains("deeper than 127"), "{error}");
    }
}

#[test]
fn each_kind_is_stored_as_deep_as_it_can_be_read() {
    for around in Around::ALL {
        for (inside, middle) in middles() {
            let mut levels = inside;
            let mut nested = middle;
            for _ in 0..140 {
                nested = around.of(nested);
                levels += around.levels();
                if (100..=140).contains(&levels) {
                    is_stored_unless_too_deep(levels, &nested.0, &nested.1);
                }
            }
        }
    }
}

proptest! {
    #[test]
    fn any_mixture_is_stored_as_deep_as_it_can_be_read(
        arounds in prop::collection::vec(prop::sample::select(Around::ALL), 400),
        middle in prop::sample::select(middles().to_vec()),
        enough in 120_usize..135,
    ) {
        let (mut levels, mut nested) = middle;
        for around in arounds {
            if levels >= enough {
                break;
            }
            nested = around.of(nested);
            levels += around.levels();
        }
        is_stored_unless_too_deep(levels, &nested.0, &nested.1);
    }
}
