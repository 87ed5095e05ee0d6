//! [`ResponseFuture`]: one request's way through the layer, Load, Call, Commit.

use std::{
    fmt,
    future::Future,
    mem,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, ready},
};

use http::{Request, Response};
use pin_project_lite::pin_project;
use tokio::time::Instant;
use tower_service::Service;

use crate::{
    cookie::Presented,
    deadline::{ByDeadline, by_deadline},
    error::ErrorKind,
    response::{EmptyBody, committed, failed, not_committed},
    session::{Ending, Find, LazySession, Session, Shared, Writing, find, outcome, timed_out},
};

/// The session of a request, as the layer keeps it while the handler runs.
#[derive(Clone)]
pub(crate) enum Handle {
    Eager(Session),
    Lazy(LazySession),
}

impl Handle {
    /// `None` where no handler asked for the session.
    fn session(self) -> Option<Session> {
        match self {
            Self::Eager(session) => Some(session),
            Self::Lazy(lazy) => lazy.loaded(),
        }
    }
}

pin_project! {
    /// The response of a [`SessionService`](crate::SessionService).
    pub struct ResponseFuture<S, ReqBody>
    where
        S: Service<Request<ReqBody>>,
    {
        #[pin]
        state: State<S, ReqBody, S::Future, S::Response>,
        shared: Arc<Shared>,
    }
}

pin_project! {
    #[project = StateProj]
    enum State<S, ReqBody, F, R> {
        // The store is asked for the session of the request's cookie.
        Load {
            #[pin]
            found: ByDeadline<Find>,
            began: Instant,
            presented: Presented,
            // Both are there until the store has answered.
            call: Option<(S, Request<ReqBody>)>,
        },
        // The inner service runs.
        Call {
            #[pin]
            future: F,
            // There until it has answered.
            handle: Option<Handle>,
        },
        // What it changed is being written.
        Commit {
            #[pin]
            writing: Writing,
            // A failed write fails the request; else only the cookie's age depends on it.
            required: bool,
            // There until it is written.
            answer: Option<(Session, R)>,
        },
        // The response is out.
        Done,
    }
}

impl<S, ReqBody> ResponseFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    pub(crate) fn load(
        service: S,
        request: Request<ReqBody>,
        presented: Presented,
        shared: Arc<Shared>,
    ) -> Self {
        let deadline = shared.config.deadline();
        let context = shared.config.context(deadline);
        let find = find(shared.store.clone(), presented.clone(), context);
        let state = State::Load {
            began: Instant::now(),
            found: by_deadline(deadline, find),
            presented,
            call: Some((service, request)),
        };
        Self { state, shared }
    }

    /// `handle`: the session to write in the end, if there is one.
    pub(crate) fn call(future: S::Future, handle: Option<Handle>, shared: Arc<Shared>) -> Self {
        let state = State::Call { future, handle };
        Self { state, shared }
    }
}

impl<S, ReqBody, ResBody> Future for ResponseFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>, Response = Response<ResBody>>,
    ResBody: EmptyBody,
{
    type Output = Result<Response<ResBody>, S::Error>;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let mut this = self.project();
        let config = &this.shared.config;
        loop {
            let (next, ready) = match this.state.as_mut().project() {
                StateProj::Load {
                    found,
                    began,
                    presented,
                    call,
                } => {
                    let late = || Err(timed_out(config.store_timeout));
                    let found = ready!(found.poll(cx)).unwrap_or_else(late);
                    let took = began.elapsed();
                    let presented = mem::take(presented);
                    let opened = Session::opened(this.shared.clone(), presented, found, took);
                    match (opened, call.take()) {
                        (Ok(session), Some((mut service, mut request))) => {
                            request.extensions_mut().remove::<LazySession>();
                            request.extensions_mut().insert(session.clone());
                            let future = service.call(request);
                            let handle = Some(Handle::Eager(session));
                            (State::Call { future, handle }, None)
                        }
                        (Err(error), _) => (State::Done, Some(failed(error))),
                        (Ok(_), None) => (State::Done, None),
                    }
                }
                StateProj::Call { future, handle } => {
                    let response = match ready!(future.poll(cx)) {
                        Ok(response) => response,
                        // Nothing is written.
                        Err(error) => {
                            this.state.set(State::Done);
                            return Poll::Ready(Err(error));
                        }
                    };
                    let session = handle.take().and_then(Handle::session);
                    match session {
                        None => (State::Done, Some(response)),
                        Some(session) => finish(session, response, this.shared),
                    }
                }
                StateProj::Commit {
                    writing,
                    required,
                    answer,
                } => {
                    let written = outcome(ready!(writing.poll(cx)), this.shared);
                    let required = *required;
                    let response = answer.take().map(|(session, response)| match written {
                        Err(error) if required || error.kind() == ErrorKind::Gone => {
                            not_committed(&session, error, config)
                        }
                        Err(_) => {
                            session.keep_cookie();
                            committed(&session, response, config)
                        }
                        Ok(_) => committed(&session, response, config),
                    });
                    (State::Done, response)
                }
                StateProj::Done => panic!("`ResponseFuture` polled after it was ready"),
            };
            this.state.set(next);
            if let Some(response) = ready {
                return Poll::Ready(Ok(response));
            }
        }
    }
}

/// The next state, and the response where there is nothing left to wait for.
type Step<S, ReqBody, F, R> = (State<S, ReqBody, F, R>, Option<R>);

/// The inner service has answered: begins to write the session, if there is anything to write.
fn finish<S, ReqBody, F, ResBody: EmptyBody>(
    session: Session,
    response: Response<ResBody>,
    shared: &Shared,
) -> Step<S, ReqBody, F, Response<ResBody>> {
    match session.finish(response.status(), response.headers()) {
        Ok(None) => {
            let response = committed(&session, response, &shared.config);
            (State::Done, Some(response))
        }
        Ok(Some(Ending { writing, required })) => {
            let state = State::Commit {
                writing,
                required,
                answer: Some((session, response)),
            };
            (state, None)
        }
        Err(error) => {
            let response = not_committed(&session, error, &shared.config);
            (State::Done, Some(response))
        }
    }
}

impl<S, ReqBody> fmt::Debug for ResponseFuture<S, ReqBody>
where
    S: Service<Request<ReqBody>>,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseFuture").finish_non_exhaustive()
    }
}
