//! The experiment `link`: how long it takes until a hop is ready, its user registered and a call answered, over
//! round-trip times and losses; and what the figures without loss tell together: of each stack a fixed time and
//! a number of round trips, `latency = fixed + k × round trip`.

use std::collections::BTreeMap;

use hopbench::load::{BackOff, Course, Lifecycle, LoadPlan, Mix, Workload};
use hopbench::net::link::{LinkConditions, Loss};
use hopbench::record::Verdict;
use hopbench::transport::TlsVersion;
use serde_json::json;

use super::collect::Collected;
use super::line::{self, Fitted};
use super::load::Load;
use super::{Sample, Subject, Trial};
use crate::path::Path;
use crate::scenario::{Links, Plan, Selection};
use crate::statistics::LINE_POINTS_MIN;
use crate::topology::{Site, Topology};

/// In place of the topology: a fit over round-trip times.
const FIT: &str = "round-trips";
/// Long enough for SIP's own retransmissions (64 × T1) to succeed or to give up. A load ends when its last
/// operation has.
const DRAIN_SECONDS: f64 = 33.0;

const FITTED: [Fitted; 3] = [
    [
        "setup_latency_ns",
        "setup_latency_at_no_distance_ns",
        "setup_latency_per_round_trip_ratio",
        "setup_latency_per_round_trip_r_squared_ratio",
    ],
    [
        "hop_ready_to_registered_ns",
        "registered_at_no_distance_ns",
        "registered_per_round_trip_ratio",
        "registered_per_round_trip_r_squared_ratio",
    ],
    [
        "session_request_delay_ns",
        "session_request_delay_at_no_distance_ns",
        "session_request_delay_per_round_trip_ratio",
        "session_request_delay_per_round_trip_r_squared_ratio",
    ],
];

/// How many round trips the protocols of a stack take, by what they are specified to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Promise {
    /// Until the hop can carry a SIP message.
    ready: u32,
    /// Until its user is registered.
    registered: u32,
    /// From INVITE to the first response, over a hop that is open.
    call: u32,
}

impl Promise {
    fn of(site: &Site) -> Self {
        let tunnel = u32::from(site.stack.tunnel.is_some_and(|tunnel| tunnel != "clear"));
        let connect = u32::from(site.stack.is_stream());
        let tls = if site.stack.speaks_tls() {
            let options = &site.variant.tls;
            match options.version {
                // RFC 8446 §2: the client's Finished and its first message leave together. A resumed
                // handshake takes as long.
                TlsVersion::V1_3 => 1,
                // RFC 5246 §7.3: one more, or an abbreviated handshake.
                TlsVersion::V1_2 if options.resumption == hopbench::transport::Resumption::Off => 2,
                TlsVersion::V1_2 => 1,
            }
        } else {
            0
        };
        let ready = tunnel + connect + tls;
        Self {
            ready,
            // REGISTER, 401, REGISTER, 200.
            registered: ready + 2,
            call: 1,
        }
    }
}

