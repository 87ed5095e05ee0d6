//! A provider, as small as one can be that checks what it must (RFC 6749 and 7636). Everybody is who they say. An app
//! replaces this by the URLs of a real one.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use axum::{
    Form, Json, Router,
    extract::{Query, State},
    http::{HeaderMap, StatusCode, header::AUTHORIZATION},
    response::{IntoResponse, Redirect, Response},
    routing::{get, post},
};
use oauth2::{
    CsrfToken, PkceCodeChallenge, PkceCodeVerifier,
    url::{ParseError, Url},
};
use serde::Deserialize;
use serde_json::json;

use crate::{CLIENT_ID, page};

/// What is issued can be used once, and not longer than this.
const LIFETIME: Duration = Duration::from_secs(60);

/// `callback` is the only URL that users are sent back to.
pub(crate) fn routes(callback: &str) -> Result<Router, ParseError> {
    let provider = Provider {
        callback: callback.parse()?,
        codes: Issued::default(),
        tokens: Issued::default(),
    };
    Ok(Router::new()
        .route("/authorize", get(ask_user).post(send_back))
        .route("/token", post(token))
        .route("/user", get(user))
        .with_state(Arc::new(provider)))
}

struct Provider {
    callback: Url,
    codes: Issued<Grant>,
    /// Whose they are.
    tokens: Issued<String>,
}

/// What a user has allowed.
struct Grant {
    user: String,
    challenge: String,
}

/// Secrets, and what they stand for.
struct Issued<T>(Mutex<HashMap<String, (T, Instant)>>);

impl<T> Default for Issued<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> Issued<T> {
    fn issue(&self, value: T) -> String {
        let secret = CsrfToken::new_random().into_secret();
        let mut issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        issued.retain(|_, (_, at)| at.elapsed() < LIFETIME);
        issued.insert(secret.clone(), (value, Instant::now()));
        secret
    }

    fn redeem(&self, secret: &str) -> Option<T> {
        let mut issued = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (value, at) = issued.remove(secret)?;
        (at.elapsed() < LIFETIME).then_some(value)
    }
}

/// What the app asks for. What is missing is empty, and then refused.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Asked {
    response_type: String,
    client_id: String,
    redirect_uri: String,
    state: String,
    code_challenge: String,
    code_challenge_method: String,
}

impl Provider {
    /// Whether this can be asked for.
    fn check(&self, asked: &Asked) -> Result<(), Box<Response>> {
        if asked.client_id != CLIENT_ID || asked.redirect_uri != self.callback.as_str() {
            // Not a redirect: nobody knows where it would lead.
            let why = "The provider does not know this app.";
            return Err(Box::new((StatusCode::BAD_REQUEST, why).into_response()));
        }
        let with_pkce = asked.code_challenge_method == "S256" && !asked.code_challenge.is_empty();
        if asked.response_type != "code" || !with_pkce {
            let back = self.back(asked, "error", "invalid_request");
            return Err(Box::new(back.into_response()));
        }
        Ok(())
    }

    /// Sends the user back to the app.
    fn back(&self, asked: &Asked, name: &str, value: &str) -> Redirect {
        let mut url = self.callback.clone();
        let mut query = url.query_pairs_mut();
        query.append_pair(name, value);
        query.append_pair("state", &asked.state);
        drop(query);
        Redirect::to(url.as_str())
    }
}

/// `GET /authorize`: shows the user what the app wants.
async fn ask_user(State(provider): State<Arc<Provider>>, Query(asked): Query<Asked>) -> Response {
    match provider.check(&asked) {
        Ok(()) => page::consent(),
        Err(refusal) => *refusal,
    }
}

#[derive(Deserialize)]
struct Decision {
    user: String,
    decision: String,
}

/// `POST /authorize`: the user has decided.
async fn send_back(
    State(provider): State<Arc<Provider>>,
    Query(asked): Query<Asked>,
    Form(form): Form<Decision>,
) -> Response {
    if let Err(refusal) = provider.check(&asked) {
        return *refusal;
    }
    if form.decision != "allow" {
        let back = provider.back(&asked, "error", "access_denied");
        return back.into_response();
    }
    let user = form.user.trim().to_owned();
    if user.is_empty() || user.chars().count() > 100 {
        return page::consent();
    }
    let challenge = asked.code_challenge.clone();
    let code = provider.codes.issue(Grant { user, challenge });
    provider.back(&asked, "code", &code).into_response()
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct TokenRequest {
    grant_type: String,
    client_id: String,
    redirect_uri: String,
    code: String,
    code_verifier: String,
}

/// `POST /token`: the app has a code, and proves that it began this login.
async fn token(
    State(provider): State<Arc<Provider>>,
    Form(request): Form<TokenRequest>,
) -> Response {
    let is_ours = request.grant_type == "authorization_code"
        && request.client_id == CLIENT_ID
        && request.redirect_uri == provider.callback.as_str();
    // One wrong try uses it up.
    let grant = provider.codes.redeem(&request.code);
    let verifier = request.code_verifier;
    let grant = grant.filter(|grant| is_ours && fits(&grant.challenge, verifier));
    let Some(Grant { user, .. }) = grant else {
        let refusal = Json(json!({ "error": "invalid_grant" }));
        return (StatusCode::BAD_REQUEST, refusal).into_response();
    };
    let token = provider.tokens.issue(user);
    let answer = json!({
        "access_token": token,
        "token_type": "Bearer",
        "expires_in": LIFETIME.as_secs(),
    });
    Json(answer).into_response()
}

/// Whether the challenge was made from this verifier.
fn fits(challenge: &str, verifier: String) -> bool {
    // Of another length, it would be a panic.
    (43..=128).contains(&verifier.len()) && {
        let verifier = PkceCodeVerifier::new(verifier);
        PkceCodeChallenge::from_code_verifier_sha256(&verifier).as_str() == challenge
    }
}

/// `GET /user`: whose token this is.
async fn user(State(provider): State<Arc<Provider>>, headers: HeaderMap) -> Response {
    let header = headers.get(AUTHORIZATION).and_then(|it| it.to_str().ok());
    let token = header.and_then(|header| header.strip_prefix("Bearer "));
    match token.and_then(|token| provider.tokens.redeem(token)) {
        Some(user) => Json(json!({ "sub": user })).into_response(),
        None => StatusCode::UNAUTHORIZED.into_response(),
    }
}
