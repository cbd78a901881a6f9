//! Drawing with plotters.
//!
//! plotters places everything on whole units, so a picture is drawn [`FINE`] times as large and the
//! SVG's `viewBox` brings it back: curves keep a tenth of a pixel.

use std::ops::Range;

use plotters::coord::Shift;
use plotters::coord::ranged1d::{KeyPointHint, NoDefaultFormatting, Ranged, ValueFormatter};
use plotters::element::DashedPathElement;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::scale::Ticks;
use super::{Chart, ChartError, Curve, Line, Mark, Marker, Rgb, Scale, WIDTH};

/// Units for each CSS px.
const FINE: i32 = 10;
/// Left and right edge of what stands above the frame, px.
const EDGE: i32 = 16;
/// Height of what stands above the frame: the title, a line of the subtitle, a row of the legend, px.
const TITLE: i32 = 36;
const SUBTITLE_LINE: i32 = 17;
const LEGEND_ROW: i32 = 22;
/// Points between two markers are at least so far apart, px.
const MARKER_GAP: f64 = 26.0;
/// Room for the names on the left, px.
const NAMES_WIDTH: u32 = 200;
/// Fonts: ours, and what stands in for it where an SVG is looked at alone.
const FAMILY: &str = "Inter, Helvetica, Arial, sans-serif";

const INK: RGBColor = RGBColor(34, 34, 34);
const SOFT: RGBColor = RGBColor(90, 90, 90);
const GRID: RGBColor = RGBColor(214, 214, 214);
const FINE_GRID: RGBColor = RGBColor(240, 240, 240);
const SHADE: RGBColor = RGBColor(242, 242, 242);

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;
type Coord = Cartesian2d<Ticks, Ticks>;
type Context<'a, 'b> = ChartContext<'a, SVGBackend<'b>, Coord>;
type Drawn = Result<(), ChartError>;

impl Ranged for Ticks {
    type FormatOption = NoDefaultFormatting;
    type ValueType = f64;

    fn map(&self, value: &f64, (first, last): (i32, i32)) -> i32 {
        let part = (value - self.range.0) / (self.range.1 - self.range.0);
        first + (part * f64::from(last - first)).round() as i32
    }

    fn key_points<Hint: KeyPointHint>(&self, hint: Hint) -> Vec<f64> {
        if hint.weight().allow_light_points() {
            self.minor.clone()
        } else {
            self.major.iter().map(|(place, _)| *place).collect()
        }
    }

    fn range(&self) -> Range<f64> {
        self.range.0..self.range.1
    }
}

impl ValueFormatter<f64> for Ticks {
    fn format_ext(&self, place: &f64) -> String {
        let found = self.major.iter().find(|(at, _)| (at - place).abs() < 1e-9);
        found.map_or_else(String::new, |(_, label)| label.clone())
    }
}

fn failed(error: impl std::fmt::Debug) -> ChartError {
    ChartError(format!("{error:?}"))
}

fn rgb((red, green, blue): Rgb) -> RGBColor {
    RGBColor(red, green, blue)
}

/// Text of `px`; plotters divides sizes by 1.24 when it writes SVG.
fn text(px: f64, color: RGBColor) -> TextStyle<'static> {
    (FAMILY, px * 1.24 * f64::from(FINE)).into_font().color(&color)
}

fn bold(px: f64, color: RGBColor) -> TextStyle<'static> {
    let font = (FAMILY, px * 1.24 * f64::from(FINE)).into_font().style(FontStyle::Bold);
    font.color(&color)
}

