//! When another generator starts its calls, which it does not tell: a relay in front of the server notes when each
//! INVITE comes.
//!
//! The generator's own lag is held against a plan; of another one's plan nothing is known but that it is even. So its
//! starts are held against the even pace that makes none of them early and all of them together the least late: with
//! any other, they would be later on the whole. The relay shares the server's processor and takes time, which is in
//! the lags where it changes. So it is there for this alone, and nothing else is measured meanwhile.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use hopbench::measure::histogram::LatencyHistogram;
use hopbench::transport::Stack;
use nix::sys::socket::{setsockopt, sockopt};

use crate::testbed::{Failure, Outcome};

/// How every INVITE begins, and nothing else in a message.
const INVITE: &[u8] = b"INVITE sip:";
/// How often the relay looks whether it is over.
const LOOK: Duration = Duration::from_millis(20);
/// How long the other side may take nothing.
const PATIENCE: Duration = Duration::from_secs(5);
/// What the sockets of datagrams may hold; the kernel clamps it.
const SOCKET_BYTES: usize = 4 << 20;
/// Longest datagram, and as much of a stream as is passed on at once.
const BUFFER_BYTES: usize = 65_536;

/// How late the calls start that `make` makes over `stack` at the address that it is given, behind which `server` is;
/// `None` unless there are some. Threads of the relay begin with `settle`.
pub(super) fn lags(
    stack: &Stack,
    server: SocketAddr,
    settle: impl Fn() + Sync,
    make: impl FnOnce(SocketAddr) -> Outcome<()>,
) -> Outcome<Option<LatencyHistogram>> {
    let failed =
        |error: io::Error| Failure::Failed(format!("relay in front of the server: {error}"));
    let any = (Ipv4Addr::LOCALHOST, 0);
    let is_over = &AtomicBool::new(false);
    let settle = &settle;
    thread::scope(|scope| {
        let (address, relay): (_, thread::ScopedJoinHandle<'_, io::Result<Vec<Instant>>>) =
            if stack.is_stream() {
                let listener = TcpListener::bind(any).map_err(failed)?;
                let address = listener.local_addr().map_err(failed)?;
                let relay = scope.spawn(move || {
                    settle();
                    pass_stream(&listener, server, settle, is_over)
                });
                (address, relay)
            } else {
                let front = UdpSocket::bind(any).map_err(failed)?;
                let address = front.local_addr().map_err(failed)?;
                let relay = scope.spawn(move || {
                    settle();
                    pass_datagrams(&front, server, is_over)
                });
                (address, relay)
            };
        let made = {
            let _over = SetOnDrop(is_over);
            make(address)
        };
        let passed = relay.join().expect("a relay does not panic");
        // Why there were no calls says more than what became of the relay.
        made?;
        passed.map_err(failed).map(|starts| lateness(&starts))
    })
}

/// Also when who calls panics: nobody waits for the relay in vain.
struct SetOnDrop<'a>(&'a AtomicBool);

impl Drop for SetOnDrop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Of each start against the even pace that has the least of it and no start early.
fn lateness(starts: &[Instant]) -> Option<LatencyHistogram> {
    let first = *starts.first()?;
    let seconds: Vec<f64> = starts
        .iter()
        .map(|it| (*it - first).as_secs_f64())
        .collect();
    let (place, gap) = pace_beneath(&seconds)?;
    let mut lags = LatencyHistogram::new();
    for (number, start) in seconds.iter().enumerate() {
        let due = seconds[place] + gap * (number as f64 - place as f64);
        lags.record(Duration::from_secs_f64((start - due).max(0.0)));
    }
    Some(lags)
}

/// A start that is on time, and the gap between two: of the straight lines with no start beneath them the one that is
/// least below them in sum, so highest in the middle. It is an edge of the lower convex hull. `None` of less than two.
fn pace_beneath(starts: &[f64]) -> Option<(usize, f64)> {
    let slope = |from: usize, to: usize| (starts[to] - starts[from]) / (to - from) as f64;
    let mut hull: Vec<usize> = Vec::new();
    for place in 0..starts.len() {
        while let [.., before, last] = hull[..]
            && slope(before, last) >= slope(last, place)
        {
            hull.pop();
        }
        hull.push(place);
    }
    let middle = (starts.len().checked_sub(1)? as f64) / 2.0;
    let edge = hull.windows(2).find(|edge| edge[1] as f64 >= middle)?;
    Some((edge[0], slope(edge[0], edge[1])))
}

