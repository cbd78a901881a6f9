//! What a chart shows, read from its SVG and from the pixels of its PNG.

use super::*;

fn sample() -> Chart {
    let curve = |name: &str, color, marker, line, factor: f64| Curve {
        name: name.to_owned(),
        color,
        marker,
        line,
        points: (0..40).map(|at| (f64::from(at), factor * (1.2 + f64::from(at % 7)))).collect(),
    };
    Chart {
        name: "sample",
        title: "Publish latency over time".to_owned(),
        subtitle: "2 producers, 100 x 1024 B, 50 MB/s, acks=all, flush.messages=1".to_owned(),
        x: Axis { label: "time since the first send (s)".to_owned(), scale: Scale::Linear },
        y: Axis { label: "publish latency (ms)".to_owned(), scale: Scale::Log },
        curves: vec![
            curve("p50", palette::BLUE, Marker::Circle, Line::Solid, 0.3),
            curve("p99", palette::VERMILION, Marker::Square, Line::Solid, 2.0),
            curve("max", palette::GREY, Marker::None, Line::Dashed, 9.0),
        ],
        marks: vec![
            Mark::Span { from_to: (0.0, 5.0), label: "warm-up".to_owned() },
            Mark::AtY(50.0, "bound: p99 at most 50 ms".to_owned()),
        ],
        height: HEIGHT,
    }
}

#[test]
fn a_chart_carries_title_units_legend_and_marks() {
    let chart = sample();
    let svg = chart.svg().expect("drawn");
    for words in [
        chart.title.as_str(),
        chart.subtitle.as_str(),
        chart.x.label.as_str(),
        chart.y.label.as_str(),
        "p50",
        "p99",
        "max",
        "warm-up",
        "bound: p99 at most 50 ms",
        "#0072B2",
        "#D55E00",
    ] {
        assert!(svg.contains(words), "`{words}` is not in the picture");
    }
    assert!(!svg.contains("NaN") && !svg.contains("inf"));
}

#[test]
fn a_png_has_twice_the_size_and_shows_the_curves_and_the_text() {
    let png = sample().png().expect("rendered");
    let picture = resvg::tiny_skia::Pixmap::decode_png(&png).expect("a PNG");
    assert_eq!((picture.width(), picture.height()), (2 * WIDTH, 2 * HEIGHT));
    let count = |wanted: Rgb| {
        let matches = |it: &&resvg::tiny_skia::PremultipliedColorU8| {
            (it.red(), it.green(), it.blue()) == wanted
        };
        picture.pixels().iter().filter(matches).count()
    };
    assert!(count(palette::BLUE) > 1_000 && count(palette::VERMILION) > 1_000);
    // The title alone: text is there without any font on the machine.
    assert!(count((34, 34, 34)) > 500, "{}", count((34, 34, 34)));
}

#[test]
fn a_long_subtitle_and_a_long_legend_take_further_lines() {
    let mut chart = sample();
    let before = chart.svg().expect("drawn").matches("<text").count();
    chart.subtitle = "on these terms ".repeat(12);
    for curve in &mut chart.curves {
        curve.name = "a name of some length ".repeat(3);
    }
    let svg = chart.svg().expect("drawn");
    assert_eq!(svg.matches("<text").count(), before + 1, "one line more");
    let height = |word: &str| {
        let at = svg.rfind(word).expect("it is there");
        svg[..at].rsplit_once(" y=\"").expect("a place").1.split('"').next().expect("a number")
    };
    assert_ne!(height("a name of"), height("on these terms"));
}

#[test]
fn points_that_cannot_be_placed_interrupt_a_curve_and_a_chart_of_none_is_refused() {
    let mut chart = sample();
    chart.curves[0].points[3].1 = f64::NAN;
    chart.curves[1].points[3].1 = 0.0;
    assert!(!chart.svg().expect("the rest is drawn").contains("NaN"));
    for curve in &mut chart.curves {
        curve.points.clear();
    }
    let error = chart.svg().expect_err("nothing to draw").to_string();
    assert!(error.contains("`sample`"), "{error}");
}
