//! Compiles the messages of Diego's BBS (`src/bbs/proto`) to Rust, without `protoc`.
//!
//! Two things are not said in the files themselves, which keep Diego's names: which messages are on the
//! wire even when they are empty, and that an acronym is a word in Rust.

use std::{error::Error, fs, path::Path};

use prost_build::Config;
use protox::prost_reflect::prost_types::{
    DescriptorProto, FileDescriptorSet, field_descriptor_proto::Label,
};

const FOLDER: &str = "src/bbs/proto";

/// By message, the numbers of its fields that are messages and always written: Diego's writers have no
/// pointer there that could be nil.
const ALWAYS_WRITTEN: [(&str, &[i32]); 6] = [
    ("ActualLRP", &[1, 2, 3, 9]),
    ("ActualLRPInfo", &[3, 9]),
    ("ActualLRPInstanceChangedEvent", &[1, 2]),
    ("ActualLRPCrashedEvent", &[1, 2]),
    ("DesiredLRPSchedulingInfo", &[1, 4, 5, 6]),
    ("DesiredLRPRunInfo", &[1]),
];

/// The fields of an action that would be held in it whole.
const LARGE_ACTIONS: [&str; 6] = [
    "download_action",
    "upload_action",
    "run_action",
    "parallel_action",
    "serial_action",
    "codependent_action",
];

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed={FOLDER}");
    let mut names = Vec::new();
    for entry in fs::read_dir(FOLDER)? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            names.extend(path.file_name().map(ToOwned::to_owned));
        }
    }
    names.sort();
    let mut files = protox::compile(names.iter().map(Path::new), [FOLDER])?;
    mark_always_written(&mut files);
    name_acronyms_as_words(&mut files);
    let mut config = Config::new();
    // Maps in order: what is written twice is written the same.
    config.btree_map(["."]);
    // A list of actions is not to take the room of the largest one for each.
    for action in LARGE_ACTIONS {
        config.boxed(format!(".models.Action.{action}"));
    }
    config.compile_fds(files)?;
    Ok(())
}

fn messages(files: &mut FileDescriptorSet) -> impl Iterator<Item = &mut DescriptorProto> {
    files.file.iter_mut().flat_map(|file| &mut file.message_type)
}

fn mark_always_written(files: &mut FileDescriptorSet) {
    for message in messages(files) {
        let numbers = ALWAYS_WRITTEN.iter().find(|(name, _)| *name == message.name());
        let Some((_, numbers)) = numbers else { continue };
        for field in &mut message.field {
            if numbers.contains(&field.number()) {
                field.set_label(Label::Required);
            }
        }
    }
}

/// Names of messages are on no wire.
fn name_acronyms_as_words(files: &mut FileDescriptorSet) {
    let as_words = |name: &mut String| *name = name.replace("LRP", "Lrp");
    for message in messages(files) {
        as_words(message.name.get_or_insert_default());
        for field in &mut message.field {
            field.type_name.as_mut().map(as_words);
        }
        for entry in &mut message.nested_type {
            for field in &mut entry.field {
                field.type_name.as_mut().map(as_words);
            }
        }
    }
}
