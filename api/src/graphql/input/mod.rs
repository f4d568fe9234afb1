//! What clients write, turned into the domain's own specifications.
//!
//! Only the shape is looked at here, each fault with the path that the client knows; whether the
//! values make sense is for the domain to say. Nothing here can be printed: it may hold secrets.

mod faults;

use async_graphql::{InputObject, OneofObject};
use domain::{
    action::{self, EnvironmentVariable},
    bbs::{
        definition::{self, Rootfs},
        desired_lrp,
        restart_policy::RestartPolicy,
        task,
    },
    check, routes,
    sealed::PlainText,
    units::{Mebibytes, Milliseconds},
};

use super::{
    definition::UpdateStrategy,
    labels::{MetricTagInput, internal_routes_of, tags_of},
    restart_policy::RestartPolicyInput,
};
pub(super) use faults::{Faults, of_spec, of_update};

/// A desired LRP as a client writes it.
#[derive(InputObject)]
pub(super) struct DesiredLrpInput {
    /// Its guid: letters, digits, `-` and `_`, at most 255 bytes.
    process_guid: String,
    /// Who vouches for it.
    #[graphql(default = "default")]
    domain: String,
    /// How many instances.
    #[graphql(default = 1)]
    instances: i64,
    /// Which routes lead to it.
    #[graphql(default)]
    routes: Vec<HttpRouteInput>,
    /// Any text of the client's, at most 10 KiB.
    #[graphql(default)]
    annotation: String,
    /// What follows an instance's end; absent: as its freshness domain says, or Diego's rule.
    restart: Option<RestartPolicyInput>,
    /// Names inside of the platform's network that stand for its running instances.
    #[graphql(default)]
    internal_routes: Vec<String>,
    /// What its lines and samples are tagged with.
    #[graphql(default)]
    metric_tags: Vec<MetricTagInput>,
    /// What runs.
    definition: DefinitionInput,
}

/// A task as a client writes it.
#[derive(InputObject)]
pub(super) struct TaskInput {
    /// Its guid: letters, digits, `-` and `_`, at most 255 bytes.
    task_guid: String,
    /// Who asks.
    #[graphql(default = "default")]
    domain: String,
    /// Any text of the client's, at most 10 KiB.
    #[graphql(default)]
    annotation: String,
    /// Who is told of its end, by a POST of JSON: an http or https URL. It is sealed, and never shown
    /// again.
    #[graphql(secret)]
    completion_callback_url: Option<String>,
    /// What runs; a task has no checks.
    definition: DefinitionInput,
}

/// What a container is made of and runs.
#[derive(InputObject)]
pub(super) struct DefinitionInput {
    /// Its root file system, such as `preloaded:<name>`.
    rootfs: String,
    /// Variables of every process in it.
    #[graphql(default)]
    env: Vec<EnvironmentVariableInput>,
    /// Runs to its end before the action.
    setup: Option<ActionInput>,
    /// What it is there for.
    action: ActionInput,
    /// What makes it healthy: all of these. None: a living process is healthy.
    #[graphql(default)]
    checks: Vec<CheckInput>,
    /// How long it may take to become healthy, in milliseconds; 0 is for ever.
    #[graphql(default = 60_000)]
    start_timeout_ms: i64,
    /// How long it may take to end by itself after SIGTERM, in milliseconds, at most an hour; then
    /// comes SIGKILL. Absent: the cell's default.
    graceful_stop_ms: Option<i64>,
    /// Its memory limit in mebibytes; also what is reserved on the cell.
    memory_mb: i64,
    /// What is reserved of the cell's disk, in mebibytes.
    disk_mb: i64,
    /// The most processes and threads in it; 0 is the cell's default.
    #[graphql(default)]
    max_pids: i64,
    /// Its share of the processor against other containers, from 1 to 100.
    #[graphql(default = 100)]
    cpu_weight: i64,
    /// The ports it listens on.
    #[graphql(default)]
    ports: Vec<i64>,
    /// The source that its log lines carry.
    #[graphql(default = "APP")]
    log_source: String,
    /// The tags that a cell must carry to hold it.
    #[graphql(default)]
    placement_tags: Vec<String>,
    /// The drivers of the volumes that are mounted in it: a cell must have all of them.
    #[graphql(default)]
    volume_drivers: Vec<String>,
    /// How an instance leaves a cell that is being evacuated.
    #[graphql(default)]
    update_strategy: UpdateStrategy,
}

