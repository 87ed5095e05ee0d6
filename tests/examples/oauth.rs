//! The `oauth` example: each way in which a login by OAuth can end.

mod provider;
mod time;
mod world;

use harness::{Gate, bounded, no_key_without_ttl};
use http::Request;
use tokio::task::JoinSet;

use world::{Rule, World, assert_failed, assert_leads_to, encoded, parameter, stored, user};

use crate::sessions;

/// Makes two tests of each: with the sessions in memory, and in Redis.
macro_rules! over_both {
    ($($test:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $test() { super::$test(super::World::in_memory().await).await; })+
        }
        mod redis {
            $(#[tokio::test] async fn $test() { super::$test(super::World::in_redis().await).await; })+
        }
    };
}

over_both!(
    a_login_leads_back_to_the_page_with_a_new_id,
    nothing_of_an_earlier_user_stays,
    a_state_is_good_for_one_login,
    of_two_callbacks_one_logs_in_while_the_other_is_held,
    of_many_callbacks_at_once_one_logs_in,
    a_state_of_another_browser_is_refused,
    a_code_of_another_login_is_refused,
    a_user_who_begins_in_two_tabs_may_end_in_either,
    after_a_provider_that_failed_one_begins_anew,
    who_denies_is_not_logged_in,
    a_session_that_was_logged_out_on_the_way_logs_nobody_in,
    nobody_is_sent_to_another_site,
    a_callback_by_post_is_explained_and_harms_nothing,
    who_begins_often_fills_no_session,
    a_callback_that_nobody_sends_is_refused,
);

const USED: &str = "This login has been used already, or its session has ended.";
const NO_COOKIE: &str = "Your browser has sent no cookie.";

async fn a_login_leads_back_to_the_page_with_a_new_id(world: World) {
    let browser = world.browser();
    let page = "/account?tab=2&q=%C3%A9";
    let answer = browser.get(page).await;
    for answer in [&answer, &browser.http2().get(page).await] {
        assert_leads_to(
            answer,
            &format!("/login?next={}", "%2Faccount%3Ftab%3D2%26q%3D%25C3%25A9"),
        );
    }
    let login = world.begin_at(&browser, &answer.header("location")).await;
    let before = browser.cookie("session_id").expect("a session");
    let at_provider = world.browser().get(&login.url).await;
    assert!(at_provider.text().contains("name=\"decision\""));
    assert!(at_provider.set_cookies().is_empty());

    let answer = browser.get(&world.allow(&login, "ada").await).await;
    assert_leads_to(&answer, page);
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("referrer-policy"), "same-origin");
    let after = browser.cookie("session_id").expect("a session");
    assert_ne!(after, before);
    let cookie = format!("session_id={after}; HttpOnly; SameSite=Lax; Path=/");
    assert_eq!(answer.set_cookies(), [cookie]);
    let page = browser.get(page).await;
    assert!(page.text().contains("You are ada."), "{}", page.text());
    if world.redis.is_some() {
        let mut redis = world.resp();
        let stored = redis.cmd(&["HGETALL", &format!("session:{after}")]);
        assert_eq!(
            stored.list().iter().map(|it| it.text()).collect::<Vec<_>>(),
            ["user", "ada"]
        );
        assert_eq!(sessions(&mut redis), 1, "that of the way there has gone");
        no_key_without_ttl(&mut redis, "*");
    }
    assert_leads_to(&browser.post("/logout", "").await, "/");
    assert_eq!(user(&browser).await, None);
}

