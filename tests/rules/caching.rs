//! What keeps caches from handing one user's response to another.

use harness::stores::{Backend, unknown_id};

use crate::fixture::App;

harness::over_both_stores!(
    a_response_with_our_cookie_is_not_stored,
    a_handlers_own_no_store_or_private_stays,
    any_other_cache_control_gives_way,
    a_response_that_reads_or_writes_the_session_varies_by_cookie,
    a_response_that_ignores_the_session_is_left_alone,
    vary_is_merged_into_what_is_there,
    cache_headers_can_be_switched_off,
);

async fn a_response_with_our_cookie_is_not_stored<B: Backend>() {
    let app = App::<B>::start().await;
    for script in ["set user ann", "renew", "destroy"] {
        let answer = app.run(script).await;
        assert_eq!(answer.set_cookies().len(), 1);
        assert_eq!(answer.header("cache-control"), "no-store", "{script}");
        assert_eq!(answer.header("vary"), "Cookie", "{script}");
    }
    let app = App::<B>::with(|builder| builder.clear_unknown(true)).await;
    app.client.set_cookie("session_id", unknown_id());
    let answer = app.client.get("/ignore").await;
    assert_eq!(answer.header("cache-control"), "no-store");
    assert_eq!(answer.header("vary"), "Cookie");
}

async fn a_handlers_own_no_store_or_private_stays<B: Backend>() {
    let app = App::<B>::start().await;
    for own in ["no-store", "private, max-age=60", "max-age=60, Private"] {
        let script = format!("header cache-control {own}; renew; add n 1");
        assert_eq!(app.run(&script).await.header("cache-control"), own);
    }
}

async fn any_other_cache_control_gives_way<B: Backend>() {
    let app = App::<B>::start().await;
    let answer = app
        .run("set user ann; header cache-control public, max-age=60")
        .await;
    assert_eq!(answer.header("cache-control"), "no-store");
    // Without a cookie of ours it is the handler's business.
    let answer = app
        .run("get user; header cache-control public, max-age=60")
        .await;
    assert_eq!(answer.header("cache-control"), "public, max-age=60");
    assert_eq!(answer.header("vary"), "Cookie");
}

async fn a_response_that_reads_or_writes_the_session_varies_by_cookie<B: Backend>() {
    let app = App::<B>::start().await;
    // Also without a cookie: with one the response might have been another.
    for script in [
        "get user",
        "has user",
        "lookup",
        "id",
        "entries",
        "empty",
        "bytes user",
    ] {
        let answer = app.run(script).await;
        assert_eq!(answer.header("vary"), "Cookie", "{script}");
        assert_eq!(answer.header("cache-control"), "", "{script}");
    }
    app.ask("set user ann").await;
    for script in ["get user", "set user bob", "remove absent", "take absent"] {
        assert_eq!(app.run(script).await.header("vary"), "Cookie", "{script}");
    }
}

async fn a_response_that_ignores_the_session_is_left_alone<B: Backend>() {
    let app = App::<B>::start().await;
    app.ask("set user ann").await;
    for answer in [app.client.get("/ignore").await, app.run("").await] {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("vary"), "");
        assert_eq!(answer.header("cache-control"), "");
    }
}

async fn vary_is_merged_into_what_is_there<B: Backend>() {
    let app = App::<B>::start().await;
    for (own, merged) in [
        ("Accept-Encoding", "Accept-Encoding, Cookie"),
        ("accept, cookie", "accept, cookie"),
        ("*", "*"),
    ] {
        let answer = app.run(&format!("get user; header vary {own}")).await;
        assert_eq!(answer.header("vary"), merged);
    }
}

async fn cache_headers_can_be_switched_off<B: Backend>() {
    let app = App::<B>::with(|builder| builder.cache_headers(false)).await;
    for script in ["set user ann", "get user", "destroy"] {
        let answer = app.run(script).await;
        assert_eq!(answer.header("vary"), "", "{script}");
        assert_eq!(answer.header("cache-control"), "", "{script}");
    }
}
