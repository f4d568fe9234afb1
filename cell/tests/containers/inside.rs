//! What the tests run inside the containers: one word, one thing to try.

use std::fs;
use std::io::{self, Write};
use std::process::{Command, ExitCode};
use std::time::Duration;

use nix::sys::signal::{SigSet, Signal};
use nix::unistd::{getcwd, getgid, getgroups, gethostname, getuid, pause};

pub(crate) fn main(arguments: Vec<String>) -> ExitCode {
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["exit", code] => return ExitCode::from(code.parse::<u8>().unwrap()),
        ["say", out, err] => {
            println!("{out}");
            eprintln!("{err}");
        }
        ["who"] => who(),
        ["status"] => println!("{}", fs::read_to_string("/proc/self/status").unwrap()),
        ["show", path] => println!("{}", fs::read_to_string(path).unwrap()),
        ["file", path] => file(path),
        ["write", path, text] => {
            if let Err(error) = fs::write(path, text) {
                println!("{path}: {error}");
            }
        }
        ["link", path, target] => std::os::unix::fs::symlink(target, path).unwrap(),
        ["fds"] => fds(),
        ["try", path] => try_path(path),
        ["spawn", number] => spawn(number.parse().unwrap()),
        ["eat", mebibytes] => eat(mebibytes.parse().unwrap()),
        ["eat-child", mebibytes] => {
            let status = Command::new("/proc/self/exe").args(["inside", "eat", mebibytes]).status();
            println!("child: {}", status.unwrap());
        }
        ["flood", mebibytes] => flood(mebibytes.parse().unwrap()),
        ["family", number] => {
            spawn_sleepers(number.parse().unwrap());
            sleep();
        }
        ["leave-orphans", number] => spawn_sleepers(number.parse().unwrap()),
        ["sleep"] => sleep(),
        ["terminate"] => return wait_for_terminate(),
        ["stubborn"] => stubborn(),
        ["end-after", milliseconds] => return end_after(milliseconds.parse().unwrap()),
        ["flaky-web", failures] => flaky_web(failures.parse().unwrap()),
        ["tick"] => tick(),
        ["count-then-exit", ticks, code] => {
            count(ticks.parse().unwrap());
            return ExitCode::from(code.parse::<u8>().unwrap());
        }
        ["real-time-signal"] => {
            raise_raw(34);
        }
        _ => panic!("unknown word inside: {words:?}"),
    }
    ExitCode::SUCCESS
}

fn who() {
    let groups: Vec<u32> = getgroups().unwrap().into_iter().map(nix::unistd::Gid::as_raw).collect();
    println!("uid={} gid={} groups={groups:?}", getuid(), getgid());
    println!("cwd={}", getcwd().unwrap().display());
    println!("host={}", gethostname().unwrap().to_string_lossy());
    for (name, value) in std::env::vars() {
        println!("env {name}={value}");
    }
    let (soft, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    println!("nofile={soft}/{hard}");
}

fn fds() {
    let own = format!("/proc/{}/fd", std::process::id());
    for entry in fs::read_dir("/proc/self/fd").unwrap() {
        let path = entry.unwrap().path();
        let target = fs::read_link(&path).unwrap().display().to_string();
        // The listing itself is one.
        if target != own {
            println!("fd {} {target}", path.file_name().unwrap().to_string_lossy());
        }
    }
}

/// Says what can be done with a path.
fn file(path: &str) {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).unwrap();
    let (mode, bytes) = (metadata.mode() & 0o7777, metadata.len());
    println!("{path}: {mode:o} of {}:{}, {bytes} bytes", metadata.uid(), metadata.gid());
}

fn try_path(path: &str) {
    let read = match fs::metadata(path) {
        Ok(metadata) if metadata.is_dir() => {
            fs::read_dir(path).map(|entries| format!("{} entries", entries.count()))
        }
        Ok(_) => {
            use std::io::Read;
            let mut bytes = Vec::new();
            fs::File::open(path)
                .and_then(|file| file.take(100).read_to_end(&mut bytes))
                .map(|count| format!("{count} bytes"))
        }
        Err(error) => Err(error),
    };
    println!("read: {read:?}");
    println!("write: {:?}", fs::OpenOptions::new().write(true).open(path).map(drop));
    println!("create: {:?}", fs::File::create(format!("{path}/new")).map(drop));
    println!("mount: {:?}", nix::mount::umount(path));
}

fn spawn(number: usize) {
    let mut children = Vec::new();
    for index in 0..number {
        match Command::new("/proc/self/exe").args(["inside", "sleep"]).spawn() {
            Ok(child) => children.push(child),
            Err(error) => {
                println!("refused at {index}: {error}");
                break;
            }
        }
    }
    for mut child in children {
        child.kill().unwrap();
        child.wait().unwrap();
    }
}

fn spawn_sleepers(number: usize) {
    for _ in 0..number {
        drop(Command::new("/proc/self/exe").args(["inside", "sleep"]).spawn().unwrap());
    }
}

fn eat(mebibytes: usize) {
    let mut eaten = Vec::new();
    for _ in 0..mebibytes {
        eaten.push(vec![1_u8; 1 << 20]);
    }
    println!("ate {}", eaten.len());
}

fn flood(mebibytes: usize) {
    let line = [b'x'; 1024];
    let mut stdout = io::stdout().lock();
    for _ in 0..mebibytes * 1024 {
        stdout.write_all(&line).unwrap();
    }
    stdout.write_all(b"\nend of flood\n").unwrap();
}

fn sleep() {
    println!("sleeping");
    pause();
}

fn wait_for_terminate() -> ExitCode {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block().unwrap();
    println!("waiting");
    let signal = signals.wait().unwrap();
    println!("got {signal}");
    ExitCode::from(7)
}

fn stubborn() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGTERM);
    signals.thread_block().unwrap();
    println!("stubborn");
    pause();
}

/// Takes so long to end after SIGTERM.
fn end_after(milliseconds: u64) -> ExitCode {
    let ended = wait_for_terminate();
    wait_a_little_at_a_time(milliseconds);
    ended
}

/// Answers 200 once, then so many times 500, then 200 for ever; says the number of each answer.
fn flaky_web(failures: usize) {
    use std::io::Read;
    let listener = std::net::TcpListener::bind(("0.0.0.0", 8080)).unwrap();
    for (number, stream) in listener.incoming().enumerate() {
        let mut stream = stream.unwrap();
        let mut request = [0; 1024];
        assert!(stream.read(&mut request).unwrap() > 0);
        let status = if (1..=failures).contains(&number) { 500 } else { 200 };
        let answer =
            format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).unwrap();
        println!("answer {number}: {status}");
    }
}

fn tick() {
    for number in 0_u64.. {
        println!("tick {number}");
        wait_a_little();
    }
}

fn count(ticks: u64) {
    for number in 0..ticks {
        println!("count {number}");
        wait_a_little();
    }
}

fn wait_a_little_at_a_time(milliseconds: u64) {
    for _ in 0..milliseconds / 10 {
        wait_a_little();
    }
}

fn wait_a_little() {
    let mut signals = SigSet::empty();
    signals.add(Signal::SIGUSR2);
    signals.thread_block().unwrap();
    let (sender, receiver) = std::sync::mpsc::channel::<()>();
    receiver.recv_timeout(Duration::from_millis(10)).unwrap_err();
    drop(sender);
}

#[expect(unsafe_code, reason = "nix has no word for real-time signals")]
fn raise_raw(signal: i32) {
    // SAFETY: sends a signal to this process, whose default action ends it.
    let _sent = unsafe { libc::raise(signal) };
}
