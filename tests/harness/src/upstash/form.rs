//! What a request asks: its forms, and where its token is.

use http::{HeaderMap, Method, Uri, header};
use serde_json::Value;

/// What a request is about.
pub(super) enum Form {
    One(Vec<Vec<u8>>),
    Pipeline(Vec<Vec<Vec<u8>>>),
    Transaction(Vec<Vec<Vec<u8>>>),
}

pub(super) fn token(headers: &HeaderMap, uri: &Uri) -> Option<String> {
    if let Some(header) = headers.get(header::AUTHORIZATION) {
        return Some(header.to_str().ok()?.strip_prefix("Bearer ")?.to_owned());
    }
    let mut pairs = uri
        .query()?
        .split('&')
        .filter_map(|pair| pair.split_once('='));
    let (_, token) = pairs.find(|(name, _)| *name == "_token")?;
    Some(token.to_owned())
}

pub(super) fn form(method: &Method, uri: &Uri, body: &[u8]) -> Result<Form, String> {
    let parse = || serde_json::from_slice::<Value>(body).map_err(|error| format!("ERR {error}"));
    let list = |value: Value| match value {
        Value::Array(items) => Ok(items),
        _ => Err("ERR failed to parse command".to_owned()),
    };
    let words = |value: Value| {
        list(value)?
            .into_iter()
            .map(word)
            .collect::<Result<Vec<_>, _>>()
    };
    let all = |value: Value| {
        list(value)?
            .into_iter()
            .map(words)
            .collect::<Result<Vec<_>, _>>()
    };
    Ok(match uri.path() {
        "/" => Form::One(words(parse()?)?),
        "/pipeline" => Form::Pipeline(all(parse()?)?),
        "/multi-exec" => Form::Transaction(all(parse()?)?),
        path => {
            let parts = path.split('/').skip(1).map(percent_decoded);
            let mut words: Vec<Vec<u8>> = parts.collect();
            if method == Method::POST && !body.is_empty() {
                words.push(body.to_vec());
            }
            Form::One(words)
        }
    })
}

fn word(value: Value) -> Result<Vec<u8>, String> {
    match value {
        Value::String(text) => Ok(text.into_bytes()),
        Value::Number(number) => Ok(number.to_string().into_bytes()),
        Value::Bool(bool) => Ok(bool.to_string().into_bytes()),
        _ => Err("ERR failed to parse command".to_owned()),
    }
}

fn percent_decoded(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text.as_bytes();
    while let Some((byte, after)) = rest.split_first() {
        let hex = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        let hex = hex.and_then(|hex| u8::from_str_radix(hex, 16).ok());
        match hex.filter(|_| *byte == b'%') {
            Some(decoded) => {
                bytes.push(decoded);
                rest = &after[2..];
            }
            None => {
                bytes.push(*byte);
                rest = after;
            }
        }
    }
    bytes
}
