//! What the figures of a run do not say: what the reader must know of its stacks, workloads and paths. A part of
//! the Markdown report.

use std::fmt::Write as _;

use hopbench::record::{Cell, Run};

/// What a caveat is about. It is printed when the run has such a cell.
enum Concern {
    Loopback,
    /// How the stack's name ends.
    Stack(&'static str),
    /// A stream within a tunnel, by whose TCP it is.
    InnerIp(&'static str),
    /// TLS within a tunnel.
    TunnelledTls,
    Workload(&'static str),
    Experiment(&'static str),
    /// Calls from user to user.
    Callees,
}

/// What the reader must know beside the figures.
const CAVEATS: [(Concern, &str); 19] = [
    (
        Concern::Loopback,
        "The path is loopback: there is no round-trip time, so what a handshake's extra round trips cost on a real link does not show in any latency here.",
    ),
    (
        Concern::Stack("udp"),
        "Over datagrams a SIP server keeps each answered request for 32 s (Timer J of RFC 3261), since it may come again. Memory read right after a registration holds its two transactions; after 32 s they are gone.",
    ),
    (
        Concern::Stack("@wireguard"),
        "The tunnel runs in user space. It is neither the kernel's WireGuard nor IPsec, and its figures predict neither.",
    ),
    (
        Concern::Stack("@wireguard"),
        "boringtun computes X25519 with another implementation than the TLS stacks' provider, so a part of the difference between their handshakes lies in the libraries, not in the protocols.",
    ),
    (
        Concern::Stack("@wireguard"),
        "Each user's tunnel is made when it comes: both ends then multiply their static keys, which a configured WireGuard has done before. At the client that is a part of the set-up but not of the tunnel's handshake, at the server, the first time that the user comes, a part of both.",
    ),
    (
        Concern::Stack("@wireguard"),
        "boringtun does not pad payloads to a multiple of 16 bytes, as the protocol asks; hopbench does it around the crate where a cell's parameter `padding`, or `tunnel_padding`, says so.",
    ),
    (
        Concern::Stack("@wireguard"),
        "A WireGuard server takes any number of handshakes unless a cell's parameter `handshakes_per_second_limit` says otherwise: the kernel's would ask for cookies under a load of handshakes.",
    ),
    (
        Concern::InnerIp("kernel"),
        "IP within a tunnel is the kernel's (`inner_ip`): each packet passes a TUN device between it and the tunnel, one at a time, and the kernel once more as a datagram, as in deployed VPNs that run in user space. All users of a worker share one device towards a node; sockets inside count among the kernel's memory.",
    ),
    (
        Concern::InnerIp("user"),
        "TCP within a tunnel is smoltcp in user space, with buffers of its own (`tcp_buffer_bytes`), without congestion control, and with acknowledgements delayed by up to 40 ms; TCP without a tunnel is the kernel's. Their difference is a part of the price of tunnelling, not of protection.",
    ),
    (
        Concern::TunnelledTls,
        "TLS within a tunnel is protected twice. Its ratio to `tcp@clear` is the price of both protections, its ratio to `tls` that of the tunnel only.",
    ),
    (
        Concern::Stack("@strongswan"),
        "IPsec is strongSwan's in user space (`kernel-libipsec`), with an inner MTU of 1,400 bytes, and one association for all users. Its figures do not predict the kernel's ESP.",
    ),
    (
        Concern::Stack("@strongswan-kernel"),
        "IPsec is strongSwan's for IKEv2 and the kernel's for ESP (`xfrm`), as it is, without UDP, and one association for all users. The kernel decrypts where a packet arrives, which over a veth pair is in the time of who sent it: trust the sum of both sides' CPU time, not its parts. Over emulated links it is in nobody's time, and CPU time is not told.",
    ),
    (
        Concern::Stack("@wireguard-kernel"),
        "WireGuard is the kernel's, one tunnel for all users. Its threads do the work in no process's time, so CPU time an operation is not told.",
    ),
    (
        Concern::Stack("@clear"),
        "`@clear` moves packets through the same plumbing as a tunnel, without cryptography: its ratio to the bare carrier is the price of tunnelling, and what a tunnel costs over it is the price of protection.",
    ),
    (
        Concern::Callees,
        "Where users call each other by `edge` or `trapezoid`, the client's CPU time is that of callers and callees together; answering takes a part of the server's elsewhere.",
    ),
    (
        Concern::Experiment("chain"),
        "All nodes of a chain share one processor, as far as they are pinned: the delay that a further hop adds includes waiting for it, so hold the CPU time of a hop, not its delay, against other machines.",
    ),
    (
        Concern::Experiment("scale"),
        "A crowd and its node share one machine: users are sockets of a few processes, and the workers of the node share the processors that its cell's parameter `node_cpus` names.",
    ),
    (
        Concern::Workload("avalanche"),
        "In an avalanche each user first waits for 50 to 100 % of the back-off's base, so most of an outage is that wait; the stack is in what the rows differ by.",
    ),
    (
        Concern::Workload("mixed"),
        "How often which operation comes in a mixture is an assumption, not a measurement of users; the weights are among the cell's parameters.",
    ),
];

impl Concern {
    fn is_about(&self, cell: &Cell) -> bool {
        match self {
            Self::Loopback => cell.path == "loopback",
            Self::Stack(ending) => {
                let stack = cell.stack.as_str();
                // How the ends know each other changes nothing of it.
                stack
                    .strip_suffix("-psk")
                    .unwrap_or(stack)
                    .ends_with(ending)
            }
            Self::InnerIp(whose) => {
                // Earlier runs do not tell: it was always in user space.
                let is_kernels = cell.parameters.get("inner_ip") == Some(&"kernel".into());
                let mut ours = ["@clear", "@wireguard"].iter();
                let is_tunnel = ours.any(|tunnel| cell.stack.ends_with(tunnel));
                let is_stream = !cell.stack.starts_with("udp");
                is_tunnel && is_stream && is_kernels == (*whose == "kernel")
            }
            Self::TunnelledTls => cell.stack.contains("tls@"),
            Self::Workload(workload) => cell.workload == *workload,
            Self::Experiment(experiment) => cell.experiment == *experiment,
            Self::Callees => ["edge", "trapezoid"].contains(&cell.topology.as_str()),
        }
    }
}

/// Those that are about a cell of the run.
pub(super) fn section(out: &mut String, run: &Run) {
    let _ = writeln!(out, "## What the figures do not say\n");
    for (concerned, caveat) in CAVEATS {
        if run.cells.iter().any(|cell| concerned.is_about(cell)) {
            let _ = writeln!(out, "- {caveat}");
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::report::{fixture, markdown::render};

    #[test]
    fn wireguard_is_never_called_ipsec_and_caveats_follow_the_stacks() {
        let mut run = fixture::run();
        assert!(render(&run).contains("boringtun does not pad payloads"));
        for line in render(&run).lines().filter(|line| line.contains("IPsec")) {
            assert!(line.contains("neither"), "{line}");
        }
        run.cells.retain(|cell| !cell.stack.contains('@'));
        assert!(!render(&run).contains("boringtun does not pad payloads"));
    }
}
