//! What pages in HTML share: one self-contained file that asks the network for nothing, its style, the
//! switch of stacks, and the script that draws lines. Beneath the renderers; it knows no run.
//!
//! Whatever is written into a page goes through maud, which escapes it, or through [`data`].

use maud::{DOCTYPE, Markup, PreEscaped, html};
use serde::Serialize;

use super::palette;

const STYLE: &str = include_str!("../../assets/page.css");
const SCRIPT: &str = include_str!("../../assets/charts.js");
const UPLOT: &str = include_str!("../../assets/uplot/uPlot.iife.min.js");
const UPLOT_STYLE: &str = include_str!("../../assets/uplot/uPlot.min.css");
const UPLOT_LICENCE: &str = include_str!("../../assets/uplot/LICENSE");

/// Nothing is loaded from anywhere: what a page shows is in it.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; \
    img-src data:; base-uri 'none'; form-action 'none'";

/// The whole file. `stacks` are those that it tells of, in their order; `body` brings its own `main`.
pub(crate) fn document(title: &str, stacks: &[&str], body: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta http-equiv="Content-Security-Policy" content=(POLICY);
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                meta name="generator" content="hopbench";
                title { (title) }
                // Or else a browser asks for one.
                link rel="icon" href="data:,";
                style { (PreEscaped(UPLOT_STYLE)) (PreEscaped(STYLE)) (PreEscaped(palette::style(stacks))) }
            }
            body {
                a class="skip" href="#main" { "To the content" }
                (body)
                script { (PreEscaped(format!("/*\n{UPLOT_LICENCE}*/\n{UPLOT}"))) }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    };
    page.into_string()
}

/// The switch that shows and hides stacks, which is the legend of all charts as well. It works without the
/// script, but for lines.
pub(crate) fn switch(stacks: &[&str]) -> Markup {
    html! {
        section class="switch" aria-label="Stacks that are shown" {
            fieldset class="stacks" {
                legend { "Stacks" }
                @for (place, stack) in stacks.iter().enumerate() {
                    label class=(palette::class(place)) {
                        input type="checkbox" checked id=(format!("show-{}", palette::class(place)));
                        span class="swatch" aria-hidden="true" {}
                        (stack)
                    }
                }
            }
        }
    }
}

/// `value` as JSON in a page, where no text of it can end the element.
pub(crate) fn data(value: &impl Serialize) -> Markup {
    let json = serde_json::to_string(value).expect("plain data serialises");
    html! {
        script type="application/json" { (PreEscaped(json.replace('<', "\\u003c"))) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_text_ends_the_element_that_it_is_in() {
        let hostile = "</script><script>alert(1)</script>";
        let page = document(
            hostile,
            &["tcp"],
            &html! { main { (hostile) (data(&hostile)) } },
        );
        assert!(!page.contains("alert(1)</script>"), "{page}");
        assert_eq!(page.matches("<script").count(), 3, "ours, and the data");
        assert!(page.contains(r#""\u003c/script>\u003cscript>"#));
    }

    #[test]
    fn a_page_names_nothing_to_load() {
        let page = document("title", &["tcp", "tls"], &switch(&["tcp", "tls"]));
        for loading in [" src=", "url(", "@import", "href=\"http"] {
            assert!(!page.contains(loading), "{loading}");
        }
        assert!(
            page.contains("Leon Sorokin"),
            "the licence travels with uPlot"
        );
        assert!(page.contains(r#"<label class="s1"><input type="checkbox" checked id="show-s1">"#));
    }
}
