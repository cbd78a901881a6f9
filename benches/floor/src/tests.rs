//! Each command with tiny sizes: everything is answered, what was taken is in the file, and what
//! is damaged is refused.

use std::fs::File;
use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::fd::AsRawFd;
use std::path::PathBuf;
use std::thread;
use std::time::Duration;

use clap::Parser;

use crate::args::Flags;
use crate::commands::{Outcome, run};
use crate::disk::Disk;
use crate::report::Report;
use crate::ring::BLOCK;
use crate::stage::{Layout, play};
use crate::wire::{self, Answer};
use crate::{paced, sockets};

/// A folder on a file system that takes `O_DIRECT`.
pub fn folder() -> PathBuf {
    std::env::temp_dir()
}

/// Runs a command line on one CPU.
fn played(line: &str) -> Outcome {
    let words = format!("thalweg-floor {line} --client-cpu 0 --file-bytes 2MiB");
    let Flags { command, .. } = Flags::try_parse_from(words.split(' ')).expect("flags");
    run(&command)
}

fn run_whole(line: &str) -> (Report, Option<Disk>) {
    played(line).unwrap_or_else(|error| panic!("{line}: {error}"))
}

/// The file's bytes, through the page cache.
fn content(disk: Option<Disk>) -> Vec<u8> {
    let disk = disk.expect("a file");
    let path = format!("/proc/self/fd/{}", disk.file().as_raw_fd());
    let mut bytes = Vec::new();
    File::open(path).and_then(|mut file| file.read_to_end(&mut bytes)).expect("its bytes");
    bytes
}

/// Numbers of the intact frames that lie at the beginning of blocks of `step` bytes.
fn frames_at(content: &[u8], step: usize) -> Vec<u64> {
    let mut numbers = Vec::new();
    for block in content.chunks(step) {
        // Blocks of zeros are where nothing was written.
        let whole = wire::frame_bytes(block, block.len()).ok().flatten().unwrap_or(0);
        if whole > wire::HEADER {
            assert!(wire::is_intact(&block[..whole]));
            numbers.push(wire::number(block));
        }
    }
    numbers
}

/// Numbers of all frames in groups, each of which begins at a block and is padded to the next.
fn frames_in_groups(content: &[u8], frame_bytes: usize) -> Vec<u64> {
    let (mut numbers, mut at) = (Vec::new(), 0);
    while at + frame_bytes <= content.len() {
        let frame = &content[at..at + frame_bytes];
        let found = wire::frame_bytes(frame, frame_bytes).ok().flatten() == Some(frame_bytes);
        if found && wire::is_intact(frame) {
            numbers.push(wire::number(frame));
            at += frame_bytes;
        } else {
            at = (at + 1).next_multiple_of(BLOCK);
        }
    }
    numbers
}

#[test]
fn every_large_frame_is_answered_and_in_the_file() {
    for durability in ["written", "durable"] {
        for file in ["written", "reserved", "growing"] {
            let line = format!(
                "large --count 10 --connections 2 --in-flight 3 --payload 70000 --chunk 16KiB \
                 --durability {durability} --file {file}"
            );
            let (report, disk) = run_whole(&line);
            assert_eq!(report.get("frames"), Some(10.0), "{line}");
            assert_eq!(report.get("refused"), Some(0.0), "{line}");
            let blocks = (70_000 + wire::HEADER).next_multiple_of(BLOCK);
            assert_eq!(frames_at(&content(disk), blocks).len(), 10, "{line}");
        }
    }
}

#[test]
fn large_frames_are_written_inline() {
    let (report, disk) =
        run_whole("large --count 10 --payload 70000 --submit inline --durability durable");
    assert_eq!(report.get("frames"), Some(10.0));
    let blocks = (70_000 + wire::HEADER).next_multiple_of(BLOCK);
    assert_eq!(frames_at(&content(disk), blocks).len(), 10);
}

#[test]
fn large_frames_are_answered_without_a_file() {
    let (report, disk) = run_whole("large --count 7 --payload 70000 --durability none");
    assert_eq!(report.get("frames"), Some(7.0));
    assert!(disk.is_none());
}

#[test]
fn a_damaged_large_frame_is_refused_and_not_written() {
    let line =
        "large --count 9 --payload 70000 --file growing --damage-every 3 --durability written";
    let (report, disk) = run_whole(line);
    assert_eq!(report.get("frames"), Some(9.0));
    assert_eq!(report.get("refused"), Some(3.0));
    let content = content(disk);
    let blocks = (70_000 + wire::HEADER).next_multiple_of(BLOCK);
    assert_eq!((content.len(), frames_at(&content, blocks).len()), (6 * blocks, 6));
}

#[test]
fn every_small_frame_is_answered_and_in_the_file() {
    for submit in ["inline", "ring"] {
        for receive in ["multishot", "single"] {
            let line = format!(
                "small --count 500 --connections 5 --idle 3 --in-flight 4 --payload 100 \
                 --file growing --submit {submit} --receive {receive}"
            );
            let (report, disk) = run_whole(&line);
            assert_eq!(report.get("frames"), Some(500.0), "{line}");
            assert_eq!(report.get("refused"), Some(0.0), "{line}");
            let frames = frames_in_groups(&content(disk), 100 + wire::HEADER);
            assert_eq!(frames.len(), 500, "{line}");
        }
    }
}