/// One variable of a process's environment.
#[derive(InputObject)]
pub(super) struct EnvironmentVariableInput {
    /// Its name: not empty, without `=`.
    name: String,
    /// Its value. It is sealed, and never shown again.
    #[graphql(secret)]
    value: String,
}

/// One step of a recipe: exactly one of these.
#[derive(OneofObject)]
pub(super) enum ActionInput {
    /// Runs a process to its end.
    Run(RunActionInput),
    /// Runs actions one after another; the first failure ends it.
    Serial(SerialActionInput),
    /// Stops its action when it takes too long.
    Timeout(Box<TimeoutActionInput>),
}

/// Runs a process to its end.
#[derive(InputObject)]
pub(super) struct RunActionInput {
    /// The executable, as seen inside the container.
    path: String,
    /// Its arguments, without the executable's name.
    #[graphql(default)]
    args: Vec<String>,
    /// The working directory; the user's home when absent.
    dir: Option<String>,
    /// Variables beside the container's own.
    #[graphql(default)]
    env: Vec<EnvironmentVariableInput>,
    /// The user inside the container, by name.
    user: String,
    /// The source that its log lines carry; the definition's when absent.
    log_source: Option<String>,
    /// The most files it may hold open; the cell's default when absent.
    nofile: Option<i64>,
}

/// Runs actions one after another; the first failure ends it.
#[derive(InputObject)]
pub(super) struct SerialActionInput {
    /// In the order they run.
    actions: Vec<ActionInput>,
}

/// Stops its action when it takes too long.
#[derive(InputObject)]
pub(super) struct TimeoutActionInput {
    /// What is limited.
    action: ActionInput,
    /// How long it may take, in milliseconds.
    timeout_ms: i64,
}

/// One look at an instance's health: exactly one of these.
#[derive(OneofObject)]
pub(super) enum CheckInput {
    /// A TCP connection to a port succeeds.
    Tcp(TcpCheckInput),
    /// A GET of a path answers with status 200.
    Http(HttpCheckInput),
}

/// A TCP connection must succeed.
#[derive(InputObject)]
pub(super) struct TcpCheckInput {
    /// The port inside the container.
    port: i64,
    /// The most that one connection may take, in milliseconds; 0 is a second.
    #[graphql(default)]
    timeout_ms: i64,
    /// The pause between two probes once healthy, in milliseconds; 0 is 30 seconds.
    #[graphql(default)]
    interval_ms: i64,
    /// The longest pause between two probes before it is healthy, and the pause after one that failed
    /// later, in milliseconds; 0 is 2 seconds.
    #[graphql(default)]
    unhealthy_interval_ms: i64,
    /// How many probes in a row must fail before a healthy instance is ended, from 1 to 1,000.
    #[graphql(default = 1)]
    failure_threshold: i64,
}

/// A GET must answer 200.
#[derive(InputObject)]
pub(super) struct HttpCheckInput {
    /// The port inside the container.
    port: i64,
    /// The path, beginning with `/`.
    #[graphql(default = "/")]
    path: String,
    /// The most that one request may take, in milliseconds; 0 is a second.
    #[graphql(default)]
    timeout_ms: i64,
    /// The pause between two probes once healthy, in milliseconds; 0 is 30 seconds.
    #[graphql(default)]
    interval_ms: i64,
    /// The longest pause between two probes before it is healthy, and the pause after one that failed
    /// later, in milliseconds; 0 is 2 seconds.
    #[graphql(default)]
    unhealthy_interval_ms: i64,
    /// How many probes in a row must fail before a healthy instance is ended, from 1 to 1,000.
    #[graphql(default = 1)]
    failure_threshold: i64,
}

/// Host names that lead to one port of every running instance.
#[derive(InputObject)]
pub(super) struct HttpRouteInput {
    /// The names.
    hostnames: Vec<String>,
    /// The port inside the container.
    port: i64,
}

