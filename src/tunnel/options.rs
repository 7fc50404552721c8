//! How tunnels are run, as plain data: what a cell records and a scenario varies.

use serde::{Deserialize, Serialize};

/// How tunnels are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TunnelOptions {
    /// Largest IP packet that inner TCP sends, headers included, and up to which WireGuard pads.
    /// 1,420 is what its interfaces have over Ethernet.
    pub mtu_bytes: u16,
    /// Send buffer and receive buffer of an inner TCP connection, each.
    pub tcp_buffer_bytes: u32,
    /// Handshake initiations that a server takes within a second before it asks for cookies; `None`
    /// for any number.
    pub handshakes_per_second_limit: Option<u32>,
    /// How often an initiator shows that it is there when it has nothing to say; `None` for never.
    pub keep_alive_seconds: Option<u16>,
}

impl Default for TunnelOptions {
    fn default() -> Self {
        Self {
            mtu_bytes: 1_420,
            tcp_buffer_bytes: 8_192,
            handshakes_per_second_limit: None,
            keep_alive_seconds: None,
        }
    }
}
