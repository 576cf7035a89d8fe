//! Whose ids the payload has on the host.

use super::failure::Failure;
use super::policy::{IdMap, PAYLOAD_HOST_ID, PAYLOAD_ID, Policy, Protection};
use super::sys::Named as _;
use crate::error::{Error, Reason, Result};

/// The host ids that the payload maps to: files that admit makes for it must belong to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Owner {
    /// User id on the host.
    pub uid: u32,
    /// Group id on the host.
    pub gid: u32,
}

impl Owner {
    /// Lets the calling thread reach files as the payload would, until the guard goes: what it makes belongs to the
    /// payload, and it can open nothing that the payload could not. For an ordinary user this changes nothing. Open
    /// what only admit may read before.
    pub fn enter(self) -> Result<AsOwner> {
        let before = Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        };
        super::sys::set_fs_ids(self.uid, self.gid).map_err(|e| {
            Error::new(Reason::SandboxUnavailable, "cannot act for the payload").caused_by(e)
        })?;
        Ok(AsOwner { before, thread: std::marker::PhantomData })
    }
}

/// See [`Owner::enter`]; bound to its thread.
#[must_use = "the thread acts for the payload as long as this lives"]
pub struct AsOwner {
    before: Owner,
    thread: std::marker::PhantomData<*const ()>,
}

impl Drop for AsOwner {
    fn drop(&mut self) {
        // Going back to the effective ids is always allowed (setfsuid(2)).
        let _ = super::sys::set_fs_ids(self.before.uid, self.before.gid);
    }
}

/// How the ids are to be mapped, and whom the payload's files belong to.
pub(super) fn ids() -> Result<(IdMap, Owner)> {
    let (uid, gid) = (rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw());
    if uid != 0 {
        return Ok((IdMap::OneLine, Owner { uid, gid }));
    }
    let map = std::fs::read_to_string("/proc/self/uid_map")
        .map_err(|e| Error::io("read", "/proc/self/uid_map", e))?;
    let lines: Vec<[u64; 3]> = map
        .lines()
        .filter_map(|line| {
            let mut numbers = line.split_whitespace().filter_map(|n| n.parse().ok());
            Some([numbers.next()?, numbers.next()?, numbers.next()?])
        })
        .collect();
    let holds = |id: u32| {
        lines.iter().any(|[first, _, count]| (*first..first + count).contains(&u64::from(id)))
    };
    if holds(PAYLOAD_HOST_ID) {
        return Ok((IdMap::TwoLines, Owner { uid: PAYLOAD_HOST_ID, gid: PAYLOAD_HOST_ID }));
    }
    // Root of a container: the highest id that it has, as long as that is not root again.
    let highest = lines.iter().map(|[first, _, count]| first + count - 1).max().unwrap_or(0);
    match u32::try_from(highest) {
        Ok(id) if id >= PAYLOAD_ID => Ok((IdMap::TwoLines, Owner { uid: id, gid: id })),
        _ => Err(Error::new(
            Reason::SandboxUnavailable,
            "admit runs as root of a user namespace that has no second user id for the payload",
        )
        .found(map.trim().to_owned())
        .hint("run admit as an ordinary user, or give the container a range of ids")),
    }
}

/// Root's part: 0 for the set-up, 1000 to an unprivileged host id for the payload.
pub(super) fn write_maps(pid: u32, owner: Owner, policy: &Policy) -> Result<()> {
    for (file, id) in [("uid_map", owner.uid), ("gid_map", owner.gid)] {
        let path = format!("/proc/{pid}/{file}");
        let text = if policy.has(Protection::IdMap) {
            format!("0 0 1\n{PAYLOAD_ID} {id} 1\n")
        } else {
            format!("{PAYLOAD_ID} 0 1\n")
        };
        std::fs::write(&path, &text)
            .named(format_args!("write({path}, {text:?})"))
            .map_err(|failed| super::explain::refusal(&Failure::of("id maps")(failed)))?;
    }
    Ok(())
}
