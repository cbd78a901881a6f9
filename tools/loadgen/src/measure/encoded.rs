//! Whole histograms as text, so that runs can be merged and compared long after: HdrHistogram's
//! own compressed encoding in base64, as in `.hlog` files.

use std::io::Cursor;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer, Serializer, V2DeflateSerializer};

/// `histogram` as text; `None` if it is empty.
#[must_use]
pub fn encode(histogram: &Histogram<u64>) -> Option<String> {
    if histogram.is_empty() {
        return None;
    }
    let mut bytes = Vec::new();
    // Writing to memory does not fail, and counts of u64 always fit.
    V2DeflateSerializer::new().serialize(histogram, &mut bytes).ok()?;
    Some(STANDARD.encode(bytes))
}

/// The histogram in `text`.
///
/// # Errors
/// What is wrong with it.
pub fn decode(text: &str) -> Result<Histogram<u64>, String> {
    let bytes = STANDARD.decode(text).map_err(|error| error.to_string())?;
    let decoded = Deserializer::new().deserialize(&mut Cursor::new(bytes));
    decoded.map_err(|error| format!("not a histogram: {error:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::tally::latency_histogram;

    #[test]
    fn a_histogram_survives_as_text_and_nothing_is_none() {
        let mut histogram = latency_histogram();
        assert_eq!(encode(&histogram), None);
        (1..5_000u64).for_each(|at| histogram.saturating_record(at * at));
        let back = decode(&encode(&histogram).expect("not empty")).expect("reads");
        assert_eq!(back, histogram);
        let mut merged = latency_histogram();
        merged.add(&back).expect("equal bounds");
        assert_eq!(merged.len(), 4_999);
        assert!(decode("????").is_err() && decode("AAAA").is_err());
    }
}
