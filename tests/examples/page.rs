//! The page of the `login` example, as a browser uses it.

use harness::program::Program;
use harness::{Answer, Client, RedisServer};
use http::Request;

use super::CLEARED;
use crate::build::program;

/// Sends a form as a browser does.
async fn submit(client: &Client, path: &str, form: &'static str) -> Answer {
    let request = Request::post(path)
        .header("accept", "text/html,application/xhtml+xml,*/*;q=0.8")
        .header("content-type", "application/x-www-form-urlencoded");
    client.request(request.body(form).unwrap()).await
}

fn assert_redirects_home(answer: &Answer) {
    let status = answer.status.as_u16();
    assert_eq!((status, &*answer.header("location")), (303, "/"));
}

#[tokio::test]
async fn by_form_one_logs_in_sees_the_profile_and_logs_out() {
    let example = Program::start(program("login"), &[]);
    let client = Client::to(example.addr);
    assert!(
        client
            .get("/")
            .await
            .text()
            .contains("<label for=\"username\">")
    );

    assert_redirects_home(&submit(&client, "/login/", "username=abdullah").await);
    for visits in ["1", "2"] {
        let page = client.get("/").await.text();
        for shown in ["abdullah", "active", visits] {
            assert!(page.contains(&format!(">{shown}</dd>")), "{shown}: {page}");
        }
        assert!(page.contains("data-seconds=\"900\""), "{page}");
    }
    let id = client.cookie("session_id");
    // Who ticks the box is remembered, and who logs in after that without it is not.
    let remembered = submit(&client, "/login/", "username=ann&remember=on").await;
    assert_redirects_home(&remembered);
    assert!(remembered.set_cookies()[0].contains("; Max-Age=2592000"));
    let page = client.get("/").await.text();
    assert!(page.contains("data-seconds=\"2592000\""), "{page}");
    let login = submit(&client, "/login/", "username=zoe").await;
    assert_redirects_home(&login);
    assert!(!login.set_cookies()[0].contains("Max-Age"));
    assert_ne!(client.cookie("session_id"), id);
    let page = client.get("/").await;
    assert_eq!(
        page.header("cache-control"),
        "no-store",
        "not shown again after a logout"
    );
    let page = page.text();
    assert!(page.contains("zoe") && page.contains(">1</dd>"), "{page}");

    // Where a refused form leaves the browser, which then reloads.
    let reload = Request::get("/login/").header("accept", "text/html");
    assert_redirects_home(&client.request(reload.body("").unwrap()).await);
    assert_eq!(client.get("/login/").await.status, 405, "for a program");

    let answer = submit(&client, "/logout/", "").await;
    assert_redirects_home(&answer);
    assert_eq!(answer.set_cookies(), [CLEARED]);
    assert!(client.get("/").await.text().contains("<label"));
    assert!(example.terminate().success());
}

#[tokio::test]
async fn a_form_without_a_name_comes_back_with_a_message() {
    let example = Program::start(program("login"), &[]);
    let client = Client::to(example.addr);
    for form in ["", "username=", "username=%20%09", "other=1"] {
        let answer = submit(&client, "/login", form).await;
        assert_eq!(answer.status, 422, "{form}");
        assert!(
            answer
                .text()
                .contains("role=\"alert\">Please enter a name.</p>")
        );
        assert!(answer.set_cookies().is_empty());
    }
}

#[tokio::test]
async fn what_a_user_typed_is_text_and_only_the_page_s_own_script_may_run() {
    let example = Program::start(program("login"), &[]);
    let client = Client::to(example.addr);
    let form = "username=%3Cscript%3Ealert(1)%3C/script%3E%22%26{{nonce}}";
    assert_redirects_home(&submit(&client, "/login/", form).await);
    let answer = client.get("/").await;
    let page = answer.text();
    let escaped = ">&lt;script&gt;alert(1)&lt;/script&gt;&quot;&amp;{{nonce}}</dd>";
    assert!(page.contains(escaped), "{page}");

    let policy = answer.header("content-security-policy");
    assert!(policy.starts_with("default-src 'none'; "), "{policy}");
    for rest in [
        "form-action 'self'",
        "base-uri 'none'",
        "frame-ancestors 'none'",
    ] {
        assert!(policy.contains(rest), "{policy}");
    }
    let (_, rest) = policy.split_once("script-src 'nonce-").unwrap();
    let (nonce, _) = rest.split_once('\'').unwrap();
    assert_eq!(page.matches("<script").count(), 1);
    assert!(page.contains(&format!("<script nonce=\"{nonce}\">")));
    assert!(page.contains(&format!("<style nonce=\"{nonce}\">")));
    let next = client.get("/").await.header("content-security-policy");
    assert!(!next.contains(nonce), "a nonce is used once");
}

#[tokio::test]
async fn an_ended_session_and_a_dead_store_are_explained() {
    let mut redis = RedisServer::start();
    let example = Program::start(program("login"), &[("REDIS_URL", &redis.url())]);
    let client = Client::to(example.addr);
    client.set_cookie("session_id", super::UNKNOWN);
    let answer = client.get("/").await;
    assert!(answer.text().contains("Your session has ended."));
    assert_eq!(answer.set_cookies(), [CLEARED]);

    submit(&client, "/login/", "username=abdullah").await;
    redis.kill();
    for (accept, content_type) in [
        ("text/html", "text/html; charset=utf-8"),
        ("*/*", "application/json"),
    ] {
        let request = Request::get("/").header("accept", accept);
        let answer = client.request(request.body("").unwrap()).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.header("retry-after")),
            (503, "1")
        );
        assert_eq!(answer.header("content-type"), content_type);
        assert!(
            answer
                .text()
                .contains("Sessions are unavailable at the moment.")
        );
        assert!(answer.set_cookies().is_empty());
    }
}
