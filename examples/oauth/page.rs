//! The pages.

use axum::{
    http::{
        StatusCode,
        header::{CACHE_CONTROL, CONTENT_SECURITY_POLICY, HeaderValue, REFERRER_POLICY},
    },
    response::{Html, IntoResponse, Response},
};

use crate::login;

/// For who is not logged in.
pub(crate) fn visitor() -> Response {
    let body = r#"<p>You are not logged in.</p><p><a href="/login">Log in</a></p>"#;
    page("Welcome", body)
}

/// For a user.
pub(crate) fn user(title: &str, user: &str) -> Response {
    let body = format!(
        r#"<p>You are {}.</p><p><a href="/account">Your account</a></p>
<form method="post" action="/logout"><button>Log out</button></form>"#,
        escape(user)
    );
    page(title, &body)
}

/// Where the user says who they are, at the provider. The form goes to the URL of this very page.
pub(crate) fn consent() -> Response {
    let body = r#"<p>The app <em>example</em> wants to know who you are.</p><form method="post">
<label>Name <input name="user" maxlength="100" autofocus></label>
<button name="decision" value="allow">Allow</button> <button name="decision" value="deny">Deny</button></form>"#;
    page("The provider", body)
}

/// That a login has failed, and a link to try it again. It then leads to `next`.
pub(crate) fn failed(status: StatusCode, why: &str, next: &str) -> Response {
    let (why, link) = (escape(why), escape(&login::link(next)));
    let body = format!(
        r#"<p role="alert">{why}</p><p><a href="{link}">Log in again</a> or go to <a href="/">the first page</a>.</p>"#
    );
    (status, page("This login has failed", &body)).into_response()
}

fn page(title: &str, body: &str) -> Response {
    let page = format!(
        r#"<!DOCTYPE html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<h1>{title}</h1>
{body}
</html>
"#
    );
    Html(page).into_response()
}

/// Headers of every answer.
pub(crate) async fn secure(mut response: Response) -> Response {
    let headers = response.headers_mut();
    // No scripts, and nobody shows these pages in a frame, to make users click what they do not see.
    let policy = "default-src 'none'; base-uri 'none'; frame-ancestors 'none'";
    headers.insert(CONTENT_SECURITY_POLICY, HeaderValue::from_static(policy));
    // The URL of the callback holds the code.
    headers.insert(REFERRER_POLICY, HeaderValue::from_static("same-origin"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
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
