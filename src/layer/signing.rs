//! The builder's options for signed cookies.

use cookie::Key;

use super::SessionLayerBuilder;

impl SessionLayerBuilder {
    /// The keys that sign the cookie; by default none, and the cookie's value is the id. With keys it is `<mac><id>`: an
    /// HMAC-SHA256 over the cookie's name and the id, in base64, made with the first key. A value that was made with any
    /// of the keys is accepted. Any other is as a malformed id: the store is not asked.
    ///
    /// So ids that somebody made up cost the store nothing. It is no replacement for https: who reads the cookie on its
    /// way has the signature, too. The guide says [how to make a key, to turn it on and to change a key][guide] without
    /// logging anybody out.
    ///
    /// A cookie with an older key's signature gets today's whenever the cookie is set: at a login or a renewal, with each
    /// refresh of a [`persistent`](Self::persistent) one, and with a
    /// [`refresh_interval`](Self::refresh_interval) with each refresh.
    ///
    /// [guide]: crate::guide::deploying#signed-cookies
    ///
    #[doc = example!(".signing_keys([Key::generate()]) // of this process alone: for a test")]
    pub fn signing_keys(mut self, keys: impl IntoIterator<Item = Key>) -> Self {
        self.signing.keys = Some(keys.into_iter().collect());
        self
    }

    /// Whether an id without a signature is accepted, too; `false` by default. It is for the time in which
    /// [`signing_keys`](Self::signing_keys) are new, and browsers hold cookies from before. Until it is off again, ids
    /// that somebody made up are looked up.
    ///
    #[doc = example!(".signing_keys([Key::generate()]).accept_unsigned(true)")]
    pub fn accept_unsigned(mut self, accept: bool) -> Self {
        self.signing.accept_unsigned = accept;
        self
    }

    /// Whether the cookie is still sent without a signature, and the [`signing_keys`](Self::signing_keys) are only
    /// accepted; `false` by default. It is the first step where several processes serve the same users and get
    /// their new configuration one after the other: those that have no key yet could not read a signed cookie. It needs
    /// [`accept_unsigned`](Self::accept_unsigned).
    ///
    #[doc = example!(".signing_keys([Key::generate()]).accept_unsigned(true).send_unsigned(true)")]
    pub fn send_unsigned(mut self, send: bool) -> Self {
        self.signing.send_unsigned = send;
        self
    }
}
