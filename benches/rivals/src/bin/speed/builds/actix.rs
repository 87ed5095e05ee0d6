use actix_session::storage::RedisSessionStore;
use actix_session::{Session, SessionMiddleware};
use actix_web::cookie::Key;
use actix_web::{App, HttpServer, web};

#[actix_web::main]
async fn main() -> std::io::Result<()> {
    let store = RedisSessionStore::new("redis://127.0.0.1").await.unwrap();
    let key = Key::generate();
    let app = move || {
        let layer = SessionMiddleware::new(store.clone(), key.clone());
        App::new().wrap(layer).route("/", web::get().to(visits))
    };
    HttpServer::new(app).bind("127.0.0.1:0")?.run().await
}

async fn visits(session: Session) -> String {
    let visits = session.get::<i64>("visits").unwrap().unwrap_or(0) + 1;
    session.insert("visits", visits).unwrap();
    visits.to_string()
}
