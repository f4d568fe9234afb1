//! Where a step is in its recipe, and what there is at a place.
//!
//! Pure. Steps are numbered in the order in which they would run: those of the setup first, then of
//! the action, of the sidecars, and of the monitor. A recipe and the same one with its secrets have
//! the same numbers, and so does the next agent: by them it knows again what ran.

use domain::action::{Action, Download, Run, Upload};
use domain::bbs::definition::Definition;

use super::process_name::{Look, ProcessName};

/// Where a step is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Place {
    /// The number of the first Run step in it.
    pub(super) run: u32,
    /// The number of the first Download or Upload step in it.
    pub(super) transfer: u32,
    /// Which look of a monitor it is a part of.
    pub(super) look: Option<Look>,
}

/// What goes into a container or out of it.
#[derive(Debug)]
pub(super) enum Transfer<'a, V> {
    In(&'a Download<V>),
    Out(&'a Upload<V>),
}

/// The parts of a recipe, each at its place.
#[derive(Debug)]
pub(super) struct Parts<'a, V> {
    pub(super) setup: Option<(&'a Action<V>, Place)>,
    pub(super) action: (&'a Action<V>, Place),
    pub(super) sidecars: Vec<(&'a Action<V>, Place)>,
    pub(super) monitor: Option<(&'a Action<V>, Place)>,
}

impl Place {
    /// The place behind an action that is here.
    pub(super) fn after<V>(self, action: &Action<V>) -> Self {
        Self {
            run: self.run + count(runs(action).len()),
            transfer: self.transfer + count(transfers(action).len()),
            look: self.look,
        }
    }

    /// The name of the process of a Run step that is here.
    pub(super) fn process_name(self) -> ProcessName {
        match self.look {
            None => ProcessName::Run(self.run),
            Some(look) => ProcessName::Monitor { number: self.run, look },
        }
    }

    /// The names of all processes of an action that is here.
    pub(super) fn process_names<V>(
        self,
        action: &Action<V>,
    ) -> impl Iterator<Item = ProcessName> + use<V> {
        let end = self.after(action).run;
        (self.run..end).map(move |run| Self { run, ..self }.process_name())
    }
}

/// The parts of a recipe.
pub(super) fn parts<V>(recipe: &Definition<V>) -> Parts<'_, V> {
    let mut place = Place { run: 0, transfer: 0, look: None };
    let mut next = |action| {
        let here = place;
        place = place.after(action);
        (action, here)
    };
    Parts {
        setup: recipe.setup.as_ref().map(&mut next),
        action: next(&recipe.action),
        sidecars: recipe.sidecars.iter().map(|sidecar| next(&sidecar.action)).collect(),
        monitor: recipe.monitor.as_deref().map(next),
    }
}

/// All actions of a recipe in the order of their numbers.
fn actions<V>(recipe: &Definition<V>) -> impl Iterator<Item = &Action<V>> {
    let sidecars = recipe.sidecars.iter().map(|sidecar| &sidecar.action);
    let before = recipe.setup.iter().chain([&recipe.action]);
    before.chain(sidecars).chain(recipe.monitor.as_deref())
}

/// The Run steps of a recipe, by their numbers.
pub(super) fn all_runs<V>(recipe: &Definition<V>) -> Vec<&Run<V>> {
    actions(recipe).flat_map(runs).collect()
}

/// The Download and Upload steps of a recipe, by their numbers.
pub(super) fn all_transfers<V>(recipe: &Definition<V>) -> Vec<Transfer<'_, V>> {
    actions(recipe).flat_map(transfers).collect()
}

/// The Run steps that must have begun for an action to be under way: of steps in a row the last.
pub(super) fn begun_by<V>(action: &Action<V>, place: Place) -> Vec<u32> {
    match action {
        Action::Run(_) => vec![place.run],
        Action::Download(_) | Action::Upload(_) => Vec::new(),
        Action::Serial(serial) => {
            let placed = each_at(&serial.actions, place);
            let last = placed.into_iter().rfind(|(action, _)| !runs(action).is_empty());
            last.map_or_else(Vec::new, |(action, place)| begun_by(action, place))
        }
        Action::Timeout(_)
        | Action::Parallel(_)
        | Action::Codependent(_)
        | Action::EmitProgress(_)
        | Action::Try(_) => {
            let placed = each_at(action.children(), place);
            placed.into_iter().flat_map(|(action, place)| begun_by(action, place)).collect()
        }
    }
}

/// Actions with their places, the first of them here.
pub(super) fn each_at<V>(actions: &[Action<V>], first: Place) -> Vec<(&Action<V>, Place)> {
    let placed = actions.iter().scan(first, |place, action| {
        let here = *place;
        *place = here.after(action);
        Some((action, here))
    });
    placed.collect()
}

fn runs<V>(action: &Action<V>) -> Vec<&Run<V>> {
    match action {
        Action::Run(run) => vec![run],
        Action::Serial(_)
        | Action::Timeout(_)
        | Action::Download(_)
        | Action::Upload(_)
        | Action::Parallel(_)
        | Action::Codependent(_)
        | Action::EmitProgress(_)
        | Action::Try(_) => action.children().iter().flat_map(runs).collect(),
    }
}

fn transfers<V>(action: &Action<V>) -> Vec<Transfer<'_, V>> {
    match action {
        Action::Download(download) => vec![Transfer::In(download)],
        Action::Upload(upload) => vec![Transfer::Out(upload)],
        Action::Run(_)
        | Action::Serial(_)
        | Action::Timeout(_)
        | Action::Parallel(_)
        | Action::Codependent(_)
        | Action::EmitProgress(_)
        | Action::Try(_) => action.children().iter().flat_map(transfers).collect(),
    }
}

fn count(length: usize) -> u32 {
    u32::try_from(length).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::action::{Parallel, Serial};
    use domain::bbs::definition::{Rootfs, Sidecar};
    use domain::sealed::PlainText;
    use domain::units::Mebibytes;

    fn run(path: &str) -> Action<PlainText> {
        Action::Run(Run::new(path, "vcap"))
    }

    fn upload(from: &str) -> Action<PlainText> {
        Action::Upload(Upload {
            artifact: String::new(),
            from: from.to_owned(),
            to: PlainText("http://there".to_owned()),
            log_source: None,
            user: "vcap".to_owned(),
        })
    }

    #[test]
    fn steps_are_numbered_over_all_parts() {
        let serial = |actions| Action::Serial(Serial { actions, log_source: None });
        let parallel = |actions| Action::Parallel(Parallel { actions, log_source: None });
        let rootfs = Rootfs::new("preloaded:x").unwrap();
        let action = parallel(vec![serial(vec![run("b"), upload("b"), run("c")]), run("d")]);
        let sidecar = Sidecar { action: run("e"), disk_mb: Mebibytes(0), memory_mb: Mebibytes(0) };
        let recipe = Definition {
            setup: Some(serial(vec![upload("a"), run("a")])),
            sidecars: vec![sidecar],
            monitor: Some(Box::new(run("f"))),
            ..Definition::new(rootfs, action, Mebibytes(1), Mebibytes(1))
        };

        let parts = parts(&recipe);
        let paths: Vec<&str> = all_runs(&recipe).iter().map(|run| run.path.as_str()).collect();

        assert_eq!(paths, ["a", "b", "c", "d", "e", "f"]);
        assert_eq!(all_transfers(&recipe).len(), 2);
        let (action, place) = parts.action;
        assert_eq!((place.run, place.transfer), (1, 1));
        assert_eq!(begun_by(action, place), [2, 3]);
        assert_eq!(parts.sidecars.first().unwrap().1.run, 4);
        assert_eq!(parts.monitor.unwrap().1.run, 5);
    }
}
