//! Actions as clients write them.

use async_graphql::{InputObject, OneofObject};
use domain::{
    action::{
        Action, Checksum, Codependent, Download, EmitProgress, EnvironmentVariable, File, Parallel,
        Run, Serial, Timeout, Try, Upload,
    },
    sealed::PlainText,
    units::Milliseconds,
};

use super::Faults;
use crate::graphql::kinds::ChecksumAlgorithm;

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
    /// Unpacks an archive into the container.
    Download(DownloadActionInput),
    /// Sends a file of the container.
    Upload(UploadActionInput),
    /// Runs actions at once, and waits for all of them even when one fails.
    Parallel(ParallelActionInput),
    /// Runs actions at once; the first that ends, however it does, ends all.
    Codependent(CodependentActionInput),
    /// Tells in the log how its action goes.
    EmitProgress(Box<EmitProgressActionInput>),
    /// Does not care whether its action fails.
    Try(Box<TryActionInput>),
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
    /// The most processes of its user: kept, and without effect.
    nproc: Option<i64>,
    /// Whether what it writes is kept out of the log.
    #[graphql(default)]
    suppress_log_output: bool,
    /// Files that are there when it runs.
    #[graphql(default)]
    volume_mounted_files: Vec<FileInput>,
}

/// Runs actions one after another; the first failure ends it.
#[derive(InputObject)]
pub(super) struct SerialActionInput {
    /// In the order they run.
    actions: Vec<ActionInput>,
    /// The source of its log lines.
    log_source: Option<String>,
}

/// Runs actions at once, and waits for all of them even when one fails.
#[derive(InputObject)]
pub(super) struct ParallelActionInput {
    /// In no order.
    actions: Vec<ActionInput>,
    /// The source of its log lines.
    log_source: Option<String>,
}

/// Runs actions at once; the first that ends, however it does, ends all.
#[derive(InputObject)]
pub(super) struct CodependentActionInput {
    /// In no order.
    actions: Vec<ActionInput>,
    /// The source of its log lines.
    log_source: Option<String>,
}

/// Does not care whether its action fails.
#[derive(InputObject)]
pub(super) struct TryActionInput {
    /// What is tried.
    action: ActionInput,
    /// The source of its log lines.
    log_source: Option<String>,
}

/// Tells in the log how its action goes.
#[derive(InputObject)]
pub(super) struct EmitProgressActionInput {
    /// What is told of.
    action: ActionInput,
    /// Told before it; empty for nothing.
    #[graphql(default)]
    start_message: String,
    /// Told when it succeeded; empty for nothing.
    #[graphql(default)]
    success_message: String,
    /// Told with what went wrong when it failed; empty for nothing.
    #[graphql(default)]
    failure_message_prefix: String,
    /// The source of these lines; the definition's when absent.
    log_source: Option<String>,
}

/// What the bytes of something must be.
#[derive(InputObject)]
pub(super) struct ChecksumInput {
    /// How it is computed.
    algorithm: ChecksumAlgorithm,
    /// Its hexadecimal digits, as many as the algorithm has.
    value: String,
}

/// Unpacks an archive (tar, gzipped tar or zip) into the container.
#[derive(InputObject)]
pub(super) struct DownloadActionInput {
    /// What it is called in the log; empty: nothing is told of it.
    #[graphql(default)]
    artifact: String,
    /// Its URL: http or https. It is sealed, and never shown again.
    #[graphql(secret)]
    from: String,
    /// The folder inside the container.
    to: String,
    /// By what the cell keeps it for the next one; empty: not at all.
    #[graphql(default)]
    cache_key: String,
    /// The source that its log lines carry; the definition's when absent.
    log_source: Option<String>,
    /// Whose its files are, by name.
    user: String,
    /// What it must be.
    checksum: Option<ChecksumInput>,
}

/// Sends a file of the container by a POST.
#[derive(InputObject)]
pub(super) struct UploadActionInput {
    /// What it is called in the log; empty: nothing is told of it.
    #[graphql(default)]
    artifact: String,
    /// The file inside the container.
    from: String,
    /// The URL that takes it: http or https. It is sealed, and never shown again.
    #[graphql(secret)]
    to: String,
    /// The source that its log lines carry; the definition's when absent.
    log_source: Option<String>,
    /// As whom it is read, by name.
    user: String,
}

/// A file that is put into the container.
#[derive(InputObject)]
pub(super) struct FileInput {
    /// Where: relative to the folder of such files, without `..`.
    path: String,
    /// What is in it. It is sealed, and never shown again.
    #[graphql(secret)]
    content: String,
}

/// Stops its action when it takes too long.
#[derive(InputObject)]
pub(super) struct TimeoutActionInput {
    /// What is limited.
    action: ActionInput,
    /// How long it may take, in milliseconds.
    timeout_ms: i64,
    /// The source of its log lines.
    log_source: Option<String>,
}

