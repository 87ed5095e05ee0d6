//! What is in a `Cookie` header besides our cookie, and what a logout answers.

use rivals::rival::COOKIE;

use crate::lab::{Lab, Seen, handed_out, read_with};

/// A cookie of another name with the id of another live session, as a sibling domain can plant it:
/// alone, before ours and after it.
pub async fn planted(lab: &Lab, name: &[u8]) -> String {
    let (ours, theirs) = (lab.sign_in("alice").await, lab.sign_in("mallory").await);
    let ours = format!("{COOKIE}={ours}").into_bytes();
    let theirs = [name, b"=", theirs.as_bytes()].concat();
    let (mut taken, mut hidden) = (Vec::new(), Vec::new());
    for (place, cookies) in [
        ("alone", theirs.clone()),
        ("before", [&theirs[..], &ours].join(&b"; "[..])),
        ("after", [&ours[..], &theirs].join(&b"; "[..])),
    ] {
        let answer = read_with(&lab.browser(0), &cookies).await;
        match (Seen::of(&answer).user(), place) {
            (Some("mallory"), _) => taken.push(place),
            (None, "before" | "after") => hidden.push(place),
            _ => {}
        }
    }
    match (taken.is_empty(), hidden.is_empty()) {
        (true, true) => "ignored".to_owned(),
        (false, _) => format!("taken for it ({})", taken.join(", ")),
        (true, false) => "hides the session".to_owned(),
    }
}

/// A byte that is not UTF-8 in another cookie.
pub async fn stray_byte(lab: &Lab) -> String {
    let ours = lab.sign_in("alice").await;
    let cookies = [b"theme=\xFF; ", format!("{COOKIE}={ours}").as_bytes()].concat();
    let answer = read_with(&lab.browser(0), &cookies).await;
    match Seen::of(&answer).user() {
        Some(_) => "ignored",
        None => "hides the session",
    }
    .to_owned()
}

/// Two cookies of our name, one of a session that has ended.
pub async fn stale_twin(lab: &Lab) -> String {
    let good = lab.sign_in("alice").await;
    let stale = lab.rival.forged_id();
    let mut outcomes = Vec::new();
    for (place, first, second) in [("first", &stale, &good), ("last", &good, &stale)] {
        let cookies = format!("{COOKIE}={first}; {COOKIE}={second}");
        let answer = read_with(&lab.browser(0), cookies.as_bytes()).await;
        let found = Seen::of(&answer).user().is_some();
        let touched = match handed_out(&answer) {
            Some(value) if value.is_empty() => " and cleared",
            Some(value) if value != good => " and overwritten",
            _ => "",
        };
        if !found || !touched.is_empty() {
            let found = if found { "found" } else { "not found" };
            outcomes.push(format!("{found}{touched} (stale one {place})"));
        }
    }
    if outcomes.is_empty() {
        return "found".to_owned();
    }
    outcomes.join(", ")
}

/// The line that clears the cookie at a logout. A browser keeps a `__Host-` cookie unless the line
/// meets the prefix's own conditions.
pub async fn clearing(lab: &Lab) -> String {
    let browser = lab.browser_with(0, &lab.sign_in("alice").await);
    let answer = browser.post("/logout", "").await;
    let lines = answer.set_cookies();
    let prefix = format!("{COOKIE}=");
    let Some(line) = lines.iter().find(|line| line.starts_with(&prefix)) else {
        return "not cleared".to_owned();
    };
    // The harness's jar goes by `Max-Age` and `Expires` alone.
    if browser.cookie(COOKIE).is_some() {
        return "not cleared".to_owned();
    }
    let attributes: Vec<_> = line.split(';').skip(1).map(str::trim).collect();
    let missing = |wanted: &&str| !attributes.iter().any(|a| a.eq_ignore_ascii_case(wanted));
    let missing: Vec<_> = ["Secure", "Path=/"].into_iter().filter(missing).collect();
    match missing.is_empty() {
        true => "cleared".to_owned(),
        false => format!("kept by browsers: no {}", missing.join(", no ")),
    }
}
