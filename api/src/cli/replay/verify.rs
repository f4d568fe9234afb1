//! `diario replay --verify-views`: a fresh fold of the whole log, compared byte for byte with the
//! views of the running node, or with what the newest snapshot leads to.

use std::sync::Arc;

use domain::{
    log::{Cursor, Position},
    sealed::Digest,
};
use projections::{
    event_store::EventStore,
    history::{
        self, Stepper, views,
        views::{Difference, ViewDigest},
    },
    snapshot::{MemorySnapshotStore, SnapshotStore},
    world::World,
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{CommandError, Error, note_progress, progress};
use crate::{
    cli::{Outcome, client, target::Session},
    output,
};

const DOCUMENT: &str = "{ viewDigests { cursor views { name digest bytes pieces } } }";

#[derive(Deserialize)]
struct Told {
    cursor: String,
    views: Vec<ToldView>,
}

#[derive(Deserialize)]
struct ToldView {
    name: String,
    digest: String,
    bytes: u64,
    pieces: String,
}

pub(super) async fn run(
    session: &Session,
    store: Arc<dyn EventStore>,
    snapshots: Arc<dyn SnapshotStore>,
    is_offline: bool,
) -> Result<Outcome, CommandError> {
    if is_offline {
        return offline(session, store, snapshots).await;
    }
    let (cursor, digests) = running(session).await?;
    let head = store.head().await.map_err(Error::from)?;
    if head.incarnation != cursor.incarnation {
        let (node, storage) = (cursor.incarnation, head.incarnation);
        return Err(Error::AnotherLog { node, storage }.into());
    }
    let world = fold_afresh(&store, cursor.position).await?;
    let difference = views::first_difference(&world, &digests);
    tell(session, "online", cursor.position, difference, || {
        format!("the running node's {} views are what a fresh fold comes to", digests.len())
    })
}

/// What the running node's views hold, all at one position.
async fn running(session: &Session) -> Result<(Cursor, Vec<ViewDigest>), CommandError> {
    let asked = session.client.query(DOCUMENT, json!({})).await;
    if let Err(client::Error::Unreachable { .. }) = &asked {
        output::progress("no node answers; --offline compares with the newest snapshot instead");
    }
    let told: Told = session.client.part(&asked?, "/viewDigests")?;
    let cursor = told.cursor.parse().map_err(|_| Error::Digests)?;
    let views: Option<Vec<ViewDigest>> = told.views.into_iter().map(read).collect();
    Ok((cursor, views.ok_or(Error::Digests)?))
}

fn read(told: ToldView) -> Option<ViewDigest> {
    let ToldView { name, digest, bytes, pieces } = told;
    let is_plain = pieces.bytes().all(|byte| byte.is_ascii_hexdigit());
    let digest = Digest::try_from(digest).ok().filter(|_| is_plain)?;
    Some(ViewDigest { name, digest, bytes, pieces })
}

async fn offline(
    session: &Session,
    store: Arc<dyn EventStore>,
    snapshots: Arc<dyn SnapshotStore>,
) -> Result<Outcome, CommandError> {
    let position = store.head().await.map_err(Error::from)?.position;
    let loaded = history::load(store.as_ref(), snapshots.as_ref(), position).await;
    let loaded = loaded.map_err(Error::from)?;
    let world = fold_afresh(&store, position).await?;
    let difference = views::first_difference_between(&world, &loaded.world);
    tell(session, "offline", position, difference, || match loaded.base {
        Some(base) => {
            format!("the snapshot at @{base} and the events behind it lead to the same views")
        }
        None => "there is no snapshot to compare with; the log can be folded whole".to_owned(),
    })
}

/// Folds the log from its start, whatever snapshots there are; a pruned log from the signed state
/// that it begins with.
async fn fold_afresh(store: &Arc<dyn EventStore>, to: Position) -> Result<World, Error> {
    let none = Arc::new(MemorySnapshotStore::default());
    let start = store.pruned();
    let mut stepper = Stepper::open(Arc::clone(store), none, start, false).await?;
    let bar = progress(to.0.saturating_sub(start.0));
    while stepper.world().position() < to {
        let Some(recorded) = stepper.fold().await? else {
            let head = stepper.world().position();
            return Err(history::Error::AheadOfHead { position: to, head }.into());
        };
        note_progress(&bar, start, recorded.position);
    }
    bar.finish_and_clear();
    Ok(stepper.into_world())
}

fn tell(
    session: &Session,
    mode: &str,
    position: Position,
    difference: Option<Difference>,
    agreement: impl FnOnce() -> String,
) -> Result<Outcome, CommandError> {
    let told = difference.as_ref().map_or(
        Value::Null,
        |difference| json!({ "view": difference.view, "hint": difference.hint }),
    );
    let answer = json!({
        "mode": mode,
        "position": position.to_string(),
        "agree": difference.is_none(),
        "difference": told,
    });
    let outcome = if difference.is_none() { Outcome::Done } else { Outcome::Failed };
    session.show(&answer, || match difference {
        None => vec![format!("at @{position}: {}", agreement())],
        Some(Difference { view, hint }) => vec![
            format!("at @{position} the view {view} is not what a fresh fold comes to:"),
            format!("  {hint}"),
        ],
    })?;
    Ok(outcome)
}
