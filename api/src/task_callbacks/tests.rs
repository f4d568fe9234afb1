//! The loop over a real bus and log, against a real HTTP server on this machine.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex},
};

use domain::{
    bbs::task::{CallbackOutcome, EXPIRE_COMPLETED_AFTER, KICK_AFTER, State, TaskResult},
    event::Event,
    log::{Owner, Recorded},
    sealed::PlainText,
    testing::{definition, task_guid},
    units::Milliseconds,
};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
    sync::mpsc,
};

use super::*;
use crate::testing::InMemory;

/// What a server answers to one request.
#[derive(Clone)]
enum Behaviour {
    Says(String),
    /// Reads, and never answers.
    Hangs,
    /// A head without end.
    Floods,
}

fn status(status: u16) -> Behaviour {
    Behaviour::Says(format!("HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n"))
}

/// A server that answers as it is told, one behaviour a request, the last one from then on.
struct Server {
    address: SocketAddr,
    requests: mpsc::UnboundedReceiver<(String, Value)>,
    behaviours: Arc<Mutex<Vec<Behaviour>>>,
}

impl Server {
    async fn start(behaviours: Vec<Behaviour>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (saw, requests) = mpsc::unbounded_channel();
        let behaviours = Arc::new(Mutex::new(behaviours));
        let script = Arc::clone(&behaviours);
        drop(projections::worker::spawn("test server", async move {
            while let Ok((stream, _)) = listener.accept().await {
                let behaviour = {
                    let mut script = script.lock().unwrap();
                    if script.len() > 1 { script.remove(0) } else { script[0].clone() }
                };
                let serve = serve(stream, behaviour, saw.clone());
                drop(projections::worker::spawn("test connection", serve));
            }
        }));
        Self { address, requests, behaviours }
    }

    /// From now on it answers so.
    fn behave(&self, behaviour: Behaviour) {
        *self.behaviours.lock().unwrap() = vec![behaviour];
    }

    fn url(&self) -> String {
        format!("http://user:hunter2@{}/done?token=hunter2", self.address)
    }

    async fn request(&mut self) -> (String, Value) {
        within(self.requests.recv()).await.unwrap()
    }
}

async fn serve(
    mut stream: tokio::net::TcpStream,
    behaviour: Behaviour,
    saw: mpsc::UnboundedSender<(String, Value)>,
) {
    let mut bytes = Vec::new();
    let (head, body) = loop {
        let mut chunk = [0; 4096];
        let count = stream.read(&mut chunk).await.unwrap_or(0);
        if count == 0 {
            return;
        }
        bytes.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&bytes);
        if let Some((head, body)) = text.split_once("\r\n\r\n")
            && let Ok(body) = serde_json::from_str(body)
        {
            break (head.to_owned(), body);
        }
    };
    drop(saw.send((head, body)));
    match behaviour {
        Behaviour::Says(text) => drop(stream.write_all(text.as_bytes()).await),
        Behaviour::Hangs => drop(stream.read(&mut [0; 16]).await),
        Behaviour::Floods => {
            drop(stream.write_all(b"HTTP/1.1 200 OK\r\n").await);
            while stream.write_all(b"X-Flood: 0123456789012345678901234567890\r\n").await.is_ok() {}
        }
    }
}

async fn within<T>(work: impl Future<Output = T>) -> T {
    tokio::time::timeout(Duration::from_secs(20), work).await.expect("in time")
}

/// A control plane with the loop, and an ended task with a callback.
struct Scene {
    inner: InMemory,
    shutdown: CancellationToken,
}

const SETTINGS: Settings = Settings { timeout: Duration::from_millis(300), calls_max: 8 };

impl Scene {
    async fn with_ended_task(url: &str) -> Self {
        // As the program does when it starts.
        drop(rustls::crypto::ring::default_provider().install_default());
        let inner = InMemory::start(1);
        inner.register("cell-1").await;
        let owner = Owner::Task(task_guid("t"));
        let keyring = &inner.control_plane.keyring;
        let url = keyring.seal(&owner, &PlainText(url.to_owned())).await.unwrap();
        inner
            .command(task::Command::Desire {
                task_guid: task_guid("t"),
                domain: "cf-tasks".parse().unwrap(),
                definition: Arc::new(definition()),
                annotation: "mine".to_owned(),
                completion_callback_url: Some(url),
            })
            .await;
        let task = inner.start_task("t", "cell-1").await;
        let (exit, evidence, result) = (None, None, "42".to_owned());
        let result = TaskResult { failure_reason: None, exit, evidence, result };
        inner.command(task::Command::Complete { task, result }).await;
        let mut scene = Self { inner, shutdown: CancellationToken::new() };
        scene.start_loop();
        scene
    }

