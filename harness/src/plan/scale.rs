//! What the experiment `scale` tells: cells of one stack with a thousand users and more, all of them idle
//! but for keep-alives, beside whom a few register and call.
//!
//! Memory is a line through its cells, and so is what users at rest take of the processor. An operation costs
//! what it cost with the most users; how it grew up to there, continued to the users that are planned, is
//! a part of its interval.

use hopbench::record::{Cell, Run};

use super::evidence::{
    Evidence, HALF_OF_THE_KERNEL, Memory, Meter, Wanted, has_server_sockets, source, users,
};
use super::figure::Figure;
use super::finding::{Finding, Source};
use crate::plan::NS_PER_SECOND;
use crate::statistics::{self, Interval};

/// Cells of the experiment.
pub(super) const WANTED: Wanted = Wanted {
    experiment: "scale",
    workload: None,
    topology: None,
    stage: None,
};

/// Server CPU of an operation, beyond that of the users at rest.
pub(super) const REGISTRATION_CPU: &str = "server_cpu_ns_per_registration";
/// Likewise.
pub(super) const REFRESH_CPU: &str = "server_cpu_ns_per_refresh";
/// Likewise.
pub(super) const CALL_CPU: &str = "server_cpu_ns_per_call";
/// Of all users together while they rest, in cores.
pub(super) const IDLE_CPU: &str = "idle_server_cpu_ratio";

/// The sound cells of a stack, by users, ascending.
pub(super) struct Crowd<'a> {
    evidence: Evidence<'a>,
    cells: Vec<(f64, &'a Run, &'a Cell)>,
}

impl<'a> Crowd<'a> {
    /// The cells of the first run that has any; those that are derived from others have no users.
    pub(super) fn of(evidence: Evidence<'a>) -> Self {
        let mut cells: Vec<_> = evidence
            .sound(&WANTED)
            .filter_map(|(run, cell)| Some((users(cell)?, run, cell)))
            .collect();
        if let Some((_, first, _)) = cells.first() {
            let first = first.run_id.clone();
            cells.retain(|(_, run, _)| run.run_id == first);
        }
        cells.sort_by(|(a, ..), (b, ..)| a.total_cmp(b));
        Self { evidence, cells }
    }

    /// The same as if only the cells with fewer users had been measured.
    pub(super) fn below(&self, limit: f64) -> Self {
        let fewer = |(users, ..): &&(f64, &'a Run, &'a Cell)| *users < limit;
        Self {
            evidence: self.evidence,
            cells: self.cells.iter().filter(fewer).copied().collect(),
        }
    }

