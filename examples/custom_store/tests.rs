//! That the store keeps every rule, and what its files outlive.

use std::{fs, path::PathBuf, time::Duration};

use bytes::Bytes;
use tokio::time::Instant;
use tower_redis_session::store::{Change, Changes, Context, Expiry, SessionStore, Written};
use tower_redis_session::{ErrorKind, SessionId, testing::check_store};

use super::FileStore;

/// A folder of a test's own, also where the tests run twice at the same time. It goes with it.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Self {
        let name = format!("custom-store-{}", SessionId::random());
        Self(std::env::temp_dir().join(name))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn it_keeps_every_rule() {
    let folder = Folder::new();
    check_store(|| async { FileStore::open(folder.0.clone()).expect("a folder") }).await;
}

#[tokio::test]
async fn a_file_outlives_a_restart_and_a_crash_and_a_bad_one_is_an_error() {
    let of_its_own = Folder::new();
    let folder = &of_its_own.0;
    let context = || {
        let expiry = Expiry::new(Duration::from_secs(60));
        Context::new(expiry, Instant::now() + Duration::from_secs(10))
    };
    let key = SessionId::random().key();
    let path = folder.join(key.to_string());
    let some: Changes = [(Bytes::from("a"), Change::Set(Bytes::from("1")))]
        .into_iter()
        .collect();
    let store = FileStore::open(folder).expect("a folder");
    let created = store.create(key, &some, context()).await;
    assert!(matches!(created, Ok(Written::Kept { .. })), "{created:?}");
    drop(store);

    let store = FileStore::open(folder).expect("a folder");
    // What a write leaves that a crash has cut off.
    let whole = fs::read(&path).expect("a file");
    fs::write(folder.join(format!("{key}.new")), &whole[..9]).expect("half a file");
    let found = store.load(key, true, context()).await.expect("an answer");
    assert_eq!(found.found().expect("a session").fields[&b"a"[..]], "1");

    let huge = String::from_utf8(whole.clone()).expect("text");
    let huge = huge.replacen("\"secs\":", "\"secs\":99999999999999999999", 1);
    for bad in [
        &b""[..],
        &whole[..9],
        b"[]",
        b"null",
        b"\xff\0",
        huge.as_bytes(),
    ] {
        fs::write(&path, bad).expect("a bad file");
        let found = store.load(key, true, context()).await;
        let error = found.expect_err("no session of ours");
        assert_eq!(error.kind(), ErrorKind::Unavailable);
        for written in [
            store.create(key, &some, context()).await,
            store.update(key, &some, context()).await,
            store
                .renew(SessionId::random().key(), key, &some, context())
                .await,
            store
                .renew(key, SessionId::random().key(), &some, context())
                .await,
        ] {
            assert!(matches!(written, Err(_) | Ok(Written::Gone)), "{written:?}");
        }
        assert_eq!(fs::read(&path).expect("the file"), bad, "left alone");
    }
    // Whoever logs out is logged out.
    store.delete(key, context()).await.expect("a deletion");
    assert!(!path.exists());
}
