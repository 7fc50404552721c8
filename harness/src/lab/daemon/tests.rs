//! Tunnels by others, daemons and the kernel, over a wire between two namespaces that is listened to.

#![allow(clippy::unwrap_used)]

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};

use super::super::tests::lab_is_possible;
use super::super::veth;
use super::*;

const OUTER: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 18, 0, 1), Ipv4Addr::new(198, 18, 0, 2)];
const INNER: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 77, 0, 1), Ipv4Addr::new(10, 77, 0, 2)];
const INTERFACE: &str = "hop0";
/// What an eavesdropper looks for.
const SIP: &[u8] = b"REGISTER sip:hopbench.test SIP/2.0\r\nVia: SIP/2.0/TCP 10.77.0.1\r\n\r\n";

struct Site {
    namespaces: [Namespace; 2],
    pair: Pair,
}

/// Two hosts with a tunnel; `None` where there can be none and it is not required.
fn site(beneath: Beneath) -> Option<Site> {
    if let Err(missing) = find(beneath) {
        // No package brings a kernel: `scripts/lab-vm` does, and asks for all of it.
        let asked = match beneath {
            Beneath::Strongswan | Beneath::StrongswanPsk | Beneath::WireguardGo => {
                "HOPBENCH_REQUIRE_PEERS"
            }
            Beneath::StrongswanKernel | Beneath::StrongswanKernelPsk | Beneath::WireguardKernel => {
                "HOPBENCH_REQUIRE_KERNEL"
            }
        };
        assert!(std::env::var(asked).as_deref() != Ok("1"), "{missing}");
        eprintln!("skipped: {missing}");
        return None;
    }
    if !lab_is_possible() {
        return None;
    }
    let namespaces = [(); 2].map(|()| Namespace::create().unwrap());
    let end = |place: usize| veth::End {
        namespace: &namespaces[place],
        name: INTERFACE,
        address: OUTER[place],
    };
    veth::join(end(0), end(1), 30, 1_500).unwrap();
    let host = |place: usize| Host {
        namespace: &namespaces[place],
        number: 0,
        outer: OUTER[place],
        inner: INNER[place],
        cpus: &[],
    };
    let pair = Pair::start(beneath, [host(0), host(1)]);
    let pair = pair.unwrap_or_else(|error| panic!("{error}"));
    Some(Site { namespaces, pair })
}

/// Sends [`SIP`] there and back over TCP and UDP, some of it larger than a packet.
fn talk(namespaces: &[Namespace; 2]) {
    let [caller, server] = namespaces;
    let message = SIP.repeat(100);
    let listener = server.run(|| Ok(TcpListener::bind((INNER[1], 0)).unwrap()));
    let listener = listener.unwrap();
    let address = listener.local_addr().unwrap();
    let mut stream = caller
        .run(|| Ok(TcpStream::connect(address).unwrap()))
        .unwrap();
    let (mut accepted, peer) = listener.accept().unwrap();
    assert_eq!(peer.ip(), INNER[0]);
    let mut arrived = vec![0; message.len()];
    for _ in 0..20 {
        stream.write_all(&message).unwrap();
        accepted.read_exact(&mut arrived).unwrap();
        assert_eq!(arrived, message);
        accepted.write_all(SIP).unwrap();
        stream.read_exact(&mut arrived[..SIP.len()]).unwrap();
    }
    let bind = |place: usize| {
        let bound = namespaces[place].run(|| Ok(UdpSocket::bind((INNER[place], 0)).unwrap()));
        bound.unwrap()
    };
    let (one, other) = (bind(0), bind(1));
    one.send_to(SIP, other.local_addr().unwrap()).unwrap();
    let (length, from): (usize, SocketAddr) = other.recv_from(&mut arrived).unwrap();
    assert_eq!((&arrived[..length], from), (SIP, one.local_addr().unwrap()));
}

