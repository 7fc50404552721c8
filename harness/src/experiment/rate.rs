//! The experiment `rate`: how many operations fit through a narrow hop, beside what their bytes on the wire
//! predict, and how long one takes that is alone there.
//!
//! Each block of a cell is several loads, each against nodes and a lab of its own: a light one, by whose bytes
//! ([`Footprint`]) follows how many operations fit; shares of that, descending, until all of what is offered ends
//! well; and more than fits, to see what timers of retransmission make of a full queue.

mod footprint;
#[cfg(test)]
mod simulated;

use hopbench::load::{
    ArrivalLaw, BackOff, Course, Lifecycle, LoadPlan, LoadReport, Mix, Moment, Workload,
};
use serde_json::json;

use super::load::{Readings, generator_bound, latency, play};
use super::{Bench, Question, Sample, Subject, Trial, cell_id};
use crate::limits::{self, Demand, Spread};
use crate::path::Path;
use crate::rate::ACHIEVED_SHARE_MIN;
use crate::scenario::{NarrowHops, Plan, Selection};
use crate::testbed::{Failure, Outcome};
use crate::topology::{Site, Topology};
use footprint::Footprint;

/// Operations of the light load are as far from each other as sending so many bytes takes: more than any of them
/// has, both directions together.
const LIGHT_BYTES: f64 = 12_000.0;
/// And never closer than that.
const LIGHT_GAP_SECONDS: f64 = 0.02;
/// Long enough for whatever SIP sends again (64 × T1). A load ends when its last operation has.
const LIGHT_DRAIN_SECONDS: f64 = 33.0;
/// A load goes on for so many times as long as an operation takes alone before it is measured.
const WARM_UP_LATENCIES: f64 = 2.0;
const WARM_UP_SECONDS_MIN: f64 = 0.3;
/// Operations that may be under way at the edges of a measurement, beside what need not be achieved of a rate that fits.
const EDGES: f64 = 2.0;
/// What an operation takes of the hop in either direction, to guess how long a cell takes, and at least, to know
/// how many users it has.
const USUAL_BYTES: f64 = 2_000.0;
const FEWEST_BYTES: f64 = 500.0;

/// One cell's loads.
struct Narrow {
    hops: NarrowHops,
    workload: Workload,
    rate_bits_per_second: u64,
}

/// The cells that are measured.
///
/// # Errors
/// When a stack does not exist, or conditions of links make no sense together.
pub(super) fn trials(hops: &NarrowHops, plan: &Plan) -> anyhow::Result<Vec<Trial>> {
    let registering = Selection {
        stacks: &hops.stacks,
        variants: &hops.variants,
        authenticate_calls: false,
    };
    // What handshakes are like is of no concern to hops that are open already.
    let kept = Selection {
        variants: &[],
        ..registering
    };
    let mut trials = Vec::new();
    for workload in &hops.workloads {
        let selection = match workload {
            Workload::Register => registering,
            Workload::Reregister | Workload::Invite | Workload::Mixed | Workload::Avalanche => kept,
        };
        for site in plan.sites(Topology::Direct, &selection)? {
            for conditions in hops.conditions(&plan.lab) {
                conditions.check()?;
                let site = Site {
                    path: Path::Lab(conditions, plan.link_emulator),
                    ..site
                };
                trials.extend(conditions.rate_bits_per_second.map(|rate_bits_per_second| {
                    let narrow = Narrow {
                        hops: hops.clone(),
                        workload: *workload,
                        rate_bits_per_second,
                    };
                    narrow.trial(&site)
                }));
            }
        }
    }
    Ok(trials)
}

/// What a load on top of the light one came to.
struct Loaded {
    offered_per_second: f64,
    readings: Readings,
}

