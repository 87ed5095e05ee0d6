//! Pages are loaded many times, and what became of them is counted.

use std::fmt::Write;
use std::sync::Arc;

use harness::Random;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::jar::page::Page;
use crate::jar::site::{Configure, STORES, Site, Store};

/// So many browsers load their pages at the same time: with more, a small machine delays them by more than the network
/// does, and one after the other.
const AT_ONCE: usize = 4;

/// A number that the one who runs this may have set.
fn setting(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    let number = text.parse();
    Some(number.unwrap_or_else(|_| panic!("{name} is no number: {text:?}")))
}

/// What became of all rounds of one page on one store.
struct Count {
    page: Page,
    store: Store,
    logged_out: u64,
    spoke: usize,
    wrong: Vec<String>,
}

/// Loads each page over and over on each store. In none of the rounds is anybody logged out.
pub(crate) async fn play(pages: Vec<Page>) {
    play_on(&[|builder| builder], pages).await;
}

/// The same on a site of these processes.
pub(crate) async fn play_on(processes: &[Configure], pages: Vec<Page>) {
    let most = setting("JAR_ROUNDS").unwrap_or(20);
    let seed = setting("JAR_SEED").unwrap_or_else(|| Uuid::new_v4().as_u64_pair().0);
    println!("JAR_SEED={seed}, {most} rounds of each page");
    let random = Random::new(seed);

    let at_once = Arc::new(Semaphore::new(AT_ONCE));
    let mut sites = Vec::new();
    let mut games = JoinSet::new();
    for &store in STORES {
        let site = Arc::new(Site::of_processes(store, processes).await);
        let rounds = store.rounds(most);
        for (&page, number) in pages.iter().zip(0..) {
            let (site, at_once) = (site.clone(), at_once.clone());
            let random = random.fork(number);
            games.spawn(async move {
                let mut count = Count {
                    page,
                    store,
                    logged_out: 0,
                    spoke: 0,
                    wrong: Vec::new(),
                };
                for round in 0..rounds {
                    let _turn = at_once.acquire().await.expect("a turn");
                    let became = page.load(&site, random.fork(round)).await;
                    count.logged_out += u64::from(became.logged_out);
                    count.spoke += became.spoke;
                    count.wrong.extend(became.wrong);
                }
                count
            });
        }
        sites.push((store, site));
    }

    let counts = games.join_all().await;
    let mut wrong = Vec::new();
    let mut all = 0;
    for (store, site) in sites {
        // One session a browser, and none beside it.
        let expected = pages.len() * store.rounds(most) as usize;
        all += expected;
        let sessions = site.sessions();
        if sessions != expected {
            wrong.push(format!("{store:?}: {sessions} sessions, not {expected}"));
        }
    }
    let mut table = String::new();
    let (mut logged_out, mut spoke) = (0, 0);
    for mut count in counts {
        let _ = writeln!(
            table,
            "{:4} logged out, {:4} answers spoke of the cookie: {:?}, {:?}",
            count.logged_out, count.spoke, count.store, count.page
        );
        logged_out += count.logged_out;
        spoke += count.spoke;
        wrong.append(&mut count.wrong);
    }
    let _ = writeln!(table, "{logged_out:4} logged out of {all}");
    println!("{table}");
    assert_eq!((logged_out, spoke), (0, 0), "see the table");
    assert_eq!(wrong, [""; 0]);
}
