//! The counter on a store of your own, which keeps sessions as files in a folder; `tests.rs` checks that it keeps every
//! rule (`cargo test --example custom_store --features test-util`).
//!
//! ```text
//! cargo run --example custom_store
//! curl -b jar -c jar http://127.0.0.1:8000/
//! ```

use std::{fs, io, path::PathBuf, time::Duration, time::SystemTime};

use axum::{Router, routing::get};
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;
use tower_redis_session::store::{
    Changes, Context, Loaded, MOST_REPLACEMENTS, REPLACED_FOR, SessionKey as Key, SessionStore,
    Stored, Taken, Written, key_is_taken, session_is_gone,
};
use tower_redis_session::{Error, Session, SessionLayer};

#[cfg(all(test, feature = "test-util"))]
mod tests;

/// Each operation works on its files under the lock and without an `.await`: so it is one step, which nothing can drop
/// half way. The price: a slow disk holds up a thread of the runtime.
///
/// The folder is for one process, and for no other user (`chmod 700`): a file's name is the id that a client holds. A
/// session that nobody asks for any more stays there: `find sessions -mtime +1 -delete` frees those that are a day old.
pub(crate) struct FileStore(Mutex<Folder>);

struct Folder(PathBuf);

impl FileStore {
    pub(crate) fn open(folder: impl Into<PathBuf>) -> io::Result<Self> {
        let folder = Folder(folder.into());
        fs::create_dir_all(&folder.0)?;
        Ok(Self(Mutex::new(folder)))
    }
}

/// What a file holds.
#[derive(Serialize, Deserialize)]
enum Entry {
    Session(Stored),
    /// A replacement record: the key that took the place, how, and when the record ends.
    Replaced(String, How, Duration),
}

#[derive(Clone, Copy, PartialEq, Serialize, Deserialize)]
enum How {
    /// It is the same session under a new key.
    Renewed,
    /// It has ended, and another one took its place.
    Ended,
}

type Answer = Result<Written, Error>;

impl SessionStore for FileStore {
    async fn load(&self, key: Key, refresh: bool, by: Context) -> Result<Loaded, Error> {
        let folder = self.0.lock().await;
        let mut stored = match folder.read(key, by)? {
            None => return Ok(Loaded::NotFound),
            Some(Entry::Replaced(..)) => return Ok(Loaded::Replaced),
            Some(Entry::Session(stored)) => stored,
        };
        let as_it_is = stored.load(false, by.expiry, now());
        let record = stored.load(refresh, by.expiry, now());
        // A session that can be read is answered, also where the disk is full.
        let kept = !record.refreshed || folder.write(key, &Entry::Session(stored)).is_ok();
        Ok(Loaded::Found(if kept { record } else { as_it_is }))
    }

    async fn create(&self, key: Key, changes: &Changes, by: Context) -> Answer {
        let new = Stored::new(now());
        self.0.lock().await.change(new, None, key, changes, by)
    }

    async fn update(&self, key: Key, changes: &Changes, by: Context) -> Answer {
        self.renew(key, key, changes, by).await
    }

    async fn renew(&self, old: Key, new: Key, changes: &Changes, by: Context) -> Answer {
        let folder = self.0.lock().await;
        match folder.read(old, by)? {
            None => Ok(Written::Gone),
            Some(Entry::Replaced(..)) => Ok(Written::Replaced),
            Some(Entry::Session(stored)) => folder.change(stored, Some(old), new, changes, by),
        }
    }

    async fn delete(&self, key: Key, by: Context) -> Result<(), Error> {
        let folder = self.0.lock().await;
        let mut key = key;
        for _ in 0..=MOST_REPLACEMENTS {
            // A file that cannot be read is no record, and goes as well.
            let Ok(Some(Entry::Replaced(new, ..))) = folder.read(key, by) else {
                return folder.remove(key);
            };
            key = Key::from_text(new.as_bytes()).ok_or_else(not_a_key)?;
        }
        Ok(())
    }

    async fn replace(&self, old: Key, new: Key, live: bool, by: Context) -> Result<bool, Error> {
        let folder = self.0.lock().await;
        match folder.read(old, by)? {
            Some(Entry::Replaced(other, ..)) => Ok(other == new.to_string()),
            None if live => Err(session_is_gone()),
            Some(Entry::Session(_)) | None => folder.replaced(old, new, How::Ended).map(|()| true),
        }
    }