impl Narrow {
    fn trial(self, site: &Site) -> Trial {
        let hops = &self.hops;
        let users = (self.workload != Workload::Register).then_some(hops.users);
        let parameters = [
            ("arrivals", json!(hops.arrivals.name())),
            ("blocks", hops.blocks.recorded()),
            ("drain_seconds", json!(hops.drain_seconds)),
            ("duration_seconds_min", json!(hops.duration_seconds_min)),
            ("generator_workers", json!(1)),
            ("light_operations", json!(hops.light_operations)),
            ("operations_min", json!(hops.operations)),
            ("overload_ratio", json!(hops.overload)),
            ("shares", json!(hops.shares)),
            // As many as operations, where each is another user's.
            ("users", json!(users)),
        ];
        let lifecycle = Lifecycle::PerRegistration.name();
        Trial {
            subject: Subject {
                id: cell_id("rate", self.workload.name(), site, lifecycle),
                site: *site,
                parameters: parameters
                    .into_iter()
                    .map(|(key, value)| (key.to_owned(), value))
                    .collect(),
                blocks: hops.blocks.clone(),
            },
            question: Box::new(self),
        }
    }

    fn load(&self, rate_per_second: f64, arrivals: ArrivalLaw, seed: u64) -> LoadPlan {
        LoadPlan {
            workload: self.workload,
            lifecycle: Lifecycle::PerRegistration,
            arrivals,
            rate_per_second,
            course: Course::Steady,
            warm_up_seconds: 0.0,
            duration_seconds: 0.0,
            drain_seconds: self.hops.drain_seconds,
            users: self.hops.users,
            talk_seconds: 0.0,
            ring_seconds: 0.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed,
        }
    }

    /// One operation after another. The first one warms up.
    fn light(&self, seed: u64) -> LoadPlan {
        let gap = LIGHT_BYTES * 8.0 / self.rate_bits_per_second as f64;
        let gap = gap.max(LIGHT_GAP_SECONDS);
        self.with_users(LoadPlan {
            warm_up_seconds: gap,
            duration_seconds: gap * f64::from(self.hops.light_operations),
            drain_seconds: LIGHT_DRAIN_SECONDS,
            ..self.load(1.0 / gap, ArrivalLaw::Constant, seed)
        })
    }

    /// So many a second, after `warm_up_seconds`.
    fn heavy(&self, rate_per_second: f64, warm_up_seconds: f64, seed: u64) -> LoadPlan {
        let seconds = f64::from(self.hops.operations) / rate_per_second;
        self.with_users(LoadPlan {
            warm_up_seconds,
            duration_seconds: seconds.max(self.hops.duration_seconds_min),
            ..self.load(rate_per_second, self.hops.arrivals, seed)
        })
    }

    /// The same plan with a user for each operation, where each opens a hop of its own: nobody comes twice.
    fn with_users(&self, mut plan: LoadPlan) -> LoadPlan {
        if self.workload == Workload::Register {
            let mean = plan.rate_per_second * (plan.warm_up_seconds + plan.duration_seconds);
            plan.users = (mean + 5.0 * mean.sqrt()).ceil() as u32 + 16;
        }
        plan
    }

    /// So long that the first operations have ended.
    fn warm_up_seconds(&self, alone: &LoadReport) -> f64 {
        let latency = latency(alone, self.workload).and_then(|it| it.median_ns());
        let latency_seconds = latency.map_or(0.0, |ns| ns as f64 / 1e9);
        (latency_seconds * WARM_UP_LATENCIES).max(WARM_UP_SECONDS_MIN)
    }

    /// The largest share that fits, and what the last one that was tried came to.
    fn largest_share(
        &self,
        bench: &Bench<'_>,
        site: &Site,
        predicted: f64,
        warm_up_seconds: f64,
        seed: u64,
    ) -> Outcome<(Option<f64>, Loaded)> {
        let mut last = None;
        for share in &self.hops.shares {
            let plan = self.heavy(share * predicted, warm_up_seconds, seed);
            bench
                .progress
                .phase(&format!("{:.0} % of what should fit", share * 100.0));
            let loaded = Loaded {
                offered_per_second: plan.rate_per_second,
                readings: play(&plan, bench, site, None)?,
            };
            let has_fit = fits(&loaded.readings.report);
            last = Some(loaded);
            if has_fit {
                return Ok((Some(*share), last.expect("it was just measured")));
            }
        }
        Ok((None, last.expect("a scenario has at least one share")))
    }
}

