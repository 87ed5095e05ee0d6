//! actix-session with its Redis store, on actix-web, and actix-web without sessions.

use std::io;
use std::net::TcpListener;

use actix_session::config::{BrowserSession, CookieContentSecurity, TtlExtensionPolicy};
use actix_session::storage::RedisSessionStore;
use actix_session::{Session, SessionGetError, SessionInsertError, SessionMiddleware};
use actix_web::cookie::Key;
use actix_web::cookie::time::Duration;
use actix_web::web::{self, Path};
use actix_web::{App, Error, HttpResponse, HttpServer};
use deadpool_redis::{Config, Runtime};

use crate::rival::BoxError;
use crate::speed::app::{COOKIE, Fields, IDLE, Profile};
use crate::speed::bare;

/// How it reaches Redis, and whether a read refreshes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Actix {
    /// Not at all: there are no sessions, and the answers are constant.
    Bare,
    /// A pool of connections.
    Pool,
    /// One connection for all.
    Manager,
    /// The same, and each request refreshes.
    Refresh,
}

/// Serves until the process ends.
pub fn serve(
    actix: Actix,
    redis: &str,
    listener: TcpListener,
    workers: usize,
) -> Result<(), BoxError> {
    actix_web::rt::System::new().block_on(async {
        let store = match actix {
            Actix::Bare => return bare(listener, workers).await.map_err(BoxError::from),
            Actix::Pool => {
                let pool = Config::from_url(redis).create_pool(Some(Runtime::Tokio1))?;
                RedisSessionStore::new_pooled(pool).await?
            }
            Actix::Manager | Actix::Refresh => RedisSessionStore::new(redis).await?,
        };
        let policy = match actix {
            Actix::Refresh => TtlExtensionPolicy::OnEveryRequest,
            Actix::Bare | Actix::Pool | Actix::Manager => TtlExtensionPolicy::OnStateChanges,
        };
        run(store, policy, listener, workers)
            .await
            .map_err(BoxError::from)
    })
}

async fn run(
    store: RedisSessionStore,
    policy: TtlExtensionPolicy,
    listener: TcpListener,
    workers: usize,
) -> io::Result<()> {
    let key = Key::generate();
    let server = HttpServer::new(move || {
        let lifecycle = BrowserSession::default()
            .state_ttl(Duration::seconds(IDLE.into()))
            .state_ttl_extension_policy(policy.clone());
        // It has no plain cookies. Signing costs less than the encryption that is its default.
        let layer = SessionMiddleware::builder(store.clone(), key.clone())
            .cookie_name(COOKIE.to_owned())
            .cookie_secure(false)
            .cookie_content_security(CookieContentSecurity::Signed)
            .session_lifecycle(lifecycle)
            .build();
        App::new()
            .wrap(layer)
            .route("/ping", web::get().to(async || "pong"))
            .route("/profile", web::get().to(profile))
            .route("/visit", web::post().to(visit))
            .route("/login/{user}/{fields}", web::post().to(login))
            .route("/logout", web::post().to(logout))
    });
    server
        .workers(workers)
        .disable_signals()
        .listen(listener)?
        .run()
        .await
}

async fn bare(listener: TcpListener, workers: usize) -> io::Result<()> {
    let server = HttpServer::new(|| {
        App::new()
            .route("/ping", web::get().to(async || "pong"))
            .route(
                "/profile",
                web::get().to(async || HttpResponse::Ok().json(bare::answer())),
            )
            .route("/visit", web::post().to(async || "1"))
            .route(
                "/login/{user}/{fields}",
                web::post().to(async || {
                    HttpResponse::Ok()
                        .append_header(bare::LOGIN)
                        .body("welcome")
                }),
            )
    });
    server
        .workers(workers)
        .disable_signals()
        .listen(listener)?
        .run()
        .await
}

async fn profile(session: Session) -> Result<HttpResponse, SessionGetError> {
    let (user, status) = (session.get("user")?, session.get("status")?);
    Ok(match user.zip(status) {
        Some((user, status)) => HttpResponse::Ok().json(Profile { user, status }),
        None => HttpResponse::Forbidden().finish(),
    })
}

async fn visit(session: Session) -> Result<String, Error> {
    let visits = session.get::<i64>("visits")?.unwrap_or_default() + 1;
    session.insert("visits", visits)?;
    Ok(visits.to_string())
}

async fn login(
    session: Session,
    path: Path<(String, usize)>,
) -> Result<&'static str, SessionInsertError> {
    let (user, fields) = path.into_inner();
    session.renew();
    for (name, value) in (Fields { user, fields }).pairs() {
        session.insert(name, value)?;
    }
    Ok("welcome")
}

async fn logout(session: Session) -> &'static str {
    session.purge();
    "bye"
}
