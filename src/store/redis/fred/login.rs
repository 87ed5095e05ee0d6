//! What each connection asks for anew: credentials and certificates. And the task that logs a living connection in before
//! its credentials end.

use std::time::Duration;

use fred::{
    clients::Client,
    interfaces::{AuthInterface, ClientLike},
    types::{RespVersion, config::Config},
};
use tokio::{
    task::JoinHandle,
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{background::with_jitter, errors::failed, target::Target};
use crate::{
    error::{Error, ErrorKind},
    store::redis::{
        credentials::{Credentials, Provider},
        errors::timed_out,
    },
};

/// How soon after a failure it is tried again to log in anew.
const AGAIN: Duration = Duration::from_secs(1);

impl Target {
    /// The configuration of one connection, and the credentials in it that end.
    pub(super) async fn prepared(
        &self,
        until: Instant,
    ) -> Result<(Config, Option<Credentials>), Error> {
        let mut config = self.config.clone();
        #[cfg(feature = "rustls")]
        if let Some(tls) = &self.tls {
            config.tls = Some(tls.connector().await?.into());
        }
        let Some(provider) = &self.provider else {
            return Ok((config, None));
        };
        let given = timeout_at(until, provider.ask()).await;
        let credentials = given.unwrap_or_else(|_| Err(no_credentials()))?;
        config.username.clone_from(&credentials.user);
        config.password = Some(credentials.password.clone());
        Ok((config, Some(credentials)))
    }

    /// Logs in anew over this connection before these credentials end, and so on.
    pub(super) fn keep_logged_in(
        &self,
        client: &Client,
        credentials: Credentials,
    ) -> Option<KeptLoggedIn> {
        let provider = self.provider.clone()?;
        let wait = before_end(&credentials)?;
        let (target, client) = (self.clone(), client.clone());
        Some(KeptLoggedIn(tokio::spawn(async move {
            target.log_in_anew(client, provider, wait).await;
        })))
    }

    async fn log_in_anew(&self, client: Client, provider: Provider, mut wait: Duration) {
        loop {
            sleep(wait).await;
            let anew = timeout(self.connect_timeout, log_in(&client, &provider));
            match anew.await.unwrap_or_else(|_| Err(no_credentials())) {
                Ok(credentials) => match before_end(&credentials) {
                    Some(next) => wait = next,
                    None => return,
                },
                Err(error) => {
                    // The server still takes this connection for whom it was; if not, it says so to those who ask.
                    self.events.credentials(&error);
                    wait = with_jitter(AGAIN);
                }
            }
        }
    }
}

/// Where it is refused, the connection stays logged in as it was.
async fn log_in(client: &Client, provider: &Provider) -> Result<Credentials, Error> {
    let credentials = provider.ask().await?;
    let (user, password) = (credentials.user.clone(), credentials.password.clone());
    let logged_in = async {
        match client.protocol_version() {
            RespVersion::RESP2 => client.auth(user, password).await,
            version @ RespVersion::RESP3 => {
                let user = user.unwrap_or_else(|| "default".to_owned());
                client
                    .hello(version, Some((user.into(), password.into())), None)
                    .await
            }
        }
    };
    match timeout(AGAIN, logged_in).await {
        Ok(answer) => answer.map_err(failed)?,
        Err(_) => return Err(timed_out()),
    }
    Ok(credentials)
}

/// When to ask for the next ones: with time for trying it again.
fn before_end(credentials: &Credentials) -> Option<Duration> {
    let valid_for = credentials.valid_for?.max(Duration::from_secs(1));
    Some(valid_for.mul_f64(0.8))
}

fn no_credentials() -> Error {
    Error::new(
        ErrorKind::Timeout,
        "the provider of credentials for Redis does not answer",
    )
}

/// The task, which ends with its connection.
pub(super) struct KeptLoggedIn(JoinHandle<()>);

impl Drop for KeptLoggedIn {
    fn drop(&mut self) {
        self.0.abort();
    }
}
