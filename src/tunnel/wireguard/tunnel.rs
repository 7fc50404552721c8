//! Either end of a WireGuard tunnel: boringtun's `Tunn`, and when its timers are due.

use std::time::{Duration, Instant};

use boringtun::noise::errors::WireGuardError;
use boringtun::noise::{Tunn, TunnResult};

use super::PADDING_BYTES;
use crate::tunnel::{DropCause, IpPacket, SCRATCH_BYTES, Transmit, Tunnel};

/// An unanswered initiation is repeated after this time (REKEY_TIMEOUT).
const RETRY_AFTER: Duration = Duration::from_secs(5);

/// Keys that are older protect nothing any more (REJECT_AFTER_TIME).
const REJECT_AFTER: Duration = Duration::from_secs(180);

/// After the last packet that was sent or received, the protocol may have something to do at these
/// times: keep alive, start over with a silent peer, forget the keys. Keys that are too old by then
/// are refused without a timer, since time is noticed before each packet.
const IDLE_STEPS: [Duration; 3] = [
    Duration::from_secs(10),
    Duration::from_secs(15),
    Duration::from_secs(540),
];

/// boringtun stamps events with the time of the last tick: with traffic, tick this often.
const TICK: Duration = Duration::from_secs(1);

/// boringtun compares with a clock of its own, which may be a little behind ours.
const CLOCK_MARGIN: Duration = Duration::from_millis(20);

/// If a tick at the expected time did nothing, try again after this time.
const RETICK: Duration = Duration::from_millis(250);

const HANDSHAKE_INITIATION: u8 = 1;
const HANDSHAKE_RESPONSE: u8 = 2;
const DATA: u8 = 4;

/// Either end of a [`super::Wireguard`] tunnel.
pub struct WireguardTunnel {
    /// Boxed since it is about 11 KB.
    tunn: Box<Tunn>,
    mtu_bytes: usize,
    last_tick: Instant,
    /// When a packet was last sent or received, handshakes included; `None` once given up.
    last_traffic: Option<Instant>,
    /// When the handshake initiation that is not answered yet was sent.
    initiated: Option<Instant>,
    /// Whether packets wait in `tunn` for an association.
    has_queued: bool,
    /// When to show that this end is there; `None` before it initiates, and if it need not.
    keep_alive_due: Option<Instant>,
}

impl WireguardTunnel {
    pub(super) fn new(tunn: Box<Tunn>, mtu_bytes: usize, now: Instant) -> Self {
        Self {
            tunn,
            mtu_bytes,
            last_tick: now,
            last_traffic: None,
            initiated: None,
            has_queued: false,
            keep_alive_due: None,
        }
    }

    fn keep_alive_after(&self, now: Instant) -> Option<Instant> {
        let interval_seconds = self.tunn.persistent_keepalive()?;
        Some(now + Duration::from_secs(interval_seconds.into()) + CLOCK_MARGIN)
    }

    /// Starts a handshake unless one is under way.
    fn start_handshake(&mut self, now: Instant, scratch: &mut [u8], transmit: Transmit<'_>) {
        if let TunnResult::WriteToNetwork(initiation) =
            self.tunn.format_handshake_initiation(scratch, false)
        {
            transmit(initiation);
            self.initiated = Some(now);
        }
        self.keep_alive_due = self.keep_alive_after(now);
    }

    /// Repeats an unanswered initiation before its time.
    #[cfg(test)]
    pub(super) fn retry(&mut self, scratch: &mut [u8], transmit: Transmit<'_>) {
        if let TunnResult::WriteToNetwork(initiation) =
            self.tunn.format_handshake_initiation(scratch, true)
        {
            transmit(initiation);
        }
    }

    fn send_queued(&mut self, scratch: &mut [u8], transmit: Transmit<'_>) {
        // An empty datagram asks for what is queued.
        while let TunnResult::WriteToNetwork(datagram) = self.tunn.decapsulate(None, &[], scratch) {
            transmit(datagram);
        }
        self.has_queued = false;
    }
}

impl Tunnel for WireguardTunnel {
    fn initiate(&mut self, now: Instant, scratch: &mut [u8], transmit: Transmit<'_>) {
        self.handle_timeout(now, scratch, transmit);
        self.start_handshake(now, scratch, transmit);
    }

    fn is_established(&self) -> bool {
        let age = self.tunn.time_since_last_handshake();
        age.is_some_and(|age| age < REJECT_AFTER)
    }

    fn send(
        &mut self,
        packet: IpPacket<'_>,
        now: Instant,
        scratch: &mut [u8],
        transmit: Transmit<'_>,
    ) {
        assert!(scratch.len() >= SCRATCH_BYTES, "boringtun panics otherwise");
        self.tick(now, scratch, transmit);
        let padded = packet.padded(PADDING_BYTES, self.mtu_bytes);
        // Without an association boringtun queues the packet, and may begin a handshake.
        match self.tunn.encapsulate(padded, scratch) {
            TunnResult::WriteToNetwork(datagram) => {
                let is_initiation = datagram[0] == HANDSHAKE_INITIATION;
                transmit(datagram);
                if is_initiation {
                    self.initiated = Some(now);
                    self.has_queued = true;
                }
            }
            TunnResult::Done => self.has_queued = true,
            TunnResult::Err(_)
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => unreachable!("packets are only sent or queued"),
        }
        self.last_traffic = Some(now);
    }

