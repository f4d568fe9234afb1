//! Forgetting secrets, and moving data keys to another master key.

use domain::{bbs::definition::Definition, log::Owner, sealed::Digest};
use projections::event_store::keys;
use serde_json::json;

use super::Harness;

const FORGET: &str = "mutation($owner: String!, $commandId: String) {
    forgetSecrets(owner: $owner, commandId: $commandId) { position events }
}";

fn owner() -> Owner {
    "process/web".parse().unwrap()
}

fn desired(harness: &Harness) -> Definition {
    harness.inner.control_plane.now.read(|world| {
        let mut lrps = world.aggregates().desired_lrps();
        lrps.next().unwrap().definition.shared().as_ref().clone()
    })
}

#[tokio::test]
async fn what_is_forgotten_answers_so_and_later_secrets_are_read() {
    let harness = Harness::start().await;
    for (owner, code) in [("process/web", "NOT_FOUND"), ("web", "INVALID"), ("", "INVALID")] {
        let refused = harness.refused(FORGET, json!({ "owner": owner })).await;
        assert_eq!(refused.0, code, "{owner}");
    }
    harness.desire("web", 1).await;
    let definition = desired(&harness);
    let control_plane = &harness.inner.control_plane;
    assert!(control_plane.open_definition(&owner(), &definition).await.is_ok());
    let evidence = control_plane.keyring.put_sealed_blob(&owner(), b"{}").await.unwrap();

    let variables = json!({ "owner": "process/web", "commandId": "forget-1" });
    let first = harness.ask_with(FORGET, variables.clone()).await;
    assert_eq!(first["data"]["forgetSecrets"]["events"], 1, "{first}");
    assert_eq!(harness.ask_with(FORGET, variables).await, first, "a repeated id changes nothing");
    let again = harness.ask_with(FORGET, json!({ "owner": "process/web" })).await;
    assert_eq!(again["data"]["forgetSecrets"]["events"], 0, "nothing was sealed since");

    let refused = control_plane.open_definition(&owner(), &definition).await.unwrap_err();
    assert!(matches!(refused, keys::Error::Forgotten { .. }), "{refused}");
    assert!(refused.to_string().starts_with("the secrets of process/web were forgotten at "));
    let refused = control_plane.keyring.get_blob(evidence).await;
    assert!(matches!(refused, Err(keys::Error::Forgotten { .. })));
    assert_eq!(control_plane.keyring.get_blob(Digest::of(b"x")).await.unwrap(), None);

    harness.ask("mutation { removeDesiredLrp(processGuid: \"web\") { events } }").await;
    harness.desire("web", 1).await;
    let later = desired(&harness);
    assert!(control_plane.open_definition(&owner(), &later).await.is_ok());
    let third = harness.ask_with(FORGET, json!({ "owner": "process/web" })).await;
    assert_eq!(third["data"]["forgetSecrets"]["events"], 1, "{third}");
}

#[tokio::test]
async fn keys_are_rotated_to_labels_that_there_are() {
    let harness = Harness::start().await;
    const ROTATE: &str =
        "mutation($to: String) { rotateKeys(to: $to) { label rewrapped remaining } }";
    for (to, code) in [("nowhere", "NOT_FOUND"), ("a b", "INVALID")] {
        assert_eq!(harness.refused(ROTATE, json!({ "to": to })).await.0, code);
    }
    harness.desire("web", 1).await;
    let rotated = harness.ask_with(ROTATE, json!({})).await;
    assert_eq!(
        rotated["data"]["rotateKeys"],
        json!({ "label": "default", "rewrapped": 0, "remaining": 0 })
    );
}
