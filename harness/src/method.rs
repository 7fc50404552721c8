//! The method held against itself: how often an interval holds a truth that is known.
//!
//! Three cells of one stack are measured side by side, as cells of any run are: the stack, its twin, and the
//! stack whose server burns a known share of its processor time on top. In the null test the twin is
//! compared with the stack, and the interval should hold 1. In the power test the handicapped server is, and
//! the interval should lie above 1. Each repetition is a run of its own, with a seed of its own.

use hopbench::load::{ArrivalLaw, BackOff, Course, Lifecycle, Mix, Workload};
use hopbench::net::link::LinkConditions;
use hopbench::record::Ratio;
use serde::Serialize;

use crate::experiment::{self, Bench, Conduct, Experiment};
use crate::path::{LinkEmulator, PathName};
use crate::rate::OfferedRate;
use crate::scenario::{Blocks, Plan, Throughput};
use crate::statistics::proportion::Proportion;
use crate::statistics::{Interval, median};
use crate::topology::Topology;
use crate::variant::{Handicap, Variant};

/// Whose ratio is tested.
pub(crate) const METRIC: &str = "server_cpu_ns_per_operation";
/// Seeds of blocks follow each other: repetitions keep so far apart.
const SEEDS_OF_A_REPETITION: u64 = 1_000;
/// Callers that take turns.
const USERS: u32 = 20;

/// What is repeated.
#[derive(Clone, Debug)]
pub(crate) struct Check {
    /// The stack that calls cross, each user's over a hop that it keeps.
    pub(crate) stack: String,
    /// What the handicapped server burns, of its own processor time.
    pub(crate) handicap_ratio: f64,
    /// Of each repetition.
    pub(crate) blocks: u32,
    /// Calls.
    pub(crate) rate_per_second: f64,
    /// Load before the measurement.
    pub(crate) warm_up_seconds: f64,
    /// The measurement, in each block.
    pub(crate) duration_seconds: f64,
    /// In so many turns.
    pub(crate) turns: u32,
}

/// What one repetition found; a test without a ratio could not be measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Repetition {
    pub(crate) null: Option<Finding>,
    pub(crate) power: Option<Finding>,
    /// Why cells do not count.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) reasons: Vec<String>,
}

/// A ratio with its interval.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub(crate) struct Finding {
    pub(crate) ratio: f64,
    pub(crate) ci95: Interval,
    pub(crate) blocks: u32,
}

/// What the repetitions say together.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Tally {
    /// Null tests whose interval holds 1.
    pub(crate) coverage: Proportion,
    /// Power tests whose interval lies above 1.
    pub(crate) detection: Proportion,
    /// Power tests whose interval holds the ratio that the handicap makes.
    pub(crate) held: Proportion,
    /// Medians of ratios, and of half of the intervals' width ÷ the ratio.
    pub(crate) null: Option<[f64; 2]>,
    pub(crate) power: Option<[f64; 2]>,
}

impl Check {
    fn twin(server_handicap_ratio: f64) -> Variant {
        Variant {
            handicap: Handicap {
                server_handicap_ratio: Some(server_handicap_ratio),
                ..Handicap::default()
            },
            ..Variant::default()
        }
    }

    fn plan(&self) -> Plan {
        let throughput = Throughput {
            workload: Workload::Invite,
            lifecycle: Lifecycle::PerRegistration,
            rates_per_second: vec![OfferedRate {
                per_second: self.rate_per_second,
                course: Course::Steady,
            }],
            users: USERS,
            warm_up_seconds: self.warm_up_seconds,
            duration_seconds: self.duration_seconds,
            blocks: Blocks::Fixed(self.blocks),
            turns: self.turns,
            arrivals: ArrivalLaw::default(),
            talk_seconds: 0.0,
            ring_seconds: 0.0,
            topology: Topology::Direct,
            stacks: Vec::new(),
            variants: vec![
                Variant::default(),
                Self::twin(0.0),
                Self::twin(self.handicap_ratio),
            ],
            authenticate_calls: false,
            mix: Mix::default(),
            back_off: BackOff::default(),
        };
        Plan {
            name: "check-method".into(),
            summary: String::new(),
            gates: Vec::new(),
            stacks: vec![self.stack.clone()],
            core_stacks: Vec::new(),
            path: PathName::Loopback,
            lab: LinkConditions::default(),
            link_emulator: LinkEmulator::default(),
            usual: Variant::default(),
            setup: None,
            memory: None,
            throughput: vec![throughput],
            chain: None,
            link: None,
            rate: None,
            scale: Vec::new(),
            search: Vec::new(),
            knee: Vec::new(),
        }
    }

    /// The experiment of one repetition.
    ///
    /// # Errors
    /// When the stack does not exist, or a number makes no sense.
    pub(crate) fn experiments(&self) -> anyhow::Result<Vec<Experiment>> {
        let plan = self.plan();
        plan.check()?;
        experiment::experiments(&plan, &[])
    }

