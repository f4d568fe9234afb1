//! The demo: what Diario does, shown on a real app through the same edges that users have.
//!
//! Every step is checked as it is shown; one that is not seen in time ends the demo with an error.

use std::{process::ExitCode, time::Duration};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::{cli::client::Client, output::line};

const PROCESS_GUID: &str = "demo";
const HOSTNAME: &str = "demo.diario.localhost";
const INSTANCES: usize = 3;
const INSTANCES_AFTER: usize = 5;
/// How long any step may take.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// Runs the demo against a control plane and its router.
///
/// # Errors
/// The first step that was not seen.
pub async fn run(api_url: &str, router_url: &str) -> anyhow::Result<ExitCode> {
    let demo = Demo {
        client: Client::new(api_url, None, None)?,
        http: reqwest::Client::builder().no_proxy().build()?,
        router_url: router_url.to_owned(),
    };
    line("");
    demo.wait_for_the_cell().await?;
    demo.remove_an_earlier_app().await?;
    demo.run_the_app().await?;
    demo.kill_one().await?;
    demo.scale().await?;
    line("");
    line(format!("Try it:  curl -H 'Host: {HOSTNAME}' {router_url}/"));
    line("         diario crash list, diario log tail, diario diff -5m now");
    Ok(ExitCode::SUCCESS)
}

struct Demo {
    client: Client,
    http: reqwest::Client,
    router_url: String,
}

/// One running instance.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Instance {
    index: u64,
    instance_guid: String,
    address: String,
}

impl Demo {
    async fn wait_for_the_cell(&self) -> anyhow::Result<()> {
        let cell = until("a cell", async || {
            let answer = self.query("{ now { cells { cellId presence } } }", json!({})).await?;
            let cells = answer.pointer("/now/cells").and_then(Value::as_array);
            let present = cells.and_then(|cells| cells.iter().find(|c| is_present(c)).cloned());
            Ok(present)
        })
        .await?;
        line(format!("A cell is there: {}.", text(&cell, "/cellId")));
        Ok(())
    }

    /// The journal of an earlier run may still hold the app.
    async fn remove_an_earlier_app(&self) -> anyhow::Result<()> {
        let query = "query($p: String!) { now { desiredLrp(processGuid: $p) { processGuid } } }";
        let found = self.query(query, json!({ "p": PROCESS_GUID })).await?;
        if found.pointer("/now/desiredLrp").is_some_and(|lrp| !lrp.is_null()) {
            let remove = "mutation($p: String!) { removeDesiredLrp(processGuid: $p) { position } }";
            self.query(remove, json!({ "p": PROCESS_GUID })).await?;
        }
        until("the app of an earlier run to go", async || {
            Ok(self.slots().await?.is_empty().then_some(()))
        })
        .await
    }

    async fn run_the_app(&self) -> anyhow::Result<()> {
        line("");
        line(format!("1. Run a web app: {INSTANCES} instances behind {HOSTNAME}."));
        let started = Instant::now();
        let desire = "mutation($spec: DesiredLrpInput!) { desireLrp(spec: $spec) { position } }";
        let answer = self.query(desire, json!({ "spec": spec() })).await?;
        line(format!("   desired at position {}", text(&answer, "/desireLrp/position")));
        let greeting = until("an answer through the router", async || self.curl().await).await?;
        let routable = started.elapsed();
        self.running(INSTANCES).await?;
        let all = started.elapsed();
        line(format!("   curl: {}", greeting.lines().next().unwrap_or_default()));
        line(format!(
            "   desire to routable: {} ms; all {INSTANCES} running after {} ms",
            routable.as_millis(),
            all.as_millis()
        ));
        Ok(())
    }

    async fn kill_one(&self) -> anyhow::Result<()> {
        line("");
        let before = self.running(INSTANCES).await?;
        let victim = before.first().context("no instance to kill")?.clone();
        line(format!("2. Kill instance {} with -9.", victim.index));
        let killed = Instant::now();
        // The connection breaks with the process, so this request has no answer.
        drop(self.http.get(format!("http://{}/kill/9", victim.address)).send().await);
        let crash = until("the crash record", async || self.crash_of(&victim).await).await?;
        ensure!(crash.pointer("/signal") == Some(&json!(9)), "the crash names no signal 9");
        print_crash(&crash);
        let replacement = until("the restart", async || {
            let running = self.running_now().await?;
            Ok(running.into_iter().find(|instance| {
                instance.index == victim.index && instance.instance_guid != victim.instance_guid
            }))
        })
        .await?;
        line(format!(
            "   restarted as {} after {} ms",
            replacement.instance_guid,
            killed.elapsed().as_millis()
        ));
        Ok(())
    }

