//! How tunnels are run, how datagrams pass the kernel and what sockets may hold: the options that run, node and load share.

use hopbench::transport::{Batching, Settings, SocketBuffers, TunnelOptions};

use super::{by_name, usage};
use crate::variant::Variant;

/// Options of the stacks over tunnels, and of those over datagrams.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Tunnels and sockets")]
pub(crate) struct TunnelArgs {
    /// Whether one system call of a node passes several datagrams: off, on, segments (and what it sends in a row, of one
    /// length and to one peer, as one); over UDP and every tunnel. Those of a generator do, as segments
    /// if it gathers
    #[arg(long, default_value = "off", value_name = "HOW", value_parser = by_name::<Batching>)]
    batching: Batching,
    /// Largest IP packet of TCP within a tunnel, 576 to 65000
    #[arg(long, value_name = "BYTES", default_value_t = TunnelOptions::default().mtu_bytes)]
    tunnel_mtu_bytes: u16,
    /// Send buffer and receive buffer of TCP in user space within a tunnel, each; at least
    /// a packet, at most 1048576
    #[arg(long, value_name = "BYTES", default_value_t = TunnelOptions::default().tcp_buffer_bytes)]
    tunnel_tcp_buffer_bytes: u32,
    /// Handshakes that a WireGuard server takes within a second before it asks for cookies; without
    /// it, any number
    #[arg(long, value_name = "COUNT")]
    handshakes_per_second_limit: Option<u32>,
    /// How often a WireGuard client that has nothing to say shows that it is there; without it, never
    #[arg(long, value_name = "SECONDS")]
    tunnel_keep_alive_seconds: Option<u16>,
    /// What each kernel socket asks for to send from (SO_SNDBUF); without it, what the kernel gives
    #[arg(long, value_name = "BYTES")]
    socket_send_buffer_bytes: Option<u32>,
    /// What each kernel socket asks for to receive into (SO_RCVBUF); likewise
    #[arg(long, value_name = "BYTES")]
    socket_receive_buffer_bytes: Option<u32>,
}

impl TunnelArgs {
    /// The usual way of a run.
    ///
    /// # Errors
    /// A wrong command line, when a value is not allowed.
    pub(crate) fn variant(&self) -> anyhow::Result<Variant> {
        let variant = Variant {
            tunnel: TunnelOptions {
                mtu_bytes: self.tunnel_mtu_bytes,
                tcp_buffer_bytes: self.tunnel_tcp_buffer_bytes,
                handshakes_per_second_limit: self.handshakes_per_second_limit,
                keep_alive_seconds: self.tunnel_keep_alive_seconds,
            },
            batching: self.batching,
            buffers: SocketBuffers {
                socket_send_buffer_bytes: self.socket_send_buffer_bytes,
                socket_receive_buffer_bytes: self.socket_receive_buffer_bytes,
            },
            ..Variant::default()
        };
        let checked = variant.check().map_err(anyhow::Error::msg);
        checked.map_err(|error| usage(error.context("in the options of tunnels and sockets")))?;
        Ok(variant)
    }

    /// Has tunnels run, and datagrams passed, as the options say.
    ///
    /// # Errors
    /// As [`Self::variant`].
    pub(crate) fn apply(&self, settings: &mut Settings) -> anyhow::Result<()> {
        let Variant {
            tls: _,
            tunnel,
            inner_ip: _,
            batching,
            buffers,
            handicap: _,
        } = self.variant()?;
        settings.tunnel = tunnel;
        settings.batching = batching;
        settings.socket_buffers = buffers;
        Ok(())
    }
}
