//! What `encode` refuses, what it says of it, and what is near to it and fine.

use std::marker::PhantomData;

use super::*;

#[track_caller]
fn is_refused<T: Serialize>(value: T, why: &str) {
    let error = encode(&value).unwrap_err().to_string();
    assert!(error.contains(why), "{error}");
}

/// At the top and at every kind of place inside.
macro_rules! is_refused_everywhere {
    ($value:expr, $why:expr) => {{
        #[derive(Serialize)]
        struct Field<T> {
            before: u8,
            field: T,
        }
        #[derive(Serialize)]
        enum Held<T> {
            Newtype(T),
            Tuple(u8, T),
            Struct { before: u8, field: T },
        }
        let value = || $value;
        is_refused(value(), $why);
        is_refused(some(value()), $why);
        is_refused(Name(value()), $why);
        is_refused(vec![value()], $why);
        is_refused((1, value()), $why);
        is_refused(Many(1, value()), $why);
        is_refused(BTreeMap::from([("a", value())]), $why);
        is_refused(
            Field {
                before: 1,
                field: value(),
            },
            $why,
        );
        is_refused(Held::Newtype(value()), $why);
        is_refused(Held::Tuple(1, value()), $why);
        is_refused(
            Held::Struct {
                before: 1,
                field: value(),
            },
            $why,
        );
        is_refused(vec![some(Name(vec![Held::Newtype(value())]))], $why);
    }};
}

#[derive(Serialize)]
struct Many<T>(u8, T);

#[test]
fn a_number_that_json_lacks_is_refused() {
    let why = "a NaN or an infinity cannot be stored: JSON has no such number";
    for number in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        is_refused_everywhere!(number, why);
        is_refused_everywhere!(number as f32, why);
        is_refused_everywhere!(some(number), why);
    }
    comes_back(vec![f64::MAX, f64::MIN_POSITIVE, -0.0]);
    comes_back(vec![f32::MAX, f32::from_bits(1)]);
}

#[test]
fn a_key_that_is_no_number_of_json_is_refused() {
    struct Key(f64);
    impl Serialize for Key {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map([(self.0, 1)])
        }
    }
    is_refused(Key(f64::NAN), "a NaN or an infinity cannot be stored");
    assert_eq!(stored(&Key(1.5)), r#"{"1.5":1}"#);
}

#[test]
fn some_of_nothing_is_refused() {
    let why = "`Some` of nothing cannot be stored: it would be read as `None`";
    is_refused_everywhere!(some(None::<u8>), why);
    is_refused_everywhere!(some(some(None::<u8>)), why);
    is_refused_everywhere!(some(()), why);
    is_refused_everywhere!(some(Unit), why);
    is_refused_everywhere!(some(PhantomData::<u8>), why);
    is_refused_everywhere!(some(Name(())), why);
    is_refused_everywhere!(some(Name(Name(some(Name(None::<u8>))))), why);
    is_refused_everywhere!(some(Box::new(Value::Null)), why);
}

#[test]
fn some_of_something_is_stored_as_the_thing() {
    macro_rules! is_stored {
        ($($value:expr => $text:expr;)*) => {$(
            assert_eq!(stored(&$value), $text);
            comes_back($value);
        )*};
    }
    is_stored! {
        some(3) => "3";
        some(some(3)) => "3";
        some("null".to_owned()) => r#""null""#;
        some(false) => "false";
        some(String::new()) => "";
        vec![None, some(1)] => "[null,1]";
        vec![(), ()] => "[null,null]";
        vec![Unit] => "[null]";
        some(Vec::<u8>::new()) => "[]";
        some(vec![None::<u8>, None]) => "[null,null]";
        some(vec![()]) => "[null]";
        some(((), None::<u8>)) => "[null,null]";
        some(BTreeMap::from([(1, None::<u8>)])) => r#"{"1":null}"#;
        some(BTreeMap::from([("a".to_owned(), ())])) => r#"{"a":null}"#;
        some(Ok::<(), ()>(())) => r#"{"Ok":null}"#;
        some(Err::<(), Option<u8>>(None)) => r#"{"Err":null}"#;
        some(Shape::Point) => "Point";
        some(Shape::Rect { w: 1, h: None }) => r#"{"Rect":{"w":1,"h":null}}"#;
        BTreeMap::from([(some(Name('a')), some(vec![None, some(true)]))]) => r#"{"a":[null,true]}"#;
        vec![some("null".to_owned()), None] => r#"["null",null]"#;
        Name(some(Name(3))) => "3";
        None::<Option<u8>> => "null";
        vec![None::<Option<()>>] => "[null]";
        (Value::Null, json!([null, {"a": null}])) => r#"[null,[null,{"a":null}]]"#;
    }
}

fn nested<T>(levels: usize, middle: T, around: impl Fn(T) -> T) -> T {
    (0..levels).fold(middle, |inner, _| around(inner))
}

#[test]
fn what_is_nested_deeper_than_it_could_be_read_is_refused() {
    let why = "nested deeper than 127 levels: it could not be read";
    let lists = |levels| nested(levels, json!(1), |inner| json!([inner]));
    let objects = |levels| nested(levels, json!(1), |inner| json!({"a": inner}));
    assert_eq!(
        stored(&lists(127)),
        "[".repeat(127) + "1" + &"]".repeat(127)
    );
    comes_back(lists(127));
    comes_back(objects(127));
    comes_back((lists(126), objects(126)));
    is_refused(lists(128), why);
    is_refused(objects(128), why);
    is_refused(vec![objects(127)], why);
    is_refused((1, objects(126), lists(127)), why);
}

/// It would have been written until the stack was full.
#[test]
fn what_has_no_end_is_refused() {
    struct Endless;
    impl Serialize for Endless {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_seq([Endless])
        }
    }
    is_refused(Endless, "nested deeper than 127 levels");
}

#[test]
fn a_length_that_is_wrong_spoils_nothing() {
    struct Wrong(usize);
    impl Serialize for Wrong {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            use serde::ser::{SerializeSeq, SerializeStruct};
            struct List(usize);
            impl Serialize for List {
                fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                    let mut list = serializer.serialize_seq(Some(self.0))?;
                    list.serialize_element(&1)?;
                    list.serialize_element(&2)?;
                    list.end()
                }
            }
            let mut fields = serializer.serialize_struct("Wrong", self.0)?;
            fields.serialize_field("list", &List(self.0))?;
            fields.end()
        }
    }
    for len in [0, 1, 2, 3] {
        assert_eq!(stored(&Wrong(len)), r#"{"list":[1,2]}"#);
    }
}

#[test]
fn a_display_that_fails_is_an_error() {
    struct Broken;
    impl fmt::Display for Broken {
        fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
            Err(fmt::Error)
        }
    }
    impl Serialize for Broken {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_str(self)
        }
    }
    struct Keyed;
    impl Serialize for Keyed {
        fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
            serializer.collect_map([(Broken, 1)])
        }
    }
    is_refused_everywhere!(Broken, "formatting");
    is_refused(Keyed, "formatting");
}

#[test]
fn a_key_that_is_no_string_is_refused() {
    is_refused(BTreeMap::from([(vec![1], 1)]), "key must be a string");
    is_refused(BTreeMap::from([((), 1)]), "key must be a string");
    is_refused(BTreeMap::from([(None::<u8>, 1)]), "key must be a string");
    comes_back(BTreeMap::from([(some(Name(3)), 1)]));
    comes_back(BTreeMap::from([(false, u128::MAX), (true, 0)]));
    comes_back(BTreeMap::from([('"', Unit)]));
}
