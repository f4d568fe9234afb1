//! Root file systems: what a definition asks for, and what a cell provides.
//!
//! A text's scheme names the provider. Diego's three are known: `preloaded` and `preloaded+layer`,
//! of which a cell has a fixed set, matched on the name alone; and `docker`, of which a cell takes
//! any. Our own cells provide `preloaded`: what asks for another is accepted, and waits for a cell
//! with the placement error that says so.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

/// Where a container's root file system comes from, such as `preloaded:<name>`, a folder on every
/// cell.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Rootfs(String);

/// Why a text is not a root file system.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "must be preloaded:<name>, preloaded+layer:<name>?<layer> or docker://<image>, the name of \
     letters, digits, '-', '_' and '.', all of at most 2048 printable characters"
)]
pub struct InvalidRootfs;

const PRELOADED: &str = "preloaded";
const PRELOADED_LAYER: &str = "preloaded+layer";
const DOCKER: &str = "docker";
const BYTES_MAX: usize = 2048;

impl Rootfs {
    /// Checks a text from outside.
    ///
    /// # Errors
    /// [`InvalidRootfs`] when it is none of the three forms.
    pub fn new(text: &str) -> Result<Self, InvalidRootfs> {
        let (scheme, rest) = text.split_once(':').ok_or(InvalidRootfs)?;
        let is_known = match scheme {
            PRELOADED => is_name(rest),
            PRELOADED_LAYER => {
                rest.split_once('?').is_some_and(|(name, layer)| is_name(name) && !layer.is_empty())
            }
            DOCKER => rest.strip_prefix("//").is_some_and(|image| !image.is_empty()),
            _ => false,
        };
        let is_printable = text.chars().all(|c| c.is_ascii_graphic()) && text.len() <= BYTES_MAX;
        if is_known && is_printable { Ok(Self(text.to_owned())) } else { Err(InvalidRootfs) }
    }

    /// What stands before the first colon: whose it is to provide.
    #[must_use]
    pub fn scheme(&self) -> &str {
        self.0.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// The name, of those that have one: what stands between the scheme and a question mark.
    #[must_use]
    pub fn name(&self) -> &str {
        let rest = self.0.split_once(':').map_or("", |(_, rest)| rest);
        rest.split_once('?').map_or(rest, |(name, _)| name)
    }

    /// The name behind `preloaded:`; none of another scheme.
    #[must_use]
    pub fn preloaded_name(&self) -> Option<&str> {
        (self.scheme() == PRELOADED).then(|| self.name())
    }
}

fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text.len() <= 100
        && !text.starts_with('.')
        && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
}

impl fmt::Display for Rootfs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Rootfs {
    type Error = InvalidRootfs;
    fn try_from(text: String) -> Result<Self, InvalidRootfs> {
        Self::new(&text)
    }
}

impl From<Rootfs> for String {
    fn from(rootfs: Rootfs) -> Self {
        rootfs.0
    }
}

/// What root file systems a cell provides, by scheme.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct RootfsProviders(BTreeMap<String, RootfsProvider>);

/// What a cell provides of one scheme.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RootfsProvider {
    /// Any.
    Arbitrary,
    /// Those of these names.
    FixedSet(BTreeSet<String>),
}

impl RootfsProviders {
    /// A cell with these preloaded ones.
    pub fn preloaded<N: Into<String>>(names: impl IntoIterator<Item = N>) -> Self {
        let names = names.into_iter().map(Into::into).collect();
        Self(BTreeMap::from([(PRELOADED.to_owned(), RootfsProvider::FixedSet(names))]))
    }

    /// The same and this one.
    #[must_use]
    pub fn and(mut self, scheme: &str, provider: RootfsProvider) -> Self {
        self.0.insert(scheme.to_owned(), provider);
        self
    }

    /// Whether it has what is asked for.
    #[must_use]
    pub fn provide(&self, rootfs: &Rootfs) -> bool {
        match self.0.get(rootfs.scheme()) {
            Some(RootfsProvider::Arbitrary) => true,
            Some(RootfsProvider::FixedSet(names)) => names.contains(rootfs.name()),
            None => false,
        }
    }

    /// What is provided, by scheme.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &RootfsProvider)> {
        self.0.iter().map(|(scheme, provider)| (scheme.as_str(), provider))
    }

    /// What is provided, as texts: `preloaded:<name>`, or `docker:*` of what any is taken of.
    #[must_use]
    pub fn texts(&self) -> Vec<String> {
        let of = |(scheme, provider): (&String, &RootfsProvider)| match provider {
            RootfsProvider::Arbitrary => vec![format!("{scheme}:*")],
            RootfsProvider::FixedSet(names) => {
                names.iter().map(|name| format!("{scheme}:{name}")).collect()
            }
        };
        self.0.iter().flat_map(of).collect()
    }

    /// The names of the preloaded ones.
    #[must_use]
    pub fn preloaded_names(&self) -> Vec<String> {
        match self.0.get(PRELOADED) {
            Some(RootfsProvider::FixedSet(names)) => names.iter().cloned().collect(),
            Some(RootfsProvider::Arbitrary) | None => Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn provides(providers: &RootfsProviders, text: &str) -> bool {
        providers.provide(&Rootfs::new(text).unwrap())
    }

    #[test]
    fn a_layer_is_matched_on_its_stack_and_an_image_on_nothing() {
        let layers = RootfsProvider::FixedSet(BTreeSet::from(["cflinuxfs4".to_owned()]));
        let preloaded = RootfsProviders::preloaded(["cflinuxfs4"]);
        let diego = preloaded
            .clone()
            .and("preloaded+layer", layers)
            .and("docker", RootfsProvider::Arbitrary);
        let layer = "preloaded+layer:cflinuxfs4?layer=https://x/y.tgz&layer_path=/&layer_digest=9";

        for text in ["preloaded:cflinuxfs4", layer, "docker:///library/busybox#latest"] {
            assert!(provides(&diego, text), "{text}");
        }
        assert!(!provides(&diego, "preloaded:windows"));
        assert!(!provides(&diego, "preloaded+layer:windows?layer=x"));
        for text in [layer, "docker:///busybox"] {
            assert!(!provides(&preloaded, text), "{text}");
        }
    }

    #[test]
    fn only_the_three_schemes_in_their_form_are_taken() {
        for text in [
            "",
            "preloaded",
            "preloaded:",
            "preloaded:../etc",
            "preloaded:a/b",
            "preloaded:a?b",
            "preloaded+layer:a",
            "preloaded+layer:?l",
            "docker:busybox",
            "docker://",
            "oci:///a",
            "docker:///a b",
            "docker:///\u{e9}",
        ] {
            assert_eq!(Rootfs::new(text), Err(InvalidRootfs), "{text}");
        }
        assert!(Rootfs::new(&format!("docker:///{}", "a".repeat(BYTES_MAX))).is_err());
    }
}
