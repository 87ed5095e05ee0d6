//! Signing is turned on, and a key is changed, while browsers load pages: pages of many requests at once, one of which
//! logs in, and whose answers come late. Processes of two steps that follow each other serve them by turns, as while new
//! processes take the place of old ones. Nobody is logged out.

use tower_redis_session::SessionLayerBuilder;

use super::keys;
use crate::fixture::secs;
use crate::jar::page::{Page, Start};
use crate::jar::site::Configure;
use crate::jar::{tally, with_each_login};

/// The steps to turn signing on.
const TURN_ON: [Configure; 4] = [
    |builder| builder,
    |builder| {
        keys(&[1])(builder)
            .accept_unsigned(true)
            .send_unsigned(true)
    },
    |builder| keys(&[1])(builder).accept_unsigned(true),
    with_key_1,
];

/// The steps to change the key.
const CHANGE_KEY: [Configure; 4] = [
    with_key_1,
    |builder| keys(&[1, 2])(builder),
    |builder| keys(&[2, 1])(builder),
    |builder| keys(&[2])(builder),
];

fn with_key_1(builder: SessionLayerBuilder) -> SessionLayerBuilder {
    keys(&[1])(builder)
}

/// What a page is like whose other requests do this.
fn page(start: Start, others: &'static str) -> Page {
    Page {
        start,
        others,
        ..Page::default()
    }
}

/// Each two steps that follow each other.
async fn play(steps: [Configure; 4]) {
    for neighbours in steps.windows(2) {
        for page in [
            page(Start::LoggedIn, ""),
            page(Start::LoggedIn, "set seen yes"),
            page(Start::NoCookie, ""),
        ] {
            tally::play_on(neighbours, with_each_login(&[12], &[6], page)).await;
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turning_it_on_logs_nobody_out() {
    play(TURN_ON).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn changing_the_key_logs_nobody_out() {
    play(CHANGE_KEY).await;
}

/// The new signature is sent with a refresh. What merely writes sets the time to live anew, too, and sends nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_does_it_with_a_refresh_interval() {
    let steps: [Configure; 2] = [
        |builder| keys(&[1, 2])(builder).refresh_interval(secs(60)),
        |builder| keys(&[2, 1])(builder).refresh_interval(secs(60)),
    ];
    for others in ["", "set seen yes"] {
        let page = page(Start::LoggedIn, others);
        tally::play_on(&steps, with_each_login(&[12], &[6], page)).await;
    }
}
