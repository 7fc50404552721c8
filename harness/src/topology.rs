//! Which SIP entities a call passes, and how they are laid out as nodes.
//!
//! A [`Topology`] is a name; [`Topology::layout`] says what it takes: stations in the order in which
//! a call passes them, their interfaces, where each sends what is not its own, and where the hops
//! are counted. It is data; [`crate::testbed`] starts the processes.

use std::fmt;
use std::str::FromStr;

use hopbench::sip::{Accounts, Service};
use hopbench::transport::{InnerIp, Stack};
use serde::{Deserialize, Deserializer};

use crate::beneath::{self, Beneath};
use crate::path::Path;
use crate::variant::Variant;

/// Most proxies that a chain may have.
pub(crate) const CHAIN_MAX: u32 = 8;

/// What a cell is measured on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Site {
    /// Which entities there are.
    pub(crate) topology: Topology,
    /// The stack of the users' hops.
    pub(crate) stack: &'static Stack,
    /// The stack of the hops between nodes; the same as `stack` where there are none.
    pub(crate) core: &'static Stack,
    /// How they are run.
    pub(crate) variant: Variant,
    /// Whether callers have to prove who they are.
    pub(crate) authenticate_calls: bool,
    /// Where packets go.
    pub(crate) path: Path,
    /// Who else makes tunnels there, beneath the stack of all hops, which is one then.
    pub(crate) beneath: Option<Beneath>,
}

impl Site {
    /// Whether what a tunnel of others does is in the time of the processes of either side.
    pub(crate) fn is_cpu_time_whole(&self) -> bool {
        let is_emulated = self.path.emulator().is_some();
        self.beneath
            .is_none_or(|beneath| beneath.is_cpu_time_whole(is_emulated))
    }

    /// Of the users' hops, as results have it: with what is beneath.
    pub(crate) fn stack_name(&self) -> &'static str {
        let over = self
            .beneath
            .and_then(|beneath| beneath::over(self.stack, beneath));
        over.map_or(self.stack.name, |over| over.name)
    }

    /// Whose IP is inside its tunnels.
    pub(crate) fn inner_ip(&self) -> InnerIp {
        let usual = self.path.inner_ip();
        self.variant.inner_ip.unwrap_or(usual)
    }
}

/// The path of a call between its user agents.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Topology {
    /// UA – answering node.
    #[default]
    Direct,
    /// UA – proxy and registrar – UA.
    Edge,
    /// UA – proxy – proxy – UA, each proxy the registrar of a domain of its own.
    Trapezoid,
    /// UA – that many proxies – answering node. Never 0, which is [`Topology::Direct`].
    Chain(u32),
}

/// The topologies as they are written, and what they are, for lists and errors.
pub(crate) const NAMES: [(&str, &str); 4] = [
    ("direct", "UA – answering node"),
    (
        "edge",
        "UA – proxy and registrar – UA, both registered there",
    ),
    (
        "trapezoid",
        "UA – proxy A – proxy B – UA, each registered with its proxy",
    ),
    (
        "chain-N",
        "UA – N proxies – answering node and registrar; N up to 8",
    ),
];

/// What a topology takes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Layout {
    /// In the order in which a call passes them; never empty. Callers attach to the first.
    pub(crate) stations: Vec<Station>,
    /// For each hop, from the caller on, the station and its interface that count what crosses it.
    pub(crate) hops: Vec<(usize, usize)>,
    /// Domain that callers register in.
    pub(crate) callers: &'static str,
    /// Station that callees attach to, and the domain that they register in; `None` where the last
    /// station answers calls.
    pub(crate) callees: Option<(usize, &'static str)>,
}

/// One node.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Station {
    /// Registrar and proxy, or registrar and answering user agent.
    pub(crate) service: Service,
    /// Its own domain; of a proxy without users, one that nobody registers in.
    pub(crate) domain: String,
    /// Whether anybody may register.
    pub(crate) has_users: bool,
    /// The first faces the users or the station before, the second the station after.
    pub(crate) interfaces: Vec<Link>,
    /// What leaves by the second interface for the interface of the next station that this names.
    pub(crate) onward: Option<Onward>,
}

/// Which stack an interface speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// That of the users.
    Edge,
    /// That between proxies.
    Core,
    /// That between proxies, on the side that opens the hop: over a tunnel it does not listen.
    CoreOut,
}

