//! What root may do in a container: Garden's list for unprivileged containers.
//!
//! Nothing inheritable and nothing ambient, so that a process which is not root gets none
//! (CVE-2022-24769). Never add one here without naming what needs it.

use super::kernel;

/// Garden's unprivileged set, by the kernel's numbers.
const ALLOWED: [u32; 14] = [
    0,  // CHOWN
    1,  // DAC_OVERRIDE
    3,  // FOWNER
    4,  // FSETID
    5,  // KILL
    6,  // SETGID
    7,  // SETUID
    8,  // SETPCAP
    10, // NET_BIND_SERVICE
    13, // NET_RAW
    18, // SYS_CHROOT
    27, // MKNOD
    29, // AUDIT_WRITE
    31, // SETFCAP
];

/// Takes everything else out of the bounding set; needs SETPCAP, so before leaving root.
pub(super) fn limit_bounding_set() -> nix::Result<()> {
    // The kernel says where its list ends; a newer kernel's new capabilities go too.
    let mut capability = 0;
    while let Some(present) = kernel::bounding_set_has(capability) {
        if present && !ALLOWED.contains(&capability) {
            kernel::drop_from_bounding_set(capability)?;
        }
        capability += 1;
    }
    Ok(())
}

/// Leaves only the allowed ones of those that this process has.
pub(super) fn limit_current() -> nix::Result<()> {
    let allowed = ALLOWED.iter().fold(0_u64, |set, capability| set | (1 << capability));
    kernel::clear_ambient_set()?;
    kernel::set_capabilities(allowed & kernel::permitted_capabilities()?)
}
