//! Bytes of every message, built by hand from a table of numbers and types (`messages.txt`) and held
//! against what the compiled messages read and write. Nothing of the table comes from the compiler.

use std::{any::type_name, collections::BTreeMap, fmt::Debug};

use prost::Message;

use crate::bbs::proto;

const TABLE: &str = include_str!("messages.txt");

/// One field as the table has it.
#[derive(Debug, Clone)]
struct Field {
    number: u64,
    kind: String,
    name: String,
    is_list: bool,
    is_map: bool,
    is_optional: bool,
    is_always: bool,
}

type Table = BTreeMap<String, Vec<Field>>;

fn table() -> Table {
    let mut table = Table::new();
    let mut message = String::new();
    for line in TABLE.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        let Some(field) = line.strip_prefix("  ") else {
            message = line.to_owned();
            table.insert(message.clone(), Vec::new());
            continue;
        };
        let words: Vec<&str> = field.split(' ').collect();
        let of_map = words[1].strip_prefix("map:");
        table.get_mut(&message).unwrap().push(Field {
            number: words[0].parse().unwrap(),
            kind: of_map.unwrap_or(words[1]).trim_end_matches("[]").to_owned(),
            name: words[2].to_owned(),
            is_list: words[1].ends_with("[]"),
            is_map: of_map.is_some(),
            is_optional: words[3..].contains(&"optional"),
            is_always: words[3..].contains(&"always"),
        });
    }
    table
}

/// What the compiled message makes of some bytes.
#[derive(Debug)]
struct Read {
    written: Vec<u8>,
    shown: String,
}

fn read<M: Message + Default + Debug>(bytes: &[u8]) -> Read {
    let message = M::decode(bytes).unwrap_or_else(|failure| {
        panic!("{} does not read {bytes:02x?}: {failure}", type_name::<M>())
    });
    Read { written: message.encode_to_vec(), shown: format!("{message:?}") }
}

macro_rules! readers {
    ($($message:ident = $name:literal,)*) => {
        /// Every compiled message under Diego's name.
        fn readers() -> BTreeMap<&'static str, fn(&[u8]) -> Read> {
            BTreeMap::from([$(($name, read::<proto::$message> as fn(&[u8]) -> Read),)*])
        }
    };
}

