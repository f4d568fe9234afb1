//! What a container is made of and runs, as clients see it. Values of the environment are never
//! shown: only that they are sealed, and a fingerprint that tells whether two are the same.

use async_graphql::{Enum, SimpleObject, Union};
use domain::{
    action,
    bbs::definition,
    check::{self, Check as DomainCheck},
    routes,
};

use super::scalars::BigInt;

/// What a container is made of and runs.
#[derive(SimpleObject)]
pub(super) struct Definition {
    /// Its root file system, such as `preloaded:<name>`.
    rootfs: String,
    /// Variables of every process in it.
    env: Vec<EnvironmentVariable>,
    /// Runs to its end before the action.
    setup: Option<Action>,
    /// What it is there for.
    action: Action,
    /// What makes it healthy: all of these. None: a living process is healthy.
    checks: Vec<Check>,
    /// How long it may take to become healthy, in milliseconds; 0 is for ever.
    start_timeout_ms: BigInt,
    /// How long it may take to end by itself after SIGTERM, in milliseconds; then comes SIGKILL.
    /// Absent: the cell's default.
    graceful_stop_ms: Option<BigInt>,
    /// Its memory limit in mebibytes; also what is reserved on the cell.
    memory_mb: u32,
    /// What is reserved of the cell's disk, in mebibytes.
    disk_mb: u32,
    /// The most processes and threads in it; 0 is the cell's default.
    max_pids: u32,
    /// Its share of the processor against other containers, from 1 to 100.
    cpu_weight: u32,
    /// The ports it listens on.
    ports: Vec<u16>,
    /// The source that its log lines carry.
    log_source: String,
    /// The tags that a cell must carry to hold it.
    placement_tags: Vec<String>,
    /// The drivers of the volumes that are mounted in it: a cell must have all of them.
    volume_drivers: Vec<String>,
    /// How an instance leaves a cell that is being evacuated.
    update_strategy: UpdateStrategy,
}

/// How an instance is replaced by its next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Enum)]
pub(super) enum UpdateStrategy {
    /// It runs on until the next one is healthy.
    #[default]
    Rolling,
    /// It is stopped first: never two at once on cells that are heard.
    Recreate,
}

impl From<definition::UpdateStrategy> for UpdateStrategy {
    fn from(strategy: definition::UpdateStrategy) -> Self {
        match strategy {
            definition::UpdateStrategy::Rolling => Self::Rolling,
            definition::UpdateStrategy::Recreate => Self::Recreate,
        }
    }
}

impl From<UpdateStrategy> for definition::UpdateStrategy {
    fn from(strategy: UpdateStrategy) -> Self {
        match strategy {
            UpdateStrategy::Rolling => Self::Rolling,
            UpdateStrategy::Recreate => Self::Recreate,
        }
    }
}

impl From<&definition::Definition> for Definition {
    fn from(definition: &definition::Definition) -> Self {
        Self {
            rootfs: definition.rootfs.to_string(),
            env: variables(&definition.env),
            setup: definition.setup.as_ref().map(Action::from),
            action: Action::from(&definition.action),
            checks: definition.check.checks.iter().map(Check::from).collect(),
            start_timeout_ms: BigInt(definition.start_timeout_ms.0),
            graceful_stop_ms: definition.graceful_stop_ms.map(|it| BigInt(it.0)),
            memory_mb: definition.memory_mb.0,
            disk_mb: definition.disk_mb.0,
            max_pids: definition.max_pids,
            cpu_weight: definition.cpu_weight,
            ports: definition.ports.clone(),
            log_source: definition.log_source.clone(),
            placement_tags: definition.placement_tags.clone(),
            volume_drivers: definition.volume_drivers.clone(),
            update_strategy: definition.update_strategy.into(),
        }
    }
}

/// One variable of a process's environment, without its value.
#[derive(SimpleObject)]
pub(super) struct EnvironmentVariable {
    /// Its name.
    name: String,
    /// Whether its value is kept sealed: always.
    sealed: bool,
    /// Equal values of one owner have equal fingerprints; nothing else can be learnt from it.
    fingerprint: String,
}

fn variables(
    environment: &[action::EnvironmentVariable<domain::sealed::Sealed>],
) -> Vec<EnvironmentVariable> {
    environment
        .iter()
        .map(|variable| EnvironmentVariable {
            name: variable.name.clone(),
            sealed: true,
            fingerprint: hex::encode(&variable.value.fingerprint),
        })
        .collect()
}

/// One step of a recipe.
#[derive(Union)]
pub(super) enum Action {
    /// Runs a process to its end.
    Run(RunAction),
    /// Runs actions one after another.
    Serial(SerialAction),
    /// Stops its action when it takes too long.
    Timeout(Box<TimeoutAction>),
}

