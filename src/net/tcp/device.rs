//! What smoltcp takes packets from and gives packets to, for the time of one call.

use smoltcp::phy::{self, Checksum, DeviceCapabilities, Medium};
use smoltcp::time::Instant;

use super::TransmitPacket;
use crate::net::scratch;
use crate::tunnel::IpPacket;

/// At most one packet that has arrived, and a way out for any number.
pub(super) struct Device<'a> {
    incoming: Option<&'a [u8]>,
    mtu_bytes: usize,
    transmit: TransmitPacket<'a>,
}

impl<'a> Device<'a> {
    pub(super) fn new(
        incoming: Option<&'a [u8]>,
        mtu_bytes: usize,
        transmit: TransmitPacket<'a>,
    ) -> Self {
        Self {
            incoming,
            mtu_bytes,
            transmit,
        }
    }
}

impl phy::Device for Device<'_> {
    type RxToken<'t>
        = Incoming<'t>
    where
        Self: 't;
    type TxToken<'t>
        = Outgoing<'t>
    where
        Self: 't;

    fn receive(&mut self, _now: Instant) -> Option<(Incoming<'_>, Outgoing<'_>)> {
        let packet = self.incoming.take()?;
        Some((Incoming(packet), Outgoing(self.transmit)))
    }

    fn transmit(&mut self, _now: Instant) -> Option<Outgoing<'_>> {
        Some(Outgoing(self.transmit))
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu_bytes;
        // Those of what has arrived were verified before it was passed on.
        capabilities.checksum.ipv4 = Checksum::Tx;
        capabilities.checksum.tcp = Checksum::Tx;
        capabilities
    }
}

/// A packet that has arrived.
pub(super) struct Incoming<'t>(&'t [u8]);

impl phy::RxToken for Incoming<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        take(self.0)
    }
}

/// A way out for one packet, which is written where the tunnel can pad it.
pub(super) struct Outgoing<'t>(TransmitPacket<'t>);

impl phy::TxToken for Outgoing<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, bytes: usize, write: F) -> R {
        let mut buffer = scratch::take();
        let written = write(&mut buffer[..bytes]);
        (self.0)(IpPacket::new(&mut buffer, bytes));
        written
    }
}
