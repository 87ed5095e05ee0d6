//! A struct as the session's fields: `set_all` and `get_all`.

use std::collections::BTreeMap;

use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use harness::stores::Backend;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tower_redis_session::{Error, ErrorKind, Session};

use crate::fixture::{App, Shared};

harness::over_both_stores!(
    a_struct_reads_back_in_the_next_request,
    only_the_members_that_changed_are_written,
    requests_that_change_different_members_both_keep_their_change,
    what_is_no_plain_struct_is_refused_and_changes_nothing,
    a_struct_that_is_too_large_changes_nothing,
    a_member_may_need_the_room_that_another_leaves,
    a_member_with_a_name_of_the_layer_changes_nothing,
    a_field_that_holds_something_else_is_an_error_that_names_it,
    bytes_read_back_as_they_are,
);

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
enum Plan {
    Free,
    Paid { seats: u32 },
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Place {
    city: String,
    point: (f64, f64),
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
struct Account {
    user: String,
    #[serde(rename = "display-name")]
    name: String,
    theme: Option<String>,
    plan: Plan,
    place: Place,
    tags: Vec<String>,
    #[serde(default)]
    visits: u64,
    #[serde(skip)]
    seen: bool,
}

fn account() -> Account {
    Account {
        user: "ann".into(),
        name: "null".into(),
        theme: Some("3".into()),
        plan: Plan::Paid { seats: 3 },
        place: Place {
            city: "Ulm".into(),
            point: (48.4, 9.99),
        },
        tags: vec!["a".into(), "3".into()],
        visits: 0,
        seen: false,
    }
}

async fn set(session: Session, Json(account): Json<Account>) -> Result<(), Error> {
    session.set_all(&account)
}

async fn get(session: Session) -> Result<Json<Account>, Error> {
    session.get_all().map(Json)
}

/// Reads it, waits at the gate, and writes it with this member changed.
async fn change(State(shared): State<Shared>, session: Session, body: String) -> Result<(), Error> {
    let mut account: Account = session.get_all()?;
    shared.gates.get("").pass().await;
    match body.as_str() {
        "name" => account.name = "Ann".into(),
        "theme" => account.theme = None,
        other => panic!("{other}?"),
    }
    session.set_all(&account)
}

async fn start<B: Backend>() -> App<B> {
    let routes = Router::new()
        .route("/set", post(set))
        .route("/get", post(get))
        .route("/change", post(change))
        .route("/refused", post(refused));
    App::serve(B::start().await, routes, |builder| {
        builder.max_session_bytes(1000)
    })
    .await
}

async fn put<B: Backend>(app: &App<B>, account: &Account) -> u16 {
    let body = serde_json::to_string(account).unwrap();
    let request = http::Request::post("/set")
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    app.client.request(request).await.status.as_u16()
}

async fn a_struct_reads_back_in_the_next_request<B: Backend>() {
    let app = start::<B>().await;
    for account in [
        account(),
        Account {
            theme: None,
            plan: Plan::Free,
            tags: Vec::new(),
            ..account()
        },
    ] {
        assert_eq!(put(&app, &account).await, 200);
        let answer = app.client.post("/get", String::new()).await;
        assert_eq!(answer.status, 200);
        let read: Account = serde_json::from_value(answer.json()).unwrap();
        assert_eq!(read, account);
    }
    let place = r#"{"city":"Ulm","point":[48.4,9.99]}"#;
    app.assert_stored(&[
        ("user", "ann"),
        ("display-name", "null"),
        ("plan", "Free"),
        ("place", place),
        ("tags", "[]"),
        ("visits", "0"),
    ])
    .await;
    // A member that has a default needs no field, and fields that are no members harm nothing.
    app.ask("remove visits; set other 1").await;
    let answer = app.client.post("/get", String::new()).await;
    assert_eq!(answer.json()["visits"], 0);
    // One that has none needs it.
    app.ask("remove user").await;
    let answer = app.client.post("/get", String::new()).await;
    assert_eq!(answer.status, 500);
}

async fn only_the_members_that_changed_are_written<B: Backend>() {
    let app = start::<B>().await;
    assert_eq!(put(&app, &account()).await, 200);
    app.calls();
    assert_eq!(put(&app, &account()).await, 200);
    assert_eq!(app.calls(), ["load"], "nothing has changed");
}

async fn requests_that_change_different_members_both_keep_their_change<B: Backend>() {
    let app = start::<B>().await;
    assert_eq!(put(&app, &account()).await, 200);
    let gate = app.shared.gates.get("");
    let both = ["name", "theme"].map(|member| {
        let client = app.client.clone();
        tokio::spawn(async move { client.post("/change", member.to_owned()).await })
    });
    gate.arrived_n(2).await;
    gate.open();
    for request in both {
        assert_eq!(request.await.unwrap().status, 200);
    }
    let answer = app.client.post("/get", String::new()).await;
    let read: Account = serde_json::from_value(answer.json()).unwrap();
    let wanted = Account {
        name: "Ann".into(),
        theme: None,
        ..account()
    };
    assert_eq!(read, wanted);
}

#[derive(Serialize, Deserialize)]
struct Flat {
    user: String,
    #[serde(flatten)]
    more: BTreeMap<String, String>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Tuple(String, u8);

#[derive(Debug, Serialize, Deserialize)]
struct Newtype(Account);

#[derive(Debug, Serialize, Deserialize)]
struct Unit;

#[derive(Serialize)]
struct Nan {
    user: &'static str,
    half: f64,
}

#[derive(Serialize)]
struct Reserved {
    user: &'static str,
    #[serde(rename = "@idle")]
    idle: u8,
}

/// What each attempt gave, and the session's fields behind them.
async fn refused(session: Session) -> Json<Value> {
    let mut all = Vec::new();
    let mut told = |set: Result<(), Error>| {
        let error = set.expect_err("refused");
        let source = std::error::Error::source(&error).map(ToString::to_string);
        all.push(json!([
            format!("{:?}", error.kind()),
            source.unwrap_or_default()
        ]));
    };
    let map = BTreeMap::from([("user", "eve")]);
    told(session.set_all(&map));
    told(session.set_all(&Flat {
        user: "eve".into(),
        more: BTreeMap::new(),
    }));
    told(session.set_all(&Tuple("eve".into(), 1)));
    told(session.set_all(&Newtype(account())));
    told(session.set_all(&Unit));
    told(session.set_all(&Plan::Free));
    told(session.set_all(&Plan::Paid { seats: 1 }));
    told(session.set_all(&Some(account())));
    told(session.set_all("eve"));
    told(session.set_all(&Nan {
        user: "eve",
        half: f64::NAN,
    }));
    told(session.get_all::<BTreeMap<String, String>>().map(drop));
    told(session.get_all::<Flat>().map(drop));
    told(session.get_all::<Tuple>().map(drop));
    told(session.get_all::<Newtype>().map(drop));
    told(session.get_all::<Plan>().map(drop));
    Json(json!([all, session.entries()]))
}

async fn what_is_no_plain_struct_is_refused_and_changes_nothing<B: Backend>() {
    let app = start::<B>().await;
    app.ask("set user ann").await;
    app.calls();
    let answer = app.client.post("/refused", String::new()).await.json();
    let all = answer[0].as_array().unwrap();
    for (at, told) in all.iter().enumerate() {
        let kind = if at < 10 { "Serialize" } else { "Deserialize" };
        assert_eq!(told[0], kind, "{at}: {told}");
        let why = told[1].as_str().unwrap();
        if at == 9 {
            assert!(why.contains("half"), "{why}");
        } else {
            assert!(
                why.contains("only a struct with named members"),
                "{at}: {why}"
            );
        }
    }
    assert_eq!(all.len(), 15);
    assert_eq!(answer[1], json!({"user": "ann"}));
    assert_eq!(app.calls(), ["load"]);
}

async fn a_struct_that_is_too_large_changes_nothing<B: Backend>() {
    let app = start::<B>().await;
    assert_eq!(put(&app, &account()).await, 200);
    app.calls();
    let large = Account {
        user: "eve".into(),
        name: "x".repeat(1000),
        ..account()
    };
    let body = serde_json::to_string(&large).unwrap();
    let request = http::Request::post("/set")
        .header("content-type", "application/json")
        .body(body)
        .unwrap();
    let answer = app.client.request(request).await;
    assert_eq!(answer.status, 500);
    assert_eq!(answer.header("x-error"), "TooLarge");
    let read = app.client.post("/get", String::new()).await.json();
    assert_eq!(read, json!(account()));
}

async fn a_member_may_need_the_room_that_another_leaves<B: Backend>() {
    let app = start::<B>().await;
    let (long, short) = ("x".repeat(700), "x".to_owned());
    for (name, theme) in [(&long, &short), (&short, &long), (&long, &short)] {
        let account = Account {
            name: name.clone(),
            theme: Some(theme.clone()),
            ..account()
        };
        assert_eq!(put(&app, &account).await, 200);
    }
}

async fn a_member_with_a_name_of_the_layer_changes_nothing<B: Backend>() {
    let routes = Router::new().route(
        "/reserved",
        post(async |session: Session| {
            let set = session.set_all(&Reserved {
                user: "eve",
                idle: 1,
            });
            format!("{:?}", set.map_err(|error| error.kind()))
        }),
    );
    let app = App::<B>::serve(B::start().await, routes, |builder| builder).await;
    app.ask("set user ann").await;
    let answer = app.client.post("/reserved", String::new()).await;
    assert_eq!(answer.text(), "Err(ReservedField)");
    app.assert_stored(&[("user", "ann")]).await;
}

async fn a_field_that_holds_something_else_is_an_error_that_names_it<B: Backend>() {
    let routes = Router::new().route(
        "/read",
        post(async |session: Session| {
            let error = session.get_all::<Account>().expect_err("an error");
            let source = std::error::Error::source(&error).map(ToString::to_string);
            format!("{:?} {}", error.kind(), source.unwrap_or_default())
        }),
    );
    let app = App::<B>::serve(B::start().await, routes, |builder| builder).await;
    app.ask("set user ann; set visits many").await;
    let told = app.client.post("/read", String::new()).await.text();
    assert!(told.starts_with("Deserialize member \"visits\""), "{told}");
    app.ask("remove visits").await;
    let told = app.client.post("/read", String::new()).await.text();
    assert!(told.contains("missing field"), "{told}");
}

async fn bytes_read_back_as_they_are<B: Backend>() {
    let bytes = || (0..=255).collect::<Vec<u8>>();
    let routes = Router::new()
        .route(
            "/write",
            post(async move |session: Session| session.insert_bytes("bytes", bytes())),
        )
        .route(
            "/read",
            post(async move |session: Session| {
                assert_eq!(session.get_bytes("bytes").as_deref(), Some(&bytes()[..]));
                let as_text = session.get::<String>("bytes").map_err(|error| error.kind());
                assert_eq!(as_text, Err(ErrorKind::NotUtf8));
                let reserved = session.insert_bytes("@bytes", [1]);
                let kind = reserved.map_err(|error| error.kind());
                assert_eq!(kind, Err(ErrorKind::ReservedField));
                let large = session.insert_bytes("bytes", vec![0; 1 << 20]);
                let kind = large.map_err(|error| error.kind());
                assert_eq!(kind, Err(ErrorKind::TooLarge));
            }),
        );
    let app = App::<B>::serve(B::start().await, routes, |builder| builder).await;
    for path in ["/write", "/read", "/write"] {
        assert_eq!(app.client.post(path, String::new()).await.status, 200);
    }
}
