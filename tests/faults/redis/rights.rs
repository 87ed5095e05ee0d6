//! A user whose right is taken away.

use harness::documented;
use tower_redis_session::ErrorKind;

use crate::redis::front::{Front, IDLE, secs};
use crate::redis::scene::{Admin, Over, scenario, server, store, together};

/// Each right but one: what then fails is told as what it is, and leaves nothing half done that matters.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_missing() {
    is_told(Over::Tcp).await;
}

#[cfg(feature = "upstash")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_right_that_is_missing_over_rest() {
    is_told(Over::Rest).await;
}

async fn is_told(over: Over) {
    let all = documented::everywhere();
    assert!(all.contains(&"hgetall".to_owned()), "{all:?}");
    let each = all
        .into_iter()
        .map(|denied| scenario(denied.clone(), without(over, denied)));
    together(each).await;
}

async fn without(over: Over, denied: String) {
    let server = server(&[]).await;
    let ok = Front::on(&store(&server.url()).await, |b| b.store_timeout(secs(3)));
    let user = [
        "ACL",
        "SETUSER",
        "app",
        "reset",
        "on",
        ">secret",
        "~session:*",
        "+@all",
    ];
    server.must(&user);
    let way = over.to_as_app(&server).await;
    let own = store(way.url()).await;
    // Not sooner: a user who lacks it is refused on connecting.
    server.must(&["ACL", "SETUSER", "app", &format!("-{denied}")]);
    let mut refused = Vec::new();
    for (name, layer, steps) in [
        ("load", "", ""),
        ("load with an absolute end", "absolute", ""),
        ("create", "", "new"),
        ("update", "", "set a 1; add n 1; remove z"),
        ("renew", "", "renew; set user eve; add n 1; remove z"),
        ("delete", "", "destroy"),
        ("empty", "", "clear"),
    ] {
        let front = Front::on(&own, |builder| {
            let builder = builder.store_timeout(secs(3));
            if layer.is_empty() {
                builder
            } else {
                builder.absolute_timeout(2 * IDLE)
            }
        });
        let browser = ok.logged_in("set user ada; set z z; add n 1").await;
        let (id, keys) = (browser.id(), server.count());
        let before = server.shown(&id);
        let told = match steps {
            "new" => front.browser().ask("set user eve").await,
            steps => browser.at(&front).ask(steps).await,
        };
        server.every_key_ends();
        if told.status == 200 {
            continue;
        }
        refused.push(name);
        assert_eq!(
            told.unavailable(),
            ErrorKind::NotPermitted,
            "{denied}: {name}"
        );
        // What the handler changed may be done by half where the right for the other half is missing.
        if !["update", "empty"].contains(&name) {
            assert_eq!(server.shown(&id), before, "{denied}: {name}: unchanged");
        }
        assert!(
            server.count() <= keys + usize::from(name == "renew"),
            "{denied}: {name}"
        );
        if name != "empty" {
            assert_eq!(browser.ask("").await.fine().fields["user"], "ada");
        }
    }
    println!("without {denied}: refused are {refused:?}");
}
