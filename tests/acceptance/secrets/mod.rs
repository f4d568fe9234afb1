//! Secrets: a canary in every place where one is accepted is found nowhere in clear; and keys are
//! rotated and secrets forgotten while all runs.
//!
//! A new place is one more row of [`Places`], a new thing that is kept or shown one more line of
//! [`everything_shown`] or [`Machine::look_at_copies`]. What an app prints of its own secrets is the
//! app's: its log lines are kept as it wrote them.

mod canary;
mod collector;
mod forgetting;

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use projections::testing::{
    columns,
    postgres::{Cluster, Settings},
};
use serde_json::{Value, json};

use crate::harness::{Cell, Server, diario, folder, post, told, until, write_private};
use canary::{Content, Places, files, holds, leaks, unpacked};
use collector::Collector;

/// What operators can be shown, errors too.
fn everything_shown(server: &Server) -> Vec<Content> {
    let questions: [&[&str]; 14] = [
        &["lrp", "list"],
        &["lrp", "show", "quiet", "--json"],
        &["lrp", "show", "doomed", "--json"],
        &["task", "list", "--json"],
        &["task", "show", "flags", "--json"],
        &["cells", "--json"],
        &["log", "tail", "--limit", "200", "--json"],
        &["log", "tail", "--limit", "200"],
        &["logs", "quiet"],
        &["logs", "doomed"],
        &["crash", "list", "--json"],
        &["diff", "@0", "now", "--json"],
        &["at", "-1s", "lrps", "--json"],
        &["keys", "list"],
    ];
    let answer = |question: &&[&str]| {
        let output = server.run(question);
        (PathBuf::from(question.join(" ")), shown(&output))
    };
    questions.iter().map(answer).collect()
}

fn shown(output: &Output) -> Vec<u8> {
    [output.stdout.as_slice(), output.stderr.as_slice()].concat()
}

fn tracing_to(path: &Path) -> Command {
    let mut command = diario();
    command.env("DIARIO_LOG", "trace").stderr(File::create(path).unwrap());
    command
}

/// Where the log is.
enum Database {
    Sqlite,
    Postgres { cluster: Cluster, url: String },
}

/// A folder with a control plane, a cell and all that they write.
struct Machine {
    folder: tempfile::TempDir,
    database: Database,
    places: Places,
    outputs: Vec<Content>,
}

