//! The comparison that a run holds, derived once for every renderer: a block of rows for each
//! question, and the prices, which are ratios between stacks. Beneath the renderers.
//!
//! It selects and arranges; it computes no statistics, so that a ratio without a record in the run
//! is missing, not made up.

use std::cmp::Reverse;
use std::collections::BTreeSet;
use std::fmt::Write;

use hopbench::record::{Cell, Metric, Ratio, Run, Unit, Verdict};

use super::question::{Column, Question, Statistic, operation};
use super::scale;
use super::units::Scale;

/// Order of the rows: that of the registry of stacks. Stacks that are not named here follow in
/// the order of the run.
pub(super) const STACK_ORDER: [&str; 9] = [
    "udp",
    "tcp",
    "tls",
    "mtls",
    "udp@clear",
    "udp@wireguard",
    "tcp@clear",
    "tcp@wireguard",
    "tls@wireguard",
];

/// Figures from here on say less than their digits.
const LEGIBLE_MAX: f64 = 100_000.0;

/// What is compared in a run.
pub(super) struct Summary<'a> {
    /// One for each question × workload × topology × lifecycle × path that was measured.
    pub(super) blocks: Vec<Block<'a>>,
    /// Grouped by what they are the price of.
    pub(super) prices: Vec<Price<'a>>,
    /// What else is told of crowds of users, without prices.
    pub(super) crowds: Vec<Block<'a>>,
}

/// One question's rows, a stack each.
pub(super) struct Block<'a> {
    pub(super) question: Question,
    pub(super) workload: &'a str,
    pub(super) lifecycle: &'a str,
    /// Topology and setting where they are not the usual: `trapezoid · core_stack=mtls`.
    pub(super) qualifier: String,
    /// `Set-up · register · per-registration`.
    pub(super) title: String,
    /// What the headline is, short enough for a table: `CPU/call`, with the lifecycle where the run
    /// has several.
    pub(super) headline_name: String,
    /// What the reader must know of all rows: the rate that they were measured at.
    pub(super) note: Option<String>,
    pub(super) columns: &'static [Column],
    pub(super) rows: Vec<Row<'a>>,
    /// Stacks that were run in another way than their row: shown in tables only.
    pub(super) variants: Vec<Row<'a>>,
}

/// A stack's figures, one for each column.
pub(super) struct Row<'a> {
    pub(super) stack: &'a str,
    /// How it differs from the stack's usual way: `resumption=ticket`; of a crowd, its users. Empty if
    /// it does not.
    pub(super) variant: String,
    /// Of the worst cell.
    pub(super) verdict: Verdict,
    /// Null where the stack has no such phase or the cell was not measured.
    pub(super) figures: Vec<Option<f64>>,
    /// One for each stage in `memory`, one elsewhere.
    pub(super) cells: Vec<&'a Cell>,
}

/// The parameter that tells crowds of one stack apart.
const USERS: &str = "users";

/// The one that tells narrow hops apart, of their experiment alone, and what goes with it.
const HOP_RATE: &str = "link_rate_bits_per_second";
const HOP_QUEUE: &str = "link_queue_bytes";

/// What one stack costs over another, for the headline of each block.
pub(super) struct Price<'a> {
    pub(super) kind: PriceKind,
    pub(super) stack: &'a str,
    pub(super) control: &'a str,
    /// In the order of [`Summary::blocks`].
    pub(super) ratios: Vec<Option<&'a Ratio>>,
}

/// What separates a stack from its control.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PriceKind {
    /// The same plumbing, without and with cryptography.
    Protection,
    /// The same carrier over kernel sockets, and over a tunnel without cryptography.
    Tunnelling,
    /// Both at once.
    TunnellingAndProtection,
    /// IPsec, and the WireGuard tunnel that stands in for it.
    Ipsec,
    /// A WireGuard tunnel of others, and our own.
    OtherWireguard,
    /// Neither: another carrier, unprotected as its control.
    Carrier,
}

