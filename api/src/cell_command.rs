//! `diario cell`: one machine that runs containers for a control plane.
//!
//! On SIGTERM the containers run on, and the next start takes them up, unless told otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::ExitCode,
    str::FromStr,
    sync::Arc,
};

use anyhow::{Context as _, bail};
use cell::{
    agent,
    config::{CapacityConfig, Config, InstanceIdentityConfig, OnShutdown},
    garden::{
        Garden,
        linux::{LinuxConfig, LinuxGarden},
    },
    lifecycle::rootfs,
};
use clap::Args;
use domain::{
    bbs::definition::Rootfs,
    id::{CellId, Zone},
    sealed::{Digest, PlainText},
    units::{Mebibytes, Milliseconds},
};
use projections::private_file;
use tokio_util::sync::CancellationToken;

use crate::signals;

/// Where a cell keeps what it must not forget, unless told otherwise.
const CELL_DIR: &str = ".diario-cell";

/// Settings that come by the environment, and that sudo would drop.
const SETTINGS: [&str; 3] = ["DIARIO_API", "DIARIO_LOG", "DIARIO_TOKEN"];

/// Options of `diario cell`.
#[derive(Debug, Args)]
#[command(
    after_help = "Example: diario cell --cell-id cell-2 --api http://127.0.0.1:7400 --token-file cell-2.token"
)]
pub(crate) struct Options {
    /// The cell's name, unique among the cells of a control plane.
    #[arg(long)]
    cell_id: CellId,
    /// The control plane's address; of several nodes each may be given: when one does not answer,
    /// the next is asked.
    #[arg(
        long,
        env = "DIARIO_API",
        value_delimiter = ',',
        default_value = "http://127.0.0.1:7400"
    )]
    api: Vec<String>,
    /// The file that holds the cell's token; only its owner may read it.
    #[arg(long)]
    token_file: PathBuf,
    /// The certificates to trust, in PEM; those of the machine when absent.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// Where the cell keeps what it must not forget.
    #[arg(long, default_value = CELL_DIR)]
    data_dir: PathBuf,
    /// When told to stop, stop the containers too and remove all that the cell has on this
    /// machine; without it they run on, and the next start takes them up.
    #[arg(long)]
    remove_on_stop: bool,
    #[command(flatten)]
    machine: MachineOptions,
}

/// What a cell offers: shared with `diario dev`.
#[derive(Debug, Clone, Args)]
pub(crate) struct MachineOptions {
    /// The availability zone.
    #[arg(long, default_value = "z1")]
    zone: Zone,
    /// The cell's address as the router sees it.
    #[arg(long, default_value = "127.0.0.1")]
    address: IpAddr,
    /// Memory for containers in MiB, also more than the machine has; `auto` is what it has, less
    /// --reserved-memory-mb.
    #[arg(long, value_name = "MIB|auto", default_value = "auto")]
    memory_mb: Amount,
    /// What is left of the machine's memory for all that is not a container, in MiB.
    #[arg(long, value_name = "MIB", default_value_t = cell::config::MEMORY_RESERVE.0)]
    reserved_memory_mb: u32,
    /// Disk for containers in MiB, also more than the machine has; `auto` is the size of the disk
    /// that holds them.
    #[arg(long, value_name = "MIB|auto", default_value = "auto")]
    disk_mb: Amount,
    /// The most lines a second that are taken of one container; those beyond are dropped and
    /// counted.
    #[arg(long, value_name = "LINES")]
    log_lines_per_second: Option<u64>,
    /// The certificate (PEM) of the authority that gives each container an identity; with
    /// --instance-identity-key. `diario certs init` makes one for a trial.
    #[arg(long, value_name = "FILE", requires = "instance_identity_key")]
    instance_identity_ca: Option<PathBuf>,
    /// The key (PEM, PKCS #8) of that authority; only its owner may read it.
    #[arg(long, value_name = "FILE", requires = "instance_identity_ca")]
    instance_identity_key: Option<PathBuf>,
    /// For how many minutes an identity holds; each is renewed in place before it ends.
    #[arg(long, value_name = "MINUTES", default_value_t = 24 * 60,
        value_parser = clap::value_parser!(u32).range(1..=525_600))]
    instance_identity_minutes: u32,
    /// How much of the disk downloads may take, those kept and those under way together, in MiB;
    /// `auto` is a tenth of the disk.
    #[arg(long, value_name = "MIB|auto", default_value = "auto")]
    download_cache_mb: Amount,
    /// How often the cell looks whether it can make containers, by making one; 0 for never.
    #[arg(long, value_name = "SECONDS", default_value_t = 600)]
    self_check_seconds: u64,
    /// The most containers.
    #[arg(long, default_value_t = cell::config::CONTAINERS_MAX)]
    containers: u32,
    /// A root file system: NAME=FOLDER makes `preloaded:NAME`; may be given several times.
    /// `preloaded:diario` is always there.
    #[arg(long = "rootfs", value_name = "NAME=FOLDER")]
    rootfses: Vec<String>,
    /// A tag that a definition must carry to be placed here; may be given several times.
    #[arg(long = "placement-tag")]
    placement_tags: Vec<String>,
    /// A tag that a definition may carry to be placed here; may be given several times.
    #[arg(long = "optional-placement-tag")]
    optional_placement_tags: Vec<String>,
}

