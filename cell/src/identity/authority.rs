//! The authority that a cell issues with: a certificate that may sign others, and its key.
//!
//! Both are read once, at the start of the agent, and checked: what is refused here would fail
//! every container later.

use std::fmt;
use std::time::Duration;

use domain::units::Timestamp;
use rcgen::KeyPair;
use x509_cert::Certificate;
use x509_cert::der::asn1::{Any, Null};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::{rfc5912, rfc8410};
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{DecodePem as _, EncodePem as _};
use x509_cert::ext::pkix::BasicConstraints;
use x509_cert::spki::AlgorithmIdentifier;

use super::certificate;
use crate::config::InstanceIdentityConfig;

/// How long before its end a certificate is renewed, where it holds for longer than four hours.
const RENEWED_BEFORE_END: Duration = Duration::from_secs(30 * 60);
/// Up to this, it is renewed after seven eighths of its time.
const SHORT: Duration = Duration::from_secs(4 * 60 * 60);

/// What a cell issues with.
pub(crate) struct Authority {
    pub(super) certificate: Certificate,
    /// The certificate in PEM: it follows each that is issued.
    pub(super) pem: String,
    pub(super) key: KeyPair,
    pub(super) algorithm: AlgorithmIdentifier<Any>,
    pub(super) validity: Duration,
}

impl fmt::Debug for Authority {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Authority")
            .field("validity", &self.validity)
            .finish_non_exhaustive()
    }
}

/// Why a cell cannot issue, or cannot issue one certificate.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The authority's certificate is none, or may not sign.
    #[error("what is given is not the certificate of an authority in PEM: {reason}")]
    Certificate {
        /// In words.
        reason: String,
    },
    /// The authority's key is none that can be used.
    #[error(
        "the authority's key cannot sign: {reason}; it must be a \"PRIVATE KEY\" (PKCS #8; RSA, \
         P-256, P-384 or Ed25519) in PEM, as `openssl pkcs8 -topk8 -nocrypt` writes it"
    )]
    Key {
        /// In words.
        reason: String,
    },
    /// They do not belong together.
    #[error("the authority's key is not that of its certificate")]
    NotAPair,
    /// One certificate could not be made.
    #[error("cannot issue a certificate: {reason}")]
    Issue {
        /// In words.
        reason: String,
    },
}

impl Authority {
    /// Takes an authority up.
    ///
    /// # Errors
    /// Certificate or key cannot be used, or they do not belong together.
    pub(crate) fn new(config: &InstanceIdentityConfig) -> Result<Self, Error> {
        let unusable = |error: x509_cert::der::Error| {
            let reason = error.to_string();
            Error::Certificate { reason }
        };
        let certificate = Certificate::from_pem(&config.certificate).map_err(unusable)?;
        let constraints = certificate.tbs_certificate().get_extension::<BasicConstraints>();
        if !constraints.map_err(unusable)?.is_some_and(|(_, constraints)| constraints.ca) {
            let reason = "it may not sign others (no CA:TRUE)".to_owned();
            return Err(Error::Certificate { reason });
        }
        let pem = certificate.to_pem(LineEnding::LF).map_err(unusable)?;
        let no_key = |reason: String| Error::Key { reason };
        let key = KeyPair::from_pem(&config.key.0).map_err(|error| no_key(error.to_string()))?;
        let algorithm =
            algorithm_of(&key).ok_or_else(|| no_key("its kind is not known".to_owned()))?;
        let certified = certificate.tbs_certificate().subject_public_key_info();
        if certified.subject_public_key.raw_bytes() != key.public_key_raw() {
            return Err(Error::NotAPair);
        }
        Ok(Self { certificate, pem, key, algorithm, validity: config.validity.duration() })
    }

    /// Issues a certificate that holds from now, and its new key.
    ///
    /// # Errors
    /// [`Error::Issue`].
    pub(crate) fn issue(
        &self,
        subject: &certificate::Subject,
        now: Timestamp,
    ) -> Result<certificate::Issued, Error> {
        certificate::issue(self, subject, now).map_err(|reason| Error::Issue { reason })
    }

    /// How long before its end a certificate is renewed.
    pub(crate) fn renewed_before_end(&self) -> Duration {
        if self.validity <= SHORT { self.validity / 8 } else { RENEWED_BEFORE_END }
    }
}

fn algorithm_of(key: &KeyPair) -> Option<AlgorithmIdentifier<Any>> {
    let alone = |oid: ObjectIdentifier| AlgorithmIdentifier { oid, parameters: None };
    let algorithm = key.algorithm();
    let known = [
        (&rcgen::PKCS_ECDSA_P256_SHA256, alone(rfc5912::ECDSA_WITH_SHA_256)),
        (&rcgen::PKCS_ECDSA_P384_SHA384, alone(rfc5912::ECDSA_WITH_SHA_384)),
        (&rcgen::PKCS_ED25519, alone(rfc8410::ID_ED_25519)),
        (
            &rcgen::PKCS_RSA_SHA256,
            AlgorithmIdentifier {
                oid: rfc5912::SHA_256_WITH_RSA_ENCRYPTION,
                parameters: Some(Any::from(Null)),
            },
        ),
    ];
    known.into_iter().find_map(|(known, identifier)| (known == algorithm).then_some(identifier))
}
