//! `ended`: what goes on for long learns that its session has ended.

use std::sync::Arc;
use std::time::Duration;

use harness::stores::{Backend, Memory, Outage};
use harness::{HANG, bounded};
use http::header::{COOKIE, SET_COOKIE};
use http::{HeaderMap, Request, Response};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep_until};
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::store::SessionStore;
use tower_redis_session::{Error, ErrorKind, Session, SessionLayer};

use crate::fixture::secs;

harness::over_both_stores!(
    Scene =>
    a_logout_ends_it,
    a_logout_and_an_expiry_elsewhere_end_it,
    a_renewal_here_or_elsewhere_does_not_end_it,
    who_has_found_out_that_it_is_gone_waits_for_the_same_end,
    another_login_ends_it,
    a_logout_with_the_old_id_ends_it,
    an_outage_does_not_end_it,
    it_does_not_refresh,
    without_a_stored_session_it_is_ready_at_once,
    all_that_wait_are_asked_for_together,
    who_waits_no_longer_is_not_asked_for,
);

/// How often the tests ask.
const OFTEN: Duration = Duration::from_millis(20);

/// Two processes on one store.
struct Scene<B: Backend> {
    world: B,
    here: SessionLayer,
    there: SessionLayer,
}

/// What a handler does.
type Work = fn(&Session) -> Result<(), Error>;

fn layer(store: impl SessionStore) -> SessionLayer {
    let layer = SessionLayer::builder(store).store_timeout(secs(2));
    layer.build().expect("a layer")
}

/// A request with this cookie. Its session, and the cookie that the client has afterwards.
async fn ask(layer: &SessionLayer, cookie: Option<&str>, work: Work) -> (Session, Option<String>) {
    let service = layer.layer(service_fn(move |request: Request<()>| async move {
        let session = request.extensions().get::<Session>().cloned();
        let session = session.expect("a session");
        work(&session)?;
        let mut response = Response::new(());
        response.extensions_mut().insert(session);
        Ok::<_, Error>(response)
    }));
    let mut request = Request::new(());
    if let Some(id) = cookie {
        let cookie = format!("session_id={id}").parse().expect("a header");
        request.headers_mut().insert(COOKIE, cookie);
    }
    let mut response = service.oneshot(request).await.expect("a response");
    let now = match set_cookie(response.headers()) {
        Some(id) if id.is_empty() => None,
        set => set.or(cookie.map(ToOwned::to_owned)),
    };
    let session = response.extensions_mut().remove();
    (session.expect("the session"), now)
}

fn set_cookie(headers: &HeaderMap) -> Option<String> {
    let line = headers.get(SET_COOKIE)?.to_str().expect("text");
    let value = line.strip_prefix("session_id=").expect("our cookie");
    value.split(';').next().map(ToOwned::to_owned)
}

fn login(session: &Session) -> Result<(), Error> {
    session.destroy();
    session.insert("user", "ann")
}

fn renew(session: &Session) -> Result<(), Error> {
    session.renew();
    Ok(())
}

fn logout(session: &Session) -> Result<(), Error> {
    session.destroy();
    Ok(())
}

fn nothing(_: &Session) -> Result<(), Error> {
    Ok(())
}

fn wait(session: &Session) -> JoinHandle<()> {
    tokio::spawn(session.ended(OFTEN))
}

/// It has been asked for several times since, and has not ended.
async fn goes_on<B: Backend>(scene: &Scene<B>, waiting: &JoinHandle<()>) {
    let store = scene.world.store();
    store.calls();
    bounded("questions", async {
        let mut asked = 0;
        while asked < 3 {
            asked += store
                .calls()
                .iter()
                .filter(|call| **call == "alive")
                .count();
            tokio::time::sleep(OFTEN / 2).await;
        }
    })
    .await;
    assert!(!waiting.is_finished());
}

