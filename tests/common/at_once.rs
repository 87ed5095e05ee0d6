//! A store that answers at once, with the same session each time: what a request costs on it, the layer costs. Apart
//! from `mod.rs`, so that the benchmark needs no more than this.

use std::time::Duration;

use bytes::Bytes;
use tower_redis_session::{
    Changes, Error, Expiry, Fields, Record, SessionId, SessionStore, Written,
};

pub(crate) struct AtOnce {
    fields: Fields,
    /// Whether it needs no future for that, as what is near at hand.
    known: bool,
    /// Whether it takes writes, of which it keeps nothing; else each is a panic.
    pub(crate) written_to: bool,
}

impl AtOnce {
    pub(crate) fn new(known: bool) -> Self {
        let pairs = [("user", "abdullah"), ("status", "active")];
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        let fields = pairs.map(|(name, text)| (bytes(name), bytes(text)));
        Self {
            fields: fields.into_iter().collect(),
            known,
            written_to: false,
        }
    }

    fn record(&self) -> Record {
        Record::new(self.fields.clone(), Duration::from_secs(900))
    }

    fn write(&self, expiry: Expiry) -> Result<Written, Error> {
        assert!(self.written_to, "nothing is to be written");
        Ok(Written::Kept(expiry.idle_timeout()))
    }
}

impl SessionStore for AtOnce {
    async fn load(&self, _: SessionId, _: Expiry, _: bool) -> Result<Option<Record>, Error> {
        Ok(Some(self.record()))
    }

    fn known(&self, _: SessionId, _: Expiry) -> Option<Record> {
        self.known.then(|| self.record())
    }

    async fn create(&self, _: SessionId, _: &Changes, expiry: Expiry) -> Result<Written, Error> {
        self.write(expiry)
    }

    async fn update(&self, _: SessionId, _: &Changes, expiry: Expiry) -> Result<Written, Error> {
        self.write(expiry)
    }

    async fn renew(
        &self,
        _: SessionId,
        _: SessionId,
        _: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        self.write(expiry)
    }

    async fn delete(&self, _: SessionId) -> Result<(), Error> {
        assert!(self.written_to, "nothing is to be written");
        Ok(())
    }
}
