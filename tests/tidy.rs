//! Tidy: the rules of the tree that no compiler checks.
//!
//! Root entries, which crate may know which, no IO in `domain`, SQL only in `projections`, a
//! sentence at the head of every file, and where dependencies come from.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use cargo_metadata::{DependencyKind, Metadata, MetadataCommand};

const ROOT_ENTRIES: [&str; 9] = [
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE",
    "README.md",
    "api",
    "cell",
    "domain",
    "migrations",
    "projections",
];

/// Besides dotfiles, `tests` and what cargo makes.
const ROOT_IGNORED: [&str; 2] = ["target", "tests"];

const LICENCES: [&str; 12] = [
    "0BSD",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "CDLA-Permissive-2.0",
    "ISC",
    "MIT",
    "Unicode-3.0",
    "Unlicense",
    "Zlib",
];

/// Crates that must not be named by ours; each has a better place.
const BANNED: [&str; 5] = ["bincode", "lazy_static", "once_cell", "openssl", "openssl-sys"];

fn root() -> PathBuf {
    PathBuf::from(".")
}

fn metadata() -> Metadata {
    MetadataCommand::new().manifest_path(root().join("Cargo.toml")).exec().unwrap()
}

/// Every Rust file below a folder, with its text.
fn sources(folder: &Path) -> Vec<(PathBuf, String)> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).unwrap();
                found.push((path, text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {}", folder.display());
    found
}

/// A file's lines before its tests begin, comments left out.
fn code(text: &str) -> impl Iterator<Item = (usize, &str)> {
    text.lines()
        .enumerate()
        .take_while(|(_, line)| !line.starts_with("#[cfg(test)]"))
        .filter(|(_, line)| !line.trim_start().starts_with("//"))
}

/// Says where any of the words occurs in the code below a folder.
fn occurrences(folder: &Path, words: &[&str]) -> Vec<String> {
    let mut found = Vec::new();
    for (path, text) in sources(folder) {
        for (number, line) in code(&text) {
            if let Some(word) = words.iter().find(|word| line.contains(**word)) {
                found.push(format!("{}:{}: {word}", path.display(), number + 1));
            }
        }
    }
    found
}

#[test]
fn the_root_holds_what_the_architecture_names_and_nothing_else() {
    let expected: BTreeSet<String> =
        ROOT_ENTRIES.iter().chain(&ROOT_IGNORED[1..]).map(|&name| name.to_owned()).collect();

    let found: BTreeSet<String> = fs::read_dir(root())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| !name.starts_with('.') && name != "target")
        .collect();

    assert_eq!(found, expected);
}

#[test]
fn every_file_says_what_it_is() {
    for folder in ["domain", "projections", "api", "cell", "tests"] {
        for (path, text) in sources(&root().join(folder)) {
            assert!(text.starts_with("//!"), "{} must begin with `//!`", path.display());
        }
    }
}

#[test]
fn crates_know_only_what_the_architecture_allows() {
    let allowed = |name: &str| -> &[&str] {
        match name {
            "projections" | "cell" => &["domain"],
            "api" => &["cell", "domain", "projections"],
            _ => &[],
        }
    };
    let metadata = metadata();
    let members: BTreeSet<String> =
        metadata.workspace_packages().iter().map(|package| package.name.to_string()).collect();

    for package in metadata.workspace_packages() {
        let ours = package
            .dependencies
            .iter()
            .filter(|dependency| dependency.kind == DependencyKind::Normal)
            .filter(|dependency| members.contains(&dependency.name));
        for dependency in ours {
            assert!(
                allowed(&package.name).contains(&dependency.name.as_str()),
                "{} must not know {}",
                package.name,
                dependency.name
            );
        }
    }
}

