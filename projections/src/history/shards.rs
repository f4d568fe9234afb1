//! What the bytes of a shard and of what stands beside it mean.
//!
//! A whole shard holds a record of each process and task. Each shard of changes beside it holds
//! records of those that changed since the one before, so that the newest record of an owner
//! counts; one without content says that the owner is gone. Definitions are named by digest and
//! stand in packs of their own. The cluster's shard holds its aggregates as they are.
//! All is postcard, compressed.

use std::{borrow::Cow, collections::BTreeSet, sync::Arc};

use domain::{
    aggregates::{Aggregate, Aggregates, CLUSTER_SHARD, Part, PartBuilder},
    bbs::{
        actual_lrp::{self, ActualLrp, LastCrash, Leaving, Twin, Withdrawing},
        desired_lrp::DesiredLrp,
        held_definition::{HeldDefinition, Pack},
        restart_policy::RestartPolicy,
        task::Task,
    },
    id::{ActualLrpKey, FreshnessDomainName, ProcessGuid},
    labels::Labels,
    log::{Owner, Position},
    routes::HttpRoute,
    sealed::{Digest, Sealed},
    units::Timestamp,
};
use foldhash::HashSet;
use serde::{Deserialize, Serialize};

use super::definitions::DefinitionPack;
use crate::snapshot::{SHARD_BYTES_MAX, ShardId};

/// What the bytes of a shard mean. Raised whenever an aggregate's shape changes; older snapshots
/// are passed over then.
pub const SHARD_FORMAT: u32 = 8;

/// Fast, and not much larger than what takes longer.
const COMPRESSION_LEVEL: i32 = 1;

/// Why a shard's bytes cannot be made or read.
#[derive(Debug, thiserror::Error)]
pub enum ShardError {
    /// They cannot be compressed, or are not what the compression gave.
    #[error("cannot pack or unpack a shard")]
    Pack(#[source] std::io::Error),
    /// The aggregates cannot be written or read.
    #[error("cannot write or read the aggregates of a shard")]
    Aggregates(#[source] postcard::Error),
    /// The guid of an owner is none.
    #[error("a shard names {0:?}, which is no guid")]
    Owner(String),
    /// A definition is not where it should be.
    #[error("a shard's definitions are not those that its aggregates name")]
    Definition,
}

/// The records of a shard, or of a shard of changes.
#[derive(Default, Serialize, Deserialize)]
struct Records<'a> {
    #[serde(borrow)]
    processes: Vec<Record<'a>>,
    #[serde(borrow)]
    tasks: Vec<Record<'a>>,
}

/// One owner's record, skipped without a look where a newer one is there.
#[derive(Serialize, Deserialize)]
struct Record<'a> {
    guid: &'a str,
    /// None when the owner is gone.
    #[serde(borrow)]
    content: Cow<'a, [u8]>,
}

#[derive(Serialize, Deserialize)]
struct ProcessRecord<'a> {
    desired: Option<DesiredRecord<'a>>,
    slots: Vec<SlotRecord<'a>>,
}

#[derive(Serialize, Deserialize)]
struct DesiredRecord<'a> {
    domain: Cow<'a, FreshnessDomainName>,
    instances: u32,
    definition: Digest,
    routes: Cow<'a, [HttpRoute]>,
    annotation: Cow<'a, str>,
    restart: Option<RestartPolicy>,
    labels: Cow<'a, Labels>,
    client_routes: Cow<'a, Option<Box<Sealed>>>,
    desired_at: Timestamp,
    last_position: Position,
}

#[derive(Serialize, Deserialize)]
struct SlotRecord<'a> {
    index: u32,
    domain: Cow<'a, FreshnessDomainName>,
    state: Cow<'a, actual_lrp::State>,
    since: Timestamp,
    is_stopping: bool,
    crash_count: u32,
    last_crash: Cow<'a, Option<LastCrash>>,
    placement_error: Cow<'a, Option<String>>,
    suspect: Cow<'a, Option<Box<Twin>>>,
    evacuating: Cow<'a, Option<Box<Twin>>>,
    leaving: Cow<'a, [Leaving]>,
    withdrawing: Cow<'a, [Withdrawing]>,
    refused_until: Option<Timestamp>,
    last_position: Position,
}

