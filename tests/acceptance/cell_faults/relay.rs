//! The network between a cell and the control plane: a relay that can be cut one way or both.
//!
//! What is under way when it is cut is held back, as packets are that are sent again and again; a
//! connection that is opened meanwhile comes to nothing until it is whole again.

use std::{
    io::{Read as _, Write as _},
    net::{Shutdown, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

/// How long what is held back waits before the next look.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// Which way nothing passes.
#[derive(Debug, Clone, Default)]
struct Cut {
    to_control_plane: Arc<AtomicBool>,
    to_cell: Arc<AtomicBool>,
}

/// A relay to one address.
pub(super) struct Relay {
    port: u16,
    cut: Cut,
}

impl Relay {
    /// To `host:port`; whoever listens there may come and go.
    pub(super) fn to(address: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let cut = Cut::default();
        let (seen, address) = (cut.clone(), address.to_owned());
        thread::spawn(move || {
            for from in listener.incoming().map_while(Result::ok) {
                // As a machine on which nobody listens: it is refused.
                let Ok(to) = TcpStream::connect(&address) else { continue };
                connect(from, to, &seen);
            }
        });
        Self { port, cut }
    }

    pub(super) fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// Cuts, or mends, each way.
    pub(super) fn cut(&self, to_control_plane: bool, to_cell: bool) {
        self.cut.to_control_plane.store(to_control_plane, Ordering::Relaxed);
        self.cut.to_cell.store(to_cell, Ordering::Relaxed);
    }
}

fn connect(from: TcpStream, to: TcpStream, cut: &Cut) {
    let (back_from, back_to) = (to.try_clone().unwrap(), from.try_clone().unwrap());
    let (there, back) = (Arc::clone(&cut.to_control_plane), Arc::clone(&cut.to_cell));
    thread::spawn(move || pass(from, to, &there));
    thread::spawn(move || pass(back_from, back_to, &back));
}

fn pass(mut from: TcpStream, mut to: TcpStream, is_cut: &AtomicBool) {
    let mut buffer = vec![0; 64 << 10];
    // Either end may go away at any time.
    while let Ok(count @ 1..) = from.read(&mut buffer) {
        while is_cut.load(Ordering::Relaxed) {
            thread::sleep(LOOK_EVERY);
        }
        if to.write_all(&buffer[..count]).is_err() {
            break;
        }
    }
    while is_cut.load(Ordering::Relaxed) {
        thread::sleep(LOOK_EVERY);
    }
    to.shutdown(Shutdown::Both).ok();
    from.shutdown(Shutdown::Both).ok();
}
