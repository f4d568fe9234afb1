//! A log whose older part goes to a store that speaks S3: two nodes on one Postgres, of which the one
//! with the lease archives, and the next one goes on when it is killed.

use std::{
    fs,
    process::{Command, Output},
};

use projections::testing::{
    postgres::{Cluster, Settings},
    s3::{self, Call, Fault},
};
use serde_json::Value;

use crate::{
    harness::{Server, diario, folder, told, until, write_private},
    readme,
};

/// What follows `diario` in the README's command with an archive in S3.
fn of_readme(server: &s3::Server) -> Vec<String> {
    let text = fs::read_to_string("README.md").unwrap();
    let found = readme::commands(&text).into_iter().filter(|command| command.contains("s3://"));
    let [command] = <[String; 1]>::try_from(found.collect::<Vec<_>>()).unwrap();
    let words = command.split_whitespace().skip(1).map(|word| {
        if word.starts_with("http") { server.endpoint().to_owned() } else { word.to_owned() }
    });
    words.collect()
}

/// A command that may use the store.
fn with_account() -> Command {
    let mut command = diario();
    command
        .env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", s3::SECRET_KEY)
        .env("AWS_REGION", s3::REGION);
    command
}

struct Scene {
    store: s3::Server,
    cluster: Cluster,
    database: String,
    folder: tempfile::TempDir,
}

impl Scene {
    fn node(&self, name: &str) -> Server {
        let mut command = with_account();
        command.args(of_readme(&self.store)).current_dir(self.folder.path());
        command.args(["--database-url", &self.database, "--node", name, "--lease-ttl", "3"]);
        command.args(["--archive-keep-events", "20", "--archive-segment-events", "100"]);
        command.args(["--port", "0", "--router-port", "0"]);
        // Each node has a folder of its own; that of the README is the first one's.
        let data = self.folder.path().join(name);
        let arguments: Vec<String> =
            command.get_args().map(|it| it.to_str().unwrap().to_owned()).collect();
        let at = arguments.iter().position(|argument| argument == "--data-dir").unwrap();
        let mut arguments = arguments;
        data.to_str().unwrap().clone_into(&mut arguments[at + 1]);
        Server::spawn(with_account().args(arguments), None)
    }

    /// An operator's command on the log and its archive.
    fn ask(&self, words: &[&str]) -> Output {
        let mut command = with_account();
        command.args(words).args(["--database-url", &self.database, "--data-dir"]);
        command.arg(self.folder.path().join("one"));
        command.args(["--s3-endpoint", self.store.endpoint()]).output().unwrap()
    }

    fn archived_up_to(&self) -> u64 {
        let output = self.ask(&["archive", "status", "--json"]);
        // Before there is an archive it is told so.
        let answer: Option<Value> = serde_json::from_slice(&output.stdout).ok();
        answer.map_or(0, |answer| answer["databaseFloor"].as_u64().unwrap())
    }

    /// Who signed the checkpoints, in order, each once.
    fn signers(&self) -> Vec<String> {
        let database = self.database.rsplit('/').next().unwrap();
        let keys = "SELECT encode(key, 'hex') FROM checkpoints ORDER BY position, signed_at";
        let text = self.cluster.psql(database, keys);
        let mut signers: Vec<String> = text.lines().map(str::to_owned).collect();
        signers.dedup();
        signers
    }
}

/// Several hundred events by a few commands.
fn write(server: &Server, name: &str) {
    let words = format!(
        "lrp desire --guid {name} --rootfs preloaded:diario --instances 200 --memory-mb 64 \
         --disk-mb 64 -- /bin/diario sample-app"
    );
    server.text(&words.split_whitespace().collect::<Vec<_>>());
}

#[test]
fn of_two_nodes_the_leader_archives_into_s3_and_the_next_leader_goes_on() {
    let cluster = Cluster::start(&Settings::default());
    let database = cluster.fresh_database();
    let scene = Scene { store: s3::Server::start(), cluster, database, folder: folder() };
    let one = scene.node("one");
    let keys = scene.folder.path().join("two/keys");
    fs::create_dir_all(&keys).unwrap();
    let master = fs::read_to_string(scene.folder.path().join("one/keys/master.key")).unwrap();
    write_private(&keys.join("master.key"), &master);
    let two = scene.node("two");
    write(&two, "first");
    until("the leader to archive", || (scene.archived_up_to() > 100).then_some(()));
    // Read through the other node, out of the archive that it has not written.
    let event = two.json(&["log", "show", "1"]);
    assert_eq!(event["position"], "1", "{event}");

    one.kill();
    write(&two, "second");
    let before = scene.archived_up_to();
    until("the next leader to archive", || (scene.archived_up_to() > before).then_some(()));

    let floor = scene.archived_up_to();
    let metrics = crate::harness::http(&format!("{}/metrics", two.api), "127.0.0.1").unwrap().1;
    assert!(metrics.contains(&format!("diario_log_floor_position {floor}")), "{metrics}");
    two.stop();
    // One after the other signed, and never both by turns.
    let signers = scene.signers();
    assert_eq!(signers.len(), 2, "{signers:?}");
    let verified = scene.ask(&["verify", "--public-key", &signers[0], "--public-key", &signers[1]]);
    assert!(verified.status.success(), "{}", told(&verified));

    // What is wrong with the store is told, and no secret of the account.
    let never = scene.folder.path().join("never");
    let never = never.to_str().unwrap();
    for (fault, word) in [(Fault::Denied, "AccessDenied"), (Fault::Old, "lacks positions")] {
        scene.store.plan(move |_: &Call| Some(fault));
        let refused = scene.ask(&["log", "export", "--output", never]);
        assert!(!refused.status.success() && told(&refused).contains(word), "{}", told(&refused));
        assert!(!told(&refused).contains(s3::SECRET_KEY), "{}", told(&refused));
    }
    scene.store.heal();
    let stranger = diario()
        .args(["archive", "status", "--database-url", &scene.database])
        .args(["--s3-endpoint", scene.store.endpoint()])
        .env("AWS_ACCESS_KEY_ID", s3::ACCESS_KEY)
        .env("AWS_SECRET_ACCESS_KEY", "a wrong one")
        .env("AWS_REGION", s3::REGION)
        .output()
        .unwrap();
    assert!(!stranger.status.success() && !told(&stranger).contains("a wrong one"));
    assert!(told(&stranger).contains("wrong signature"), "{}", told(&stranger));
}