impl<'a> DesiredRecord<'a> {
    fn of(lrp: &'a DesiredLrp) -> Self {
        let DesiredLrp {
            process_guid: _,
            domain,
            instances,
            definition,
            routes,
            annotation,
            restart,
            labels,
            client_routes,
            desired_at,
            last_position,
        } = lrp;
        Self {
            domain: Cow::Borrowed(domain),
            instances: *instances,
            definition: definition.digest(),
            routes: Cow::Borrowed(routes),
            annotation: Cow::Borrowed(annotation),
            restart: *restart,
            labels: Cow::Borrowed(labels),
            client_routes: Cow::Borrowed(client_routes),
            desired_at: *desired_at,
            last_position: *last_position,
        }
    }

    fn into_lrp(self, process_guid: &ProcessGuid, packs: &Packs) -> Result<DesiredLrp, ShardError> {
        Ok(DesiredLrp {
            process_guid: process_guid.clone(),
            domain: self.domain.into_owned(),
            instances: self.instances,
            definition: packs.held(self.definition)?,
            routes: self.routes.into_owned(),
            annotation: self.annotation.into(),
            restart: self.restart,
            labels: Arc::new(self.labels.into_owned()),
            client_routes: self.client_routes.into_owned(),
            desired_at: self.desired_at,
            last_position: self.last_position,
        })
    }
}

impl<'a> SlotRecord<'a> {
    fn of(slot: &'a ActualLrp) -> Self {
        let ActualLrp {
            key,
            domain,
            state,
            since,
            is_stopping,
            crash_count,
            last_crash,
            placement_error,
            suspect,
            evacuating,
            leaving,
            withdrawing,
            refused_until,
            last_position,
        } = slot;
        Self {
            index: key.index,
            domain: Cow::Borrowed(domain),
            state: Cow::Borrowed(state),
            since: *since,
            is_stopping: *is_stopping,
            crash_count: *crash_count,
            last_crash: Cow::Borrowed(last_crash),
            placement_error: Cow::Borrowed(placement_error),
            suspect: Cow::Borrowed(suspect),
            evacuating: Cow::Borrowed(evacuating),
            leaving: Cow::Borrowed(leaving),
            withdrawing: Cow::Borrowed(withdrawing),
            refused_until: *refused_until,
            last_position: *last_position,
        }
    }

    fn into_slot(self, process_guid: &ProcessGuid) -> ActualLrp {
        ActualLrp {
            key: ActualLrpKey { process_guid: process_guid.clone(), index: self.index },
            domain: self.domain.into_owned(),
            state: self.state.into_owned(),
            since: self.since,
            is_stopping: self.is_stopping,
            crash_count: self.crash_count,
            last_crash: self.last_crash.into_owned(),
            placement_error: self.placement_error.into_owned(),
            suspect: self.suspect.into_owned(),
            evacuating: self.evacuating.into_owned(),
            leaving: self.leaving.into_owned(),
            withdrawing: self.withdrawing.into_owned(),
            refused_until: self.refused_until,
            last_position: self.last_position,
        }
    }
}

/// The definitions of a shard: those of when it was packed, and those that came later.
#[derive(Debug, Clone, Default)]
pub(super) struct Packs {
    pub(super) first: Option<Arc<DefinitionPack>>,
    pub(super) later: Option<Arc<DefinitionPack>>,
}

impl Packs {
    /// Whether a definition is in one of them.
    pub(super) fn hold(&self, digest: &Digest) -> bool {
        self.each().any(|pack| pack.place(digest).is_some())
    }

    /// The packs that are there.
    pub(super) fn each(&self) -> impl Iterator<Item = &Arc<DefinitionPack>> {
        self.first.iter().chain(&self.later)
    }

    fn held(&self, digest: Digest) -> Result<HeldDefinition, ShardError> {
        let found = self.each().find_map(|pack| Some((pack, pack.place(&digest)?)));
        let (pack, place) = found.ok_or(ShardError::Definition)?;
        Ok(HeldDefinition::packed(digest, Arc::clone(pack) as Arc<dyn Pack>, place))
    }
}

pub(super) fn pack<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, ShardError> {
    let bytes = postcard::to_stdvec(value).map_err(ShardError::Aggregates)?;
    zstd::bulk::compress(&bytes, COMPRESSION_LEVEL).map_err(ShardError::Pack)
}

pub(super) fn unpack<T: for<'a> Deserialize<'a>>(bytes: &[u8]) -> Result<T, ShardError> {
    postcard::from_bytes(&decompress(bytes)?).map_err(ShardError::Aggregates)
}

