//! Connection churn: at each intended time a connection is opened, used for one request
//! (ApiVersions, with which every Kafka client begins) and closed.
//!
//! Both latencies count from the intended time, so a broker that accepts slowly shows it even if
//! nobody would have waited for the one before.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;

use thalweg::base::signal::Event;

use super::pacer::Pacer;
use super::recorder::Recorder;
use super::schedule::Schedule;
use crate::client::dial::Dialer;
use crate::client::frames::Broken;

/// Connections that are open at a time on one load core. What is due beyond them waits, and its
/// latency counts; without a bound a broker that hangs would use up all ports.
const OPEN_MAX: usize = 2_000;

/// What one load core's churn does.
#[derive(Clone, Debug)]
pub struct ChurnPlan {
    /// How to connect.
    pub dialer: Dialer,
    /// Brokers, taken in turn.
    pub brokers: Vec<SocketAddr>,
    /// When connections are meant to be opened.
    pub schedule: Schedule,
    /// ApiVersions version.
    pub greeting: i16,
}

/// Churn at work.
pub struct Churn {
    plan: ChurnPlan,
    pacer: Rc<Pacer>,
    recorder: Rc<Recorder>,
    open: Cell<usize>,
    closed: Event,
}

impl Churn {
    /// Churn of `plan`.
    #[must_use]
    pub fn new(plan: ChurnPlan, pacer: Rc<Pacer>, recorder: Rc<Recorder>) -> Rc<Churn> {
        Rc::new(Churn { plan, pacer, recorder, open: Cell::new(0), closed: Event::new() })
    }

    /// Opens connections until the run's end, and waits until the last is closed.
    pub async fn run(self: Rc<Churn>) {
        let end_ns = self.recorder.window().end_ns;
        let mut schedule = self.plan.schedule.clone();
        let mut turn = 0;
        while let Some(intended_ns) = schedule.next_ns().filter(|&at| at < end_ns) {
            self.pacer.until(intended_ns).await;
            self.wait_below(OPEN_MAX).await;
            schedule.advance();
            let broker = self.plan.brokers[turn % self.plan.brokers.len()];
            turn += 1;
            self.open.set(self.open.get() + 1);
            let churn = self.clone();
            glommio::spawn_local(async move {
                if let Err(broken) = churn.once(broker, intended_ns).await {
                    churn.recorder.at(intended_ns, |tally| tally.counters.failed_requests += 1);
                    churn.recorder.error(churn.now(), "churn", broken.to_string());
                }
                churn.open.set(churn.open.get() - 1);
                churn.closed.notify();
            })
            .detach();
        }
        self.wait_below(1).await;
    }

    async fn wait_below(&self, count: usize) {
        while self.open.get() >= count {
            self.closed.wait().await;
        }
    }

    fn now(&self) -> u64 {
        self.pacer.clock().now_ns()
    }

    async fn once(&self, broker: SocketAddr, intended_ns: u64) -> Result<(), Broken> {
        self.pacer.worked();
        let stream = self.plan.dialer.open(broker).await?;
        let connected_ns = self.now();
        self.plan.dialer.greet(stream, broker, self.plan.greeting).await?;
        let answered_ns = self.now();
        self.pacer.worked();
        self.recorder.at(intended_ns, |tally| {
            tally.counters.churned_connections += 1;
            let since = |at_ns: u64| at_ns.saturating_sub(intended_ns).max(1);
            tally.latencies.more("connect").saturating_record(since(connected_ns));
            tally.latencies.more("first_request").saturating_record(since(answered_ns));
        });
        Ok(())
    }
}
