//! The lab of one topology: a namespace for the users and one for each station, and a link for each hop.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;

use hopbench::net::link::LinkConditions;
use hopbench::transport::{Stack, WireCounters};

use super::daemon::Host;
use super::namespace::Namespace;
use super::netem::Netem;
use super::pcap::Capture;
use super::pump::Pump;
use super::reading::{LinkReading, retransmitted_segments};
use super::tap::Tap;
use super::veth::{self, End};
use super::{LabError, wire};
use crate::path::LinkEmulator;
use crate::topology::{Layout, Link};

/// Links have the addresses of the network that is for measuring (RFC 2544 Appendix C.2.2): 198.18.N.1 at
/// the side that opens hops, 198.18.N.2 at the side that accepts them.
const NETWORK: [u8; 2] = [198, 18];
const PREFIX_BITS: u8 = 30;
/// Within a tunnel of others, a link's addresses are of the same network's other half: 198.19.N.1 and 198.19.N.2.
const INSIDE: [u8; 2] = [198, 19];

/// The addresses inside tunnels (`hopbench::tunnel::user_address`).
const INNER: (Ipv4Addr, u8) = (Ipv4Addr::new(10, 0, 0, 0), 8);

/// Where nodes listen (RFC 3261 §18): each has addresses of its own.
const SIP_PORT: u16 = 5_060;
const SIPS_PORT: u16 = 5_061;
/// Of a tunnel's outer socket, as WireGuard's is by custom.
const TUNNEL_PORT: u16 = 51_820;

/// A lab at work. Dropping it removes all of it.
pub(crate) struct Lab {
    users: Namespace,
    /// In the order in which a call passes them.
    stations: Vec<Namespace>,
    links: Vec<LabLink>,
}

/// A link and what is at its ends.
struct LabLink {
    /// Who opens hops over it.
    from: Place,
    /// The station that accepts them.
    to: usize,
    carrier: Carrier,
}

/// What carries packets over a link.
enum Carrier {
    /// Nothing: it is a plain wire.
    Wire,
    /// The emulator of this process.
    Pump(Pump),
    /// The kernel's.
    Netem(Netem),
}

/// Who is at an end of a link.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// User agents.
    Users,
    /// The station of this number.
    Station(usize),
}

impl Lab {
    /// Builds what `layout` takes, with links that are as `conditions` say in both directions, which is `emulator`'s
    /// doing. `seed` draws what is lost and how delays vary; threads that carry packets use `cpus`, if there are
    /// some: neither is netem's. What passes links that are emulated here is written to files whose names begin with
    /// `capture`, if that is given.
    ///
    /// # Errors
    /// For the first part that cannot be built.
    pub(crate) fn build(
        layout: &Layout,
        (conditions, emulator): (&LinkConditions, LinkEmulator),
        seed: u64,
        cpus: &[usize],
        capture: Option<&Path>,
    ) -> Result<Self, LabError> {
        let stations = layout.stations.iter().map(|_| Namespace::create());
        let mut lab = Self {
            users: Namespace::create()?,
            stations: stations.collect::<Result<_, _>>()?,
            links: Vec::new(),
        };
        // Users of tunnels are told by their inner addresses, which are all here.
        let (prefix, bits) = INNER;
        lab.users
            .interfaces(async |interfaces| interfaces.add_local(prefix, bits).await)?;
        for (number, (from, to)) in hops(layout).into_iter().enumerate() {
            let number = u8::try_from(number).expect("a layout has a few links");
            let name = interface_of(number);
            let [near, far] = [(from, 1), (Place::Station(to), 2)].map(|(place, host)| End {
                namespace: lab.namespace(place),
                name: &name,
                address: address(NETWORK, number, host),
            });
            let ends = [near, far];
            let carrier = match emulator {
                LinkEmulator::Netem => Carrier::Netem(Netem::join(ends, PREFIX_BITS, conditions)?),
                LinkEmulator::Hopbench if !conditions.is_impaired() => {
                    veth::join(near, far, PREFIX_BITS, conditions.mtu_bytes.into())?;
                    Carrier::Wire
                }
                LinkEmulator::Hopbench => {
                    let seed = seed.wrapping_add(u64::from(number) << 32);
                    let tap = tap(capture, &name)?;
                    let pump = wire::join(ends, PREFIX_BITS, conditions, seed, tap, cpus)?;
                    Carrier::Pump(pump)
                }
            };
            lab.links.push(LabLink { from, to, carrier });
        }
        Ok(lab)
    }

