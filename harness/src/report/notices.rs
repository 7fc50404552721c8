//! What a reader must see before any figure: that a side was burdened on purpose. A part of
//! [`super::markdown`] and [`super::table`].

use hopbench::record::Run;

use super::significant;

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
    notices
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::report::fixture;

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
