//! The history as a static site: an overview, and a page for each question with a chart for each metric and a line
//! for each stack. It opens from disk as from a server; every page is whole in itself. Pure.

mod chart;

use std::collections::BTreeMap;

use hopbench::record::metric;
use maud::{Markup, PreEscaped, html};
use ring::digest::{SHA256, digest};

use self::chart::{chart, charts, scale, stack_in};
use super::entry::Entry;
use super::series::{Line, LineChange, differences};
use crate::export::File;
use crate::report::{page, stack_rank};

const SCRIPT: &str = include_str!("../../assets/history.js");
/// Changes that the overview lists of a machine; the pages have all.
const LISTED: usize = 40;

/// Runs of one machine class and one profile, in the order of the axis.
struct Machine<'a> {
    class: &'a str,
    profile: &'a str,
    /// Of file names: the same as long as class and profile are.
    tag: String,
    /// Places among all entries.
    runs: Vec<usize>,
    /// By question.
    questions: BTreeMap<&'a str, Vec<&'a Line>>,
}

/// A change with what belongs to it.
struct Told<'a> {
    line: &'a Line,
    change: &'a LineChange,
    first: &'a Entry,
    before: &'a Entry,
}

/// The files of the site. `lines` are of `entries`.
pub(crate) fn render(title: &str, entries: &[Entry], lines: &[Line]) -> Vec<File> {
    let machines = machines(entries, lines);
    let mut files = vec![File {
        name: "index.html".to_owned(),
        text: overview(title, entries, &machines),
    }];
    for machine in &machines {
        for (question, lines) in &machine.questions {
            files.push(File {
                name: machine.file(question),
                text: question_page(title, entries, &machines, machine, question, lines),
            });
        }
    }
    files
}

fn machines<'a>(entries: &'a [Entry], lines: &'a [Line]) -> Vec<Machine<'a>> {
    let mut machines: BTreeMap<(&str, &str), Machine<'a>> = BTreeMap::new();
    for (run, entry) in entries.iter().enumerate() {
        let (class, profile) = (entry.environment_class.as_str(), entry.profile.as_str());
        let machine = machines.entry((class, profile)).or_insert_with(|| Machine {
            class,
            profile,
            tag: tag(class, profile),
            runs: Vec::new(),
            questions: BTreeMap::new(),
        });
        machine.runs.push(run);
    }
    for line in lines {
        let key = (line.key.class.as_str(), line.key.profile.as_str());
        if let Some(machine) = machines.get_mut(&key) {
            machine
                .questions
                .entry(&line.key.question)
                .or_default()
                .push(line);
        }
    }
    // The machine that measures most is what most come for.
    let mut machines: Vec<Machine<'a>> = machines.into_values().collect();
    machines.sort_by_key(|machine| std::cmp::Reverse(machine.runs.len()));
    machines
}

fn tag(class: &str, profile: &str) -> String {
    let hash = digest(&SHA256, format!("{profile}\n{class}").as_bytes());
    hash.as_ref()[..4]
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect()
}

impl<'a> Machine<'a> {
    fn file(&self, question: &str) -> String {
        format!("{}-{}.html", self.tag, crate::export::file_stem(question))
    }

    fn name(&self) -> String {
        format!("{}, profile {}", self.class, self.profile)
    }

    fn runs_of<'e>(&self, entries: &'e [Entry]) -> Vec<&'e Entry> {
        self.runs.iter().map(|run| &entries[*run]).collect()
    }
}

/// Newest first, and the largest of one run.
fn told<'a>(entries: &'a [Entry], lines: &[&'a Line]) -> Vec<Told<'a>> {
    let of_line = |line: &&'a Line| {
        let line: &'a Line = line;
        line.changes.iter().map(move |change| Told {
            line,
            change,
            first: &entries[line.points[change.at].run],
            before: &entries[line.points[change.at - 1].run],
        })
    };
    let mut told: Vec<Told<'a>> = lines.iter().flat_map(of_line).collect();
    let size = |told: &Told<'_>| told.change.relative().abs();
    told.sort_by(|a, b| {
        b.first
            .place()
            .cmp(&a.first.place())
            .then(size(b).total_cmp(&size(a)))
    });
    told
}

