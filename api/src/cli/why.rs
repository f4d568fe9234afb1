//! `diario lrp why` and `diario task why`: why something is where it is, or nowhere: what each cell
//! came to when it was placed.

use domain::id::{ProcessGuid, TaskGuid};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error,
    instant::Instant,
    table::{NOTHING, Table},
    target::Session,
};

/// How many instances of one process are told of at once.
const INSTANCES_MAX: usize = 20;

/// A process, or one of its instances: `GUID` or `GUID/INDEX`.
#[derive(Debug, Clone)]
pub struct Instances {
    process_guid: ProcessGuid,
    index: Option<u32>,
}

/// Reads [`Instances`].
pub(super) fn parse_instances(text: &str) -> Result<Instances, String> {
    let (guid, index) = match text.split_once('/') {
        Some((guid, index)) => {
            let index = index.parse().map_err(|_| "the index must be a number".to_owned())?;
            (guid, Some(index))
        }
        None => (text, None),
    };
    let process_guid = guid.parse().map_err(|problem| format!("the guid {problem}"))?;
    Ok(Instances { process_guid, index })
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Slot {
    index: u32,
    cell_id: Option<String>,
    details: Option<String>,
}

#[derive(Deserialize)]
struct Candidates {
    seen: String,
    best: Vec<Scored>,
    refused: Vec<Refused>,
    counts: Vec<Count>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Scored {
    cell_id: String,
    score: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Refused {
    cell_id: String,
    reason: String,
}

#[derive(Deserialize)]
struct Count {
    reason: String,
    cells: u32,
}

const CANDIDATES: &str =
    "seen best { cellId score } refused { cellId reason } counts { reason cells }";

/// Why the instances of a process are where they are.
pub(super) async fn lrp(session: &Session, of: &Instances) -> Result<(), Error> {
    let Instances { process_guid, index } = of;
    let selection = "actualLrps(processGuid: $guid) { index cellId details }";
    let variables = json!({ "guid": process_guid });
    let answer = Instant::Now.world(session, "$guid: String!", selection, variables).await?;
    let mut slots: Vec<Slot> = session.client.part(&answer, "/world/actualLrps")?;
    slots.retain(|slot| index.is_none_or(|index| slot.index == index));
    if slots.is_empty() {
        let (what, list) = ("instance", "diario lrp list");
        let id = index.map_or_else(
            || format!("of {process_guid}"),
            |index| format!("{process_guid}/{index}"),
        );
        return Err(Error::NoSuch { what, id, list });
    }
    let left = slots.len().saturating_sub(INSTANCES_MAX);
    let (mut table, mut told) = (table(), Vec::new());
    for slot in slots.into_iter().take(INSTANCES_MAX) {
        let selection = format!("candidates(processGuid: $guid, index: $index) {{ {CANDIDATES} }}");
        let declared = "$guid: String!, $index: Int!";
        let variables = json!({ "guid": process_guid, "index": slot.index });
        let answer = Instant::Now.world(session, declared, &selection, variables).await?;
        let candidates: Option<Candidates> = session.client.part(&answer, "/world/candidates")?;
        let name = format!("{process_guid}/{}", slot.index);
        add(&mut table, &name, slot.cell_id.as_deref(), slot.details.as_deref(), candidates);
        told.push(json!({
            "processGuid": process_guid, "index": slot.index, "cellId": slot.cell_id,
            "candidates": answer["world"]["candidates"],
        }));
    }
    session.show(&Value::Array(told), || {
        let mut lines = table.lines("");
        if left > 0 {
            lines.push(format!("and {left} more instances; name one as {process_guid}/INDEX"));
        }
        lines
    })
}

/// Why a task is where it is.
pub(super) async fn task(session: &Session, task_guid: &TaskGuid) -> Result<(), Error> {
    let selection = format!(
        "task(taskGuid: $guid) {{ cellId rejectionReason }} \
         candidates(taskGuid: $guid) {{ {CANDIDATES} }}"
    );
    let variables = json!({ "guid": task_guid });
    let answer = Instant::Now.world(session, "$guid: String!", &selection, variables).await?;
    let task = &answer["world"]["task"];
    if task.is_null() {
        let list = "diario task list";
        return Err(Error::NoSuch { what: "task", id: task_guid.to_string(), list });
    }
    let candidates: Option<Candidates> = session.client.part(&answer, "/world/candidates")?;
    let mut table = table();
    let (cell, details) = (task["cellId"].as_str(), task["rejectionReason"].as_str());
    add(&mut table, task_guid.as_str(), cell, details, candidates);
    session.show(&answer["world"], || table.lines(""))
}

fn table() -> Table {
    Table::new(&["WHAT", "CELL", "CAME TO", "JUDGED AT"])
}

/// A row for each cell; one that says so where none was judged.
fn add(
    table: &mut Table,
    what: &str,
    on: Option<&str>,
    details: Option<&str>,
    candidates: Option<Candidates>,
) {
    let Some(Candidates { seen, best, refused, counts }) = candidates else {
        let cell = on.unwrap_or(NOTHING).to_owned();
        let came_to = details.unwrap_or("not judged").to_owned();
        return table.row([what.to_owned(), cell, came_to, NOTHING.to_owned()]);
    };
    let mut row = |cell: String, came_to: String| {
        table.row([what.to_owned(), cell, came_to, format!("@{seen}")]);
    };
    for (place, Scored { cell_id, score }) in best.into_iter().enumerate() {
        let chosen = if place == 0 && on == Some(cell_id.as_str()) { "chosen, " } else { "" };
        row(cell_id, format!("{chosen}score {score}"));
    }
    for Refused { cell_id, reason } in refused {
        row(cell_id, reason);
    }
    for Count { reason, cells } in counts {
        row(format!("{cells} more"), reason);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_instance_is_named_by_guid_and_index() {
        let one = parse_instances("web/3").unwrap();
        assert_eq!((one.process_guid.as_str(), one.index), ("web", Some(3)));
        assert_eq!(parse_instances("web").unwrap().index, None);

        for text in ["", "/", "web/", "web/x", "web/-1", "a b/1", "/1", "web/4294967296"] {
            assert!(parse_instances(text).is_err(), "{text}");
        }
    }
}