impl DesiredLrpInput {
    /// The same as the domain's specification; `None` when a fault was noted.
    pub(super) fn read(self, faults: &mut Faults) -> Option<desired_lrp::Spec> {
        let process_guid = faults.id("spec.processGuid", &self.process_guid);
        let domain = faults.id("spec.domain", &self.domain);
        let instances = faults.number("spec.instances", self.instances);
        let routes = routes_of(self.routes, "spec.routes", faults);
        let restart = restart_of(self.restart, "spec.restart", faults);
        let internal_routes =
            internal_routes_of(self.internal_routes, "spec.internalRoutes", faults);
        let metric_tags = tags_of(self.metric_tags, "spec.metricTags", faults);
        let definition = self.definition.read("spec.definition", faults);
        Some(desired_lrp::Spec {
            process_guid: process_guid?,
            domain: domain?,
            instances: instances?,
            routes: routes?,
            annotation: self.annotation,
            restart: restart?,
            internal_routes: internal_routes?,
            metric_tags: metric_tags?,
            definition: definition?,
        })
    }
}

/// A policy, where there is one, as the domain has it; `None` when a fault was noted.
pub(super) fn restart_of(
    restart: Option<RestartPolicyInput>,
    path: &str,
    faults: &mut Faults,
) -> Option<Option<RestartPolicy>> {
    match restart {
        Some(restart) => restart.read(path, faults).map(Some),
        None => Some(None),
    }
}

impl TaskInput {
    /// The same as the domain's specification; `None` when a fault was noted.
    pub(super) fn read(self, faults: &mut Faults) -> Option<task::Spec> {
        let task_guid = faults.id("spec.taskGuid", &self.task_guid);
        let domain = faults.id("spec.domain", &self.domain);
        let definition = self.definition.read("spec.definition", faults);
        Some(task::Spec {
            task_guid: task_guid?,
            domain: domain?,
            annotation: self.annotation,
            completion_callback_url: self.completion_callback_url.map(PlainText),
            definition: definition?,
        })
    }
}

/// Routes as the domain has them; `None` when a fault was noted.
pub(super) fn routes_of(
    routes: Vec<HttpRouteInput>,
    path: &str,
    faults: &mut Faults,
) -> Option<Vec<routes::HttpRoute>> {
    faults.each(path, routes, |route, path, faults| {
        let hostnames =
            faults.each(&format!("{path}.hostnames"), route.hostnames, |name, path, faults| {
                faults.parsed(path, routes::Hostname::new(&name))
            });
        let port = faults.number(&format!("{path}.port"), route.port);
        Some(routes::HttpRoute { hostnames: hostnames?, port: port? })
    })
}

impl DefinitionInput {
    fn read(self, path: &str, faults: &mut Faults) -> Option<definition::Definition<PlainText>> {
        let at = |name: &str| format!("{path}.{name}");
        let rootfs = faults.parsed(&at("rootfs"), Rootfs::new(&self.rootfs));
        let setup_path = at("setup");
        let setup = match self.setup {
            Some(setup) => setup.read(&setup_path, faults).map(Some),
            None => Some(None),
        };
        let action = self.action.read(&at("action"), faults);
        let checks = faults.each(&at("checks"), self.checks, CheckInput::read);
        let start_timeout_ms = faults.number(&at("startTimeoutMs"), self.start_timeout_ms);
        let graceful_stop_ms = match self.graceful_stop_ms {
            Some(span) => faults.number(&at("gracefulStopMs"), span).map(Milliseconds).map(Some),
            None => Some(None),
        };
        let memory_mb = faults.number(&at("memoryMb"), self.memory_mb);
        let disk_mb = faults.number(&at("diskMb"), self.disk_mb);
        let max_pids = faults.number(&at("maxPids"), self.max_pids);
        let cpu_weight = faults.number(&at("cpuWeight"), self.cpu_weight);
        let ports =
            faults.each(&at("ports"), self.ports, |port, path, faults| faults.number(path, port));
        Some(definition::Definition {
            rootfs: rootfs?,
            env: variables(self.env),
            setup: setup?,
            action: action?,
            check: check::CheckDefinition { checks: checks? },
            start_timeout_ms: Milliseconds(start_timeout_ms?),
            graceful_stop_ms: graceful_stop_ms?,
            memory_mb: Mebibytes(memory_mb?),
            disk_mb: Mebibytes(disk_mb?),
            max_pids: max_pids?,
            cpu_weight: cpu_weight?,
            ports: ports?,
            log_source: self.log_source,
            placement_tags: self.placement_tags,
            volume_drivers: self.volume_drivers,
            update_strategy: self.update_strategy.into(),
        })
    }
}

