//! Which instance of ours is meant by a slot and an instance key: Diego's agents know nothing of
//! placements and registrations.

use domain::{
    aggregates::Aggregates,
    bbs::actual_lrp::{ActualLrp, Instance, InstancePresence, InstanceReference},
    id::{ActualLrpKey, ProcessGuid},
};

use crate::bbs::{call::Call, proto};

/// A slot as it stands, and the instance in it that is meant.
#[derive(Debug)]
pub(super) struct Found {
    /// The slot's key.
    pub(super) key: ActualLrpKey,
    /// Whether there is an ordinary record.
    pub(super) is_there: bool,
    /// The instance, when it is one that Diego has a name for.
    pub(super) instance: Option<Meant>,
}

/// An instance that a client means.
#[derive(Debug)]
pub(super) struct Meant {
    /// By all that we name it with.
    pub(super) reference: InstanceReference,
    /// What it is to its slot.
    pub(super) presence: InstancePresence,
}

/// Looks a slot up. `None`: there is nothing under that key, and never was anything in it that lives.
pub(super) fn find(
    call: &Call,
    process_guid: &str,
    index: i32,
    instance: Option<&proto::ActualLrpInstanceKey>,
) -> Option<Found> {
    let process_guid = ProcessGuid::new(process_guid).ok()?;
    let key = ActualLrpKey { process_guid, index: u32::try_from(index).ok()? };
    call.control_plane().now.read(|world| found(world.aggregates(), key, instance))
}

fn found(
    aggregates: &Aggregates,
    key: ActualLrpKey,
    instance: Option<&proto::ActualLrpInstanceKey>,
) -> Option<Found> {
    let slot = aggregates.slot(&key)?;
    let instance = instance.and_then(|asked| meant(slot, |it| is_named(it, asked)));
    Some(Found { key, is_there: !slot.is_removed(), instance })
}

/// The ordinary instance of a slot, whichever it is.
pub(super) fn ordinary(call: &Call, key: &ActualLrpKey) -> Option<Meant> {
    let is_ordinary = |it: &Instance<'_>| it.presence == InstancePresence::Ordinary;
    let now = &call.control_plane().now;
    now.read(|world| world.aggregates().slot(key).and_then(|slot| meant(slot, is_ordinary)))
}

/// What leaves is none of the slot's any more, as in Diego.
fn meant(slot: &ActualLrp, is_meant: impl Fn(&Instance<'_>) -> bool) -> Option<Meant> {
    let own = slot.instances().filter(|it| it.presence != InstancePresence::Leaving);
    let instance = own.into_iter().find(|it| is_meant(it))?;
    let placement = instance.placement;
    let reference = InstanceReference {
        key: slot.key.clone(),
        instance_guid: placement.instance_guid.clone(),
        placement_epoch: placement.placement_epoch,
        cell_id: placement.cell_id.clone(),
        cell_epoch: placement.cell_epoch,
    };
    Some(Meant { reference, presence: instance.presence })
}

fn is_named(instance: &Instance<'_>, key: &proto::ActualLrpInstanceKey) -> bool {
    instance.placement.instance_guid.as_str() == key.instance_guid
        && instance.placement.cell_id.as_str() == key.cell_id
}
