//! Whatever the value and the text are.

use proptest::{prelude::*, string::string_regex};

use super::*;

/// Any text, and the texts that this format is about, whole and damaged.
pub(super) fn text() -> impl Strategy<Value = String> {
    let quoted = |text: &String| serde_json::to_string(text).unwrap();
    let known = prop::sample::select(vec![
        "null",
        "true",
        "3",
        "-0.0",
        "1.10",
        "{}",
        r#"{"A":1}"#,
        "[1]",
        "\"q\"",
        "A",
        "",
    ]);
    prop_oneof![
        any::<String>(),
        string_regex(r#"[\[\]{}",:\\ \nul0-9eE.+-]{0,12}"#).unwrap(),
        (known.clone(), 0..3).prop_map(
            move |(text, times)| (0..times).fold(text.to_owned(), |text, _| quoted(&text))
        ),
        (known, "[ \\n\"\\]}x]").prop_map(|(text, more)| text.to_owned() + &more),
    ]
}

fn finite() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits),
        any::<f64>(),
        Just(-0.0)
    ]
    .prop_filter("finite", |f| f.is_finite())
}

fn shape() -> impl Strategy<Value = Shape> {
    prop_oneof![
        prop::sample::select(vec![
            Shape::Point,
            Shape::Null,
            Shape::QuotedNull,
            Shape::LikeA,
            Shape::LikeQuotedA
        ]),
        any::<i64>().prop_map(Shape::A),
        text().prop_map(Shape::Label),
        (text(), finite()).prop_map(|(text, number)| Shape::Pair(text, number)),
        (any::<u32>(), prop::option::of(text())).prop_map(|(w, h)| Shape::Rect { w, h }),
    ]
}

fn user() -> impl Strategy<Value = User> {
    let tags = prop::collection::btree_map(text(), prop::collection::vec(text(), 0..3), 0..3);
    (text(), any::<Option<u8>>(), tags, shape()).prop_map(|(name, age, tags, shape)| User {
        name,
        age,
        tags,
        shape,
    })
}

macro_rules! any_of_these_comes_back {
    ($($name:ident: $strategy:expr;)*) => {
        proptest! {$(
            #[test]
            fn $name(value in $strategy) {
                comes_back(value.clone());
                comes_back(Name(value.clone()));
                comes_back((value.clone(), 1u8));
                comes_back(vec![value]);
            }
        )*}
    };
}

any_of_these_comes_back! {
    any_string: text();
    any_optional_string: prop::option::of(text());
    any_optional_newtype: prop::option::of(text().prop_map(Name));
    any_doubly_optional_string: prop::option::of(text().prop_map(Some));
    any_char: any::<char>();
    any_optional_char: any::<Option<char>>();
    any_bool: any::<bool>();
    any_i8: any::<i8>();
    any_i16: any::<i16>();
    any_i32: any::<i32>();
    any_i64: any::<i64>();
    any_i128: any::<i128>();
    any_u8: any::<u8>();
    any_u16: any::<u16>();
    any_u32: any::<u32>();
    any_u64: any::<u64>();
    any_u128: any::<u128>();
    any_optional_i64: any::<Option<i64>>();
    any_strings: prop::collection::vec(text(), 0..4);
    any_map_of_optional_strings: prop::collection::btree_map(text(), prop::option::of(text()), 0..4);
    any_struct: user();
    any_optional_struct: prop::option::of(user());
    any_enum: shape();
    any_optional_enum: prop::option::of(shape());
    any_tuple_struct: (text(), any::<i64>()).prop_map(|(text, number)| Pair(text, number));
    any_tuple: (text(), any::<i64>(), any::<Option<bool>>());
    any_uuid: any::<u128>().prop_map(Uuid::from_u128);
    any_optional_uuid: any::<Option<u128>>().prop_map(|bits| bits.map(Uuid::from_u128));
    any_unit: Just(());
    any_unit_struct: Just(Unit);
    any_flag: any::<bool>().prop_map(FlagOrText::Flag);
}

proptest! {
    #[test]
    fn any_f64_comes_back_bit_for_bit(number in finite()) {
        prop_assert_eq!(decode::<f64>(&stored(&number)).unwrap().to_bits(), number.to_bits());
        prop_assert_eq!(decode::<Option<f64>>(&stored(&some(number))).unwrap().unwrap().to_bits(), number.to_bits());
    }

    #[test]
    fn any_f32_comes_back_bit_for_bit(bits in any::<u32>()) {
        let number = f32::from_bits(bits);
        prop_assume!(number.is_finite());
        prop_assert_eq!(decode::<f32>(&stored(&number)).unwrap().to_bits(), bits);
    }

    #[test]
    fn any_text_read_as_a_value_keeps_its_text(text in text()) {
        prop_assume!(!text.trim_start().starts_with(['[', '{']) && unquote(&text, is_null).is_none());
        prop_assert_eq!(stored(&decode::<Value>(&text).unwrap()), text);
    }

    #[test]
    fn no_text_panics(text in text()) {
        macro_rules! read { ($($type:ty),*) => { $(let _ = decode::<$type>(&text); let _ = decode::<Option<Name<$type>>>(&text);)* } }
        read!(String, char, bool, i8, i16, i32, i64, i128, u8, u16, u32, u64, u128, f32, f64, (), Unit, Pair, User, Shape);
        read!(Vec<String>, BTreeMap<String, Option<String>>, (String, i64), Uuid, Option<String>, Option<i64>, Option<char>);
        read!(Value, FlagOrText, MaybeText, Measure, Event, Flat, Decimal, serde::de::IgnoredAny);
    }
}
