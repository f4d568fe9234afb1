//! Defects that can be put into the simulated cells, to prove that the invariants see them.

/// How a simulated cell breaks the protocol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Defect {
    /// Runs a task's process without asking whether it may.
    ExecsWithoutAsking,
    /// Runs a task's process twice.
    ExecsTwice,
    /// Loses the record that a task was started, and asks again after a restart.
    ForgetsStarts,
    /// Leaves containers alone that are no longer assigned.
    NeverStops,
    /// Says nothing of containers that ended.
    HidesEnds,
    /// Gives every container the same address.
    SharesAnAddress,
    /// Takes whatever list comes for its own, and starts over with each.
    ForgetsItsBook,
}

impl Defect {
    /// All of them.
    pub const ALL: [Self; 7] = [
        Self::ExecsWithoutAsking,
        Self::ExecsTwice,
        Self::ForgetsStarts,
        Self::NeverStops,
        Self::HidesEnds,
        Self::SharesAnAddress,
        Self::ForgetsItsBook,
    ];
}
