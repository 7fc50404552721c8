//! Tunnels that others make between two hosts of the lab: strongSwan's IPsec, with ESP by itself or by the kernel,
//! wireguard-go, the kernel's WireGuard. SIP entities there know nothing of them: they have plain carriers over the
//! inner addresses, and the kernel's TCP/IP.
//!
//! One pair of ends, and one security association of theirs, carries all users of a hop, as between two
//! sites. What setting it up costs is measured apart, by making it anew ([`Pair::set_up`]).
//!
//! Not here: tunnels in this process, which are the library's.

mod kernel;
mod probe;
mod process;
mod programs;
mod strongswan;
#[cfg(test)]
mod tests;
mod vici;
mod wire;
mod wireguard_go;
mod wireguard_kernel;

use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use super::{LabError, Namespace};
use crate::beneath::Beneath;

use probe::Probe;
pub(crate) use programs::{Missing, find};
use strongswan::{Authentication, Esp, Kind, Strongswan};
use wire::Tap;
use wireguard_go::WireguardGo;
use wireguard_kernel::WireguardKernel;

/// A host at one end of a tunnel.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Host<'a> {
    /// Where it is.
    pub(crate) namespace: &'a Namespace,
    /// Of the link that the tunnel is over. A host may be at several: what it has one of, ports and
    /// interfaces, is told apart by this.
    pub(crate) number: u8,
    /// Where the other end finds it.
    pub(crate) outer: Ipv4Addr,
    /// Its address inside, which it is given.
    pub(crate) inner: Ipv4Addr,
    /// Processors that its daemon may use; empty leaves it to the scheduler.
    pub(crate) cpus: &'a [usize],
}

/// A tunnel between two hosts, and the daemons that make it. Dropping it ends them.
pub(crate) struct Pair {
    daemons: Daemons,
    probe: Probe,
    /// Until nobody asks any more what setting the tunnel up takes: whoever sends or receives a packet pays for
    /// its copy.
    tap: Option<Tap>,
}

enum Daemons {
    Strongswan([Strongswan; 2]),
    WireguardGo([WireguardGo; 2]),
    WireguardKernel([WireguardKernel; 2]),
}

/// What it took to set a tunnel up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SetUp {
    /// From asking for it until an inner datagram had come back.
    pub(crate) time: Duration,
    /// Of that, until the daemon said that it was there; `None` where it does not say.
    pub(crate) announced: Option<Duration>,
    /// IP packets of key exchange, both directions.
    pub(crate) wire_packets: u64,
    /// Their bytes, with IP headers.
    pub(crate) wire_bytes: u64,
}

