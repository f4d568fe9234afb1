//! Instance identity: every process finds a certificate that names it, issued by the cell's authority.

use std::{fs, path::Path};

use super::{
    harness::{Server, cell_of, diario, folder, process_with, until},
    lrps::{desire, running},
};

#[test]
fn an_instance_is_given_a_certificate_of_its_own() {
    let folder = folder();
    let certs = folder.path().join("certs");
    let made = diario().args(["certs", "init"]).arg(&certs).output().unwrap();
    assert!(made.status.success(), "{made:?}");
    let file = |name: &str| certs.join(name).display().to_string();
    let server = Server::start(
        &[
            "dev",
            "--instance-identity-ca",
            &file("instance-identity-ca.crt"),
            "--instance-identity-key",
            &file("instance-identity-ca.key"),
        ],
        folder.path(),
    );
    desire(&server, "web", 1, &[]);
    let slot = running(&server, "web", 1).remove(0);
    let instance = slot["instanceGuid"].as_str().unwrap();

    let (process, told) =
        until("the app's process", || process_with(&format!("CF_INSTANCE_GUID={instance}")));

    let value = |name: &str| {
        let found = told.split('\0').find_map(|it| it.strip_prefix(&format!("{name}=")));
        found.unwrap_or_else(|| panic!("no {name} in {told}")).to_owned()
    };
    let root = format!("/proc/{process}/root");
    let inside = |path: &str| Path::new(&root).join(path.trim_start_matches('/'));
    let certificate = fs::read_to_string(inside(&value("CF_INSTANCE_CERT"))).unwrap();
    let key = fs::read_to_string(inside(&value("CF_INSTANCE_KEY"))).unwrap();
    let authority = fs::read_to_string(certs.join("instance-identity-ca.crt")).unwrap();
    assert!(certificate.ends_with(&authority), "its authority follows: {certificate}");
    assert_eq!(certificate.matches("BEGIN CERTIFICATE").count(), 2);
    assert!(key.starts_with("-----BEGIN PRIVATE KEY-----"));

    server.text(&["lrp", "rm", "web"]);
    until("the identity is removed with its container", || {
        let left = fs::read_dir(cell_of(folder.path()).join("identities")).unwrap().count();
        (left == 0).then_some(())
    });
}

#[test]
fn an_authority_that_cannot_issue_is_refused_at_the_start() {
    let folder = folder();
    let certs = folder.path().join("certs");
    let made = diario().args(["certs", "init"]).arg(&certs).output().unwrap();
    assert!(made.status.success(), "{made:?}");

    let refused = diario()
        .args(["dev", "--port", "0", "--router-port", "0", "--data-dir"])
        .arg(folder.path().join("data"))
        .arg("--instance-identity-ca")
        .arg(certs.join("ca.crt"))
        .arg("--instance-identity-key")
        .arg(certs.join("instance-identity-ca.key"))
        .output()
        .unwrap();

    assert!(!refused.status.success());
    let said = String::from_utf8(refused.stderr).unwrap();
    assert!(said.contains("the authority's key is not that of its certificate"), "{said}");
}
