//! The same over Upstash's REST API.

use harness::Gate;
use harness::upstash::Fate;
use tokio::task::JoinSet;

use super::each;
use crate::redis::scene::{MARGIN, Over, at_most, blocking, scenarios, server};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_operation_ends_in_time() {
    scenarios![
        a_stopped_server,
        requests_that_are_held,
        answers_that_are_held,
        requests_that_are_lost,
        answers_that_are_lost,
    ];
}

async fn a_stopped_server() {
    let server = server(&[]).await;
    let way = Over::Rest.to(&server).await;
    let ready = each(way.url()).await;
    blocking(|| server.stop());
    each_ends("stopped", ready).await;
}

async fn each_meets(fault: &'static str, fate: Fate) {
    let server = server(&[]).await;
    let way = Over::Rest.to(&server).await;
    let ready = each(way.url()).await;
    way.api().decide(move |_| fate.clone());
    each_ends(fault, ready).await;
}

async fn each_ends(fault: &'static str, ready: Vec<super::Ready>) {
    let mut running = JoinSet::new();
    for mut ready in ready {
        running.spawn(async move {
            let (took, _) = ready.go().await;
            let what = format!("{fault}: {:?} with {:?}", ready.operation, ready.timeout);
            at_most(ready.timeout + MARGIN, took, what);
        });
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            std::panic::resume_unwind(error.into_panic());
        }
    }
}

async fn requests_that_are_held() {
    each_meets("requests held", Fate::Hold(Gate::new())).await;
}

async fn answers_that_are_held() {
    each_meets("answers held", Fate::HoldAnswer(Gate::new())).await;
}

async fn requests_that_are_lost() {
    each_meets("requests lost", Fate::Lose).await;
}

async fn answers_that_are_lost() {
    each_meets("answers lost", Fate::LoseAnswer).await;
}
