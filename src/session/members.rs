//! A struct as the session's fields.

use serde::{Serialize, de::DeserializeOwned};

use super::Session;
use crate::{
    error::{Error, ErrorKind},
    value,
};

impl Session {
    /// The session's fields as a struct: each member is the field of its name.
    ///
    /// Other fields are ignored. A member that is an `Option` is `None` where there is no such field.
    ///
    #[doc = example!(
        "#[derive(serde::Serialize, serde::Deserialize)]"
        "struct Account {"
        "    user: String,"
        "    theme: Option<String>,"
        "}"
        "session.insert(\"user\", \"abdullah\")?;"
        "let account: Account = session.get_all()?;"
        "assert_eq!(account.user, \"abdullah\");"
        "assert_eq!(account.theme, None);"
    )]
    /// # Errors
    ///
    /// [`ErrorKind::Deserialize`] where a member has no field and is neither an `Option` nor has a `#[serde(default)]`,
    /// where a field holds something else, and where `T` is no struct with named members.
    pub fn get_all<T: DeserializeOwned>(&self) -> Result<T, Error> {
        let fields: Vec<_> = self.read(|state| {
            let entries = state.data.entries();
            entries
                .filter_map(|(name, text)| Some((String::from_utf8(name.to_vec()).ok()?, text)))
                .collect()
        });
        value::decode_members(fields.into_iter()).map_err(|source| {
            let name = std::any::type_name::<T>();
            let message = format!("the session's fields are no {name}");
            Error::new(ErrorKind::Deserialize, message).with_source(source)
        })
    }

    /// Sets the fields that are named as the members of a struct. A member that is `None` removes its field. Other fields
    /// stay.
    ///
    /// Only what differs from what the session has is written: two requests at once that change different members both
    /// keep their change.
    ///
    #[doc = example!(
        "#[derive(serde::Serialize)]"
        "struct Account<'a> {"
        "    user: &'a str,"
        "    theme: Option<&'a str>,"
        "}"
        "session.set_all(&Account { user: \"abdullah\", theme: Some(\"dark\") })?;"
        "assert_eq!(session.entries()[\"theme\"], \"dark\");"
        "session.set_all(&Account { user: \"abdullah\", theme: None })?;"
        "assert!(!session.contains(\"theme\"));"
    )]
    /// # Errors
    ///
    /// As [`insert`](Self::insert) for any of the members, and [`ErrorKind::Serialize`] for what is no struct with named
    /// members: a map, a tuple, an enum, or a struct with `#[serde(flatten)]`. The session is then as before. An enum with
    /// `#[serde(tag = "…")]` looks like a struct to a serializer, so it is stored; [`get_all`](Self::get_all) refuses it.
    pub fn set_all<T: Serialize + ?Sized>(&self, value: &T) -> Result<(), Error> {
        let members = value::encode_members(value).map_err(|source| {
            let name = std::any::type_name::<T>();
            let message = format!("{name} cannot be stored as a session's fields");
            Error::new(ErrorKind::Serialize, message).with_source(source)
        })?;
        let limit = self.inner.shared.config.max_session_bytes;
        self.change(|state| state.data.set_all(&members, limit))
    }
}
