//! Many GraphQL subscribers over real WebSockets on loopback: how long from the commit until an
//! event is delivered, whether one is missing or comes twice, and that one which reads nothing is
//! dropped, and misses nothing where it goes on.
//!
//! Senders, node and subscribers share this machine, so the figure holds the subscribers' own work.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use domain::{
    bbs::desired_lrp,
    command::{Command, Envelope},
    id::ProcessGuid,
};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{
    Effort, Error, load,
    measure::{self, Goal, Report, Round, Row},
    place::Place,
};
use crate::{
    cell_gateway::CellTokens,
    cli::{
        client::{self, Client},
        subscription::Subscription,
    },
    clock::Stopwatch,
    command_bus::CommandBus,
    edge::{self, Listeners},
    http::Access,
    node::{Node, Settings},
};

/// How often the senders send.
const BEAT: Duration = Duration::from_millis(10);
const BEATS_PER_SECOND: u64 = 100;
/// How long the last events may be on their way.
const ARRIVAL_MAX: Duration = Duration::from_secs(30);

const OF_ONE: &str = "subscription($owner: String!) {
    log(filter: { owner: $owner }) { position }
}";
const OF_ALL: &str = "subscription { log { position } }";
/// For one that reads nothing: more than any buffer on the way holds.
const OF_EVERYTHING: &str = "subscription($after: Cursor) {
    log(after: $after) {
        position cursor stream owner type recordedAt commandId correlation
        a: payload b: payload c: payload d: payload e: payload f: payload g: payload h: payload
    }
}";

/// When each event was acknowledged, in microseconds since the start; 0 until then.
#[derive(Debug)]
struct Commits {
    started: Stopwatch,
    first: u64,
    times: Vec<AtomicU64>,
}

impl Commits {
    fn now(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_micros()).unwrap_or(u64::MAX)
    }

    fn at(&self, position: u64) -> Option<&AtomicU64> {
        let index = position.checked_sub(self.first)?;
        self.times.get(usize::try_from(index).ok()?)
    }
}

/// What a subscriber saw: how late each event was, in microseconds, and at which position.
type Seen = Vec<(u64, u64)>;

pub(super) async fn all(report: &mut Report, place: &Place, effort: Effort) -> Result<(), Error> {
    if !report.wants("subscribers") {
        return Ok(());
    }
    let mut figures = Vec::new();
    for round in 0..effort.rounds.min(3) {
        report.progress(format!("subscribers, round {}", round + 1));
        figures.push(Round { ours: once(place, effort).await?, peer: None });
    }
    let (of_one, of_all) = effort.subscribers;
    let row = Row {
        name: "subscribers/p99",
        size: format!("{of_one} of one app, {of_all} of all"),
        unit: "ms",
        goal: Goal::AtMost(100.0),
    };
    report.add(row, &figures);
    Ok(())
}

async fn once(place: &Place, effort: Effort) -> Result<f64, Error> {
    let folder = place.path().join(place.new_name());
    let node = Node::start(Settings::in_folder(&folder, "bench")).await?;
    let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let failed = |failure: edge::Error| Error::Unexpected(failure.to_string());
    let listeners = Listeners::bind(any, any).await.map_err(failed)?;
    let url = listeners.api_url(false);
    let stop = CancellationToken::new();
    let tokens = Arc::new(CellTokens::default());
    let served = edge::serve(&node, listeners, Access::loopback(), tokens, None, stop.clone());
    let measured = async {
        let p99_ms = follow_and_send(&node.control_plane.bus, &url, effort).await;
        stop.cancel();
        p99_ms
    };
    let (served, p99_ms) = tokio::join!(served, measured);
    node.stop().await;
    served.map_err(failed)?;
    p99_ms
}

