//! A backup of the server is restored under a running node: the node ends and says so, and the next
//! start works on what was restored.

use projections::testing::postgres::{Cluster, Settings};
use serde_json::json;

use super::{
    node,
    wire::{Answer, Wire, judged},
};
use crate::harness::{folder, until};

const VOUCH: &str = "mutation ($name: String!) { \
    it: upsertFreshnessDomain(name: $name, ttlSeconds: 0) { position events } }";

fn vouch(api: &str, name: &str) -> u64 {
    let answer = Wire::to(api).ask(VOUCH, &json!({ "name": name })).unwrap();
    match judged(&answer).unwrap() {
        (Answer::Accepted { position, .. }, _) => position,
        (_, told) => panic!("not accepted: {told}"),
    }
}

#[test]
fn a_node_under_which_a_backup_was_restored_ends_and_says_so_and_starts_on_what_was_restored() {
    let cluster = Cluster::start(&Settings::default());
    let database = cluster.fresh_database();
    let folder = folder();
    let first = node::start("one", folder.path(), &database, &[]);
    assert_eq!((vouch(&first.api, "a"), vouch(&first.api, "b")), (1, 2));
    first.stop();
    cluster.stop(false);
    cluster.keep_copy();
    cluster.restart();

    let command = node::command("one", folder.path(), &database, 0);
    let (status, said) = node::until_ended(command, |api| {
        assert_eq!(vouch(api, "c"), 3);
        cluster.stop(true);
        cluster.put_copy_back();
        cluster.restart();
    });

    assert!(!status.success(), "{status}");
    assert!(said.contains("it ends at position 2 now and held position 3"), "{said}");
    assert!(said.contains("a backup was restored under it"), "{said}");
    let again = node::start("one", folder.path(), &database, &[]);
    until("the restored log", || {
        let position = node::readiness(&again.api)?.1["position"].clone();
        (position == "2").then_some(())
    });
    assert_eq!(vouch(&again.api, "d"), 3);
}
