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
    if let Some(most) = delay.checked_sub(Duration::from_micros(300)) {
        std::thread::sleep(most);
    }
    while start.elapsed() < delay {
        std::hint::spin_loop();
    }
}

fn load_through(relay: SocketAddr) -> LoadReport {
    let target = relay.to_string();
    let fixed = ["load", "--stack", "tcp", "--target", &target, "--json"];
    let rate = ["--rate", "20", "--warm-up", "0", "--duration", "1"];
    let output = run(&[&fixed[..], &rate[..]].concat());
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    serde_json::from_str(&stdout(&output)).unwrap()
}

/// Loads until the smallest samples of both are undisturbed; a busy machine needs several tries, and
/// no number of them mends a meter that is wrong.
const ROUNDS_MAX: usize = 6;

#[test]
fn an_injected_delay_is_measured_within_a_millisecond() {
    // REGISTER and 401 are one round trip, REGISTER and 200 another.
    let keys = [("first_response_ns", 1), ("registration_delay_ns", 2)];
    let (_node, address) = start_node(&["--stack", "tcp"]);
    let relays = [Duration::ZERO, DELAY].map(|delay| start_relay(address, delay));
    let mut smallest_ns = [[u64::MAX; 2]; 2];
    let mut errors = Vec::new();
    for _ in 0..ROUNDS_MAX {
        for (relay, smallest_ns) in relays.into_iter().zip(&mut smallest_ns) {
            let report = load_through(relay);
            for ((key, _), smallest_ns) in keys.into_iter().zip(smallest_ns) {
                *smallest_ns = report.latencies[key].values().min().min(*smallest_ns);
            }
        }
        let [control_ns, delayed_ns] = smallest_ns;
        errors = keys
            .into_iter()
            .zip(delayed_ns.into_iter().zip(control_ns))
            .map(|((key, round_trips), (delayed_ns, control_ns))| {
                let injected_ns = u64::try_from(DELAY.as_nanos()).unwrap() * 2 * round_trips;
                let measured_ns = delayed_ns.saturating_sub(control_ns);
                (key, measured_ns.abs_diff(injected_ns))
            })
            .filter(|(_, error_ns)| *error_ns >= 1_000_000)
            .collect();
        if errors.is_empty() {
            return;
        }
    }
    panic!("off by a millisecond or more: {errors:?}");
}