readers! {
    TaskDefinition = "TaskDefinition",
    Task = "Task",
    TaskLifecycleResponse = "TaskLifecycleResponse",
    DesireTaskRequest = "DesireTaskRequest",
    StartTaskRequest = "StartTaskRequest",
    StartTaskResponse = "StartTaskResponse",
    FailTaskRequest = "FailTaskRequest",
    RejectTaskRequest = "RejectTaskRequest",
    TaskGuidRequest = "TaskGuidRequest",
    CompleteTaskRequest = "CompleteTaskRequest",
    TaskCallbackResponse = "TaskCallbackResponse",
    TasksRequest = "TasksRequest",
    TasksResponse = "TasksResponse",
    TaskByGuidRequest = "TaskByGuidRequest",
    TaskResponse = "TaskResponse",
    DesiredLrpSchedulingInfo = "DesiredLRPSchedulingInfo",
    DesiredLrpRunInfo = "DesiredLRPRunInfo",
    ProtoRoutes = "ProtoRoutes",
    DesiredLrpUpdate = "DesiredLRPUpdate",
    DesiredLrpKey = "DesiredLRPKey",
    DesiredLrpResource = "DesiredLRPResource",
    DesiredLrp = "DesiredLRP",
    DesiredLrpLifecycleResponse = "DesiredLRPLifecycleResponse",
    DesiredLrpsResponse = "DesiredLRPsResponse",
    DesiredLrpsRequest = "DesiredLRPsRequest",
    DesiredLrpResponse = "DesiredLRPResponse",
    DesiredLrpSchedulingInfosResponse = "DesiredLRPSchedulingInfosResponse",
    DesiredLrpSchedulingInfoByProcessGuidResponse = "DesiredLRPSchedulingInfoByProcessGuidResponse",
    DesiredLrpByProcessGuidRequest = "DesiredLRPByProcessGuidRequest",
    DesireLrpRequest = "DesireLRPRequest",
    UpdateDesiredLrpRequest = "UpdateDesiredLRPRequest",
    RemoveDesiredLrpRequest = "RemoveDesiredLRPRequest",
    ActualLrpGroup = "ActualLRPGroup",
    PortMapping = "PortMapping",
    ActualLrpKey = "ActualLRPKey",
    ActualLrpInstanceKey = "ActualLRPInstanceKey",
    ActualLrpNetInfo = "ActualLRPNetInfo",
    ActualLrpInternalRoute = "ActualLRPInternalRoute",
    ActualLrp = "ActualLRP",
    ActualLrpLifecycleResponse = "ActualLRPLifecycleResponse",
    ActualLrpGroupsResponse = "ActualLRPGroupsResponse",
    ActualLrpGroupResponse = "ActualLRPGroupResponse",
    ActualLrpGroupsRequest = "ActualLRPGroupsRequest",
    ActualLrpGroupsByProcessGuidRequest = "ActualLRPGroupsByProcessGuidRequest",
    ActualLrpGroupByProcessGuidAndIndexRequest = "ActualLRPGroupByProcessGuidAndIndexRequest",
    ClaimActualLrpRequest = "ClaimActualLRPRequest",
    StartActualLrpRequest = "StartActualLRPRequest",
    CrashActualLrpRequest = "CrashActualLRPRequest",
    FailActualLrpRequest = "FailActualLRPRequest",
    RetireActualLrpRequest = "RetireActualLRPRequest",
    RemoveActualLrpRequest = "RemoveActualLRPRequest",
    ActualLrpsResponse = "ActualLRPsResponse",
    ActualLrpsRequest = "ActualLRPsRequest",
    ActualLrpsByProcessGuidsResponse = "ActualLRPsByProcessGuidsResponse",
    ActualLrpsByProcessGuidsRequest = "ActualLRPsByProcessGuidsRequest",
    EvacuationResponse = "EvacuationResponse",
    EvacuateClaimedActualLrpRequest = "EvacuateClaimedActualLRPRequest",
    EvacuateRunningActualLrpRequest = "EvacuateRunningActualLRPRequest",
    EvacuateStoppedActualLrpRequest = "EvacuateStoppedActualLRPRequest",
    EvacuateCrashedActualLrpRequest = "EvacuateCrashedActualLRPRequest",
    RemoveEvacuatingActualLrpRequest = "RemoveEvacuatingActualLRPRequest",
    RemoveEvacuatingActualLrpResponse = "RemoveEvacuatingActualLRPResponse",
    Action = "Action",
    DownloadAction = "DownloadAction",
    UploadAction = "UploadAction",
    RunAction = "RunAction",
    TimeoutAction = "TimeoutAction",
    EmitProgressAction = "EmitProgressAction",
    TryAction = "TryAction",
    ParallelAction = "ParallelAction",
    SerialAction = "SerialAction",
    CodependentAction = "CodependentAction",
    ResourceLimits = "ResourceLimits",
    CheckDefinition = "CheckDefinition",
    Check = "Check",
    TcpCheck = "TCPCheck",
    HttpCheck = "HTTPCheck",
    Sidecar = "Sidecar",
    PortRange = "PortRange",
    IcmpInfo = "ICMPInfo",
    SecurityGroupRule = "SecurityGroupRule",
    EnvironmentVariable = "EnvironmentVariable",
    ImageLayer = "ImageLayer",
    CachedDependency = "CachedDependency",
    SharedDevice = "SharedDevice",
    DedicatedDevice = "DedicatedDevice",
    VolumeMount = "VolumeMount",
    VolumePlacement = "VolumePlacement",
    Network = "Network",
    CertificateProperties = "CertificateProperties",
    MetricTagValue = "MetricTagValue",
    LogRateLimit = "LogRateLimit",
    File = "File",
    ModificationTag = "ModificationTag",
    DomainsResponse = "DomainsResponse",
    UpsertDomainResponse = "UpsertDomainResponse",
    UpsertDomainRequest = "UpsertDomainRequest",
    CellCapacity = "CellCapacity",
    CellPresence = "CellPresence",
    Provider = "Provider",
    CellsResponse = "CellsResponse",
    PingResponse = "PingResponse",
    ActualLrpCreatedEvent = "ActualLRPCreatedEvent",
    ActualLrpChangedEvent = "ActualLRPChangedEvent",
    ActualLrpRemovedEvent = "ActualLRPRemovedEvent",
    ActualLrpInstanceCreatedEvent = "ActualLRPInstanceCreatedEvent",
    ActualLrpInfo = "ActualLRPInfo",
    ActualLrpInstanceChangedEvent = "ActualLRPInstanceChangedEvent",
    ActualLrpInstanceRemovedEvent = "ActualLRPInstanceRemovedEvent",
    DesiredLrpCreatedEvent = "DesiredLRPCreatedEvent",
    DesiredLrpChangedEvent = "DesiredLRPChangedEvent",
    DesiredLrpRemovedEvent = "DesiredLRPRemovedEvent",
    ActualLrpCrashedEvent = "ActualLRPCrashedEvent",
    EventsByCellId = "EventsByCellId",
    TaskCreatedEvent = "TaskCreatedEvent",
    TaskChangedEvent = "TaskChangedEvent",
    TaskRemovedEvent = "TaskRemovedEvent",
    Error = "Error",
}

