//! Whether a server is gone that does not answer.

use std::{sync::Arc, time::Duration};

use tokio::{
    runtime::Handle,
    time::{Instant, timeout_at},
};

use super::{commands::Raw, errors::is_answer, heard::SilenceCheck, link::Link, live::Connected};
use crate::store::redis::errors::timed_out;

/// A server counts as gone when an operation has timed out and no answer has come to anybody since that was sent. It has at
/// least this long for one.
pub(super) const SILENCE: Duration = Duration::from_millis(250);
/// If this process itself looks later than that, the answer may lie unread in its socket: it looks once more.
const GRACE: Duration = Duration::from_millis(50);

impl Link {
    /// For an operation that was not answered: `asked` is when it was sent. If the server answers nobody up to `until`, it is
    /// gone. A `PING` is sent behind that operation, so that there is something to answer.
    pub(super) fn listen(self: &Arc<Self>, connected: &Connected, asked: Instant, until: Instant) {
        let number = connected.number;
        if self.heard.since(asked) {
            return;
        }
        if Instant::now() >= until && until.elapsed() <= GRACE {
            return self.give_up(number, Duration::ZERO, timed_out());
        }
        let Ok(runtime) = Handle::try_current() else {
            return;
        };
        let mut check = self.silence_checks.lock();
        if let Some(check) = &*check {
            let is_under_way = check.number == number && !check.task.is_finished();
            if is_under_way && check.until <= until {
                return;
            }
            check.task.abort();
        }
        let (link, client, lost) = (
            Arc::downgrade(self),
            connected.client.clone(),
            connected.lost.clone(),
        );
        let listen = async move {
            let mut until = until.max(Instant::now() + GRACE);
            loop {
                let answer = tokio::select! {
                    answer = timeout_at(until, Raw::ping().to(&client)) => answer,
                    _ = lost.acquire() => return,
                };
                let Some(link) = link.upgrade() else { return };
                match answer {
                    Ok(Err(error)) if !is_answer(&error) => {}
                    Ok(_) => link.heard.now(),
                    Err(_) if link.heard.since(asked) => {}
                    Err(_) if until.elapsed() > GRACE => {
                        until = Instant::now() + GRACE;
                        continue;
                    }
                    Err(_) => link.give_up(number, Duration::ZERO, timed_out()),
                }
                return;
            }
        };
        *check = Some(SilenceCheck {
            number,
            until,
            task: runtime.spawn(listen).abort_handle(),
        });
    }
}
