//! The layer in front of a handler that does what it is told, called in this process: thousands of requests at once
//! cost no sockets of their own, and what a request took is the layer's own time.

use std::collections::{BTreeMap, HashMap};
use std::convert::Infallible;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::response::IntoResponse;
use http::{HeaderMap, Request, Response, StatusCode, header};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};
use tower::{Layer, ServiceExt, service_fn};
use tower_redis_session::{
    Error, ErrorKind, LazySession, Lookup, RedisStore, Session, SessionLayer, SessionLayerBuilder,
};

use crate::common::jar::Jar;
use crate::common::{Gate, HANG};

/// How long sessions live here: also where the server's clock jumps by hours.
pub const IDLE: Duration = secs(24 * 3600);
/// The name of the cookie.
const COOKIE: &str = "session_id";

/// What a handler saw of its session when it was done.
#[derive(Debug, Clone)]
pub struct Seen {
    pub lookup: Lookup,
    pub fields: BTreeMap<String, String>,
    /// Of each step that failed.
    pub errors: Vec<ErrorKind>,
}

/// An answer, and what it took.
#[derive(Debug, Clone)]
pub struct Told {
    pub status: StatusCode,
    pub headers: HeaderMap,
    /// What the layer left in the response's extensions.
    pub error: Option<Error>,
    /// `None` where no handler ran, or its answer was replaced.
    pub seen: Option<Seen>,
    pub took: Duration,
}

impl Told {
    pub fn kind(&self) -> Option<ErrorKind> {
        self.error.as_ref().map(Error::kind)
    }

    pub fn cookies(&self) -> Vec<String> {
        let lines = self.headers.get_all(header::SET_COOKIE).iter();
        lines
            .map(|line| line.to_str().expect("text").to_owned())
            .collect()
    }

    /// The kind of the only step that failed.
    #[track_caller]
    pub fn step_failed(&self) -> ErrorKind {
        match &self.seen {
            Some(Seen { errors, .. }) if errors.len() == 1 => errors[0],
            _ => panic!("not one failed step: {self:?}"),
        }
    }

    /// Asserts a 503 with all that belongs to it, and nothing about cookies.
    #[track_caller]
    pub fn unavailable(&self) -> ErrorKind {
        assert_eq!(self.status, StatusCode::SERVICE_UNAVAILABLE, "{self:?}");
        assert_eq!(self.headers[header::RETRY_AFTER], "1", "{self:?}");
        self.says_nothing_of_cookies();
        let error = self.error.as_ref().expect("an error for outer layers");
        assert!(error.is_unavailable(), "{error:?}");
        error.kind()
    }

    /// Asserts success, and nothing about cookies.
    #[track_caller]
    pub fn fine(&self) -> &Seen {
        self.says_nothing_of_cookies();
        self.done()
    }

    /// Asserts success.
    #[track_caller]
    pub fn done(&self) -> &Seen {
        assert_eq!(self.status, StatusCode::OK, "{self:?}");
        self.seen.as_ref().expect("a handler's answer")
    }

    #[track_caller]
    pub fn says_nothing_of_cookies(&self) {
        assert_eq!(self.cookies(), [""; 0], "{self:?}");
    }
}

/// A layer with a handler behind it. Clones are the same one.
#[derive(Debug, Clone)]
pub struct Front {
    layer: SessionLayer,
    store: RedisStore,
    gates: Arc<Mutex<HashMap<String, Gate>>>,
}

impl Front {
    /// In front of a store.
    pub fn on(
        store: &RedisStore,
        set: impl FnOnce(SessionLayerBuilder) -> SessionLayerBuilder,
    ) -> Self {
        let builder = set(SessionLayer::builder(store.clone()).idle_timeout(IDLE));
        Self {
            layer: builder.build().expect("a configuration"),
            store: store.clone(),
            gates: Arc::default(),
        }
    }

    pub fn store(&self) -> &RedisStore {
        &self.store
    }

