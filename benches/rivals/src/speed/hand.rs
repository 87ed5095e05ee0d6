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

/// With `JOIN`, two commands go out by `tokio::join!`, else in a Pipeline.
pub async fn app<const JOIN: bool>(redis: String) -> Result<Router, BoxError> {
    let client = fred(&redis)?.build()?;
    client.init().await?;
    let script = VISIT.lua().ok_or("a script without its text")?;
    client.script_load::<(), _>(script.clone()).await?;
    Ok(Router::new()
        .route("/ping", get(ping))
        .route("/profile", get(profile::<JOIN>))
        .route("/visit", post(visit))
        .route("/login/{user}/{fields}", post(login::<JOIN>))
        .route("/logout", post(logout))
        .with_state(client))
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

async fn profile<const JOIN: bool>(
    State(redis): State<Client>,
    Key(key): Key,
) -> Result<Response, Failed> {
    let Some(key) = key else {
        return Ok(answer(None));
    };
    let mut fields: HashMap<String, String> = if JOIN {
        let (fields, refreshed) = tokio::join!(
            redis.hgetall(&key),
            redis.expire::<bool, _>(&key, IDLE.into(), None)
        );
        refreshed?;
        fields?
    } else {
        let pipeline = redis.pipeline();
        pipeline.hgetall::<(), _>(&key).await?;
        pipeline.expire::<(), _>(&key, IDLE.into(), None).await?;
        pipeline.all::<(HashMap<String, String>, bool)>().await?.0
    };
    let (user, status) = (fields.remove("user"), fields.remove("status"));
    Ok(answer(
        user.zip(status)
            .map(|(user, status)| Profile { user, status }),
    ))
}

async fn visit(State(redis): State<Client>, Key(key): Key) -> Result<Response, Failed> {
    let Some(key) = key else {
        return Ok(StatusCode::FORBIDDEN.into_response());
    };
    let visits: i64 = VISIT.evalsha(&redis, key, IDLE).await?;
    Ok(match visits {
        -1 => StatusCode::FORBIDDEN.into_response(),
        visits => visits.to_string().into_response(),
    })
}

async fn login<const JOIN: bool>(
    State(redis): State<Client>,
    Key(old): Key,
    Path((user, fields)): Path<(String, usize)>,
) -> Result<impl IntoResponse, Failed> {
    if let Some(old) = old {
        redis.del::<(), _>(old).await?;
    }
    let id = Uuid::new_v4();
    let key = key(id);
    let fields: HashMap<_, _> = Fields { user, fields }.pairs().collect();
    if JOIN {
        let (set, bounded) = tokio::join!(
            redis.hset::<(), _, _>(&key, fields),
            redis.expire::<(), _>(&key, IDLE.into(), None)
        );
        set?;
        bounded?;
    } else {
        let pipeline = redis.pipeline();
        pipeline.hset::<(), _, _>(&key, fields).await?;
        pipeline.expire::<(), _>(&key, IDLE.into(), None).await?;
        pipeline.all::<()>().await?;
    }
    let cookie = format!("{COOKIE}={id}; HttpOnly; SameSite=Lax; Path=/");
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), "welcome"))
}

async fn logout(State(redis): State<Client>, Key(key): Key) -> Result<impl IntoResponse, Failed> {
    if let Some(key) = key {
        redis.del::<(), _>(key).await?;
    }
    let cookie = format!("{COOKIE}=; Max-Age=0; HttpOnly; SameSite=Lax; Path=/");
    Ok((AppendHeaders([(SET_COOKIE, cookie)]), "bye"))
}
