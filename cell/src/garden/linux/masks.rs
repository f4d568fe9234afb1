//! Hides what of `/proc` and `/sys` tells about the host, and makes the rest of it read-only.
//!
//! Runs in the container's init after it moved into its root, before any process of the
//! caller's. The lists are Garden's, Docker's and runc's.

use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open};
use nix::mount::{MsFlags, mount};
use nix::sys::stat::{Mode, SFlag, fstat, major, minor};

const MASKED: [&str; 12] = [
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];

const READ_ONLY: [&str; 5] =
    ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// Masks and locks every listed path that this kernel has.
pub(super) fn apply() -> Result<(), String> {
    let null = open_null()?;
    for path in MASKED {
        mask(Path::new(path), &null).map_err(|errno| format!("cannot mask {path}: {errno}"))?;
    }
    for path in READ_ONLY {
        make_read_only(Path::new(path))
            .map_err(|errno| format!("cannot make {path} read-only: {errno}"))?;
    }
    Ok(())
}

/// Opens the source of the masks, and checks by its descriptor that it is the null device and
/// not something put in its place (CVE-2025-31133).
fn open_null() -> Result<OwnedFd, String> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let null = open("/dev/null", flags, Mode::empty())
        .map_err(|errno| format!("cannot open /dev/null: {errno}"))?;
    let status = fstat(&null).map_err(|errno| format!("cannot look at /dev/null: {errno}"))?;
    let is_character = SFlag::from_bits_truncate(status.st_mode) & SFlag::S_IFMT == SFlag::S_IFCHR;
    if is_character && (major(status.st_rdev), minor(status.st_rdev)) == (1, 3) {
        return Ok(null);
    }
    Err("/dev/null is not the null device".to_owned())
}

fn mask(path: &Path, null: &OwnedFd) -> nix::Result<()> {
    let Some((target, is_folder)) = open_if_there(path)? else { return Ok(()) };
    if is_folder {
        let flags =
            MsFlags::MS_RDONLY | MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_NODEV;
        return mount(Some("tmpfs"), &path_of(&target), Some("tmpfs"), flags, Some("size=0k"));
    }
    let source = Some(&path_of(null));
    mount(source, &path_of(&target), None::<&str>, MsFlags::MS_BIND, None::<&str>)
}

fn make_read_only(path: &Path) -> nix::Result<()> {
    let Some((target, _)) = open_if_there(path)? else { return Ok(()) };
    let itself = path_of(&target);
    mount(Some(&itself), &itself, None::<&str>, MsFlags::MS_BIND, None::<&str>)?;
    let flags = MsFlags::MS_BIND
        | MsFlags::MS_REMOUNT
        | MsFlags::MS_RDONLY
        | MsFlags::MS_NOSUID
        | MsFlags::MS_NOEXEC
        | MsFlags::MS_NODEV;
    mount(None::<&str>, path, None::<&str>, flags, None::<&str>)
}

fn open_if_there(path: &Path) -> nix::Result<Option<(OwnedFd, bool)>> {
    let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    match open(path, flags, Mode::empty()) {
        Err(Errno::ENOENT) => Ok(None),
        Err(errno) => Err(errno),
        Ok(target) => {
            let mode = SFlag::from_bits_truncate(fstat(&target)?.st_mode);
            Ok(Some((target, mode & SFlag::S_IFMT == SFlag::S_IFDIR)))
        }
    }
}

fn path_of(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}
