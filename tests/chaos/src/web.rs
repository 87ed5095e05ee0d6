//! Requests to the shops, and the rules that hold for each answer whatever it is about.

use std::error::Error;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::jar::Jar;
use http::header::{CONTENT_TYPE, COOKIE, RETRY_AFTER, SET_COOKIE};
use http::response::Parts;
use http::{HeaderMap, Request};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use tokio::task::JoinSet;

use crate::ledger::violation;
use crate::machine::Stalls;
use crate::report::{Came, Report};

/// As the shop has it.
pub(crate) const STORE_TIMEOUT: Duration = Duration::from_millis(500);
/// How much longer a request may take.
const MARGIN: Duration = Duration::from_millis(100);
/// Nobody waits that long.
const HUNG: Duration = Duration::from_secs(10);

/// A shop that takes longer for somebody without a session has not had the machine.
const AT_ONCE: Duration = Duration::from_millis(5);
/// How often somebody without a session comes.
const VISITS: Duration = Duration::from_millis(40);

/// So long after a stall everybody has noted it.
const AFTERWARDS: Duration = Duration::from_millis(300);

/// What is asked of a shop.
#[derive(Debug, Clone)]
pub(crate) struct Ask {
    /// For the figures.
    pub(crate) action: &'static str,
    pub(crate) method: &'static str,
    pub(crate) path: String,
    pub(crate) body: String,
}

/// A shop's answer to a request that was not refused.
#[derive(Debug)]
pub(crate) struct Answer {
    /// Logged in, or with nothing that needs it; else it is a 401.
    pub(crate) accepted: bool,
    pub(crate) cookies: Vec<Vec<u8>>,
    pub(crate) body: Bytes,
}

/// The shops, over connections that are kept.
#[derive(Debug)]
pub(crate) struct Web {
    pool: Client<HttpConnector, Full<Bytes>>,
    shops: Vec<SocketAddr>,
    report: Arc<Report>,
    /// When this process stood still, and when each of the shops did.
    here: Stalls,
    there: Vec<Stalls>,
    /// How many requests took too long while the machine stood still for so long that nothing follows from it.
    excused: AtomicU64,
}

/// A whole answer, or why there is none.
type Exchanged = Result<(Parts, Bytes), Box<dyn Error + Send + Sync>>;