fn anchored(style: TextStyle<'static>, across: HPos, along: VPos) -> TextStyle<'static> {
    style.pos(Pos::new(across, along))
}

/// Width of `text` in CSS px, about: Inter's characters are half of their size wide on average.
fn width_of(text: &str, px: f64) -> f64 {
    text.chars().count() as f64 * px * 0.52
}

pub fn svg(chart: &Chart) -> Result<String, ChartError> {
    let missing = || ChartError(format!("`{}` has no point that can be drawn", chart.name));
    let marked = |wanted: fn(&Mark) -> Option<f64>| chart.marks.iter().filter_map(wanted);
    let at_x = |mark: &Mark| match mark {
        Mark::AtX(at, _) => Some(*at),
        Mark::Span { from_to, .. } => Some(from_to.1),
        Mark::AtY(..) => None,
    };
    let at_y = |mark: &Mark| if let Mark::AtY(at, _) = mark { Some(*at) } else { None };
    let drawn: Vec<(f64, f64)> =
        chart.curves.iter().flat_map(|curve| places(chart, curve)).flatten().collect();
    if drawn.is_empty() {
        return Err(missing());
    }
    let points = || chart.curves.iter().flat_map(|curve| &curve.points);
    let x = chart.x.scale.ticks(points().map(|it| it.0).chain(marked(at_x))).ok_or_else(missing)?;
    let y = chart.y.scale.ticks(points().map(|it| it.1).chain(marked(at_y))).ok_or_else(missing)?;
    let mut document = String::new();
    let size = (WIDTH * FINE as u32, chart.height * FINE as u32);
    {
        let root = SVGBackend::with_string(&mut document, size).into_drawing_area();
        root.fill(&WHITE).map_err(failed)?;
        head(chart, &root)?;
        body(chart, &root, x, y)?;
        root.present().map_err(failed)?;
    }
    Ok(with_head(chart, &document))
}

/// The document with its size in CSS px and with words for who cannot see it.
fn with_head(chart: &Chart, document: &str) -> String {
    let content = document.split_once('>').map_or("", |(_, content)| content);
    let escaped = chart.title.replace('&', "&amp;").replace('<', "&lt;").replace('"', "&quot;");
    format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"{WIDTH}\" height=\"{height}\" \
         viewBox=\"0 0 {} {}\" role=\"img\" aria-label=\"{escaped}\" class=\"chart\">{content}",
        WIDTH as i32 * FINE,
        chart.height as i32 * FINE,
        height = chart.height,
    )
}

/// Title, subtitle, legend.
fn head(chart: &Chart, root: &Area<'_>) -> Drawn {
    let at = |x: f64, y: i32| ((x * f64::from(FINE)) as i32, y * FINE);
    let left = f64::from(EDGE);
    let top = |style| anchored(style, HPos::Left, VPos::Center);
    let put = |words: &str, place, style: TextStyle<'static>| {
        root.draw(&Text::new(words.to_owned(), place, style)).map_err(failed)
    };
    put(&chart.title, at(left, 22), top(bold(17.0, INK)))?;
    let lines = wrapped(&chart.subtitle);
    for (line, words) in (0..).zip(&lines) {
        put(words, at(left, TITLE + 8 + line * SUBTITLE_LINE), top(text(12.0, SOFT)))?;
    }
    let below = TITLE + lines.len() as i32 * SUBTITLE_LINE;
    for (curve, (x, row)) in legend(chart) {
        let y = below + LEGEND_ROW * 2 / 3 + row * LEGEND_ROW;
        let color = rgb(curve.color);
        let line = color.stroke_width(2 * FINE as u32);
        let (from, to) = (at(x, y), at(x + 26.0, y));
        match curve.line {
            Line::None => {}
            Line::Solid => root.draw(&PathElement::new(vec![from, to], line)).map_err(failed)?,
            Line::Dashed => root
                .draw(&DashedPathElement::new(vec![from, to], 5 * FINE, 4 * FINE, line))
                .map_err(failed)?,
        }
        draw_marker(root, curve.marker, at(x + 13.0, y), color)?;
        put(&curve.name, at(x + 32.0, y), top(text(12.0, INK)))?;
    }
    Ok(())
}

