//! Builds a container's mount tree, and moves into it.
//!
//! Runs in the container's init, in a mount namespace of its own: no mount of a container is
//! ever seen on the host, and all go when its last process does. Paths that come from a rootfs
//! are resolved below its root and never followed out of it (CVE-2021-30465).

use std::fs;
use std::os::fd::{AsRawFd, OwnedFd};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{OFlag, open, openat};
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::stat::{Mode, SFlag, makedev, mkdirat, mknodat};
use nix::unistd::{chdir, fchdir, pivot_root, symlinkat};

use super::depot::{ContainerConfig, Depot};
use crate::garden::beneath;

/// Mount flags of file systems that hold no programs and no devices.
const DATA_ONLY: MsFlags = MsFlags::MS_NOSUID.union(MsFlags::MS_NOEXEC).union(MsFlags::MS_NODEV);

/// The character devices of every container: name, major, minor.
const DEVICES: [(&str, u64, u64); 6] = [
    ("null", 1, 3),
    ("zero", 1, 5),
    ("full", 1, 7),
    ("random", 1, 8),
    ("urandom", 1, 9),
    ("tty", 5, 0),
];

const DEVICE_LINKS: [(&str, &str); 5] = [
    ("ptmx", "pts/ptmx"),
    ("fd", "/proc/self/fd"),
    ("stdin", "/proc/self/fd/0"),
    ("stdout", "/proc/self/fd/1"),
    ("stderr", "/proc/self/fd/2"),
];

/// What is made at a mount's destination if nothing is there.
#[derive(Debug, Clone, Copy)]
enum Missing {
    MakeFolder,
    MakeFile,
}

/// Mounts everything below the container's root; the host is still visible afterwards.
pub(super) fn build(depot: &Depot, config: &ContainerConfig) -> Result<OwnedFd, String> {
    mount_plain(None, Path::new("/"), None, MsFlags::MS_REC | MsFlags::MS_PRIVATE, None)
        .map_err(|errno| format!("cannot make the mount tree private: {errno}"))?;
    mount_overlay(depot, config)?;
    let root = open(&depot.root(), OFlag::O_PATH | OFlag::O_CLOEXEC, Mode::empty())
        .map_err(|errno| format!("cannot open the new root: {errno}"))?;

    mount_inside(&root, "/proc", "proc", DATA_ONLY, None)?;
    let dev_flags = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC | MsFlags::MS_STRICTATIME;
    mount_inside(&root, "/dev", "tmpfs", dev_flags, Some("mode=755,size=65536k"))?;
    make_devices(&resolve(&root, Path::new("/dev"), Missing::MakeFolder)?)?;
    let terminals = Some("newinstance,ptmxmode=0666,mode=0620,gid=5");
    let no_programs = MsFlags::MS_NOSUID | MsFlags::MS_NOEXEC;
    mount_inside(&root, "/dev/pts", "devpts", no_programs, terminals)?;
    mount_inside(&root, "/dev/shm", "tmpfs", DATA_ONLY, Some("mode=1777,size=65536k"))?;
    mount_inside(&root, "/dev/mqueue", "mqueue", DATA_ONLY, None)?;
    mount_inside(&root, "/sys", "sysfs", DATA_ONLY | MsFlags::MS_RDONLY, None)?;
    bind_all(&root, depot, config)?;
    Ok(root)
}

/// Makes the built tree this mount namespace's root and lets go of the host's.
pub(super) fn enter(root: &OwnedFd) -> Result<(), String> {
    let step = |what: &str| {
        let what = what.to_owned();
        move |errno: Errno| format!("cannot {what}: {errno}")
    };
    fchdir(root).map_err(step("enter the new root"))?;
    // The old root comes to lie on the new one, so no folder is needed to put it.
    pivot_root(".", ".").map_err(step("pivot into the new root"))?;
    umount2(".", MntFlags::MNT_DETACH).map_err(step("let go of the host's root"))?;
    chdir("/").map_err(step("enter the root"))
}

fn mount_overlay(depot: &Depot, config: &ContainerConfig) -> Result<(), String> {
    // `volatile`: the layer is thrown away with the container, so it is never synced. The
    // paths hold none of the characters that mean something here: Garden checked at its start.
    let layers = format!(
        "lowerdir={},upperdir={},workdir={},volatile",
        config.rootfs_folder.display(),
        depot.upper().display(),
        depot.work().display()
    );
    // No device node in the root is usable: those in /dev are all there are.
    let flags = MsFlags::MS_NODEV;
    mount_plain(Some("overlay"), &depot.root(), Some("overlay"), flags, Some(&layers)).map_err(
        |errno| {
            let is_refused = errno == Errno::EINVAL;
            let hint =
                if is_refused { " (is the cell's folder itself on an overlay?)" } else { "" };
            format!("cannot mount the overlay of {}: {errno}{hint}", config.rootfs)
        },
    )
}

