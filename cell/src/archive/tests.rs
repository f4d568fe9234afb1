//! Archives of every kind, honest and not, unpacked in a folder beside one that must stay as it is.

use std::cell::Cell;
use std::fs;
use std::io::{Cursor, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use ::tar::{Builder, EntryType, Header};
use ::zip::ZipWriter;
use ::zip::write::SimpleFileOptions;
use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

/// A folder to unpack into, and what lies beside it.
struct Scene {
    home: tempfile::TempDir,
}

impl Scene {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        fs::create_dir(home.path().join("folder")).unwrap();
        fs::create_dir(home.path().join("beside")).unwrap();
        fs::write(home.path().join("beside/secret"), "untouched").unwrap();
        Self { home }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.home.path().join("folder").join(name)
    }

    fn read(&self, name: &str) -> String {
        fs::read_to_string(self.path(name)).unwrap()
    }

    fn unpack(&self, bytes: &[u8]) -> Result<(), Error> {
        self.unpack_with(bytes, &mut |_| Ok(()))
    }

    /// Unpacks, and finds that nothing beside was touched, however it went.
    fn unpack_with(&self, bytes: &[u8], room: &mut Room<'_>) -> Result<(), Error> {
        let archive = self.home.path().join("archive");
        fs::write(&archive, bytes).unwrap();
        let folder = File::open(self.home.path().join("folder")).unwrap();
        let outcome = unpack(&File::open(&archive).unwrap(), folder.into(), room);
        fs::remove_file(archive).unwrap();
        let beside = fs::read_dir(self.home.path().join("beside")).unwrap().count();
        assert_eq!((beside, fs::read_dir(self.home.path()).unwrap().count()), (1, 2));
        let secret = self.home.path().join("beside/secret");
        assert_eq!(fs::read_to_string(&secret).unwrap(), "untouched");
        assert_eq!(fs::metadata(&secret).unwrap().nlink(), 1);
        outcome
    }

    fn refusal(&self, bytes: &[u8]) -> String {
        self.unpack(bytes).unwrap_err().to_string()
    }
}

/// One entry of a tar: any name, also such as no tool would write.
fn entry(kind: EntryType, name: &str, target: &str, mode: u32, content: &[u8]) -> Vec<u8> {
    let mut header = Header::new_gnu();
    let field = &mut header.as_old_mut().name;
    field[..name.len()].copy_from_slice(name.as_bytes());
    let field = &mut header.as_old_mut().linkname;
    field[..target.len()].copy_from_slice(target.as_bytes());
    header.set_entry_type(kind);
    header.set_mode(mode);
    header.set_mtime(1_000_000_000);
    header.set_size(u64::try_from(content.len()).unwrap());
    header.set_cksum();
    let mut bytes = header.as_bytes().to_vec();
    bytes.extend_from_slice(content);
    bytes.resize(bytes.len().next_multiple_of(512), 0);
    bytes
}

fn file(name: &str, content: &str) -> Vec<u8> {
    entry(EntryType::Regular, name, "", 0o640, content.as_bytes())
}

fn folder(name: &str, mode: u32) -> Vec<u8> {
    entry(EntryType::Directory, name, "", mode, b"")
}

fn link(kind: EntryType, name: &str, target: &str) -> Vec<u8> {
    entry(kind, name, target, 0o777, b"")
}

