//! The identity of one container: given to it before its first process, renewed while it runs.
//!
//! Where the cell has no authority, there is none, as in Diego.

use std::convert::Infallible;
use std::net::IpAddr;
use std::time::Duration;

use domain::observation::OutputStream;
use tokio::time::sleep;

use super::{Executor, Order};
use crate::clock;
use crate::garden::{BindMount, ContainerInfo, Handle};
use crate::identity::{Authority, Folder, INSIDE, Subject};

/// The pause after a renewal that failed: the certificate holds for longer than that.
const RETRY_PAUSE: Duration = Duration::from_secs(30);

impl Executor {
    /// Makes the folder that the container will see; `None` where the cell has no authority.
    ///
    /// # Errors
    /// In Diego's words.
    pub(super) fn prepare_identity(&self, order: &Order) -> Result<Option<BindMount>, String> {
        if self.settings.authority.is_none() {
            return Ok(None);
        }
        let folder = self.identity_folder(order);
        let failed = |error| format!("failed to create credentials directory: {error}");
        folder.make().map_err(failed)?;
        Ok(Some(BindMount {
            source: folder.path().to_owned(),
            destination: INSIDE.into(),
            is_read_only: true,
        }))
    }

    /// Issues the container's first certificate, or does nothing where there is no authority.
    ///
    /// # Errors
    /// In words.
    pub(super) fn give_identity(
        &self,
        order: &Order,
        container: &ContainerInfo,
    ) -> Result<(), String> {
        match &self.settings.authority {
            Some(authority) => self.renew(authority, order, container),
            None => Ok(()),
        }
    }

    /// Renews what the container has, each time before it ends.
    pub(super) async fn keep_identity(
        &self,
        order: &Order,
        container: &ContainerInfo,
    ) -> Infallible {
        let Some(authority) = &self.settings.authority else {
            return std::future::pending().await;
        };
        let folder = self.identity_folder(order);
        loop {
            // A container that an agent without an authority made has no folder to renew in.
            let Some(end) = folder.not_after() else { return std::future::pending().await };
            let left = u64::try_from(end.0.saturating_sub(clock::now().0)).unwrap_or_default();
            let left = Duration::from_nanos(left);
            sleep(left.saturating_sub(authority.renewed_before_end())).await;
            if let Err(error) = self.renew(authority, order, container) {
                let what = "failed to renew the identity of instance";
                self.say_why(order, OutputStream::Err, what, &error);
                sleep(RETRY_PAUSE.min(authority.renewed_before_end())).await;
            }
        }
    }

    fn renew(
        &self,
        authority: &Authority,
        order: &Order,
        container: &ContainerInfo,
    ) -> Result<(), String> {
        let subject = Subject {
            name: order.instance.clone(),
            address: IpAddr::V4(container.address),
            units: order
                .recipe
                .certificate_properties
                .as_ref()
                .map_or_else(Vec::new, |properties| properties.organizational_unit.clone()),
        };
        let issued = authority.issue(&subject, clock::now()).map_err(|error| error.to_string())?;
        let written = self.identity_folder(order).write(&issued);
        written.map_err(|error| format!("cannot write the credentials: {error}"))
    }

    pub(super) fn forget_identity(&self, handle: &Handle) {
        let folder = Folder::of(&self.settings.identities, handle);
        if let Err(error) = folder.remove() {
            tracing::warn!(%handle, %error, "Cannot remove the identity of a container.");
        }
    }

    fn identity_folder(&self, order: &Order) -> Folder {
        Folder::of(&self.settings.identities, &order.handle)
    }
}