    async fn take(&self, key: Key, field: &[u8], by: Context) -> Result<Taken, Error> {
        let folder = self.0.lock().await;
        let Some(Entry::Session(mut stored)) = folder.read(key, by)? else {
            return Ok(Taken::Nothing);
        };
        let taken = stored.take(field);
        match taken {
            Taken::Field(_) => folder.write(key, &Entry::Session(stored))?,
            Taken::Last(_) => folder.remove(key)?,
            Taken::Nothing => {}
        }
        Ok(taken)
    }

    async fn alive(&self, keys: &[Key], by: Context) -> Result<Vec<Option<Key>>, Error> {
        let folder = self.0.lock().await;
        keys.iter().map(|key| folder.lives(*key, by)).collect()
    }
}

impl Folder {
    /// What there is, unless it has ended. A file that cannot be read is an error, and left alone.
    fn read(&self, key: Key, by: Context) -> Result<Option<Entry>, Error> {
        let json = match fs::read(self.0.join(key.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            json => json.map_err(Error::unavailable)?,
        };
        let entry: Entry = serde_json::from_slice(&json).map_err(Error::unavailable)?;
        let is_over = match &entry {
            Entry::Session(stored) => stored.is_over(by.expiry, now()),
            Entry::Replaced(_, _, end) => *end <= now(),
        };
        if is_over {
            return self.remove(key).map(|()| None);
        }
        Ok(Some(entry))
    }

    /// Changes a session, which is then under the key `new`. Before, it was under `old`, or is a new one.
    fn change(
        &self,
        mut stored: Stored,
        old: Option<Key>,
        new: Key,
        changes: &Changes,
        by: Context,
    ) -> Answer {
        if old != Some(new) && self.read(new, by)?.is_some() {
            return Err(key_is_taken());
        }
        let written = stored.change(changes, by.expiry, now())?;
        if let Written::Kept { .. } = written {
            self.write(new, &Entry::Session(stored))?;
            // A crash before this leaves the old key, which the client has, and a new one, which nobody knows.
            if let Some(old) = old.filter(|old| *old != new)
                && let Err(error) = self.replaced(old, new, How::Renewed)
            {
                self.remove(new)?;
                return Err(error);
            }
        } else if let Some(old) = old {
            self.remove(old)?;
        }
        Ok(written)
    }

    /// Leaves a replacement record in the place of what is under `old`.
    fn replaced(&self, old: Key, new: Key, how: How) -> Result<(), Error> {
        let record = Entry::Replaced(new.to_string(), how, now() + REPLACED_FOR);
        self.write(old, &record)
    }

    /// The key that a session has now, `None` where it has ended.
    fn lives(&self, mut key: Key, by: Context) -> Result<Option<Key>, Error> {
        for _ in 0..=MOST_REPLACEMENTS {
            match self.read(key, by)? {
                Some(Entry::Session(_)) => return Ok(Some(key)),
                Some(Entry::Replaced(new, How::Renewed, _)) => {
                    key = Key::from_text(new.as_bytes()).ok_or_else(not_a_key)?;
                }
                Some(Entry::Replaced(_, How::Ended, _)) | None => break,
            }
        }
        Ok(None)
    }

    /// A crash leaves the file as it was or as it is to be: only what is complete gets its name.
    fn write(&self, key: Key, entry: &Entry) -> Result<(), Error> {
        let json = serde_json::to_vec(entry).map_err(Error::unavailable)?;
        let unfinished = self.0.join(format!("{key}.new"));
        fs::write(&unfinished, json)
            .and_then(|()| fs::File::open(&unfinished)?.sync_all())
            .and_then(|()| fs::rename(&unfinished, self.0.join(key.to_string())))
            .map_err(Error::unavailable)
    }

    fn remove(&self, key: Key) -> Result<(), Error> {
        match fs::remove_file(self.0.join(key.to_string())) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Error::unavailable(error)),
            _ => Ok(()),
        }
    }
}

fn not_a_key() -> Error {
    Error::unavailable(io::Error::other("a replacement record without a key"))
}

/// Since 1970, so that it means the same after a restart.
fn now() -> Duration {
    SystemTime::UNIX_EPOCH.elapsed().unwrap_or_default()
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let sessions = SessionLayer::builder(FileStore::open("sessions")?);
    let sessions = sessions.secure(false).build()?; // Because this is plain http.
    let app = Router::new().route("/", get(count)).layer(sessions);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:8000").await?;
    println!("Open http://{}/", listener.local_addr()?);
    Ok(axum::serve(listener, app).await?)
}

async fn count(session: Session) -> Result<String, Error> {
    let visits = session.increment("visits", 1)?;
    Ok(format!("Visit number {visits}\n"))
}
