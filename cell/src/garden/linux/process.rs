//! Runs a process in a container that stands: joins its namespaces and cgroups and execs.
//!
//! A first clone enters the namespaces and clones again with the shim as parent, because a
//! process enters a pid namespace only by birth. What it can no longer do is given up in an
//! order that is itself the security: working folder before ids, bounding set before ids,
//! capabilities last. Every descriptor of the host is closed before the first path of the
//! container or its user is looked at, and no magic link is followed (CVE-2024-21626).

use std::ffi::CString;
use std::fs;
use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::sched::{CloneFlags, setns};
use nix::sys::prctl;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigSet, Signal, kill};
use nix::sys::stat::{Mode, umask};
use nix::sys::wait::waitpid;
use nix::unistd::{
    AccessFlags, Gid, Pid, Uid, access, dup2_stderr, dup2_stdin, dup2_stdout, execve, fchdir,
    fchown, getcwd, pipe2, setgid, setgroups, setsid, setuid,
};

use super::capabilities;
use super::init::{self, Init, NAMESPACES};
use super::kernel::{self, Cloned, SingleThreaded};
use super::paths;
use crate::garden::user::{self, User};
use crate::garden::{Environment, ProcessSpec};

/// What a process is nearer to the out-of-memory killer than init.
const OOM_SCORE_EXTRA: i32 = 100;
const ROOT_PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
const USER_PATH: &str = "/usr/local/bin:/usr/bin:/bin";

/// A process that was exec'd, a child of the shim.
#[derive(Debug)]
pub(crate) struct Started {
    pub(crate) pid: Pid,
    pub(crate) stdout: OwnedFd,
    pub(crate) stderr: OwnedFd,
    /// What could not be given as asked, in words.
    pub(crate) warnings: Vec<String>,
}

/// The ends that the new process gets.
struct ChildEnds {
    stdout: OwnedFd,
    stderr: OwnedFd,
}

/// Execs a process in the container.
///
/// The error says in words why it could not be exec'd; then nothing of it runs.
pub(crate) fn start(
    proof: &SingleThreaded,
    init: &Init,
    join: &[OwnedFd],
    container: &Environment,
    process: &ProcessSpec,
) -> Result<Started, String> {
    let pipe = || pipe2(OFlag::O_CLOEXEC).map_err(|errno| format!("cannot make a pipe: {errno}"));
    let (stdout, child_stdout) = pipe()?;
    let (stderr, child_stderr) = pipe()?;
    let (report_reader, report) = pipe()?;
    let ends = ChildEnds { stdout: child_stdout, stderr: child_stderr };
    let cloned = kernel::clone(proof, CloneFlags::empty())
        .map_err(|errno| format!("cannot fork: {errno}"))?;
    let Cloned::Parent { child: first } = cloned else {
        enter_and_clone(proof, init, join, container, process, ends, report)
    };
    drop((ends, report));

    let mut report_reader = fs::File::from(report_reader);
    let mut text = Vec::new();
    let complete = init::read_until_end(&mut report_reader, init::START_TIMEOUT_MS, &mut text);
    if complete.is_err() {
        // Not reaped yet: the number is still its own.
        let _killed = kill(first, Signal::SIGKILL);
    }
    let _reaped = waitpid(first, None);
    if let Err(reason) = complete {
        // The first may have named the second just before it died. One that was never named
        // was never told to go on, and ends by itself.
        let _no_end = init::read_until_end(&mut report_reader, 0, &mut text);
        if let Some(second) = Report::parse(&String::from_utf8_lossy(&text)).pid {
            // Reaped with all others: to wait for it here might be for long.
            let _killed = kill(second, Signal::SIGKILL);
        }
        return Err(reason);
    }
    let report = Report::parse(&String::from_utf8_lossy(&text));
    match (report.pid, report.error) {
        (Some(pid), None) => Ok(Started { pid, stdout, stderr, warnings: report.warnings }),
        (Some(pid), Some(error)) => {
            let _reaped = waitpid(pid, None);
            Err(error)
        }
        (None, error) => Err(error.unwrap_or_else(|| "the container is stopping".to_owned())),
    }
}