fn tar(entries: &[Vec<u8>]) -> Vec<u8> {
    let mut bytes = entries.concat();
    bytes.resize(bytes.len() + 1024, 0);
    bytes
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

fn zip(entries: &[(&str, Option<u32>, &str)]) -> Vec<u8> {
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    for (name, mode, content) in entries {
        let options = SimpleFileOptions::default();
        let options = mode.map_or(options, |mode| options.unix_permissions(mode));
        writer.start_file(*name, options).unwrap();
        writer.write_all(content.as_bytes()).unwrap();
    }
    writer.finish().unwrap().into_inner()
}

fn mode(path: &Path) -> u32 {
    fs::symlink_metadata(path).unwrap().permissions().mode() & 0o7777
}

fn honest() -> Vec<u8> {
    tar(&[
        folder("./", 0o700),
        folder("app/", 0o550),
        file("app/main", "main"),
        entry(EntryType::Regular, "/absolute/tool", "", 0o4755, b"tool"),
        link(EntryType::Symlink, "app/current", "main"),
        link(EntryType::Symlink, "app/passwd", "/etc/passwd"),
        link(EntryType::Link, "same", "app/main"),
    ])
}

#[test]
fn tars_are_unpacked_with_their_modes_and_times_gzipped_or_not() {
    for archive in [honest(), gzip(&honest())] {
        let scene = Scene::new();
        scene.unpack(&archive).unwrap();

        assert_eq!(
            (scene.read("app/main"), scene.read("app/current")),
            ("main".into(), "main".into())
        );
        assert_eq!((mode(&scene.path("app")), mode(&scene.path("app/main"))), (0o550, 0o640));
        assert_eq!(fs::metadata(scene.path("app/main")).unwrap().mtime(), 1_000_000_000);
        assert_eq!(fs::metadata(scene.path("app/main")).unwrap().nlink(), 2);
        // Below the folder, and nobody becomes root by it.
        assert_eq!(mode(&scene.path("absolute/tool")), 0o755);
        assert_eq!(fs::read_link(scene.path("app/passwd")).unwrap(), Path::new("/etc/passwd"));
    }
}

#[test]
fn zips_are_unpacked_and_a_file_without_a_mode_gets_one() {
    let scene = Scene::new();
    let mut writer = ZipWriter::new(Cursor::new(Vec::new()));
    let options = SimpleFileOptions::default();
    writer.add_directory("bin/", options).unwrap();
    writer.start_file("bin/run", options.unix_permissions(0o755)).unwrap();
    writer.write_all(b"run").unwrap();
    writer.add_symlink("bin/again", "run", options).unwrap();
    let mut bytes = writer.finish().unwrap().into_inner();
    scene.unpack(&bytes).unwrap();
    assert_eq!((scene.read("bin/again"), mode(&scene.path("bin/run"))), ("run".into(), 0o755));

    // Where it was made by a system without modes.
    bytes = zip(&[("plain", None, "plain")]);
    let central = bytes.windows(4).position(|four| four == b"PK\x01\x02").unwrap();
    bytes[central + 5] = 10;
    bytes[central + 38..central + 42].fill(0);
    scene.unpack(&bytes).unwrap();
    assert_eq!((scene.read("plain"), mode(&scene.path("plain"))), ("plain".into(), 0o744));
}

#[test]
fn what_is_there_is_replaced_and_never_written_through() {
    let scene = Scene::new();
    symlink("../beside/secret", scene.path("settings")).unwrap();
    fs::write(scene.path("old"), "old").unwrap();

    scene
        .unpack(&tar(&[file("settings", "new"), folder("old", 0o755), file("old/new", "new")]))
        .unwrap();

    assert_eq!((scene.read("settings"), scene.read("old/new")), ("new".into(), "new".into()));
    assert!(!scene.path("settings").is_symlink());
}

#[test]
fn nothing_leads_out_of_the_folder() {
    let escapes = |entry: &str| format!("{entry} leads out of the folder that it is unpacked into");
    let symlink = |name, target| link(EntryType::Symlink, name, target);
    for (archive, entry) in [
        (tar(&[file("../beside/x", "x")]), "../beside/x"),
        (tar(&[file("a/../../beside/x", "x")]), "a/../../beside/x"),
        (tar(&[folder("../beside/x", 0o755)]), "../beside/x"),
        (tar(&[symlink("out", "../beside"), file("out/x", "x")]), "out/x"),
        (tar(&[symlink("out", "/tmp"), file("out/x", "x")]), "out/x"),
        (tar(&[symlink("a", "b"), symlink("b", ".."), file("a/beside/x", "x")]), "a/beside/x"),
        (tar(&[symlink("self", "self"), file("self/x", "x")]), "self/x"),
        (tar(&[symlink("out", "../beside"), folder("out/x/", 0o755)]), "out/x/"),
        (tar(&[symlink("out", "../beside"), symlink("out/x", "y")]), "out/x"),
        (tar(&[link(EntryType::Link, "stolen", "../beside/secret")]), "stolen"),
        (
            tar(&[symlink("out", "../beside"), link(EntryType::Link, "stolen", "out/secret")]),
            "stolen",
        ),
        (zip(&[("../beside/x", None, "x")]), "../beside/x"),
    ] {
        assert_eq!(Scene::new().refusal(&archive), escapes(entry));
    }
}

#[test]
fn a_hard_link_to_a_link_reads_nothing_of_what_that_leads_to() {
    let scene = Scene::new();

    scene
        .unpack(&tar(&[
            link(EntryType::Symlink, "out", "../beside/secret"),
            link(EntryType::Link, "same", "out"),
            file("same", "written"),
        ]))
        .unwrap();

    assert_eq!(scene.read("same"), "written");
    assert!(scene.path("out").is_symlink());
}

#[test]
fn devices_and_pipes_are_refused() {
    let scene = Scene::new();
    for kind in [EntryType::Char, EntryType::Block] {
        let told = scene.refusal(&tar(&[entry(kind, "dev/sda", "", 0o600, b"")]));
        assert_eq!(told, "dev/sda is a device, which is not unpacked");
    }
    let told = scene.refusal(&tar(&[entry(EntryType::Fifo, "pipe", "", 0o600, b"")]));
    assert_eq!(told, "pipe is a named pipe, which is not unpacked");
    let told = scene.refusal(&tar(&[entry(EntryType::new(b'?'), "odd", "", 0o600, b"")]));
    assert_eq!(told, "odd is of an unknown kind, which is not unpacked");
}

#[test]
fn what_is_no_archive_or_is_broken_is_told() {
    let scene = Scene::new();
    for other in [&b""[..], b"hello", &[7; 2000], b"PK"] {
        let told = scene.refusal(other);
        assert_eq!(told, "it is neither a tar, a gzipped tar nor a zip archive");
    }
    let whole = tar(&[file("a", &"a".repeat(5000))]);
    for broken in [&whole[..3000], &gzip(&whole)[..60], &zip(&[("a", None, "a")])[..40]] {
        let told = scene.refusal(broken);
        assert!(told.starts_with("the archive is broken: "), "{told}");
    }
}

#[test]
fn no_more_is_written_than_there_is_room() {
    let scene = Scene::new();
    let left = Cell::new(100_000_u64);
    let mut room = |bytes| {
        left.set(left.get().checked_sub(bytes).ok_or("the disk is full")?);
        Ok(())
    };
    let bomb = gzip(&tar(&[file("a", &"a".repeat(10_000_000))]));
    assert!(bomb.len() < 100_000, "{}", bomb.len());

    let told = scene.unpack_with(&bomb, &mut room).unwrap_err().to_string();

    assert_eq!(told, "the disk is full");
    assert!(fs::metadata(scene.path("a")).unwrap().len() <= 100_000);
}

#[test]
fn a_name_of_any_length_takes_no_memory_and_too_many_files_are_refused() {
    let scene = Scene::new();
    let name = vec![b'a'; 50_000_000];
    let long = entry(EntryType::GNULongName, "././@LongLink", "", 0, &name);
    let told = scene.refusal(&gzip(&tar(&[long, file("a", "a")])));
    assert_eq!(told, "the archive is broken: a header of it is too long");
    let name = format!("{}x", "a/".repeat(1500));
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(0);
    header.set_mode(0o644);
    builder.append_data(&mut header, &name, &b""[..]).unwrap();
    let told = scene.refusal(&builder.into_inner().unwrap());
    assert!(told.ends_with(": File name too long"), "{told}");

    let same = file("a", "");
    let many = vec![same; usize::try_from(ENTRIES_MAX).unwrap() + 1];
    let told = scene.refusal(&gzip(&tar(&many)));
    assert_eq!(told, "it holds more than 200000 files");
}

#[test]
fn long_names_of_every_tar_are_understood() {
    let scene = Scene::new();
    let name = format!("{}/file", "long".repeat(40));
    let mut builder = Builder::new(Vec::new());
    let mut header = Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o644);
    builder.append_data(&mut header, &name, &b"long"[..]).unwrap();
    let record = format!("path={}/pax\n", "pax".repeat(60));
    let record = format!("{} {record}", record.len() + 4);
    let mut bytes = builder.into_inner().unwrap();
    bytes.truncate(bytes.len() - 1024);
    let global = entry(EntryType::XGlobalHeader, "global", "", 0, b"19 comment=nothing\n");
    let pax = entry(EntryType::XHeader, "pax", "", 0, record.as_bytes());

    scene.unpack(&tar(&[bytes, global, pax, file("short", "pax")])).unwrap();

    assert_eq!(scene.read(&name), "long");
    assert_eq!(scene.read(&format!("{}/pax", "pax".repeat(60))), "pax");
}
