//! How far a long command is: a bar on standard error where that is a terminal, and nothing
//! elsewhere.

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// A bar over so many of something, drawn at most ten times a second.
pub(super) fn counting(unit: &str, count: u64) -> ProgressBar {
    let target = ProgressDrawTarget::stderr_with_hz(10);
    let bar = ProgressBar::with_draw_target(Some(count), target);
    let style =
        format!("{{msg}} {{bar:40}} {{human_pos}}/{{human_len}} {unit}, {{per_sec}}, {{eta}} left");
    let style = ProgressStyle::with_template(&style);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A bar over events; nothing is drawn before the first.
pub(super) struct EventsBar(ProgressBar);

impl EventsBar {
    /// A bar of so many events, drawn at most ten times a second.
    pub(super) fn new(what: &'static str, events: u64) -> Self {
        let bar = counting("events", events);
        bar.set_message(what);
        Self(bar)
    }

    /// So many are done.
    pub(super) fn at(&self, events: u64) {
        // An import passes over its file twice, and whoever opened it may not know its length.
        if self.0.length().is_some_and(|length| length < events) {
            self.0.set_length(events);
        }
        self.0.set_position(events);
    }
}

impl Drop for EventsBar {
    fn drop(&mut self) {
        self.0.finish_and_clear();
    }
}