    /// As a node does when it starts or takes over the lease.
    fn start_loop(&mut self) {
        self.shutdown = CancellationToken::new();
        let control_plane = self.inner.control_plane.clone();
        drop(projections::worker::spawn(
            "callbacks",
            run(control_plane, SETTINGS, self.shutdown.clone()),
        ));
    }

    async fn events(&self) -> Vec<Recorded<Event>> {
        let store = &self.inner.control_plane.store;
        let head = store.head().await.unwrap().position;
        let mut events =
            store.read_all(Position(0), usize::try_from(head.0).unwrap()).await.unwrap();
        events.retain(|recorded| recorded.stream.owner() == Owner::Task(task_guid("t")));
        events
    }

    /// Waits until the newest event of the task is of a type, and gives it as JSON.
    async fn until(&self, type_name: &str) -> Value {
        let mut moved = self.inner.control_plane.now.moved();
        within(async {
            loop {
                moved.borrow_and_update();
                let events = self.events().await;
                if let Some(last) = events.last()
                    && last.event.type_name() == type_name
                {
                    return serde_json::from_slice(&last.event.payload().unwrap()).unwrap();
                }
                moved.changed().await.unwrap();
            }
        })
        .await
    }

    /// Every event of the task since its end, by type.
    async fn since_its_end(&self) -> Vec<&'static str> {
        let events = self.events().await;
        let types = events.iter().map(|recorded| recorded.event.type_name());
        types.skip_while(|name| *name != "task.completed").skip(1).collect()
    }

    /// Half a minute later the converger looks.
    async fn kick(&self) {
        self.inner.control_plane.clock.pass(KICK_AFTER);
        self.inner.command(task::Command::Demote { task_guid: task_guid("t") }).await;
    }
}

#[tokio::test]
async fn an_end_is_told_once_in_diegos_form_and_the_task_is_deleted() {
    let mut server = Server::start(vec![status(200)]).await;
    let scene = Scene::with_ended_task(&server.url()).await;

    let deleted = scene.until("task.deleted").await;

    assert_eq!(deleted, json!({ "reason": "callback_delivered" }));
    let (head, body) = server.request().await;
    let created_at = scene.events().await[0].recorded_at.0;
    assert_eq!(
        body,
        json!({
            "task_guid": "t", "failed": false, "failure_reason": "", "result": "42",
            "annotation": "mine", "created_at": created_at,
        })
    );
    assert!(head.starts_with("POST /done?token=hunter2 HTTP/1.1"), "{head}");
    let head = head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/json"), "{head}");
    assert!(head.contains("authorization: basic"), "{head}");
    assert!(server.requests.try_recv().is_err(), "it is told once");
    assert_eq!(
        scene.since_its_end().await,
        ["task.resolving", "task.callback_delivered", "task.deleted"]
    );
}

#[tokio::test]
async fn a_server_that_is_busy_is_called_again_at_once_three_times_at_most() {
    let server = Server::start(vec![status(503), status(504), status(200)]).await;
    let scene = Scene::with_ended_task(&server.url()).await;
    scene.until("task.deleted").await;
    let delivered = scene.events().await;
    let [.., delivered, _] = delivered.as_slice() else { panic!("two events") };
    let told: Value = serde_json::from_slice(&delivered.event.payload().unwrap()).unwrap();
    assert_eq!(told, json!({ "attempts": 3, "status": 200 }));

    let mut server = Server::start(vec![status(503)]).await;
    let scene = Scene::with_ended_task(&server.url()).await;
    let failed = scene.until("task.callback_failed").await;
    assert_eq!(failed, json!({ "attempts": 3, "reason": "answered with HTTP status 503" }));
    for _ in 0..3 {
        server.request().await;
    }
    assert!(server.requests.try_recv().is_err());
}

