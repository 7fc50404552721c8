//! The kernel's emulator of links, netem (tc-netem(8)), at either end of a veth pair, instead of [`super::pump`]: it
//! takes no thread of this process, so its packets are never late because of that.
//!
//! Conditions mean what they mean to [`hopbench::net::link`]; those that netem would make something else of are
//! refused. What is lost, and how delays vary, is drawn by the kernel, whom no seed reaches.

mod options;

use hopbench::net::link::LinkConditions;
use hopbench::transport::WireCounters;

use super::namespace::Namespace;
use super::reading::{LinkReading, interface_counters};
use super::route::{HardwareAddress, index};
use super::veth::{self, End};
use super::{LabError, netlink};
use options::Stage;
pub(crate) use options::{queue_packets, stages};

use rtnetlink::packet_core::{NLM_F_CREATE, NLM_F_EXCL};
use rtnetlink::sys::protocols::NETLINK_ROUTE;

/// Linux, `include/uapi/linux/rtnetlink.h`.
const RTM_NEWQDISC: u16 = 36;
const RTM_GETQDISC: u16 = 38;
const TCA_KIND: u16 = 1;
const TCA_OPTIONS: u16 = 2;
const TCA_STATS2: u16 = 7;
/// Of `struct tcmsg`.
const MESSAGE_BYTES: usize = 20;
const INTERFACE: std::ops::Range<usize> = 4..8;
const HANDLE: usize = 8;
/// Linux, `include/uapi/linux/gen_stats.h`: packets that were dropped stand behind two other numbers.
const TCA_STATS_QUEUE: u16 = 3;
const DROPS: usize = 8;
/// Where the first stage hangs (`TC_H_ROOT`); each further one beneath the one before it.
const ROOT: u32 = u32::MAX;
/// In front of each IP packet.
const ETHERNET_HEADER_BYTES: u64 = 14;

/// What can be done where the kernel has no netem.
const REMEDY: &str = "`modprobe sch_netem`, or a kernel with CONFIG_NET_SCH_NETEM; or leave the links to hopbench's \
     emulator: --link-emulator hopbench";

/// A link of which the kernel makes what it is like. It goes with either of its namespaces.
#[derive(Debug)]
pub(super) struct Netem {
    /// Where packets of each direction leave.
    ends: [(Namespace, String); 2],
    /// What happens to them there.
    stages: Vec<Stage>,
    loses: bool,
}

