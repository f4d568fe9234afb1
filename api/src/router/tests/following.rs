//! The registry behind the log: routes come, change and go with the events.

use std::sync::Arc;

use domain::{
    bbs::{actual_lrp, desired_lrp},
    command::Command,
    log::Incarnation,
    routes::{Hostname, HttpRoute},
    testing::{Story, key, process_guid, running_story},
};
use projections::{
    event_store::{
        Batch, BatchId, EventStore, NewEvent,
        memory::{MemoryLog, MemoryStore},
    },
    presence::Routers,
    projector::Now,
    world::World,
};

use super::until;
use crate::{
    clock,
    live_routers::LiveRouters,
    router::registry::{EndpointKey, Registry},
};

/// A story that is told into a store, with a registry that follows it.
struct Told {
    story: Story,
    store: Arc<dyn EventStore>,
    now: Now,
    registry: Registry,
    routers: Arc<LiveRouters>,
}

impl Told {
    async fn start(story: Story) -> Self {
        let incarnation = Incarnation(clock::new_uuid());
        let store: Arc<dyn EventStore> = Arc::new(MemoryStore::new(MemoryLog::new(incarnation)));
        let now = Now::follow(Arc::clone(&store), World::empty());
        let routers = Arc::new(LiveRouters::new(Routers::alone("node")));
        let registry = Registry::follow(now.clone(), Arc::clone(&routers)).await;
        let told = Self { routers, story, store, now, registry };
        told.tell(0).await;
        told
    }

    async fn then(&mut self, command: impl Into<Command>) {
        let known = self.story.recorded.len();
        self.story.submit(command.into()).expect("an accepted command");
        self.tell(known).await;
    }

    async fn tell(&self, known: usize) {
        for recorded in &self.story.recorded[known..] {
            let head = self.store.head().await.unwrap();
            let event = NewEvent {
                stream: recorded.stream.clone(),
                event: recorded.event.clone().into(),
                actor: recorded.actor.clone(),
                command_id: recorded.command_id.clone(),
                causation: None,
                correlation: recorded.correlation.clone(),
            };
            let id = BatchId(clock::new_uuid());
            let (decided_on, recorded_at) = (head.position, recorded.recorded_at);
            self.store
                .append(Batch { id, decided_on, recorded_at, lease: None, events: vec![event] })
                .await
                .unwrap();
        }
        assert!(self.now.reach(self.story.head().position).await);
    }

    /// Where a host leads: `None` when it is unknown.
    fn addresses(&self, host: &str) -> Option<Vec<String>> {
        let pool = self.registry.pool(&Hostname::new(host).unwrap())?;
        let mut tried = Vec::new();
        let mut addresses = Vec::new();
        while let Some(endpoint) = self.registry.pick(&pool, &tried) {
            tried.push(EndpointKey::from(&endpoint));
            addresses.push(endpoint.address.to_string());
        }
        Some(addresses)
    }

    async fn leads_to(&self, host: &str, expected: Option<&[&str]>) {
        until(|| {
            let addresses = self.addresses(host);
            addresses.as_ref().map(|found| found.iter().map(String::as_str).collect::<Vec<_>>())
                == expected.map(<[&str]>::to_vec)
        })
        .await;
    }

    async fn route(&mut self, hostnames: &[&str], port: u16) {
        let hostnames = hostnames.iter().map(|name| Hostname::new(name).unwrap()).collect();
        let routes = Some(vec![HttpRoute { hostnames, port }]);
        let update = desired_lrp::Update { routes, ..desired_lrp::Update::default() };
        self.then(desired_lrp::Command::Update { process_guid: process_guid("web"), update }).await;
    }
}

#[tokio::test]
async fn routes_come_change_and_go_with_the_events() {
    let mut told = Told::start(running_story()).await;
    told.leads_to("a.example.com", None).await;

    told.route(&["a.example.com", "b.example.com"], 8080).await;
    told.leads_to("a.example.com", Some(&["10.255.0.2:8080"])).await;
    told.leads_to("b.example.com", Some(&["10.255.0.2:8080"])).await;

    told.route(&["a.example.com"], 9090).await;
    told.leads_to("a.example.com", Some(&["10.255.0.2:9090"])).await;
    told.leads_to("b.example.com", None).await;

    // The route goes before the instance has stopped.
    told.then(actual_lrp::Command::Retire { key: key("web", 0) }).await;
    told.leads_to("a.example.com", Some(&[])).await;
    // And whoever waits for that is told how far this router is.
    let head = told.story.head().position;
    until(|| told.routers.known().own() >= Some(head)).await;

    told.then(desired_lrp::Command::Remove { process_guid: process_guid("web") }).await;
    told.leads_to("a.example.com", None).await;
}

#[tokio::test]
async fn events_that_change_no_route_leave_the_table_as_it_is() {
    let mut told = Told::start(running_story()).await;
    told.route(&["a.example.com"], 8080).await;
    let generation = |told: &Told| told.now.read(|world| world.route_table().generation());
    let before = generation(&told);

    let update = desired_lrp::Update {
        annotation: Some("new".to_owned()),
        ..desired_lrp::Update::default()
    };
    told.then(desired_lrp::Command::Update { process_guid: process_guid("web"), update }).await;
    told.then(domain::testing::register("cell-2", 2)).await;
    assert_eq!(generation(&told), before);

    told.route(&["a.example.com"], 9090).await;
    assert_ne!(generation(&told), before);
}
