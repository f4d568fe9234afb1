//! GraphQL: the edge for people, the CLI and the web page.
//!
//! - `query`, `mutation`, `subscription`: the roots; `world` is the present and any past instant
//! - `handler` speaks GraphQL over HTTP, `socket` the protocol graphql-transport-ws
//! - `document` refuses what costs too much; `error` is what clients are told
//! - `at_least` waits for what was written through another node
//! - the other files each show or read one thing under the field's own words
//!
//! Parses, submits, shows; decides nothing. Shows no secret: values of environments are told by
//! fingerprint only.

mod actual_lrp;
mod at_least;
mod candidates;
mod cell;
mod convergence;
mod crash;
mod definition;
mod desired_lrp;
mod diff;
mod document;
mod error;
mod evidence;
mod freshness_domain;
mod handler;
mod input;
mod kinds;
mod labels;
mod log;
mod metrics;
mod mutation;
mod observations;
mod progress;
mod query;
mod rebalance;
mod restart_policy;
mod route;
mod scalars;
mod scope;
mod socket;
mod subscription;
mod task;
#[cfg(test)]
mod tests;
mod view;
mod world;

use std::sync::Arc;

use async_graphql::{Context, Result, SchemaBuilder};
use axum::{Router, routing::any};

use crate::{
    control_plane::ControlPlane,
    http::{Access, Caller, limits::SocketLimits},
};
pub(crate) use at_least::HEADER as AT_LEAST_HEADER;
use document::DocumentCheck;
use error::{coded, within};
use mutation::Mutation;
use query::Query;
use scope::Present;
use subscription::Subscription;

/// How deep fields may be nested in a query.
const DEPTH_MAX: usize = 12;
/// How much a query may cost: its fields, and those of a page as often as the page is long.
const COMPLEXITY_MAX: usize = 25_000;
/// What one past world costs: it is folded from a snapshot and the events behind it.
const PAST_WORLD_COMPLEXITY: usize = 500;
/// How many directives one field may carry.
const DIRECTIVES_MAX: usize = 4;
/// The longest page.
const PAGE_MAX: usize = 500;

/// The edge's name in the actor of its commands.
const VIA: &str = "graphql";

type Schema = async_graphql::Schema<Query, Mutation, Subscription>;

/// What all resolvers share.
#[derive(Debug)]
struct Shared {
    control_plane: ControlPlane,
    present: Present,
}

/// What the handlers share.
#[derive(Clone)]
struct Edge {
    control_plane: ControlPlane,
    schema: Schema,
    access: Arc<Access>,
    socket_limits: SocketLimits,
}

/// The route `/graphql`: POST for queries and mutations, a WebSocket for all three.
pub fn router(control_plane: ControlPlane, access: Access) -> Router {
    router_with(control_plane, access, SocketLimits::default())
}

fn router_with(control_plane: ControlPlane, access: Access, socket_limits: SocketLimits) -> Router {
    let shared = Shared { control_plane: control_plane.clone(), present: Present::default() };
    let schema = builder().data(shared).finish();
    let edge = Edge { control_plane, schema, access: Arc::new(access), socket_limits };
    Router::new().route("/graphql", any(handler::answer)).with_state(edge)
}

/// The schema in its definition language.
#[must_use]
pub fn sdl() -> String {
    builder().finish().sdl()
}

fn builder() -> SchemaBuilder<Query, Mutation, Subscription> {
    Schema::build(Query, Mutation, Subscription)
        .limit_depth(DEPTH_MAX)
        .limit_complexity(COMPLEXITY_MAX)
        .limit_directives(DIRECTIVES_MAX)
        .extension(DocumentCheck)
}

fn state<'c>(ctx: &Context<'c>) -> Result<&'c Shared> {
    ctx.data()
}

fn caller<'c>(ctx: &Context<'c>) -> Result<&'c Caller> {
    ctx.data().map_err(|_| coded("UNAUTHENTICATED", "nobody is known to ask"))
}

/// The length of a page that a client asks for.
fn page(field: &str, length: i32) -> Result<usize> {
    within(field, length.into(), 0..=PAGE_MAX)
}

/// What a page costs: what is selected of one entry, as often as there may be entries.
fn page_complexity(length: i32, of_one: usize) -> usize {
    usize::try_from(length).unwrap_or(0).saturating_mul(of_one).saturating_add(1)
}

/// What past worlds cost, with what is selected of them.
fn past_complexity(worlds: usize, selected: usize) -> usize {
    worlds.saturating_mul(PAST_WORLD_COMPLEXITY).saturating_add(selected)
}