fn varint(mut number: u64, bytes: &mut Vec<u8>) {
    while number >= 0x80 {
        bytes.push(number.to_le_bytes()[0] | 0x80);
        number >>= 7;
    }
    bytes.push(number.to_le_bytes()[0]);
}

fn put_number(number: u64, value: u64, bytes: &mut Vec<u8>) {
    varint(number << 3, bytes);
    varint(value, bytes);
}

fn put_bytes(number: u64, value: &[u8], bytes: &mut Vec<u8>) {
    varint(number << 3 | 2, bytes);
    varint(value.len().try_into().unwrap(), bytes);
    bytes.extend_from_slice(value);
}

/// A value that is no other field's, and how the compiled message shows it.
fn put_scalar(field: &Field, bytes: &mut Vec<u8>) -> Option<String> {
    let distinct = 300 + field.number;
    let (value, shown) = match field.kind.as_str() {
        "string" => {
            put_bytes(field.number, field.name.as_bytes(), bytes);
            return Some(format!("{:?}", field.name));
        }
        "bool" => (1, "true".to_owned()),
        "uint32" | "uint64" => (distinct, distinct.to_string()),
        // Ten bytes each, as every negative number.
        "int32" | "int64" => (distinct.wrapping_neg(), format!("-{distinct}")),
        other => {
            let (name, value) = other.strip_prefix("enum:")?.split_once('=')?;
            (value.parse().unwrap(), enum_name(name))
        }
    };
    put_number(field.number, value, bytes);
    Some(shown)
}

/// As the compiler writes it.
fn enum_name(name: &str) -> String {
    let is_acronym = name.chars().all(|c| c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_');
    if !is_acronym {
        return name.replace("LRP", "Lrp");
    }
    let word = |word: &str| word[..1].to_owned() + &word[1..].to_lowercase();
    name.split('_').map(word).collect()
}

/// A message with every field set, those in it down to a depth, in the order of the numbers.
fn full(table: &Table, message: &str, depth: u32) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in &table[message] {
        put(table, field, depth, &mut bytes);
    }
    bytes
}

fn put(table: &Table, field: &Field, depth: u32, bytes: &mut Vec<u8>) {
    if field.is_map {
        let mut entry = Vec::new();
        put_bytes(1, b"key", &mut entry);
        let value = Field { number: 2, is_map: false, ..field.clone() };
        // A value that says nothing is left out; nobody sends one.
        put(table, &value, depth.max(1), &mut entry);
        put_bytes(field.number, &entry, bytes);
    } else if field.kind == "bytes" {
        put_bytes(field.number, &[0, 0xff], bytes);
    } else if table.contains_key(&field.kind) {
        let times = if field.is_list { 2 } else { 1 };
        for _ in 0..times {
            let inner = match depth {
                0 => empty(table, &field.kind),
                depth => full(table, &field.kind, depth - 1),
            };
            put_bytes(field.number, &inner, bytes);
        }
    } else {
        put_scalar(field, bytes).unwrap_or_else(|| panic!("{field:?}"));
        if field.is_list {
            put_scalar(field, bytes);
        }
    }
}