impl PriceKind {
    fn between(stack: &str, control: &str) -> Self {
        let plain = |stack: &str| matches!(stack, "udp" | "tcp");
        match (stack.split_once('@'), control.split_once('@')) {
            (Some((_, tunnel)), Some((_, "wireguard"))) if tunnel.starts_with("strongswan") => {
                Self::Ipsec
            }
            (Some((_, "wireguard-go" | "wireguard-kernel")), Some((_, "wireguard"))) => {
                Self::OtherWireguard
            }
            (Some((_, "clear")), None) => Self::Tunnelling,
            (Some(_), None) => Self::TunnellingAndProtection,
            (Some(_) | None, Some(_)) => Self::Protection,
            (None, None) if plain(stack) && plain(control) => Self::Carrier,
            (None, None) => Self::Protection,
        }
    }

    /// What it is the price of.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Protection => "protection",
            Self::Tunnelling => "tunnelling",
            Self::TunnellingAndProtection => "tunnelling and protection",
            Self::Ipsec => "IPsec instead of its stand-in",
            Self::OtherWireguard => "another WireGuard",
            Self::Carrier => "another carrier",
        }
    }
}

impl<'a> Summary<'a> {
    /// Reads the comparison from `run`.
    pub(super) fn of(run: &'a Run) -> Self {
        let blocks = blocks(run);
        let prices = prices(run, &blocks);
        let crowds = scale::crowds(run, &blocks);
        Self {
            blocks,
            prices,
            crowds,
        }
    }
}

impl Summary<'_> {
    /// Whether anything has a price in the block of this place: columns and rows of dashes tell nothing.
    pub(super) fn is_priced(&self, block: usize) -> bool {
        self.prices
            .iter()
            .any(|price| price.ratios[block].is_some())
    }
}

impl<'a> Block<'a> {
    /// The metric `key` of `stack`, at `stage` where the question has stages, and the cell's verdict.
    pub(super) fn metric(&self, stack: &str, key: &str, stage: Option<&str>) -> Option<&'a Metric> {
        self.row(stack)?.cell(stage)?.metrics.get(key)
    }

    /// The unit that `column` is written in: one for the whole block, so that columns compare as
    /// well, unless figures are too far apart for one.
    pub(super) fn scale(&self, column: &Column) -> Scale {
        let figures_of = |wanted: &Column| -> Vec<f64> {
            let places = self.columns.iter().enumerate();
            let same = places.filter(|(_, other)| std::ptr::eq(*other, wanted));
            same.flat_map(|(place, _)| self.all_rows().filter_map(move |row| row.figures[place]))
                .collect()
        };
        let columns = self.columns.iter();
        let alike: Vec<f64> = columns
            .filter(|other| other.unit == column.unit)
            .flat_map(figures_of)
            .collect();
        let shared = Scale::fitting(column.unit, alike.iter().copied());
        if alike
            .iter()
            .all(|value| shared.convert(*value) < LEGIBLE_MAX)
        {
            shared
        } else {
            Scale::fitting(column.unit, figures_of(column))
        }
    }

    /// The rows of a table: each stack, and after it its variants.
    pub(super) fn all_rows(&self) -> impl Iterator<Item = &Row<'a>> {
        let variants_of = |row: &Row<'a>| {
            let stack = row.stack;
            self.variants
                .iter()
                .filter(move |variant| variant.stack == stack)
        };
        let rows = self.rows.iter();
        rows.flat_map(move |row| std::iter::once(row).chain(variants_of(row)))
    }

    /// The row of `stack`.
    pub(super) fn row(&self, stack: &str) -> Option<&Row<'a>> {
        self.rows.iter().find(|row| row.stack == stack)
    }

    /// The headline figure of `stack`, in the metric's unit.
    pub(super) fn headline(&self, stack: &str) -> Option<(Unit, f64)> {
        let key = self.question.headline(self.workload);
        let metric = self.metric(stack, key, self.question.headline_stage())?;
        Some((metric.unit, metric.value?))
    }
}

impl<'a> Row<'a> {
    /// What a table calls it: `tls`, or `tls, resumption=ticket`, or of a crowd `tls, 100000`.
    pub(super) fn name(&self) -> String {
        match self.variant.as_str() {
            "" => self.stack.to_owned(),
            variant => format!("{}, {variant}", self.stack),
        }
    }

    /// Users of its crowd; null where there is none.
    pub(super) fn users(&self) -> Option<u64> {
        users(self.cells.first()?)
    }

    /// Rate of its narrow hop, with the unit; null where there is none.
    pub(super) fn hop(&self) -> Option<String> {
        hop_rate(self.cells.first()?).map(bits_per_second)
    }

