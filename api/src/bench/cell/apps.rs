//! Sample apps on the platform, as a client desires them, reaches them and counts them.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    super::Error,
    platform::{LOOK_AGAIN, PATIENCE, Platform, unexpected},
};
use crate::clock::Stopwatch;

/// How apps are reached: one way for each client.
#[derive(Debug, Clone)]
pub(super) struct Visitor {
    http: reqwest::Client,
    router: String,
}

/// A running instance.
#[derive(Debug, Clone)]
pub(super) struct Instance {
    pub(super) instance_guid: String,
    pub(super) cell_id: String,
    /// Its own address and port.
    pub(super) address: String,
}

impl Visitor {
    pub(super) fn new(platform: &Platform) -> Result<Self, Error> {
        let http = reqwest::Client::builder().no_proxy().timeout(PATIENCE).build();
        Ok(Self { http: http.map_err(unexpected)?, router: platform.router.clone() })
    }

    /// An app's answer through the router, if it is a good one.
    async fn visit(&self, process_guid: &str) -> Option<String> {
        let request = self.http.get(format!("{}/", self.router)).header("host", host(process_guid));
        let answer = request.send().await.ok()?;
        if answer.status() != reqwest::StatusCode::OK {
            return None;
        }
        answer.text().await.ok()
    }

    /// Waits until an app answers through the router, by another instance than a certain one.
    pub(super) async fn until_routable(
        &self,
        process_guid: &str,
        other_than: Option<&str>,
    ) -> Result<(), Error> {
        let started = Stopwatch::start();
        while started.elapsed() < PATIENCE {
            if let Some(answer) = self.visit(process_guid).await
                && !other_than.is_some_and(|guid| answer.contains(guid))
            {
                return Ok(());
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
        Err(Error::Unexpected(format!("{process_guid} does not become routable")))
    }

    /// Has an instance kill its own process, as `kill -9` does.
    pub(super) async fn kill(&self, instance: &Instance) {
        let url = format!("http://{}/kill/9", instance.address);
        // The connection breaks with the process, so this request has no answer.
        drop(self.http.get(url).timeout(Duration::from_secs(1)).send().await);
    }
}

fn host(process_guid: &str) -> String {
    format!("{process_guid}.bench.localhost")
}

impl Platform {
    /// Wishes for an app of so many instances, with a route and a check.
    pub(super) async fn desire(&self, process_guid: &str, instances: u32) -> Result<(), Error> {
        let run = json!({ "path": "/bin/diario", "args": ["sample-app"], "user": "vcap" });
        let spec = json!({
            "processGuid": process_guid,
            "instances": instances,
            "routes": [{ "hostnames": [host(process_guid)], "port": 8080 }],
            "definition": {
                "rootfs": "preloaded:diario",
                "memoryMb": 64,
                "diskMb": 64,
                "ports": [8080],
                "checks": [{ "http": { "port": 8080, "path": "/health" } }],
                "action": { "run": run },
            },
        });
        let mutation = "mutation($spec: DesiredLrpInput!) { desireLrp(spec: $spec) { position } }";
        self.client.query(mutation, json!({ "spec": spec })).await.map_err(unexpected)?;
        Ok(())
    }

    /// Takes a wish back.
    pub(super) async fn remove(&self, process_guid: &str) -> Result<(), Error> {
        let mutation = "mutation($p: String!) { removeDesiredLrp(processGuid: $p) { position } }";
        self.client.query(mutation, json!({ "p": process_guid })).await.map_err(unexpected)?;
        Ok(())
    }

    /// An app's instances that run.
    pub(super) async fn running(&self, process_guid: &str) -> Result<Vec<Instance>, Error> {
        let query = "query($p: String!) { now { actualLrps(processGuid: $p) \
            { state cellId instanceGuid address ports } } }";
        let answer = self.client.query(query, json!({ "p": process_guid })).await;
        let answer = answer.map_err(unexpected)?;
        let slots = answer.pointer("/now/actualLrps").and_then(Value::as_array);
        Ok(slots.into_iter().flatten().filter_map(running_instance).collect())
    }

    /// Waits until so many instances of an app run.
    pub(super) async fn until_running(
        &self,
        process_guid: &str,
        count: u32,
        is_counted: impl Fn(&Instance) -> bool,
    ) -> Result<Vec<Instance>, Error> {
        let count = usize::try_from(count).unwrap_or(usize::MAX);
        let started = Stopwatch::start();
        while started.elapsed() < PATIENCE {
            let running = self.running(process_guid).await?;
            if running.iter().filter(|instance| is_counted(instance)).count() >= count {
                return Ok(running);
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(Error::Unexpected(format!("{process_guid} does not come to {count} instances")))
    }
}

fn running_instance(slot: &Value) -> Option<Instance> {
    let text = |name: &str| slot.get(name).and_then(Value::as_str).map(str::to_owned);
    if text("state")? != "RUNNING" {
        return None;
    }
    let port = slot.pointer("/ports/0").and_then(Value::as_u64)?;
    Some(Instance {
        instance_guid: text("instanceGuid")?,
        cell_id: text("cellId")?,
        address: format!("{}:{port}", text("address")?),
    })
}
