//! Certificates for a trial: an authority with a pair each for the server and a client, and one for
//! the identities of containers.

use std::{
    fs::{self, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Datelike as _};
use domain::units::{Milliseconds, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

const DAY: Milliseconds = Milliseconds::from_seconds(86_400);

/// What to make.
#[derive(Debug)]
pub(crate) struct Wanted<'w> {
    /// The folder; made when it is not there.
    pub(crate) folder: &'w Path,
    /// The names and addresses that the server is reached by.
    pub(crate) hosts: Vec<String>,
    /// The name that the client is known by.
    pub(crate) client: &'w str,
    /// Today.
    pub(crate) now: Timestamp,
    /// For how many days they hold; fewer than 0 have passed.
    pub(crate) days: i64,
}

/// Why they cannot be made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A file cannot be written. One that is there is never overwritten.
    #[error("cannot write {path}")]
    Write {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A name cannot stand in a certificate.
    #[error("cannot make a certificate")]
    Make(#[from] rcgen::Error),
}

/// Makes `ca`, `server`, `client` and `instance-identity-ca`, each a `.crt` and a `.key` in PEM; keys are for their owner only.
pub(crate) fn make(wanted: &Wanted<'_>) -> Result<Vec<PathBuf>, Error> {
    fs::create_dir_all(wanted.folder)
        .map_err(|source| Error::Write { path: wanted.folder.to_owned(), source })?;
    let (issuer, mut written) = authority(wanted, "ca", "Diario trial authority")?;
    let (_, of_containers) =
        authority(wanted, "instance-identity-ca", "Diario trial authority of containers")?;
    written.extend(of_containers);
    let pairs = [
        ("server", "Diario BBS", ExtendedKeyUsagePurpose::ServerAuth, wanted.hosts.clone()),
        ("client", wanted.client, ExtendedKeyUsagePurpose::ClientAuth, Vec::new()),
    ];
    for (file, name, purpose, hosts) in pairs {
        let mut leaf = params(wanted, name, hosts)?;
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![purpose];
        let key = KeyPair::generate()?;
        let certificate = leaf.signed_by(&key, &issuer)?;
        written.extend(write_pair(wanted.folder, file, &certificate.pem(), &key)?);
    }
    Ok(written)
}

fn authority(
    wanted: &Wanted<'_>,
    file: &str,
    name: &str,
) -> Result<(Issuer<'static, KeyPair>, Vec<PathBuf>), Error> {
    let mut authority = params(wanted, name, Vec::new())?;
    authority.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let key = KeyPair::generate()?;
    let certificate = authority.self_signed(&key)?;
    let written = write_pair(wanted.folder, file, &certificate.pem(), &key)?;
    Ok((Issuer::new(authority, key), written))
}

fn params(wanted: &Wanted<'_>, name: &str, hosts: Vec<String>) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::new(hosts)?;
    params.distinguished_name.push(DnType::CommonName, name);
    // A clock that is a little behind is no reason to refuse.
    let day = |days: i64| {
        let nanoseconds = i64::try_from(DAY.0).unwrap_or_default().saturating_mul(1_000_000);
        let at = wanted.now.0.saturating_add(nanoseconds.saturating_mul(days));
        let date = DateTime::from_timestamp_nanos(at);
        let month = u8::try_from(date.month()).unwrap_or(1);
        rcgen::date_time_ymd(date.year(), month, u8::try_from(date.day()).unwrap_or(1))
    };
    params.not_before = day(wanted.days.min(0) - 2);
    params.not_after = day(wanted.days);
    Ok(params)
}

fn write_pair(
    folder: &Path,
    name: &str,
    certificate: &str,
    key: &KeyPair,
) -> Result<Vec<PathBuf>, Error> {
    let files = [
        (folder.join(format!("{name}.crt")), certificate.to_owned(), 0o644),
        (folder.join(format!("{name}.key")), key.serialize_pem(), 0o600),
    ];
    let mut written = Vec::new();
    for (path, text, mode) in files {
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| Error::Write { path: path.clone(), source })?;
        written.push(path);
    }
    Ok(written)
}
