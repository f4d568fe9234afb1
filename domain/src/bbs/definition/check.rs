//! What is wrong with a definition from outside, field by field. A value is never repeated.

use super::{AMOUNT_MAX, Definition, LayerType, egress};
use crate::{
    action::{self, LIST_MAX, LOG_SOURCE_BYTES_MAX, TEXT_BYTES_MAX},
    check,
    invalid::{Invalid, InvalidField, field},
    labels,
    sealed::PlainText,
};

/// The longest start timeout: a day.
const START_TIMEOUT_MAX_MS: u64 = 86_400_000;
/// The longest time from SIGTERM to SIGKILL: an hour. Its room on the cell is taken for so long.
const GRACEFUL_STOP_MAX_MS: u64 = 3_600_000;
/// How many sidecars, dependencies, layers or volumes one definition may have.
const PARTS_MAX: usize = 100;
/// How many bytes a name, a guid or a path of a part may have.
const NAME_BYTES_MAX: usize = 4096;

impl Definition<PlainText> {
    /// Says what is wrong with a definition from outside.
    pub(crate) fn check(&self, invalid: &mut Invalid) {
        action::check_environment(&self.env, "env", invalid);
        if let Some(setup) = &self.setup {
            action::check(setup, "setup", invalid);
        }
        action::check(&self.action, "action", invalid);
        if let Some(check) = &self.check {
            check::check(check, "check", invalid);
        }
        if let Some(monitor) = &self.monitor {
            action::check(monitor, "monitor", invalid);
        }
        self.check_amounts(invalid);
        self.check_ports(invalid);
        invalid.text("log_source", &self.log_source, LOG_SOURCE_BYTES_MAX);
        for (name, texts) in
            [("placement_tags", &self.placement_tags), ("volume_drivers", &self.volume_drivers)]
        {
            check_texts(name, texts, invalid);
        }
        self.check_sidecars(invalid);
        self.check_artifacts(invalid);
        self.check_image(invalid);
        egress::check(&self.egress_rules, "egress_rules", invalid);
        self.check_network(invalid);
        self.check_volumes(invalid);
        self.check_notes(invalid);
    }

    fn check_amounts(&self, invalid: &mut Invalid) {
        let amount_max = u64::from(AMOUNT_MAX.0);
        invalid.between("memory_mb", u64::from(self.memory_mb.0), 1, amount_max);
        invalid.between("disk_mb", u64::from(self.disk_mb.0), 0, amount_max);
        invalid.between("max_pids", u64::from(self.max_pids), 0, 4_194_304);
        invalid.between("cpu_weight", u64::from(self.cpu_weight), 1, 100);
        invalid.between("start_timeout_ms", self.start_timeout_ms.0, 0, START_TIMEOUT_MAX_MS);
        if let Some(graceful_stop) = self.graceful_stop_ms {
            invalid.between("graceful_stop_ms", graceful_stop.0, 0, GRACEFUL_STOP_MAX_MS);
        }
        if self.log_rate_limit.is_some_and(|limit| limit.bytes_per_second < -1) {
            let path = "log_rate_limit.bytes_per_second";
            invalid.push(InvalidField::new(path, "must be -1 (without limit), 0 or more"));
        }
    }

    fn check_ports(&self, invalid: &mut Invalid) {
        invalid.at_most("ports", self.ports.len(), LIST_MAX);
        if self.ports.len() > LIST_MAX {
            return;
        }
        if self.ports.contains(&0) {
            invalid.push(InvalidField::new("ports", "must each be from 1 to 65535"));
        }
        let mut sorted = self.ports.clone();
        sorted.sort_unstable();
        let twice = sorted.windows(2).find_map(|pair| match pair {
            [one, other] if one == other => Some(*one),
            _ => None,
        });
        if let Some(port) = twice {
            invalid.push(InvalidField::new("ports", format!("must not hold {port} twice")));
        }
    }

    fn check_sidecars(&self, invalid: &mut Invalid) {
        invalid.at_most("sidecars", self.sidecars.len(), PARTS_MAX);
        for (index, sidecar) in self.sidecars.iter().take(PARTS_MAX).enumerate() {
            let path = format!("sidecars[{index}]");
            action::check(&sidecar.action, &field(&path, "action"), invalid);
            for (name, amount) in [("memory_mb", sidecar.memory_mb), ("disk_mb", sidecar.disk_mb)] {
                invalid.between(&field(&path, name), amount.0.into(), 0, AMOUNT_MAX.0.into());
            }
        }
    }

