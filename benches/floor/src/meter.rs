//! What is read at the two ends of the measured time: counters, CPU time, the device.

use std::fs::{self, File};
use std::io;

use crate::disk::DeviceCounts;

/// What the measured time was.
#[derive(Clone, Copy, Debug, Default)]
pub struct Window {
    pub seconds: f64,
    pub frames: u64,
    pub bytes: u64,
    /// CPU seconds of the server's thread and of the kernel's workers for it.
    pub server_cpu: f64,
    pub client_cpu: f64,
    /// CPU seconds of everybody else on this machine.
    pub foreign_cpu: f64,
    pub device: Option<DeviceCounts>,
}

/// The counters at one moment.
#[derive(Default)]
pub struct Look {
    frames: u64,
    bytes: u64,
    server_cpu: f64,
    client_cpu: f64,
    machine_cpu: f64,
    device: Option<DeviceCounts>,
}

/// CPU seconds that this machine was busy since it started.
fn machine_cpu() -> io::Result<f64> {
    // The kernel's unit for this file is a hundredth of a second, everywhere.
    const TICKS_PER_S: f64 = 100.0;
    let stat = fs::read_to_string("/proc/stat")?;
    let words = stat.lines().next().unwrap_or_default().split_whitespace().skip(1);
    let ticks: Vec<f64> = words.filter_map(|word| word.parse().ok()).collect();
    // user, nice, system, [idle, iowait], irq, softirq.
    let busy: f64 = [0, 1, 2, 5, 6].iter().filter_map(|index| ticks.get(*index)).sum();
    Ok(busy / TICKS_PER_S)
}

impl Look {
    /// Of these threads, and of the device behind this file.
    pub fn now(
        (frames, bytes): (u64, u64),
        server: i32,
        client: i32,
        watched: Option<&File>,
    ) -> io::Result<Look> {
        Ok(Look {
            frames,
            bytes,
            server_cpu: thread_cpu(server)?,
            client_cpu: thread_cpu(client)?,
            ..Look::of_nothing(watched)?
        })
    }

    /// Of two threads that have not begun.
    pub fn of_nothing(watched: Option<&File>) -> io::Result<Look> {
        let device = match watched {
            Some(file) => DeviceCounts::behind(file)?,
            None => None,
        };
        Ok(Look { machine_cpu: machine_cpu()?, device, ..Look::default() })
    }

    /// What was between two moments.
    pub fn since(&self, before: &Look, seconds: f64) -> Window {
        let of_the_device = |now: DeviceCounts| now.since(before.device.unwrap_or(now));
        let server_cpu = (self.server_cpu - before.server_cpu).max(0.0);
        let client_cpu = (self.client_cpu - before.client_cpu).max(0.0);
        let machine_cpu = self.machine_cpu - before.machine_cpu;
        Window {
            seconds,
            frames: self.frames - before.frames,
            bytes: self.bytes - before.bytes,
            server_cpu,
            client_cpu,
            foreign_cpu: (machine_cpu - server_cpu - client_cpu).max(0.0),
            device: self.device.map(of_the_device),
        }
    }
}

/// CPU seconds of the thread, if it is still there, and of the kernel's workers for it.
fn thread_cpu(id: i32) -> io::Result<f64> {
    let workers = format!("iou-wrk-{}", id);
    let mut sum = 0.0;
    for task in fs::read_dir("/proc/self/task")? {
        let task = task?.path();
        // Threads come and go meanwhile.
        let read = |file: &str| fs::read_to_string(task.join(file)).unwrap_or_default();
        let own = task.ends_with(id.to_string());
        if own || read("comm").trim_end() == workers {
            let nanos = read("schedstat").split(' ').next().and_then(|word| word.parse().ok());
            sum += nanos.unwrap_or(0.0) / 1e9;
        }
    }
    Ok(sum)
}
