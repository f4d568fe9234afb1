//! Makes the container of an order.

use std::fmt::Display;
use std::path::PathBuf;

use domain::observation::{LogLine, OutputStream};

use super::dependencies::Dependencies;
use super::{Executor, Order, environment, unsupported};
use crate::clock;
use crate::garden::{self, BindMount, ContainerInfo, ContainerSpec, Limits, RootfsName};

/// Where the probing binary is seen inside every container, as in Diego.
pub(super) const HEALTHCHECK_PATH: &str = "/etc/cf-assets/healthcheck/healthcheck";
/// Processes and threads of a container that says nothing.
const PIDS_DEFAULT: u32 = 1024;

/// Why a container was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CreateError {
    /// This cell cannot hold it; another might.
    #[error("{reason}")]
    Unsuitable {
        /// In words.
        reason: String,
    },
    /// What is mounted in it could not be had.
    #[error("failed to download cached artifacts")]
    Dependencies,
    /// It was tried, and nothing of it is left.
    #[error("failed to create container: {reason}")]
    Failed {
        /// In words.
        reason: String,
    },
}

impl Executor {
    /// Makes the container with what was got ready for it; nothing of the recipe runs in it yet.
    ///
    /// # Errors
    /// Nothing of the container is left, and it holds nothing that was got ready.
    pub(crate) async fn create(
        &self,
        order: &Order,
        dependencies: Dependencies,
    ) -> Result<ContainerInfo, CreateError> {
        self.say(order, OutputStream::Out, "creating container for instance");
        let made = self.try_create(order, dependencies).await;
        match &made {
            Ok(_) => {
                self.say(order, OutputStream::Out, "successfully created container for instance");
            }
            Err(error) => {
                self.traffic.downloads.release(&order.handle);
                self.say_not_created(order, error);
            }
        }
        made
    }

    /// Tells in the instance's own log why it has no container.
    pub(super) fn say_not_created(&self, order: &Order, why: &CreateError) {
        self.say_why(order, OutputStream::Err, "failed to create container for instance", why);
    }

    /// Tells in the instance's own log what the cell does with it.
    pub(crate) fn say(&self, order: &Order, stream: OutputStream, what: &str) {
        let text = format!("Cell {} {what} {}", self.settings.cell_name, order.instance);
        order.sink.line(&cell_line(stream, text));
    }

    /// The same, with a reason.
    pub(crate) fn say_why(
        &self,
        order: &Order,
        stream: OutputStream,
        what: &str,
        why: &dyn Display,
    ) {
        let text = format!("Cell {} {what} {}: {why}", self.settings.cell_name, order.instance);
        order.sink.line(&cell_line(stream, text));
    }

    async fn try_create(
        &self,
        order: &Order,
        Dependencies(mut bind_mounts): Dependencies,
    ) -> Result<ContainerInfo, CreateError> {
        let failed = |reason: String| CreateError::Failed { reason };
        let definition = order.secret_definition().await.map_err(failed)?;
        let rootfs = RootfsName::parse(&definition.rootfs.to_string())
            .map_err(|error| CreateError::Unsuitable { reason: error.to_string() })?;
        let has_authority = self.settings.authority.is_some();
        let without_effect = unsupported::without_effect(&definition, has_authority);
        if !without_effect.is_empty() {
            let name = &self.settings.cell_name;
            let text = format!("Cell {name} does not have yet: {}", without_effect.join(", "));
            order.sink.line(&cell_line(OutputStream::Err, text));
        }
        let identity = self.prepare_identity(order).map_err(failed)?;
        bind_mounts.push(BindMount {
            source: self.settings.healthcheck_binary.clone(),
            destination: PathBuf::from(HEALTHCHECK_PATH),
            is_read_only: true,
        });
        let has_identity = identity.is_some();
        bind_mounts.extend(identity);
        let spec = ContainerSpec {
            handle: order.handle.clone(),
            rootfs,
            hostname: order.handle.to_string(),
            environment: environment::of_container(&order.environment, &definition, has_identity),
            limits: Limits {
                memory_bytes: Some(definition.memory_mb.bytes()),
                cpu_shares: Some((u64::from(definition.cpu_weight) * 1024 / 100).max(2)),
                cpu_quota_us: None,
                pids_max: Some(match definition.max_pids {
                    0 => PIDS_DEFAULT,
                    // One of them is the container's own init.
                    pids => pids.saturating_add(1),
                }),
            },
            bind_mounts,
            properties: order.properties.clone(),
        };
        let container = self.garden.create(spec).await.map_err(explain)?;
        if let Err(reason) = self.give_identity(order, &container) {
            if let Err(error) = self.destroy(&order.handle).await {
                tracing::warn!(handle = %order.handle, %error, "Cannot destroy a container.");
            }
            return Err(failed(reason));
        }
        Ok(container)
    }
}

fn explain(error: garden::Error) -> CreateError {
    if matches!(error, garden::Error::UnknownRootfs { .. } | garden::Error::Full { .. }) {
        return CreateError::Unsuitable { reason: error.to_string() };
    }
    if let garden::Error::Create { reason, .. } | garden::Error::InvalidSpec { reason } = error {
        return CreateError::Failed { reason };
    }
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
    CreateError::Failed { reason: format!("{error}{}", cause.unwrap_or_default()) }
}

fn cell_line(stream: OutputStream, text: String) -> LogLine {
    LogLine::new(clock::now(), "CELL", stream, text)
}
