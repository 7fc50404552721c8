//! The generator beside SIPp, the field's reference: what a call costs each as the caller, at one rate that
//! both can do and each at the highest that it can, against the same servers; and what the generator's
//! calls over TLS cost beside their floor; and what a caller's system calls alone cost.
//!
//! Both make the same call – INVITE with a session description, 180, 200, ACK, BYE, 200 – over one socket, one
//! at a time or many at once as they come, at a constant rate. Both are processes of their own on the same
//! processors, and the server, SIPp's built-in `uas` or the node, is alone on another. Processor time is user
//! and system time of the caller's whole process, its start included, ÷ the calls that it completed.

mod bare;
mod caller;
mod records;
mod search;
mod sipp;
mod starts;

use std::cell::Cell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::Duration;

use hopbench::load::{GATHERED_RECEIVE_BUFFER_BYTES, Moment};
use hopbench::measure::histogram::LatencyHistogram;
use hopbench::record::{CellId, Ratio, Verdict};
use hopbench::transport::{self, Stack};
use serde_json::json;

use super::collect::{Collected, ratio_of};
use super::{Bench, Experiment, Question, Sample, Subject, Trial, cell_id};
use crate::limits::{Demand, Spread};
use crate::path::Path;
use crate::rate::ACHIEVED_SHARE_MIN;
use crate::testbed::Outcome;
use crate::topology::{Site, Topology};
use crate::variant::Variant;
use caller::{Caller, Server};
use search::Ascent;
pub(crate) use sipp::Sipp;

/// As its cells and `hopbench list experiments` name it.
pub(crate) const NAME: &str = "versus";

const CPU: &str = "client_cpu_ns_per_operation";
const RATE: &str = "session_establishment_rate";
const RECORDS: &str = "bare_records_cpu_ns_per_operation";
const OVER_FLOOR: &str = "client_cpu_to_floor_ratio";

/// SIPp starts calls in bursts: at 5,000 a second, by default, half of them 2.4 milliseconds late and more, and one of a
/// hundred 4.7 and more, as each run shows. Gathering for so long, ours is more punctual than that, at the median as at the
/// 99th percentile. As punctual as it can be, it is another caller of the same run.
const GATHER_MICROSECONDS: u32 = 2_900;

/// How long it is watched when callers start their calls, which SIPp does not tell.
const STARTS_SECONDS: f64 = 1.0;

/// How late starts come in front of the server.
const OBSERVED_LAG: &str = "observed_lag_ns";

/// How late calls started, and how long they took to be answered: what gathering costs.
const DELAYS: [Moment; 2] = [Moment::SchedulingLag, Moment::SessionRequestDelay];

/// How much is measured.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub(crate) struct Effort {
    /// Interleaved repetitions.
    pub(crate) rounds: u32,
    /// What both callers are asked for, and where the search for the highest rate starts.
    pub(crate) rate_per_second: f64,
    /// How long calls are made at that rate.
    pub(crate) seconds: f64,
    /// How long at each rate that is tried.
    pub(crate) probe_seconds: f64,
    /// Most rates that the search tries.
    pub(crate) probes: u32,
    /// How long the generator lets starts and arrivals wait for each other.
    pub(crate) gather_microseconds: u32,
    /// `udp`, `tcp`, `tls`: what SIPp cannot speak here, the generator does alone.
    pub(crate) stacks: Vec<String>,
}

impl Effort {
    /// For a committed result: about thirteen minutes.
    pub(crate) fn full() -> Self {
        Self {
            gather_microseconds: GATHER_MICROSECONDS,
            rounds: 5,
            rate_per_second: 5_000.0,
            seconds: 4.0,
            probe_seconds: 1.5,
            probes: 9,
            stacks: ["udp", "tcp", "tls"].map(str::to_owned).into(),
        }
    }

