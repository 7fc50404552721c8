//! What the system calls of calls cost at least: the bytes of a call's messages between two threads that know no SIP.
//!
//! The caller sleeps, receives what has come and sends what is due, with as few system calls as there are for that;
//! the other end answers by counting. What is left of a generator's time above this is its own.

mod datagrams;

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, TcpListener, TcpStream, UdpSocket};
use std::thread;
use std::time::{Duration, Instant};

use hopbench::measure::cpu;
use hopbench::sip::rehearsal::{Rehearsal, Way};
use hopbench::transport::Stack;
use serde_json::json;

use super::{Calls, Effort, Made, sample, site_of};
use crate::experiment::{Bench, Question, Sample, Subject, Trial, cell_id};
use crate::limits::{Demand, Spread};
use crate::testbed::{Failure, Outcome, Placement};
use crate::topology::{Site, Topology};
use datagrams::Datagrams;

/// As its cells name both ends.
pub(super) const NAME: &str = "bare";
/// Beside the rate that all callers are asked for, one that many calls share a wake-up at.
const FAST: f64 = 4.0;

/// How long the last answers may take.
const DRAIN: Duration = Duration::from_secs(10);

/// Calls over one stack at one rate.
struct Floor {
    calls: Calls,
    stack: &'static Stack,
}

/// The cells of `stack`.
pub(super) fn trials(effort: &Effort, stack: &'static Stack) -> impl Iterator<Item = Trial> {
    [1.0, FAST].into_iter().map(move |times| {
        let calls = Calls {
            per_second: times * effort.rate_per_second,
            seconds: effort.seconds,
            patience_seconds: 0.0,
            gather: effort.gather(),
            seed: 0,
        };
        let site = site_of(stack);
        let id = cell_id(super::NAME, "invite", &site, "per-registration")
            .with("caller", NAME)
            .with("server", NAME)
            .with("rate", json!(calls.per_second));
        let mut parameters = effort.parameters(effort.seconds);
        let gather = json!(effort.gather_microseconds);
        parameters.insert("gather_microseconds".to_owned(), gather);
        parameters.extend(id.distinguishing.clone());
        Trial {
            subject: Subject {
                id,
                site,
                parameters,
                blocks: effort.rounds.into(),
            },
            question: Box::new(Floor { calls, stack }),
        }
    })
}

impl Question for Floor {
    fn measure(&self, bench: &Bench<'_>, _: &Site, _: u32) -> Outcome<Sample> {
        let made = call(self.stack, bench.testbed.placement(), self.calls)?;
        let shortfall = (made.failed > 0).then(|| {
            let all = made.failed + made.completed;
            format!("of {} of {all} calls an answer was lost", made.failed)
        });
        Ok(Sample {
            shortfall,
            ..sample(made, self.calls)
        })
    }

    fn demand(&self, site: &Site) -> Demand {
        Demand::of_cell(site.stack, 1, Spread::PAIR)
    }

    fn expected_seconds(&self, _: Topology) -> f64 {
        self.calls.seconds
    }
}

/// One call's messages, by who sends them.
pub(super) struct Script {
    /// INVITE, ACK, BYE.
    requests: Vec<Vec<u8>>,
    /// 100, 180, 200 to INVITE, 200 to BYE.
    responses: Vec<Vec<u8>>,
}

/// What passes messages without looking at them.
trait Caller {
    /// Sends what `count` calls send in one turn: those that were answered in the last one end, as many begin.
    fn send(&mut self, count: usize) -> io::Result<()>;
    /// Takes what has come without waiting; how many calls that is, in parts of a call.
    fn receive(&mut self) -> io::Result<f64>;
}

/// Calls over `stack`, as the generator's, as many in each turn as come while it gathers.
fn call(stack: &Stack, placement: &Placement, calls: Calls) -> Outcome<Made> {
    let script = Script::of(stack);
    let failed = |error: io::Error| Failure::Failed(format!("bare system calls: {error}"));
    let (server_cpus, caller_cpus) = (placement.node.clone(), placement.load.clone());
    let turn = Turn::of(calls);
    let made = thread::scope(|scope| {
        let any = (Ipv4Addr::LOCALHOST, 0);
        if stack.is_stream() {
            let listener = TcpListener::bind(any)?;
            let target = listener.local_addr()?;
            let (script, turn) = (&script, &turn);
            let server = scope.spawn(move || {
                pin(&server_cpus);
                serve_stream(&listener, script, turn.calls)
            });
            let caller = scope.spawn(move || {
                pin(&caller_cpus);
                let stream = TcpStream::connect(target)?;
                stream.set_nodelay(true)?;
                stream.set_nonblocking(true)?;
                turn.run(&mut Stream::new(stream, script, turn.calls))
            });
            finish(caller, server)
        } else {
            let socket = UdpSocket::bind(any)?;
            let target = socket.local_addr()?;
            let (script, turn) = (&script, &turn);
            let server = scope.spawn(move || {
                pin(&server_cpus);
                datagrams::serve(&socket, script)
            });
            let caller = scope.spawn(move || {
                pin(&caller_cpus);
                let socket = UdpSocket::bind(any)?;
                socket.connect(target)?;
                let mut caller = Datagrams::new(socket, script)?;
                let made = turn.run(&mut caller);
                caller.goodbye()?;
                made
            });
            finish(caller, server)
        }
    });
    made.map_err(failed)
}

