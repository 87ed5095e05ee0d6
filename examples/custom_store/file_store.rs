//! Sessions as files in a folder, each named after its key. `tests/stores.rs` checks that it keeps every rule.

use std::time::{Duration, SystemTime};
use std::{fs, io, path::PathBuf};

use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tower_redis_session::Error;
use tower_redis_session::store::{
    Changes, Context, Expiry, Fields, Record, SessionKey, SessionStore, Written, key_is_taken,
};

/// Each operation reads and writes its files under the lock and without an `.await`: so it is one step, which nothing
/// can drop half way. The price: a slow disk holds up a thread of the runtime.
///
/// The folder is for one process, and for no other user: a file's name is the id that a client holds. What nobody asks
/// for any more stays there: with an idle timeout of less than a day, `find sessions -mtime +1 -delete` frees it.
pub(crate) struct FileStore(Mutex<Folder>);

struct Folder(PathBuf);

/// What is in a file. Times are counted from 1970, so that they mean the same after a restart.
#[derive(Default, Serialize, Deserialize)]
struct Stored {
    created: Duration,
    end: Duration,
    idle_timeout: Option<Duration>,
    /// Names and texts, which need not be UTF-8.
    fields: Vec<(Vec<u8>, Vec<u8>)>,
}

impl FileStore {
    pub(crate) fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        Ok(Self(Mutex::new(Folder(folder))))
    }
}

impl SessionStore for FileStore {
    async fn load(
        &self,
        key: SessionKey,
        refresh: bool,
        Context { expiry, .. }: Context,
    ) -> Result<Option<Record>, Error> {
        let folder = self.0.lock().await;
        let Some((mut stored, full)) = folder.read(key, expiry)? else {
            return Ok(None);
        };
        let left = stored.end.saturating_sub(now());
        let mut record = Record::new(fields(&stored), left);
        record.idle_timeout = stored.idle_timeout;
        if refresh && expiry.is_due(stored.idle_timeout, full, left) {
            stored.end = now() + full;
            // A session that can be read is answered, also where the disk is full.
            record.refreshed = folder.write(key, &stored).is_ok();
            record.time_to_live = if record.refreshed { full } else { left };
        }
        Ok(Some(record))
    }

    async fn create(&self, key: SessionKey, to: &Changes, by: Context) -> Result<Written, Error> {
        self.0.lock().await.change(None, key, to, by.expiry)
    }

    async fn update(&self, key: SessionKey, to: &Changes, by: Context) -> Result<Written, Error> {
        self.0.lock().await.change(Some(key), key, to, by.expiry)
    }

    async fn renew(
        &self,
        old: SessionKey,
        new: SessionKey,
        to: &Changes,
        by: Context,
    ) -> Result<Written, Error> {
        self.0.lock().await.change(Some(old), new, to, by.expiry)
    }

    async fn delete(&self, key: SessionKey, _: Context) -> Result<(), Error> {
        self.0.lock().await.remove(key)
    }
}

impl Folder {
    /// A live session, and its full time to live. A file that cannot be read as one is an error, and left alone.
    fn read(&self, key: SessionKey, expiry: Expiry) -> Result<Option<(Stored, Duration)>, Error> {
        let json = match fs::read(self.0.join(key.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            json => json.map_err(Error::unavailable)?,
        };
        let stored: Stored = serde_json::from_slice(&json).map_err(Error::unavailable)?;
        match full(&stored, expiry) {
            Some(full) if stored.end > now() => Ok(Some((stored, full))),
            _ => self.remove(key).map(|()| None),
        }
    }

    /// Changes the session `from`, or a new one, which is then under the key `to`.
    fn change(
        &self,
        from: Option<SessionKey>,
        to: SessionKey,
        changes: &Changes,
        expiry: Expiry,
    ) -> Result<Written, Error> {
        let created = now();
        let found = match from {
            Some(from) => self.read(from, expiry)?.map(|(stored, _)| stored),
            None => Some(Stored {
                created,
                ..Stored::default()
            }),
        };
        let Some(mut stored) = found else {
            return Ok(Written::Gone);
        };
        if from != Some(to) && self.read(to, expiry)?.is_some() {
            return Err(key_is_taken());
        }
        let mut fields = fields(&stored);
        changes.apply(&mut fields)?;
        let pairs = fields
            .iter()
            .map(|(name, text)| (name.to_vec(), text.to_vec()));
        stored.fields = pairs.collect();
        stored.idle_timeout = changes.idle_timeout().or(stored.idle_timeout);
        let written = match full(&stored, expiry) {
            Some(full) if !fields.is_empty() => {
                stored.end = now() + full;
                self.write(to, &stored)?;
                Written::Kept(full)
            }
            Some(_) => Written::Emptied,
            None => Written::Gone,
        };
        let stays = from == Some(to) && matches!(written, Written::Kept(_));
        if let Some(old) = from.filter(|_| !stays)
            // A crash before this leaves the old key, which the client has, and a new one, which nobody knows.
            && let Err(error) = self.remove(old)
        {
            self.remove(to)?;
            return Err(error);
        }
        Ok(written)
    }

    /// A crash leaves the file as it was or as it is to be: only what is complete gets its name.
    fn write(&self, key: SessionKey, stored: &Stored) -> Result<(), Error> {
        let json = serde_json::to_vec(stored).map_err(Error::unavailable)?;
        let unfinished = self.0.join(format!("{key}.new"));
        fs::write(&unfinished, json)
            .and_then(|()| fs::File::open(&unfinished)?.sync_all())
            .and_then(|()| fs::rename(&unfinished, self.0.join(key.to_string())))
            .map_err(Error::unavailable)
    }

    fn remove(&self, key: SessionKey) -> Result<(), Error> {
        match fs::remove_file(self.0.join(key.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::unavailable(error)),
            _ => Ok(()),
        }
    }
}

fn fields(stored: &Stored) -> Fields {
    let pairs = stored.fields.iter().cloned();
    pairs
        .map(|(name, text)| (name.into(), text.into()))
        .collect()
}

fn full(stored: &Stored, expiry: Expiry) -> Option<Duration> {
    expiry.time_to_live(stored.idle_timeout, now().saturating_sub(stored.created))
}

fn now() -> Duration {
    let since_1970 = SystemTime::UNIX_EPOCH.elapsed();
    since_1970.unwrap_or_default()
}
