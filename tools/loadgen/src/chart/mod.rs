//! Charts: what is drawn, apart from how. [`Chart::svg`] draws one with plotters, [`Chart::png`]
//! renders that with resvg.
//!
//! Not here: which figures a report shows (`report::pictures`, `compare`). Invariant: every axis
//! carries its unit in its label, every curve a name; colours are Okabe and Ito's, which people of
//! every colour vision tell apart, and curves differ in their markers too, for print.
//! Callers: `report`, `compare`.

mod draw;
mod png;
mod scale;

use std::fmt;

pub use png::FONTS;
pub use scale::Scale;

/// A colour, red, green and blue.
pub type Rgb = (u8, u8, u8);

/// Okabe and Ito's palette, without its yellow, which vanishes on white paper.
pub mod palette {
    use super::Rgb;

    /// Blue.
    pub const BLUE: Rgb = (0, 114, 178);
    /// Orange.
    pub const ORANGE: Rgb = (230, 159, 0);
    /// Bluish green.
    pub const GREEN: Rgb = (0, 158, 115);
    /// Vermilion.
    pub const VERMILION: Rgb = (213, 94, 0);
    /// Reddish purple.
    pub const PURPLE: Rgb = (204, 121, 167);
    /// Sky blue.
    pub const SKY: Rgb = (86, 180, 233);
    /// For what is there but not the point.
    pub const GREY: Rgb = (120, 120, 120);
    /// In the order in which curves take them.
    pub const CURVES: [Rgb; 6] = [BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY];
}

/// What could not be drawn.
#[derive(Debug)]
pub struct ChartError(pub String);

impl fmt::Display for ChartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "drawing a chart: {}", self.0)
    }
}

impl std::error::Error for ChartError {}

/// The shape at a curve's points.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Marker {
    /// None.
    None,
    /// A filled circle.
    Circle,
    /// A filled square.
    Square,
    /// A filled triangle.
    Triangle,
    /// A filled diamond.
    Diamond,
    /// A cross.
    Cross,
}

/// In the order in which curves take them.
pub const MARKERS: [Marker; 4] =
    [Marker::Circle, Marker::Square, Marker::Triangle, Marker::Diamond];

/// How a curve's points are joined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Line {
    /// Not at all.
    None,
    /// By a line.
    Solid,
    /// By dashes: what the figures do not carry as firmly.
    Dashed,
}

/// A curve.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Its name in the legend; without one it has none (it belongs to the curve before).
    pub name: String,
    /// Its colour.
    pub color: Rgb,
    /// Its markers; where points are dense only some of them carry one.
    pub marker: Marker,
    /// Its line.
    pub line: Line,
    /// Its points, in the axes' units; those that are not finite (or not above zero on a
    /// logarithmic axis) interrupt it.
    pub points: Vec<(f64, f64)>,
}

/// Something besides the curves.
#[derive(Clone, Debug)]
pub enum Mark {
    /// A shaded span of the x axis.
    Span {
        /// Where it begins and ends, in the axis's unit.
        from_to: (f64, f64),
        /// What it says.
        label: String,
    },
    /// A dashed line at an x.
    AtX(f64, String),
    /// A dashed line at a y.
    AtY(f64, String),
}

/// An axis.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows, with its unit: `latency (ms)`.
    pub label: String,
    /// How values lie on it.
    pub scale: Scale,
}

/// A chart.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Its file's name, without an ending.
    pub name: &'static str,
    /// Its title.
    pub title: String,
    /// What the title leaves out: what was run, on what terms.
    pub subtitle: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// The curves.
    pub curves: Vec<Curve>,
    /// The rest.
    pub marks: Vec<Mark>,
    /// Height of the picture in CSS px; its width is [`WIDTH`].
    pub height: u32,
}

/// Width of every picture, CSS px.
pub const WIDTH: u32 = 900;
/// Height of most pictures, CSS px.
pub const HEIGHT: u32 = 420;

impl Chart {
    /// The chart as an SVG document.
    ///
    /// # Errors
    /// A chart without any point that can be drawn.
    pub fn svg(&self) -> Result<String, ChartError> {
        draw::svg(self)
    }

    /// The chart as a PNG file of twice [`WIDTH`] px.
    ///
    /// # Errors
    /// As [`Chart::svg`].
    pub fn png(&self) -> Result<Vec<u8>, ChartError> {
        png::render(&self.svg()?)
    }
}

#[cfg(test)]
mod tests;