    /// The same cells, with the figures of other `columns`.
    pub(super) fn with_columns(&self, columns: &[Column]) -> Self {
        row(
            self.stack,
            self.variant.clone(),
            columns,
            self.cells.clone(),
        )
    }

    /// The cell at `stage`; the only one when no stage is asked for.
    pub(super) fn cell(&self, stage: Option<&str>) -> Option<&'a Cell> {
        let at_stage = |cell: &&&Cell| stage.is_none() || parameter(cell, "stage") == stage;
        self.cells.iter().find(at_stage).copied()
    }
}

/// As serialised.
pub(crate) fn verdict_word(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Ok => "ok",
        Verdict::GeneratorBound => "generator-bound",
        Verdict::Failed => "failed",
        Verdict::Unsupported => "unsupported",
    }
}

/// Whether its carrier protects itself, within a tunnel or not.
fn speaks_tls(stack: &str) -> bool {
    let carrier = stack.split_once('@').map_or(stack, |(carrier, _)| carrier);
    matches!(carrier, "tls" | "mtls")
}

/// The security handshake is that of TLS, or else the tunnel's: of each its own.
pub(super) fn tls_handshake_ns(cell: &Cell) -> Option<f64> {
    let security = cell.metrics.get("security_handshake_ns")?;
    security.value.filter(|_| speaks_tls(&cell.stack))
}

/// See [`tls_handshake_ns`].
pub(super) fn tunnel_handshake_ns(cell: &Cell) -> Option<f64> {
    let key = if speaks_tls(&cell.stack) {
        "tunnel_handshake_ns"
    } else {
        "security_handshake_ns"
    };
    cell.metrics.get(key)?.value
}

/// Place of `stack` in the order of rows; those that are not known come last.
pub(crate) fn stack_rank(stack: &str) -> usize {
    STACK_ORDER
        .iter()
        .position(|known| *known == stack)
        .unwrap_or(STACK_ORDER.len())
}

/// Sorts names by the numbers in them: `rate=500.0` before `rate=1500.0`.
pub(super) fn by_numbers(name: &str) -> String {
    let parts = name.split_inclusive(|byte: char| !byte.is_ascii_digit());
    parts.map(|part| format!("{part:0>20}")).collect()
}

fn blocks(run: &Run) -> Vec<Block<'_>> {
    let mut blocks = Vec::new();
    for question in Question::ALL {
        let of_question = |cell: &&Cell| question.is_asked_by(cell);
        let mut places: Vec<Place<'_>> = Vec::new();
        for cell in run.cells.iter().filter(of_question) {
            let place = Place::of(cell);
            if !places.contains(&place) {
                places.push(place);
            }
        }
        // Registrations before calls: the order in which a user meets them. The run's own order is
        // that of finishing, which a seed shuffles.
        places.sort_by_key(|place| (place.workload != "register", place.clone()));
        for place in &places {
            let cells = run.cells.iter().filter(of_question);
            let cells: Vec<&Cell> = cells.filter(|cell| Place::of(cell) == *place).collect();
            let mut block = block(question, place, cells);
            let alike = places
                .iter()
                .filter(|other| other.workload == place.workload);
            let alike: Vec<&Place<'_>> = alike.collect();
            let mut told: Vec<&str> = Vec::new();
            if alike.iter().any(|other| other.lifecycle != place.lifecycle) {
                told.push(place.lifecycle);
            }
            if alike
                .iter()
                .any(|other| other.qualifier() != block.qualifier)
            {
                told.push(&block.qualifier);
            }
            told.retain(|part| !part.is_empty());
            if !told.is_empty() {
                let _ = write!(block.headline_name, " ({})", told.join(", "));
            }
            blocks.push(block);
        }
    }
    blocks
}

/// What the cells of a block have in common.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Place<'a> {
    workload: &'a str,
    lifecycle: &'a str,
    topology: &'a str,
    path: &'a str,
    /// What distinguishes it beyond these and beyond what rows and columns tell.
    setting: Vec<&'a str>,
}

/// Parameters that tell the cells of one block apart.
const WITHIN_A_BLOCK: [&str; 2] = ["stage", "rate"];