/// Whether all of what was offered ended well, and no slower than it came.
fn fits(report: &LoadReport) -> bool {
    let least = report.offered as f64 * ACHIEVED_SHARE_MIN - EDGES;
    report.offered > 0 && report.failed() == 0 && report.completed_in_window as f64 >= least
}

impl Question for Narrow {
    fn measure(&self, bench: &Bench<'_>, site: &Site, block: u32) -> Outcome<Sample> {
        let seed = bench.seed.wrapping_add(u64::from(block));
        bench.progress.phase("one operation after another");
        let alone = play(&self.light(seed), bench, site, None)?;
        let mut sample = Sample::default();
        let footprint = self.put_light(&mut sample, &alone)?;
        let predicted = footprint.predicted_per_second(self.rate_bits_per_second);
        put(&mut sample, "predicted_per_second", predicted);
        let warm_up = self.warm_up_seconds(&alone.report);
        let (share, loaded) = self.largest_share(bench, site, predicted, warm_up, seed)?;
        self.put_fitting(&mut sample, share, predicted, &loaded);
        if let Some(overload) = self.hops.overload {
            // Until the queue is full.
            let filling = self.hops.queue_seconds / (overload - 1.0);
            let plan = self.heavy(overload * predicted, warm_up.max(filling), seed);
            bench.progress.phase("more than should fit");
            let loaded = Loaded {
                offered_per_second: plan.rate_per_second,
                readings: play(&plan, bench, site, None)?,
            };
            self.put_overload(&mut sample, predicted, &loaded);
        }
        Ok(sample)
    }

    fn demand(&self, site: &Site) -> Demand {
        let most = self.rate_bits_per_second as f64 / (8.0 * FEWEST_BYTES);
        let most = most * self.hops.overload.unwrap_or(1.0);
        let plan = self.heavy(most, self.hops.queue_seconds, 0);
        Demand::of_cell(site, limits::hops_at_once(&plan), Spread::PAIR)
    }

    fn expected_seconds(&self, _topology: Topology) -> f64 {
        const STARTING_SECONDS: f64 = 0.4;
        let usual = self.rate_bits_per_second as f64 / (8.0 * USUAL_BYTES);
        let seconds =
            |plan: &LoadPlan| plan.warm_up_seconds + plan.duration_seconds + STARTING_SECONDS;
        let share = self.hops.shares.first().copied().unwrap_or(1.0);
        let overload = self.hops.overload.map_or(0.0, |overload| {
            let filling = self.hops.queue_seconds / (overload - 1.0);
            seconds(&self.heavy(overload * usual, filling, 0)) + self.hops.drain_seconds
        });
        seconds(&self.light(0))
            + seconds(&self.heavy(share * usual, WARM_UP_SECONDS_MIN, 0))
            + overload
    }
}

fn put(sample: &mut Sample, key: &str, value: f64) {
    let value = Some(value).filter(|value| value.is_finite());
    sample.scalars.insert(key.to_owned(), value);
}

impl Narrow {
    /// What operations take that are alone on the hop.
    fn put_light(&self, sample: &mut Sample, readings: &Readings) -> Outcome<Footprint> {
        let report = &readings.report;
        if report.failed() > 0 || report.completed == 0 {
            return Err(Failure::Failed(format!(
                "{} of {} operations failed that were alone on the hop{}",
                report.failed(),
                report.offered,
                cause(report)
            )));
        }
        let link = readings.link.ok_or_else(|| {
            Failure::Failed(
                "expected an emulated link that counts bytes, found a plain wire".into(),
            )
        })?;
        let footprint = Footprint::new(link.onward.bytes, link.back.bytes, report.completed);
        let moments: &[Moment] = match self.workload {
            Workload::Register => &[Moment::Setup, Moment::Registered],
            Workload::Reregister | Workload::Mixed | Workload::Avalanche => &[Moment::Registered],
            Workload::Invite => &[Moment::SessionRequestDelay],
        };
        for moment in moments {
            let latencies = report.latencies.get(moment.key()).cloned();
            sample.latencies.insert(moment.key().to_owned(), latencies);
        }
        let rate = self.rate_bits_per_second;
        put(
            sample,
            "onward_wire_bytes_per_operation",
            footprint.onward_bytes,
        );
        put(
            sample,
            "back_wire_bytes_per_operation",
            footprint.back_bytes,
        );
        let segments = readings.retransmitted_segments;
        let segments = segments.map(|segments| segments as f64);
        let key = "tcp_retransmissions_count";
        sample.scalars.insert(key.to_owned(), segments);
        put(
            sample,
            "serialised_ns",
            footprint.serialised_seconds(rate) * 1e9,
        );
        self.doubt(sample, readings);
        Ok(footprint)
    }

