//! A link between two namespaces on which something is emulated: a TUN device at each end, and a pump that
//! carries packets between them.

use std::io;

use hopbench::net::link::{Link, LinkConditions};
use hopbench::net::tun::TunConfig;

use super::LabError;
use super::pump::{self, Pump};
use super::tap::Tap;
use super::veth::End;

/// Packets that a device keeps until the pump reads them.
pub(super) const QUEUE_PACKETS: u32 = 10_000;

/// Joins two namespaces by links that are as `conditions` say in both directions, past `tap`. `seed` draws
/// what happens to packets; the pump uses `cpus`, if there are some.
///
/// # Errors
/// Where `/dev/net/tun` is missing or not this user's, and when a name is taken.
pub(super) fn join(
    [near, far]: [End<'_>; 2],
    prefix_bits: u8,
    conditions: &LinkConditions,
    seed: u64,
    tap: Tap,
    cpus: &[usize],
) -> Result<Pump, LabError> {
    let device = |end: End<'_>| -> Result<pump::End, LabError> {
        let config = TunConfig {
            name: end.name.to_owned(),
            address: end.address,
            prefix_bits,
            peer: None,
            mtu_bytes: conditions.mtu_bytes.into(),
            queue_packets: QUEUE_PACKETS,
        };
        let tun = end.namespace.tun(&config)?;
        let books = end.namespace.run(|| {
            let books = tun.books();
            books.map_err(LabError::step("read what an interface drops"))
        })?;
        Ok(pump::End {
            books: Some(books),
            device: tun.into(),
        })
    };
    // Each direction loses other packets than the other one.
    let link = |direction: u8| {
        let link = Link::new(*conditions, seed.wrapping_add(u64::from(direction) << 48));
        link.map_err(io::Error::other)
            .map_err(LabError::step("emulate a link"))
    };
    let (ends, links) = ([device(near)?, device(far)?], [link(0)?, link(1)?]);
    Pump::start(ends, links, tap, cpus).map_err(LabError::step("start a pump"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::net::{Ipv4Addr, UdpSocket};
    use std::time::{Duration, Instant};

    use super::super::Namespace;
    use super::super::tests::lab_is_possible;
    use super::*;

    /// A minute of them: by then the machine has been at rest for once.
    const TRIPS_MAX: usize = 600;

    /// The calibration of what every latency of the lab rests on. A machine that is busy adds to a round
    /// trip but takes nothing away: so one of many tells.
    #[test]
    fn a_one_way_delay_of_50_ms_is_a_round_trip_of_100_ms() {
        if !lab_is_possible() {
            return;
        }
        let namespaces = [(); 2].map(|()| Namespace::create().unwrap());
        let address = |host| Ipv4Addr::new(198, 18, 0, host);
        let end = |place: usize| End {
            namespace: &namespaces[place],
            name: "hop0",
            address: address(if place == 0 { 1 } else { 2 }),
        };
        let conditions = LinkConditions::with_round_trip_ms(100.0);
        let _pump = join([end(0), end(1)], 30, &conditions, 1, Tap::default(), &[]).unwrap();
        let [client, server] = [1, 2].map(|host: u8| {
            let namespace = &namespaces[usize::from(host) - 1];
            let socket = namespace.run(|| Ok(UdpSocket::bind((address(host), 5_060)).unwrap()));
            let socket = socket.unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        });
        // Asks again and again instead of sleeping: what it takes to be woken is not the link's.
        let receive = |socket: &UdpSocket| {
            let asked = Instant::now();
            loop {
                match socket.recv_from(&mut [0; 9]) {
                    Ok((bytes, from)) => return (bytes, from),
                    Err(error) => assert_eq!(error.kind(), io::ErrorKind::WouldBlock),
                }
                assert!(asked.elapsed() < Duration::from_secs(30), "nothing comes");
                std::hint::spin_loop();
            }
        };
        let round_trip = || {
            let sent = Instant::now();
            client.send_to(b"there", (address(2), 5_060)).unwrap();
            let (bytes, from) = receive(&server);
            assert_eq!(bytes, 5);
            server.send_to(b"back", from).unwrap();
            assert_eq!(receive(&client).0, 4);
            sent.elapsed()
        };
        let error_ms = |_| round_trip().as_secs_f64() * 1e3 - 100.0;
        let mut shortest_ms = f64::INFINITY;
        let found = (0..TRIPS_MAX).map(error_ms).find(|error_ms| {
            assert!(*error_ms >= 0.0, "100 ms and {error_ms:.3} ms");
            shortest_ms = shortest_ms.min(*error_ms);
            *error_ms < 0.5
        });
        assert!(
            found.is_some(),
            "never less than 100 ms and {shortest_ms:.3} ms"
        );
    }
}
