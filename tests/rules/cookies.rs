//! Cookie headers as no browser would send them, over real HTTP/1 and HTTP/2 connections.

use harness::Client;
use harness::stores::{Backend, Memory, unknown_id};
use http::Version;
use serde_json::json;
use tower_redis_session::SameSite;

use crate::events;
use crate::fixture::{App, own_cookies, secs, send};

type MemoryApp = App<Memory>;

/// An app with one session, that of Ann; its browser's cookie is not used.
async fn anns() -> (MemoryApp, String) {
    let app = MemoryApp::start().await;
    app.ask("set user ann").await;
    app.calls();
    let id = app.id();
    (app, id)
}

/// The same requests over both protocols. The answers' cookies go into jars of their own.
fn clients(app: &MemoryApp) -> [Client; 2] {
    let plain = Client::new(&app.server);
    let http2 = Client::new(&app.server).http2();
    [plain, http2]
}

/// Sends these `Cookie` lines over both protocols; the session is to be found, and the cookie is
/// to be left alone.
async fn assert_found(app: &MemoryApp, lines: &[impl AsRef<[u8]>]) {
    for client in clients(app) {
        let answer = send(&client, lines, "lookup; get user").await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.json(), json!(["Found", "ann"]), "{:?}", shown(lines));
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
}

/// Nothing is to be found, and the store not to be asked. `ours`: there is a cookie of our name.
async fn assert_malformed(app: &MemoryApp, lines: &[impl AsRef<[u8]>], ours: bool) {
    let lookup = if ours { "NotFound" } else { "NoCookie" };
    app.calls();
    for client in clients(app) {
        let answer = send(&client, lines, "lookup; get user; id").await;
        assert_eq!(answer.status, 200);
        let nothing = json!([lookup, null, null]);
        assert_eq!(answer.json(), nothing, "{:?}", shown(lines));
        assert_eq!(answer.set_cookies(), [""; 0], "{:?}", shown(lines));
        assert_eq!(app.calls(), [""; 0], "{:?}", shown(lines));
    }
}

fn shown(lines: &[impl AsRef<[u8]>]) -> Vec<String> {
    let text = |line: &[u8]| String::from_utf8_lossy(&line[..line.len().min(200)]).into_owned();
    lines.iter().map(|line| text(line.as_ref())).collect()
}

#[tokio::test]
async fn both_protocols_are_what_they_say() {
    let (app, id) = anns().await;
    let [plain, http2] = clients(&app);
    let line = [format!("session_id={id}")];
    assert_eq!(send(&plain, &line, "id").await.version, Version::HTTP_11);
    assert_eq!(send(&http2, &line, "id").await.version, Version::HTTP_2);
}

#[tokio::test]
async fn the_cookie_is_found_among_others() {
    let (app, id) = anns().await;
    let ours = format!("session_id={id}");
    for line in [
        ours.clone(),
        format!("a=b; {ours}; c=d"),
        format!("a=b;{ours};c=d"),
        format!("a=b; \t {ours} \t ;c=d"),
        format!(";;; ; =; a; {ours};"),
        format!("$Version=1; {ours}; $Path=\"/\"; $Domain=x"),
        format!("session=1; session_id2=2; xsession_id=3; Session_ID=4; {ours}"),
        format!("a=\"quoted; {ours}"),
        format!("a=session_id=x; {ours}"),
    ] {
        assert_found(&app, &[line]).await;
    }
}

#[tokio::test]
async fn the_cookie_is_found_in_any_of_several_lines() {
    let (app, id) = anns().await;
    let ours = format!("session_id={id}");
    assert_found(&app, &["a=b", "c=d; e=f", &ours]).await;
    assert_found(&app, &[&ours, "a=b"]).await;
    let mut many: Vec<String> = (0..80).map(|n| format!("n{n}=x")).collect();
    many.insert(40, ours);
    assert_found(&app, &many).await;
}

#[tokio::test]
async fn other_cookies_can_be_anything() {
    let (app, id) = anns().await;
    let ours = format!("session_id={id}");
    let with = |other: &[u8]| [other, b"; ", ours.as_bytes()].concat();
    assert_found(&app, &[with(b"bad=\xff\xfe\x80")]).await;
    assert_found(&app, &[with(b"\xff=\xff")]).await;
    assert_found(&app, &[with("ключ=значение".as_bytes())]).await;
    assert_found(
        &app,
        &[with(format!("big={}", "x".repeat(8192)).as_bytes())],
    )
    .await;
    assert_found(&app, &[with(b"empty=; =; %=%%; a=%ff%00")]).await;
    assert_found(&app, &[b"bad=\xff".to_vec(), ours.clone().into_bytes()]).await;
}

