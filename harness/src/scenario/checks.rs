//! What all experiments of a scenario have to keep to.

use anyhow::{Context, ensure};

use super::{Blocks, rows};
use crate::rate::RATES_PER_SECOND;
use crate::variant::Variant;

pub(super) fn check_stacks(place: &str, stacks: &[String]) -> anyhow::Result<()> {
    rows(stacks)
        .map(drop)
        .with_context(|| format!("in `{place}.stacks`"))
}

pub(super) fn check_variants(place: &str, variants: &[Variant]) -> anyhow::Result<()> {
    for (index, variant) in variants.iter().enumerate() {
        ensure!(
            !variants[..index].contains(variant),
            "`{place}.variants[{index}]` is there twice: each variant is a cell"
        );
    }
    Ok(())
}

pub(super) fn check_load(
    place: &str,
    rates: &[f64],
    seconds: f64,
    blocks: &Blocks,
) -> anyhow::Result<()> {
    blocks.check(place)?;
    ensure!(
        !rates.is_empty(),
        "`{place}.rates_per_second` is empty: name at least one rate"
    );
    for rate in rates {
        ensure!(
            RATES_PER_SECOND.contains(rate),
            "`{place}`: a rate of {rate} a second; allowed is 0.001 to 1,000,000"
        );
    }
    check_seconds(&format!("{place}.duration_seconds"), seconds)?;
    ensure!(
        seconds >= 0.1,
        "`{place}.duration_seconds` is {seconds}: throughput is counted in windows of 0.1 s"
    );
    Ok(())
}

pub(super) fn check_seconds(place: &str, seconds: f64) -> anyhow::Result<()> {
    ensure!(
        seconds.is_finite() && (0.0..=86_400.0).contains(&seconds),
        "`{place}` is {seconds}; allowed is 0 to 86,400"
    );
    Ok(())
}