fn finish(
    caller: thread::ScopedJoinHandle<'_, io::Result<Made>>,
    server: thread::ScopedJoinHandle<'_, io::Result<u64>>,
) -> io::Result<Made> {
    let made = caller.join().expect("the caller does not panic")?;
    let server_cpu_ns = server.join().expect("the server does not panic")?;
    Ok(Made {
        server_cpu_ns,
        ..made
    })
}

/// Has the calling thread use these processors alone, if there are some.
pub(super) fn pin(cpus: &[usize]) {
    let mut set = nix::sched::CpuSet::new();
    for cpu in cpus {
        let _ = set.set(*cpu);
    }
    if !cpus.is_empty() {
        // A processor that has gone since is for the scheduler to replace.
        let _ = nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &set);
    }
}

/// What happens in one wake-up, and how often it does.
struct Turn {
    calls: usize,
    length: Duration,
    count: u32,
}

impl Turn {
    fn of(calls: Calls) -> Self {
        let gathered = (calls.per_second * calls.gather.as_secs_f64()).ceil();
        let each = gathered.max(1.0);
        let length = each / calls.per_second;
        Self {
            calls: each as usize,
            length: Duration::from_secs_f64(length),
            count: (calls.seconds / length).ceil().max(1.0) as u32,
        }
    }

    fn run(&self, caller: &mut impl Caller) -> io::Result<Made> {
        let wanted = f64::from(self.count) * self.calls as f64;
        let mut received = 0.0;
        let started = Instant::now();
        let before = cpu::thread_ns();
        for place in 0..self.count {
            let due = started + place * self.length;
            thread::sleep(due.saturating_duration_since(Instant::now()));
            received += caller.receive()?;
            caller.send(self.calls)?;
        }
        while received < wanted && started.elapsed() < self.count * self.length + DRAIN {
            thread::sleep(self.length);
            received += caller.receive()?;
        }
        let caller_cpu_ns = cpu::thread_ns() - before;
        let completed = received.floor();
        Ok(Made {
            completed: completed as u64,
            failed: (wanted - completed) as u64,
            achieved_per_second: completed / started.elapsed().as_secs_f64(),
            caller_cpu_ns,
            ..Made::default()
        })
    }
}

impl Script {
    fn of(stack: &Stack) -> Self {
        let epoch = Instant::now();
        let call = Rehearsal::new(stack.via_transport, epoch).call(epoch + Duration::from_secs(1));
        let of = |way: Way| {
            let messages = call.iter().filter(move |message| message.way == way);
            messages.map(|message| message.bytes.clone()).collect()
        };
        Self {
            requests: of(Way::ToServer),
            responses: of(Way::ToClient),
        }
    }
}

struct Stream {
    stream: TcpStream,
    turn: Vec<u8>,
    buffer: Vec<u8>,
    bytes_of_call: usize,
}

impl Stream {
    fn new(stream: TcpStream, script: &Script, calls: usize) -> Self {
        Self {
            stream,
            turn: script.requests.concat().repeat(calls),
            buffer: vec![0; 1 << 16],
            bytes_of_call: script.responses.iter().map(Vec::len).sum(),
        }
    }
}

impl Caller for Stream {
    fn send(&mut self, _: usize) -> io::Result<()> {
        let mut rest = &self.turn[..];
        while !rest.is_empty() {
            match self.stream.write(rest) {
                Ok(written) => rest = &rest[written..],
                // A server that reads later than it is sent to.
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::yield_now(),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn receive(&mut self) -> io::Result<f64> {
        let mut bytes = 0;
        loop {
            match self.stream.read(&mut self.buffer) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(read) => {
                    bytes += read;
                    // What is not full has found the end.
                    if read < self.buffer.len() {
                        break;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        Ok(bytes as f64 / self.bytes_of_call as f64)
    }
}

/// Answers each turn's bytes by those of its answers. Returns its processor time.
fn serve_stream(listener: &TcpListener, script: &Script, calls: usize) -> io::Result<u64> {
    let (mut stream, _) = listener.accept()?;
    stream.set_nodelay(true)?;
    let asked = script.requests.iter().map(Vec::len).sum::<usize>() * calls;
    let answer = script.responses.concat().repeat(calls);
    let mut buffer = vec![0; 1 << 16];
    let mut unanswered = 0;
    loop {
        let read = stream.read(&mut buffer)?;
        if read == 0 {
            return Ok(cpu::thread_ns());
        }
        unanswered += read;
        while unanswered >= asked {
            unanswered -= asked;
            stream.write_all(&answer)?;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;

    #[test]
    fn every_byte_of_every_call_is_answered() {
        for stack in ["tcp", "udp"] {
            let calls = Calls {
                per_second: 1_000.0,
                seconds: 0.05,
                patience_seconds: 1.0,
                gather: Duration::from_millis(5),
                seed: 1,
            };
            let made = call(find(stack).unwrap(), &Placement::default(), calls).unwrap();
            assert_eq!((made.completed, made.failed), (50, 0), "{stack}");
            assert!(made.caller_cpu_ns > 0 && made.server_cpu_ns > 0);
        }
    }

    #[test]
    fn as_many_calls_share_a_turn_as_come_while_it_gathers() {
        let turn = |per_second, microseconds| {
            let turn = Turn::of(Calls {
                per_second,
                seconds: 1.0,
                patience_seconds: 1.0,
                gather: Duration::from_micros(microseconds),
                seed: 1,
            });
            (turn.calls, turn.length.as_micros(), turn.count)
        };
        assert_eq!(turn(5_000.0, 900), (5, 1_000, 1_000));
        assert_eq!(turn(40_000.0, 900), (36, 900, 1_112));
        assert_eq!(turn(100.0, 0), (1, 10_000, 100));
    }
}
