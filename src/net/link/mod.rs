//! An emulated IP link, one direction of it: a path that is slow, narrow and lossy on purpose.
//!
//! Sans-IO: packets and the time go in, packets and the next deadline come out. What happens to a
//! packet, in this order: one that is longer than the MTU is dropped, as by a router that may not
//! fragment and does not say so; a queue of bounded length waits for a transmitter of a given rate;
//! then the line loses packets, doubles them, and delays each, some of them longer than those that
//! follow. A lost packet has thus taken its share of the rate.
//!
//! Whether the n-th packet is lost, doubled or held back and how much it is delayed follows from the
//! seed and n alone, never from the time: two runs with the same packets lose the same ones.
//!
//! Buffers are used again: once a link has held as much as it ever will, no packet costs an
//! allocation. This layer knows nothing of TUN devices; whoever owns two of them carries packets
//! from one to the other through a pair of links.

mod conditions;
mod line;
#[cfg(test)]
mod tests;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

pub use conditions::{ConditionsError, Jitter, LinkConditions, Loss};
use line::Line;

/// A buffer for a packet is no longer from the start.
const USUAL_MTU_BYTES: u16 = 2_048;

/// One direction of an emulated link.
#[derive(Debug)]
pub struct Link {
    conditions: LinkConditions,
    line: Line,
    /// When the transmitter will have sent all that it was given.
    free_at: Option<Instant>,
    /// When the latest packet arrives of those that are not held back.
    latest_arrival: Option<Instant>,
    under_way: BinaryHeap<Reverse<Arrival>>,
    packets: Vec<Vec<u8>>,
    /// Places in `packets` that hold none.
    vacant: Vec<u32>,
    counters: LinkCounters,
}

/// A packet on its way, ordered by when it arrives, and then as it was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Arrival {
    at: Instant,
    number: u64,
    packet: u32,
}

/// What became of a packet that was offered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// It arrives, perhaps twice.
    UnderWay,
    /// The line loses it, as it was asked to.
    Lost,
    /// The queue before the transmitter had no room for it.
    QueueFull,
    /// It was longer than the MTU.
    TooLong,
}

/// What became of all packets so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkCounters {
    /// Packets that went in.
    pub offered: u64,
    /// Packets that came out, copies included.
    pub delivered: u64,
    /// Packets that the line lost, as it was asked to.
    pub lost: u64,
    /// Packets that found the queue full.
    pub queue_full: u64,
    /// Packets that were longer than the MTU.
    pub too_long: u64,
    /// Packets that were doubled.
    pub duplicated: u64,
    /// Packets that were held back, so that later ones could pass.
    pub held_back: u64,
}

impl LinkCounters {
    /// The sum of both.
    #[must_use]
    pub fn plus(self, other: Self) -> Self {
        Self {
            offered: self.offered + other.offered,
            delivered: self.delivered + other.delivered,
            lost: self.lost + other.lost,
            queue_full: self.queue_full + other.queue_full,
            too_long: self.too_long + other.too_long,
            duplicated: self.duplicated + other.duplicated,
            held_back: self.held_back + other.held_back,
        }
    }
}

impl Link {
    /// An idle link.
    ///
    /// # Errors
    /// When the conditions make no sense.
    pub fn new(conditions: LinkConditions, seed: u64) -> Result<Self, ConditionsError> {
        conditions.check()?;
        Ok(Self {
            conditions,
            line: Line::new(&conditions, seed),
            free_at: None,
            latest_arrival: None,
            under_way: BinaryHeap::new(),
            packets: Vec::new(),
            vacant: Vec::new(),
            counters: LinkCounters::default(),
        })
    }

    /// Takes a packet at `now`, which never goes back.
    pub fn offer(&mut self, now: Instant, packet: &[u8]) -> Fate {
        self.counters.offered += 1;
        // Drawn for every packet, so that what happens to one does not depend on the time.
        let passage = self.line.next();
        if packet.len() > usize::from(self.conditions.mtu_bytes) {
            self.counters.too_long += 1;
            return Fate::TooLong;
        }
        let Some(sent_at) = self.transmit(now, packet.len()) else {
            self.counters.queue_full += 1;
            return Fate::QueueFull;
        };
        if passage.is_lost {
            self.counters.lost += 1;
            return Fate::Lost;
        }
        let mut at = sent_at + passage.delay;
        if let Some(further) = passage.held_back {
            self.counters.held_back += 1;
            at += further;
        } else {
            // Jitter alone does not let a packet pass the one before it.
            at = self.latest_arrival.map_or(at, |latest| latest.max(at));
            self.latest_arrival = Some(at);
        }
        self.counters.duplicated += u64::from(passage.is_doubled);
        for _ in 0..=u8::from(passage.is_doubled) {
            self.put(at, packet);
        }
        Fate::UnderWay
    }

    /// Sends what is offered from now on at another rate; `None` for as fast as it comes. What it was given
    /// before goes on as it was meant to.
    ///
    /// # Errors
    /// When a link cannot have that rate.
    pub fn set_rate(&mut self, bits_per_second: Option<u64>) -> Result<(), ConditionsError> {
        let conditions = LinkConditions {
            rate_bits_per_second: bits_per_second,
            ..self.conditions
        };
        conditions.check()?;
        self.conditions = conditions;
        Ok(())
    }

    /// The next packet that has arrived by `now`.
    pub fn poll(&mut self, now: Instant) -> Option<&[u8]> {
        let Reverse(next) = self.under_way.peek().filter(|next| next.0.at <= now)?;
        let packet = next.packet;
        self.under_way.pop();
        self.vacant.push(packet);
        self.counters.delivered += 1;
        Some(&self.packets[packet as usize])
    }

    /// When the next packet arrives, if one is under way.
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.under_way.peek().map(|next| next.0.at)
    }

    /// Packets that are under way, copies included.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.under_way.len()
    }

    /// What became of all packets so far.
    #[must_use]
    pub fn counters(&self) -> LinkCounters {
        self.counters
    }

    /// When a packet of `bytes` will have been sent that comes `now`; `None` if the queue has no room.
    fn transmit(&mut self, now: Instant, bytes: usize) -> Option<Instant> {
        let Some(rate) = self.conditions.rate_bits_per_second else {
            return Some(now);
        };
        let free_at = self.free_at.map_or(now, |free_at| free_at.max(now));
        // Of the packet that is being sent, what is left of it.
        let waiting_bytes = (free_at - now).as_secs_f64() * rate as f64 / 8.0;
        // Time is counted in nanoseconds: what an exact clock would not see waiting does not wait.
        let room_bytes = f64::from(self.conditions.queue_bytes) + 0.5;
        if waiting_bytes + bytes as f64 > room_bytes {
            return None;
        }
        let sent_at = free_at + Duration::from_secs_f64(bytes as f64 * 8.0 / rate as f64);
        self.free_at = Some(sent_at);
        Some(sent_at)
    }

    fn put(&mut self, at: Instant, packet: &[u8]) {
        let place = self.vacant.pop().unwrap_or_else(|| {
            // As long as a packet may be, so that none makes it grow later; beyond what links usually take, as
            // long as they are.
            let longest = self.conditions.mtu_bytes.min(USUAL_MTU_BYTES);
            self.packets.push(Vec::with_capacity(longest.into()));
            u32::try_from(self.packets.len() - 1).expect("memory ends before 2^32 packets")
        });
        let buffer = &mut self.packets[place as usize];
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.under_way.push(Reverse(Arrival {
            at,
            number: self.counters.offered,
            packet: place,
        }));
    }
}
