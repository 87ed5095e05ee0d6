//! A browser whose requests overlap, one of which changes its cookie: whatever answers late to the old cookie, it logs
//! nobody out. Over each store, on connections that are kept, with one jar for all of a browser's requests.
//!
//! ```text
//! cargo test --all-features --test rules jar::                # 20 rounds of each page
//! JAR_ROUNDS=200 cargo test --all-features --test rules jar:: -- --nocapture
//! ```
//!
//! | variable | what |
//! | --- | --- |
//! | `JAR_ROUNDS` | how often each page is loaded; over REST a quarter of that |
//! | `JAR_SEED` | the same delays again; printed by each test |

mod exact;
pub(crate) mod page;
pub(crate) mod site;
pub(crate) mod tally;

use page::{Login, Page, Start};

/// So many requests, one of which is the login.
const REQUESTS: [usize; 4] = [2, 6, 12, 30];
/// So many of them at once: a browser opens six connections to a server.
const CONNECTIONS: [usize; 3] = [1, 6, 12];

/// Every page of so many requests on so many connections.
fn pages(requests: &[usize], connections: &[usize], page: Page) -> Vec<Page> {
    let size = |&requests: &usize| {
        connections.iter().map(move |&connections| Page {
            requests,
            connections,
            ..page
        })
    };
    requests.iter().flat_map(size).collect()
}

/// Every page with each kind of login.
pub(crate) fn with_each_login(requests: &[usize], connections: &[usize], page: Page) -> Vec<Page> {
    let logins = [Login::Renews, Login::StartsAnew];
    let pages = |login| pages(requests, connections, Page { login, ..page });
    logins.into_iter().flat_map(pages).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_renews_its_session_stays_logged_in() {
    tally::play(pages(&REQUESTS, &CONNECTIONS, Page::default())).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_page_that_logs_in_anew_stays_logged_in() {
    let page = Page {
        login: Login::StartsAnew,
        ..Page::default()
    };
    tally::play(pages(&REQUESTS, &CONNECTIONS, page)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_stands_beside_requests_that_reload_the_session() {
    let page = Page {
        others: "sleep 1; reload",
        ..Page::default()
    };
    tally::play(with_each_login(&[6, 12], &[6], page)).await;
}

/// What comes late writes to a session that is no more, and starts none in the new one's place.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_stands_beside_requests_that_write() {
    for others in [
        "set seen yes",
        "add seen 1",
        "sleep 1; reload; set seen yes",
    ] {
        let page = Page {
            others,
            ..Page::default()
        };
        tally::play(with_each_login(&[2, 6, 12], &[6], page)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_stands_beside_requests_with_the_cookie_of_an_ended_session() {
    let page = Page {
        start: Start::Ended,
        ..Page::default()
    };
    tally::play(with_each_login(&REQUESTS, &[6], page)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_first_login_stands_beside_requests_without_a_cookie() {
    let page = Page {
        start: Start::NoCookie,
        ..Page::default()
    };
    tally::play(with_each_login(&REQUESTS, &[6], page)).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_login_stands_beside_a_poll_that_goes_on() {
    let pages = [Start::LoggedIn, Start::Ended]
        .into_iter()
        .flat_map(|start| {
            let page = Page {
                start,
                polls: true,
                ..Page::default()
            };
            with_each_login(&[2, 6], &[1, 6], page)
        });
    tally::play(pages.collect()).await;
}