async fn nothing_of_an_earlier_user_stays(world: World) {
    let browser = world.browser();
    world.log_in(&browser, "ada", "/").await;
    let ada = browser.cookie("session_id").expect("a session");
    // A login of Ada's that is under way, in another tab.
    let other_tab = world.begin(&browser, "/").await;
    let other_tab = world.allow(&other_tab, "ada").await;
    if world.redis.is_some() {
        let key = format!("session:{ada}");
        world.resp().cmd(&["HSET", &key, "cart", "3"]);
    }
    assert_leads_to(&world.log_in(&browser, "bob", "/").await, "/");
    assert_eq!(user(&browser).await.as_deref(), Some("bob"));
    let bob = browser.cookie("session_id").expect("a session");
    assert_ne!(ada, bob);
    if world.redis.is_some() {
        let stored = world.resp().cmd(&["HKEYS", &format!("session:{bob}")]);
        assert_eq!(
            stored.list().iter().map(|it| it.text()).collect::<Vec<_>>(),
            ["user"]
        );
    }
    assert_failed(&browser.get(&other_tab).await, 400, USED);
    assert_eq!(user(&browser).await.as_deref(), Some("bob"));
    // Who has planted the old id, or found it, is nobody.
    let thief = world.browser();
    thief.set_cookie("session_id", &ada);
    assert_eq!(user(&thief).await, None);
}

async fn a_state_is_good_for_one_login(world: World) {
    let browser = world.browser();
    let login = world.begin(&browser, "/account").await;
    // Two codes, so that it is not the provider who refuses the second.
    let first = world.allow(&login, "ada").await;
    let second = world.allow(&login, "eve").await;
    assert_leads_to(&browser.get(&first).await, "/account");
    for again in [&first, &second] {
        let answer = browser.get(again).await;
        assert_failed(&answer, 400, USED);
        assert!(answer.set_cookies().is_empty());
    }
    assert_eq!(world.token_requests(), 1);
    assert_eq!(user(&browser).await.as_deref(), Some("ada"));
}

async fn of_two_callbacks_one_logs_in_while_the_other_is_held(world: World) {
    let browser = world.browser();
    let login = world.begin(&browser, "/account").await;
    let first = world.allow(&login, "ada").await;
    let second = world.allow(&login, "eve").await;
    let token = Gate::new();
    world.on_the_wire(Rule::Hold("/provider/token", token.clone()));
    let tab = browser.clone();
    let held = tokio::spawn(async move { tab.get(&first).await });
    token.arrived().await;
    let answer = browser.get(&second).await;
    assert_failed(&answer, 400, USED);
    assert_eq!(token.arrivals(), 1, "the second does not get so far");
    token.open();
    let answer = bounded("the first callback", held).await.unwrap();
    assert_leads_to(&answer, "/account");
    assert_eq!(user(&browser).await.as_deref(), Some("ada"));
}

async fn of_many_callbacks_at_once_one_logs_in(world: World) {
    let browser = world.browser();
    let login = world.begin(&browser, "/").await;
    let (mut callbacks, mut ready) = (JoinSet::new(), Vec::new());
    for _ in 0..8 {
        let callback = world.allow(&login, "ada").await;
        ready.push((browser.clone(), callback));
    }
    // None answers before all have been sent: the one that gets through is held at the provider.
    let token = Gate::new();
    world.on_the_wire(Rule::Hold("/provider/token", token.clone()));
    for (browser, callback) in ready {
        callbacks.spawn(async move { browser.get(&callback).await });
    }
    let mut statuses = Vec::new();
    while statuses.len() < 7 {
        let answer = bounded("seven refusals", callbacks.join_next()).await;
        statuses.push(answer.unwrap().unwrap().status.as_u16());
    }
    assert_eq!(statuses, [400; 7]);
    token.open();
    let last = bounded("the login", callbacks.join_next()).await;
    assert_leads_to(&last.unwrap().unwrap(), "/");
    assert_eq!(world.token_requests(), 1);
}

async fn a_state_of_another_browser_is_refused(world: World) {
    let eve = world.browser();
    let login = world.begin(&eve, "/").await;
    // Eve has somebody open this link, to have them work in her account.
    let callback = world.allow(&login, "eve").await;
    let victim = world.browser();
    let answer = victim.get(&callback).await;
    assert_failed(&answer, 400, NO_COOKIE);
    assert!(answer.set_cookies().is_empty());
    let own = world.begin(&victim, "/account").await;
    let answer = victim.get(&callback).await;
    assert_failed(&answer, 400, USED);
    assert!(answer.set_cookies().is_empty());
    assert_eq!(world.token_requests(), 0);
    assert_eq!(user(&victim).await, None);
    // It has disturbed neither login.
    let own = world.allow(&own, "ada").await;
    assert_leads_to(&victim.get(&own).await, "/account");
    assert_leads_to(&eve.get(&callback).await, "/");
}

