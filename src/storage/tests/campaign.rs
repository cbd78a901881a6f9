//! The campaign: worlds with every habit, thousands of seeds of them on all cores, and the proof
//! that they find something. `cargo dev sim --seeds 20000` runs it optimised.
//!
//! `THALWEG_TEST_SEEDS=n` and `THALWEG_TEST_FROM=n` choose the seeds.

use std::any::Any;
use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, Once, PoisonError};

use super::world::{End, Random, World};

/// One seed's world: its habits, its lives and how each of them ends.
fn live(seed: u64, lives: usize) -> World {
    let mut random = Random::new(seed ^ 0xCA_3B);
    let mut world = World::new(seed);
    world.truncates = random.chance(30);
    world.retains = random.chance(50);
    world.reshards = random.chance(50);
    world.reconfigures = random.chance(50);
    world.flips = random.chance(50);
    let faults_percent = [0, 0, 20][random.below(3) as usize];
    let ends: &[End] = match random.below(4) {
        0 => &[End::Kill],
        1 => &[End::PowerCut],
        2 => &[End::PowerCut, End::Kill],
        _ => &[End::PowerCut, End::Kill, End::Close],
    };
    for _ in 0..lives {
        let steps = [50, 400, 2500][random.below(3) as usize];
        if random.chance(faults_percent) {
            world.live_with_fault(steps);
            if random.chance(50) {
                world.cut_power();
            }
        } else {
            let end = ends[random.below(ends.len() as u64) as usize];
            world.live_once(steps, end);
        }
    }
    world.live_once(10, End::Kill);
    world
}

const LIVES: usize = 6;

fn asked(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("a number"))
}

/// What the campaign met, so that it cannot pass by meeting nothing.
#[derive(Debug, Default)]
struct Met {
    large_bytes: AtomicU64,
    starts_moved: AtomicU64,
    flips_refused: AtomicU64,
}

#[test]
fn no_seed_breaks_a_promise() {
    let first = asked("THALWEG_TEST_FROM").unwrap_or(0);
    let count = asked("THALWEG_TEST_SEEDS").unwrap_or(40);
    let met = Met::default();
    let violations = on_all_cores(first..first + count, usize::MAX, |seed| {
        let world = live(seed, LIVES);
        met.large_bytes.fetch_add(world.large_bytes, Ordering::Relaxed);
        met.starts_moved.fetch_add(world.starts_moved, Ordering::Relaxed);
        met.flips_refused.fetch_add(world.flips_refused, Ordering::Relaxed);
    });
    println!("{count} seeds from {first}: {} violations; {met:?}", violations.len());
    assert!(violations.is_empty(), "{} violations", violations.len());
    let all = [&met.large_bytes, &met.starts_moved, &met.flips_refused];
    assert!(count < 40 || all.iter().all(|it| it.load(Ordering::Relaxed) > 0), "{met:?}");
}

#[test]
fn the_same_seed_twice_gives_the_same_trace() {
    let differing = on_all_cores(0..100, usize::MAX, |seed| {
        let (first, second) = (live(seed, 2).trace, live(seed, 2).trace);
        let step = first.iter().zip(&second).position(|(first, second)| first != second);
        assert_eq!(step, None, "the first step that differs");
        assert_eq!(first.len(), second.len());
    });
    assert!(differing.is_empty(), "{differing:?}");
}

#[cfg(feature = "planted-bugs")]
#[test]
fn every_planted_bug_is_found_within_2000_seeds() {
    use crate::base::planted::{Bug, plant};
    let mut missed = Vec::new();
    for bug in Bug::ALL {
        let found = on_all_cores(0..2000, 1, |seed| {
            plant(Some(bug));
            live(seed, LIVES);
        });
        let Some((seed, what)) = found.first() else {
            missed.push(bug);
            continue;
        };
        println!("{:<32} seed {seed}: {}", bug.name(), what.lines().next().unwrap_or_default());
    }
    assert!(missed.is_empty(), "not found: {missed:?}");
}

/// Runs `work` for every seed, a thread for each core, until `enough` of them panicked. Returns
/// these, with what they said.
fn on_all_cores(
    seeds: std::ops::Range<u64>,
    enough: usize,
    work: impl Fn(u64) + Sync,
) -> Vec<(u64, String)> {
    hush_expected_panics();
    let next = AtomicU64::new(seeds.start);
    let found = Mutex::new(Vec::new());
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                HUSHED.set(true);
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    let count = found.lock().unwrap_or_else(PoisonError::into_inner).len();
                    if seed >= seeds.end || count >= enough {
                        return;
                    }
                    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| work(seed))) {
                        let what = said(panic.as_ref());
                        if enough == usize::MAX {
                            println!("seed {seed}: {what}");
                        }
                        let found = &mut found.lock().unwrap_or_else(PoisonError::into_inner);
                        found.push((seed, what));
                    }
                    let done = seed + 1 - seeds.start;
                    if done.is_multiple_of(1000) {
                        println!("{done} seeds");
                    }
                }
            });
        }
    });
    let mut found = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    found.sort();
    found
}

thread_local! {
    static HUSHED: Cell<bool> = const { Cell::new(false) };
    static PLACE: Cell<Option<String>> = const { Cell::new(None) };
}

/// Panics of the campaign's threads are results: noted instead of printed.
fn hush_expected_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let usual = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| match HUSHED.get() {
            true => PLACE.set(info.location().map(|it| format!("{}:{}", it.file(), it.line()))),
            false => usual(info),
        }));
    });
}

fn said(panic: &(dyn Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("a panic");
    format!("{text} ({})", PLACE.take().unwrap_or_default())
}
