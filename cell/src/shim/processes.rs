//! The shim's table of processes: what runs, what ended, and the pipes between.
//!
//! Every end becomes a record on disk before anyone is told of it. Never blocks on a pipe: it
//! reads what is there and goes on.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::unistd::{Pid, read};

use super::memory;
use super::protocol::RunningProcess;
use super::spool::{PAYLOAD_BYTES_MAX, SpoolWriter};
use crate::clock;
use crate::durable_file::{self, Survives};
use crate::garden::linux::depot::{ContainerConfig, Depot};
use crate::garden::linux::process::Started;
use crate::garden::{
    self, ExitRecord, ExitStatus, OutputRecord, OutputStream, ProcessId, ProcessSpec,
};

/// The most processes that run at a time by `run`.
const PROCESSES_MAX: usize = 128;

/// A process that runs.
#[derive(Debug)]
struct Process {
    pid: Pid,
    started_at_ns: u64,
    kills_at_start: u64,
    is_fleeting: bool,
}

/// One end of a process's output.
#[derive(Debug)]
pub(super) struct Pipe {
    process: ProcessId,
    stream: OutputStream,
    pub(super) end: OwnedFd,
}

/// Everything that was run in the container.
#[derive(Debug)]
pub(super) struct Processes {
    running: BTreeMap<ProcessId, Process>,
    exits: BTreeMap<ProcessId, ExitRecord>,
    pub(super) pipes: Vec<Pipe>,
    pub(super) spool: SpoolWriter,
}

impl Processes {
    pub(super) fn new(depot: &Depot) -> io::Result<Self> {
        let spool = SpoolWriter::create(&depot.output())?;
        Ok(Self { running: BTreeMap::new(), exits: BTreeMap::new(), pipes: Vec::new(), spool })
    }

    pub(super) fn is_known(&self, process: &ProcessId) -> bool {
        self.running.contains_key(process) || self.exits.contains_key(process)
    }

    pub(super) fn is_full(&self) -> bool {
        self.running.len() >= PROCESSES_MAX
    }

    /// The process's number, while it runs.
    pub(super) fn pid(&self, process: &ProcessId) -> Option<Pid> {
        self.running.get(process).map(|running| running.pid)
    }

    pub(super) fn running(&self) -> BTreeMap<ProcessId, RunningProcess> {
        let tell = |(id, process): (&ProcessId, &Process)| {
            let pid = process.pid.as_raw();
            (id.clone(), RunningProcess { pid, started_at_ns: process.started_at_ns })
        };
        self.running.iter().map(tell).collect()
    }

    pub(super) fn exits(&self) -> &BTreeMap<ProcessId, ExitRecord> {
        &self.exits
    }

    /// Takes up a process that was just exec'd.
    pub(super) fn add(
        &mut self,
        spec: &ProcessSpec,
        started: Started,
        kills_at_start: u64,
    ) -> io::Result<RunningProcess> {
        let ProcessSpec { id, is_fleeting, .. } = spec;
        let started_at_ns = clock::wall_ns();
        let running = RunningProcess { pid: started.pid.as_raw(), started_at_ns };
        let is_fleeting = *is_fleeting;
        let process = Process { pid: started.pid, started_at_ns, kills_at_start, is_fleeting };
        self.running.insert(id.clone(), process);
        let ends = [(OutputStream::Stdout, started.stdout), (OutputStream::Stderr, started.stderr)];
        for (stream, end) in ends {
            fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
            self.pipes.push(Pipe { process: id.clone(), stream, end });
        }
        Ok(running)
    }

    /// Reads once from each pipe that has something, and forgets those that are closed.
    pub(super) fn drain(&mut self, is_ready: impl Fn(usize) -> bool) {
        let mut index = 0;
        let spool = &mut self.spool;
        self.pipes.retain(|pipe| {
            let ready = is_ready(index);
            index += 1;
            !ready || read_once(pipe, spool) != Drained::Closed
        });
    }

    /// Takes note of an end that the kernel told; `None` if it was no process of ours.
    pub(super) fn ended(
        &mut self,
        depot: &Depot,
        config: &ContainerConfig,
        pid: Pid,
        status: ExitStatus,
    ) -> Option<ExitRecord> {
        let (id, _) = self.running.iter().find(|(_, process)| process.pid == pid)?;
        let id = id.clone();
        let process = self.running.remove(&id)?;
        // First all that it wrote, so that who sees the record finds the output before it.
        self.drain_process(&id);
        let record = ExitRecord {
            process: id.clone(),
            status,
            out_of_memory: memory::report(config, process.kills_at_start),
            started_at_ns: process.started_at_ns,
            ended_at_ns: clock::wall_ns(),
            output_end: self.spool.end(),
            is_fleeting: process.is_fleeting,
        };
        self.keep(depot, &record);
        Some(record)
    }

    /// Reads a process's pipes until they are empty for now; a child of it may still write.
    fn drain_process(&mut self, id: &ProcessId) {
        let spool = &mut self.spool;
        // A pipe holds 64 KiB to 1 MiB: a child that goes on writing is left to the next turn.
        const TURNS_MAX: usize = 32;
        self.pipes.retain(|pipe| {
            if &pipe.process != id {
                return true;
            }
            for _ in 0..TURNS_MAX {
                match read_once(pipe, spool) {
                    Drained::Some => {}
                    Drained::Empty => return true,
                    Drained::Closed => return false,
                }
            }
            true
        });
    }

    fn keep(&mut self, depot: &Depot, record: &ExitRecord) {
        let path = depot.exit(&record.process);
        let written = serde_json::to_vec(record)
            .map_err(io::Error::other)
            .and_then(|text| durable_file::write(&path, &text, Survives::Machine));
        if let Err(error) = written {
            super::log(&format!("cannot keep the exit record of {}: {error}", record.process));
        }
        self.exits.insert(record.process.clone(), record.clone());
        if let Some(oldest) = garden::surplus(&self.exits) {
            self.exits.remove(&oldest);
            if let Err(error) = fs::remove_file(depot.exit(&oldest)) {
                super::log(&format!("cannot remove the exit record of {oldest}: {error}"));
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Drained {
    Some,
    Empty,
    Closed,
}

fn read_once(pipe: &Pipe, spool: &mut SpoolWriter) -> Drained {
    let mut buffer = [0; PAYLOAD_BYTES_MAX];
    let count = match read(&pipe.end, &mut buffer) {
        Ok(0) => return Drained::Closed,
        Ok(count) => count,
        Err(Errno::EAGAIN | Errno::EINTR) => return Drained::Empty,
        Err(_) => return Drained::Closed,
    };
    let record = OutputRecord {
        time_ns: clock::wall_ns(),
        process: pipe.process.clone(),
        stream: pipe.stream,
        bytes: buffer.get(..count).unwrap_or(&[]).to_vec(),
    };
    // A full disk loses output; it must not stop the app.
    if let Err(error) = spool.append(&record) {
        super::log(&format!("output of {} is lost: {error}", pipe.process));
    }
    Drained::Some
}
