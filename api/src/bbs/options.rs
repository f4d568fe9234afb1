//! The options of the BBS, as flags or in a file under the names that Diego's own file has.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use clap::Args;
use serde::Deserialize;

use super::{Listener, listener, tls::Files};

/// Diego's port.
const PORT: u16 = 8889;

/// Options of the BBS. It is served when a certificate is named, here or in the file.
#[derive(Debug, Clone, Default, Args)]
#[group(skip)]
#[command(next_help_heading = "BBS: Diego's API, in protobuf over mutual TLS")]
pub struct Options {
    /// The same options in a file of JSON, under Diego's names: listen_address, cert_file, key_file,
    /// ca_file; and plain_http. A flag comes before it.
    #[arg(long, value_name = "FILE")]
    bbs_config: Option<PathBuf>,
    /// Where it listens; by default on 127.0.0.1:8889.
    #[arg(long, value_name = "ADDRESS:PORT")]
    bbs_address: Option<SocketAddr>,
    /// The certificate chain that it shows, in PEM; read again when it changes, as the next two are.
    /// `diario certs init` makes one for a trial.
    #[arg(long, value_name = "FILE")]
    bbs_cert: Option<PathBuf>,
    /// Its private key, in PEM.
    #[arg(long, value_name = "FILE")]
    bbs_key: Option<PathBuf>,
    /// The authorities whose certificates clients must show, in PEM. Who has one may do everything.
    #[arg(long, value_name = "FILE")]
    bbs_ca: Option<PathBuf>,
    /// Serves it in the clear, to everybody on this machine; on loopback only.
    #[arg(long)]
    bbs_plain_http: bool,
}

/// The file, under Diego's names.
#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    listen_address: Option<SocketAddr>,
    cert_file: Option<PathBuf>,
    key_file: Option<PathBuf>,
    ca_file: Option<PathBuf>,
    #[serde(default)]
    plain_http: bool,
}

/// How clients are told apart from others.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Security {
    /// By certificates.
    Tls(Files),
    /// By being on this machine.
    PlainOnLoopback,
}

/// Why the options cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read --bbs-config {path}")]
    Read {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The file is not what it must be.
    #[error(
        "--bbs-config {path} must hold listen_address, cert_file, key_file, ca_file, plain_http and nothing else"
    )]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        source: serde_json::Error,
    },
    /// Some of what mutual TLS needs is not there.
    #[error(
        "mutual TLS needs --bbs-cert, --bbs-key and --bbs-ca (cert_file, key_file, ca_file): {0} is missing"
    )]
    Missing(&'static str),
    /// In the clear only on loopback.
    #[error(
        "--bbs-plain-http serves everybody who reaches {0}: listen on 127.0.0.1, or give certificates"
    )]
    PlainBeyondLoopback(SocketAddr),
    /// Both were asked for.
    #[error("--bbs-plain-http and certificates were given: choose one")]
    Both,
    /// It cannot be served.
    #[error(transparent)]
    Listen(#[from] listener::Error),
}

impl Options {
    /// Binds the port and reads the certificates; nothing when the BBS is not asked for.
    ///
    /// # Errors
    /// What is missing, or cannot be used.
    pub async fn bind(&self) -> Result<Option<Listener>, Error> {
        match self.settings()? {
            Some((address, security)) => Ok(Some(Listener::bind(address, security).await?)),
            None => Ok(None),
        }
    }

    fn settings(&self) -> Result<Option<(SocketAddr, Security)>, Error> {
        let written = match &self.bbs_config {
            Some(path) => read(path)?,
            None => Written::default(),
        };
        let loopback = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), PORT);
        let address = self.bbs_address.or(written.listen_address).unwrap_or(loopback);
        let is_plain = self.bbs_plain_http || written.plain_http;
        let certificate = self.bbs_cert.clone().or(written.cert_file);
        let key = self.bbs_key.clone().or(written.key_file);
        let authority = self.bbs_ca.clone().or(written.ca_file);
        let has_file = certificate.is_some() || key.is_some() || authority.is_some();
        let is_asked = has_file || self.bbs_config.is_some() || self.bbs_address.is_some();
        match (is_plain, has_file) {
            (true, true) => Err(Error::Both),
            (true, false) if !address.ip().is_loopback() => {
                Err(Error::PlainBeyondLoopback(address))
            }
            (true, false) => Ok(Some((address, Security::PlainOnLoopback))),
            (false, _) if !is_asked => Ok(None),
            (false, _) => {
                let certificate = certificate.ok_or(Error::Missing("--bbs-cert"))?;
                let key = key.ok_or(Error::Missing("--bbs-key"))?;
                let authority = authority.ok_or(Error::Missing("--bbs-ca"))?;
                Ok(Some((address, Security::Tls(Files { certificate, key, authority }))))
            }
        }
    }
}

fn read(path: &Path) -> Result<Written, Error> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| Error::Read { path: path.to_owned(), source })?;
    serde_json::from_str(&text).map_err(|source| Error::Malformed { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tls() -> Options {
        let file = |name: &str| Some(PathBuf::from(name));
        Options { bbs_cert: file("c"), bbs_key: file("k"), bbs_ca: file("a"), ..Options::default() }
    }

    #[test]
    fn nothing_is_served_unless_it_is_asked_for_and_nothing_in_the_clear_beyond_loopback() {
        assert!(Options::default().settings().unwrap().is_none());
        let open = "0.0.0.0:1".parse().ok();
        let plain = Options { bbs_plain_http: true, ..Options::default() };
        let (address, security) = plain.settings().unwrap().unwrap();
        assert_eq!((address.port(), security), (PORT, Security::PlainOnLoopback));
        let refused = Options { bbs_address: open, ..plain }.settings().unwrap_err();
        assert!(matches!(refused, Error::PlainBeyondLoopback(_)));
        let refused = Options { bbs_plain_http: true, ..tls() }.settings().unwrap_err();
        assert!(matches!(refused, Error::Both));
        let refused = Options { bbs_address: open, ..Options::default() }.settings().unwrap_err();
        assert!(matches!(refused, Error::Missing("--bbs-cert")));
        let refused = Options { bbs_ca: None, ..tls() }.settings().unwrap_err();
        assert!(matches!(refused, Error::Missing("--bbs-ca")));
    }

    #[test]
    fn a_file_under_diegos_names_says_the_same_and_a_flag_comes_first() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bbs.json");
        let text = r#"{"listen_address": "127.0.0.1:9", "cert_file": "c", "key_file": "k", "ca_file": "x"}"#;
        std::fs::write(&path, text).unwrap();
        let options = Options {
            bbs_config: Some(path.clone()),
            bbs_ca: Some(PathBuf::from("a")),
            ..Options::default()
        };
        assert_eq!(options.settings().unwrap().unwrap().1, tls().settings().unwrap().unwrap().1);
        assert_eq!(options.settings().unwrap().unwrap().0.port(), 9);
        std::fs::write(&path, r#"{"max_open_database_connections": 200}"#).unwrap();
        let refused = options.settings().unwrap_err();
        assert!(matches!(refused, Error::Malformed { .. }), "{refused}");
    }
}
