//! The same definition with other secrets: sealed, opened, or taken out.

use super::{
    CachedDependency, DedicatedDevice, Definition, ImageLayer, SharedDevice, Sidecar, VolumeMount,
};
use crate::action::{try_map_environment, try_map_files};

impl<V> Definition<V> {
    /// The same definition with every secret value changed by `map`.
    ///
    /// # Errors
    /// The first error of `map`.
    pub fn try_map<W, E>(
        &self,
        map: &mut impl FnMut(&V) -> Result<W, E>,
    ) -> Result<Definition<W>, E> {
        Ok(Definition {
            rootfs: self.rootfs.clone(),
            env: try_map_environment(&self.env, map)?,
            setup: self.setup.as_ref().map(|action| action.try_map(map)).transpose()?,
            action: self.action.try_map(map)?,
            check: self.check.clone(),
            monitor: self
                .monitor
                .as_ref()
                .map(|action| action.try_map(map).map(Box::new))
                .transpose()?,
            start_timeout_ms: self.start_timeout_ms,
            graceful_stop_ms: self.graceful_stop_ms,
            memory_mb: self.memory_mb,
            disk_mb: self.disk_mb,
            max_pids: self.max_pids,
            cpu_weight: self.cpu_weight,
            ports: self.ports.clone(),
            log_source: self.log_source.clone(),
            placement_tags: self.placement_tags.clone(),
            volume_drivers: self.volume_drivers.clone(),
            update_strategy: self.update_strategy,
            sidecars: each(&self.sidecars, |sidecar| sidecar.try_map(map))?,
            cached_dependencies: each(&self.cached_dependencies, |it| it.try_map(map))?,
            image_layers: each(&self.image_layers, |layer| layer.try_map(map))?,
            legacy_download_user: self.legacy_download_user.clone(),
            image_username: self.image_username.clone(),
            image_password: self.image_password.as_ref().map(&mut *map).transpose()?,
            privileged: self.privileged,
            egress_rules: self.egress_rules.clone(),
            network: self.network.clone(),
            volume_mounts: each(&self.volume_mounts, |mount| mount.try_map(map))?,
            volume_mounted_files: try_map_files(&self.volume_mounted_files, map)?,
            trusted_system_certificates_path: self.trusted_system_certificates_path.clone(),
            certificate_properties: self.certificate_properties.clone(),
            log_rate_limit: self.log_rate_limit,
            log_guid: self.log_guid.clone(),
            metrics_guid: self.metrics_guid.clone(),
            metric_tags: self.metric_tags.clone(),
            result_file: self.result_file.clone(),
        })
    }
}

fn each<T, U, E>(items: &[T], map: impl FnMut(&T) -> Result<U, E>) -> Result<Vec<U>, E> {
    items.iter().map(map).collect()
}

impl<V> Sidecar<V> {
    fn try_map<W, E>(&self, map: &mut impl FnMut(&V) -> Result<W, E>) -> Result<Sidecar<W>, E> {
        let action = self.action.try_map(map)?;
        Ok(Sidecar { action, disk_mb: self.disk_mb, memory_mb: self.memory_mb })
    }
}

impl<V> CachedDependency<V> {
    /// The same with its secret changed by `map`.
    ///
    /// # Errors
    /// The error of `map`.
    pub fn try_map<W, E>(
        &self,
        map: &mut impl FnMut(&V) -> Result<W, E>,
    ) -> Result<CachedDependency<W>, E> {
        Ok(CachedDependency {
            name: self.name.clone(),
            from: map(&self.from)?,
            to: self.to.clone(),
            cache_key: self.cache_key.clone(),
            log_source: self.log_source.clone(),
            checksum: self.checksum.clone(),
        })
    }
}

impl<V> ImageLayer<V> {
    fn try_map<W, E>(&self, map: &mut impl FnMut(&V) -> Result<W, E>) -> Result<ImageLayer<W>, E> {
        Ok(ImageLayer {
            name: self.name.clone(),
            url: map(&self.url)?,
            destination_path: self.destination_path.clone(),
            layer_type: self.layer_type,
            media_type: self.media_type,
            digest: self.digest.clone(),
        })
    }
}

impl<V> VolumeMount<V> {
    fn try_map<W, E>(&self, map: &mut impl FnMut(&V) -> Result<W, E>) -> Result<VolumeMount<W>, E> {
        let shared = match &self.shared {
            Some(SharedDevice { volume_id, mount_config }) => Some(SharedDevice {
                volume_id: volume_id.clone(),
                mount_config: map(mount_config)?,
            }),
            None => None,
        };
        let dedicated = match &self.dedicated {
            Some(DedicatedDevice { mounter_id, mount_config, device_config }) => {
                Some(DedicatedDevice {
                    mounter_id: mounter_id.clone(),
                    mount_config: map(mount_config)?,
                    device_config: map(device_config)?,
                })
            }
            None => None,
        };
        Ok(VolumeMount {
            driver: self.driver.clone(),
            container_dir: self.container_dir.clone(),
            mode: self.mode,
            shared,
            dedicated,
        })
    }
}
