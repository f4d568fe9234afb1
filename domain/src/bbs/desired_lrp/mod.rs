//! Desired LRP: the wish that N instances of a process run.

mod command;
mod decide;
mod event;
mod spec;
mod state;

pub use command::{Command, RestartSource, Update};
pub(crate) use decide::decide;
pub use event::{
    AnnotationChanged, Desired, Event, InternalRoutesChanged, MetricTagsChanged, Removed,
    RestartChanged, RoutesChanged, Scaled,
};
pub(crate) use spec::default_domain;
pub use spec::{ANNOTATION_BYTES_MAX, INSTANCES_MAX, Spec};
pub use state::DesiredLrp;
pub(crate) use state::evolve;

#[cfg(test)]
mod decide_tests;
