//! The archive and `verify` as a shell runs them, on a log in a folder.

use std::sync::{Arc, Mutex};

use domain::log::Incarnation;
use projections::{
    event_store::conformance::samples,
    storage::{Location, Storage},
};
use serde_json::Value;
use uuid::Uuid;

use super::{Error, Outcome, parsed, perform};

/// Runs a command without a control plane; what it printed, and what came of it.
async fn run(arguments: &[&str]) -> (Vec<String>, Result<Outcome, Error>) {
    let printed = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&printed);
    let print = move |line: &str| {
        lines.lock().unwrap().push(line.to_owned());
        Ok(())
    };
    let outcome = perform(parsed(arguments).unwrap(), Box::new(print)).await;
    let printed = printed.lock().unwrap().clone();
    (printed, outcome)
}

async fn json(arguments: &[&str]) -> (Value, Outcome) {
    let (printed, outcome) = run(&[arguments, &["--json"]].concat()).await;
    let outcome = outcome.unwrap();
    (serde_json::from_str(&printed.join("\n")).unwrap(), outcome)
}

#[tokio::test]
async fn a_log_is_moved_proven_pruned_and_a_damage_is_told_with_exit_code_1() {
    let folder = tempfile::tempdir().unwrap();
    let data_dir = folder.path().join("data");
    std::fs::create_dir_all(data_dir.join("keys")).unwrap();
    let archive = folder.path().join("archive");
    let (data, archive) = (data_dir.to_str().unwrap(), archive.to_str().unwrap());
    let location = Location::in_folder(&data_dir);
    let storage =
        Storage::open(&location, Incarnation(Uuid::from_u128(1)), crate::clock::wall_clock())
            .await
            .unwrap();
    samples::fill(storage.store.as_ref(), &[30, 20, 40, 10]).await;
    storage.close().await;
    let missing = run(&["archive", "status", "--data-dir", data, "--archive", archive]).await.1;
    assert!(missing.unwrap_err().to_string().contains("there is no archive at"));

    let keep = ["archive", "run", "--data-dir", data, "--to", archive, "--keep-events", "20"];
    let (moved, _) = json(&keep).await;

    assert_eq!((moved["events"].as_u64(), moved["floor"].as_u64()), (Some(50), Some(50)));
    // The archive that its events were moved to is known to the log.
    let (proven, outcome) = json(&["verify", "--data-dir", data]).await;
    assert_eq!((proven["events"].as_u64(), outcome), (Some(100), Outcome::Done), "{proven}");
    json(&["archive", "run", "--data-dir", data, "--to", archive, "--keep-events", "5"]).await;
    let (status, _) = json(&["archive", "status", "--data-dir", data]).await;
    assert_eq!((status["segments"].as_u64(), status["archivedUpTo"].as_u64()), (Some(2), Some(90)));
    let prune = ["archive", "prune", "--data-dir", data, "--before", "@60"];
    assert!(matches!(run(&prune).await.1, Err(Error::Usage(_))));
    let (pruned, _) = json(&[&prune[..], &["--yes"]].concat()).await;
    assert_eq!(pruned["prunedUpTo"].as_u64(), Some(50));
    let (proven, outcome) = json(&["verify", "--data-dir", data]).await;
    assert_eq!((proven["first"].as_u64(), outcome), (Some(51), Outcome::Done), "{proven}");

    let segment = std::fs::read_dir(format!("{archive}/segments")).unwrap().next().unwrap();
    let segment = segment.unwrap().path();
    let mut bytes = std::fs::read(&segment).unwrap();
    let (proven, outcome) = json(&["verify", segment.to_str().unwrap()]).await;
    assert_eq!((proven["events"].as_u64(), outcome), (Some(40), Outcome::Done));
    bytes[200] ^= 1;
    std::fs::write(&segment, bytes).unwrap();
    for asked in [&["verify", "--data-dir", data][..], &["verify", segment.to_str().unwrap()]] {
        let (told, outcome) = json(asked).await;
        assert_eq!(outcome, Outcome::Failed);
        assert!(told["fault"]["problem"].as_str().unwrap().contains("damaged"), "{told}");
    }
}
