//! The experiment `chain`: calls through 0, 1, 2, … proxies at a light rate, and what the figures
//! tell together: of each stack a fixed cost and the cost of each further proxy.

use std::collections::BTreeMap;

use hopbench::load::{BackOff, Course, Lifecycle, LoadPlan, Mix, Workload};
use hopbench::record::Verdict;
use serde_json::json;

use super::collect::Collected;
use super::line::{self, Fitted};
use super::load::{DRAIN_SECONDS, Load};
use super::{Sample, Subject, Trial};
use crate::scenario::{Chain, Plan, Selection};
use crate::statistics::LINE_POINTS_MIN;
use crate::topology::Topology;

/// Where a fit stands in place of the topology.
const FIT: &str = "chain";

const FITTED: [Fitted; 2] = [
    [
        "session_request_delay_ns",
        "session_request_delay_fixed_ns",
        "session_request_delay_per_hop_ns",
        "session_request_delay_r_squared_ratio",
    ],
    [
        "server_cpu_ns_per_operation",
        "server_cpu_fixed_ns",
        "server_cpu_per_hop_ns",
        "server_cpu_r_squared_ratio",
    ],
];

impl Chain {
    fn selection(&self) -> Selection<'_> {
        Selection {
            stacks: &self.stacks,
            ..Selection::default()
        }
    }

    /// The load of each cell: calls over hops that are kept.
    pub(crate) fn load(&self) -> LoadPlan {
        LoadPlan {
            workload: Workload::Invite,
            lifecycle: Lifecycle::PerRegistration,
            arrivals: self.arrivals,
            rate_per_second: self.rate_per_second,
            course: Course::Steady,
            warm_up_seconds: self.warm_up_seconds,
            duration_seconds: self.duration_seconds,
            drain_seconds: DRAIN_SECONDS,
            users: self.users,
            talk_seconds: 0.0,
            ring_seconds: 0.0,
            mix: Mix::default(),
            back_off: BackOff::default(),
            seed: 0,
        }
    }
}

/// The cells that are measured.
pub(super) fn trials(chain: &Chain, plan: &Plan) -> anyhow::Result<Vec<Trial>> {
    let load = Load::with_rates(chain.load());
    let mut trials = Vec::new();
    for proxies in &chain.proxies {
        let topology = match proxies {
            0 => Topology::Direct,
            proxies => Topology::Chain(*proxies),
        };
        let sites = plan.sites(topology, &chain.selection())?;
        // Edge and core alike: the slope is one more hop of the stack that the fit is named after.
        let sites = sites
            .iter()
            .filter(|site| site.core.name == site.stack.name);
        trials.extend(sites.map(|site| load.trial("chain", site, &chain.blocks)));
    }
    Ok(trials)
}

/// A fit for each stack, from the lengths of its chain that are ok. Where too few are, from those too
/// at which the generator was the bottleneck, and then it was that of the fit.
pub(super) fn fits(collected: &[Collected]) -> Vec<Collected> {
    let mut stacks: Vec<&str> = Vec::new();
    for cell in collected {
        let name = cell.subject.site.stack.name;
        if !stacks.contains(&name) {
            stacks.push(name);
        }
    }
    let cells_of = |stack| {
        let cells = collected.iter();
        cells.filter(move |cell| cell.subject.site.stack.name == stack)
    };
    let fits = stacks.into_iter();
    fits.map(|stack| fit(&cells_of(stack).collect::<Vec<_>>()))
        .collect()
}

fn fit(cells: &[&Collected]) -> Collected {
    let with = |accepted: &[Verdict]| -> Vec<(f64, &Collected)> {
        let cells = cells.iter();
        let cells = cells.filter(|cell| accepted.contains(&cell.verdict().0));
        cells.map(|cell| (proxies(cell), *cell)).collect()
    };
    let sound = with(&[Verdict::Ok]);
    let is_sound = sound.len() >= LINE_POINTS_MIN;
    let lengths = if is_sound {
        sound
    } else {
        with(&[Verdict::Ok, Verdict::GeneratorBound])
    };
    let mut fit = Collected::new(subject(&cells[0].subject, &lengths));
    if lengths.len() < LINE_POINTS_MIN {
        fit.failure = Some(format!(
            "a line needs {LINE_POINTS_MIN} lengths of the chain that were measured, and there are {}",
            lengths.len()
        ));
        return fit;
    }
    for block in line::common_blocks(&lengths) {
        let mut sample = sample(&lengths, block);
        if !is_sound {
            let reason = "the generator was the bottleneck at most lengths of the chain";
            sample.generator_bound = Some(reason.to_owned());
        }
        fit.samples.insert(block, sample);
    }
    if fit.samples.is_empty() {
        fit.failure = Some("no block holds all lengths of the chain".to_owned());
    }
    fit
}

/// The fit's name and parameters; the rest is as in the `first` of its cells.
fn subject(first: &Subject, lengths: &[(f64, &Collected)]) -> Subject {
    let mut subject = Subject {
        parameters: BTreeMap::new(),
        ..first.clone()
    };
    subject.id.topology = FIT.to_owned();
    let lengths: Vec<f64> = lengths.iter().map(|(proxies, _)| *proxies).collect();
    subject.parameters.insert("proxies".into(), json!(lengths));
    let shared = ["rate_per_second", "users", "blocks", "node_cpus"];
    line::share(&mut subject.parameters, first, &shared);
    subject
}

