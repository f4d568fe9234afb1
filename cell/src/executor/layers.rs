//! Image layers are another way to say cached dependencies and downloads: here they become those.
//!
//! Pure. A shared layer is mounted as a cached dependency; the exclusive ones are downloaded at once,
//! before the setup.

use std::sync::Arc;

use domain::action::{Action, Download, Parallel, Serial};
use domain::bbs::definition::{CachedDependency, Definition, ImageLayer, LayerType};

/// The same definition without layers; `key_of` gives the key of a layer that has no digest.
pub(super) fn without_layers<V: Clone>(
    mut definition: Arc<Definition<V>>,
    key_of: impl Fn(&V) -> String,
) -> Arc<Definition<V>> {
    if definition.image_layers.is_empty() {
        return definition;
    }
    let changed = Arc::make_mut(&mut definition);
    let layers = std::mem::take(&mut changed.image_layers);
    let cache_key = |layer: &ImageLayer<V>| match &layer.digest {
        Some(digest) => format!("{}:{}", digest.algorithm, digest.value()),
        None => key_of(&layer.url),
    };
    let mut downloads = Vec::new();
    for layer in layers {
        let cache_key = cache_key(&layer);
        let ImageLayer { name, url, destination_path: to, layer_type, digest: checksum, .. } =
            layer;
        let (from, log_source) = (url, None);
        match layer_type {
            LayerType::Shared => changed.cached_dependencies.push(CachedDependency {
                name,
                from,
                to,
                cache_key,
                log_source,
                checksum,
            }),
            LayerType::Exclusive => downloads.push(Action::Download(Download {
                artifact: name,
                from,
                to,
                cache_key,
                log_source,
                user: changed.legacy_download_user.clone().unwrap_or_default(),
                checksum,
            })),
        }
    }
    if !downloads.is_empty() {
        let downloads = Action::Parallel(Parallel { actions: downloads, log_source: None });
        changed.setup = Some(match changed.setup.take() {
            Some(setup) => {
                Action::Serial(Serial { actions: vec![downloads, setup], log_source: None })
            }
            None => downloads,
        });
    }
    definition
}

#[cfg(test)]
mod tests {
    use super::*;
    use domain::action::{Checksum, ChecksumAlgorithm, Run};
    use domain::bbs::definition::{MediaType, Rootfs};
    use domain::sealed::PlainText;
    use domain::units::Mebibytes;

    fn layer(name: &str, layer_type: LayerType, digest: Option<Checksum>) -> ImageLayer<PlainText> {
        ImageLayer {
            name: name.to_owned(),
            url: PlainText(format!("http://blobs/{name}")),
            destination_path: format!("/{name}"),
            layer_type,
            media_type: MediaType::Tgz,
            digest,
        }
    }

    #[test]
    fn shared_layers_become_dependencies_and_exclusive_ones_downloads_before_the_setup() {
        let digest = Checksum::new(ChecksumAlgorithm::Sha256, &"a".repeat(64)).unwrap();
        let run = |path: &str| Action::Run(Run::new(path, "vcap"));
        let rootfs = Rootfs::new("preloaded:x").unwrap();
        let definition = Definition {
            setup: Some(run("setup")),
            image_layers: vec![
                layer("tools", LayerType::Shared, None),
                layer("app", LayerType::Exclusive, Some(digest)),
            ],
            legacy_download_user: Some("vcap".to_owned()),
            ..Definition::new(rootfs, run("app"), Mebibytes(1), Mebibytes(1))
        };

        let definition = without_layers(Arc::new(definition), |url| url.0.clone());

        let [dependency] = definition.cached_dependencies.as_slice() else { panic!("one") };
        assert_eq!(
            (dependency.to.as_str(), dependency.cache_key.as_str()),
            ("/tools", "http://blobs/tools")
        );
        let Some(Action::Serial(setup)) = &definition.setup else { panic!("no setup") };
        let [Action::Parallel(downloads), Action::Run(_)] = setup.actions.as_slice() else {
            panic!("{setup:?}")
        };
        let [Action::Download(download)] = downloads.actions.as_slice() else { panic!("one") };
        assert_eq!(download.cache_key, format!("sha256:{}", "a".repeat(64)));
        assert_eq!((download.user.as_str(), download.to.as_str()), ("vcap", "/app"));
    }
}
