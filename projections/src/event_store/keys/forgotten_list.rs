//! The list of forgotten keys that lies outside of the database: what an older copy of the database
//! would bring back is forgotten again by it.
//!
//! A text file that only grows, synced to the disk before anything is called forgotten. A line is
//! the beginning of the digest of the rest, a space, and one JSON object that names the log, so that
//! one file may serve several. A last line that a crash cut off was never answered for: it is passed
//! over, and marked as such before the next one is written.

use std::{
    collections::BTreeSet,
    fs::{File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
};

use domain::sealed::Digest;
use nix::fcntl::{Flock, FlockArg};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Error, Forgotten};
use crate::{event_store::LogId, private_file::sync_folder_of};

/// The name of the list in a data folder's folder of keys.
pub const FORGOTTEN_LIST_FILE: &str = "forgotten.list";

/// The most bytes of a list: some 150 for each forgetting.
const LIST_BYTES_MAX: u64 = 256 << 20;

/// Ends what a crash left of a line.
const CUT_OFF: &str = " (cut off)";

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Entry {
    log_id: LogId,
    #[serde(flatten)]
    forgotten: Forgotten,
}

/// The lists that a node writes: each holds all that was forgotten.
#[derive(Debug, Clone)]
pub struct ForgottenLists {
    log_id: LogId,
    paths: Vec<PathBuf>,
}

impl ForgottenLists {
    /// The lists of a log; each is made where it is missing, read, and seen to be writable.
    ///
    /// # Errors
    /// [`Error::WriteForgotten`], [`Error::ReadForgotten`], [`Error::MalformedForgotten`].
    pub fn open(paths: Vec<PathBuf>, log_id: LogId) -> Result<Self, Error> {
        let lists = Self { log_id, paths };
        lists.add(&[])?;
        Ok(lists)
    }

    /// All that any of them holds of this log.
    ///
    /// # Errors
    /// [`Error::ReadForgotten`], [`Error::MalformedForgotten`].
    pub fn read(&self) -> Result<Vec<Forgotten>, Error> {
        let mut all = Vec::new();
        let mut known = BTreeSet::new();
        for path in &self.paths {
            for forgotten in read(path, self.log_id)? {
                all.extend(forgotten.without(|key_id| known.contains(&key_id)));
                known.extend(forgotten.key_ids);
            }
        }
        Ok(all)
    }

    /// Adds to each list what it lacks. Durable when answered.
    ///
    /// # Errors
    /// As [`ForgottenLists::open`]; the lists before the failing one have it then.
    pub fn add(&self, forgotten: &[Forgotten]) -> Result<(), Error> {
        self.paths.iter().try_for_each(|path| add(path, self.log_id, forgotten))
    }
}

/// Reads what a list holds of a log; nothing where there is no list.
///
/// # Errors
/// [`Error::ReadForgotten`], [`Error::MalformedForgotten`].
pub fn read(path: &Path, log_id: LogId) -> Result<Vec<Forgotten>, Error> {
    match File::open(path) {
        Ok(mut file) => Ok(entries(path, &mut file, log_id)?.0),
        Err(failure) if failure.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(source) => Err(Error::ReadForgotten { path: path.to_owned(), source }),
    }
}

fn add(path: &Path, log_id: LogId, forgotten: &[Forgotten]) -> Result<(), Error> {
    let failed = |source| Error::WriteForgotten { path: path.to_owned(), source };
    let is_new = !path.exists();
    let mut options = OpenOptions::new();
    let options = options.read(true).append(true).create(true).mode(0o600);
    // Of several who add at once each sees what the one before has added.
    let held = Flock::lock(options.open(path).map_err(failed)?, FlockArg::LockExclusive);
    let mut file = held.map_err(|(_, errno)| failed(errno.into()))?;
    if is_new {
        sync_folder_of(path).map_err(failed)?;
    }
    let (listed, end) = entries(path, &mut file, log_id)?;
    let known: BTreeSet<Uuid> = listed.into_iter().flat_map(|it| it.key_ids).collect();
    let new = |it: &Forgotten| it.without(|key_id| known.contains(&key_id));
    let mut text = String::new();
    for forgotten in forgotten.iter().filter_map(new) {
        text.push_str(&line(&Entry { log_id, forgotten }).map_err(|it| failed(it.into()))?);
    }
    if text.is_empty() {
        return Ok(());
    }
    match end {
        End::Whole => {}
        End::Missing => text.insert(0, '\n'),
        End::CutOff => text.insert_str(0, &format!("{CUT_OFF}\n")),
    }
    file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(failed)
}

/// What stands before a line.
fn check(json: &str) -> String {
    Digest::of(json.as_bytes()).short()
}

fn line(entry: &Entry) -> serde_json::Result<String> {
    let json = serde_json::to_string(entry)?;
    Ok(format!("{} {json}\n", check(&json)))
}

/// How a list ends.
enum End {
    /// With a whole line, or it is empty.
    Whole,
    /// With a line that lacks only its end.
    Missing,
    /// Within a line.
    CutOff,
}