#[test]
fn the_rules_do_no_io_and_read_no_clock() {
    let found = occurrences(
        &root().join("domain/src"),
        &[
            "std::fs",
            "std::io",
            "std::net::Tcp",
            "std::net::Udp",
            "std::process",
            "std::thread",
            "std::env",
            "std::time::Instant",
            "SystemTime",
            "tokio",
            "sqlx",
            "async fn",
            "rand::",
            "new_v4",
            "HashMap",
            "HashSet",
        ],
    );
    // The live aggregates are looked up by hash, and sorted wherever they are walked.
    let by_hash = ["hash_index.rs", "aggregates/mod.rs", "aggregates/shard.rs"];
    let is_known = |place: &String| {
        place.ends_with("HashMap") && by_hash.iter().any(|file| place.contains(file))
    };
    // How much a test does may be said from outside.
    let is_of_a_test = |place: &String| place.contains("_tests.rs") && place.ends_with("std::env");
    let found = found.into_iter().filter(|place| !is_known(place) && !is_of_a_test(place));
    let found: Vec<String> = found.collect();

    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn only_projections_knows_sql() {
    for folder in ["domain/src", "api/src", "cell/src"] {
        let found = occurrences(&root().join(folder), &["sqlx", "SELECT ", "INSERT INTO"]);
        assert_eq!(found, Vec::<String>::new());
    }
}

#[test]
fn only_the_composition_root_names_the_cell_crate() {
    let roots = ["main.rs", "dev.rs", "cell_command.rs"];

    let found: Vec<String> =
        occurrences(&root().join("api/src"), &["cell::agent", "use cell::", "cell::garden"])
            .into_iter()
            .filter(|place| !roots.iter().any(|name| place.contains(name)))
            .filter(|place| !place.contains("domain"))
            .collect();

    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn walls_inside_the_crates_stand() {
    let no_cloud_controller = ["cloud_controller", "cc_bridge", "uaa"];
    for folder in ["bbs", "auction", "convergence"] {
        let found = occurrences(&root().join("domain/src").join(folder), &no_cloud_controller);
        assert_eq!(found, Vec::<String>::new());
    }
    let no_work_kinds = ["ActualLrp", "DesiredLrp", "TaskGuid", "WorkKind", "ProcessGuid"];
    for folder in ["executor", "garden"] {
        let found = occurrences(&root().join("cell/src").join(folder), &no_work_kinds);
        assert_eq!(found, Vec::<String>::new());
    }
    let found = occurrences(&root().join("cell/src/garden"), &["Action", "domain::action"]);
    assert_eq!(found, Vec::<String>::new());
}

#[test]
fn planted_bugs_can_still_be_planted() {
    let folder = root().join("tests/planted");
    let patches: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().path()).collect();
    assert!(patches.len() >= 5, "{patches:?}");
    for patch in patches {
        let mut git = Command::new("git");
        let told = git.args(["apply", "--check"]).arg(&patch).current_dir(root()).output().unwrap();
        assert!(told.status.success(), "{}", String::from_utf8_lossy(&told.stderr));
    }
}

#[test]
fn what_is_said_of_each_quirk_of_diego_is_shown_by_a_test() {
    let text = fs::read_to_string(root().join("domain/src/bbs/mod.rs")).unwrap();
    let rows = text.lines().filter_map(|line| line.strip_prefix("//! | "));
    let named: Vec<&str> =
        rows.filter_map(|row| row.strip_suffix("` |")?.rsplit_once('`')).map(|it| it.1).collect();
    let all: Vec<(PathBuf, String)> = ["domain", "projections", "api", "cell"]
        .iter()
        .flat_map(|folder| sources(&root().join(folder)))
        .collect();
    assert!(named.len() >= 20, "{named:?}");
    for name in named {
        let test = format!("fn {name}() ");
        assert!(all.iter().any(|(_, text)| text.contains(&test)), "no test is named {name}");
    }
}

#[test]
fn no_note_is_left_for_later() {
    // Put together here, so that this file does not hold the words itself.
    let words = [["TO", "DO"].concat(), ["FIX", "ME"].concat(), ["XX", "X"].concat()];
    for folder in ["domain", "projections", "api", "cell", "tests"] {
        for (path, text) in sources(&root().join(folder)) {
            for word in &words {
                assert!(!text.contains(word), "{} holds {word}", path.display());
            }
        }
    }
}

#[test]
fn dependencies_come_from_crates_io_under_allowed_licences() {
    let metadata = metadata();
    let members: BTreeSet<_> = metadata.workspace_members.iter().collect();

    for package in &metadata.packages {
        if members.contains(&package.id) {
            continue;
        }
        let source = package.source.as_ref().map(ToString::to_string).unwrap_or_default();
        assert!(source.starts_with("registry+"), "{} comes from {source:?}", package.name);
        let licence = package.license.clone().unwrap_or_default();
        assert!(is_allowed(&licence), "{} is under {licence:?}", package.name);
    }
}

/// Whether one choice that a licence expression offers is allowed in all its parts.
fn is_allowed(expression: &str) -> bool {
    let expression = expression.replace('/', " OR ").replace(['(', ')'], "");
    expression
        .split(" OR ")
        .any(|choice| choice.split(" AND ").all(|licence| LICENCES.contains(&licence.trim())))
}

#[test]
fn our_manifests_name_no_banned_crate_and_no_wildcard() {
    for package in metadata().workspace_packages() {
        for dependency in &package.dependencies {
            assert!(
                !BANNED.contains(&dependency.name.as_str()),
                "{} names {}",
                package.name,
                dependency.name
            );
            let is_ours = dependency.path.is_some();
            assert!(
                is_ours || dependency.req.to_string() != "*",
                "{} takes any version of {}",
                package.name,
                dependency.name
            );
        }
    }
}
