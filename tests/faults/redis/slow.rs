//! An answer that comes later than somebody waits for it: that is no end of the connection that all others share. A server
//! that says nothing at all is found out all the same, and as soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use harness::command_wire::{Fate, Wire};
use harness::through::within;
use harness::{Gate, HANG, Reply};
use tokio::task::yield_now;
use tokio::time::sleep;
use tower_redis_session::store::{Expiry, SessionStore};
use tower_redis_session::{ErrorKind, SessionId};

use crate::redis::front::{Front, ms, secs};
use crate::redis::recovery::connection_of_ours;
use crate::redis::scene::{
    Admin, MARGIN, at_most, eventually, scenarios, server, store, until_back,
};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_answer_fails_those_who_had_no_time_for_it() {
    scenarios![
        slow_answers,
        an_answer_to_somebody_else,
        silence_after_a_single_question
    ];
}

const SHORT: [Duration; 4] = [ms(50), ms(20), ms(10), ms(5)];

/// The server stands still for a tenth of a second.
const SLOW: [&[&str]; 2] = [
    &["DEBUG", "SLEEP", "0.1"],
    &[
        "EVAL",
        "local function now() local t = redis.call('TIME') return t[1] * 1000000 + t[2] end \
         local began = now() while now() < began + 100000 do end return 'done'",
        "0",
    ],
];

async fn slow_answers() {
    let server = server(&["--enable-debug-command", "yes"]).await;
    let all = store(&server.url()).await;
    let ours = connection_of_ours(&mut server.client());
    let patient = Front::on(&all, |b| b.store_timeout(HANG));
    let browser = patient.logged_in("set user ada").await;
    for timeout in SHORT {
        for slow in SLOW {
            let hurried = browser.at(&Front::on(&all, |b| b.store_timeout(timeout)));
            let mut other = server.client();
            let mut failed = 0;
            // Until somebody met it: a busy machine may let it pass before.
            while failed == 0 {
                let mut waits = Vec::new();
                other = {
                    let mut stands = tokio::task::spawn_blocking(move || {
                        let answer = other.cmd(slow);
                        assert!(!matches!(answer, Reply::Error(_)), "{answer:?}");
                        other
                    });
                    loop {
                        tokio::select! {
                            other = &mut stands => break other.unwrap(),
                            told = hurried.ask("") => {
                                if told.status != 200 {
                                    assert_eq!(told.unavailable(), ErrorKind::Timeout);
                                    failed += 1;
                                    waits.push(browser.copy().at(&patient).start(""));
                                }
                            }
                        }
                    }
                };
                for request in waits {
                    let told = request.await.unwrap();
                    assert_eq!(told.fine().fields["user"], "ada", "who had time for it");
                }
            }
            until_back(&hurried).await;
            let now = connection_of_ours(&mut server.client());
            assert_eq!(now, ours, "{timeout:?}, {slow:?}: another connection");
        }
    }
}

/// Who waits for nothing meanwhile hears that the server speaks.
async fn an_answer_to_somebody_else() {
    let server = server(&[]).await;
    let wire = Wire::to(server.addr()).await;
    let all = store(&wire.url()).await;
    let patient = Front::on(&all, |b| b.store_timeout(HANG));
    let browsers = [(); 3].map(|()| patient.logged_in("set user ada"));
    let [first, hurried, last] = browsers;
    let (first, hurried, last) = tokio::join!(first, hurried, last);
    let gates = [Gate::new(), Gate::new()];
    let mut held = gates.clone().into_iter();
    wire.decide(move |_| match held.next() {
        Some(gate) => Fate::HoldAnswer(gate),
        None => Fate::Pass,
    });
    let before = server.calls("hgetall");
    let first = first.start("");
    gates[0].arrived().await;
    let hurried = hurried.at(&Front::on(&all, |b| b.store_timeout(secs(2))));
    let hurried = hurried.start("");
    eventually("both are asked", || server.calls("hgetall") == before + 2).await;
    let last = last.start("");
    // After the second has asked, the first is answered.
    gates[0].open();
    first.await.unwrap().fine();
    assert_eq!(hurried.await.unwrap().unavailable(), ErrorKind::Timeout);
    gates[1].open();
    last.await.unwrap().fine();
    assert_eq!(wire.opened(), 1);
}

/// The process itself stands still, with the answer in its socket: that is no silence of the server's.
#[test]
fn a_process_that_stood_still_keeps_its_connection() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(async {
        let server = server(&[]).await;
        let store = store(&server.url()).await;
        let ours = connection_of_ours(&mut server.client());
        let load = |time| {
            let context = within(time, Expiry::new(secs(900)));
            store.load(SessionId::random().key(), true, context)
        };
        for _ in 0..10 {
            let before = server.calls("hgetall");
            let (asked, blocks) = tokio::join!(load(ms(50)), async {
                while server.calls("hgetall") == before {
                    yield_now().await;
                }
                std::thread::sleep(ms(400));
            });
            let () = blocks;
            if let Err(error) = asked {
                assert_eq!(error.kind(), ErrorKind::Timeout);
            }
            load(HANG).await.expect("a server that answers");
        }
        let now = connection_of_ours(&mut server.client());
        assert_eq!(now, ours, "another connection");
    });
}

/// Nobody else asks, so that nobody else can find out. The question may be the second that an operation asks, behind one
/// that was answered: what a script is called that the server does not know.
async fn silence_after_a_single_question() {
    for timeout in [&SHORT[..], &[ms(100), ms(400)]].concat() {
        for (lose, second) in [
            (Fate::Lose, false),
            (Fate::LoseAnswer, false),
            (Fate::Lose, true),
        ] {
            let server = server(&[]).await;
            let wire = Wire::to(server.addr()).await;
            let front = Front::on(&store(&wire.url()).await, |b| b.store_timeout(timeout));
            let browser = front.logged_in("set user ada").await;
            let fate = lose.clone();
            if second {
                server.must(&["SCRIPT", "FLUSH"]);
                // That there is no such session is asked by a script.
                browser.hold(&SessionId::random().to_string());
            }
            let asked = Arc::new(AtomicBool::new(false));
            let is_asked = asked.clone();
            wire.decide(move |sent| match second && !sent.is("EVAL") {
                true => Fate::Pass,
                false => {
                    is_asked.store(true, Ordering::SeqCst);
                    fate.clone()
                }
            });
            let mut began = Instant::now();
            assert_eq!(browser.ask("").await.unavailable(), ErrorKind::Timeout);
            // On a busy machine the time may be over before the question is asked.
            while !asked.load(Ordering::SeqCst) {
                began = Instant::now();
                browser.ask("").await.unavailable();
            }
            while wire.opened() == 1 {
                assert!(
                    began.elapsed() < secs(5),
                    "{timeout:?}: not known to be gone"
                );
                sleep(ms(1)).await;
            }
            at_most(
                timeout.max(ms(250)) + MARGIN,
                began.elapsed(),
                "finding out",
            );
            wire.heal();
            until_back(&browser).await;
        }
    }
}
