//! The recipe of `docs/migrating.md`, as code that the tests run: a middleware inside the session layer that takes over
//! the sessions of another library.

use std::{collections::BTreeMap, error::Error as StdError, time::Duration};

use axum::{
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    middleware::Next,
    response::Response,
};
use bytes::Bytes;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde_json::Value;
use tokio::{runtime::Handle, time::timeout};
use tower_redis_session::{
    Error, Lookup, Session,
    fred::{
        error::Error as RedisError,
        prelude::{
            Builder, ClientLike, Config, Expiration, KeysInterface, LuaInterface, Pool,
            ReconnectPolicy, SetOptions,
        },
    },
};

type BoxError = Box<dyn StdError + Send + Sync>;
type Fields = BTreeMap<String, Value>;

/// How long a request waits for the old session.
const PATIENCE: Duration = Duration::from_secs(1);

/// One step for Redis: of all requests that come at once, one gets the session.
const TAKE: &str = "return {redis.call('PTTL', KEYS[1]), redis.call('GETDEL', KEYS[1])}";

/// Connects to the Redis of the old sessions.
pub async fn connect(url: &str) -> Result<Pool, RedisError> {
    let pool = Builder::from_config(Config::from_url(url)?)
        .set_policy(ReconnectPolicy::new_exponential(0, 10, 1000, 2))
        // What may have been done is not done again: it would find nothing.
        .with_connection_config(|it| it.max_command_attempts = 1)
        .build_pool(1)?;
    pool.init().await?;
    Ok(pool)
}

/// Where another library has its sessions.
#[derive(Clone)]
pub struct OldSessions {
    redis: Pool,
    cookie: &'static str,
    /// Clears the cookie: with the path, domain and `Secure` that the other library gave it.
    clear_cookie: HeaderValue,
    /// A session's key is this and its id.
    prefix: &'static str,
    id_length: usize,
    decode: fn(&[u8]) -> Result<Fields, BoxError>,
}

impl OldSessions {
    /// tower-sessions with tower-sessions-redis-store: the id alone is the key.
    pub fn of_tower_sessions(redis: Pool) -> Self {
        Self {
            redis,
            cookie: "id",
            clear_cookie: HeaderValue::from_static("id=; Path=/; Secure; Max-Age=0"),
            prefix: "",
            id_length: 22,
            decode: |record| {
                // The id, the fields, and when it ends.
                let (_, fields, _): (IgnoredAny, Fields, IgnoredAny) = message_pack(record)?;
                Ok(fields)
            },
        }
    }

    /// Flask-Session 0.8 with Redis. What older versions wrote with pickle is refused: to read it is to run it.
    pub fn of_flask_session(redis: Pool) -> Self {
        Self {
            redis,
            cookie: "session",
            clear_cookie: HeaderValue::from_static("session=; Path=/; Max-Age=0"),
            prefix: "session:",
            id_length: 43,
            decode: |text| {
                let mut fields: Fields = match text.first() {
                    Some(b'{') => serde_json::from_slice(text)?,
                    _ => message_pack(text)?,
                };
                fields.remove("_permanent");
                Ok(fields)
            },
        }
    }

    /// The key of the session that the old cookie names.
    fn key(&self, headers: &HeaderMap) -> Option<String> {
        let lines = headers.get_all(header::COOKIE).into_iter();
        let mut pairs = lines.flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        let name = self.cookie.as_bytes();
        let value =
            pairs.find_map(|pair| pair.trim_ascii().strip_prefix(name)?.strip_prefix(b"="))?;
        // Behind a dot is Flask-Session's signature, if it signs. The id is random: nobody can guess one.
        let id = value.split(|byte| *byte == b'.').next()?;
        // Whoever sends the cookie must not choose any other key.
        let is_id = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_".contains(byte);
        let id = (id.len() == self.id_length && id.iter().all(is_id)).then_some(id)?;
        Some(format!("{}{}", self.prefix, str::from_utf8(id).ok()?))
    }

