//! A session field's value to the text of one Redis hash field, and back.
//!
//! - A value that serializes to a string is stored as that text, bare: `abdullah`, not `"abdullah"`. Everything else
//!   is compact JSON: `3`, `true`, `null`, `{"a":1}`.
//! - Reading follows the type that is read, so a `String` comes back whatever its text looks like (`3`, `null`, `{}`).
//! - `None` is `null`. To differ from it, `Some("null")` is quoted: `"null"`. To differ from that in turn, a string in
//!   a `Some` that looks like such a quoted text is quoted once more. Any other string in a `Some` is bare.
//! - In the same way, a unit variant whose name begins with `{` is quoted, to differ from a variant with data.
//! - A type that accepts anything (`serde_json::Value`, an untagged enum: `deserialize_any`) is given JSON where the
//!   text is an object, an array, or exactly what serde_json writes for a number, a boolean or null; else a string.
//!   `1.10` is a string: as a number it would lose its zero. So is `"q"`: its quotes are part of it. If the type
//!   refuses the one, it is given the other.
//! - A value that would not read back unchanged is refused, at every depth ([`Checked`](check::Checked)): a NaN or an
//!   infinity, which JSON lacks; `Some(None)`, `Some(())` and the like, which would be read as `None`; and lists and
//!   objects nested deeper than 127 levels, which serde_json does not read.
//!
//! Some losses do not show in the value that is written, so they remain:
//!
//! - A type that accepts anything cannot know whether `3` was written as a number or as a string: `Value::String("3")`
//!   comes back as `Value::Number(3)`, and so does any other string that is also the text of another value. A
//!   `serde_json::value::RawValue` is read only as a part of another value.
//! - serde reads untagged, internally tagged and flattened types from a copy, from which no `u128`, no `i128` and no
//!   map with numbers as keys can be read.
//! - A hand-written `Deserialize` may make something else of the text.
//!
//! Such a type may even tell `Some(None)` from `None` (a "double option"). `Some(None)` is refused all the same.

use std::{borrow::Cow, cell::Cell};

use bytes::Bytes;
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Error;

use self::{
    read::Reader,
    write::{Json, Writer},
};

mod check;
mod members;
mod read;
mod write;

pub(crate) use members::{decode_members, encode_members};

#[cfg(test)]
mod tests;

/// The text to store for `value`.
pub(crate) fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Bytes, Error> {
    encode_with(value, None)
}

/// The same; none for `None`.
fn encode_some<T: Serialize + ?Sized>(value: &T) -> Result<Option<Bytes>, Error> {
    let mut is_none = false;
    let text = encode_with(value, Some(&mut is_none))?;
    Ok((!is_none).then_some(text))
}

fn encode_with<T: Serialize + ?Sized>(
    value: &T,
    is_none: Option<&mut bool>,
) -> Result<Bytes, Error> {
    let mut json = Json::new(Vec::new());
    let mut bare = None;
    value.serialize(Writer {
        json: &mut json,
        bare: &mut bare,
        in_some: false,
        is_none,
    })?;
    // Boxed first: `Bytes` would pay for a `Vec`'s spare capacity with one more allocation, and keep it.
    Ok(bare.unwrap_or_else(|| json.into_inner().into_boxed_slice().into()))
}

/// The value that `text` stands for.
pub(crate) fn decode<T: DeserializeOwned>(text: &str) -> Result<T, Error> {
    let unquoted = unquote(text, is_null);
    let any_is_json = Cell::new(None);
    let read = || {
        T::deserialize(Reader {
            text,
            unquoted: unquoted.as_deref(),
            is_string: false,
            any_is_json: &any_is_json,
        })
    };
    match (read(), any_is_json.get()) {
        // `T` accepts anything, but refused this form: it is given the other. If both fail, the first error tells more.
        // JSON that is only too deep for serde_json is the exception: as a string it would be another value.
        (Err(first), Some(true)) if is_too_deep(&first) => Err(first),
        (Err(first), Some(was_json)) => {
            any_is_json.set(Some(!was_json));
            read().map_err(|_| first)
        }
        (result, _) => result,
    }
}

fn is_too_deep(error: &Error) -> bool {
    error.to_string().starts_with("recursion limit")
}

/// `None` is stored as `null`.
fn is_null(text: &str) -> bool {
    text == "null"
}

/// An enum's variant with data is stored as an object.
fn is_object(text: &str) -> bool {
    text.starts_with('{')
}

/// Whether `text` must be quoted: it is `taken`, or it is the quoted form of a text that must be quoted itself.
fn must_quote(text: &str, taken: fn(&str) -> bool) -> bool {
    let mut text = Cow::Borrowed(text);
    // A loop, not a recursion: the depth is in the hands of whoever wrote the text.
    while !taken(&text) {
        match string_literal(&text) {
            Some(content) => text = Cow::Owned(content),
            None => return false,
        }
    }
    true
}

/// What was quoted because of [`must_quote`]; `None` for a text that was stored bare.
fn unquote(text: &str, taken: fn(&str) -> bool) -> Option<String> {
    string_literal(text).filter(|content| must_quote(content, taken))
}

fn string_literal(text: &str) -> Option<String> {
    // Saves nearly every text from the parser, whose errors allocate.
    if !text.starts_with('"') {
        return None;
    }
    serde_json::from_str(text).ok()
}