#[tokio::test]
async fn five_hundred_cookies_are_read() {
    let (app, id) = anns().await;
    let others: String = (0..500).map(|n| format!("c{n}=v{n}; ")).collect();
    assert_found(&app, &[format!("{others}session_id={id}")]).await;
    assert_found(&app, &[format!("session_id={id}; {others}")]).await;
    // As many of our own name, none of them an id, are no obstacle either.
    let own: String = (0..500).map(|n| format!("session_id={n}; ")).collect();
    assert_found(&app, &[format!("{own}session_id={id}")]).await;
    assert_malformed(&app, &[own], true).await;
}

#[tokio::test]
async fn names_are_compared_byte_for_byte() {
    let (app, id) = anns().await;
    for name in [
        "session%5Fid",
        "session%5fid",
        "Session_id",
        "SESSION_ID",
        "\"session_id\"",
        "session_id ",
        "\u{a0}session_id",
        "\u{2003}session_id",
        "session_id\u{a0}",
        "$session_id",
        "session_id[]",
        "session_id2",
        "xsession_id",
        "",
    ] {
        assert_malformed(&app, &[format!("{name}={id}")], false).await;
    }
    assert_malformed(&app, &[[b"\xffsession_id=", id.as_bytes()].concat()], false).await;
    assert_malformed(&app, &[format!("session_id {id}")], false).await;
    assert_malformed(&app, &[id], false).await;
}

#[tokio::test]
async fn only_the_canonical_form_is_an_id() {
    let (app, id) = anns().await;
    let bare = id.replace('-', "");
    let (head, tail) = id.split_at(35);
    // Behind the first one: an id need not have a letter at its beginning.
    let letter = 1 + id.find(|c: char| c.is_ascii_lowercase()).expect("a letter");
    for value in [
        String::new(),
        id.to_uppercase(),
        format!("{}{}", &id[..letter].to_uppercase(), &id[letter..]),
        bare.clone(),
        format!("{{{id}}}"),
        format!("urn:uuid:{id}"),
        format!("\"{id}\""),
        format!("\"{id}"),
        format!(" {id}"),
        format!("{id}="),
        format!("={id}"),
        format!("{id}{id}"),
        format!("{id}, {id}"),
        format!("{bare}    "),
        head.to_owned(),
        format!("{head}g"),
        format!("{head}%3{tail}"),
        id.replacen('-', "%2D", 1),
        id.replace('-', "_"),
        "x".repeat(8192),
        "00000000-0000-0000-0000-000000000000".to_owned(),
        "ffffffff-ffff-ffff-ffff-ffffffffffff".to_owned(),
        // Versions 7 and 1, and a variant that is not of RFC 9562.
        "01890f5e-7b1c-7cc0-98c4-dc0c0c07398f".to_owned(),
        "c232ab00-9414-11ec-b3c8-9f6bdeced846".to_owned(),
        format!("{}c{}", &id[..19], &id[20..]),
    ] {
        assert_malformed(&app, &[format!("session_id={value}")], true).await;
    }
    let mut raw = format!("session_id={id}").into_bytes();
    *raw.last_mut().unwrap() = 0xff;
    assert_malformed(&app, &[raw], true).await;
    // The session itself is still there.
    assert_found(&app, &[format!("session_id={id}")]).await;
}

#[tokio::test]
async fn a_live_one_and_a_stale_one_are_the_live_one() {
    let (app, id) = anns().await;
    let stale = unknown_id();
    assert_found(&app, &[format!("session_id={stale}; session_id={id}")]).await;
    assert_found(
        &app,
        &[format!("session_id={id}"), format!("session_id={stale}")],
    )
    .await;
    let line = format!("session_id=; session_id=\"{id}\"; session_id={id}; session_id={id}");
    assert_found(&app, &[line]).await;
}