/// What a list holds of a log, and how it ends.
fn entries(path: &Path, file: &mut File, log_id: LogId) -> Result<(Vec<Forgotten>, End), Error> {
    let failed = |source| Error::ReadForgotten { path: path.to_owned(), source };
    let malformed = |line| Error::MalformedForgotten { path: path.to_owned(), line };
    let mut bytes = Vec::new();
    file.take(LIST_BYTES_MAX.saturating_add(1)).read_to_end(&mut bytes).map_err(failed)?;
    if u64::try_from(bytes.len()).is_ok_and(|bytes| bytes > LIST_BYTES_MAX) {
        return Err(failed(io::ErrorKind::FileTooLarge.into()));
    }
    let mut found = Vec::new();
    let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let rest = lines.pop().unwrap_or_default();
    let lines_whole = lines.len();
    for (index, line) in lines.into_iter().enumerate() {
        match entry(line) {
            Some(entry) => found.push(entry),
            None if line.ends_with(CUT_OFF.as_bytes()) => {}
            None => return Err(malformed(index + 1)),
        }
    }
    let end = match (entry(rest), rest.split_last()) {
        (_, None) => End::Whole,
        (Some(entry), Some(_)) => {
            found.push(entry);
            End::Missing
        }
        // Something else where the end of a line was written.
        (None, Some((_, line))) if entry(line).is_some() => return Err(malformed(lines_whole + 1)),
        (None, Some(_)) => End::CutOff,
    };
    let of_log = found.into_iter().filter(|entry| entry.log_id == log_id);
    Ok((of_log.map(|entry| entry.forgotten).collect(), end))
}

fn entry(line: &[u8]) -> Option<Entry> {
    let line = std::str::from_utf8(line).ok()?;
    let (found, json) = line.split_once(' ')?;
    if found != check(json) {
        return None;
    }
    serde_json::from_str(json).ok()
}

#[cfg(test)]
mod tests {
    use domain::units::Timestamp;

    use super::*;

    const LOG: LogId = LogId(Uuid::from_u128(1));
    const OTHER: LogId = LogId(Uuid::from_u128(2));

    fn forgotten(name: &str, key_ids: &[u128]) -> Forgotten {
        Forgotten {
            owner: format!("process/{name}").parse().unwrap(),
            key_ids: key_ids.iter().map(|id| Uuid::from_u128(*id)).collect(),
            forgotten_at: Timestamp(5),
        }
    }

    fn lists(folder: &Path, names: &[&str], log_id: LogId) -> ForgottenLists {
        let paths = names.iter().map(|name| folder.join(name)).collect();
        ForgottenLists::open(paths, log_id).unwrap()
    }

    #[test]
    fn a_list_keeps_each_key_once_and_each_log_apart() {
        let folder = tempfile::tempdir().unwrap();
        let (a, b) = (forgotten("a", &[1, 2]), forgotten("b", &[3]));
        let one = lists(folder.path(), &["one"], LOG);
        one.add(std::slice::from_ref(&a)).unwrap();
        one.add(std::slice::from_ref(&a)).unwrap();
        lists(folder.path(), &["one"], OTHER).add(&[forgotten("c", &[4])]).unwrap();

        // Another list is added later, and the key that was listed before comes with another.
        let both = lists(folder.path(), &["one", "two"], LOG);
        both.add(&[forgotten("a", &[1, 2, 9]), b.clone()]).unwrap();

        assert_eq!(
            read(&folder.path().join("one"), LOG).unwrap(),
            [a, forgotten("a", &[9]), b.clone()]
        );
        let second = read(&folder.path().join("two"), LOG).unwrap();
        assert_eq!(second, [forgotten("a", &[1, 2, 9]), b]);
        assert_eq!(both.read().unwrap().len(), 3);
        assert_eq!(read(&folder.path().join("one"), OTHER).unwrap(), [forgotten("c", &[4])]);
        assert_eq!(read(&folder.path().join("none"), LOG).unwrap(), []);
    }

    #[test]
    fn a_line_that_a_crash_cut_off_is_passed_over_and_an_altered_one_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("list");
        let list = lists(folder.path(), &["list"], LOG);
        let (a, b) = (forgotten("a", &[1]), forgotten("b", &[2]));
        list.add(std::slice::from_ref(&a)).unwrap();
        let whole = std::fs::read(&path).unwrap();
        list.add(std::slice::from_ref(&b)).unwrap();
        let both = std::fs::read(&path).unwrap();
        for end in whole.len()..both.len() {
            std::fs::write(&path, &both[..end]).unwrap();
            let expected =
                if end + 1 < both.len() { &[a.clone()][..] } else { &[a.clone(), b.clone()] };
            assert_eq!(list.read().unwrap(), expected, "cut off at {end}");
            for _ in 0..2 {
                list.add(std::slice::from_ref(&b)).unwrap();
                assert_eq!(list.read().unwrap(), [a.clone(), b.clone()], "cut off at {end}");
            }
        }
        for at in 0..both.len() {
            for bit in 0..8 {
                let mut bytes = both.clone();
                bytes[at] ^= 1 << bit;
                std::fs::write(&path, &bytes).unwrap();
                let read = list.read();
                let line = if at < whole.len() { 1 } else { 2 };
                let is_named = matches!(read, Err(Error::MalformedForgotten { line: told, .. }) if told == line);
                assert!(is_named, "bit {bit} of byte {at}: {read:?}");
                assert!(list.add(&[forgotten("c", &[3])]).is_err(), "bit {bit} of byte {at}");
            }
        }
    }

    #[test]
    fn a_list_that_cannot_be_written_is_named() {
        let missing = PathBuf::from("/missing/forgotten.list");
        let refused = ForgottenLists::open(vec![missing], LOG).unwrap_err();
        assert!(refused.to_string().contains("/missing/forgotten.list"), "{refused}");
    }
}
