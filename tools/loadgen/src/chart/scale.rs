//! How values lie on an axis, and where its ticks are.

/// How values lie on an axis.
#[derive(Clone, Debug, PartialEq)]
pub enum Scale {
    /// Evenly, from zero.
    Linear,
    /// By their logarithm.
    Log,
    /// Percentiles as in HdrHistogram's plots: each nine takes as much room as the one before.
    /// Values are quantiles, 0 to below 1.
    Percentile,
    /// By place, from the top: value 0 is the first name.
    Names(Vec<String>),
}

/// An axis that is ready to be drawn: positions as [`Scale::place`] gives them.
#[derive(Clone, Debug, PartialEq)]
pub struct Ticks {
    /// First and last position.
    pub range: (f64, f64),
    /// Positions with their labels.
    pub major: Vec<(f64, String)>,
    /// Positions of the fine lines between.
    pub minor: Vec<f64>,
}

/// A logarithmic axis whose highest value is less than so many times its lowest has even steps.
const NARROW: f64 = 3.0;

impl Scale {
    /// Where `value` lies; `None` if it cannot.
    #[must_use]
    pub fn place(&self, value: f64) -> Option<f64> {
        let place = match self {
            Scale::Linear => value,
            Scale::Log => value.log10(),
            Scale::Percentile => -(1.0 - value).log10(),
            Scale::Names(_) => -value,
        };
        place.is_finite().then_some(place)
    }

    /// The ticks of an axis on which `values` have room; `None` if none of them can be placed.
    #[must_use]
    pub fn ticks(&self, values: impl Iterator<Item = f64>) -> Option<Ticks> {
        let placed = values.filter(|value| value.is_finite() && self.place(*value).is_some());
        let (low, high) = placed
            .fold((f64::MAX, f64::MIN), |(low, high), value| (low.min(value), high.max(value)));
        if low > high {
            return None;
        }
        Some(match self {
            Scale::Linear => linear(high.max(0.0)),
            Scale::Log if high < low * NARROW => narrow(low, high),
            Scale::Log => log(low, high),
            Scale::Percentile => percentile(high),
            Scale::Names(names) => by_name(names),
        })
    }
}

/// The least of 1, 2, 2.5 and 5 times a power of ten that is `at_least`.
fn round_step(at_least: f64) -> f64 {
    let decade = 10f64.powf(at_least.log10().floor());
    let step = [1.0, 2.0, 2.5, 5.0].into_iter().find(|it| it * decade >= at_least * 0.999_999);
    step.unwrap_or(10.0) * decade
}

fn linear(high: f64) -> Ticks {
    let high = if high > 0.0 { high } else { 1.0 };
    let step = round_step(high / 6.0);
    // Headroom: the highest point keeps clear of the frame.
    let count = (high * 1.02 / step).ceil() as u32;
    let major = (0..=count).map(|nth| {
        let at = f64::from(nth) * step;
        (at, number(at, step))
    });
    Ticks {
        range: (0.0, f64::from(count) * step),
        major: major.collect(),
        minor: (0..count).map(|nth| (f64::from(nth) + 0.5) * step).collect(),
    }
}

/// Even steps, where those of [`log`] would leave most of the axis empty.
fn narrow(low: f64, high: f64) -> Ticks {
    let step = round_step((high - low).max(high * 0.1) / 5.0);
    let first = (low * 0.999 / step).floor().max(1.0) as u32;
    let last = (high * 1.001 / step).ceil() as u32;
    let at = |nth: u32| f64::from(nth) * step;
    Ticks {
        range: (at(first).min(low).log10(), at(last).log10()),
        major: (first..=last).map(|nth| (at(nth).log10(), number(at(nth), step))).collect(),
        minor: (first..last).map(|nth| (at(nth) + step / 2.0).log10()).collect(),
    }
}

/// Steps of 1, 2 and 5, and labels at as many of them as there is room for.
fn log(low: f64, high: f64) -> Ticks {
    let values: Vec<f64> = ((low.log10().floor() as i32 - 1)..=(high.log10().ceil() as i32))
        .flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(decade)))
        .collect();
    let from = values.iter().rev().find(|it| **it < low * 0.95).copied().unwrap_or(low);
    let to = values.iter().find(|it| **it > high * 1.05).copied().unwrap_or(high);
    let spans = (to / from).log10();
    let is_labelled = |value: f64| {
        let lead = value / 10f64.powf(value.log10().round());
        // The powers of ten alone once the axis spans more than three.
        spans <= 3.01 || (lead - 1.0).abs() < 1e-6
    };
    let inside = |value: f64| value > from * 0.999 && value < to * 1.001;
    let major = values.iter().filter(|it| inside(**it) && is_labelled(**it));
    let decades = (low.log10().floor() as i32 - 1)..=(high.log10().ceil() as i32);
    let minor =
        decades.flat_map(|decade| (1..10).map(move |it| f64::from(it) * 10f64.powi(decade)));
    Ticks {
        range: (from.log10(), to.log10()),
        major: major.map(|it| (it.log10(), number(*it, *it))).collect(),
        minor: minor.filter(|it| inside(*it)).map(f64::log10).collect(),
    }
}

