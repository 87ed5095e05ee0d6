//! The cookies of a test's browser.

use std::time::{SystemTime, UNIX_EPOCH};

/// A cookie as the server set it.
#[derive(Debug, Clone)]
pub struct Stored {
    /// Its name.
    pub name: String,
    /// Its value, any bytes.
    pub value: Vec<u8>,
    /// The attributes as they came, such as `HttpOnly; Path=/`; empty if the test set the cookie.
    pub attributes: String,
}

/// A cookie jar, written for the tests and for one site: it forgets a cookie on a `Max-Age` of 0 or
/// less or on an `Expires` in the past, and looks at no other attribute.
#[derive(Debug, Default)]
pub struct Jar {
    /// The cookies in the order they were first set.
    cookies: Vec<Stored>,
}

impl Jar {
    /// The cookie of that name.
    pub fn find(&self, name: &str) -> Option<&Stored> {
        self.cookies.iter().find(|stored| stored.name == name)
    }

    /// Puts a cookie into the jar, replacing one of that name.
    pub fn put(&mut self, name: &str, value: &[u8], attributes: &str) {
        let stored = Stored {
            name: name.to_owned(),
            value: value.to_owned(),
            attributes: attributes.to_owned(),
        };
        match self.cookies.iter_mut().find(|old| old.name == name) {
            Some(old) => *old = stored,
            None => self.cookies.push(stored),
        }
    }

    /// Does what a `Set-Cookie` line says.
    pub fn set_cookie(&mut self, line: &[u8]) {
        let semicolon = line.iter().position(|byte| *byte == b';');
        let (pair, rest) = line.split_at(semicolon.unwrap_or(line.len()));
        let attributes = String::from_utf8_lossy(rest.get(1..).unwrap_or_default());
        let Some(equals) = pair.iter().position(|byte| *byte == b'=') else {
            return;
        };
        let name = String::from_utf8_lossy(pair[..equals].trim_ascii());
        if ends_at_once(&attributes) {
            self.cookies.retain(|stored| stored.name != name);
        } else {
            self.put(&name, pair[equals + 1..].trim_ascii(), attributes.trim());
        }
    }

    /// The `Cookie` header, if there is a cookie.
    pub fn header(&self) -> Option<Vec<u8>> {
        let pair = |stored: &Stored| [stored.name.as_bytes(), &stored.value].join(&b'=');
        let pairs: Vec<_> = self.cookies.iter().map(pair).collect();
        (!pairs.is_empty()).then(|| pairs.join(&b"; "[..]))
    }

    /// Forgets every cookie.
    pub fn clear(&mut self) {
        self.cookies.clear();
    }
}

/// Whether a cookie with these attributes is to be forgotten. `Max-Age` goes before `Expires`, as
/// in RFC 6265, and what cannot be read counts for nothing.
fn ends_at_once(attributes: &str) -> bool {
    let (mut max_age, mut expires) = (None, None);
    for attribute in attributes.split(';') {
        let (name, value) = attribute.split_once('=').unwrap_or((attribute, ""));
        match name.trim().to_ascii_lowercase().as_str() {
            "max-age" => max_age = value.trim().parse::<i64>().ok().or(max_age),
            "expires" => expires = unix_time(value.trim()).or(expires),
            _ => {}
        }
    }
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = since_epoch.map_or(0, |since| since.as_secs() as i64);
    match (max_age, expires) {
        (Some(seconds), _) => seconds <= 0,
        (None, Some(at)) => at <= now,
        (None, None) => false,
    }
}

/// Reads `Wed, 21 Oct 2015 07:28:00 GMT` into seconds since 1970.
pub fn unix_time(date: &str) -> Option<i64> {
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let (_weekday, rest) = date.split_once(", ")?;
    let [day, month, year, time, "GMT"] = rest.split(' ').collect::<Vec<_>>()[..] else {
        return None;
    };
    let clock: Vec<i64> = time.split(':').map_while(|n| n.parse().ok()).collect();
    let [hours, minutes, seconds] = clock[..] else {
        return None;
    };
    let (day, year): (i64, i64) = (day.parse().ok()?, year.parse().ok()?);
    let month = MONTHS.iter().position(|name| *name == month)? as i64 + 1;
    // Days in the Gregorian calendar, the year counted from March so that a leap day comes last.
    let (y, m) = if month > 2 {
        (year, month - 3)
    } else {
        (year - 1, month + 9)
    };
    let days = 365 * y + y / 4 - y / 100 + y / 400 + (153 * m + 2) / 5 + day - 1 - 719_468;
    Some(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
}
