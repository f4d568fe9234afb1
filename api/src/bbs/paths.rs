//! Every path of the BBS with what answers it, in the order of Diego's own list.
//!
//! A path's revision is a part of it (`.r2`): what an older client asks is answered as it knows it.

use axum::{
    Router,
    body::Body,
    extract::{Extension, Request, State},
    http::{HeaderName, HeaderValue, Response, StatusCode},
    routing::{get, post},
};
use domain::id::CommandId;
use http_body_util::{BodyExt as _, Limited};
use prost::Message;
use tokio::time::timeout;

use super::{
    actual_lrps::{evacuation, lifecycle as actual_lrp, read as actual_lrps},
    call::{Bbs, Call, Caller, REQUEST_ID},
    cells, desired_lrps, domains,
    error::{Answer, Failure},
    events, proto,
    tasks::{lifecycle as task, read as tasks},
    wire,
};
use crate::http::limits::REQUEST_TIMEOUT;

/// The header by which Diego's clients know that nothing answers at a path.
const ROUTER_ERROR: HeaderName = HeaderName::from_static("x-cf-routererror");

macro_rules! paths {
    ($($path:literal => $handler:path,)*) => {
        /// Every path that a message is posted to.
        #[cfg(test)]
        pub(super) const PATHS: &[&str] = &[$($path),*];

        fn calls() -> Router<Bbs> {
            Router::new()$(.route(
                $path,
                post(|State(bbs): State<Bbs>, Extension(caller): Extension<Caller>, request: Request| {
                    answered(bbs, caller, request, $handler)
                }),
            ))*
        }
    };
}

paths! {
    "/v1/ping" => ping,
    "/v1/domains/list" => domains::list,
    "/v1/domains/upsert" => domains::upsert,
    "/v1/actual_lrps/list" => actual_lrps::list,
    "/v1/actual_lrps/list_by_process_guids" => actual_lrps::list_by_process_guids,
    "/v1/actual_lrp_groups/list" => actual_lrps::list_groups,
    "/v1/actual_lrp_groups/list_by_process_guid" => actual_lrps::list_groups_by_process_guid,
    "/v1/actual_lrp_groups/get_by_process_guid_and_index" =>
        actual_lrps::group_by_process_guid_and_index,
    "/v1/actual_lrps/claim" => actual_lrp::claim,
    "/v1/actual_lrps/start.r1" => actual_lrp::start_r1,
    "/v1/actual_lrps/start" => actual_lrp::start,
    "/v1/actual_lrps/crash" => actual_lrp::crash,
    "/v1/actual_lrps/fail" => actual_lrp::fail,
    "/v1/actual_lrps/remove" => actual_lrp::remove,
    "/v1/actual_lrps/retire" => actual_lrp::retire,
    "/v1/actual_lrps/remove_evacuating" => evacuation::remove_evacuating,
    "/v1/actual_lrps/evacuate_claimed" => evacuation::claimed,
    "/v1/actual_lrps/evacuate_crashed" => evacuation::crashed,
    "/v1/actual_lrps/evacuate_stopped" => evacuation::stopped,
    "/v1/actual_lrps/evacuate_running.r1" => evacuation::running,
    "/v1/actual_lrps/evacuate_running" => evacuation::running,
    "/v1/desired_lrp_scheduling_infos/list" => desired_lrps::read::scheduling_infos,
    "/v1/desired_lrp_scheduling_infos/get_by_process_guid" => desired_lrps::read::scheduling_info,
    "/v1/desired_lrp_routing_infos/list" => desired_lrps::read::routing_infos,
    "/v1/desired_lrps/list.r3" => desired_lrps::read::list_r3,
    "/v1/desired_lrps/list.r2" => desired_lrps::read::list_r2,
    "/v1/desired_lrps/get_by_process_guid.r3" => desired_lrps::read::by_process_guid_r3,
    "/v1/desired_lrps/get_by_process_guid.r2" => desired_lrps::read::by_process_guid_r2,
    "/v1/desired_lrp/desire.r2" => desired_lrps::lifecycle::desire,
    "/v1/desired_lrp/update" => desired_lrps::lifecycle::update,
    "/v1/desired_lrp/remove" => desired_lrps::lifecycle::remove,
    "/v1/tasks/list.r3" => tasks::list_r3,
    "/v1/tasks/list.r2" => tasks::list_r2,
    "/v1/tasks/get_by_task_guid.r3" => tasks::by_guid_r3,
    "/v1/tasks/get_by_task_guid.r2" => tasks::by_guid_r2,
    "/v1/tasks/desire.r2" => task::desire,
    "/v1/tasks/start" => task::start,
    "/v1/tasks/cancel" => task::cancel,
    "/v1/tasks/fail" => task::fail,
    "/v1/tasks/reject" => task::reject,
    "/v1/tasks/complete" => task::complete,
    "/v1/tasks/resolving" => task::resolving,
    "/v1/tasks/delete" => task::delete,
    "/v1/cells/list.r1" => cells::list,
}

