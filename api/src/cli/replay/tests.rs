//! The command over a SQLite log in a folder, with and without a node that runs on it.

use std::{
    path::Path,
    sync::{Arc, Mutex},
};

use axum::Router;
use clap::Parser;
use domain::{
    bbs::freshness_domain,
    command::Envelope,
    id::{CommandId, FreshnessDomainName},
    log::{Actor, ActorKind},
    testing::running_story,
    units::Milliseconds,
};
use projections::{
    event_store::{Batch, BatchId, NewEvent, sqlite::change_event_by_hand},
    storage::{Location, Storage},
};
use serde_json::Value;

use super::*;
use crate::{
    cli::{Command, perform, target::Target},
    clock::wall_clock,
    graphql,
    http::Access,
    node::{Node, Settings},
};

#[derive(Debug, Parser)]
struct Program {
    #[command(subcommand)]
    command: Command,
}

/// Runs `diario replay` on a folder; what it printed, and what came of it.
async fn replay(folder: &Path, arguments: &[&str]) -> (Vec<String>, Result<Outcome, String>) {
    let folder = folder.to_str().unwrap();
    let all = [&["diario", "replay", "--data-dir", folder], arguments].concat();
    let program = match Program::try_parse_from(all) {
        Ok(program) => program,
        Err(refusal) => return (Vec::new(), Err(refusal.to_string())),
    };
    let printed = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&printed);
    let print = move |line: &str| {
        lines.lock().unwrap().extend(line.lines().map(str::to_owned));
        Ok(())
    };
    let outcome = perform(program.command, Box::new(print)).await;
    let printed = printed.lock().unwrap().clone();
    (printed, outcome.map_err(|failure| format!("{:#}", anyhow::Error::from(failure))))
}

/// A log in a folder: the one instance of `web` comes to run.
async fn written(folder: &Path) -> Storage {
    let location = Location::in_folder(folder);
    let incarnation = Incarnation(uuid::Uuid::nil());
    let storage = Storage::open(&location, incarnation, wall_clock()).await.unwrap();
    for recorded in running_story().recorded {
        let number = recorded.position.0;
        let event = NewEvent {
            stream: recorded.stream,
            event: recorded.event.into(),
            actor: recorded.actor,
            command_id: recorded.command_id,
            causation: None,
            correlation: recorded.correlation,
        };
        let batch = Batch {
            id: BatchId(uuid::Uuid::from_u128(number.into())),
            decided_on: Position(number - 1),
            recorded_at: recorded.recorded_at,
            lease: None,
            events: vec![event],
        };
        storage.store.append(batch).await.unwrap();
    }
    storage
}

#[tokio::test]
async fn options_that_do_not_go_together_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let (_, none) = replay(folder.path(), &[]).await;
    assert!(none.unwrap_err().contains("holds no log"));
    written(folder.path()).await.close().await;

    for (arguments, says) in [
        (&["--until", "position >= many"][..], "column 13"),
        (&["--until", "position >= many"], "              ^"),
        (&["--view", "weather"], "auction_queue"),
        (&["--owner", "web"], "not a owner"),
        (&["--verify-views", "--step"], "cannot be used with"),
        (&["--offline"], "--verify-views"),
        (&["--from", "@3", "--to", "@2"], "--from @3 is behind --to @2"),
        (&["--to", "@99"], "position 99 is ahead of the log's head"),
        (&["--verify-views", "--api", "http://127.0.0.1:1"], "cannot reach the control plane"),
    ] {
        let (printed, outcome) = replay(folder.path(), arguments).await;
        let refusal = outcome.unwrap_err();
        assert!(refusal.contains(says), "{arguments:?}: {refusal}");
        assert_eq!(printed, Vec::<String>::new());
    }
}

