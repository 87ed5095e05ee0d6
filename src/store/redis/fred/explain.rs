//! What the error of a connection tells: which address, what is wrong there, and what to do about it.

use std::borrow::Cow;

use fred::types::config::{Server, ServerConfig};

use super::{progress::bare, target::Target};
use crate::error::{Error, ErrorKind};

/// What the texts begin with that say no more than that it failed.
const PREFIXES: [&str; 2] = [
    "cannot connect to Redis: ",
    "Redis could not do the operation: ",
];

impl Target {
    /// The same error, for somebody who has to find out what to do.
    pub(super) fn explained(&self, error: Error) -> Error {
        let place = self.shown();
        self.explained_at(&place, error)
    }

    pub(super) fn explained_at(&self, place: &str, error: Error) -> Error {
        let text = error.to_string();
        // It says already where; and of a URL or a file there is nothing to explain.
        if error.kind() == ErrorKind::InvalidUrl
            || text.starts_with("cannot connect to the ")
            || text.starts_with("cannot connect to Redis at ")
        {
            return error;
        }
        let mut prefixes = PREFIXES.iter();
        let details = prefixes
            .find_map(|prefix| text.strip_prefix(prefix))
            .unwrap_or(&text);
        let is_of_provider = details.starts_with("the provider of credentials");
        let advice = (!is_of_provider).then(|| self.advice(details)).flatten();
        // Some servers add a whole page.
        let details = details.lines().next().unwrap_or_default();
        let details = match details.starts_with("DENIED") {
            true => "DENIED",
            false => details.trim_end_matches('.'),
        };
        error.with_message(match advice {
            Some(advice) => format!("cannot connect to {place}: {details}: {advice}"),
            None => format!("cannot connect to {place}: {details}"),
        })
    }

    /// Where it leads, without a login.
    pub(super) fn shown(&self) -> String {
        match &self.config.server {
            ServerConfig::Centralized { server } if self.in_cluster => {
                format!("the Redis Cluster's node at {}", address(server))
            }
            ServerConfig::Centralized { server } => format!("Redis at {}", address(server)),
            ServerConfig::Sentinel { hosts, .. } => {
                let hosts: Vec<_> = hosts.iter().map(address).collect();
                format!("the master that the Sentinels at {} name", hosts.join(", "))
            }
            ServerConfig::Clustered { hosts, .. } => {
                let hosts: Vec<_> = hosts.iter().map(address).collect();
                format!("the Redis Cluster at {}", hosts.join(", "))
            }
            #[cfg(unix)]
            ServerConfig::Unix { path } => format!("Redis at the socket {}", path.display()),
            #[cfg(not(unix))]
            _ => "Redis".to_owned(),
        }
    }

