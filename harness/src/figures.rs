//! The figures of a run that may stand in a chart or feed an alarm: those of sound cells, and ratios between
//! sound cells. Above [`hopbench::record`], beneath exports and histories; it computes nothing.
//!
//! A cell that is `generator-bound`, `failed` or `unsupported` says nothing about the server, and a chart has
//! no place for that word. So it is left out, and [`left_out`] says which ones were.

use std::collections::BTreeSet;

use hopbench::record::{Cell, Direction, Run, Unit, Verdict};

/// One figure with the interval that the run gives it.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Figure<'a> {
    /// The cell that was measured; of a ratio, the one above the line.
    pub(crate) cell: &'a Cell,
    /// Of a ratio, the id of the cell below the line.
    pub(crate) control: Option<&'a str>,
    /// Metric key; of a ratio, that of what is divided.
    pub(crate) metric: &'a str,
    /// In `unit`.
    pub(crate) value: f64,
    /// Ends of the 95 % interval.
    pub(crate) interval: Option<(f64, f64)>,
    /// Of a ratio, [`Unit::Ratio`].
    pub(crate) unit: Unit,
    /// Which direction is better; a ratio's is that of its metric.
    pub(crate) direction: Direction,
}

impl Figure<'_> {
    /// What it is a figure of: the cell, or the two cells of a ratio.
    pub(crate) fn subject(&self) -> String {
        match self.control {
            None => self.cell.id.clone(),
            Some(control) => format!("{} ÷ {control}", self.cell.id),
        }
    }
}

/// All sound figures: cells in the order of their ids, of each its metrics and then its ratios. A run's own
/// order is that of finishing, which a seed shuffles.
pub(crate) fn sound(run: &Run) -> Vec<Figure<'_>> {
    let mut cells: Vec<&Cell> = run.cells.iter().filter(|cell| is_sound(cell)).collect();
    cells.sort_by_key(|cell| &cell.id);
    let ids: BTreeSet<&str> = cells.iter().map(|cell| cell.id.as_str()).collect();
    let mut figures = Vec::new();
    for cell in cells {
        figures.extend(cell.metrics.iter().filter_map(|(metric, figure)| {
            Some(Figure {
                cell,
                control: None,
                metric,
                value: figure.value?,
                interval: figure.ci95_low.zip(figure.ci95_high),
                unit: figure.unit,
                direction: figure.direction,
            })
        }));
        let of_cell = run.ratios.iter().filter(|ratio| {
            ratio.cell_id == cell.id && ids.contains(ratio.control_cell_id.as_str())
        });
        let mut ratios: Vec<_> = of_cell
            .filter_map(|ratio| {
                Some(Figure {
                    cell,
                    control: Some(&ratio.control_cell_id),
                    metric: &ratio.metric,
                    value: ratio.ratio,
                    interval: ratio.ci95_low.zip(ratio.ci95_high),
                    unit: Unit::Ratio,
                    direction: cell.metrics.get(&ratio.metric)?.direction,
                })
            })
            .collect();
        ratios.sort_by_key(|ratio| (ratio.control, ratio.metric));
        figures.extend(ratios);
    }
    figures
}

/// The cells of which [`sound`] has no figure because of their verdict, in the order of their ids.
pub(crate) fn left_out(run: &Run) -> Vec<&Cell> {
    let mut cells: Vec<&Cell> = run.cells.iter().filter(|cell| !is_sound(cell)).collect();
    cells.sort_by_key(|cell| &cell.id);
    cells
}

fn is_sound(cell: &Cell) -> bool {
    cell.verdict == Verdict::Ok
}

/// The id of a cell without its third part, the stack: what the cells of one chart have in common.
pub(crate) fn without_stack(id: &str) -> String {
    let mut parts = id.splitn(4, '/');
    match (parts.next(), parts.next(), parts.next(), parts.next()) {
        (Some(experiment), Some(workload), Some(_stack), Some(rest)) => {
            format!("{experiment}/{workload}/{rest}")
        }
        _ => id.to_owned(),
    }
}

/// The stack in a cell's id; of what is no such id, nothing.
pub(crate) fn stack_of(id: &str) -> &str {
    let mut parts = id.splitn(4, '/').skip(2);
    match (parts.next(), parts.next()) {
        (Some(stack), Some(_)) => stack,
        _ => "",
    }
}

/// As it is serialised: `ns`, `bytes`, `per_second`, `ratio`, `count`.
pub(crate) fn unit_word(unit: Unit) -> &'static str {
    match unit {
        Unit::Ns => "ns",
        Unit::Bytes => "bytes",
        Unit::PerSecond => "per_second",
        Unit::Ratio => "ratio",
        Unit::Count => "count",
    }
}

/// As it is serialised: `lower`, `higher`.
pub(crate) fn direction_word(direction: Direction) -> &'static str {
    match direction {
        Direction::Lower => "lower",
        Direction::Higher => "higher",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn only_sound_cells_have_figures() {
        let run = fixture::run();
        let figures = sound(&run);
        assert!(figures.iter().all(|figure| is_sound(figure.cell)));
        assert!(figures.iter().any(|figure| figure.control.is_some()));
        let unsound = left_out(&run);
        let expected = run.cells.iter().filter(|cell| !is_sound(cell)).count();
        assert!(
            expected > 1,
            "the fixture has failed and generator-bound cells"
        );
        assert_eq!(unsound.len(), expected);
    }

    #[test]
    fn a_ratio_to_a_cell_that_is_not_sound_is_no_figure() {
        let mut run = fixture::run();
        let control = run.ratios[0].control_cell_id.clone();
        let count = |run: &Run| {
            let figures = sound(run);
            let ratios = figures
                .iter()
                .filter(|figure| figure.control == Some(&control));
            ratios.count()
        };
        assert!(count(&run) > 0);
        let cell = run.cells.iter_mut().find(|cell| cell.id == control);
        cell.expect("the control is a cell").verdict = Verdict::GeneratorBound;
        assert_eq!(count(&run), 0);
    }

    #[test]
    fn a_missing_value_is_no_figure() {
        let mut run = fixture::run();
        let before = sound(&run).len();
        let cell = run.cells.iter_mut().find(|cell| is_sound(cell));
        let cell = cell.expect("a sound cell");
        let measured = |cell: &Cell| cell.metrics.values().filter(|m| m.value.is_some()).count();
        let lost = measured(cell);
        cell.metrics
            .values_mut()
            .for_each(|metric| metric.value = None);
        assert!(lost > 0);
        assert_eq!(sound(&run).len(), before - lost);
    }

    #[test]
    fn an_id_falls_into_stack_and_question() {
        let id = "setup/register/tcp@clear/direct/per-call/loopback?a=b/c";
        assert_eq!(
            without_stack(id),
            "setup/register/direct/per-call/loopback?a=b/c"
        );
        assert_eq!(stack_of(id), "tcp@clear");
        assert_eq!(
            (without_stack("Rust Benchmark").as_str(), stack_of("a/b/c")),
            ("Rust Benchmark", "")
        );
        for cell in &fixture::run().cells {
            assert_eq!(stack_of(&cell.id), cell.stack);
        }
    }

    #[test]
    fn words_are_those_of_the_run_file() {
        let units = [
            Unit::Ns,
            Unit::Bytes,
            Unit::PerSecond,
            Unit::Ratio,
            Unit::Count,
        ];
        for unit in units {
            assert_eq!(serde_json::json!(unit), unit_word(unit));
        }
        for direction in [Direction::Lower, Direction::Higher] {
            assert_eq!(serde_json::json!(direction), direction_word(direction));
        }
    }
}