/// Passes one connection on to `server` and what comes back, until it ends. When its INVITEs came.
fn pass_stream(
    listener: &TcpListener,
    server: SocketAddr,
    settle: &(impl Fn() + Sync),
    is_over: &AtomicBool,
) -> io::Result<Vec<Instant>> {
    listener.set_nonblocking(true)?;
    let mut front = loop {
        match listener.accept() {
            Ok((stream, _)) => break stream,
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => return Err(error),
            Err(_) if is_over.load(Ordering::Relaxed) => return Ok(Vec::new()),
            Err(_) => thread::sleep(LOOK.div_f64(20.0)),
        }
    };
    let mut back = TcpStream::connect(server)?;
    front.set_nonblocking(false)?;
    for stream in [&front, &back] {
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(LOOK))?;
        stream.set_write_timeout(Some(PATIENCE))?;
    }
    let (mut answers, mut answered) = (back.try_clone()?, front.try_clone()?);
    thread::scope(|scope| {
        let answering = scope.spawn(move || {
            settle();
            copy(&mut answers, &mut answered, is_over, |_| {})
        });
        let mut starts = Vec::new();
        let mut counter = InviteCounter::default();
        let copied = copy(&mut front, &mut back, is_over, |bytes| {
            let now = Instant::now();
            starts.extend((0..counter.count(bytes)).map(|_| now));
        });
        let _ = back.shutdown(Shutdown::Write);
        answering.join().expect("a relay does not panic")?;
        copied.map(|()| starts)
    })
}

/// Until one of them ends, or everything has.
fn copy(
    from: &mut TcpStream,
    to: &mut TcpStream,
    is_over: &AtomicBool,
    mut look: impl FnMut(&[u8]),
) -> io::Result<()> {
    use io::ErrorKind::{BrokenPipe, ConnectionReset, Interrupted, TimedOut, WouldBlock};
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        let length = match from.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(length) => length,
            Err(error) => match error.kind() {
                WouldBlock | TimedOut | Interrupted if is_over.load(Ordering::Relaxed) => {
                    return Ok(());
                }
                WouldBlock | TimedOut | Interrupted => continue,
                ConnectionReset => return Ok(()),
                _ => return Err(error),
            },
        };
        look(&buffer[..length]);
        match to.write_all(&buffer[..length]) {
            Err(error) if matches!(error.kind(), BrokenPipe | ConnectionReset) => return Ok(()),
            written => written?,
        }
    }
}

/// Counts INVITEs in a stream, also those that begin in one piece of it and go on in the next.
#[derive(Default)]
struct InviteCounter {
    /// How much of its beginning the last piece ended with.
    matched: usize,
}

impl InviteCounter {
    fn count(&mut self, bytes: &[u8]) -> usize {
        let mut count = 0;
        for byte in bytes {
            // Its first letter is not in it again but at a place that this finds as well: none begins within another.
            self.matched = match INVITE[self.matched] == *byte {
                true => self.matched + 1,
                false => usize::from(INVITE[0] == *byte),
            };
            if self.matched == INVITE.len() {
                (self.matched, count) = (0, count + 1);
            }
        }
        count
    }
}