/// What is on the wire of a message in which nothing is set.
fn empty(table: &Table, message: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    for field in table[message].iter().filter(|field| field.is_always) {
        put_bytes(field.number, &empty(table, &field.kind), &mut bytes);
    }
    bytes
}

fn snake(name: &str) -> String {
    match name {
        "PlacementTags" => "placement_tags".to_owned(),
        "Routable" => "routable".to_owned(),
        "type" => "r#type".to_owned(),
        name => name.to_owned(),
    }
}

#[test]
fn the_table_names_every_message_and_every_message_is_compiled() {
    let table = table();

    assert_eq!(table.keys().collect::<Vec<_>>(), readers().keys().collect::<Vec<_>>());
    assert_eq!(table.len(), 118);
    assert_eq!(table.values().map(Vec::len).sum::<usize>(), 442);
}

#[test]
fn every_message_with_all_it_can_hold_is_read_and_written_as_it_came() {
    let table = table();
    for (name, read) in readers() {
        for depth in 0..3 {
            let bytes = full(&table, name, depth);
            assert_eq!(read(&bytes).written, bytes, "{name} at depth {depth}");
        }
    }
}

#[test]
fn every_field_is_under_its_name() {
    let table = table();
    for (name, read) in readers() {
        for field in &table[name] {
            let mut bytes = Vec::new();
            put(&table, field, 0, &mut bytes);
            let shown = read(&bytes).shown;
            let field_name = snake(&field.name);
            let value = put_scalar(field, &mut Vec::new());
            let expected = match value {
                Some(value) if field.is_map => format!("{field_name}: {{\"key\": {value}}}"),
                Some(value) if field.is_list => format!("{field_name}: [{value}, {value}]"),
                Some(value) if field.is_optional => format!("{field_name}: Some({value})"),
                Some(value) => format!("{field_name}: {value}"),
                None if field.is_map => format!("{field_name}: {{\"key\": "),
                None if field.is_list => format!("{field_name}: ["),
                None if field.is_always => format!("{field_name}: "),
                None => format!("{field_name}: Some("),
            };
            assert!(shown.contains(&expected), "{name}: {expected} is not in {shown}");
        }
    }
}

#[test]
fn nothing_set_writes_nothing_but_what_is_always_written() {
    let table = table();
    for (name, read) in readers() {
        assert_eq!(read(&[]).written, empty(&table, name), "{name}");
    }
}

#[test]
fn a_zero_is_told_apart_from_nothing_where_it_must_be_and_only_there() {
    let table = table();
    for (name, read) in readers() {
        let always = empty(&table, name);
        for field in &table[name] {
            let is_number = !table.contains_key(&field.kind) && field.kind != "string";
            if field.is_list || field.is_map || field.kind == "bytes" {
                continue;
            }
            let mut zero = Vec::new();
            match (is_number, table.contains_key(&field.kind)) {
                (true, _) => put_number(field.number, 0, &mut zero),
                (false, true) => put_bytes(field.number, &empty(&table, &field.kind), &mut zero),
                (false, false) => put_bytes(field.number, &[], &mut zero),
            }
            let is_kept = field.is_optional || table.contains_key(&field.kind);
            let expected = if is_kept && !field.is_always { &zero } else { &always };
            let written = read(&zero).written;
            let is_same = if always.is_empty() {
                &written == expected
            } else {
                // The field's place among those that are always written.
                written.len()
                    == expected.len() + if is_kept && !field.is_always { always.len() } else { 0 }
            };
            assert!(is_same, "{name}.{}: {written:02x?}", field.name);
        }
    }
}

