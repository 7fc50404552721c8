//! What the cryptography of a connection holds on the heap at least: rustls and boringtun alone, both ends
//! in memory. Measured in the run whose stacks it is compared with, by the allocator that they have.

use hopbench::bare::{TlsEnds, WireguardEnds};
use hopbench::measure::heap;
use hopbench::transport::{Settings, Stack};

/// Bytes of client and server. `None` where the allocator does not count.
type Both = Option<[i64; 2]>;

/// The metrics of `stack`; none if nothing protects it.
pub(super) fn bare_heap(stack: &Stack, settings: &Settings) -> Vec<(String, Option<f64>)> {
    let tls = match stack.via_transport {
        "TLS" => settings.tls.as_ref(),
        _ => None,
    };
    let tls = tls.map(|tls| {
        // Over a tunnel it is the tunnel that knows both ends.
        let ends = TlsEnds::new(tls, stack.carrier == "mtls");
        held(|| {
            let (client, server) = ends.connect();
            (Box::new(client), Box::new(server))
        })
    });
    let tunnel = (stack.tunnel == Some("wireguard")).then(|| {
        let ends = WireguardEnds::new();
        held(|| ends.connect())
    });
    let layers: Vec<Both> = tls.into_iter().chain(tunnel).collect();
    if layers.is_empty() {
        return Vec::new();
    }
    let sides = ["client", "server"].into_iter().enumerate();
    let metric = |(side, name)| {
        let bytes: Option<i64> = layers.iter().map(|both| Some((*both)?[side])).sum();
        #[allow(clippy::cast_precision_loss)] // some thousand bytes
        let bytes = bytes.map(|bytes| bytes as f64);
        (format!("{name}_bare_heap_bytes_per_connection"), bytes)
    };
    sides.map(metric).collect()
}

/// What each end sets free when it is dropped. The first pair fills what all pairs share.
fn held<C, S>(connect: impl Fn() -> (C, S)) -> Both {
    drop(connect());
    let (client, server) = connect();
    let live = || Some(heap::thread()?.live_bytes);
    let with_both = live()?;
    drop(client);
    let with_server = live()?;
    drop(server);
    Some([with_both - with_server, with_server - live()?])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;

    fn of(stack: &str, settings: &Settings) -> Vec<(String, Option<f64>)> {
        bare_heap(find(stack).unwrap(), settings)
    }

    #[test]
    fn what_is_plain_has_no_floor() {
        let settings = Settings::generate(0).unwrap();
        for stack in ["udp", "tcp", "tcp@clear"] {
            assert_eq!(of(stack, &settings), [], "{stack}");
        }
    }

    /// Session keys of two directions and the buffers of a deframer are kilobytes; a `Tunn` is hundreds of
    /// bytes at least, and the floors of two layers add up. What a session keeps of a certificate's
    /// signature in DER is some bytes more or less from one handshake to the next.
    #[test]
    fn layers_add_up_on_both_sides() {
        let settings = Settings::generate(0).unwrap();
        let bytes = |stack: &str| -> Vec<f64> {
            of(stack, &settings)
                .into_iter()
                .map(|(_, bytes)| bytes.unwrap())
                .collect()
        };
        let (tls, tunnel, both) = (bytes("tls"), bytes("udp@wireguard"), bytes("tls@wireguard"));
        assert_eq!(bytes("tcp@wireguard"), tunnel);
        for side in 0..2 {
            assert!(tls[side] > 1_000.0, "{tls:?}");
            assert!(tunnel[side] > 500.0, "{tunnel:?}");
            assert!(
                (tls[side] + tunnel[side] - both[side]).abs() < 128.0,
                "{both:?} are not {tls:?} and {tunnel:?}"
            );
        }
        assert_eq!(
            of("tls", &settings)[1].0,
            "server_bare_heap_bytes_per_connection"
        );
    }
}
