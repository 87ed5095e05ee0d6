//! [`Heartbeat`]: finds out whether the server still knows of which keys it has to tell.
//!
//! A server forgets which keys it has to tell of when it is emptied, or when another of its databases is (`FLUSHDB`). It
//! says so, but the client, fred, drops that message. So two keys of our own take turns: a beat writes one of them over the
//! link, and then reads it over the tracking connection. It was read there two beats ago, so the server has to tell of the
//! write. If it does not, it has forgotten. The other key was read one beat ago, so that what happens during this beat shows
//! at the next one.

use std::{mem, str, sync::Arc, time::Duration};

use fred::{clients::Client, types::Key};
use tokio::time::Instant;

use super::{commands::Raw, errors::failed, link::Link};
use crate::{error::Error, id::SessionId, store::redis::executor::Reply};

/// A connection that has not answered for so long is dead.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// What one beat finds.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// All is as it should be.
    Well,
    /// The two have not been read yet since it began.
    TooEarly,
    /// The server does not know any more what it has to tell of, or has other data.
    Forgotten,
    /// The two connections lead to two servers.
    Elsewhere,
}

/// Two keys of our own, which take turns.
pub(super) struct Heartbeat {
    /// The one whose turn it is.
    now: Half,
    other: Half,
    /// How many beats there were since it [began](Self::begin_anew); each writes its number.
    beats: u64,
}

struct Half {
    key: Key,
    /// Whether the server has told of it since it was last read.
    told: bool,
}

/// What is asked in one beat.
pub(super) struct Beat {
    now: Key,
    other: Key,
    number: u64,
}

impl Heartbeat {
    /// On a cluster in that slot, since each master tells of its own keys.
    pub(super) fn new(prefix: &str, slot: Option<u16>) -> Self {
        // No session's, but as hard to guess.
        let name = SessionId::random();
        let mut number = 0_u64;
        let mut half = || loop {
            let key = Key::from(format!("{prefix}@near:{name}:{number}"));
            number += 1;
            if slot.is_none_or(|slot| key.cluster_hash() == slot) {
                return Half { key, told: false };
            }
        };
        Self {
            now: half(),
            other: half(),
            beats: 0,
        }
    }

    /// The server has told of a key that is no session.
    pub(super) fn hear(&mut self, key: &Key) {
        for half in [&mut self.now, &mut self.other] {
            half.told |= half.key == *key;
        }
    }

    pub(super) fn begin_anew(&mut self) {
        self.beats = 0;
    }

    /// What is to be asked now.
    pub(super) fn beat(&self) -> Beat {
        Beat {
            now: self.now.key.clone(),
            other: self.other.key.clone(),
            number: self.beats,
        }
    }

    /// What it shows: once all is heard that the server said before it answered.
    pub(super) fn found(&mut self, answer: Answer) -> Found {
        let (number, told) = (self.beats, mem::take(&mut self.now.told));
        mem::swap(&mut self.now, &mut self.other);
        self.beats += 1;
        if answer.here != Some(number) {
            return Found::Elsewhere;
        }
        // The one that was written last, and may not have been by us.
        let other_is_there = number == 0 || answer.other == Some(number - 1);
        if !other_is_there || (number >= 2 && !told) {
            return Found::Forgotten;
        }
        if number == 0 {
            Found::TooEarly
        } else {
            Found::Well
        }
    }
}

/// What the server answers in one beat.
pub(super) struct Answer {
    /// What the other key holds, over the connection that writes.
    other: Option<u64>,
    /// What the key that was just written holds, over the connection that tracks.
    here: Option<u64>,
}

impl Beat {
    /// Asks both connections.
    pub(super) async fn ask(self, link: Arc<Link>, tracking: &Client) -> Result<Answer, Error> {
        let deadline = Instant::now() + SILENCE;
        let mut exchange = link.begin_now(false, deadline).await?;
        let other = exchange.ask(Raw::get(&self.other)).await.map_err(failed)?;
        drop(exchange);
        let mut exchange = link.begin_now(false, deadline).await?;
        let set = Raw::set(&self.now, self.number);
        exchange.ask(set).await.map_err(failed)?;
        drop(exchange);
        let here = Raw::get(&self.now).to(tracking).await.map_err(failed)?;
        let number = |reply: &Reply| match reply {
            Reply::Bytes(text) => str::from_utf8(text).ok()?.parse().ok(),
            _ => None,
        };
        Ok(Answer {
            other: number(&other),
            here: number(&here),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A beat after which each key holds what it should; `told`: the server has told of the one written.
    fn beat(heartbeat: &mut Heartbeat, told: bool) -> Found {
        let Beat { now, number, .. } = heartbeat.beat();
        if told {
            heartbeat.hear(&now);
        }
        heartbeat.found(Answer {
            other: number.checked_sub(1),
            here: Some(number),
        })
    }

    #[test]
    fn the_server_has_to_tell_of_a_key_that_was_read_before() {
        let mut heartbeat = Heartbeat::new("session:", None);
        assert_eq!(beat(&mut heartbeat, false), Found::TooEarly);
        assert_eq!(beat(&mut heartbeat, false), Found::Well);
        for _ in 0..4 {
            assert_eq!(beat(&mut heartbeat, true), Found::Well);
        }
        assert_eq!(beat(&mut heartbeat, false), Found::Forgotten);
        heartbeat.begin_anew();
        assert_eq!(beat(&mut heartbeat, false), Found::TooEarly);
    }

    #[test]
    fn both_keys_hold_what_was_written_last() {
        let answer = |other, here| Answer { other, here };
        let mut heartbeat = Heartbeat::new("session:", None);
        assert_eq!(heartbeat.found(answer(None, Some(0))), Found::TooEarly);
        assert_eq!(heartbeat.found(answer(None, Some(1))), Found::Forgotten);
        heartbeat.begin_anew();
        assert_eq!(heartbeat.found(answer(None, None)), Found::Elsewhere);
        heartbeat.begin_anew();
        // What the last life of the connection has written is not in the way.
        assert_eq!(heartbeat.found(answer(Some(7), Some(0))), Found::TooEarly);
        assert_eq!(heartbeat.found(answer(Some(0), Some(7))), Found::Elsewhere);
    }

    #[test]
    fn on_a_cluster_both_are_in_the_slot() {
        for slot in [0, 12_345] {
            let heartbeat = Heartbeat::new("session:", Some(slot));
            assert_ne!(heartbeat.now.key, heartbeat.other.key);
            for half in [&heartbeat.now, &heartbeat.other] {
                assert_eq!(half.key.cluster_hash(), slot);
            }
        }
    }
}