#[tokio::test]
async fn changes_predicates_and_views_are_told() {
    let folder = tempfile::tempdir().unwrap();
    let storage = written(folder.path()).await;
    let head = storage.store.head().await.unwrap().position;

    let (all, outcome) = replay(folder.path(), &[]).await;
    assert_eq!(outcome.unwrap(), Outcome::Done);
    let events = all.iter().filter(|line| line.starts_with('@')).count();
    assert_eq!(u64::try_from(events).unwrap(), head.0);
    assert!(all.iter().any(|line| line == "  + desired/web"), "{all:?}");
    assert!(all.iter().any(|line| line.contains("state") && line.contains(" -> ")), "{all:?}");

    let (cells, _) = replay(folder.path(), &["--owner", "cell/cell-1", "--json"]).await;
    let first: Value = serde_json::from_str(&cells[0]).unwrap();
    assert_eq!(first["owner"], "cell/cell-1");
    assert_eq!(first["changes"][0]["kind"], "added");

    let running = ["--until", "lrp.web.running >= 1"];
    let (found, outcome) = replay(folder.path(), &running).await;
    assert_eq!(outcome.unwrap(), Outcome::Done);
    let before = head.0 - 1;
    assert_eq!(found[0], format!("it holds first at @{head}; it was last false at @{before}"));
    assert!(found[1].contains("actual_lrp.started"), "{found:?}");
    let (never, outcome) = replay(folder.path(), &["--until", "lrp.web.running > 1"]).await;
    assert_eq!(outcome.unwrap(), Outcome::Failed);
    assert_eq!(never, [format!("it never holds from @0 to @{head}")]);
    let (already, _) = replay(folder.path(), &["--until", "position < 9", "--from", "@1"]).await;
    assert!(already[0].contains("holds already"), "{already:?}");

    let (queue, _) =
        replay(folder.path(), &["--to", "@3", "--view", "auction_queue", "--json"]).await;
    let queue: Value = serde_json::from_str(&queue.concat()).unwrap();
    assert_eq!(queue["position"], "3");
    assert!(queue["content"]["slots"].is_array());
    let (aggregates, _) = replay(folder.path(), &["--view", "aggregates"]).await;
    assert!(aggregates.iter().any(|line| line.trim() == "actual/web/0"), "{aggregates:?}");

    let (same, outcome) = replay(folder.path(), &["--verify-views", "--offline"]).await;
    assert_eq!(outcome.unwrap(), Outcome::Done, "{same:?}");
    storage.close().await;
}

#[tokio::test]
async fn a_walk_goes_both_ways_as_it_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let storage = written(folder.path()).await;
    let head = storage.store.head().await.unwrap().position;
    #[derive(Debug, Parser)]
    struct Asked {
        #[command(flatten)]
        target: Target,
    }
    let printed = Arc::new(Mutex::new(Vec::new()));
    let lines = Arc::clone(&printed);
    let print = move |line: &str| {
        lines.lock().unwrap().push(line.to_owned());
        Ok(())
    };
    let session = Asked::parse_from(["x", "--json"]).target.open(Box::new(print)).unwrap();
    let replay = Replay {
        session: &session,
        store: Arc::clone(&storage.store),
        snapshots: Arc::clone(&storage.snapshots),
        owner: None,
        from: Position(0),
        to: head,
    };
    let (send, input) = tokio::sync::mpsc::channel(64);
    let long = "x".repeat(5_000);
    for line in [
        "n",
        "",
        "b",
        "b",
        "b",
        "sing",
        "g 99",
        "g x",
        &long,
        "v",
        "v position",
        "g 3",
        "d",
        "n",
        "d",
        "o cell/cell-1",
        "o nobody",
        "g 0",
        "next",
        "o",
        "n",
        "q",
        "n",
    ] {
        send.send(line.to_owned()).await.unwrap();
    }

    step::run(&replay, Position(0), input).await.unwrap();

    let told: Vec<Value> =
        printed.lock().unwrap().iter().map(|line| serde_json::from_str(line).unwrap()).collect();
    let places: Vec<String> = told
        .iter()
        .map(|item| {
            let undone = if item["undone"] == true { "undone " } else { "" };
            let what = item["type"].as_str().or_else(|| item["view"].as_str()).unwrap_or("at");
            format!("{undone}{what} {}", item["position"].as_str().unwrap())
        })
        .collect();
    let types: Vec<&str> = running_story().recorded.iter().map(|it| it.event.type_name()).collect();
    let at = |position: usize| format!("{} {position}", types[position - 1]);
    assert_eq!(
        places,
        [
            "at 0".to_owned(),
            at(1),
            at(2),
            format!("undone {}", at(2)),
            "at 1".to_owned(),
            format!("undone {}", at(1)),
            "at 0".to_owned(),
            "at 0".to_owned(),
            "position 0".to_owned(),
            "at 3".to_owned(),
            at(4),
            at(4),
            "at 4".to_owned(),
            "at 0".to_owned(),
            at(1),
            "at 1".to_owned(),
            at(2),
        ],
        "the first event is the cell's, and nothing is done behind q"
    );
    storage.close().await;
}

