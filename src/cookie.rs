//! Reading ids from `Cookie` headers and rendering `Set-Cookie` (RFC 6265bis).

use std::{io::BufRead, time::Duration};

use cookie::{Cookie, Expiration, time::OffsetDateTime};
use http::{HeaderMap, HeaderValue, header};

use crate::{error::ConfigError, id::SessionId};

pub(crate) use self::{
    presented::{Named, Presented},
    signing::{Signing, SigningOptions},
};

mod presented;
mod signing;

/// Browsers cut `Max-Age` here (RFC 6265bis, section 5.6.2).
const LONGEST_MAX_AGE: Duration = Duration::from_secs(400 * 24 * 60 * 60);
/// Browsers ignore an attribute over this many bytes (RFC 6265bis, section 5.6).
const LONGEST_ATTRIBUTE: usize = 1024;
/// Browsers ignore a cookie whose name and value are over 4096 bytes together (RFC 6265bis, section 5.6); the id is 36,
/// its signature 44.
const LONGEST_NAME: usize = 4000;

/// The pairs of a line.
fn pairs(mut rest: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let line = rest;
        // In blocks, not byte by byte: a line may be long, and most of it is other cookies. A slice has no errors.
        let read = rest.skip_until(b';').ok().filter(|read| *read > 0)?;
        let pair = line.get(..read)?;
        Some(pair.strip_suffix(b";").unwrap_or(pair))
    })
}

fn value_of<'a>(pair: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    // Spaces and tabs around a pair are no part of it; nothing else is trimmed.
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t');
    let start = pair.iter().position(|byte| !is_blank(byte))?;
    let end = pair.iter().rposition(|byte| !is_blank(byte))?;
    pair.get(start..=end)?
        .strip_prefix(name)?
        .strip_prefix(b"=")
}

/// With which requests from other sites the browser sends the cookie
/// ([RFC 6265bis, section 5.6.7](https://datatracker.ietf.org/doc/html/draft-ietf-httpbis-rfc6265bis)).
///
/// ```
/// # use tower_redis_session::SameSite;
/// assert_eq!(SameSite::default(), SameSite::Lax);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum SameSite {
    /// With none, not even when the user follows a link to your site.
    Strict,
    /// When the user follows a link to your site.
    #[default]
    Lax,
    /// With all of them; needs `secure`.
    None,
}

/// The attributes of the cookie, as the builder was told them.
#[derive(Clone, Debug)]
pub(crate) struct Attributes {
    pub(crate) name: String,
    pub(crate) path: String,
    pub(crate) domain: Option<String>,
    pub(crate) secure: bool,
    pub(crate) http_only: bool,
    pub(crate) same_site: SameSite,
    pub(crate) partitioned: bool,
}

impl Attributes {
    fn check(&self) -> Result<(), ConfigError> {
        self.check_name()?;
        if !self.path.starts_with('/') || !self.path.bytes().all(is_attribute_byte) {
            return Err(ConfigError::CookiePath(self.path.clone()));
        }
        if let Some(domain) = &self.domain {
            let is_host = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
            let is_label = |label: &str| !label.is_empty() && label.bytes().all(is_host);
            if !domain.split('.').all(is_label) {
                return Err(ConfigError::CookieDomain(domain.clone()));
            }
        }
        let domain = self.domain.as_deref().unwrap_or_default();
        for (attribute, text, longest) in [
            ("name", &*self.name, LONGEST_NAME),
            ("path", &*self.path, LONGEST_ATTRIBUTE),
            ("domain", domain, LONGEST_ATTRIBUTE),
        ] {
            let bytes = text.len();
            if bytes > longest {
                return Err(ConfigError::AttributeTooLong { attribute, bytes });
            }
        }
        if self.same_site == SameSite::None && !self.secure {
            return Err(ConfigError::SameSiteNoneWithoutSecure);
        }
        if self.partitioned && !self.secure {
            return Err(ConfigError::PartitionedWithoutSecure);
        }
        Ok(())
    }

    fn check_name(&self) -> Result<(), ConfigError> {
        let name = &self.name;
        if name.is_empty() || !name.bytes().all(is_token_byte) {
            return Err(ConfigError::CookieName(name.clone()));
        }
        for prefix in ["__Host-", "__Secure-"] {
            let Some(start) = name.get(..prefix.len()) else {
                continue;
            };
            if !start.eq_ignore_ascii_case(prefix) {
                continue;
            }
            if start != prefix {
                return Err(ConfigError::PrefixCase(name.clone()));
            }
            if !self.secure {
                return Err(ConfigError::PrefixWithoutSecure(name.clone()));
            }
            if prefix == "__Host-" && self.domain.is_some() {
                return Err(ConfigError::HostPrefixWithDomain(name.clone()));
            }
            if prefix == "__Host-" && self.path != "/" {
                return Err(ConfigError::HostPrefixWithPath(name.clone()));
            }
        }
        Ok(())
    }

