//! Actions: Diego's message holds one of nine, ours is one of nine.

use domain::{
    action::{
        Action, Checksum, ChecksumAlgorithm, Codependent, Download, EmitProgress, Parallel, Run,
        Serial, Timeout, Try, Upload,
    },
    sealed::PlainText,
    units::Milliseconds,
};

use super::parts;
use crate::bbs::{invalid::Faults, proto};

type Ours = Action<PlainText>;

/// A text that may be absent, as protobuf has it.
pub(super) fn some(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// A text that may be absent, as Diego has it.
pub(super) fn or_empty(text: Option<&String>) -> String {
    text.cloned().unwrap_or_default()
}

/// Reads an action; none when it is not one, and the faults say so.
pub(super) fn read(action: &proto::Action, faults: &mut Faults) -> Option<Ours> {
    let proto::Action {
        download_action,
        upload_action,
        run_action,
        timeout_action,
        emit_progress_action,
        try_action,
        parallel_action,
        serial_action,
        codependent_action,
    } = action;
    // Of several Diego takes the first.
    if let Some(download) = download_action {
        return read_download(download, faults).map(Action::Download);
    }
    if let Some(upload) = upload_action {
        return Some(Action::Upload(read_upload(upload, faults)));
    }
    if let Some(run) = run_action {
        return Some(Action::Run(read_run(run, faults)));
    }
    if let Some(timeout) = timeout_action {
        return read_timeout(timeout, faults).map(Action::Timeout);
    }
    if let Some(progress) = emit_progress_action {
        let action = read_inner(progress.action.as_deref(), faults)?;
        return Some(Action::EmitProgress(EmitProgress {
            action,
            start_message: progress.start_message.clone(),
            success_message: progress.success_message.clone(),
            failure_message_prefix: progress.failure_message_prefix.clone(),
            log_source: some(&progress.log_source),
        }));
    }
    if let Some(tried) = try_action {
        let action = read_inner(tried.action.as_deref(), faults)?;
        return Some(Action::Try(Try { action, log_source: some(&tried.log_source) }));
    }
    if let Some(parallel) = parallel_action {
        let (actions, log_source) = (read_all(&parallel.actions, faults)?, &parallel.log_source);
        return Some(Action::Parallel(Parallel { actions, log_source: some(log_source) }));
    }
    if let Some(serial) = serial_action {
        let (actions, log_source) = (read_all(&serial.actions, faults)?, &serial.log_source);
        return Some(Action::Serial(Serial { actions, log_source: some(log_source) }));
    }
    if let Some(codependent) = codependent_action {
        let actions = read_all(&codependent.actions, faults)?;
        let log_source = some(&codependent.log_source);
        return Some(Action::Codependent(Codependent { actions, log_source }));
    }
    faults.text("invalid action type");
    None
}

fn read_inner(action: Option<&proto::Action>, faults: &mut Faults) -> Option<Box<Ours>> {
    match action {
        Some(action) => read(action, faults).map(Box::new),
        None => {
            faults.field("action");
            None
        }
    }
}

fn read_all(actions: &[proto::Action], faults: &mut Faults) -> Option<Vec<Ours>> {
    if actions.is_empty() {
        faults.field("actions");
    }
    // All are looked at, so that all that is wrong is told.
    let actions: Vec<_> = actions.iter().map(|action| read(action, faults)).collect();
    actions.into_iter().collect()
}

fn read_timeout(timeout: &proto::TimeoutAction, faults: &mut Faults) -> Option<Timeout<PlainText>> {
    let action = read_inner(timeout.action.as_deref(), faults);
    #[expect(deprecated, reason = "older clients say it in nanoseconds alone")]
    let milliseconds = match timeout.timeout_ms {
        0 => timeout.deprecated_timeout_ns / 1_000_000,
        milliseconds => milliseconds,
    };
    let timeout_ms = u64::try_from(milliseconds).unwrap_or_default();
    if timeout_ms == 0 {
        faults.field("timeout_ms");
    }
    let log_source = some(&timeout.log_source);
    Some(Timeout { action: action?, timeout_ms: Milliseconds(timeout_ms), log_source })
}

fn read_run(run: &proto::RunAction, faults: &mut Faults) -> Run<PlainText> {
    faults.not_empty("path", &run.path);
    faults.not_empty("user", &run.user);
    let limits = run.resource_limits.as_ref();
    #[expect(deprecated, reason = "it is kept as it is said, and has no effect")]
    let nproc = limits.and_then(|limits| limits.nproc);
    Run {
        path: run.path.clone(),
        args: run.args.clone(),
        dir: some(&run.dir),
        env: parts::read_environment(&run.env, faults),
        user: run.user.clone(),
        log_source: some(&run.log_source),
        nofile: limits.and_then(|limits| limits.nofile),
        nproc,
        suppress_log_output: run.suppress_log_output,
        volume_mounted_files: parts::read_files(&run.volume_mounted_files),
    }
}

fn read_download(
    download: &proto::DownloadAction,
    faults: &mut Faults,
) -> Option<Download<PlainText>> {
    faults.not_empty("from", &download.from);
    faults.not_empty("to", &download.to);
    faults.not_empty("user", &download.user);
    let checksum = read_checksum(&download.checksum_algorithm, &download.checksum_value, faults);
    Some(Download {
        artifact: download.artifact.clone(),
        from: PlainText(download.from.clone()),
        to: download.to.clone(),
        cache_key: download.cache_key.clone(),
        log_source: some(&download.log_source),
        user: download.user.clone(),
        checksum,
    })
}

fn read_upload(upload: &proto::UploadAction, faults: &mut Faults) -> Upload<PlainText> {
    faults.not_empty("to", &upload.to);
    faults.not_empty("from", &upload.from);
    faults.not_empty("user", &upload.user);
    Upload {
        artifact: upload.artifact.clone(),
        from: upload.from.clone(),
        to: PlainText(upload.to.clone()),
        log_source: some(&upload.log_source),
        user: upload.user.clone(),
    }
}

/// A checksum of one of Diego's three algorithms, or none.
pub(super) fn read_checksum(name: &str, value: &str, faults: &mut Faults) -> Option<Checksum> {
    if name.is_empty() && value.is_empty() {
        return None;
    }
    if name.is_empty() || value.is_empty() {
        faults.field(if value.is_empty() { "checksum value" } else { "checksum algorithm" });
        return None;
    }
    let algorithm = ChecksumAlgorithm::parse(name).ok();
    let Some(algorithm) = algorithm.filter(|it| *it != ChecksumAlgorithm::Sha512) else {
        faults.field("invalid algorithm");
        return None;
    };
    let checksum = Checksum::new(algorithm, value).ok();
    if checksum.is_none() {
        faults.field("checksum value");
    }
    checksum
}

/// The same in Diego's message.
pub(super) fn write(action: &Ours) -> proto::Action {
    let mut written = proto::Action::default();
    match action {
        Action::Download(download) => {
            written.download_action = Some(Box::new(write_download(download)));
        }
        Action::Upload(upload) => {
            written.upload_action = Some(Box::new(proto::UploadAction {
                artifact: upload.artifact.clone(),
                from: upload.from.clone(),
                to: upload.to.0.clone(),
                log_source: or_empty(upload.log_source.as_ref()),
                user: upload.user.clone(),
            }));
        }
        Action::Run(run) => written.run_action = Some(Box::new(write_run(run))),
        Action::Timeout(timeout) => {
            written.timeout_action = Some(Box::new(proto::TimeoutAction {
                action: Some(Box::new(write(&timeout.action))),
                timeout_ms: i64::try_from(timeout.timeout_ms.0).unwrap_or(i64::MAX),
                log_source: or_empty(timeout.log_source.as_ref()),
                ..proto::TimeoutAction::default()
            }));
        }
        Action::EmitProgress(progress) => {
            written.emit_progress_action = Some(Box::new(proto::EmitProgressAction {
                action: Some(Box::new(write(&progress.action))),
                start_message: progress.start_message.clone(),
                success_message: progress.success_message.clone(),
                failure_message_prefix: progress.failure_message_prefix.clone(),
                log_source: or_empty(progress.log_source.as_ref()),
            }));
        }
        Action::Try(tried) => {
            written.try_action = Some(Box::new(proto::TryAction {
                action: Some(Box::new(write(&tried.action))),
                log_source: or_empty(tried.log_source.as_ref()),
            }));
        }
        Action::Parallel(Parallel { actions, log_source }) => {
            written.parallel_action = Some(Box::new(proto::ParallelAction {
                actions: actions.iter().map(write).collect(),
                log_source: or_empty(log_source.as_ref()),
            }));
        }
        Action::Serial(Serial { actions, log_source }) => {
            written.serial_action = Some(Box::new(proto::SerialAction {
                actions: actions.iter().map(write).collect(),
                log_source: or_empty(log_source.as_ref()),
            }));
        }
        Action::Codependent(Codependent { actions, log_source }) => {
            written.codependent_action = Some(Box::new(proto::CodependentAction {
                actions: actions.iter().map(write).collect(),
                log_source: or_empty(log_source.as_ref()),
            }));
        }
    }
    written
}

fn write_download(download: &Download<PlainText>) -> proto::DownloadAction {
    let (checksum_algorithm, checksum_value) = write_checksum(download.checksum.as_ref());
    proto::DownloadAction {
        artifact: download.artifact.clone(),
        from: download.from.0.clone(),
        to: download.to.clone(),
        cache_key: download.cache_key.clone(),
        log_source: or_empty(download.log_source.as_ref()),
        user: download.user.clone(),
        checksum_algorithm,
        checksum_value,
    }
}

fn write_run(run: &Run<PlainText>) -> proto::RunAction {
    let has_limits = run.nofile.is_some() || run.nproc.is_some();
    #[expect(deprecated, reason = "it is kept as it was said, and has no effect")]
    let limits = proto::ResourceLimits { nofile: run.nofile, nproc: run.nproc };
    proto::RunAction {
        path: run.path.clone(),
        args: run.args.clone(),
        dir: or_empty(run.dir.as_ref()),
        env: parts::write_environment(&run.env),
        resource_limits: has_limits.then_some(limits),
        user: run.user.clone(),
        log_source: or_empty(run.log_source.as_ref()),
        suppress_log_output: run.suppress_log_output,
        volume_mounted_files: parts::write_files(&run.volume_mounted_files),
    }
}

/// Algorithm and value, as Diego writes them.
pub(super) fn write_checksum(checksum: Option<&Checksum>) -> (String, String) {
    checksum
        .map(|checksum| (checksum.algorithm.to_string(), checksum.value().to_owned()))
        .unwrap_or_default()
}
