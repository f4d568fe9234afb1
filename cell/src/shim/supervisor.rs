//! The shim's loop: signals, the agent's requests and the processes' output, in one `poll`.
//!
//! Single-threaded. It waits for nothing but `poll` and, on the agent's word, for an exec or
//! for the end of everything. It decides nothing: it does what it is asked and tells what ends.

use std::io;
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{self, kill};
use nix::sys::signalfd::SignalFd;
use nix::unistd::Pid;

use super::connection::Connection;
use super::memory;
use super::processes::Processes;
use super::protocol::{Answer, Command, Message, Refusal, Status};
use crate::garden::linux::depot::{ContainerConfig, Depot};
use crate::garden::linux::init::Init;
use crate::garden::linux::kernel::{self, SingleThreaded};
use crate::garden::linux::process;
use crate::garden::{Environment, OutputCursor, ProcessId, ProcessSpec, Signal};

/// Everything that the shim holds of its container.
#[derive(Debug)]
pub(super) struct Supervisor {
    pub(super) proof: SingleThreaded,
    pub(super) depot: Depot,
    pub(super) config: ContainerConfig,
    pub(super) environment: Environment,
    /// One open `tasks` file a controller.
    pub(super) join: Vec<OwnedFd>,
    pub(super) init: Init,
    pub(super) is_stopped: bool,
    pub(super) processes: Processes,
    pub(super) connection: Connection,
    pub(super) child_signals: SignalFd,
    pub(super) announced: OutputCursor,
}

/// What one `poll` found.
struct Ready {
    child: bool,
    listener: bool,
    agent: bool,
    agent_writable: bool,
    pipes: Vec<bool>,
}

impl Supervisor {
    /// Serves until the container is destroyed.
    pub(super) fn serve(&mut self) -> io::Result<()> {
        loop {
            let ready = self.wait()?;
            self.processes.drain(|index| ready.pipes.get(index).copied().unwrap_or(false));
            if ready.child {
                self.reap();
            }
            if ready.agent_writable {
                self.connection.flush();
            }
            if ready.agent {
                for request in self.connection.receive() {
                    if matches!(request.command, Command::Destroy) {
                        self.destroy();
                        self.answer(request.number, Ok(Answer::Done));
                        return Ok(());
                    }
                    let result = self.execute(request.command);
                    self.answer(request.number, result);
                }
            }
            if ready.listener {
                self.connection.accept();
            }
            self.announce_output();
        }
    }

