//! The Lua scripts, and what an executor has to know of each. A script works on the keys that it declares and on no
//! other; each key is one atomic step.

use super::executor::Command;

/// A script.
#[derive(Clone, Copy, Debug)]
pub(super) struct Script {
    lua: &'static str,
    /// The arguments of each key begin with a deadline. It answers the server's time alone where it did for each key what
    /// it is for; else what it says of each key, and then the time. One without a deadline answers only the former.
    pub(super) by_deadline: bool,
    /// Whether it takes several keys.
    pub(super) merges: Merges,
    /// A command that says the same of one key, and costs a server less.
    pub(super) alone: Option<Command>,
}

/// Which calls of a script may be one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Merges {
    /// None: it takes one key.
    Never,
    /// Those with as many arguments. The arguments of each key come behind those of the one before.
    OfOneShape,
    /// Those with the same arguments, which come once.
    WithSameArgs,
}

/// How a script is told its arguments and the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// The server refuses `TIME` in scripts: the caller's own time is the last argument.
    pub(super) own_time: bool,
    /// There are more arguments than a command may have: they come as two.
    pub(super) packed: bool,
}

impl Script {
    /// The same for scripts of the same text.
    pub(super) fn id(&self) -> usize {
        self.lua.as_ptr().addr()
    }

    /// Its text.
    pub(super) fn lua(&self, form: Form) -> String {
        if !self.by_deadline {
            return self.lua.to_owned();
        }
        let time = match form.own_time {
            true => include_str!("scripts/no_time.lua"),
            false => include_str!("scripts/time.lua"),
        };
        if !form.packed {
            return format!("{time}{}", self.lua);
        }
        let time = time.replace("local A = ARGV\n", include_str!("scripts/packed.lua"));
        format!("{time}{}", self.lua)
    }
}

macro_rules! script {
    ($name:literal, by_deadline: $by_deadline:literal, merges: $merges:ident) => {
        Script {
            lua: include_str!(concat!("scripts/", $name, ".lua")),
            by_deadline: $by_deadline,
            merges: Merges::$merges,
            alone: None,
        }
    };
}

/// For sessions that each request refreshes.
pub(super) static READ: Script = Script {
    alone: Some(Command::Fields),
    ..script!("read", by_deadline: false, merges: WithSameArgs)
};
/// The same script, where the time to live is wanted as well.
pub(super) static READ_WITH_TIME: Script = Script {
    alone: Some(Command::FieldsAndTimeToLive),
    ..READ
};
pub(super) static ABSENT: Script = script!("absent", by_deadline: false, merges: OfOneShape);
pub(super) static REFRESH: Script = script!("refresh", by_deadline: false, merges: OfOneShape);
pub(super) static CREATE: Script = script!("create", by_deadline: true, merges: OfOneShape);
pub(super) static SET: Script = script!("set", by_deadline: true, merges: OfOneShape);
pub(super) static ADD: Script = script!("add", by_deadline: true, merges: OfOneShape);
pub(super) static UPDATE: Script = script!("update", by_deadline: true, merges: Never);
pub(super) static PUT: Script = script!("put", by_deadline: true, merges: Never);
pub(super) static REPLACE: Script = script!("replace", by_deadline: true, merges: Never);
pub(super) static MARK: Script = script!("mark", by_deadline: true, merges: Never);
pub(super) static TURN: Script = script!("turn", by_deadline: true, merges: Never);
// These may be late: nobody wants what they take away.
pub(super) static DELETE: Script = script!("delete", by_deadline: false, merges: Never);
pub(super) static UNMARK: Script = script!("unmark", by_deadline: false, merges: Never);
pub(super) static DISCARD: Script = script!("discard", by_deadline: false, merges: Never);

/// All of them: a server is told them when it is connected to, so that the first requests need not.
pub(super) static ALL: [&Script; 14] = [
    &READ, &ABSENT, &REFRESH, &CREATE, &SET, &ADD, &UPDATE, &PUT, &DELETE, &REPLACE, &MARK, &TURN,
    &UNMARK, &DISCARD,
];