    /// For a look: about a minute.
    pub(crate) fn quick() -> Self {
        Self {
            rounds: 1,
            seconds: 0.5,
            probe_seconds: 0.4,
            probes: 3,
            ..Self::full()
        }
    }

    fn gather(&self) -> Duration {
        Duration::from_micros(self.gather_microseconds.into())
    }

    fn calls_at_given_rate(&self, seed: u64) -> Calls {
        Calls {
            per_second: self.rate_per_second,
            seconds: self.seconds,
            patience_seconds: 20.0,
            gather: self.gather(),
            seed,
        }
    }

    /// What cells say of themselves that make calls for so long.
    fn parameters(&self, seconds: f64) -> BTreeMap<String, serde_json::Value> {
        BTreeMap::from([
            ("arrivals".to_owned(), json!("constant")),
            ("users".to_owned(), json!(1)),
            ("talk_seconds".to_owned(), json!(0.0)),
            ("duration_seconds".to_owned(), json!(seconds)),
            ("blocks".to_owned(), json!(self.rounds)),
        ])
    }
}

/// How fast calls are made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Pace {
    /// At the rate of the effort.
    Given,
    /// At the highest without a failed or repeated call.
    Highest,
}

/// Calls as they are asked for.
#[derive(Clone, Copy, Debug)]
pub(super) struct Calls {
    pub(super) per_second: f64,
    pub(super) seconds: f64,
    /// How much longer a caller may take that waits for answers: then all its calls have failed.
    pub(super) patience_seconds: f64,
    /// By the generator.
    pub(super) gather: Duration,
    pub(super) seed: u64,
}

/// What came of them.
#[derive(Clone, Debug, Default)]
pub(super) struct Made {
    pub(super) completed: u64,
    pub(super) failed: u64,
    pub(super) retransmissions: u64,
    /// Of the completed ones, over the time that it took.
    pub(super) achieved_per_second: f64,
    /// Of the caller's process.
    pub(super) caller_cpu_ns: u64,
    /// Of the server's, while calls were made.
    pub(super) server_cpu_ns: u64,
    /// By metric key: of the generator those that it tells.
    pub(super) latencies: BTreeMap<String, LatencyHistogram>,
}

impl Made {
    /// Whether calls were made, and nothing failed or was repeated.
    fn is_faultless(&self) -> bool {
        self.completed > 0 && self.failed == 0 && self.retransmissions == 0
    }

    /// Whether the caller kept to the rate as well: one that falls behind makes fewer calls, which hides what it
    /// cannot do.
    fn is_clean(&self, calls: Calls) -> bool {
        self.is_faultless() && self.achieved_per_second >= ACHIEVED_SHARE_MIN * calls.per_second
    }
}

/// One caller against one server over one stack at one pace.
struct Match {
    sipp: Rc<Sipp>,
    effort: Effort,
    caller: Caller,
    server: Server,
    stack: &'static Stack,
    pace: Pace,
    /// The highest rate so far.
    highest: Cell<Option<f64>>,
}

/// The cells: of each stack both callers against both servers, at both paces; each at its most punctual against the node,
/// at the given one; and bare system calls. Over TLS, which this SIPp does not speak, the generator against the node.
///
/// # Errors
/// When a stack does not exist.
pub(crate) fn experiment(sipp: Sipp, effort: &Effort) -> anyhow::Result<Experiment> {
    let sipp = Rc::new(sipp);
    let mut trials = Vec::new();
    for name in &effort.stacks {
        let stack = transport::find(name)?;
        for (caller, server, paces) in matches(stack) {
            for &pace in paces {
                let question = Match {
                    sipp: Rc::clone(&sipp),
                    effort: effort.clone(),
                    caller,
                    server,
                    stack,
                    pace,
                    highest: Cell::new(None),
                };
                trials.push(question.trial());
            }
        }
        if Sipp::speaks(stack) {
            trials.extend(bare::trials(effort, stack));
        }
    }
    Ok(Experiment {
        complete: Some(hold_against_floor),
        compare,
        ..Experiment::of(trials)
    })
}