async fn ends(waiting: JoinHandle<()>) {
    let ended = tokio::time::timeout(HANG, waiting).await;
    ended.expect("it ends").expect("no panic");
}

impl<B: Backend> Scene<B> {
    async fn new() -> Self {
        let world = B::start().await;
        Self {
            here: layer(world.store()),
            there: layer(world.another().await),
            world,
        }
    }

    /// A browser that has logged in, and a socket that it has opened.
    async fn socket(&self) -> (String, JoinHandle<()>) {
        let (_, cookie) = ask(&self.here, None, login).await;
        let cookie = cookie.expect("a cookie");
        let (session, _) = ask(&self.here, Some(&cookie), nothing).await;
        (cookie, wait(&session))
    }
}

async fn a_logout_ends_it<B: Backend>(scene: Scene<B>) {
    let (cookie, socket) = scene.socket().await;
    goes_on(&scene, &socket).await;
    ask(&scene.here, Some(&cookie), logout).await;
    ends(socket).await;
}

async fn a_logout_and_an_expiry_elsewhere_end_it<B: Backend>(scene: Scene<B>) {
    let (cookie, socket) = scene.socket().await;
    goes_on(&scene, &socket).await;
    ask(&scene.there, Some(&cookie), logout).await;
    ends(socket).await;
    let (cookie, socket) = scene.socket().await;
    goes_on(&scene, &socket).await;
    scene.world.expire(&cookie).await;
    ends(socket).await;
}

async fn a_renewal_here_or_elsewhere_does_not_end_it<B: Backend>(scene: Scene<B>) {
    let (cookie, socket) = scene.socket().await;
    let (_, cookie) = ask(&scene.here, Some(&cookie), renew).await;
    goes_on(&scene, &socket).await;
    let (_, cookie) = ask(&scene.there, cookie.as_deref(), renew).await;
    goes_on(&scene, &socket).await;
    // Longer than the records of the renewals last.
    scene.world.age(secs(61)).await;
    goes_on(&scene, &socket).await;
    ask(&scene.there, cookie.as_deref(), logout).await;
    ends(socket).await;
}

/// A `touch` with the old id finds nothing. Whether the session has ended is another question.
async fn who_has_found_out_that_it_is_gone_waits_for_the_same_end<B: Backend>(scene: Scene<B>) {
    let (_, old) = ask(&scene.here, None, login).await;
    let (session, _) = ask(&scene.here, old.as_deref(), nothing).await;
    let (_, new) = ask(&scene.there, old.as_deref(), renew).await;
    let gone = session.touch().await.expect_err("it has another id");
    assert_eq!(gone.kind(), ErrorKind::Gone);
    let socket = wait(&session);
    goes_on(&scene, &socket).await;
    ask(&scene.there, new.as_deref(), logout).await;
    ends(socket).await;
}

/// Of somebody else, perhaps: the socket must not go on with the other's session.
async fn another_login_ends_it<B: Backend>(scene: Scene<B>) {
    let (cookie, socket) = scene.socket().await;
    goes_on(&scene, &socket).await;
    ask(&scene.there, Some(&cookie), login).await;
    ends(socket).await;
    assert_eq!(scene.world.count().await, 1);
}

async fn a_logout_with_the_old_id_ends_it<B: Backend>(scene: Scene<B>) {
    let (old, socket) = scene.socket().await;
    ask(&scene.here, Some(&old), renew).await;
    goes_on(&scene, &socket).await;
    ask(&scene.there, Some(&old), logout).await;
    ends(socket).await;
}

async fn an_outage_does_not_end_it<B: Backend>(scene: Scene<B>) {
    // A server that is killed would lose the session.
    let (cookie, socket) = scene.socket().await;
    scene.world.fail(Outage::Hangs);
    goes_on(&scene, &socket).await;
    scene.world.mend().await;
    goes_on(&scene, &socket).await;
    ask(&scene.here, Some(&cookie), logout).await;
    ends(socket).await;
}

