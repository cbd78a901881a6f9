//! Kills and power cuts at any moment. Every case is a seed: run one again with
//! `THALWEG_SEED=n cargo test --lib storage::tests::crash`.

use super::world::{End, Random, World};

pub(super) fn seeds(count: u64) -> std::ops::Range<u64> {
    let asked = std::env::var("THALWEG_SEED").ok().and_then(|seed| seed.parse().ok());
    let many = std::env::var("THALWEG_SEEDS").ok().and_then(|count| count.parse().ok());
    match asked {
        Some(seed) => seed..seed + 1,
        None => 0..many.unwrap_or(count),
    }
}

fn run(seed: u64, ends: &[End], habit: fn(&mut World)) -> World {
    let seed_shown = scopeguard(seed);
    let mut random = Random::new(seed ^ 0xABCD);
    let mut world = World::new(seed);
    habit(&mut world);
    for _ in 0..6 {
        let end = ends[random.below(ends.len() as u64) as usize];
        let steps = [50, 400, 2500][random.below(3) as usize];
        world.live_once(steps, end);
    }
    world.live_once(10, End::Kill);
    drop(seed_shown);
    world
}

fn run_all(count: u64, ends: &[End], habit: fn(&mut World)) {
    let (mut large_bytes, mut starts_moved, mut retains) = (0, 0, false);
    for seed in seeds(count) {
        let world = run(seed, ends, habit);
        large_bytes += world.large_bytes;
        starts_moved += world.starts_moved;
        retains = world.retains;
    }
    let is_one = std::env::var("THALWEG_SEED").is_ok();
    assert!(is_one || large_bytes > 0, "nothing went through the large lane");
    assert!(is_one || !retains || starts_moved > count, "no start moved");
}

/// Says which seed it was when a test panics.
struct Shown(u64);

fn scopeguard(seed: u64) -> Shown {
    Shown(seed)
}

impl Drop for Shown {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("failed with seed {}", self.0);
        }
    }
}

#[test]
fn a_kill_at_any_moment_loses_no_acknowledged_record_and_reuses_no_offset() {
    run_all(25, &[End::Kill], |_| ());
}

#[test]
fn a_power_cut_at_any_moment_loses_no_durable_record_and_leaves_no_half_one() {
    run_all(30, &[End::PowerCut, End::Kill], |_| ());
}

#[test]
fn truncations_and_moves_of_the_start_hold_through_kills_and_power_cuts() {
    run_all(25, &[End::PowerCut, End::Kill, End::Close], |world| world.truncates = true);
}

#[test]
fn a_clean_stop_leaves_nothing_to_replay_whatever_came_before() {
    run_all(12, &[End::Close, End::Close, End::PowerCut], |_| ());
}

#[test]
fn a_start_that_was_made_durable_never_goes_back_and_nothing_behind_it_is_missing() {
    run_all(25, &[End::PowerCut, End::Kill, End::Close], |world| world.retains = true);
}

#[test]
fn retention_beside_truncations_holds_through_kills_and_power_cuts() {
    run_all(12, &[End::PowerCut, End::Kill, End::Close], |world| {
        world.truncates = true;
        world.retains = true;
    });
}