fn decompress(bytes: &[u8]) -> Result<Vec<u8>, ShardError> {
    zstd::bulk::decompress(bytes, capacity(bytes)?).map_err(ShardError::Pack)
}

/// The length that the frame itself tells, within bounds.
fn capacity(bytes: &[u8]) -> Result<usize, ShardError> {
    let told = zstd::zstd_safe::get_frame_content_size(bytes).ok().flatten();
    let length = told.and_then(|length| usize::try_from(length).ok());
    length.filter(|length| *length <= SHARD_BYTES_MAX).ok_or_else(|| {
        ShardError::Pack(std::io::Error::other("its length is not told, or is out of bounds"))
    })
}

/// What an owner has, as its record's content: none when it has nothing.
fn content(members: &[Aggregate]) -> Result<Vec<u8>, ShardError> {
    let mut process = ProcessRecord { desired: None, slots: Vec::new() };
    for member in members {
        match member {
            Aggregate::DesiredLrp(lrp) => process.desired = Some(DesiredRecord::of(lrp)),
            Aggregate::ActualLrp(slot) => process.slots.push(SlotRecord::of(slot)),
            Aggregate::Task(task) => {
                return postcard::to_stdvec(task).map_err(ShardError::Aggregates);
            }
            Aggregate::Cell(_) | Aggregate::FreshnessDomain(_) | Aggregate::Secrets(_) => {}
        }
    }
    if process.desired.is_none() && process.slots.is_empty() {
        return Ok(Vec::new());
    }
    postcard::to_stdvec(&process).map_err(ShardError::Aggregates)
}

/// The bytes of records of these owners, whose order is the caller's.
fn encode_records<'a>(
    aggregates: &Aggregates,
    owners: impl Iterator<Item = &'a Owner>,
) -> Result<Vec<u8>, ShardError> {
    let mut records = Records::default();
    for owner in owners {
        let content = Cow::Owned(content(&aggregates.of_owner(owner))?);
        match owner {
            Owner::Process(guid) => {
                records.processes.push(Record { guid: guid.as_str(), content });
            }
            Owner::Task(guid) => records.tasks.push(Record { guid: guid.as_str(), content }),
            Owner::Cell(_) | Owner::FreshnessDomain(_) => {}
        }
    }
    pack(&records)
}

/// The bytes of a whole shard; none when it is empty.
pub(super) fn encode_whole(aggregates: &Aggregates, number: u16) -> Result<Vec<u8>, ShardError> {
    let members = aggregates.of_shard(number);
    if members.is_empty() {
        return Ok(Vec::new());
    }
    if number == CLUSTER_SHARD {
        return pack(&members);
    }
    let owners: BTreeSet<Owner> = members.iter().map(|member| member.stream().owner()).collect();
    encode_records(aggregates, owners.iter())
}

/// The bytes of the shard of changes that says what these owners have now.
pub(super) fn encode_changes(
    aggregates: &Aggregates,
    owners: &BTreeSet<Owner>,
) -> Result<Vec<u8>, ShardError> {
    encode_records(aggregates, owners.iter())
}

/// The bytes of a shard and of what changed beside it, the oldest changes first.
#[derive(Debug, Default)]
pub(super) struct ShardBytes {
    pub(super) whole: Option<Arc<Vec<u8>>>,
    pub(super) changes: Vec<Arc<Vec<u8>>>,
    pub(super) packs: Packs,
}

/// A shard as it was read.
#[derive(Debug)]
pub(super) struct Decoded {
    pub(super) part: Part,
    pub(super) packs: Packs,
    /// How many shards of changes stand beside the whole one, and of how many owners they are.
    pub(super) changes: u16,
    pub(super) changed_owners: usize,
    /// How many bytes the records have in all.
    pub(super) bytes: usize,
}

