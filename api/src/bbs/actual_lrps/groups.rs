//! The deprecated view of a slot: one instance, and one that is being evacuated beside it.

use crate::bbs::proto::{self, actual_lrp::Presence};

/// Which record stands for the slot: a healthy ordinary one first, then a suspect one.
fn rank(row: &proto::ActualLrp) -> u8 {
    match (row.presence(), row.state.as_str()) {
        (Presence::Ordinary, "RUNNING") => 0,
        (Presence::Suspect, "RUNNING") => 1,
        (Presence::Suspect, "CLAIMED") => 2,
        (Presence::Ordinary, "CLAIMED") => 3,
        (Presence::Ordinary | Presence::Suspect | Presence::Evacuating, _) => 4,
    }
}

/// The group of the records of one slot; none when there are none.
pub(in crate::bbs) fn group(rows: &[proto::ActualLrp]) -> Option<proto::ActualLrpGroup> {
    let is_evacuating = |row: &&proto::ActualLrp| row.presence() == Presence::Evacuating;
    let evacuating = rows.iter().find(is_evacuating).cloned();
    let instance = rows.iter().filter(|row| !is_evacuating(row)).min_by_key(|row| rank(row));
    let group = proto::ActualLrpGroup { instance: instance.cloned(), evacuating };
    (!rows.is_empty()).then_some(group)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(presence: Presence, state: &str) -> proto::ActualLrp {
        proto::ActualLrp {
            presence: presence.into(),
            state: state.to_owned(),
            ..proto::ActualLrp::default()
        }
    }

    #[test]
    fn a_group_shows_the_first_in_diegos_order_whatever_order_they_come_in() {
        let ordered = [
            row(Presence::Ordinary, "RUNNING"),
            row(Presence::Suspect, "RUNNING"),
            row(Presence::Suspect, "CLAIMED"),
            row(Presence::Ordinary, "CLAIMED"),
            row(Presence::Ordinary, "UNCLAIMED"),
        ];
        for (index, first) in ordered.iter().enumerate() {
            let mut rest = ordered[index..].to_vec();
            rest.reverse();
            assert_eq!(group(&rest).unwrap().instance.as_ref(), Some(first));
        }
        let evacuating = row(Presence::Evacuating, "RUNNING");
        let shown = group(&[ordered[4].clone(), evacuating.clone()]).unwrap();
        assert_eq!(shown.instance, Some(ordered[4].clone()));
        assert_eq!(shown.evacuating, Some(evacuating.clone()));
        assert_eq!(group(&[evacuating]).unwrap().instance, None);
        assert_eq!(group(&[]), None);
    }
}
