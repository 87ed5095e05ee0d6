//! The layer in front of a handler that does what a [script](harness::script) says, called in this process: thousands of requests at once
//! cost no sockets of their own, and what a request took is the layer's own time.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::IntoResponse;
use harness::gate::Gates;
use harness::jar::Jar;
use harness::script::perform;
use harness::{Gate, HANG};
use http::{HeaderMap, Request, Response, StatusCode, header};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{
    Error, ErrorKind, LazySession, Lookup, RedisStore, Session, SessionLayer, SessionLayerBuilder,
};

/// How long sessions live here: also where the server's clock jumps by hours.
pub(crate) const IDLE: Duration = secs(24 * 3600);
/// The name of the cookie.
const COOKIE: &str = "session_id";

/// What a handler saw of its session when it was done.
#[derive(Debug, Clone)]
pub(crate) struct Seen {
    pub(crate) lookup: Lookup,
    pub(crate) fields: BTreeMap<String, String>,
    /// Of each step that failed.
    pub(crate) errors: Vec<ErrorKind>,
}

/// An answer, and what it took.
#[derive(Debug, Clone)]
pub(crate) struct Told {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// What the layer left in the response's extensions.
    pub(crate) error: Option<Error>,
    /// `None` where no handler ran, or its answer was replaced.
    pub(crate) seen: Option<Seen>,
    pub(crate) took: Duration,
}

impl Told {
    pub(crate) fn kind(&self) -> Option<ErrorKind> {
        self.error.as_ref().map(Error::kind)
    }

    pub(crate) fn cookies(&self) -> Vec<String> {
        let lines = self.headers.get_all(header::SET_COOKIE).iter();
        lines
            .map(|line| line.to_str().expect("text").to_owned())
            .collect()
    }

    /// The kind of the only step that failed.
    #[track_caller]
    pub(crate) fn step_failed(&self) -> ErrorKind {
        match &self.seen {
            Some(Seen { errors, .. }) if errors.len() == 1 => errors[0],
            _ => panic!("not one failed step: {self:?}"),
        }
    }

    /// Asserts a 503 with all that belongs to it, and nothing about cookies.
    #[track_caller]
    pub(crate) fn unavailable(&self) -> ErrorKind {
        assert_eq!(self.status, StatusCode::SERVICE_UNAVAILABLE, "{self:?}");
        assert_eq!(self.headers[header::RETRY_AFTER], "1", "{self:?}");
        self.says_nothing_of_cookies();
        let error = self.error.as_ref().expect("an error for outer layers");
        assert!(error.is_unavailable(), "{error:?}");
        error.kind()
    }

    /// Asserts success, and nothing about cookies.
    #[track_caller]
    pub(crate) fn fine(&self) -> &Seen {
        self.says_nothing_of_cookies();
        self.done()
    }

    /// Asserts success.
    #[track_caller]
    pub(crate) fn done(&self) -> &Seen {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.seen.as_ref().expect("a handler's answer")
    }

    #[track_caller]
    pub(crate) fn says_nothing_of_cookies(&self) {
        assert_eq!(self.cookies(), [""; 0], "{self:?}");
    }
}

/// A layer with a handler behind it. Clones are the same one.
#[derive(Debug, Clone)]
pub(crate) struct Front {
    layer: SessionLayer,
    store: RedisStore,
    gates: Gates,
}

impl Front {
    /// In front of a store.
    pub(crate) fn on(
        store: &RedisStore,
        set: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
    ) -> Self {
        let builder = set(SessionLayer::builder(store.clone()).idle_timeout(IDLE));
        Self {
            layer: builder.build().expect("a configuration"),
            store: store.clone(),
            gates: Gates::default(),
        }
    }

    pub(crate) fn store(&self) -> &RedisStore {
        &self.store
    }

    /// The gate that the step `wait NAME` waits at.
    pub(crate) fn gate(&self, name: &str) -> Gate {
        self.gates.get(name)
    }

    /// A browser without cookies.
    pub(crate) fn browser(&self) -> Browser {
        Browser {
            front: self.clone(),
            jar: Arc::default(),
        }
    }

    /// A browser with a session that these steps have made, however slow the machine is.
    pub(crate) async fn logged_in(&self, steps: &str) -> Browser {
        let patient = Self {
            layer: SessionLayer::builder(self.store.clone())
                .idle_timeout(IDLE)
                .store_timeout(secs(10))
                .build()
                .expect("a configuration"),
            ..self.clone()
        };
        let browser = patient.browser();
        let told = browser.ask(steps).await;
        told.done();
        assert_eq!(told.cookies().len(), 1, "{told:?}");
        browser.at(self)
    }