async fn a_code_of_another_login_is_refused(world: World) {
    let (ada, eve) = (world.browser(), world.browser());
    let of_ada = world.begin(&ada, "/").await;
    let stolen = parameter(&world.allow(&of_ada, "ada").await, "code");
    let of_eve = world.begin(&eve, "/account").await;
    // The state is Eve's own. That the code is not, PKCE shows.
    let callback = format!("/callback?code={stolen}&state={}", of_eve.state);
    let answer = eve.get(&callback).await;
    assert_failed(&answer, 400, "The provider does not accept the code.");
    assert!(answer.text().contains("/login?next=%2Faccount"));
    assert_eq!(world.token_requests(), 1);
    assert_eq!(user(&eve).await, None);
}

async fn a_user_who_begins_in_two_tabs_may_end_in_either(world: World) {
    for ends in [0, 1] {
        let browser = world.browser();
        let pages = ["/account?tab=1", "/account?tab=2"];
        let mut callbacks = Vec::new();
        for page in pages {
            let login = world.begin(&browser, page).await;
            callbacks.push(world.allow(&login, "ada").await);
        }
        assert_leads_to(&browser.get(&callbacks[ends]).await, pages[ends]);
        // The other tab is told, and is logged in all the same.
        assert_failed(&browser.get(&callbacks[1 - ends]).await, 400, USED);
        assert_eq!(user(&browser).await.as_deref(), Some("ada"));
    }
}