/// Runs a process to its end.
#[derive(SimpleObject)]
pub(super) struct RunAction {
    /// The executable, as seen inside the container.
    path: String,
    /// Its arguments, without the executable's name.
    args: Vec<String>,
    /// The working directory; the user's home when absent.
    dir: Option<String>,
    /// Variables beside the container's own.
    env: Vec<EnvironmentVariable>,
    /// The user inside the container, by name.
    user: String,
    /// The source that its log lines carry; the definition's when absent.
    log_source: Option<String>,
    /// The most files it may hold open; the cell's default when absent.
    nofile: Option<BigInt>,
}

/// Runs actions one after another; the first failure ends it.
#[derive(SimpleObject)]
pub(super) struct SerialAction {
    /// In the order they run.
    actions: Vec<Action>,
}

/// Stops its action when it takes too long.
#[derive(SimpleObject)]
pub(super) struct TimeoutAction {
    /// What is limited.
    action: Action,
    /// How long it may take, in milliseconds.
    timeout_ms: BigInt,
}

impl From<&action::Action> for Action {
    fn from(action: &action::Action) -> Self {
        match action {
            action::Action::Run(run) => Self::Run(RunAction {
                path: run.path.clone(),
                args: run.args.clone(),
                dir: run.dir.clone(),
                env: variables(&run.env),
                user: run.user.clone(),
                log_source: run.log_source.clone(),
                nofile: run.nofile.map(BigInt),
            }),
            action::Action::Serial(serial) => Self::Serial(SerialAction {
                actions: serial.actions.iter().map(Self::from).collect(),
            }),
            action::Action::Timeout(timeout) => Self::Timeout(Box::new(TimeoutAction {
                action: Self::from(timeout.action.as_ref()),
                timeout_ms: BigInt(timeout.timeout_ms.0),
            })),
        }
    }
}

/// One look at an instance's health.
#[derive(Union)]
pub(super) enum Check {
    /// A TCP connection to a port succeeds.
    Tcp(TcpCheck),
    /// A GET of a path answers with status 200.
    Http(HttpCheck),
}

/// A TCP connection must succeed.
#[derive(SimpleObject)]
pub(super) struct TcpCheck {
    /// The port inside the container.
    port: u16,
    /// The most that one connection may take, in milliseconds.
    timeout_ms: BigInt,
    /// The pause between two probes once healthy, in milliseconds.
    interval_ms: BigInt,
    /// The pause between two probes while it is not healthy, in milliseconds.
    unhealthy_interval_ms: BigInt,
    /// How many probes in a row must fail before a healthy instance is ended.
    failure_threshold: u32,
}

/// A GET must answer 200.
#[derive(SimpleObject)]
pub(super) struct HttpCheck {
    /// The port inside the container.
    port: u16,
    /// The path.
    path: String,
    /// The most that one request may take, in milliseconds.
    timeout_ms: BigInt,
    /// The pause between two probes once healthy, in milliseconds.
    interval_ms: BigInt,
    /// The pause between two probes while it is not healthy, in milliseconds.
    unhealthy_interval_ms: BigInt,
    /// How many probes in a row must fail before a healthy instance is ended.
    failure_threshold: u32,
}

impl From<&check::Check> for Check {
    fn from(check: &DomainCheck) -> Self {
        let port = check.port();
        let timeout_ms = BigInt(check.timeout().0);
        let interval_ms = BigInt(check.interval().0);
        let unhealthy_interval_ms = BigInt(check.unhealthy_interval().0);
        let failure_threshold = check.failure_threshold();
        match check {
            DomainCheck::Tcp(_) => Self::Tcp(TcpCheck {
                port,
                timeout_ms,
                interval_ms,
                unhealthy_interval_ms,
                failure_threshold,
            }),
            DomainCheck::Http(http) => Self::Http(HttpCheck {
                port,
                path: http.path.clone(),
                timeout_ms,
                interval_ms,
                unhealthy_interval_ms,
                failure_threshold,
            }),
        }
    }
}

/// Host names that lead to one port of every running instance.
#[derive(SimpleObject)]
pub(super) struct HttpRoute {
    /// The names.
    hostnames: Vec<String>,
    /// The port inside the container.
    port: u16,
}

impl From<&routes::HttpRoute> for HttpRoute {
    fn from(route: &routes::HttpRoute) -> Self {
        Self {
            hostnames: route.hostnames.iter().map(ToString::to_string).collect(),
            port: route.port,
        }
    }
}
