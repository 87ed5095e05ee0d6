//! [`session_cookie`]: a session for the tests of an app.

use http::HeaderValue;
use serde::Serialize;

use crate::{
    Session, SessionLayer,
    error::{Error, ErrorKind},
};

/// A live session with these fields, and the `Cookie` header of a browser that has it: for tests of handlers that want
/// somebody who is logged in. An app whose fields have values of several types passes them as `serde_json::Value`.
///
/// ```
/// use tower::{Layer, ServiceExt, service_fn};
/// use tower_redis_session::{Error, MemoryStore, Session, SessionLayer, testing::session_cookie};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Error> {
/// let layer = SessionLayer::new(MemoryStore::new());
/// let app = layer.layer(service_fn(|request: http::Request<()>| async move {
///     let session = request.extensions().get::<Session>().cloned().unwrap();
///     assert_eq!(session.get::<String>("user")?.as_deref(), Some("abdullah"));
///     Ok::<_, Error>(http::Response::new(()))
/// }));
///
/// let cookie = session_cookie(&layer, [("user", "abdullah")]).await?;
/// let request = http::Request::builder().header("cookie", cookie).body(()).unwrap();
/// app.oneshot(request).await?;
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// Those of [`Session::insert`] and [`Session::save`]; and [`ErrorKind::Gone`] without any field: there is no such session.
pub async fn session_cookie<N, V>(
    layer: &SessionLayer,
    fields: impl IntoIterator<Item = (N, V)>,
) -> Result<HeaderValue, Error>
where
    N: AsRef<str>,
    V: Serialize,
{
    let session = Session::new(layer.shared().clone(), Default::default());
    for (name, value) in fields {
        session.insert(name.as_ref(), value)?;
    }
    session.save().await?;
    let cookie = session
        .id()
        .and_then(|id| layer.shared().config.cookie.sent_back(id));
    cookie.ok_or_else(|| Error::new(ErrorKind::Gone, "without a field there is no session"))
}
