//! Instance identity: there before the first process, renewed in place, gone with the container.

use std::fs;
use std::path::PathBuf;

use domain::rep::Work;
use domain::sealed::PlainText;
use domain::units::Milliseconds;
use rcgen::{BasicConstraints, CertificateParams, IsCa, KeyPair};

use super::{Cell, app, handle, lrp};
use crate::config::InstanceIdentityConfig;

/// An authority whose certificates hold for a minute.
fn authority() -> InstanceIdentityConfig {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    InstanceIdentityConfig {
        certificate: params.self_signed(&key).unwrap().pem(),
        key: PlainText(key.serialize_pem()),
        validity: Milliseconds::from_seconds(60),
    }
}

async fn started() -> Cell {
    let mut cell = Cell::started();
    cell.instance_identity = Some(authority());
    cell.kill_agent().await;
    cell.start_agent();
    cell
}

fn identity(cell: &Cell, work: &Work) -> PathBuf {
    cell.folder.path().join("identities").join(handle(work).to_string())
}

fn pair(cell: &Cell, work: &Work) -> [String; 2] {
    ["instance.crt", "instance.key"]
        .map(|file| fs::read_to_string(identity(cell, work).join(file)).unwrap_or_default())
}

#[tokio::test(start_paused = true)]
async fn an_identity_is_renewed_in_place_also_by_the_next_agent_and_goes_with_its_container() {
    let mut cell = started().await;
    let work = lrp("a");
    cell.plane.place(&work, app());
    cell.until_runs(&work, "run-0").await;
    let first = pair(&cell, &work);
    assert!(first.iter().all(|file| !file.is_empty()));

    let differs = |cell: &Cell, from: &[String; 2]| {
        pair(cell, &work).iter().zip(from).all(|(now, then)| now != then && !now.is_empty())
    };
    cell.until("it is renewed", |cell| differs(cell, &first)).await;
    let second = pair(&cell, &work);
    cell.kill_agent().await;
    cell.start_agent();
    cell.until("the next agent renews it", |cell| differs(cell, &second)).await;

    cell.plane.want_stop(&work);
    cell.until("it is removed", |cell| !identity(cell, &work).exists()).await;
}

#[tokio::test(start_paused = true)]
async fn a_folder_that_cannot_be_made_fails_the_instance_in_diegos_words() {
    let cell = started().await;
    fs::write(cell.folder.path().join("identities"), "in the way").unwrap();
    let work = lrp("a");

    cell.plane.place(&work, app());

    cell.until_reported(&work, "ended").await;
    let reason = cell.ended(&work).failure_reason.unwrap();
    assert!(reason.contains("failed to create credentials directory"), "{reason}");
}
