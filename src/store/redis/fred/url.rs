//! [`Url`]: the way to Redis that a URL names. What is wrong with one is told without any part of it but a parameter's
//! name: whatever stands in a URL can be a piece of a password.

use std::{net::Ipv6Addr, path::PathBuf};

use crate::error::{Error, ErrorKind};

pub(super) struct Url {
    pub(super) place: Place,
    pub(super) login: Option<Login>,
    /// `None` where the URL names none.
    pub(super) database: Option<u8>,
    /// The files of a connection with TLS.
    pub(super) tls: Option<Files>,
}

pub(super) enum Place {
    Server(Address),
    /// The path of a Unix socket.
    Socket(String),
    /// Any nodes of it.
    Cluster(Vec<Address>),
    Sentinel {
        sentinels: Vec<Address>,
        service: String,
        /// Those of the Sentinels themselves.
        user: Option<String>,
        password: Option<String>,
    },
}

/// An IPv6 address is without brackets here.
pub(super) struct Address {
    pub(super) host: String,
    pub(super) port: u16,
}

pub(super) struct Login {
    /// Without one, it is the default user's password.
    pub(super) user: Option<String>,
    pub(super) password: String,
}

/// PEM files: whom to trust, and who we are.
#[cfg_attr(
    not(feature = "rustls"),
    expect(dead_code, reason = "only TLS reads them")
)]
pub(in crate::store::redis) struct Files {
    pub(super) ca: Option<PathBuf>,
    pub(super) own: Option<Own>,
}

#[cfg_attr(
    not(feature = "rustls"),
    expect(dead_code, reason = "only TLS reads them")
)]
pub(super) struct Own {
    pub(super) cert: PathBuf,
    pub(super) key: PathBuf,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Server,
    Socket,
    Cluster,
    Sentinel,
}

impl Url {
    pub(super) fn parse(url: &str) -> Result<Self, Error> {
        let (scheme, rest) = url.split_once("://").ok_or_else(unknown_scheme)?;
        let (kind, with_tls) = scheme_of(&scheme.to_ascii_lowercase())?;
        if rest.contains(char::is_control) {
            return Err(invalid(
                "the Redis URL has a line break or another control character",
            ));
        }
        if rest.contains('#') {
            return Err(invalid(
                "the Redis URL has a `#`, which means nothing there: in a user, a password or a path it is written %23",
            ));
        }
        let (rest, query) = rest.split_once('?').unwrap_or((rest, ""));
        // What follows would be taken for parameters, and a part of a password for the name of one.
        if query.contains('@') {
            return Err(invalid(
                "the Redis URL has an `@` after a `?`: in a user or a password, `?` is written %3F; in a parameter, `@` is written %40",
            ));
        }
        let (authority, path) = match rest.split_once('/') {
            Some((authority, path)) => (authority, Some(path)),
            None => (rest, None),
        };
        // A socket's path may have one.
        if kind != Kind::Socket && path.is_some_and(|path| path.contains('@')) {
            return Err(invalid(
                "the Redis URL has an `@` after a `/`: in a user or a password, `/` is written %2F",
            ));
        }
        let (login, host) = match authority.rsplit_once('@') {
            Some((login, host)) => (Login::parse(login)?, host),
            None => (None, authority),
        };
        let mut parameters = Parameters::parse(query, |name| place_of(name, kind, with_tls))?;
        let named = parameters.one("db").as_deref().map(database).transpose()?;
        let database = match path.filter(|path| kind != Kind::Socket && !path.is_empty()) {
            Some(path) => either(database(path)?, named)?,
            None => named,
        };
        let tls = with_tls.then(|| parameters.files()).transpose()?;
        let place = match kind {
            Kind::Socket => socket(host, path)?,
            Kind::Server => Place::Server(Address::parse(host, 6379)?),
            Kind::Cluster => Place::Cluster(parameters.nodes(host, 6379)?),
            Kind::Sentinel => Place::Sentinel {
                sentinels: parameters.nodes(host, 26379)?,
                service: parameters.one("sentinelServiceName").ok_or_else(|| {
                    invalid("the Redis URL lacks the parameter `sentinelServiceName`: the name under which the Sentinels know the master, such as ?sentinelServiceName=mymaster")
                })?,
                user: parameters.one("sentinelUsername"),
                password: parameters.one("sentinelPassword"),
            },
        };
        if let Place::Sentinel {
            user: Some(_),
            password: None,
            ..
        } = place
        {
            return Err(invalid(
                "in the Redis URL, `sentinelUsername` needs `sentinelPassword`",
            ));
        }
        Ok(Self {
            place,
            login,
            database,
            tls,
        })
    }
}

