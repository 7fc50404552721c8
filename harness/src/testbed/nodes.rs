//! The nodes of a topology: started from the far end backwards, since each needs to know where the
//! next one listens, and read together.

use std::net::{Ipv4Addr, SocketAddr};

use hopbench::load::Callees;
use hopbench::measure::snapshot::ProcessSnapshot;
use hopbench::node::{InterfaceConfig, NodeConfig, NodeCounters, RouteConfig, WORKERS_MAX};
use hopbench::sip::{Accounts, DATAGRAM_BYTES_MAX};
use hopbench::transport::{Batching, Settings, Stack, WireCounters};

use super::tunnel::SharedTunnels;
use super::{Failure, NodeProcesses, Outcome, Testbed};
use crate::beneath::Beneath;
use crate::lab::{Lab, LinkReading, Namespace, Place, netem};
use crate::path::LinkEmulator;
use crate::protocol::WireReading;
use crate::topology::{Layout, Link, Site, Station};

/// The nodes of a site at work.
pub(crate) struct Nodes {
    /// In the order in which a call passes them.
    nodes: Vec<NodeProcesses>,
    layout: Layout,
    site: Site,
    users: u32,
    /// The tunnels that others make over the links between them, if there are some.
    tunnels: Option<SharedTunnels>,
    /// What they are in, if not on the loopback; goes after them.
    lab: Option<Lab>,
}

/// Who uses the nodes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Crew {
    /// Callers, and as many callees where there are some.
    pub(crate) users: u32,
    /// From INVITE to its 200 at a node that answers.
    pub(crate) ring_seconds: f64,
    /// Calls that each node lets in each second; `None` for all.
    pub(crate) calls_per_second_limit: Option<u32>,
    /// Processes of each node, which share its address and its users; with one there is nothing to
    /// share.
    pub(crate) workers: u32,
    /// Of what a lab's links draw.
    pub(crate) seed: u64,
}

/// What has crossed the hops of a topology.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Wire {
    /// By hop, from the caller on, both directions; `None` where the kernel does not tell.
    pub(crate) hops: Vec<Option<WireCounters>>,
    /// Bytes at all interfaces of all nodes: those of a hop between nodes twice.
    pub(crate) interface_bytes: Option<u64>,
    /// Bytes of the SIP messages that the nodes received and sent, likewise.
    pub(crate) sip_bytes: u64,
}

/// Whether proxies let `sips:` cross a tunnel (RFC 5630 knows TLS only). The calls of experiments are
/// `sip:`, which may cross everything; cells with proxies record it all the same.
pub(crate) const TUNNELS_PROTECT: bool = false;

impl Testbed {
    /// Starts the nodes of `site` for `crew`. `settings` hold the tunnel keys of
    /// [`Layout::identities`].
    pub(crate) fn nodes(&self, site: &Site, settings: &Settings, crew: Crew) -> Outcome<Nodes> {
        let users = crew.users;
        let layout = site.topology.layout();
        let workers = workers(crew.workers, &layout)?;
        let lab = self.lab_of(site, &layout, crew.seed)?;
        let tunnels = self.tunnels_of(site, lab.as_ref())?;
        let mut backwards: Vec<NodeProcesses> = Vec::with_capacity(layout.stations.len());
        for (place, station) in layout.stations.iter().enumerate().rev() {
            let routes = station.onward.as_ref().map(|onward| RouteConfig {
                domain: onward.domain.map(str::to_owned),
                interface: 1,
                target: backwards
                    .last()
                    .expect("the last station has no route")
                    .address(onward.interface),
                user: layout.identity(place, users),
            });
            let interfaces = station.interfaces.iter();
            let address = |link: Link, stack: &Stack| match &lab {
                Some(lab) if tunnels.is_some() => lab.listen_inside(place, link, stack),
                Some(lab) => lab.listen(place, link, stack),
                None => SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            };
            let config = NodeConfig {
                interfaces: interfaces
                    .map(|link| interface(*link, site, address))
                    .collect(),
                settings: settings.clone(),
                accounts: layout.accounts(station, users),
                service: station.service,
                routes: routes.into_iter().collect(),
                authenticate_calls: site.authenticate_calls && challenges(station, place, &layout),
                tunnels_protect: TUNNELS_PROTECT,
                datagram_bytes_max: DATAGRAM_BYTES_MAX,
                ring_seconds: crew.ring_seconds,
                calls_per_second_limit: crew.calls_per_second_limit,
                worker: None,
                handicap_ratio: self.server_handicap(site),
            };
            let namespace = lab.as_ref().map(|lab| lab.namespace(Place::Station(place)));
            backwards.push(self.node(&config, workers, namespace)?);
        }
        backwards.reverse();
        Ok(Nodes {
            nodes: backwards,
            layout,
            site: *site,
            users,
            tunnels,
            lab,
        })
    }

