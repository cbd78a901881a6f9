//! Each command: what the two threads do, and what is reported of it.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use crate::args::{Command, Common, Durability, Large, Paced, Send, Small, Source, Tail};
use crate::disk::{Disk, FileState};
use crate::report::Report;
use crate::ring::blocks;
use crate::stage::{Layout, Stage, play};
use crate::wire::{HEADER, invalid};
use crate::{client, large, paced, receiver, sender, small, sockets};

/// A report, and the file that was written.
pub type Outcome = io::Result<(Report, Option<Disk>)>;

/// Sums of what must agree at the end.
fn agree(what: &str, wanted: u64, found: u64) -> io::Result<()> {
    if wanted == found {
        return Ok(());
    }
    Err(invalid(&format!("{what}: {found} instead of {wanted}")))
}

fn disk(common: &Common, state: FileState, durability: Durability) -> io::Result<Option<Disk>> {
    if durability == Durability::None {
        return Ok(None);
    }
    let folder = common.dir.clone().unwrap_or_else(std::env::temp_dir);
    Disk::create(&folder, state, blocks(common.file_bytes) as u64).map(Some)
}

fn layout(common: &Common, disk: Option<&Disk>) -> io::Result<Layout> {
    let watched = disk.map(|disk| disk.file().try_clone()).transpose()?.map(Arc::new);
    let (server_cpu, client_cpu) = (common.server_cpu, common.client_cpu);
    // What is counted is measured from its beginning.
    let warmup = if common.count.is_some() { Duration::ZERO } else { common.warmup };
    let duration = if common.count.is_some() { Duration::MAX } else { common.duration };
    Ok(Layout { server_cpu, client_cpu, warmup, duration, watched })
}

fn fits(common: &Common, state: FileState, bytes: usize) -> io::Result<()> {
    if state == FileState::Written && bytes > common.file_bytes {
        let what = format!("--file-bytes: {bytes} bytes are written at a time");
        return Err(invalid(&what));
    }
    Ok(())
}

/// Runs a command to its end.
///
/// # Errors
/// What is wrong with the flags or the machine, and figures that do not agree.
pub fn run(command: &Command) -> Outcome {
    match command {
        Command::Large(flags) => run_large(flags),
        Command::Small(flags) => run_small(flags),
        Command::Paced(flags) => run_paced(flags),
        Command::Send(flags) => run_send(flags),
    }
}

fn run_large(flags: &Large) -> Outcome {
    let common = &flags.common;
    let frame_bytes = HEADER + flags.payload;
    fits(common, flags.file, blocks(frame_bytes))?;
    let mut disk = disk(common, flags.file, flags.durability)?;
    let layout = layout(common, disk.as_ref())?;
    let (ours, theirs) = sockets::pairs(flags.connections, common.socket_buffer)?;
    let in_flight = flags.connections * flags.in_flight;
    let plan = large::Plan {
        spin: common.spin(),
        durability: flags.durability,
        submit: flags.submit,
        frame_bytes,
        chunk_bytes: flags.chunk,
        pieces: flags.pieces.unwrap_or(flags.connections + in_flight).max(1),
        check: !flags.no_crc,
    };
    let asks = client::Plan {
        spin: common.client_spin(),
        in_flight: flags.in_flight,
        payload_bytes: flags.payload,
        active: flags.connections,
        count: common.count,
        damage_every: flags.damage_every,
    };
    let (disk, seen, window) = play(
        &layout,
        move |_| {
            large::Server::new(plan, &ours, None, disk.as_mut())?.run()?;
            Ok(disk)
        },
        move |stage| client::run(asks, stage, &theirs),
    )?;
    agree("frames answered", seen.sent, seen.taken + seen.refused)?;
    let mut report = Report::new("large", flags);
    report.window(&window);
    report.figure("refused", seen.refused as f64);
    if common.client_spin_us == 0 && window.client_cpu > 0.95 * window.seconds {
        report.note("the client's core was full: it may be the limit");
    }
    report.latency("answer", &seen.latency);
    Ok((report, disk))
}

