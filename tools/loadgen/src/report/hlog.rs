//! Histograms of each measured second in HdrHistogram's log format, which its plotters, HdrLogProcessor
//! and `hdrhistogram` in every language read. Values are in ns; tags tell the latencies apart.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use hdrhistogram::Histogram;
use hdrhistogram::serialization::V2DeflateSerializer;
use hdrhistogram::serialization::interval_log::{
    IntervalLogIterator, IntervalLogWriterBuilder, LogEntry, Tag,
};

use crate::measure::encoded;
use crate::measure::tally::Latencies;

/// An `.hlog` file that is being written.
pub struct HistogramLog {
    file: BufWriter<File>,
    serializer: V2DeflateSerializer,
}

impl HistogramLog {
    /// Makes the file and writes its head.
    ///
    /// # Errors
    /// What the file system says.
    pub fn create(path: &Path) -> io::Result<HistogramLog> {
        let mut file = BufWriter::new(File::create(path)?);
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        writeln!(file, "#[Histogram log format version 1.3]")?;
        writeln!(file, "#[Latencies of thalweg-bench in ns, one tag for each kind]")?;
        writeln!(file, "#[StartTime: {:.3} (seconds since epoch)]", now.as_secs_f64())?;
        writeln!(
            file,
            "\"StartTimestamp\",\"Interval_Length\",\"Interval_Max\",\"Interval_Compressed_Histogram\""
        )?;
        Ok(HistogramLog { file, serializer: V2DeflateSerializer::new() })
    }

    /// Adds what one second saw, `start` after the run's begin.
    ///
    /// # Errors
    /// What the file system says.
    pub fn second(&mut self, start: Duration, latencies: &Latencies) -> io::Result<()> {
        for (tag, histogram) in latencies.tagged() {
            if !histogram.is_empty() {
                self.interval(tag, start, histogram)?;
            }
        }
        Ok(())
    }

    fn interval(
        &mut self,
        tag: &str,
        start: Duration,
        histogram: &Histogram<u64>,
    ) -> io::Result<()> {
        let length = Duration::from_secs(1);
        let mut log =
            IntervalLogWriterBuilder::new().begin_log_with(&mut self.file, &mut self.serializer)?;
        log.write_histogram(histogram, start, length, Tag::new(tag))
            .map_err(|error| io::Error::other(format!("{error:?}")))
    }

    /// Ends the file.
    ///
    /// # Errors
    /// What the file system says.
    pub fn finish(mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// The distributions of a whole `.hlog` file, by tag; intervals without one are left out.
///
/// # Errors
/// What is wrong with the file.
pub fn read(path: &Path) -> Result<BTreeMap<String, Histogram<u64>>, String> {
    let bytes = std::fs::read(path).map_err(|error| error.to_string())?;
    let mut all: BTreeMap<String, Histogram<u64>> = BTreeMap::new();
    for entry in IntervalLogIterator::new(&bytes) {
        let entry = entry.map_err(|error| format!("not a histogram log: {error:?}"))?;
        let LogEntry::Interval(interval) = entry else { continue };
        let Some(tag) = interval.tag() else { continue };
        let histogram = encoded::decode(interval.encoded_histogram())?;
        match all.get_mut(tag.as_str()) {
            Some(merged) => merged.add(&histogram).map_err(|error| error.to_string())?,
            None => {
                all.insert(tag.as_str().to_owned(), histogram);
            }
        }
    }
    Ok(all)
}
