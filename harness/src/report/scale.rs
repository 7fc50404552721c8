//! Crowds of users at one node: how they come and rest, what each user takes, how costs grow with
//! their number. Tables for [`super::summary`], and the section of [`super::markdown`].

use std::fmt::Write;

use hopbench::record::{Cell, Run, Verdict};

use super::markdown;
use super::question::{CROWD, CROWD_USER, Column, GROWTH, Question, is_growth};
use super::summary::{Block, Row, Summary, row, stack_rank, verdict_word};

/// A table of crowds.
struct Aspect {
    title: &'static str,
    columns: &'static [Column],
    /// How its figures are formed.
    method: &'static str,
}

/// Told of each crowd, beside what serving others costs.
const ASPECTS: [Aspect; 2] = [
    Aspect {
        title: "Scale, how the crowd comes and rests",
        columns: &CROWD,
        method: "Held are the users whom the node knew at the end of the hold. The CPU of an idle crowd, \
                 which only keeps its hops alive, is in processors: 0.01 is 1 % of one. Peak memory is the most \
                 that the processes of both sides ever held, each at its own time, and the kernel's memory of \
                 their sockets.",
    },
    Aspect {
        title: "Scale, what one user takes",
        columns: &CROWD_USER,
        method: "Memory with the whole crowd at rest, less that of the same processes without users, ÷ users: not \
                 a slope over several sizes. The kernel's is of both ends of a hop. CPU is what coming cost, \
                 ÷ users.",
    },
];

/// Told of each stack that was asked about several sizes of the crowd.
const OF_GROWTH: Aspect = Aspect {
    title: "Scale, growth of costs with the crowd",
    columns: &GROWTH,
    method: "For ×10 is the slope of a line over the logarithm of the number of users, in parts of the figure \
             with the fewest users: 0.05 is 5 % more for ten times the users. It is fitted inside each block; of \
             latencies it is that of medians.",
};

/// How the figures of serving others are formed.
pub(super) const SERVED_METHOD: &str = "Beside the crowd, visitors register and call users drawn at random from it. CPU is the server's, \
     beyond what the idle crowd costs, which is measured before and after; SRD, set-up and registered \
     are medians, p99 is of SRD.";

/// What is told of crowds beside what serving others costs, which is among `blocks`.
pub(super) fn crowds<'a>(run: &'a Run, blocks: &[Block<'a>]) -> Vec<Block<'a>> {
    let served = blocks.iter();
    let served = served.filter(|block| block.question == Question::Scale);
    let mut crowds: Vec<Block<'a>> = Vec::new();
    for block in served {
        crowds.extend(ASPECTS.iter().map(|aspect| retold(block, aspect)));
    }
    crowds.extend(growth(run));
    crowds
}

/// Other figures of the same cells.
fn retold<'a>(block: &Block<'a>, aspect: &Aspect) -> Block<'a> {
    let columns = aspect.columns;
    let rows = |rows: &[Row<'a>]| rows.iter().map(|row| row.with_columns(columns)).collect();
    Block {
        question: block.question,
        workload: block.workload,
        lifecycle: block.lifecycle,
        qualifier: block.qualifier.clone(),
        title: block.title.replace(block.question.title(), aspect.title),
        headline_name: block.headline_name.clone(),
        note: None,
        columns,
        rows: rows(&block.rows),
        variants: rows(&block.variants),
    }
}

/// A row for each stack that was asked about several sizes; nothing where none was.
fn growth(run: &Run) -> Option<Block<'_>> {
    let cells = run.cells.iter().filter(|cell| is_growth(cell));
    let mut cells: Vec<&Cell> = cells.collect();
    cells.sort_by_key(|cell| stack_rank(&cell.stack));
    let first = cells.first()?;
    let question = Question::Scale;
    Some(Block {
        question,
        workload: &first.workload,
        lifecycle: &first.lifecycle,
        qualifier: String::new(),
        title: OF_GROWTH.title.to_owned(),
        headline_name: question.headline_name(&first.workload),
        note: None,
        columns: OF_GROWTH.columns,
        rows: cells
            .iter()
            .map(|cell| row(&cell.stack, String::new(), OF_GROWTH.columns, vec![*cell]))
            .collect(),
        variants: Vec::new(),
    })
}

/// The tables of crowds, each with how its figures are formed, and why figures are missing.
pub(super) fn section(out: &mut String, run: &Run, summary: &Summary<'_>) {
    for block in &summary.crowds {
        markdown::table(out, block);
        let mut aspects = ASPECTS.iter().chain([&OF_GROWTH]);
        if let Some(aspect) = aspects.find(|aspect| block.title.starts_with(aspect.title)) {
            let _ = writeln!(out, "{}\n", aspect.method);
        }
    }
    reasons(out, run);
}

/// Why figures of crowds are missing, or do not mean what they say.
fn reasons(out: &mut String, run: &Run) {
    let is_doubtful = |cell: &&Cell| {
        cell.experiment == Question::Scale.experiment() && cell.verdict != Verdict::Ok
    };
    let mut doubtful = run.cells.iter().filter(is_doubtful).peekable();
    let is_told = doubtful.peek().is_some();
    for cell in doubtful {
        let size = cell.id.split_once('?').map_or("", |(_, size)| size);
        let reason = cell
            .reason
            .as_deref()
            .unwrap_or("for no reason that is known");
        let _ = writeln!(
            out,
            "- `{}?{size}` is {}: {}",
            cell.stack,
            verdict_word(cell.verdict),
            markdown::escaped(reason)
        );
    }
    if is_told {
        out.push('\n');
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    fn rendered(run: &Run) -> String {
        let mut out = String::new();
        section(&mut out, run, &Summary::of(run));
        out
    }

    #[test]
    fn the_largest_crowd_comes_first_and_what_failed_has_its_reason() {
        let run = fixture::run();
        let summary = Summary::of(&run);
        let sizes = summary.crowds[0].all_rows().map(Row::users);
        let of_each = [Some(100_000), Some(1_000)];
        assert!(
            sizes
                .collect::<Vec<_>>()
                .chunks(2)
                .all(|sizes| sizes == of_each)
        );
        let text = rendered(&run);
        for part in [
            "| `tcp, 100000` | 100000 | 100 | 1000 |",
            "| `mtls, 1000` | – | – |",
            "| `tls` | 0.0200 | 1.04 |",
            "- `mtls?users=1000` is failed: 999 of 1000 users were registered at the end of the hold",
            "- `tls@wireguard?users=1000` is generator-bound: ",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
    }

    #[test]
    fn runs_without_crowds_say_nothing_of_them() {
        let mut run = fixture::run();
        run.cells
            .retain(|cell| cell.experiment != Question::Scale.experiment());
        assert_eq!(rendered(&run), "");
    }
}