/// Parameters that tell variants of one stack apart.
const OF_A_VARIANT: [&str; 17] = [
    USERS,
    "tls_version",
    "key_type",
    "resumption",
    "crypto_provider",
    "key_exchange_group",
    "batching",
    "mtu_bytes",
    "tcp_buffer_bytes",
    "handshakes_per_second_limit",
    "keep_alive_seconds",
    "tls_buffer_limit_bytes",
    "tls_max_fragment_bytes",
    "session_tickets_count",
    "session_cache_count",
    "socket_send_buffer_bytes",
    "socket_receive_buffer_bytes",
];

impl<'a> Place<'a> {
    fn of(cell: &'a Cell) -> Self {
        let is_within = |key: &str| WITHIN_A_BLOCK.contains(&key) || is_of_a_variant(cell, key);
        let setting = distinguishing(cell).filter(|(key, _)| !is_within(key));
        Self {
            workload: &cell.workload,
            lifecycle: &cell.lifecycle,
            topology: &cell.topology,
            path: &cell.path,
            setting: setting.map(|(_, pair)| pair).collect(),
        }
    }

    fn qualifier(&self) -> String {
        let topology =
            Some(self.topology).filter(|name| !["direct", "chain", "round-trips"].contains(name));
        let parts = topology.into_iter().chain(self.setting.iter().copied());
        parts.collect::<Vec<_>>().join(" · ")
    }
}

fn variant_of(cell: &Cell) -> String {
    let pairs = distinguishing(cell).filter(|(key, _)| is_of_a_variant(cell, key));
    let told = pairs.filter_map(|(key, pair)| match key {
        // The heading says what these are.
        USERS => pair.split_once('=').map(|(_, users)| users.to_owned()),
        HOP_RATE => hop_rate(cell).map(bits_per_second),
        // It follows from the rate.
        HOP_QUEUE => None,
        _ => Some(pair.to_owned()),
    });
    told.collect::<Vec<_>>().join(", ")
}

/// Whether a parameter tells rows of one stack apart.
fn is_of_a_variant(cell: &Cell, key: &str) -> bool {
    let is_of_hop = matches!(key, HOP_RATE | HOP_QUEUE);
    OF_A_VARIANT.contains(&key) || (is_of_hop && hop_rate(cell).is_some())
}

/// Of the hop that a cell of the experiment `rate` is about, in bits a second.
pub(super) fn hop_rate(cell: &Cell) -> Option<u64> {
    let is_asked = cell.experiment == Question::Rate.experiment();
    parameter(cell, HOP_RATE).filter(|_| is_asked)?.parse().ok()
}

/// `64 kbit/s`, `2 Mbit/s`.
pub(super) fn bits_per_second(rate: u64) -> String {
    if rate >= 1_000_000 {
        format!("{} Mbit/s", rate as f64 / 1e6)
    } else {
        format!("{} kbit/s", rate as f64 / 1e3)
    }
}

/// Where a row of a stack stands: of crowds the largest first, of hops the narrowest.
fn place_of_row(cell: &Cell) -> (Reverse<Option<u64>>, Option<u64>) {
    (Reverse(users(cell)), hop_rate(cell))
}

