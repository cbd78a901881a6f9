//! What is printed: a summary with a verdict for each file, one topic with its batches and records,
//! or one journal with its groups.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::ControlFlow;
use std::path::Path;

use serde_json::json;
use thalweg::base::ids::{PartitionIndex, TopicId, TopicPartition};
use thalweg::cluster::directory::{
    DirectoryError, Identity, META_FILE, METADATA_FILE, read_identity,
};
use thalweg::cluster::image::MetadataImage;
use thalweg::cluster::inspect::{LockState, lock_state, read_metadata};
use thalweg::storage::dump::{
    DataDir, EntryInfo, EntryPlace, FileKind, FileReport, GroupInfo, JournalItem, Verdict, Wanted,
};

use crate::args::Args;
use crate::batch;
use crate::print::Printer;

/// Why nothing can be shown.
#[derive(Debug)]
pub enum Problem {
    /// Exit code 1.
    Unreadable(String),
    /// Exit code 2.
    Usage(String),
}

/// A directory and all that is known about it from outside its storage.
struct Opened {
    dir: DataDir,
    identity: Option<Identity>,
    image: Option<MetadataImage>,
    lock: LockState,
    /// What was said of identity and metadata.
    reports: Vec<FileReport>,
}

/// Prints what the flags ask for.
///
/// # Errors
/// See [`Problem`].
pub fn run(args: &Args, printer: &mut Printer<'_>) -> Result<(), Problem> {
    let opened = open(args)?;
    head(args, &opened, printer);
    if let Some(shard) = args.journal {
        return journal(args, &opened, shard, printer);
    }
    match &args.topic {
        Some(topic) => one_topic(args, &opened, topic, printer),
        None => {
            everything(args, &opened, printer);
            Ok(())
        }
    }
}

fn open(args: &Args) -> Result<Opened, Problem> {
    let root = &args.dir;
    let unreadable = |error: io::Error| {
        Problem::Unreadable(format!("{} cannot be read: {error}", root.display()))
    };
    std::fs::read_dir(root).map_err(unreadable)?;
    let (mut reports, meta) = (Vec::new(), root.join(META_FILE));
    let bytes = |path: &Path| std::fs::metadata(path).map_or(0, |metadata| metadata.len());
    let mut report = FileReport::new(&meta, FileKind::Identity, bytes(&meta));
    let identity = match read_identity(root) {
        Ok(Some(identity)) => {
            report.summary = format!("directory {}", identity.directory_id);
            reports.push(report);
            Some(identity)
        }
        Ok(None)
            if !["topics", "journal", "checkpoint"].iter().any(|it| root.join(it).exists()) =>
        {
            let what =
                "is no data directory: it has no thalweg.meta, journal, checkpoint or topics";
            return Err(Problem::Unreadable(format!("{} {what}", root.display())));
        }
        Ok(None) => {
            let means = "the broker refuses the directory: it does not know whose it is";
            report.note(Verdict::Damaged, None, "it is not there", means);
            reports.push(report);
            None
        }
        Err(error) => {
            let means = "the broker refuses the directory";
            let is_damaged = matches!(error, DirectoryError::Corrupt { .. });
            let verdict = if is_damaged { Verdict::Damaged } else { Verdict::Unreadable };
            report.note(verdict, None, error.to_string(), means);
            reports.push(report);
            None
        }
    };
    let (image, metadata) = metadata(args);
    reports.extend(metadata);
    let live = image.as_ref().map(|image| live_in(image, identity));
    let directory_id = identity.map(|identity| identity.directory_id.bytes());
    let dir = DataDir::open(root, directory_id, live).map_err(unreadable)?;
    Ok(Opened { dir, identity, image, lock: lock_state(root), reports })
}

/// The partitions that live in this directory.
fn live_in(image: &MetadataImage, identity: Option<Identity>) -> BTreeSet<TopicPartition> {
    let is_here = |directory| identity.is_none_or(|identity| identity.directory_id == directory);
    let of_topic = image.topics().flat_map(|topic| {
        topic.partitions().iter().zip(0..).map(|(partition, index)| {
            let tp = TopicPartition { topic_id: topic.id(), partition: PartitionIndex(index) };
            (tp, partition.directory())
        })
    });
    of_topic.filter(|(_, directory)| is_here(*directory)).map(|(tp, _)| tp).collect()
}

