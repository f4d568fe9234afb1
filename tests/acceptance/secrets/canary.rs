//! Canaries: secrets that are told apart from all others, and looking for them in every form that
//! is cheap to look for, also in what is compressed.

use std::{
    fs::{self, File},
    io::Read as _,
    path::{Path, PathBuf},
};

use serde_json::{Value, json};

/// The beginning of whatever zstd has compressed.
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// The most that is unpacked of one place.
const UNPACKED_BYTES_MAX: u64 = 64 << 20;

/// Something that was kept or shown: what it is called, and its bytes.
pub(super) type Content = (PathBuf, Vec<u8>);

/// A secret that is told apart from all others.
#[derive(Debug, Clone)]
pub(super) struct Canary {
    pub(super) place: &'static str,
    pub(super) secret: String,
}

/// Draws canaries.
#[derive(Debug, Default)]
pub(super) struct Places(pub(super) Vec<Canary>);

impl Places {
    /// A new canary for a place: 32 hex digits, so that it also serves as half a key.
    pub(super) fn draw(&mut self, place: &'static str) -> String {
        let mut bytes = [0; 16];
        File::open("/dev/urandom").unwrap().read_exact(&mut bytes).unwrap();
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
    pub(super) fn definition(&mut self, args: &[&str]) -> Value {
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

/// Whether bytes lie in others.
pub(super) fn holds(content: &[u8], form: &[u8]) -> bool {
    content.windows(form.len()).any(|window| window == form)
}

/// Every file below a folder, with its content.
pub(super) fn files(folder: &Path) -> Vec<Content> {
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

/// What is compressed in contents, besides the contents themselves.
pub(super) fn unpacked(contents: Vec<Content>) -> Vec<Content> {
    let mut all = Vec::new();
    for (path, content) in contents {
        let starts = content.windows(4).enumerate().filter(|(_, it)| *it == ZSTD_MAGIC);
        let starts: Vec<usize> = starts.map(|(at, _)| at).collect();
        for at in starts {
            let mut clear = Vec::new();
            let frame = zstd::stream::read::Decoder::new(&content[at..]).unwrap().single_frame();
            // What only looks like a frame, or is cut off, gives what can be had of it.
            frame.take(UNPACKED_BYTES_MAX).read_to_end(&mut clear).ok();
            all.push((PathBuf::from(format!("{} unpacked at {at}", path.display())), clear));
        }
        all.push((path, content));
    }
    all
}

/// Finds canaries in many contents, at one pass over each.
pub(super) fn leaks(places: &Places, contents: &[Content]) -> Vec<String> {
    // By their first two bytes: nearly everywhere nothing begins.
    let mut by_start: Vec<Vec<(&'static str, Vec<u8>)>> = vec![Vec::new(); 1 << 16];
    let start = |bytes: &[u8]| usize::from(bytes[0]) << 8 | usize::from(bytes[1]);
    for Canary { place, secret } in &places.0 {
        for form in forms(secret) {
            by_start[start(&form)].push((place, form));
        }
    }
    let mut found = Vec::new();
    for (path, content) in contents {
        for at in 0..content.len().saturating_sub(1) {
            for (place, form) in &by_start[start(&content[at..])] {
                if content[at..].starts_with(form) {
                    let (path, bytes) = (path.display(), content.len());
                    found.push(format!("{place}: in {path} of {bytes} bytes, at {at}"));
                }
            }
        }
    }
    found
}

#[test]
fn a_canary_is_found_in_every_form_and_under_compression() {
    let mut places = Places::default();
    let secret = places.draw("here");
    let mut shown = forms(&secret);
    shown.push(format!("PASSWORD={secret}").into_bytes());
    shown.push(zstd::bulk::compress(format!("x{secret}").as_bytes(), 3).unwrap());
    for form in shown {
        let content = [&b"before "[..], &form, b" behind"].concat();
        let contents = unpacked(vec![(PathBuf::from("file"), content)]);
        assert!(!leaks(&places, &contents).is_empty(), "{form:?}");
    }
    assert!(leaks(&places, &[(PathBuf::from("file"), b"nothing".to_vec())]).is_empty());
}
