//! One certificate, as Diego issues it: the container's name as common name and DNS name, its
//! address, and the units that its definition names; for servers and clients alike.
//!
//! The key is of the curve P-256 where Diego's is RSA with 3,072 bits: it is made a thousand times
//! faster, and every client of today reads it. Pure but for the key and the serial number, which
//! must be random.

use std::net::IpAddr;
use std::time::Duration;

use domain::units::Timestamp;
use rcgen::{KeyPair, PublicKeyData as _, SigningKey as _};
use signature::Keypair;
use x509_cert::Certificate;
use x509_cert::attr::AttributeTypeAndValue;
use x509_cert::builder::profile::BuilderProfile;
use x509_cert::builder::{self, Builder as _, CertificateBuilder};
use x509_cert::certificate::TbsCertificate;
use x509_cert::der::asn1::{Any, BitString, Ia5String};
use x509_cert::der::oid::ObjectIdentifier;
use x509_cert::der::oid::db::{rfc4519, rfc5280};
use x509_cert::der::pem::LineEnding;
use x509_cert::der::{Decode as _, DecodePem as _, Document, Encode as _, EncodePem as _, Tag};
use x509_cert::ext::pkix::name::GeneralName;
use x509_cert::ext::pkix::{
    AuthorityKeyIdentifier, ExtendedKeyUsage, KeyUsage, KeyUsages, SubjectAltName,
    SubjectKeyIdentifier,
};
use x509_cert::ext::{Extension, ToExtension as _};
use x509_cert::name::{Name, RdnSequence, RelativeDistinguishedName};
use x509_cert::serial_number::SerialNumber;
use x509_cert::spki::{
    self, AlgorithmIdentifier, DynSignatureAlgorithmIdentifier, EncodePublicKey,
    SubjectPublicKeyInfo, SubjectPublicKeyInfoRef,
};
use x509_cert::time::{Time, Validity};

use super::Authority;
use crate::clock;

/// Whom a certificate names.
#[derive(Debug, Clone)]
pub(crate) struct Subject {
    /// The container's name: the instance's guid, or the task's.
    pub(crate) name: String,
    /// Where it is reached.
    pub(crate) address: IpAddr,
    /// What it belongs to, such as `app:…`; in no order.
    pub(crate) units: Vec<String>,
}

/// A certificate and its key, in PEM.
pub(crate) struct Issued {
    /// The certificate, and that of the authority behind it.
    pub(crate) certificate: String,
    /// Its key (PKCS #8): a secret.
    pub(crate) key: String,
}

pub(super) fn issue(
    authority: &Authority,
    subject: &Subject,
    now: Timestamp,
) -> Result<Issued, String> {
    let key = KeyPair::generate().map_err(|error| error.to_string())?;
    let certificate = certified(authority, subject, &key, now);
    let mut certificate = certificate.map_err(|error| error.to_string())?;
    certificate.push_str(&authority.pem);
    Ok(Issued { certificate, key: key.serialize_pem() })
}

/// The instant until which the first certificate of a PEM text holds; `None` if there is none.
pub(super) fn not_after(pem: &str) -> Option<Timestamp> {
    let certificate = Certificate::from_pem(first_of(pem)?).ok()?;
    let end = certificate.tbs_certificate().validity().not_after.to_unix_duration();
    i64::try_from(end.as_nanos()).ok().map(Timestamp)
}

fn first_of(pem: &str) -> Option<&str> {
    const END: &str = "-----END CERTIFICATE-----\n";
    let (first, _) = pem.split_at_checked(pem.find(END)? + END.len())?;
    Some(first)
}

