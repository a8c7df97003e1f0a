//! `org.lund.Vds1.Plex`: `IVdsLunPlex`.

use lun_core::Error;
use lun_core::error::ObjectKind;
use lun_core::id::LunId;
use lun_core::model::{Drive, Lun, Plex, VdsEnum};
use lun_ipc::names::{drive_path, lun_path};
use uuid::Uuid;
use zbus::{OwnedObjectPath, interface};

use super::{Result, SharedContext, json, no_object};

/// An extent, as `VDS_DRIVE_EXTENT`: drive, LUN (`/` where it is free), bytes, in use.
pub(super) type Extent = (OwnedObjectPath, OwnedObjectPath, u64, bool);

/// One full copy of a LUN's data.
#[derive(Debug)]
pub(super) struct PlexObject {
    pub(super) context: SharedContext,
    pub(super) lun: LunId,
    pub(super) id: Uuid,
}

impl PlexObject {
    fn look<T>(&self, pick: impl FnOnce(&Lun, &Plex) -> T) -> Result<T> {
        let current = self.context.handle.current();
        let lun = current.snapshot.luns.iter().find(|lun| lun.id == self.lun);
        let plex = lun.and_then(|lun| Some((lun, lun.plexes.iter().find(|p| p.id == self.id)?)));
        plex.map(|(lun, plex)| pick(lun, plex)).ok_or_else(|| {
            Error::ObjectDeleted {
                kind: ObjectKind::Plex,
                again: Vec::new(),
                name: self.id.to_string(),
            }
            .into()
        })
    }
}

#[interface(name = "org.lund.Vds1.Plex")]
impl PlexObject {
    /// The extents of drives that carry the plex (`IVdsLunPlex::QueryExtents`): drive, LUN, bytes,
    /// in use. A drive whose use cannot be told is left out.
    #[zbus(out_args("extents"))]
    async fn query_extents(&self) -> Result<Vec<Extent>> {
        self.look(|lun, plex| {
            lun.drives
                .iter()
                .filter(|drive| plex.drives.contains(&drive.device))
                .filter_map(used)
                .collect()
        })
    }

    /// The plex, as JSON.
    #[zbus(out_args("json"))]
    async fn describe(&self) -> Result<String> {
        self.look(|_, plex| json(plex))?
    }

    /// Identity.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn id(&self) -> String {
        self.id.to_string()
    }

    /// The LUN that it is a copy of.
    #[zbus(property(emits_changed_signal = "const"))]
    async fn lun(&self) -> OwnedObjectPath {
        lun_path(self.lun)
    }

    /// 0 for the only plex, the slot for the leg of a mirror.
    #[zbus(property)]
    async fn number(&self) -> Result<u32> {
        self.look(|_, plex| plex.number)
    }

    /// `VDS_LUN_PLEX_TYPE`.
    #[zbus(property, name = "Type")]
    async fn kind(&self) -> Result<i32> {
        self.look(|_, plex| plex.kind.value())
    }

    /// Name of `Type`.
    #[zbus(property, name = "TypeName")]
    async fn kind_name(&self) -> Result<String> {
        self.look(|_, plex| plex.kind.name().replace("VDS_LT_", "VDS_LPT_"))
    }

    /// `VDS_LUN_PLEX_STATUS`.
    #[zbus(property)]
    async fn status(&self) -> Result<i32> {
        self.look(|_, plex| plex.status.value())
    }

    /// Name of `Status`.
    #[zbus(property)]
    async fn status_name(&self) -> Result<String> {
        self.look(|_, plex| plex.status.name().replace("VDS_LS_", "VDS_LPS_"))
    }

    /// `VDS_HEALTH`.
    #[zbus(property)]
    async fn health(&self) -> Result<i32> {
        self.look(|_, plex| plex.health.value())
    }

    /// Name of `Health`.
    #[zbus(property)]
    async fn health_name(&self) -> Result<String> {
        self.look(|_, plex| plex.health.name().to_owned())
    }

    /// `VDS_TRANSITION_STATE`.
    #[zbus(property)]
    async fn transition(&self) -> Result<i32> {
        self.look(|_, plex| plex.transition.value())
    }

    /// Name of `Transition`.
    #[zbus(property)]
    async fn transition_name(&self) -> Result<String> {
        self.look(|_, plex| plex.transition.name().to_owned())
    }

    /// Bytes; 0 when it is not known.
    #[zbus(property)]
    async fn size(&self) -> Result<u64> {
        self.look(|_, plex| plex.size_bytes.unwrap_or(0))
    }

    /// Bytes of a stripe on one drive; 0 where there are no stripes.
    #[zbus(property)]
    async fn stripe_size(&self) -> Result<u64> {
        self.look(|_, plex| plex.stripe_bytes)
    }

    /// The drives that carry it.
    #[zbus(property)]
    async fn drives(&self) -> Result<Vec<OwnedObjectPath>> {
        self.look(|lun, plex| {
            lun.drives
                .iter()
                .filter(|drive| plex.drives.contains(&drive.device))
                .filter_map(|drive| drive.id)
                .map(drive_path)
                .collect()
        })
    }
}

/// The extent of a drive that its LUN uses.
fn used(drive: &Drive) -> Option<Extent> {
    let lun = lun_path(drive.lun?);
    Some((
        drive_path(drive.id?),
        lun,
        drive.used_bytes.filter(|used| *used > 0)?,
        true,
    ))
}

/// All extents of a drive, used and free; none where they cannot be told.
pub(super) fn extents(drive: &Drive) -> Vec<Extent> {
    let (Some(id), Some(size)) = (drive.id, drive.size_bytes) else {
        return Vec::new();
    };
    let Some(taken) = drive.used_bytes else {
        return Vec::new();
    };
    let free = size.saturating_sub(taken);
    let free = (free > 0).then(|| (drive_path(id), no_object(), free, false));
    used(drive).into_iter().chain(free).collect()
}