fn percentile(high: f64) -> Ticks {
    let last = Scale::Percentile.place(high.min(1.0 - 1e-12)).unwrap_or(1.0).max(1.0);
    let labels = ["0", "90", "99", "99.9", "99.99", "99.999", "99.9999", "99.99999", "99.999999"];
    let mut major: Vec<(f64, String)> = labels
        .iter()
        .enumerate()
        .map(|(nines, text)| (nines as f64, format!("{text} %")))
        .collect();
    major.insert(1, (2f64.log10(), "50 %".to_owned()));
    major.retain(|(place, _)| *place <= last + 1e-6);
    let minor = (0..=last as u32).flat_map(|nines| {
        (2..10).map(move |part| f64::from(nines) + 1.0 - f64::from(part).log10())
    });
    Ticks { range: (0.0, last + 0.04), major, minor: minor.filter(|place| *place < last).collect() }
}

fn by_name(names: &[String]) -> Ticks {
    let place = |idx: usize| -(idx as f64);
    Ticks {
        range: (place(names.len().saturating_sub(1)) - 0.6, 0.6),
        major: names.iter().enumerate().map(|(idx, name)| (place(idx), name.clone())).collect(),
        minor: Vec::new(),
    }
}

/// A tick's label, with as many decimals as its step needs and thousands set apart.
fn number(value: f64, step: f64) -> String {
    let mut decimals = (-step.log10().floor()).max(0.0) as usize;
    let lead = step / 10f64.powf(step.log10().floor());
    if (lead - 2.5).abs() < 1e-6 && step < 10.0 {
        decimals += 1;
    }
    let text = format!("{value:.decimals$}");
    let whole = text.split('.').next().unwrap_or_default().len();
    if whole < 5 {
        return text;
    }
    let mut apart = String::new();
    for (idx, digit) in text.chars().enumerate() {
        if idx > 0 && idx < whole && (whole - idx).is_multiple_of(3) {
            apart.push('\u{a0}');
        }
        apart.push(digit);
    }
    apart
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(scale: &Scale, values: &[f64]) -> Vec<String> {
        let ticks = scale.ticks(values.iter().copied()).expect("there are values");
        ticks.major.into_iter().map(|(_, label)| label).collect()
    }

    #[test]
    fn a_linear_axis_begins_at_zero_and_ends_above_the_highest_value() {
        assert_eq!(labels(&Scale::Linear, &[3.0, 97.0]), ["0", "20", "40", "60", "80", "100"]);
        assert_eq!(labels(&Scale::Linear, &[0.9]), ["0.0", "0.2", "0.4", "0.6", "0.8", "1.0"]);
        assert_eq!(labels(&Scale::Linear, &[14.0])[1], "2.5");
        assert_eq!(labels(&Scale::Linear, &[60_000.0])[1], "10\u{a0}000");
        assert_eq!(labels(&Scale::Linear, &[0.0])[0], "0.0");
    }

    #[test]
    fn a_logarithmic_axis_labels_what_has_room() {
        assert_eq!(labels(&Scale::Log, &[0.3, 12.0]), ["0.2", "0.5", "1", "2", "5", "10", "20"]);
        assert_eq!(labels(&Scale::Log, &[0.03, 900.0]), ["0.1", "1", "10", "100", "1000"]);
        assert_eq!(
            labels(&Scale::Log, &[0.97, 1.18]),
            ["0.95", "1.00", "1.05", "1.10", "1.15", "1.20"]
        );
        assert_eq!(labels(&Scale::Log, &[2.0]), ["1.95", "2.00", "2.05"]);
        assert_eq!(Scale::Log.ticks([0.0, -1.0].into_iter()), None);
    }

    #[test]
    fn each_nine_takes_as_much_room_as_the_one_before() {
        let ticks = Scale::Percentile.ticks([0.9995].into_iter()).expect("a value");
        let places: Vec<f64> = ticks.major.iter().map(|(place, _)| *place).collect();
        assert_eq!(
            labels(&Scale::Percentile, &[0.9995]),
            ["0 %", "50 %", "90 %", "99 %", "99.9 %"]
        );
        assert_eq!(places[2..], [1.0, 2.0, 3.0]);
        let placed = Scale::Percentile.place(0.999).expect("below 1");
        assert!((placed - 3.0).abs() < 1e-9);
        assert_eq!(Scale::Percentile.place(1.0), None);
    }
}