    /// The tunnels of others that the hops of `site` pass, if they do.
    fn tunnels_of(&self, site: &Site, lab: Option<&Lab>) -> Outcome<Option<SharedTunnels>> {
        let Some(beneath) = site.beneath else {
            return Ok(None);
        };
        let Some(lab) = lab else {
            return Err(Failure::Unsupported(format!(
                "the tunnel of {} is made in the lab: add --path lab",
                site.stack_name()
            )));
        };
        SharedTunnels::start(beneath, lab, &self.placement).map(Some)
    }

    /// The lab that the packets of `site` pass, if they do.
    fn lab_of(&self, site: &Site, layout: &Layout, seed: u64) -> Outcome<Option<Lab>> {
        let Some(conditions) = site.path.links() else {
            return Ok(None);
        };
        self.lab()?;
        let emulator = site.path.emulator().unwrap_or_default();
        if emulator == LinkEmulator::Netem {
            check_netem(site)?;
        }
        let capture = self.captures.as_ref().map(|captures| captures.next(site));
        let cpus = &self.placement.load;
        let links = (conditions, emulator);
        let lab = Lab::build(layout, links, seed, cpus, capture.as_deref())?;
        Ok(Some(lab))
    }
}

/// Whether the kernel has netem, and sees each packet of a site.
fn check_netem(site: &Site) -> Outcome<()> {
    let refused = |reason: String| Err(Failure::Unsupported(reason));
    let sends_several_as_one =
        site.variant.batching == Batching::Segments || site.beneath == Some(Beneath::WireguardGo);
    if sends_several_as_one {
        return refused(
            "datagrams that a process sends as one (`batching`, and wireguard-go's) pass netem as one, with one \
             delay and one fate: leave the links to --link-emulator hopbench"
                .to_owned(),
        );
    }
    netem::probe().or_else(|error| refused(error.to_string()))
}

/// How many workers each node gets.
fn workers(asked: u32, layout: &Layout) -> Outcome<u16> {
    if asked > 1 && layout.stations.len() > 1 {
        // Over a tunnel, the workers of a proxy would be one and the same peer to the next node.
        return Err(Failure::Unsupported(format!(
            "expected one node for {asked} workers to share, found {}",
            layout.stations.len()
        )));
    }
    match u16::try_from(asked) {
        Ok(workers) if workers <= WORKERS_MAX => Ok(workers),
        Ok(_) | Err(_) => Err(Failure::Unsupported(format!(
            "expected at most {WORKERS_MAX} workers, found {asked}"
        ))),
    }
}

/// Whether a station asks callers who they are: the one that serves them.
fn challenges(station: &Station, place: usize, layout: &Layout) -> bool {
    station.has_users && (place == 0 || layout.callees.is_none())
}

fn interface(
    link: Link,
    site: &Site,
    address: impl Fn(Link, &Stack) -> SocketAddr,
) -> InterfaceConfig {
    let stack = stack_of(link, site);
    InterfaceConfig {
        stack: stack.name.to_owned(),
        listen: listens(link, stack).then(|| address(link, stack)),
    }
}

fn stack_of(link: Link, site: &Site) -> &'static Stack {
    match link {
        Link::Edge => site.stack,
        Link::Core | Link::CoreOut => site.core,
    }
}

