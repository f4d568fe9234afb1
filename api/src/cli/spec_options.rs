//! A definition by flags instead of a file: what LRPs and tasks have in common, and the flags that
//! only LRPs have.
//!
//! Values of the environment may be secret: no message repeats one.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use domain::{
    action::{Action, EnvironmentVariable, Run},
    bbs::definition::{Definition, InvalidRootfs, Rootfs},
    check::{
        Check, CheckDefinition, HEALTHY_INTERVAL, HttpCheck, PROBE_TIMEOUT, TcpCheck,
        UNHEALTHY_INTERVAL,
    },
    routes::{Hostname, HttpRoute},
    sealed::PlainText,
    units::{Mebibytes, Milliseconds},
};

use super::{Error, lrp_file};

/// What runs, and what it may use.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Definition")]
pub(super) struct DefinitionOptions {
    /// The root file system.
    #[arg(long, default_value = "preloaded:diario", value_parser = parse_rootfs)]
    rootfs: Rootfs,
    /// The memory limit in MiB.
    #[arg(long, default_value_t = 128)]
    memory_mb: u32,
    /// The disk that is reserved, in MiB.
    #[arg(long, default_value_t = 128)]
    disk_mb: u32,
    /// A variable of the environment; its value is sealed. May be given several times; on a shared
    /// machine others may see it while the command runs: use --env-file for secrets.
    #[arg(long = "env", value_name = "NAME=VALUE")]
    env: Vec<String>,
    /// A file of variables, NAME=VALUE on each line; empty lines and those with # are left out.
    #[arg(long, value_name = "FILE")]
    env_file: Option<PathBuf>,
    /// The user inside the container.
    #[arg(long, default_value = "vcap")]
    user: String,
    /// The working directory; the user's home when absent.
    #[arg(long)]
    dir: Option<String>,
    /// A tag that the cell must carry; may be given several times.
    #[arg(long = "placement-tag", value_name = "TAG")]
    placement_tags: Vec<String>,
    /// How long it may take to end by itself after SIGTERM, in milliseconds; then comes SIGKILL.
    /// Absent: the cell's default.
    #[arg(long, value_name = "MS")]
    graceful_stop_ms: Option<u64>,
    /// What to run, behind `--`: the executable inside the container, and its arguments.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

/// How an instance's health is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum HealthCheck {
    /// A TCP connection to the first port.
    Port,
    /// A GET that answers 200, on the first port.
    Http,
    /// Only that the process lives.
    Process,
}

/// What only LRPs have.
#[derive(Debug, Clone, Args)]
#[command(next_help_heading = "Definition")]
pub(super) struct ServingOptions {
    /// A port that it listens on; may be given several times.
    #[arg(long = "port", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
    /// A host name that leads to it: to its first port, or to the one behind the colon. May be
    /// given several times.
    #[arg(long = "route", value_name = "HOST[:PORT]", value_parser = parse_route)]
    routes: Vec<Route>,
    /// What makes it healthy; by default port, or process where it has no port.
    #[arg(long, value_enum)]
    health_check: Option<HealthCheck>,
    /// The path of --health-check http.
    #[arg(long, default_value = "/")]
    health_path: String,
    /// How long it may take to become healthy, in milliseconds; 0 is for ever.
    #[arg(long, default_value_t = 60_000)]
    start_timeout_ms: u64,
    /// How long one probe may take, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = PROBE_TIMEOUT.0)]
    health_timeout_ms: u64,
    /// The pause between two probes once it is healthy, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = HEALTHY_INTERVAL.0)]
    health_interval_ms: u64,
    /// The longest pause between two probes while it is not healthy, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = UNHEALTHY_INTERVAL.0)]
    health_unhealthy_interval_ms: u64,
    /// How many probes in a row must fail before a healthy instance is ended.
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    health_failure_threshold: u32,
    /// It takes requests only while a GET of this path on its first port answers 200; one that does
    /// not takes its routes, and ends nothing.
    #[arg(long, value_name = "PATH")]
    readiness_path: Option<String>,
    /// The pause between two such probes while it is ready, in milliseconds.
    #[arg(long, value_name = "MS", default_value_t = HEALTHY_INTERVAL.0)]
    readiness_interval_ms: u64,
}

/// A route as a flag.
#[derive(Debug, Clone)]
pub(super) struct Route {
    hostname: Hostname,
    port: Option<u16>,
}

fn parse_rootfs(text: &str) -> Result<Rootfs, InvalidRootfs> {
    Rootfs::new(text)
}

fn parse_route(text: &str) -> Result<Route, String> {
    let (name, port) = match text.split_once(':') {
        Some((name, port)) => {
            let port = port.parse().ok().filter(|port| *port > 0);
            (name, Some(port.ok_or("the port must be from 1 to 65535")?))
        }
        None => (text, None),
    };
    let hostname = Hostname::new(name).map_err(|problem| problem.to_string())?;
    Ok(Route { hostname, port })
}