#[test]
fn what_is_unknown_is_kept_out_of_the_way() {
    let table = table();
    // A number, eight bytes, a text, a group with a number in it, four bytes; under numbers far away
    // and under 63, which no message has.
    let mut unknown = Vec::new();
    for number in [63, 5000] {
        put_number(number, 7, &mut unknown);
        varint(number << 3 | 1, &mut unknown);
        unknown.extend([1; 8]);
        put_bytes(number, b"later", &mut unknown);
        varint(number << 3 | 3, &mut unknown);
        put_number(1, 1, &mut unknown);
        varint(number << 3 | 4, &mut unknown);
        varint(number << 3 | 5, &mut unknown);
        unknown.extend([2; 4]);
    }
    for (name, read) in readers() {
        let known = full(&table, name, 1);
        let around = [unknown.clone(), known.clone(), unknown.clone()].concat();
        assert_eq!(read(&around).written, known, "{name}");
    }
}

#[test]
fn what_was_retired_from_a_message_is_unknown_in_it() {
    let mut retired = Vec::new();
    put_bytes(4, &[0x0a, 0x00], &mut retired);
    assert_eq!(readers()["EvacuateRunningActualLRPRequest"](&retired).written, Vec::<u8>::new());
    for number in [2, 4, 5] {
        let mut retired = Vec::new();
        put_bytes(number, b"old", &mut retired);
        assert_eq!(readers()["VolumeMount"](&retired).written, Vec::<u8>::new());
    }
}

#[test]
fn ports_are_written_unpacked_and_read_both_ways() {
    let unpacked = [0x70, 0x90, 0x3f, 0x70, 0xae, 0x11];
    let packed = [0x72, 0x04, 0x90, 0x3f, 0xae, 0x11];
    for bytes in [&unpacked, &packed] {
        let lrp = proto::DesiredLrp::decode(&bytes[..]).unwrap();
        assert_eq!(lrp.ports, [8080, 2222]);
        assert_eq!(lrp.encode_to_vec(), unpacked);
    }
    let rule = proto::SecurityGroupRule { ports: vec![443, 80], ..Default::default() };
    assert_eq!(rule.encode_to_vec(), [0x18, 0xbb, 0x03, 0x18, 0x50]);
    let info = proto::DesiredLrpRunInfo { ports: vec![1], ..Default::default() };
    assert_eq!(info.encode_to_vec(), [0x0a, 0x00, 0x48, 0x01]);
}

/// Written down once, digit by digit.
#[test]
fn bytes_of_the_calls_that_agents_make_most() {
    let claim = b"\x0a\x03web\x10\x02\x1a\x0d\x0a\x03i-1\x12\x06cell-1";
    let start = b"\x0a\x0c\x0a\x03web\x10\x02\x1a\x03cfa\x12\x0d\x0a\x03i-1\x12\x06cell-1\
        \x1a\x0d\x0a\x0410.0\x12\x05\x08\x90\x3f\x10\x05\x30\x00\x3a\x02z1";

    let key = proto::ActualLrpInstanceKey {
        instance_guid: "i-1".to_owned(),
        cell_id: "cell-1".to_owned(),
    };
    let claimed = proto::ClaimActualLrpRequest {
        process_guid: "web".to_owned(),
        index: 2,
        actual_lrp_instance_key: Some(key.clone()),
    };
    let ports =
        vec![proto::PortMapping { container_port: 8080, host_port: 5, ..Default::default() }];
    let started = proto::StartActualLrpRequest {
        actual_lrp_key: Some(proto::ActualLrpKey {
            process_guid: "web".to_owned(),
            index: 2,
            domain: "cfa".to_owned(),
        }),
        actual_lrp_instance_key: Some(key),
        actual_lrp_net_info: Some(proto::ActualLrpNetInfo {
            address: "10.0".to_owned(),
            ports,
            ..Default::default()
        }),
        routable: Some(false),
        availability_zone: "z1".to_owned(),
        ..Default::default()
    };
    check_bytes(claim, &claimed);
    check_bytes(start, &started);
    check_bytes(b"\x08\x0d\x12\x03abc", &proto::Error { r#type: 13, message: "abc".to_owned() });
    check_bytes(b"\x08\x01", &proto::PingResponse { available: true });
}

fn check_bytes<M: Message + Default + PartialEq + Debug>(bytes: &[u8], message: &M) {
    assert_eq!(message.encode_to_vec(), bytes);
    assert_eq!(M::decode(bytes).unwrap(), *message);
}
