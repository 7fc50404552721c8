//! What a reader must see before any figure: that a side was burdened on purpose, that intervals did not
//! become as narrow as they were meant to. A part of
//! [`super::markdown`] and [`super::table`].

use hopbench::record::{Run, WideBecause};

use super::significant;
use super::units::WIDE;

/// The parameters of a cell that say what its sides burnt on purpose.
const HANDICAPS: [(&str, &str); 2] = [
    ("server_handicap_ratio", "server"),
    ("generator_handicap_ratio", "generator"),
];

/// Sentences for the head of a report; usually none.
pub(super) fn of(run: &Run) -> Vec<String> {
    let mut notices = Vec::new();
    for (key, side) in HANDICAPS {
        let handicaps = run
            .cells
            .iter()
            .filter_map(|cell| cell.parameters.get(key)?.as_f64())
            .filter(|ratio| *ratio > 0.0);
        let most = handicaps.clone().fold(0.0, f64::max);
        let count = handicaps.count();
        if count > 0 {
            notices.push(format!(
                "Handicapped on purpose: in {count} of {} cells the {side} burnt up to {} % of its \
                 processor time on top. What such a cell took is not what its stack takes.",
                run.cells.len(),
                significant(most * 100.0)
            ));
        }
    }
    notices.extend(wide(run));
    notices
}

/// Of ratios whose precision decided the number of blocks: how many did not come to it, and why.
fn wide(run: &Run) -> Option<String> {
    let judged: Vec<_> = run
        .ratios
        .iter()
        .filter_map(|each| each.precision)
        .collect();
    let causes: Vec<WideBecause> = judged.iter().filter_map(|each| each.wide_because).collect();
    let because = match causes.first()? {
        WideBecause::MostBlocks => "there were as many blocks as the scenario allows",
        WideBecause::BudgetSpent => "the time was spent",
        WideBecause::Unfinished => "the run did not finish",
    };
    let limits = judged.iter().map(|each| each.half_width_ratio_max);
    let limit = limits.fold(0.0, f64::max);
    Some(format!(
        "{} of {} ratios, marked {WIDE}, are less sure than ±{} %: {because}.",
        causes.len(),
        judged.len(),
        significant(limit * 100.0)
    ))
}

#[cfg(test)]
mod tests {
    use hopbench::record::Precision;
    use serde_json::json;

    use super::*;
    use crate::report::fixture;

    #[test]
    fn ratios_that_are_wide_are_counted_and_marked() {
        let mut run = fixture::run();
        let precision = |wide_because| Precision {
            half_width_ratio_max: 0.05,
            wide_because,
        };
        run.ratios[0].precision = Some(precision(None));
        assert_eq!(of(&run), Vec::<String>::new());
        run.ratios[1].precision = Some(precision(Some(WideBecause::BudgetSpent)));
        let expected = "1 of 2 ratios, marked ~, are less sure than ±5.00 %: the time was spent.";
        assert_eq!(of(&run), [expected]);
        let narrow = crate::report::units::ratio(&run.ratios[0]);
        let wide = crate::report::units::ratio(&run.ratios[1]);
        assert!(
            wide.starts_with('~') && !narrow.starts_with('~'),
            "{wide} {narrow}"
        );
    }

    #[test]
    fn a_handicap_is_told_and_nothing_else() {
        let mut run = fixture::run();
        assert_eq!(of(&run), Vec::<String>::new());
        let parameters = &mut run.cells[0].parameters;
        parameters.insert("server_handicap_ratio".into(), json!(0.0));
        assert_eq!(of(&run), Vec::<String>::new());
        let parameters = &mut run.cells[0].parameters;
        parameters.insert("server_handicap_ratio".into(), json!(0.1));
        let notices = of(&run);
        assert_eq!(notices.len(), 1);
        assert!(notices[0].contains("in 1 of"), "{notices:?}");
        assert!(notices[0].contains("up to 10.0 %"), "{notices:?}");
    }
}