/// What a scheme leads to, and whether with TLS.
fn scheme_of(scheme: &str) -> Result<(Kind, bool), Error> {
    let (name, kind) = match scheme.split_once('-') {
        Some((name, "cluster")) => (name, Kind::Cluster),
        Some((name, "sentinel")) => (name, Kind::Sentinel),
        Some(_) => return Err(unknown_scheme()),
        None => (scheme, Kind::Server),
    };
    match (name, kind) {
        ("redis" | "valkey", _) => Ok((kind, false)),
        ("rediss" | "valkeys", _) => Ok((kind, true)),
        ("unix" | "redis+unix" | "valkey+unix", Kind::Server) => Ok((Kind::Socket, false)),
        _ => Err(unknown_scheme()),
    }
}

fn unknown_scheme() -> Error {
    invalid(
        "the Redis URL must begin with redis://, rediss:// or redis+unix:// (for a cluster redis-cluster://, for a Sentinel redis-sentinel://)",
    )
}

impl Login {
    fn parse(text: &str) -> Result<Option<Self>, Error> {
        if text.is_empty() {
            return Ok(None);
        }
        let (user, password) = text.split_once(':').ok_or_else(|| {
            invalid("the Redis URL has one word before the `@`: it is `user:password@`, or `:password@` for the default user")
        })?;
        let (user, password) = (percent_decoded(user)?, percent_decoded(password)?);
        // A template whose password is empty means none.
        if user.is_empty() && password.is_empty() {
            return Ok(None);
        }
        Ok(Some(Self {
            user: Some(user).filter(|user| !user.is_empty()),
            password,
        }))
    }
}

impl Address {
    fn parse(text: &str, usual_port: u16) -> Result<Self, Error> {
        let (host, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(no_host)?;
                host.parse::<Ipv6Addr>().map_err(|_| no_host())?;
                (host, port)
            }
            None => {
                let at = text.find(':').unwrap_or(text.len());
                let (host, port) = text.split_at(at);
                let is_part =
                    |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
                if host.is_empty() || !host.bytes().all(is_part) {
                    return Err(no_host());
                }
                (host, port)
            }
        };
        let port = match port.strip_prefix(':') {
            Some(port) => number(port).filter(|port| *port > 0).ok_or_else(no_port)?,
            None if port.is_empty() => usual_port,
            None => return Err(no_port()),
        };
        Ok(Self {
            host: host.to_owned(),
            port,
        })
    }
}

fn no_host() -> Error {
    invalid(
        "the Redis URL names no host: that is a name or an address, an IPv6 address in brackets, such as redis://[::1]:6379",
    )
}

fn no_port() -> Error {
    invalid(
        "the port in the Redis URL is no number from 1 to 65535 (an IPv6 address stands in brackets; in a user or a password, `:`, `/`, `?`, `#`, `@` and `%` are percent-encoded)",
    )
}

/// The path is all that follows the scheme; a user and a password stand before it, and no host.
fn socket(host: &str, path: Option<&str>) -> Result<Place, Error> {
    let path = path.filter(|path| host.is_empty() && !path.is_empty());
    let path = path.ok_or_else(|| {
        invalid("the Redis URL names no socket: its path begins with `/` and no host stands before it, as in redis+unix:///path/to/redis.sock")
    })?;
    Ok(Place::Socket(format!("/{}", percent_decoded(path)?)))
}

fn database(text: &str) -> Result<u8, Error> {
    number(text).ok_or_else(|| {
        invalid("the database in the Redis URL, after the host's `/` or in `?db=`, is no number from 0 to 255")
    })
}

/// Digits and nothing else: no sign.
fn number<T: std::str::FromStr>(text: &str) -> Option<T> {
    let is_number = text.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| text.parse().ok()).flatten()
}

fn either(in_path: u8, named: Option<u8>) -> Result<Option<u8>, Error> {
    match named {
        Some(named) if named != in_path => Err(invalid(
            "the Redis URL names two databases: one after the host's `/` and another one in `?db=`",
        )),
        _ => Ok(Some(in_path)),
    }
}

/// The parameters that there are.
const PARAMETERS: [&str; 8] = [
    "db",
    "node",
    "sentinelServiceName",
    "sentinelUsername",
    "sentinelPassword",
    "ca",
    "cert",
    "key",
];

