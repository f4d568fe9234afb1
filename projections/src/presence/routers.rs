//! Which nodes' routers live, and up to which position of the log they have followed the routes.
//!
//! In memory, and between nodes told through the presence table; never in the log. A router that
//! was not heard for [`ROUTER_TIME_TO_LIVE`] lives no more, and nobody waits for it.

use std::collections::BTreeMap;

use domain::{log::Position, units::Milliseconds};

/// How long a router may be silent.
pub const ROUTER_TIME_TO_LIVE: Milliseconds = Milliseconds::from_seconds(5);

/// How far a router has followed, as another node learned it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RouterSeen {
    /// Every route up to here is as the log says.
    pub position: Position,
    /// How long ago it said so.
    pub age: Milliseconds,
}

/// The routers of all nodes, as one node knows them. Instants are monotonic.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Routers {
    node: String,
    own: Option<Position>,
    others: BTreeMap<String, RouterSeen>,
    /// When it was last learned how far the others are; `None` where there are no others.
    learned: Option<Milliseconds>,
}

/// Who has followed up to a position.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Followed {
    /// All that live: so many.
    All(u32),
    /// Not these.
    Missing(Vec<String>),
}

impl Routers {
    /// Those of a control plane of one node.
    #[must_use]
    pub fn alone(node: &str) -> Self {
        Self { node: node.to_owned(), own: None, others: BTreeMap::new(), learned: None }
    }

    /// Those of a control plane of several nodes, of which nothing is known yet.
    #[must_use]
    pub fn shared(node: &str, now: Milliseconds) -> Self {
        let never = now.0.saturating_sub(2 * ROUTER_TIME_TO_LIVE.0);
        Self { learned: Some(Milliseconds(never)), ..Self::alone(node) }
    }

    /// Notes how far this node's own router has followed. Answers whether that is news.
    pub fn note_own(&mut self, position: Position) -> bool {
        let is_news = self.own.is_none_or(|before| before < position);
        if is_news {
            self.own = Some(position);
        }
        is_news
    }

    /// How far this node's own router has followed; `None` when it has none.
    #[must_use]
    pub fn own(&self) -> Option<Position> {
        self.own
    }

    /// Notes how far the routers of all nodes had followed at an instant.
    pub fn learn(&mut self, all: BTreeMap<String, RouterSeen>, now: Milliseconds) {
        self.others = all;
        self.others.remove(&self.node);
        self.learned = Some(now);
    }

    /// Who has followed up to a position. While it is not known who lives, nobody is said to have.
    #[must_use]
    pub fn followed(&self, position: Position, now: Milliseconds) -> Followed {
        let mut count = 0;
        let mut missing = Vec::new();
        if let Some(own) = self.own {
            count += 1;
            if own < position {
                missing.push(self.node.clone());
            }
        }
        if let Some(learned) = self.learned {
            let since = now.0.saturating_sub(learned.0);
            if since >= ROUTER_TIME_TO_LIVE.0 {
                missing.push("the routers of other nodes, which are not heard of".to_owned());
            }
            for (node, seen) in &self.others {
                if seen.age.0.saturating_add(since) >= ROUTER_TIME_TO_LIVE.0 {
                    continue;
                }
                count += 1;
                if seen.position < position {
                    missing.push(node.clone());
                }
            }
        }
        if missing.is_empty() { Followed::All(count) } else { Followed::Missing(missing) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Milliseconds {
        Milliseconds::from_seconds(seconds)
    }

    fn seen(node: &str, position: u64, age: u64) -> (String, RouterSeen) {
        (node.to_owned(), RouterSeen { position: Position(position), age: at(age) })
    }

    #[test]
    fn every_router_that_lives_must_have_followed_and_no_other() {
        let mut routers = Routers::shared("one", at(0));
        routers.note_own(Position(9));
        let all = [seen("one", 1, 0), seen("two", 6, 1), seen("dead", 1, 5)];
        routers.learn(all.into(), at(10));

        assert_eq!(routers.followed(Position(6), at(10)), Followed::All(2));
        let missing = |names: &[&str]| {
            Followed::Missing(names.iter().map(|name| (*name).to_owned()).collect())
        };
        assert_eq!(routers.followed(Position(7), at(11)), missing(&["two"]));
        assert_eq!(routers.followed(Position(10), at(11)), missing(&["one", "two"]));
        // It was silent for too long: nobody waits for it.
        assert_eq!(routers.followed(Position(7), at(14)), Followed::All(1));
        let Followed::Missing(names) = routers.followed(Position(7), at(15)) else { panic!() };
        assert!(names[0].contains("not heard of"), "{names:?}");
    }

    #[test]
    fn alone_only_the_own_router_counts_if_there_is_one() {
        let mut routers = Routers::alone("one");

        assert_eq!(routers.followed(Position(7), at(0)), Followed::All(0));
        assert!(routers.note_own(Position(7)));
        assert!(!routers.note_own(Position(6)), "it never goes back");
        assert_eq!(routers.followed(Position(7), at(99)), Followed::All(1));
    }
}