impl Machine {
    fn new(database: Database) -> Self {
        Self { folder: folder(), database, places: Places::default(), outputs: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The options that name the log.
    fn log(&self) -> Vec<String> {
        let mut options = vec!["--data-dir".to_owned(), text(&self.path("control-plane"))];
        if let Database::Postgres { url, .. } = &self.database {
            options.extend(["--database-url".to_owned(), url.clone()]);
        }
        options
    }

    /// Runs a command on the database itself; it must succeed.
    fn offline(&mut self, arguments: &[&str]) -> String {
        let output = diario().args(arguments).args(self.log()).output().unwrap();
        self.outputs.push((PathBuf::from(arguments.join(" ")), shown(&output)));
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
        String::from_utf8(output.stdout).unwrap()
    }

    /// Runs a command that may be refused; what it says is looked through later.
    fn run(&mut self, server: &Server, arguments: &[&str]) -> Output {
        let output = server.run(arguments);
        self.outputs.push((PathBuf::from(arguments.join(" ")), shown(&output)));
        output
    }

    fn done(&mut self, server: &Server, arguments: &[&str]) {
        let output = self.run(server, arguments);
        assert!(output.status.success(), "{arguments:?}: {}", told(&output));
    }

    fn file(&self, name: &str, content: &Value) -> String {
        let path = self.path(name);
        write_private(&path, &content.to_string());
        path.to_str().unwrap().to_owned()
    }

    /// Sends a canary in every place.
    fn send_all(&mut self, server: &Server) {
        for (guid, args) in [("quiet", ["sample-app"]), ("doomed", ["no-such-command"])] {
            let wish = json!({ "process_guid": guid, "definition": self.places.definition(&args) });
            let file = self.file(&format!("sent-{guid}.yaml"), &wish);
            self.done(server, &["lrp", "desire", &file]);
        }
        let wish =
            json!({ "task_guid": "file", "definition": self.places.definition(&["--version"]) });
        let file = self.file("sent-task.yaml", &wish);
        self.done(server, &["task", "run", &file, "--wait"]);
        let variable = format!("CANARY={}", self.places.draw("--env"));
        let env_file = self.path("sent-env");
        write_private(&env_file, &format!("OTHER={}\n", self.places.draw("--env-file")));
        let flags = ["task", "run", "--guid", "flags", "--env", &variable, "--env-file"];
        let rest = [env_file.to_str().unwrap(), "--wait", "--", "/bin/diario", "--version"];
        self.done(server, &[&flags[..], &rest[..]].concat());
    }

    /// Sends canaries that are refused.
    fn send_malformed(&mut self, server: &Server) {
        let mut malformed = vec![self.places.draw("an --env-file without a name")];
        for (place, bend) in [
            ("a file with a wrong type", "memory_mb"),
            ("a file with an unknown field", "unknown"),
            ("a file with a value out of range", "cpu_weight"),
        ] {
            let mut definition = self.places.definition(&["sample-app"]);
            definition[bend] = match bend {
                "cpu_weight" => json!(101),
                _ => json!(self.places.draw(place)),
            };
            malformed.push(json!({ "process_guid": "bad", "definition": definition }).to_string());
        }
        malformed.push(format!("env: [{}", self.places.draw("a file that is no YAML")));
        for (index, text) in malformed.iter().enumerate() {
            let path = self.path(&format!("sent-bad-{index}"));
            write_private(&path, text);
            let path = path.to_str().unwrap().to_owned();
            let by_flags =
                ["task", "run", "--guid", "bad", "--env-file", &path, "--", "/bin/diario"];
            let by_file = ["lrp", "desire", &path];
            let output = self.run(server, if index == 0 { &by_flags } else { &by_file });
            assert!(!output.status.success(), "{index}: {}", told(&output));
        }
    }

    /// Asks by GraphQL what no command of ours would, with canaries in the wrong places.
    fn ask_wrongly(&mut self, server: &Server, token: &str) {
        let desire = "mutation($spec: DesiredLrpInput!) { desireLrp(spec: $spec) { position } }";
        let mut asked: Vec<Value> = Vec::new();
        let mut wrong = |bend: &dyn Fn(&mut Value, String), secret: String| {
            let mut spec = json!({
                "processGuid": "bad",
                "definition": {
                    "rootfs": "preloaded:diario", "memoryMb": 64, "diskMb": 16,
                    "env": [{ "name": "A", "value": "b" }],
                    "action": { "run": { "path": "/bin/diario", "user": "vcap" } },
                },
            });
            bend(&mut spec, secret);
            asked.push(json!({ "query": desire, "variables": { "spec": spec } }));
        };
        let mut draw = |place| self.places.draw(place);
        wrong(&|it, secret| it["definition"]["memoryMb"] = json!(secret), draw("a number"));
        wrong(&|it, secret| it["definition"]["env"] = json!([secret]), draw("a variable"));
        wrong(&|it, secret| it["definition"]["env"] = json!(secret), draw("all variables"));
        wrong(&|it, secret| it["definition"]["env"][0]["value"] = json!([secret]), draw("a list"));
        wrong(&|it, secret| it["definition"]["action"] = json!(secret), draw("an action"));
        wrong(&|it, secret| it["definition"]["rootfs"] = json!(secret), draw("a root"));
        wrong(&|it, secret| it["definition"]["unknown"] = json!(secret), draw("no field"));
        wrong(&|it, secret| it["routes"] = json!(secret), draw("routes"));
        let unended = format!("mutation {{ desireLrp(spec: {{env: \"{}", draw("an unended text"));
        let literal = format!(
            "mutation {{ desireLrp(spec: {{processGuid: \"bad\", instances: \"{}\"}}) {{ position }} }}",
            draw("a literal")
        );
        let mut bodies: Vec<String> = asked.iter().map(Value::to_string).collect();
        bodies.extend([unended, literal].map(|query| json!({ "query": query }).to_string()));
        bodies.push(format!("{{\"query\": \"{}", draw("no JSON")));
        for body in bodies {
            let answer = post(&format!("{}/graphql", server.api), token, &body);
            assert!(answer.contains("errors"), "{body}: {answer}");
            self.outputs.push((PathBuf::from(body), answer.into_bytes()));
        }
    }

    fn look(&self, what: &str, contents: Vec<Content>) {
        let leaks = leaks(&self.places, &unpacked(contents));
        assert!(leaks.is_empty(), "{what}: {leaks:#?}");
    }

    /// All that the control plane and the cell keep and log; what was sent lies beside.
    fn look_at_files(&self, what: &str) {
        let mut kept = files(&self.path("control-plane"));
        kept.extend(files(&self.path("cell")));
        for log in ["control-plane.log", "cell.log"] {
            let content = fs::read(self.path(log)).unwrap();
            assert!(content.len() > 1000, "{log} has too little in it to trust");
            kept.push((PathBuf::from(log), content));
        }
        let mut rows = Vec::new();
        match &self.database {
            Database::Sqlite => rows = columns::of_sqlite(&self.path("control-plane/diario.db")),
            Database::Postgres { cluster, url } => {
                // What the server still has in memory goes to its files, the log among them.
                cluster.psql("postgres", "CHECKPOINT");
                rows.extend(columns::of_postgres(cluster, url.rsplit('/').next().unwrap()));
                kept.extend(files(&cluster.socket_folder().join("data")));
            }
        }
        kept.extend(rows.into_iter().map(|(table, value)| (PathBuf::from(table), value)));
        // Whoever looks wrongly finds nothing: a guid must be found, in files, rows and snapshots.
        let is_seen = |place: &str| {
            let kept = kept.iter().filter(|(path, _)| path.to_string_lossy().contains(place));
            unpacked(kept.cloned().collect()).iter().any(|(_, content)| holds(content, b"doomed"))
        };
        let (file, events) = match self.database {
            Database::Sqlite => ("diario.db", "batches"),
            Database::Postgres { .. } => ("base", "events"),
        };
        // An archived log's events are no longer in their table.
        let rows = if what.ends_with("archiving") { "snapshot" } else { events };
        for place in [file, rows] {
            assert!(is_seen(place), "{what}: nothing of the log is seen in {place}");
        }
        self.look(what, kept);
    }

    /// Every copy of the log that operators can make.
    fn look_at_copies(&mut self, what: &str) {
        let folder = self.path(&format!("copies {what}"));
        fs::create_dir(&folder).unwrap();
        let at = |name: &str| text(&folder.join(name));
        for form in ["ndjson", "compact"] {
            self.offline(&["log", "export", "--format", form, "--output", &at(form)]);
        }
        self.offline(&["backup", "--to", &at("backup")]);
        self.offline(&["log", "stats", "--json"]);
        self.offline(&["keys", "forgotten"]);
        self.offline(&["verify", "--json"]);
        let copies = files(&folder);
        let copy = |name: &str| {
            let copies = copies.iter().filter(|(path, _)| path.to_string_lossy().contains(name));
            unpacked(copies.cloned().collect())
        };
        for name in ["ndjson", "compact", "log.diario"] {
            let is_seen = copy(name).iter().any(|(_, content)| holds(content, b"process/doomed"));
            assert!(is_seen, "{what}: nothing of the log is seen in {name}");
        }
        let keys = copies.iter().find(|(path, _)| path.ends_with("keys.ndjson")).unwrap();
        assert!(holds(&keys.1, b"process/quiet"), "the part with the keys");
        self.look(what, copies);
    }

    /// Moves all but the end of the log into an archive, and looks at both.
    fn look_at_archive(&mut self) {
        let archive = self.path("archive");
        self.offline(&["archive", "run", "--to", &text(&archive)]);
        let archived = files(&archive);
        let segments = unpacked(archived.clone());
        assert!(segments.iter().any(|(_, content)| holds(content, b"doomed")), "nothing is seen");
        self.look("in the archive", archived);
        self.look_at_files("kept after archiving");
        self.look_at_copies("of an archived log");
    }
}

fn text(path: &Path) -> String {
    path.to_str().unwrap().to_owned()
}

/// Whether a process of this machine has a canary in its environment.
fn runs_with(secret: &str) -> bool {
    fs::read_dir("/proc").unwrap().flatten().any(|process| {
        let environment = fs::read(process.path().join("environ")).unwrap_or_default();
        holds(&environment, secret.as_bytes())
    })
}

#[test]
fn a_canary_in_every_place_is_found_nowhere_and_is_forgotten_when_asked() {
    hunt(Machine::new(Database::Sqlite));
}

#[test]
fn a_canary_in_every_place_is_found_nowhere_in_postgres_either() {
    let cluster = Cluster::start(&Settings { waits_for_disk: true, ..Settings::default() });
    let url = cluster.fresh_database();
    hunt(Machine::new(Database::Postgres { cluster, url }));
}

fn hunt(mut machine: Machine) {
    let collector = Collector::start();
    let data = machine.path("control-plane");
    let (cell_token, api_token) =
        (machine.places.draw("the cell's token"), machine.places.draw("the API's token"));
    let tokens = machine.file("cells.json", &json!({ "cell-1": cell_token }));
    write_private(&machine.path("cell.token"), &cell_token);
    let holders = json!([{ "token": api_token, "name": "ann", "access": "write" }]);
    let users = machine.file("tokens.json", &holders);
    let master = [0, 1].map(|_| machine.places.draw("a master key")).concat();
    let mut serve = vec!["serve", "--cell-tokens", &tokens, "--tokens", &users];
    serve.extend(["--otlp-endpoint", &collector.endpoint]);
    if let Database::Postgres { url, .. } = &machine.database {
        serve.extend(["--database-url", url]);
    }
    let mut command = tracing_to(&machine.path("control-plane.log"));
    command.env("DIARIO_MASTER_KEYS", format!("first:{master}"));
    let mut server = Server::start_command(command, &serve, &data, 0);
    server.set_token(&api_token);
    let cell = Cell::start_command(
        tracing_to(&machine.path("cell.log")),
        &server.api,
        &machine.path("cell.token"),
        &machine.path("cell"),
        &["--remove-on-stop"],
    );

    machine.send_all(&server);
    machine.send_malformed(&server);
    machine.ask_wrongly(&server, &api_token);
    until("the quiet app to run", || {
        let shown = server.json(&["lrp", "show", "quiet"]);
        (shown["actualLrps"][0]["state"] == "RUNNING").then_some(())
    });
    until("a crash", || server.json(&["crash", "list"]).get(0).cloned());
    let of_quiet = machine.places.0.iter().find(|it| it.place == "definition.action").unwrap();
    assert!(runs_with(&of_quiet.secret), "the app has its secret");
    let shown = everything_shown(&server);
    machine.look("shown while it runs", shown);
    machine.look_at_files("kept while it runs");
    machine.look_at_copies("while it runs");

    let unsure = machine.run(&server, &["keys", "forget", "process/doomed"]);
    assert_eq!(unsure.status.code(), Some(2), "{}", told(&unsure));
    let unknown = machine.run(&server, &["keys", "forget", "process/nobody", "--yes"]);
    assert_eq!(unknown.status.code(), Some(1), "{}", told(&unknown));
    let crash = server.json(&["crash", "list"])[0]["id"].as_str().unwrap().to_owned();
    machine.done(&server, &["crash", "show", &crash]);
    machine.done(&server, &["keys", "forget", "process/doomed", "--yes"]);
    let gone = machine.run(&server, &["crash", "show", &crash]);
    assert!(!gone.status.success() && told(&gone).contains("FORGOTTEN"), "{}", told(&gone));
    let log = server.text(&["log", "tail", "--owner", "process/doomed", "--limit", "200"]);
    assert!(log.contains("secrets.forgotten") && log.contains("ann"), "{log}");

    cell.terminate();
    // The last traces are sent at the stop.
    server.stop();
    let traces: Vec<Content> =
        collector.received().into_iter().map(|it| (PathBuf::from("a trace"), it)).collect();
    for span in ["graphql.execute", "bus.submit", "append", "task.desire"] {
        assert!(traces.iter().any(|(_, it)| holds(it, span.as_bytes())), "no span {span} was sent");
    }
    machine.look("sent to the collector of traces", traces);
    machine.look_at_files("kept after the stop");
    machine.look_at_archive();
    let outputs = std::mem::take(&mut machine.outputs);
    machine.look("said by commands", outputs);
    let log = machine.log();
    let list = |keys: &str| {
        let mut command = diario();
        command.args(["keys", "list", "--json"]).args(&log);
        command.env("DIARIO_MASTER_KEYS", keys).output().unwrap()
    };
    let listed: Value = serde_json::from_slice(&list(&format!("first:{master}")).stdout).unwrap();
    assert_eq!(listed["masterKeys"][0]["label"], "first", "{listed}");
    let wrong = list("first:00");
    assert!(!wrong.status.success() && !told(&wrong).contains("first:00"), "{}", told(&wrong));
}

#[test]
fn master_keys_are_rotated_while_a_node_runs_and_without_one() {
    let folder = folder();
    let data_dir = folder.path().to_str().unwrap().to_owned();
    let keys = |server: Option<&Server>, arguments: &[&str], code: i32| {
        let arguments = [&["keys"], arguments].concat();
        let output = match server {
            Some(server) => server.run(&arguments),
            None => diario().args(&arguments).output().unwrap(),
        };
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}", told(&output));
        told(&output)
    };
    let server = Server::start(&["serve"], folder.path());
    let run = ["task", "run", "--guid", "t", "--env", "A=b", "--", "/bin/diario", "--version"];
    server.text(&run);
    let list = |server: Option<&Server>| keys(server, &["list", "--data-dir", &data_dir], 0);

    assert!(list(Some(&server)).contains("default     1          active"), "{}", list(None));
    keys(Some(&server), &["add", "2027", "--data-dir", &data_dir], 0);
    keys(Some(&server), &["add", "2027", "--data-dir", &data_dir], 1);
    keys(Some(&server), &["remove", "default", "--data-dir", &data_dir], 1);
    keys(Some(&server), &["rotate", "--to", "2028"], 1);
    let busy = keys(None, &["rotate", "--offline", "--data-dir", &data_dir], 1);
    assert!(busy.contains("in use by process"), "{busy}");
    keys(Some(&server), &["rotate", "--to", "2027"], 0);
    keys(Some(&server), &["remove", "2027", "--data-dir", &data_dir], 1);
    keys(Some(&server), &["remove", "default", "--data-dir", &data_dir], 0);
    server.text(&["task", "run", "--guid", "u", "--env", "A=b", "--", "/bin/diario", "--version"]);
    server.stop();

    assert!(list(None).contains("2027        2          active"), "{}", list(None));
    keys(None, &["add", "2028", "--data-dir", &data_dir], 0);
    keys(None, &["rotate", "--to", "2028", "--offline", "--data-dir", &data_dir], 0);
    keys(None, &["remove", "2027", "--data-dir", &data_dir], 0);
    keys(None, &["forget", "task/t", "--yes", "--offline", "--data-dir", &data_dir], 0);
    keys(None, &["forget", "task/x", "--yes", "--offline", "--data-dir", &data_dir], 1);
    assert!(list(None).contains("2028        1          active"), "{}", list(None));
    let server = Server::start(&["serve"], folder.path());
    let log = server.text(&["log", "tail", "--owner", "task/t"]);
    assert!(log.contains("secrets.forgotten"), "{log}");
    assert!(server.text(&["keys", "forget", "task/t", "--yes"]).contains("already"));
}