/// The parameter of this name, if it means something for such a URL.
fn place_of(name: &str, kind: Kind, with_tls: bool) -> Result<&'static str, Error> {
    let Some(known) = PARAMETERS.into_iter().find(|known| *known == name) else {
        return Err(match name {
            "user" | "username" | "password" | "pass" | "auth" => invalid(format!(
                "the Redis URL has a parameter `{name}`: user and password stand before the host, as in redis://user:password@host (those of Sentinels are `sentinelUsername` and `sentinelPassword`)"
            )),
            _ => unknown(name, &PARAMETERS),
        });
    };
    let (is_here, place) = match known {
        "node" => (
            matches!(kind, Kind::Cluster | Kind::Sentinel),
            "redis-cluster:// and redis-sentinel://",
        ),
        "ca" | "cert" | "key" => (with_tls, "URLs with TLS: rediss://"),
        "db" => (true, ""),
        _ => (kind == Kind::Sentinel, "redis-sentinel://"),
    };
    match is_here {
        true => Ok(known),
        false => Err(invalid(format!(
            "the parameter `{known}` in the Redis URL is for {place}"
        ))),
    }
}

fn unknown(name: &str, known: &[&str]) -> Error {
    let known = known.join("`, `");
    let is_plain = |byte: u8| byte.is_ascii_alphabetic() || matches!(byte, b'_' | b'-');
    match name.len() <= 32 && name.bytes().all(is_plain) {
        true => invalid(format!(
            "the URL has a parameter `{name}`, which is none: there are `{known}`"
        )),
        false => invalid(format!(
            "the URL has a parameter that is none: there are `{known}`"
        )),
    }
}

/// What a query says: names in the order of their first appearance, each with its values.
pub(in crate::store::redis) struct Parameters(Vec<(&'static str, Vec<String>)>);

impl Parameters {
    /// Of Upstash's HTTPS.
    #[cfg(feature = "upstash")]
    pub(in crate::store::redis) fn of_https(query: &str) -> Result<Self, Error> {
        const FILES: [&str; 3] = ["ca", "cert", "key"];
        Self::parse(query, |name| {
            let known = FILES.into_iter().find(|known| *known == name);
            known.ok_or_else(|| unknown(name, &FILES))
        })
    }

    fn parse(
        query: &str,
        known: impl Fn(&str) -> Result<&'static str, Error>,
    ) -> Result<Self, Error> {
        let mut this = Self(Vec::new());
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair
                .split_once('=')
                .ok_or_else(|| invalid("the URL has a parameter without `=` and a value"))?;
            let name = known(name)?;
            let value = percent_decoded(value)?;
            if value.is_empty() {
                return Err(invalid(format!(
                    "the parameter `{name}` in the URL is empty"
                )));
            }
            match this.0.iter_mut().find(|(known, _)| *known == name) {
                Some((_, values)) if name == "node" => values.push(value),
                Some(_) => {
                    return Err(invalid(format!("the URL has the parameter `{name}` twice")));
                }
                None => this.0.push((name, vec![value])),
            }
        }
        Ok(this)
    }

    fn all(&mut self, name: &str) -> Vec<String> {
        let at = self.0.iter().position(|(known, _)| *known == name);
        at.map(|at| self.0.swap_remove(at).1).unwrap_or_default()
    }

    fn one(&mut self, name: &str) -> Option<String> {
        self.all(name).pop()
    }

    fn nodes(&mut self, host: &str, usual_port: u16) -> Result<Vec<Address>, Error> {
        let more = self.all("node");
        let all = std::iter::once(host).chain(more.iter().map(String::as_str));
        all.map(|text| Address::parse(text, usual_port)).collect()
    }

    pub(in crate::store::redis) fn files(&mut self) -> Result<Files, Error> {
        let own = match (self.one("cert"), self.one("key")) {
            (Some(cert), Some(key)) => Some(Own {
                cert: cert.into(),
                key: key.into(),
            }),
            (None, None) => None,
            (Some(_), None) => return Err(invalid("in the URL, `cert` needs `key`")),
            (None, Some(_)) => return Err(invalid("in the URL, `key` needs `cert`")),
        };
        Ok(Files {
            ca: self.one("ca").map(PathBuf::from),
            own,
        })
    }
}

pub(super) fn invalid(message: impl Into<std::borrow::Cow<'static, str>>) -> Error {
    Error::new(ErrorKind::InvalidUrl, message)
}

fn percent_decoded(text: &str) -> Result<String, Error> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let mut digit = || rest.next().and_then(|byte| char::from(byte).to_digit(16));
        let decoded = digit()
            .zip(digit())
            .and_then(|(high, low)| u8::try_from(high * 16 + low).ok());
        bytes.push(decoded.ok_or_else(|| {
            invalid(
                "a `%` in the Redis URL stands before no two hex digits: a `%` itself is written %25",
            )
        })?);
    }
    String::from_utf8(bytes).map_err(|_| {
        invalid("what is percent-encoded in the Redis URL is not UTF-8 once it is decoded")
    })
}