impl MachineOptions {
    fn instance_identity(&self) -> anyhow::Result<Option<InstanceIdentityConfig>> {
        let (Some(certificate), Some(key)) =
            (&self.instance_identity_ca, &self.instance_identity_key)
        else {
            return Ok(None);
        };
        Ok(Some(InstanceIdentityConfig {
            certificate: fs::read_to_string(certificate).with_context(|| {
                format!("cannot read --instance-identity-ca {}", certificate.display())
            })?,
            key: PlainText(
                private_file::read(key).context("cannot use --instance-identity-key")?.to_string(),
            ),
            validity: Milliseconds::from_seconds(60 * u64::from(self.instance_identity_minutes)),
        }))
    }
}

/// An amount of MiB, or what the machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Amount {
    /// What the machine has.
    Auto,
    /// So much.
    Mebibytes(u32),
}

impl FromStr for Amount {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text == "auto" {
            return Ok(Self::Auto);
        }
        let count = text.parse().ok().filter(|count| *count > 0);
        count.map(Self::Mebibytes).ok_or("must be a number of MiB above 0, or auto")
    }
}

impl Amount {
    fn configured(self) -> Option<Mebibytes> {
        match self {
            Self::Auto => None,
            Self::Mebibytes(count) => Some(Mebibytes(count)),
        }
    }
}

/// How a cell finds its control plane and itself.
#[derive(Debug)]
pub(crate) struct Place {
    pub(crate) cell_id: CellId,
    pub(crate) folder: PathBuf,
    pub(crate) api: Vec<String>,
    pub(crate) token: PlainText,
    pub(crate) ca_file: Option<PathBuf>,
    pub(crate) on_shutdown: OnShutdown,
}

/// Runs a cell until it is told to stop.
pub(crate) async fn run(options: Options) -> anyhow::Result<ExitCode> {
    require_root()?;
    let token = read_token(&options.token_file)
        .with_context(|| format!("cannot use --token-file {}", options.token_file.display()))?;
    let place = Place {
        cell_id: options.cell_id,
        folder: options.data_dir,
        api: options.api,
        token: PlainText(token),
        ca_file: options.ca_file,
        on_shutdown: if options.remove_on_stop {
            OnShutdown::DestroyAll
        } else {
            OnShutdown::LeaveRunning
        },
    };
    let shutdown = CancellationToken::new();
    signals::cancel_on_stop(shutdown.clone())?;
    start(place, &options.machine, shutdown).await?;
    Ok(ExitCode::SUCCESS)
}

/// A cell's token, from a file that is nobody else's.
fn read_token(path: &Path) -> anyhow::Result<String> {
    let token = private_file::read(path)?.trim().to_owned();
    if token.is_empty() {
        bail!("it is empty");
    }
    Ok(token)
}

/// Opens the garden and runs the agent.
pub(crate) async fn start(
    place: Place,
    machine: &MachineOptions,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    make_private(&place.folder)
        .with_context(|| format!("cannot make the folder {}", place.folder.display()))?;
    let folder = place.folder.canonicalize()?;
    let binary = std::env::current_exe().context("cannot find this program's own file")?;
    let built = rootfs::build(&folder.join("rootfs"), &binary)
        .context("cannot make the root file system preloaded:diario")?;
    let rootfses = rootfses(built.folder, &machine.rootfses)?;
    let names: BTreeSet<String> = rootfses.keys().cloned().collect();
    // One more, for the cell's looks at itself.
    let containers_max = machine.containers.saturating_add(1);
    let garden = open_garden(&place.cell_id, &folder, binary, rootfses, containers_max).await?;
    let mut config = Config::new(place.cell_id, folder, place.api, place.token);
    config.control_plane.ca_file = place.ca_file;
    config.zone = machine.zone.clone();
    config.address = machine.address;
    config.capacity = CapacityConfig {
        memory_mb: machine.memory_mb.configured(),
        memory_reserve_mb: Mebibytes(machine.reserved_memory_mb),
        disk_mb: machine.disk_mb.configured(),
        containers: machine.containers,
    };
    config.containers.log_lines_per_second = machine.log_lines_per_second;
    config.containers.instance_identity = machine.instance_identity()?;
    config.containers.downloads_mb = machine.download_cache_mb.configured();
    config.self_check_every = Some(machine.self_check_seconds)
        .filter(|seconds| *seconds > 0)
        .map(Milliseconds::from_seconds);
    config.containers.healthcheck_binary = Some(built.binary);
    config.preloaded_rootfses = names;
    config.placement_tags = machine.placement_tags.iter().cloned().collect();
    config.optional_placement_tags = machine.optional_placement_tags.iter().cloned().collect();
    config.on_shutdown = place.on_shutdown;
    let garden = Arc::new(garden);
    let ended = agent::run(config, Arc::clone(&garden) as Arc<dyn Garden>, shutdown).await;
    if place.on_shutdown == OnShutdown::DestroyAll {
        garden.tear_down().await.context("cannot remove what the cell left on this machine")?;
    }
    ended.context("the cell has stopped")?;
    Ok(())
}

