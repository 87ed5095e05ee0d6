//! Whether a server does the work, and which Redis commands a request costs it.

use harness::Monitor;
use rivals::rival::BoxError;
use rivals::speed::BARE;
use rivals::speed::app::STATUS;

use crate::http::{Answer, Browser};
use crate::lab::{Lab, Node};

/// What is counted, in the order of the columns.
pub const STEPS: [&str; 6] = [
    "ping, no cookie",
    "login",
    "ping, cookie",
    "profile",
    "visit",
    "logout",
];

/// Goes through a login, a visit and a logout, and fails where an answer is not as it should be.
/// Tells the Redis commands of each of [`STEPS`], those within scripts left out.
pub fn confirm(lab: &Lab, node: &Node) -> Result<Vec<String>, BoxError> {
    let name = node.server.name;
    let mut monitor = Monitor::start(&lab.redis);
    let mut browser = Browser::new(node.addr)?;
    let mut costs = Vec::new();
    let mut ask = |browser: &mut Browser, method: &str, path: &str| -> Result<Answer, BoxError> {
        monitor.all();
        let answer = browser.ask(method, path)?;
        // Some go on after the answer.
        std::thread::sleep(std::time::Duration::from_millis(20));
        costs.push(commands(&mut monitor).join(" "));
        Ok(answer)
    };
    let expect = |what: &str, answer: &Answer, good: bool| match good {
        true => Ok(()),
        false => Err(BoxError::from(format!("{name}: {what}: {answer:?}"))),
    };

    let answer = ask(&mut browser, "GET", "/ping")?;
    expect("ping", &answer, answer.body == "pong")?;
    let answer = ask(&mut browser, "POST", "/login/abdullah/2")?;
    expect("login", &answer, answer.status == 200)?;
    let cookie = browser.cookie.clone();
    expect("the cookie of a login", &answer, cookie.is_some())?;
    let answer = ask(&mut browser, "GET", "/ping")?;
    expect("ping with a cookie", &answer, answer.body == "pong")?;
    let answer = ask(&mut browser, "GET", "/profile")?;
    let whole = format!(r#"{{"user":"abdullah","status":"{STATUS}"}}"#);
    expect("profile", &answer, answer.body == whole)?;
    let answer = ask(&mut browser, "POST", "/visit")?;
    expect("first visit", &answer, answer.body == "1")?;
    if name.starts_with(BARE) {
        costs.push(String::new());
        return Ok(costs);
    }
    let answer = browser.ask("POST", "/visit")?;
    expect("second visit", &answer, answer.body == "2")?;
    let answer = browser.ask("GET", "/profile")?;
    expect("profile after visits", &answer, answer.body == whole)?;
    let answer = ask(&mut browser, "POST", "/logout")?;
    expect("logout", &answer, answer.status == 200)?;
    browser.cookie = cookie;
    let answer = browser.ask("GET", "/profile")?;
    expect("profile after logout", &answer, answer.status == 403)?;
    Ok(costs)
}

/// The commands that requests have cost since the last call, those within scripts left out.
pub fn commands(monitor: &mut Monitor) -> Vec<String> {
    let all = monitor.all().into_iter().filter(|command| !command.lua);
    let mut names: Vec<_> = all.map(|command| command.name()).collect();
    // A pool that sends UNWATCH sends PING with it, for each request. Else it is for the connection.
    let checked = names.iter().any(|name| name == "UNWATCH");
    names.retain(|name| match name.as_str() {
        "PING" => checked,
        "HELLO" | "AUTH" | "SELECT" | "CLIENT" | "INFO" | "ECHO" => false,
        _ => true,
    });
    names
}
