//! Whatever the type is, too: a value of it comes back as it was, or is refused.

use proptest::prelude::*;

use super::{
    leaf::{Leaf, LeafData, Shown},
    model::*,
    *,
};

/// Of fields and variants: what could be mistaken for something else, and what is.
const NAMES: [Label; 20] = [
    "a",
    "B",
    "null",
    r#""null""#,
    r#""\"null\"""#,
    "{",
    r#"{"a":1}"#,
    r#""{""#,
    r#""{\"a\":1}""#,
    r#""\"{\"""#,
    "",
    " ",
    "[]",
    "3",
    "true",
    "\"",
    "\\",
    "Ok\n\0",
    "ß",
    "Some",
];

/// So many names, each another.
fn named<T>(first: usize, items: Vec<T>) -> Vec<(Label, T)> {
    let names = NAMES.iter().cycle().skip(first).copied();
    names.zip(items).collect()
}

fn leaves() -> impl Strategy<Value = Type> {
    prop::sample::select(Leaf::ALL).prop_map(Type::Leaf)
}

fn types() -> impl Strategy<Value = Type> {
    leaves().prop_recursive(6, 32, 4, |of| compound(of).boxed())
}

fn compound(of: impl Strategy<Value = Type> + Clone + 'static) -> impl Strategy<Value = Type> {
    let some = prop::collection::vec(of.clone(), 0..4);
    let fields = (0..NAMES.len(), some.clone()).prop_map(|(first, types)| named(first, types));
    let boxed = of.clone().prop_map(Box::new);
    let variant = prop_oneof![
        Just(Variant::Unit),
        of.clone().prop_map(Variant::Newtype),
        some.clone()
            .prop_map(|types| Variant::Tuple(Type::Tuple(types))),
        fields
            .clone()
            .prop_map(|fields| Variant::Struct(Type::Struct(fields))),
    ];
    let variants = (0..NAMES.len(), prop::collection::vec(variant, 1..4));
    let shells = (prop::collection::vec(any::<bool>(), 1..4), of.clone());
    let shells = shells.prop_map(|(options, of)| {
        let shell = |of: Type, option| match option {
            true => Type::Option(of.into()),
            false => Type::Newtype(of.into()),
        };
        options.into_iter().fold(of, shell)
    });
    prop_oneof![
        3 => shells,
        1 => boxed.clone().prop_map(Type::Seq),
        1 => some.clone().prop_map(Type::Tuple),
        1 => some.prop_map(Type::TupleStruct),
        2 => (keys(of), boxed).prop_map(|(key, value)| Type::Map(key.into(), value)),
        2 => fields.prop_map(Type::Struct),
        2 => variants.prop_map(|(first, variants)| Type::Enum(named(first, variants))),
    ]
}

/// Mostly what can be a key.
fn keys(of: impl Strategy<Value = Type>) -> impl Strategy<Value = Type> {
    let names = prop::collection::vec(Just(Variant::Unit), 1..NAMES.len());
    let names = names.prop_map(|variants| Type::Enum(named(0, variants)));
    let key = prop_oneof![3 => leaves(), 1 => names].prop_flat_map(|key| {
        prop::sample::select(vec![
            key.clone(),
            Type::Newtype(key.clone().into()),
            Type::Option(key.into()),
        ])
    });
    prop_oneof![7 => key, 1 => of]
}

/// Any value of a type.
fn values(of: &Type) -> BoxedStrategy<Data> {
    let all = |types: &[Type]| types.iter().map(values).collect::<Vec<_>>();
    match of {
        Type::Leaf(leaf) => leaf.any().prop_map(Data::Leaf).boxed(),
        Type::Option(of) => {
            let some = values(of).prop_map(|data| Data::Some(data.into()));
            prop_oneof![1 => Just(Data::None), 2 => some].boxed()
        }
        Type::Newtype(of) => values(of)
            .prop_map(|data| Data::Newtype(data.into()))
            .boxed(),
        Type::Seq(of) => prop::collection::vec(values(of), 0..4)
            .prop_map(Data::Seq)
            .boxed(),
        Type::Tuple(types) => all(types).prop_map(Data::Tuple).boxed(),
        Type::TupleStruct(types) => all(types).prop_map(Data::TupleStruct).boxed(),
        Type::Map(key, value) => prop::collection::vec((values(key), values(value)), 0..4)
            .prop_map(Data::Map)
            .boxed(),
        Type::Struct(fields) => {
            let field = |(name, of): &(Label, Type)| (Just(*name), values(of));
            let fields = fields.iter().map(field).collect::<Vec<_>>();
            fields.prop_map(Data::Struct).boxed()
        }
        Type::Enum(variants) => {
            let variant = |(index, (name, variant)): (usize, &(Label, Variant<Type>))| {
                let content = match variant {
                    Variant::Unit => Just(Variant::Unit).boxed(),
                    Variant::Newtype(of) => values(of).prop_map(Variant::Newtype).boxed(),
                    Variant::Tuple(of) => values(of).prop_map(Variant::Tuple).boxed(),
                    Variant::Struct(of) => values(of).prop_map(Variant::Struct).boxed(),
                };
                let name = *name;
                content
                    .prop_map(move |content| Data::Variant(index as u32, name, content.into()))
                    .boxed()
            };
            prop::strategy::Union::new(variants.iter().enumerate().map(variant)).boxed()
        }
    }
}

