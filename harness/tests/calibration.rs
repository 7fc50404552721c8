//! Latency against an injected delay: a relay that holds every chunk for a known time stands between
//! generator and node.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use hopbench::load::LoadReport;
use support::{run, start_node, stderr, stdout};

/// Each way.
const DELAY: Duration = Duration::from_millis(20);

fn start_relay(upstream: SocketAddr) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            let Ok(server) = TcpStream::connect(upstream) else {
                return;
            };
            for (from, to) in [(&client, &server), (&server, &client)] {
                let (from, to) = (from.try_clone().unwrap(), to.try_clone().unwrap());
                to.set_nodelay(true).unwrap();
                std::thread::spawn(move || relay(from, to));
            }
        }
    });
    address
}

fn relay(mut from: TcpStream, mut to: TcpStream) {
    let mut chunk = [0; 4096];
    while let Ok(length) = from.read(&mut chunk) {
        if length == 0 {
            break;
        }
        std::thread::sleep(DELAY);
        if to.write_all(&chunk[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

#[test]
fn an_injected_delay_is_measured_within_a_millisecond() {
    let (_node, address) = start_node(&["--stack", "tcp"]);
    let relay = start_relay(address).to_string();
    let output = run(&[
        "load",
        "--stack",
        "tcp",
        "--target",
        &relay,
        "--rate",
        "40",
        "--warm-up",
        "0",
        "--duration",
        "1",
        "--json",
    ]);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    let report: LoadReport = serde_json::from_str(&stdout(&output)).unwrap();
    // REGISTER and 401 are one round trip, REGISTER and 200 another. The smallest sample is the one
    // that nothing else on this machine delayed: what is left beyond the injected delay is hopbench's.
    for (key, round_trips) in [("first_response_ns", 1), ("registration_delay_ns", 2)] {
        let smallest_ns = report.latencies[key].values().min();
        let injected_ns = u64::try_from(DELAY.as_nanos()).unwrap() * 2 * round_trips;
        // A histogram of three significant digits holds 80 ms to within 65 µs.
        assert!(
            smallest_ns + 65_536 >= injected_ns,
            "{key}: {smallest_ns} < {injected_ns}"
        );
        assert!(
            smallest_ns < injected_ns + 1_000_000,
            "{key}: {smallest_ns} ≫ {injected_ns}"
        );
    }
}