fn vouch(name: &str) -> Envelope {
    let command_id = CommandId::new(&format!("vouch/{name}")).unwrap();
    let name = FreshnessDomainName::new(name).unwrap();
    let time_to_live = Some(Milliseconds(60_000));
    Envelope {
        correlation: command_id.clone(),
        command_id,
        actor: Actor { kind: ActorKind::User, name: "ann".into(), via: "test".into() },
        seen: None,
        causation: None,
        command: freshness_domain::Command::Upsert { name, time_to_live }.into(),
    }
}

/// A node on a folder, with its GraphQL edge; the edge's address.
async fn serve(folder: &Path) -> (Node, String) {
    let node = Node::start(Settings::in_folder(folder, "test")).await.unwrap();
    let router: Router = graphql::router(node.control_plane.clone(), Access::loopback());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(projections::worker::spawn("test server", async move {
        axum::serve(listener, router).await.unwrap();
    }));
    (node, url)
}

#[tokio::test]
async fn the_views_of_a_running_node_are_compared_and_a_planted_difference_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let (node, url) = serve(folder.path()).await;
    for name in ["a", "b", "c"] {
        let accepted = node.control_plane.bus.submit(vouch(name)).await.unwrap();
        assert!(node.control_plane.now.reach(accepted.position).await);
    }
    let verify = ["--verify-views", "--api", &url];

    let (same, outcome) = replay(folder.path(), &verify).await;
    assert_eq!(outcome.unwrap(), Outcome::Done, "{same:?}");
    assert!(same[0].starts_with("at @3: the running node's 7 views"), "{same:?}");

    // As if the view had folded something else than the log holds.
    change_event_by_hand(&folder.path().join("diario.db"), 2, |row| {
        row.payload = br#"{"fresh_until":7}"#.to_vec();
    });
    let (differs, outcome) = replay(folder.path(), &[&verify[..], &["--json"]].concat()).await;
    assert_eq!(outcome.unwrap(), Outcome::Failed);
    let differs: Value = serde_json::from_str(&differs.concat()).unwrap();
    assert_eq!(differs["agree"], false);
    assert_eq!(differs["difference"]["view"], "aggregates");
    let hint = differs["difference"]["hint"].as_str().unwrap();
    assert!(hint.contains("FreshnessDomain") || hint.contains("bytes"), "{hint}");

    let other = tempfile::tempdir().unwrap();
    written(other.path()).await.close().await;
    let (_, refused) = replay(other.path(), &verify).await;
    assert!(refused.unwrap_err().contains("serves another log"));

    // The node's last snapshot holds what it had folded: offline it differs too.
    node.stop().await;
    let (differs, outcome) = replay(folder.path(), &["--verify-views", "--offline"]).await;
    assert_eq!(outcome.unwrap(), Outcome::Failed);
    assert!(differs[0].contains("at @3 the view aggregates"), "{differs:?}");
}
