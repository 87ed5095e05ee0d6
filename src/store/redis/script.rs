//! The Lua scripts: each one atomic step in the server.

use std::sync::LazyLock;

use fred::{
    bytes_utils::Str,
    clients::Client,
    error::Error,
    interfaces::LuaInterface,
    types::{Key, Value, scripts},
};

use super::command::{Ask, Command};

/// A script that is hashed when it is first used.
pub(super) type Script = LazyLock<Loaded>;

pub(super) struct Loaded(scripts::Script, Str);

impl Loaded {
    pub(super) fn sha1(&self) -> Str {
        self.0.sha1().clone()
    }

    pub(super) fn lua(&self) -> Str {
        self.1.clone()
    }
}

macro_rules! script {
    ($($file:literal),+) => {
        LazyLock::new(|| {
            let lua = Str::from_static(concat!($(include_str!($file)),+));
            Loaded(scripts::Script::from_lua(lua.clone()), lua)
        })
    };
}

macro_rules! writing {
    ($file:literal) => {
        script!("common.lua", "deadline.lua", "write.lua", $file)
    };
}

pub(super) static LOAD: Script = script!("common.lua", "load.lua");
pub(super) static CREATE: Script = writing!("create.lua");
pub(super) static UPDATE: Script = writing!("update.lua");
pub(super) static PREPARE: Script = writing!("prepare.lua");
pub(super) static RENEW: Script = writing!("renew.lua");
pub(super) static REPLACE: Script = writing!("replace.lua");
pub(super) static DELETE_IF_SAME: Script =
    script!("common.lua", "deadline.lua", "delete_if_same.lua");

/// Runs a script, by its hash. `args` adds its arguments.
pub(super) async fn run(
    script: &'static Script,
    keys: &[Key],
    args: impl Fn(&mut Vec<Value>),
    to: &mut impl Ask,
) -> Result<Value, Error> {
    match to.ask(Command::run(script, keys, &args)).await {
        // The server restarted, or its scripts were flushed. It has not run, so it can be sent again, this time with
        // its text, which the server keeps.
        Err(error) if error.details().starts_with("NOSCRIPT") => {
            to.ask(Command::teach(script, keys, args)).await
        }
        answer => answer,
    }
}

/// Tells the server the scripts, so that the first request does not have to. It may refuse (an ACL without `SCRIPT`):
/// then the first use of each sends its text.
pub(super) async fn load_all(client: &Client, in_cluster: bool) {
    let load =
        async |script: &'static Script| client.script_load_cluster::<Value, _>(script.lua()).await;
    let _ = tokio::join!(load(&LOAD), load(&CREATE), load(&UPDATE));
    // The others belong to the one or the other.
    if in_cluster {
        let _ = tokio::join!(load(&REPLACE), load(&DELETE_IF_SAME));
    } else {
        let _ = tokio::join!(load(&PREPARE), load(&RENEW));
    }
}