impl ShardBytes {
    /// All that it holds.
    pub(super) fn decode(&self, number: u16) -> Result<Decoded, ShardError> {
        let mut decoded = Decoded {
            part: Part::default(),
            packs: self.packs.clone(),
            changes: u16::try_from(self.changes.len()).unwrap_or(u16::MAX),
            changed_owners: 0,
            bytes: 0,
        };
        if number == CLUSTER_SHARD {
            decoded.part = self.decode_cluster()?;
            decoded.bytes = self.whole.as_ref().map_or(0, |bytes| bytes.len());
            return Ok(decoded);
        }
        let layers = self.layers()?;
        decoded.bytes = layers.iter().map(Vec::len).sum();
        let mut newest = Newest::default();
        let mut builder = PartBuilder::default();
        for (nth, layer) in layers.iter().enumerate() {
            let records: Records<'_> = read(layer)?;
            let is_last = nth + 1 == layers.len();
            if nth < self.changes.len() {
                decoded.changed_owners += records.processes.len() + records.tasks.len();
            } else {
                builder.make_room(records.processes.len());
            }
            for record in records.processes.iter().filter(|it| newest.is_process(it, is_last)) {
                let (guid, desired, slots) = self.process(record)?;
                builder.add_process(guid, desired, slots);
            }
            for record in records.tasks.iter().filter(|it| newest.is_task(it, is_last)) {
                builder.add_task(read(&record.content)?);
            }
        }
        decoded.part = builder.build();
        Ok(decoded)
    }

    /// What one owner of it has; only its own record is read.
    pub(super) fn decode_owner(&self, owner: &Owner) -> Result<Vec<Aggregate>, ShardError> {
        for layer in self.layers()? {
            let records: Records<'_> = read(&layer)?;
            let (records, guid) = match owner {
                Owner::Process(guid) => (records.processes, guid.as_str()),
                Owner::Task(guid) => (records.tasks, guid.as_str()),
                Owner::Cell(_) | Owner::FreshnessDomain(_) => return Ok(Vec::new()),
            };
            let Some(record) = records.into_iter().find(|record| record.guid == guid) else {
                continue;
            };
            if record.content.is_empty() {
                return Ok(Vec::new());
            }
            if let Owner::Task(_) = owner {
                let task: Task = read(&record.content)?;
                return Ok(vec![Aggregate::Task(Arc::new(task))]);
            }
            let (_, desired, slots) = self.process(&record)?;
            let desired = desired.map(|lrp| Aggregate::DesiredLrp(Arc::new(lrp))).into_iter();
            let slots = slots.into_iter().map(|slot| Aggregate::ActualLrp(Arc::new(slot)));
            return Ok(desired.chain(slots).collect());
        }
        Ok(Vec::new())
    }

    /// The records of every layer, the newest first.
    fn layers(&self) -> Result<Vec<Vec<u8>>, ShardError> {
        self.changes.iter().rev().chain(&self.whole).map(|bytes| decompress(bytes)).collect()
    }

    fn process(
        &self,
        record: &Record<'_>,
    ) -> Result<(ProcessGuid, Option<DesiredLrp>, Vec<ActualLrp>), ShardError> {
        let process_guid =
            ProcessGuid::new(record.guid).map_err(|_| ShardError::Owner(record.guid.to_owned()))?;
        let ProcessRecord { desired, slots } = read(&record.content)?;
        let desired = desired.map(|it| it.into_lrp(&process_guid, &self.packs)).transpose()?;
        let slots = slots.into_iter().map(|slot| slot.into_slot(&process_guid)).collect();
        Ok((process_guid, desired, slots))
    }

    fn decode_cluster(&self) -> Result<Part, ShardError> {
        let mut builder = PartBuilder::default();
        let members =
            self.whole.as_ref().map(|bytes| unpack::<Vec<Aggregate>>(bytes)).transpose()?;
        for member in members.unwrap_or_default() {
            builder.add_other(member);
        }
        Ok(builder.build())
    }
}

/// Which owners had a newer record.
#[derive(Default)]
struct Newest<'a> {
    processes: HashSet<&'a str>,
    tasks: HashSet<&'a str>,
}

impl<'a> Newest<'a> {
    fn is_process(&mut self, record: &Record<'a>, is_last: bool) -> bool {
        is_newest(&mut self.processes, record, is_last)
    }

    fn is_task(&mut self, record: &Record<'a>, is_last: bool) -> bool {
        is_newest(&mut self.tasks, record, is_last)
    }
}

/// Whether a record is its owner's newest, and there is something in it. None is noted of the last
/// layer: nothing comes behind it.
fn is_newest<'a>(seen: &mut HashSet<&'a str>, record: &Record<'a>, is_last: bool) -> bool {
    let is_new = if is_last { !seen.contains(record.guid) } else { seen.insert(record.guid) };
    is_new && !record.content.is_empty()
}

