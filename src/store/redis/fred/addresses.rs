//! Which of several addresses answers: the client would try one after the other, and wait for a dead one as long as the
//! whole attempt may take.

use std::{net::SocketAddr, time::Duration};

use fred::types::config::{Config, Server, ServerConfig};
use tokio::{
    net::{TcpStream, lookup_host},
    task::JoinSet,
    time::sleep,
};

use super::progress::{Progress, Step, bare};

/// The next address is tried as well when one has not answered for so long ([RFC 8305], section 5, "Connection Attempt
/// Delay").
///
/// [RFC 8305]: https://www.rfc-editor.org/rfc/rfc8305
const ATTEMPT_DELAY: Duration = Duration::from_millis(250);

/// Those of a server's addresses that have not been tried, where it has several.
pub(super) struct Addresses(Vec<SocketAddr>);

impl Addresses {
    /// `attempt`: its number, so that each begins with another address.
    pub(super) async fn of(config: &Config, attempt: usize) -> Self {
        let ServerConfig::Centralized { server } = &config.server else {
            return Self(Vec::new());
        };
        let mut all = alternating(addresses(server).await);
        // There is nothing to choose from.
        if all.len() < 2 {
            return Self(Vec::new());
        }
        let first = attempt % all.len();
        all.rotate_left(first);
        Self(all)
    }

    pub(super) fn are_left(&self) -> bool {
        !self.0.is_empty()
    }

    /// The same configuration with the next address that answers, or with the Sentinel that answers first before the
    /// others. Where none of them answers, the client finds out why.
    pub(super) async fn next(&mut self, mut config: Config, progress: &Progress) -> Config {
        match &mut config.server {
            ServerConfig::Centralized { server } if self.are_left() => {
                progress.has_come_to(Step::Connection);
                let (first, refused) = first_to_answer(&self.0).await;
                if let Some(address) = &first {
                    at_address(server, address);
                }
                let is_over =
                    |it: &SocketAddr| first.is_none() || first == Some(*it) || refused.contains(it);
                self.0.retain(|it| !is_over(it));
            }
            ServerConfig::Sentinel { hosts, .. } if hosts.len() > 1 => {
                let mut all = Vec::new();
                for (number, host) in hosts.iter().enumerate() {
                    let found = addresses(host).await.into_iter();
                    all.extend(found.map(|address| (number, address)));
                }
                progress.has_come_to(Step::Connection);
                let only: Vec<_> = all.iter().map(|(_, address)| *address).collect();
                let (first, _) = first_to_answer(&only).await;
                if let Some((number, _)) = all.iter().find(|(_, it)| Some(*it) == first) {
                    hosts.swap(0, *number);
                }
            }
            _ => progress.has_come_to(Step::Connection),
        }
        config
    }
}

/// None where the name cannot be found.
async fn addresses(server: &Server) -> Vec<SocketAddr> {
    let found = lookup_host((bare(&server.host), server.port)).await;
    found.map_or_else(|_| Vec::new(), Iterator::collect)
}

