//! Answers of the API: JSON whose texts are base64.

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::Value;

use crate::{
    error::Error,
    store::redis::{errors::unexpected_reply, executor::Reply},
};

/// One result.
pub(super) fn reply(value: Value) -> Result<Reply, Error> {
    Ok(match value {
        Value::Null => Reply::Nothing,
        Value::Number(number) => Reply::Number(number.as_i64().ok_or_else(unexpected_reply)?),
        // The one text that is not.
        Value::String(text) if text == "OK" => Reply::Bytes(Bytes::from_static(b"OK")),
        Value::String(text) => {
            let bytes = STANDARD.decode(text).map_err(|_| unexpected_reply())?;
            Reply::Bytes(bytes.into())
        }
        Value::Array(items) => Reply::List(items.into_iter().map(reply).collect::<Result<_, _>>()?),
        Value::Bool(_) | Value::Object(_) => return Err(unexpected_reply()),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn texts_are_base64_and_ok_is_ok() {
        let bytes = |bytes: &'static [u8]| Reply::Bytes(Bytes::from_static(bytes));
        let expected = Reply::List(vec![
            bytes(b"OK"),
            bytes(b"a\0\xff"),
            Reply::Number(3),
            Reply::Nothing,
            Reply::List(vec![bytes(b"\0")]),
        ]);
        let value = json!(["OK", "YQD/", 3, null, ["AA=="]]);
        assert_eq!(reply(value).ok(), Some(expected));
    }

    #[test]
    fn what_is_something_else_is_refused() {
        for value in [
            json!("%"),
            json!(true),
            json!({}),
            json!(1.5),
            json!([1, "%"]),
        ] {
            assert!(reply(value).is_err());
        }
    }
}
