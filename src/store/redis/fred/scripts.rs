//! The scripts as the client runs them: by their SHA-1, and with their text where a server does not know them.

use std::{sync::LazyLock, time::Duration};

use fred::{
    bytes_utils::Str,
    clients::Client,
    error::Error as FredError,
    types::{Value, scripts::Script as Hashed},
};

use super::commands::{KeysAndArgs, Raw};
use crate::store::redis::{
    executor::Script,
    scripts::{self, ALL, Form},
};

/// Their texts in their usual form.
static TEXTS: LazyLock<Vec<(&Script, Text)>> = LazyLock::new(|| {
    ALL.iter()
        .map(|script| (*script, Text::new(script, Form::default())))
        .collect()
});

/// A script's text, and its SHA-1.
#[derive(Clone)]
pub(super) struct Text {
    pub(super) lua: Str,
    pub(super) sha1: Str,
}

/// As servers know a script.
#[cfg(feature = "upstash")]
pub(in crate::store::redis) fn sha1(lua: &str) -> String {
    Hashed::from_lua(lua).sha1().to_string()
}

impl Text {
    fn new(script: &Script, form: Form) -> Self {
        let lua = Str::from(scripts::text(script, form));
        let sha1 = Hashed::from_lua(lua.clone()).sha1().clone();
        Self { lua, sha1 }
    }

    pub(super) fn of(script: &'static Script, form: Form) -> Self {
        let usual = TEXTS
            .iter()
            .find(|(of, _)| form == Form::default() && of.id() == script.id());
        usual.map_or_else(|| Self::new(script, form), |(_, text)| text.clone())
    }
}

impl Text {
    /// Runs it where the server knows it.
    pub(super) fn evalsha(&self, on: &KeysAndArgs) -> Raw {
        Raw::script("EVALSHA", self.sha1.clone(), on)
    }

    /// Runs it by its text, so that the server knows it from then on.
    pub(super) fn eval(&self, on: &KeysAndArgs) -> Raw {
        Raw::script("EVAL", self.lua.clone(), on)
    }
}

/// Whether a server does not know a script: it restarted, or its scripts were flushed. The script has not run, so it can be
/// sent again, this time with its text, which the server keeps.
pub(super) fn is_unknown(answer: &Result<Value, FredError>) -> bool {
    let error = answer.as_ref().err();
    error.is_some_and(|error| error.details().starts_with("NOSCRIPT"))
}

/// Tells a server the scripts, so that the first request does not have to. It may refuse (an ACL without `SCRIPT`): then
/// the first use of each sends its text.
pub(super) async fn load_all(client: &Client, timeout: Duration) {
    let load = async {
        let all = client.pipeline();
        for script in ALL {
            let text = Text::of(script, Form::default());
            let load = Raw::new("SCRIPT", vec!["LOAD".into(), text.lua.into()]);
            let _ = load.to(&all).await;
        }
        all.try_all::<Value>().await
    };
    let _ = tokio::time::timeout(timeout, load).await;
}
