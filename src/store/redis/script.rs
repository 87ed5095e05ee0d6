//! The Lua scripts: each one atomic step in the server.

use std::sync::LazyLock;

use fred::{
    bytes_utils::Str,
    clients::Pool,
    interfaces::LuaInterface,
    types::{Value, scripts},
};

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

pub(super) static LOAD: Script = script!("common.lua", "load.lua");
pub(super) static CREATE: Script = script!("common.lua", "write.lua", "create.lua");
pub(super) static UPDATE: Script = script!("common.lua", "write.lua", "update.lua");
pub(super) static RENEW: Script = script!("common.lua", "write.lua", "renew.lua");
pub(super) static DELETE_IF_SAME: Script = script!("delete_if_same.lua");

/// Tells the server the scripts, so that the first request does not have to. It may refuse (an ACL without `SCRIPT`):
/// then the first use of each sends its text.
pub(super) async fn load_all(pool: &Pool) {
    let load = |script: &'static Script| pool.script_load_cluster::<Value, _>(script.lua());
    let _ = tokio::join!(
        load(&LOAD),
        load(&CREATE),
        load(&UPDATE),
        load(&RENEW),
        load(&DELETE_IF_SAME)
    );
}