fn metadata(args: &Args) -> (Option<MetadataImage>, Option<FileReport>) {
    let path = args.metadata.clone().unwrap_or_else(|| args.dir.join(METADATA_FILE));
    let bytes = match std::fs::metadata(&path) {
        Ok(metadata) => metadata.len(),
        // With several data directories, it is in one of the others.
        Err(error) if error.kind() == io::ErrorKind::NotFound && args.metadata.is_none() => {
            return (None, None);
        }
        Err(error) => {
            return (None, Some(FileReport::unreadable(path, FileKind::Metadata, &error)));
        }
    };
    let mut report = FileReport::new(&path, FileKind::Metadata, bytes);
    let means = "without it topics have no names, and the broker does not start";
    match read_metadata(&path) {
        Ok(read) => {
            let image = read.loaded.image;
            let (topics, partitions) = (image.topic_count(), image.partition_count());
            let commands = read.loaded.command_count;
            let state = if read.was_open { ", not closed in order" } else { "" };
            report.summary = format!(
                "{topics} topics, {partitions} partitions, {commands} commands behind the last \
                 snapshot{state}"
            );
            if !read.is_whole {
                let what = "some of its pages do not check";
                report.note(Verdict::Damaged, None, what, "changes of topics may be lost");
            }
            (Some(image), Some(report))
        }
        Err(error) => {
            let verdict = if error.is_damage() { Verdict::Damaged } else { Verdict::Unreadable };
            report.note(verdict, None, error.to_string(), means);
            (None, Some(report))
        }
    }
}

fn head(args: &Args, opened: &Opened, printer: &mut Printer<'_>) {
    let root = args.dir.display().to_string();
    let lock = match opened.lock {
        LockState::Free => "no broker uses it".to_owned(),
        LockState::Unknown => "whether a broker uses it cannot be told".to_owned(),
        LockState::Held(pid) => {
            let who = pid.map_or("a broker".to_owned(), |pid| format!("a broker (process {pid})"));
            format!("{who} uses it: what is being written may look torn, stale or damaged here")
        }
    };
    let is_held = matches!(opened.lock, LockState::Held(_));
    let identity = opened.identity;
    printer.line(
        || {
            let whose = identity.map_or("whose it is cannot be read".to_owned(), |it| {
                format!(
                    "directory {} of cluster {}, node {}",
                    it.directory_id, it.cluster_id, it.node_id
                )
            });
            format!("{root}: {whose}; {lock}")
        },
        || {
            json!({
                "type": "directory", "path": root, "is_in_use": is_held, "lock": lock,
                "directory_id": identity.map(|it| it.directory_id.to_string()),
                "cluster_id": identity.map(|it| it.cluster_id.to_string()),
                "node_id": identity.map(|it| it.node_id.0),
            })
        },
    );
    opened.reports.iter().for_each(|report| printer.report(report));
    opened.dir.checkpoint_reports().iter().for_each(|report| printer.report(report));
}

/// `name-partition`, or the id where the name is not known.
fn name_of(opened: &Opened, tp: TopicPartition) -> String {
    let topic = opened.image.as_ref().and_then(|image| image.topic_by_id(tp.topic_id));
    topic.map_or_else(|| tp.to_string(), |topic| format!("{}-{}", topic.name(), tp.partition))
}

fn everything(args: &Args, opened: &Opened, printer: &mut Printer<'_>) {
    for info in opened.dir.checkpoints() {
        let path = printer.short(&info.path);
        for from in &info.journals {
            printer.line(
                || {
                    let used = if info.is_used { "is read" } else { "would be read" };
                    format!(
                        "  {path}: journal {} {used} from file {} byte {} group {}",
                        from.shard, from.file_seq, from.pos, from.group
                    )
                },
                || {
                    json!({
                        "type": "checkpoint", "path": path, "sequence": info.sequence,
                        "generation": info.generation, "clean": info.clean,
                        "logs": info.log_count, "is_used": info.is_used, "shard": from.shard,
                        "file_seq": from.file_seq, "pos": from.pos, "group": from.group,
                    })
                },
            );
        }
    }
    let mut ends = BTreeMap::new();
    for shard in opened.dir.shards() {
        let reports = opened.dir.journal(shard, args.verify, &mut |item| note_end(&mut ends, item));
        reports.iter().for_each(|report| printer.report(report));
    }
    let mut partitions: BTreeSet<TopicPartition> = opened.dir.partitions().into_iter().collect();
    partitions.extend(ends.keys().filter(|tp| opened.dir.is_live(**tp)));
    for tp in partitions {
        log_line(opened, tp, ends.get(&tp).copied(), printer);
        for report in opened.dir.partition(tp, args.verify) {
            printer.report(&report);
        }
        if printer.is_closed() {
            return;
        }
    }
}