fn matches(stack: &Stack) -> Vec<(Caller, Server, &'static [Pace])> {
    const BOTH: &[Pace] = &[Pace::Given, Pace::Highest];
    if !Sipp::speaks(stack) {
        return vec![(Caller::Hopbench, Server::Node, BOTH)];
    }
    let servers = [Server::Uas, Server::Node];
    let callers = [Caller::Sipp, Caller::Hopbench];
    let of = |server| callers.map(|caller| (caller, server, BOTH));
    // Who starts calls when they are due, as far as it can.
    let punctual = [Caller::SippPunctual, Caller::HopbenchAtOnce];
    let punctual = punctual.map(|caller| (caller, Server::Node, &BOTH[..1]));
    servers.into_iter().flat_map(of).chain(punctual).collect()
}

/// Calls over `stack` on this host.
fn site_of(stack: &'static Stack) -> Site {
    Site {
        topology: Topology::Direct,
        stack,
        core: stack,
        variant: Variant::default(),
        authenticate_calls: false,
        path: Path::Loopback,
        beneath: None,
    }
}

impl Match {
    fn trial(self) -> Trial {
        let site = site_of(self.stack);
        let rate = match self.pace {
            Pace::Given => json!(self.effort.rate_per_second),
            Pace::Highest => json!("highest"),
        };
        let id = cell_id(NAME, "invite", &site, "per-registration")
            .with("caller", self.caller.name())
            .with("server", self.server.name())
            .with("rate", rate);
        let mut parameters = self.parameters();
        parameters.extend(id.distinguishing.clone());
        Trial {
            subject: Subject {
                id,
                site,
                parameters,
                blocks: self.effort.rounds.into(),
            },
            question: Box::new(self),
        }
    }

    fn parameters(&self) -> BTreeMap<String, serde_json::Value> {
        let mut parameters = self.effort.parameters(match self.pace {
            Pace::Given => self.effort.seconds,
            Pace::Highest => self.effort.probe_seconds,
        });
        let gather = self.caller.gather(self.effort.gather());
        if self.caller.is_sipp() {
            let options = self.caller.sipp_options().join(" ");
            parameters.insert("caller_version".to_owned(), json!(self.sipp.version));
            parameters.insert("caller_options".to_owned(), json!(options));
        } else {
            let gather = json!(gather.as_micros() as u64);
            parameters.insert("gather_microseconds".to_owned(), gather);
        }
        // `None` is as the kernel has it.
        let is_stream = self.stack.is_stream();
        let buffer = (!is_stream).then_some(GATHERED_RECEIVE_BUFFER_BYTES);
        let key = "caller_socket_receive_buffer_bytes".to_owned();
        parameters.insert(key, json!(buffer));
        if self.server == Server::Uas {
            parameters.insert("server_version".to_owned(), json!(self.sipp.version));
        }
        parameters
    }

    /// At the rate that everybody is asked for.
    fn at_given_rate(&self, bench: &Bench<'_>, site: &Site, seed: u64) -> Outcome<Sample> {
        let calls = self.effort.calls_at_given_rate(seed);
        let mut made = self.make(bench, site, calls)?;
        if Sipp::speaks(self.stack) {
            let calls = Calls {
                seconds: calls.seconds.min(STARTS_SECONDS),
                ..calls
            };
            let who = (self.caller, self.server);
            let lags = caller::observed_lags(who, &self.sipp, bench, site, calls)?;
            let lags = lags.map(|lags| (OBSERVED_LAG.to_owned(), lags));
            made.latencies.extend(lags);
        }
        let shortfall = (made.failed > 0 || made.completed == 0).then(|| {
            let all = made.failed + made.completed;
            format!("{} of {all} calls failed", made.failed)
        });
        let mut sample = Sample {
            shortfall,
            ..sample(made, calls)
        };
        if !Sipp::speaks(self.stack) {
            let settings = bench.settings_for(site, 1)?;
            let records = records::cpu_ns_per_call(&settings, self.stack);
            sample.scalars.insert(RECORDS.into(), records);
        }
        Ok(sample)
    }