/// The subtitle in lines that fit.
fn wrapped(subtitle: &str) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in subtitle.split_whitespace() {
        let fits = |line: &&mut String| {
            let width = width_of(line, 12.0) + width_of(word, 12.0);
            width < f64::from(WIDTH) - 2.0 * f64::from(EDGE)
        };
        match lines.last_mut().filter(fits) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// The curves that have names, each with its place in the legend: x in px, and row.
fn legend(chart: &Chart) -> Vec<(&Curve, (f64, i32))> {
    let (mut x, mut row) = (f64::from(EDGE), 0);
    let mut places = Vec::new();
    for curve in chart.curves.iter().filter(|curve| !curve.name.is_empty()) {
        let width = 32.0 + width_of(&curve.name, 12.0);
        if x > f64::from(EDGE) && x + width > f64::from(WIDTH) - f64::from(EDGE) {
            (x, row) = (f64::from(EDGE), row + 1);
        }
        places.push((curve, (x, row)));
        x += width + 22.0;
    }
    places
}

fn body(chart: &Chart, root: &Area<'_>, x: Ticks, y: Ticks) -> Drawn {
    let rows = legend(chart).last().map_or(0, |(_, (_, row))| row + 1);
    let lines = wrapped(&chart.subtitle).len() as i32;
    let above = TITLE + lines * SUBTITLE_LINE + rows * LEGEND_ROW + 10;
    let (_, below) = root.split_vertically(above * FINE);
    let fine = |px: u32| px * FINE as u32;
    let left = if matches!(chart.y.scale, Scale::Names(_)) { NAMES_WIDTH } else { 62 };
    let mut context = ChartBuilder::on(&below)
        .margin_right(fine(28))
        .margin_left(fine(10))
        .margin_bottom(fine(8))
        .x_label_area_size(fine(46))
        .y_label_area_size(fine(left))
        .build_cartesian_2d(x.clone(), y.clone())
        .map_err(failed)?;
    shades(chart, &mut context, &x, &y)?;
    mesh(chart, &mut context, &x, &y)?;
    for curve in &chart.curves {
        draw_curve(chart, curve, &mut context)?;
    }
    marks(chart, &mut context, &x, &y)
}

fn mesh(chart: &Chart, context: &mut Context<'_, '_>, x: &Ticks, y: &Ticks) -> Drawn {
    let named = matches!(chart.y.scale, Scale::Names(_));
    context
        .configure_mesh()
        .axis_style(SOFT.stroke_width(FINE as u32))
        .bold_line_style(GRID.stroke_width(FINE as u32))
        .light_line_style(FINE_GRID.stroke_width(FINE as u32))
        .x_labels(x.major.len())
        .y_labels(y.major.len())
        .x_label_style(text(11.5, INK))
        .y_label_style(text(if named { 12.0 } else { 11.5 }, INK))
        .axis_desc_style(text(12.5, INK))
        .x_desc(chart.x.label.clone())
        .y_desc(chart.y.label.clone())
        .set_all_tick_mark_size(4 * FINE)
        .draw()
        .map_err(failed)
}

/// Where the points of a curve lie, piece by piece.
fn places(chart: &Chart, curve: &Curve) -> Vec<Vec<(f64, f64)>> {
    let mut pieces = vec![Vec::new()];
    for &(x, y) in &curve.points {
        match chart.x.scale.place(x).zip(chart.y.scale.place(y)) {
            Some(place) => pieces.last_mut().into_iter().for_each(|piece| piece.push(place)),
            None => pieces.push(Vec::new()),
        }
    }
    pieces.retain(|piece| !piece.is_empty());
    pieces
}

fn draw_curve(chart: &Chart, curve: &Curve, context: &mut Context<'_, '_>) -> Drawn {
    let color = rgb(curve.color);
    let line = color.stroke_width(2 * FINE as u32);
    let area = context.plotting_area().clone();
    let mut last_marker = f64::MIN;
    for piece in places(chart, curve) {
        let pixels: Vec<(i32, i32)> = piece.iter().map(|it| area.map_coordinate(it)).collect();
        let bare = area.strip_coord_spec();
        let (origin_x, origin_y) = bare.get_base_pixel();
        let pixels: Vec<(i32, i32)> =
            pixels.into_iter().map(|(x, y)| (x - origin_x, y - origin_y)).collect();
        match curve.line {
            Line::None => {}
            Line::Solid => bare.draw(&PathElement::new(pixels.clone(), line)).map_err(failed)?,
            Line::Dashed => bare
                .draw(&DashedPathElement::new(pixels.clone(), 5 * FINE, 4 * FINE, line))
                .map_err(failed)?,
        }
        let single = pixels.len() == 1;
        for at in pixels {
            let x = f64::from(at.0) / f64::from(FINE);
            if single || curve.line == Line::None || (x - last_marker).abs() >= MARKER_GAP {
                let shape = if single && curve.marker == Marker::None {
                    Marker::Circle
                } else {
                    curve.marker
                };
                draw_marker(&bare, shape, at, color)?;
                last_marker = x;
            }
        }
    }
    Ok(())
}

fn draw_marker(area: &Area<'_>, marker: Marker, (x, y): (i32, i32), color: RGBColor) -> Drawn {
    let r = 4 * FINE;
    let filled = |corners: Vec<(i32, i32)>| area.draw(&Polygon::new(corners, color.filled()));
    match marker {
        Marker::None => Ok(()),
        Marker::Circle => area.draw(&Circle::new((x, y), r, color.filled())),
        Marker::Square => {
            let r = r * 9 / 10;
            filled(vec![(x - r, y - r), (x + r, y - r), (x + r, y + r), (x - r, y + r)])
        }
        Marker::Triangle => {
            filled(vec![(x, y - r * 6 / 5), (x + r * 11 / 10, y + r), (x - r * 11 / 10, y + r)])
        }
        Marker::Diamond => {
            let r = r * 13 / 10;
            filled(vec![(x, y - r), (x + r, y), (x, y + r), (x - r, y)])
        }
        Marker::Cross => {
            let line = color.stroke_width(2 * FINE as u32);
            area.draw(&PathElement::new(vec![(x - r, y - r), (x + r, y + r)], line)).and_then(
                |()| area.draw(&PathElement::new(vec![(x - r, y + r), (x + r, y - r)], line)),
            )
        }
    }
    .map_err(failed)
}

/// Shaded spans lie below everything.
fn shades(chart: &Chart, context: &mut Context<'_, '_>, x: &Ticks, y: &Ticks) -> Drawn {
    for mark in &chart.marks {
        let Mark::Span { from_to: (from, to), .. } = mark else { continue };
        let Some((from, to)) = chart.x.scale.place(*from).zip(chart.x.scale.place(*to)) else {
            continue;
        };
        let (from, to) = (from.max(x.range.0), to.min(x.range.1));
        let area = context.plotting_area();
        let corners = [(from, y.range.1), (to, y.range.0)];
        area.draw(&Rectangle::new(corners, SHADE.filled())).map_err(failed)?;
    }
    Ok(())
}

/// Dashed lines, and the words of all marks, lie on top.
fn marks(chart: &Chart, context: &mut Context<'_, '_>, x: &Ticks, y: &Ticks) -> Drawn {
    let dashes = |ends: Vec<(f64, f64)>| {
        DashedPathElement::new(ends, 4 * FINE, 3 * FINE, SOFT.stroke_width(FINE as u32 * 5 / 4))
    };
    let area = context.plotting_area();
    for mark in &chart.marks {
        let (ends, at, words) = match mark {
            Mark::Span { from_to: (from, _), label } => {
                let Some(place) = chart.x.scale.place(*from) else { continue };
                let style = anchored(text(11.0, SOFT), HPos::Left, VPos::Top);
                let words = Text::new(label.clone(), (6 * FINE, 6 * FINE), style);
                ([(0.0, 0.0); 2], (place.max(x.range.0), y.range.1), words)
            }
            Mark::AtX(value, label) => {
                let Some(place) = chart.x.scale.place(*value) else { continue };
                let style = anchored(text(11.0, SOFT), HPos::Right, VPos::Bottom);
                let words = Text::new(label.clone(), (-6 * FINE, -6 * FINE), style);
                ([(place, y.range.0), (place, y.range.1)], (place, y.range.0), words)
            }
            Mark::AtY(value, label) => {
                let Some(place) = chart.y.scale.place(*value) else { continue };
                let style = anchored(text(11.0, SOFT), HPos::Right, VPos::Bottom);
                let words = Text::new(label.clone(), (-6 * FINE, -5 * FINE), style);
                ([(x.range.0, place), (x.range.1, place)], (x.range.1, place), words)
            }
        };
        if !matches!(mark, Mark::Span { .. }) {
            area.draw(&dashes(ends.to_vec())).map_err(failed)?;
        }
        area.draw(&(EmptyElement::at(at) + words)).map_err(failed)?;
    }
    Ok(())
}