    async fn take(&self, key: &str) -> Result<Option<Taken>, Error> {
        let (redis, key) = (self.redis.clone(), key.to_owned());
        // In a task of its own: where the answer comes when nobody waits any more, the session goes back.
        let taking = tokio::spawn(async move {
            let (ttl, value): (i64, Option<Bytes>) = redis.eval(TAKE, key.as_str(), ()).await?;
            let done = false;
            let taken = value.map(|value| Taken {
                redis,
                key,
                value,
                ttl,
                done,
            });
            Ok::<_, RedisError>(taken)
        });
        let taken = timeout(PATIENCE, taking)
            .await
            .map_err(Error::unavailable)?;
        taken
            .map_err(Error::unavailable)?
            .map_err(Error::unavailable)
    }
}

/// A session that is no longer in its old place. Dropped before it is `done`, it goes back there.
struct Taken {
    redis: Pool,
    key: String,
    value: Bytes,
    /// In milliseconds.
    ttl: i64,
    done: bool,
}

impl Drop for Taken {
    fn drop(&mut self) {
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        if self.done {
            return;
        }
        let (redis, key, value) = (self.redis.clone(), self.key.clone(), self.value.clone());
        let ttl = (self.ttl > 0).then_some(Expiration::PX(self.ttl));
        runtime.spawn(async move {
            let back = redis.set::<(), _, _>(key, value, ttl, Some(SetOptions::NX), false);
            if let Err(error) = back.await {
                tracing::error!(%error, "an old session is lost: its user has to log in again");
            }
        });
    }
}

/// For `axum::middleware::from_fn_with_state`, inside the session layer.
pub async fn take_over(
    State(old): State<OldSessions>,
    session: Session,
    request: Request,
    next: Next,
) -> Result<Response, Error> {
    let Some(key) = old.key(request.headers()) else {
        return Ok(next.run(request).await);
    };
    let lookup = session.lookup();
    let taken = match lookup {
        Lookup::NoCookie | Lookup::NotFound => old.take(&key).await?,
        _ => None,
    };
    let is_taken = taken.is_some();
    if let Some(taken) = taken {
        move_to(&session, taken, old.decode).await?;
    }
    let mut response = next.run(request).await;
    if lookup == Lookup::Found && session.id().is_none() {
        // A logout. The browser has an old session as well, which must not come after it.
        if let Some(mut ended) = old.take(&key).await? {
            ended.done = true;
        }
    }
    if is_taken {
        response
            .headers_mut()
            .append(header::SET_COOKIE, old.clear_cookie);
    }
    Ok(response)
}

/// Stores the fields as a session of this crate, with a new id.
async fn move_to(
    session: &Session,
    mut taken: Taken,
    decode: fn(&[u8]) -> Result<Fields, BoxError>,
) -> Result<(), Error> {
    let inserted = decode(&taken.value).and_then(|fields| {
        let fields = fields.iter();
        // As a field it would be the text `null`, and a user of that name.
        let mut fields = fields.filter(|(_, value)| !value.is_null());
        Ok(fields.try_for_each(|(field, value)| session.insert(field, value))?)
    });
    match inserted {
        Ok(()) => session.save().await?,
        Err(error) => {
            // It will not be better next time: the user has to log in again.
            tracing::warn!(%error, "an old session cannot be read");
            session.clear();
        }
    }
    taken.done = true;
    Ok(())
}

/// All of the bytes, since pickle, too, can begin like MessagePack. The error shows nothing of the session.
fn message_pack<T: DeserializeOwned>(mut bytes: &[u8]) -> Result<T, BoxError> {
    match rmp_serde::from_read(&mut bytes) {
        Ok(value) if bytes.is_empty() => Ok(value),
        _ => Err("it is not the MessagePack of a session".into()),
    }
}
