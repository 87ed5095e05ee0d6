//! The app's side: the way to the provider, and the way back.

use std::{
    error::Error as StdError,
    sync::Arc,
    time::{Duration, SystemTime},
};

use axum::{
    extract::{Query, State, rejection::QueryRejection},
    http::{StatusCode, header::ALLOW},
    response::{IntoResponse, Redirect, Response},
};
use oauth2::{
    AuthUrl, AuthorizationCode, ClientId, CsrfToken, EndpointNotSet, EndpointSet,
    PkceCodeChallenge, PkceCodeVerifier, RedirectUrl, RequestTokenError, TokenResponse, TokenUrl,
    basic::{BasicClient, BasicErrorResponseType},
    reqwest::{self, redirect::Policy},
    url::form_urlencoded::byte_serialize,
};
use serde::{Deserialize, Serialize};
use tower_redis_session::{Error, Lookup, Session};

use crate::{CLIENT_ID, page};

/// A user who takes longer starts again.
const LIMIT: Duration = Duration::from_secs(10 * 60);
/// How long the provider may take for an answer.
const PATIENCE: Duration = Duration::from_secs(5);
/// So many logins of one browser can be under way. A session holds 64 KiB.
const MOST_FLOWS: usize = 8;
/// Longer paths are not returned to.
const LONGEST_PATH: usize = 2000;

/// A login that is under way.
///
/// It is one field, so that one `take_once` takes all of it. Each login has a field of its own, named by its `state`: with
/// one field for all, a user who begins in two tabs could only end in the second.
#[derive(Serialize, Deserialize)]
struct Flow {
    verifier: PkceCodeVerifier,
    /// The page that the user came from.
    next: String,
    /// The session may live much longer than the flow.
    started: SystemTime,
}

impl Flow {
    fn is_over(&self) -> bool {
        // A server whose clock is a little behind sees a start in the future.
        self.started.elapsed().unwrap_or_default() >= LIMIT
    }
}

const FLOWS: &str = "login:";

pub(crate) struct App {
    oauth: BasicClient<EndpointSet, EndpointNotSet, EndpointNotSet, EndpointNotSet, EndpointSet>,
    http: reqwest::Client,
    user_url: String,
}

impl App {
    pub(crate) fn new(provider: &str, callback: &str) -> Result<Self, Box<dyn StdError>> {
        let oauth = BasicClient::new(ClientId::new(CLIENT_ID.to_owned()))
            .set_auth_uri(AuthUrl::new(format!("{provider}/authorize"))?)
            .set_token_uri(TokenUrl::new(format!("{provider}/token"))?)
            .set_redirect_uri(RedirectUrl::new(callback.to_owned())?);
        let http = reqwest::Client::builder()
            // The provider could send the code to anybody (SSRF).
            .redirect(Policy::none())
            .timeout(PATIENCE)
            // This provider is on this machine. Leave it out for another.
            .no_proxy()
            .build()?;
        let user_url = format!("{provider}/user");
        Ok(Self {
            oauth,
            http,
            user_url,
        })
    }

    /// Asks the provider who the user is.
    async fn user(&self, code: String, verifier: PkceCodeVerifier) -> Result<String, Failure> {
        let code = AuthorizationCode::new(code);
        let exchange = self.oauth.exchange_code(code).set_pkce_verifier(verifier);
        let token = match exchange.request_async(&self.http).await {
            Ok(token) => token,
            Err(RequestTokenError::ServerResponse(refusal))
                if *refusal.error() == BasicErrorResponseType::InvalidGrant =>
            {
                return Err(Failure::CodeRefused);
            }
            Err(error) => return Err(Failure::Provider(error.into())),
        };
        // The token is not kept: this app asks the provider only once.
        let user = self.ask(token.access_token().secret()).await;
        user.map_err(Failure::Provider)
    }

    async fn ask(&self, token: &str) -> Result<String, Box<dyn StdError>> {
        #[derive(Deserialize)]
        struct User {
            sub: String,
        }
        let request = self.http.get(&self.user_url).bearer_auth(token);
        let answer = request.send().await?.error_for_status()?;
        let user: User = serde_json::from_slice(&answer.bytes().await?)?;
        Ok(user.sub)
    }
}

/// Why the provider has not said who the user is.
enum Failure {
    /// The code is wrong, old or used, or belongs to another login.
    CodeRefused,
    /// The provider cannot be reached, is slow, or answers nonsense.
    Provider(Box<dyn StdError>),
}

/// A link that leads to `next` after a login.
pub(crate) fn link(next: &str) -> String {
    let next: String = byte_serialize(next.as_bytes()).collect();
    format!("/login?next={next}")
}

#[derive(Deserialize)]
pub(crate) struct Start {
    next: String,
}

