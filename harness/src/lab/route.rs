//! Interfaces, addresses and routes of one network namespace, by netlink.

use std::io;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::net::if_::if_nametoindex;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute};
use rtnetlink::packet_route::neighbour::NeighbourState;
use rtnetlink::packet_route::route::{RouteScope, RouteType};
use rtnetlink::{Handle, LinkUnspec, LinkVeth, LinkWireguard, RouteMessageBuilder, new_connection};

use super::LabError;

/// Where the kernel looks first: addresses that are its own (`RT_TABLE_LOCAL`).
const LOCAL_TABLE: u32 = 255;

/// The interfaces of a namespace.
pub(crate) struct Interfaces(Handle);

impl Interfaces {
    /// Lets `change` work on those of the calling thread's namespace.
    ///
    /// # Errors
    /// Those of `change`, and when the kernel does not listen.
    pub(super) fn of_this_thread<T>(
        change: impl AsyncFnOnce(&Self) -> Result<T, LabError>,
    ) -> Result<T, LabError> {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .map_err(LabError::step("start a runtime"))?;
        runtime.block_on(async {
            let (connection, handle, _) =
                new_connection().map_err(LabError::step("open a netlink socket"))?;
            let driver = tokio::spawn(connection);
            let outcome = change(&Self(handle)).await;
            driver.abort();
            outcome
        })
    }

    /// Brings an interface up.
    pub(crate) async fn bring_up(&self, name: &str) -> Result<(), LabError> {
        let link = LinkUnspec::new_with_index(index(name)?).up().build();
        let set = self.0.link().set(link).execute().await;
        set.map_err(netlink(format!("bring {name} up")))
    }

    /// Sets the largest IP packet of an interface.
    pub(crate) async fn set_mtu(&self, name: &str, mtu_bytes: u32) -> Result<(), LabError> {
        let link = LinkUnspec::new_with_index(index(name)?).mtu(mtu_bytes);
        let set = self.0.link().set(link.build()).execute().await;
        set.map_err(netlink(format!("set the MTU of {name} to {mtu_bytes}")))
    }

    /// Gives an interface an address; those that share its first `prefix_bits` are on the other side.
    pub(crate) async fn add_address(
        &self,
        name: &str,
        address: Ipv4Addr,
        prefix_bits: u8,
    ) -> Result<(), LabError> {
        let add = self.0.address();
        let add = add.add(index(name)?, address.into(), prefix_bits);
        let added = add.execute().await;
        added.map_err(netlink(format!(
            "give {name} the address {address}/{prefix_bits}"
        )))
    }

    /// Sends what is for `destination` out of an interface, to `gateway` if that is not there itself.
    pub(crate) async fn add_route(
        &self,
        name: &str,
        destination: (Ipv4Addr, u8),
        gateway: Option<Ipv4Addr>,
    ) -> Result<(), LabError> {
        let (prefix, bits) = destination;
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(prefix, bits)
            .output_interface(index(name)?);
        let route = match gateway {
            Some(gateway) => route.gateway(gateway),
            None => route.scope(RouteScope::Link),
        };
        let added = self.0.route().add(route.build()).execute().await;
        added.map_err(netlink(format!("route {prefix}/{bits} by {name}")))
    }

    /// Makes all addresses that begin like `prefix`, in so many bits, this host's own (AnyIP).
    pub(super) async fn add_local(&self, prefix: Ipv4Addr, bits: u8) -> Result<(), LabError> {
        let route = RouteMessageBuilder::<Ipv4Addr>::new()
            .destination_prefix(prefix, bits)
            .output_interface(index("lo")?)
            .table_id(LOCAL_TABLE)
            .kind(RouteType::Local)
            .scope(RouteScope::Host);
        let added = self.0.route().add(route.build()).execute().await;
        added.map_err(netlink(format!("make {prefix}/{bits} this host's own")))
    }

    /// Makes a pair of interfaces that are each other's wire, one of them here, the other in the namespace
    /// `elsewhere`.
    pub(super) async fn add_veth(
        &self,
        name: &str,
        other: &str,
        elsewhere: BorrowedFd<'_>,
    ) -> Result<(), LabError> {
        let peer = LinkUnspec::new_with_name(other).setns_by_fd(elsewhere.as_raw_fd());
        let pair = LinkVeth::new(name, other)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer.build())))
            .build();
        let added = self.0.link().add(pair).execute().await;
        added.map_err(netlink(format!("make the veth pair {name} and {other}")))
    }

    /// Makes an interface of the kernel's WireGuard, which has no keys yet.
    pub(super) async fn add_wireguard(&self, name: &str) -> Result<(), LabError> {
        let added = self.0.link().add(LinkWireguard::new(name).build());
        let added = added.execute().await;
        added.map_err(netlink(format!("make the WireGuard interface {name}")))
    }

    /// Removes an interface.
    pub(super) async fn remove(&self, name: &str) -> Result<(), LabError> {
        let removed = self.0.link().del(index(name)?).execute().await;
        removed.map_err(netlink(format!("remove {name}")))
    }

    /// Sets the hardware address of an interface.
    pub(super) async fn set_hardware_address(
        &self,
        name: &str,
        address: HardwareAddress,
    ) -> Result<(), LabError> {
        let link = LinkUnspec::new_with_index(index(name)?).address(address.to_vec());
        let set = self.0.link().set(link.build()).execute().await;
        set.map_err(netlink(format!("set the hardware address of {name}")))
    }

    /// Has `neighbour` be at that hardware address, so that nobody asks for it.
    pub(super) async fn add_neighbour(
        &self,
        name: &str,
        neighbour: Ipv4Addr,
        address: HardwareAddress,
    ) -> Result<(), LabError> {
        let add = self.0.neighbours().add(index(name)?, neighbour.into());
        let add = add
            .link_layer_address(&address)
            .state(NeighbourState::Permanent);
        let added = add.execute().await;
        added.map_err(netlink(format!("say where {neighbour} is")))
    }

    /// Has segments pass an interface one by one, instead of many as one that is taken apart at the end.
    pub(super) async fn segment_early(&self, name: &str) -> Result<(), LabError> {
        let link = LinkUnspec::new_with_index(index(name)?);
        let link = link.append_extra_attribute(LinkAttribute::GsoMaxSegs(1));
        let set = self.0.link().set(link.build()).execute().await;
        set.map_err(netlink(format!("have segments pass {name} one by one")))
    }
}

/// Of an Ethernet interface.
pub(super) type HardwareAddress = [u8; 6];

/// As the kernel numbers it in the calling thread's namespace.
pub(super) fn index(name: &str) -> Result<u32, LabError> {
    if_nametoindex(name)
        .map_err(io::Error::from)
        .map_err(LabError::step(format!("find the interface {name}")))
}

/// What the kernel refused, in the words of `errno` where it has given one.
fn netlink(step: String) -> impl FnOnce(rtnetlink::Error) -> LabError {
    move |error| {
        let source = match error {
            rtnetlink::Error::NetlinkError(message) => message.to_io(),
            other => io::Error::other(other.to_string()),
        };
        LabError::step(step)(source)
    }
}
