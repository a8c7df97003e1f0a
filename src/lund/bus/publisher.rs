//! Keeps the objects on the bus in step with the newest snapshot.
//!
//! Objects are added and removed here alone, never from inside a method. What changed is found by
//! comparing an object's properties before and after, so that a property is written down once, in
//! its interface.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use lun_core::id::{DriveId, LunId, OpId};
use lun_core::machine::Snapshot;
use lun_core::model::{Drive, Driver, Lun, OpView, Plex};
use lun_ipc::Event;
use lun_ipc::names::{
    BUS_NAME, DM_CONTROLLER_PATH, LOCK_NAME, MD_CONTROLLER_PATH, ROOT_PATH, SUB_SYSTEM_PATH,
    drive_path, lun_path, op_path, plex_path,
};
use tokio::sync::{oneshot, watch};
use uuid::Uuid;
use zbus::fdo::{DBusProxy, ObjectManager, Properties, RequestNameFlags, RequestNameReply};
use zbus::names::WellKnownName;
use zbus::object_server::{Interface, SignalEmitter};
use zbus::{Connection, ObjectPath, OwnedObjectPath, OwnedVariant, Variant};

use super::SharedContext;
use super::drive::DriveObject;
use super::host::{ControllerObject, ProviderObject, SubSystemObject};
use super::lun::LunObject;
use super::operation::AsyncObject;
use super::plex::PlexObject;
use crate::handle::{Published, PublisherEnd};

type Values = HashMap<String, OwnedVariant>;

/// An object on the bus: what it was made from, and the properties that clients know.
struct Kept<V> {
    source: V,
    values: Values,
}

/// A plex, and the drives that carry it.
type Carried = (Plex, Vec<DriveId>);

struct Publisher {
    connection: Connection,
    context: SharedContext,
    luns: BTreeMap<LunId, Kept<Lun>>,
    plexes: BTreeMap<(LunId, Uuid), Kept<Carried>>,
    drives: BTreeMap<DriveId, Kept<Drive>>,
    ops: BTreeMap<OpId, Kept<OpView>>,
    provider: Values,
    controllers: BTreeMap<&'static str, Values>,
}

/// Puts the objects on the bus, takes the name once `first_scan` is told, tells `ready`, and goes
/// on for as long as the connection lives.
///
/// # Errors
/// When the name is taken, or the bus goes away.
pub async fn serve(
    connection: Connection,
    context: SharedContext,
    mut end: PublisherEnd,
    first_scan: oneshot::Receiver<()>,
    ready: oneshot::Sender<()>,
) -> Result<(), crate::Error> {
    let mut publisher = Publisher {
        connection: connection.clone(),
        context,
        luns: BTreeMap::new(),
        plexes: BTreeMap::new(),
        drives: BTreeMap::new(),
        ops: BTreeMap::new(),
        provider: Values::new(),
        controllers: BTreeMap::new(),
    };
    publisher.add_host().await?;
    // A daemon that cannot scan is told to whoever asks; it must not be silent.
    let _ = first_scan.await;
    publisher.publish(&mut end.snapshots, &end.on_bus).await?;
    take_name(&connection).await?;
    // The loop is gone only when the daemon ends.
    let _ = ready.send(());
    loop {
        tokio::select! {
            biased;
            () = connection.closed() => return Err(crate::Error::BusGone),
            changed = end.snapshots.changed() => {
                if changed.is_err() {
                    return Ok(());
                }
                publisher.publish(&mut end.snapshots, &end.on_bus).await?;
            }
            Some(event) = end.events.recv() => publisher.notify(&event).await?,
        }
    }
}

