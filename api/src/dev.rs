//! `diario dev`: all on this machine in one process tree, with nothing to install: a control
//! plane on embedded SQLite, the router and one cell. Listens on loopback only.
//!
//! Ctrl-C removes the containers; the journal stays in the data folder.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use api::{
    bbs,
    cell_gateway::CellTokens,
    clock, demo, edge, forgetting,
    http::Access,
    log_keeper,
    node::{Node, Settings},
    output,
    telemetry::traces,
};
use cell::config::OnShutdown;
use clap::Args;
use domain::{id::CellId, sealed::PlainText};
use projections::{
    data_dir::{DataDirLock, keys_folder},
    private_file, worker,
};
use tokio_util::sync::CancellationToken;

use crate::{
    cell_command::{self, MachineOptions, Place},
    signals,
};

/// Options of `diario dev`.
#[derive(Debug, Args)]
#[command(after_help = "Example: diario dev --demo --once --data-dir /tmp/diario-demo --fresh")]
pub(crate) struct Options {
    /// Where the journal and all else is kept.
    #[arg(long, default_value = ".diario")]
    data_dir: PathBuf,
    /// Begin anew: remove what an earlier run left in the data folder, containers too.
    #[arg(long)]
    fresh: bool,
    #[command(flatten)]
    archive: log_keeper::Options,
    #[command(flatten)]
    lists: forgetting::lists::Options,
    #[command(flatten)]
    ports: edge::Ports,
    #[command(flatten)]
    bbs: bbs::Options,
    #[command(flatten)]
    pub(crate) traces: traces::Options,
    /// The name of the one cell.
    #[arg(long, default_value = "cell-1")]
    cell_id: CellId,
    #[command(flatten)]
    machine: MachineOptions,
    /// Show what Diario does: run a sample app, kill an instance, scale, look back.
    #[arg(long)]
    demo: bool,
    /// With --demo: end after it; the exit code is 0 only if every step was seen.
    #[arg(long, requires = "demo")]
    once: bool,
}

impl Options {
    /// Whether the demo is to be shown.
    pub(crate) fn shows_the_demo(&self) -> bool {
        self.demo
    }
}

/// Runs everything until it is told to stop.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    cell_command::require_root()?;
    let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listeners =
        edge::Listeners::bind(at(options.ports.port), at(options.ports.router_port)).await?;
    let bbs = options.bbs.bind().await?;
    if options.fresh {
        begin_anew(&options).await?;
    }
    let (archive, lists) = (options.archive.clone(), options.lists.clone());
    let settings = Settings { archive, lists, ..Settings::in_folder(&options.data_dir, "dev") };
    let node = Node::start(settings).await?;
    let token = cell_token(&options.data_dir)?;
    let tokens = Arc::new(CellTokens::default().with(options.cell_id.clone(), &token));
    let (api_url, router_url) = (listeners.api_url(false), listeners.router_url());
    let stop_edges = CancellationToken::new();
    let told_to_stop = CancellationToken::new();
    signals::cancel_on_stop(told_to_stop.clone())?;
    let failure = signals::cancel_on_failure(&node, told_to_stop.clone());
    let edges = async {
        let stop = stop_edges.clone();
        let diego = bbs::serve_where_asked(bbs, &node.control_plane, stop.clone());
        let served = edge::serve(&node, listeners, Access::loopback(), tokens, None, stop);
        let (served, ()) = tokio::join!(served, diego);
        // Without its edges the cell has nobody to speak to.
        told_to_stop.cancel();
        served
    };
    let work = async {
        let result = run_cell(&options, &api_url, &router_url, token, told_to_stop.clone()).await;
        // The cell's last reports have arrived: now the edges may go.
        stop_edges.cancel();
        result
    };
    let (served, result) = tokio::join!(edges, work);
    node.stop().await;
    failure.check()?;
    served?;
    result
}