#[tokio::test]
async fn any_other_status_counts_as_delivered() {
    for code in [201, 400, 404, 500, 502] {
        let server = Server::start(vec![status(code)]).await;
        let scene = Scene::with_ended_task(&server.url()).await;
        assert_eq!(scene.until("task.deleted").await, json!({ "reason": "callback_delivered" }));
        assert_eq!(
            scene.since_its_end().await,
            ["task.resolving", "task.callback_delivered", "task.deleted"],
            "{code}"
        );
    }
}

#[tokio::test]
async fn a_redirect_is_not_followed_and_is_no_answer() {
    let mut elsewhere = Server::start(vec![status(200)]).await;
    for code in [301, 302, 307, 308] {
        let location = elsewhere.url();
        let answer =
            format!("HTTP/1.1 {code} Moved\r\nLocation: {location}\r\nContent-Length: 0\r\n\r\n");
        let server = Server::start(vec![Behaviour::Says(answer)]).await;
        let scene = Scene::with_ended_task(&server.url()).await;
        let failed = scene.until("task.callback_failed").await;
        let reason = format!("redirected with HTTP status {code}, which is not followed");
        assert_eq!(failed, json!({ "attempts": 1, "reason": reason }));
    }
    assert!(elsewhere.requests.try_recv().is_err());
}

#[tokio::test]
async fn who_cannot_be_reached_is_told_after_the_next_kick_and_no_event_says_where() {
    let server = Server::start(vec![status(200)]).await;
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let url = format!("http://user:hunter2@{closed}/done?token=hunter2");
    let scene = Scene::with_ended_task(&url).await;

    let failed = scene.until("task.callback_failed").await;

    assert_eq!(failed["attempts"], 1, "Diego tries no second time in a row");
    let reason = failed["reason"].as_str().unwrap();
    assert_eq!(reason, "cannot connect: connection refused");
    drop(server);
    let taken = TcpListener::bind(closed).await.unwrap();
    scene.kick().await;
    let (stream, _) = within(taken.accept()).await.unwrap();
    let (saw, _requests) = mpsc::unbounded_channel();
    serve(stream, status(200), saw).await;
    scene.until("task.deleted").await;
    for recorded in scene.events().await {
        let payload = String::from_utf8(recorded.event.payload().unwrap()).unwrap();
        assert!(!payload.contains("hunter2") && !payload.contains("/done"), "{payload}");
    }
}

#[tokio::test]
async fn a_server_that_hangs_is_called_three_times_within_the_time_that_resolving_gives() {
    let mut server = Server::start(vec![Behaviour::Hangs]).await;
    let scene = Scene::with_ended_task(&server.url()).await;

    let failed = scene.until("task.callback_failed").await;

    assert_eq!(failed, json!({ "attempts": 3, "reason": "no answer within 300 ms" }));
    for _ in 0..3 {
        server.request().await;
    }
}

#[tokio::test]
async fn an_answer_without_end_is_cut_off() {
    let server = Server::start(vec![Behaviour::Floods]).await;
    let scene = Scene::with_ended_task(&server.url()).await;
    let failed = scene.until("task.callback_failed").await;
    assert!(failed["reason"].is_string(), "{failed}");

    let endless = "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\nx";
    let server = Server::start(vec![Behaviour::Says(endless.to_owned())]).await;
    let scene = Scene::with_ended_task(&server.url()).await;
    scene.until("task.deleted").await;
}

#[tokio::test]
async fn a_node_that_dies_in_the_middle_of_a_call_is_replaced_by_another_call() {
    let mut server = Server::start(vec![Behaviour::Hangs]).await;
    let mut scene = Scene::with_ended_task(&server.url()).await;
    server.request().await;
    scene.shutdown.cancel();
    scene.until("task.resolving").await;
    server.behave(status(200));

    scene.start_loop();
    scene.kick().await;

    scene.until("task.deleted").await;
    server.request().await;
    assert_eq!(
        scene.since_its_end().await,
        [
            "task.resolving",
            "task.demoted",
            "task.resolving",
            "task.callback_delivered",
            "task.deleted",
        ]
    );
}