/// What the two clones said: one line each, marked by its first letter.
#[derive(Default)]
struct Report {
    pid: Option<Pid>,
    error: Option<String>,
    warnings: Vec<String>,
}

impl Report {
    fn parse(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines() {
            match line.split_at_checked(1) {
                Some(("P", pid)) => report.pid = pid.parse().ok().map(Pid::from_raw),
                Some(("W", warning)) => report.warnings.push(warning.to_owned()),
                Some(("E", error)) => report.error = Some(error.to_owned()),
                Some(_) | None => {}
            }
        }
        report
    }
}

/// The first clone: never returns.
fn enter_and_clone(
    proof: &SingleThreaded,
    init: &Init,
    join: &[OwnedFd],
    container: &Environment,
    process: &ProcessSpec,
    ends: ChildEnds,
    report: OwnedFd,
) -> ! {
    let mut report = fs::File::from(report);
    // The second goes on only when the shim can know of it: else nobody could end it.
    let Ok((go_reader, go_writer)) = pipe2(OFlag::O_CLOEXEC) else { kernel::exit_now(1) };
    let (mut go_reader, mut go_writer) = (fs::File::from(go_reader), fs::File::from(go_writer));
    let mut kept = vec![ends.stdout.as_fd(), ends.stderr.as_fd(), report.as_fd()];
    kept.extend([go_reader.as_fd(), go_writer.as_fd(), init.pidfd.as_fd()]);
    kept.extend(join.iter().map(AsFd::as_fd));
    let entered = enter(init, &kept).and_then(|()| {
        kernel::clone(proof, CloneFlags::CLONE_PARENT)
            .map_err(|errno| format!("cannot fork in the container: {errno}"))
    });
    let said = match entered {
        Ok(Cloned::Child) => {
            drop(go_writer);
            if go_reader.read_exact(&mut [0]).is_err() {
                kernel::exit_now(1);
            }
            exec_or_report(join, container, process, ends, report)
        }
        Ok(Cloned::Parent { child }) => report
            .write_all(format!("P{child}\n").as_bytes())
            .and_then(|()| go_writer.write_all(b".")),
        Err(error) => report.write_all(error_line(&error).as_bytes()),
    };
    kernel::exit_now(i32::from(said.is_err()))
}

