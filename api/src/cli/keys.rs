//! `diario keys`: the master keys of a control plane, and forgetting what was sealed.
//!
//! Labels and counts are shown, never a key. Master keys are files of this machine; what changes
//! the log goes through the node, or with `--offline` straight to the database.

use clap::{Args, Subcommand};
use domain::log::Owner;
use projections::{
    data_dir::keys_folder,
    event_store::keys::{
        self, ForgottenLists, InvalidLabel, KeyLabel, Keyring, LabelInUse, MasterKey,
        MasterKeySource, MasterKeys, OsEntropy, Rotated,
    },
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Error,
    storage::{StorageOptions, make_private_folder},
    table::Table,
    target::Session,
    wish::{self, Wish, WishOptions},
};
use crate::{clock, forgetting, master_keys};

const ADD_HELP: &str = "\
Examples:
  diario keys add 2027 && diario keys rotate --to 2027 && diario keys remove default

The file is DATA-DIR/keys/master.key, mode 600: one line `LABEL = 64 HEX DIGITS` for each key, a `*`
before the active one. Keep a copy apart from all backups: without it no secret can be read. With
several nodes, put the new key into every node's file before rotating, and take the old one out of
all of them last. DIARIO_MASTER_KEYS=LABEL:HEX,... (the first is active) goes before the file.";

const ROTATE_HELP: &str = "\
Examples:
  diario keys rotate --to 2027             through the running node
  diario keys rotate --to 2027 --offline --data-dir /var/lib/diario

Ended in between, run it again: it goes on with what is left. On Postgres, --offline works while
nodes run; on SQLite the node must be stopped for it.";

const FORGET_HELP: &str = "\
Examples:
  diario keys forget process/web-v1 --yes
  diario keys forget task/migrate-42 --yes --offline --data-dir /var/lib/diario

The event stays in the log: who, when, whose. The log verifies as before; values in it, and the
evidence of crashes, answer FORGOTTEN. What the owner sends later is sealed under a new key. Cells
that already run the app keep its environment until they stop it; an instance that is to be started
anew is refused. Log lines are not secrets and stay.

Copies that are still wrapped by a master key can outlive it in backups made before, in Postgres'
archived WAL, and in blocks that a disk keeps: rotate to a new master key and remove the old one, and
they are worthless too. What is forgotten is noted on a list outside of the database, in
keys/forgotten.list of each node's data folder and where --forgotten-list says: by it `diario restore`,
and each node at its start, forgets again what an older copy of the log brings back.";

