//! Makes a failing run small: leaves out kinds of faults, apps, tasks, cells, nodes and steps as
//! long as the same invariant breaks. Each step has a chance of its own, so that what is left
//! happens much as before.

use super::{Config, Failure, simulate_once};

/// How many runs may be spent on one failure.
const RUNS_MAX: u32 = 400;

/// A failing run that was made small.
#[derive(Debug, Clone)]
pub struct Shrunk {
    /// What is left of the run.
    pub config: Config,
    /// How it fails.
    pub failure: Failure,
    /// How many runs it took.
    pub runs: u32,
}

/// Makes a failing run small.
#[must_use]
pub fn shrink(config: &Config, failure: &Failure) -> Shrunk {
    let mut shrinking =
        Shrinking { found: Shrunk { config: config.clone(), failure: failure.clone(), runs: 0 } };
    shrinking.cut_the_end();
    shrinking.leave_out_faults();
    shrinking.leave_out_numbers();
    shrinking.leave_out_steps();
    shrinking.tell();
    shrinking.found
}

struct Shrinking {
    found: Shrunk,
}

impl Shrinking {
    /// Takes a smaller run if the same invariant breaks in it.
    fn take_if_it_fails(&mut self, config: Config) -> bool {
        if self.found.runs >= RUNS_MAX || config == self.found.config {
            return false;
        }
        self.found.runs += 1;
        match simulate_once(&config, false) {
            Err(failure) if failure.invariant == self.found.failure.invariant => {
                self.found.config = config;
                self.found.failure = *failure;
                self.cut_the_end();
                true
            }
            Err(_) | Ok(_) => false,
        }
    }

    /// Steps behind the failing one never happened. Run all the same: when a run looks at its views
    /// depends on how many steps it has.
    fn cut_the_end(&mut self) {
        let end = self.found.failure.step + 1;
        if end < self.found.config.steps {
            let mut config = self.found.config.clone();
            config.steps = end;
            config.left_out.0.retain(|step| *step < end);
            self.take_if_it_fails(config);
        }
    }

    fn leave_out_faults(&mut self) {
        let mut names = Vec::new();
        self.found.config.faults.each(|name, weight| {
            if *weight > 0 {
                names.push(name);
            }
        });
        for left_out in names {
            let mut config = self.found.config.clone();
            config.faults.leave_out(left_out);
            self.take_if_it_fails(config);
        }
    }

    fn leave_out_numbers(&mut self) {
        loop {
            let Config { nodes, cells, lrps, tasks, .. } = self.found.config;
            let base = &self.found.config;
            let is_given = base.manifest.as_ref().is_some_and(|it| it.count_cells() > 0);
            let smaller = [
                Config { tasks: tasks / 2, ..base.clone() },
                Config { lrps: (lrps / 2).max(1), ..base.clone() },
                Config { nodes: (nodes - 1).max(1), ..base.clone() },
                // The cells of a manifest are its author's.
                Config { cells: if is_given { cells } else { (cells - 1).max(1) }, ..base.clone() },
            ];
            let mut is_smaller = false;
            for config in smaller {
                if self.take_if_it_fails(config) {
                    is_smaller = true;
                    break;
                }
            }
            if !is_smaller {
                return;
            }
        }
    }

    /// Leaves out ever smaller stretches of steps, the last ones first.
    fn leave_out_steps(&mut self) {
        let mut stretch = self.found.config.steps.div_ceil(2);
        while self.found.runs < RUNS_MAX {
            let mut end = self.found.config.steps;
            while end > 0 && self.found.runs < RUNS_MAX {
                let begin = end.saturating_sub(stretch);
                let mut config = self.found.config.clone();
                config.left_out.0.extend(begin..end);
                if config.left_out.0.len() < config.steps as usize {
                    self.take_if_it_fails(config);
                }
                end = begin.min(self.found.config.steps);
            }
            if stretch == 1 {
                return;
            }
            stretch = stretch.div_ceil(2);
        }
    }

    /// What led to it, in words: run once more, as it is printed.
    fn tell(&mut self) {
        if let Err(failure) = simulate_once(&self.found.config, true) {
            self.found.failure = *failure;
        }
    }
}