fn block<'a>(question: Question, place: &Place<'a>, cells: Vec<&'a Cell>) -> Block<'a> {
    let Place {
        workload,
        lifecycle,
        topology,
        path,
        ..
    } = *place;
    let columns = question.columns(workload);
    let mut names: Vec<(&str, _, String)> = Vec::new();
    for cell in &cells {
        let name = (cell.stack.as_str(), place_of_row(cell), variant_of(cell));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    // The largest crowd is what a stack is asked about; smaller ones show what it grew from. So is the narrowest hop.
    names.sort_by_key(|(stack, place, variant)| (stack_rank(stack), *place, variant.clone()));
    let names = names.into_iter();
    let names: Vec<(&str, String)> = names.map(|(stack, _, variant)| (stack, variant)).collect();
    let mut stacks: Vec<&str> = names.iter().map(|(stack, _)| *stack).collect();
    stacks.dedup();
    let rate = common_rate(&stacks, &cells);
    let rows = names.into_iter().map(|(stack, variant)| {
        let is_of_row = |cell: &&&Cell| {
            cell.stack == stack
                && variant_of(cell) == variant
                && (rate.is_none() || rate_of(cell) == rate)
        };
        let cells = cells.iter().filter(is_of_row).copied().collect();
        row(stack, variant.clone(), columns, cells)
    });
    let mut variants: Vec<Row<'_>> = rows.collect();
    // A stack that was run in one way only has that as its row; names are in order of variants, the
    // usual one first.
    let rows = stacks.iter().map(|stack| {
        let first = variants.iter().position(|row| row.stack == *stack);
        variants.remove(first.expect("each stack has a row"))
    });
    let rows: Vec<Row<'_>> = rows.collect();
    let mut title = format!(
        "{} · {workload} · {lifecycle} · {topology} · {path}",
        question.title()
    );
    for pair in &place.setting {
        let _ = write!(title, " · {pair}");
    }
    Block {
        question,
        workload,
        lifecycle,
        qualifier: place.qualifier(),
        title,
        note: rate.map(|rate| {
            format!(
                "offered {rate} {}s a second, the highest rate common to all stacks",
                operation(workload)
            )
        }),
        headline_name: question.headline_name(workload),
        columns,
        rows,
        variants,
    }
}

/// The figures of `cells` for `columns`.
pub(super) fn row<'a>(
    stack: &'a str,
    variant: String,
    columns: &[Column],
    cells: Vec<&'a Cell>,
) -> Row<'a> {
    let severity = |verdict: &Verdict| match verdict {
        Verdict::Ok => 0,
        Verdict::GeneratorBound => 1,
        Verdict::Unsupported => 2,
        Verdict::Failed => 3,
    };
    let verdict = cells
        .iter()
        .map(|cell| cell.verdict)
        .max_by_key(severity)
        .unwrap_or(Verdict::Unsupported);
    let mut row = Row {
        stack,
        variant,
        verdict,
        figures: Vec::new(),
        cells,
    };
    row.figures = columns.iter().map(|column| figure(&row, column)).collect();
    row
}

fn figure(row: &Row<'_>, column: &Column) -> Option<f64> {
    let cell = row.cell(column.stage)?;
    let metric = cell.metrics.get(column.metric)?;
    match column.statistic {
        Statistic::Value => metric.value,
        Statistic::OfTunnel => tunnel_handshake_ns(cell),
        Statistic::OfTls => tls_handshake_ns(cell),
        Statistic::Low => metric.ci95_low,
        Statistic::High => metric.ci95_high,
        Statistic::P99 => metric
            .histogram
            .as_ref()
            .map(|histogram| histogram.p99 as f64),
    }
}

/// The highest rate at which every stack has a cell; null when the cells have no rate or none in
/// common, and then all of a stack's cells stand in its row, the first one first.
fn common_rate(stacks: &[&str], cells: &[&Cell]) -> Option<u64> {
    let rates_of = |stack: &str| -> BTreeSet<u64> {
        cells
            .iter()
            .filter(|cell| cell.stack == stack)
            .filter_map(|cell| rate_of(cell))
            .collect()
    };
    let (first, others) = stacks.split_first()?;
    let shared = |rates: BTreeSet<u64>, stack: &&str| &rates & &rates_of(stack);
    others.iter().fold(rates_of(first), shared).pop_last()
}

fn rate_of(cell: &Cell) -> Option<u64> {
    parameter(cell, "rate")?
        .parse::<f64>()
        .ok()
        .map(|rate| rate.round() as u64)
}

/// A parameter that distinguishes the cell, from its id.
fn parameter<'a>(cell: &'a Cell, key: &str) -> Option<&'a str> {
    let (_, pair) = distinguishing(cell).find(|(known, _)| *known == key)?;
    pair.split_once('=').map(|(_, value)| value)
}

/// Users of the crowd that a cell is about.
pub(super) fn users(cell: &Cell) -> Option<u64> {
    parameter(cell, USERS)?.parse().ok()
}

/// Key and whole pair of each parameter that distinguishes the cell, from its id.
fn distinguishing(cell: &Cell) -> impl Iterator<Item = (&str, &str)> {
    let query = cell.id.split_once('?').map_or("", |(_, query)| query);
    let pairs = query.split('&').filter(|pair| !pair.is_empty());
    pairs.filter_map(|pair| Some((pair.split_once('=')?.0, pair)))
}

