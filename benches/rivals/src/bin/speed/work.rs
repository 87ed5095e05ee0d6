//! What clients ask for.

use clap::ValueEnum;

use crate::http::request;

/// How many requests a page consists of.
pub const PAGE: usize = 12;

/// What is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, ValueEnum)]
pub enum Work {
    /// A route that ignores sessions, without a cookie.
    Ping,
    /// The same with the cookie of a live session.
    PingCookie,
    /// Two fields are read.
    Profile,
    /// One field is changed.
    Visit,
    /// One client asks for twelve profiles at once, on as many connections, with one cookie.
    Page,
    /// A session is started by a client without a cookie.
    Login,
}

impl Work {
    /// For a row's head.
    pub fn title(self) -> &'static str {
        match self {
            Self::Ping => "ping, no cookie",
            Self::PingCookie => "ping, cookie",
            Self::Profile => "profile",
            Self::Visit => "visit",
            Self::Page => "page (12 at once)",
            Self::Login => "login",
        }
    }

    /// For the command line.
    pub fn name(self) -> String {
        let value = self.to_possible_value();
        value.map_or_else(String::new, |value| value.get_name().to_owned())
    }

    /// Whether a session has to be there.
    pub fn needs_session(self) -> bool {
        !matches!(self, Self::Ping | Self::Login)
    }

    /// How many requests are one unit of it, which are sent at once.
    pub fn at_once(self) -> usize {
        match self {
            Self::Page => PAGE,
            _ => 1,
        }
    }

    /// How many clients so many connections are: as many as fit, at least one.
    pub fn clients(self, connections: usize) -> usize {
        (connections / self.at_once()).max(1)
    }

    /// One request, where `cookie` is a session's and a login sets so many `fields`.
    pub fn request(self, cookie: Option<&str>, fields: usize) -> Vec<u8> {
        match self {
            Self::Ping => request("GET", "/ping", None),
            Self::PingCookie => request("GET", "/ping", cookie),
            Self::Profile | Self::Page => request("GET", "/profile", cookie),
            Self::Visit => request("POST", "/visit", cookie),
            Self::Login => request("POST", &format!("/login/abdullah/{fields}"), None),
        }
    }
}
