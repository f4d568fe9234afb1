//! What may break in a simulation, and how often.

use serde::{Deserialize, Serialize};

/// The most that one weight of a step may be.
const WEIGHT_MAX: u32 = 10_000;

/// The most of 1,000 messages or appends to which something may happen.
const SHARE_MAX: u32 = 500;

/// How often what breaks. Steps are weights beside the 880 of ordinary steps; messages and appends
/// are counted in 1,000.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Faults {
    /// A cell's agent is killed; its containers run on.
    pub agent_killed: u32,
    /// A machine loses its power, and comes back with its disk or never.
    pub power_failed: u32,
    /// Another machine takes a cell's id.
    pub machine_replaced: u32,
    /// A third of the cells breaks at once.
    pub many_cells_lost: u32,
    /// A machine is cut off, in one direction or both.
    pub machine_cut_off: u32,
    /// A control-plane node is killed.
    pub node_killed: u32,
    /// A node is cut off from the store, in one direction or both, or from cells and users.
    pub node_cut_off: u32,
    /// A second node believes that it has the lease.
    pub loops_doubled: u32,
    /// A node's clock jumps by up to a minute, back or forth.
    pub clock_jumped: u32,
    /// The store answers late for a while.
    pub store_slow: u32,
    /// Of 1,000 messages so many are lost.
    pub message_lost: u32,
    /// Of 1,000 messages so many come twice.
    pub message_doubled: u32,
    /// Of 1,000 messages so many come late, behind others.
    pub message_late: u32,
    /// Of 1,000 appends so many are refused.
    pub append_failed: u32,
    /// Of 1,000 appends so many have an unknown outcome.
    pub append_unanswered: u32,
}

impl Default for Faults {
    fn default() -> Self {
        Self {
            agent_killed: 50,
            power_failed: 20,
            machine_replaced: 20,
            many_cells_lost: 5,
            machine_cut_off: 30,
            node_killed: 40,
            node_cut_off: 20,
            loops_doubled: 30,
            clock_jumped: 10,
            store_slow: 15,
            message_lost: 30,
            message_doubled: 30,
            message_late: 40,
            append_failed: 20,
            append_unanswered: 40,
        }
    }
}

impl Faults {
    /// Nothing breaks.
    #[must_use]
    pub fn none() -> Self {
        let mut none = Self::default();
        none.each(|_, weight| *weight = 0);
        none
    }

    /// Leaves one kind out; `false` when there is no such kind.
    pub fn leave_out(&mut self, kind: &str) -> bool {
        let mut is_known = false;
        self.each(|name, weight| {
            if name == kind {
                *weight = 0;
                is_known = true;
            }
        });
        is_known
    }

    /// The names of all kinds.
    #[must_use]
    pub fn kinds() -> Vec<&'static str> {
        let mut kinds = Vec::new();
        Self::default().each(|name, _| kinds.push(name));
        kinds
    }

    /// The kinds that others leave out.
    pub(super) fn missing_in(mut self, mut others: Self) -> Vec<&'static str> {
        let mut left_out = Vec::new();
        others.each(|name, weight| {
            if *weight == 0 {
                left_out.push(name);
            }
        });
        self.each(|name, weight| left_out.retain(|missing| *missing != name || *weight > 0));
        left_out
    }

    /// Whether messages between nodes, cells and users may fail.
    pub(super) fn messages_fail(self) -> bool {
        self.message_lost + self.message_doubled + self.message_late > 0
    }

    /// The first field that is out of bounds, and what it may be.
    ///
    /// # Errors
    /// In words, naming the field.
    pub fn check(mut self) -> Result<(), String> {
        let mut wrong = None;
        let messages = [self.message_lost, self.message_doubled, self.message_late];
        let appends = [self.append_failed, self.append_unanswered];
        self.each(|name, weight| {
            let is_share = name.starts_with("message_") || name.starts_with("append_");
            let most = if is_share { SHARE_MAX } else { WEIGHT_MAX };
            if *weight > most {
                wrong.get_or_insert_with(|| format!("{name} is {weight}, but at most {most}"));
            }
        });
        for (name, shares) in [("message_*", &messages[..]), ("append_*", &appends[..])] {
            let sum = shares.iter().fold(0_u32, |sum, share| sum.saturating_add(*share));
            if sum > SHARE_MAX {
                wrong.get_or_insert_with(|| {
                    format!("{name} are {sum} together, but at most {SHARE_MAX} of 1,000")
                });
            }
        }
        wrong.map_or(Ok(()), Err)
    }

    /// Each kind by its name.
    pub(super) fn each(&mut self, mut what: impl FnMut(&'static str, &mut u32)) {
        let Self {
            agent_killed,
            power_failed,
            machine_replaced,
            many_cells_lost,
            machine_cut_off,
            node_killed,
            node_cut_off,
            loops_doubled,
            clock_jumped,
            store_slow,
            message_lost,
            message_doubled,
            message_late,
            append_failed,
            append_unanswered,
        } = self;
        what("agent_killed", agent_killed);
        what("power_failed", power_failed);
        what("machine_replaced", machine_replaced);
        what("many_cells_lost", many_cells_lost);
        what("machine_cut_off", machine_cut_off);
        what("node_killed", node_killed);
        what("node_cut_off", node_cut_off);
        what("loops_doubled", loops_doubled);
        what("clock_jumped", clock_jumped);
        what("store_slow", store_slow);
        what("message_lost", message_lost);
        what("message_doubled", message_doubled);
        what("message_late", message_late);
        what("append_failed", append_failed);
        what("append_unanswered", append_unanswered);
    }
}