/// `GET /login?next=/account`: sends the user to the provider.
pub(crate) async fn start(
    State(app): State<Arc<App>>,
    session: Session,
    query: Result<Query<Start>, QueryRejection>,
) -> Result<Redirect, Error> {
    let next = query.map_or_else(|_| "/".to_owned(), |Query(start)| start.next);
    let (challenge, verifier) = PkceCodeChallenge::new_random_sha256();
    let request = app.oauth.authorize_url(CsrfToken::new_random);
    let (url, state) = request.set_pkce_challenge(challenge).url();
    let flow = Flow {
        verifier,
        next: own_path(&next).to_owned(),
        started: SystemTime::now(),
    };
    make_room(&session);
    session.insert(&field(state.secret()), flow)?;
    Ok(Redirect::to(url.as_str()))
}

/// What the provider's redirect says.
#[derive(Deserialize)]
pub(crate) struct Answer {
    state: String,
    code: Option<String>,
    error: Option<String>,
}

/// `GET /callback`: the user comes back from the provider.
pub(crate) async fn callback(
    State(app): State<Arc<App>>,
    session: Session,
    query: Result<Query<Answer>, QueryRejection>,
) -> Result<Response, Error> {
    let Ok(Query(Answer { state, code, error })) = query else {
        let why = "This is no answer of a provider: it must have one state.";
        return Ok(page::failed(StatusCode::BAD_REQUEST, why, "/"));
    };
    // In the store, at once: however many callbacks have this state, one of them gets the flow.
    let Some(flow) = session.take_once::<Flow>(&field(&state)).await? else {
        let why = match session.lookup() {
            Lookup::NoCookie => {
                "Your browser has sent no cookie. It must be the one in which you began, and accept cookies."
            }
            _ => "This login has been used already, or its session has ended.",
        };
        return Ok(page::failed(StatusCode::BAD_REQUEST, why, "/"));
    };
    let failed = |status, why: &str| Ok(page::failed(status, why, &flow.next));
    if flow.is_over() {
        return failed(StatusCode::BAD_REQUEST, "This has taken too long.");
    }
    let code = match (code, error.as_deref()) {
        (Some(code), None) => code,
        (_, Some("access_denied")) => {
            return failed(
                StatusCode::FORBIDDEN,
                "You have not allowed the provider to say who you are.",
            );
        }
        (_, Some(error)) => {
            let why = format!("The provider could not log you in: {error}");
            return failed(StatusCode::BAD_GATEWAY, &why);
        }
        (None, None) => return failed(StatusCode::BAD_REQUEST, "The provider has sent no code."),
    };
    let user = match app.user(code, flow.verifier).await {
        Ok(user) => user,
        Err(Failure::CodeRefused) => {
            let why = "The provider does not accept the code.";
            return failed(StatusCode::BAD_REQUEST, why);
        }
        Err(Failure::Provider(error)) => {
            eprintln!("oauth: the provider: {error}");
            let why = "The provider does not answer as it should. Please try again later.";
            return failed(StatusCode::BAD_GATEWAY, why);
        }
    };
    // A new id. And nothing stays of an earlier user, nor of logins that are under way in other tabs: somebody else may
    // have begun them, and planted the session.
    session.destroy();
    session.insert("user", user)?;
    Ok(Redirect::to(&flow.next).into_response())
}

/// `POST /callback`: a provider that was told `response_mode=form_post`.
///
/// The form comes from another site, so that browsers leave out our cookie, which is `SameSite=Lax`. Nobody can say whose
/// login this is. It must not touch the session either: a new one would take the place of the user's.
pub(crate) async fn callback_by_post() -> Response {
    let why = "The provider has sent its answer by POST. Cookies do not come along from another site, so this app needs \
        response_mode=query.";
    let page = page::failed(StatusCode::METHOD_NOT_ALLOWED, why, "/");
    ([(ALLOW, "GET, HEAD")], page).into_response()
}

/// Removes logins that have taken too long, and the oldest where there are too many.
fn make_room(session: &Session) {
    let fields = session.entries().into_keys();
    let mut flows: Vec<_> = fields
        .filter(|field| field.starts_with(FLOWS))
        .map(|field| (session.get::<Flow>(&field).ok().flatten(), field))
        .collect();
    flows.sort_by_key(|(flow, _)| flow.as_ref().map(|flow| flow.started));
    let too_many = (flows.len() + 1).saturating_sub(MOST_FLOWS);
    for (index, (flow, field)) in flows.iter().enumerate() {
        if index < too_many || flow.as_ref().is_none_or(Flow::is_over) {
            session.remove(field);
        }
    }
}

fn field(state: &str) -> String {
    format!("{FLOWS}{state}")
}

/// The page to return to: a path of our own, or else the first page.
///
/// Browsers take `//host` and `/\host` for another host. They also drop tabs and line ends before they look.
fn own_path(next: &str) -> &str {
    let is_own = next.starts_with('/') && !next.starts_with("//");
    let is_plain = |byte: u8| byte.is_ascii_graphic() && byte != b'\\';
    if is_own && next.len() <= LONGEST_PATH && next.bytes().all(is_plain) {
        next
    } else {
        "/"
    }
}
