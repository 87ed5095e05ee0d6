//! Where the layer and the reference are compared.

use std::collections::BTreeMap;

use harness::through::Call;
use http::HeaderValue;
use http::header::{CACHE_CONTROL, RETRY_AFTER, SET_COOKIE, VARY};
use tokio::task::JoinHandle;
use tower_redis_session::SessionId;
use tower_redis_session::store::SessionKey;

use super::driver::Run;
use super::program::Ends;
use super::reference::{self, Sent, SetCookie};
use super::stores::{Backend, Held};
use super::web::Outcome;

/// What the two differ in.
pub(crate) type Checked = Result<(), String>;

/// Which real id each of the model's numbers stands for.
#[derive(Default)]
pub(crate) struct Ids(pub BTreeMap<usize, SessionId>);

impl Ids {
    /// The number of an id; of one not seen before, the number that the model expects here, if that is
    /// not taken. 0 is nobody's.
    pub(crate) fn number(&mut self, id: SessionId, expected: Option<usize>) -> usize {
        if let Some((number, _)) = self.0.iter().find(|(_, known)| **known == id) {
            return *number;
        }
        match expected {
            Some(number) if !self.0.contains_key(&number) => {
                self.0.insert(number, id);
                number
            }
            _ => 0,
        }
    }

    pub(crate) fn call(&mut self, call: Call, expected: Option<&Call<usize>>) -> Call<usize> {
        let (one, two) = match expected {
            Some(Call::Renew(old, new) | Call::Replace(old, new, _)) => (Some(*old), Some(*new)),
            Some(
                Call::Load(id, _)
                | Call::Create(id)
                | Call::Update(id)
                | Call::Delete(id)
                | Call::Take(id),
            ) => (Some(*id), None),
            Some(Call::Alive(_)) | None => (None, None),
        };
        // A UUID is its own key.
        let id = |key: SessionKey| key.to_string().parse().expect("a UUID");
        match call {
            Call::Load(key, refresh) => Call::Load(self.number(id(key), one), refresh),
            Call::Create(key) => Call::Create(self.number(id(key), one)),
            Call::Update(key) => Call::Update(self.number(id(key), one)),
            Call::Renew(old, new) => {
                Call::Renew(self.number(id(old), one), self.number(id(new), two))
            }
            Call::Delete(key) => Call::Delete(self.number(id(key), one)),
            Call::Take(key) => Call::Take(self.number(id(key), one)),
            Call::Alive(count) => Call::Alive(count),
            Call::Replace(old, new, live) => {
                Call::Replace(self.number(id(old), one), self.number(id(new), two), live)
            }
        }
    }
}

