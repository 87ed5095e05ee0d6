//! The Lua scripts. Each works on the keys that it declares and on no other; each key is one atomic step.

use super::executor::{Command, Merges, Script};

/// How a script is told its arguments and the time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Form {
    /// The server refuses `TIME` in scripts: the caller's own time is the last argument.
    pub(super) own_time: bool,
    /// How its arguments come.
    pub(super) args: Args,
}

/// How the arguments of a script come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Args {
    #[default]
    AsTheyAre,
    /// There are more of them than a command may have: they come as two.
    Packed,
    /// They are no text, but have to come as such: each byte is a character.
    #[cfg(feature = "upstash")]
    Escaped,
}

/// A script's text.
pub(super) fn text(script: &Script, form: Form) -> String {
    if !script.by_deadline {
        return script.lua.to_owned();
    }
    let time = match form.own_time {
        true => include_str!("scripts/no_time.lua"),
        false => include_str!("scripts/time.lua"),
    };
    let args = match form.args {
        Args::AsTheyAre => return format!("{time}{}", script.lua),
        Args::Packed => include_str!("scripts/packed.lua"),
        #[cfg(feature = "upstash")]
        Args::Escaped => include_str!("scripts/escaped.lua"),
    };
    let time = time.replace("local A = ARGV\n", args);
    format!("{time}{}", script.lua)
}

macro_rules! script {
    ($name:literal, by_deadline: $by_deadline:literal, merges: $merges:ident) => {
        Script {
            lua: include_str!(concat!("scripts/", $name, ".lua")),
            by_deadline: $by_deadline,
            merges: Merges::$merges,
            repeats: false,
            leaves_time: false,
            most: 64,
            alone: None,
        }
    };
}

/// For sessions that each request refreshes.
pub(super) static READ: Script = Script {
    repeats: true,
    alone: Some(Command::Fields),
    ..script!("read", by_deadline: false, merges: WithSameArgs)
};
/// The same script, where the time to live is wanted as well.
pub(super) static READ_WITH_TIME: Script = Script {
    alone: Some(Command::FieldsAndTimeToLive),
    ..READ
};
pub(super) static ABSENT: Script = Script {
    repeats: true,
    ..script!("absent", by_deadline: false, merges: OfOneShape)
};
pub(super) static REFRESH: Script = script!("refresh", by_deadline: false, merges: WithSameArgs);
pub(super) static CREATE: Script = script!("create", by_deadline: true, merges: OfOneShape);
pub(super) static SET: Script = script!("set", by_deadline: true, merges: OfOneShape);
pub(super) static ADD: Script = script!("add", by_deadline: true, merges: OfOneShape);
pub(super) static TAKE: Script = Script {
    leaves_time: true,
    ..script!("take", by_deadline: true, merges: Never)
};
/// It costs the server little, and thousands are asked for at once.
pub(super) static ALIVE: Script = Script {
    most: 1000,
    repeats: true,
    ..script!("alive", by_deadline: false, merges: WithSameArgs)
};
pub(super) static UPDATE: Script = script!("update", by_deadline: true, merges: Never);
pub(super) static PUT: Script = script!("put", by_deadline: true, merges: Never);
pub(super) static REPLACE: Script = script!("replace", by_deadline: true, merges: Never);
pub(super) static MARK: Script = script!("mark", by_deadline: true, merges: Never);
pub(super) static TURN: Script = script!("turn", by_deadline: true, merges: Never);
// These may be late: nobody wants what they take away.
pub(super) static DELETE: Script = script!("delete", by_deadline: false, merges: Never);
pub(super) static UNMARK: Script = script!("unmark", by_deadline: false, merges: Never);
pub(super) static DISCARD: Script = script!("discard", by_deadline: false, merges: Never);

/// Asked on connecting only.
pub(super) static RIGHTS: Script = script!("rights", by_deadline: false, merges: Never);

/// All others: a server is told them when it is connected to, so that the first requests need not.
pub(super) static ALL: [&Script; 16] = [
    &READ, &ABSENT, &REFRESH, &CREATE, &SET, &ADD, &UPDATE, &TAKE, &ALIVE, &PUT, &DELETE, &REPLACE,
    &MARK, &TURN, &UNMARK, &DISCARD,
];
