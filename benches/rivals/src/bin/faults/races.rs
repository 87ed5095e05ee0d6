//! Requests that meet: held at gates, so that they meet each time.

use std::collections::BTreeSet;

use crate::lab::{FRESH, Lab, Seen, handed_out};

/// Two requests of one session read it, and then each sets another field.
pub async fn two_fields(lab: &Lab, nodes: [usize; 2]) -> String {
    let id = lab.sign_in("alice").await;
    let (gate, name) = lab.gate();
    let slow = |node: usize, field: &str| {
        let browser = lab.browser_with(node, &id);
        let path = format!("/slow/{name}/{field}/1");
        tokio::spawn(async move { browser.post(&path, "").await })
    };
    let requests = [slow(nodes[0], "a"), slow(nodes[1], "b")];
    gate.arrived_n(2).await;
    gate.open();
    let mut accepted = 0;
    for request in requests {
        accepted += usize::from(request.await.expect("an answer").status.is_success());
    }
    // Two nodes with memories of their own may each believe what they wrote.
    let reader = if nodes[0] == nodes[1] {
        nodes[0]
    } else {
        FRESH
    };
    let seen = Seen::by(&lab.browser_with(reader, &id)).await;
    match (seen.has("a"), seen.has("b"), accepted) {
        (true, true, _) => "both kept",
        (false, false, _) => "both lost",
        (_, _, 2) => "one lost",
        _ => "one refused",
    }
    .to_owned()
}

/// A user logs out while a slow request is under way that will change the session.
pub async fn logout_meets_slow(lab: &Lab, nodes: [usize; 2]) -> String {
    let id = lab.sign_in("alice").await;
    let (gate, name) = lab.gate();
    let slow = lab.browser_with(nodes[1], &id);
    let slow = tokio::spawn(async move { slow.post(&format!("/slow/{name}/b/1"), "").await });
    gate.arrived().await;
    lab.browser_with(nodes[0], &id).post("/logout", "").await;
    gate.open();
    let answer = slow.await.expect("an answer");

    let given = handed_out(&answer).filter(|value| !value.is_empty());
    let fate = match remains(lab, nodes, &id).await {
        Remains::Nothing => match &given {
            Some(given) => match remains(lab, nodes, given).await {
                Remains::Nothing => "gone, but a cookie for nothing",
                Remains::SlowField => "gone, but a new session with the new field",
                Remains::User => "user in a new session",
            },
            None => "gone",
        },
        Remains::SlowField => "back, with the new field only",
        Remains::User => "user logged in again",
    };
    format!("{fate}, {}", answer.status.as_u16())
}

/// A request's client leaves before the answer, and then the user logs out.
pub async fn logout_after_cancelled(lab: &Lab) -> String {
    let id = lab.sign_in("alice").await;
    let (gate, name) = lab.gate();
    let slow = lab.browser_with(0, &id);
    let slow = tokio::spawn(async move { slow.post(&format!("/slow/{name}/b/1"), "").await });
    gate.arrived().await;
    slow.abort();
    gate.abandoned().await;
    lab.browser_with(0, &id).post("/logout", "").await;
    match remains(lab, [0, 0], &id).await {
        Remains::Nothing => "gone",
        _ => "still live",
    }
    .to_owned()
}

/// What somebody with an id still finds.
enum Remains {
    Nothing,
    /// Only what the slow request wrote.
    SlowField,
    /// The user is logged in.
    User,
}

/// What an id still shows on any of the nodes, the one that knows nothing but Redis included.
async fn remains(lab: &Lab, nodes: [usize; 2], id: &str) -> Remains {
    let mut found = Remains::Nothing;
    // The fresh one first: asking may itself put something into Redis.
    let mut asked = vec![FRESH];
    asked.extend(BTreeSet::from(nodes));
    for node in asked {
        let seen = Seen::by(&lab.browser_with(node, id)).await;
        if seen.user().is_some() {
            return Remains::User;
        }
        if !seen.is_empty() {
            found = Remains::SlowField;
        }
    }
    found
}
