//! About how many bytes of memory aggregates take: for bounds on what is kept, not for billing.

use super::shard::{Process, Shard};
use crate::{
    bbs::{
        actual_lrp::{ActualLrp, Leaving, Twin},
        definition::Definition,
        desired_lrp::DesiredLrp,
        task::Task,
    },
    labels::MetricTag,
};

/// About what an allocation and the entry that leads to it take beside their content.
const ENTRY_BYTES: usize = 64;
/// About what a definition takes beside its secrets.
const DEFINITION_BYTES: usize = 1024;

fn bytes_of_definition(definition: &Definition) -> usize {
    let secrets = definition.env.iter().map(|it| it.value.ciphertext.len() + 4 * ENTRY_BYTES);
    DEFINITION_BYTES + secrets.sum::<usize>()
}

fn bytes_of_desired(lrp: &DesiredLrp) -> usize {
    let hostnames = lrp.routes.iter().flat_map(|route| &route.hostnames);
    let routes = hostnames.map(|it| it.as_str().len() + ENTRY_BYTES).sum::<usize>();
    let is_packed = lrp.definition.is_packed();
    let definition = if is_packed { 0 } else { bytes_of_definition(&lrp.definition) };
    let internal = lrp.labels.internal_routes.iter().map(|it| it.as_str().len() + ENTRY_BYTES);
    let tag = |(name, tag): (&String, &MetricTag)| match tag {
        MetricTag::Static(text) => name.len() + text.len() + ENTRY_BYTES,
        MetricTag::Dynamic(_) => name.len() + ENTRY_BYTES,
    };
    let labels = internal.chain(lrp.labels.metric_tags.iter().map(tag)).sum::<usize>();
    size_of::<DesiredLrp>() + ENTRY_BYTES + lrp.annotation.len() + routes + labels + definition
}

fn bytes_of_slot(slot: &ActualLrp) -> usize {
    let texts = slot.last_crash.iter().map(|crash| crash.reason.len());
    let texts = texts.chain(slot.placement_error.iter().map(String::len)).sum::<usize>();
    let twins = slot.suspect.iter().chain(&slot.evacuating).count();
    let twins = twins.saturating_mul(size_of::<Twin>() + ENTRY_BYTES);
    let leaving = slot.leaving.capacity().saturating_mul(size_of::<Leaving>());
    size_of::<ActualLrp>() + 2 * ENTRY_BYTES + texts + twins + leaving
}

fn bytes_of_task(task: &Task) -> usize {
    let result = task.ended().map_or(0, |ended| ended.result.len());
    let own = size_of::<Task>() + 2 * ENTRY_BYTES + task.annotation.len() + result;
    own + bytes_of_definition(&task.definition)
}

impl Process {
    fn bytes(&self) -> usize {
        let slots = self.slots().map(bytes_of_slot).sum::<usize>();
        ENTRY_BYTES + self.desired().map_or(0, bytes_of_desired) + slots
    }
}

impl Shard {
    /// About how many bytes of memory it takes.
    pub(super) fn bytes(&self) -> usize {
        let processes = self.processes.values().map(Process::bytes).sum::<usize>();
        processes + self.tasks.values().map(|task| bytes_of_task(task)).sum::<usize>()
    }
}