/// Where a log ends by what a start would read of the journal.
fn note_end(ends: &mut BTreeMap<TopicPartition, i64>, item: JournalItem<'_>) {
    let JournalItem::Entry(group, entry) = item else { return };
    if !group.is_replayed {
        return;
    }
    match (entry.kind, entry.place) {
        ("truncate", _) => {
            ends.insert(entry.topic_partition, entry.first.0);
        }
        (_, EntryPlace::None) => {}
        _ => {
            ends.insert(entry.topic_partition, entry.last.0 + 1);
        }
    }
}

fn log_line(opened: &Opened, tp: TopicPartition, end: Option<i64>, printer: &mut Printer<'_>) {
    let state = opened.dir.log(tp);
    let (start, settled) = state.map_or((0, 0), |state| (state.log_start, state.segment_end));
    let end = end.unwrap_or(settled).max(settled);
    let segments = state.map_or(0, |state| state.segments.len());
    let producers = state.map_or(0, |state| state.producers.producers.len());
    let epoch = state.and_then(|state| state.epochs.last()).map(|epoch| epoch.leader_epoch);
    let (name, is_live) = (name_of(opened, tp), opened.dir.is_live(tp));
    printer.line(
        || {
            let gone = if is_live { "" } else { ", does not exist any more" };
            let id = tp.topic_id;
            format!(
                "log {name} (id {id}): offsets {start} to {end} (exclusive), in {segments} segments \
                 up to {settled}, {producers} producers{gone}"
            )
        },
        || {
            json!({
                "type": "log", "name": name, "topic_id": tp.topic_id.to_string(),
                "partition": tp.partition.0, "log_start": start, "log_end": end,
                "segment_end": settled, "segments": segments, "producers": producers,
                "leader_epoch": epoch, "is_live": is_live,
            })
        },
    );
}

fn journal(
    args: &Args,
    opened: &Opened,
    shard: u16,
    printer: &mut Printer<'_>,
) -> Result<(), Problem> {
    if !opened.dir.shards().contains(&shard) {
        let known: Vec<String> = opened.dir.shards().iter().map(u16::to_string).collect();
        let known = known.join(", ");
        return Err(Problem::Usage(format!(
            "there is no journal of shard {shard}; there are: {known}"
        )));
    }
    let reports = opened.dir.journal(shard, args.verify, &mut |item| match item {
        JournalItem::Group(group) => group_line(group, printer),
        JournalItem::Entry(group, entry) => entry_line(opened, group, entry, printer),
    });
    reports.iter().for_each(|report| printer.report(report));
    Ok(())
}

fn group_line(group: &GroupInfo, printer: &mut Printer<'_>) {
    let path = printer.short(&group.path);
    printer.line(
        || {
            let state = if group.is_replayed { "to replay" } else { "in segments already" };
            format!(
                "group {} ({path} byte {}): file {} durable through {} payload {} entries {} {state}",
                group.group,
                group.pos,
                group.file_seq,
                group.durable_through,
                group.payload_bytes,
                group.entry_count,
            )
        },
        || {
            json!({
                "type": "group", "path": path, "pos": group.pos, "bytes": group.bytes,
                "file_seq": group.file_seq, "group": group.group,
                "durable_through": group.durable_through, "payload_bytes": group.payload_bytes,
                "entries": group.entry_count, "is_replayed": group.is_replayed,
            })
        },
    );
}

