//! For tests only: given events, when a command, then events or a rejection.
//!
//! Not part of a built `diario`: only tests and the simulator turn the feature `testing` on.

mod build;
mod made_up;
mod recipe;
mod samples;
mod story;
mod walk;

pub use crate::workload::Dice;
pub use build::{
    cell_id, claimed_story, crash_report, definition, desire, desire_of, desire_task,
    desire_task_with_callback, instance_guid, key, machine, net_info, on_cell, on_desired,
    on_freshness, on_slot, on_task, place, place_task, placed_story, plain_definition,
    process_guid, register, registration, running_story, sealed, task_guid, task_story,
};
pub(crate) use made_up::upcast_version_0;
pub use made_up::{MADE_UP_VERSION_0_OF, version_0};
pub use recipe::{plain_rich_definition, rich_definition};
pub use samples::sample_events;
pub use story::{START, Story, When, given};
pub use walk::random_command;
