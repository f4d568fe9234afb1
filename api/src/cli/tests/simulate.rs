//! `diario simulate`: what it says of runs that hold, of a manifest, and of what is wrong.

use std::sync::{Arc, Mutex};

use super::{Error, Outcome, parsed, perform};

async fn simulate(arguments: &[&str]) -> (String, Result<Outcome, Error>) {
    let printed = Arc::new(Mutex::new(String::new()));
    let lines = Arc::clone(&printed);
    let print = move |line: &str| {
        lines.lock().unwrap().push_str(line);
        Ok(())
    };
    let arguments = [&["simulate"], arguments].concat();
    let outcome = perform(parsed(&arguments).unwrap(), Box::new(print)).await;
    let printed = printed.lock().unwrap().clone();
    (printed, outcome)
}

async fn refused(arguments: &[&str]) -> String {
    let (printed, outcome) = simulate(arguments).await;
    assert_eq!(printed, "");
    format!("{:#}", anyhow::Error::from(outcome.unwrap_err()))
}

#[tokio::test]
async fn seeds_that_hold_are_counted() {
    let (told, outcome) = simulate(&["--seeds", "2", "--cells", "2", "--steps", "30"]).await;

    assert_eq!(outcome.unwrap(), Outcome::Done);
    assert!(told.contains("2 seeds, 0 failed"), "{told}");
}

#[tokio::test]
async fn a_manifest_is_run_on_its_own_cells_and_what_does_not_fit_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("apps.yaml");
    std::fs::write(
        &file,
        "cells: [{count: 2, memory_mb: 100, disk_mb: 1000}]\n\
         lrps:\n\
         - process_guid: web\n  \
           instances: 3\n  \
           definition: {rootfs: 'preloaded:diario', memory_mb: 64, disk_mb: 64, \
                        action: {run: {path: /bin/app, user: vcap}}}\n",
    )
    .unwrap();
    let file = file.to_str().unwrap();

    let asked = ["--seeds", "1", "--steps", "20", "--faults", "none", "--manifest", file, "--json"];
    let (told, outcome) = simulate(&asked).await;

    assert_eq!(outcome.unwrap(), Outcome::Done, "{told}");
    let told: serde_json::Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["failed"], &told["running"]), (&0.into(), &2.into()), "{told}");
    assert_eq!(told["waiting"]["insufficient resources: memory"], 1, "{told}");
}

#[tokio::test]
async fn what_is_wrong_is_named_with_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("faults.yaml");
    let path = file.to_str().unwrap();

    assert!(refused(&["--without", "sunshine"]).await.contains("kinds are agent_killed, "));
    std::fs::write(&file, "message_lost: 900").unwrap();
    let told = refused(&["--faults", path]).await;
    assert!(told.contains("message_lost is 900, but at most 500"), "{told}");
    std::fs::write(&file, "sunshine: 900").unwrap();
    assert!(refused(&["--faults", path]).await.contains("sunshine"));
    std::fs::write(&file, "cells: []").unwrap();
    let told = refused(&["--manifest", path]).await;
    assert!(told.contains("name what is to run"), "{told}");
    assert!(parsed(&["simulate", "--left-out", "4-"]).unwrap_err().contains("for example 0-35,40"));
    assert!(parsed(&["simulate", "--cells", "4000"]).unwrap_err().contains("1000"));
}