    /// Lets boringtun notice the time, unless it did just now.
    fn tick(&mut self, now: Instant, scratch: &mut [u8], transmit: Transmit<'_>) {
        if now.saturating_duration_since(self.last_tick) >= TICK {
            self.handle_timeout(now, scratch, transmit);
        }
    }

    fn receive<'s>(
        &mut self,
        datagram: &'s [u8],
        now: Instant,
        scratch: &'s mut [u8],
        transmit: Transmit<'_>,
    ) -> Result<Option<&'s [u8]>, DropCause> {
        assert!(scratch.len() >= SCRATCH_BYTES, "boringtun panics otherwise");
        // boringtun takes an empty datagram as the request to send what is queued.
        let &datagram_type = datagram.first().ok_or(DropCause::Malformed)?;
        // Padding is cut off, by the packet's own length.
        let packet_bytes = match self.tunn.decapsulate(None, datagram, scratch) {
            TunnResult::WriteToTunnelV4(packet, _) => Some(packet.len()),
            TunnResult::WriteToTunnelV6(..) => return Err(DropCause::Misrouted),
            TunnResult::WriteToNetwork(answer) => {
                transmit(answer);
                None
            }
            TunnResult::Done => None,
            TunnResult::Err(error) => return Err(drop_cause(&error)),
        };
        if matches!(datagram_type, HANDSHAKE_INITIATION | HANDSHAKE_RESPONSE) {
            self.initiated = None;
        }
        if packet_bytes.is_some() || datagram_type != DATA {
            self.last_traffic = Some(now);
        }
        // A response makes an association that can be sent on; after an initiation it is the first
        // data under it that does.
        if self.has_queued && matches!(datagram_type, HANDSHAKE_RESPONSE | DATA) {
            let packet = packet_bytes.map(|bytes| scratch[..bytes].to_vec());
            self.send_queued(scratch, transmit);
            if let Some(packet) = packet {
                scratch[..packet.len()].copy_from_slice(&packet);
            }
        }
        Ok(packet_bytes.map(|bytes| &scratch[..bytes]))
    }

    fn deadline(&self) -> Option<Instant> {
        let no_earlier = self.last_tick + RETICK;
        if let Some(initiated) = self.initiated {
            let retry = initiated + RETRY_AFTER + CLOCK_MARGIN;
            return Some(retry.max(no_earlier));
        }
        let keep_alive = self.keep_alive_due.map(|due| due.max(no_earlier));
        let idle_step = self.last_traffic.and_then(|last_traffic| {
            IDLE_STEPS
                .iter()
                .map(|&step| last_traffic + step + CLOCK_MARGIN)
                .find(|&due| due > self.last_tick)
        });
        keep_alive.into_iter().chain(idle_step).min()
    }

    fn handle_timeout(&mut self, now: Instant, scratch: &mut [u8], transmit: Transmit<'_>) {
        self.last_tick = now;
        match self.tunn.update_timers(scratch) {
            TunnResult::WriteToNetwork(datagram) => {
                let datagram_type = datagram[0];
                transmit(datagram);
                if datagram_type == HANDSHAKE_INITIATION {
                    self.initiated = Some(now);
                } else if self.keep_alive_due.is_some() {
                    self.keep_alive_due = self.keep_alive_after(now);
                }
            }
            TunnResult::Err(WireGuardError::ConnectionExpired) => {
                self.initiated = None;
                self.last_traffic = None;
                self.has_queued = false;
                // boringtun stays silent now, but whoever keeps alive wants to be reached again.
                if self.keep_alive_due.is_some_and(|due| due <= now) {
                    self.start_handshake(now, scratch, transmit);
                }
            }
            TunnResult::Err(_)
            | TunnResult::Done
            | TunnResult::WriteToTunnelV4(..)
            | TunnResult::WriteToTunnelV6(..) => {}
        }
    }
}

fn drop_cause(error: &WireGuardError) -> DropCause {
    match error {
        WireGuardError::InvalidCounter
        | WireGuardError::DuplicateCounter
        | WireGuardError::WrongTai64nTimestamp => DropCause::Replayed,
        WireGuardError::NoCurrentSession
        | WireGuardError::UnexpectedPacket
        | WireGuardError::ConnectionExpired => DropCause::NoAssociation,
        WireGuardError::WrongIndex => DropCause::UnknownPeer,
        WireGuardError::InvalidPacket
        | WireGuardError::IncorrectPacketLength
        | WireGuardError::WrongPacketType
        | WireGuardError::DestinationBufferTooSmall
        | WireGuardError::InvalidTai64nTimestamp => DropCause::Malformed,
        WireGuardError::WrongKey
        | WireGuardError::InvalidMac
        | WireGuardError::InvalidAeadTag
        | WireGuardError::LockFailed => DropCause::NotAuthentic,
        WireGuardError::UnderLoad => DropCause::RateLimited,
    }
}
