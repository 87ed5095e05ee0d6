//! TLS by rustls: whom to trust, and who we are.

use std::{
    path::Path,
    sync::{Arc, Mutex, PoisonError},
};

use fred::{
    rustls::{
        ClientConfig, ConfigBuilder, RootCertStore,
        client::WantsClientCert,
        crypto::ring,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    },
    rustls_native_certs::load_native_certs,
    types::config::TlsConnector,
};

use super::url::{Files, Own, invalid};
use crate::{
    error::{Error, ErrorKind},
    store::Events,
};

/// How connections with TLS are made.
#[derive(Clone)]
pub(super) enum Tls {
    /// As the caller says.
    Given(TlsConnector),
    /// With files, which are read for each connection: certificates are renewed while the process runs.
    Files(Arc<ReadAnew>),
}

pub(super) struct ReadAnew {
    files: Files,
    /// What was in them when they could be read the last time.
    last: Mutex<Option<TlsConnector>>,
    events: Events,
}

impl Tls {
    /// From what the URL says, which is `None` without TLS, and from what the caller gives.
    pub(super) fn new(
        files: Option<Files>,
        given: Option<ClientConfig>,
        events: &Events,
    ) -> Result<Option<Self>, Error> {
        match (files, given) {
            (None, None) => Ok(None),
            (None, Some(_)) => Err(invalid(
                "`tls` is for a URL with TLS: it begins with rediss://, rediss-cluster:// or rediss-sentinel://",
            )),
            (Some(files), Some(_)) if files.ca.is_some() || files.own.is_some() => Err(invalid(
                "the Redis URL names files (`ca`, `cert`, `key`), and `tls` says another thing: leave out one of them",
            )),
            (Some(_), Some(given)) => Ok(Some(Self::Given(given.into()))),
            (Some(files), None) => Ok(Some(Self::Files(Arc::new(ReadAnew {
                files,
                last: Mutex::default(),
                events: events.clone(),
            })))),
        }
    }

    /// For one connection.
    pub(super) async fn connector(&self) -> Result<TlsConnector, Error> {
        match self {
            Self::Given(connector) => Ok(connector.clone()),
            Self::Files(files) => {
                let read = {
                    let files = files.clone();
                    tokio::task::spawn_blocking(move || config(&files.files))
                };
                files.take(read.await.map_err(Error::unavailable)?)
            }
        }
    }

    /// Whether the URL says whom to trust.
    pub(super) fn has_ca(&self) -> bool {
        matches!(self, Self::Files(files) if files.files.ca.is_some())
    }
}

impl ReadAnew {
    /// Where they cannot be used, as while they are being replaced, those that were there before are good enough.
    fn take(&self, read: Result<ClientConfig, Error>) -> Result<TlsConnector, Error> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        match (read, &*last) {
            (Ok(config), _) => Ok(last.insert(config.into()).clone()),
            (Err(error), Some(last)) => {
                self.events.certificates_kept(&error);
                Ok(last.clone())
            }
            (Err(error), None) => Err(error),
        }
    }
}

/// Without `ca` it trusts whom the system trusts; `SSL_CERT_FILE` names others.
pub(in crate::store::redis) fn config(files: &Files) -> Result<ClientConfig, Error> {
    let builder = trusting(roots(files.ca.as_deref())?)?;
    let Some(Own { cert, key }) = &files.own else {
        return Ok(builder.with_no_client_auth());
    };
    let chain = certificates(cert)?;
    let own_key =
        PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable("key", key, error))?;
    builder
        .with_client_auth_cert(chain, own_key)
        .map_err(|error| {
            let message = format!(
                "the certificate in {} and the key in {} cannot be used: {error}",
                cert.display(),
                key.display()
            );
            Error::new(ErrorKind::InvalidUrl, message).with_source(error)
        })
}

type Builder = ConfigBuilder<ClientConfig, WantsClientCert>;

fn trusting(roots: RootCertStore) -> Result<Builder, Error> {
    // Named here, since a process that has two of them has no default.
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|error| {
            Error::new(ErrorKind::Tls, "no version of TLS can be used").with_source(error)
        })?;
    Ok(builder.with_root_certificates(roots))
}

fn roots(ca: Option<&Path>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(path)? {
                roots
                    .add(certificate)
                    .map_err(|error| unreadable("certificate", path, error))?;
            }
        }
        // Some of a system's may be unusable.
        None => drop(roots.add_parsable_certificates(load_native_certs().certs)),
    }
    if roots.is_empty() {
        return Err(Error::new(
            ErrorKind::Tls,
            "there are no root certificates: name a file with `ca=` in the URL",
        ));
    }
    Ok(roots)
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let all = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    match all {
        Ok(all) if all.is_empty() => {
            let message = format!("there is no certificate in {}", path.display());
            Err(Error::new(ErrorKind::InvalidUrl, message))
        }
        all => all.map_err(|error| unreadable("certificate", path, error)),
    }
}

fn unreadable(
    what: &str,
    path: &Path,
    error: impl std::error::Error + Send + Sync + 'static,
) -> Error {
    let message = format!("the {what} in {} cannot be read: {error}", path.display());
    Error::new(ErrorKind::InvalidUrl, message).with_source(error)
}