/// Runs the cell beside what the user came for: the demo, or waiting for Ctrl-C.
async fn run_cell(
    options: &Options,
    api_url: &str,
    router_url: &str,
    token: String,
    told_to_stop: CancellationToken,
) -> anyhow::Result<ExitCode> {
    let place = place(options, api_url.to_owned(), token);
    let stop_cell = told_to_stop.clone();
    let machine = options.machine.clone();
    let (ended, mut cell_ended) = tokio::sync::oneshot::channel();
    drop(worker::spawn("cell", async move {
        drop(ended.send(cell_command::start(place, &machine, stop_cell).await));
    }));
    print_places(options, api_url, router_url);
    let demo = async {
        if !options.demo {
            return Ok(ExitCode::SUCCESS);
        }
        let code = demo::run(api_url, router_url).await?;
        if options.once {
            told_to_stop.cancel();
        } else {
            output::line("The app stays up. Ctrl-C stops it and removes the containers.");
        }
        anyhow::Ok(code)
    };
    tokio::select! {
        ended = &mut cell_ended => {
            told_to_stop.cancel();
            ended.context("the cell has panicked")??;
            bail!("the cell ended by itself")
        }
        () = told_to_stop.cancelled() => {
            cell_ended.await.context("the cell has panicked")??;
            Ok(ExitCode::SUCCESS)
        }
        result = demo_then_wait(demo, &told_to_stop) => {
            told_to_stop.cancel();
            cell_ended.await.context("the cell has panicked")??;
            result
        }
    }
}

/// A demo that failed ends the run; one that succeeded lets it stay up.
async fn demo_then_wait(
    demo: impl Future<Output = anyhow::Result<ExitCode>>,
    told_to_stop: &CancellationToken,
) -> anyhow::Result<ExitCode> {
    let code = demo.await?;
    told_to_stop.cancelled().await;
    Ok(code)
}

fn print_places(options: &Options, api_url: &str, router_url: &str) {
    output::line(format!("GraphQL  {api_url}/graphql  (--port)"));
    output::line(format!("router   {router_url}  (--router-port)"));
    output::line(format!("journal  {}  (--data-dir)", options.data_dir.display()));
}

fn place(options: &Options, api: String, token: String) -> Place {
    Place {
        cell_id: options.cell_id.clone(),
        folder: cell_folder(options),
        api: vec![api],
        token: PlainText(token),
        ca_file: None,
        on_shutdown: OnShutdown::DestroyAll,
    }
}

fn cell_folder(options: &Options) -> PathBuf {
    options.data_dir.join("cells").join(options.cell_id.as_str())
}

/// The token of the one cell, drawn once and kept beside the journal.
fn cell_token(data_dir: &Path) -> anyhow::Result<String> {
    let path = keys_folder(data_dir).join("cell.token");
    match private_file::read(&path) {
        Ok(token) if !token.is_empty() => return Ok(token.as_str().to_owned()),
        Err(failure) if !failure.is_not_found() => return Err(failure.into()),
        Ok(_) | Err(_) => {}
    }
    let token = clock::new_uuid().simple().to_string();
    private_file::replace(&path, &token)
        .with_context(|| format!("cannot write {}", path.display()))?;
    Ok(token)
}

/// Removes the containers of every cell that ever ran here, under whatever name.
async fn tear_down_cells(folder: &Path) -> anyhow::Result<()> {
    if !folder.exists() {
        return Ok(());
    }
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let name = entry.file_name();
        let cell_id: CellId = name
            .to_str()
            .and_then(|name| name.parse().ok())
            .with_context(|| format!("--fresh: {} is no cell's", entry.path().display()))?;
        cell_command::tear_down(&entry.path(), &cell_id).await?;
    }
    Ok(())
}

/// Removes what an earlier run left, but only from a folder that is Diario's.
async fn begin_anew(options: &Options) -> anyhow::Result<()> {
    let data_dir = &options.data_dir;
    if !data_dir.exists() {
        return Ok(());
    }
    let is_empty = fs::read_dir(data_dir)?.next().is_none();
    if !is_empty && !data_dir.join("diario.db").exists() {
        bail!("--fresh: {} holds no Diario journal; it is left as it is", data_dir.display());
    }
    let lock = DataDirLock::acquire(data_dir)?;
    tear_down_cells(&data_dir.join("cells")).await?;
    for entry in fs::read_dir(data_dir)? {
        let path = entry?.path();
        let removed =
            if path.is_dir() { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.with_context(|| format!("--fresh: cannot remove {}", path.display()))?;
    }
    drop(lock);
    Ok(())
}
