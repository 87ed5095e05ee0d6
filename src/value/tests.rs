use std::{
    collections::BTreeMap,
    error::Error as _,
    fmt::{self, Debug},
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Visitor};
use serde_json::{Value, json};
use uuid::Uuid;

use super::*;

mod any_type;
mod deep;
mod leaf;
mod model;
mod properties;
mod refused;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Unit;

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
struct Name<T>(T);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Pair(String, i64);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct User {
    name: String,
    age: Option<u8>,
    tags: BTreeMap<String, Vec<String>>,
    shape: Shape,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Shape {
    Point,
    #[serde(rename = "null")]
    Null,
    #[serde(rename = "\"null\"")]
    QuotedNull,
    #[serde(rename = "{\"A\":1}")]
    LikeA,
    #[serde(rename = "\"{\\\"A\\\":1}\"")]
    LikeQuotedA,
    A(i64),
    Label(String),
    Pair(String, f64),
    Rect {
        w: u32,
        h: Option<String>,
    },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum FlagOrText {
    Flag(bool),
    Text(String),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum MaybeText {
    Text(Option<String>),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
enum Measure {
    Metres(f64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind")]
enum Event {
    Start,
    Move { by: i32 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Flat {
    id: u32,
    #[serde(flatten)]
    rest: BTreeMap<String, Value>,
}

/// Like `rust_decimal::Decimal`: written as text, read from whatever there is.
#[derive(Debug, PartialEq)]
struct Decimal(String);

impl Serialize for Decimal {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

impl<'de> Deserialize<'de> for Decimal {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct AnyNumber;
        impl Visitor<'_> for AnyNumber {
            type Value = Decimal;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a decimal")
            }
            fn visit_str<E>(self, text: &str) -> Result<Decimal, E> {
                Ok(Decimal(text.to_owned()))
            }
            fn visit_u64<E>(self, number: u64) -> Result<Decimal, E> {
                Ok(Decimal(number.to_string()))
            }
            fn visit_f64<E>(self, number: f64) -> Result<Decimal, E> {
                Ok(Decimal(number.to_string()))
            }
        }
        deserializer.deserialize_any(AnyNumber)
    }
}

fn stored<T: Serialize + ?Sized>(value: &T) -> String {
    String::from_utf8(encode(value).unwrap().to_vec()).unwrap()
}

#[track_caller]
fn comes_back<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: T) {
    let text = stored(&value);
    let read =
        decode::<T>(&text).unwrap_or_else(|error| panic!("{value:?} stored as {text}: {error}"));
    assert_eq!(read, value, "stored as {text}");
}

fn some<T>(value: T) -> Option<T> {
    Some(value)
}

#[test]
fn strings_are_stored_bare() {
    assert_eq!(stored("abdullah"), "abdullah");
    assert_eq!(stored("\"q\"\nnull"), "\"q\"\nnull");
    assert_eq!(stored(""), "");
    assert_eq!(stored(&'ß'), "ß");
    assert_eq!(stored(&Shape::Point), "Point");
    assert_eq!(stored(&format_args!("{}-{}", 1, 2)), "1-2");
    assert_eq!(stored(&Name("null")), "null");
    assert_eq!(stored(&some("3")), "3");
    assert_eq!(stored(&Uuid::nil()), "00000000-0000-0000-0000-000000000000");
}

#[test]
fn everything_else_is_stored_as_compact_json() {
    assert_eq!(stored(&3), "3");
    assert_eq!(
        stored(&u128::MAX),
        "340282366920938463463374607431768211455"
    );
    assert_eq!(stored(&-0.0), "-0.0");
    assert_eq!(stored(&true), "true");
    assert_eq!(stored(&()), "null");
    assert_eq!(stored(&None::<String>), "null");
    assert_eq!(stored(&BTreeMap::from([("a", 1)])), r#"{"a":1}"#);
    assert_eq!(stored(&Shape::A(1)), r#"{"A":1}"#);
    assert_eq!(stored(&["a", "null"]), r#"["a","null"]"#);
}

#[test]
fn a_string_comes_back_whatever_it_looks_like() {
    let texts = [
        "3", "true", "null", "\"q\"", "\"null\"", "{}", "[1", "", " ", "a\nb\r\n", "\0",
        "\u{feff}", "1e400",
    ];
    for text in texts {
        comes_back(text.to_owned());
        comes_back(Name(text.to_owned()));
        comes_back(some(text.to_owned()));
    }
}

#[test]
fn some_null_differs_from_none() {
    assert_eq!(stored(&some("null")), r#""null""#);
    assert_eq!(stored(&some(r#""null""#)), r#""\"null\"""#);
    assert_eq!(stored(&some(r#""q""#)), r#""q""#);
    assert_eq!(stored(&some(r#""nul""#)), r#""nul""#);
    assert_eq!(stored(&some(r#" "null""#)), r#" "null""#);

    let mut text = "null".to_owned();
    for _ in 0..5 {
        comes_back(text.clone());
        comes_back(some(text.clone()));
        comes_back(some(some(text.clone())));
        comes_back(Name(some(text.clone())));
        comes_back(some(Name(text.clone())));
        comes_back(some(Name(some(text.clone()))));
        text = serde_json::to_string(&text).unwrap();
    }
    comes_back(some(r#""n\u0075ll""#.to_owned()));
    comes_back(some(r#""null" "#.to_owned()));
    comes_back(None::<String>);
    comes_back(Name(None::<String>));
    comes_back(None::<Name<String>>);
    comes_back(some(Value::from("null")));
    comes_back(MaybeText::Text(some("null".to_owned())));
    comes_back(MaybeText::Text(some("3".to_owned())));
    comes_back(MaybeText::Text(None));
}

#[test]
fn a_unit_variant_comes_back_whatever_its_name_looks_like() {
    for shape in [
        Shape::Point,
        Shape::Null,
        Shape::QuotedNull,
        Shape::LikeA,
        Shape::LikeQuotedA,
        Shape::A(1),
    ] {
        comes_back(shape.clone());
        comes_back(Name(shape.clone()));
        comes_back(some(shape.clone()));
        comes_back(some(Name(some(shape))));
    }
    comes_back(None::<Shape>);
}

#[test]
fn a_unit_variant_needs_a_name_that_the_enum_has() {
    assert!(decode::<Shape>("Circle").is_err());
    assert!(decode::<Shape>("A").is_err());
    assert!(decode::<Shape>(r#"{"Point":1}"#).is_err());
}

#[test]
fn what_another_program_wrote_is_read() {
    let text = r#"{"name": "x", "age": null, "tags": {"a": ["b", "c"]}, "shape": {"Rect": {"w": 1, "h": "2"}}}"#;
    let user: User = decode(text).unwrap();
    assert_eq!(
        user.shape,
        Shape::Rect {
            w: 1,
            h: some("2".to_owned())
        }
    );
    assert_eq!(
        decode::<Value>(text).unwrap(),
        serde_json::from_str::<Value>(text).unwrap()
    );
    assert_eq!(
        decode::<BTreeMap<String, i32>>(r#"{"a": 1}"#).unwrap(),
        BTreeMap::from([("a".to_owned(), 1)])
    );
    assert_eq!(
        decode::<Shape>(r#"{"Pair": ["x", 1]}"#).unwrap(),
        Shape::Pair("x".to_owned(), 1.0)
    );
    assert_eq!(decode::<Vec<u8>>("[1, 2]\n").unwrap(), [1, 2]);
    assert_eq!(decode::<f64>("3").unwrap(), 3.0);
    assert_eq!(decode::<Value>("\n[\n  1\n]\n").unwrap(), json!([1]));
}

#[test]
fn nothing_may_follow_the_value() {
    assert!(decode::<i64>("3 4").is_err());
    assert!(decode::<()>("null,").is_err());
    assert!(decode::<Vec<i64>>("[1]]").is_err());
    assert!(decode::<Shape>(r#"{"A":1}x"#).is_err());
    assert_eq!(decode::<Value>("{} {}").unwrap(), json!("{} {}"));
}

#[test]
fn any_value_is_json_where_the_text_is() {
    assert_eq!(decode::<Value>("3").unwrap(), json!(3));
    assert_eq!(decode::<Value>("-3").unwrap(), json!(-3));
    assert_eq!(decode::<Value>("1.5").unwrap(), json!(1.5));
    assert_eq!(
        decode::<Value>("18446744073709551615").unwrap(),
        json!(u64::MAX)
    );
    assert_eq!(decode::<Value>("true").unwrap(), json!(true));
    assert_eq!(decode::<Value>("null").unwrap(), Value::Null);
    assert_eq!(decode::<Value>(r#"[1,"a"]"#).unwrap(), json!([1, "a"]));
    comes_back(Event::Start);
    comes_back(Event::Move { by: -1 });
    comes_back(FlagOrText::Flag(true));
    comes_back(Flat {
        id: 1,
        rest: BTreeMap::from([
            ("a".to_owned(), json!("null")),
            ("b".to_owned(), json!([1.5])),
        ]),
    });
}

#[test]
fn any_value_is_a_string_where_json_would_lose_something() {
    let texts = [
        "1.10",
        "0.1000000000000000000001",
        "1e400",
        "1E5",
        "007",
        "-0",
        "+1",
        "18446744073709551616",
    ];
    for text in texts {
        comes_back(json!(text));
        comes_back(Decimal(text.to_owned()));
    }
    for text in [
        "hello",
        "",
        " 3",
        "true ",
        "nullx",
        "NaN",
        "[link](url)",
        "{oops",
        "[1e400]",
        "\"q\"",
        "\"{x}\"",
    ] {
        comes_back(json!(text));
    }
}

#[test]
fn any_value_that_refuses_json_is_given_the_string() {
    for text in ["3", "1.5", "null", "[1]", r#"{"a":1}"#] {
        comes_back(FlagOrText::Text(text.to_owned()));
        comes_back(some(Name(FlagOrText::Text(text.to_owned()))).filter(|_| text != "null"));
    }
}

#[test]
fn any_value_that_refuses_a_string_is_given_json() {
    assert_eq!(decode::<Measure>("1.10").unwrap(), Measure::Metres(1.1));
    assert_eq!(decode::<Measure>("1e5").unwrap(), Measure::Metres(1e5));
}

#[test]
fn any_value_that_refuses_both_tells_why_it_refused_the_first() {
    let error = decode::<Event>(r#"{"kind":"Move","by":"far"}"#).unwrap_err();
    assert!(error.to_string().contains("far"), "{error}");
    let error = decode::<Measure>("tall").unwrap_err();
    assert!(error.to_string().contains("did not match"), "{error}");
}

#[test]
fn a_string_that_reads_as_a_number_is_the_known_loss() {
    assert_eq!(decode::<Value>(&stored(&json!("3"))).unwrap(), json!(3));
}

#[test]
fn what_serde_reads_by_way_of_a_copy_is_a_known_loss() {
    #[derive(Debug, Serialize, Deserialize)]
    #[serde(tag = "kind")]
    enum Tagged {
        Large { n: u128 },
        Keyed { n: BTreeMap<u8, u8> },
    }
    assert!(decode::<Tagged>(&stored(&Tagged::Large { n: 3 })).is_err());
    let n = BTreeMap::from([(1, 2)]);
    assert!(decode::<Tagged>(&stored(&Tagged::Keyed { n })).is_err());
}

#[test]
fn errors_are_serde_jsons_own() {
    let error = decode::<User>("{\"name\":").unwrap_err();
    assert!(error.is_eof());
    assert!(error.source().is_none());
    assert!(
        encode(&BTreeMap::from([(vec![1], 1)]))
            .unwrap_err()
            .to_string()
            .contains("key must be a string")
    );
}

#[test]
fn deep_nesting_is_refused_and_harms_nothing() {
    for open in ["[", r#"{"a":"#, r#"{"Label":"#] {
        let text = open.repeat(100_000);
        assert!(decode::<User>(&text).is_err());
        assert!(decode::<Shape>(&text).is_err());
        assert!(decode::<Vec<Value>>(&text).is_err());
        // Not as a string either: as such it would be another value than the one that was written.
        assert!(decode::<Value>(&text).is_err());
    }
    let balanced = "[".repeat(100_000) + &"]".repeat(100_000);
    assert!(decode::<Vec<Value>>(&balanced).is_err());
    assert!(decode::<Value>(&balanced).is_err());
}

#[test]
fn deep_quoting_comes_back() {
    // The densest way to nest string literals: quotes and backslashes as `\u0022` and `\u005c`.
    let mut text = "null".to_owned();
    while text.len() < 1_000_000 {
        text = format!(
            "\"{}\"",
            text.replace('\\', "\\u005c").replace('"', "\\u0022")
        );
    }
    std::thread::Builder::new()
        .stack_size(64 * 1024)
        .spawn(|| comes_back(some(text)))
        .unwrap()
        .join()
        .unwrap();
}
