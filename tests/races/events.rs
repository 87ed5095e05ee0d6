//! The events that the layer logs on this thread.

#![allow(dead_code, unreachable_pub)]

use std::io;
use std::sync::{Arc, Mutex};

use tracing::subscriber::DefaultGuard;

/// Collects events from now on until it is dropped. Tests run on one thread each.
pub struct Events {
    text: Arc<Mutex<Vec<u8>>>,
    _guard: DefaultGuard,
}

impl Events {
    /// Starts to listen.
    pub fn listen() -> Self {
        let text = Arc::new(Mutex::new(Vec::new()));
        let sink = text.clone();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .with_max_level(tracing::Level::DEBUG)
            .with_writer(move || Sink(sink.clone()))
            .finish();
        let _guard = tracing::subscriber::set_default(subscriber);
        Self { text, _guard }
    }

    /// The layer's events of at least debug level, such as `["created", "unsaved"]`.
    pub fn names(&self) -> Vec<String> {
        let text = self.text.lock().unwrap();
        let text = String::from_utf8_lossy(&text);
        let ours = text
            .lines()
            .filter(|line| line.contains(" tower_redis_session: "));
        ours.filter_map(|line| {
            let (_, rest) = line.split_once("event=\"")?;
            Some(rest.split('"').next()?.to_owned())
        })
        .collect()
    }
}

struct Sink(Arc<Mutex<Vec<u8>>>);

impl io::Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