async fn after_a_provider_that_failed_one_begins_anew(world: World) {
    let (token, user_info) = ("/provider/token", "/provider/user");
    let json = "application/json";
    for (path, status, content_type, body) in [
        (token, 500, "text/html", "<h1>Oops</h1>"),
        (token, 503, "text/plain", ""),
        (token, 503, json, r#"{"error":"temporarily_unavailable"}"#),
        (token, 429, json, "{}"),
        (token, 200, "text/html", "<h1>Welcome</h1>"),
        (token, 200, json, "{}"),
        (
            token,
            200,
            json,
            r#"{"access_token":"x\n","token_type":"Bearer"}"#,
        ),
        // Not followed with the code.
        (token, 307, "text/plain", ""),
        (token, 400, json, r#"{"error":"invalid_client"}"#),
        (user_info, 500, json, r#"{"sub":"ada"}"#),
        (user_info, 200, json, "{}"),
        (user_info, 200, json, r#"{"sub":3}"#),
        (user_info, 200, "text/html", "<h1>"),
        (user_info, 302, "text/plain", ""),
    ] {
        let browser = world.browser();
        let login = world.begin(&browser, "/account?tab=2").await;
        let callback = world.allow(&login, "ada").await;
        let before = world.token_requests();
        world.on_the_wire(Rule::Answer(path, status, content_type, body));
        let answer = browser.get(&callback).await;
        let why = "The provider does not answer as it should.";
        assert_failed(&answer, 502, why);
        assert!(answer.text().contains("/login?next=%2Faccount%3Ftab%3D2"));
        assert_eq!(world.token_requests(), before + 1, "{path} {status}");

        // It works again. The old state does not: nobody knows what has become of its code.
        world.on_the_wire(Rule::Through);
        assert_eq!(browser.get(&callback).await.status, 400);
        assert_eq!(user(&browser).await, None);
        let answer = world.log_in(&browser, "ada", "/account?tab=2").await;
        assert_leads_to(&answer, "/account?tab=2");
        assert_eq!(user(&browser).await.as_deref(), Some("ada"));
    }
}

#[tokio::test]
async fn a_provider_that_is_silent_is_not_waited_for_long() {
    let world = World::in_memory().await;
    let browser = world.browser();
    let login = world.begin(&browser, "/").await;
    let callback = world.allow(&login, "ada").await;
    // Never opened. The harness's browser waits longer than the app.
    let gate = Gate::new();
    world.on_the_wire(Rule::Hold("/provider/token", gate.clone()));
    let answer = browser.get(&callback).await;
    assert_failed(&answer, 502, "The provider does not answer as it should.");
    gate.abandoned().await;
}

async fn who_denies_is_not_logged_in(world: World) {
    let browser = world.browser();
    let login = world.begin(&browser, "/account").await;
    let callback = world.decide(&login, "user=ada&decision=deny").await;
    assert_eq!(parameter(&callback, "error"), "access_denied");
    let answer = browser.get(&callback).await;
    assert_failed(&answer, 403, "You have not allowed");
    assert!(answer.text().contains("/login?next=%2Faccount"));
    // The state is used up.
    let late = world.allow(&login, "ada").await;
    assert_eq!(browser.get(&late).await.status, 400);
    assert_eq!(user(&browser).await, None);

    // Other errors of RFC 6749, and what is none.
    for error in ["server_error", "<b>", "access_denied "] {
        let login = world.begin(&browser, "/").await;
        let query = format!("error={}&state={}", encoded(error), login.state);
        let answer = browser.get(&format!("/callback?{query}")).await;
        let shown = error.replace('<', "&lt;").replace('>', "&gt;");
        assert_failed(&answer, 502, &format!("could not log you in: {shown}"));
    }
    // Whoever denies has sent no code.
    let login = world.begin(&browser, "/").await;
    let callback = world.allow(&login, "ada").await + "&error=access_denied";
    assert_failed(&browser.get(&callback).await, 403, "You have not allowed");

    // A user who is logged in, and denies to be another, stays so.
    world.log_in(&browser, "ada", "/").await;
    let login = world.begin(&browser, "/").await;
    let callback = world.decide(&login, "user=bob&decision=deny").await;
    assert_eq!(browser.get(&callback).await.status, 403);
    assert_eq!(user(&browser).await.as_deref(), Some("ada"));
    assert_eq!(world.token_requests(), 1);
}

async fn a_session_that_was_logged_out_on_the_way_logs_nobody_in(world: World) {
    let browser = world.browser();
    let login = world.begin(&browser, "/").await;
    let callback = world.allow(&login, "ada").await;
    let cookie = browser.cookie("session_id").expect("a session");
    browser.post("/logout", "").await;
    assert_failed(&browser.get(&callback).await, 400, NO_COOKIE);
    browser.set_cookie("session_id", cookie);
    assert_failed(&browser.get(&callback).await, 400, USED);
    assert_eq!(world.token_requests(), 0);
    let answer = world.log_in(&browser, "ada", "/account").await;
    assert_leads_to(&answer, "/account");
}

/// What a browser does with a `Location`, by the URL standard, from a page of the app.
fn stays_here(location: &str) -> bool {
    let here = oauth2::url::Url::parse("http://127.0.0.1:8000/callback").unwrap();
    let there = here.join(location);
    there.is_ok_and(|there| there.origin() == here.origin())
}

async fn nobody_is_sent_to_another_site(world: World) {
    let long = format!("/{}", "x".repeat(2000));
    for (next, leads_to) in [
        ("/account", "/account"),
        (
            "/account?a=1&b=%2F%2Fevil.example#there",
            "/account?a=1&b=%2F%2Fevil.example#there",
        ),
        ("/go?to=http://evil.example/", "/go?to=http://evil.example/"),
        ("/", "/"),
        ("", "/"),
        ("account", "/"),
        ("?tab=2", "/"),
        ("http://evil.example/", "/"),
        ("HTTPS://evil.example/", "/"),
        ("http:evil.example", "/"),
        ("javascript:alert(1)", "/"),
        ("data:text/html,x", "/"),
        ("//evil.example/", "/"),
        ("///evil.example/", "/"),
        ("/\\evil.example/", "/"),
        ("\\\\evil.example/", "/"),
        ("\\/evil.example/", "/"),
        ("/\t/evil.example/", "/"),
        ("/\n/evil.example/", "/"),
        ("/\r/evil.example/", "/"),
        ("\t//evil.example/", "/"),
        (" //evil.example/", "/"),
        ("/a\r\nset-cookie: session_id=planted", "/"),
        ("/a\\b", "/"),
        ("/a b", "/"),
        ("/\0", "/"),
        ("/\u{7f}", "/"),
        ("/\u{e9}", "/"),
        ("/\u{2028}", "/"),
        ("/\u{ff0f}evil.example", "/"),
        (&*long, "/"),
    ] {
        let browser = world.browser();
        let answer = world.log_in(&browser, "ada", next).await;
        assert_leads_to(&answer, leads_to);
        assert!(stays_here(&answer.header("location")), "{next:?}");
        assert_eq!(answer.set_cookies().len(), 1, "{next:?}");
    }
    for query in [
        "",
        "?",
        "?next",
        "?next=/a&next=//evil.example",
        "?next=%FF",
        "?next=/%FF",
        "?Next=/a",
    ] {
        let browser = world.browser();
        let login = world.begin_at(&browser, &format!("/login{query}")).await;
        let callback = world.allow(&login, "ada").await;
        assert_leads_to(&browser.get(&callback).await, "/");
    }
    // The table's own measure: a browser would go there.
    for elsewhere in [
        "//evil.example",
        "/\\evil.example",
        "/\t/evil.example",
        "\\\\evil.example",
    ] {
        assert!(!stays_here(elsewhere), "{elsewhere:?}");
    }
}

async fn a_callback_by_post_is_explained_and_harms_nothing(world: World) {
    let browser = world.browser();
    let login = world.begin(&browser, "/account").await;
    let callback = world.allow(&login, "ada").await;
    let (_, form) = callback.split_once('?').unwrap();
    for cookie in [None, browser.cookie("session_id")] {
        // A browser sends `SameSite=Lax` cookies with no form of another site.
        let sender = world.browser();
        if let Some(cookie) = cookie {
            sender.set_cookie("session_id", cookie);
        }
        let request = Request::post("/callback")
            .header("content-type", "application/x-www-form-urlencoded")
            .header("origin", "https://provider.example")
            .body(form.to_owned());
        let answer = sender.request(request.unwrap()).await;
        assert_failed(&answer, 405, "response_mode=query");
        assert_eq!(answer.header("allow"), "GET, HEAD");
        assert!(answer.set_cookies().is_empty());
    }
    assert_eq!(world.token_requests(), 0);
    // The user's session is as it was.
    assert_leads_to(&browser.get(&callback).await, "/account");
}

async fn who_begins_often_fills_no_session(world: World) {
    let browser = world.browser();
    let next = format!("/{}", "x".repeat(1990));
    let mut logins = Vec::new();
    // Together they are larger than a session may be.
    for _ in 0..50 {
        logins.push(world.begin(&browser, &next).await);
    }
    if world.redis.is_some() {
        let (mut redis, key) = stored(&world, &browser);
        assert_eq!(redis.cmd(&["HLEN", &key]).int(), 8);
    }
    let first = world.allow(&logins[0], "ada").await;
    assert_failed(&browser.get(&first).await, 400, USED);
    let last = world.allow(&logins[49], "ada").await;
    assert_leads_to(&browser.get(&last).await, &next);
}

async fn a_callback_that_nobody_sends_is_refused(world: World) {
    let browser = world.browser();
    world.log_in(&browser, "ada", "/").await;
    let login = world.begin(&browser, "/").await;
    let no_answer = "This is no answer of a provider";
    for (query, why) in [
        ("", no_answer),
        ("?", no_answer),
        ("?code=x", no_answer),
        ("?error=access_denied", no_answer),
        (
            &*format!("?code=x&state={0}&state={0}", login.state),
            no_answer,
        ),
        (&*format!("?code=x&code=y&state={}", login.state), no_answer),
        ("?code=x&state=", USED),
        ("?code=x&state=%FF%00", USED),
        ("?code=x&state=user", USED),
        ("?code=x&state=@created", USED),
        (&*format!("?code=x&state={}", "x".repeat(50_000)), USED),
    ] {
        let answer = browser.get(&format!("/callback{query}")).await;
        assert_failed(&answer, 400, why);
        assert!(answer.set_cookies().is_empty());
    }
    assert_eq!(world.token_requests(), 1);
    assert_eq!(user(&browser).await.as_deref(), Some("ada"));
    let answer = browser
        .get(&format!("/callback?state={}", login.state))
        .await;
    assert_failed(&answer, 400, "The provider has sent no code.");
}
