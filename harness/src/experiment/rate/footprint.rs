//! What an operation takes of a hop, and what follows from it: the closed forms that measurements are held against.

/// Bytes of IP packets of one operation.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Footprint {
    /// From who opens hops.
    pub(super) onward_bytes: f64,
    /// To who opens hops.
    pub(super) back_bytes: f64,
}

impl Footprint {
    /// Of `operations` that together took so many bytes.
    pub(super) fn new(onward_bytes: u64, back_bytes: u64, operations: u64) -> Self {
        Self {
            onward_bytes: onward_bytes as f64 / operations as f64,
            back_bytes: back_bytes as f64 / operations as f64,
        }
    }

    /// How many of them fit into a second on a hop that sends so much in each direction: the fuller direction
    /// decides.
    pub(super) fn predicted_per_second(self, rate_bits_per_second: u64) -> f64 {
        rate_bits_per_second as f64 / (8.0 * self.onward_bytes.max(self.back_bytes))
    }

    /// How long sending all its bytes takes if nothing is sent in both directions at a time. An operation that is
    /// alone takes no longer, as far as the hop goes: its messages wait for each other, but not all bytes are waited
    /// for.
    pub(super) fn serialised_seconds(self, rate_bits_per_second: u64) -> f64 {
        8.0 * (self.onward_bytes + self.back_bytes) / rate_bits_per_second as f64
    }
}