    fn advice(&self, details: &str) -> Option<Cow<'static, str>> {
        let has = |text: &str| details.contains(text);
        if has("Connection refused") && self.in_cluster {
            return Some("nobody listens there; a node is reached at the address that it announces (`cluster-announce-ip`, `cluster-announce-port`)".into());
        }
        if has("WRONGPASS") || has("invalid password") {
            return Some(self.advice_on_login().into());
        }
        // Valkey 9 hides from strangers which commands it does not know.
        let logs_in = self.config.password.is_some() || self.provider.is_some();
        if has("unknown command 'AUTH'") || (has("NOAUTH") && logs_in) {
            return Some(NO_AUTH.into());
        }
        if has("DB index is out of range") {
            let database = self.config.database.unwrap_or_default();
            return Some(format!("it has no database {database}; see its `databases`, or for a cluster of Valkey its `cluster-databases`").into());
        }
        if let Some(advice) = self.advice_on_tls(details) {
            return Some(advice.into());
        }
        let known = ADVICE.iter().chain(ADVICE_ON_TLS);
        let mut known = known.filter(|(text, _)| has(text));
        match known.next() {
            Some((_, advice)) => Some((*advice).into()),
            None => self.advice_on_silence(details).map(Into::into),
        }
    }

    /// The connection ended, or nothing came over it.
    fn advice_on_silence(&self, details: &str) -> Option<&'static str> {
        let is_one_of = |all: &[&str]| all.iter().any(|text| details.contains(text));
        #[cfg(unix)]
        let is_socket = matches!(self.config.server, ServerConfig::Unix { .. });
        #[cfg(not(unix))]
        let is_socket = false;
        Some(match (is_one_of(CONNECTED), self.uses_tls()) {
            (true, _) if is_socket => {
                "the connection is made, and no answer comes over it; does the server hang?"
            }
            (true, true) => {
                "the connection is made, and no answer comes over it; is this the server's `tls-port`, or does the server hang?"
            }
            (true, false) => {
                "the connection is made, and no answer comes over it; does the server hang, or is this a port with TLS (rediss://)?"
            }
            (false, _) if !is_one_of(SILENT) => return None,
            (false, true) => {
                "nothing comes from there; is this the server's `tls-port`, does the server hang, or does a firewall swallow it?"
            }
            (false, false) => {
                "nothing comes from there; does the server hang, is this a port with TLS (rediss://), or does a firewall swallow it?"
            }
        })
    }

    #[cfg(feature = "rustls")]
    fn uses_tls(&self) -> bool {
        self.tls.is_some() || self.config.tls.is_some()
    }

    #[cfg(not(feature = "rustls"))]
    fn uses_tls(&self) -> bool {
        false
    }

    fn advice_on_login(&self) -> &'static str {
        if self.provider.is_some() {
            "it does not know the user that the provider of credentials gives, or not with this password"
        } else if self.config.username.is_some() {
            "it does not know the user in the URL, or not with this password (a character of `:/?#@%` in one is percent-encoded)"
        } else {
            "the default user has another password than the one in the URL (a character of `:/?#@%` in one is percent-encoded)"
        }
    }

    /// What depends on how TLS is set up.
    #[cfg(feature = "rustls")]
    fn advice_on_tls(&self, details: &str) -> Option<&'static str> {
        if details.contains("UnknownIssuer") {
            let has_ca = self.tls.as_ref().is_some_and(super::tls::Tls::has_ca);
            return Some(match has_ca {
                true => {
                    "no certificate in the file of `ca=` is that of the authority which signed the server's"
                }
                false => {
                    "none of this machine's authorities has signed the server's certificate; name the one that has with `ca=` in the URL"
                }
            });
        }
        None
    }

    #[cfg(not(feature = "rustls"))]
    fn advice_on_tls(&self, _: &str) -> Option<&'static str> {
        None
    }
}

/// What an error says, and what to do then. The first one counts.
const ADVICE: &[(&str, &str)] = &[
    (
        "no address for its name within",
        "the DNS that this machine uses does not answer",
    ),
    (
        "no connection within",
        "nothing comes from this address; does a firewall or a security group swallow it, or is the machine down?",
    ),
    (
        "no TLS handshake within",
        "the connection is made, and nothing comes over it; is this the server's `tls-port`, or does the server hang?",
    ),
    (
        "failed to lookup address",
        "the name cannot be found; is it spelled as it should be, and does the DNS that this machine uses know it?",
    ),
    (
        "Connection refused",
        "nobody listens there; is the server running, with this port, and does its `bind` have this address?",
    ),
    ("unreachable", UNREACHABLE),
    ("No route to host", UNREACHABLE),
    (
        "No such file",
        "there is no such socket; is the server running, and is this its `unixsocket`?",
    ),
    (
        "Permission denied",
        "this process may not use the socket; see the server's `unixsocketperm`, and the rights on its folder",
    ),
    (
        "DENIED",
        "the server is in protected mode, in which it only serves its own machine; set a password (`requirepass`) or `protected-mode no`",
    ),
    (
        "NOAUTH",
        "it wants a password; put it into the URL, as in redis://:password@host or redis://user:password@host",
    ),
    (
        "NOPERM",
        "the user lacks a right; the documentation of `RedisStore` lists the commands that it needs",
    ),
    (
        "LOADING",
        "it has just started and reads its data; try again in a moment",
    ),
    (
        "max number of clients",
        "it has as many connections as it may; raise its `maxclients`, or find out who has them (`CLIENT LIST`)",
    ),
    (
        "SELECT is not allowed in cluster mode",
        "it is a node of a cluster, which has database 0 only; leave the database out of the URL",
    ),
    (
        "cluster support disabled",
        "it is one server and no cluster; its URL begins with redis:// (or rediss://)",
    ),
    (
        "CLUSTERDOWN",
        "the cluster does not serve all slots, or most of its masters are gone; see `CLUSTER INFO`",
    ),
    ("unknown command 'SENTINEL'", NO_SENTINEL),
    ("unknown command `SENTINEL`", NO_SENTINEL),
    (
        "Decode Error",
        "what answers there does not speak Redis's protocol; is this its port, and is it one with TLS (rediss://)?",
    ),
];

