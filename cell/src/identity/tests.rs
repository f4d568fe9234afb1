//! What is issued, as those see it who trust the authority.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use domain::sealed::PlainText;
use domain::units::{Milliseconds, Timestamp};
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair, SignatureAlgorithm};
use rustls::RootCertStore;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::ServerCertVerifier as _;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::server::WebPkiClientVerifier;
use x509_cert::Certificate;
use x509_cert::der::Decode as _;

use super::certificate::{Issued, not_after};
use super::{Authority, Error, Subject};
use crate::config::InstanceIdentityConfig;

const NAME: &str = "c03a4043-2e95-413a-a97e-85be930055f9";
/// 2030-01-01T00:00:00Z.
const NOW: u64 = 1_893_456_000;
const DAY: u64 = 86_400;

fn config(algorithm: &'static SignatureAlgorithm, is_ca: bool) -> InstanceIdentityConfig {
    let key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    if is_ca {
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    }
    InstanceIdentityConfig {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: PlainText(key.serialize_pem()),
        validity: Milliseconds::from_seconds(DAY),
    }
}

fn issue(config: &InstanceIdentityConfig, units: &[&str]) -> Issued {
    let subject = Subject {
        name: NAME.to_owned(),
        address: IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7)),
        units: units.iter().map(|unit| (*unit).to_owned()).collect(),
    };
    let now = Timestamp(i64::try_from(NOW).unwrap() * 1_000_000_000);
    Authority::new(config).unwrap().issue(&subject, now).unwrap()
}

fn chain(issued: &Issued) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(issued.certificate.as_bytes()).map(Result::unwrap).collect()
}

/// Whether those who trust the authority take it, as a server of that name and as a client.
fn is_trusted(config: &InstanceIdentityConfig, issued: &Issued, name: &str, at: u64) -> bool {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(config.certificate.as_bytes()).unwrap()).unwrap();
    let roots = Arc::new(roots);
    let chain = chain(issued);
    let (leaf, others) = chain.split_first().unwrap();
    let at = UnixTime::since_unix_epoch(Duration::from_secs(at));
    let name = ServerName::try_from(name.to_owned()).unwrap();
    let servers =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
    let servers = servers.build().unwrap();
    let clients = WebPkiClientVerifier::builder_with_provider(roots, provider).build().unwrap();
    servers.verify_server_cert(leaf, others, &name, &[], at).is_ok()
        && clients.verify_client_cert(leaf, others, at).is_ok()
}

#[test]
fn servers_and_clients_take_what_any_kind_of_authority_issues_for_its_time_only() {
    for algorithm in
        [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519]
    {
        let config = config(algorithm, true);

        let issued = issue(&config, &[]);

        assert!(is_trusted(&config, &issued, NAME, NOW), "{algorithm:?}");
        assert!(is_trusted(&config, &issued, "10.0.0.7", NOW + DAY - 1), "{algorithm:?}");
        assert!(!is_trusted(&config, &issued, NAME, NOW + DAY + 1), "{algorithm:?}");
        assert!(!is_trusted(&config, &issued, "another", NOW), "{algorithm:?}");
        let end = not_after(&issued.certificate).unwrap();
        assert_eq!(end.0, i64::try_from(NOW + DAY).unwrap() * 1_000_000_000);
    }
}

#[test]
fn an_authority_with_an_rsa_key_issues_too() {
    let config = InstanceIdentityConfig {
        certificate: include_str!("rsa_authority_for_tests.crt").to_owned(),
        key: PlainText(include_str!("rsa_authority_for_tests.key").to_owned()),
        validity: Milliseconds::from_seconds(DAY),
    };

    let issued = issue(&config, &["app:web"]);

    assert!(is_trusted(&config, &issued, NAME, NOW));
}

#[test]
fn the_subject_names_each_unit_once_and_the_container() {
    let config = config(&rcgen::PKCS_ECDSA_P256_SHA256, true);

    let issued = issue(&config, &["space:s", "organization:o", "app:a", "space:s"]);

    let leaf = chain(&issued).swap_remove(0);
    let certificate = Certificate::from_der(&leaf).unwrap();
    let subject = certificate.tbs_certificate().subject();
    let told: Vec<String> = subject.iter().map(ToString::to_string).collect();
    let common_name = format!("CN={NAME}");
    // The order within a set is that of the bytes.
    assert_eq!(told, ["OU=app:a", "OU=space:s", "OU=organization:o", &common_name]);
    assert_eq!(chain(&issued).len(), 2, "the authority's own follows");
}

#[test]
fn what_cannot_sign_is_refused_in_words() {
    let good = config(&rcgen::PKCS_ECDSA_P256_SHA256, true);
    let other = config(&rcgen::PKCS_ECDSA_P256_SHA256, true);
    let refused = |certificate: &str, key: &str| {
        let (certificate, key) = (certificate.to_owned(), PlainText(key.to_owned()));
        Authority::new(&InstanceIdentityConfig { certificate, key, ..good.clone() }).unwrap_err()
    };

    let leaf = config(&rcgen::PKCS_ECDSA_P256_SHA256, false);
    let old_form = good.key.0.replace("PRIVATE KEY", "EC PRIVATE KEY").replace("MIG", "AAA");

    assert!(matches!(refused("nothing", &good.key.0), Error::Certificate { .. }));
    assert!(matches!(refused(&leaf.certificate, &leaf.key.0), Error::Certificate { .. }));
    assert!(matches!(refused(&good.certificate, &old_form), Error::Key { .. }));
    assert!(matches!(refused(&good.certificate, &other.key.0), Error::NotAPair));
}

#[test]
fn it_is_renewed_half_an_hour_before_its_end_or_after_seven_eighths_of_a_short_time() {
    let renewed = |seconds| {
        let config = config(&rcgen::PKCS_ECDSA_P256_SHA256, true);
        let validity = Milliseconds::from_seconds(seconds);
        let authority = Authority::new(&InstanceIdentityConfig { validity, ..config }).unwrap();
        authority.renewed_before_end().as_secs()
    };

    assert_eq!(renewed(DAY), 1800);
    assert_eq!(renewed(4 * 3600), 1800);
    assert_eq!(renewed(3600), 450);
}
