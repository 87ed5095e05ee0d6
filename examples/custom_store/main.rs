//! The counter on a store of your own, which keeps sessions as files in a folder; `tests.rs` checks that it keeps every
//! rule (`cargo test --example custom_store --features test-util`).
//!
//! ```text
//! cargo run --example custom_store
//! curl -b jar -c jar http://127.0.0.1:8000/
//! ```

use std::{fs, io, path::PathBuf, time::Duration, time::SystemTime};

use axum::{Router, routing::get};
use tokio::sync::Mutex;
use tower_redis_session::store::{
    Changes, Context, Record, SessionKey as Key, SessionStore, Stored, Written, key_is_taken,
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

type Answer = Result<Written, Error>;

impl SessionStore for FileStore {
    async fn load(&self, key: Key, refresh: bool, by: Context) -> Result<Option<Record>, Error> {
        let folder = self.0.lock().await;
        let Some(mut stored) = folder.read(key, by)? else {
            return Ok(None);
        };
        let as_it_is = stored.load(false, by.expiry, now());
        let record = stored.load(refresh, by.expiry, now());
        // A session that can be read is answered, also where the disk is full.
        let kept = !record.refreshed || folder.write(key, &stored).is_ok();
        Ok(Some(if kept { record } else { as_it_is }))
    }

    async fn create(&self, key: Key, changes: &Changes, by: Context) -> Answer {
        self.0.lock().await.change(None, key, changes, by)
    }

    async fn update(&self, key: Key, changes: &Changes, by: Context) -> Answer {
        self.0.lock().await.change(Some(key), key, changes, by)
    }

    async fn renew(&self, old: Key, new: Key, changes: &Changes, by: Context) -> Answer {
        self.0.lock().await.change(Some(old), new, changes, by)
    }

    async fn delete(&self, key: Key, _: Context) -> Result<(), Error> {
        self.0.lock().await.remove(key)
    }
}

impl Folder {
    /// A live session. A file that cannot be read as one is an error, and left alone.
    fn read(&self, key: Key, by: Context) -> Result<Option<Stored>, Error> {
        let json = match fs::read(self.0.join(key.to_string())) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            json => json.map_err(Error::unavailable)?,
        };
        let stored: Stored = serde_json::from_slice(&json).map_err(Error::unavailable)?;
        if stored.is_over(by.expiry, now()) {
            return self.remove(key).map(|()| None);
        }
        Ok(Some(stored))
    }

    /// Changes the session `old`, or a new one, which is then under the key `new`.
    fn change(&self, old: Option<Key>, new: Key, changes: &Changes, by: Context) -> Answer {
        let mut stored = match old {
            None => Stored::new(now()),
            Some(old) => match self.read(old, by)? {
                Some(stored) => stored,
                None => return Ok(Written::Gone),
            },
        };
        if old != Some(new) && self.read(new, by)?.is_some() {
            return Err(key_is_taken());
        }
        let written = stored.change(changes, by.expiry, now())?;
        let lives = matches!(written, Written::Kept(_));
        if lives {
            self.write(new, &stored)?;
        }
        // A crash before this leaves the old key, which the client has, and a new one, which nobody knows.
        if let Some(old) = old.filter(|old| !lives || *old != new)
            && let Err(error) = self.remove(old)
        {
            self.remove(new)?;
            return Err(error);
        }
        Ok(written)
    }

    /// A crash leaves the file as it was or as it is to be: only what is complete gets its name.
    fn write(&self, key: Key, stored: &Stored) -> Result<(), Error> {
        let json = serde_json::to_vec(stored).map_err(Error::unavailable)?;
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
