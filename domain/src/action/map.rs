//! The same recipe with other secrets: sealed, opened, or taken out.

use super::{
    Action, Codependent, Download, EmitProgress, EnvironmentVariable, File, Parallel, Run, Serial,
    Timeout, Try, Upload,
};

impl<V> Action<V> {
    /// The same recipe with every secret value changed by `map`.
    ///
    /// # Errors
    /// The first error of `map`.
    pub fn try_map<W, E>(&self, map: &mut impl FnMut(&V) -> Result<W, E>) -> Result<Action<W>, E> {
        Ok(match self {
            Self::Run(run) => Action::Run(run.try_map(map)?),
            Self::Download(download) => Action::Download(download.try_map(map)?),
            Self::Upload(upload) => Action::Upload(upload.try_map(map)?),
            Self::Serial(Serial { actions, log_source }) => Action::Serial(Serial {
                actions: each(actions, map)?,
                log_source: log_source.clone(),
            }),
            Self::Parallel(Parallel { actions, log_source }) => Action::Parallel(Parallel {
                actions: each(actions, map)?,
                log_source: log_source.clone(),
            }),
            Self::Codependent(Codependent { actions, log_source }) => {
                Action::Codependent(Codependent {
                    actions: each(actions, map)?,
                    log_source: log_source.clone(),
                })
            }
            Self::Timeout(Timeout { action, timeout_ms, log_source }) => Action::Timeout(Timeout {
                action: Box::new(action.try_map(map)?),
                timeout_ms: *timeout_ms,
                log_source: log_source.clone(),
            }),
            Self::EmitProgress(progress) => Action::EmitProgress(EmitProgress {
                action: Box::new(progress.action.try_map(map)?),
                start_message: progress.start_message.clone(),
                success_message: progress.success_message.clone(),
                failure_message_prefix: progress.failure_message_prefix.clone(),
                log_source: progress.log_source.clone(),
            }),
            Self::Try(Try { action, log_source }) => Action::Try(Try {
                action: Box::new(action.try_map(map)?),
                log_source: log_source.clone(),
            }),
        })
    }
}

fn each<V, W, E>(
    actions: &[Action<V>],
    map: &mut impl FnMut(&V) -> Result<W, E>,
) -> Result<Vec<Action<W>>, E> {
    actions.iter().map(|action| action.try_map(map)).collect()
}

impl<V> Run<V> {
    fn try_map<W, E>(&self, map: &mut impl FnMut(&V) -> Result<W, E>) -> Result<Run<W>, E> {
        Ok(Run {
            path: self.path.clone(),
            args: self.args.clone(),
            dir: self.dir.clone(),
            env: try_map_environment(&self.env, map)?,
            user: self.user.clone(),
            log_source: self.log_source.clone(),
            nofile: self.nofile,
            nproc: self.nproc,
            suppress_log_output: self.suppress_log_output,
            volume_mounted_files: try_map_files(&self.volume_mounted_files, map)?,
        })
    }
}

impl<V> Download<V> {
    fn try_map<W, E>(&self, map: &mut impl FnMut(&V) -> Result<W, E>) -> Result<Download<W>, E> {
        Ok(Download {
            artifact: self.artifact.clone(),
            from: map(&self.from)?,
            to: self.to.clone(),
            cache_key: self.cache_key.clone(),
            log_source: self.log_source.clone(),
            user: self.user.clone(),
            checksum: self.checksum.clone(),
        })
    }
}

impl<V> Upload<V> {
    fn try_map<W, E>(&self, map: &mut impl FnMut(&V) -> Result<W, E>) -> Result<Upload<W>, E> {
        Ok(Upload {
            artifact: self.artifact.clone(),
            from: self.from.clone(),
            to: map(&self.to)?,
            log_source: self.log_source.clone(),
            user: self.user.clone(),
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

/// The same files with every content changed by `map`.
pub(crate) fn try_map_files<V, W, E>(
    files: &[File<V>],
    map: &mut impl FnMut(&V) -> Result<W, E>,
) -> Result<Vec<File<W>>, E> {
    files
        .iter()
        .map(|file| Ok(File { path: file.path.clone(), content: map(&file.content)? }))
        .collect()
}
