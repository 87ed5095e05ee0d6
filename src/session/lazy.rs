//! [`LazySession`], what the extensions hold where the layer is lazy.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use tokio::{sync::OnceCell, time::Instant};

use super::{Session, Shared, find, in_runtime, in_time};
use crate::{cookie::Presented, error::Error};

/// A session that is loaded only when a handler asks for it; see [`lazy`](crate::SessionLayerBuilder::lazy).
///
/// A route that does not ask costs nothing, does not refresh the time to live, and survives an outage. The axum
/// extractor of [`Session`] loads by itself; elsewhere:
///
/// ```
/// # use tower::{Layer, ServiceExt, service_fn};
/// use tower_redis_session::{LazySession, MemoryStore, SessionLayer};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() {
/// let handler = service_fn(|request: http::Request<()>| async move {
///     let lazy = request.extensions().get::<LazySession>().cloned().unwrap();
///     let session = lazy.load().await?;
///     session.insert("user", "abdullah")?;
///     Ok::<_, tower_redis_session::Error>(http::Response::new(()))
/// });
/// let layer = SessionLayer::builder(MemoryStore::new()).lazy(true).build().unwrap();
/// # let response = layer.layer(handler).oneshot(http::Request::new(())).await.unwrap();
/// # assert!(response.headers().contains_key("set-cookie"));
/// # }
/// ```
#[derive(Clone)]
pub struct LazySession {
    inner: Arc<Inner>,
}

struct Inner {
    shared: Arc<Shared>,
    presented: Presented,
    session: OnceCell<Session>,
    /// The response head is made: a session loaded from now on gets no cookie.
    head_out: AtomicBool,
}

impl LazySession {
    pub(crate) fn new(shared: Arc<Shared>, presented: Presented) -> Self {
        Self {
            inner: Arc::new(Inner {
                shared,
                presented,
                session: OnceCell::new(),
                head_out: AtomicBool::new(false),
            }),
        }
    }

    /// The session, loaded by whoever asks first and shared by all clones.
    ///
    /// # Errors
    ///
    /// [`ErrorKind::Unavailable`](crate::ErrorKind::Unavailable) or [`ErrorKind::Timeout`](crate::ErrorKind::Timeout)
    /// where the store failed, with [`OnStoreError::Reject`](crate::OnStoreError::Reject); the next call tries again.
    pub async fn load(&self) -> Result<Session, Error> {
        let Inner {
            shared,
            presented,
            session,
            head_out,
        } = &*self.inner;
        let open = async || {
            let shared = shared.clone();
            if presented.ids().next().is_none() {
                return Ok(Session::new(shared, presented.clone()));
            }
            in_runtime()?;
            let (config, presented) = (&shared.config, presented.clone());
            let (began, deadline) = (Instant::now(), config.deadline());
            let context = config.context(deadline);
            let find = find(shared.store.clone(), presented.clone(), context);
            let found = in_time(config, deadline, find).await;
            Session::opened(shared.clone(), presented, found, began.elapsed())
        };
        let session = session.get_or_try_init(open).await.cloned()?;
        if head_out.load(Ordering::SeqCst) {
            session.head_is_out();
        }
        Ok(session)
    }

    pub(crate) fn shared(&self) -> &Arc<Shared> {
        &self.inner.shared
    }

    /// The session that the layer has to write in the end: one that was loaded, or one that needed no store.
    pub(crate) fn loaded(&self) -> Option<Session> {
        let Inner {
            shared,
            presented,
            session,
            head_out,
        } = &*self.inner;
        head_out.store(true, Ordering::SeqCst);
        if let Some(session) = session.get() {
            return Some(session.clone());
        }
        // A malformed cookie names no live session: the store need not be asked.
        let is_malformed = *presented == Presented::Malformed;
        (is_malformed && shared.config.clear_unknown)
            .then(|| Session::new(shared.clone(), presented.clone()))
    }
}

/// Neither the id nor a value.
impl fmt::Debug for LazySession {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LazySession")
            .field("session", &self.inner.session.get())
            .finish_non_exhaustive()
    }
}
