//! A made-up event that has lived through three shapes.
#![expect(
    unreachable_pub,
    dead_code,
    reason = "the macro makes what every aggregate needs; a made-up one uses a part of it"
)]

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{UnreadableEvent, check_known, events};

events! {
    "What happened to a train.";
    /// It went on its way.
    Departed = "train.departed", 3, [name_the_platform, split_the_delay];
    /// It came in.
    Arrived = "train.arrived", 1;
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Departed {
    platform: String,
    delay_minutes: u64,
    delay_seconds: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Arrived {}

/// Version 1 called it `track`, and knew numbers only.
fn name_the_platform(mut payload: Value) -> Value {
    if let Some(fields) = payload.as_object_mut()
        && let Some(track) = fields.remove("track")
    {
        fields.insert("platform".to_owned(), json!(track.to_string()));
    }
    payload
}

/// Version 2 had the delay in seconds alone.
fn split_the_delay(mut payload: Value) -> Value {
    if let Some(seconds) = payload["delay_seconds"].as_u64() {
        payload["delay_minutes"] = json!(seconds / 60);
        payload["delay_seconds"] = json!(seconds % 60);
    }
    payload
}

fn read(schema_version: u16, payload: &Value) -> Result<Event, UnreadableEvent> {
    let payload = payload.to_string();
    let read = Event::read("train.departed").expect("a known event");
    read(schema_version, payload.as_bytes())
}

#[test]
fn every_version_is_read_in_the_newest_shape() {
    let newest = Departed { platform: "7".to_owned(), delay_minutes: 1, delay_seconds: 30 };
    let expected = Event::from(newest.clone());
    assert_eq!(expected.schema_version(), 3);
    let versions = [
        (1, json!({ "track": 7, "delay_seconds": 90 })),
        (2, json!({ "platform": "7", "delay_seconds": 90 })),
        (3, serde_json::to_value(newest).unwrap()),
    ];
    for (version, payload) in versions {
        assert_eq!(read(version, &payload).unwrap(), expected, "version {version}");
    }
    // An upcaster is for the versions before it alone: the newest is taken as it stands.
    let untouched = json!({ "platform": "7", "delay_minutes": 0, "delay_seconds": 90 });
    let Event::Departed(untouched) = read(3, &untouched).unwrap() else { panic!("departed") };
    assert_eq!((untouched.delay_minutes, untouched.delay_seconds), (0, 90));
}

#[test]
fn a_version_that_cannot_be_read_is_told_apart() {
    let old = json!({ "track": 7, "delay_seconds": 90 });

    assert!(matches!(read(4, &old), Err(UnreadableEvent::NewerSchema { found: 4, known: 3, .. })));
    assert!(matches!(read(0, &old), Err(UnreadableEvent::NoSuchSchema { found: 0, .. })));
    // An old payload that was never one stays unreadable, whatever the upcasters make of it.
    for payload in [json!({}), json!(null), json!([1]), json!("x"), json!({ "track": 7 })] {
        assert!(matches!(read(1, &payload), Err(UnreadableEvent::Payload { .. })), "{payload}");
    }
    assert!(Event::read::<Event>("train.exploded").is_none());
    assert_eq!(Event::TYPES, [("train.departed", 3), ("train.arrived", 1)]);
    Event::from(Arrived {}).payload().unwrap();
}

#[test]
fn what_is_known_is_told_without_a_payload() {
    for (type_name, newest) in super::Event::types() {
        assert!(check_known(type_name, newest).is_ok());
        assert!(matches!(
            check_known(type_name, newest + 1),
            Err(UnreadableEvent::NewerSchema { .. })
        ));
    }
    assert!(matches!(check_known("train.departed", 1), Err(UnreadableEvent::UnknownType { .. })));
}
