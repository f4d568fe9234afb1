//! Finds a user in the container's own `/etc/passwd` and `/etc/group`.
//!
//! Both are files that the container's processes may have written: whoever opens them must not block
//! on them and must not open the host's; no more is read than a bound.

use std::fs::File;
use std::io::{self, Read};

/// A larger file is not read at all: half of one could give someone else's id.
const FILE_BYTES_MAX: u64 = 1024 * 1024;
/// The most supplementary groups taken, in the order of the file.
const GROUPS_MAX: usize = 64;

/// Who a process runs as.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) uid: u32,
    pub(crate) gid: u32,
    pub(crate) groups: Vec<u32>,
    pub(crate) home: String,
    pub(crate) name: Option<String>,
}

/// Resolves `name`, `uid` or `uid:gid` in files that are opened as told; `None` is root.
pub(crate) fn resolve(
    wanted: Option<&str>,
    open: impl Fn(&str) -> io::Result<File>,
) -> Result<User, String> {
    let passwd = read_bounded("/etc/passwd", &open)?;
    let group = read_bounded("/etc/group", &open)?;
    lookup(wanted.unwrap_or("0"), &passwd, &group)
}

fn lookup(wanted: &str, passwd: &str, group: &str) -> Result<User, String> {
    let (wanted_user, wanted_group) = match wanted.split_once(':') {
        Some((user, group)) => (user, Some(group)),
        None => (wanted, None),
    };
    let mut entries = passwd.lines().filter_map(PasswdEntry::parse);
    let entry = match wanted_user.parse::<u32>() {
        Ok(uid) => entries.find(|entry| entry.uid == uid),
        Err(_) => entries.find(|entry| entry.name == wanted_user),
    };
    let (uid, mut gid) = match (&entry, wanted_user.parse::<u32>()) {
        (Some(entry), _) => (entry.uid, entry.gid),
        (None, Ok(uid)) => (uid, uid),
        (None, Err(_)) => return Err(format!("user {wanted_user} not found")),
    };
    if let Some(text) = wanted_group {
        gid = text.parse().map_err(|_| format!("group {text} is not a number"))?;
    }
    let groups = entry.as_ref().map_or_else(Vec::new, |entry| groups_of(entry.name, group));
    Ok(User {
        uid,
        gid,
        groups,
        home: entry.as_ref().map_or("/", |entry| entry.home).to_owned(),
        name: entry.map(|entry| entry.name.to_owned()),
    })
}

struct PasswdEntry<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

impl<'a> PasswdEntry<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        let mut fields = line.split(':');
        let name = fields.next().filter(|name| !name.is_empty())?;
        let uid = fields.nth(1)?.parse().ok()?;
        let gid = fields.next()?.parse().ok()?;
        let home = fields.nth(1).filter(|home| home.starts_with('/')).unwrap_or("/");
        Some(Self { name, uid, gid, home })
    }
}

fn groups_of(user: &str, group: &str) -> Vec<u32> {
    let of_line = |line: &str| {
        let mut fields = line.split(':');
        let gid = fields.nth(2)?.parse().ok()?;
        fields.next()?.split(',').any(|member| member == user).then_some(gid)
    };
    group.lines().filter_map(of_line).take(GROUPS_MAX).collect()
}

/// Reads a file of the container; a missing one is empty.
fn read_bounded(path: &str, open: &impl Fn(&str) -> io::Result<File>) -> Result<String, String> {
    let file = match open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(String::new()),
        Err(error) => return Err(format!("cannot open {path}: {error}")),
    };
    let metadata = file.metadata().map_err(|error| format!("cannot look at {path}: {error}"))?;
    if !metadata.is_file() || metadata.len() > FILE_BYTES_MAX {
        return Err(format!("{path} is not a file of at most {FILE_BYTES_MAX} bytes"));
    }
    let mut bytes = Vec::new();
    file.take(FILE_BYTES_MAX)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("cannot read {path}: {error}"))?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nbroken\nvcap:x:2000:2001::/home/vcap:\n";
    const GROUP: &str = "root:x:0:\nvcap:x:2001:\nlogs:x:7:other,vcap\n";

    #[test]
    fn users_are_found_by_name_and_by_number() {
        let check = |wanted: &str, uid, gid, groups: &[u32], home: &str| {
            let user = lookup(wanted, PASSWD, GROUP).unwrap();
            assert_eq!((user.uid, user.gid, user.home.as_str()), (uid, gid, home), "{wanted}");
            assert_eq!(user.groups, groups, "{wanted}");
        };

        check("vcap", 2000, 2001, &[7], "/home/vcap");
        check("2000", 2000, 2001, &[7], "/home/vcap");
        check("2000:5", 2000, 5, &[7], "/home/vcap");
        check("77", 77, 77, &[], "/");
        check("0", 0, 0, &[], "/root");
        assert!(lookup("nobody", PASSWD, GROUP).is_err());
        assert!(lookup("vcap:logs", PASSWD, GROUP).is_err());
    }
}