impl Netem {
    /// Joins two namespaces by links that are as `conditions` say in both directions.
    ///
    /// # Errors
    /// Where the kernel has no netem, and for conditions that it cannot emulate.
    pub(super) fn join(
        [near, far]: [End<'_>; 2],
        prefix_bits: u8,
        conditions: &LinkConditions,
    ) -> Result<Self, LabError> {
        let stages = stages(conditions).map_err(std::io::Error::other);
        let stages = stages.map_err(LabError::step("emulate a link by netem"))?;
        veth::join(near, far, prefix_bits, conditions.mtu_bytes.into())?;
        // Nobody asks who has an address: the question would be under way for as long as a packet.
        let hardware = [1, 2].map(|end| -> HardwareAddress { [2, 0, 0, 0, 0, end] });
        for (place, [own, other]) in [[near, far], [far, near]].into_iter().enumerate() {
            own.namespace.interfaces(async |interfaces| {
                let (own_address, others) = (hardware[place], hardware[1 - place]);
                interfaces
                    .set_hardware_address(own.name, own_address)
                    .await?;
                interfaces
                    .add_neighbour(own.name, other.address, others)
                    .await?;
                interfaces.segment_early(own.name).await
            })?;
        }
        let this = Self {
            ends: [near, far].map(|end| (end.namespace.clone(), end.name.to_owned())),
            stages,
            loses: conditions.loss.mean_ratio() > 0.0,
        };
        this.at_both_ends(|interface| {
            for (depth, stage) in this.stages.iter().enumerate() {
                put(interface, depth, stage, NLM_F_CREATE | NLM_F_EXCL)?;
            }
            Ok(())
        })?;
        Ok(this)
    }

    /// Has both directions send what comes from now on at another rate; `None` for as fast as it comes. A link that
    /// had none keeps none.
    ///
    /// # Errors
    /// The kernel's.
    pub(super) fn set_rate(&self, bits_per_second: Option<u64>) -> Result<(), LabError> {
        let Some(stage) = self
            .stages
            .first()
            .and_then(|stage| stage.at(bits_per_second))
        else {
            return Ok(());
        };
        self.at_both_ends(|interface| put(interface, 0, &stage, 0))
    }

    /// What has passed, as the interfaces count it; `None` where packets are lost on purpose, which they do not
    /// count. Packets that found the queue full are not among those that passed.
    ///
    /// # Errors
    /// When the kernel does not tell.
    pub(super) fn reading(&self) -> Result<Option<LinkReading>, LabError> {
        if self.loses {
            return Ok(None);
        }
        let [onward, back] = [0, 1].map(|place: usize| {
            let (namespace, interface) = &self.ends[place];
            namespace.run(|| interface_counters(interface))
        });
        let of_ip = |counters: WireCounters| WireCounters {
            bytes: counters.bytes - counters.packets * ETHERNET_HEADER_BYTES,
            ..counters
        };
        Ok(Some(LinkReading {
            onward: of_ip(onward?),
            back: of_ip(back?),
            queue_full: self.queue_full()?,
        }))
    }

    /// Packets of both directions that found the queue before the transmitter full.
    fn queue_full(&self) -> Result<u64, LabError> {
        let mut sum = 0;
        for (namespace, interface) in &self.ends {
            let drops = namespace.run(|| {
                let drops = index(interface).map(drops)?;
                drops.map_err(LabError::step("read what a queue has dropped"))
            })?;
            // A parent counts what its child drops, too.
            let of = |depth: usize| drops.iter().find(|(handle, _)| *handle == handle_of(depth));
            let of = |depth: usize| of(depth).map_or(0, |(_, drops)| *drops);
            sum += u64::from(of(0).saturating_sub(of(1)));
        }
        Ok(sum)
    }

    fn at_both_ends(
        &self,
        change: impl Fn(u32) -> std::io::Result<()> + Sync,
    ) -> Result<(), LabError> {
        for (namespace, interface) in &self.ends {
            namespace.run(|| {
                let changed = change(index(interface)?);
                let failed = LabError::step(format!("have netem emulate the link at {interface}"));
                changed
                    .map_err(failed)
                    .map_err(|error| error.with_remedy(REMEDY))
            })?;
        }
        Ok(())
    }
}

/// Whether the kernel has it: tried on a link that goes again.
///
/// # Errors
/// With what can be done.
pub(crate) fn probe() -> Result<(), LabError> {
    let namespaces = [Namespace::create()?, Namespace::create()?];
    let ends = [0, 1].map(|place: usize| End {
        namespace: &namespaces[place],
        name: "probe0",
        address: std::net::Ipv4Addr::new(198, 18, 0, if place == 0 { 1 } else { 2 }),
    });
    let conditions = LinkConditions::with_round_trip_ms(1.0);
    Netem::join(ends, 30, &conditions).map(drop)
}

/// Puts a stage where the packets of an interface of the calling thread's namespace leave.
fn put(interface: u32, depth: usize, stage: &Stage, flags: u16) -> std::io::Result<()> {
    let parent = depth
        .checked_sub(1)
        .map_or(ROOT, |above| handle_of(above) + 1);
    let mut message = vec![0; HANDLE];
    message[INTERFACE].copy_from_slice(&interface.to_ne_bytes());
    message.extend(handle_of(depth).to_ne_bytes());
    message.extend(parent.to_ne_bytes());
    message.extend([0; 4]);
    netlink::put(&mut message, TCA_KIND, b"netem\0");
    netlink::put(&mut message, TCA_OPTIONS, &stage.options());
    netlink::change(NETLINK_ROUTE, RTM_NEWQDISC, flags, &message)
}

/// Of a stage: the number of its discipline stands in the upper half.
fn handle_of(depth: usize) -> u32 {
    (depth as u32 + 1) << 16
}

/// The handle of each queueing discipline of an interface of the calling thread's namespace, and what it has dropped.
fn drops(interface: u32) -> std::io::Result<Vec<(u32, u32)>> {
    let found = netlink::list(NETLINK_ROUTE, RTM_GETQDISC, &[0; MESSAGE_BYTES])?;
    let of_interface = found
        .iter()
        .filter(|message| netlink::u32_at(message, INTERFACE.start) == Some(interface));
    let dropped = of_interface.filter_map(|message| {
        let statistics = netlink::find(message.get(MESSAGE_BYTES..)?, TCA_STATS2)?;
        let queue = netlink::find(statistics, TCA_STATS_QUEUE)?;
        Some((
            netlink::u32_at(message, HANDLE)?,
            netlink::u32_at(queue, DROPS)?,
        ))
    });
    Ok(dropped.collect())
}

#[cfg(test)]
mod tests;