fn make_devices(dev: &OwnedFd) -> Result<(), String> {
    let mode = Mode::from_bits_truncate(0o666);
    for (name, major, minor) in DEVICES {
        mknodat(dev, name, SFlag::S_IFCHR, mode, makedev(major, minor))
            .map_err(|errno| format!("cannot make /dev/{name}: {errno}"))?;
    }
    for (name, target) in DEVICE_LINKS {
        symlinkat(target, dev, name)
            .map_err(|errno| format!("cannot link /dev/{name}: {errno}"))?;
    }
    Ok(())
}

fn bind_all(root: &OwnedFd, depot: &Depot, config: &ContainerConfig) -> Result<(), String> {
    for name in ["hosts", "hostname", "resolv.conf"] {
        bind(root, &depot.etc().join(name), &Path::new("/etc").join(name), false)?;
    }
    for wanted in &config.bind_mounts {
        bind(root, &wanted.source, &wanted.destination, wanted.is_read_only)?;
    }
    Ok(())
}

fn bind(root: &OwnedFd, source: &Path, at: &Path, is_read_only: bool) -> Result<(), String> {
    let metadata = fs::metadata(source)
        .map_err(|error| format!("bind mount source {}: {error}", source.display()))?;
    let missing = if metadata.is_dir() { Missing::MakeFolder } else { Missing::MakeFile };
    let failed = |errno| format!("cannot bind {} to {}: {errno}", source.display(), at.display());
    let target = resolve(root, at, missing)?;
    mount(Some(source), &path_of(&target), None::<&str>, MsFlags::MS_BIND, None::<&str>)
        .map_err(failed)?;
    // The descriptor still names what was covered: resolve again to reach the mount itself.
    let mounted = resolve(root, at, missing)?;
    let read_only = if is_read_only { MsFlags::MS_RDONLY } else { MsFlags::empty() };
    let flags = MsFlags::MS_BIND | MsFlags::MS_REMOUNT | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
    mount_plain(None, &path_of(&mounted), None, flags | read_only, None).map_err(failed)
}

fn mount_inside(
    root: &OwnedFd,
    at: &str,
    kind: &str,
    flags: MsFlags,
    data: Option<&str>,
) -> Result<(), String> {
    let target = resolve(root, Path::new(at), Missing::MakeFolder)?;
    mount_plain(Some(kind), &path_of(&target), Some(kind), flags, data)
        .map_err(|errno| format!("cannot mount {kind} on {at}: {errno}"))
}

/// Opens a path below the root, following links as the container would see them, and makes
/// what is missing.
fn resolve(root: &OwnedFd, path: &Path, missing: Missing) -> Result<OwnedFd, String> {
    let inside: PathBuf =
        path.components().filter(|part| matches!(part, Component::Normal(_))).collect();
    let failed = |errno: Errno| format!("cannot resolve {} in the rootfs: {errno}", path.display());
    match open_inside(root, &inside) {
        Err(Errno::ENOENT) => {}
        result => return result.map_err(failed),
    }
    let (Some(parent), Some(name)) = (inside.parent(), inside.file_name()) else {
        return Err(failed(Errno::ENOENT));
    };
    let parent = match parent.as_os_str().is_empty() {
        true => open_inside(root, Path::new(".")).map_err(failed)?,
        false => resolve(root, parent, Missing::MakeFolder)?,
    };
    match missing {
        Missing::MakeFolder => {
            mkdirat(&parent, name, Mode::from_bits_truncate(0o755)).map_err(failed)?;
        }
        Missing::MakeFile => {
            let flags = OFlag::O_CREAT | OFlag::O_EXCL | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
            openat(&parent, name, flags, Mode::from_bits_truncate(0o644)).map_err(failed)?;
        }
    }
    open_inside(root, &inside).map_err(failed)
}

fn open_inside(root: &OwnedFd, path: &Path) -> nix::Result<OwnedFd> {
    beneath::open(root, path, OFlag::O_PATH)
}

/// An open descriptor as a path that `mount` takes: it cannot be exchanged in between.
fn path_of(descriptor: &OwnedFd) -> PathBuf {
    PathBuf::from(format!("/proc/self/fd/{}", descriptor.as_raw_fd()))
}

fn mount_plain(
    source: Option<&str>,
    target: &Path,
    kind: Option<&str>,
    flags: MsFlags,
    data: Option<&str>,
) -> nix::Result<()> {
    mount(source, target, kind, flags, data)
}