    fn check_artifacts(&self, invalid: &mut Invalid) {
        invalid.at_most("cached_dependencies", self.cached_dependencies.len(), PARTS_MAX);
        for (index, dependency) in self.cached_dependencies.iter().take(PARTS_MAX).enumerate() {
            let path = format!("cached_dependencies[{index}]");
            invalid.without_nul(&field(&path, "name"), &dependency.name, NAME_BYTES_MAX);
            action::check_url(&dependency.from, &field(&path, "from"), invalid);
            check_absolute(&dependency.to, &field(&path, "to"), invalid);
            invalid.text(&field(&path, "cache_key"), &dependency.cache_key, NAME_BYTES_MAX);
            if let Some(log_source) = &dependency.log_source {
                invalid.text(&field(&path, "log_source"), log_source, LOG_SOURCE_BYTES_MAX);
            }
        }
        invalid.at_most("image_layers", self.image_layers.len(), PARTS_MAX);
        for (index, layer) in self.image_layers.iter().take(PARTS_MAX).enumerate() {
            let path = format!("image_layers[{index}]");
            let to = field(&path, "destination_path");
            invalid.without_nul(&field(&path, "name"), &layer.name, NAME_BYTES_MAX);
            action::check_url(&layer.url, &field(&path, "url"), invalid);
            match layer.layer_type {
                LayerType::Shared => check_absolute(&layer.destination_path, &to, invalid),
                LayerType::Exclusive => {
                    invalid.text(&to, &layer.destination_path, NAME_BYTES_MAX);
                    if layer.digest.is_none() {
                        let problem = "must be there: the layer is exclusive";
                        invalid.push(InvalidField::new(&field(&path, "digest"), problem));
                    }
                }
            }
        }
        let is_exclusive = |layer_type| layer_type == LayerType::Exclusive;
        let needs_user = self.image_layers.iter().any(|layer| is_exclusive(layer.layer_type));
        match &self.legacy_download_user {
            Some(user) => invalid.text("legacy_download_user", user, 255),
            None if needs_user => {
                let problem = "must be there: exclusive image layers are unpacked as this user";
                invalid.push(InvalidField::new("legacy_download_user", problem));
            }
            None => {}
        }
    }

    fn check_image(&self, invalid: &mut Invalid) {
        if self.image_username.is_some() != self.image_password.is_some() {
            let problem = "must be there with image_password, or be absent like it";
            invalid.push(InvalidField::new("image_username", problem));
        }
        if let Some(username) = &self.image_username {
            invalid.text("image_username", username, NAME_BYTES_MAX);
        }
        if let Some(PlainText(password)) = &self.image_password {
            invalid.text("image_password", password, TEXT_BYTES_MAX);
        }
    }

    fn check_network(&self, invalid: &mut Invalid) {
        invalid.at_most("network", self.network.len(), LIST_MAX);
        for (name, value) in self.network.iter().take(LIST_MAX) {
            invalid.text("network", name, NAME_BYTES_MAX);
            invalid.without_nul("network", value, NAME_BYTES_MAX);
        }
    }

    fn check_volumes(&self, invalid: &mut Invalid) {
        invalid.at_most("volume_mounts", self.volume_mounts.len(), PARTS_MAX);
        for (index, mount) in self.volume_mounts.iter().take(PARTS_MAX).enumerate() {
            let path = format!("volume_mounts[{index}]");
            invalid.text(&field(&path, "driver"), &mount.driver, 255);
            check_absolute(&mount.container_dir, &field(&path, "container_dir"), invalid);
            if mount.shared.is_some() == mount.dedicated.is_some() {
                let problem = "must be there, or dedicated in its place";
                invalid.push(InvalidField::new(&field(&path, "shared"), problem));
            }
            if let Some(shared) = &mount.shared {
                let path = field(&path, "shared");
                invalid.text(&field(&path, "volume_id"), &shared.volume_id, NAME_BYTES_MAX);
                let PlainText(config) = &shared.mount_config;
                invalid.without_nul(&field(&path, "mount_config"), config, TEXT_BYTES_MAX);
            }
            if let Some(dedicated) = &mount.dedicated {
                let path = field(&path, "dedicated");
                invalid.text(&field(&path, "mounter_id"), &dedicated.mounter_id, NAME_BYTES_MAX);
                for (name, PlainText(config)) in [
                    ("mount_config", &dedicated.mount_config),
                    ("device_config", &dedicated.device_config),
                ] {
                    invalid.without_nul(&field(&path, name), config, TEXT_BYTES_MAX);
                }
            }
        }
        action::check_files(&self.volume_mounted_files, "volume_mounted_files", invalid);
    }

    fn check_notes(&self, invalid: &mut Invalid) {
        if let Some(path) = &self.trusted_system_certificates_path {
            check_absolute(path, "trusted_system_certificates_path", invalid);
        }
        if let Some(certificate) = &self.certificate_properties {
            let path = "certificate_properties.organizational_unit";
            check_texts(path, &certificate.organizational_unit, invalid);
        }
        invalid.without_nul("log_guid", &self.log_guid, NAME_BYTES_MAX);
        invalid.without_nul("metrics_guid", &self.metrics_guid, NAME_BYTES_MAX);
        labels::check_metric_tags(&self.metric_tags, invalid);
        if let Some(path) = &self.result_file {
            invalid.text("result_file", path, NAME_BYTES_MAX);
        }
    }
}

fn check_texts(name: &str, texts: &[String], invalid: &mut Invalid) {
    invalid.at_most(name, texts.len(), PARTS_MAX);
    for (index, text) in texts.iter().enumerate() {
        invalid.text(&format!("{name}[{index}]"), text, 255);
    }
}

/// A path inside the container at which something is mounted.
fn check_absolute(path: &str, name: &str, invalid: &mut Invalid) {
    invalid.text(name, path, NAME_BYTES_MAX);
    let is_plain = path.split('/').skip(1).all(|part| part != "..");
    if !path.starts_with('/') || !is_plain || path.trim_matches('/').is_empty() {
        let problem = "must be an absolute path below /, without '..'";
        invalid.push(InvalidField::new(name, problem));
    }
}