fn certified(
    authority: &Authority,
    subject: &Subject,
    key: &KeyPair,
    now: Timestamp,
) -> Result<String, builder::Error> {
    let profile = Profile {
        issuer: authority.certificate.tbs_certificate().subject().clone(),
        subject: name(subject)?,
        names: vec![
            GeneralName::DnsName(Ia5String::new(&subject.name)?),
            GeneralName::from(subject.address),
        ],
    };
    let begin = Duration::from_nanos(u64::try_from(now.0).unwrap_or_default());
    let validity = Validity::new(time(begin)?, time(begin.saturating_add(authority.validity))?);
    let serial = SerialNumber::new(clock::random_uuid().as_bytes())?;
    let public = SubjectPublicKeyInfo::from_der(&key.subject_public_key_info())?;
    let mut unsigned = CertificateBuilder::new(profile, serial, validity, public)?;
    let issuer = Issuer(authority);
    let signed_part = unsigned.finalize(&issuer)?;
    let signature = authority.key.sign(&signed_part).map_err(signature::Error::from_source)?;
    let certificate = unsigned.assemble(BitString::from_bytes(&signature)?, &issuer)?;
    Ok(certificate.to_pem(LineEnding::LF)?)
}

fn time(since_epoch: Duration) -> Result<Time, builder::Error> {
    Ok(Time::from(x509_cert::der::DateTime::from_unix_duration(since_epoch)?))
}

/// All units in one part of the name, then the common name, as Go writes it.
fn name(subject: &Subject) -> Result<Name, builder::Error> {
    let attribute = |oid: ObjectIdentifier, text: &str| {
        let value = Any::new(Tag::Utf8String, text.as_bytes())?;
        Ok::<_, builder::Error>(AttributeTypeAndValue { oid, value })
    };
    let mut parts = Vec::new();
    let mut units = RelativeDistinguishedName::default();
    // A set holds each once.
    for unit in subject.units.iter().collect::<std::collections::BTreeSet<_>>() {
        units.insert(attribute(rfc4519::OU, unit)?)?;
    }
    if !units.is_empty() {
        parts.push(units);
    }
    let mut common_name = RelativeDistinguishedName::default();
    common_name.insert(attribute(rfc4519::CN, &subject.name)?)?;
    parts.push(common_name);
    Ok(Name::from_der(&RdnSequence::from(parts).to_der()?)?)
}

/// What is in a certificate beside its key, its time and its number.
struct Profile {
    issuer: Name,
    subject: Name,
    names: Vec<GeneralName>,
}

impl BuilderProfile for Profile {
    fn get_issuer(&self, _subject: &Name) -> Name {
        self.issuer.clone()
    }

    fn get_subject(&self) -> Name {
        self.subject.clone()
    }

    fn build_extensions(
        &self,
        key: SubjectPublicKeyInfoRef<'_>,
        issuer_key: SubjectPublicKeyInfoRef<'_>,
        certificate: &TbsCertificate,
    ) -> builder::Result<Vec<Extension>> {
        let subject = certificate.subject();
        let usage =
            KeyUsages::DigitalSignature | KeyUsages::KeyEncipherment | KeyUsages::KeyAgreement;
        let purposes = vec![rfc5280::ID_KP_SERVER_AUTH, rfc5280::ID_KP_CLIENT_AUTH];
        Ok(vec![
            KeyUsage(usage).to_extension(subject, &[])?,
            ExtendedKeyUsage(purposes).to_extension(subject, &[])?,
            SubjectAltName(self.names.clone()).to_extension(subject, &[])?,
            SubjectKeyIdentifier::try_from(key)?.to_extension(subject, &[])?,
            AuthorityKeyIdentifier::try_from(issuer_key)?.to_extension(subject, &[])?,
        ])
    }
}

/// The authority as the one who signs.
struct Issuer<'a>(&'a Authority);

/// Its public key.
#[derive(Clone)]
struct PublicKey(Vec<u8>);

impl Keypair for Issuer<'_> {
    type VerifyingKey = PublicKey;

    fn verifying_key(&self) -> PublicKey {
        PublicKey(self.0.key.subject_public_key_info())
    }
}

impl EncodePublicKey for PublicKey {
    fn to_public_key_der(&self) -> spki::Result<Document> {
        Ok(Document::try_from(self.0.as_slice())?)
    }
}

impl DynSignatureAlgorithmIdentifier for Issuer<'_> {
    fn signature_algorithm_identifier(&self) -> spki::Result<AlgorithmIdentifier<Any>> {
        Ok(self.0.algorithm.clone())
    }
}