const UNREACHABLE: &str = "there is no way to this address from here; a firewall, a VPN or a private network may be between";
const NO_AUTH: &str = "it does not take the login; has its `rename-command` taken AUTH away?";
const NO_SENTINEL: &str = "it is no Sentinel but a server; its URL begins with redis://";

/// The same for the errors of rustls.
const ADVICE_ON_TLS: &[(&str, &str)] = &[
    (
        "CaUsedAsEndEntity",
        "the server shows the certificate of an authority as its own, as a self-signed one often is; give it one that says CA:FALSE (openssl: -addext basicConstraints=critical,CA:FALSE)",
    ),
    (
        "UnsupportedCertVersion",
        "the server's certificate is of version 1; give it one of version 3, with its names as subjectAltName",
    ),
    (
        "NotValidForName",
        "the server's certificate is for other names; use one of those in the URL, or give it one for this (subjectAltName)",
    ),
    (
        "NotValidYet",
        "the server's certificate is not valid yet; is the clock of this machine right?",
    ),
    (
        "AlertReceived(CertificateExpired)",
        "the server says that our certificate is out of date; renew the file of `cert=`",
    ),
    (
        "Expired",
        "the server's certificate is out of date; renew it (or is the clock of this machine wrong?)",
    ),
    ("CertificateRequired", NO_CERTIFICATE),
    ("HandshakeFailure", NO_CERTIFICATE),
    ("UnknownCA", NOT_TRUSTED),
    ("BadCertificate", NOT_TRUSTED),
    ("DecryptError", NOT_TRUSTED),
    ("InvalidContentType", NO_TLS),
    ("InvalidMessage", NO_TLS),
    ("handshake eof", NO_TLS),
];

const NO_CERTIFICATE: &str = "the server wants to know its clients; name a certificate and its key with `cert=` and `key=` in the URL";
const NOT_TRUSTED: &str = "the server does not trust our certificate; `cert=` must be signed by an authority that is in its `tls-ca-cert-file`";
const NO_TLS: &str = "the server does not speak TLS there; is this its `tls-port`, or should the URL begin with redis://?";

/// What is said of a connection that is there.
const CONNECTED: &[&str] = &[
    "no answer to",
    "Canceled",
    "canceled",
    "closed",
    "reset by peer",
    "Broken pipe",
];
/// And where it is not known whether there is one.
const SILENT: &[&str] = &[
    "did not answer",
    "does not answer",
    "timed out",
    "silent",
    "No response",
];

/// An IPv6 address stands in brackets.
pub(super) fn address(server: &Server) -> String {
    let host = bare(&server.host);
    match host.contains(':') {
        true => format!("[{host}]:{}", server.port),
        false => format!("{host}:{}", server.port),
    }
}