/// Keeps every other daemon on this bus off, whatever state directory it has, and before it has
/// done anything: [`BUS_NAME`] is taken only when clients may look.
///
/// # Errors
/// [`crate::Error::NameTaken`] when another daemon runs.
pub async fn claim(connection: &Connection) -> Result<(), crate::Error> {
    // Asked of the bus itself: zbus warns of a name without objects, which this one never has.
    let bus = DBusProxy::new(connection).await?;
    let name = WellKnownName::from_static_str_unchecked(LOCK_NAME);
    let flags = RequestNameFlags::DO_NOT_QUEUE;
    match bus.request_name(name, flags).await {
        Ok(RequestNameReply::PrimaryOwner | RequestNameReply::AlreadyOwner) => Ok(()),
        Ok(RequestNameReply::InQueue | RequestNameReply::Exists) => {
            Err(crate::Error::NameTaken(LOCK_NAME))
        }
        Err(error) => Err(zbus::Error::from(error).into()),
    }
}

async fn take_name(connection: &Connection) -> Result<(), crate::Error> {
    let flags = RequestNameFlags::DO_NOT_QUEUE;
    match connection.request_name_with_flags(BUS_NAME, flags).await {
        Ok(_) => Ok(()),
        Err(zbus::Error::NameTaken) => Err(crate::Error::NameTaken(BUS_NAME)),
        Err(error) => Err(error.into()),
    }
}

impl Publisher {
    /// The objects that are always there.
    async fn add_host(&mut self) -> zbus::Result<()> {
        let server = self.connection.object_server().clone();
        let context = &self.context;
        server.at(ROOT_PATH, ObjectManager).await?;
        server
            .at(ROOT_PATH, ProviderObject(Arc::clone(context)))
            .await?;
        server
            .at(SUB_SYSTEM_PATH, SubSystemObject(Arc::clone(context)))
            .await?;
        for (path, driver) in controllers() {
            let controller = ControllerObject {
                context: Arc::clone(context),
                driver,
            };
            server.at(path, controller).await?;
            let values = values_of::<ControllerObject>(&self.connection, path).await?;
            self.controllers.insert(path, values);
        }
        self.provider = values_of::<ProviderObject>(&self.connection, ROOT_PATH).await?;
        Ok(())
    }

    async fn publish(
        &mut self,
        snapshots: &mut watch::Receiver<Arc<Published>>,
        on_bus: &watch::Sender<u64>,
    ) -> zbus::Result<()> {
        let published = Arc::clone(&snapshots.borrow_and_update());
        self.bring_in_step(&published.snapshot).await?;
        on_bus.send_replace(published.generation);
        Ok(())
    }

    async fn bring_in_step(&mut self, snapshot: &Snapshot) -> zbus::Result<()> {
        let connection = &self.connection;
        let context = &self.context;
        let lun = |id| LunObject {
            context: Arc::clone(context),
            id,
        };
        let luns = snapshot.luns.iter().map(|lun| (lun.id, lun));
        in_step(connection, &mut self.luns, luns, lun_path, lun).await?;
        let plex = |(lun, id)| PlexObject {
            context: Arc::clone(context),
            lun,
            id,
        };
        let plexes = plexes_of(snapshot);
        let plexes = plexes.iter().map(|(key, source)| (*key, source));
        let path = |(_, id)| plex_path(id);
        in_step(connection, &mut self.plexes, plexes, path, plex).await?;
        let drive = |id| DriveObject {
            context: Arc::clone(context),
            id,
        };
        let drives = snapshot
            .drives
            .iter()
            .filter_map(|drive| Some((drive.id?, drive)));
        in_step(connection, &mut self.drives, drives, drive_path, drive).await?;
        let op = |id| AsyncObject {
            context: Arc::clone(context),
            id,
        };
        let ops = snapshot.ops.iter().map(|view| (view.id, view));
        in_step(connection, &mut self.ops, ops, op_path, op).await?;
        tell_changes::<ProviderObject>(connection, ROOT_PATH, &mut self.provider).await?;
        for (path, values) in &mut self.controllers {
            tell_changes::<ControllerObject>(connection, path, values).await?;
        }
        Ok(())
    }

