//! One reader's stream: what is in the log behind its position, then what comes, each event once.
//!
//! A reader that takes nothing while the ring goes by is cut off, as in Diego; it goes on behind its
//! last event when it comes back.

use std::time::Duration;

use axum::{
    body::Body,
    extract::Request,
    http::{HeaderMap, HeaderName, HeaderValue, Response, StatusCode, header},
};
use bytes::Bytes;
use domain::log::Position;
use futures_util::stream;
use projections::{history::Instant, worker};
use tokio::{
    sync::{broadcast, mpsc},
    time::timeout,
};
use tokio_util::sync::CancellationToken;
use tracing::info;

use super::{
    Kind,
    change::Change,
    sse::{Id, frame},
};
use crate::{
    bbs::{
        call::Bbs,
        hub::{Folder, PENDING_MAX, Place},
        paths::read_body,
        proto, wire,
    },
    telemetry::subscribers::Subscriber,
};

const LAST_EVENT_ID: HeaderName = HeaderName::from_static("last-event-id");
/// How many events may be written and not yet taken: the ring holds the others.
const WRITTEN_MAX: usize = 16;
/// How often it is looked whether a reader that takes nothing has fallen behind.
const LOOK_AGAIN: Duration = Duration::from_millis(200);
/// How many events are read from the log together.
const BATCH_MAX: usize = 500;
/// How far behind what comes a reader of the log takes its place in the ring.
const NEAR: u64 = 256;

/// Ends the connection of a request, for whoever serves it puts one into each.
#[derive(Debug, Clone, Default)]
pub(in crate::bbs) struct Connection(pub(in crate::bbs) CancellationToken);

/// Where a reader wants to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Begin {
    /// With what comes.
    Now,
    /// Behind a position of the log.
    Behind(Position),
    /// Behind an event that it was told.
    After(Id),
}

/// Follows one of the streams.
pub(in crate::bbs) async fn follow(bbs: Bbs, request: Request, kind: Kind) -> Response<Body> {
    let Ok(begin) = begin_of(request.headers(), request.uri().query()) else {
        return refused(
            StatusCode::BAD_REQUEST,
            "Last-Event-ID and ?after= take a number, and only one of them may be given",
        );
    };
    let connection = request.extensions().get::<Connection>().cloned().unwrap_or_default();
    let cell_id = match read_body(request).await {
        Ok(body) => wire::decode::<proto::EventsByCellId>(&body).map(|asked| asked.cell_id),
        Err(_) => Err(wire::Error::Malformed),
    };
    // So says Diego of a request that it cannot read.
    let Ok(cell_id) = cell_id else {
        return refused(StatusCode::INTERNAL_SERVER_ERROR, "the body is not an EventsByCellId");
    };
    let reader = match Reader::open(&bbs, begin).await {
        Ok(reader) => reader,
        Err((status, reason)) => return refused(status, &reason),
    };
    let (written, taken) = mpsc::channel(WRITTEN_MAX);
    let asked = Asked { kind, cell_id, written };
    drop(worker::spawn("BBS event stream", async move {
        if reader.run(&asked).await == End::CutOff {
            info!("A reader of events was too slow and is cut off.");
            connection.0.cancel();
        }
    }));
    let frames = stream::unfold(taken, |mut taken| async move {
        let frame: Bytes = taken.recv().await?;
        Some((Ok::<_, std::convert::Infallible>(frame), taken))
    });
    let mut response = Response::new(Body::from_stream(frames));
    let headers = response.headers_mut();
    let put = |headers: &mut HeaderMap, name, value| {
        headers.insert(name, HeaderValue::from_static(value));
    };
    put(headers, header::CONTENT_TYPE, "text/event-stream; charset=utf-8");
    put(headers, header::CACHE_CONTROL, "no-cache, no-store, must-revalidate");
    put(headers, header::CONNECTION, "keep-alive");
    response
}

fn refused(status: StatusCode, reason: &str) -> Response<Body> {
    info!(%status, reason, "A stream of events was refused.");
    let mut response = Response::new(Body::from(reason.to_owned()));
    *response.status_mut() = status;
    response
}

struct Rubbish;

fn begin_of(headers: &HeaderMap, query: Option<&str>) -> Result<Begin, Rubbish> {
    let last = headers.get(LAST_EVENT_ID).map(|value| value.to_str().map_err(|_| Rubbish));
    // A reader that was told nothing yet gives an empty one.
    let last = last.transpose()?.filter(|text| !text.trim().is_empty());
    let pairs = query.unwrap_or_default().split('&');
    let after = pairs.filter_map(|pair| pair.strip_prefix("after=")).collect::<Vec<_>>();
    match (last, after.as_slice()) {
        (None, []) => Ok(Begin::Now),
        (Some(text), []) => Id::read(text).map(Begin::After).ok_or(Rubbish),
        (None, [text]) => {
            text.parse().map(|number| Begin::Behind(Position(number))).map_err(|_| Rubbish)
        }
        (Some(_) | None, _) => Err(Rubbish),
    }
}

