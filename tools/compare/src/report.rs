//! One JSON line on standard output for each case.

use std::time::Instant;

use serde_json::json;

/// What a case ends with: nothing, or what went wrong.
pub type Outcome = Result<(), String>;

/// Runs cases, prints how each ended, and remembers whether all ended well.
pub struct Report {
    client: String,
    passed: bool,
}

impl Report {
    pub fn new(client: String) -> Report {
        Report { client, passed: true }
    }

    pub fn run(&mut self, case: &str, body: impl FnOnce() -> Outcome) {
        let start = Instant::now();
        let error = body().err();
        self.passed &= error.is_none();
        let line = json!({
            "client": self.client,
            "case": case,
            "ok": error.is_none(),
            "ms": u64::try_from(start.elapsed().as_millis()).unwrap_or(u64::MAX),
            "error": error,
        });
        println!("{line}");
    }

    pub fn passed(&self) -> bool {
        self.passed
    }
}

/// Fails with the message unless `holds`.
pub fn require(holds: bool, message: impl FnOnce() -> String) -> Outcome {
    if holds { Ok(()) } else { Err(message()) }
}