fn entry_line(opened: &Opened, group: &GroupInfo, entry: &EntryInfo, printer: &mut Printer<'_>) {
    let name = name_of(opened, entry.topic_partition);
    let (segment, pos, bytes) = match entry.place {
        EntryPlace::None => (None, None, None),
        EntryPlace::Journal { pos, bytes } => (None, Some(pos), Some(bytes)),
        EntryPlace::Segment { segment, pos, bytes } => (Some(segment.0), Some(pos), Some(bytes)),
    };
    printer.line(
        || {
            let place = match entry.place {
                EntryPlace::None => String::new(),
                EntryPlace::Journal { pos, bytes } => format!(" byte {pos}, {bytes} bytes"),
                EntryPlace::Segment { segment, pos, bytes } => {
                    format!(" segment {segment} block at byte {pos}, {bytes} bytes")
                }
            };
            let (kind, epoch, first) = (entry.kind, entry.leader_epoch, entry.first);
            let last = if entry.last.0 < 0 { String::new() } else { format!("..{}", entry.last) };
            format!(
                "| entry {}: {kind} {name} epoch {epoch} offset {first}{last}{place}",
                entry.number
            )
        },
        || {
            json!({
                "type": "entry", "group": group.group, "number": entry.number,
                "kind": entry.kind, "name": name,
                "topic_id": entry.topic_partition.topic_id.to_string(),
                "partition": entry.topic_partition.partition.0,
                "leader_epoch": entry.leader_epoch.0, "first": entry.first.0,
                "last": entry.last.0, "segment": segment, "pos": pos, "bytes": bytes,
            })
        },
    );
}

fn one_topic(
    args: &Args,
    opened: &Opened,
    topic: &str,
    printer: &mut Printer<'_>,
) -> Result<(), Problem> {
    let mut ends = BTreeMap::new();
    let mut damaged: Vec<FileReport> = Vec::new();
    for shard in opened.dir.shards() {
        let reports = opened.dir.journal(shard, false, &mut |item| note_end(&mut ends, item));
        damaged.extend(reports.into_iter().filter(|it| it.verdict() > Verdict::Sound));
    }
    let mut known: BTreeSet<TopicPartition> = opened.dir.partitions().into_iter().collect();
    known.extend(ends.keys());
    let id = topic_id(opened, topic, &known)?;
    let wanted = |tp: &TopicPartition| {
        tp.topic_id == id && args.partition.is_none_or(|number| tp.partition.0 == number)
    };
    let partitions: Vec<TopicPartition> = known.into_iter().filter(wanted).collect();
    if partitions.is_empty() {
        let what = args.partition.map_or("nothing".to_owned(), |it| format!("no partition {it}"));
        return Err(Problem::Unreadable(format!("{what} of topic {topic} is in this directory")));
    }
    // Batches that only a damaged journal has are missing below.
    damaged.iter().for_each(|report| printer.report(report));
    for tp in partitions {
        log_line(opened, tp, ends.get(&tp).copied(), printer);
        opened.dir.partition(tp, args.verify).iter().for_each(|report| printer.report(report));
        batches(args, opened, tp, printer)?;
        if printer.is_closed() {
            break;
        }
    }
    Ok(())
}

fn batches(
    args: &Args,
    opened: &Opened,
    tp: TopicPartition,
    printer: &mut Printer<'_>,
) -> Result<(), Problem> {
    let offsets = args.offsets.clone().unwrap_or(0..i64::MAX);
    let content_bytes_max = if args.records { batch::BATCH_BYTES_MAX } else { 0 };
    let wanted = Wanted { offsets: offsets.clone(), content_bytes_max };
    let walked = opened.dir.batches(tp, &wanted, &mut |info, content| {
        batch::print(printer, tp, info);
        if args.records {
            batch::print_records(printer, info, content, (&offsets, args.value_bytes));
        }
        if printer.is_closed() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    walked.map_err(|error| Problem::Unreadable(format!("{}: {error}", name_of(opened, tp))))
}

/// The id of a topic that is named by its name, or by its id in either form.
fn topic_id(
    opened: &Opened,
    topic: &str,
    known: &BTreeSet<TopicPartition>,
) -> Result<TopicId, Problem> {
    if let Some(found) = opened.image.as_ref().and_then(|image| image.topic(topic)) {
        return Ok(found.id());
    }
    let hex = |id: TopicId| id.0.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut ids = known.iter().map(|tp| tp.topic_id);
    let found = ids.find(|id| id.to_string() == topic || hex(*id) == topic);
    found.ok_or_else(|| {
        let names = match &opened.image {
            Some(_) => "no topic of that name, and no files of that id",
            None => "no files of that id, and names are not known: metadata.redb was not read (see --metadata)",
        };
        Problem::Unreadable(format!("topic {topic}: {names}"))
    })
}