    async fn scale(&self) -> anyhow::Result<()> {
        line("");
        line(format!("3. Scale to {INSTANCES_AFTER}, and look at what changed."));
        let before = self.query("{ now { position } }", json!({})).await?;
        let before = text(&before, "/now/position");
        let update = "mutation($p: String!, $n: Int!) { updateDesiredLrp(processGuid: $p, instances: $n) { position } }";
        self.query(update, json!({ "p": PROCESS_GUID, "n": INSTANCES_AFTER })).await?;
        self.running(INSTANCES_AFTER).await?;
        let after = self.query("{ now { position } }", json!({})).await?;
        let after = text(&after, "/now/position");
        let diff = crate::cli::diff::lines(&self.client, &before, &after).await?;
        ensure!(!diff.is_empty(), "the diff from {before} to {after} is empty");
        line(format!("   diff @{before} @{after}:"));
        for change in diff {
            line(format!("   {change}"));
        }
        Ok(())
    }

    async fn query(&self, document: &str, variables: Value) -> anyhow::Result<Value> {
        Ok(self.client.query(document, variables).await?)
    }

    /// The app's answer through the router, once there is one.
    async fn curl(&self) -> anyhow::Result<Option<String>> {
        let request = self.http.get(format!("{}/", self.router_url)).header("host", HOSTNAME);
        let answer = request.send().await?;
        if !answer.status().is_success() {
            return Ok(None);
        }
        Ok(Some(answer.text().await?))
    }

    async fn slots(&self) -> anyhow::Result<Vec<Value>> {
        let query = "query($p: String!) { now { actualLrps(processGuid: $p) \
            { index state instanceGuid address ports } } }";
        let answer = self.query(query, json!({ "p": PROCESS_GUID })).await?;
        let slots = answer.pointer("/now/actualLrps").and_then(Value::as_array).cloned();
        slots.context("the answer holds no actual LRPs")
    }

    async fn running_now(&self) -> anyhow::Result<Vec<Instance>> {
        let slots = self.slots().await?;
        Ok(slots.iter().filter_map(running_instance).collect())
    }

    async fn running(&self, count: usize) -> anyhow::Result<Vec<Instance>> {
        until("all instances to run", async || {
            let running = self.running_now().await?;
            Ok((running.len() == count).then_some(running))
        })
        .await
    }

    async fn crash_of(&self, victim: &Instance) -> anyhow::Result<Option<Value>> {
        let query = "query($p: String!) { now { crashes(processGuid: $p, first: 10) { id index \
            instanceGuid cellId reason signal crashCount position \
            evidence { logLines { text } } } } }";
        let answer = self.query(query, json!({ "p": PROCESS_GUID })).await?;
        let crashes = answer.pointer("/now/crashes").and_then(Value::as_array).cloned();
        Ok(crashes
            .unwrap_or_default()
            .into_iter()
            .find(|crash| text(crash, "/instanceGuid") == victim.instance_guid))
    }
}

fn spec() -> Value {
    json!({
        "processGuid": PROCESS_GUID,
        "instances": INSTANCES,
        "routes": [{ "hostnames": [HOSTNAME], "port": 8080 }],
        "definition": {
            "rootfs": "preloaded:diario",
            "memoryMb": 64,
            "diskMb": 64,
            "ports": [8080],
            "checks": [{ "http": { "port": 8080, "path": "/health" } }],
            "action": {
                "run": { "path": "/bin/diario", "args": ["sample-app"], "user": "vcap" }
            }
        }
    })
}

fn print_crash(crash: &Value) {
    line(format!(
        "   crash {}: instance {} on {}: {}, signal {} (SIGKILL), crash {} in a row",
        text(crash, "/id"),
        text(crash, "/index"),
        text(crash, "/cellId"),
        text(crash, "/reason"),
        text(crash, "/signal"),
        text(crash, "/crashCount"),
    ));
    let lines = crash.pointer("/evidence/logLines").and_then(Value::as_array);
    let lines = lines.map_or(&[][..], Vec::as_slice);
    for last in lines.iter().skip(lines.len().saturating_sub(3)) {
        line(format!("     | {}", text(last, "/text")));
    }
}

fn is_present(cell: &Value) -> bool {
    text(cell, "/presence") == "PRESENT"
}

fn running_instance(slot: &Value) -> Option<Instance> {
    if text(slot, "/state") != "RUNNING" {
        return None;
    }
    let port = slot.pointer("/ports/0").and_then(Value::as_u64)?;
    Some(Instance {
        index: slot.pointer("/index").and_then(Value::as_u64)?,
        instance_guid: text(slot, "/instanceGuid"),
        address: format!("{}:{port}", text(slot, "/address")),
    })
}

fn text(value: &Value, pointer: &str) -> String {
    match value.pointer(pointer) {
        Some(Value::String(text)) => text.clone(),
        Some(other) => other.to_string(),
        None => String::new(),
    }
}

/// Looks again and again until something is seen.
async fn until<T>(
    what: &str,
    look: impl AsyncFn() -> anyhow::Result<Option<T>>,
) -> anyhow::Result<T> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(seen) = look().await? {
            return Ok(seen);
        }
        if Instant::now() > deadline {
            bail!("waited {} s for {what}; the log of this run says more", PATIENCE.as_secs());
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}
