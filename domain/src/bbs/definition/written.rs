//! How a definition is written: what says nothing is left out of forms that people read.
//!
//! Most of what Diego knows to say is not said by most, and every desired LRP is an event. Compact
//! forms without names hold every field.

use serde::{
    Serialize, Serializer,
    ser::{Error, SerializeStruct},
};

use super::Definition;

/// How many fields a definition has.
const FIELDS: usize = 35;

impl<V: Serialize> Serialize for Definition<V> {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let is_whole = !to.is_human_readable();
        let fields = to.serialize_struct("Definition", FIELDS)?;
        let mut fields = Fields { fields, is_whole, written: 0 };
        // Taken apart whole: a new field must be written here.
        let Self {
            rootfs,
            env,
            setup,
            action,
            check,
            monitor,
            start_timeout_ms,
            graceful_stop_ms,
            memory_mb,
            disk_mb,
            max_pids,
            cpu_weight,
            ports,
            log_source,
            placement_tags,
            volume_drivers,
            update_strategy,
            sidecars,
            cached_dependencies,
            image_layers,
            legacy_download_user,
            image_username,
            image_password,
            privileged,
            egress_rules,
            network,
            volume_mounts,
            volume_mounted_files,
            trusted_system_certificates_path,
            certificate_properties,
            log_rate_limit,
            log_guid,
            metrics_guid,
            metric_tags,
            result_file,
        } = self;
        fields.always("rootfs", rootfs)?;
        fields.always("env", env)?;
        fields.always("setup", setup)?;
        fields.always("action", action)?;
        fields.unless(check.is_none(), "check", check)?;
        fields.unless(monitor.is_none(), "monitor", monitor)?;
        fields.always("start_timeout_ms", start_timeout_ms)?;
        fields.always("graceful_stop_ms", graceful_stop_ms)?;
        fields.always("memory_mb", memory_mb)?;
        fields.always("disk_mb", disk_mb)?;
        fields.always("max_pids", max_pids)?;
        fields.always("cpu_weight", cpu_weight)?;
        fields.always("ports", ports)?;
        fields.always("log_source", log_source)?;
        fields.always("placement_tags", placement_tags)?;
        fields.always("volume_drivers", volume_drivers)?;
        fields.always("update_strategy", update_strategy)?;
        fields.unless(sidecars.is_empty(), "sidecars", sidecars)?;
        let is_empty = cached_dependencies.is_empty();
        fields.unless(is_empty, "cached_dependencies", cached_dependencies)?;
        fields.unless(image_layers.is_empty(), "image_layers", image_layers)?;
        let is_none = legacy_download_user.is_none();
        fields.unless(is_none, "legacy_download_user", legacy_download_user)?;
        fields.unless(image_username.is_none(), "image_username", image_username)?;
        fields.unless(image_password.is_none(), "image_password", image_password)?;
        fields.unless(!privileged, "privileged", privileged)?;
        fields.unless(egress_rules.is_empty(), "egress_rules", egress_rules)?;
        fields.unless(network.is_empty(), "network", network)?;
        fields.unless(volume_mounts.is_empty(), "volume_mounts", volume_mounts)?;
        let is_empty = volume_mounted_files.is_empty();
        fields.unless(is_empty, "volume_mounted_files", volume_mounted_files)?;
        let path = trusted_system_certificates_path;
        fields.unless(path.is_none(), "trusted_system_certificates_path", path)?;
        let is_none = certificate_properties.is_none();
        fields.unless(is_none, "certificate_properties", certificate_properties)?;
        fields.unless(log_rate_limit.is_none(), "log_rate_limit", log_rate_limit)?;
        fields.unless(log_guid.is_empty(), "log_guid", log_guid)?;
        fields.unless(metrics_guid.is_empty(), "metrics_guid", metrics_guid)?;
        fields.unless(metric_tags.is_empty(), "metric_tags", metric_tags)?;
        fields.unless(result_file.is_none(), "result_file", result_file)?;
        fields.end()
    }
}

/// The fields as they are written.
struct Fields<S> {
    fields: S,
    is_whole: bool,
    written: usize,
}

impl<S: SerializeStruct> Fields<S> {
    fn always(&mut self, name: &'static str, value: &impl Serialize) -> Result<(), S::Error> {
        self.written += 1;
        self.fields.serialize_field(name, value)
    }

    fn unless(
        &mut self,
        says_nothing: bool,
        name: &'static str,
        value: &impl Serialize,
    ) -> Result<(), S::Error> {
        if self.is_whole || !says_nothing {
            return self.always(name, value);
        }
        self.written += 1;
        self.fields.skip_field(name)
    }

    fn end(self) -> Result<S::Ok, S::Error> {
        if self.written != FIELDS {
            return Err(S::Error::custom("a field of the definition is not written"));
        }
        self.fields.end()
    }
}
