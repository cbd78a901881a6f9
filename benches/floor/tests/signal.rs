//! The program itself, ended from outside.

use std::fs;
use std::io;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// Whether a file in the folder has something in it.
fn is_written(folder: &Path) -> io::Result<bool> {
    for entry in fs::read_dir(folder)? {
        if entry?.metadata()?.len() > 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

#[test]
fn a_signal_ends_a_run_and_its_file_goes() {
    let folder = tempfile::tempdir().expect("a folder");
    let flags = ["large", "--durability", "written", "--file", "growing", "--duration", "600"];
    let mut program = Command::new(env!("CARGO_BIN_EXE_thalweg-floor"))
        .args(flags)
        .args(["--client-cpu", "0", "--payload", "100KiB", "--dir"])
        .arg(folder.path())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the program");
    while !is_written(folder.path()).expect("the folder") {
        assert!(program.try_wait().expect("its state").is_none(), "it ended by itself");
        thread::sleep(Duration::from_millis(1));
    }
    let id = Pid::from_child(&program);
    kill_process(id, Signal::TERM).expect("it is there");
    let ended = program.wait_with_output().expect("its end");
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!((ended.status.code(), said.trim()), (Some(1), "thalweg-floor: ended by signal 15"));
    assert_eq!(fs::read_dir(folder.path()).expect("the folder").count(), 0);
}
