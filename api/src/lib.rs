//! The control plane: edges, the command bus, loops. No SQL and no rules.
//!
//! - [`command_bus`]: the only writer of the log; every change enters by this door
//! - [`auctioneer`], [`converger`], [`presence_watch`]: loops, plain functions driven by
//!   [`reconciler`]
//! - [`route_withdrawal`]: the loop that lets cells stop what no router leads to any more
//! - [`task_callbacks`]: the loop that tells clients of the ends of their tasks, over HTTP
//! - [`presence_sync`]: the nodes tell each other which cells they heard
//! - [`live_routers`]: how far the routers of all nodes have followed
//! - [`lease`]: whether it is this node whose loops act
//! - [`bbs`]: the edge of Diego's clients; [`cell_gateway`]: the edge of the cells
//! - [`graphql`]: the edge of people, the CLI and the web page; [`http`]: who may ask
//! - [`placement_options`]: how the auctioneer weighs cells, as options of a command
//! - [`log_keeper`]: signs checkpoints and moves what is old to the archive
//! - [`control_plane`]: one node's parts, as every edge sees them
//! - [`cli`]: the commands of operators, over GraphQL alone
//! - [`router`]: HTTP by host name to the running instances
//! - [`simulation`]: the whole cluster in virtual time, from a seed
//! - [`mod@bench`]: benches that users can run
//! - [`telemetry`]: traces and metrics
//! - [`forgetting`]: an owner's secrets, for ever; [`master_keys`]: where master keys are
//! - [`clock`]: the only reader of wall time and of chance
//!
//! An edge decides nothing. A loop remembers nothing.

pub mod auctioneer;
pub mod bbs;
pub mod bench;
pub mod cell_gateway;
pub mod cli;
pub mod clock;
pub mod command_bus;
pub mod control_plane;
pub mod converger;
pub mod demo;
pub mod edge;
pub mod forgetting;
pub mod graphql;
pub mod http;
pub mod lease;
pub mod live_routers;
pub mod log_keeper;
pub mod master_keys;
pub mod node;
pub mod output;
pub mod placement_options;
pub mod presence_sync;
pub mod presence_watch;
mod readiness;
pub mod reconciler;
pub mod route_withdrawal;
pub mod router;
pub mod simulation;
pub mod task_callbacks;
pub mod telemetry;
#[cfg(test)]
mod testing;