    fn wait(&self) -> io::Result<Ready> {
        let mut polled = vec![
            PollFd::new(std::os::fd::AsFd::as_fd(&self.child_signals), PollFlags::POLLIN),
            PollFd::new(self.connection.listener(), PollFlags::POLLIN),
        ];
        let pipes = self.processes.pipes.iter();
        polled.extend(
            pipes.map(|pipe| PollFd::new(std::os::fd::AsFd::as_fd(&pipe.end), PollFlags::POLLIN)),
        );
        if let Some((agent, has_unsent)) = self.connection.agent() {
            let writable = if has_unsent { PollFlags::POLLOUT } else { PollFlags::empty() };
            polled.push(PollFd::new(agent, PollFlags::POLLIN | writable));
        }
        match poll(&mut polled, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        let events: Vec<_> =
            polled.iter().map(|one| one.revents().unwrap_or(PollFlags::empty())).collect();
        let is_ready = |index: usize| events.get(index).is_some_and(|events| !events.is_empty());
        let pipes_end = 2 + self.processes.pipes.len();
        let writable = events.get(pipes_end).is_some_and(|one| one.contains(PollFlags::POLLOUT));
        Ok(Ready {
            child: is_ready(0),
            listener: is_ready(1),
            agent: events.get(pipes_end).is_some_and(|one| !(*one - PollFlags::POLLOUT).is_empty()),
            agent_writable: writable,
            pipes: (2..pipes_end).map(is_ready).collect(),
        })
    }

    fn execute(&mut self, command: Command) -> Result<Answer, Refusal> {
        match command {
            Command::Status => Ok(Answer::Status(self.status())),
            Command::Run(process) => self.run(&process),
            Command::Signal { process, signal } => self.signal(&process, signal),
            Command::Destroy => Ok(Answer::Done),
        }
    }

    fn status(&self) -> Status {
        Status {
            is_stopped: self.is_stopped,
            running: self.processes.running(),
            exits: self.processes.exits().clone(),
            output_end: self.processes.spool.end(),
        }
    }

    fn run(&mut self, process: &ProcessSpec) -> Result<Answer, Refusal> {
        if self.is_stopped {
            return Err(Refusal::Stopped);
        }
        if self.processes.is_known(&process.id) {
            return Err(Refusal::ProcessInUse);
        }
        if self.processes.is_full() {
            return Err(Refusal::Failed("too many processes run already".to_owned()));
        }
        let kills = memory::kills(&self.config);
        let started =
            process::start(&self.proof, &self.init, &self.join, &self.environment, process)
                .map_err(Refusal::Failed)?;
        let warnings = started.warnings.clone();
        let running = self
            .processes
            .add(process, started, kills)
            .map_err(|error| Refusal::Failed(format!("cannot watch its output: {error}")))?;
        Ok(Answer::Started { process: process.id.clone(), running, warnings })
    }

    fn signal(&self, process: &ProcessId, wanted: Signal) -> Result<Answer, Refusal> {
        let Some(pid) = self.processes.pid(process) else {
            let known = self.processes.is_known(process);
            return if known { Ok(Answer::Done) } else { Err(Refusal::UnknownProcess) };
        };
        // It is our child and not reaped, so the number is its own; it leads its group.
        let sent = match wanted {
            Signal::Terminate => kill(pid, signal::Signal::SIGTERM),
            Signal::Kill => {
                // Its group may be gone or never have been made: then it alone is killed.
                let _group = kill(Pid::from_raw(-pid.as_raw()), signal::Signal::SIGKILL);
                kill(pid, signal::Signal::SIGKILL)
            }
        };
        match sent {
            Ok(()) | Err(Errno::ESRCH) => Ok(Answer::Done),
            Err(errno) => Err(Refusal::Failed(format!("cannot signal it: {errno}"))),
        }
    }

    fn reap(&mut self) {
        // Signals of one kind are not counted: one may stand for many ends.
        if let Err(errno) = self.child_signals.read_signal() {
            super::log(&format!("cannot read the signal: {errno}"));
        }
        while let Ok(Some((pid, status))) = kernel::reap(false) {
            if pid == self.init.pid {
                self.is_stopped = true;
                self.connection.send(&Message::Stopped);
            } else if let Some(record) =
                self.processes.ended(&self.depot, &self.config, pid, status)
            {
                self.announce_output();
                self.connection.send(&Message::Exited(Box::new(record)));
            }
        }
    }

    /// Ends everything and waits for it: init's death is the death of its whole namespace, and
    /// is complete only when this process has reaped its own children of it.
    fn destroy(&mut self) {
        if !self.is_stopped
            && let Err(errno) = kernel::pidfd_kill(&self.init.pidfd)
        {
            super::log(&format!("cannot kill init: {errno}"));
        }
        while let Ok(Some((pid, _))) = kernel::reap(true) {
            self.is_stopped |= pid == self.init.pid;
        }
    }

    fn announce_output(&mut self) {
        let end = self.processes.spool.end();
        // An agent that is behind is told once when it has caught up, not of every step.
        if end > self.announced && self.connection.is_idle() {
            self.announced = end;
            self.connection.send(&Message::Output { end });
        }
    }

    fn answer(&mut self, number: u64, result: Result<Answer, Refusal>) {
        self.connection.send(&Message::Answer { number, result });
    }
}
