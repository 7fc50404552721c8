//! `hopbench check-method`: whether the method sees nothing where there is nothing, and a difference whose
//! size is known.

use std::fmt::Write as _;

use anyhow::{Context as _, anyhow};
use hopbench::record::Environment;
use hopbench::transport::{Settings, WireguardKeys};
use serde_json::{Value, json};

use super::{EXIT_ERROR, EXIT_INTERRUPTED, EXIT_OK, run, usage};
use crate::environment;
use crate::experiment::{Bench, Trial};
use crate::interrupt;
use crate::limits::{self, Readings};
use crate::method::{Check, METRIC, Repetition, Tally};
use crate::progress::Progress;
use crate::report::significant;
use crate::statistics::proportion::Proportion;
use crate::testbed::{Placement, Testbed};
use crate::variant::Handicap;

/// Options of the check.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit codes: 0 as demanded; 1 less than demanded, or nothing or too little could be measured; 2 wrong usage; \
    130 interrupted, what was measured so far is told.\n\n\
    Three cells of one stack are measured side by side, as in any run: calls over kept hops. The null test \
    compares two that are the same; its 95 % interval should hold 1. The power test compares one whose server \
    burns a known share of its processor time on top; its interval should lie above 1. Example, about forty-five \
    minutes:\n  hopbench check-method --require-coverage 0.93 --require-detection 0.90"
)]
pub(crate) struct Args {
    /// Stack that calls cross
    #[arg(long, default_value = "tcp")]
    stack: String,
    /// How often both tests are made
    #[arg(long, default_value_t = 100, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=10_000))]
    repetitions: u32,
    /// Blocks of each repetition
    #[arg(long, default_value_t = 20, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(2..=100))]
    blocks: u32,
    /// What the handicapped server burns, of its own processor time: 0.1 is 10 %
    #[arg(long, default_value_t = 0.1, value_name = "RATIO")]
    handicap: f64,
    /// Calls a second
    #[arg(long, default_value_t = 2000.0, value_name = "RATE")]
    rate: f64,
    /// Seconds of load before each measurement
    #[arg(long, default_value_t = 0.05, value_name = "SECONDS")]
    warm_up: f64,
    /// Seconds of each measurement
    #[arg(long, default_value_t = 0.3, value_name = "SECONDS")]
    duration: f64,
    /// Turns in which cells share the time of a measurement, so that what the machine does to one it does
    /// to all
    #[arg(long, default_value_t = 3, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..=100))]
    turns: u32,
    /// Seed of arrivals and order
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Fail if the interval of fewer null tests than this share holds 1, or too few could be measured
    #[arg(long, value_name = "SHARE")]
    require_coverage: Option<f64>,
    /// Fail if the handicap is detected in fewer power tests than this share, or too few could be measured
    #[arg(long, value_name = "SHARE")]
    require_detection: Option<f64>,
    /// Print everything as JSON, each repetition's ratios too
    #[arg(long)]
    json: bool,
}

/// Checks.
pub(crate) fn check_method(args: &Args) -> anyhow::Result<u8> {
    let check = args.check().map_err(usage)?;
    let experiments = check.experiments().map_err(usage)?;
    limits::raise_descriptor_limit();
    let machine = Readings::of_this_machine();
    let unmet = experiments.iter().flat_map(|each| &each.trials);
    if let Some(unmet) = unmet.filter_map(|trial| trial.unmet(&machine)).next() {
        return Err(anyhow!("this machine does not suffice: {unmet}"));
    }
    interrupt::watch()?;
    let environment = environment::environment();
    let certificates = run::certificates(&experiments)?;
    let settings = Settings {
        wireguard: Some(WireguardKeys::generate(0)),
        ..Settings::default()
    };
    let testbed = Testbed::new(Placement::of_this_machine())?;
    let trials = experiments.iter().flat_map(|each| &each.trials);
    let seconds: f64 = trials.map(Trial::expected_seconds).sum();
    let progress = Progress::new(seconds * f64::from(args.repetitions), false);
    let bench = Bench {
        testbed: &testbed,
        settings: &settings,
        certificates: &certificates,
        machine,
        progress: &progress,
        seed: args.seed,
        budget: None,
    };
    let mut repetitions = Vec::new();
    for number in 0..args.repetitions {
        match check.repeat(number, &bench)? {
            Some(repetition) => repetitions.push(repetition),
            None => break,
        }
    }
    progress.finish();
    let tally = Tally::of(&repetitions, check.handicap_ratio);
    super::print(&if args.json {
        format!("{:#}\n", args.as_json(&environment, &repetitions, &tally))
    } else {
        args.words(&repetitions, &tally)
    });
    Ok(if interrupt::is_interrupted() {
        EXIT_INTERRUPTED
    } else if args.is_met(&tally) {
        EXIT_OK
    } else {
        EXIT_ERROR
    })
}