/// What was on the wire while the ends talked.
fn overheard(site: &mut Site) -> Vec<wire::Packet> {
    site.pair.tap.as_mut().unwrap().clear().unwrap();
    talk(&site.namespaces);
    let seen = site.pair.tap.as_mut().unwrap().drain().unwrap();
    let bytes: u64 = seen.iter().map(wire::Packet::ip_bytes).sum();
    assert!(
        bytes > 20 * 100 * SIP.len() as u64,
        "all of it was on the wire: {bytes}"
    );
    let legible = seen.iter().filter(|packet| packet.contains(b"SIP/2.0"));
    assert_eq!(legible.count(), 0, "of {} packets", seen.len());
    seen
}

/// IKEv2 is established, SIP passes both ways, and the wire shows ESP and nothing to read.
fn strongswan_protects(beneath: Beneath, is_expected: impl Fn(&wire::Packet) -> bool) {
    let Some(mut site) = site(beneath) else {
        return;
    };
    let recorded: Vec<_> = recorded(beneath).collect();
    let agreed = site.pair.agreed();
    assert_eq!(agreed.len(), 5);
    for (name, value) in agreed {
        let expected = (format!("tunnel_{name}"), value.into());
        assert!(recorded.contains(&expected), "{expected:?} in {recorded:?}");
    }
    let seen = overheard(&mut site);
    assert!(seen.iter().all(is_expected), "{seen:?}");
    let before = site.pair.cpu_time().unwrap();
    for _ in 0..3 {
        let set_up = site.pair.set_up().unwrap();
        // Two exchanges: IKE_SA_INIT, IKE_AUTH (RFC 7296 §1.2). Certificates may take fragments (RFC 7383).
        assert!(set_up.wire_packets >= 4, "{set_up:?}");
        assert!(set_up.wire_bytes > 4 * (20 + 8 + 28), "{set_up:?}");
        assert!(set_up.announced.unwrap() < set_up.time);
    }
    let after = site.pair.cpu_time().unwrap();
    assert!(after[0] > before[0] && after[1] > before[1]);
    overheard(&mut site);
}

#[test]
fn strongswan_with_a_shared_secret_protects_sip() {
    strongswan_protects(Beneath::StrongswanPsk, wire::Packet::is_esp_in_udp);
}

#[test]
fn strongswan_with_certificates_protects_sip() {
    strongswan_protects(Beneath::Strongswan, wire::Packet::is_esp_in_udp);
}

#[test]
fn strongswan_and_the_kernel_with_a_shared_secret_protect_sip() {
    strongswan_protects(Beneath::StrongswanKernelPsk, wire::Packet::is_esp);
}

#[test]
fn strongswan_and_the_kernel_with_certificates_protect_sip() {
    strongswan_protects(Beneath::StrongswanKernel, wire::Packet::is_esp);
}

#[test]
fn wireguard_go_protects_sip() {
    wireguard_protects(Beneath::WireguardGo);
}

#[test]
fn the_kernels_wireguard_protects_sip() {
    wireguard_protects(Beneath::WireguardKernel);
}

/// Handshakes are made anew, SIP passes both ways, and the wire shows WireGuard and nothing to read.
fn wireguard_protects(beneath: Beneath) {
    let Some(mut site) = site(beneath) else {
        return;
    };
    let seen = overheard(&mut site);
    assert!(seen.iter().all(wire::Packet::is_wireguard_data), "{seen:?}");
    for _ in 0..3 {
        let set_up = site.pair.set_up().unwrap();
        // Initiation and response, of 148 and 92 bytes behind IP and UDP headers.
        assert_eq!(set_up.wire_packets, 2, "{set_up:?}");
        assert_eq!(set_up.wire_bytes, 148 + 92 + 2 * 28);
        assert_eq!(set_up.announced, None);
    }
    overheard(&mut site);
}

#[test]
fn a_daemon_that_ends_is_told_of_with_its_last_words() {
    let Some(mut site) = site(Beneath::StrongswanPsk) else {
        return;
    };
    site.pair.check().unwrap();
    let server = site.pair.processes().pop().unwrap();
    nix::sys::signal::kill(server.pid(), nix::sys::signal::Signal::SIGTERM).unwrap();
    let ended = (0..1_000).find_map(|_| {
        std::thread::sleep(std::time::Duration::from_millis(10));
        site.pair.check().err()
    });
    let told = ended.unwrap().to_string();
    assert!(
        told.contains("it ended") && told.contains("SIGTERM"),
        "{told}"
    );
}
