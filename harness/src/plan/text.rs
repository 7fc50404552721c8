//! A plan or a validation for people: the figures first, then where each comes from.

use hopbench::record::Verdict;

use crate::environment::COMMIT_DIGITS;

use super::amount::{Scale, UNKNOWN, count};
use super::capacity::{Estimate, Topic};
use super::finding::{Missing, Source};
use super::page::Page;
pub(crate) use super::page::Style;
use super::validation::{HeldOut, Prediction, Validation};
use super::{Origin, Plan, StackPlan};

/// The plan, in `style`.
pub(crate) fn render(plan: &Plan, style: Style) -> String {
    let mut page = Page::new(style);
    let demand = &plan.demand;
    page.title(&format!(
        "Capacity for {} users: registrations for {} s, {} calls an hour each, cores at most {} busy",
        count(f64::from(demand.users)),
        demand.expires_seconds,
        demand.calls_per_user_hour,
        demand.utilisation,
    ));
    origins(&mut page, &plan.runs);
    figures(&mut page, plan);
    let sources = Numbered::of(plan);
    formulas(&mut page, plan, &sources);
    measured(&mut page, &sources, plan.runs.len() > 1);
    remarks(&mut page, plan);
    gaps(&mut page, plan);
    unused(&mut page, plan);
    page.finish()
}

fn origins(page: &mut Page, runs: &[Origin]) {
    if page.is_markdown() {
        page.break_line();
    }
    for run in runs {
        page.paragraph(&format!("Measured by {}", words(run)));
    }
    page.paragraph(
        "The figures hold for such a machine, such a build and this server; over loopback, without \
         round trips. In brackets 95 % intervals, worst combined with worst; [?] where a part was \
         measured once; ≤ ≥ ~ where something stands for what costs less, something is missing, or both.",
    );
    let builds = |run: &Origin| {
        (
            run.build.git_commit.clone(),
            run.environment.cpu_model.clone(),
        )
    };
    if runs
        .windows(2)
        .any(|pair| builds(&pair[0]) != builds(&pair[1]))
    {
        page.paragraph(
            "These runs are of different builds or machines: their costs add up with care only.",
        );
    }
}

fn words(run: &Origin) -> String {
    let environment = &run.environment;
    let commit = match &run.build.git_commit {
        Some(commit) => commit.chars().take(COMMIT_DIGITS).collect(),
        None => "unknown commit".to_owned(),
    };
    let dirty = if run.build.git_dirty == Some(true) {
        ", changed"
    } else {
        ""
    };
    format!(
        "run {} ({}) of hopbench {} {commit}{dirty}, on {} with {} processors, {} {}",
        run.run_id,
        run.profile,
        run.build.version,
        environment
            .cpu_model
            .as_deref()
            .unwrap_or("an unknown processor"),
        environment.cpu_count,
        environment.os,
        environment.kernel.as_deref().unwrap_or_default(),
    )
    .trim_end()
    .to_owned()
}

/// The lines of a plan: the same one of each stack.
fn lines(plan: &Plan) -> Vec<Vec<&Estimate>> {
    let most = plan.stacks.first().map_or(0, |stack| stack.estimates.len());
    let line = |index: usize| {
        let stacks = plan.stacks.iter();
        stacks.map(|stack| &stack.estimates[index]).collect()
    };
    (0..most).map(line).collect()
}

fn figures(page: &mut Page, plan: &Plan) {
    let lines = lines(plan);
    for topic in Topic::ALL {
        page.heading(topic.title());
        let mut head = vec![String::new()];
        head.extend(plan.stacks.iter().map(|stack| page.code(stack.stack)));
        let of_topic = lines.iter().filter(|line| line[0].topic == topic);
        let rows: Vec<Vec<String>> = of_topic.map(|line| row(line)).collect();
        page.table(&head, &rows);
    }
}