    /// At its highest rate: searched for at first, then sought again around what it was.
    fn at_highest_rate(&self, bench: &Bench<'_>, site: &Site, seed: u64) -> Outcome<Sample> {
        let Effort {
            rate_per_second,
            probe_seconds,
            probes,
            ..
        } = self.effort;
        let mut ascent = match self.highest.get() {
            None => Ascent::new(rate_per_second, probes),
            Some(highest) => Ascent::around(highest, probes.min(5)),
        };
        let mut best = None;
        while let Some(rate) = ascent.next() {
            let calls = Calls {
                per_second: rate,
                seconds: probe_seconds,
                patience_seconds: 2.0 + probe_seconds,
                gather: self.effort.gather(),
                seed,
            };
            let made = self.make(bench, site, calls)?;
            let is_clean = made.is_clean(calls);
            if is_clean {
                best = Some((made, calls));
            }
            ascent.tell(rate, is_clean);
        }
        let Some((made, calls)) = best else {
            return Ok(Sample {
                shortfall: Some(format!(
                    "at no rate tried, down to {:.0} a second, were all calls clean",
                    ascent.lowest_tried()
                )),
                ..Sample::default()
            });
        };
        self.highest.set(Some(calls.per_second));
        let rate = made.achieved_per_second;
        let mut sample = sample(made, calls);
        sample.scalars.insert(RATE.into(), Some(rate));
        Ok(sample)
    }

    fn make(&self, bench: &Bench<'_>, site: &Site, calls: Calls) -> Outcome<Made> {
        match self.server {
            Server::Uas => caller::against_uas(self.caller, &self.sipp, bench, site, calls),
            Server::Node => caller::against_node(self.caller, &self.sipp, bench, site, calls),
        }
    }
}

impl Question for Match {
    fn measure(&self, bench: &Bench<'_>, site: &Site, block: u32) -> Outcome<Sample> {
        let seed = bench.seed.wrapping_add(u64::from(block));
        match self.pace {
            Pace::Given => self.at_given_rate(bench, site, seed),
            Pace::Highest => self.at_highest_rate(bench, site, seed),
        }
    }

    fn demand(&self, site: &Site) -> Demand {
        Demand::of_cell(site, 1, Spread::PAIR)
    }

    fn expected_seconds(&self, _: Topology) -> f64 {
        /// Starting and ending both processes.
        const AROUND: f64 = 0.5;
        let rounds = f64::from(self.effort.rounds);
        match self.pace {
            Pace::Given if Sipp::speaks(self.stack) => {
                self.effort.seconds + self.effort.seconds.min(STARTS_SECONDS) + 2.0 * AROUND
            }
            Pace::Given => self.effort.seconds + AROUND,
            // The search of the first round, and about two attempts in each of the others.
            Pace::Highest => {
                let attempts = f64::from(self.effort.probes) + 2.0 * (rounds - 1.0);
                (self.effort.probe_seconds + AROUND) * attempts / rounds
            }
        }
    }
}

fn sample(made: Made, calls: Calls) -> Sample {
    let each = |cpu_ns: u64| Some(cpu_ns as f64 / made.completed as f64);
    let scalars = [
        ("offered_per_second", Some(calls.per_second)),
        ("achieved_per_second", Some(made.achieved_per_second)),
        ("failed_count", Some(made.failed as f64)),
        ("retransmissions_count", Some(made.retransmissions as f64)),
        (CPU, each(made.caller_cpu_ns)),
        ("server_cpu_ns_per_operation", each(made.server_cpu_ns)),
    ];
    let scalars = scalars.into_iter();
    Sample {
        scalars: scalars
            .map(|(key, value)| (key.to_owned(), value.filter(|value| value.is_finite())))
            .collect(),
        latencies: made
            .latencies
            .into_iter()
            .map(|(key, histogram)| (key, Some(histogram)))
            .collect(),
        ..Sample::default()
    }
}

