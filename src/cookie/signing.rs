//! Signing the cookie's value: `<mac><id>`, so that an id which somebody made up costs no store access.

use std::{fmt, str};

use cookie::{Cookie, CookieJar, Key};

use super::Named;
use crate::{error::ConfigError, id::SessionId};

/// 32 bytes in base64. An id is shorter, so that one without a signature cannot be taken for a signature.
const MAC_LENGTH: usize = 44;

/// What the builder was told.
#[derive(Clone, Debug, Default)]
pub(crate) struct SigningOptions {
    pub(crate) keys: Option<Vec<Key>>,
    pub(crate) accept_unsigned: bool,
    pub(crate) send_unsigned: bool,
}

impl SigningOptions {
    /// `None`: cookies are not signed.
    pub(crate) fn check(self) -> Result<Option<Signing>, ConfigError> {
        let Self {
            keys,
            accept_unsigned,
            send_unsigned,
        } = self;
        match keys {
            Some(keys) if keys.is_empty() => Err(ConfigError::NoSigningKey),
            None if accept_unsigned => Err(ConfigError::AcceptUnsignedWithoutKeys),
            None if send_unsigned => Err(ConfigError::SendUnsignedWithoutKeys),
            Some(_) if send_unsigned && !accept_unsigned => {
                Err(ConfigError::SendUnsignedWithoutAcceptUnsigned)
            }
            None => Ok(None),
            Some(keys) => Ok(Some(Signing {
                keys,
                accept_unsigned,
                send_unsigned,
            })),
        }
    }
}

/// How a layer signs its cookies: checked.
pub(crate) struct Signing {
    /// The first signs; each of them is accepted.
    keys: Vec<Key>,
    accept_unsigned: bool,
    send_unsigned: bool,
}

impl Signing {
    /// The id in a cookie's value, if the value is one that we, or another process of ours, could have sent.
    pub(super) fn read(&self, name: &str, value: &[u8]) -> Option<Named> {
        let Some((mac, id)) = value.split_at_checked(MAC_LENGTH) else {
            let id = SessionId::from_canonical(value).filter(|_| self.accept_unsigned)?;
            let is_outdated = !self.send_unsigned;
            return Some(Named { id, is_outdated });
        };
        let (mac, id) = (str::from_utf8(mac).ok()?, SessionId::from_canonical(id)?);
        let signed = Cookie::new("", format!("{mac}{}", signed_text(name, id)));
        let jar = CookieJar::new();
        // The comparison takes the same time wherever the two differ.
        let is_by = |key: &Key| jar.signed(key).verify(signed.clone()).is_some();
        let by = self.keys.iter().position(is_by)?;
        let is_outdated = by != 0 && !self.send_unsigned;
        Some(Named { id, is_outdated })
    }

    /// What stands before the id in the cookie; empty where it is sent without a signature.
    pub(super) fn mac(&self, name: &str, id: SessionId) -> Option<String> {
        if self.send_unsigned {
            return Some(String::new());
        }
        let mut jar = CookieJar::new();
        let unsigned = Cookie::new("", signed_text(name, id));
        jar.signed_mut(self.keys.first()?).add(unsigned);
        let mut value = jar.get("")?.value().to_owned();
        value.truncate(MAC_LENGTH);
        Some(value)
    }
}

/// What is signed. The `cookie` crate signs a cookie's value and not its name, so the name is put into the value: else a
/// value signed for another cookie of the app would be one for this cookie, too. A name has no `=` in it.
fn signed_text(name: &str, id: SessionId) -> String {
    format!("{name}={id}")
}

/// No key.
impl fmt::Debug for Signing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signing")
            .field("keys", &self.keys.len())
            .field("accept_unsigned", &self.accept_unsigned)
            .field("send_unsigned", &self.send_unsigned)
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11";

    fn key(byte: u8) -> Key {
        Key::from(&[byte; 64])
    }

    fn signing(keys: &[u8], accept_unsigned: bool) -> Option<Signing> {
        let options = SigningOptions {
            keys: Some(keys.iter().copied().map(key).collect()),
            accept_unsigned,
            send_unsigned: false,
        };
        options.check().ok().flatten()
    }

    fn id() -> SessionId {
        ID.parse().unwrap_or_else(|_| SessionId::random())
    }

    fn read(signing: &Option<Signing>, name: &str, value: impl AsRef<[u8]>) -> Option<bool> {
        let named = signing.as_ref()?.read(name, value.as_ref())?;
        assert_eq!(named.id, id());
        Some(named.is_outdated)
    }

    fn value(signing: &Option<Signing>, name: &str) -> String {
        let mac = signing.as_ref().and_then(|it| it.mac(name, id()));
        format!("{}{ID}", mac.unwrap_or_default())
    }

    /// So that a program in another language can make one: Python's
    /// `base64.b64encode(hmac.digest(key[:32], f"session_id={id}".encode(), "sha256"))`.
    #[test]
    fn it_is_an_hmac_sha256_over_name_and_id_in_base64() {
        let expected = "BENy+8Dxx5ZoG1hDg7RpwvpZW0GG6joLXSQSlfz1YN0=";
        let value = value(&signing(&[7], false), "session_id");
        assert_eq!(value, format!("{expected}{ID}"));
    }

    #[test]
    fn the_first_key_signs_and_each_is_accepted() {
        let (old, both) = (signing(&[1], false), signing(&[2, 1], false));
        assert_eq!(read(&both, "id", value(&old, "id")), Some(true));
        assert_eq!(read(&both, "id", value(&both, "id")), Some(false));
        let new = signing(&[2], false);
        assert_eq!(read(&new, "id", value(&both, "id")), Some(false));
        assert_eq!(read(&new, "id", value(&old, "id")), None, "dropped");
    }

    #[test]
    fn a_value_for_another_name_is_none_for_this() {
        let signing = signing(&[1], false);
        for other in ["id2", "i", "Id", "", "id=", "__Host-id"] {
            assert_eq!(read(&signing, "id", value(&signing, other)), None);
        }
    }

    #[test]
    fn a_value_with_any_byte_changed_is_none() {
        let signing = signing(&[1], true);
        let value = value(&signing, "id").into_bytes();
        assert_eq!(read(&signing, "id", &value), Some(false));
        for place in 0..value.len() {
            for bit in 0..8 {
                let mut value = value.clone();
                if let Some(byte) = value.get_mut(place) {
                    *byte ^= 1 << bit;
                }
                let named = signing.as_ref().and_then(|it| it.read("id", &value));
                assert_eq!(named, None, "bit {bit} of byte {place}");
            }
        }
        for end in 0..value.len() {
            assert_eq!(read(&signing, "id", value.get(..end).unwrap_or(b"")), None);
        }
    }

    #[test]
    fn an_id_without_a_signature_is_one_only_where_it_is_accepted() {
        assert_eq!(read(&signing(&[1], false), "id", ID), None);
        assert_eq!(read(&signing(&[1], true), "id", ID), Some(true));
        // A signature of another key is not the same as none.
        let others = value(&signing(&[2], false), "id");
        assert_eq!(read(&signing(&[1], true), "id", others), None);
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", signing(&[251], true));
        assert!(
            shown.contains("keys: 1") && !shown.contains("251"),
            "{shown}"
        );
    }
}
