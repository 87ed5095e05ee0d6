//! The headers that keep caches from handing one user's response to another (RFC 9111).

use http::{
    HeaderMap, HeaderValue,
    header::{self, Entry},
};

const COOKIE: HeaderValue = HeaderValue::from_static("Cookie");
const NO_STORE: HeaderValue = HeaderValue::from_static("no-store");

/// For a response with a cookie of ours: no cache may keep it, unless the handler already said that no shared one may.
pub(crate) fn forbid_storing(headers: &mut HeaderMap) {
    // `private="…"` is about the named headers only (RFC 9111, section 5.2.2.7), and so does not count.
    let is_enough = |item: &[u8]| {
        item.eq_ignore_ascii_case(b"no-store") || item.eq_ignore_ascii_case(b"private")
    };
    let lines = headers.get_all(header::CACHE_CONTROL).into_iter();
    if !lines.flat_map(items).any(is_enough) {
        headers.insert(header::CACHE_CONTROL, NO_STORE);
    }
}

/// For a response that depends on the session: it is only for requests with the same `Cookie`.
pub(crate) fn vary_by_cookie(headers: &mut HeaderMap) {
    let mut lines = match headers.entry(header::VARY) {
        Entry::Vacant(none) => {
            none.insert(COOKIE);
            return;
        }
        Entry::Occupied(lines) => lines,
    };
    let is_enough = |item: &[u8]| item == b"*" || item.eq_ignore_ascii_case(b"cookie");
    if lines.iter().flat_map(items).any(is_enough) {
        return;
    }
    let merged = [lines.get().as_bytes(), b", Cookie"].concat();
    match HeaderValue::from_bytes(&merged) {
        Ok(merged) => *lines.get_mut() = merged,
        Err(_) => lines.append(COOKIE),
    }
}

/// The items of a line of a list. A comma in quotes is part of its item.
fn items(line: &HeaderValue) -> impl Iterator<Item = &[u8]> {
    let mut quoted = false;
    let items = line.as_bytes().split(move |byte| {
        quoted ^= *byte == b'"';
        *byte == b',' && !quoted
    });
    items.map(<[u8]>::trim_ascii)
}

#[cfg(test)]
mod tests {
    use http::HeaderName;

    use super::*;

    fn after(name: HeaderName, lines: &[&'static str], change: fn(&mut HeaderMap)) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append(&name, HeaderValue::from_static(line));
        }
        change(&mut headers);
        let lines = headers.get_all(&name).into_iter();
        lines
            .map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned())
            .collect()
    }

    #[test]
    fn vary_is_merged_into_what_is_there() {
        let vary = |lines: &[&'static str]| after(header::VARY, lines, vary_by_cookie);
        assert_eq!(vary(&[]), ["Cookie"]);
        assert_eq!(vary(&["Accept-Encoding"]), ["Accept-Encoding, Cookie"]);
        assert_eq!(vary(&["Accept", "Origin"]), ["Accept, Cookie", "Origin"]);
        assert_eq!(vary(&["Accept , cOOkie"]), ["Accept , cOOkie"]);
        assert_eq!(vary(&["Accept", "*"]), ["Accept", "*"]);
    }

    #[test]
    fn a_response_with_a_cookie_is_not_stored_by_shared_caches() {
        let control = |lines: &[&'static str]| after(header::CACHE_CONTROL, lines, forbid_storing);
        assert_eq!(control(&[]), ["no-store"]);
        assert_eq!(control(&["public, max-age=60"]), ["no-store"]);
        assert_eq!(control(&["max-age=60", "public"]), ["no-store"]);
        assert_eq!(control(&["max-age=60, Private"]), ["max-age=60, Private"]);
        assert_eq!(control(&["NO-STORE"]), ["NO-STORE"]);
        assert_eq!(
            control(&["private=\"set-cookie\", max-age=60"]),
            ["no-store"]
        );
        assert_eq!(
            control(&["public, no-cache=\"x-a, private, x-b\""]),
            ["no-store"]
        );
    }
}