/// Adds to calls over TLS how many times their floor they cost: the same calls over TCP in the same round, and
/// rustls alone for the same messages.
fn hold_against_floor(collected: &mut [Collected]) {
    let mut found = Vec::new();
    for (index, cell) in collected.iter().enumerate() {
        let plain = collected
            .iter()
            .find(|other| other.subject.id == over("tcp", &cell.subject.id));
        for (block, sample) in &cell.samples {
            let Some(records) = sample.scalars.get(RECORDS) else {
                continue;
            };
            let figure = |sample: &Sample| *sample.scalars.get(CPU)?;
            let plain = plain.and_then(|plain| figure(plain.samples.get(block)?));
            let floor = plain.zip(*records).map(|(plain, records)| plain + records);
            let ratio = figure(sample).zip(floor).map(|(cpu, floor)| cpu / floor);
            found.push((index, *block, ratio));
        }
    }
    for (index, block, ratio) in found {
        let sample = collected[index].samples.get_mut(&block);
        let sample = sample.expect("ratios are of blocks that were measured");
        sample.scalars.insert(OVER_FLOOR.into(), ratio);
    }
}

fn over(stack: &str, id: &CellId) -> CellId {
    CellId {
        stack: stack.to_owned(),
        ..id.clone()
    }
}

/// The generator against SIPp where that is the only difference, each as it comes and each at its most punctual; and what
/// that costs SIPp; and bare system calls against SIPp that calls the node, which is how much of its figure any caller
/// that is woken so often can be.
fn compare(collected: &[&Collected]) -> Vec<Ratio> {
    let sound = || {
        let cells = collected.iter();
        cells.filter(|cell| cell.verdict().0 == Verdict::Ok)
    };
    let mut ratios = Vec::new();
    for cell in sound() {
        let rival = match is_called_by(&cell.subject, Caller::HopbenchAtOnce.name()) {
            true => Caller::SippPunctual,
            false => Caller::Sipp,
        };
        let mut rival = cell.subject.id.clone().with("caller", rival.name());
        if rival == cell.subject.id {
            continue;
        }
        if is_bare(&cell.subject) {
            rival = rival.with("server", Server::Node.name());
        }
        let Some(rival) = sound().find(|other| other.subject.id == rival) else {
            continue;
        };
        let keys = match is_bare(&cell.subject) {
            true => &[CPU][..],
            false => &[CPU, "server_cpu_ns_per_operation", RATE],
        };
        for key in keys {
            ratios.extend(ratio_of(key, cell, rival));
        }
    }
    ratios
}

fn is_called_by(subject: &Subject, name: &str) -> bool {
    subject.parameters.get("caller") == Some(&json!(name))
}

fn is_bare(subject: &Subject) -> bool {
    is_called_by(subject, bare::NAME)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn calls(per_second: f64) -> Calls {
        Calls {
            per_second,
            seconds: 1.0,
            patience_seconds: 1.0,
            gather: Duration::ZERO,
            seed: 1,
        }
    }

    #[test]
    fn a_caller_that_falls_behind_is_not_clean_although_nothing_failed() {
        let made = Made {
            completed: 900,
            achieved_per_second: 900.0,
            ..Made::default()
        };
        assert!(made.is_clean(calls(900.0)));
        assert!(!made.is_clean(calls(1_000.0)));
        let failed = Made {
            failed: 1,
            ..made.clone()
        };
        let repeated = Made {
            retransmissions: 1,
            ..made
        };
        for made in [failed, repeated, Made::default()] {
            assert!(!made.is_clean(calls(900.0)), "{made:?}");
        }
    }
}
