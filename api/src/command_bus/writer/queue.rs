//! Requests in the order in which they came, each until all of its commands have an outcome.

use std::collections::VecDeque;

use domain::command::Envelope;
use projections::failpoint::{self, Step};

use super::super::{NotJudged, Outcome, Request};

#[derive(Debug, Default)]
pub(super) struct Queue {
    requests: VecDeque<Judging>,
    /// How many commands are decided and not settled: the first ones without an outcome.
    decided: usize,
}

#[derive(Debug)]
struct Judging {
    request: Request,
    /// Of its first commands.
    outcomes: Vec<Result<Outcome, NotJudged>>,
}

impl Judging {
    fn new(request: Request) -> Self {
        let outcomes = Vec::with_capacity(request.envelopes.len());
        Self { request, outcomes }
    }

    /// Its commands without an outcome.
    fn left(&self) -> &[Envelope] {
        self.request.envelopes.get(self.outcomes.len()..).unwrap_or_default()
    }

    fn answer(self) {
        failpoint::reached(Step::BusAnswering);
        // A caller that went away is not told; what it asked for is durable all the same.
        drop(self.request.answer.send(self.outcomes.into_iter().collect()));
    }
}

impl Queue {
    pub(super) fn len(&self) -> usize {
        self.requests.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.requests.is_empty()
    }

    pub(super) fn push(&mut self, request: Request) {
        self.requests.push_back(Judging::new(request));
    }

    /// The commands that are not decided yet.
    pub(super) fn undecided(&self) -> impl Iterator<Item = &Envelope> {
        self.requests.iter().flat_map(Judging::left).skip(self.decided)
    }

    /// The requests that the next so many undecided commands are of.
    pub(super) fn next_requests(&self, commands: usize) -> impl Iterator<Item = &Request> {
        let (first, end) = (self.decided, self.decided.saturating_add(commands));
        let with_range = self.requests.iter().scan(0, |before: &mut usize, judging| {
            let from = *before;
            *before += judging.left().len();
            Some((from, *before, &judging.request))
        });
        with_range
            .skip_while(move |(_, to, _)| *to <= first)
            .take_while(move |(from, _, _)| *from < end)
            .map(|(_, _, request)| request)
    }

    pub(super) fn note_decided(&mut self, commands: usize) {
        self.decided += commands;
    }

    /// The last so many that were decided are undecided again.
    pub(super) fn note_undone(&mut self, commands: usize) {
        self.decided = self.decided.saturating_sub(commands);
    }

    /// Gives the first decided commands their outcomes, and answers whom nothing is left of. How
    /// many that were.
    pub(super) fn settle(
        &mut self,
        outcomes: impl IntoIterator<Item = Result<Outcome, NotJudged>>,
    ) -> usize {
        let mut answered = 0;
        for outcome in outcomes {
            let Some(first) = self.requests.front_mut() else { break };
            first.outcomes.push(outcome);
            self.decided = self.decided.saturating_sub(1);
            if first.left().is_empty()
                && let Some(complete) = self.requests.pop_front()
            {
                complete.answer();
                answered += 1;
            }
        }
        answered
    }

    /// Tells the requests of the first so many commands why they are not judged. Nothing behind
    /// them is decided.
    pub(super) fn refuse_first(&mut self, commands: usize, reason: &NotJudged) {
        let mut refused = 0;
        while refused < commands
            && let Some(first) = self.requests.pop_front()
        {
            refused += first.left().len();
            first.request.refuse(reason);
        }
        self.decided = 0;
    }

    /// Tells all behind the decided ones why they are not judged.
    pub(super) fn refuse_undecided(&mut self, reason: &NotJudged) {
        let mut kept = 0;
        let mut commands = 0;
        for judging in &self.requests {
            if commands >= self.decided {
                break;
            }
            commands += judging.left().len();
            kept += 1;
        }
        for judging in self.requests.drain(kept..) {
            judging.request.refuse(reason);
        }
    }

    pub(super) fn refuse_all(&mut self, reason: &NotJudged) {
        self.refuse_first(usize::MAX, reason);
    }
}