pub(super) fn variables(
    environment: Vec<EnvironmentVariableInput>,
) -> Vec<EnvironmentVariable<PlainText>> {
    let read = |variable: EnvironmentVariableInput| EnvironmentVariable {
        name: variable.name,
        value: PlainText(variable.value),
    };
    environment.into_iter().map(read).collect()
}

pub(super) fn files(files: Vec<FileInput>) -> Vec<File<PlainText>> {
    let read = |file: FileInput| File { path: file.path, content: PlainText(file.content) };
    files.into_iter().map(read).collect()
}

impl ChecksumInput {
    /// The same as the domain's; `None` when a fault was noted.
    pub(super) fn read(self, path: &str, faults: &mut Faults) -> Option<Checksum> {
        faults.parsed(path, Checksum::new(self.algorithm.into(), &self.value))
    }
}

impl ActionInput {
    /// The same as the domain's; `None` when a fault was noted.
    pub(super) fn read(self, path: &str, faults: &mut Faults) -> Option<Action<PlainText>> {
        match self {
            Self::Run(run) => run.read(&format!("{path}.run"), faults).map(Action::Run),
            Self::Download(download) => {
                download.read(&format!("{path}.download"), faults).map(Action::Download)
            }
            Self::Upload(upload) => Some(Action::Upload(Upload {
                artifact: upload.artifact,
                from: upload.from,
                to: PlainText(upload.to),
                log_source: upload.log_source,
                user: upload.user,
            })),
            Self::Serial(SerialActionInput { actions, log_source }) => {
                let actions = list(actions, &format!("{path}.serial.actions"), faults)?;
                Some(Action::Serial(Serial { actions, log_source }))
            }
            Self::Parallel(ParallelActionInput { actions, log_source }) => {
                let actions = list(actions, &format!("{path}.parallel.actions"), faults)?;
                Some(Action::Parallel(Parallel { actions, log_source }))
            }
            Self::Codependent(CodependentActionInput { actions, log_source }) => {
                let actions = list(actions, &format!("{path}.codependent.actions"), faults)?;
                Some(Action::Codependent(Codependent { actions, log_source }))
            }
            Self::Timeout(timeout) => {
                let TimeoutActionInput { action, timeout_ms, log_source } = *timeout;
                let timeout_ms = faults.number(&format!("{path}.timeout.timeoutMs"), timeout_ms);
                let action = action.read(&format!("{path}.timeout.action"), faults)?;
                Some(Action::Timeout(Timeout {
                    action: Box::new(action),
                    timeout_ms: Milliseconds(timeout_ms?),
                    log_source,
                }))
            }
            Self::EmitProgress(progress) => {
                let action =
                    progress.action.read(&format!("{path}.emitProgress.action"), faults)?;
                Some(Action::EmitProgress(EmitProgress {
                    action: Box::new(action),
                    start_message: progress.start_message,
                    success_message: progress.success_message,
                    failure_message_prefix: progress.failure_message_prefix,
                    log_source: progress.log_source,
                }))
            }
            Self::Try(tried) => {
                let action = tried.action.read(&format!("{path}.try.action"), faults)?;
                let log_source = tried.log_source;
                Some(Action::Try(Try { action: Box::new(action), log_source }))
            }
        }
    }
}

fn list(
    actions: Vec<ActionInput>,
    path: &str,
    faults: &mut Faults,
) -> Option<Vec<Action<PlainText>>> {
    faults.each(path, actions, ActionInput::read)
}

impl RunActionInput {
    fn read(self, path: &str, faults: &mut Faults) -> Option<Run<PlainText>> {
        let number = |number, path: &str, faults: &mut Faults| faults.number(path, number);
        let nofile = faults.optional(&format!("{path}.nofile"), self.nofile, number);
        let nproc = faults.optional(&format!("{path}.nproc"), self.nproc, number);
        Some(Run {
            path: self.path,
            args: self.args,
            dir: self.dir,
            env: variables(self.env),
            user: self.user,
            log_source: self.log_source,
            nofile: nofile?,
            nproc: nproc?,
            suppress_log_output: self.suppress_log_output,
            volume_mounted_files: files(self.volume_mounted_files),
        })
    }
}

impl DownloadActionInput {
    fn read(self, path: &str, faults: &mut Faults) -> Option<Download<PlainText>> {
        let path = format!("{path}.checksum");
        let checksum = faults.optional(&path, self.checksum, ChecksumInput::read);
        Some(Download {
            artifact: self.artifact,
            from: PlainText(self.from),
            to: self.to,
            cache_key: self.cache_key,
            log_source: self.log_source,
            user: self.user,
            checksum: checksum?,
        })
    }
}
