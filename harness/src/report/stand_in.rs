//! How far WireGuard in user space, which stands in for protection at the IP layer, is from IPsec: ratios of
//! cells that were measured side by side. A part of [`super::markdown`].

use std::fmt::Write;

use hopbench::record::metric::known;
use hopbench::record::{Cell, Run, Verdict};

use super::summary::{PriceKind, Summary};
use super::units::{self, MISSING, quantity};

/// Of a tunnel that all users share.
const SETUP: [&str; 3] = [
    "tunnel_setup_ns",
    "tunnel_setup_wire_bytes",
    "tunnel_setup_wire_packets",
];

/// The section; nothing for a run without tunnels of others.
pub(super) fn section(out: &mut String, run: &Run, summary: &Summary<'_>) {
    let is_told = |cell: &&Cell| cell.verdict == Verdict::Ok && cell.experiment == "setup";
    let cells: Vec<&Cell> = run
        .cells
        .iter()
        .filter(is_told)
        .filter(|cell| cell.metrics.contains_key(SETUP[0]))
        .collect();
    let prices: Vec<_> = summary
        .prices
        .iter()
        .filter(|price| matches!(price.kind, PriceKind::Ipsec | PriceKind::OtherWireguard))
        .collect();
    if cells.is_empty() && prices.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "## How far is the stand-in from IPsec\n\n\
         The stand-in is `@wireguard`: boringtun in the SIP processes, with the kernel's TCP inside over a TUN device or, \
         where a cell's `inner_ip` is `user`, TCP of smoltcp. `@strongswan` is IPsec: \
         IKEv2, and ESP in UDP by strongSwan's `kernel-libipsec`, in user space, too. `@wireguard-go` is WireGuard as \
         IPsec is here, a daemon beside the SIP processes with the kernel's TCP above it: what of a ratio is the \
         daemon's and the kernel's, and what the protocol's, is seen beside it. Processor time of daemons is in that of \
         their side. Users of the stand-in have a tunnel each, so their time to registered holds its handshake; that of the \
         others does not, since their association is there already. {}\n",
        kernel_words(run)
    );
    if !prices.is_empty() {
        let headings = summary.blocks.iter().map(|block| &block.headline_name);
        let headings: Vec<&str> = headings.map(String::as_str).collect();
        let _ = writeln!(out, "| stack ÷ stand-in | {} |", headings.join(" | "));
        let _ = writeln!(out, "|---|{}", "--:|".repeat(headings.len()));
        for price in prices {
            let ratios = price.ratios.iter();
            let ratios = ratios.map(|ratio| ratio.map_or(MISSING.to_owned(), units::ratio));
            let _ = writeln!(
                out,
                "| `{}` ÷ `{}` | {} |",
                price.stack,
                price.control,
                ratios.collect::<Vec<_>>().join(" | ")
            );
        }
        out.push('\n');
    }
    setups(out, &cells);
}

/// Who protects packets in the kernel, if somebody does.
fn kernel_words(run: &Run) -> &'static str {
    let is_kernels = |cell: &Cell| cell.verdict == Verdict::Ok && cell.stack.contains("-kernel");
    if run.cells.iter().any(is_kernels) {
        "`@strongswan-kernel` and `@wireguard-kernel` have the kernel itself protect packets; what its WireGuard's threads \
         take of processors is in nobody's time, and not told."
    } else {
        "The kernel's ESP is another matter, and not measured."
    }
}

/// What it takes to set up an association that all users share.
fn setups(out: &mut String, cells: &[&Cell]) {
    if cells.is_empty() {
        return;
    }
    let _ = writeln!(
        out,
        "All users share one association of two hosts, which is there before they come. Setting it up takes, \
         median of several times a block, until an inner datagram has been there and back:\n\n\
         | stack | authentication | time | bytes of IP packets | packets |\n|---|---|--:|--:|--:|"
    );
    for cell in cells {
        let figures = SETUP.map(|key| {
            let value = cell.metrics.get(key).and_then(|metric| metric.value);
            let unit = known(key).map(|known| known.unit);
            unit.zip(value)
                .map_or(MISSING.to_owned(), |(unit, value)| quantity(unit, value))
        });
        let authentication = cell.parameters.get("tunnel_authentication");
        let authentication = authentication.and_then(serde_json::Value::as_str);
        let _ = writeln!(
            out,
            "| `{}` | {} | {} |",
            cell.stack,
            authentication.unwrap_or(MISSING),
            figures.join(" | ")
        );
    }
    out.push('\n');
}
