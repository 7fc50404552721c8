//! Whether this process may build a lab: as root, or as the root of a user namespace of its own.

use std::fs;
use std::io;

use nix::sched::{CloneFlags, unshare};

use super::LabError;

/// Bits of the kernel's sets of capabilities.
const CAP_NET_ADMIN: u32 = 12;
const CAP_SYS_ADMIN: u32 = 21;

/// By what right a lab is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Privilege {
    /// This process has what it takes.
    Root,
    /// It has it inside a user namespace, where it is root, and nowhere else.
    UserNamespace,
}

impl Privilege {
    /// As a cell records it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::UserNamespace => "user-namespace",
        }
    }
}

/// What can be done where no lab can be built.
const REMEDY: &str = "run as root, or let users make namespaces (sysctl kernel.unprivileged_userns_clone=1, \
     kernel.apparmor_restrict_unprivileged_userns=0, user.max_user_namespaces above 0; \
     chmod 666 /dev/net/tun where it is not everybody's), or give a container \
     --cap-add SYS_ADMIN --cap-add NET_ADMIN --device /dev/net/tun";

/// Gets this process what a lab takes, where it has not got it: it becomes root of a user namespace, for
/// good, and so are its children. Files that it makes are still its user's. To be called before there is a
/// second thread.
///
/// # Errors
/// When the kernel permits neither, with what can be done about it.
pub(crate) fn acquire() -> Result<Privilege, LabError> {
    let privilege = if has_capabilities() {
        Privilege::Root
    } else {
        enter_user_namespace().map_err(refused)?;
        Privilege::UserNamespace
    };
    super::probe().map_err(|error| error.with_remedy(REMEDY))?;
    Ok(privilege)
}

fn refused(source: io::Error) -> LabError {
    LabError::step("become root of a user namespace")(source).with_remedy(REMEDY)
}

/// Whether this process may administer networks and namespaces.
fn has_capabilities() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    effective(&status).is_some_and(|set| {
        [CAP_NET_ADMIN, CAP_SYS_ADMIN]
            .iter()
            .all(|capability| set & (1 << capability) != 0)
    })
}

fn effective(status: &str) -> Option<u64> {
    let mut lines = status.lines();
    let set = lines.find_map(|line| line.strip_prefix("CapEff:"))?;
    u64::from_str_radix(set.trim(), 16).ok()
}

fn enter_user_namespace() -> io::Result<()> {
    let (user, group) = (nix::unistd::geteuid(), nix::unistd::getegid());
    unshare(CloneFlags::CLONE_NEWUSER)?;
    // Who may not drop groups may map its own (user_namespaces(7)).
    fs::write("/proc/self/setgroups", "deny")?;
    fs::write("/proc/self/uid_map", format!("0 {user} 1"))?;
    fs::write("/proc/self/gid_map", format!("0 {group} 1"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_are_read_from_the_process_s_status() {
        let status = "Name:\thopbench\nCapPrm:\t0000000000000000\nCapEff:\t0000000000201000\n";
        let set = effective(status).expect("the line is there");
        assert_eq!(set, 1 << CAP_NET_ADMIN | 1 << CAP_SYS_ADMIN);
        assert_eq!(effective("Name:\thopbench\n"), None);
    }
}
