//! A tunnel that daemons of others make for all users of a cell, and what setting it up takes.

use hopbench::measure::histogram::LatencyHistogram;

use super::{Failure, Outcome};
use crate::beneath::Beneath;
use crate::interrupt;
use crate::lab::daemon::{DaemonError, Host, Pair};

/// How often it is set up before it is used: what that takes is measured apart from the users' hops.
const SETUPS: u32 = 10;

/// A tunnel between users and a node.
pub(crate) struct SharedTunnel {
    pair: Pair,
    setups: TunnelSetups,
}

/// What it took to set a tunnel up, [`SETUPS`] times.
#[derive(Clone, Debug)]
pub(crate) struct TunnelSetups {
    /// Until an inner datagram had come back.
    pub(crate) times: LatencyHistogram,
    /// Bytes of IP packets of key exchange, both directions, each time.
    pub(crate) wire_bytes_each: f64,
    /// How many packets.
    pub(crate) wire_packets_each: f64,
}

impl From<DaemonError> for Failure {
    fn from(error: DaemonError) -> Self {
        match error {
            DaemonError::Missing(missing) => Self::Unsupported(missing.to_string()),
            other => Self::of(other.to_string()),
        }
    }
}

impl SharedTunnel {
    /// Has daemons make it between these hosts, and measures how long that takes them.
    pub(super) fn start(beneath: Beneath, hosts: [Host<'_>; 2]) -> Outcome<Self> {
        let mut pair = Pair::start(beneath, hosts)?;
        let mut times = LatencyHistogram::new();
        let (mut bytes, mut packets) = (0, 0);
        for _ in 0..SETUPS {
            if interrupt::is_interrupted() {
                return Err(Failure::Interrupted);
            }
            let setup = pair.set_up()?;
            times.record(setup.time);
            bytes += setup.wire_bytes;
            packets += setup.wire_packets;
        }
        let setups = TunnelSetups {
            times,
            wire_bytes_each: bytes as f64 / f64::from(SETUPS),
            wire_packets_each: packets as f64 / f64::from(SETUPS),
        };
        Ok(Self { pair, setups })
    }

    /// What setting it up took.
    pub(crate) fn setups(&self) -> &TunnelSetups {
        &self.setups
    }

    /// User and system time of its daemons so far: the users', the node's.
    pub(crate) fn cpu_ns(&mut self) -> Outcome<[u64; 2]> {
        let times = self.pair.cpu_time()?;
        Ok(times.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)))
    }

    /// Whether its daemons are still there.
    pub(super) fn check(&mut self) -> Outcome<()> {
        Ok(self.pair.check()?)
    }
}