    /// The gate that the step `wait NAME` waits at.
    pub fn gate(&self, name: &str) -> Gate {
        let mut gates = self.gates.lock().unwrap();
        gates
            .entry(name.to_owned())
            .or_insert_with(Gate::new)
            .clone()
    }

    /// A browser without cookies.
    pub fn browser(&self) -> Browser {
        Browser {
            front: self.clone(),
            jar: Arc::default(),
        }
    }

    /// A browser with a session that these steps have made, however slow the machine is.
    pub async fn logged_in(&self, steps: &str) -> Browser {
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
        let mut status = StatusCode::OK;
        let mut errors = Vec::new();
        for step in request.body().split(';') {
            let words: Vec<_> = step.split_whitespace().collect();
            if words.is_empty() {
                continue;
            }
            let result = match words[..] {
                ["wait", gate] => {
                    self.gate(gate).pass().await;
                    Ok(())
                }
                ["status", code] => {
                    status = code.parse().expect("a status");
                    Ok(())
                }
                _ => step_of(&session, &words).await,
            };
            errors.extend(result.err().map(|error| error.kind()));
        }
        let mut response = Response::new(String::new());
        *response.status_mut() = status;
        response.extensions_mut().insert(Seen {
            lookup: session.lookup(),
            fields: session.entries(),
            errors,
        });
        Ok(response)
    }
}

async fn step_of(session: &Session, words: &[&str]) -> Result<(), Error> {
    match *words {
        ["set", field, value] => session.insert(field, value),
        ["fill", field, bytes] => session.insert(field, "x".repeat(bytes.parse().unwrap())),
        ["add", field, by] => session.increment(field, by.parse().unwrap()).map(drop),
        ["remove", field] => {
            session.remove(field);
            Ok(())
        }
        ["clear"] => {
            session.clear();
            Ok(())
        }
        ["renew"] => {
            session.renew();
            Ok(())
        }
        ["destroy"] => {
            session.destroy();
            Ok(())
        }
        ["idle", millis] => {
            session.set_idle_timeout(Duration::from_millis(millis.parse().unwrap()));
            Ok(())
        }
        ["save"] => session.save().await,
        ["reload"] => session.reload().await,
        _ => panic!("no such step: {words:?}"),
    }
}

/// Keeps cookies and sends them back. Clones share them.
#[derive(Debug, Clone)]
pub struct Browser {
    front: Front,
    jar: Arc<Mutex<Jar>>,
}

impl Browser {
    /// Sends a request and waits for its answer.
    pub async fn ask(&self, steps: &str) -> Told {
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
    pub fn start(&self, steps: &str) -> JoinHandle<Told> {
        let (browser, steps) = (self.clone(), steps.to_owned());
        tokio::spawn(async move { browser.ask(&steps).await })
    }

    /// Starts a request and returns when its handler waits at this gate: what comes after it finds the fault.
    pub async fn start_until(&self, gate: &str, steps: &str) -> JoinHandle<Told> {
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
    pub fn at(&self, front: &Front) -> Self {
        Self {
            front: front.clone(),
            jar: self.jar.clone(),
        }
    }

    /// A browser of the same layer with a copy of the cookies.
    pub fn copy(&self) -> Self {
        let copy = self.front.browser();
        copy.hold(&self.id());
        copy
    }

    pub fn hold(&self, id: &str) {
        self.jar.lock().unwrap().put(COOKIE, id.as_bytes(), "");
    }

    pub fn cookie(&self) -> Option<String> {
        let jar = self.jar.lock().unwrap();
        let stored = jar.find(COOKIE)?;
        Some(String::from_utf8(stored.value.clone()).expect("an id"))
    }

    /// The id it holds; panics if it holds none.
    pub fn id(&self) -> String {
        self.cookie().expect("a session cookie")
    }

    pub fn gate(&self, name: &str) -> Gate {
        self.front.gate(name)
    }

    /// What it asks.
    pub fn front(&self) -> Front {
        self.front.clone()
    }
}

pub fn key(id: &str) -> String {
    format!("session:{id}")
}

pub const fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

pub const fn secs(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}
