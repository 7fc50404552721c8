//! Latency against an injected delay: a relay that holds every chunk for a known time stands between
//! generator and node. The control is the same relay that holds nothing, so that what remains is the
//! delay and nothing of the machine.

#![allow(clippy::unwrap_used)]

mod support;

use std::io::{Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::time::{Duration, Instant};

use hopbench::load::LoadReport;
use support::{run, start_node, stderr, stdout};

/// Each way.
const DELAY: Duration = Duration::from_millis(20);

fn start_relay(upstream: SocketAddr, delay: Duration) -> SocketAddr {
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
                std::thread::spawn(move || relay(from, to, delay));
            }
        }
    });
    address
}

fn relay(mut from: TcpStream, mut to: TcpStream, delay: Duration) {
    let mut chunk = [0; 4096];
    while let Ok(length) = from.read(&mut chunk) {
        if length == 0 {
            break;
        }
        hold(Instant::now(), delay);
        if to.write_all(&chunk[..length]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}

/// Sleeps most of the way and spins the rest: a sleep alone ends tens of microseconds late, and four
/// of them are in a registration.
fn hold(start: Instant, delay: Duration) {
    if let Some(most) = delay.checked_sub(Duration::from_millis(2)) {
        std::thread::sleep(most);
    }
    while start.elapsed() < delay {
        std::hint::spin_loop();
    }
}

fn load_through(relay: SocketAddr) -> LoadReport {
    let target = relay.to_string();
    let fixed = ["load", "--stack", "tcp", "--target", &target, "--json"];
    let rate = ["--rate", "40", "--warm-up", "0", "--duration", "1"];
    let output = run(&[&fixed[..], &rate[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

#[test]
fn an_injected_delay_is_measured_within_a_millisecond() {
    let (_node, address) = start_node(&["--stack", "tcp"]);
    let control = load_through(start_relay(address, Duration::ZERO));
    let delayed = load_through(start_relay(address, DELAY));
    // REGISTER and 401 are one round trip, REGISTER and 200 another. The smallest sample is the one
    // that nothing else on this machine delayed.
    for (key, round_trips) in [("first_response_ns", 1), ("registration_delay_ns", 2)] {
        let smallest_ns = |report: &LoadReport| report.latencies[key].values().min();
        let injected_ns = u64::try_from(DELAY.as_nanos()).unwrap() * 2 * round_trips;
        let measured_ns = smallest_ns(&delayed).saturating_sub(smallest_ns(&control));
        let error_ns = measured_ns.abs_diff(injected_ns);
        assert!(
            error_ns < 1_000_000,
            "{key}: {measured_ns} instead of {injected_ns}"
        );
    }
}