impl Args {
    fn check(&self) -> anyhow::Result<Check> {
        let handicap = Handicap {
            server_handicap_ratio: Some(self.handicap),
            ..Handicap::default()
        };
        handicap
            .check()
            .map_err(anyhow::Error::msg)
            .context("--handicap")?;
        anyhow::ensure!(
            self.handicap > 0.0,
            "--handicap is 0: there would be nothing to detect"
        );
        for (option, share) in [
            ("--require-coverage", self.require_coverage),
            ("--require-detection", self.require_detection),
        ] {
            if let Some(share) = share {
                anyhow::ensure!(
                    (0.0..=1.0).contains(&share),
                    "{option} is {share}; allowed is 0 to 1"
                );
            }
        }
        Ok(Check {
            stack: self.stack.clone(),
            handicap_ratio: self.handicap,
            blocks: self.blocks,
            rate_per_second: self.rate,
            warm_up_seconds: self.warm_up,
            duration_seconds: self.duration,
            turns: self.turns,
        })
    }

    /// Whether there are figures, of enough repetitions if any are demanded, and they are as demanded.
    fn is_met(&self, tally: &Tally) -> bool {
        let is_met = |found: Proportion, required: Option<f64>| match required {
            None => found.share().is_some(),
            Some(required) => {
                self.is_enough(found) && found.share().is_some_and(|share| share >= required)
            }
        };
        is_met(tally.coverage, self.require_coverage)
            && is_met(tally.detection, self.require_detection)
    }

    /// Whether four of five repetitions could be measured: a share of the rest says little.
    fn is_enough(&self, found: Proportion) -> bool {
        5 * u64::from(found.of) >= 4 * u64::from(self.repetitions)
    }

    fn words(&self, repetitions: &[Repetition], tally: &Tally) -> String {
        let mut out = format!(
            "{}: {} repetitions of {} blocks, {} calls a second over {}\n",
            METRIC,
            repetitions.len(),
            self.blocks,
            self.rate,
            self.stack
        );
        let percent = significant(self.handicap * 100.0);
        let lines = [
            (
                "null test",
                "the interval holds 1".to_owned(),
                tally.coverage,
                self.require_coverage,
            ),
            (
                "power test",
                format!("a handicap of {percent} % is detected"),
                tally.detection,
                self.require_detection,
            ),
            (
                "",
                format!("the interval holds {}", significant(1.0 + self.handicap)),
                tally.held,
                None,
            ),
        ];
        for (test, what, found, required) in lines {
            let demand = required.map_or(String::new(), |share| {
                let of = match self.is_enough(found) {
                    true => String::new(),
                    false => format!(
                        ", of at least four of five of {} repetitions",
                        self.repetitions
                    ),
                };
                format!("; demanded are {} %{of}", significant(share * 100.0))
            });
            let _ = writeln!(out, "{test:<11} {what:<34} {}{demand}", words_of(found));
        }
        for (test, medians) in [("null test", tally.null), ("power test", tally.power)] {
            if let Some([ratio, half]) = medians {
                let _ = writeln!(
                    out,
                    "{test:<11} median ratio {ratio:.4}, of half intervals ±{} %",
                    significant(half * 100.0)
                );
            }
        }
        let unmeasured = repetitions.iter().filter(|each| !each.reasons.is_empty());
        let reasons: Vec<&String> = unmeasured.flat_map(|each| &each.reasons).collect();
        if let Some(first) = reasons.first() {
            let _ = writeln!(
                out,
                "{} cells do not count, the first: {first}",
                reasons.len()
            );
        }
        out
    }