    /// Where a place is.
    pub(crate) fn namespace(&self, place: Place) -> &Namespace {
        match place {
            Place::Users => &self.users,
            Place::Station(number) => &self.stations[number],
        }
    }

    /// Why figures would be the emulator's, if they would.
    ///
    /// # Errors
    /// When a link has failed.
    pub(crate) fn overwhelmed(&self) -> Result<Option<String>, LabError> {
        for pump in self.links.iter().filter_map(LabLink::pump) {
            let counters = pump.counters();
            let counters = counters.map_err(LabError::step("carry packets between devices"))?;
            if let Some(reason) = counters.overwhelmed() {
                return Ok(Some(reason));
            }
        }
        Ok(None)
    }

    /// What has passed the link of an interface of this kind at `place`; `None` where nobody counts it.
    ///
    /// # Errors
    /// When the link has failed.
    pub(crate) fn seen(&self, place: usize, link: Link) -> Result<Option<WireCounters>, LabError> {
        let (number, _) = self.end(place, link);
        let reading = self.links[usize::from(number)].reading()?;
        Ok(reading.map(|reading| reading.onward.plus(reading.back)))
    }

    /// What has passed the link that callers use; `None` where nobody counts it.
    ///
    /// # Errors
    /// When the link has failed.
    pub(crate) fn users_link(&self) -> Result<Option<LinkReading>, LabError> {
        self.links[0].reading()
    }

    /// Segments that the kernel's TCP has sent again everywhere.
    ///
    /// # Errors
    /// When its books cannot be read.
    pub(crate) fn retransmitted_segments(&self) -> Result<u64, LabError> {
        let places = self.stations.iter().chain([&self.users]);
        places.map(retransmitted_segments).sum()
    }

    /// Has emulated links send what comes from now on at another rate; `None` for as fast as it comes.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub(crate) fn set_rate(&self, bits_per_second: Option<u64>) -> Result<(), LabError> {
        for link in &self.links {
            match &link.carrier {
                Carrier::Wire => {}
                Carrier::Pump(pump) => pump.set_rate(bits_per_second),
                Carrier::Netem(netem) => netem.set_rate(bits_per_second)?,
            }
        }
        Ok(())
    }

    /// The link of an interface of this kind at `place`, and which end of it that is.
    fn end(&self, place: usize, link: Link) -> (u8, u8) {
        let before = |link: &LabLink| link.to == place && link.from != Place::Users;
        match link {
            Link::Edge => (
                self.link(|link| link.to == place && link.from == Place::Users),
                2,
            ),
            Link::Core => (self.link(before), 2),
            Link::CoreOut => (self.link(|link| link.from == Place::Station(place)), 1),
        }
    }

    /// Where the station at `place` listens with `stack` on an interface of this kind.
    pub(crate) fn listen(&self, place: usize, link: Link, stack: &Stack) -> SocketAddr {
        let (number, host) = self.end(place, link);
        let port = match (stack.tunnel, stack.speaks_tls()) {
            (Some(_), _) => TUNNEL_PORT,
            (None, true) => SIPS_PORT,
            (None, false) => SIP_PORT,
        };
        (address(NETWORK, number, host), port).into()
    }

    /// The same, within the tunnel that others make over the link.
    pub(crate) fn listen_inside(&self, place: usize, link: Link, stack: &Stack) -> SocketAddr {
        let outside = self.listen(place, link, stack);
        let (number, host) = self.end(place, link);
        (address(INSIDE, number, host), outside.port()).into()
    }

    /// Who opens hops over each link, and the station that accepts them.
    pub(crate) fn ends(&self) -> Vec<(Place, usize)> {
        let links = self.links.iter();
        links.map(|link| (link.from, link.to)).collect()
    }

    /// The places at the ends of the link `number` as ends of a tunnel over it; its daemons use the processors
    /// that `cpus` names for a place.
    pub(crate) fn hosts<'a>(
        &'a self,
        number: usize,
        cpus: impl Fn(Place) -> &'a [usize],
    ) -> [Host<'a>; 2] {
        let link = &self.links[number];
        let number = u8::try_from(number).expect("a layout has a few links");
        [(link.from, 1), (Place::Station(link.to), 2)].map(|(place, host)| Host {
            namespace: self.namespace(place),
            number,
            outer: address(NETWORK, number, host),
            inner: address(INSIDE, number, host),
            cpus: cpus(place),
        })
    }

    fn link(&self, is_wanted: impl Fn(&LabLink) -> bool) -> u8 {
        let number = self.links.iter().position(is_wanted);
        let number = number.expect("every interface of a layout is at a link");
        u8::try_from(number).expect("a layout has a few links")
    }
}

