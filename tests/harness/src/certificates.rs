//! Certificates of a test's own, as PEM files.

use std::fs;
use std::ops::Range;
use std::path::PathBuf;

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair, KeyUsagePurpose, date_time_ymd,
};
use uuid::Uuid;

/// An authority and what it has signed, in a folder of its own, gone when dropped.
pub struct Authority {
    folder: PathBuf,
    certificate: Certificate,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    /// An authority that has signed nothing but itself.
    #[allow(clippy::new_without_default, reason = "it makes a folder")]
    pub fn new() -> Self {
        let folder =
            std::env::temp_dir().join(format!("redis-test-certificates-{}", Uuid::new_v4()));
        fs::create_dir_all(&folder).expect("a folder");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        // Two authorities with one name would be told apart by their keys only.
        let name = format!("Test authority {}", Uuid::new_v4());
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        let issuer = Issuer::new(params, key);
        let this = Self {
            folder,
            certificate,
            issuer,
        };
        this.write("ca", this.certificate.pem());
        this
    }

    /// The file with the authority's certificate.
    pub fn ca(&self) -> String {
        self.path("ca")
    }

    /// Signs a certificate for these names, valid until a year.
    pub fn sign(&self, file: &str, names: &[&str], until: i32) -> Signed {
        self.sign_for(file, names, 2000..until)
    }

    /// Signs one that is valid in these years.
    pub fn sign_for(&self, file: &str, names: &[&str], years: Range<i32>) -> Signed {
        let names: Vec<_> = names.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("names");
        params.not_before = date_time_ymd(years.start, 1, 1);
        params.not_after = date_time_ymd(years.end, 1, 1);
        params.distinguished_name.push(DnType::CommonName, file);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a signature");
        let key_file = format!("{file}-key");
        Signed {
            cert: self.write(file, certificate.pem()),
            key: self.write(&key_file, key.serialize_pem()),
        }
    }

    /// A certificate for 127.0.0.1 that nobody else has signed; `is_ca` says that it may sign others. As an authority's, it
    /// takes this authority's place.
    pub fn self_signed(&self, is_ca: bool) -> Signed {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("a name");
        params.is_ca = match is_ca {
            true => IsCa::Ca(BasicConstraints::Unconstrained),
            false => IsCa::ExplicitNoCa,
        };
        params.distinguished_name.push(DnType::CommonName, "itself");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        if is_ca {
            self.write("ca", certificate.pem());
        }
        Signed {
            cert: self.write("itself", certificate.pem()),
            key: self.write("itself-key", key.serialize_pem()),
        }
    }

    /// Writes a file; gives its path.
    pub fn write(&self, file: &str, text: impl AsRef<[u8]>) -> String {
        let path = self.path(file);
        fs::write(&path, text).expect("a file");
        path
    }

    fn path(&self, file: &str) -> String {
        let path = self.folder.join(format!("{file}.pem"));
        path.to_str().expect("a path of text").to_owned()
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.folder);
    }
}

/// The files of a certificate and its key.
pub struct Signed {
    pub cert: String,
    pub key: String,
}
