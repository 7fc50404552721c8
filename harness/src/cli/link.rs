//! Where packets go, and what the lab's links are like: options of a run, and of a lab by hand.

use std::path::PathBuf;

use anyhow::Context as _;
use clap::ValueHint;
use hopbench::net::link::{LinkConditions, Loss};
use hopbench::transport::InnerIp;

use super::by_name;
use crate::path::{LinkEmulator, PathName};
use crate::scenario::Plan;
use crate::testbed::Captures;

/// Options of the path; each stands above what the scenario says.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Path")]
pub(crate) struct PathArgs {
    /// Where packets go: over this host's loopback, or through a lab of network namespaces, one a
    /// SIP entity. It takes root, or a kernel that lets users make namespaces
    #[arg(long, value_enum, value_name = "PATH")]
    path: Option<PathName>,
    #[command(flatten)]
    link: LinkArgs,
    /// Whose IP is inside the tunnels of @clear and @wireguard: the kernel's over TUN devices, as deployed VPNs
    /// have it (the lab's way), or one in user space (the only way over the loopback)
    #[arg(long, value_name = "WHOSE", value_parser = by_name::<InnerIp>)]
    inner_ip: Option<InnerIp>,
    /// Write what passes emulated links of the lab to this folder: a pcap file for each link of each block
    #[arg(long, value_name = "FOLDER", value_hint = ValueHint::DirPath)]
    capture: Option<PathBuf>,
    /// Beside the captures, the secrets that tshark and Wireshark need to read TLS in them (keys.log)
    #[arg(long, requires = "capture")]
    keys: bool,
}

/// What both directions of each link are like.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Path")]
pub(crate) struct LinkArgs {
    /// How long each packet is under way over a link of the lab; a round trip takes twice as long
    #[arg(long, value_name = "MILLISECONDS")]
    one_way_delay_ms: Option<f64>,
    /// How much that varies, evenly to either side
    #[arg(long, value_name = "MILLISECONDS")]
    one_way_jitter_ms: Option<f64>,
    /// Share of packets that a link of the lab loses, in each direction: 0.02 for 2 %
    #[arg(long, value_name = "RATIO")]
    loss_ratio: Option<f64>,
    /// Bits of IP packets that pass a link of the lab in a second, in each direction; without it, any number
    #[arg(long, value_name = "COUNT")]
    rate_bits_per_second: Option<u64>,
    /// Largest IP packet that passes a link of the lab
    #[arg(long, value_name = "BYTES")]
    link_mtu_bytes: Option<u16>,
    /// Who makes links so: hopbench itself, or the kernel's netem, whose packets pass no process
    #[arg(long, value_enum, value_name = "WHO")]
    link_emulator: Option<LinkEmulator>,
}

impl PathArgs {
    /// Puts them into `plan`.
    ///
    /// # Errors
    /// When a value is not allowed, or is one of the lab's and packets do not go there.
    pub(crate) fn apply(&self, plan: &mut Plan) -> anyhow::Result<()> {
        if let Some(path) = self.path {
            plan.path = path;
        }
        self.link.apply(&mut plan.lab, &mut plan.link_emulator)?;
        plan.check_links()?;
        anyhow::ensure!(
            plan.path == PathName::Lab
                || plan.lab == LinkConditions::default()
                    && plan.link_emulator == LinkEmulator::Hopbench,
            "delays, losses, rates and MTUs are those of the lab's links, and packets go over the loopback: \
             add --path lab"
        );
        let asks_of_links = plan.link.is_some() || plan.rate.is_some();
        let is_emulated = plan.path == PathName::Lab && (plan.lab.is_impaired() || asks_of_links);
        anyhow::ensure!(
            self.capture.is_none() || plan.link_emulator == LinkEmulator::Hopbench,
            "captures are of links that hopbench emulates, and the kernel's netem is to do it: leave \
             --link-emulator out, or --capture"
        );
        anyhow::ensure!(
            self.capture.is_none() || is_emulated,
            "captures are of emulated links, and there are none: add --path lab and, for example, \
             --one-way-delay-ms 1"
        );
        Ok(())
    }

    /// Whose IP is inside tunnels, where that is not the usual one on the plan's path.
    ///
    /// # Errors
    /// When it cannot be there.
    pub(crate) fn inner_ip(&self, plan: &Plan) -> anyhow::Result<Option<InnerIp>> {
        anyhow::ensure!(
            plan.path == PathName::Lab || self.inner_ip != Some(InnerIp::Kernel),
            "the kernel's IP is inside tunnels in network namespaces only, and packets go over the loopback: \
             add --path lab"
        );
        let usual = plan.path.inner_ip();
        Ok(self.inner_ip.filter(|asked| *asked != usual))
    }

    /// Where captures go, if they are wanted.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub(crate) fn captures(&self) -> anyhow::Result<Option<Captures>> {
        let Some(folder) = &self.capture else {
            return Ok(None);
        };
        Captures::new(folder.clone(), self.keys)
            .map(Some)
            .with_context(|| format!("cannot write captures to {}", folder.display()))
    }
}

impl LinkArgs {
    /// Puts them into `conditions` and `emulator`.
    ///
    /// # Errors
    /// When a value is not allowed.
    pub(crate) fn apply(
        &self,
        conditions: &mut LinkConditions,
        emulator: &mut LinkEmulator,
    ) -> anyhow::Result<()> {
        put(emulator, self.link_emulator);
        let LinkConditions {
            one_way_delay_ms,
            one_way_jitter_ms,
            loss,
            rate_bits_per_second,
            mtu_bytes,
            ..
        } = conditions;
        put(one_way_delay_ms, self.one_way_delay_ms);
        put(one_way_jitter_ms, self.one_way_jitter_ms);
        put(
            loss,
            self.loss_ratio.map(|ratio| Loss::Independent { ratio }),
        );
        put(mtu_bytes, self.link_mtu_bytes);
        if self.rate_bits_per_second.is_some() {
            *rate_bits_per_second = self.rate_bits_per_second;
        }
        Ok(conditions.check()?)
    }
}

fn put<T>(place: &mut T, value: Option<T>) {
    if let Some(value) = value {
        *place = value;
    }
}