/// As many that nobody answers for as calls may be open at once, each called three times already.
#[tokio::test]
async fn clients_that_never_answer_do_not_keep_others_waiting() {
    let inner = InMemory::start(1);
    inner.register("cell-1").await;
    let calls_max = Settings::default().calls_max;
    let dead: Vec<TaskGuid> =
        (0..calls_max).map(|number| task_guid(&format!("a-{number:03}"))).collect();
    let healthy = task_guid("z");
    for guid in dead.iter().chain([&healthy]) {
        inner
            .command(task::Command::Desire {
                task_guid: guid.clone(),
                domain: "cf-tasks".parse().unwrap(),
                definition: Arc::new(definition()),
                annotation: String::new(),
                completion_callback_url: Some(domain::testing::sealed()),
            })
            .await;
        inner.command(task::Command::Cancel { task_guid: guid.clone() }).await;
    }
    for task_guid in &dead {
        let resolve = task::Command::Resolve { task_guid: task_guid.clone() };
        let resolving = inner.command(resolve).await.position;
        let outcome = CallbackOutcome::Failed("no answer".to_owned());
        let (task_guid, calls) = (task_guid.clone(), Calls { attempts: 3, outcome });
        inner.command(task::Command::NoteCallback { task_guid, resolving, calls }).await;
    }
    inner.control_plane.clock.pass(KICK_AFTER);
    for task_guid in dead.iter().cloned() {
        inner.command(task::Command::Demote { task_guid }).await;
    }

    let now = inner.control_plane.clock.now();
    let due = inner.control_plane.now.read(|world| step(world, now));

    assert_eq!(due.len(), calls_max + 1, "all are due");
    assert_eq!(due[0], Command::from(task::Command::Resolve { task_guid: healthy }));
}

#[tokio::test]
async fn two_loops_at_once_call_once() {
    let mut server = Server::start(vec![status(200)]).await;
    let mut scene = Scene::with_ended_task(&server.url()).await;
    scene.start_loop();

    scene.until("task.deleted").await;

    server.request().await;
    assert!(server.requests.try_recv().is_err());
}

#[tokio::test]
async fn what_a_client_resolves_itself_is_not_called_for_and_nothing_is_called_after_two_minutes() {
    let server = Server::start(vec![status(503)]).await;
    let scene = Scene::with_ended_task(&server.url()).await;
    scene.until("task.callback_failed").await;
    let world = |look: &dyn Fn(&World)| scene.inner.control_plane.now.read(|world| look(world));
    world(&|world| {
        let task = world.aggregates().task(&task_guid("t")).unwrap();
        assert!(matches!(task.state, State::Resolving { .. }));
        let failed = CallbackOutcome::Failed("answered with HTTP status 503".to_owned());
        assert_eq!(task.callback.as_ref().unwrap().last, Some(failed));
        assert_eq!(step(world, scene.inner.control_plane.clock.now()), []);
    });
    scene.shutdown.cancel();
    scene.kick().await;

    scene.until("task.demoted").await;
    world(&|world| {
        let ended = world.aggregates().task(&task_guid("t")).unwrap().ended().unwrap().at;
        let expired = ended.plus(EXPIRE_COMPLETED_AFTER);
        let resolve = task::Command::Resolve { task_guid: task_guid("t") };
        let just_before = Timestamp(expired.0 - 1);
        assert_eq!(step(world, just_before), [Command::from(resolve)]);
        assert_eq!(step(world, expired), []);
    });
    scene.inner.control_plane.clock.pass(Milliseconds(EXPIRE_COMPLETED_AFTER.0));
    scene.inner.command(task::Command::Expire { task_guid: task_guid("t") }).await;
    assert_eq!(scene.until("task.deleted").await, json!({ "reason": "callback_undelivered" }));
}

#[tokio::test]
async fn a_url_whose_key_was_forgotten_is_told_as_such() {
    let server = Server::start(vec![status(200)]).await;
    let inner = InMemory::start(1);
    let sealed = domain::testing::sealed();
    let keyring = Arc::clone(&inner.control_plane.keyring);
    let caller = client::Client::new(keyring, SETTINGS);
    let call = Call { task_guid: task_guid("t"), url: sealed, body: Vec::new() };

    let calls = caller.call(&call).await;

    let CallbackOutcome::Failed(reason) = calls.outcome else { panic!("it was opened") };
    assert!(reason.starts_with("cannot open the URL: "), "{reason}");
    drop(server);
}
