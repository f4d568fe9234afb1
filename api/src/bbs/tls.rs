//! Who may connect: holders of a certificate of one authority. TLS 1.2 and 1.3.
//!
//! Certificate, key and authority are files, read again when they change: a new connection is served
//! with what is there now. Files that cannot be used are told once, and those before stay in force.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use domain::sealed::Digest;
use rustls::{
    RootCertStore, ServerConfig,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    server::{VerifierBuilderError, WebPkiClientVerifier},
    version::{TLS12, TLS13},
};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

/// How often it is looked whether the files have changed.
const LOOK_AGAIN: Duration = Duration::from_secs(5);

/// Where the files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Files {
    /// The certificate chain that is shown, in PEM.
    pub(super) certificate: PathBuf,
    /// Its private key, in PEM.
    pub(super) key: PathBuf,
    /// The authorities of clients' certificates, in PEM.
    pub(super) authority: PathBuf,
}

/// Why the files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// One cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// One holds no PEM of what it should. The decoder's words are left out: they may quote.
    #[error("{path} holds no {what} in PEM")]
    Pem {
        /// Which.
        path: PathBuf,
        /// What it should hold.
        what: &'static str,
    },
    /// An authority cannot be trusted.
    #[error("{path} holds what is no certificate of an authority")]
    Authority {
        /// Which file.
        path: PathBuf,
        /// Why not.
        source: rustls::Error,
    },
    /// No client could be verified.
    #[error("no client's certificate can be verified by the authority")]
    Verifier(#[source] VerifierBuilderError),
    /// Certificate and key do not go together.
    #[error("the certificate and the key do not go together, or cannot be used")]
    Pair(#[source] rustls::Error),
}

/// What connections are served with, as the files were last.
#[derive(Debug, Clone)]
pub(super) struct Current {
    files: Files,
    config: Arc<RwLock<Arc<ServerConfig>>>,
}

impl Current {
    /// Reads the files.
    pub(super) fn load(files: Files) -> Result<Self, Error> {
        let config = Arc::new(RwLock::new(Arc::new(read(&files)?)));
        Ok(Self { files, config })
    }

    /// What a new connection is served with.
    pub(super) fn config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.config.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Looks again and again whether the files have changed.
    pub(super) async fn keep_up(self, shutdown: CancellationToken) {
        let mut seen = digest(&self.files);
        loop {
            let pause = tokio::time::sleep(LOOK_AGAIN);
            if shutdown.run_until_cancelled(pause).await.is_none() {
                return;
            }
            let now = digest(&self.files);
            if now != seen {
                seen = now;
                self.reload();
            }
        }
    }

    /// Reads the files anew.
    pub(super) fn reload(&self) {
        match read(&self.files) {
            Ok(config) => {
                *self.config.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(config);
                info!("The BBS's certificates were read anew.");
            }
            Err(failure) => {
                let error: &dyn std::error::Error = &failure;
                warn!(error, "The BBS's new certificates cannot be used; those before stay.");
            }
        }
    }
}

/// What the files hold now; a file that cannot be read counts as empty.
fn digest(files: &Files) -> Digest {
    let paths = [&files.certificate, &files.key, &files.authority];
    let contents: Vec<u8> =
        paths.iter().flat_map(|path| Digest::of(&fs::read(path).unwrap_or_default()).0).collect();
    Digest::of(&contents)
}

fn read(files: &Files) -> Result<ServerConfig, Error> {
    let mut authorities = RootCertStore::empty();
    for authority in certificates(&files.authority)? {
        let path = files.authority.clone();
        authorities.add(authority).map_err(|source| Error::Authority { path, source })?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(authorities), Arc::clone(&provider))
            .build()
            .map_err(Error::Verifier)?;
    let key = PrivateKeyDer::from_pem_slice(&bytes_of(&files.key)?);
    let pem = |path: &Path, what| Error::Pem { path: path.to_owned(), what };
    let key = key.map_err(|_| pem(&files.key, "private key"))?;
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13, &TLS12])
        .map_err(Error::Pair)?
        .with_client_cert_verifier(verifier)
        .with_single_cert(certificates(&files.certificate)?, key)
        .map_err(Error::Pair)?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(config)
}

fn bytes_of(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Read { path: path.to_owned(), source })
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let nothing = || Error::Pem { path: path.to_owned(), what: "certificate" };
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&bytes_of(path)?).collect();
    let found = found.map_err(|_| nothing())?;
    if found.is_empty() { Err(nothing()) } else { Ok(found) }
}

/// Whose certificate it is: its common name, or nothing.
pub(super) fn common_name(certificate: &CertificateDer<'_>) -> String {
    use x509_parser::prelude::{FromDer as _, X509Certificate};
    let Ok((_, parsed)) = X509Certificate::from_der(certificate) else { return String::new() };
    let name = parsed.subject().iter_common_name().next().and_then(|name| name.as_str().ok());
    name.unwrap_or_default().to_owned()
}