/// Passes datagrams of one caller on to `server`, and what comes back. When its INVITEs came.
fn pass_datagrams(
    front: &UdpSocket,
    server: SocketAddr,
    is_over: &AtomicBool,
) -> io::Result<Vec<Instant>> {
    let back = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
    back.connect(server)?;
    for socket in [front, &back] {
        socket.set_nonblocking(true)?;
        setsockopt(socket, sockopt::RcvBuf, &SOCKET_BYTES)?;
    }
    let mut buffer = vec![0; BUFFER_BYTES];
    let (mut starts, mut caller) = (Vec::new(), None);
    while !is_over.load(Ordering::Relaxed) {
        let mut has_passed = false;
        while let Ok((length, from)) = front.recv_from(&mut buffer) {
            has_passed = true;
            caller = Some(from);
            if buffer[..length].starts_with(INVITE) {
                starts.push(Instant::now());
            }
            // What the server does not take is lost, as it may be anywhere on the way.
            let _ = back.send(&buffer[..length]);
        }
        while let Ok(length) = back.recv(&mut buffer) {
            has_passed = true;
            if let Some(caller) = caller {
                let _ = front.send_to(&buffer[..length], caller);
            }
        }
        if !has_passed {
            thread::sleep(Duration::from_micros(20));
        }
    }
    Ok(starts)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;

    /// Everything that is awaited happens at once or never: this only ends a test that failed.
    const TEST_PATIENCE: Duration = Duration::from_secs(20);

    fn patient(socket: UdpSocket) -> UdpSocket {
        socket.set_read_timeout(Some(TEST_PATIENCE)).unwrap();
        socket
    }

    #[test]
    fn starts_are_held_against_the_pace_that_is_kindest_to_them() {
        let begun = Instant::now();
        let at = |ms: &[u64]| -> Vec<Instant> {
            let start = |ms: &u64| begun + Duration::from_millis(*ms);
            ms.iter().map(start).collect()
        };
        let late = |ms: &[u64], quantile| {
            let lags = lateness(&at(ms)).unwrap();
            (lags.quantile_ns(quantile).unwrap() as f64 / 1e6).round()
        };
        assert_eq!(late(&[0, 10, 20, 30, 40], 1.0), 0.0);
        // Three at a time, one every 10 ms: the last of each is on time, the first two gaps late.
        let bursts = [0, 0, 0, 30, 30, 30, 60, 60, 60, 90, 90, 90];
        assert_eq!((late(&bursts, 0.3), late(&bursts, 1.0)), (0.0, 20.0));
        // One that was held up, a break that the others never make up for, and one that is over at once.
        assert_eq!(late(&[0, 10, 27, 30, 40], 1.0), 7.0);
        assert_eq!(late(&[0, 10, 20, 30, 40, 50, 65, 75], 1.0), 5.0);
        assert_eq!(late(&[0, 10], 1.0), 0.0);
        assert!(lateness(&at(&[3])).is_none() && lateness(&[]).is_none());
    }

    #[test]
    fn invites_are_counted_however_the_stream_is_cut() {
        let stream =
            b"INVITE sip:a SIP/2.0\r\nCSeq: 1 INVITE\r\n\r\nIINVITE sip:b SIP/2.0\r\n\r\nINVITE si";
        for piece in 1..stream.len() {
            let mut counter = InviteCounter::default();
            let count: usize = stream.chunks(piece).map(|piece| counter.count(piece)).sum();
            assert_eq!(count, 2, "{piece}");
        }
    }

    /// Answers with what it gets, on a thread that nobody waits for.
    fn echo(stack: &Stack) -> SocketAddr {
        let any = (Ipv4Addr::LOCALHOST, 0);
        let mut buffer = [0; 64];
        if stack.is_stream() {
            let listener = TcpListener::bind(any).unwrap();
            let address = listener.local_addr().unwrap();
            thread::spawn(move || {
                let mut stream = listener.accept().unwrap().0;
                while let Ok(length @ 1..) = stream.read(&mut buffer) {
                    stream.write_all(&buffer[..length]).unwrap();
                }
            });
            return address;
        }
        let socket = patient(UdpSocket::bind(any).unwrap());
        let address = socket.local_addr().unwrap();
        thread::spawn(move || {
            while let Ok((length, from)) = socket.recv_from(&mut buffer) {
                socket.send_to(&buffer[..length], from).unwrap();
            }
        });
        address
    }

    #[test]
    fn what_passes_the_relay_arrives_and_is_answered() {
        const CALLS: usize = 5;
        for name in ["tcp", "udp"] {
            let stack = find(name).unwrap();
            let call = |address: SocketAddr| {
                let invite = b"INVITE sip:a SIP/2.0\r\n";
                let mut answer = [0; 22];
                if stack.is_stream() {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.set_read_timeout(Some(TEST_PATIENCE)).unwrap();
                    for _ in 0..CALLS {
                        stream.write_all(invite).unwrap();
                        stream.read_exact(&mut answer).unwrap();
                        assert_eq!(&answer, invite);
                    }
                } else {
                    let caller = patient(UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap());
                    for _ in 0..CALLS {
                        caller.send_to(invite, address).unwrap();
                        assert_eq!(caller.recv(&mut answer).unwrap(), invite.len());
                        assert_eq!(&answer, invite);
                    }
                }
                Ok(())
            };
            let lags = lags(stack, echo(stack), || {}, call).unwrap().unwrap();
            assert_eq!(lags.count(), CALLS as u64, "{name}");
        }
    }

    #[test]
    fn nobody_who_calls_is_late_for_nothing() {
        for name in ["tcp", "udp"] {
            let nowhere = (Ipv4Addr::LOCALHOST, 9).into();
            let lags = lags(find(name).unwrap(), nowhere, || {}, |_| Ok(())).unwrap();
            assert!(lags.is_none(), "{name}");
        }
    }

    #[test]
    fn who_calls_in_vain_is_told_why_and_nobody_waits_for_one_who_panics() {
        for name in ["tcp", "udp"] {
            let (stack, nowhere) = (find(name).unwrap(), (Ipv4Addr::LOCALHOST, 9).into());
            let refused = lags(stack, nowhere, || {}, |_| Err(Failure::Interrupted));
            assert!(matches!(refused, Err(Failure::Interrupted)), "{name}");
            let panics = || lags(stack, nowhere, || {}, |_| panic!("on purpose"));
            let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(panics));
            assert!(panicked.is_err(), "{name}");
        }
    }
}
