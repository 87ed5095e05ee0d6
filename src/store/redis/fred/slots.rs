//! [`Slots`]: which master has which slots, as a node of the cluster says it.

#[cfg(feature = "rustls")]
use std::net::IpAddr;
use std::str;

use bytes::Bytes;
use fred::types::config::Server;

use crate::{
    error::Error,
    store::redis::{
        errors::{refused, unexpected_reply},
        executor::Reply,
    },
};

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Slots {
    /// In order, without overlap.
    ranges: Vec<Range>,
    /// They hold the same, but are only asked where no master is there.
    replicas: Vec<Server>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
struct Range {
    first: u16,
    last: u16,
    master: Server,
}

impl Slots {
    /// Who has a slot, if anybody has.
    pub(super) fn master(&self, slot: u16) -> Option<&Server> {
        let at = self.ranges.partition_point(|range| range.last < slot);
        let range = self.ranges.get(at).filter(|range| range.first <= slot)?;
        Some(&range.master)
    }

    /// The masters that have slots, each once.
    pub(super) fn masters(&self) -> Vec<&Server> {
        let mut masters: Vec<_> = self.ranges.iter().map(|range| &range.master).collect();
        masters.sort();
        masters.dedup();
        masters
    }

    /// Everybody that was named.
    pub(super) fn all(&self) -> Vec<Server> {
        let masters = self.masters().into_iter();
        masters.chain(&self.replicas).cloned().collect()
    }

    /// `[[first, last, [host, port, id, more], [host, port, id, more]…]…]`: the first node is the master, the others are
    /// replicas.
    fn read(answer: Reply, asked: &Server) -> Option<Self> {
        let mut slots = Self::default();
        for entry in answer.list()? {
            let mut entry = entry.list()?.into_iter();
            let number = |reply: Option<Reply>| u16::try_from(reply?.number()?).ok();
            let (first, last) = (number(entry.next())?, number(entry.next())?);
            let mut nodes = entry.map(|node| {
                let mut node = node.list()?.into_iter();
                let host = match node.next()? {
                    Reply::Bytes(host) => host,
                    _ => Bytes::new(),
                };
                let host = str::from_utf8(&host).ok()?;
                let server = server(host, number(node.next())?, &asked.host);
                // Between them is the node's id.
                Some(with_name(server, node.nth(1)))
            });
            let master = nodes.next()??;
            slots.ranges.push(Range {
                first,
                last,
                master,
            });
            slots.replicas.extend(nodes.flatten());
        }
        slots.ranges.sort_by_key(|range| range.first);
        slots.replicas.sort();
        slots.replicas.dedup();
        Some(slots)
    }
}

/// What a node answers to `CLUSTER SLOTS`.
pub(super) fn slots(answer: Reply, asked: &Server) -> Result<Slots, Error> {
    match Slots::read(answer, asked) {
        Some(slots) if !slots.ranges.is_empty() => Ok(slots),
        Some(_) => Err(refused("CLUSTERDOWN no node has any slots")),
        None => Err(unexpected_reply()),
    }
}

/// A node that does not know its own name, or shall not tell it, has the one that it was asked under.
pub(super) fn server(host: &str, port: u16, asked: &str) -> Server {
    let known = !matches!(host, "" | "?");
    Server::new(if known { host } else { asked }, port)
}

/// A node is reached at the address that it prefers, but its certificate mostly has its name: that is checked where it
/// announces one (`cluster-announce-hostname`). `more` are names and texts in turn.
#[cfg(feature = "rustls")]
fn with_name(mut server: Server, more: Option<Reply>) -> Server {
    if server.host.parse::<IpAddr>().is_err() {
        return server;
    }
    let more = more.and_then(Reply::list).unwrap_or_default();
    let is_hostname = |name: &Reply| *name == Reply::Bytes(Bytes::from_static(b"hostname"));
    let text = more.chunks_exact(2).find_map(|pair| match pair {
        [name, Reply::Bytes(text)] if is_hostname(name) => str::from_utf8(text).ok(),
        _ => None,
    });
    server.tls_server_name = text.filter(|text| !text.is_empty()).map(Into::into);
    server
}

#[cfg(not(feature = "rustls"))]
fn with_name(server: Server, _more: Option<Reply>) -> Server {
    server
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(text: &'static str) -> Reply {
        Reply::Bytes(Bytes::from_static(text.as_bytes()))
    }

    fn node(host: &'static str, port: i64) -> Reply {
        let more = Reply::List(Vec::new());
        Reply::List(vec![text(host), Reply::Number(port), text("id"), more])
    }

    fn entry(first: i64, last: i64, nodes: &[Reply]) -> Reply {
        let slots = [Reply::Number(first), Reply::Number(last)];
        Reply::List([slots.as_slice(), nodes].concat())
    }

    fn read(entries: &[Reply]) -> Option<Slots> {
        Slots::read(Reply::List(entries.to_vec()), &Server::new("seed", 1))
    }

    #[test]
    fn each_slot_has_the_master_of_its_range() {
        let slots = read(&[
            entry(101, 101, &[node("b", 2)]),
            entry(0, 100, &[node("a", 1), node("c", 3), node("d", 4)]),
            entry(200, 16383, &[node("a", 1), node("c", 3)]),
        ]);
        let slots = slots.expect("slots");
        let (a, b) = (Server::new("a", 1), Server::new("b", 2));
        for (slot, master) in [
            (0, Some(&a)),
            (100, Some(&a)),
            (101, Some(&b)),
            (102, None),
            (199, None),
            (200, Some(&a)),
            (16383, Some(&a)),
        ] {
            assert_eq!(slots.master(slot), master, "{slot}");
        }
        assert_eq!(slots.masters(), [&a, &b]);
        let replicas = [Server::new("c", 3), Server::new("d", 4)];
        assert_eq!(slots.all(), [&[a, b], &replicas[..]].concat());
        assert_eq!(Slots::default().master(0), None);
    }

    #[test]
    fn a_node_without_a_name_has_the_one_that_it_was_asked_under() {
        let nodes = [node("", 7), node("?", 8)];
        let null = Reply::List(vec![Reply::Nothing, Reply::Number(9)]);
        let slots = read(&[entry(0, 1, &nodes), entry(2, 3, &[null])]).expect("slots");
        let seed = |port| Server::new("seed", port);
        assert_eq!(slots.all(), [seed(7), seed(9), seed(8)]);
    }

    #[cfg(feature = "rustls")]
    #[test]
    fn the_certificate_of_a_node_at_an_address_is_checked_for_the_name_that_it_announces() {
        let named = |host, more: &[&'static str]| {
            let more = Reply::List(more.iter().copied().map(text).collect());
            let node = vec![text(host), Reply::Number(1), text("id"), more];
            let slots = read(&[entry(0, 1, &[Reply::List(node)])]).expect("slots");
            let name = &slots.masters()[0].tls_server_name;
            name.as_ref().map(ToString::to_string)
        };
        let hostname = ["shard-id", "x", "hostname", "a.example"];
        let a = Some("a.example".to_owned());
        assert_eq!(named("10.0.0.1", &hostname), a);
        assert_eq!(named("fd00::1", &hostname), a);
        assert_eq!(named("10.0.0.1", &["hostname", ""]), None);
        assert_eq!(named("10.0.0.1", &["hostname"]), None);
        assert_eq!(named("10.0.0.1", &["ip", "hostname"]), None);
        // A name that is preferred is the one to check.
        assert_eq!(named("b.example", &hostname), None);
        assert_eq!(named("?", &hostname), None);
    }

    #[test]
    fn what_is_not_understood_is_not_guessed() {
        for broken in [
            text("OK"),
            entry(0, 100, &[]),
            entry(0, 70_000, &[node("a", 1)]),
            entry(-1, 5, &[node("a", 1)]),
            entry(0, 5, &[node("a", 70_000)]),
            entry(0, 5, &[text("a")]),
        ] {
            let shown = format!("{broken:?}");
            assert_eq!(read(&[broken]), None, "{shown}");
        }
    }
}
