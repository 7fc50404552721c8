//! Primitives that every chart is drawn with, over `kuva`'s scene. The one file that knows kuva.

use hopbench::record::Verdict;
use kuva::backend::svg::SvgBackend;
use kuva::render::color::Color;
use kuva::render::render::{PathData, Primitive, Scene, TextAnchor};

use crate::report::palette::{GRID, PAPER};
pub(super) use crate::report::palette::{INK, MUTED, stack_colour};

/// White lines at 45° over a bar that does not mean what it says.
const HATCH: &str = r##"<pattern id="hatch" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><line x1="0" y1="0" x2="0" y2="6" stroke="#ffffff" stroke-width="3"/></pattern>"##;

/// `colour` thinned with white to `strength` (0 to 1): opaque, so that no grid shines through.
pub(super) fn shade(colour: &str, strength: f64) -> String {
    let channel = |digits: &str| {
        let full = u8::from_str_radix(digits, 16).expect("colours of this module are #rrggbb");
        (255.0 - strength * (255.0 - f64::from(full))).round() as u8
    };
    format!(
        "#{:02x}{:02x}{:02x}",
        channel(&colour[1..3]),
        channel(&colour[3..5]),
        channel(&colour[5..7])
    )
}

/// Whether a figure is drawn hatched or dashed.
pub(super) fn doubtful(verdict: Verdict) -> bool {
    match verdict {
        Verdict::Ok => false,
        Verdict::GeneratorBound | Verdict::Failed | Verdict::Unsupported => true,
    }
}

/// Side of a point that a text lies on.
#[derive(Clone, Copy)]
pub(super) enum Anchor {
    Start,
    Middle,
    End,
}

/// A rectangle in pixels.
#[derive(Clone, Copy)]
pub(super) struct Area {
    pub(super) x: f64,
    pub(super) y: f64,
    pub(super) width: f64,
    pub(super) height: f64,
}

/// A drawing in progress.
pub(super) struct Canvas {
    scene: Scene,
    width: f64,
}

impl Canvas {
    /// A light sheet, whatever surrounds it, with `title` and `subtitle` at its top.
    pub(super) fn new(width: f64, height: f64, title: &str, subtitle: &str) -> Self {
        let mut scene = Scene::new(width, height).with_background(Some(PAPER));
        scene.font_family =
            Some("-apple-system, 'Segoe UI', 'Noto Sans', Helvetica, Arial, sans-serif".to_owned());
        scene.defs.push(HATCH.to_owned());
        let mut canvas = Self { scene, width };
        canvas.styled_text(20.0, 30.0, title, (17, true), Anchor::Start, INK);
        canvas.text(20.0, 50.0, subtitle, Anchor::Start, MUTED);
        canvas
    }

    pub(super) fn text(&mut self, x: f64, y: f64, text: &str, anchor: Anchor, colour: &str) {
        self.styled_text(x, y, text, (12, false), anchor, colour);
    }

    pub(super) fn bold_text(&mut self, x: f64, y: f64, text: &str, anchor: Anchor, colour: &str) {
        self.styled_text(x, y, text, (12, true), anchor, colour);
    }

    fn styled_text(
        &mut self,
        x: f64,
        y: f64,
        text: &str,
        (size, bold): (u32, bool),
        anchor: Anchor,
        colour: &str,
    ) {
        let anchor = match anchor {
            Anchor::Start => TextAnchor::Start,
            Anchor::Middle => TextAnchor::Middle,
            Anchor::End => TextAnchor::End,
        };
        self.scene.add(Primitive::Text {
            x,
            y,
            content: text.to_owned(),
            size,
            anchor,
            rotate: None,
            bold,
            color: Some(Color::from(colour)),
        });
    }

    pub(super) fn rect(&mut self, area: Area, colour: &str) {
        self.filled(area, colour, None);
    }

    fn filled(&mut self, area: Area, colour: &str, opacity: Option<f64>) {
        self.scene.add(Primitive::Rect {
            x: area.x,
            y: area.y,
            width: area.width,
            height: area.height,
            fill: Color::from(colour),
            stroke: None,
            stroke_width: None,
            opacity,
        });
    }

    /// Marks what lies beneath as not to be trusted.
    pub(super) fn hatch(&mut self, area: Area) {
        self.filled(area, "url(#hatch)", Some(0.75));
    }

    pub(super) fn line(&mut self, from: (f64, f64), to: (f64, f64), colour: &str, width: f64) {
        self.path(&[from, to], colour, width, false);
    }

    /// In place of a bar: why there is none. `y` is the middle of the row.
    pub(super) fn hatched_word(&mut self, x: f64, y: f64, word: &str) {
        let area = Area {
            x,
            y: y - 9.0,
            width: 18.0,
            height: 18.0,
        };
        self.rect(area, GRID);
        self.hatch(area);
        self.bold_text(x + 26.0, y + 4.0, word, Anchor::Start, MUTED);
    }

    /// A faint line of the scale.
    pub(super) fn grid_line(&mut self, from: (f64, f64), to: (f64, f64)) {
        self.line(from, to, GRID, 1.0);
    }

    pub(super) fn path(&mut self, points: &[(f64, f64)], colour: &str, width: f64, dashed: bool) {
        let step = |(index, (x, y)): (usize, &(f64, f64))| {
            format!("{}{x:.2},{y:.2}", if index == 0 { "M" } else { "L" })
        };
        let d = points.iter().enumerate().map(step).collect();
        self.scene.add(Primitive::Path(Box::new(PathData {
            d,
            fill: None,
            stroke: Color::from(colour),
            stroke_width: width,
            opacity: None,
            stroke_dasharray: dashed.then(|| "5 4".to_owned()),
        })));
    }

    pub(super) fn dot(&mut self, x: f64, y: f64, radius: f64, colour: &str) {
        self.scene.add(Primitive::Circle {
            cx: x,
            cy: y,
            r: radius,
            fill: Color::from(colour),
            fill_opacity: None,
            stroke: Some(Color::from(PAPER)),
            stroke_width: Some(1.5),
        });
    }

    /// Grey swatches of the shades, in a row that ends at the right edge.
    pub(super) fn legend(&mut self, y: f64, shades: &[(&str, f64)]) {
        let mut x = self.width
            - 20.0
            - shades
                .iter()
                .map(|(name, _)| legend_width(name))
                .sum::<f64>();
        for (name, strength) in shades {
            self.rect(
                Area {
                    x,
                    y: y - 10.0,
                    width: 12.0,
                    height: 12.0,
                },
                &shade(INK, *strength),
            );
            self.text(x + 18.0, y, name, Anchor::Start, MUTED);
            x += legend_width(name);
        }
    }

    /// The document. kuva writes no `viewBox`, without which a page cannot scale the chart down.
    pub(super) fn finish(self) -> String {
        let size = format!(
            "<svg viewBox=\"0 0 {} {}\" role=\"img\" ",
            self.scene.width, self.scene.height
        );
        let mut text = SvgBackend::new()
            .with_pretty(true)
            .render_scene(&self.scene)
            .replacen("<svg ", &size, 1);
        if !text.ends_with('\n') {
            text.push('\n');
        }
        text
    }
}

/// Room for a swatch, its name and the gap after it. Fonts differ: about 6.6 px a letter at 12 px.
fn legend_width(name: &str) -> f64 {
    36.0 + 6.6 * name.chars().count() as f64
}