/// One of each family after the other, beginning with that of the first ([RFC 8305], section 4).
///
/// [RFC 8305]: https://www.rfc-editor.org/rfc/rfc8305#section-4
fn alternating(all: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let is_first = all.first().map(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        (all.into_iter()).partition(|it| Some(it.is_ipv6()) == is_first);
    let (mut first, mut second) = (first.into_iter(), second.into_iter());
    let pairs = std::iter::from_fn(|| {
        let pair = [first.next(), second.next()];
        pair.iter().any(Option::is_some).then_some(pair)
    });
    pairs.flatten().flatten().collect()
}

/// Connects to each of them, one some time after the other, until one answers. Which have refused until then.
async fn first_to_answer(all: &[SocketAddr]) -> (Option<SocketAddr>, Vec<SocketAddr>) {
    let mut left = all.iter().copied();
    let (mut attempts, mut refused) = (JoinSet::new(), Vec::new());
    loop {
        let next = left.next();
        let is_last = next.is_none();
        if let Some(address) = next {
            attempts.spawn(async move { (TcpStream::connect(address).await.is_ok(), address) });
        }
        tokio::select! {
            answer = attempts.join_next() => match answer {
                Some(Ok((true, address))) => return (Some(address), refused),
                // The next one is tried at once.
                Some(Ok((false, address))) => refused.push(address),
                Some(Err(_)) => {}
                None => return (None, refused),
            },
            () = sleep(ATTEMPT_DELAY), if !is_last => {}
        }
    }
}

/// A certificate is still checked for the name.
fn at_address(server: &mut Server, address: &SocketAddr) {
    #[cfg(feature = "rustls")]
    if server.tls_server_name.is_none() {
        server.tls_server_name = Some(server.host.clone());
    }
    server.host = match address {
        SocketAddr::V4(address) => address.ip().to_string(),
        SocketAddr::V6(address) => format!("[{}]", address.ip()),
    }
    .into();
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, TcpListener};

    use tokio::{net::TcpSocket, time::Instant};

    use super::*;

    /// A port whose connections are never accepted, with those that keep it so.
    async fn deaf() -> (SocketAddr, Vec<TcpStream>, tokio::net::TcpListener) {
        let socket = TcpSocket::new_v4().expect("a socket");
        socket
            .bind((Ipv4Addr::LOCALHOST, 0).into())
            .expect("a port");
        let listener = socket.listen(1).expect("a listener");
        let address = listener.local_addr().expect("a port");
        let mut queued = Vec::new();
        // Until its queue is full.
        while let Ok(Ok(stream)) =
            tokio::time::timeout(Duration::from_millis(200), TcpStream::connect(address)).await
        {
            queued.push(stream);
        }
        (address, queued, listener)
    }

    fn listening() -> (SocketAddr, TcpListener) {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a port");
        (listener.local_addr().expect("a port"), listener)
    }

    fn closed() -> SocketAddr {
        listening().0
    }

    #[tokio::test]
    async fn the_next_address_is_tried_while_one_is_silent() {
        let (deaf, _queued, _kept) = deaf().await;
        let (live, _listener) = listening();
        let began = Instant::now();
        assert_eq!(first_to_answer(&[deaf, live]).await, (Some(live), vec![]));
        assert!(began.elapsed() >= ATTEMPT_DELAY);
        assert!(began.elapsed() < ATTEMPT_DELAY * 4);
    }

    #[tokio::test]
    async fn the_next_address_is_tried_at_once_where_one_refuses() {
        let (live, _listener) = listening();
        let refusing = [closed(), closed(), live];
        let began = Instant::now();
        let (first, refused) = first_to_answer(&refusing).await;
        assert_eq!((first, &*refused), (Some(live), &refusing[..2]));
        assert!(began.elapsed() < ATTEMPT_DELAY);
        assert_eq!(first_to_answer(&refusing[..2]).await.0, None);
        assert_eq!(first_to_answer(&[]).await.0, None);
    }

    #[tokio::test]
    async fn the_sentinel_that_answers_comes_first() {
        let (deaf, _queued, _kept) = deaf().await;
        let (live, _listener) = listening();
        let server = |address: SocketAddr| Server::new(address.ip().to_string(), address.port());
        let config = Config {
            server: ServerConfig::Sentinel {
                hosts: vec![server(deaf), server(closed()), server(live)],
                service_name: "main".to_owned(),
                username: None,
                password: None,
            },
            ..Config::default()
        };
        let mut addresses = Addresses::of(&config, 0).await;
        let ServerConfig::Sentinel { hosts, .. } =
            addresses.next(config, &Progress::default()).await.server
        else {
            panic!("it was a Sentinel");
        };
        assert_eq!(hosts.first(), Some(&server(live)));
        assert_eq!(hosts.len(), 3);
    }

    #[test]
    fn the_families_take_turns() {
        let all = |texts: &[&str]| -> Vec<SocketAddr> {
            let parsed = texts.iter().map(|text| text.parse().expect("an address"));
            parsed.collect()
        };
        for (found, tried) in [
            (
                &["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"][..],
                &["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"][..],
            ),
            (
                &["1.1.1.1:1", "2.2.2.2:1", "[::1]:1"],
                &["1.1.1.1:1", "[::1]:1", "2.2.2.2:1"],
            ),
            (&["1.1.1.1:1", "2.2.2.2:1"], &["1.1.1.1:1", "2.2.2.2:1"]),
            (&[], &[]),
        ] {
            assert_eq!(alternating(all(found)), all(tried), "{found:?}");
        }
    }

    #[test]
    fn an_address_takes_the_names_place() {
        let mut server = Server::new("redis.example", 6379);
        at_address(&mut server, &"[::1]:6379".parse().expect("an address"));
        assert_eq!(&*server.host, "[::1]");
        #[cfg(feature = "rustls")]
        assert_eq!(server.tls_server_name.as_deref(), Some("redis.example"));
    }
}
