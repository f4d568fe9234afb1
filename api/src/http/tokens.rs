//! The tokens of those who may ask: a JSON file `[{"token", "name", "access": "read"|"write"}]`.
//!
//! The file must be readable by its owner only. Tokens are kept as digests; no error names one.

use std::path::{Path, PathBuf};

use domain::sealed::Digest;
use projections::private_file;
use serde::Deserialize;

/// A shorter token is too easily guessed.
const TOKEN_BYTES_MIN: usize = 16;
const NAME_BYTES_MAX: usize = 255;

/// Why a file of tokens cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// It cannot be read, or others can.
    #[error("cannot use the token file")]
    Read(#[from] private_file::Error),
    /// It is not the list that it must be. The decoder's words are left out: they may quote.
    #[error(
        r#"the token file {path} must hold [{{"token", "name", "access": "read"|"write"}}]: line {line} does not"#
    )]
    Malformed {
        /// The file.
        path: PathBuf,
        /// Where, from 1.
        line: usize,
    },
    /// An entry cannot be used.
    #[error("entry {entry} of the token file {path} {problem}")]
    Entry {
        /// The file.
        path: PathBuf,
        /// Which, from 1.
        entry: usize,
        /// What is wrong.
        problem: &'static str,
    },
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    token: String,
    name: String,
    access: Right,
}

#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Right {
    Read,
    Write,
}

/// Who holds a token.
#[derive(Debug, Clone)]
pub(super) struct Holder {
    pub(super) name: String,
    pub(super) may_write: bool,
}

/// The known tokens, as digests.
#[derive(Debug, Clone)]
pub(super) struct Tokens(Vec<(Digest, Holder)>);

impl Tokens {
    /// Reads a file of tokens.
    pub(super) fn read(path: &Path) -> Result<Self, Error> {
        let text = private_file::read(path)?;
        let entries: Vec<Entry> = serde_json::from_str(&text)
            .map_err(|failure| Error::Malformed { path: path.to_owned(), line: failure.line() })?;
        let mut tokens = Self(Vec::new());
        for (index, entry) in entries.into_iter().enumerate() {
            tokens.add(entry).map_err(|problem| Error::Entry {
                path: path.to_owned(),
                entry: index + 1,
                problem,
            })?;
        }
        Ok(tokens)
    }

    fn add(&mut self, entry: Entry) -> Result<(), &'static str> {
        if entry.token.len() < TOKEN_BYTES_MIN {
            return Err("has a token of fewer than 16 bytes");
        }
        if !entry.token.chars().all(|c| c.is_ascii_graphic()) {
            return Err("has a token with white space or characters outside ASCII");
        }
        if entry.name.is_empty() || entry.name.len() > NAME_BYTES_MAX {
            return Err("must have a name of 1 to 255 bytes");
        }
        if self.find(&entry.token).is_some() {
            return Err("has the token of another entry");
        }
        let holder = Holder { name: entry.name, may_write: entry.access == Right::Write };
        self.0.push((Digest::of(entry.token.as_bytes()), holder));
        Ok(())
    }

    /// Who holds a token. Takes as long for a wrong one as for any other.
    pub(super) fn find(&self, token: &str) -> Option<&Holder> {
        let given = Digest::of(token.as_bytes());
        let mut found = None;
        for (digest, holder) in &self.0 {
            if is_equal(digest, &given) {
                found = Some(holder);
            }
        }
        found
    }
}

/// Compares without stopping at the first difference.
fn is_equal(one: &Digest, other: &Digest) -> bool {
    one.0.iter().zip(other.0).fold(0, |difference, (a, b)| difference | (a ^ b)) == 0
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::fs::PermissionsExt as _};

    use super::*;

    fn read(text: &str, mode: u32) -> Result<Tokens, Error> {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("tokens.json");
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        Tokens::read(&path)
    }

    const ONE: &str = r#"{"token": "canary-0123456789", "name": "ann", "access": "read"}"#;

    #[test]
    fn a_token_file_that_cannot_be_trusted_is_refused_without_naming_a_token() {
        let one = format!("[{ONE}]");
        let refused = [
            read(&one, 0o644),
            read(&one, 0o640),
            read(ONE, 0o600),
            read("[{\"token\": \"canary-0123456789\"}]", 0o600),
            read(&one.replace("read", "admin"), 0o600),
            read(&format!("[{ONE}, {ONE}]"), 0o600),
            read(&one.replace("-0123456789", ""), 0o600),
            read(&one.replace("ann", ""), 0o600),
        ];
        for outcome in refused {
            let failure = outcome.unwrap_err().to_string();
            assert!(!failure.contains("canary"), "{failure}");
        }
        assert!(matches!(Tokens::read(Path::new("/nowhere")), Err(Error::Read(_))));
    }

    #[test]
    fn a_known_token_names_its_holder() {
        let tokens = read(&format!("[{ONE}]"), 0o600).unwrap();

        let holder = tokens.find("canary-0123456789").unwrap();
        assert_eq!((holder.name.as_str(), holder.may_write), ("ann", false));
        assert!(tokens.find("canary-0123456780").is_none());
        assert!(tokens.find("").is_none());
    }
}
