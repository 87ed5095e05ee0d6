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
    executor::{Reply, Script},
    scripts::{self, ALL, Form},
};

/// As a server takes them.
pub(super) static TEXTS: LazyLock<Texts> = LazyLock::new(|| Texts::new(""));

/// The scripts' texts, behind a first line that is the same for all.
pub(in crate::store::redis) struct Texts {
    first_line: &'static str,
    /// Those in their usual form.
    usual: Vec<(&'static Script, Text)>,
}

/// A script's text, and its SHA-1.
#[derive(Clone)]
pub(in crate::store::redis) struct Text {
    pub(in crate::store::redis) lua: Str,
    pub(in crate::store::redis) sha1: Str,
}

impl Texts {
    pub(in crate::store::redis) fn new(first_line: &'static str) -> Self {
        let usual = |script: &'static Script| {
            let text = Text::new(first_line, script, Form::default());
            (script, text)
        };
        let usual = ALL.iter().map(|script| usual(script)).collect();
        Self { first_line, usual }
    }

    pub(in crate::store::redis) fn of(&self, script: &'static Script, form: Form) -> Text {
        let is_it = |of: &Script| form == Form::default() && of.id() == script.id();
        let usual = self.usual.iter().find(|(of, _)| is_it(of));
        usual.map_or_else(
            || Text::new(self.first_line, script, form),
            |(_, text)| text.clone(),
        )
    }
}

impl Text {
    fn new(first_line: &str, script: &Script, form: Form) -> Self {
        let lua = Str::from(format!("{first_line}{}", scripts::text(script, form)));
        let sha1 = Hashed::from_lua(lua.clone()).sha1().clone();
        Self { lua, sha1 }
    }

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
pub(super) fn is_unknown(answer: &Result<Reply, FredError>) -> bool {
    let error = answer.as_ref().err();
    error.is_some_and(|error| error.details().starts_with("NOSCRIPT"))
}

/// Whether a server refuses `EVALSHA` itself, to this user or to all. What such an error says of the arguments is no matter.
pub(super) fn refuses_hashes(answer: &Result<Reply, FredError>) -> bool {
    let Err(error) = answer else {
        return false;
    };
    let text = error.details();
    let of_command = text.split(", with args").next().unwrap_or_default();
    let is_refusal = text.starts_with("NOPERM") || text.starts_with("ERR unknown command");
    is_refusal && of_command.to_ascii_lowercase().contains("evalsha")
}

/// Tells a server the scripts, so that the first request does not have to. It may refuse (an ACL without `SCRIPT`): then
/// the first use of each sends its text.
pub(super) async fn load_all(client: &Client, timeout: Duration) {
    let load = async {
        let all = client.pipeline();
        for script in ALL {
            let text = TEXTS.of(script, Form::default());
            let load = Raw::new("SCRIPT", vec!["LOAD".into(), text.lua.into()]);
            let _ = load.put_into(&all).await;
        }
        all.try_all::<Value>().await
    };
    let _ = tokio::time::timeout(timeout, load).await;
}
