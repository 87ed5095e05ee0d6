//! Logging in with OAuth: the authorization code flow with PKCE. The provider is in this program, too.
//!
//! ```text
//! cargo run --example oauth                                       # sessions in this process
//! REDIS_URL=redis://127.0.0.1:6379 cargo run --example oauth      # sessions in Redis
//! ```
//!
//! Then open <http://127.0.0.1:8000/account?tab=2>, which only users may see. `login.rs` is what an app needs; `docs/oauth.md`
//! explains it. `provider.rs` stands for the servers of another company.

use std::{env, error::Error, process::ExitCode, sync::Arc};

use axum::{
    Router,
    extract::OriginalUri,
    http::uri::PathAndQuery,
    middleware,
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use tokio::net::TcpListener;
use tower_redis_session::{Error as SessionError, MemoryStore, RedisStore, Session, SessionLayer};

mod login;
mod page;
mod provider;

/// The provider knows this app by this name. It needs no secret: PKCE proves that who has the code began the login.
const CLIENT_ID: &str = "example";

#[tokio::main]
async fn main() -> ExitCode {
    let Err(error) = run().await else {
        return ExitCode::SUCCESS;
    };
    eprintln!("oauth: {error}");
    ExitCode::FAILURE
}

async fn run() -> Result<(), Box<dyn Error>> {
    let bind = setting("BIND").unwrap_or_else(|| "127.0.0.1:8000".to_owned());
    let listener = TcpListener::bind(&bind)
        .await
        .map_err(|error| format!("cannot listen on {bind} (set BIND to change it): {error}"))?;
    let (sessions, place) = match setting("REDIS_URL") {
        Some(url) => {
            let store = RedisStore::connect(&url).await;
            let store = store.map_err(|error| format!("REDIS_URL: {error}"))?;
            (SessionLayer::builder(store), "in Redis")
        }
        None => (
            SessionLayer::builder(MemoryStore::new()),
            "in memory, set REDIS_URL for Redis",
        ),
    };
    let sessions = sessions
        // This is plain http. With https, leave it out.
        .secure(false)
        // `same_site` stays `Lax`. With `Strict`, browsers do not send the cookie when a provider sends them back.
        .build()?;

    let site = format!("http://{}", listener.local_addr()?);
    let callback = format!("{site}/callback");
    // Another URL that leads to the provider: the tests put a wire there.
    let provider = setting("PROVIDER_URL").unwrap_or_else(|| format!("{site}/provider"));
    let app = Arc::new(login::App::new(&provider, &callback)?);
    let router = Router::new()
        .route("/", get(home))
        .route("/account", get(account))
        .route("/login", get(login::start))
        .route(
            "/callback",
            get(login::callback).post(login::callback_by_post),
        )
        .route("/logout", post(logout))
        .with_state(app)
        .layer(sessions)
        // Outside the session layer: the provider is another site, and sees no session of ours.
        .nest("/provider", provider::routes(&callback)?)
        .layer(middleware::map_response(page::secure));
    println!("Open {site}/ (sessions: {place}). Ctrl-C ends it.");
    axum::serve(listener, router).await?;
    Ok(())
}

/// An environment variable; one that is empty counts as not set.
fn setting(name: &str) -> Option<String> {
    env::var(name).ok().filter(|value| !value.is_empty())
}

/// `GET /`
async fn home(session: Session) -> Result<Response, SessionError> {
    Ok(match session.get::<String>("user")? {
        Some(user) => page::user("Welcome", &user),
        None => page::visitor(),
    })
}

/// `GET /account`, for users only. Others log in first, and then come back to this very URL.
async fn account(
    OriginalUri(uri): OriginalUri,
    session: Session,
) -> Result<Response, SessionError> {
    // Over HTTP/2 the URI has the host, too.
    let here = uri.path_and_query().map_or("/", PathAndQuery::as_str);
    Ok(match session.get::<String>("user")? {
        Some(user) => page::user("Your account", &user),
        None => Redirect::to(&login::link(here)).into_response(),
    })
}

/// `POST /logout`: ends the session here. The user stays logged in at the provider.
async fn logout(session: Session) -> Redirect {
    session.destroy();
    Redirect::to("/")
}