#[test]
fn small_frames_are_gathered_and_answered_without_a_file() {
    let (report, disk) =
        run_whole("small --count 300 --connections 4 --durability none --gather 4 --gather-us 200");
    assert_eq!(report.get("frames"), Some(300.0));
    assert!(disk.is_none());
}

#[test]
fn a_damaged_small_frame_is_refused_and_not_written() {
    let line = "small --count 100 --connections 3 --in-flight 2 --payload 100 --file growing \
                --damage-every 10";
    let (report, disk) = run_whole(line);
    assert_eq!(report.get("frames"), Some(100.0));
    assert_eq!(report.get("refused"), Some(10.0));
    assert_eq!(frames_in_groups(&content(disk), 100 + wire::HEADER).len(), 90);
}

#[test]
fn a_paced_reader_gets_every_frame_that_is_in_the_file() {
    for (payload, flags) in [(1000, ""), (1000, " --submit ring --sleep"), (70_000, "")] {
        let line = format!(
            "paced --count 50 --connections 2 --frames-per-s 500 --payload {payload} \
             --file growing{flags}"
        );
        let (report, disk) = run_whole(&line);
        assert_eq!(report.get("frames"), Some(50.0), "{line}");
        let whole = payload + wire::HEADER;
        let mut numbers = if payload < 65_536 {
            frames_in_groups(&content(disk), whole)
        } else {
            frames_at(&content(disk), whole.next_multiple_of(BLOCK))
        };
        numbers.sort_unstable();
        assert_eq!(numbers, Vec::from_iter(0..50), "{line}");
    }
}

#[test]
fn what_is_sent_arrives_from_memory_and_from_a_file() {
    for flags in ["", " --asked 2", " --discard", " --source cold", " --source cold --asked 3"] {
        let line = format!("send --count 20 --connections 2 --chunk 64KiB --span 128KiB{flags}");
        let (report, _) = run_whole(&line);
        // 20 for each connection.
        assert_eq!(report.get("frames"), Some(40.0), "{line}");
    }
    let (report, _) = run_whole("send --count 20 --chunk 64KiB --source read");
    assert_eq!(report.get("frames"), Some(20.0));
}

#[test]
fn a_run_ends_when_its_time_is_over() {
    for command in ["large", "small", "paced", "send", "send --asked 2", "send --source cold"] {
        let (report, _) = run_whole(&format!("{command} --warmup 0.05 --duration 0.1"));
        assert!(report.get("seconds").is_some_and(|seconds| seconds >= 0.1), "{command}");
    }
}

#[test]
fn flags_that_cannot_work_are_named() {
    let errors = [
        ("large --payload 2MiB", "--file-bytes: 2101248 bytes are written"),
        ("paced --frames-per-s 0", "the rate must be above zero"),
        ("send --source cold --chunk 1000", "--chunk: a file is read in whole blocks"),
        ("small --server-cpu 999", "this process may not use CPU 999"),
    ];
    for (line, wanted) in errors {
        let text = played(line).expect_err(line).to_string();
        assert!(text.starts_with(wanted), "{line}: {text}");
    }
}

#[test]
fn a_report_is_json_with_flags_and_figures() {
    let (report, _) = run_whole("small --count 10 --connections 1");
    let json: serde_json::Value = serde_json::from_str(&report.json()).expect("JSON");
    assert_eq!(json["what"], "small");
    assert_eq!(json["flags"]["in_flight"], 1);
    assert_eq!(json["flags"]["durability"], "durable");
    assert_eq!(json["figures"]["frames"], 10.0);
    assert!(report.table().contains("frames_per_s"));
}

/// A server that takes the first frame, stalls, and then answers `count` frames of `bytes`.
fn stalling(mut socket: &TcpStream, stall: Duration, bytes: usize, count: u64) -> io::Result<()> {
    let mut frame = vec![0; bytes];
    for number in 0..count {
        socket.read_exact(&mut frame)?;
        if number == 0 {
            thread::sleep(stall);
        }
        socket.write_all(&Answer::Taken.encode())?;
    }
    // The client closes first.
    socket.read_exact(&mut frame[..1]).map_or_else(|_| Ok(()), |()| Err(wire::invalid("more")))
}

#[test]
fn a_stall_counts_for_every_frame_that_was_due_meanwhile() {
    let (count, stall) = (100, Duration::from_millis(100));
    let plan = paced::Plan {
        spin: Duration::ZERO,
        payload_bytes: 100,
        interval_ns: 1e6,
        window: 4,
        count: Some(count),
        sleep: true,
    };
    let (ours, theirs) = sockets::pairs(1, None).expect("a connection");
    let (warmup, duration) = (Duration::ZERO, Duration::MAX);
    let layout = Layout { server_cpu: 0, client_cpu: 0, warmup, duration, watched: None };
    let ((), seen, _) = play(
        &layout,
        move |_| stalling(ours.get(0), stall, 100 + wire::HEADER, count),
        move |stage| paced::run(plan, stage, &theirs, None),
    )
    .expect("a run");
    // A frame a millisecond: some fifty were due in the first half of the stall, and four in flight.
    let waited = seen.response.count_between(50_000_000, u64::MAX);
    assert!(waited >= 40, "{waited} of {}", seen.response.len());
    assert_eq!(seen.taken, count);
}