fn listens(link: Link, stack: &Stack) -> bool {
    match link {
        Link::Edge | Link::Core => true,
        // Who opens a tunnel has an address inside it, and needs none outside.
        Link::CoreOut => stack.tunnel.is_none(),
    }
}

impl Nodes {
    /// Has each remember what each block of memory is for that it allocates from now on.
    pub(crate) fn trace(&mut self) -> Outcome<()> {
        self.nodes.iter_mut().try_for_each(NodeProcesses::trace)
    }

    /// Where callers connect.
    pub(crate) fn target(&self) -> SocketAddr {
        self.nodes[0].address(0)
    }

    /// Where user agents are, if not in this process's own network.
    pub(crate) fn users_namespace(&self) -> Option<&Namespace> {
        let lab = self.lab.as_ref()?;
        Some(lab.namespace(Place::Users))
    }

    /// Why the links between users and nodes were what was measured, if they were.
    pub(crate) fn overwhelmed_links(&self) -> Outcome<Option<String>> {
        match &self.lab {
            Some(lab) => Ok(lab.overwhelmed()?),
            None => Ok(None),
        }
    }

    /// What has passed the link that callers use, if it is an emulated one.
    pub(crate) fn users_link(&self) -> Outcome<Option<LinkReading>> {
        match &self.lab {
            Some(lab) => Ok(lab.users_link()?),
            None => Ok(None),
        }
    }

    /// Segments that the kernel's TCP has sent again in the lab, if they are in one.
    pub(crate) fn retransmitted_segments(&self) -> Outcome<Option<u64>> {
        let lab = self.lab.as_ref();
        let segments = lab.map(Lab::retransmitted_segments).transpose()?;
        Ok(segments)
    }

    /// Does `work` while links send as fast as they are given something: who is to be there before a load
    /// need not wait for a narrow one.
    pub(crate) fn at_full_width<T>(&self, work: impl FnOnce() -> Outcome<T>) -> Outcome<T> {
        let links = self.site.path.links();
        let narrow = self
            .lab
            .as_ref()
            .zip(links.and_then(|links| links.rate_bits_per_second));
        let Some((lab, rate)) = narrow else {
            return work();
        };
        lab.set_rate(None)?;
        let done = work();
        lab.set_rate(Some(rate))?;
        done
    }

    /// The callers' accounts.
    pub(crate) fn accounts(&self) -> Accounts {
        self.accounts_of(self.layout.callers)
    }

    /// Whom they call, where that is not the last node.
    pub(crate) fn callees(&self) -> Option<Callees> {
        let (station, domain) = self.layout.callees?;
        Some(Callees {
            target: self.nodes[station].address(0),
            accounts: self.accounts_of(domain),
        })
    }

    fn accounts_of(&self, domain: &str) -> Accounts {
        let mut stations = self.layout.stations.iter();
        let station = stations.find(|station| station.domain == domain);
        let station = station.expect("a layout names domains of its own");
        self.layout.accounts(station, self.users)
    }

    /// The ports that listen for datagrams, and a process in whose network they do: of carriers without a
    /// stream, of tunnels, and of workers for each other.
    pub(crate) fn datagram_ports(&self) -> Vec<(u32, u16)> {
        let mut found = Vec::new();
        for (node, station) in self.nodes.iter().zip(&self.layout.stations) {
            let process = node.first_process_id();
            let port = |address: &SocketAddr| (process, address.port());
            for (address, link) in node.addresses.iter().zip(&station.interfaces) {
                let stack = stack_of(*link, &self.site);
                let is_datagram = !stack.is_stream() || stack.tunnel.is_some();
                found.extend(address.as_ref().filter(|_| is_datagram).map(port));
            }
            found.extend(node.internals.iter().map(port));
        }
        found
    }

    /// All their processes, as the kernel numbers them.
    pub(crate) fn process_ids(&self) -> Vec<u32> {
        let nodes = self.nodes.iter();
        nodes.flat_map(NodeProcesses::process_ids).collect()
    }