/// What goes into the stream, and where to.
struct Asked {
    kind: Kind,
    cell_id: String,
    written: mpsc::Sender<Bytes>,
}

/// Why a stream is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Its reader is gone, or the node goes down.
    Over,
    /// Its reader takes nothing.
    CutOff,
}

/// Where a reader is.
struct Reader {
    bbs: Bbs,
    /// The last event that it knows.
    known: Option<Id>,
    at: At,
    _counted: Subscriber,
}

enum At {
    /// It reads the log, folded as it was there.
    Log(Box<Folder>, Position),
    /// It is told what comes.
    Live(Place),
}

type Refusal = (StatusCode, String);

impl Reader {
    async fn open(bbs: &Bbs, begin: Begin) -> Result<Self, Refusal> {
        let (position, known) = match begin {
            Begin::Now => (None, None),
            Begin::Behind(position) => (Some(position), None),
            // Some of what the event is told with may be missing still.
            Begin::After(id) => (Some(Position(id.position.0.saturating_sub(1))), Some(id)),
        };
        let at = match position {
            None => At::Live(bbs.hub.join().ok_or_else(going_down)?),
            Some(position) => {
                let world = bbs.control_plane.history.at(Instant::Position(position)).await;
                let world = world.map_err(|failure| (StatusCode::GONE, failure.to_string()))?;
                let folder = Folder::new(bbs.control_plane.clone(), world.aggregates().clone());
                At::Log(Box::new(folder), position)
            }
        };
        Ok(Self { bbs: bbs.clone(), known, at, _counted: Subscriber::of("bbs_events") })
    }

    async fn run(self, asked: &Asked) -> End {
        let Self { bbs, known, at, _counted } = self;
        let place = match at {
            At::Live(place) => place,
            At::Log(folder, position) => {
                match catch_up(&bbs, *folder, position, known, asked).await {
                    Ok(place) => place,
                    Err(end) => return end,
                }
            }
        };
        live(place, asked).await
    }
}

/// Tells what is in the log, until nothing is between that and what comes.
async fn catch_up(
    bbs: &Bbs,
    mut folder: Folder,
    mut position: Position,
    known: Option<Id>,
    asked: &Asked,
) -> Result<Place, End> {
    let mut subscription = bbs.control_plane.store.subscribe(position);
    let mut place: Option<Place> = None;
    loop {
        // A place taken early would be lost before it is reached: it is taken when the end is near,
        // and anew when so much came meanwhile that the ring has gone by.
        let is_near = bbs.hub.position().0.saturating_sub(position.0) <= NEAR;
        if is_near && place.as_ref().is_none_or(|place| place.live.len() > PENDING_MAX / 2) {
            place = Some(bbs.hub.join().ok_or(End::Over)?);
        }
        if let Some(reached) = place.take_if(|place| place.position <= position) {
            return Ok(reached.behind(position));
        }
        let batch = tokio::select! {
            batch = subscription.next_batch(BATCH_MAX) => batch,
            () = asked.written.closed() => return Err(End::Over),
        };
        for recorded in batch.map_err(|_| End::Over)? {
            position = recorded.position;
            if let Some(change) = folder.fold(&recorded).await {
                tell(&change, known, asked, || false).await?;
            }
        }
    }
}

/// Tells what comes.
async fn live(mut place: Place, asked: &Asked) -> End {
    loop {
        let change = tokio::select! {
            change = place.live.recv() => change,
            () = asked.written.closed() => return End::Over,
        };
        let change = match change {
            Ok(change) => change,
            Err(broadcast::error::RecvError::Lagged(_)) => return End::CutOff,
            Err(broadcast::error::RecvError::Closed) => return End::Over,
        };
        // What the log has told already.
        if change.position <= place.position {
            continue;
        }
        let is_behind = || place.live.len() > PENDING_MAX;
        if let Err(end) = tell(&change, None, asked, is_behind).await {
            return end;
        }
    }
}

/// Writes the events of one change that its reader does not know yet.
async fn tell(
    change: &Change,
    known: Option<Id>,
    asked: &Asked,
    is_behind: impl Fn() -> bool,
) -> Result<(), End> {
    for (ordinal, named) in (0..).zip(asked.kind.events(change, &asked.cell_id)) {
        let id = Id { position: change.position, ordinal };
        if known.is_some_and(|known| id <= known) {
            continue;
        }
        let room = loop {
            match timeout(LOOK_AGAIN, asked.written.reserve()).await {
                Ok(Ok(room)) => break room,
                Ok(Err(_)) => return Err(End::Over),
                Err(_) if is_behind() => return Err(End::CutOff),
                Err(_) => {}
            }
        };
        room.send(frame(id, &named));
    }
    Ok(())
}

fn going_down() -> Refusal {
    (StatusCode::INTERNAL_SERVER_ERROR, "the events cannot be followed now; try again".to_owned())
}