impl Links {
    /// The load of each cell.
    fn load(&self, workload: Workload) -> LoadPlan {
        LoadPlan {
            workload,
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
///
/// # Errors
/// When a stack does not exist, or conditions of links make no sense together.
pub(super) fn trials(links: &Links, plan: &Plan) -> anyhow::Result<Vec<Trial>> {
    let registering = Selection {
        stacks: &links.stacks,
        variants: &links.variants,
        authenticate_calls: false,
    };
    let calling = Selection {
        variants: &[],
        ..registering
    };
    let mut trials = Vec::new();
    for (workload, selection) in [
        (Workload::Register, registering),
        (Workload::Invite, calling),
    ] {
        let load = Load::with_rates(links.load(workload));
        for site in plan.sites(Topology::Direct, &selection)? {
            for conditions in links.conditions(&plan.lab) {
                conditions.check()?;
                let site = Site {
                    path: Path::Lab(conditions, plan.link_emulator),
                    ..site
                };
                trials.push(load.trial("link", &site, &links.blocks));
            }
        }
    }
    Ok(trials)
}

/// A fit for each stack, way to run it and workload, from the cells without loss that are ok.
pub(super) fn fits(collected: &[Collected]) -> Vec<Collected> {
    let mut groups: BTreeMap<String, Vec<&Collected>> = BTreeMap::new();
    let mut order = Vec::new();
    for cell in collected.iter().filter(|cell| is_clean(cell)) {
        let name = fit_id(&cell.subject).to_string();
        if !groups.contains_key(&name) {
            order.push(name.clone());
        }
        groups.entry(name).or_default().push(cell);
    }
    order.iter().map(|name| fit(&groups[name])).collect()
}

fn conditions(cell: &Collected) -> Option<&LinkConditions> {
    cell.subject.site.path.links()
}

fn is_clean(cell: &Collected) -> bool {
    conditions(cell).is_some_and(|conditions| conditions.loss == Loss::None)
}

/// In the unit of the latencies.
fn round_trip_ns(cell: &Collected) -> f64 {
    conditions(cell).map_or(0.0, |conditions| 2e6 * conditions.one_way_delay_ms)
}

/// The cell's name without its place, and with what remains of how links are in all cells.
fn fit_id(subject: &Subject) -> hopbench::record::CellId {
    let mut id = subject.id.clone();
    id.topology = FIT.to_owned();
    id.distinguishing.remove("one_way_delay_ms");
    id
}

fn fit(cells: &[&Collected]) -> Collected {
    let sound: Vec<(f64, &Collected)> = cells
        .iter()
        .filter(|cell| cell.verdict().0 == Verdict::Ok)
        .map(|cell| (round_trip_ns(cell), *cell))
        .collect();
    let mut fit = Collected::new(subject(&cells[0].subject, &sound));
    if let Some(reason) = cells.iter().find_map(|cell| cell.unsupported.clone()) {
        fit.unsupported = Some(reason);
        return fit;
    }
    if sound.len() < LINE_POINTS_MIN {
        fit.failure = Some(format!(
            "a line needs {LINE_POINTS_MIN} round-trip times that were measured, and there are {}",
            sound.len()
        ));
        return fit;
    }
    let samples = line::common_blocks(&sound).into_iter();
    fit.samples = samples
        .map(|block| (block, sample(&sound, block)))
        .collect();
    if fit.samples.is_empty() {
        fit.failure = Some("no block holds all round-trip times".to_owned());
    }
    fit
}

/// The fit's name and parameters; the rest is as in the `first` of its cells.
fn subject(first: &Subject, sound: &[(f64, &Collected)]) -> Subject {
    let round_trips_ms: Vec<f64> = sound.iter().map(|(ns, _)| ns / 1e6).collect();
    let promise = Promise::of(&first.site);
    let mut parameters = BTreeMap::from([
        ("round_trips_ms".to_owned(), json!(round_trips_ms)),
        ("promised_call_round_trips".to_owned(), json!(promise.call)),
        (
            "promised_ready_round_trips".to_owned(),
            json!(promise.ready),
        ),
        (
            "promised_registered_round_trips".to_owned(),
            json!(promise.registered),
        ),
    ]);
    line::share(
        &mut parameters,
        first,
        &["rate_per_second", "users", "blocks"],
    );
    Subject {
        id: fit_id(first),
        parameters,
        ..first.clone()
    }
}

fn sample(cells: &[(f64, &Collected)], block: u32) -> Sample {
    let mut sample = Sample::default();
    for fitted in FITTED {
        // What is no figure of this workload is not told of it.
        if let Some(points) = line::points(cells, fitted[0], block) {
            line::put(&mut sample, fitted, Some(&points));
        }
    }
    sample
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use hopbench::transport::find;

    use super::*;
    use crate::experiment::cell_id;
    use crate::path::LinkEmulator;
    use crate::variant::Variant;

    fn site(stack: &str, variant: &str, round_trip_ms: f64) -> Site {
        Site {
            topology: Topology::Direct,
            stack: find(stack).unwrap(),
            core: find(stack).unwrap(),
            variant: toml::from_str::<Variant>(variant).unwrap(),
            authenticate_calls: false,
            path: Path::Lab(
                LinkConditions::with_round_trip_ms(round_trip_ms),
                LinkEmulator::Hopbench,
            ),
            beneath: None,
        }
    }

    /// A cell whose set-up takes `fixed_ns` and so many round trips, in each of two blocks.
    fn cell(site: Site, fixed_ns: f64, round_trips: f64) -> Collected {
        let mut cell = Collected::new(Subject {
            id: cell_id("link", "register", &site, "per-registration"),
            site,
            parameters: BTreeMap::new(),
            blocks: 2.into(),
        });
        let value = fixed_ns + round_trips * round_trip_ns(&cell);
        for block in 0..2 {
            let mut sample = Sample::default();
            // A constant time in one block more than in the other: a slope does not see it.
            let value = Some(value + f64::from(block) * 1e5);
            sample.scalars.insert("setup_latency_ns".to_owned(), value);
            cell.samples.insert(block, sample);
        }
        cell
    }

    #[test]
    fn protocols_promise_what_they_are_specified_to_take() {
        let old = "tls_version = \"1.2\"";
        let old_resumed = "tls_version = \"1.2\"\nresumption = \"ticket\"";
        let cases = [
            ("udp", "", 0),
            ("tcp", "", 1),
            ("tls", "", 2),
            ("mtls", "", 2),
            ("tls", "resumption = \"ticket\"", 2),
            ("tls", old, 3),
            ("tls", old_resumed, 2),
            ("udp@clear", "", 0),
            ("udp@wireguard", "", 1),
            ("tcp@wireguard", "", 2),
            ("tls@wireguard", "", 3),
        ];
        for (stack, variant, ready) in cases {
            let promise = Promise::of(&site(stack, variant, 0.0));
            assert_eq!(promise.ready, ready, "{stack} {variant}");
            assert_eq!(promise.registered, ready + 2, "{stack} {variant}");
        }
    }

    #[test]
    fn the_slope_is_the_number_of_round_trips() {
        let old = "tls_version = \"1.2\"";
        let mut cells = Vec::new();
        for round_trip_ms in [0.0, 50.0, 100.0] {
            cells.push(cell(site("tls", "", round_trip_ms), 800_000.0, 2.0));
            cells.push(cell(site("tls", old, round_trip_ms), 900_000.0, 3.0));
        }
        // Loss is no part of a line.
        let mut lossy = site("tls", "", 100.0);
        let conditions = LinkConditions {
            loss: Loss::Independent { ratio: 0.02 },
            ..LinkConditions::with_round_trip_ms(100.0)
        };
        lossy.path = Path::Lab(conditions, LinkEmulator::Hopbench);
        cells.push(cell(lossy, 5e9, 9.0));
        let fits = fits(&cells);
        assert_eq!(fits.len(), 2);
        let found: Vec<_> = fits.iter().map(Collected::cell).collect();
        assert_eq!(
            found[0].id,
            "link/register/tls/round-trips/per-registration/lab"
        );
        assert!(
            found[1].id.ends_with("lab?tls_version=1.2"),
            "{}",
            found[1].id
        );
        for (cell, round_trips) in found.iter().zip([2.0, 3.0]) {
            assert_eq!(cell.verdict, Verdict::Ok);
            let value = |key: &str| cell.metrics[key].value.unwrap();
            assert!((value("setup_latency_per_round_trip_ratio") - round_trips).abs() < 1e-9);
            assert!(
                !cell
                    .metrics
                    .contains_key("session_request_delay_per_round_trip_ratio")
            );
            for key in cell.metrics.keys() {
                assert!(hopbench::record::metric::known(key).is_some(), "{key}");
            }
        }
        assert_eq!(found[1].parameters["promised_ready_round_trips"], 3);
        let fixed = found[0].metrics["setup_latency_at_no_distance_ns"]
            .value
            .unwrap();
        assert!((fixed - 850_000.0).abs() < 1e-3, "{fixed}");
    }

    #[test]
    fn two_round_trip_times_make_no_line() {
        let cells = [0.0, 50.0].map(|round_trip_ms| cell(site("tcp", "", round_trip_ms), 1.0, 1.0));
        let (verdict, reason) = fits(&cells)[0].verdict();
        assert_eq!(verdict, Verdict::Failed);
        assert!(reason.unwrap().contains("there are 2"));
    }
}
