//! Handlers by hand on fred, without a session layer: what an engineer would write for this app.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::LazyLock;

use axum::Router;
use axum::extract::{FromRequestParts, Path, State};
use axum::http::header::{COOKIE as COOKIES, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{AppendHeaders, IntoResponse, Response};
use axum::routing::{get, post};
use fred::clients::Client;
use fred::error::Error;
use fred::interfaces::{ClientLike, HashesInterface, KeysInterface, LuaInterface};
use fred::types::scripts::Script;
use uuid::Uuid;

use crate::rival::BoxError;
use crate::speed::app::{COOKIE, Failed, Fields, IDLE, Profile, answer, fred, ping};

/// A write that does not bring back a session that is gone.
static VISIT: LazyLock<Script> = LazyLock::new(|| {
    Script::from_lua(
        "if redis.call('EXISTS', KEYS[1]) == 0 then return -1 end
        local visits = redis.call('HINCRBY', KEYS[1], 'visits', 1)
        redis.call('EXPIRE', KEYS[1], ARGV[1])
        return visits",
    )
});

/// How the commands of a request go out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// In one round trip, in a Pipeline.
    Pipeline,
    /// In one round trip, by `tokio::join!`.
    Join,
    /// The session is loaded first, as a layer does that knows nothing of the handler; then what changed is written.
    LoadThenWrite,
}

/// What the handlers share.
#[derive(Clone)]
struct Hand {
    redis: Client,
    how: How,
}

/// The app.
pub async fn app(redis: String, how: How) -> Result<Router, BoxError> {
    let redis = fred(&redis)?.build()?;
    redis.init().await?;
    let script = VISIT.lua().ok_or("a script without its text")?;
    redis.script_load::<(), _>(script.clone()).await?;
    Ok(Router::new()
        .route("/ping", get(ping))
        .route("/profile", get(profile))
        .route("/visit", post(visit))
        .route("/login/{user}/{fields}", post(login))
        .route("/logout", post(logout))
        .with_state(Hand { redis, how }))
}

impl Hand {
    /// The session's fields, none if it is gone; its expiry begins anew.
    async fn read(&self, key: String) -> Result<HashMap<String, String>, Error> {
        let redis = &self.redis;
        match self.how {
            How::Pipeline => {
                let pipeline = redis.pipeline();
                pipeline.hgetall::<(), _>(&key).await?;
                pipeline.expire::<(), _>(&key, IDLE.into(), None).await?;
                let (fields, _) = pipeline.all::<(_, bool)>().await?;
                Ok(fields)
            }
            How::Join => {
                let (fields, refreshed) = tokio::join!(
                    redis.hgetall(&key),
                    redis.expire::<bool, _>(&key, IDLE.into(), None)
                );
                refreshed?;
                fields
            }
            How::LoadThenWrite => {
                let (fields, ttl) = self.load(&key).await?;
                if (0..i64::from(IDLE) * 1000).contains(&ttl) {
                    // Nobody waits for it, so that a read is one round trip. If it fails, the next read refreshes.
                    let redis = redis.clone();
                    tokio::spawn(
                        async move { redis.expire::<(), _>(key, IDLE.into(), None).await },
                    );
                }
                Ok(fields)
            }
        }
    }

    /// The session's fields and how many milliseconds it has yet, as `PTTL` tells it.
    async fn load(&self, key: &str) -> Result<(HashMap<String, String>, i64), Error> {
        tokio::try_join!(self.redis.hgetall(key), self.redis.pttl(key))
    }

    /// Starts a session in place of the one that was there.
    async fn start(
        &self,
        key: String,
        fields: HashMap<String, String>,
        old: Option<String>,
    ) -> Result<(), Error> {
        let redis = &self.redis;
        if let Some(old) = old {
            if self.how == How::LoadThenWrite {
                self.load(&old).await?;
            }
            redis.del::<(), _>(old).await?;
        }
        if self.how == How::Pipeline {
            let pipeline = redis.pipeline();
            pipeline.hset::<(), _, _>(&key, fields).await?;
            pipeline.expire::<(), _>(&key, IDLE.into(), None).await?;
            return pipeline.all().await;
        }
        tokio::try_join!(
            redis.hset::<(), _, _>(&key, fields),
            redis.expire::<(), _>(&key, IDLE.into(), None)
        )?;
        Ok(())
    }
}

/// The key of the session that the cookie names.
struct Key(Option<String>);

impl<S: Sync> FromRequestParts<S> for Key {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(Self(cookie(&parts.headers).map(key)))
    }
}

fn cookie(headers: &HeaderMap) -> Option<Uuid> {
    let cookies = headers.get(COOKIES)?.to_str().ok()?;
    let pairs = cookies.split("; ").filter_map(|pair| pair.split_once('='));
    let mut ours = pairs.filter(|(name, _)| *name == COOKIE);
    Uuid::parse_str(ours.next()?.1).ok()
}

fn key(id: Uuid) -> String {
    format!("session:{id}")
}

async fn profile(State(hand): State<Hand>, Key(key): Key) -> Result<Response, Failed> {
    let Some(key) = key else {
        return Ok(answer(None));
    };
    let mut fields = hand.read(key).await?;
    let (user, status) = (fields.remove("user"), fields.remove("status"));
    Ok(answer(
        user.zip(status)
            .map(|(user, status)| Profile { user, status }),
    ))
}

async fn visit(State(hand): State<Hand>, Key(key): Key) -> Result<Response, Failed> {
    let Some(key) = key else {
        return Ok(StatusCode::FORBIDDEN.into_response());
    };
    if hand.how == How::LoadThenWrite && hand.load(&key).await?.0.is_empty() {
        return Ok(StatusCode::FORBIDDEN.into_response());
    }
    let visits: i64 = VISIT.evalsha(&hand.redis, key, IDLE).await?;
    Ok(match visits {
        -1 => StatusCode::FORBIDDEN.into_response(),
        visits => visits.to_string().into_response(),
    })
}

async fn login(
    State(hand): State<Hand>,
    Key(old): Key,
    Path((user, fields)): Path<(String, usize)>,
) -> Result<impl IntoResponse, Failed> {
    let id = Uuid::new_v4();
    let fields = Fields { user, fields }.pairs().collect();
    hand.start(key(id), fields, old).await?;
    let cookie = format!("{COOKIE}={id}; HttpOnly; SameSite=Lax; Path=/");
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), "welcome"))
}

async fn logout(State(hand): State<Hand>, Key(key): Key) -> Result<impl IntoResponse, Failed> {
    if let Some(key) = key {
        hand.redis.del::<(), _>(key).await?;
    }
    let cookie = format!("{COOKIE}=; Max-Age=0; HttpOnly; SameSite=Lax; Path=/");
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), "bye"))
}