    fn put_fitting(
        &self,
        sample: &mut Sample,
        share: Option<f64>,
        predicted: f64,
        loaded: &Loaded,
    ) {
        let report = &loaded.readings.report;
        let rate = share.map(|share| share * predicted);
        sample.scalars.insert("fitting_per_second".to_owned(), rate);
        sample.scalars.insert("fitting_ratio".to_owned(), share);
        let latencies = share.and(latency(report, self.workload)).cloned();
        sample
            .latencies
            .insert("fitting_latency_ns".to_owned(), latencies);
        self.doubt(sample, &loaded.readings);
        if share.is_none() {
            sample.shortfall = Some(format!(
                "nothing fitted: at {:.2} a second, the lowest rate tried, {} of {} operations failed{}, and {} ended \
                 in time",
                loaded.offered_per_second,
                report.failed(),
                report.offered,
                cause(report),
                report.completed_in_window
            ));
        }
    }

    fn put_overload(&self, sample: &mut Sample, predicted: f64, loaded: &Loaded) {
        let Loaded {
            offered_per_second,
            readings,
        } = loaded;
        let report = &readings.report;
        let achieved = report.completed_in_window as f64 / report.window_seconds;
        let queue_full = readings.link.map(|link| link.queue_full as f64);
        let segments = readings
            .retransmitted_segments
            .map(|segments| segments as f64);
        let figures = [
            ("overload_offered_per_second", Some(*offered_per_second)),
            ("overload_achieved_per_second", Some(achieved)),
            ("overload_achieved_ratio", Some(achieved / predicted)),
            ("overload_failed_count", Some(report.failed() as f64)),
            (
                "overload_retransmissions_count",
                Some(report.retransmissions as f64),
            ),
            ("overload_tcp_retransmissions_count", segments),
            ("overload_link_queue_drops_count", queue_full),
        ];
        for (key, value) in figures {
            sample.scalars.insert(key.to_owned(), value);
        }
        self.doubt(sample, readings);
    }

    /// Whether somebody else than the hop was the limit.
    fn doubt(&self, sample: &mut Sample, readings: &Readings) {
        let report = &readings.report;
        let bound = readings.overwhelmed_links.clone();
        let bound = bound.or_else(|| generator_bound(report, latency(report, self.workload)));
        sample.generator_bound = sample.generator_bound.take().or(bound);
    }
}

/// The most frequent one.
fn cause(report: &LoadReport) -> String {
    let most = report.failures.iter().max_by_key(|(_, count)| **count);
    most.map_or(String::new(), |(cause, count)| {
        format!(" ({count} so: {cause})")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_fits_ends_well_and_as_fast_as_it_comes() {
        let report = |offered, failed: u64, completed_in_window| LoadReport {
            offered,
            failures: [("no answer".to_owned(), failed)].into(),
            completed_in_window,
            ..LoadReport::default()
        };
        assert!(fits(&report(40, 0, 40)));
        assert!(fits(&report(40, 0, 37)), "some were under way");
        assert!(!fits(&report(40, 0, 35)), "a queue grew");
        assert!(!fits(&report(40, 1, 40)));
        assert!(!fits(&report(0, 0, 0)));
    }
}