/// Every path on which events are followed, with which.
pub(super) const STREAMS: [(&str, events::Kind); 6] = [
    ("/v1/events", events::Kind::GROUPS_R0),
    ("/v1/events.r1", events::Kind::GROUPS_R1),
    ("/v1/events/lrp_instances", events::Kind::INSTANCES_R0),
    ("/v1/events/lrp_instances.r1", events::Kind::INSTANCES_R1),
    ("/v1/events/tasks", events::Kind::TASKS_R0),
    ("/v1/events/tasks.r1", events::Kind::TASKS_R1),
];

/// All that is answered. The caller is put into every request by whoever serves it.
pub(super) fn router(bbs: Bbs) -> Router {
    let mut router = calls();
    for (path, kind) in STREAMS {
        let follow = move |State(bbs): State<Bbs>, request: Request| async move {
            events::follow(bbs, request, kind).await
        };
        router = router.route(path, get(follow).post(follow));
    }
    router.fallback(unknown).with_state(bbs)
}

async fn unknown(request: Request) -> Response<Body> {
    tracing::info!(path = %shown(request.uri().path()), "A path is not one of the BBS.");
    let mut response = wire::plain(StatusCode::NOT_FOUND);
    response.headers_mut().insert(ROUTER_ERROR, HeaderValue::from_static("unknown_route"));
    response
}

/// A path as it may stand in a log.
fn shown(path: &str) -> String {
    path.chars().take(200).flat_map(char::escape_default).collect()
}

async fn ping(_: Call, _: ()) -> Result<proto::PingResponse, Failure> {
    Ok(proto::PingResponse { available: true })
}

/// Reads a message, has it answered and writes the answer.
async fn answered<Q, A, F>(
    bbs: Bbs,
    caller: Caller,
    request: Request,
    handler: impl FnOnce(Call, Q) -> F,
) -> Response<Body>
where
    Q: Message + Default,
    A: Answer,
    F: Future<Output = Result<A, Failure>>,
{
    let request_id = request.headers().get(REQUEST_ID).and_then(|value| value.to_str().ok());
    let request_id = request_id.and_then(|text| CommandId::new(text).ok());
    let call = Call { bbs, caller, request_id };
    let work = async {
        let body = read_body(request).await?;
        handler(call, wire::decode(&body)?).await
    };
    let answer = match timeout(REQUEST_TIMEOUT, work).await {
        Ok(answer) => answer,
        Err(_) => Err(Failure::unavailable("the request took too long; try again".to_owned())),
    };
    wire::answer(&answer.unwrap_or_else(A::refusal))
}

/// A body that is too long is not read to its end.
pub(super) async fn read_body(request: Request) -> Result<bytes::Bytes, Failure> {
    let limited = Limited::new(request.into_body(), wire::BODY_BYTES_MAX);
    match limited.collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(_) => Err(Failure::unreadable()),
    }
}
