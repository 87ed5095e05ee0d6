//! Session ids: renewed in vain, and made up by the client.

use harness::Client;
use rivals::rival::COOKIE;

use crate::lab::{Lab, Seen};

/// A login that ends in a 500 after it gave the session a new id.
pub async fn failed_renewal(lab: &Lab) -> String {
    let browser = lab.browser_with(0, &lab.sign_in("alice").await);
    let answer = browser.post("/login-fails/mallory", "").await;
    assert_eq!(answer.status, 500);
    match Seen::by(&browser).await.user() {
        Some("alice") => "survives as it was",
        Some(_) => "survives with the failed change",
        None => "lost",
    }
    .to_owned()
}

/// An id that the client made up, and then a write.
pub async fn forged_id(lab: &Lab) -> String {
    let mut outcomes = vec![adoption(lab, &lab.browser(0)).await.to_owned()];
    if let Some(signed) = &lab.signed {
        let browser = Client::new(signed);
        let outcome = adoption(lab, &browser).await;
        outcomes.push(format!("{outcome} if cookies are signed"));
    }
    outcomes.join(", ")
}

/// What becomes of an id that the client made up.
async fn adoption(lab: &Lab, browser: &Client) -> &'static str {
    let forged = lab.rival.forged_id();
    browser.set_cookie(COOKIE, &forged);
    browser.post("/set/a/1", "").await;
    let own = browser.cookie(COOKIE);
    browser.set_cookie(COOKIE, &forged);
    match (Seen::by(browser).await.has("a"), own) {
        (true, _) => "adopted",
        (false, Some(id)) if id != forged => "new id",
        _ => "refused",
    }
}
