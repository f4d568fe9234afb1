//! Cached dependencies: folders that the cell unpacks once, mounted read-only in every container that
//! asks for them.
//!
//! A container holds them from before it is made until it is destroyed.

use std::path::PathBuf;

use domain::bbs::definition::CachedDependency;
use domain::observation::{LogLine, OutputStream};
use domain::sealed::PlainText;
use futures_util::future::join_all;

use super::create::CreateError;
use super::downloads::Request;
use super::steps::size_text;
use super::{Executor, Order, unsupported};
use crate::clock;
use crate::garden::BindMount;

/// What is got ready for a container that is not made yet.
#[derive(Debug)]
pub(crate) struct Dependencies(pub(super) Vec<BindMount>);

impl Executor {
    /// Gets ready what a container has mounted, if this cell can run it at all. Whoever waits no
    /// longer destroys the container, as if it were there: it may hold some of it.
    ///
    /// # Errors
    /// The container holds nothing.
    pub(crate) async fn get_ready(&self, order: &Order) -> Result<Dependencies, CreateError> {
        let ready = self.try_get_ready(order).await;
        if let Err(error) = &ready {
            self.traffic.downloads.release(&order.handle);
            self.say_not_created(order, error);
        }
        ready
    }

    async fn try_get_ready(&self, order: &Order) -> Result<Dependencies, CreateError> {
        let failed = |reason: String| CreateError::Failed { reason };
        let definition = order.secret_definition().await.map_err(failed)?;
        if let Some(part) = unsupported::part_of(&definition) {
            let reason = format!("this cell cannot run {part}");
            return Err(CreateError::Unsuitable { reason });
        }
        let all = definition.cached_dependencies.iter();
        let mounted = join_all(all.map(|dependency| self.mount(order, dependency))).await;
        let mounts = mounted.into_iter().collect::<Option<_>>();
        mounts.map(Dependencies).ok_or(CreateError::Dependencies)
    }

    /// One of them; what goes wrong is told in the instance's log.
    async fn mount(
        &self,
        order: &Order,
        dependency: &CachedDependency<PlainText>,
    ) -> Option<BindMount> {
        let CachedDependency { name, from, to, cache_key, log_source, checksum } = dependency;
        let source = log_source.as_ref().unwrap_or(&order.recipe.log_source);
        let say = |stream, text| order.sink.line(&LogLine::new(clock::now(), source, stream, text));
        let tell = |text: String| {
            if !name.is_empty() {
                say(OutputStream::Out, text);
            }
        };
        let named = if name.is_empty() { String::new() } else { format!(" {name}") };
        tell(format!("Downloading{named}..."));
        let request = Request { url: &from.0, cache_key, checksum: checksum.as_ref() };
        match self.traffic.downloads.folder(request, &order.handle).await {
            Ok(folder) => {
                tell(match folder.loaded_bytes {
                    Some(bytes) => format!("Downloaded{named} ({})", size_text(bytes)),
                    None => format!("Downloaded{named}"),
                });
                let (source, destination) = (folder.path, PathBuf::from(to));
                Some(BindMount { source, destination, is_read_only: true })
            }
            Err(error) => {
                say(OutputStream::Err, format!("Downloading{named} failed: {error}"));
                None
            }
        }
    }
}
