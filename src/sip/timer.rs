//! The timer values of RFC 3261 §17.

use std::time::Duration;

/// Base values that every timer is derived from (RFC 3261, table 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Estimate of the round-trip time; first retransmission interval.
    pub t1: Duration,
    /// Longest retransmission interval of non-INVITE requests and INVITE responses.
    pub t2: Duration,
    /// How long a message may linger in the network.
    pub t4: Duration,
}

impl Timing {
    /// How long a transaction waits before it gives up: Timers B, F, H, and L, M of RFC 6026.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.t1 * 64
    }
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            t1: Duration::from_millis(500),
            t2: Duration::from_secs(4),
            t4: Duration::from_secs(5),
        }
    }
}
