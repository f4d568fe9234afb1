//! One record for every request: where it went, how it ended, how long it took.
//!
//! Records go to tracing's target `access` and to a ring in memory, and are written when the last
//! byte has left or the client is gone. Never holds a query string, a header's content or a body:
//! those carry secrets.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use domain::{id::ProcessGuid, units::Timestamp};
use projections::route_table::Endpoint;
use tokio::time::Instant;
use tracing::info;

use super::{body::Meter, error::Error};
use crate::clock::Clock;

/// How many records are kept in memory.
pub const RECORDS_MAX: usize = 10_000;
/// Where texts of clients are cut, in bytes: bounds the ring.
const TEXT_BYTES_MAX: usize = 1024;

/// What became of one request.
#[derive(Debug, Clone)]
pub struct AccessRecord {
    /// When its head had been read.
    pub at: Timestamp,
    /// Its method.
    pub method: String,
    /// The host that it names, without a port; as sent when it is no host name.
    pub host: String,
    /// Its path without the query, cut at 1,024 bytes.
    pub path: String,
    /// The answer's status; `None` when the client was gone before there was one.
    pub status: Option<u16>,
    /// How much of its body was taken from the client.
    pub bytes_in: u64,
    /// How much of a body it was answered with.
    pub bytes_out: u64,
    /// From the request's head to the last byte.
    pub duration: Duration,
    /// The instance that it was given to last.
    pub endpoint: Option<Endpoint>,
    /// How many instances it was offered to.
    pub attempts: u32,
    /// What went wrong.
    pub error: Option<Error>,
    /// The id under which the instance knows it.
    pub request_id: String,
}

/// The latest records. Cheap to clone; all clones are one.
#[derive(Debug, Clone)]
pub struct AccessLog {
    clock: Arc<Clock>,
    records: Arc<Mutex<VecDeque<Arc<AccessRecord>>>>,
}

impl AccessLog {
    /// An empty log whose records are stamped by this clock.
    #[must_use]
    pub fn new(clock: Arc<Clock>) -> Self {
        Self { clock, records: Arc::default() }
    }

    /// The latest records, newest first, at most `count`; of one process guid when it is given.
    #[must_use]
    pub fn recent(
        &self,
        count: usize,
        process_guid: Option<&ProcessGuid>,
    ) -> Vec<Arc<AccessRecord>> {
        let is_asked_for = |record: &&Arc<AccessRecord>| {
            process_guid.is_none_or(|guid| {
                record.endpoint.as_ref().is_some_and(|endpoint| endpoint.key.process_guid == *guid)
            })
        };
        let records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        records.iter().rev().filter(is_asked_for).take(count).map(Arc::clone).collect()
    }

    /// Opens the record of a request that has just come.
    pub(super) fn open(&self, arrived: Arrived<'_>) -> OpenRecord {
        OpenRecord {
            log: self.clone(),
            started: Instant::now(),
            meter: arrived.meter,
            record: AccessRecord {
                at: self.clock.now(),
                method: cut(arrived.method),
                host: cut(arrived.host),
                path: cut(arrived.path),
                status: None,
                bytes_in: 0,
                bytes_out: 0,
                duration: Duration::ZERO,
                endpoint: None,
                attempts: 0,
                // What is true if nobody ends the record: its future was dropped.
                error: Some(Error::ClientGone),
                request_id: arrived.request_id,
            },
        }
    }

    fn write(&self, record: AccessRecord) {
        emit(&record);
        let mut records = self.records.lock().unwrap_or_else(PoisonError::into_inner);
        if records.len() >= RECORDS_MAX {
            records.pop_front();
        }
        records.push_back(Arc::new(record));
    }
}

/// What is known of a request when it comes.
#[derive(Debug)]
pub(super) struct Arrived<'a> {
    pub(super) method: &'a str,
    pub(super) host: &'a str,
    pub(super) path: &'a str,
    pub(super) request_id: String,
    pub(super) meter: Arc<Meter>,
}

/// A record that is written when it is dropped, however the request ends.
#[derive(Debug)]
pub(super) struct OpenRecord {
    log: AccessLog,
    started: Instant,
    meter: Arc<Meter>,
    record: AccessRecord,
}

impl OpenRecord {
    /// Notes an instance that the request is offered to.
    pub(super) fn offer(&mut self, endpoint: Endpoint) {
        self.record.endpoint = Some(endpoint);
        self.record.attempts = self.record.attempts.saturating_add(1);
    }

    /// Notes the status of the answer.
    pub(super) fn answer(&mut self, status: u16) {
        self.record.status = Some(status);
    }

    /// Counts bytes of the answer's body.
    pub(super) fn count_out(&mut self, bytes: usize) {
        let bytes = u64::try_from(bytes).unwrap_or(u64::MAX);
        self.record.bytes_out = self.record.bytes_out.saturating_add(bytes);
    }

    /// Says how the request ended. Only the first word counts.
    pub(super) fn end(&mut self, error: Option<Error>) {
        if self.record.error == Some(Error::ClientGone) {
            self.record.error = error;
        }
    }
}

impl Drop for OpenRecord {
    fn drop(&mut self) {
        let mut record = self.record.clone();
        record.bytes_in = self.meter.bytes();
        record.duration = self.started.elapsed();
        self.log.write(record);
    }
}

fn emit(record: &AccessRecord) {
    let endpoint = record.endpoint.as_ref();
    info!(
        target: "access",
        method = record.method,
        host = record.host,
        path = record.path,
        status = record.status,
        bytes_in = record.bytes_in,
        bytes_out = record.bytes_out,
        duration_us = u64::try_from(record.duration.as_micros()).unwrap_or(u64::MAX),
        endpoint = endpoint.map(|endpoint| display(endpoint.address)),
        process_guid = endpoint.map(|endpoint| display(&endpoint.key.process_guid)),
        index = endpoint.map(|endpoint| endpoint.key.index),
        instance_guid = endpoint.map(|endpoint| display(&endpoint.instance_guid)),
        attempts = record.attempts,
        error = record.error.map(Error::reason),
        request_id = record.request_id,
        "Routed a request."
    );
}

/// Cuts at a character, and keeps control characters out of the log.
fn cut(text: &str) -> String {
    let end = text.floor_char_boundary(TEXT_BYTES_MAX);
    text.get(..end).unwrap_or(text).replace(char::is_control, "?")
}
