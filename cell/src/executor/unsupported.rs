//! What a definition may ask for and this cell cannot give: refused in words before anything is made.

use domain::bbs::definition::{Definition, Sidecar};

use super::place::all_runs;

/// What of a definition this cell cannot do; `None` when it can do all of it.
pub(super) fn part_of<V>(definition: &Definition<V>) -> Option<&'static str> {
    let has_mounted_files = !definition.volume_mounted_files.is_empty()
        || all_runs(definition).iter().any(|run| !run.volume_mounted_files.is_empty());
    let parts = [
        (definition.privileged, "a privileged container"),
        (!definition.volume_mounts.is_empty(), "volume mounts"),
        (has_mounted_files, "volume mounted files"),
    ];
    parts.into_iter().find_map(|(is_asked, what)| is_asked.then_some(what))
}

/// What of a definition has no effect on this cell, and does no harm without: told in the log.
pub(super) fn without_effect<V>(
    definition: &Definition<V>,
    has_authority: bool,
) -> Vec<&'static str> {
    let has_limit = |sidecar: &Sidecar<V>| sidecar.memory_mb.0 > 0 || sidecar.disk_mb.0 > 0;
    let parts = [
        (
            definition.sidecars.iter().any(has_limit),
            "limits for each sidecar (they share the \
            container's)",
        ),
        (!definition.egress_rules.is_empty(), "egress rules (containers call nobody)"),
        (definition.trusted_system_certificates_path.is_some(), "trusted system certificates"),
        (
            definition.certificate_properties.is_some() && !has_authority,
            "an authority for instance identities (--instance-identity-ca)",
        ),
    ];
    parts.into_iter().filter_map(|(is_asked, what)| is_asked.then_some(what)).collect()
}
