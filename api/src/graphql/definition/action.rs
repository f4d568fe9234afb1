//! Actions as clients see them.

use async_graphql::{SimpleObject, Union};
use domain::{action, sealed::Sealed};

use crate::graphql::{kinds::ChecksumAlgorithm, scalars::BigInt};

/// One step of a recipe.
#[derive(Union)]
pub(super) enum Action {
    /// Runs a process to its end.
    Run(RunAction),
    /// Runs actions one after another.
    Serial(SerialAction),
    /// Stops its action when it takes too long.
    Timeout(Box<TimeoutAction>),
    /// Unpacks an archive into the container.
    Download(DownloadAction),
    /// Sends a file of the container.
    Upload(UploadAction),
    /// Runs actions at once, and waits for all of them even when one fails.
    Parallel(ParallelAction),
    /// Runs actions at once; the first that ends ends all.
    Codependent(CodependentAction),
    /// Tells in the log how its action goes.
    EmitProgress(Box<EmitProgressAction>),
    /// Does not care whether its action fails.
    Try(Box<TryAction>),
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
    /// The most processes of its user: without effect.
    nproc: Option<BigInt>,
    /// Whether what it writes is kept out of the log.
    suppress_log_output: bool,
    /// Files that are there when it runs.
    volume_mounted_files: Vec<File>,
}

/// Unpacks an archive into the container.
#[derive(SimpleObject)]
pub(super) struct DownloadAction {
    /// What it is called in the log.
    artifact: String,
    /// Its URL, which is never shown.
    from: SealedText,
    /// The folder inside the container.
    to: String,
    /// By what the cell keeps it for the next one; empty: not at all.
    cache_key: String,
    /// The source that its log lines carry; the definition's when absent.
    log_source: Option<String>,
    /// Whose its files are, by name.
    user: String,
    /// What it must be.
    checksum: Option<Checksum>,
}

/// Sends a file of the container.
#[derive(SimpleObject)]
pub(super) struct UploadAction {
    /// What it is called in the log.
    artifact: String,
    /// The file inside the container.
    from: String,
    /// The URL that takes it, which is never shown.
    to: SealedText,
    /// The source that its log lines carry; the definition's when absent.
    log_source: Option<String>,
    /// As whom it is read, by name.
    user: String,
}

/// What the bytes of something must be.
#[derive(SimpleObject)]
pub(super) struct Checksum {
    /// How it is computed.
    algorithm: ChecksumAlgorithm,
    /// Its hexadecimal digits.
    value: String,
}

/// A file that is put into the container.
#[derive(SimpleObject)]
pub(super) struct File {
    /// Where, relative to the folder of such files.
    path: String,
    /// What is in it, which is never shown.
    content: SealedText,
}

/// A secret that is never shown.
#[derive(SimpleObject)]
pub(super) struct SealedText {
    /// Whether it is kept sealed: always.
    sealed: bool,
    /// Equal values of one owner have equal fingerprints; nothing else can be learnt from it.
    fingerprint: String,
}

/// Runs actions at once, and waits for all of them even when one fails.
#[derive(SimpleObject)]
pub(super) struct ParallelAction {
    /// In no order.
    actions: Vec<Action>,
    /// The source of its log lines.
    log_source: Option<String>,
}

/// Runs actions at once; the first that ends, however it does, ends all.
#[derive(SimpleObject)]
pub(super) struct CodependentAction {
    /// In no order.
    actions: Vec<Action>,
    /// The source of its log lines.
    log_source: Option<String>,
}

/// Tells in the log how its action goes.
#[derive(SimpleObject)]
pub(super) struct EmitProgressAction {
    /// What is told of.
    action: Action,
    /// Told before it.
    start_message: String,
    /// Told when it succeeded.
    success_message: String,
    /// Told with what went wrong when it failed.
    failure_message_prefix: String,
    /// The source of these lines; the definition's when absent.
    log_source: Option<String>,
}

/// Does not care whether its action fails.
#[derive(SimpleObject)]
pub(super) struct TryAction {
    /// What is tried.
    action: Action,
    /// The source of its log lines.
    log_source: Option<String>,
}