fn variables(environment: Vec<EnvironmentVariableInput>) -> Vec<EnvironmentVariable<PlainText>> {
    let read = |variable: EnvironmentVariableInput| EnvironmentVariable {
        name: variable.name,
        value: PlainText(variable.value),
    };
    environment.into_iter().map(read).collect()
}

impl ActionInput {
    fn read(self, path: &str, faults: &mut Faults) -> Option<action::Action<PlainText>> {
        match self {
            Self::Run(run) => {
                let nofile = match run.nofile {
                    Some(nofile) => faults.number(&format!("{path}.run.nofile"), nofile).map(Some),
                    None => Some(None),
                };
                Some(action::Action::Run(action::Run {
                    path: run.path,
                    args: run.args,
                    dir: run.dir,
                    env: variables(run.env),
                    user: run.user,
                    log_source: run.log_source,
                    nofile: nofile?,
                }))
            }
            Self::Serial(serial) => {
                let path = format!("{path}.serial.actions");
                let actions = faults.each(&path, serial.actions, Self::read)?;
                Some(action::Action::Serial(action::Serial { actions }))
            }
            Self::Timeout(timeout) => {
                let timeout_ms =
                    faults.number(&format!("{path}.timeout.timeoutMs"), timeout.timeout_ms);
                let action = timeout.action.read(&format!("{path}.timeout.action"), faults)?;
                Some(action::Action::Timeout(action::Timeout {
                    action: Box::new(action),
                    timeout_ms: Milliseconds(timeout_ms?),
                }))
            }
        }
    }
}

impl CheckInput {
    fn read(self, path: &str, faults: &mut Faults) -> Option<check::Check> {
        match self {
            Self::Tcp(tcp) => {
                let at = |name: &str| format!("{path}.tcp.{name}");
                let port = faults.number(&at("port"), tcp.port);
                let timeout_ms = faults.number(&at("timeoutMs"), tcp.timeout_ms);
                let interval_ms = faults.number(&at("intervalMs"), tcp.interval_ms);
                let unhealthy =
                    faults.number(&at("unhealthyIntervalMs"), tcp.unhealthy_interval_ms);
                let threshold = faults.number(&at("failureThreshold"), tcp.failure_threshold);
                Some(check::Check::Tcp(check::TcpCheck {
                    port: port?,
                    timeout_ms: Milliseconds(timeout_ms?),
                    interval_ms: Milliseconds(interval_ms?),
                    unhealthy_interval_ms: Milliseconds(unhealthy?),
                    failure_threshold: threshold?,
                }))
            }
            Self::Http(http) => {
                let at = |name: &str| format!("{path}.http.{name}");
                let port = faults.number(&at("port"), http.port);
                let timeout_ms = faults.number(&at("timeoutMs"), http.timeout_ms);
                let interval_ms = faults.number(&at("intervalMs"), http.interval_ms);
                let unhealthy =
                    faults.number(&at("unhealthyIntervalMs"), http.unhealthy_interval_ms);
                let threshold = faults.number(&at("failureThreshold"), http.failure_threshold);
                Some(check::Check::Http(check::HttpCheck {
                    port: port?,
                    path: http.path,
                    timeout_ms: Milliseconds(timeout_ms?),
                    interval_ms: Milliseconds(interval_ms?),
                    unhealthy_interval_ms: Milliseconds(unhealthy?),
                    failure_threshold: threshold?,
                }))
            }
        }
    }
}
