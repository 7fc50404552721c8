//! Tunnels that daemons of others make, one over each link of a lab for all that passes it, and what setting up that of
//! the users takes.

use hopbench::measure::histogram::LatencyHistogram;

use super::{Failure, Outcome, Placement};
use crate::beneath::Beneath;
use crate::interrupt;
use crate::lab::daemon::{DaemonError, Pair};
use crate::lab::{Lab, Place};

/// How often the first one is set up before it is used: what that takes is measured apart from the users' hops.
const SETUPS: u32 = 10;

/// The tunnels of a site: of the link that callers use, and of the others.
pub(crate) struct SharedTunnels {
    tunnels: Vec<SharedTunnel>,
    setups: TunnelSetups,
}

/// A tunnel between two places.
struct SharedTunnel {
    pair: Pair,
    /// Where its daemons are.
    ends: [Place; 2],
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

impl SharedTunnels {
    /// Has daemons make them over all links of `lab`, and measures how long the first one takes them.
    pub(super) fn start(beneath: Beneath, lab: &Lab, placement: &Placement) -> Outcome<Self> {
        let cpus = |place| match place {
            Place::Users => placement.load.as_slice(),
            Place::Station(_) => placement.node.as_slice(),
        };
        let mut tunnels = Vec::new();
        for (number, (from, to)) in lab.ends().into_iter().enumerate() {
            if interrupt::is_interrupted() {
                return Err(Failure::Interrupted);
            }
            tunnels.push(SharedTunnel {
                pair: Pair::start(beneath, lab.hosts(number, cpus))?,
                ends: [from, Place::Station(to)],
            });
        }
        let first = tunnels.first_mut().expect("a lab has a link at least");
        let setups = set_up_repeatedly(&mut first.pair)?;
        for tunnel in &mut tunnels {
            tunnel.pair.stop_listening();
        }
        Ok(Self { tunnels, setups })
    }

    /// What setting up the first one took.
    pub(crate) fn setups(&self) -> &TunnelSetups {
        &self.setups
    }

    /// User and system time so far of the daemons at a place.
    pub(crate) fn cpu_ns(&mut self, place: Place) -> Outcome<u64> {
        let mut sum = 0;
        for tunnel in &mut self.tunnels {
            let times = tunnel.pair.cpu_time()?;
            let of_place = tunnel.ends.into_iter().zip(times);
            let of_place = of_place.filter(|(end, _)| *end == place);
            sum += of_place.map(|(_, time)| time.as_nanos()).sum::<u128>();
        }
        Ok(u64::try_from(sum).unwrap_or(u64::MAX))
    }

    /// Whether all daemons are still there.
    pub(super) fn check(&mut self) -> Outcome<()> {
        let mut tunnels = self.tunnels.iter_mut();
        Ok(tunnels.try_for_each(|tunnel| tunnel.pair.check())?)
    }
}

fn set_up_repeatedly(pair: &mut Pair) -> Outcome<TunnelSetups> {
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
    Ok(TunnelSetups {
        times,
        wire_bytes_each: bytes as f64 / f64::from(SETUPS),
        wire_packets_each: packets as f64 / f64::from(SETUPS),
    })
}