    fn cookie(&self) -> Cookie<'_> {
        let mut cookie = Cookie::build((self.name.as_str(), ""))
            .path(self.path.as_str())
            .secure(self.secure)
            .http_only(self.http_only)
            .same_site(match self.same_site {
                SameSite::Strict => cookie::SameSite::Strict,
                SameSite::Lax => cookie::SameSite::Lax,
                SameSite::None => cookie::SameSite::None,
            })
            .build();
        if let Some(domain) = &self.domain {
            cookie.set_domain(domain.as_str());
        }
        if self.partitioned {
            cookie.set_partitioned(true);
        }
        cookie
    }
}

/// `tchar` of RFC 9110, section 5.6.2, which RFC 6265 asks of a name.
fn is_token_byte(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// `av-octet` of RFC 6265bis, section 4.1.1, without the space, which the browser would trim at an end.
fn is_attribute_byte(byte: u8) -> bool {
    byte.is_ascii_graphic() && byte != b';'
}

/// The cookie of a layer: checked, and rendered as far as it can be before the id is known.
#[derive(Debug)]
pub(crate) struct CookieConfig {
    name: String,
    /// Everything after the value: `; HttpOnly; …`.
    attributes: String,
    cleared: HeaderValue,
    signing: Option<Signing>,
}

impl CookieConfig {
    pub(crate) fn new(
        attributes: &Attributes,
        signing: Option<Signing>,
    ) -> Result<Self, ConfigError> {
        attributes.check()?;
        let mut cookie = attributes.cookie();
        let rendered = cookie.to_string();
        // `Max-Age` has precedence; `Expires` is for clients that do not know it.
        cookie.set_max_age(cookie::time::Duration::ZERO);
        cookie.set_expires(Expiration::DateTime(OffsetDateTime::UNIX_EPOCH));
        Ok(Self {
            name: attributes.name.clone(),
            attributes: rendered
                .strip_prefix(&format!("{}=", attributes.name))
                .unwrap_or_default()
                .to_owned(),
            cleared: HeaderValue::from_str(&cookie.to_string())
                .map_err(|_| ConfigError::CookieName(attributes.name.clone()))?,
            signing,
        })
    }

    /// Reads every `Cookie` line; HTTP/2 may send one for each cookie (RFC 9113, section 8.2.3).
    ///
    /// Names are compared byte for byte: a server that decodes, trims or unquotes them takes `%5F%5FHost-id`, which a
    /// sibling domain may set, for `__Host-id`.
    pub(crate) fn read(&self, headers: &HeaderMap) -> Presented {
        let mut presented = Presented::default();
        for line in headers.get_all(header::COOKIE) {
            for pair in pairs(line.as_bytes()) {
                if let Some(value) = value_of(pair, self.name.as_bytes()) {
                    presented = presented.add(self.named_by(value));
                }
            }
        }
        presented
    }

    fn named_by(&self, value: &[u8]) -> Option<Named> {
        match &self.signing {
            Some(signing) => signing.read(&self.name, value),
            None => SessionId::from_canonical(value).map(Named::from),
        }
    }

    /// What stands before an id in the cookie's value.
    fn mac(&self, id: SessionId) -> Option<String> {
        let signing = self.signing.as_ref();
        signing.map_or(Some(String::new()), |it| it.mac(&self.name, id))
    }

    /// The line that gives the client this id; `time_to_live` is for a persistent cookie.
    pub(crate) fn set(&self, id: SessionId, time_to_live: Option<Duration>) -> Option<HeaderValue> {
        const MAX_AGE: &str = "; Max-Age=";
        let mut line = Vec::with_capacity(self.name.len() + self.attributes.len() + 64);
        line.extend_from_slice(self.name.as_bytes());
        line.push(b'=');
        line.extend_from_slice(self.mac(id)?.as_bytes());
        id.with_str(|id| line.extend_from_slice(id.as_bytes()));
        line.extend_from_slice(self.attributes.as_bytes());
        if let Some(left) = time_to_live {
            let seconds = left.min(LONGEST_MAX_AGE).as_nanos().div_ceil(1_000_000_000);
            line.extend_from_slice(MAX_AGE.as_bytes());
            line.extend_from_slice(seconds.to_string().as_bytes());
        }
        // `new` checked every part, so the line is always a valid header value.
        let mut value = HeaderValue::from_maybe_shared(bytes::Bytes::from(line)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// What a browser sends back.
    #[cfg(feature = "test-util")]
    pub(crate) fn sent_back(&self, id: SessionId) -> Option<HeaderValue> {
        let mut value =
            HeaderValue::from_str(&format!("{}={}{id}", self.name, self.mac(id)?)).ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    /// The line that clears the cookie. It repeats the cookie's name, path, domain and attributes, or a browser keeps
    /// the cookie (RFC 6265bis, section 5.7).
    pub(crate) fn cleared(&self) -> HeaderValue {
        self.cleared.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0b8f8b0e-6f5c-4d52-9d7a-2f5f3f0d9c11";

    fn headers(lines: &[&[u8]]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in lines {
            if let Ok(value) = HeaderValue::from_bytes(line) {
                headers.append(header::COOKIE, value);
            }
        }
        headers
    }

    fn attributes(name: &str) -> Attributes {
        Attributes {
            name: name.into(),
            path: "/".into(),
            domain: None,
            secure: false,
            http_only: false,
            same_site: SameSite::Strict,
            partitioned: false,
        }
    }

    fn read(lines: &[&[u8]]) -> Presented {
        let config = CookieConfig::new(&attributes("session_id"), None);
        config.map_or(Presented::Nothing, |it| it.read(&headers(lines)))
    }

    fn ids(lines: &[&[u8]]) -> Vec<String> {
        read(lines).ids().map(|id| id.to_string()).collect()
    }

    #[test]
    fn the_cookie_is_found_wherever_it_stands() {
        let pair = format!("session_id={ID}");
        for line in [
            pair.clone(),
            format!("a=b; {pair}; c=d"),
            format!("a=b;{pair}"),
            format!(" \t{pair} "),
            format!("a; =b; ; ;{pair};"),
        ] {
            assert_eq!(ids(&[line.as_bytes()]), [ID], "{line:?}");
        }
        assert_eq!(ids(&[b"a=b", pair.as_bytes()]), [ID]);
        assert_eq!(
            ids(&[
                "a=\u{fc}\n".as_bytes(),
                &[b"a=\xff; ", pair.as_bytes()].concat()
            ]),
            [ID]
        );
    }

    #[test]
    fn names_are_compared_byte_for_byte() {
        for name in [
            "Session_id",
            "session%5Fid",
            "session_id ",
            "\u{2000}session_id",
            "$session_id",
            "xsession_id",
            "session_id2",
            "",
        ] {
            let presented = read(&[format!("{name}={ID}").as_bytes()]);
            assert_eq!(presented, Presented::default(), "{name:?}");
        }
    }

    #[test]
    fn a_malformed_value_is_a_cookie_without_an_id() {
        for value in [
            "",
            "x",
            &ID.to_uppercase(),
            &format!("\"{ID}\""),
            &format!("{{{ID}}}"),
            &format!(" {ID}"),
        ] {
            let presented = read(&[format!("session_id={value}").as_bytes()]);
            assert_eq!(presented, Presented::Malformed, "{value:?}");
        }
    }

    #[test]
    fn each_id_counts_once_and_at_most_sixteen() {
        let many: Vec<String> = (0..20).map(|_| SessionId::random().to_string()).collect();
        let line = |ids: &[String]| -> String {
            ids.iter().map(|id| format!("session_id={id}; ")).collect()
        };
        for count in [1, 2, 15, 16, 17, 20] {
            let line = line(&many[..count]);
            assert_eq!(ids(&[line.as_bytes()]), many[..count.min(16)]);
            let presented = read(&[line.as_bytes()]);
            let too_many = matches!(presented, Presented::TooMany(_));
            assert_eq!(too_many, count > 16, "{count}");
        }
        let twice = [many[0].clone(), many[0].clone(), many[1].clone()];
        assert_eq!(ids(&[line(&twice).as_bytes()]), many[..2]);
        let malformed = format!("session_id=x; {}session_id=", line(&many[..1]));
        assert_eq!(ids(&[malformed.as_bytes()]), many[..1]);
    }

    #[test]
    fn a_cookie_is_cleared_with_the_attributes_it_was_set_with() -> Result<(), ConfigError> {
        let attributes = Attributes {
            path: "/app".into(),
            domain: Some("example.org".into()),
            secure: true,
            http_only: true,
            same_site: SameSite::None,
            partitioned: true,
            ..attributes("__Secure-id")
        };
        let config = CookieConfig::new(&attributes, None)?;
        let set = config.set(ID.parse().unwrap_or_else(|_| SessionId::random()), None);
        let attributes =
            "; HttpOnly; SameSite=None; Partitioned; Secure; Path=/app; Domain=example.org";
        let text = |value: &HeaderValue| value.to_str().unwrap_or_default().to_owned();
        assert_eq!(
            set.as_ref().map(text),
            Some(format!("__Secure-id={ID}{attributes}"))
        );
        assert_eq!(
            text(&config.cleared()),
            format!("__Secure-id={attributes}; Max-Age=0; Expires=Thu, 01 Jan 1970 00:00:00 GMT")
        );
        Ok(())
    }

    #[test]
    fn max_age_is_rounded_up_and_capped_at_400_days() -> Result<(), ConfigError> {
        let config = CookieConfig::new(&attributes("id"), None)?;
        let max_age = |left| {
            let line = config.set(SessionId::random(), Some(left));
            let line = line
                .as_ref()
                .and_then(|line| line.to_str().ok())
                .unwrap_or_default();
            line.rsplit("Max-Age=")
                .next()
                .unwrap_or_default()
                .to_owned()
        };
        assert_eq!(max_age(Duration::from_millis(899_001)), "900");
        assert_eq!(max_age(Duration::from_secs(900)), "900");
        assert_eq!(max_age(Duration::MAX), "34560000");
        Ok(())
    }
}
