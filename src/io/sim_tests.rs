//! Tests of the simulated disk through the calls that storage uses.

use std::path::Path;
use std::rc::Rc;

use bytes::Bytes;
use futures_lite::future::block_on;

use super::buf::IoBuf;
use super::disk::{Disk, OpenOptions};
use super::file::File;
use super::sim_disk::SimDisk;
use super::{SimFault, SimOp};

const WRITE: OpenOptions = OpenOptions { write: true, create: true, direct: false };

fn open(disk: &Rc<SimDisk>, path: &str, options: OpenOptions) -> File {
    block_on(Disk::Sim(disk.clone()).open(Path::new(path), options)).expect("opened")
}

fn read_all(disk: &Rc<SimDisk>, path: &str) -> Option<Bytes> {
    let options = OpenOptions::default();
    let file = block_on(Disk::Sim(disk.clone()).open(Path::new(path), options)).ok()?;
    let len = usize::try_from(file.len().expect("known")).expect("small");
    Some(block_on(file.read_at(0, len)).expect("read"))
}

fn write(file: &File, content: &'static [u8], pos: u64, durable: bool) {
    block_on(file.write_at(Bytes::from_static(content), pos, durable)).expect("written");
}

#[test]
fn every_seed_keeps_what_was_synced_and_loses_some_of_the_rest() {
    let disk = SimDisk::new();
    let file = open(&disk, "/log", WRITE);
    write(&file, &[1; 8192], 0, false);
    block_on(file.datasync()).expect("synced");
    block_on(Disk::Sim(disk.clone()).sync_dir(Path::new("/"))).expect("synced");
    write(&file, &[2; 4096], 0, false);
    write(&file, &[3; 512], 4096, true);
    let (mut lost, mut kept, mut torn) = (0, 0, 0);
    for seed in 0..200 {
        let after = disk.crash(seed);
        let bytes = read_all(&after, "/log").expect("its name was synced");
        assert_eq!(bytes.len(), 8192);
        assert!(bytes[4096..4608].iter().all(|byte| *byte == 3), "a durable write is kept");
        assert!(bytes[4608..].iter().all(|byte| *byte == 1));
        let new = bytes[..4096].chunks(512).filter(|sector| sector[0] == 2).count();
        assert!(bytes[..4096].chunks(512).all(|s| s.iter().all(|byte| *byte == s[0])));
        match new {
            0 => lost += 1,
            8 => kept += 1,
            _ => torn += 1,
        }
        assert_eq!(read_all(&disk.crash(seed), "/log"), Some(bytes), "one seed, one crash");
    }
    assert!(lost > 0 && kept > 0 && torn > 0, "lost {lost}, kept {kept}, torn {torn}");
}

#[test]
fn a_name_is_safe_only_after_its_directory_was_synced() {
    let disk = SimDisk::new();
    let handle = Disk::Sim(disk.clone());
    block_on(handle.create_dir_all(Path::new("/data/topics"))).expect("made");
    for dir in ["/", "/data"] {
        block_on(handle.sync_dir(Path::new(dir))).expect("synced");
    }
    let file = open(&disk, "/data/topics/a", WRITE);
    write(&file, b"content", 0, true);
    assert!((0..50).any(|seed| read_all(&disk.crash(seed), "/data/topics/a").is_none()));
    block_on(handle.sync_dir(Path::new("/data/topics"))).expect("synced");
    for seed in 0..50 {
        let after = disk.crash(seed);
        assert_eq!(read_all(&after, "/data/topics/a").as_deref(), Some(b"content".as_slice()));
    }
}

#[test]
fn a_replaced_file_is_the_old_or_the_new_one_after_any_crash() {
    let disk = SimDisk::new();
    let handle = Disk::Sim(disk.clone());
    let path = Path::new("meta");
    block_on(handle.replace_file(path, b"old")).expect("replaced");
    let before = disk.op_count(SimOp::Any);
    block_on(handle.replace_file(path, b"newer")).expect("replaced");
    let steps = disk.op_count(SimOp::Any) - before;
    for step in 0..=steps {
        let disk = SimDisk::new();
        let handle = Disk::Sim(disk.clone());
        block_on(handle.replace_file(path, b"old")).expect("replaced");
        disk.plan_fault(SimOp::Any, step, true, SimFault::Partial(libc::EIO));
        let done = block_on(handle.replace_file(path, b"newer")).is_ok();
        assert_eq!(done, step == steps);
        for seed in 0..50 {
            let content = read_all(&disk.crash(seed), "meta").expect("never gone");
            match content.as_ref() {
                b"newer" => {}
                b"old" => assert!(!done, "a finished replacement is durable"),
                other => panic!("step {step}, seed {seed}: {other:?}"),
            }
        }
    }
}