fn row(line: &[&Estimate]) -> Vec<String> {
    let values = line.iter().filter_map(|estimate| estimate.figure);
    let scale = Scale::of_line(line[0].unit, values.map(|figure| figure.value));
    let name = match scale.symbol {
        "" => line[0].title.to_owned(),
        symbol => format!("{} ({symbol})", line[0].title),
    };
    let cells = line.iter().map(|estimate| match estimate.figure {
        Some(figure) => format!("{}{}", estimate.bound.sign(), scale.figure(figure)),
        None => UNKNOWN.to_owned(),
    });
    std::iter::once(name).chain(cells).collect()
}

/// Every measured figure that went into a plan, once.
struct Numbered<'a>(Vec<&'a Source>);

impl<'a> Numbered<'a> {
    fn of(plan: &'a Plan) -> Self {
        let estimates = plan.stacks.iter().flat_map(|stack| &stack.estimates);
        let mut sources: Vec<&Source> = Vec::new();
        for source in estimates.flat_map(|estimate| &estimate.sources) {
            if !sources.contains(&source) {
                sources.push(source);
            }
        }
        Self(sources)
    }

    fn numbers(&self, sources: &[Source]) -> String {
        let number = |source: &Source| self.0.iter().position(|other| *other == source);
        let numbers = sources.iter().filter_map(number);
        let numbers = numbers.map(|number| format!("[{}]", number + 1));
        numbers.collect::<Vec<_>>().join(" ")
    }
}

fn formulas(page: &mut Page, plan: &Plan, sources: &Numbered<'_>) {
    page.heading("Where each line comes from");
    for line in lines(plan) {
        let first = line[0];
        let name = format!("{}, {}", first.topic.title(), first.title);
        if line
            .iter()
            .all(|estimate| estimate.formula == first.formula)
        {
            page.item(0, &format!("{name} = {}", first.formula));
        } else {
            page.item(0, &name);
            for (stack, estimate) in plan.stacks.iter().zip(&line) {
                page.item(
                    1,
                    &format!("{}: {}", page.code(stack.stack), estimate.formula),
                );
            }
        }
        for (stack, estimate) in plan.stacks.iter().zip(&line) {
            if !estimate.sources.is_empty() {
                let further = estimate
                    .extrapolation_factor
                    .map_or(String::new(), |factor| {
                        format!(
                            ", {} times the users that were measured",
                            count(factor.ceil())
                        )
                    });
                let numbers = sources.numbers(&estimate.sources);
                page.item(
                    1,
                    &format!("{}: {numbers}{further}", page.code(stack.stack)),
                );
            }
        }
    }
    page.list_end();
}

fn measured(page: &mut Page, sources: &Numbered<'_>, name_runs: bool) {
    if sources.0.is_empty() {
        return;
    }
    page.heading("What was measured");
    for (index, source) in sources.0.iter().enumerate() {
        let scale = Scale::of_metric(source.unit, std::iter::once(source.figure.value));
        let users = source.users.map_or(String::new(), |users| {
            format!(", with up to {} users", count(users))
        });
        let run = if name_runs {
            format!(", run {}", source.run_id)
        } else {
            String::new()
        };
        let (metric, cell) = (page.code(&source.metric), page.code(&source.cell_id));
        let figure = scale.quantity(source.figure);
        page.item(
            0,
            &format!("[{}] {metric} of {cell}: {figure}{users}{run}", index + 1),
        );
    }
    page.list_end();
}

fn remarks(page: &mut Page, plan: &Plan) {
    let mut notes: Vec<(&str, Vec<&str>)> = Vec::new();
    for stack in &plan.stacks {
        for note in stack.estimates.iter().flat_map(|estimate| &estimate.notes) {
            match notes.iter_mut().find(|(known, _)| known == note) {
                Some((_, stacks)) if stacks.contains(&stack.stack) => {}
                Some((_, stacks)) => stacks.push(stack.stack),
                None => notes.push((note, vec![stack.stack])),
            }
        }
    }
    if notes.is_empty() {
        return;
    }
    page.heading("Remarks");
    for (note, stacks) in notes {
        let stacks = stacks.into_iter().map(|stack| page.code(stack));
        let stacks = stacks.collect::<Vec<_>>().join(", ");
        page.item(0, &format!("{stacks}: {note}"));
    }
    page.list_end();
}

