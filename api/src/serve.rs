//! `diario serve`: a control plane for cells that run elsewhere.
//!
//! Beyond loopback it refuses to start without TLS and tokens.

use std::{
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::PathBuf,
    process::ExitCode,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use api::{
    bbs,
    cell_gateway::CellTokens,
    cli::storage::StorageOptions,
    edge::{self, Tls},
    forgetting,
    http::Access,
    lease::{TIME_TO_LIVE_MAX, TIME_TO_LIVE_MIN},
    log_keeper,
    node::{Node, Settings},
    output, placement_options,
    telemetry::traces,
};
use clap::Args;
use domain::units::Milliseconds;
use tokio_util::sync::CancellationToken;

use crate::signals;

/// Options of `diario serve`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: diario serve --data-dir /var/lib/diario --cell-tokens cells.json\n\
    The file of cell tokens: {\"cell-1\": \"its token\", ...}; readable by its owner only."
)]
pub(crate) struct Options {
    #[command(flatten)]
    storage: StorageOptions,
    #[command(flatten)]
    archive: log_keeper::Options,
    #[command(flatten)]
    lists: forgetting::lists::Options,
    #[command(flatten)]
    placement: placement_options::Options,
    #[command(flatten)]
    ports: edge::Ports,
    #[command(flatten)]
    bbs: bbs::Options,
    #[command(flatten)]
    pub(crate) traces: traces::Options,
    /// The address to listen on; beyond loopback it needs TLS and tokens.
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST))]
    address: IpAddr,
    /// Who may ask: [{"token": "...", "name": "ann", "access": "write"}, ...].
    #[arg(long)]
    tokens: Option<PathBuf>,
    /// The node's name among those on one database; events that its loops cause carry it.
    #[arg(long, default_value = "serve")]
    node: String,
    /// After how many seconds without a sign of life another node's loops take over, from 1 to 300.
    #[arg(long, default_value = "15", value_parser = lease_ttl)]
    lease_ttl: Milliseconds,
    /// Which cells may register, with the token of each.
    #[arg(long)]
    cell_tokens: Option<PathBuf>,
    /// The certificate chain to show, in PEM.
    #[arg(long, requires = "tls_key")]
    tls_cert: Option<PathBuf>,
    /// The certificate's private key, in PEM.
    #[arg(long, requires = "tls_cert")]
    tls_key: Option<PathBuf>,
}

fn lease_ttl(text: &str) -> Result<Milliseconds, String> {
    let seconds: Option<u64> = text.parse().ok();
    let asked = seconds.and_then(|seconds| seconds.checked_mul(1000)).map(Milliseconds);
    let within = |asked: &Milliseconds| (TIME_TO_LIVE_MIN..=TIME_TO_LIVE_MAX).contains(asked);
    asked.filter(within).ok_or_else(|| "must be a whole number of seconds from 1 to 300".to_owned())
}

/// Runs a control plane until it is told to stop.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    let settings = Settings {
        location: options.storage.location()?,
        data_dir: options.storage.data_dir.clone(),
        name: options.node,
        lease_time_to_live: options.lease_ttl,
        archive: options.archive.clone(),
        lists: options.lists.clone(),
        placement: options.placement.settings(),
    };
    let has_tls = options.tls_cert.is_some() && options.tls_key.is_some();
    let is_open = !options.address.is_loopback();
    let is_guarded = has_tls && options.tokens.is_some();
    if is_open && !is_guarded {
        bail!(
            "--address {} is beyond loopback: give --tls-cert and --tls-key, and --tokens, or listen on 127.0.0.1",
            options.address
        );
    }
    let tls = match (&options.tls_cert, &options.tls_key) {
        (Some(certificate), Some(key)) => Some(Tls::load(certificate, key).await?),
        (None, _) | (_, None) => None,
    };
    let access = match &options.tokens {
        Some(path) => Access::with_tokens(path)
            .with_context(|| format!("cannot use --tokens {}", path.display()))?,
        None => Access::loopback(),
    };
    let cell_tokens = match &options.cell_tokens {
        Some(path) => CellTokens::read(path)
            .with_context(|| format!("cannot use --cell-tokens {}", path.display()))?,
        None => CellTokens::default(),
    };
    let at = |port| SocketAddr::new(options.address, port);
    let listeners =
        edge::Listeners::bind(at(options.ports.port), at(options.ports.router_port)).await?;
    let bbs = options.bbs.bind().await?;
    let node = Node::start(settings).await?;
    let shutdown = CancellationToken::new();
    signals::cancel_on_stop(shutdown.clone())?;
    let failure = signals::cancel_on_failure(&node, shutdown.clone());
    output::line(format!("API     {}", listeners.api_url(tls.is_some())));
    output::line(format!("router  {}", listeners.router_url()));
    let diego = bbs::serve_where_asked(bbs, &node.control_plane, shutdown.clone());
    let served =
        edge::serve(&node, listeners, access, Arc::new(cell_tokens), tls, shutdown.clone());
    let (served, ()) = tokio::join!(served, diego);
    node.stop().await;
    failure.check()?;
    served?;
    Ok(ExitCode::SUCCESS)
}