async fn open_garden(
    cell_id: &CellId,
    folder: &Path,
    shim_binary: PathBuf,
    rootfses: BTreeMap<String, PathBuf>,
    containers_max: u32,
) -> anyhow::Result<LinuxGarden> {
    let config = LinuxConfig {
        prefix: prefix(cell_id, folder),
        cell_dir: folder.to_owned(),
        subnet: None,
        shim_binary,
        rootfses,
        containers_max,
    };
    LinuxGarden::open(config).await.context("cannot make containers on this machine")
}

/// Removes every container that an earlier run of a cell left on this machine.
pub(crate) async fn tear_down(folder: &Path, cell_id: &CellId) -> anyhow::Result<()> {
    let folder = folder.canonicalize()?;
    let binary = std::env::current_exe().context("cannot find this program's own file")?;
    let containers_max = cell::config::CONTAINERS_MAX;
    let garden = open_garden(cell_id, &folder, binary, BTreeMap::new(), containers_max).await?;
    garden.tear_down().await.context("cannot remove the containers of an earlier run")
}

/// Begins the names of all that a cell leaves on its machine: no two cells share one.
fn prefix(cell_id: &CellId, folder: &Path) -> String {
    let digest = Digest::of(format!("{cell_id} {}", folder.display()).as_bytes()).to_string();
    format!("d{}", digest.chars().take(6).collect::<String>())
}

/// The root file systems by name: those given, and the one that every machine has.
fn rootfses(diario: PathBuf, given: &[String]) -> anyhow::Result<BTreeMap<String, PathBuf>> {
    let mut rootfses = BTreeMap::from([("diario".to_owned(), diario)]);
    for text in given {
        let Some((name, path)) = text.split_once('=') else {
            bail!("--rootfs {text:?} must be NAME=FOLDER");
        };
        if Rootfs::new(&format!("preloaded:{name}")).is_err() {
            bail!("--rootfs {text:?}: the name may hold letters, digits, '-', '_' and '.'");
        }
        let path = Path::new(path)
            .canonicalize()
            .with_context(|| format!("--rootfs {name}: cannot find the folder {path}"))?;
        if !path.is_dir() {
            bail!("--rootfs {name}: {} is not a folder", path.display());
        }
        rootfses.insert(name.to_owned(), path);
    }
    Ok(rootfses)
}

/// Makes a folder that only its owner can look into, or makes an existing one so.
fn make_private(folder: &Path) -> std::io::Result<()> {
    fs::create_dir_all(folder)?;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

/// Containers need root: says exactly what to run otherwise.
pub(crate) fn require_root() -> anyhow::Result<()> {
    if nix::unistd::geteuid().is_root() {
        return Ok(());
    }
    let binary = std::env::current_exe()?;
    let words = std::iter::once(binary.display().to_string()).chain(std::env::args().skip(1));
    let words: Vec<String> = words.map(|word| quoted(&word)).collect();
    let kept: Vec<String> = std::env::vars()
        .map(|(name, _)| name)
        .filter(|name| SETTINGS.contains(&name.as_str()))
        .collect();
    let keep =
        if kept.is_empty() { String::new() } else { format!("--preserve-env={} ", kept.join(",")) };
    bail!("containers need root; run: sudo {keep}{}", words.join(" "));
}

/// A word as a shell takes it back unchanged.
fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        return word.to_owned();
    }
    format!("'{}'", word.replace('\'', "'\\''"))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_quoted_word_is_what_a_shell_reads_back() {
        assert_eq!(quoted("--data-dir=/a_b"), "--data-dir=/a_b");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        assert_eq!(quoted(""), "''");
    }
}