    async fn notify(&self, event: &Event) -> zbus::Result<()> {
        let emitter = SignalEmitter::new(&self.connection, ROOT_PATH)?;
        let (kind, object) = match (event.lun, event.op) {
            (Some(lun), _) => ("lun", lun_path(lun)),
            (None, Some(op)) => ("operation", op_path(op)),
            (None, None) => (
                "service",
                ObjectPath::from_static_str_unchecked(ROOT_PATH).into(),
            ),
        };
        let object = object.as_ref();
        ProviderObject::notification(&emitter, event.event, kind, object, event.seq, &event.text)
            .await
    }
}

/// The plexes of all LUNs, each with the drives that carry it: a property of its object names them.
fn plexes_of(snapshot: &Snapshot) -> BTreeMap<(LunId, Uuid), Carried> {
    let mut plexes = BTreeMap::new();
    for lun in &snapshot.luns {
        for plex in &lun.plexes {
            let carry = lun
                .drives
                .iter()
                .filter(|drive| plex.drives.contains(&drive.device));
            let drives = carry.filter_map(|drive| drive.id).collect();
            plexes.insert((lun.id, plex.id), (plex.clone(), drives));
        }
    }
    plexes
}

const fn controllers() -> [(&'static str, Driver); 2] {
    [
        (MD_CONTROLLER_PATH, Driver::Md),
        (DM_CONTROLLER_PATH, Driver::DmRaid),
    ]
}

/// Removes objects that are no longer wanted, adds new ones, and tells what changed in the others.
async fn in_step<'s, K, V, I>(
    connection: &Connection,
    kept: &mut BTreeMap<K, Kept<V>>,
    wanted: impl Iterator<Item = (K, &'s V)>,
    path: impl Fn(K) -> OwnedObjectPath,
    make: impl Fn(K) -> I,
) -> zbus::Result<()>
where
    K: Copy + Ord,
    V: Clone + PartialEq + 's,
    I: Interface,
{
    let wanted: BTreeMap<K, &V> = wanted.collect();
    let gone: Vec<K> = kept
        .keys()
        .filter(|key| !wanted.contains_key(key))
        .copied()
        .collect();
    for key in gone {
        kept.remove(&key);
        connection.object_server().remove::<I, _>(path(key)).await?;
    }
    for (key, source) in wanted {
        let path = path(key);
        match kept.get_mut(&key) {
            Some(known) if known.source == *source => {}
            Some(known) => {
                tell_changes::<I>(connection, path.as_str(), &mut known.values).await?;
                known.source = source.clone();
            }
            None => {
                connection
                    .object_server()
                    .at(path.as_ref(), make(key))
                    .await?;
                let values = values_of::<I>(connection, path.as_str()).await?;
                kept.insert(
                    key,
                    Kept {
                        source: source.clone(),
                        values,
                    },
                );
            }
        }
    }
    Ok(())
}

async fn values_of<I: Interface>(connection: &Connection, path: &str) -> zbus::Result<Values> {
    let server = connection.object_server();
    let object = server.interface::<_, I>(path).await?;
    let emitter = object.signal_emitter();
    Ok(object
        .get()
        .await
        .get_all(server, connection, None, emitter)
        .await?)
}

/// Sends `PropertiesChanged` with those properties that differ from `known`, which is renewed.
async fn tell_changes<I: Interface>(
    connection: &Connection,
    path: &str,
    known: &mut Values,
) -> zbus::Result<()> {
    let now = values_of::<I>(connection, path).await?;
    let mut changed = HashMap::new();
    for (name, value) in &now {
        if known.get(name) != Some(value) {
            changed.insert(name.as_str(), Variant::try_from(value)?);
        }
    }
    let lost: Vec<&str> = known
        .keys()
        .filter(|name| !now.contains_key(*name))
        .map(String::as_str)
        .collect();
    if !changed.is_empty() || !lost.is_empty() {
        let emitter = SignalEmitter::new(connection, path)?;
        Properties::properties_changed(&emitter, I::name(), changed, Cow::Owned(lost)).await?;
    }
    *known = now;
    Ok(())
}