fn gaps(page: &mut Page, plan: &Plan) {
    let gaps_of = |stack: &StackPlan| {
        let mut gaps: Vec<Missing> = Vec::new();
        for gap in stack
            .estimates
            .iter()
            .flat_map(|estimate| &estimate.missing)
        {
            if !gaps.contains(gap) {
                gaps.push(gap.clone());
            }
        }
        gaps
    };
    if plan.stacks.iter().all(|stack| gaps_of(stack).is_empty()) {
        return;
    }
    page.heading("What this cannot tell, and what would measure it");
    for stack in &plan.stacks {
        for gap in gaps_of(stack) {
            let name = page.code(stack.stack);
            let command = match &gap.command {
                Some(command) => page.code(command),
                None => "no experiment measures it".to_owned(),
            };
            page.whole_item(&format!("{name}: {} – {command}", gap.what));
        }
    }
    page.item(0, "then name the new run's folder with a further --run");
    page.list_end();
}

fn unused(page: &mut Page, plan: &Plan) {
    let unused = || plan.stacks.iter().flat_map(|stack| &stack.unused);
    if unused().next().is_none() {
        return;
    }
    page.heading("Cells that were not used");
    for cell in unused() {
        let reason = cell.reason.as_deref().unwrap_or("no reason is recorded");
        let id = page.code(&cell.cell_id);
        page.item(
            0,
            &format!("{id}: {}: {reason}", verdict_word(cell.verdict)),
        );
    }
    page.list_end();
}

fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::GeneratorBound => "generator-bound",
        Verdict::Failed => "failed",
        Verdict::Unsupported => "unsupported",
    }
}

/// The validation, in `style`.
pub(crate) fn render_validation(validation: &Validation, style: Style) -> String {
    let mut page = Page::new(style);
    let what = match validation.held_out {
        HeldOut::Users(users) => {
            format!("what was measured with {} users", count(f64::from(users)))
        }
        HeldOut::Largest => "what was measured with the most users".to_owned(),
    };
    page.title(&format!(
        "Prediction of {what} from what was measured with fewer"
    ));
    if page.is_markdown() {
        page.break_line();
    }
    for run in &validation.runs {
        page.paragraph(&format!("Measured by {}", words(run)));
    }
    page.paragraph(
        "Memory is its growth from the fewest users on; of CPU per operation, and of the CPU of users \
         at rest, it is the figure itself.",
    );
    for of_stack in validation.predictions.chunk_by(|a, b| a.stack == b.stack) {
        page.heading(of_stack[0].stack);
        let head = ["", "users", "predicted", "measured", "error"].map(str::to_owned);
        let rows: Vec<Vec<String>> = of_stack
            .iter()
            .map(|one| predicted(&page, one, validation.target_percent))
            .collect();
        page.wide_table(&head, &rows);
    }
    let missed = validation.predictions.iter();
    let missed = missed
        .filter(|one| !one.is_within(validation.target_percent))
        .count();
    page.heading("Verdict");
    page.paragraph(&format!(
        "{} of {} predictions are within {} %",
        validation.predictions.len() - missed,
        validation.predictions.len(),
        validation.target_percent
    ));
    page.finish()
}

fn predicted(page: &Page, one: &Prediction, target_percent: f64) -> Vec<String> {
    let values = [one.predicted.value, one.measured.value];
    let scale = Scale::of_metric(one.unit, values.into_iter());
    let stage = one
        .cell_id
        .split_once('?')
        .map_or("", |(_, distinguishing)| distinguishing);
    let mark = if one.is_within(target_percent) {
        ""
    } else {
        " !"
    };
    vec![
        format!("{} {stage}", page.code(&one.metric)),
        format!("{} → {}", count(one.from_users), count(one.users)),
        scale.quantity(one.predicted),
        scale.quantity(one.measured),
        format!("{:+.1} %{mark}", one.error_percent),
    ]
}