fn prices<'a>(run: &'a Run, blocks: &[Block<'a>]) -> Vec<Price<'a>> {
    let mut prices: Vec<Price<'a>> = Vec::new();
    for (index, block) in blocks.iter().enumerate() {
        for ratio in run
            .ratios
            .iter()
            .filter(|ratio| ratio.metric == block.question.headline(block.workload))
        {
            let Some((stack, control)) = pair(block, ratio) else {
                continue;
            };
            let known = prices
                .iter()
                .position(|p| p.stack == stack && p.control == control);
            let position = known.unwrap_or_else(|| {
                let kind = PriceKind::between(stack, control);
                prices.push(Price {
                    kind,
                    stack,
                    control,
                    ratios: vec![None; blocks.len()],
                });
                prices.len() - 1
            });
            prices[position].ratios[index] = Some(ratio);
        }
    }
    prices.sort_by_key(|price| {
        (
            price.kind,
            stack_rank(price.stack),
            stack_rank(price.control),
        )
    });
    prices
}

/// The stacks above and below the line, when `ratio` is between headline cells of `block`.
fn pair<'a>(block: &Block<'a>, ratio: &Ratio) -> Option<(&'a str, &'a str)> {
    let stage = block.question.headline_stage();
    let stack_of = |id: &str| {
        block
            .rows
            .iter()
            .find(|row| row.cell(stage).is_some_and(|cell| cell.id == id))
            .map(|row| row.stack)
    };
    Some((stack_of(&ratio.cell_id)?, stack_of(&ratio.control_cell_id)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::fixture;

    #[test]
    fn names_are_sorted_by_the_numbers_in_them() {
        let sorted = [
            "tcp?rate=150.0",
            "tcp?rate=500.0",
            "tcp?rate=1500.0",
            "tcp?rate=1500.5",
            "tls?rate=2.0",
        ];
        assert!(sorted.is_sorted_by_key(|name| by_numbers(name)));
    }

    #[test]
    fn rows_are_in_the_order_of_the_registry_whatever_the_order_of_the_run() {
        let mut run = fixture::run();
        run.cells.reverse();
        for block in Summary::of(&run).blocks {
            let stacks: Vec<&str> = block.rows.iter().map(|row| row.stack).collect();
            assert_eq!(stacks, STACK_ORDER, "{}", block.title);
        }
    }

    #[test]
    fn tunnelling_and_protection_are_told_apart() {
        use PriceKind::{
            Carrier, Ipsec, OtherWireguard, Protection, Tunnelling, TunnellingAndProtection,
        };
        let table = [
            ("tls", "tcp", Protection),
            ("udp@wireguard", "udp@clear", Protection),
            ("udp", "tcp", Carrier),
            ("udp@clear", "udp", Tunnelling),
            ("udp@wireguard", "udp", TunnellingAndProtection),
            ("tls@wireguard", "tcp@clear", Protection),
            ("tls@wireguard", "tls", TunnellingAndProtection),
            ("tcp@strongswan", "tcp", TunnellingAndProtection),
            ("tcp@strongswan", "tcp@wireguard", Ipsec),
            ("tcp@wireguard-go", "tcp@wireguard", OtherWireguard),
            ("tls@strongswan-kernel", "tls@wireguard", Ipsec),
            ("tcp@strongswan-kernel-psk", "tcp@wireguard", Ipsec),
            ("udp@wireguard-kernel", "udp@wireguard", OtherWireguard),
        ];
        for (stack, control, kind) in table {
            assert_eq!(
                PriceKind::between(stack, control),
                kind,
                "{stack} over {control}"
            );
        }
    }

    #[test]
    fn the_highest_common_rate_is_shown() {
        let mut run = fixture::run();
        let tls = run
            .cells
            .iter()
            .find(|c| c.experiment == "throughput" && c.stack == "tls");
        let mut faster = tls.expect("the fixture has it").clone();
        faster.id = faster.id.replace("rate=250", "rate=900");
        run.cells.push(faster);
        let summary = Summary::of(&run);
        let block = &summary.blocks[2];
        assert!(
            block
                .note
                .as_deref()
                .is_some_and(|note| note.starts_with("offered 250 "))
        );
        assert!(
            block
                .rows
                .iter()
                .flat_map(|row| &row.cells)
                .all(|c| c.id.ends_with("rate=250"))
        );
    }

    #[test]
    fn a_missing_phase_is_missing_and_a_verdict_is_kept() {
        let run = fixture::run();
        let summary = Summary::of(&run);
        let setup = &summary.blocks[0];
        let udp = setup.row("udp").expect("udp is in the fixture");
        assert_eq!(udp.figures[0], None);
        assert_eq!(
            setup.row("mtls").map(|row| row.verdict),
            Some(Verdict::Failed)
        );
    }
}