fn proxies(cell: &Collected) -> f64 {
    f64::from(cell.subject.site.topology.nodes() - 1)
}

fn sample(cells: &[(f64, &Collected)], block: u32) -> Sample {
    let mut sample = Sample::default();
    for fitted in FITTED {
        let points = line::points(cells, fitted[0], block);
        line::put(&mut sample, fitted, points.as_deref());
    }
    sample
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;
    use crate::experiment::cell_id;
    use crate::topology::Site;
    use crate::variant::Variant;

    /// A cell whose processor time in block `b` is `speeds[b] · (fixed + slope · proxies)`.
    fn cell(stack: &str, proxies: u32, speeds: &[f64], (fixed, slope): (f64, f64)) -> Collected {
        let site = Site {
            topology: format!("chain-{proxies}").parse().unwrap(),
            stack: find(stack).unwrap(),
            core: find(stack).unwrap(),
            variant: Variant::default(),
            authenticate_calls: false,
            path: crate::path::Path::Loopback,
            beneath: None,
        };
        let mut cell = Collected::new(Subject {
            id: cell_id("chain", "invite", &site, "per-registration"),
            site,
            parameters: BTreeMap::from([("users".to_owned(), json!(9))]),
            blocks: u32::try_from(speeds.len()).unwrap().into(),
        });
        for (block, speed) in (0..).zip(speeds) {
            let value = speed * (fixed + slope * f64::from(proxies));
            let mut sample = Sample::default();
            let key = "server_cpu_ns_per_operation".to_owned();
            sample.scalars.insert(key, Some(value));
            cell.samples.insert(block, sample);
        }
        cell
    }

    #[test]
    fn each_block_has_its_line_and_a_slow_block_spoils_no_ratio() {
        let speeds = [1.0, 2.0, 0.5];
        let mut cells: Vec<Collected> = Vec::new();
        for proxies in 0..=4 {
            cells.push(cell("tcp", proxies, &speeds, (40_000.0, 20_000.0)));
            cells.push(cell("tls", proxies, &speeds, (44_000.0, 30_000.0)));
        }
        let fits = fits(&cells);
        assert_eq!(fits.len(), 2);
        let tls = fits
            .iter()
            .find(|fit| fit.subject.site.stack.name == "tls")
            .unwrap();
        let id = tls.subject.id.to_string();
        assert_eq!(id, "chain/invite/tls/chain/per-registration/loopback");
        let found = tls.cell();
        assert_eq!(found.verdict, Verdict::Ok);
        assert_eq!(found.repetitions, 3);
        let metric = |key: &str| &found.metrics[key];
        let near =
            |found: Option<f64>, wanted: f64| (found.unwrap() - wanted).abs() < 1e-6 * wanted;
        assert!(near(metric("server_cpu_fixed_ns").value, 44_000.0));
        assert!(near(metric("server_cpu_per_hop_ns").value, 30_000.0));
        // Three blocks of which one is twice as slow know little of an absolute figure.
        assert!(metric("server_cpu_per_hop_ns").ci95_high.unwrap() > 60_000.0);
        assert!(near(metric("server_cpu_r_squared_ratio").value, 1.0));
        assert_eq!(metric("session_request_delay_per_hop_ns").value, None);

        let known: Vec<&Collected> = cells.iter().chain(&fits).collect();
        let ratios = super::super::collect::ratios(&known);
        let ratio = |metric: &str| {
            let found = ratios
                .iter()
                .find(|r| r.metric == metric && r.cell_id == id);
            let ratio = found.unwrap();
            assert_eq!(ratio.blocks, 3);
            assert!((ratio.ci95_high.unwrap() - ratio.ci95_low.unwrap()).abs() < 1e-9);
            ratio.ratio
        };
        assert!((ratio("server_cpu_per_hop_ns") - 1.5).abs() < 1e-9);
        assert!((ratio("server_cpu_fixed_ns") - 1.1).abs() < 1e-9);
        assert!(!ratios.iter().any(|ratio| ratio.metric.contains("squared")));
    }

    #[test]
    fn lengths_that_failed_are_left_out_until_no_line_is_left() {
        let mut cells: Vec<Collected> = (0..=3)
            .map(|proxies| cell("tcp", proxies, &[1.0, 1.0], (10.0, 5.0)))
            .collect();
        cells[3].failure = Some("gone".to_owned());
        let fit = &fits(&cells)[0];
        assert_eq!(fit.verdict().0, Verdict::Ok);
        assert_eq!(fit.subject.parameters["proxies"], json!([0.0, 1.0, 2.0]));
        cells[1].failure = Some("gone".to_owned());
        let (verdict, reason) = fits(&cells)[0].verdict();
        assert_eq!(verdict, Verdict::Failed);
        assert!(reason.unwrap().contains("there are 2"));
    }
}
