//! The language of a test's handlers: steps separated by `;`, each a word and what it is about, so that a race reads as a
//! story: `set user ada; wait slow; destroy`.
//!
//! | step | what it does, and its result |
//! | --- | --- |
//! | `set FIELD TEXT`, `set FIELD` | inserts the text, or the empty one |
//! | `fill FIELD BYTES` | inserts so many |
//! | `add FIELD N` | increments; the new number |
//! | `get FIELD`, `get-number FIELD`, `bytes FIELD`, `has FIELD` | reads |
//! | `remove FIELD`, `take FIELD`, `take-number FIELD` | removes; whether it was there, or what it was |
//! | `clear`, `renew`, `destroy` | as the methods of the session |
//! | `idle 60s`, `idle 1500ms`, `remember 60s`, `forget` | sets the session's own expiry: `Browser`, `Persistent`, `Default` |
//! | `empty`, `entries`, `id`, `lookup`, `debug` | what the methods give |
//! | `expires` | `expires_in` in seconds, rounded up |
//! | `save`, `reload`, `touch` | waits for it |
//! | `take-once FIELD` | what it got |
//! | `save-or-fail` | … and answers with the error, if it is one |
//! | `save-with FIELD TEXT` | a second change and `save` while the first `save` is under way |
//! | `leave-save` | drops a `save` that waits for the store, as a timeout layer does |
//! | `wait GATE`, `wait` | waits at the gate of that name, or of none |
//! | `sleep MS` | for what is random anyway |
//! | `status CODE`, `header NAME VALUE` | of the response |
//! | `fail` | the service itself returns an error |
//!
//! `harness::app` answers with what the session then looks like (`lookup`, `id`, `fields`, `errors`), and knows the body
//! `ignore`, for a handler that does not look at its session. The fixture of `rules` answers with what each step gave.
//!
//! A step that is an error has the result `{"error": KIND}`, and the script goes on.

use std::future::{Future, poll_fn};
use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use serde::Serialize;
use serde_json::{Value, json};
use tower_redis_session::{Error, ErrorKind, Session, SessionExpiry};

use crate::gate::Gates;

/// What came of a script.
#[derive(Debug, Default)]
pub struct Done {
    /// What each step gave.
    pub results: Vec<Value>,
    /// The kinds of the errors among them.
    pub errors: Vec<ErrorKind>,
    pub status: StatusCode,
    pub headers: HeaderMap,
}

/// Why a script did not end.
#[derive(Debug)]
pub enum Stop {
    /// `save-or-fail`: the error is to be the response.
    With(Error),
    /// `fail`
    Fail,
}

/// Does what the script says. A script that nobody can understand is a panic.
pub async fn perform(session: &Session, script: &str, gates: &Gates) -> Result<Done, Stop> {
    let mut done = Done::default();
    for step in script.split(';') {
        let words: Vec<&str> = step.split_whitespace().collect();
        let result = match words[..] {
            [] => continue,
            ["wait"] => {
                gates.get("").pass().await;
                NOTHING
            }
            ["wait", gate] => {
                gates.get(gate).pass().await;
                NOTHING
            }
            ["sleep", millis] => {
                tokio::time::sleep(Duration::from_millis(number(millis))).await;
                NOTHING
            }
            ["status", code] => {
                done.status = code.parse().expect("a status");
                NOTHING
            }
            ["header", name, ref value @ ..] => {
                let name: HeaderName = name.parse().expect("a header's name");
                let value = HeaderValue::from_str(&value.join(" ")).expect("a header");
                done.headers.append(name, value);
                NOTHING
            }
            ["save"] => told(session.save().await),
            ["save-or-fail"] => {
                session.save().await.map_err(Stop::With)?;
                NOTHING
            }
            ["save-with", field, text] => {
                let second = async {
                    session.insert(field, text)?;
                    session.save().await
                };
                let (first, second) = tokio::join!(session.save(), second);
                done.errors.extend(second.err().map(|error| error.kind()));
                told(first)
            }
            ["leave-save"] => {
                leave_save(session).await;
                NOTHING
            }
            ["touch"] => told(session.touch().await),
            ["take-once", field] => told(session.take_once::<String>(field).await),
            ["reload"] => told(session.reload().await),
            ["fail"] => return Err(Stop::Fail),
            ref words => operate(session, words),
        };
        done.errors.extend(result.as_ref().err());
        let error = |kind| json!({"error": format!("{kind:?}")});
        done.results.push(result.unwrap_or_else(error));
    }
    Ok(done)
}

/// A step's result.
type Told = Result<Value, ErrorKind>;

const NOTHING: Told = Ok(Value::Null);

fn told<T: Serialize>(result: Result<T, Error>) -> Told {
    match result {
        Ok(value) => Ok(json!(value)),
        Err(error) => Err(error.kind()),
    }
}

fn number<N: std::str::FromStr>(text: &str) -> N {
    let number = text.parse().ok();
    number.unwrap_or_else(|| panic!("no number: {text:?}"))
}

fn duration(text: &str) -> Duration {
    match text.strip_suffix("ms") {
        Some(millis) => Duration::from_millis(number(millis)),
        None => Duration::from_secs(number(text.strip_suffix('s').expect("`s` or `ms`"))),
    }
}

async fn leave_save(session: &Session) {
    let mut save = pin!(session.save());
    let begun = poll_fn(|cx| Poll::Ready(save.as_mut().poll(cx).is_pending()));
    assert!(begun.await, "it has to wait for the store");
    // Its task runs now.
    tokio::task::yield_now().await;
}

/// One operation on the handle.
fn operate(session: &Session, words: &[&str]) -> Told {
    match *words {
        ["set", field, text] => told(session.insert(field, text)),
        ["set", field] => told(session.insert(field, "")),
        ["fill", field, bytes] => told(session.insert(field, "x".repeat(number(bytes)))),
        ["get", field] => told(session.get::<String>(field)),
        ["get-number", field] => told(session.get::<i64>(field)),
        ["bytes", field] => Ok(json!(session.get_bytes(field).map(|bytes| bytes.to_vec()))),
        ["has", field] => Ok(json!(session.contains(field))),
        ["remove", field] => Ok(json!(session.remove(field))),
        ["take", field] => told(session.take::<String>(field)),
        ["take-number", field] => told(session.take::<i64>(field)),
        ["add", field, by] => told(session.increment(field, number(by))),
        ["idle", timeout] => {
            session.set_expiry(SessionExpiry::Browser(duration(timeout)));
            NOTHING
        }
        ["remember", timeout] => {
            session.set_expiry(SessionExpiry::Persistent(duration(timeout)));
            NOTHING
        }
        ["forget"] => {
            session.set_expiry(SessionExpiry::Default);
            NOTHING
        }
        ["expires"] => Ok(json!(
            session
                .expires_in()
                .map(|left| left.as_millis().div_ceil(1000))
        )),
        ["clear"] => {
            session.clear();
            NOTHING
        }
        ["renew"] => {
            session.renew();
            NOTHING
        }
        ["destroy"] => {
            session.destroy();
            NOTHING
        }
        ["empty"] => Ok(json!(session.is_empty())),
        ["entries"] => Ok(json!(session.entries())),
        ["id"] => Ok(json!(session.id().map(|id| id.to_string()))),
        ["lookup"] => Ok(json!(format!("{:?}", session.lookup()))),
        ["debug"] => Ok(json!(format!("{session:?}"))),
        ref unknown => panic!("no such step: {unknown:?}"),
    }
}