    async fn handle(self, request: Request<String>) -> Result<Response<String>, Infallible> {
        let session = match request.extensions().get::<LazySession>().cloned() {
            Some(lazy) => match lazy.load().await {
                Ok(session) => session,
                // As the extractor does.
                Err(error) => return Ok(error.into_response().map(|_| String::new())),
            },
            None => (request.extensions().get::<Session>().cloned()).expect("a session"),
        };
        let done = match perform(&session, request.body(), &self.gates).await {
            Ok(done) => done,
            Err(stop) => panic!("it goes on: {stop:?}"),
        };
        let mut response = Response::new(String::new());
        *response.status_mut() = done.status;
        response.extensions_mut().insert(Seen {
            lookup: session.lookup(),
            fields: session.entries(),
            errors: done.errors,
        });
        Ok(response)
    }
}

/// Keeps cookies and sends them back. Clones share them.
#[derive(Debug, Clone)]
pub(crate) struct Browser {
    front: Front,
    jar: Arc<Mutex<Jar>>,
}

impl Browser {
    /// Sends a request and waits for its answer.
    pub(crate) async fn ask(&self, steps: &str) -> Told {
        let mut request = Request::new(steps.to_owned());
        if let Some(line) = self.jar.lock().unwrap().header() {
            let line = line.try_into().expect("cookies");
            request.headers_mut().insert(header::COOKIE, line);
        }
        let front = self.front.clone();
        let handler = service_fn(move |request| front.clone().handle(request));
        let service = self.front.layer.layer(handler);
        let began = Instant::now();
        // tokio's clock is never stopped here, and a thread for each request would be what a crowd costs.
        let answer = timeout(HANG, service.oneshot(request)).await;
        let took = began.elapsed();
        let Ok(mut response) = answer.unwrap_or_else(|_| panic!("hung: {steps}"));
        for line in response.headers().get_all(header::SET_COOKIE) {
            self.jar.lock().unwrap().set_cookie(line.as_bytes());
        }
        Told {
            status: response.status(),
            headers: response.headers().clone(),
            error: response.extensions_mut().remove(),
            seen: response.extensions_mut().remove(),
            took,
        }
    }

    /// Sends a request and goes on.
    pub(crate) fn start(&self, steps: &str) -> JoinHandle<Told> {
        let (browser, steps) = (self.clone(), steps.to_owned());
        tokio::spawn(async move { browser.ask(&steps).await })
    }

    /// Starts a request and returns when its handler waits at this gate: what comes after it finds the fault.
    pub(crate) async fn start_until(&self, gate: &str, steps: &str) -> JoinHandle<Told> {
        let gate_of = self.front.gate(gate);
        loop {
            let mut request = self.start(&format!("wait {gate}; {steps}"));
            tokio::select! {
                () = gate_of.arrived() => return request,
                // The machine was too slow for a short timeout.
                told = &mut request => drop(told.expect("an answer").unavailable()),
            }
        }
    }

    /// The same cookies at another layer.
    pub(crate) fn at(&self, front: &Front) -> Self {
        Self {
            front: front.clone(),
            jar: self.jar.clone(),
        }
    }

    /// A browser of the same layer with a copy of the cookies.
    pub(crate) fn copy(&self) -> Self {
        let copy = self.front.browser();
        copy.hold(&self.id());
        copy
    }

    pub(crate) fn hold(&self, id: &str) {
        self.jar.lock().unwrap().put(COOKIE, id.as_bytes(), "");
    }

    pub(crate) fn cookie(&self) -> Option<String> {
        let jar = self.jar.lock().unwrap();
        let stored = jar.find(COOKIE)?;
        Some(String::from_utf8(stored.value.clone()).expect("an id"))
    }

    /// The id it holds; panics if it holds none.
    pub(crate) fn id(&self) -> String {
        self.cookie().expect("a session cookie")
    }

    pub(crate) fn gate(&self, name: &str) -> Gate {
        self.front.gate(name)
    }

    /// What it asks.
    pub(crate) fn front(&self) -> Front {
        self.front.clone()
    }
}

pub(crate) const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub(crate) const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