/// A station's route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Onward {
    /// Domain that is served there; `None` for all.
    pub(crate) domain: Option<&'static str>,
    /// Interface of the next station.
    pub(crate) interface: usize,
}

const DOMAIN: &str = "hopbench.test";
const DOMAIN_A: &str = "a.hopbench.test";
const DOMAIN_B: &str = "b.hopbench.test";

impl Topology {
    /// Nodes, each a process.
    pub(crate) fn nodes(self) -> u32 {
        match self {
            Self::Direct | Self::Edge => 1,
            Self::Trapezoid => 2,
            Self::Chain(proxies) => proxies + 1,
        }
    }

    /// Whether a hop connects two nodes, so that it can have a stack of its own.
    pub(crate) fn has_core(self) -> bool {
        self.nodes() > 1
    }

    /// Stations and hops.
    pub(crate) fn layout(self) -> Layout {
        match self {
            Self::Direct => Layout {
                stations: vec![Station::users(Service::Answer, DOMAIN, vec![Link::Edge])],
                hops: vec![(0, 0)],
                callers: DOMAIN,
                callees: None,
            },
            // Both legs of a call cross the one interface: they are counted as one hop.
            Self::Edge => Layout {
                stations: vec![Station::users(Service::Proxy, DOMAIN, vec![Link::Edge])],
                hops: vec![(0, 0)],
                callers: DOMAIN,
                callees: Some((0, DOMAIN)),
            },
            Self::Trapezoid => {
                let interfaces = |core| vec![Link::Edge, core];
                let mut a = Station::users(Service::Proxy, DOMAIN_A, interfaces(Link::CoreOut));
                a.onward = Some(Onward {
                    domain: Some(DOMAIN_B),
                    interface: 1,
                });
                let b = Station::users(Service::Proxy, DOMAIN_B, interfaces(Link::Core));
                Layout {
                    stations: vec![a, b],
                    hops: vec![(0, 0), (1, 1), (1, 0)],
                    callers: DOMAIN_A,
                    callees: Some((1, DOMAIN_B)),
                }
            }
            Self::Chain(proxies) => {
                let mut stations: Vec<Station> = (1..=proxies).map(Station::relay).collect();
                let link = vec![Link::Core];
                stations.push(Station::users(Service::Answer, DOMAIN, link));
                Layout {
                    hops: (0..stations.len()).map(|station| (station, 0)).collect(),
                    stations,
                    callers: DOMAIN,
                    callees: None,
                }
            }
        }
    }
}

impl Layout {
    /// Tunnel identities that there are if each side of a call has `users` users: theirs, and above
    /// them one for each station that opens hops.
    pub(crate) fn identities(&self, users: u32) -> u32 {
        self.identity(self.stations.len(), users)
    }

    /// Who the station at `place` is to the next one.
    pub(crate) fn identity(&self, place: usize, users: u32) -> u32 {
        let sides = if self.callees.is_some() { 2 } else { 1 };
        sides * users + u32::try_from(place).expect("a layout has a few stations")
    }

    /// The accounts of a station if each side of a call has `users` users.
    pub(crate) fn accounts(&self, station: &Station, users: u32) -> Accounts {
        // Callers and callees of one domain are different users, and so they are in two.
        let count = match (station.has_users, self.callees) {
            (false, _) => 0,
            (true, None) => users,
            (true, Some(_)) => 2 * users,
        };
        Accounts::new(&station.domain, "hopbench", count)
    }
}

impl Station {
    fn users(service: Service, domain: &str, interfaces: Vec<Link>) -> Self {
        Self {
            service,
            domain: domain.to_owned(),
            has_users: true,
            interfaces,
            onward: None,
        }
    }

    /// The proxy at `place` of a chain, which passes everything on.
    fn relay(place: u32) -> Self {
        let before = if place == 1 { Link::Edge } else { Link::Core };
        Self {
            service: Service::Proxy,
            domain: format!("p{place}.{DOMAIN}"),
            has_users: false,
            interfaces: vec![before, Link::CoreOut],
            onward: Some(Onward {
                domain: None,
                interface: 0,
            }),
        }
    }
}

impl fmt::Display for Topology {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct => f.write_str("direct"),
            Self::Edge => f.write_str("edge"),
            Self::Trapezoid => f.write_str("trapezoid"),
            Self::Chain(proxies) => write!(f, "chain-{proxies}"),
        }
    }
}

