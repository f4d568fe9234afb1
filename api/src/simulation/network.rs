//! What carries messages in a simulation: loses, doubles, delays and reorders them, and is cut in
//! one direction or both.

use domain::units::Milliseconds;

use super::{cluster::Cluster, node::NodeIndex};

/// In which direction nothing gets through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Cut {
    /// What is sent there.
    Sending,
    /// What is answered from there.
    Hearing,
    Both,
}

impl Cut {
    pub(super) const ALL: [Self; 3] = [Self::Sending, Self::Hearing, Self::Both];

    pub(super) fn stops_sending(self) -> bool {
        match self {
            Self::Sending | Self::Both => true,
            Self::Hearing => false,
        }
    }

    pub(super) fn stops_hearing(self) -> bool {
        match self {
            Self::Hearing | Self::Both => true,
            Self::Sending => false,
        }
    }
}

/// What becomes of an append on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// It arrives, and so does the answer.
    Open,
    /// It arrives and is refused.
    Refused,
    /// It never arrives, and its node does not know that.
    Lost,
    /// It arrives late, mostly after its node has asked what became of it.
    Late,
    /// It arrives, and its node never hears of it.
    Unanswered,
}

impl Cluster {
    /// When what is sent now arrives: once as a rule, never, twice, or late.
    pub(super) fn deliveries(&mut self) -> Vec<Milliseconds> {
        let soon = self.chance.span(1, 20);
        let faults = self.config.faults;
        if self.is_calm || !faults.messages_fail() {
            return vec![soon];
        }
        let throw = self.chance.small(1000);
        let lost = faults.message_lost;
        let doubled = lost + faults.message_doubled;
        let late = doubled + faults.message_late;
        if throw < lost {
            Vec::new()
        } else if throw < doubled {
            vec![soon, self.chance.span(1, 10_000)]
        } else if throw < late {
            vec![self.chance.span(20, 20_000)]
        } else {
            vec![soon]
        }
    }

    /// How long a message to or from the store takes.
    pub(super) fn store_delay(&mut self) -> Milliseconds {
        if !self.is_calm && self.store.slow_until > self.now {
            return self.chance.span(50, 4000);
        }
        self.chance.span(0, 4)
    }

    /// What becomes of a node's next append.
    pub(super) fn way_to_store(&mut self, node: NodeIndex) -> Way {
        let cut = self.nodes.get(node).and_then(|node| node.store_cut);
        if cut.is_some_and(Cut::stops_sending) {
            return Way::Lost;
        }
        let faults = self.config.faults;
        let failed = faults.append_failed;
        let unanswered = failed + faults.append_unanswered;
        if self.is_calm || unanswered == 0 {
            return Way::Open;
        }
        let throw = self.chance.small(1000);
        if throw < failed {
            Way::Refused
        } else if throw < unanswered {
            let ways = [Way::Lost, Way::Late, Way::Unanswered];
            self.chance.pick(&ways).copied().unwrap_or(Way::Lost)
        } else {
            Way::Open
        }
    }

    /// Whether a node can ask the store and hear its answer now.
    pub(super) fn reaches_store(&self, node: NodeIndex) -> bool {
        self.nodes.get(node).is_some_and(|node| node.is_up && node.store_cut.is_none())
    }
}
