//! What is wrong with a recipe from outside, field by field. A value is never repeated.

use super::{
    ACTION_DEPTH_MAX, ACTIONS_MAX, Action, Download, EnvironmentVariable, File, LIST_MAX,
    LOG_SOURCE_BYTES_MAX, Run, TEXT_BYTES_MAX, Upload,
};
use crate::{
    action::ChecksumAlgorithm,
    invalid::{Invalid, InvalidField, field},
    sealed::PlainText,
};

/// How many bytes a URL may have.
const URL_BYTES_MAX: usize = 8192;
/// How many bytes the name of an artifact, a cache key or a message may have.
const NAME_BYTES_MAX: usize = 2048;

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
    let (name, log_source) = match action {
        Action::Run(run) => return check_run(run, &field(path, "run"), invalid),
        Action::Download(download) => {
            return check_download(download, &field(path, "download"), invalid);
        }
        Action::Upload(upload) => return check_upload(upload, &field(path, "upload"), invalid),
        Action::Serial(serial) => ("serial", &serial.log_source),
        Action::Parallel(parallel) => ("parallel", &parallel.log_source),
        Action::Codependent(codependent) => ("codependent", &codependent.log_source),
        Action::Timeout(timeout) => {
            if timeout.timeout_ms.0 == 0 {
                let path = field(path, "timeout.timeout_ms");
                invalid.push(InvalidField::new(&path, "must be more than 0"));
            }
            ("timeout", &timeout.log_source)
        }
        Action::EmitProgress(progress) => {
            for (name, text) in [
                ("start_message", &progress.start_message),
                ("success_message", &progress.success_message),
                ("failure_message_prefix", &progress.failure_message_prefix),
            ] {
                let path = field(&field(path, "emit_progress"), name);
                invalid.without_nul(&path, text, NAME_BYTES_MAX);
            }
            ("emit_progress", &progress.log_source)
        }
        Action::Try(tried) => ("try", &tried.log_source),
    };
    let path = field(path, name);
    check_log_source(log_source.as_deref(), &path, invalid);
    match action {
        Action::Timeout(_) | Action::EmitProgress(_) | Action::Try(_) => {
            for child in action.children() {
                check_within(child, &field(&path, "action"), depth_left - 1, left, invalid);
            }
        }
        Action::Run(_)
        | Action::Download(_)
        | Action::Upload(_)
        | Action::Serial(_)
        | Action::Parallel(_)
        | Action::Codependent(_) => {
            check_list(action.children(), &field(&path, "actions"), depth_left, left, invalid);
        }
    }
}

fn check_list(
    actions: &[Action<PlainText>],
    path: &str,
    depth_left: usize,
    left: &mut usize,
    invalid: &mut Invalid,
) {
    if actions.is_empty() {
        invalid.push(InvalidField::new(path, "must hold at least one action"));
    }
    for (index, action) in actions.iter().enumerate() {
        let is_full = *left == 0;
        check_within(action, &format!("{path}[{index}]"), depth_left - 1, left, invalid);
        if is_full {
            // The rest would only say the same.
            return;
        }
    }
}

fn check_log_source(log_source: Option<&str>, path: &str, invalid: &mut Invalid) {
    if let Some(log_source) = log_source {
        invalid.text(&field(path, "log_source"), log_source, LOG_SOURCE_BYTES_MAX);
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
    check_log_source(run.log_source.as_deref(), path, invalid);
    if run.nofile == Some(0) {
        invalid.push(InvalidField::new(&field(path, "nofile"), "must be more than 0"));
    }
    check_environment(&run.env, &field(path, "env"), invalid);
    check_files(&run.volume_mounted_files, &field(path, "volume_mounted_files"), invalid);
}

fn check_download(download: &Download<PlainText>, path: &str, invalid: &mut Invalid) {
    invalid.without_nul(&field(path, "artifact"), &download.artifact, NAME_BYTES_MAX);
    check_url(&download.from, &field(path, "from"), invalid);
    invalid.text(&field(path, "to"), &download.to, TEXT_BYTES_MAX);
    invalid.without_nul(&field(path, "cache_key"), &download.cache_key, NAME_BYTES_MAX);
    check_log_source(download.log_source.as_deref(), path, invalid);
    invalid.text(&field(path, "user"), &download.user, 255);
    let algorithm = download.checksum.as_ref().map(|checksum| checksum.algorithm);
    if algorithm == Some(ChecksumAlgorithm::Sha512) {
        let problem = "must be computed by md5, sha1 or sha256";
        invalid.push(InvalidField::new(&field(path, "checksum"), problem));
    }
}

fn check_upload(upload: &Upload<PlainText>, path: &str, invalid: &mut Invalid) {
    invalid.without_nul(&field(path, "artifact"), &upload.artifact, NAME_BYTES_MAX);
    invalid.text(&field(path, "from"), &upload.from, TEXT_BYTES_MAX);
    check_url(&upload.to, &field(path, "to"), invalid);
    check_log_source(upload.log_source.as_deref(), path, invalid);
    invalid.text(&field(path, "user"), &upload.user, 255);
}

/// The scheme, a host, and no byte that does not belong into a URL.
pub(crate) fn check_url(url: &PlainText, path: &str, invalid: &mut Invalid) {
    let PlainText(url) = url;
    invalid.without_nul(path, url, URL_BYTES_MAX);
    let (scheme, rest) = url.split_once("://").unwrap_or_default();
    let is_http = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let host = authority.rsplit('@').next().unwrap_or_default();
    let has_host = !host.is_empty() && !host.starts_with(':');
    if !is_http || !has_host || !url.bytes().all(|byte| byte.is_ascii_graphic()) {
        let problem = "must be a URL that begins with http:// or https:// and names a host, in \
            ASCII and without white space; encode other characters with %";
        invalid.push(InvalidField::new(path, problem));
    }
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

/// Says what is wrong with files from outside, one by one.
pub(crate) fn check_files(files: &[File<PlainText>], path: &str, invalid: &mut Invalid) {
    invalid.at_most(path, files.len(), LIST_MAX);
    for (index, file) in files.iter().enumerate() {
        let path = format!("{path}[{index}]");
        invalid.text(&field(&path, "path"), &file.path, TEXT_BYTES_MAX);
        if file.path.starts_with('/') || file.path.split('/').any(|part| part == "..") {
            let problem = "must be relative and without '..'";
            invalid.push(InvalidField::new(&field(&path, "path"), problem));
        }
        let PlainText(content) = &file.content;
        if content.len() > FILE_BYTES_MAX {
            let problem = format!(
                "must not be longer than {FILE_BYTES_MAX} bytes, but has {}",
                content.len()
            );
            invalid.push(InvalidField::new(&field(&path, "content"), problem));
        }
    }
}

/// How many bytes one file may have that a definition brings along.
const FILE_BYTES_MAX: usize = 1 << 20;
