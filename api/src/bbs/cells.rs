//! The cells that are there. Ours speak no rep's HTTP: where Diego shows that address nothing stands.

use std::collections::BTreeMap;

use domain::bbs::{cell::Cell, rootfs::RootfsProvider};

use super::{call::Call, error::Failure, proto};

pub(super) async fn list(call: Call, _: ()) -> Result<proto::CellsResponse, Failure> {
    let cells = call.control_plane().now.read(|world| {
        world.aggregates().cells().filter(|cell| cell.is_present()).map(presence).collect()
    });
    Ok(proto::CellsResponse { error: None, cells })
}

fn presence(cell: &Cell) -> proto::CellPresence {
    let registration = &cell.registration;
    let capacity = registration.capacity;
    proto::CellPresence {
        cell_id: cell.cell_id.to_string(),
        rep_address: String::new(),
        zone: registration.zone.to_string(),
        capacity: Some(proto::CellCapacity {
            memory_mb: at_most(capacity.memory_mb.0),
            disk_mb: at_most(capacity.disk_mb.0),
            containers: at_most(capacity.containers),
        }),
        rootfs_providers: registration.rootfs_providers.iter().map(provider).collect(),
        placement_tags: registration.placement_tags.iter().cloned().collect(),
        optional_placement_tags: registration.optional_placement_tags.iter().cloned().collect(),
        rep_url: String::new(),
        annotations: BTreeMap::new(),
    }
}

/// One that takes any image has no names to show.
fn provider((scheme, provider): (&str, &RootfsProvider)) -> proto::Provider {
    let properties = match provider {
        RootfsProvider::FixedSet(names) => names.iter().cloned().collect(),
        RootfsProvider::Arbitrary => Vec::new(),
    };
    proto::Provider { name: scheme.to_owned(), properties }
}

/// A number as Diego's clients have room for it.
pub(super) fn at_most(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}
