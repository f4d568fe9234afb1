//! The snapshots of a log that has none, as they would have been taken while it grew.
//!
//! The fold waits for each of them, as they do not wait for it: a log grows by commits, which take
//! longer than a snapshot does. Following a finished log would outrun the snapshots instead.

use std::{collections::HashSet, sync::Arc};

use domain::log::Position;

use super::{Dirty, Error, READ_PAGE, note_owner, snapshotter::Taker, stamp_of};
use crate::{
    event_store::{EventStore, ReadAhead},
    snapshot::SnapshotStore,
    world::World,
};

/// Takes the snapshots of a log that has none, and one at its end.
///
/// # Errors
/// When the log cannot be read, or ends before that position. A snapshot that cannot be kept is told, and left out.
pub async fn take_as_it_grew(
    store: &dyn EventStore,
    snapshots: Arc<dyn SnapshotStore>,
    until: Position,
) -> Result<(), Error> {
    let failed = |source| Error::Log { position: until, source };
    let mut taker = Taker::new(snapshots, None, Dirty::all());
    let mut log = ReadAhead::new(store, Position(0), until, READ_PAGE);
    let (mut world, mut owners) = (World::empty(), HashSet::new());
    loop {
        let page = log.page().await.map_err(failed)?;
        page.iter().for_each(|recorded| note_owner(&mut owners, recorded));
        world.apply_all(&page);
        if page.is_empty() || world.position() >= taker.due() {
            let aggregates = world.aggregates().clone();
            taker.take(stamp_of(&world), aggregates, std::mem::take(&mut owners)).await;
        }
        if page.is_empty() {
            let head = world.position();
            let is_whole = head >= until;
            return is_whole.then_some(()).ok_or(Error::AheadOfHead { position: until, head });
        }
    }
}
