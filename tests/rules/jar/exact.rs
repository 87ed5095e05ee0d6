//! The decisive order, without chance: a request leaves with the old cookie, the login is answered, and only then the
//! layer sees that request, so that its answer is the last.

use harness::app::{id, run};

use crate::jar::page::{Login, Start, browser};
use crate::jar::site::{STORES, Site, held};

/// What the late request does: nothing, look at the session, read it anew, write.
const LATE: [&str; 5] = ["ignore", "", "reload", "set seen yes", "reload; add seen 1"];

async fn says_nothing_of_the_cookie(start: Start, login: Login) {
    for &store in STORES {
        let site = Site::open(store).await;
        for (round, steps) in LATE.into_iter().enumerate() {
            let what = format!("{store:?}, {start:?}, {login:?}, late: {steps:?}");
            let user = format!("user-{round}");
            let browser = browser(&site, start, &user).await;

            let gate = format!("late-{round}");
            let late = tokio::spawn({
                let (browser, request) = (browser.clone(), held(steps, &gate));
                async move { browser.request(request).await }
            });
            site.gate(&gate).arrived().await;
            let old = id(&browser);
            let answer = run(&browser, &login.steps(&user)).await;
            assert_eq!(answer.set_cookies().len(), 1, "{what}: {answer:?}");
            let new = id(&browser);
            assert_ne!(old, new, "{what}");

            site.gate(&gate).open();
            let late = late.await.expect("an answer");
            assert_eq!(late.status, 200, "{what}: {late:?}");
            assert_eq!(late.set_cookies(), [""; 0], "{what}");
            if steps != "ignore" {
                assert_eq!(late.json()["lookup"], "NotFound", "{what}");
            }
            assert_eq!(browser.cookie("session_id"), Some(new), "{what}");
            let next = run(&browser, "").await.json();
            assert_eq!(next["lookup"], "Found", "{what}");
            assert_eq!(next["fields"], login.leaves(start, &user), "{what}");
        }
        assert_eq!(site.sessions(), LATE.len(), "sessions: {store:?}");
    }
}

#[tokio::test]
async fn an_answer_to_the_old_cookie_after_a_renewal_says_nothing_of_it() {
    says_nothing_of_the_cookie(Start::LoggedIn, Login::Renews).await;
}

#[tokio::test]
async fn an_answer_to_the_old_cookie_after_a_login_anew_says_nothing_of_it() {
    says_nothing_of_the_cookie(Start::LoggedIn, Login::StartsAnew).await;
}

#[tokio::test]
async fn an_answer_to_the_cookie_of_an_ended_session_after_a_login_says_nothing_of_it() {
    for login in [Login::Renews, Login::StartsAnew] {
        says_nothing_of_the_cookie(Start::Ended, login).await;
    }
}

#[tokio::test]
async fn an_answer_to_an_unknown_cookie_after_a_login_says_nothing_of_it() {
    for login in [Login::Renews, Login::StartsAnew] {
        says_nothing_of_the_cookie(Start::Unknown, login).await;
    }
}