fn enter(init: &Init, kept: &[BorrowedFd<'_>]) -> Result<(), String> {
    // Really closed, not at the exec: a path of the user's may lead through /proc/self/fd.
    kernel::close_all_but(kept).map_err(|errno| format!("cannot close descriptors: {errno}"))?;
    // Before the namespaces: inside, processes of the container could look into this one.
    prctl::set_dumpable(false).map_err(|errno| format!("cannot hide memory: {errno}"))?;
    // A process goes before the container's init and before the cell's agent.
    init::raise_oom_score(OOM_SCORE_EXTRA);
    setns(&init.pidfd, NAMESPACES | CloneFlags::CLONE_NEWCGROUP)
        .map_err(|errno| format!("cannot enter the container: {errno}"))
}

/// The second clone: never returns.
fn exec_or_report(
    join: &[OwnedFd],
    container: &Environment,
    process: &ProcessSpec,
    ends: ChildEnds,
    mut report: fs::File,
) -> ! {
    let error = match prepare(join, process, ends, &mut report) {
        Ok(user) => exec(container, process, &user),
        Err(error) => error,
    };
    // If even this fails the parent sees no more than the end: there is nobody else to tell.
    let said = report.write_all(error_line(&error).as_bytes());
    kernel::exit_now(if said.is_ok() { 126 } else { 125 })
}

fn error_line(error: &str) -> String {
    format!("E{}\n", error.replace('\n', " "))
}

fn prepare(
    join: &[OwnedFd],
    process: &ProcessSpec,
    ends: ChildEnds,
    report: &mut fs::File,
) -> Result<User, String> {
    let step = |what: &'static str| move |errno: Errno| format!("cannot {what}: {errno}");
    // First of all, so that nothing that follows escapes the limits.
    init::join_cgroups(join)?;
    // Nothing but pipes is left open when the first of the container's paths is looked at.
    kernel::close_all_but(&[ends.stdout.as_fd(), ends.stderr.as_fd(), report.as_fd()])
        .map_err(step("close descriptors"))?;
    setsid().map_err(step("start a session"))?;
    umask(Mode::from_bits_truncate(0o022));
    let user = user::resolve(process.user.as_deref(), open_unblocked)?;
    attach_streams(&ends, &user)?;
    if let Some(warning) = limit_files(process.nofile)? {
        report
            .write_all(format!("W{warning}\n").as_bytes())
            .map_err(|error| format!("cannot report: {error}"))?;
    }
    setrlimit(Resource::RLIMIT_CORE, 0, 0).map_err(step("turn core dumps off"))?;
    enter_folder(process.dir.as_deref().unwrap_or(&user.home), &user)?;
    become_user(&user)?;
    prctl::set_no_new_privs().map_err(step("set no_new_privs"))?;
    kernel::reset_signal_actions();
    SigSet::empty().thread_set_mask().map_err(step("unblock signals"))?;
    kernel::close_all_on_exec().map_err(step("close descriptors"))?;
    Ok(user)
}

/// Opens a file of the container without blocking: it may be a pipe that nobody writes.
fn open_unblocked(path: &str) -> io::Result<fs::File> {
    fs::File::options().read(true).custom_flags(OFlag::O_NONBLOCK.bits()).open(path)
}

fn attach_streams(ends: &ChildEnds, user: &User) -> Result<(), String> {
    let step = |what: &'static str| move |errno: Errno| format!("cannot {what}: {errno}");
    let null = open("/dev/null", OFlag::O_RDONLY | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(step("open /dev/null"))?;
    dup2_stdin(&null).map_err(step("redirect stdin"))?;
    for end in [&ends.stdout, &ends.stderr] {
        // So that the user may open /dev/stdout again.
        fchown(end, Some(Uid::from_raw(user.uid)), Some(Gid::from_raw(user.gid)))
            .map_err(step("give the output to the user"))?;
    }
    dup2_stdout(&ends.stdout).map_err(step("redirect stdout"))?;
    dup2_stderr(&ends.stderr).map_err(step("redirect stderr"))
}

/// Sets the limit of open files; lowers it to our own if we may not raise it.
fn limit_files(wanted: Option<u64>) -> Result<Option<String>, String> {
    let Some(wanted) = wanted else { return Ok(None) };
    let resource = Resource::RLIMIT_NOFILE;
    match setrlimit(resource, wanted, wanted) {
        Ok(()) => Ok(None),
        Err(Errno::EPERM) => {
            let failed = |errno: Errno| format!("cannot limit open files: {errno}");
            let (_, hard) = getrlimit(resource).map_err(failed)?;
            let clamped = wanted.min(hard);
            setrlimit(resource, clamped, clamped).map_err(failed)?;
            Ok(Some(format!("nofile {wanted} was lowered to this machine's {clamped}")))
        }
        Err(errno) => Err(format!("cannot limit open files to {wanted}: {errno}")),
    }
}

/// Enters the working folder, made if missing, and checks that it lies in the container.
fn enter_folder(dir: &str, user: &User) -> Result<(), String> {
    let owner = (Uid::from_raw(user.uid), Gid::from_raw(user.gid));
    let failed = |errno: Errno| {
        if errno == Errno::ELOOP {
            return format!("folder {dir} lies outside the container");
        }
        format!("cannot enter folder {dir}: {errno}")
    };
    let folder = paths::open_or_make_folder(&Path::new("/").join(dir), owner).map_err(failed)?;
    fchdir(&folder).map_err(|errno| format!("cannot enter folder {dir}: {errno}"))?;
    // The kernel answers "(unreachable)/..." for a folder outside the root.
    match getcwd() {
        Ok(path) if path.is_absolute() => Ok(()),
        Ok(_) | Err(_) => Err(format!("folder {dir} lies outside the container")),
    }
}

fn become_user(user: &User) -> Result<(), String> {
    let step = |what: &'static str| move |errno: Errno| format!("cannot {what}: {errno}");
    capabilities::limit_bounding_set().map_err(step("limit the bounding set"))?;
    let groups: Vec<Gid> = user.groups.iter().copied().map(Gid::from_raw).collect();
    setgroups(&groups).map_err(step("set groups"))?;
    setgid(Gid::from_raw(user.gid)).map_err(step("set the group"))?;
    setuid(Uid::from_raw(user.uid)).map_err(step("set the user"))?;
    capabilities::limit_current().map_err(step("limit capabilities"))
}

/// Execs, or says why not.
fn exec(container: &Environment, process: &ProcessSpec, user: &User) -> String {
    let variables = merge_environment(container, &process.environment, user);
    let path = match find_executable(&process.path, &variables) {
        Ok(path) => path,
        Err(error) => return error,
    };
    // Looked at before: after this only pipes are open, so a link that is exchanged in between
    // leads to nothing of the host's.
    match paths::open_without_magic(Path::new(&path), OFlag::empty()) {
        Ok(executable) => drop(executable),
        Err(Errno::ELOOP) => return format!("executable {path} lies outside the container"),
        Err(errno) => return explain(&path, errno),
    }
    let text = |text: &str| CString::new(text).map_err(|_| "a NUL byte in a text".to_owned());
    let arguments: Result<Vec<_>, _> =
        std::iter::once(&process.path).chain(&process.args).map(|part| text(part)).collect();
    let variables: Result<Vec<_>, _> =
        variables.iter().map(|(name, value)| text(&format!("{name}={value}"))).collect();
    match (text(&path), arguments, variables) {
        (Ok(path_text), Ok(arguments), Ok(variables)) => {
            match execve(&path_text, &arguments, &variables) {
                Ok(never) => match never {},
                Err(errno) => explain(&path, errno),
            }
        }
        (Err(error), _, _) | (_, Err(error), _) | (_, _, Err(error)) => error,
    }
}

fn explain(path: &str, errno: Errno) -> String {
    let is_there = Path::new(path).exists();
    if errno == Errno::ENOENT && is_there {
        return format!("executable {path} needs an interpreter that is not in the container");
    }
    if matches!(errno, Errno::ENOENT | Errno::ENOTDIR) {
        return format!("executable {path} not found");
    }
    if errno == Errno::EACCES {
        return format!("executable {path} may not be executed");
    }
    if errno == Errno::ENOEXEC {
        return format!("executable {path} has a format unknown to this machine");
    }
    format!("executable {path}: {}", errno.desc())
}

/// The container's variables, the process's over them, and defaults for what neither has.
fn merge_environment(
    container: &Environment,
    process: &Environment,
    user: &User,
) -> Vec<(String, String)> {
    let mut merged: Vec<(String, String)> = Vec::new();
    let mut set = |name: &str, value: &str| match merged.iter_mut().find(|(known, _)| known == name)
    {
        Some((_, old)) => value.clone_into(old),
        None => merged.push((name.to_owned(), value.to_owned())),
    };
    set("PATH", if user.uid == 0 { ROOT_PATH } else { USER_PATH });
    set("HOME", &user.home);
    if let Some(name) = &user.name {
        set("USER", name);
    }
    for (name, value) in container.0.iter().chain(&process.0) {
        set(name, value);
    }
    merged
}

fn find_executable(path: &str, variables: &[(String, String)]) -> Result<String, String> {
    if path.contains('/') {
        return Ok(path.to_owned());
    }
    let folders = variables.iter().find(|(name, _)| name == "PATH").map_or("", |(_, value)| value);
    folders
        .split(':')
        .map(|folder| format!("{}/{path}", if folder.is_empty() { "." } else { folder }))
        .find(|candidate| {
            Path::new(candidate).is_file() && access(candidate.as_str(), AccessFlags::X_OK).is_ok()
        })
        .ok_or_else(|| format!("executable {path} not found in PATH"))
}