    /// The cell with so many users.
    pub(super) fn at(&self, users: f64) -> Option<&'a Cell> {
        let mut cells = self.cells.iter();
        cells
            .find(|(found, ..)| *found == users)
            .map(|(.., cell)| *cell)
    }

    pub(super) fn most_users(&self) -> Option<f64> {
        self.cells.last().map(|(users, ..)| *users)
    }

    /// Users, and what they took of `key` together.
    pub(super) fn points(&self, key: &str) -> Vec<(f64, f64)> {
        let sources = self.sources(key).into_iter();
        sources
            .map(|(users, source)| (users, source.figure.value))
            .collect()
    }

    /// How often idle users kept their hops alive.
    pub(super) fn keep_alive_seconds(&self) -> Option<f64> {
        let (.., cell) = self.cells.last()?;
        cell.parameters.get("keep_alive_seconds")?.as_f64()
    }

    fn sources(&self, key: &str) -> Vec<(f64, Source)> {
        let cells = self.cells.iter();
        cells
            .filter_map(|(users, run, cell)| Some((*users, source(run, cell, key)?)))
            .collect()
    }

    /// The line of memory through the cells; `None` with fewer than two.
    pub(super) fn memory(&self, meter: Meter) -> Option<Memory> {
        if meter == Meter::Kernel && !has_server_sockets(self.evidence.stack) {
            return None;
        }
        let sources = self.sources(meter.scale_key());
        let points = self.points(meter.scale_key());
        let line = statistics::regression(&points)?;
        let processes = self.cells.last().map_or(1.0, |(.., cell)| processes(cell));
        let of_all = |figure: Figure| of_line(figure, &sources);
        let share = match meter {
            Meter::Heap | Meter::Resident => 1.0,
            Meter::Kernel => 0.5,
        };
        let slope = Figure::measured(line.slope, line.slope_ci95).scaled(share);
        let fixed = Figure::measured(line.at(0.0), line.ci95_at(0.0)).scaled(share / processes);
        Some(Memory {
            per_user_bytes: match meter {
                Meter::Heap | Meter::Resident => of_all(slope),
                Meter::Kernel => of_all(slope).noted(HALF_OF_THE_KERNEL),
            },
            fixed_bytes: of_all(fixed),
        })
    }

    /// What an operation costs with `users`: what it cost with the most users that were measured. Is
    /// that fewer, the interval holds what comes of its growth from the fewest to the most, should it
    /// go on by the decade. `None` when it was not measured.
    pub(super) fn cpu_ns(&self, key: &str, users: f64) -> Option<Finding> {
        let sources = self.sources(key);
        let (most, source) = sources.last()?;
        let (fewest, first) = sources.first()?;
        let figure = source.figure;
        let further = if most > fewest && users > *most {
            let growth = figure.value - first.figure.value;
            growth * (users / most).log10() / (most / fewest).log10()
        } else {
            0.0
        };
        let found = Finding::measured(source.clone());
        // Of one block there is no interval: growth alone then says how far the figure may be from it,
        // to either side, as its sign may be chance.
        let within = match figure.ci95 {
            Some(ci95) => Some(ci95.holding(figure.value + further)),
            None if further != 0.0 => Some(Interval {
                low: figure.value - further.abs(),
                high: figure.value + further.abs(),
            }),
            None => None,
        };
        Some(found.with_figure(|figure| match within {
            Some(_) => figure.or_within(within).at_least(0.0),
            None => figure.at_least(0.0),
        }))
    }

    /// CPU of one of `users` at rest in one second.
    pub(super) fn idle_cpu_ns(&self, users: f64) -> Option<Finding> {
        let cores = of_line(self.idle_cores(users)?, &self.sources(IDLE_CPU));
        Some(cores.times(NS_PER_SECOND / users))
    }

    /// Cores that `users` at rest take together, by the line through all cells: a node that is seldom woken
    /// pays more for each time, so that a crowd in proportion to a small one would seem dearer than
    /// it is. Of one cell, in proportion.
    pub(super) fn idle_cores(&self, users: f64) -> Option<Figure> {
        let points = self.points(IDLE_CPU);
        let (most, cores) = *points.last()?;
        let Some(line) = statistics::regression(&points) else {
            let (_, source) = self.sources(IDLE_CPU).pop()?;
            return Some(source.figure.scaled(users / most));
        };
        // More users never take less than fewer did.
        let least = if users >= most { cores } else { 0.0 };
        let figure = Figure::measured(line.at(users).max(least), line.ci95_at(users));
        Some(figure.at_least(0.0))
    }
}

/// What a line through all of `sources` says.
fn of_line(figure: Figure, sources: &[(f64, Source)]) -> Finding {
    // The line goes on from its last point.
    let most = sources.last().map(|(users, _)| *users);
    let sources = sources.iter().map(|(_, source)| Source {
        users: most,
        ..source.clone()
    });
    Finding {
        figure: Some(figure.at_least(0.0)),
        sources: sources.collect(),
        ..Finding::exact(0.0)
    }
}

/// Of which the node was made.
fn processes(cell: &Cell) -> f64 {
    let workers = cell.parameters.get("node_workers");
    workers.and_then(serde_json::Value::as_f64).unwrap_or(1.0)
}