/// Runs actions one after another; the first failure ends it.
#[derive(SimpleObject)]
pub(super) struct SerialAction {
    /// In the order they run.
    actions: Vec<Action>,
    /// The source of its log lines.
    log_source: Option<String>,
}

/// Stops its action when it takes too long.
#[derive(SimpleObject)]
pub(super) struct TimeoutAction {
    /// What is limited.
    action: Action,
    /// How long it may take, in milliseconds.
    timeout_ms: BigInt,
    /// The source of its log lines.
    log_source: Option<String>,
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

pub(super) fn variables(
    environment: &[action::EnvironmentVariable<Sealed>],
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

pub(super) fn files(files: &[action::File<Sealed>]) -> Vec<File> {
    let shown = |file: &action::File<Sealed>| File {
        path: file.path.clone(),
        content: SealedText::from(&file.content),
    };
    files.iter().map(shown).collect()
}

impl From<&Sealed> for SealedText {
    fn from(secret: &Sealed) -> Self {
        Self { sealed: true, fingerprint: hex::encode(&secret.fingerprint) }
    }
}

impl From<&action::Checksum> for Checksum {
    fn from(checksum: &action::Checksum) -> Self {
        Self { algorithm: checksum.algorithm.into(), value: checksum.value().to_owned() }
    }
}

fn all(actions: &[action::Action]) -> Vec<Action> {
    actions.iter().map(Action::from).collect()
}

impl From<&action::Action> for Action {
    fn from(action: &action::Action) -> Self {
        match action {
            action::Action::Run(run) => Self::Run(RunAction::from(run)),
            action::Action::Download(download) => Self::Download(download.into()),
            action::Action::Upload(upload) => Self::Upload(UploadAction {
                artifact: upload.artifact.clone(),
                from: upload.from.clone(),
                to: SealedText::from(&upload.to),
                log_source: upload.log_source.clone(),
                user: upload.user.clone(),
            }),
            action::Action::Serial(action::Serial { actions, log_source }) => {
                Self::Serial(SerialAction { actions: all(actions), log_source: log_source.clone() })
            }
            action::Action::Parallel(action::Parallel { actions, log_source }) => {
                let log_source = log_source.clone();
                Self::Parallel(ParallelAction { actions: all(actions), log_source })
            }
            action::Action::Codependent(action::Codependent { actions, log_source }) => {
                let log_source = log_source.clone();
                Self::Codependent(CodependentAction { actions: all(actions), log_source })
            }
            action::Action::Timeout(timeout) => Self::Timeout(Box::new(TimeoutAction {
                action: Self::from(timeout.action.as_ref()),
                timeout_ms: BigInt(timeout.timeout_ms.0),
                log_source: timeout.log_source.clone(),
            })),
            action::Action::EmitProgress(progress) => {
                Self::EmitProgress(Box::new(EmitProgressAction {
                    action: Self::from(progress.action.as_ref()),
                    start_message: progress.start_message.clone(),
                    success_message: progress.success_message.clone(),
                    failure_message_prefix: progress.failure_message_prefix.clone(),
                    log_source: progress.log_source.clone(),
                }))
            }
            action::Action::Try(tried) => Self::Try(Box::new(TryAction {
                action: Self::from(tried.action.as_ref()),
                log_source: tried.log_source.clone(),
            })),
        }
    }
}

impl From<&action::Run> for RunAction {
    fn from(run: &action::Run) -> Self {
        Self {
            path: run.path.clone(),
            args: run.args.clone(),
            dir: run.dir.clone(),
            env: variables(&run.env),
            user: run.user.clone(),
            log_source: run.log_source.clone(),
            nofile: run.nofile.map(BigInt),
            nproc: run.nproc.map(BigInt),
            suppress_log_output: run.suppress_log_output,
            volume_mounted_files: files(&run.volume_mounted_files),
        }
    }
}

impl From<&action::Download> for DownloadAction {
    fn from(download: &action::Download) -> Self {
        Self {
            artifact: download.artifact.clone(),
            from: SealedText::from(&download.from),
            to: download.to.clone(),
            cache_key: download.cache_key.clone(),
            log_source: download.log_source.clone(),
            user: download.user.clone(),
            checksum: download.checksum.as_ref().map(Checksum::from),
        }
    }
}