/// No topology is called this.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum UnknownTopology {
    #[error("there is no topology \"{0}\"; there are: direct, edge, trapezoid, chain-1 to chain-8")]
    Name(String),
    #[error("a chain of {0} proxies is too long: {CHAIN_MAX} is the most, as in chain-{CHAIN_MAX}")]
    Length(u32),
}

impl FromStr for Topology {
    type Err = UnknownTopology;

    fn from_str(name: &str) -> Result<Self, UnknownTopology> {
        let unknown = || UnknownTopology::Name(name.to_owned());
        match name {
            "direct" => Ok(Self::Direct),
            "edge" => Ok(Self::Edge),
            "trapezoid" => Ok(Self::Trapezoid),
            _ => {
                let digits = name.strip_prefix("chain-").ok_or_else(unknown)?;
                let is_number = digits.bytes().all(|byte| byte.is_ascii_digit());
                let proxies = digits.parse().ok().filter(|_| is_number);
                match proxies.ok_or_else(unknown)? {
                    0 => Ok(Self::Direct),
                    proxies @ 1..=CHAIN_MAX => Ok(Self::Chain(proxies)),
                    proxies => Err(UnknownTopology::Length(proxies)),
                }
            }
        }
    }
}

impl<'de> Deserialize<'de> for Topology {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let name = String::deserialize(deserializer)?;
        name.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ALL: [Topology; 5] = [
        Topology::Direct,
        Topology::Edge,
        Topology::Trapezoid,
        Topology::Chain(1),
        Topology::Chain(8),
    ];

    #[test]
    fn names_are_read_as_they_are_written() {
        for topology in ALL {
            assert_eq!(topology.to_string().parse(), Ok(topology));
        }
        assert_eq!("chain-0".parse(), Ok(Topology::Direct));
        assert_eq!(
            "chain-9".parse::<Topology>(),
            Err(UnknownTopology::Length(9))
        );
        for wrong in [
            "", "chain", "chain-", "chain-+3", "chain-x", "Direct", "ring",
        ] {
            let error = wrong.parse::<Topology>().unwrap_err();
            assert_eq!(error, UnknownTopology::Name(wrong.to_owned()));
            assert!(error.to_string().contains("trapezoid"), "{error}");
        }
    }

    #[test]
    fn each_hop_is_counted_once_by_who_accepts_it() {
        for topology in ALL {
            let layout = topology.layout();
            assert_eq!(layout.stations.len(), topology.nodes() as usize);
            let mut counted = layout.hops.clone();
            counted.sort_unstable();
            counted.dedup();
            assert_eq!(counted.len(), layout.hops.len(), "{topology}");
            for (station, interface) in layout.hops {
                let link = layout.stations[station].interfaces[interface];
                assert_ne!(link, Link::CoreOut, "{topology}");
            }
        }
    }

    #[test]
    fn every_route_leads_to_an_interface_of_the_next_station() {
        for topology in ALL {
            let stations = topology.layout().stations;
            for (place, station) in stations.iter().enumerate() {
                let is_last = place + 1 == stations.len();
                assert_eq!(station.onward.is_none(), is_last, "{topology} {place}");
                assert_eq!(station.interfaces.contains(&Link::CoreOut), !is_last);
                let Some(onward) = &station.onward else {
                    continue;
                };
                let next = &stations[place + 1];
                assert_eq!(next.interfaces[onward.interface], Link::Core, "{topology}");
                assert!(onward.domain.is_none_or(|domain| domain == next.domain));
            }
        }
    }

    #[test]
    fn the_first_interface_is_the_callers_and_callees_have_one_too() {
        for topology in ALL {
            let layout = topology.layout();
            assert_eq!(layout.stations[0].interfaces[0], Link::Edge, "{topology}");
            if let Some((station, domain)) = layout.callees {
                let station = &layout.stations[station];
                assert_eq!(station.interfaces[0], Link::Edge, "{topology}");
                assert_eq!(station.domain, domain);
                assert_eq!(layout.accounts(station, 10).count(), 20);
            }
        }
        let chain = Topology::Chain(2).layout();
        let counts = chain.stations.iter();
        let counts: Vec<u32> = counts.map(|s| chain.accounts(s, 10).count()).collect();
        assert_eq!(counts, [0, 0, 10]);
    }
}