#[test]
fn faults_hit_by_count_and_partial_writes_leave_a_part() {
    let disk = SimDisk::new();
    let file = open(&disk, "/log", WRITE);
    disk.plan_fault(SimOp::Write, 1, false, SimFault::Partial(libc::ENOSPC));
    write(&file, &[1; 4096], 0, false);
    let error = block_on(file.write_at(Bytes::from_static(&[2; 4096]), 0, false));
    assert_eq!(error.expect_err("planned").raw_os_error(), Some(libc::ENOSPC));
    let bytes = read_all(&disk, "/log").expect("there");
    assert!(bytes[..2048].iter().all(|byte| *byte == 2));
    assert!(bytes[2048..].iter().all(|byte| *byte == 1));
    disk.plan_fault(SimOp::Sync, 0, false, SimFault::Error(libc::EIO));
    assert!(block_on(file.datasync()).is_err());
    assert!(block_on(file.datasync()).is_ok(), "as Linux: the second sync lies");
    assert_eq!(disk.op_count(SimOp::Sync), 2);
}

#[test]
fn a_flipped_bit_stays_flipped() {
    let disk = SimDisk::new();
    let file = open(&disk, "/log", WRITE);
    write(&file, &[0; 600], 0, true);
    disk.flip_bit(Path::new("/log"), 599, 3).expect("inside the file");
    assert!(disk.flip_bit(Path::new("/log"), 600, 3).is_err());
    block_on(file.datasync()).expect("synced");
    block_on(Disk::Sim(disk.clone()).sync_dir(Path::new("/"))).expect("synced");
    for image in [disk.clone(), disk.crash(1)] {
        assert_eq!(read_all(&image, "/log").expect("there")[599], 8);
    }
}

#[test]
fn direct_files_refuse_what_a_disk_refuses() {
    let disk = SimDisk::new();
    let file = open(&disk, "/log", OpenOptions { direct: true, ..WRITE });
    let block = IoBuf::alloc(8192).freeze(8192);
    assert!(block_on(file.write_at(block.clone(), 4096, false)).is_ok());
    for (bytes, pos) in [(block.clone(), 512), (block.slice(..512), 0), (block.slice(512..4608), 0)]
    {
        let error = block_on(file.write_at(bytes, pos, false)).expect_err("not aligned");
        assert_eq!(error.raw_os_error(), Some(libc::EINVAL));
    }
    assert!(block_on(file.read_at(100, 4096)).is_err());
}

#[test]
fn names_behave_as_on_a_disk() {
    let disk = SimDisk::new();
    let handle = Disk::Sim(disk.clone());
    let missing = block_on(handle.open(Path::new("/no/file"), WRITE)).err();
    assert_eq!(missing.expect("no directory").kind(), std::io::ErrorKind::NotFound);
    block_on(handle.create_dir_all(Path::new("/a/b"))).expect("made");
    let file = open(&disk, "/a/b/x", WRITE);
    write(&file, b"12345", 0, false);
    block_on(handle.rename(Path::new("/a/b"), Path::new("/a/c"))).expect("renamed");
    let names = block_on(handle.list(Path::new("/a/c"))).expect("listed");
    assert_eq!((names[0].name.as_str(), names[0].is_dir, names[0].len), ("x", false, 5));
    assert!(block_on(handle.list(Path::new("/a/b"))).is_err());
    block_on(handle.remove_dir_all(Path::new("/a"))).expect("removed");
    assert!(!block_on(handle.exists(Path::new("/a/c/x"))).expect("known"));
    write(&file, b"still open", 0, false);
    assert_eq!(file.len().expect("known"), 10);
}

#[test]
fn a_disk_with_a_capacity_takes_what_fits_and_has_room_again_when_files_go() {
    let disk = SimDisk::new();
    let handle = Disk::Sim(disk.clone());
    disk.set_capacity(Some(16 << 10));
    let first = open(&disk, "/first", WRITE);
    write(&first, &[1; 8192], 0, true);
    let second = open(&disk, "/second", WRITE);
    let full = block_on(second.write_at(Bytes::from_static(&[2; 12_288]), 0, false));
    assert_eq!(full.expect_err("full").raw_os_error(), Some(libc::ENOSPC));
    assert_eq!(second.len().expect("known"), 8192, "what fits is written");
    assert_eq!(handle.room(Path::new("/")).expect("known").free_bytes, 0);
    write(&first, &[3; 4096], 4096, true);
    assert!(block_on(second.allocate(12_288)).is_err(), "nor is there room to reserve");
    assert!(block_on(handle.open(Path::new("/third"), WRITE)).is_err());
    block_on(handle.remove_file(Path::new("/first"))).expect("removed");
    assert_eq!(handle.room(Path::new("/")).expect("known").free_bytes, 8192);
    write(&second, &[2; 12_288], 0, false);
}
