//! What a lane sends next: partitions in turn, or as their keys weigh.

use super::lane::LanePlan;
use super::schedule::Random;

/// Which partition and which of its batches are next. Batches of the pool are in random order
/// already, so that taking them in turn is as good as drawing, and shows each as often.
pub struct Choice {
    turn: usize,
    sent: usize,
    random: Random,
}

impl Choice {
    /// The choice of lane `id`.
    #[must_use]
    pub fn new(id: u16) -> Choice {
        // Lanes begin at different batches, so that they do not all send the large ones at once.
        let mut random = Random::new(u64::from(id) + 1);
        Choice { turn: 0, sent: random.below(1 << 20), random }
    }

    /// Index of the target, and number of the batch in the pool.
    pub fn next(&mut self, plan: &LanePlan) -> (usize, usize) {
        let at = match &plan.weights {
            None => {
                let at = self.turn;
                self.turn = (at + 1) % plan.targets.len();
                at
            }
            Some(sums) => {
                let drawn = self.random.unit() * sums.last().copied().unwrap_or(1.0);
                sums.partition_point(|&sum| sum <= drawn).min(plan.targets.len() - 1)
            }
        };
        let batches = &plan.targets[at].batches;
        let batch = batches.start + self.sent % batches.len();
        self.sent += 1;
        (at, batch)
    }
}
