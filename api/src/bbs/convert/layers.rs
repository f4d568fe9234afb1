//! Wishes and tasks as older clients know them: image layers as cached dependencies and downloads, and
//! before that cached dependencies as downloads too.

use super::Generation;
use crate::bbs::proto::{self, image_layer};

/// A wish for clients of a generation.
pub(in crate::bbs) fn of_lrp(
    mut lrp: proto::DesiredLrp,
    generation: Generation,
) -> proto::DesiredLrp {
    if generation == Generation::Newest {
        return lrp;
    }
    let layers = std::mem::take(&mut lrp.image_layers);
    #[expect(deprecated, reason = "older clients know it")]
    let user = lrp.legacy_download_user.clone();
    lrp.cached_dependencies.splice(..0, shared(&layers));
    lrp.setup = before(exclusive(&layers, &user), lrp.setup.take());
    if generation == Generation::Oldest {
        let dependencies = std::mem::take(&mut lrp.cached_dependencies);
        lrp.setup = with_dependencies(&dependencies, &user, lrp.setup.take());
        for action in [&mut lrp.setup, &mut lrp.action, &mut lrp.monitor].into_iter().flatten() {
            say_nanoseconds(action);
        }
        #[expect(deprecated, reason = "older clients know it")]
        {
            lrp.deprecated_start_timeout_s =
                u32::try_from(lrp.start_timeout_ms / 1000).unwrap_or_default();
        }
    }
    lrp
}

/// What a task runs, for clients of a generation.
pub(in crate::bbs) fn of_task(
    mut definition: proto::TaskDefinition,
    generation: Generation,
) -> proto::TaskDefinition {
    if generation == Generation::Newest {
        return definition;
    }
    let layers = std::mem::take(&mut definition.image_layers);
    #[expect(deprecated, reason = "older clients know it")]
    let user = definition.legacy_download_user.clone();
    definition.cached_dependencies.splice(..0, shared(&layers));
    definition.action = before(exclusive(&layers, &user), definition.action.take());
    if generation == Generation::Oldest {
        let dependencies = std::mem::take(&mut definition.cached_dependencies);
        definition.action = with_dependencies(&dependencies, &user, definition.action.take());
        definition.action.iter_mut().for_each(say_nanoseconds);
    }
    definition
}

/// The same of a whole task.
pub(in crate::bbs) fn of_whole_task(mut task: proto::Task, generation: Generation) -> proto::Task {
    task.task_definition = task.task_definition.map(|it| of_task(it, generation));
    task
}

/// Layers that others have too.
fn shared(layers: &[proto::ImageLayer]) -> Vec<proto::CachedDependency> {
    let is_shared = |layer: &&proto::ImageLayer| layer.layer_type() == image_layer::Type::Shared;
    let dependency = |layer: &proto::ImageLayer| {
        let (checksum_algorithm, checksum_value) = checksum(layer);
        let cache_key = match checksum_value.as_str() {
            "" => layer.url.clone(),
            value => format!("{checksum_algorithm}:{value}"),
        };
        proto::CachedDependency {
            name: layer.name.clone(),
            from: layer.url.clone(),
            to: layer.destination_path.clone(),
            cache_key,
            log_source: String::new(),
            checksum_algorithm,
            checksum_value,
        }
    };
    layers.iter().filter(is_shared).map(dependency).collect()
}

/// Layers that are had alone.
fn exclusive(layers: &[proto::ImageLayer], user: &str) -> Vec<proto::Action> {
    let is_own = |layer: &&proto::ImageLayer| layer.layer_type() == image_layer::Type::Exclusive;
    let download = |layer: &proto::ImageLayer| {
        let (checksum_algorithm, checksum_value) = checksum(layer);
        action(proto::DownloadAction {
            artifact: layer.name.clone(),
            from: layer.url.clone(),
            to: layer.destination_path.clone(),
            cache_key: format!("{checksum_algorithm}:{checksum_value}"),
            log_source: String::new(),
            user: user.to_owned(),
            checksum_algorithm,
            checksum_value,
        })
    };
    layers.iter().filter(is_own).map(download).collect()
}

fn action(download: proto::DownloadAction) -> proto::Action {
    proto::Action { download_action: Some(Box::new(download)), ..proto::Action::default() }
}

/// Algorithm in lower case and value; nothing where there is none.
fn checksum(layer: &proto::ImageLayer) -> (String, String) {
    #[expect(deprecated, reason = "older clients name it")]
    let algorithm = match layer.digest_algorithm() {
        image_layer::DigestAlgorithm::Invalid => return <(String, String)>::default(),
        image_layer::DigestAlgorithm::Sha256 => "sha256",
        image_layer::DigestAlgorithm::Sha512 => "sha512",
    };
    (algorithm.to_owned(), layer.digest_value.clone())
}

/// Downloads at once, and then what was there before.
fn before(downloads: Vec<proto::Action>, after: Option<proto::Action>) -> Option<proto::Action> {
    if downloads.is_empty() {
        return after;
    }
    let downloads = parallel(downloads);
    Some(match after {
        Some(after) => serial(vec![downloads, after]),
        None => downloads,
    })
}

fn with_dependencies(
    dependencies: &[proto::CachedDependency],
    user: &str,
    setup: Option<proto::Action>,
) -> Option<proto::Action> {
    if dependencies.is_empty() {
        return setup;
    }
    let download = |it: &proto::CachedDependency| {
        action(proto::DownloadAction {
            artifact: it.name.clone(),
            from: it.from.clone(),
            to: it.to.clone(),
            cache_key: it.cache_key.clone(),
            log_source: it.log_source.clone(),
            user: user.to_owned(),
            checksum_algorithm: it.checksum_algorithm.clone(),
            checksum_value: it.checksum_value.clone(),
        })
    };
    let downloads = parallel(dependencies.iter().map(download).collect());
    Some(serial(std::iter::once(downloads).chain(setup).collect()))
}

fn parallel(actions: Vec<proto::Action>) -> proto::Action {
    let parallel = proto::ParallelAction { actions, log_source: String::new() };
    proto::Action { parallel_action: Some(Box::new(parallel)), ..proto::Action::default() }
}

fn serial(actions: Vec<proto::Action>) -> proto::Action {
    let serial = proto::SerialAction { actions, log_source: String::new() };
    proto::Action { serial_action: Some(Box::new(serial)), ..proto::Action::default() }
}

/// Timeouts also in nanoseconds, all through an action.
fn say_nanoseconds(action: &mut proto::Action) {
    if let Some(timeout) = &mut action.timeout_action {
        #[expect(deprecated, reason = "the oldest clients know nothing else")]
        {
            timeout.deprecated_timeout_ns = timeout.timeout_ms.saturating_mul(1_000_000);
        }
        timeout.action.iter_mut().for_each(|inner| say_nanoseconds(inner));
    }
    if let Some(progress) = &mut action.emit_progress_action {
        progress.action.iter_mut().for_each(|inner| say_nanoseconds(inner));
    }
    if let Some(tried) = &mut action.try_action {
        tried.action.iter_mut().for_each(|inner| say_nanoseconds(inner));
    }
    let lists = [
        action.parallel_action.as_mut().map(|it| &mut it.actions),
        action.serial_action.as_mut().map(|it| &mut it.actions),
        action.codependent_action.as_mut().map(|it| &mut it.actions),
    ];
    for list in lists.into_iter().flatten() {
        list.iter_mut().for_each(say_nanoseconds);
    }
}
