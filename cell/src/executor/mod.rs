//! Executor: turns an order (a container and what runs in it) into steps, and watches them.
//!
//! It knows containers, processes, checks, lines and samples; never for whom they are, and never
//! the control plane. It writes no secret anywhere: those go from memory to the garden.
//!
//! - [`order`] what is asked for; [`environment`] what processes see of it
//! - [`dependencies`] what is mounted in it, [`layers`] another way to say so
//! - [`container`] one container's life; [`steps`] its recipe, [`place`] where each is in it;
//!   [`checks`] or [`monitor`] its health, [`readiness`] whether it takes requests
//! - [`downloads`] what the cell loads for containers; [`inside`] their files, reached from outside;
//!   [`result_file`] what their work leaves to be told
//! - [`log_streamer`] and [`sampler`] what is observed, as far as [`log_limiter`] lets it;
//!   [`feed`] what is kept of it for evidence, and [`last_look`] what is added at the end
//! - [`ending`] the words for how it ended
//! - [`identity`] who it is, as others see it

mod checks;
mod container;
mod context;
mod create;
mod dependencies;
mod downloads;
mod ending;
mod environment;
mod feed;
mod http_client;
mod identity;
mod inside;
mod last_look;
mod layers;
mod log_limiter;
mod log_streamer;
mod monitor;
mod order;
mod place;
mod process_name;
mod readiness;
mod result_file;
mod sampler;
mod steps;
mod unsupported;

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use domain::rep::Evidence;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use self::downloads::{Downloads, Timing};
use self::http_client::HttpClients;
use crate::garden::{self, Garden, Handle};
use crate::identity::Authority;
pub(crate) use create::CreateError;
pub(crate) use ending::{Ending, Finished, Happened, Kill, Stopped};
pub(crate) use last_look::MISSING;
pub(crate) use order::{DefinitionSource, Order, Redacted, Sink, redact};
pub(crate) use sampler::Share;

/// Makes containers by order and runs what they are for.
#[derive(Debug)]
pub(crate) struct Executor {
    garden: Arc<dyn Garden>,
    settings: Settings,
    traffic: Traffic,
}

/// What goes into containers and out of them, and what looks at them: shared by all.
#[derive(Debug)]
struct Traffic {
    downloads: Downloads,
    clients: Arc<HttpClients>,
    /// Turns to send a file, and turns of monitors.
    uploads: Semaphore,
    looks: Semaphore,
}

/// What is the same for every container.
#[derive(Debug, Clone)]
pub(crate) struct Settings {
    /// The cell's name, as log lines tell it.
    pub(crate) cell_name: String,
    /// Where the places in the containers' outputs are kept.
    pub(crate) folder: PathBuf,
    /// The static binary that probes inside containers.
    pub(crate) healthcheck_binary: PathBuf,
    /// From SIGTERM to SIGKILL, where a recipe does not say.
    pub(crate) graceful_stop: Duration,
    /// The most open files of a process that says nothing.
    pub(crate) nofile: u64,
    /// The most lines a second that are handed on of one container; all when absent.
    pub(crate) log_lines_per_second: Option<u64>,
    /// What identities are issued with; containers have none where it is absent.
    pub(crate) authority: Option<Arc<Authority>>,
    /// Where the identities of containers lie.
    pub(crate) identities: PathBuf,
    /// What the machine's processors are to the memory that the cell offers.
    pub(crate) share: Share,
    /// Where what is downloaded is kept.
    pub(crate) downloads_folder: PathBuf,
    /// How much of the disk it may take.
    pub(crate) downloads_bytes_max: u64,
    /// How long a result file may be.
    pub(crate) result_bytes_max: u64,
}

/// How many files are sent at once, as in Diego.
const UPLOADS_MAX: usize = 5;
/// How many monitors look at once, as in Diego.
const LOOKS_MAX: usize = 64;

/// How a running container is told to end.
#[derive(Debug, Clone, Default)]
pub(crate) struct Control {
    /// Stop what runs, gracefully.
    pub(crate) stop: CancellationToken,
    /// Leave it running and watch it no more.
    pub(crate) detach: CancellationToken,
    is_given_up: Arc<AtomicBool>,
}

impl Control {
    /// Nobody counts on it any more, and its room may be given to others: it gets no longer to end
    /// than the cell gives everybody.
    pub(crate) fn give_up(&self) {
        self.is_given_up.store(true, Ordering::Relaxed);
    }

    pub(super) fn is_given_up(&self) -> bool {
        self.is_given_up.load(Ordering::Relaxed)
    }
}

impl Executor {
    /// Takes up what an earlier agent downloaded.
    ///
    /// # Errors
    /// The folder of the downloads cannot be used.
    pub(crate) fn new(garden: Arc<dyn Garden>, settings: Settings) -> io::Result<Self> {
        let clients = Arc::<HttpClients>::default();
        let (folder, bytes_max) = (&settings.downloads_folder, settings.downloads_bytes_max);
        let timing = Timing::default();
        let downloads = Downloads::open(folder, bytes_max, Arc::clone(&clients), timing)?;
        let (uploads, looks) = (Semaphore::new(UPLOADS_MAX), Semaphore::new(LOOKS_MAX));
        let traffic = Traffic { downloads, clients, uploads, looks };
        Ok(Self { garden, settings, traffic })
    }

    /// Only these containers are there: what others had mounted may go.
    pub(crate) fn note_containers(&self, handles: &BTreeSet<Handle>) {
        self.traffic.downloads.retain_holders(handles);
    }

    /// Destroys a container with all that is in it, and forgets its identity and its place in its output.
    ///
    /// # Errors
    /// Something could not be removed: it may be tried again.
    pub(crate) async fn destroy(&self, handle: &Handle) -> Result<(), garden::Error> {
        self.garden.destroy(handle).await?;
        self.forget_identity(handle);
        self.traffic.downloads.release(handle);
        let path = self.stream_state(handle);
        if let Err(error) = crate::durable_file::remove(&path) {
            tracing::warn!(%handle, %error, "Cannot remove the place in a container's output.");
        }
        Ok(())
    }

    /// The static binary that probes inside containers.
    pub(crate) fn healthcheck_binary(&self) -> &Path {
        &self.settings.healthcheck_binary
    }

    /// What an earlier agent kept of a container that is gone.
    pub(crate) fn evidence_left(&self, handle: &Handle) -> Evidence {
        let saved = log_streamer::LogStreamer::load(&self.stream_state(handle));
        feed::Feed::new(saved.kept).evidence()
    }

    fn stream_state(&self, handle: &Handle) -> PathBuf {
        self.settings.folder.join(format!("{handle}.json"))
    }
}
