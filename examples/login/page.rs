//! The page: three pieces of HTML and what is filled in.

use std::time::Duration;

use axum::{
    http::header::{
        CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderName, REFERRER_POLICY, X_CONTENT_TYPE_OPTIONS,
    },
    response::{Html, IntoResponse},
};
use uuid::Uuid;

const PAGE: &str = include_str!("page.html");
const LOGIN: &str = include_str!("page_login.html");
const PROFILE: &str = include_str!("page_profile.html");
const ERROR: &str = include_str!("page_error.html");

/// The form, with what was wrong with the last attempt and the name that was tried.
pub(crate) fn login(notice: Option<&str>, name: &str) -> impl IntoResponse + use<> {
    let notice = notice.map_or(String::new(), |notice| {
        format!(r#"<p class="notice" role="alert">{}</p>"#, escape(notice))
    });
    let values = [("notice", &*notice), ("name", &*escape(name))];
    page("Log in", LOGIN, &values)
}

/// Who is logged in, and how long the session has `left`.
pub(crate) fn profile(
    user: &str,
    status: &str,
    visits: i64,
    left: Duration,
) -> impl IntoResponse + use<> {
    let seconds = left.as_millis().div_ceil(1000);
    // By characters, so that no letter is cut in half.
    let initial: String = user.chars().take(1).flat_map(char::to_uppercase).collect();
    let values = [
        ("initial", &*escape(&initial)),
        ("user", &*escape(user)),
        ("status", &*escape(status)),
        ("visits", &*visits.to_string()),
        ("minutes", &*(seconds / 60).to_string()),
        ("seconds", &*seconds.to_string()),
    ];
    page("Your profile", PROFILE, &values)
}

/// That something went wrong.
pub(crate) fn error(detail: &str) -> impl IntoResponse + use<> {
    page("Not available", ERROR, &[("detail", &escape(detail))])
}

type Headers = [(HeaderName, String); 4];

fn page(title: &str, content: &str, values: &[(&str, &str)]) -> (Headers, Html<String>) {
    // Only the style and the script of this very answer run, whatever else might get into the page.
    let nonce = Uuid::new_v4().to_string();
    let policy = format!(
        "default-src 'none'; style-src 'nonce-{nonce}'; script-src 'nonce-{nonce}'; img-src data:; \
         form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
    );
    let headers = [
        (CONTENT_SECURITY_POLICY, policy),
        (X_CONTENT_TYPE_OPTIONS, "nosniff".to_owned()),
        // After a logout, the way back must not show the profile.
        (CACHE_CONTROL, "no-store".to_owned()),
        (REFERRER_POLICY, "same-origin".to_owned()),
    ];
    let nonce = ("nonce", &*nonce);
    let content = fill(content, &[values, &[nonce]].concat());
    let html = fill(PAGE, &[nonce, ("title", title), ("content", &content)]);
    (headers, Html(html))
}

/// Puts the values in place of `{{name}}`, in one pass: a value is not looked into.
fn fill(template: &str, values: &[(&str, &str)]) -> String {
    let mut filled = String::new();
    let mut rest = template;
    while let Some((before, after)) = rest.split_once("{{") {
        let (name, after) = after.split_once("}}").expect("a placeholder ends");
        let value = values.iter().find(|value| value.0 == name);
        let (_, value) = value.expect("every placeholder has a value");
        filled.push_str(before);
        filled.push_str(value);
        rest = after;
    }
    filled + rest
}

/// Makes a text safe inside an element and inside an attribute in double quotes.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in text.chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            _ => escaped.push(char),
        }
    }
    escaped
}
