//! The example's provider: what it checks.

use harness::Answer;
use http::Request;
use serde_json::json;

use super::world::{Login, World, parameter};

#[tokio::test]
async fn the_provider_checks_what_it_must() {
    let world = World::in_memory().await;
    let browser = world.browser();
    let login = world.begin(&browser, "/").await;
    // To whom it does not know, it sends nobody.
    for (from, to) in [
        ("client_id=example", "client_id=other"),
        ("%2Fcallback", "%2Felsewhere"),
    ] {
        let answer = browser.get(&login.url.replace(from, to)).await;
        assert_eq!(
            (answer.status.as_u16(), &*answer.header("location")),
            (400, "")
        );
    }
    for (from, to) in [
        ("code_challenge=", "x="),
        ("S256", "plain"),
        ("type=code", "type=token"),
    ] {
        let answer = browser.get(&login.url.replace(from, to)).await;
        let url = answer.header("location");
        assert_eq!(
            (answer.status.as_u16(), parameter(&url, "error")),
            (303, "invalid_request".into())
        );
    }
    let (challenge, verifier) = oauth2::PkceCodeChallenge::new_random_sha256();
    let login = world.begin(&browser, "/").await;
    let asked = parameter(&login.url, "code_challenge");
    let url = login.url.replace(&asked, challenge.as_str());
    let login = Login { url, ..login };
    let code = async || parameter(&world.allow(&login, "ada").await, "code");
    let ask = async |code: &str, verifier: &str| {
        let callback = parameter(&login.url, "redirect_uri");
        let form = format!(
            "grant_type=authorization_code&client_id=example&redirect_uri={callback}&code={code}&code_verifier={verifier}"
        );
        let request = Request::post("/provider/token")
            .header("content-type", "application/x-www-form-urlencoded");
        browser.request(request.body(form).unwrap()).await
    };
    let assert_refused = |answer: Answer| {
        assert_eq!(answer.status, 400);
        assert_eq!(answer.json(), json!({"error": "invalid_grant"}));
    };
    for wrong in ["", "x", &"x".repeat(43), &"x".repeat(129)] {
        assert_refused(ask(&code().await, wrong).await);
    }
    assert_refused(ask("x", verifier.secret()).await);
    // A code is good for one token, and a token for one question.
    let code = code().await;
    let answer = ask(&code, verifier.secret()).await;
    assert_eq!(answer.status, 200);
    assert_refused(ask(&code, verifier.secret()).await);
    let token = answer.json()["access_token"].as_str().map(str::to_owned);
    let bearer = format!("Bearer {}", token.expect("a token"));
    for status in [200, 401] {
        let request = Request::get("/provider/user").header("authorization", &bearer);
        let answer = browser.request(request.body("").unwrap()).await;
        assert_eq!(answer.status, status);
    }
    let answer = browser.get("/provider/user").await;
    assert_eq!(answer.status, 401);
}
