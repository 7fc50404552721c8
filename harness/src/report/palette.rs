//! The colour of each stack, the same in every chart and page. Beneath the renderers.

use std::fmt::Write;

use super::summary::stack_rank;

/// Colours of charts on a light sheet; a page has variables of these names, for either scheme.
pub(super) const INK: &str = "#1f2328";
pub(super) const MUTED: &str = "#59636e";
pub(super) const GRID: &str = "#e4e8ec";
pub(super) const PAPER: &str = "#ffffff";

/// On light and on dark, by place in the order of stacks; the last one is for stacks that have no place
/// yet. A carrier has a hue, after Okabe and Ito for every kind of colour vision; over a control it recedes
/// towards the sheet, within a protected tunnel it stands out from it, so that hue and lightness together
/// tell all of them apart.
const STACK_COLOURS: [(&str, &str); 10] = [
    ("#3a9bd9", "#56b4e9"),
    ("#009e73", "#00b184"),
    ("#d55e00", "#f0752a"),
    ("#b4568f", "#d67fb3"),
    ("#93c9ec", "#2f6f9e"),
    ("#0b4a86", "#b5dcf7"),
    ("#7fceb4", "#1b7a5f"),
    ("#00553d", "#9be8cf"),
    ("#7a3200", "#ffc79b"),
    ("#6e7781", "#8f99a3"),
];

fn colours(stack: &str) -> (&'static str, &'static str) {
    STACK_COLOURS[stack_rank(stack).min(STACK_COLOURS.len() - 1)]
}

/// The colour of `stack` in every chart.
pub(super) fn stack_colour(stack: &str) -> &'static str {
    colours(stack).0
}

/// The class of what a page shows of the stack at `place` in its list.
pub(crate) fn class(place: usize) -> String {
    format!("s{place}")
}

/// The style of a page that tells of `stacks`: a class for each, which sets `--stack` to its colour, and
/// which disappears while the stack's box `show-CLASS` is not checked. Static charts, which are drawn for a
/// light sheet, take part: their colours become those of the scheme.
pub(super) fn style(stacks: &[&str]) -> String {
    let mut light = String::new();
    let mut dark = String::new();
    let mut rules = String::new();
    for (place, stack) in stacks.iter().enumerate() {
        let class = class(place);
        let (on_light, on_dark) = colours(stack);
        let _ = write!(light, "--{class}:{on_light};");
        let _ = write!(dark, "--{class}:{on_dark};");
        let _ = writeln!(rules, ".{class}{{--stack:var(--{class})}}");
        let _ = writeln!(
            rules,
            "body:has(#show-{class}:not(:checked)) .{class}:not(label){{display:none}}"
        );
        let _ = writeln!(rules, "{}", drawn(on_light, &class));
    }
    for (colour, variable) in [
        (INK, "ink"),
        (MUTED, "muted"),
        (GRID, "grid"),
        (PAPER, "sheet"),
    ] {
        let _ = writeln!(rules, "{}", drawn(colour, variable));
    }
    format!(
        ":root{{{light}}}\n@media screen and (prefers-color-scheme:dark){{:root{{{dark}}}}}\n{rules}"
    )
}

/// A static chart's `colour` is that of a variable.
fn drawn(colour: &str, variable: &str) -> String {
    format!(
        "svg [fill=\"{colour}\"]{{fill:var(--{variable})}}svg [stroke=\"{colour}\"]{{stroke:var(--{variable})}}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::summary::STACK_ORDER;

    /// Contrast of two colours, as WCAG 2 defines it.
    fn contrast(a: &str, b: &str) -> f64 {
        let luminance = |colour: &str| -> f64 {
            let channel = |at: usize| {
                let value = u8::from_str_radix(&colour[at..at + 2], 16).expect("#rrggbb");
                let share = f64::from(value) / 255.0;
                if share <= 0.039_28 {
                    share / 12.92
                } else {
                    ((share + 0.055) / 1.055).powf(2.4)
                }
            };
            0.2126 * channel(1) + 0.7152 * channel(3) + 0.0722 * channel(5)
        };
        let (a, b) = (luminance(a), luminance(b));
        (a.max(b) + 0.05) / (a.min(b) + 0.05)
    }

    #[test]
    fn stacks_can_be_seen_on_either_sheet() {
        for stack in STACK_ORDER {
            let (light, dark) = colours(stack);
            // Controls recede; they are told by their place and their word, too.
            let least = if stack.ends_with("@clear") { 1.7 } else { 3.0 };
            assert!(contrast(light, PAPER) >= least, "{stack} on light");
            assert!(contrast(dark, "#1a1e22") >= 3.0, "{stack} on dark");
        }
    }

    #[test]
    fn each_stack_has_colours_of_its_own_on_either_sheet() {
        let mut seen = Vec::new();
        for (light, dark) in STACK_COLOURS {
            assert!(
                !seen.contains(&light) && !seen.contains(&dark),
                "{light} {dark}"
            );
            seen.extend([light, dark]);
        }
        assert_eq!(STACK_COLOURS.len(), STACK_ORDER.len() + 1);
    }
}
