//! What a definition may ask for and this cell cannot give: refused in words before anything is made.

use domain::action::Action;
use domain::bbs::definition::Definition;

/// What of a definition this cell cannot do; `None` when it can do all of it.
pub(super) fn part_of<V>(definition: &Definition<V>) -> Option<&'static str> {
    let actions = definition.setup.iter().chain([&definition.action]);
    if let Some(action) = actions
        .flat_map(|action| (0..action.count()).filter_map(|number| action.nth(number)))
        .find_map(unsupported_action)
    {
        return Some(action);
    }
    let parts = [
        (definition.privileged, "a privileged container"),
        (!definition.sidecars.is_empty(), "sidecars"),
        (definition.check.is_none() && definition.monitor.is_some(), "a monitor action"),
        (!definition.cached_dependencies.is_empty(), "cached dependencies"),
        (!definition.image_layers.is_empty(), "image layers"),
        (!definition.volume_mounts.is_empty(), "volume mounts"),
        (!definition.volume_mounted_files.is_empty(), "volume mounted files"),
        (definition.result_file.is_some(), "a result file"),
    ];
    parts.into_iter().find_map(|(is_asked, what)| is_asked.then_some(what))
}

/// What of a definition has no effect on this cell, and does no harm without: told in the log.
pub(super) fn without_effect<V>(
    definition: &Definition<V>,
    has_authority: bool,
) -> Vec<&'static str> {
    let parts = [
        (!definition.egress_rules.is_empty(), "egress rules (containers call nobody)"),
        (definition.trusted_system_certificates_path.is_some(), "trusted system certificates"),
        (
            definition.certificate_properties.is_some() && !has_authority,
            "an authority for instance identities (--instance-identity-ca)",
        ),
    ];
    parts.into_iter().filter_map(|(is_asked, what)| is_asked.then_some(what)).collect()
}

fn unsupported_action<V>(action: &Action<V>) -> Option<&'static str> {
    match action {
        Action::Run(run) if !run.volume_mounted_files.is_empty() => Some("volume mounted files"),
        Action::Run(_) | Action::Serial(_) | Action::Timeout(_) => None,
        Action::Download(_) => Some("a download"),
        Action::Upload(_) => Some("an upload"),
        Action::Parallel(_) => Some("parallel actions"),
        Action::Codependent(_) => Some("codependent actions"),
        Action::EmitProgress(_) => Some("an action that emits progress"),
        Action::Try(_) => Some("an action that is tried"),
    }
}