impl LabLink {
    fn pump(&self) -> Option<&Pump> {
        match &self.carrier {
            Carrier::Pump(pump) => Some(pump),
            Carrier::Wire | Carrier::Netem(_) => None,
        }
    }

    /// What has passed; `None` where nobody counts it.
    fn reading(&self) -> Result<Option<LinkReading>, LabError> {
        match &self.carrier {
            Carrier::Wire => Ok(None),
            Carrier::Pump(pump) => {
                let counters = pump.counters();
                let counters = counters.map_err(LabError::step("carry packets between devices"))?;
                let seen = pump.with_tap(|tap| tap.seen());
                Ok(Some(LinkReading::new(seen, counters.links.queue_full)))
            }
            Carrier::Netem(netem) => netem.reading(),
        }
    }
}

impl Drop for Lab {
    /// Captures end here; what could not be written is told, since figures do without it.
    fn drop(&mut self) {
        for pump in self.links.iter().filter_map(LabLink::pump) {
            if let Err(error) = pump.with_tap(Tap::finish) {
                eprintln!("hopbench: a capture is not complete: {error}");
            }
        }
    }
}

/// What the link of this number is called at both of its ends.
pub(super) fn interface_of(number: u8) -> String {
    format!("hop{number}")
}

/// The tap of the link `name`.
fn tap(capture: Option<&Path>, name: &str) -> Result<Tap, LabError> {
    let Some(capture) = capture else {
        return Ok(Tap::default());
    };
    let path = capture.with_added_extension(format!("{name}.pcap"));
    let made = Capture::create(&path);
    let made = made.map_err(LabError::step(format!("write {}", path.display())))?;
    Ok(Tap::with_capture(made))
}

/// Between whom there are links: users and who serves them, and each station and the next one.
pub(crate) fn hops(layout: &Layout) -> Vec<(Place, usize)> {
    let mut hops = vec![(Place::Users, 0)];
    for (place, station) in layout.stations.iter().enumerate() {
        if station.onward.is_some() {
            hops.push((Place::Station(place), place + 1));
        }
    }
    if let Some((station, _)) = layout.callees.filter(|(station, _)| *station != 0) {
        hops.push((Place::Users, station));
    }
    hops
}

fn address([first, second]: [u8; 2], link: u8, host: u8) -> Ipv4Addr {
    Ipv4Addr::new(first, second, link, host)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport;

    use super::super::tests::lab_is_possible;
    use super::*;
    use crate::topology::Topology;

    #[test]
    fn each_hop_of_a_topology_has_a_link() {
        let cases: [(Topology, &[(Place, usize)]); 4] = [
            (Topology::Direct, &[(Place::Users, 0)]),
            (Topology::Edge, &[(Place::Users, 0)]),
            (
                Topology::Trapezoid,
                &[(Place::Users, 0), (Place::Station(0), 1), (Place::Users, 1)],
            ),
            (
                Topology::Chain(2),
                &[
                    (Place::Users, 0),
                    (Place::Station(0), 1),
                    (Place::Station(1), 2),
                ],
            ),
        ];
        for (topology, expected) in cases {
            assert_eq!(hops(&topology.layout()), expected, "{topology}");
        }
    }

    #[test]
    fn every_interface_has_an_address_that_its_station_can_listen_on() {
        if !lab_is_possible() {
            return;
        }
        for topology in [Topology::Direct, Topology::Trapezoid, Topology::Chain(1)] {
            let layout = topology.layout();
            let conditions = LinkConditions::default();
            let links = (&conditions, LinkEmulator::Hopbench);
            let lab = Lab::build(&layout, links, 1, &[], None).unwrap();
            for (place, station) in layout.stations.iter().enumerate() {
                for link in &station.interfaces {
                    let tls = transport::find("tls").unwrap();
                    let address = lab.listen(place, *link, tls);
                    assert_eq!(address.port(), 5_061);
                    let namespace = lab.namespace(Place::Station(place));
                    let bound = namespace.run(|| Ok(std::net::TcpListener::bind(address)));
                    bound.unwrap().unwrap();
                }
            }
        }
    }
}