    /// Whether all of them are still there.
    pub(crate) fn check(&self) -> Outcome<()> {
        self.nodes.iter().try_for_each(NodeProcesses::check)
    }

    /// The tunnels that others make, if there are some.
    pub(crate) fn tunnels(&mut self) -> Option<&mut SharedTunnels> {
        self.tunnels.as_mut()
    }

    /// What each costs, with resident memory, and has seen so far.
    pub(crate) fn snapshots(&mut self) -> Outcome<Vec<(ProcessSnapshot, NodeCounters)>> {
        if let Some(tunnels) = &mut self.tunnels {
            tunnels.check()?;
        }
        self.nodes.iter_mut().map(NodeProcesses::snapshot).collect()
    }

    /// What each costs so far, without resident memory: in the middle of a load.
    pub(crate) fn usage(&mut self) -> Outcome<Vec<ProcessSnapshot>> {
        let usages = self.nodes.iter_mut().map(NodeProcesses::usage);
        let mut usages = usages.collect::<Outcome<Vec<_>>>()?;
        if let Some(tunnels) = &mut self.tunnels {
            for (place, usage) in usages.iter_mut().enumerate() {
                usage.cpu_ns += tunnels.cpu_ns(Place::Station(place))?;
            }
        }
        Ok(usages)
    }

    /// What has crossed the hops so far: not in the middle of a load.
    pub(crate) fn wire(&mut self) -> Outcome<Wire> {
        let readings = self.nodes.iter_mut().map(NodeProcesses::wire);
        let readings = readings.collect::<Outcome<Vec<WireReading>>>()?;
        let hops = self.layout.hops.iter();
        let hops = hops.map(|(node, interface)| self.crossed(*node, *interface, &readings));
        let interfaces = readings.iter().enumerate().flat_map(|(node, reading)| {
            let count = reading.interfaces.len();
            (0..count).map(move |interface| (node, interface))
        });
        let bytes = interfaces.map(|(node, interface)| {
            let crossed = self.crossed(node, interface, &readings)?;
            Ok(crossed.map(|crossed| crossed.bytes))
        });
        let bytes = bytes.collect::<Outcome<Vec<Option<u64>>>>()?;
        Ok(Wire {
            hops: hops.collect::<Outcome<_>>()?,
            interface_bytes: bytes.into_iter().sum(),
            sip_bytes: readings.iter().map(|reading| reading.sip_bytes).sum(),
        })
    }

    /// What has crossed an interface. Where there is a tap it tells: it sees what a link then loses, and what a tunnel of
    /// others makes of packets. The kernel's books, which tell elsewhere, know of no such tunnel.
    fn crossed(
        &self,
        node: usize,
        interface: usize,
        readings: &[WireReading],
    ) -> Outcome<Option<WireCounters>> {
        let link = self.layout.stations[node].interfaces[interface];
        let tapped = match &self.lab {
            Some(lab) => lab.seen(node, link)?,
            None => None,
        };
        let of_sockets = readings[node].interfaces[interface];
        Ok(tapped.or_else(|| of_sockets.filter(|_| self.tunnels.is_none())))
    }
}

impl Wire {
    /// What came between `earlier`, a reading of the same nodes, and this one.
    pub(crate) fn since(&self, earlier: &Self) -> Self {
        let hops = self.hops.iter().zip(&earlier.hops);
        Self {
            hops: hops
                .map(|(later, earlier)| Some((*later)?.since((*earlier)?)))
                .collect(),
            interface_bytes: self
                .interface_bytes
                .zip(earlier.interface_bytes)
                .map(|(later, earlier)| later.saturating_sub(earlier)),
            sip_bytes: self.sip_bytes.saturating_sub(earlier.sip_bytes),
        }
    }

    /// All hops together; `None` if one is not known.
    pub(crate) fn total(&self) -> Option<WireCounters> {
        let none = Some(WireCounters::default());
        self.hops
            .iter()
            .fold(none, |sum, hop| Some(sum?.plus((*hop)?)))
    }
}