fn read<'a, T: Deserialize<'a>>(bytes: &'a [u8]) -> Result<T, ShardError> {
    postcard::from_bytes(bytes).map_err(ShardError::Aggregates)
}

/// Definitions of the wishes in a shard, of those that pass.
pub(super) fn definitions_in(
    aggregates: &Aggregates,
    number: u16,
    passes: impl Fn(&Digest) -> bool,
) -> Vec<HeldDefinition> {
    let wishes = aggregates.of_shard(number).into_iter().filter_map(|member| match member {
        Aggregate::DesiredLrp(lrp) => Some(lrp),
        Aggregate::ActualLrp(_)
        | Aggregate::Task(_)
        | Aggregate::Cell(_)
        | Aggregate::FreshnessDomain(_)
        | Aggregate::Secrets(_) => None,
    });
    let passing = wishes.filter(|lrp| passes(&lrp.definition.digest()));
    passing.map(|lrp| lrp.definition.clone()).collect()
}

/// All aggregates as whole shards with their definitions; those that are empty are left out.
///
/// # Errors
/// Only when an aggregate's own types cannot be written, which is a defect.
pub fn encode(aggregates: &Aggregates) -> Result<Vec<(ShardId, Vec<u8>)>, ShardError> {
    let mut shards = Vec::new();
    for shard in ShardId::all() {
        let number = shard.number();
        let bytes = encode_whole(aggregates, number)?;
        if bytes.is_empty() {
            continue;
        }
        shards.push((shard, bytes));
        let definitions = definitions_in(aggregates, number, |_| true);
        if !definitions.is_empty() {
            shards.push((shard.definitions(), DefinitionPack::write(&definitions)?.0));
        }
    }
    Ok(shards)
}

/// The aggregates in what [`encode`] wrote.
///
/// # Errors
/// When the bytes are not what [`encode`] writes.
pub fn decode(shards: &[(ShardId, Vec<u8>)]) -> Result<Aggregates, ShardError> {
    let bytes_of = |id: ShardId| shards.iter().find(|(it, _)| *it == id).map(|(_, bytes)| bytes);
    let mut aggregates = Aggregates::default();
    for shard in ShardId::all() {
        let Some(whole) = bytes_of(shard) else { continue };
        let pack = bytes_of(shard.definitions()).map(|bytes| DefinitionPack::read(bytes));
        let packs = Packs { first: pack.transpose()?.map(Arc::new), later: None };
        let whole = Some(Arc::new(whole.clone()));
        let bytes = ShardBytes { whole, changes: Vec::new(), packs };
        aggregates.add(shard.number(), &bytes.decode(shard.number())?.part);
    }
    Ok(aggregates)
}

#[cfg(test)]
mod tests {
    use domain::testing::running_story;

    use super::*;

    /// The SHA-256 of all records of a small story, uncompressed. When it changes, snapshots that
    /// were written before can be read no longer: raise [`SHARD_FORMAT`], then write it anew.
    const RECORDS: &str = "9de27ade6c029304aa66c63e4ce256bb78fc29bb80676e511777ab31c352409c";

    #[test]
    fn a_record_of_another_shape_needs_another_format() {
        let aggregates = running_story().aggregates;
        let owners: BTreeSet<Owner> = aggregates.all().map(|it| it.stream().owner()).collect();
        let mut bytes = Vec::new();
        for owner in &owners {
            bytes.extend(content(&aggregates.of_owner(owner)).unwrap());
        }
        bytes.extend(postcard::to_stdvec(&aggregates.of_shard(CLUSTER_SHARD)).unwrap());
        let definitions: Vec<_> =
            aggregates.desired_lrps().map(|lrp| lrp.definition.for_once()).collect();
        bytes.extend(postcard::to_stdvec(&definitions).unwrap());

        assert_eq!((SHARD_FORMAT, Digest::of(&bytes).to_string().as_str()), (8, RECORDS));
    }

    #[test]
    fn what_is_encoded_decodes_to_the_same() {
        let aggregates = running_story().aggregates;

        let decoded = decode(&encode(&aggregates).unwrap()).unwrap();

        assert_eq!(decoded, aggregates);
        assert_eq!(format!("{decoded:?}"), format!("{aggregates:?}"));
        let lrp = decoded.desired_lrps().next().unwrap();
        assert!(lrp.definition.is_packed(), "nobody has looked at it but to print it");
    }
}
