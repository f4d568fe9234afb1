//! Secrets: a canary in every place where one is accepted is found nowhere in clear; and keys are
//! rotated and secrets forgotten while all runs.
//!
//! A new place is one more row of [`Places::all`], a new thing that is kept or shown one more line
//! of [`everything_shown`]. What an app prints of its own secrets is the app's: its log lines are
//! kept as it wrote them.

use std::{
    fs::{self, File},
    path::{Path, PathBuf},
    process::{Command, Output},
};

use serde_json::{Value, json};

use crate::harness::{Cell, Server, diario, folder, told, until, write_private};

/// A secret that is told apart from all others.
#[derive(Debug, Clone)]
struct Canary {
    place: &'static str,
    secret: String,
}

/// Draws canaries.
#[derive(Debug, Default)]
struct Places(Vec<Canary>);

impl Places {
    /// A new canary for a place: 32 hex digits, so that it also serves as half a key.
    fn draw(&mut self, place: &'static str) -> String {
        let mut bytes = [0; 16];
        let mut random = File::open("/dev/urandom").unwrap();
        std::io::Read::read_exact(&mut random, &mut bytes).unwrap();
        let secret: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        self.0.push(Canary { place, secret: secret.clone() });
        secret
    }

    /// A canary as a list of variables.
    fn env(&mut self, place: &'static str) -> Value {
        json!([{ "name": "CANARY", "value": self.draw(place) }])
    }

    fn run(&mut self, place: &'static str, args: &[&str]) -> Value {
        json!({ "run": { "path": "/bin/diario", "args": args, "user": "vcap", "env": self.env(place) } })
    }

    /// A definition with a canary in every place that takes one.
    fn definition(&mut self, args: &[&str]) -> Value {
        json!({
            "rootfs": "preloaded:diario",
            "memory_mb": 64,
            "disk_mb": 16,
            "env": self.env("definition.env"),
            "setup": { "serial": { "actions": [
                self.run("definition.setup, in a serial", &["--version"]),
                { "timeout": {
                    "action": self.run("definition.setup, in a timeout", &["--version"]),
                    "timeout_ms": 60000
                } },
            ] } },
            "action": self.run("definition.action", args),
        })
    }
}

/// The forms of a canary that are cheap to look for.
fn forms(secret: &str) -> Vec<Vec<u8>> {
    let hex: String = secret.bytes().map(|byte| format!("{byte:02x}")).collect();
    let mut raw = Vec::new();
    for pair in secret.as_bytes().chunks(2) {
        raw.push(u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap());
    }
    let mut forms =
        vec![secret.as_bytes().to_vec(), secret.to_uppercase().into_bytes(), hex.into_bytes(), raw];
    // In base64 a text looks different at each of three offsets; its ends depend on neighbours.
    for offset in 0..3 {
        let padded = [&b"   "[..offset], secret.as_bytes()].concat();
        let encoded = base64(&padded);
        forms.push(encoded.get(4..encoded.len() - 4).unwrap().to_vec());
    }
    forms
}

fn base64(bytes: &[u8]) -> Vec<u8> {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut encoded = Vec::new();
    for chunk in bytes.chunks_exact(3) {
        let group =
            usize::from(chunk[0]) << 16 | usize::from(chunk[1]) << 8 | usize::from(chunk[2]);
        encoded.extend([18, 12, 6, 0].map(|shift| DIGITS[group >> shift & 63]));
    }
    encoded
}

fn holds(content: &[u8], form: &[u8]) -> bool {
    content.windows(form.len()).any(|window| window == form)
}

/// Every file below a folder, with its content.
fn files(folder: &Path) -> Vec<(PathBuf, Vec<u8>)> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap().flatten() {
        let path = entry.path();
        let kind = entry.file_type().unwrap();
        if kind.is_dir() {
            found.extend(files(&path));
        } else if kind.is_file() && entry.metadata().unwrap().len() < 64 << 20 {
            found.push((path.clone(), fs::read(&path).unwrap_or_default()));
        }
    }
    found
}

/// Where canaries are in clear.
fn leaks(places: &Places, contents: &[(PathBuf, Vec<u8>)]) -> Vec<String> {
    let mut found = Vec::new();
    for Canary { place, secret } in &places.0 {
        for form in forms(secret) {
            for (path, content) in contents.iter().filter(|(_, content)| holds(content, &form)) {
                found.push(format!("{place}: in {} of {} bytes", path.display(), content.len()));
            }
        }
    }
    found
}

/// What operators can be shown, errors too.
fn everything_shown(server: &Server) -> Vec<(PathBuf, Vec<u8>)> {
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

/// A folder with a control plane, a cell and all that they write.
struct Machine {
    folder: tempfile::TempDir,
    places: Places,
    outputs: Vec<(PathBuf, Vec<u8>)>,
}

impl Machine {
    fn new() -> Self {
        Self { folder: folder(), places: Places::default(), outputs: Vec::new() }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
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
                // Who parses it repeats what it met; no secret belongs here.
                "memory_mb" => json!("much"),
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

    fn look(&self, what: &str, contents: &[(PathBuf, Vec<u8>)]) {
        let leaks = leaks(&self.places, contents);
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
        // Whoever looks wrongly finds nothing: a guid must be found.
        assert!(kept.iter().any(|(path, content)| {
            path.to_string_lossy().contains("diario.db") && holds(content, b"process/doomed")
        }));
        self.look(what, &kept);
    }
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
    let mut machine = Machine::new();
    let data = machine.path("control-plane");
    let data_dir = data.to_str().unwrap().to_owned();
    let (cell_token, api_token) =
        (machine.places.draw("the cell's token"), machine.places.draw("the API's token"));
    let tokens = machine.file("cells.json", &json!({ "cell-1": cell_token }));
    write_private(&machine.path("cell.token"), &cell_token);
    let holders = json!([{ "token": api_token, "name": "ann", "access": "write" }]);
    let users = machine.file("tokens.json", &holders);
    let master = [0, 1].map(|_| machine.places.draw("a master key")).concat();
    let serve = ["serve", "--cell-tokens", &tokens, "--tokens", &users];
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
    until("the quiet app to run", || {
        let shown = server.json(&["lrp", "show", "quiet"]);
        (shown["actualLrps"][0]["state"] == "RUNNING").then_some(())
    });
    until("a crash", || server.json(&["crash", "list"]).get(0).cloned());
    let of_quiet = machine.places.0.iter().find(|it| it.place == "definition.action").unwrap();
    assert!(runs_with(&of_quiet.secret), "the app has its secret");
    let shown = everything_shown(&server);
    machine.look("shown while it runs", &shown);
    machine.look_at_files("kept while it runs");

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
    server.stop();
    machine.look_at_files("kept after the stop");
    let outputs = std::mem::take(&mut machine.outputs);
    machine.look("said by commands", &outputs);
    let list = |keys: &str| {
        let mut command = diario();
        command.args(["keys", "list", "--json", "--data-dir", &data_dir]);
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