impl DefinitionOptions {
    /// The definition that the flags describe.
    pub(super) fn definition(self) -> Result<Definition<PlainText>, Error> {
        let mut command = self.command.into_iter();
        let Some(path) = command.next() else {
            let problem = "name what to run behind `--`, as in `-- /bin/diario sample-app`";
            return Err(Error::Usage(problem.to_owned()));
        };
        let mut env = Vec::new();
        if let Some(file) = &self.env_file {
            let text = lrp_file::read_text(file)?;
            let found = parse_env_file(&text);
            env = found.map_err(|line| {
                let problem = format!("line {line} must be NAME=VALUE");
                lrp_file::Error::Malformed { path: file.clone(), problem }
            })?;
        }
        for text in &self.env {
            let variable = parse_variable(text);
            env.push(variable.ok_or_else(|| Error::Usage("--env must be NAME=VALUE".to_owned()))?);
        }
        let args = command.collect();
        let run = Run { args, dir: self.dir, ..Run::new(path, self.user) };
        let (memory_mb, disk_mb) = (Mebibytes(self.memory_mb), Mebibytes(self.disk_mb));
        Ok(Definition {
            env,
            graceful_stop_ms: self.graceful_stop_ms.map(Milliseconds),
            placement_tags: self.placement_tags,
            ..Definition::new(self.rootfs, Action::Run(run), memory_mb, disk_mb)
        })
    }
}

impl ServingOptions {
    /// Adds ports and checks to a definition, and gives the routes.
    pub(super) fn serve(
        self,
        definition: &mut Definition<PlainText>,
    ) -> Result<Vec<HttpRoute>, Error> {
        let usage = |text: &str| Error::Usage(text.to_owned());
        let first_port = self.ports.first().copied();
        let kind = self.health_check.unwrap_or(match first_port {
            Some(_) => HealthCheck::Port,
            None => HealthCheck::Process,
        });
        let need_port = |flag: &str| {
            first_port.ok_or_else(|| usage(&format!("{flag} needs a --port to look at")))
        };
        let timeout_ms = Milliseconds(self.health_timeout_ms);
        let interval_ms = Milliseconds(self.health_interval_ms);
        let unhealthy_interval_ms = Milliseconds(self.health_unhealthy_interval_ms);
        let failure_threshold = self.health_failure_threshold;
        let checks = match kind {
            HealthCheck::Process => Vec::new(),
            HealthCheck::Port => vec![Check::Tcp(TcpCheck {
                port: need_port("--health-check")?,
                timeout_ms,
                interval_ms,
                unhealthy_interval_ms,
                failure_threshold,
            })],
            HealthCheck::Http => vec![Check::Http(HttpCheck {
                port: need_port("--health-check")?,
                path: self.health_path,
                timeout_ms,
                interval_ms,
                unhealthy_interval_ms,
                failure_threshold,
            })],
        };
        let ready = |path| {
            let interval_ms = Milliseconds(self.readiness_interval_ms);
            let (port, failure_threshold) = (need_port("--readiness-path")?, 1);
            Ok(Check::Http(HttpCheck {
                port,
                path,
                timeout_ms,
                interval_ms,
                unhealthy_interval_ms,
                failure_threshold,
            }))
        };
        let readiness_checks =
            self.readiness_path.into_iter().map(ready).collect::<Result<_, Error>>()?;
        let route = |route: Route| {
            let port = route.port.or(first_port);
            let port = port.ok_or_else(|| usage("--route needs a --port to lead to"))?;
            Ok(HttpRoute { hostnames: vec![route.hostname], port })
        };
        definition.check =
            Some(CheckDefinition { checks, readiness_checks, ..CheckDefinition::default() });
        definition.start_timeout_ms = Milliseconds(self.start_timeout_ms);
        definition.ports = self.ports;
        self.routes.into_iter().map(route).collect()
    }
}

/// The variables of a file, or the number of the first line that is none, from 1.
fn parse_env_file(text: &str) -> Result<Vec<EnvironmentVariable<PlainText>>, usize> {
    text.lines()
        .enumerate()
        .filter(|(_, line)| !line.trim().is_empty() && !line.trim_start().starts_with('#'))
        .map(|(index, line)| parse_variable(line).ok_or(index + 1))
        .collect()
}

fn parse_variable(text: &str) -> Option<EnvironmentVariable<PlainText>> {
    let (name, value) = text.split_once('=')?;
    let name = name.trim().to_owned();
    (!name.is_empty()).then(|| EnvironmentVariable { name, value: PlainText(value.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn variables_are_read_as_they_stand_and_a_malformed_line_is_named_by_its_number() {
        let read = parse_env_file("# secrets\n\nA=b=c \n EMPTY=\n").unwrap();
        let read: Vec<(&str, &str)> =
            read.iter().map(|it| (it.name.as_str(), it.value.0.as_str())).collect();
        assert_eq!(read, [("A", "b=c "), ("EMPTY", "")]);

        assert_eq!(parse_env_file("A=b\nhunter2"), Err(2));
        assert_eq!(parse_env_file("=hunter2"), Err(1));
    }

    #[test]
    fn a_route_may_name_its_port() {
        let route = parse_route("Web.example.com:8080").unwrap();
        assert_eq!((route.hostname.as_str(), route.port), ("web.example.com", Some(8080)));
        assert_eq!(parse_route("web").unwrap().port, None);

        for text in ["", "a b", "web:", "web:0", "web:65536", "web:x"] {
            assert!(parse_route(text).is_err(), "{text}");
        }
    }
}