/// What can be done with keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Lists the master keys, and how many data keys each wraps. Only reads; a node may run.
    #[command(after_help = "Example: diario keys list --data-dir /var/lib/diario --json")]
    List {
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Makes a new master key, which is not active yet. A running node takes it up by itself.
    #[command(after_help = ADD_HELP)]
    Add {
        /// What to call it: up to 64 letters, digits, `-`, `_` and `.`.
        #[arg(value_parser = parse_label)]
        label: KeyLabel,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Puts all data keys under the active master key.
    #[command(after_help = ROTATE_HELP)]
    Rotate {
        /// Make this master key the active one first.
        #[arg(long, value_name = "LABEL", value_parser = parse_label)]
        to: Option<KeyLabel>,
        #[command(flatten)]
        place: Place,
    },
    /// Takes out a master key that no data key needs any more. A node may run.
    #[command(after_help = "Example: diario keys remove default --data-dir /var/lib/diario")]
    Remove {
        /// Which.
        #[arg(value_parser = parse_label)]
        label: KeyLabel,
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Lists all that was ever forgotten, as `diario restore --forgotten` reads it. Only reads.
    #[command(after_help = "Example: diario keys forgotten > /safe/forgotten.json\n\n\
        The control plane keeps such a list by itself, in keys/forgotten.list of each node's data \
        folder and where --forgotten-list says; this one is of the database.")]
    Forgotten {
        #[command(flatten)]
        storage: StorageOptions,
    },
    /// Makes all secrets that an owner has now unreadable for ever, also in the past.
    #[command(after_help = FORGET_HELP)]
    Forget {
        /// Whose: process/GUID or task/GUID.
        owner: Owner,
        /// Yes, for ever: nothing brings them back.
        #[arg(long)]
        yes: bool,
        #[command(flatten)]
        wish: WishOptions,
        #[command(flatten)]
        place: Place,
        #[command(flatten)]
        lists: forgetting::lists::Options,
    },
}

/// Through the node or straight to the database.
#[derive(Debug, Args)]
pub struct Place {
    /// Work on the database itself, without a node.
    #[arg(long)]
    offline: bool,
    #[command(flatten)]
    storage: StorageOptions,
}

fn parse_label(text: &str) -> Result<KeyLabel, InvalidLabel> {
    KeyLabel::new(text)
}

/// Runs a command.
pub(super) async fn run(command: Command, session: &Session) -> Result<(), Error> {
    match command {
        Command::List { storage } => list(&storage, session).await,
        Command::Add { label, storage } => add(&label, &storage, session),
        Command::Rotate { to, place } if place.offline => {
            rotate_offline(to.as_ref(), &place.storage, session).await
        }
        Command::Rotate { to, place: _ } => rotate(to, session).await,
        Command::Remove { label, storage } => remove(&label, &storage, session).await,
        Command::Forgotten { storage } => forgotten(&storage, session).await,
        Command::Forget { owner, yes: false, .. } => Err(Error::Usage(format!(
            "the secrets of {owner} could never be read again; if that is meant, add --yes"
        ))),
        Command::Forget { owner, yes: true, wish, place, lists } if place.offline => {
            forget_offline(&owner, wish, &place.storage, &lists, session).await
        }
        Command::Forget {
            lists: forgetting::lists::Options { forgotten_list: Some(_) }, ..
        } => {
            let reason =
                "--forgotten-list goes with --offline; a node writes those it was started with";
            Err(Error::Usage(reason.to_owned()))
        }
        Command::Forget { owner, yes: true, wish, .. } => forget(&owner, wish, session).await,
    }
}

async fn forgotten(storage: &StorageOptions, session: &Session) -> Result<(), Error> {
    let open = storage.open_to_read().await?;
    let forgotten = open.storage.keys.forgotten().await;
    open.storage.close().await;
    let list = json!(forgotten?);
    // The same for people and programs: it is a file's content.
    session.show(&list, || vec![format!("{list:#}")])
}

async fn list(storage: &StorageOptions, session: &Session) -> Result<(), Error> {
    let keys = master_keys::source(&storage.data_dir)?.read()?;
    let in_use = labels_in_use(storage).await?;
    let lost = in_use.iter().filter(|it| keys.labels().all(|label| *label != it.label));
    let rows: Vec<(&KeyLabel, &str)> = keys
        .labels()
        .map(|label| (label, if label == keys.active() { "active" } else { "" }))
        .chain(lost.map(|it| (&it.label, "MISSING")))
        .collect();
    let count =
        |label: &KeyLabel| in_use.iter().find(|it| it.label == *label).map_or(0, |it| it.data_keys);
    let answer: Vec<Value> = rows
        .iter()
        .map(|(label, state)| {
            json!({ "label": label.as_str(), "active": *state == "active",
                "missing": *state == "MISSING", "dataKeys": count(label) })
        })
        .collect();
    session.show(&json!({ "masterKeys": answer }), || {
        let mut table = Table::new(&["MASTER KEY", "DATA KEYS", "STATE"]);
        for (label, state) in &rows {
            table.row([label.to_string(), count(label).to_string(), (*state).to_owned()]);
        }
        table.lines("no master keys")
    })
}

async fn labels_in_use(storage: &StorageOptions) -> Result<Vec<LabelInUse>, Error> {
    let open = storage.open_to_read().await?;
    let labels = open.storage.keys.labels().await;
    open.storage.close().await;
    Ok(labels?)
}

fn add(label: &KeyLabel, storage: &StorageOptions, session: &Session) -> Result<(), Error> {
    let source = master_keys::source(&storage.data_dir)?;
    let key = MasterKey::draw(&OsEntropy)?;
    let keys = source.change(|keys| keys.add(label.clone(), key))?;
    show_change(&source, &keys, session, || {
        format!("added {label}; `diario keys rotate --to {label}` makes it the active one")
    })
}

async fn remove(
    label: &KeyLabel,
    storage: &StorageOptions,
    session: &Session,
) -> Result<(), Error> {
    let source = master_keys::source(&storage.data_dir)?;
    let in_use = labels_in_use(storage).await?;
    let keys = source.change(|keys| match in_use.iter().find(|it| it.label == *label) {
        Some(it) => Err(keys::Error::LabelInUse { label: label.clone(), data_keys: it.data_keys }),
        None => keys.remove(label),
    })?;
    show_change(&source, &keys, session, || {
        format!("removed {label}; what is still wrapped by it in old backups cannot be read")
    })
}

fn show_change(
    source: &MasterKeySource,
    keys: &MasterKeys,
    session: &Session,
    done: impl FnOnce() -> String,
) -> Result<(), Error> {
    let labels: Vec<&str> = keys.labels().map(KeyLabel::as_str).collect();
    let file = match source {
        MasterKeySource::File(path) => path.display().to_string(),
        MasterKeySource::Given(_) => String::new(),
    };
    let answer = json!({ "file": file, "active": keys.active().as_str(), "labels": labels });
    session.show(&answer, || vec![done()])
}

/// What a node says of a rotation.
#[derive(Deserialize)]
struct Turned {
    label: String,
    rewrapped: u64,
    remaining: u64,
}

async fn rotate(mut to: Option<KeyLabel>, session: &Session) -> Result<(), Error> {
    let mut rewrapped = 0;
    loop {
        let document =
            "mutation($to: String) { rotateKeys(to: $to) { label rewrapped remaining } }";
        let variables = json!({ "to": to.take().map(String::from) });
        let answer = session.client.query(document, variables).await?;
        let turned: Turned = session.client.part(&answer, "/rotateKeys")?;
        rewrapped += turned.rewrapped;
        // Nothing was moved though something remains: others move it, or write under another key.
        if turned.remaining == 0 || turned.rewrapped == 0 {
            return show_rotation(&turned.label, rewrapped, turned.remaining, session);
        }
    }
}

async fn rotate_offline(
    to: Option<&KeyLabel>,
    storage: &StorageOptions,
    session: &Session,
) -> Result<(), Error> {
    let source = master_keys::source(&storage.data_dir)?;
    let open = storage.open().await?;
    let rotated = rotate_all(to, source, &open.storage).await;
    open.storage.close().await;
    let rotated = rotated?;
    show_rotation(rotated.label.as_str(), rotated.rewrapped, rotated.remaining, session)
}

async fn rotate_all(
    to: Option<&KeyLabel>,
    source: MasterKeySource,
    storage: &projections::storage::Storage,
) -> Result<Rotated, keys::Error> {
    let keys = std::sync::Arc::clone(&storage.keys);
    let keyring = Keyring::open(source, keys, Box::new(OsEntropy)).await?;
    if let Some(to) = to {
        keyring.activate(to)?;
    }
    keyring.rotate(usize::MAX).await
}

fn show_rotation(
    label: &str,
    rewrapped: u64,
    remaining: u64,
    session: &Session,
) -> Result<(), Error> {
    let answer = json!({ "label": label, "rewrapped": rewrapped, "remaining": remaining });
    session.show(&answer, || {
        let mut lines = vec![format!("put {rewrapped} data keys under master key {label}")];
        if remaining > 0 {
            lines.push(format!("{remaining} are still under others: run it again"));
        }
        lines
    })
}

async fn forget(owner: &Owner, wish: WishOptions, session: &Session) -> Result<(), Error> {
    let arguments = [("owner", "String!", json!(owner.to_string()))];
    let accepted =
        wish::send(session, &wish, Wish { mutation: "forgetSecrets", arguments }).await?;
    accepted.show(session, &format!("{owner} forgotten"))
}

async fn forget_offline(
    owner: &Owner,
    wish: WishOptions,
    storage: &StorageOptions,
    lists: &forgetting::lists::Options,
    session: &Session,
) -> Result<(), Error> {
    let command_id = wish.command_id().unwrap_or_else(clock::new_command_id);
    let open = storage.open().await?;
    make_private_folder(&keys_folder(&storage.data_dir))?;
    let paths = lists.paths(&storage.data_dir);
    let forgotten = async {
        let lists = ForgottenLists::open(paths, open.storage.store.log_id().await?)?;
        forgetting::offline::forget(&open.storage, &lists, owner, command_id.clone()).await
    };
    let accepted = forgotten.await;
    open.storage.close().await;
    let accepted = accepted?;
    let answer = json!({
        "position": accepted.position.to_string(),
        "commandId": command_id.as_str(),
        "events": accepted.events,
    });
    let at = accepted.position;
    session.show(&answer, || vec![format!("{owner} forgotten (@{at})")])
}
