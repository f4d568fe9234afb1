//! Events are forever: each variant has a golden file, which must be read and written again to the
//! same bytes. `DIARIO_BLESS=1` writes the missing ones; it never changes one that is there.
#![expect(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::{collections::BTreeSet, fs, path::PathBuf};

use domain::{event::Event, testing::sample_events};

fn folder() -> PathBuf {
    PathBuf::from("../tests/golden/events")
}

fn file_name(event: &Event) -> String {
    format!("{}.v{}.json", event.type_name(), event.schema_version())
}

fn bless() {
    fs::create_dir_all(folder()).unwrap();
    for (_, event) in sample_events() {
        let path = folder().join(file_name(&event));
        if !path.exists() {
            let mut bytes = event.payload().unwrap();
            bytes.push(b'\n');
            fs::write(path, bytes).unwrap();
        }
    }
}

/// The event type and the schema version in a golden file's name.
fn parse(name: &str) -> Option<(&str, u16)> {
    let (type_name, version) = name.strip_suffix(".json")?.rsplit_once(".v")?;
    Some((type_name, version.parse().ok()?))
}

#[test]
fn every_event_ever_written_is_read_and_written_again_to_the_same_bytes() {
    if std::env::var_os("DIARIO_BLESS").is_some() {
        bless();
    }
    let mut found = BTreeSet::new();
    for entry in fs::read_dir(folder()).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        let (type_name, schema_version) = parse(&name).unwrap_or_else(|| panic!("{name}"));
        let bytes = fs::read(folder().join(&name)).unwrap();
        let stored = bytes.strip_suffix(b"\n").unwrap();
        let event = Event::from_payload(type_name, schema_version, stored)
            .unwrap_or_else(|error| panic!("{name}: {error:?}"));
        assert_eq!(event.type_name(), type_name);
        if event.schema_version() == schema_version {
            let written = String::from_utf8(event.payload().unwrap()).unwrap();
            assert_eq!(written, String::from_utf8_lossy(stored), "{name}");
        }
        found.insert(name);
    }

    // A file of an unknown type or a newer version was refused above. `found` only ever grows:
    // every version that an event ever had is there, each read through its upcasters.
    let every_version = Event::types().into_iter().flat_map(|(type_name, newest)| {
        (1..=newest).map(move |version| format!("{type_name}.v{version}.json"))
    });
    let expected: BTreeSet<String> = every_version.collect();
    let missing: Vec<&String> = expected.difference(&found).collect();
    assert!(missing.is_empty(), "run with DIARIO_BLESS=1 to write {missing:?}");
    assert_eq!(found, expected);
}

#[test]
fn the_samples_are_one_of_each() {
    let samples: Vec<Event> = sample_events().into_iter().map(|(_, event)| event).collect();
    let names: Vec<&str> = samples.iter().map(Event::type_name).collect();

    assert_eq!(names, Event::type_names());
}

#[test]
fn what_a_newer_version_wrote_is_refused_in_words() {
    let refused = |type_name, schema_version, payload: &[u8]| {
        Event::from_payload(type_name, schema_version, payload).unwrap_err().to_string()
    };

    assert_eq!(
        refused("desired_lrp.exploded", 1, b"{}"),
        "event type \"desired_lrp.exploded\" is unknown here: it was written by a newer version; \
         upgrade"
    );
    assert_eq!(
        refused("desired_lrp.scaled", 2, b"{}"),
        "event desired_lrp.scaled has schema version 2, newer than 1 known here: upgrade"
    );
    assert_eq!(
        refused("desired_lrp.scaled", 1, b"{\"from\":1"),
        "the payload of event desired_lrp.scaled cannot be read"
    );
}
