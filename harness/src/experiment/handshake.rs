//! What opening a protected hop costs at least: the handshake of rustls and of boringtun alone, both ends
//! in memory. Measured beside each block of a cell whose operations open hops, since a machine's speed
//! changes from block to block.

use std::hint::black_box;

use hopbench::bare::{TlsEnds, WireguardEnds};
use hopbench::measure::cpu;
use hopbench::transport::{Settings, Stack};

/// Handshakes of each round.
const HANDSHAKES: u32 = 8;
/// Rounds, the fastest of which counts: the bare price is a floor, and whatever else the processor did
/// meanwhile is none of it.
const ROUNDS: u32 = 5;

/// Processor time of both ends, in ns, of the handshakes that open a hop over `stack`; `None` if nothing
/// protects it.
pub(super) fn bare_handshake_ns(stack: &Stack, settings: &Settings) -> Option<f64> {
    let tls = match stack.via_transport {
        "TLS" => settings.tls.as_ref(),
        _ => None,
    };
    let tls = tls.map(|tls| {
        let ends = TlsEnds::new(tls, stack.carrier == "mtls");
        fastest_ns(|| ends.connect())
    });
    let tunnel = (stack.tunnel == Some("wireguard")).then(|| {
        let ends = WireguardEnds::new();
        fastest_ns(|| ends.connect())
    });
    tls.into_iter()
        .chain(tunnel)
        .reduce(|one, other| one + other)
}

/// What `connect` and dropping what it made take, in the fastest round.
fn fastest_ns<T>(connect: impl Fn() -> T) -> f64 {
    // The first one fills what all share.
    drop(connect());
    let rounds = (0..ROUNDS).map(|_| {
        let before = cpu::thread_ns();
        for _ in 0..HANDSHAKES {
            drop(black_box(connect()));
        }
        cpu::thread_ns() - before
    });
    let fastest = rounds.min().expect("there are rounds");
    fastest as f64 / f64::from(HANDSHAKES)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;

    #[test]
    fn only_what_is_protected_has_a_handshake() {
        let settings = Settings::generate(0).unwrap();
        let of = |stack: &str| bare_handshake_ns(find(stack).unwrap(), &settings);
        for stack in ["udp", "tcp", "udp@clear", "tcp@clear"] {
            assert_eq!(of(stack), None, "{stack}");
        }
        for stack in ["tls", "mtls", "udp@wireguard", "tls@wireguard"] {
            assert!(of(stack).unwrap() > 0.0, "{stack}");
        }
    }
}