#[tokio::test]
async fn two_live_ones_are_nobody() {
    let (app, ann) = anns().await;
    let eve = unknown_id();
    app.store.put(&eve, &[("user", "eve")], secs(900)).await;
    app.age(600).await;
    for (events, client) in clients(&app).into_iter().enumerate() {
        let lines = [format!("session_id={eve}"), format!("session_id={ann}")];
        let answer = send(&client, &lines, "lookup; get user; entries; id").await;
        assert_eq!(answer.json(), json!(["NotFound", null, {}, null]));
        assert_eq!(answer.set_cookies(), [""; 0]);
        assert_eq!(events::count("WARN", "ambiguous"), events + 1);
    }
    for id in [&ann, &eve] {
        let left = app.store.ttl(id).await.expect("a live session");
        assert!(left <= secs(300), "refreshed: {left:?}");
    }
    let lines = events::lines().join("\n");
    assert!(!lines.contains(&ann) && !lines.contains(&eve), "{lines}");
}

#[tokio::test]
async fn two_stale_ones_are_left_alone() {
    let (app, _) = anns().await;
    let line = format!("session_id={}; session_id={}", unknown_id(), unknown_id());
    for client in clients(&app) {
        let answer = send(&client, &[&line], "lookup").await;
        assert_eq!(answer.json(), json!(["NotFound"]));
        assert_eq!(answer.set_cookies(), [""; 0]);
    }
    assert_eq!(events::count("WARN", "ambiguous"), 0);
}

#[tokio::test]
async fn with_a_seventeenth_id_none_is_looked_up() {
    let (app, id) = anns().await;
    let stale = |n: usize| -> String {
        (0..n)
            .map(|_| format!("session_id={}; ", unknown_id()))
            .collect()
    };
    assert_found(&app, &[format!("{}session_id={id}", stale(15))]).await;
    for client in clients(&app) {
        app.calls();
        let line = format!("{}session_id={id}", stale(16));
        let answer = send(&client, &[line], "lookup").await;
        assert_eq!(answer.json(), json!(["NotFound"]));
        assert_eq!(app.calls(), [""; 0]);
    }
}

#[tokio::test]
async fn more_ids_than_are_looked_up_are_nobody() {
    let (app, id) = anns().await;
    app.age(600).await;
    let mut events = 0;
    for place in [0, 1, 15, 16, 17] {
        for client in clients(&app) {
            let mut ids: Vec<String> = (0..17).map(|_| unknown_id()).collect();
            // At the last of these places there is none: what is not looked up might be one.
            if let Some(slot) = ids.get_mut(place) {
                slot.clone_from(&id);
            }
            let line: Vec<String> = ids.iter().map(|id| format!("session_id={id}")).collect();
            // A sibling domain's cookies may come in lines of their own, or twice.
            for lines in [vec![line.join("; ")], [line.clone(), line].concat()] {
                app.calls();
                let answer = send(&client, &lines, "lookup; get user; entries; id").await;
                let nothing = json!(["NotFound", null, {}, null]);
                assert_eq!(answer.json(), nothing, "live at {place}");
                assert_eq!(answer.set_cookies(), [""; 0]);
                assert_eq!(app.calls(), [""; 0]);
                events += 1;
                assert_eq!(events::count("WARN", "ambiguous"), events);
            }
        }
    }
    let left = app.store.ttl(&id).await.expect("a live session");
    assert!(left <= secs(300), "refreshed: {left:?}");
    // What counts is how many distinct ids there are.
    let stale: Vec<String> = (0..15).map(|_| unknown_id()).collect();
    let pairs = [&stale[..], &stale, std::slice::from_ref(&id)].concat();
    let pairs: Vec<String> = pairs.iter().map(|id| format!("session_id={id}")).collect();
    assert_found(&app, &pairs).await;
    assert_eq!(events::count("WARN", "ambiguous"), events);
    let lines = events::lines().join("\n");
    assert!(!lines.contains(&id), "{lines}");
}

