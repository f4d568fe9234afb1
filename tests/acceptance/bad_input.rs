//! What is refused: each with a clear error, nothing half done, and an exit code that is not 0.

use std::{os::unix::process::CommandExt as _, path::Path, process::Output};

use crate::harness::{Server, cell_of, diario, folder, left_on_machine, told, until};

/// A refused command: its code and what it says.
fn refused(output: &Output, code: i32, says: &[&str]) {
    let told = told(output);
    assert_eq!(output.status.code(), Some(code), "{told}");
    for words in says {
        assert!(told.contains(words), "{told} does not say {words:?}");
    }
    assert!(!told.contains("panicked"), "{told}");
}

fn dev(data_dir: &Path, port: &str) -> Output {
    diario()
        .args(["dev", "--router-port", "0", "--port", port, "--data-dir"])
        .arg(data_dir)
        .output()
        .unwrap()
}

#[test]
fn malformed_wishes_are_refused_by_field_and_leave_no_event() {
    let folder = folder();
    let server = Server::dev(folder.path());
    let write = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.to_str().unwrap().to_owned()
    };
    let good = "process_guid: web\ndefinition:\n  rootfs: preloaded:diario\n  memory_mb: 64\n  \
                disk_mb: 64\n  action: {run: {path: /bin/diario, user: vcap}}\n";
    let position = || server.json(&["routes"])["position"].to_string();
    until("the cell's own event", || (position() == "\"1\"").then_some(()));
    let before = position();

    for (name, text, says) in [
        ("unknown.yml", good.replace("memory_mb", "memory_gb"), "memory_gb"),
        ("empty.yml", good.replace("web", "''"), "must not be empty at line 1"),
        ("long.yml", good.replace("web", &"w".repeat(300)), "255"),
        ("negative.yml", good.replace("memory_mb: 64", "memory_mb: -1"), "line 4"),
        (
            "absurd.yml",
            good.replace("memory_mb: 64", "memory_mb: 99999999"),
            "memoryMb must be from 1",
        ),
        ("rootfs.yml", good.replace("preloaded:diario", "docker:busybox"), "preloaded"),
        ("broken.yml", good.replace("definition:", "definition"), "line 2"),
    ] {
        refused(&server.run(&["lrp", "desire", &write(name, &text)]), 1, &[says]);
    }
    refused(&server.run(&["lrp", "scale", "web", "1"]), 1, &["web", "does not exist"]);
    refused(&server.run(&["lrp", "scale", "web", "-1"]), 2, &[]);
    refused(&server.run(&["lrp", "desire", "/no/such/file"]), 1, &["/no/such/file"]);
    refused(&server.run(&["at", "@999999", "lrps"]), 1, &["999999"]);

    assert_eq!(position(), before, "something was recorded");
}

#[test]
fn a_folder_or_a_port_in_use_is_said() {
    let folder = folder();
    let other = crate::harness::folder();
    let server = Server::dev(folder.path());

    refused(&dev(folder.path(), "0"), 1, &["in use"]);
    refused(&dev(other.path(), &server.port().to_string()), 1, &["in use", "--port"]);

    assert!(std::fs::read_dir(other.path()).unwrap().next().is_none(), "something was made");
}

#[test]
fn a_damaged_database_is_left_as_it_is() {
    let folder = folder();
    let database = folder.path().join("diario.db");
    Server::dev(folder.path()).stop();
    let good = std::fs::read(&database).unwrap();

    let half = &good[..good.len() / 2];
    for (bytes, says) in [
        (b"not a database at all, but long enough".as_slice(), ["not a", "left as it is"]),
        (half, ["damaged", "restore a backup"]),
    ] {
        std::fs::write(&database, bytes).unwrap();
        refused(&dev(folder.path(), "0"), 1, &says);
        assert_eq!(std::fs::read(&database).unwrap(), bytes, "the file was changed");
    }
    assert_eq!(left_on_machine(&cell_of(folder.path())), Vec::<String>::new());
}

#[test]
fn without_root_the_sudo_line_is_printed() {
    let folder = folder();
    // A user who is not root may not even read the build folder: run a copy.
    let binary = folder.path().join("diario");
    std::fs::copy(crate::harness::binary(), &binary).unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(folder.path(), std::fs::Permissions::from_mode(0o755)).unwrap();

    let output = std::process::Command::new(&binary)
        .args(["dev", "--demo"])
        .uid(65534)
        .gid(65534)
        .output()
        .unwrap();

    refused(&output, 1, &[&format!("sudo {} dev --demo", binary.display())]);
}

#[test]
fn beyond_loopback_tls_and_tokens_are_asked_for() {
    let folder = folder();

    let output = diario()
        .args(["serve", "--address", "0.0.0.0", "--port", "0", "--router-port", "0", "--data-dir"])
        .arg(folder.path())
        .output()
        .unwrap();

    refused(&output, 1, &["--tls-cert", "--tokens"]);
}

#[test]
fn a_certificate_that_cannot_be_read_ends_it_at_once() {
    let folder = folder();

    let output = diario()
        .args(["serve", "--tls-cert", "/no/cert", "--tls-key", "/no/key"])
        .args(["--port", "0", "--router-port", "0", "--data-dir"])
        .arg(folder.path())
        .output()
        .unwrap();

    refused(&output, 1, &["--tls-cert"]);
}

#[test]
fn a_wish_that_is_too_large_is_refused_and_harms_nobody_else() {
    let folder = folder();
    let server = Server::dev(folder.path());
    let path = folder.path().join("large.json");
    let env: Vec<_> = (0..6)
        .map(|n| serde_json::json!({ "name": format!("V{n}"), "value": "x".repeat(120_000) }))
        .collect();
    let wish = serde_json::json!({ "process_guid": "large", "definition": {
        "rootfs": "preloaded:diario", "memory_mb": 64, "disk_mb": 64, "env": env,
        "action": { "run": { "path": "/bin/diario", "user": "vcap" } } } });
    std::fs::write(&path, wish.to_string()).unwrap();

    let output = server.run(&["lrp", "desire", path.to_str().unwrap()]);

    refused(&output, 1, &["TOO_LARGE"]);
    server.text(&["lrp", "desire", "--guid", "small", "--", "/bin/diario", "sample-app"]);
}