async fn it_does_not_refresh<B: Backend>(scene: Scene<B>) {
    let (cookie, socket) = scene.socket().await;
    scene.world.age(secs(500)).await;
    goes_on(&scene, &socket).await;
    let left = scene.world.ttl(&cookie).await.expect("a session");
    assert!(left <= secs(400), "{left:?}");
}

async fn without_a_stored_session_it_is_ready_at_once<B: Backend>(scene: Scene<B>) {
    let works: [Work; 3] = [nothing, logout, |session| {
        session.insert("user", "ann")?;
        session.destroy();
        Ok(())
    }];
    for work in works {
        let (session, _) = ask(&scene.here, None, work).await;
        ends(wait(&session)).await;
    }
    // One that ended before it was waited for.
    let (_, cookie) = ask(&scene.here, None, login).await;
    let (session, _) = ask(&scene.here, cookie.as_deref(), nothing).await;
    ask(&scene.there, cookie.as_deref(), logout).await;
    ends(wait(&session)).await;
}

async fn all_that_wait_are_asked_for_together<B: Backend>(scene: Scene<B>) {
    let mut sockets = Vec::new();
    for _ in 0..50 {
        sockets.push(scene.socket().await);
    }
    let store = scene.world.store();
    store.calls();
    goes_on(&scene, &sockets[0].1).await;
    // Now and then two come before this looks; fifty times as many is another thing.
    let calls = store.calls();
    assert!(calls.len() <= 3, "{calls:?}");
    let (cookie, _) = &sockets[7];
    ask(&scene.there, Some(cookie), logout).await;
    let (_, ended) = sockets.swap_remove(7);
    ends(ended).await;
    goes_on(&scene, &sockets[0].1).await;
    assert!(sockets.iter().all(|(_, socket)| !socket.is_finished()));
}

async fn who_waits_no_longer_is_not_asked_for<B: Backend>(scene: Scene<B>) {
    let (cookie, socket) = scene.socket().await;
    goes_on(&scene, &socket).await;
    let (session, _) = ask(&scene.here, Some(&cookie), nothing).await;
    let shared = Arc::new(());
    let other = {
        let (shared, ended) = (shared.clone(), session.ended(OFTEN));
        tokio::spawn(async move {
            ended.await;
            drop(shared);
        })
    };
    goes_on(&scene, &socket).await;
    socket.abort();
    goes_on(&scene, &other).await;
    other.abort();
    let store = scene.world.store();
    bounded("silence", async {
        loop {
            store.calls();
            tokio::time::sleep(OFTEN * 5).await;
            if store.calls().is_empty() {
                return;
            }
        }
    })
    .await;
    // And it begins anew.
    let (_, socket) = scene.socket().await;
    goes_on(&scene, &socket).await;
}

/// Who wants to know more seldom would miss the record of a renewal, which is gone after a minute.
#[tokio::test(start_paused = true)]
async fn however_seldom_it_is_to_be_asked_for_it_is_every_30_seconds() {
    let scene = Scene::<Memory>::new().await;
    let (_, cookie) = ask(&scene.here, None, login).await;
    let (session, _) = ask(&scene.here, cookie.as_deref(), nothing).await;
    let store = scene.world.store();
    store.calls();
    let (began, moment) = (Instant::now(), Duration::from_millis(5));
    let socket = tokio::spawn(session.ended(secs(3600)));
    for time in [30, 60, 90].map(secs) {
        sleep_until(began + time - moment).await;
        assert_eq!(store.calls(), [""; 0], "before {time:?}");
        sleep_until(began + time + moment).await;
        assert_eq!(store.calls(), ["alive"], "at {time:?}");
    }
    assert!(!socket.is_finished());
    ask(&scene.there, cookie.as_deref(), logout).await;
    socket.await.expect("no panic");
    let took = began.elapsed();
    assert!(took.abs_diff(secs(120)) <= moment, "{took:?}");
}
