//! Narrow hops: what operations take of them, beside what fits through. A part of [`super::markdown`].

use std::fmt::Write;

use super::question::{Question, operation};
use super::summary::{Block, Summary};
use super::units::MISSING;

/// The figures of the light load that everything else follows from.
const BYTES: [&str; 2] = [
    "onward_wire_bytes_per_operation",
    "back_wire_bytes_per_operation",
];

/// What stands below the tables; nothing for a run without the experiment.
pub(super) fn section(out: &mut String, summary: &Summary<'_>) {
    let blocks = summary.blocks.iter();
    let blocks: Vec<&Block<'_>> = blocks
        .filter(|block| block.question == Question::Rate)
        .collect();
    if blocks.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "`predicted` is the hop's rate ÷ the bits that an operation takes in the fuller direction, counted by the tap while \
         operations were alone on the hop. Of that, shares were offered (parameter `shares`), descending: `fits` is the first at \
         which all operations ended well, as fast as they came. `alone` is the median of an operation alone; it takes \
         no longer than sending all its bytes one after the other, `all bytes`, beside what processors take. `overload` \
         is what ended well when more was offered than fits (`overload_ratio`), ÷ predicted. What is missing to 1 went into \
         operations that were begun and came to no end, into packets that a full queue dropped, and into what timers sent \
         again: of SIP over UDP after 500 ms (Timers A and E, RFC 3261 §17), of TCP after its retransmission timeout \
         (RFC 6298), which a queue makes longer. Where nothing was lost, TCP sends again what a narrow hop delays beyond what a SYN of 60 bytes has taught it to \
         expect (tail loss probes, RFC 8985 §7). TCP in user space is not among what TCP sent again.\n"
    );
    for block in blocks {
        footprints(out, block);
    }
}

/// What an operation takes of the narrowest hop.
fn footprints(out: &mut String, block: &Block<'_>) {
    let _ = writeln!(
        out,
        "Bytes of IP packets of a {}, alone on the narrowest hop\n\n\
         | stack | from who opens hops | to who opens hops | more than the least | sent again by TCP, of all |\n\
         |---|--:|--:|--:|--:|",
        operation(block.workload)
    );
    let bytes = |stack: &str| {
        let [onward, back] = BYTES.map(|key| block.metric(stack, key, None)?.value);
        onward.zip(back)
    };
    let again = |stack: &str| {
        block
            .metric(stack, "tcp_retransmissions_count", None)?
            .value
    };
    let fuller = |(onward, back): (f64, f64)| onward.max(back);
    let stacks = || block.rows.iter().map(|row| row.stack);
    let least = stacks().filter_map(bytes).map(fuller).reduce(f64::min);
    for stack in stacks() {
        let found = bytes(stack);
        let told = |value: Option<f64>| value.map_or(MISSING.to_owned(), |it| format!("{it:.0}"));
        let more = found.map(fuller).zip(least);
        let _ = writeln!(
            out,
            "| `{stack}` | {} | {} | {} | {} |",
            told(found.map(|(onward, _)| onward)),
            told(found.map(|(_, back)| back)),
            more.map_or(MISSING.to_owned(), |(fuller, least)| format!(
                "{:.2}×",
                fuller / least
            )),
            told(again(stack)),
        );
    }
    out.push('\n');
}