async fn follow_and_send(bus: &CommandBus, url: &str, effort: Effort) -> Result<f64, Error> {
    let (of_one, of_all) = effort.subscribers;
    let apps: Vec<String> = (0..of_one).map(|number| format!("app-{number}")).collect();
    let desired = apps.iter().map(|app| stopped(load::desire_as(app))).collect();
    let first = accepted(bus, desired).await?.saturating_add(1);
    let beats = BEATS_PER_SECOND * (effort.load * 2).as_secs().max(1);
    let each = (effort.subscribed_per_second / BEATS_PER_SECOND).max(1);
    let events = beats * each;
    let times = (0..events).map(|_| AtomicU64::new(0)).collect();
    let commits = Arc::new(Commits { started: Stopwatch::start(), first, times });
    let client = Client::new(url, None, None).map_err(unexpected)?;
    let apps_count = u64::try_from(apps.len()).unwrap_or(u64::MAX);
    let mut followers = JoinSet::new();
    let (ready, mut begun) = tokio::sync::mpsc::unbounded_channel();
    for (number, app) in (0_u64..).zip(&apps) {
        // The senders go round: this app's share of all events.
        let expected = events / apps_count + u64::from(number < events % apps_count);
        let variables = json!({ "owner": format!("process/{app}") });
        let follower = Follower { client: client.clone(), commits: Arc::clone(&commits), expected };
        followers.spawn(follower.run(OF_ONE, variables, ready.clone()));
    }
    for _ in 0..of_all {
        let follower =
            Follower { client: client.clone(), commits: Arc::clone(&commits), expected: events };
        followers.spawn(follower.run(OF_ALL, json!({}), ready.clone()));
    }
    for _ in 0..of_one + of_all {
        begun.recv().await;
    }
    let slow = Slow { client: client.clone(), last: first + events - 1 };
    let slow = slow.begin(effort.slow_for).await?;
    // A subscription answers nothing before its first event: give the last ones time to begin.
    tokio::time::sleep(Duration::from_secs(1)).await;
    send(bus, &apps, beats, each, &commits).await?;
    let mut late_us = Vec::new();
    let arrived = async {
        while let Some(follower) = followers.join_next().await {
            let seen =
                follower.map_err(|_| Error::Unexpected("a follower has panicked".to_owned()))??;
            late_us.extend(seen);
        }
        Ok::<(), Error>(())
    };
    let late = || Error::Unexpected("an event did not arrive at a subscriber".to_owned());
    tokio::time::timeout(ARRIVAL_MAX, arrived).await.map_err(|_| late())??;
    if let Some(slow) = slow {
        slow.go_on().await?;
    }
    let latencies = late_us.into_iter().filter_map(|(position, at)| {
        let committed = commits.at(position)?.load(Ordering::Relaxed);
        Some(u32::try_from(at.saturating_sub(committed)).unwrap_or(u32::MAX))
    });
    Ok(measure::p99_ms(latencies.collect()))
}

/// A desired LRP without instances, so that no loop has work.
fn stopped(mut envelope: Envelope) -> Envelope {
    if let Command::DesiredLrp(desired_lrp::Command::Desire { instances, .. }) =
        &mut envelope.command
    {
        *instances = 0;
    }
    envelope
}

/// Submits commands, each of which must cause one event; the position of the last.
async fn accepted(bus: &CommandBus, envelopes: Vec<Envelope>) -> Result<u64, Error> {
    let mut last = 0;
    for outcome in bus.submit_all(envelopes).await? {
        last = outcome.map_err(crate::command_bus::Error::from)?.position.0;
    }
    Ok(last)
}

/// Changes one app after the other, so many in each beat.
async fn send(
    bus: &CommandBus,
    apps: &[String],
    beats: u64,
    each: u64,
    commits: &Commits,
) -> Result<(), Error> {
    let mut beat = tokio::time::interval(BEAT);
    let mut next = 0_u64;
    let mut apps = apps.iter().cycle();
    for _ in 0..beats {
        beat.tick().await;
        let mut envelopes = Vec::new();
        for app in apps.by_ref().take(usize::try_from(each).unwrap_or(1)) {
            next += 1;
            envelopes.push(change(app, next));
        }
        let count = u64::try_from(envelopes.len()).unwrap_or(0);
        let last = accepted(bus, envelopes).await?;
        let now = commits.now();
        for position in last.saturating_sub(count) + 1..=last {
            if let Some(time) = commits.at(position) {
                time.store(now, Ordering::Relaxed);
            }
        }
    }
    Ok(())
}

