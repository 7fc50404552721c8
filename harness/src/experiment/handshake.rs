//! What opening a protected hop costs at least: the handshake of rustls and of boringtun alone, both ends
//! in memory. Measured beside each block of a cell whose operations open hops, since a machine's speed
//! changes from block to block.

use hopbench::bare::{TlsEnds, WireguardEnds};
use hopbench::transport::{Settings, Stack};

use super::pace::Price;

/// Handshakes of each round, one right after the other.
const HANDSHAKES: u32 = 8;

/// Processor time of both ends, in ns, of the handshakes that open a hop over `stack`, of which there are so
/// many a second; `None` if nothing protects it.
pub(super) fn bare_handshake(stack: &Stack, settings: &Settings, per_second: f64) -> Option<Price> {
    let tls = match stack.via_transport {
        "TLS" => settings.tls.as_ref(),
        _ => None,
    };
    let tls = tls.map(|tls| {
        let ends = TlsEnds::new(tls, stack.carrier == "mtls");
        Price::of(HANDSHAKES, per_second, || ends.connect())
    });
    let tunnel = (stack.tunnel == Some("wireguard")).then(|| {
        let ends = WireguardEnds::new();
        Price::of(HANDSHAKES, per_second, || ends.connect())
    });
    tls.into_iter().chain(tunnel).reduce(Price::plus)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;

    #[test]
    fn only_what_is_protected_has_a_handshake() {
        let settings = Settings::generate(0).unwrap();
        let of = |stack: &str| bare_handshake(find(stack).unwrap(), &settings, 500.0);
        for stack in ["udp", "tcp", "udp@clear", "tcp@clear"] {
            assert_eq!(of(stack), None, "{stack}");
        }
        for stack in ["tls", "mtls", "udp@wireguard", "tls@wireguard"] {
            let price = of(stack).unwrap();
            assert!(
                price.warm_ns > 0.0 && price.paced_ns > 0.0,
                "{stack}: {price:?}"
            );
        }
    }
}