impl Web {
    pub(crate) fn new(shops: Vec<SocketAddr>, report: Arc<Report>) -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let pool = Client::builder(TokioExecutor::new())
            .pool_idle_timeout(None)
            // A request that was sent twice would be a liar.
            .retry_canceled_requests(false)
            .build(connector);
        Self {
            pool,
            report,
            here: Stalls::watch(),
            there: shops.iter().map(|_| Stalls::default()).collect(),
            shops,
            excused: AtomicU64::new(0),
        }
    }

    /// Sends visitors to each shop until this is dropped: somebody without a cookie has nothing to do with Redis and is
    /// answered at once, or else the machine has no time for the shop.
    pub(crate) fn visit(self: &Arc<Self>) -> JoinSet<()> {
        let mut visitors = JoinSet::new();
        for shop in 0..self.shops() {
            let web = self.clone();
            visitors.spawn(async move {
                let ask = Ask {
                    action: "visit",
                    method: "GET",
                    path: "/cart".to_owned(),
                    body: String::new(),
                };
                loop {
                    let began = Instant::now();
                    let answer = web.exchange(shop, &ask, None).await;
                    let ended = Instant::now();
                    web.there[shop].note(began + AT_ONCE.min(ended - began), ended);
                    if !matches!(&answer, Ok((head, _)) if head.status == 401) {
                        web.broken(
                            "a visitor without a session is refused",
                            shop,
                            &ask,
                            format!("{answer:?}"),
                        );
                    }
                    tokio::time::sleep(VISITS).await;
                }
            });
        }
        visitors
    }

    /// How long the machine stood still, this process or that shop.
    fn stood_still(&self, shop: usize, began: Instant, ended: Instant) -> Duration {
        let here = self.here.between(began, ended);
        here.max(self.there[shop].between(began, ended))
    }

    /// How many requests took too long, which was the machine's doing.
    pub(crate) fn excused(&self) -> u64 {
        self.excused.load(Ordering::Relaxed)
    }

    /// The longest that it stood still since then: this process, and any of the shops.
    pub(crate) fn longest_stalls(&self, from: Instant) -> (Duration, Duration) {
        let there = self.there.iter().map(|shop| shop.longest_since(from)).max();
        (self.here.longest_since(from), there.unwrap_or_default())
    }

    /// Whether the machine had so little time since then that nothing follows from how long something took.
    pub(crate) fn had_no_time_since(&self, from: Instant) -> bool {
        let (here, there) = self.longest_stalls(from);
        here.max(there) > MARGIN
    }

    pub(crate) fn report(&self) -> &Report {
        &self.report
    }

    /// How many there are.
    pub(crate) fn shops(&self) -> usize {
        self.shops.len()
    }

    /// Asks one of the shops. The error says why it was refused, or that there is no answer.
    pub(crate) async fn ask(
        &self,
        shop: usize,
        ask: &Ask,
        cookie: Option<&[u8]>,
    ) -> Result<Answer, String> {
        let began = Instant::now();
        let answer = tokio::time::timeout(HUNG, self.exchange(shop, ask, cookie)).await;
        let ended = Instant::now();

        let broken = |what, how: String| self.broken(what, shop, ask, how);
        let count = |came| self.report.count(ask.action, &came, began, ended);
        let took = ended - began;
        if took > STORE_TIMEOUT + MARGIN {
            // What stood still together with this request is noted when it goes on.
            tokio::time::sleep(AFTERWARDS).await;
            let still = self.stood_still(shop, began, ended);
            if still > MARGIN {
                self.excused.fetch_add(1, Ordering::Relaxed);
            } else if took > STORE_TIMEOUT + MARGIN + still {
                let how = format!("{took:?}, of which the machine stood still for {still:?}");
                broken("a request took too long", how);
            }
        }
        let (head, body) = match answer {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) => {
                broken("a request got no answer", error.to_string());
                count(Came::Refused("no answer"));
                return Err("no answer".to_owned());
            }
            Err(_) => {
                broken("a request hung", String::new());
                count(Came::Refused("hung"));
                return Err("hung".to_owned());
            }
        };
        let cookies = head.headers.get_all(SET_COOKIE).iter();
        let cookies: Vec<_> = cookies.map(|line| line.as_bytes().to_owned()).collect();
        match head.status.as_u16() {
            status @ (200 | 401) => {
                count(Came::Done);
                Ok(Answer {
                    accepted: status == 200,
                    cookies,
                    body,
                })
            }
            503 => {
                let kind = text(&head.headers, "x-session-error");
                count(Came::Refused(&kind));
                let again = text(&head.headers, RETRY_AFTER.as_str()).parse::<u32>();
                if again.is_err() || kind.is_empty() {
                    let what = "a 503 without Retry-After or its error";
                    broken(what, format!("{head:?}"));
                }
                if !cookies.is_empty() {
                    broken("a cookie with a 503", format!("{head:?}"));
                }
                Err(kind)
            }
            status => {
                count(Came::Refused("other"));
                broken("an answer of another kind", format!("{status} {body:?}"));
                Err(status.to_string())
            }
        }
    }

    async fn exchange(&self, shop: usize, ask: &Ask, cookie: Option<&[u8]>) -> Exchanged {
        let uri = format!("http://{}{}", self.shops[shop], ask.path);
        let mut request = Request::builder().method(ask.method).uri(uri);
        if let Some(cookie) = cookie {
            request = request.header(COOKIE, cookie);
        }
        if ask.body.starts_with('{') {
            request = request.header(CONTENT_TYPE, "application/json");
        }
        let request = request.body(Full::from(ask.body.clone()))?;
        let (head, body) = self.pool.request(request).await?.into_parts();
        Ok((head, body.collect().await?.to_bytes()))
    }

    fn broken(&self, what: &'static str, shop: usize, ask: &Ask, how: String) {
        let how = format!("{} {} at shop {shop}: {how}", ask.method, ask.path);
        self.report.violation(&violation(what, how));
    }
}

fn text(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).map(|value| value.as_bytes());
    String::from_utf8_lossy(value.unwrap_or_default()).into_owned()
}

/// The id in a jar.
pub(crate) fn id(jar: &Jar) -> Option<String> {
    let stored = jar.find("session_id")?;
    Some(String::from_utf8_lossy(&stored.value).into_owned())
}