fn change(app: &str, number: u64) -> Envelope {
    let process_guid = ProcessGuid::new(app).unwrap_or_else(|_| unreachable!("a plain name"));
    // As long as payloads are told to be.
    let annotation = Some(format!("change {number:0>300}"));
    let update = desired_lrp::Update { annotation, ..desired_lrp::Update::default() };
    load::envelope(Command::DesiredLrp(desired_lrp::Command::Update { process_guid, update }))
}

/// One subscriber with a socket of its own.
struct Follower {
    client: Client,
    commits: Arc<Commits>,
    expected: u64,
}

impl Follower {
    /// Follows until all that is expected has come; each position must be behind the last.
    async fn run(
        self,
        document: &'static str,
        variables: Value,
        ready: tokio::sync::mpsc::UnboundedSender<()>,
    ) -> Result<Seen, Error> {
        let mut subscription =
            self.client.subscribe(document, variables).await.map_err(unexpected)?;
        ready.send(()).ok();
        let mut seen = Seen::new();
        let mut count = 0;
        while count < self.expected {
            let data = subscription.next().await.map_err(unexpected)?;
            let at = self.commits.now();
            let position = data.as_ref().and_then(|data| data["log"]["position"].as_str());
            let position: u64 = position
                .and_then(|text| text.parse().ok())
                .ok_or_else(|| Error::Unexpected("a subscription has ended".to_owned()))?;
            if seen.last().is_some_and(|(last, _)| *last >= position) {
                return Err(Error::Unexpected(format!("position {position} came twice")));
            }
            count += 1;
            seen.push((position, at));
        }
        Ok(seen)
    }
}

/// One that reads nothing for so long that it is dropped.
struct Slow {
    client: Client,
    last: u64,
}

/// The same with its subscription, which began some time ago.
struct Slowed {
    slow: Slow,
    subscription: Subscription,
    began: Stopwatch,
    wait: Duration,
}

impl Slow {
    async fn begin(self, slow_for: Option<Duration>) -> Result<Option<Slowed>, Error> {
        let Some(wait) = slow_for else { return Ok(None) };
        let subscription = self.client.subscribe(OF_EVERYTHING, json!({})).await;
        let subscription = subscription.map_err(unexpected)?;
        Ok(Some(Slowed { slow: self, subscription, began: Stopwatch::start(), wait }))
    }

    /// Reads until the end; `Some` with the last cursor when it was dropped before.
    async fn read(
        &self,
        subscription: &mut Subscription,
        last: &mut Option<u64>,
    ) -> Result<Option<String>, Error> {
        let mut cursor = None;
        while *last < Some(self.last) {
            let data = match subscription.next().await {
                Ok(Some(data)) => data,
                Ok(None) | Err(client::Error::Lost { .. }) => return Ok(cursor),
                Err(failure) => return Err(unexpected(failure)),
            };
            let event = &data["log"];
            let position = event["position"].as_str().and_then(|text| text.parse().ok());
            let position: u64 =
                position.ok_or_else(|| Error::Unexpected("an event has no position".to_owned()))?;
            if last.is_some_and(|last| last + 1 != position) {
                let problem = format!("a slow reader got {position} behind {last:?}");
                return Err(Error::Unexpected(problem));
            }
            *last = Some(position);
            cursor = event["cursor"].as_str().map(str::to_owned);
        }
        Ok(None)
    }
}

impl Slowed {
    /// Reads at last, finds that it was dropped, and goes on behind the last event it has got.
    async fn go_on(mut self) -> Result<(), Error> {
        tokio::time::sleep(self.wait.saturating_sub(self.began.elapsed())).await;
        let mut last = None;
        let Some(cursor) = self.slow.read(&mut self.subscription, &mut last).await? else {
            let problem = "a reader that took nothing was not dropped";
            return Err(Error::Unexpected(problem.to_owned()));
        };
        let after = json!({ "after": cursor });
        let again = self.slow.client.subscribe(OF_EVERYTHING, after).await;
        let rest = self.slow.read(&mut again.map_err(unexpected)?, &mut last).await?;
        match rest {
            None => Ok(()),
            Some(_) => Err(Error::Unexpected("a quick reader was dropped".to_owned())),
        }
    }
}

fn unexpected(failure: client::Error) -> Error {
    Error::Unexpected(failure.to_string())
}