    fn as_json(
        &self,
        environment: &Environment,
        repetitions: &[Repetition],
        tally: &Tally,
    ) -> Value {
        let proportion = |found: Proportion| {
            let interval = found.ci95();
            json!({
                "hits": found.hits,
                "of": found.of,
                "share": found.share(),
                "ci95_low": interval.map(|interval| interval.low),
                "ci95_high": interval.map(|interval| interval.high),
            })
        };
        let medians = |medians: Option<[f64; 2]>| {
            json!({
                "median_ratio": medians.map(|[ratio, _]| ratio),
                "median_half_width_ratio": medians.map(|[_, half]| half),
            })
        };
        json!({
            "metric": METRIC,
            "stack": self.stack,
            "handicap_ratio": self.handicap,
            "blocks": self.blocks,
            "rate_per_second": self.rate,
            "duration_seconds": self.duration,
            "turns": self.turns,
            "seed": self.seed,
            "build": environment::build(),
            "environment": environment,
            "coverage": proportion(tally.coverage),
            "detection": proportion(tally.detection),
            "handicap_held": proportion(tally.held),
            "null": medians(tally.null),
            "power": medians(tally.power),
            "required_coverage": self.require_coverage,
            "required_detection": self.require_detection,
            "is_met": self.is_met(tally),
            "repetitions": repetitions,
        })
    }
}

/// `97 of 100, 97.0 % [91.5, 99.4]`.
fn words_of(found: Proportion) -> String {
    let Some((share, interval)) = found.share().zip(found.ci95()) else {
        return "not measured".to_owned();
    };
    format!(
        "{} of {}, {} % [{}, {}]",
        found.hits,
        found.of,
        significant(share * 100.0),
        significant(interval.low * 100.0),
        significant(interval.high * 100.0)
    )
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use clap::Parser as _;

    use super::*;

    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: Args,
    }

    fn args(line: &[&str]) -> Args {
        let line = ["check-method"].iter().chain(line);
        Line::try_parse_from(line).unwrap().args
    }

    fn tally(covered: u32, detected: u32) -> Tally {
        let of = |hits| Proportion { hits, of: 100 };
        Tally {
            coverage: of(covered),
            detection: of(detected),
            held: of(95),
            null: Some([1.0, 0.02]),
            power: Some([1.1, 0.02]),
        }
    }

    #[test]
    fn less_than_demanded_fails_and_so_does_nothing() {
        let demanding = args(&["--require-coverage", "0.93", "--require-detection", "0.9"]);
        assert!(demanding.is_met(&tally(93, 90)));
        assert!(!demanding.is_met(&tally(92, 100)));
        assert!(!demanding.is_met(&tally(100, 89)));
        assert!(args(&[]).is_met(&tally(0, 0)));
        let few = ["--require-coverage", "0.93", "--repetitions", "126"];
        let few = args(&few);
        assert!(!few.is_met(&tally(100, 100)));
        assert!(
            few.words(&[], &tally(100, 100))
                .contains("of 126 repetitions")
        );
        let nothing = Tally::of(&[], 0.1);
        assert!(!args(&[]).is_met(&nothing));
        let words = demanding.words(&[], &tally(97, 100));
        assert!(
            words.contains("97 of 100, 97.0 % [91.5, 99.4]; demanded are 93.0 %"),
            "{words}"
        );
        assert!(demanding.words(&[], &nothing).contains("not measured"));
    }

    #[test]
    fn a_check_that_could_show_nothing_is_wrong_usage() {
        for (line, expected) in [
            (["--handicap", "0"], "nothing to detect"),
            (["--handicap", "-1"], "allowed is 0 to 10000"),
            (["--require-coverage", "93"], "allowed is 0 to 1"),
        ] {
            let line = [line[0].to_owned() + "=" + line[1]];
            let error = args(&[&line[0]]).check().unwrap_err();
            let text = format!("{error:#}");
            assert!(text.contains(expected), "{text}");
        }
    }
}
