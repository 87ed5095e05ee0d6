//! TLS by rustls: whom to trust, and who we are.

use std::{
    path::{Path, PathBuf},
    sync::Arc,
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

use super::url::{invalid, percent_decoded};
use crate::error::{Error, ErrorKind};

/// From what follows `rediss://`: see [`config`].
pub(super) fn connector(rest: &str) -> Result<TlsConnector, Error> {
    Ok(config(rest)?.into())
}

/// A URL's query may name PEM files, `ca`, and `cert` with `key`. Without `ca` it trusts whom the system trusts;
/// `SSL_CERT_FILE` names others.
pub(in crate::store::redis) fn config(url: &str) -> Result<ClientConfig, Error> {
    let file = |wanted: &str| {
        let query = url.split_once('?').map_or("", |(_, query)| query);
        let query = query.split('#').next().unwrap_or_default();
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        let (_, path) = pairs.find(|(name, _)| *name == wanted)?;
        Some(percent_decoded(path).map(PathBuf::from))
    };
    let (ca, cert, key) = (
        file("ca").transpose()?,
        file("cert").transpose()?,
        file("key").transpose()?,
    );

    let builder = trusting(roots(ca)?)?;
    match (cert, key) {
        (None, None) => Ok(builder.with_no_client_auth()),
        (Some(cert), Some(key)) => {
            let chain = certificates(&cert)?;
            let key = PrivateKeyDer::from_pem_file(&key)
                .map_err(|error| unreadable("key", &key, error))?;
            builder.with_client_auth_cert(chain, key).map_err(|error| {
                let message = format!("the client certificate and its key cannot be used: {error}");
                Error::new(ErrorKind::InvalidUrl, message).with_source(error)
            })
        }
        _ => Err(invalid("in the URL, `cert` and `key` go together")),
    }
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

fn roots(ca: Option<PathBuf>) -> Result<RootCertStore, Error> {
    let mut roots = RootCertStore::empty();
    match ca {
        Some(path) => {
            for certificate in certificates(&path)? {
                roots
                    .add(certificate)
                    .map_err(|error| unreadable("certificate", &path, error))?;
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
