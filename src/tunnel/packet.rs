//! An IP packet on its way into a tunnel, in a buffer with room for what protection appends.

/// Bytes that must be free behind an outgoing packet: the padding of WireGuard (to 16 bytes) or of
/// ESP (RFC 4303 §2.4, to the cipher's block) with its trailer.
pub const PACKET_ROOM_BYTES: usize = 32;

/// An IP packet at the start of a buffer. It is padded in place, so that no packet is copied for it.
#[derive(Debug)]
pub struct IpPacket<'a> {
    buffer: &'a mut [u8],
    bytes: usize,
}

impl<'a> IpPacket<'a> {
    /// The packet in the first `bytes` of `buffer`; what is behind it may be overwritten.
    ///
    /// # Panics
    /// When less than [`PACKET_ROOM_BYTES`] are behind it.
    #[must_use]
    pub fn new(buffer: &'a mut [u8], bytes: usize) -> Self {
        assert!(
            buffer.len() >= bytes + PACKET_ROOM_BYTES,
            "expected room of {PACKET_ROOM_BYTES} bytes behind a packet of {bytes}, found a buffer of {}",
            buffer.len()
        );
        Self { buffer, bytes }
    }

    /// The packet.
    #[must_use]
    pub fn bytes(&self) -> &[u8] {
        &self.buffer[..self.bytes]
    }

    /// The packet and zeros up to the next multiple of `alignment_bytes`, but no further than
    /// `limit_bytes`, beyond which a packet would not fit its path.
    #[must_use]
    pub fn padded(self, alignment_bytes: usize, limit_bytes: usize) -> &'a [u8] {
        let padded = padded_bytes(self.bytes, alignment_bytes, limit_bytes);
        self.buffer[self.bytes..padded].fill(0);
        &self.buffer[..padded]
    }
}

/// Length of a packet of `bytes` once it is [`IpPacket::padded`].
pub(super) fn padded_bytes(bytes: usize, alignment_bytes: usize, limit_bytes: usize) -> usize {
    let aligned = bytes.next_multiple_of(alignment_bytes);
    aligned.min(limit_bytes).max(bytes)
}

/// A copy of `packet` with room behind it.
#[cfg(test)]
pub(super) fn with_room(packet: &[u8]) -> Vec<u8> {
    let mut roomy = packet.to_vec();
    roomy.resize(packet.len() + PACKET_ROOM_BYTES, 0);
    roomy
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packets_are_padded_to_the_alignment_but_not_beyond_the_limit() {
        let cases = [
            (0, 0),
            (1, 16),
            (16, 16),
            (17, 32),
            (1_400, 1_408),
            (1_415, 1_420),
            (1_430, 1_430),
        ];
        for (bytes, padded_bytes) in cases {
            let mut buffer = vec![0xff; 1_500];
            let padded = IpPacket::new(&mut buffer, bytes).padded(16, 1_420);
            assert_eq!(padded.len(), padded_bytes, "{bytes}");
            assert!(padded[..bytes].iter().all(|&byte| byte == 0xff));
            assert!(padded[bytes..].iter().all(|&byte| byte == 0));
        }
    }
}