impl Pair {
    /// Starts a daemon on each host, the caller's first, and sets the tunnel up.
    ///
    /// # Errors
    /// When a program is missing ([`DaemonError::Missing`]) or fails, with what it has said.
    pub(crate) fn start(beneath: Beneath, hosts: [Host<'_>; 2]) -> Result<Self, DaemonError> {
        let program = find(beneath)?;
        let daemons = match maker(beneath) {
            Maker::Strongswan(kind) => {
                Daemons::Strongswan(Strongswan::pair(&program, kind, hosts)?)
            }
            Maker::WireguardGo => Daemons::WireguardGo(WireguardGo::pair(&program, hosts)?),
            Maker::WireguardKernel => {
                Daemons::WireguardKernel(WireguardKernel::pair(&program, hosts)?)
            }
        };
        let mut pair = Self {
            daemons,
            probe: Probe::between(hosts)?,
            tap: Some(Tap::open(hosts)?),
        };
        pair.set_up()?;
        Ok(pair)
    }

    /// Sees no more packets: what setting the tunnel up takes is not asked any more.
    pub(crate) fn stop_listening(&mut self) {
        self.tap = None;
    }

    /// Ends the tunnel at both ends, and sets it up anew.
    ///
    /// # Errors
    /// When a daemon fails, or nothing passes.
    pub(crate) fn set_up(&mut self) -> Result<SetUp, DaemonError> {
        self.tear_down()?;
        if let Some(tap) = &mut self.tap {
            tap.clear()?;
        }
        let begin = std::time::Instant::now();
        let announced = match &mut self.daemons {
            Daemons::Strongswan([caller, _]) => {
                caller.initiate()?;
                Some(begin.elapsed())
            }
            // The first packet asks for a handshake.
            Daemons::WireguardGo(_) | Daemons::WireguardKernel(_) => None,
        };
        if let Err(error) = self.probe.pass() {
            self.check()?;
            return Err(self.failed(format!("no inner datagram came back: {error}")));
        }
        let time = begin.elapsed();
        let exchanged = self.tap.as_mut().map_or(Ok(Vec::new()), Tap::drain)?;
        let exchanged = exchanged.iter().filter(|packet| match &self.daemons {
            Daemons::Strongswan(_) => packet.is_ike(),
            Daemons::WireguardGo(_) | Daemons::WireguardKernel(_) => {
                packet.is_wireguard_handshake()
            }
        });
        let bytes: Vec<u64> = exchanged.map(|packet| packet.ip_bytes()).collect();
        Ok(SetUp {
            time,
            announced,
            wire_packets: bytes.len() as u64,
            wire_bytes: bytes.iter().sum(),
        })
    }

    fn tear_down(&mut self) -> Result<(), DaemonError> {
        match &mut self.daemons {
            Daemons::Strongswan([caller, server]) => {
                caller.terminate()?;
                server.await_end()
            }
            Daemons::WireguardGo(ends) => ends.iter_mut().try_for_each(WireguardGo::forget),
            Daemons::WireguardKernel(ends) => ends.iter().try_for_each(WireguardKernel::forget),
        }
    }

    /// Whether both daemons are still there.
    ///
    /// # Errors
    /// For the one that is not, with its last words.
    pub(crate) fn check(&mut self) -> Result<(), DaemonError> {
        self.processes()
            .into_iter()
            .try_for_each(|process| process.check())
    }

    /// User and system time of the daemons so far: the caller's, the server's. What the kernel does is not in it.
    ///
    /// # Errors
    /// When one of them is gone.
    pub(crate) fn cpu_time(&mut self) -> Result<[Duration; 2], DaemonError> {
        let mut times = [Duration::ZERO; 2];
        for (time, process) in times.iter_mut().zip(self.processes()) {
            *time = process.cpu_time()?;
        }
        Ok(times)
    }

    /// What strongSwan says of the association that it has made, as names and values.
    #[cfg(test)]
    fn agreed(&mut self) -> Vec<(&'static str, String)> {
        match &mut self.daemons {
            Daemons::Strongswan([caller, _]) => caller.agreed().unwrap_or_default(),
            Daemons::WireguardGo(_) | Daemons::WireguardKernel(_) => Vec::new(),
        }
    }

    /// The caller's and the server's, if there are some.
    fn processes(&mut self) -> Vec<&mut process::Process> {
        match &mut self.daemons {
            Daemons::Strongswan(ends) => ends.iter_mut().map(|end| &mut end.process).collect(),
            Daemons::WireguardGo(ends) => ends.iter_mut().map(|end| &mut end.process).collect(),
            Daemons::WireguardKernel(_) => Vec::new(),
        }
    }

    fn failed(&mut self, reason: String) -> DaemonError {
        match self.processes().first() {
            Some(caller) => caller.failed(reason),
            None => DaemonError::Kernel(reason),
        }
    }
}

/// Who makes a tunnel, and how.
enum Maker {
    Strongswan(Kind),
    WireguardGo,
    WireguardKernel,
}

fn maker(beneath: Beneath) -> Maker {
    let (authentication, esp) = match beneath {
        Beneath::Strongswan => (Authentication::Certificates, Esp::User),
        Beneath::StrongswanPsk => (Authentication::Psk, Esp::User),
        Beneath::StrongswanKernel => (Authentication::Certificates, Esp::Kernel),
        Beneath::StrongswanKernelPsk => (Authentication::Psk, Esp::Kernel),
        Beneath::WireguardGo => return Maker::WireguardGo,
        Beneath::WireguardKernel => return Maker::WireguardKernel,
    };
    Maker::Strongswan(Kind {
        authentication,
        esp,
    })
}

/// What a cell records of a tunnel: how it protects packets, and for whom. strongSwan takes no other proposals
/// than ours, and tests hold that it has agreed on them.
pub(crate) fn recorded(beneath: Beneath) -> impl Iterator<Item = (String, serde_json::Value)> {
    let protection = match maker(beneath) {
        Maker::Strongswan(kind) => strongswan::recorded(kind),
        Maker::WireguardGo => wireguard_go::recorded(),
        Maker::WireguardKernel => wireguard_kernel::recorded(),
    };
    let users = [("users", "share one association of two hosts")];
    let named = protection.into_iter().chain(users);
    named.map(|(name, value)| (format!("tunnel_{name}"), value.into()))
}

/// Why a daemon did not do its work.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DaemonError {
    /// It is not installed, or not all of it.
    #[error(transparent)]
    Missing(#[from] Missing),
    /// Something of the lab.
    #[error(transparent)]
    Lab(#[from] LabError),
    /// It ended, or did not get ready.
    #[error("{name} failed: {reason}; it said: {said}")]
    Failed {
        /// Of the program.
        name: &'static str,
        /// What was expected.
        reason: String,
        /// The last of what it has said.
        said: String,
    },
    /// The kernel's tunnel does not carry packets.
    #[error("the kernel's tunnel failed: {0}")]
    Kernel(String),
    /// Something of the system.
    #[error("cannot {0}: {1}")]
    Io(String, io::Error),
    /// Keys for it could not be made.
    #[error("cannot make keys: {0}")]
    Keys(String),
}
