//! The answer in words: what each stack costs over its control. For [`super::markdown`] and
//! [`super::html`]; the words are Markdown.

use std::fmt::Write;

use hopbench::record::Ratio;

use super::question::{Question, operation};
use super::summary::{Block, Price, PriceKind, Row, Summary};
use super::units::{self, Scale};

/// The prices that the question is about. How unprotected carriers compare is not; the table of prices has
/// it.
pub(super) fn asked<'s, 'a>(summary: &'s Summary<'a>) -> impl Iterator<Item = &'s Price<'a>> {
    let prices = summary.prices.iter();
    prices.filter(|price| price.kind != PriceKind::Carrier)
}

/// One sentence, made of those parts of a price that were measured.
pub(super) fn sentence(summary: &Summary<'_>, price: &Price<'_>) -> String {
    let clauses: Vec<String> = summary
        .blocks
        .iter()
        .zip(&price.ratios)
        .filter_map(|(block, ratio)| Some(clause(block, price, (*ratio)?)))
        .collect();
    format!(
        "**{}** against {} ({}): {}.",
        described(price.stack),
        described(price.control),
        price.kind.name(),
        listed(&clauses),
    )
}

/// The same in short: of each question the first figure, without what the ratios are formed of.
pub(super) fn headline(summary: &Summary<'_>, price: &Price<'_>) -> String {
    let mut told: Vec<Question> = Vec::new();
    let mut clauses: Vec<String> = Vec::new();
    for (block, ratio) in summary.blocks.iter().zip(&price.ratios) {
        if let Some(ratio) = ratio
            && !told.contains(&block.question)
        {
            told.push(block.question);
            clauses.push(format!("{} {}", units::ratio(ratio), of_what(block, price)));
        }
    }
    format!(
        "Against {}, **{}** takes {}.",
        described(price.control),
        described(price.stack),
        listed(&clauses)
    )
}

/// `4.10× [3.90, 4.40] the time until the user is registered (1.90 ms against 0.460 ms)`.
fn clause(block: &Block<'_>, price: &Price<'_>, ratio: &Ratio) -> String {
    let mut text = format!("{} {}", units::ratio(ratio), of_what(block, price));
    if let (Some((unit, above)), Some((_, below))) =
        (block.headline(price.stack), block.headline(price.control))
    {
        let scale = Scale::fitting(unit, [above, below]);
        let _ = write!(
            text,
            " ({} against {})",
            scale.quantity(above),
            scale.quantity(below)
        );
    }
    text
}

/// What a ratio is of.
fn of_what(block: &Block<'_>, price: &Price<'_>) -> String {
    match block.question {
        Question::Setup => "the time until the user is registered".to_owned(),
        Question::Memory => "the server's heap per connection".to_owned(),
        Question::Throughput => {
            format!(
                "the server's CPU time per {}",
                block.headline_name.trim_start_matches("CPU/")
            )
        }
        Question::Chain => "the CPU time that each further hop adds to a call".to_owned(),
        Question::Link => format!(
            "the number of {}",
            block.headline_name.replace('/', " per ")
        ),
        Question::Rate => {
            let hop = block.row(price.stack).and_then(Row::hop);
            let hop = hop.map_or("a narrow hop".to_owned(), |rate| format!("a hop of {rate}"));
            let operation = operation(block.workload);
            format!("the highest {operation} rate through {hop}")
        }
        Question::Scale => {
            let row = block.row(price.stack);
            let crowd = row.and_then(Row::users);
            let crowd = crowd.map_or("a crowd".to_owned(), |users| format!("{users} idle users"));
            format!("the server's CPU time per call beside {crowd}")
        }
        Question::Search | Question::Knee => format!("the {}", block.headline_name),
    }
}

fn described(stack: &str) -> String {
    let (carrier, tunnel) = match stack.split_once('@') {
        Some((carrier, tunnel)) => (carrier, Some(tunnel)),
        None => (stack, None),
    };
    let name = match carrier {
        "tls" => "TLS".to_owned(),
        "mtls" => "mutual TLS".to_owned(),
        "udp" | "tcp" => carrier.to_uppercase(),
        other => format!("`{other}`"),
    };
    match tunnel {
        None if matches!(carrier, "udp" | "tcp") => format!("plain {name}"),
        None => name,
        Some("clear") => format!("{name} in a tunnel without cryptography"),
        Some("wireguard") => format!("{name} in a WireGuard tunnel"),
        Some("strongswan") => format!("{name} in an IPsec tunnel of strongSwan"),
        Some("strongswan-psk") => {
            format!("{name} in an IPsec tunnel of strongSwan, by a shared secret")
        }
        Some("strongswan-kernel") => {
            format!("{name} in an IPsec tunnel of strongSwan and the kernel")
        }
        Some("strongswan-kernel-psk") => {
            format!("{name} in an IPsec tunnel of strongSwan and the kernel, by a shared secret")
        }
        Some("wireguard-kernel") => format!("{name} in a tunnel of the kernel's WireGuard"),
        Some("wireguard-go") => format!("{name} in a WireGuard tunnel of wireguard-go"),
        Some(other) => format!("{name} in tunnel `{other}`"),
    }
}

fn listed(clauses: &[String]) -> String {
    match clauses {
        [] => String::new(),
        [only] => only.clone(),
        [first @ .., last] => format!("{} and {last}", first.join(", ")),
    }
}
