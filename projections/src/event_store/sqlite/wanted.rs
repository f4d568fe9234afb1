//! What a filter lets through, compared with events as they are stored.

use super::{
    super::{Filter, encoding::actor_kind_text, packed, stored::Stored},
    lookups::Kind,
};

/// A filter with its texts made once.
#[derive(Debug)]
pub(super) struct Wanted<'f> {
    filter: &'f Filter,
    owner: Option<(i64, packed::Streams)>,
}

impl<'f> Wanted<'f> {
    pub(super) fn of(filter: &'f Filter) -> Self {
        let owner = filter.owner.as_ref();
        let owner = owner.map(|owner| (packed::hash(&owner.to_string()), packed::streams(owner)));
        Self { filter, owner }
    }

    /// By what the events are found; `None` when only looking at each of them tells.
    pub(super) fn found_by(&self) -> Option<(Kind, Vec<i64>)> {
        if let Some((hash, _)) = self.owner {
            return Some((Kind::Owner, vec![hash]));
        }
        let types = &self.filter.types;
        let mut hashes: Vec<i64> = types.iter().map(|name| packed::hash(name)).collect();
        // A type that is named twice is asked for once.
        hashes.sort_unstable();
        hashes.dedup();
        (!hashes.is_empty()).then_some((Kind::Type, hashes))
    }

    /// Whether an event is among those that are asked for, wherever it stands.
    pub(super) fn lets_through(&self, stored: &Stored<'_>) -> bool {
        let of_owner = self.owner.as_ref().is_none_or(|(_, streams)| streams.hold(stored.stream));
        let types = &self.filter.types;
        let of_type = types.is_empty() || types.iter().any(|name| name == stored.type_name);
        let by_actor = self.filter.actor.as_ref().is_none_or(|actor| {
            stored.actor_kind == actor_kind_text(actor.kind)
                && stored.actor_name == &*actor.name
                && stored.actor_via == &*actor.via
        });
        of_owner && of_type && by_actor
    }
}
