use axum::Router;
use axum::extract::{Path, State};
use axum::routing::get;
use fred::clients::Client;
use fred::interfaces::{ClientLike, HashesInterface, KeysInterface};

#[tokio::main]
async fn main() {
    let client = Client::default();
    client.init().await.unwrap();
    let app = Router::new().route("/{id}", get(visits)).with_state(client);
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    axum::serve(listener, app).await.unwrap();
}

async fn visits(State(redis): State<Client>, Path(key): Path<String>) -> String {
    let pipeline = redis.pipeline();
    let _: () = pipeline.hincrby(&key, "visits", 1).await.unwrap();
    let _: () = pipeline.expire(&key, 900, None).await.unwrap();
    let (visits, _): (i64, bool) = pipeline.all().await.unwrap();
    visits.to_string()
}
