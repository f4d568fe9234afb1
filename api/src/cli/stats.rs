//! `diario log stats`: what the log is made of.

use clap::Args;
use projections::{
    event_store::Error as StoreError,
    log_stats::{self, Contents, Counted, Depth, LogStats},
};
use serde_json::{Value, json};

use super::{
    Error, archive::PlaceOptions, progress_bar::EventsBar, storage::StorageOptions, target::Answer,
    transfer::source,
};
use crate::clock::Clock;

pub(super) const EXAMPLES: &str = "Examples:\n  \
    diario log stats\n  \
    diario log stats --quick --json\n  \
    diario log stats --top 30 --database-url postgres://db/diario\n\n\
    Works beside a running node, and changes nothing. Without --quick every event is read.";

/// Seconds of an hour and of a day, for rates.
const HOUR_S: f64 = 3_600.0;
const DAY_S: f64 = 86_400.0;

/// Options of `diario log stats`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    storage: StorageOptions,
    #[command(flatten)]
    place: PlaceOptions,
    /// How many types and owners to name.
    #[arg(long, default_value_t = 10)]
    top: usize,
    /// Leave out what only reading every event tells: types, owners and batches.
    #[arg(long)]
    quick: bool,
}

pub(super) async fn run(options: Options, answer: &Answer) -> Result<(), Error> {
    let open = options.storage.open_to_read().await?;
    let endpoint = source(&open.storage, &options.place).await?;
    let failed = |source: StoreError| Error::Stats(source.into());
    let head = endpoint.store.head().await.map_err(failed)?;
    let bar = EventsBar::new("count", head.position.0);
    let progress = |events| bar.at(events);
    let depth = match options.quick {
        true => Depth::Quick,
        false => Depth::Everything { top: options.top },
    };
    let now = Clock::default().now();
    let snapshots = open.storage.snapshots.as_ref();
    let counted = log_stats::count(&endpoint, snapshots, now, depth, &progress).await;
    open.storage.close().await;
    drop(bar);
    let stats = counted?;
    answer.show(&told(&stats), || lines(&stats))
}

/// As a number for people; a log has far fewer events than this loses digits.
#[expect(clippy::cast_precision_loss, reason = "a rate or a mean needs a few digits")]
fn number(count: u64) -> f64 {
    count as f64
}

fn told(stats: &LogStats) -> Value {
    let counted = |counted: &Counted| {
        let Counted { name, events, payload_bytes } = counted;
        json!({ "name": name, "events": events, "payloadBytes": payload_bytes })
    };
    let all = |list: &[Counted]| list.iter().map(counted).collect::<Vec<_>>();
    let contents = stats.contents.as_ref();
    json!({
        "logId": stats.log_id.to_string(),
        "incarnation": stats.head.incarnation.0.to_string(),
        "head": stats.head.position,
        "link": hex::encode(stats.head.link),
        "floor": stats.floor.position,
        "archive": stats.floor.archive,
        "events": stats.head.position,
        "storedBytes": stats.stored_bytes,
        "snapshots": stats.snapshots,
        "snapshotBytes": stats.snapshot_bytes,
        "lastHour": stats.last_hour,
        "lastDay": stats.last_day,
        "perSecondLastHour": number(stats.last_hour) / HOUR_S,
        "perSecondLastDay": number(stats.last_day) / DAY_S,
        "batches": contents.map(|it| it.batches),
        "meanBatch": contents.map(|it| mean(stats, it)),
        "payloadBytes": contents.map(|it| it.payload_bytes),
        "owners": contents.map(|it| it.owners_all),
        "topTypes": contents.map(|it| all(&it.types)),
        "topOwners": contents.map(|it| all(&it.owners)),
    })
}

fn mean(stats: &LogStats, contents: &Contents) -> f64 {
    let events: u64 = stats.head.position.0;
    if contents.batches == 0 { 0.0 } else { number(events) / number(contents.batches) }
}

fn lines(stats: &LogStats) -> Vec<String> {
    let bytes = stats.stored_bytes.map_or_else(|| "-".to_owned(), |bytes| bytes.to_string());
    let (hour, day) = (number(stats.last_hour) / HOUR_S, number(stats.last_day) / DAY_S);
    let mut lines = vec![
        format!("log          {}", stats.log_id),
        format!("incarnation  {}", stats.head.incarnation.0),
        format!("head         @{}", stats.head.position),
        format!("floor        @{} {}", stats.floor.position, stats.floor.archive),
        format!("link         {}", hex::encode(stats.head.link)),
        format!("database     {bytes} bytes"),
        format!("snapshots    {} with {} bytes", stats.snapshots, stats.snapshot_bytes),
        format!("last hour    {} events, {hour:.2} a second", stats.last_hour),
        format!("last day     {} events, {day:.2} a second", stats.last_day),
    ];
    let Some(contents) = &stats.contents else { return lines };
    let Contents { batches, payload_bytes, types, owners, owners_all } = contents;
    lines.push(format!("batches      {batches}, {:.1} events each", mean(stats, contents)));
    lines.push(format!("payloads     {payload_bytes} bytes"));
    lines.push(format!("owners       {owners_all}"));
    for (title, list) in [("types", types), ("owners", owners)] {
        lines.push(String::new());
        lines.push(format!("{:>10}  {:>14}  {title}", "events", "payload bytes"));
        let line =
            |it: &Counted| format!("{:>10}  {:>14}  {}", it.events, it.payload_bytes, it.name);
        lines.extend(list.iter().map(line));
    }
    lines
}