fn overview(title: &str, entries: &[Entry], machines: &[Machine<'_>]) -> String {
    let body = html! {
        header {
            h1 { (title) }
            p class="lede" { (span(&entries.iter().collect::<Vec<_>>())) }
            @if machines.len() > 1 {
                p hidden {
                    label for="machines" { "Machine and profile: " }
                    select id="machines" {
                        option value="" { "all" }
                        @for machine in machines { option value=(machine.tag) { (machine.name()) } }
                    }
                }
            }
        }
        main id="main" {
            @for machine in machines {
                section data-machine=(machine.tag) aria-labelledby=(machine.tag) { (machine_section(entries, machine)) }
            }
            section aria-labelledby="how" { (how()) }
        }
        (footer())
        (script())
    };
    page::document(title, &[], &body)
}

fn machine_section(entries: &[Entry], machine: &Machine<'_>) -> Markup {
    let lines: Vec<&Line> = machine.questions.values().flatten().copied().collect();
    let changes = told(entries, &lines);
    html! {
        h2 id=(machine.tag) { (machine.class) ", profile " (machine.profile) }
        p class="meta" { (span(&machine.runs_of(entries))) " " (lines.len()) " lines." }
        h3 { "Where a level changed" }
        (change_list(&changes, Some(machine)))
        h3 { "Charts" }
        ul {
            @for (question, lines) in &machine.questions {
                @let count: usize = lines.iter().map(|line| line.changes.len()).sum();
                li {
                    a href=(machine.file(question)) { (question) }
                    @if count > 0 { ": " (count) @if count == 1 { " change" } @else { " changes" } }
                }
            }
        }
    }
}

fn span(entries: &[&Entry]) -> String {
    match entries {
        [] => "No runs yet: hopbench history add keeps one.".to_owned(),
        [only] => format!(
            "One run, of commit {} ({}).",
            only.commit.short(),
            only.place().0
        ),
        [first, .., last] => format!(
            "{} runs, from commit {} ({}) to {} ({}).",
            entries.len(),
            first.commit.short(),
            first.place().0,
            last.commit.short(),
            last.place().0
        ),
    }
}

/// In a table, with links to the pages of `machine` where there is one.
fn change_list(changes: &[Told<'_>], machine: Option<&Machine<'_>>) -> Markup {
    if changes.is_empty() {
        return html! { p { "Nowhere that could be told from chance." } };
    }
    html! {
        div class="scroll" tabindex="0" role="region" aria-label="Changes of level" {
            table {
                thead { tr {
                    th scope="col" { "since" } th scope="col" { "change" } th scope="col" { "from → to" }
                    th scope="col" { "figure" } th scope="col" { "stack" }
                    @if machine.is_some() { th scope="col" { "question" } }
                    th scope="col" { "what else differs" }
                } }
                tbody { @for told in changes.iter().take(LISTED) { (change_row(told, machine)) } }
            }
        }
        @if changes.len() > LISTED { p class="note" { "And " (changes.len() - LISTED) " more: see the charts." } }
    }
}

fn change_row(told: &Told<'_>, machine: Option<&Machine<'_>>) -> Markup {
    let Told {
        line,
        change,
        first,
        before,
    } = told;
    let scale = scale(
        line.unit.as_str(),
        [change.change.before, change.change.after].into_iter(),
    );
    html! {
        tr {
            th scope="row" { (commit(first)) br; small { (first.place().0) } }
            td class="number" {
                (arrow(change)) " " (percent(change))
                br; span class=(if change.is_worse { "verdict failed" } else { "verdict better" }) {
                    (if change.is_worse { "worse" } else { "better" })
                }
            }
            td class="number" { (scale.number(change.change.before)) " → " (scale.quantity(change.change.after)) }
            td { (title_of(&line.key.metric, line.key.is_ratio)) br; code { (line.key.metric) } }
            td { code { (line.key.stack) } }
            @if let Some(machine) = machine {
                td { a href=(format!("{}#{}", machine.file(&line.key.question), anchor(line))) { (line.key.question) } }
            }
            td { (differences(before, first).join(", ")) }
        }
    }
}

fn commit(entry: &Entry) -> Markup {
    let short = entry.commit.short();
    let subject = entry.commit.subject.as_deref().unwrap_or_default();
    // A link is only followed where it leads to a page.
    let url = entry
        .commit
        .url
        .as_deref()
        .filter(|url| url.starts_with("https://") || url.starts_with("http://"));
    html! {
        @if let Some(url) = url { a href=(url) { code { (short) } } } @else { code { (short) } }
        " " (subject)
    }
}

fn arrow(change: &LineChange) -> &'static str {
    if change.change.after > change.change.before {
        "▲"
    } else {
        "▼"
    }
}

fn percent(change: &LineChange) -> String {
    let relative = 100.0 * change.relative();
    if relative.is_finite() {
        format!("{relative:+.1} %")
    } else {
        "from nothing".to_owned()
    }
}

fn question_page(
    title: &str,
    entries: &[Entry],
    machines: &[Machine<'_>],
    machine: &Machine<'_>,
    question: &str,
    lines: &[&Line],
) -> String {
    let mut stacks: Vec<&str> = lines.iter().map(|line| stack_in(&line.key.stack)).collect();
    stacks.sort_by_key(|stack| (stack_rank(stack), *stack));
    stacks.dedup();
    let runs = machine.runs_of(entries);
    let elsewhere = machines
        .iter()
        .filter(|other| other.tag != machine.tag && other.questions.contains_key(question));
    let elsewhere: Vec<&Machine<'_>> = elsewhere.collect();
    let body = html! {
        header {
            nav aria-label="Site" { ul { li { a href="index.html" { "All questions" } }
                @for other in &elsewhere { li { a href=(other.file(question)) { "The same on " (other.name()) } } }
            } }
            h1 { (question) }
            p class="meta" { (machine.name()) ". " (span(&runs)) }
        }
        main id="main" {
            @if stacks.len() > 1 { (page::switch(&stacks)) }
            section aria-labelledby="changes" {
                h2 id="changes" { "Where a level changed" }
                (change_list(&told(entries, lines), None))
            }
            @for (is_ratio, id, heading) in [(false, "figures", "Figures"), (true, "ratios", "Ratios to controls of the same run")] {
                @let charts = charts(lines, is_ratio);
                @if !charts.is_empty() {
                    section aria-labelledby=(id) {
                        h2 id=(id) { (heading) }
                        @for lines in &charts { (chart(entries, machine, lines, &stacks)) }
                    }
                }
            }
        }
        (footer())
        (script())
    };
    page::document(&format!("{question} · {title}"), &stacks, &body)
}

fn title_of(key: &str, is_ratio: bool) -> String {
    let title = metric::known(key).map_or(key, |known| known.title);
    if is_ratio {
        format!("{title} ÷ control")
    } else {
        title.to_owned()
    }
}

/// Where the chart of a line stands on its page.
fn anchor(line: &Line) -> String {
    let kind = if line.key.is_ratio { "ratio-" } else { "" };
    format!("{kind}{}", crate::export::file_stem(&line.key.metric))
}

fn how() -> Markup {
    html! {
        h2 id="how" { "How to read it" }
        p { "A point is a run, placed by the time of its commit; a band is the 95 % interval that the run itself gives. Runs "
            "of different machines or profiles are never joined into one line. Cells that were generator-bound or "
            "failed have no point. " strong { "Ratios" } " are formed within one run and survive a machine that is slow for a "
            "while; absolute times do not." }
        p { "A change is a new level that three runs at least have. It is told where the same points in random order would "
            "seldom be as clear; among all that is told, chance makes about one in twenty. Single outliers and slow "
            "drift are none." }
    }
}

fn footer() -> Markup {
    html! { footer { p { "Rendered by " code { "hopbench history render" } ": the same store gives the same bytes." } } }
}

fn script() -> Markup {
    html! { script { (PreEscaped(SCRIPT)) } }
}
