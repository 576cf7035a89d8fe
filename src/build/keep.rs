//! What a failed build left, kept for a person to look at: files and links, without devices, sockets or set-id bits.

use std::path::{Path, PathBuf};

use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt, PermissionsExt};

use super::output::open_plain;
use super::room::Room;
use crate::error::{Error, Result};
use crate::store::Store;

/// Copies the room's source directory into a kept directory of the store and gives its path.
pub fn keep(room_dir: &Dir, room: &Room, store: &Store) -> Result<PathBuf> {
    let scratch = store.scratch()?;
    let target = scratch.dir()?;
    let source = room_dir
        .open_dir(&room.source_below)
        .map_err(|err| Error::io("open", "the failed build", err))?;
    copy(&source, &target, Path::new(""))?;
    scratch.keep()
}

fn copy(from: &Dir, to: &Dir, place: &Path) -> Result<()> {
    let io = |what: &'static str| move |err| Error::io(what, place, err);
    for entry in from.entries().map_err(io("list"))? {
        let entry = entry.map_err(io("list"))?;
        let name = entry.file_name();
        let meta = entry.metadata().map_err(io("inspect"))?;
        let below = place.join(&name);
        if meta.is_dir() {
            to.create_dir(&name).map_err(io("create a directory in"))?;
            let (from, to) =
                (entry.open_dir().map_err(io("open"))?, to.open_dir(&name).map_err(io("open"))?);
            copy(&from, &to, &below)?;
        } else if meta.is_symlink() {
            let target = from.read_link_contents(&name).map_err(io("read a link in"))?;
            to.symlink_contents(target, &name).map_err(io("create a link in"))?;
        } else if meta.is_file() {
            let Some(text) = name.to_str() else { continue };
            let mut source = open_plain(from, text).map_err(io("open a file in"))?;
            let mut options = OpenOptions::new();
            options.write(true).create_new(true).mode(0o600 | (meta.permissions().mode() & 0o100));
            let mut out = to.open_with(&name, &options).map_err(io("create a file in"))?;
            std::io::copy(&mut source, &mut out).map_err(io("copy a file in"))?;
        }
    }
    Ok(())
}