impl<B: Backend, V> Run<'_, B, V> {
    /// What the client gets, and what its jar makes of it.
    pub(crate) async fn compare_sent(
        &mut self,
        client: usize,
        task: JoinHandle<Outcome>,
        expected: Option<Sent>,
    ) -> Checked {
        let outcome = task.await.map_err(|error| format!("the layer: {error}"))?;
        let Ok(response) = outcome else {
            return agree("the client gets", &None, &expected);
        };
        let headers = response.headers();
        let lines: Vec<_> = headers.get_all(SET_COOKIE).iter().collect();
        let (own, ours): (Vec<_>, Vec<_>) = lines.iter().partition(|line| **line == "own=1");
        let expected_cookie = expected.as_ref().map(|sent| sent.cookie);
        let cookie = match ours[..] {
            [] => SetCookie::None,
            [line] => self.read_cookie(line, expected_cookie)?,
            _ => return Err("several cookies of the layer's".to_owned()),
        };
        let status = response.status().as_u16();
        let by_layer = own.is_empty();
        let again = headers.contains_key(RETRY_AFTER);
        if own.len() > 1 || again != (by_layer && status == 503) {
            return Err(format!("headers of a {status}: {headers:?}"));
        }
        let sent = Sent {
            status,
            by_layer,
            cookie,
            vary: headers.get(VARY).is_some_and(|value| value == "Cookie"),
            no_store: headers
                .get(CACHE_CONTROL)
                .is_some_and(|value| value == "no-store"),
        };
        for line in lines {
            self.jars[client].set_cookie(line.as_bytes());
        }
        match sent.cookie {
            SetCookie::None => {}
            SetCookie::Set(number, _) => self.holds[client] = Some(number),
            SetCookie::Cleared => self.holds[client] = None,
        }
        if let Some(last) = self.trace.last_mut() {
            last.push_str(&format!(" -> {sent:?}"));
        }
        agree("the client gets", &Some(sent), &expected)
    }

    fn read_cookie(
        &mut self,
        line: &HeaderValue,
        expected: Option<SetCookie>,
    ) -> Result<SetCookie, String> {
        let line = line.to_str().map_err(|error| error.to_string())?;
        let bad = || format!("Set-Cookie: {line}");
        let mut parts = line.split("; ");
        let value = parts
            .next()
            .and_then(|pair| pair.strip_prefix("session_id="));
        let value = value.ok_or_else(bad)?;
        let max_age = parts.find_map(|part| part.strip_prefix("Max-Age="));
        let max_age = max_age.map(|age| age.parse::<u64>()).transpose();
        let max_age = max_age.map_err(|_| bad())?;
        if value.is_empty() && max_age == Some(0) {
            return Ok(SetCookie::Cleared);
        }
        let id: SessionId = value.parse().map_err(|_| bad())?;
        match expected {
            Some(SetCookie::Set(number, age)) => {
                let slack = self.backend.slack().unsigned_abs() / 1000;
                let near = |real: u64, model: u64| real <= model && real + slack >= model;
                let max_age = match (max_age, age) {
                    (Some(real), Some(model)) if near(real, model) => Some(model),
                    (real, _) => real,
                };
                Ok(SetCookie::Set(self.ids.number(id, Some(number)), max_age))
            }
            _ => Ok(SetCookie::Set(self.ids.number(id, None), max_age)),
        }
    }

    /// What the store was asked for, and what is in it.
    pub(crate) async fn compare(&mut self) -> Checked {
        let expected = std::mem::take(&mut self.world.log);
        let real = std::mem::take(&mut *self.switch.log.lock().unwrap());
        let real: Vec<_> = real
            .into_iter()
            .enumerate()
            .map(|(index, call)| self.ids.call(call, expected.get(index)))
            .collect();
        agree("the store is asked for", &real, &expected)?;
        // Nobody waits for a refresh, nor for the last step of a renewal.
        let began = std::time::Instant::now();
        loop {
            let held = self.compare_all_held().await;
            if held.is_ok() || began.elapsed() > self.backend.behind() {
                return held;
            }
            tokio::time::sleep(std::time::Duration::from_millis(1)).await;
        }
    }

    async fn compare_all_held(&mut self) -> Checked {
        for number in &self.world.known {
            let held = self.backend.held(self.ids.0[number]).await;
            let expected = self.world.sessions.get(number);
            let what = format!("session #{number} in the store");
            let (held, expected) = match (held, expected) {
                (None, None) => continue,
                (Some(held), Some(expected)) => (held, expected),
                (held, expected) => return Err(format!("{what}: {held:?}, not {expected:?}")),
            };
            self.compare_held(&what, &held, expected)?;
        }
        agree(
            "sessions in the store",
            &self.backend.count(),
            &self.world.sessions.len(),
        )
    }

    fn compare_held(&self, what: &str, held: &Held, expected: &reference::Stored) -> Checked {
        agree(what, &held.fields, &expected.fields)?;
        agree(&format!("{what}, its own expiry"), &held.own, &expected.own)?;
        let left = (expected.end - self.world.now).cast_signed() * 1000;
        if held.left > left || held.left + self.backend.slack() < left {
            return Err(format!("{what} has {} ms to live, not {left}", held.left));
        }
        let stamped = self.options.expiry == Ends::Absolute;
        if held.created.is_some_and(|created| created != stamped) {
            return Err(format!("{what}: @created is there: {:?}", held.created));
        }
        Ok(())
    }
}

/// The two are equal.
pub(crate) fn agree<T: PartialEq + std::fmt::Debug>(what: &str, real: &T, expected: &T) -> Checked {
    if real == expected {
        return Ok(());
    }
    Err(format!("{what} {real:?}, expected {expected:?}"))
}