fn any_value() -> impl Strategy<Value = (Type, Data)> {
    types().prop_flat_map(|of| {
        let values = values(&of);
        (Just(of), values)
    })
}

fn any_lengths() -> impl Strategy<Value = Lengths> {
    prop::sample::select(vec![Lengths::Right, Lengths::Unknown, Lengths::Zero])
}

/// How many lists and objects serde_json reads inside each other.
pub(super) const LEVELS: usize = 127;

/// Whether JSON has nothing that reads as `data` does, by the rules alone. So many lists and objects are around it.
fn is_lost(data: &Data, around: usize, in_some: bool) -> bool {
    let inside = |data| is_lost(data, around + 1, false);
    let is_deep = around + 1 > LEVELS;
    match data {
        Data::Leaf(LeafData::F32(number) | LeafData::F32Bits(number)) => !number.0.is_finite(),
        Data::Leaf(LeafData::F64(number) | LeafData::F64Bits(number)) => !number.0.is_finite(),
        Data::Leaf(LeafData::Bytes(_) | LeafData::ByteBuf(_)) => is_deep,
        Data::Leaf(LeafData::Unit(_) | LeafData::UnitStruct(_)) | Data::None => in_some,
        Data::Leaf(_) => false,
        Data::Some(data) => is_lost(data, around, true),
        Data::Newtype(data) => is_lost(data, around, in_some),
        Data::Seq(items) | Data::Tuple(items) | Data::TupleStruct(items) => {
            is_deep || items.iter().any(inside)
        }
        Data::Map(entries) => {
            is_deep
                || entries
                    .iter()
                    .any(|(key, value)| !is_key(key) || inside(value))
        }
        Data::Struct(fields) => is_deep || fields.iter().any(|(_, data)| inside(data)),
        Data::Variant(_, _, variant) => match &**variant {
            Variant::Unit => false,
            Variant::Newtype(data) | Variant::Tuple(data) | Variant::Struct(data) => {
                is_deep || inside(data)
            }
        },
    }
}

/// Whether `data` can be an object's key, which is a string.
fn is_key(data: &Data) -> bool {
    match data {
        Data::Leaf(LeafData::Bytes(_) | LeafData::ByteBuf(_)) => false,
        Data::Leaf(LeafData::Unit(_) | LeafData::UnitStruct(_)) => false,
        Data::Leaf(_) => !is_lost(data, 0, false),
        Data::Some(data) | Data::Newtype(data) => is_key(data),
        Data::Variant(_, _, variant) => **variant == Variant::Unit,
        _ => false,
    }
}

/// The text of a value that is a string.
fn string(data: &Data) -> Option<String> {
    match data {
        Data::Leaf(LeafData::Text(text) | LeafData::Shown(Shown(text))) => Some(text.clone()),
        Data::Leaf(LeafData::Char(char)) => Some(char.to_string()),
        Data::Some(data) | Data::Newtype(data) => string(data),
        Data::Variant(_, name, variant) if **variant == Variant::Unit => Some((*name).to_owned()),
        _ => None,
    }
}

pub(super) fn comes_back_or_is_refused(
    of: &Type,
    data: &Data,
    lengths: Lengths,
) -> Result<(), TestCaseError> {
    let stored = match encode(&Written { data, lengths }) {
        Ok(stored) => stored,
        Err(error) => {
            prop_assert!(is_lost(data, 0, false), "refused for no reason: {error}");
            return Ok(());
        }
    };
    let stored = std::str::from_utf8(&stored).unwrap();
    match decode_as(of, stored) {
        Ok(read) => prop_assert_eq!(&read, data, "stored as {}", stored),
        Err(error) => prop_assert!(false, "stored as {stored}: {error}"),
    }
    prop_assert!(!is_lost(data, 0, false), "not refused: {stored}");
    // As it always was.
    match string(data) {
        Some(text) => prop_assert!(
            stored == text || stored == serde_json::to_string(&text).unwrap(),
            "{text:?} stored as {stored}"
        ),
        None => {
            let lengths = Lengths::Right;
            let json = serde_json::to_string(&Written { data, lengths }).unwrap();
            prop_assert_eq!(stored, json);
        }
    }
    Ok(())
}

/// So many as find each of the losses every time, in a second or two.
fn config() -> ProptestConfig {
    let config = ProptestConfig::default();
    match std::env::var_os("PROPTEST_CASES") {
        Some(_) => config,
        None => ProptestConfig {
            cases: 4000,
            ..config
        },
    }
}

proptest! {
    #![proptest_config(config())]

    #[test]
    fn any_value_of_any_type_comes_back_or_is_refused((of, data) in any_value(), lengths in any_lengths()) {
        comes_back_or_is_refused(&of, &data, lengths)?;
    }
}