#[cfg(feature = "redis")]
#[tokio::test]
async fn redis_is_asked_for_sixteen_ids_at_once_and_for_none_of_more() {
    use harness::{Monitor, names};

    let app = App::<harness::stores::Redis>::start().await;
    app.ask("set user ann").await;
    let ids: Vec<String> = (0..17).map(|_| unknown_id()).collect();
    let few = &ids[..16];
    let line: String = few.iter().map(|id| format!("session_id={id}; ")).collect();
    let mut monitor = Monitor::start(&app.store.server.borrow());
    for client in [app.client.clone(), app.client.http2()] {
        send(&client, &[&line], "lookup").await;
        let commands = monitor.commands();
        // The first is asked for by itself; then the others together. None is there, which is looked at once more.
        assert!(commands.len() <= 7, "{:?}", names(&commands));
        let args = commands.iter().flat_map(|command| &command.args);
        let mut asked: Vec<&str> = args
            .filter_map(|key| key.strip_prefix("session:"))
            .collect();
        asked.sort_unstable();
        asked.dedup();
        let mut expected: Vec<&str> = few.iter().map(String::as_str).collect();
        asked.sort_unstable();
        expected.sort_unstable();
        assert_eq!(asked, expected);
    }
    let line: String = ids.iter().map(|id| format!("session_id={id}; ")).collect();
    send(&app.client, &[&line], "lookup").await;
    assert_eq!(names(&monitor.commands()), [""; 0]);
    // What is malformed costs nothing, however much of it there is.
    let line: String = ids
        .iter()
        .map(|id| format!("session_id={}; ", id.to_uppercase()))
        .collect();
    send(&app.client, &[&line], "lookup").await;
    assert_eq!(names(&monitor.commands()), [""; 0]);
}

#[tokio::test]
async fn the_attributes_are_those_of_the_builder() {
    let same_sites = [
        (SameSite::Strict, "SameSite=Strict"),
        (SameSite::Lax, "SameSite=Lax"),
        (SameSite::None, "SameSite=None"),
    ];
    for (same_site, shown) in same_sites {
        for (http_only, secure, partitioned) in [
            (true, true, true),
            (false, true, false),
            (true, false, false),
        ] {
            if same_site == SameSite::None && !secure {
                continue;
            }
            let app = MemoryApp::with(|builder| {
                builder
                    .cookie_name("id")
                    .cookie_path("/app")
                    .http_only(http_only)
                    .secure(secure)
                    .same_site(same_site)
                    .partitioned(partitioned)
            })
            .await;
            let mut expected = vec!["Path=/app", shown];
            expected.extend(http_only.then_some("HttpOnly"));
            expected.extend(secure.then_some("Secure"));
            expected.extend(partitioned.then_some("Partitioned"));
            assert_attributes(&app.run("set user ann").await.set_cookies(), &expected);
            let id = app.client.cookie("id").expect("a cookie");
            assert_eq!(id.len(), 36);
            expected.extend(["Max-Age=0", "Expires=Thu, 01 Jan 1970 00:00:00 GMT"]);
            assert_attributes(&app.run("destroy").await.set_cookies(), &expected);
            assert_eq!(app.client.cookie("id"), None);
        }
    }
}

/// Asserts that there is one line, with just these attributes in any order.
#[track_caller]
fn assert_attributes(lines: &[String], expected: &[&str]) {
    assert_eq!(lines.len(), 1, "{lines:?}");
    let mut found: Vec<&str> = lines[0].split("; ").skip(1).collect();
    let mut expected = expected.to_vec();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
}

#[tokio::test]
async fn another_name_is_another_cookie() {
    let app = MemoryApp::with(|builder| builder.cookie_name("__Host-id")).await;
    let answer = app.run("set user ann").await;
    assert_eq!(own_cookies(&answer), [""; 0]);
    let id = app.client.cookie("__Host-id").expect("a cookie");
    let line = format!("__Host-id={id}; HttpOnly; SameSite=Lax; Secure; Path=/");
    assert_eq!(answer.set_cookies(), [line]);
    assert_eq!(app.ask("get user").await, json!(["ann"]));
    // A sibling domain may set cookies of names that only decode to ours.
    for name in ["__host-id", "%5F%5FHost-id", "session_id"] {
        let answer = app.send(&[format!("{name}={id}")], "lookup").await;
        assert_eq!(answer.json(), json!(["NoCookie"]), "{name}");
    }
    // Browsers take a line about this name only where it is `Secure`, with the path of the whole site and no domain.
    let cleared = "__Host-id=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0; \
                   Expires=Thu, 01 Jan 1970 00:00:00 GMT";
    assert_eq!(app.run("destroy").await.set_cookies(), [cleared]);
}