    /// Measures one repetition; `None` if the user asked to stop. `bench` has the seed of all.
    pub(crate) fn repeat(
        &self,
        number: u32,
        bench: &Bench<'_>,
    ) -> anyhow::Result<Option<Repetition>> {
        let experiments = self.experiments()?;
        let id_of = |handicap: Option<f64>| {
            let mut trials = experiments[0].trials.iter();
            let subject = trials.find(|trial| {
                trial.subject.site.variant.handicap.server_handicap_ratio == handicap
            });
            let subject = subject.map(|trial| trial.subject.id.to_string());
            subject.expect("each variant is a cell")
        };
        let usual = id_of(None);
        let (twin, handicapped) = (id_of(Some(0.0)), id_of(Some(self.handicap_ratio)));
        let bench = Bench {
            seed: bench
                .seed
                .wrapping_add(u64::from(number) * SEEDS_OF_A_REPETITION),
            ..*bench
        };
        let (mut ratios, mut reasons) = (Vec::new(), Vec::new());
        let conduct = experiment::conduct(experiments, &bench, |cells, known| {
            ratios = known.to_vec();
            let of_cells = cells.iter();
            reasons = of_cells.filter_map(|cell| cell.reason.clone()).collect();
            Ok(())
        })?;
        let finding = |id: &str| {
            let is_it = |ratio: &&Ratio| {
                ratio.metric == METRIC && ratio.cell_id == id && ratio.control_cell_id == usual
            };
            Finding::of(ratios.iter().find(is_it)?)
        };
        Ok(match conduct {
            Conduct::Interrupted => None,
            Conduct::Complete => Some(Repetition {
                null: finding(&twin),
                power: finding(&handicapped),
                reasons,
            }),
        })
    }
}

impl Finding {
    fn of(ratio: &Ratio) -> Option<Self> {
        Some(Self {
            ratio: ratio.ratio,
            ci95: Interval {
                low: ratio.ci95_low?,
                high: ratio.ci95_high?,
            },
            blocks: ratio.blocks,
        })
    }

    fn holds(&self, truth: f64) -> bool {
        (self.ci95.low..=self.ci95.high).contains(&truth)
    }

    fn half_width_ratio(&self) -> f64 {
        (self.ci95.high - self.ci95.low) / 2.0 / self.ratio
    }
}

impl Tally {
    /// Of what was measured; what was not is neither a hit nor a miss.
    pub(crate) fn of(repetitions: &[Repetition], handicap_ratio: f64) -> Self {
        let null: Vec<Finding> = repetitions.iter().filter_map(|each| each.null).collect();
        let power: Vec<Finding> = repetitions.iter().filter_map(|each| each.power).collect();
        Self {
            coverage: proportion(&null, |finding| finding.holds(1.0)),
            detection: proportion(&power, |finding| finding.ci95.low > 1.0),
            held: proportion(&power, |finding| finding.holds(1.0 + handicap_ratio)),
            null: medians(&null),
            power: medians(&power),
        }
    }
}

fn proportion(findings: &[Finding], is_hit: impl Fn(&Finding) -> bool) -> Proportion {
    let count = |count: usize| u32::try_from(count).expect("repetitions were counted in 32 bits");
    Proportion {
        hits: count(findings.iter().filter(|finding| is_hit(finding)).count()),
        of: count(findings.len()),
    }
}

fn medians(findings: &[Finding]) -> Option<[f64; 2]> {
    let ratios: Vec<f64> = findings.iter().map(|finding| finding.ratio).collect();
    let halves: Vec<f64> = findings.iter().map(Finding::half_width_ratio).collect();
    Some([median(&ratios)?, median(&halves)?])
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn finding(low: f64, ratio: f64, high: f64) -> Option<Finding> {
        Some(Finding {
            ratio,
            ci95: Interval { low, high },
            blocks: 8,
        })
    }

    #[test]
    fn what_was_not_measured_is_neither_hit_nor_miss() {
        let of = |null, power| Repetition {
            null,
            power,
            reasons: Vec::new(),
        };
        let repetitions = [
            of(finding(0.98, 1.0, 1.02), finding(1.05, 1.1, 1.15)),
            of(finding(1.01, 1.03, 1.05), finding(0.99, 1.04, 1.09)),
            of(None, None),
        ];
        let tally = Tally::of(&repetitions, 0.1);
        assert_eq!(tally.coverage, Proportion { hits: 1, of: 2 });
        assert_eq!(tally.detection, Proportion { hits: 1, of: 2 });
        assert_eq!(tally.held, Proportion { hits: 1, of: 2 });
        assert!((tally.null.unwrap()[0] - 1.015).abs() < 1e-12);
        let nothing = Tally::of(&repetitions[2..], 0.1);
        assert_eq!((nothing.coverage.of, nothing.power), (0, None));
    }

    #[test]
    fn a_repetition_is_three_cells_of_one_stack() {
        let check = Check {
            stack: "tls".into(),
            handicap_ratio: 0.1,
            blocks: 8,
            rate_per_second: 400.0,
            warm_up_seconds: 0.1,
            duration_seconds: 0.3,
            turns: 3,
        };
        let experiments = check.experiments().unwrap();
        let ids: Vec<String> = experiments[0]
            .trials
            .iter()
            .map(|trial| trial.subject.id.to_string())
            .collect();
        let usual = "throughput/invite/tls/direct/per-registration/loopback";
        let expected = [
            usual.to_owned(),
            format!("{usual}?server_handicap_ratio=0.0"),
            format!("{usual}?server_handicap_ratio=0.1"),
        ];
        assert_eq!(ids, expected);
    }
}