fn tail_plan(tail: &Tail, spin: Duration, frame_bytes: usize, in_flight: usize) -> small::Plan {
    small::Plan {
        spin,
        durability: tail.durability,
        submit: tail.submit,
        receive: tail.receive,
        frame_bytes,
        tail_bytes: blocks(frame_bytes * in_flight),
        gather: (tail.gather, Duration::from_micros(tail.gather_us)),
    }
}

fn run_small(flags: &Small) -> Outcome {
    let common = &flags.common;
    let in_flight = flags.connections * flags.in_flight;
    let plan = tail_plan(&flags.tail, common.spin(), HEADER + flags.payload, in_flight);
    fits(common, flags.tail.file, plan.tail_bytes)?;
    let mut disk = disk(common, flags.tail.file, flags.tail.durability)?;
    let layout = layout(common, disk.as_ref())?;
    let (ours, theirs) = sockets::pairs(flags.connections + flags.idle, common.socket_buffer)?;
    let asks = client::Plan {
        spin: common.client_spin(),
        in_flight: flags.in_flight,
        payload_bytes: flags.payload,
        active: flags.connections,
        count: common.count,
        damage_every: flags.damage_every,
    };
    let ((work, disk), seen, window) = play(
        &layout,
        move |_| {
            let work = small::Server::new(plan, &ours, None, disk.as_mut())?.run()?;
            Ok((work, disk))
        },
        move |stage| client::run(asks, stage, &theirs),
    )?;
    agree("frames answered", seen.sent, seen.taken + seen.refused)?;
    agree("frames taken by the server", seen.taken, work.frames)?;
    agree("frames refused by the server", seen.refused, work.refused)?;
    let mut report = Report::new("small", flags);
    report.window(&window);
    report.figure("refused", seen.refused as f64);
    if common.client_spin_us == 0 && window.client_cpu > 0.95 * window.seconds {
        report.note("the client's core was full: it may be the limit");
    }
    report.figure("frames_per_group", work.frames as f64 / (work.groups as f64).max(1.0));
    report.latency("answer", &seen.latency);
    Ok((report, disk))
}

fn run_paced(flags: &Paced) -> Outcome {
    let common = &flags.common;
    let (frame_bytes, spin) = (HEADER + flags.payload, common.spin());
    let frames_per_s = flags.frames_per_s.unwrap_or(flags.mb_per_s * 1e6 / flags.payload as f64);
    if !(frames_per_s.is_finite() && frames_per_s > 0.0) {
        return Err(invalid("the rate must be above zero"));
    }
    let tail = tail_plan(&flags.tail, spin, frame_bytes, flags.window);
    let Tail { durability, submit, .. } = flags.tail;
    let is_large = flags.payload >= flags.large_from;
    let at_once = if is_large { blocks(frame_bytes) } else { tail.tail_bytes };
    fits(common, flags.tail.file, at_once)?;
    let mut disk = disk(common, flags.tail.file, durability)?;
    let layout = layout(common, disk.as_ref())?;
    let (ours, theirs) = sockets::pairs(flags.connections, common.socket_buffer)?;
    let (sends, reads) = match flags.no_reader {
        true => (None, None),
        false => sockets::pairs(1, common.socket_buffer)
            .map(|(server, client)| (Some(server), Some(client)))?,
    };
    let asks = paced::Plan {
        spin: Duration::ZERO,
        payload_bytes: flags.payload,
        interval_ns: 1e9 / frames_per_s,
        window: flags.window,
        count: common.count,
        sleep: flags.sleep,
    };
    // Also what the reader has not taken yet.
    let pieces = flags.connections + flags.window * 2;
    let (disk, seen, window) = play(
        &layout,
        move |_| {
            if is_large {
                let chunk_bytes = LARGE_CHUNK;
                let plan = large::Plan {
                    spin,
                    durability,
                    submit,
                    frame_bytes,
                    chunk_bytes,
                    pieces,
                    check: true,
                };
                large::Server::new(plan, &ours, sends.as_ref(), disk.as_mut())?.run()?;
            } else {
                small::Server::new(tail, &ours, sends.as_ref(), disk.as_mut())?.run()?;
            }
            Ok(disk)
        },
        move |stage| paced::run(asks, stage, &theirs, reads.as_ref()),
    )?;
    agree("frames answered", seen.sent, seen.taken)?;
    if !flags.no_reader {
        agree("frames that the reader got", seen.sent, seen.read)?;
    }
    let mut report = paced_report(flags, frames_per_s, &seen);
    report.window(&window);
    if (window.frames as f64) < 0.99 * frames_per_s * window.seconds && common.count.is_none() {
        report.note("the rate was not held");
    }
    Ok((report, disk))
}

