//! What a container runs: the recipe, as Diego's action tree.
//!
//! `V` is how secret values are held: [`Sealed`] in the log, [`PlainText`] at the edges. The other
//! actions of Diego (Download, Upload, Parallel, Codependent, EmitProgress, Try) are not here yet.

use serde::{Deserialize, Serialize};

use crate::{
    invalid::{Invalid, InvalidField, field},
    sealed::{PlainText, Sealed},
    units::Milliseconds,
};

/// How many actions one recipe may hold in all.
pub const ACTIONS_MAX: usize = 100;
/// How deep actions may be nested.
pub const ACTION_DEPTH_MAX: usize = 16;
/// How many bytes a path, an argument or a value of the environment may have.
pub const TEXT_BYTES_MAX: usize = 128 * 1024;
/// How many bytes the name of a log source may have.
pub(crate) const LOG_SOURCE_BYTES_MAX: usize = 255;
/// How many variables or arguments one list may have.
pub const LIST_MAX: usize = 1000;

/// One variable of a process's environment. Its value is treated as secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnvironmentVariable<V> {
    /// Its name: not empty, without `=` and NUL.
    pub name: String,
    /// Its value; never interpolated.
    pub value: V,
}

/// One step of a recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action<V = Sealed> {
    /// Runs a process to its end.
    Run(Run<V>),
    /// Runs actions one after another; the first failure ends it.
    Serial(Serial<V>),
    /// Stops its action when it takes too long.
    Timeout(Timeout<V>),
}

/// A process to run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run<V = Sealed> {
    /// The executable, as seen inside the container.
    pub path: String,
    /// Its arguments, without the executable's name.
    #[serde(default = "Vec::new")]
    pub args: Vec<String>,
    /// The working directory; the user's home when absent.
    #[serde(default)]
    pub dir: Option<String>,
    /// Variables beside the container's own.
    #[serde(default = "Vec::new")]
    pub env: Vec<EnvironmentVariable<V>>,
    /// The user inside the container, by name.
    pub user: String,
    /// The source that its log lines carry; the definition's when absent.
    #[serde(default)]
    pub log_source: Option<String>,
    /// The most files it may hold open; the cell's default when absent.
    #[serde(default)]
    pub nofile: Option<u64>,
}

/// Actions in a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Serial<V = Sealed> {
    /// In the order they run.
    pub actions: Vec<Action<V>>,
}

/// An action with a time limit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timeout<V = Sealed> {
    /// What is limited.
    pub action: Box<Action<V>>,
    /// How long it may take, in milliseconds; more than 0.
    pub timeout_ms: Milliseconds,
}

impl<V> Action<V> {
    /// The same recipe with every secret value changed by `map`.
    ///
    /// # Errors
    /// The first error of `map`.
    pub fn try_map<W, E>(&self, map: &mut impl FnMut(&V) -> Result<W, E>) -> Result<Action<W>, E> {
        Ok(match self {
            Self::Run(run) => Action::Run(Run {
                path: run.path.clone(),
                args: run.args.clone(),
                dir: run.dir.clone(),
                env: try_map_environment(&run.env, map)?,
                user: run.user.clone(),
                log_source: run.log_source.clone(),
                nofile: run.nofile,
            }),
            Self::Serial(serial) => Action::Serial(Serial {
                actions: serial
                    .actions
                    .iter()
                    .map(|action| action.try_map(map))
                    .collect::<Result<_, E>>()?,
            }),
            Self::Timeout(timeout) => Action::Timeout(Timeout {
                action: Box::new(timeout.action.try_map(map)?),
                timeout_ms: timeout.timeout_ms,
            }),
        })
    }
}

/// The same variables with every value changed by `map`.
///
/// # Errors
/// The first error of `map`.
pub fn try_map_environment<V, W, E>(
    environment: &[EnvironmentVariable<V>],
    map: &mut impl FnMut(&V) -> Result<W, E>,
) -> Result<Vec<EnvironmentVariable<W>>, E> {
    environment
        .iter()
        .map(|variable| {
            Ok(EnvironmentVariable { name: variable.name.clone(), value: map(&variable.value)? })
        })
        .collect()
}

/// Says what is wrong with a recipe from outside, field by field.
pub(crate) fn check(action: &Action<PlainText>, path: &str, invalid: &mut Invalid) {
    let mut left = ACTIONS_MAX;
    check_within(action, path, ACTION_DEPTH_MAX, &mut left, invalid);
}

fn check_within(
    action: &Action<PlainText>,
    path: &str,
    depth_left: usize,
    left: &mut usize,
    invalid: &mut Invalid,
) {
    if depth_left == 0 || *left == 0 {
        let problem = format!(
            "must hold at most {ACTIONS_MAX} actions, nested at most {ACTION_DEPTH_MAX} deep"
        );
        invalid.push(InvalidField::new(path, problem));
        return;
    }
    *left -= 1;
    match action {
        Action::Run(run) => check_run(run, &field(path, "run"), invalid),
        Action::Serial(serial) => {
            let path = field(path, "serial.actions");
            if serial.actions.is_empty() {
                invalid.push(InvalidField::new(&path, "must hold at least one action"));
            }
            for (index, action) in serial.actions.iter().enumerate() {
                check_within(action, &format!("{path}[{index}]"), depth_left - 1, left, invalid);
            }
        }
        Action::Timeout(timeout) => {
            if timeout.timeout_ms.0 == 0 {
                let path = field(path, "timeout.timeout_ms");
                invalid.push(InvalidField::new(&path, "must be more than 0"));
            }
            let path = field(path, "timeout.action");
            check_within(&timeout.action, &path, depth_left - 1, left, invalid);
        }
    }
}

fn check_run(run: &Run<PlainText>, path: &str, invalid: &mut Invalid) {
    invalid.text(&field(path, "path"), &run.path, TEXT_BYTES_MAX);
    invalid.text(&field(path, "user"), &run.user, 255);
    invalid.at_most(&field(path, "args"), run.args.len(), LIST_MAX);
    for (index, argument) in run.args.iter().enumerate() {
        invalid.without_nul(&format!("{path}.args[{index}]"), argument, TEXT_BYTES_MAX);
    }
    if let Some(dir) = &run.dir {
        invalid.text(&field(path, "dir"), dir, TEXT_BYTES_MAX);
    }
    if let Some(log_source) = &run.log_source {
        invalid.text(&field(path, "log_source"), log_source, LOG_SOURCE_BYTES_MAX);
    }
    if run.nofile == Some(0) {
        invalid.push(InvalidField::new(&field(path, "nofile"), "must be more than 0"));
    }
    check_environment(&run.env, &field(path, "env"), invalid);
}

/// Says what is wrong with an environment from outside, variable by variable.
pub(crate) fn check_environment(
    environment: &[EnvironmentVariable<PlainText>],
    path: &str,
    invalid: &mut Invalid,
) {
    invalid.at_most(path, environment.len(), LIST_MAX);
    for (index, variable) in environment.iter().enumerate() {
        let path = format!("{path}[{index}]");
        invalid.text(&field(&path, "name"), &variable.name, 1024);
        if variable.name.contains('=') {
            invalid.push(InvalidField::new(&field(&path, "name"), "must not hold '='"));
        }
        invalid.without_nul(&field(&path, "value"), &variable.value.0, TEXT_BYTES_MAX);
    }
}
