//! The lab: network namespaces, one a SIP entity, joined by links on which delay, loss and rate are emulated
//! or, where nothing is, by plain wires. The kernel's own TCP/IP is at work everywhere.
//!
//! Nothing here has a name that could be left behind: namespaces are held by descriptors, devices go with
//! theirs, and processes die with this one.

pub(crate) mod daemon;
mod namespace;
pub(crate) mod netem;
mod netlink;
mod network;
mod pcap;
mod privilege;
mod pump;
mod reading;
mod route;
mod tap;
mod veth;
mod wire;

use std::io;
use std::net::Ipv4Addr;

use hopbench::net::tun::{TunConfig, TunError};

pub(crate) use namespace::Namespace;
pub(crate) use network::{Lab, Place};
pub(crate) use privilege::{Privilege, acquire};
pub(crate) use reading::LinkReading;

/// Why there is no lab, or a part of it.
#[derive(Debug, thiserror::Error)]
#[error("cannot {step}: {cause}{remedy}")]
pub(crate) struct LabError {
    step: String,
    /// The system's words.
    cause: io::Error,
    /// What can be done, if that is known.
    remedy: String,
}

impl LabError {
    /// What the system said when this was tried.
    pub(crate) fn step(step: impl Into<String>) -> impl FnOnce(io::Error) -> Self {
        let step = step.into();
        move |cause| Self {
            step,
            cause,
            remedy: String::new(),
        }
    }

    fn with_remedy(self, remedy: &str) -> Self {
        Self {
            remedy: format!("; {remedy}"),
            ..self
        }
    }
}

impl From<TunError> for LabError {
    fn from(error: TunError) -> Self {
        Self::step("make a TUN device")(io::Error::new(error.source.kind(), error))
    }
}

/// Whether a lab can be built by this process: makes a namespace with a device in it, and lets both go.
///
/// # Errors
/// For what fails.
fn probe() -> Result<(), LabError> {
    let namespace = Namespace::create()?;
    let config = TunConfig {
        name: "probe%d".into(),
        address: Ipv4Addr::new(198, 18, 0, 1),
        prefix_bits: 30,
        peer: None,
        mtu_bytes: 1_500,
        queue_packets: 500,
    };
    namespace.tun(&config).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Whether tests of the lab can be made in this process, which has threads already and can thus not
    /// become the root of a user namespace. Says so where not; CI's are made as root.
    pub(super) fn lab_is_possible() -> bool {
        match probe() {
            Ok(()) => true,
            Err(error) => {
                let is_required = std::env::var("HOPBENCH_REQUIRE_PEERS").as_deref() == Ok("1");
                assert!(!is_required || !nix::unistd::geteuid().is_root(), "{error}");
                eprintln!("skipped: no lab here: {error}");
                false
            }
        }
    }
}