fn paced_report(flags: &Paced, frames_per_s: f64, seen: &paced::Seen) -> Report {
    let mut report = Report::new("paced", flags);
    let measured = seen.measured.end - seen.measured.start;
    report.figure("intended_frames_per_s", frames_per_s);
    report.figure("late_share", seen.late as f64 / (measured as f64).max(1.0));
    report.figure("unsent", seen.unsent as f64);
    report.latency("response", &seen.response);
    if !flags.no_reader {
        report.latency("end_to_end", &seen.end_to_end);
    }
    if seen.late * 1000 > measured {
        report.note("over 0.1 % of the frames left over 1 ms late by the client's own fault");
    }
    report
}

/// A receive of a paced large frame wakes the server when so much is there.
const LARGE_CHUNK: usize = 256 << 10;

fn run_send(flags: &Send) -> Outcome {
    let common = &flags.common;
    let from_file = flags.source != Source::Hot;
    if from_file && !flags.chunk.is_multiple_of(crate::ring::BLOCK) {
        return Err(invalid("--chunk: a file is read in whole blocks of 4096 bytes"));
    }
    if from_file && (flags.depth == 0 || flags.chunk > common.file_bytes) {
        return Err(invalid("--depth and --file-bytes must allow one read at least"));
    }
    let state = if from_file { Durability::Written } else { Durability::None };
    let disk = disk(common, FileState::Written, state)?;
    let layout = layout(common, disk.as_ref())?;
    let count = if flags.source == Source::Read { 0 } else { flags.connections };
    let (ours, theirs) = sockets::pairs(count, common.socket_buffer)?;
    let plan = sender::Plan {
        spin: common.spin(),
        source: flags.source,
        chunk_bytes: flags.chunk,
        chunks: (flags.span / flags.chunk).max(1),
        depth: flags.depth,
        file: disk.as_ref().map(|disk| (disk.descriptor(), blocks(common.file_bytes) as u64)),
        count: common.count,
        asked: flags.asked > 0 && flags.source != Source::Read,
    };
    let gets = receiver::Plan {
        spin: common.client_spin(),
        chunk_bytes: flags.chunk,
        asked: flags.asked,
        count: common.count,
        discard: flags.discard,
    };
    let (reads_only, count) = (flags.source == Source::Read, common.count);
    let (sent, received, window) = play(
        &layout,
        move |stage| sender::run(plan, stage, &ours),
        move |stage| {
            if reads_only { wait_for(stage, count) } else { receiver::run(gets, stage, &theirs) }
        },
    )?;
    if !reads_only {
        agree("bytes received", sent * flags.chunk as u64, received)?;
    }
    let mut report = Report::new("send", flags);
    report.window(&window);
    Ok((report, disk))
}

/// The client where nothing is sent.
fn wait_for(stage: &Stage, count: Option<u64>) -> io::Result<u64> {
    while !stage.is_over() && count.is_none_or(|count| stage.counts().0 < count) {
        std::thread::sleep(Duration::from_millis(1));
    }
    Ok(0)
}
