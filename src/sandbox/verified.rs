//! Verify, then run exactly those bytes: host files copied onto a file system of their own while they are hashed, sealed,
//! and hashed again where the payload finds them.

use std::io::{Read, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use rustix::fs::{Mode, OFlags};

use super::attach::{NODEV, NOSUID, RDONLY, attach, open, readable, tmpfs, walk};
use super::facts::VerifiedCopy;
use super::failure::{Failure, Result};

use super::policy::{Mount, Policy, Protection};
use super::sys::{self, Named as _};
use crate::record::ids::{Algorithm, Digest};

/// Copies a host file onto its own tmpfs while hashing it.
pub fn verify(
    root: BorrowedFd<'_>,
    mount: &Mount,
    copies: &mut Vec<(String, OwnedFd)>,
) -> Result<VerifiedCopy> {
    let Mount::Verified { host, inside, sha256, blake3, mode } = mount else {
        return Err(Failure::plain("verified copy", "another kind of mount"));
    };
    let step = |text: &str| Failure::of(format!("verified copy of {}: {text}", host.display()));
    let mut from = std::fs::File::from(readable(host).map_err(step("open"))?);
    let meta = from.metadata().named("fstat(source)").map_err(step("look"))?;
    if !meta.is_file() {
        return Err(Failure::plain(
            format!("verified copy of {}", host.display()),
            "not a regular file",
        ));
    }
    let (parent_place, name) = inside.as_str().rsplit_once('/').unwrap_or(("", inside.as_str()));
    if copies.iter().all(|(place, _)| place != parent_place) {
        // The tmpfs takes what it is given: a limit would have to be known before all files of it are.
        let fs = tmpfs(0, 0, 0o755, None).map_err(step("tmpfs"))?;
        attach(fs.as_fd(), walk(root, parent_place, parent_place)?.as_fd())
            .map_err(step("attach"))?;
        copies.push((parent_place.to_owned(), fs));
    }
    let (_, fs) = copies.iter().find(|(place, _)| place == parent_place).expect("pushed above");
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::WRONLY | OFlags::CLOEXEC;
    let to = rustix::fs::openat(fs, name, flags, Mode::RUSR | Mode::WUSR)
        .named(format_args!("openat({parent_place}, {name}, O_CREAT|O_EXCL)"))
        .map_err(step("create"))?;
    let mut to = std::fs::File::from(to);
    let (size, got) = copy(&mut from, &mut to).map_err(step("copy"))?;
    for (want, found) in [(Some(sha256), &got.0), (blake3.as_ref(), &got.1)] {
        if let Some(want) = want.filter(|want| *want != found) {
            let step = format!("verified copy of {}", host.display());
            let what = "its bytes are not the ones that were locked";
            return Err(Failure::digest(step, what, want, found));
        }
    }
    rustix::fs::fchmod(&to, Mode::from_raw_mode(*mode))
        .named(format_args!("fchmod({mode:o})"))
        .map_err(step("mode"))?;
    Ok(VerifiedCopy { inside: inside.to_string(), size, sha256: got.0, blake3: got.1 })
}

fn copy(from: &mut std::fs::File, to: &mut std::fs::File) -> sys::Result<(u64, (Digest, Digest))> {
    use sha2::Digest as _;
    let (mut sha, mut blake) = (sha2::Sha256::new(), blake3::Hasher::new());
    let mut buffer = vec![0; 1 << 20];
    let mut size = 0;
    loop {
        let n = from.read(&mut buffer).named("read(source)")?;
        if n == 0 {
            break;
        }
        sha.update(&buffer[..n]);
        blake.update(&buffer[..n]);
        to.write_all(&buffer[..n]).named(format_args!("write(copy, {n} bytes at {size})"))?;
        size += n as u64;
    }
    let sha = Digest::from_bytes(Algorithm::Sha256, &sha.finalize()).expect("32 bytes");
    let blake =
        Digest::from_bytes(Algorithm::Blake3, blake.finalize().as_bytes()).expect("32 bytes");
    Ok((size, (sha, blake)))
}

/// Seals root and copies, and hashes the copies again where the payload will find them.
pub fn seal(
    policy: &Policy,
    root: BorrowedFd<'_>,
    copies: &[(String, OwnedFd)],
    verified: &mut [VerifiedCopy],
) -> Result<()> {
    for (place, fs) in copies {
        if policy.has(Protection::SealedCopies) {
            sys::mount_setattr(fs.as_fd(), false, RDONLY | NOSUID | NODEV)
                .map_err(Failure::of(format!("seal {place}")))?;
        }
    }
    if policy.has(Protection::ReadOnlyRoot) {
        sys::mount_setattr(root, false, RDONLY | NOSUID | NODEV).map_err(Failure::of("seal /"))?;
    }
    for copy in verified {
        let step = |text: &str| Failure::of(format!("hash {} again: {text}", copy.inside));
        let fd = open(&*copy.inside, OFlags::RDONLY | OFlags::NOFOLLOW).map_err(step("open"))?;
        let mut hasher = blake3::Hasher::new();
        hasher.update_reader(std::fs::File::from(fd)).named("read(copy)").map_err(step("read"))?;
        let again =
            Digest::from_bytes(Algorithm::Blake3, hasher.finalize().as_bytes()).expect("32 bytes");
        if again != copy.blake3 {
            let step = format!("hash {} again", copy.inside);
            let what = "the sealed copy is not what was copied";
            return Err(Failure::digest(step, what, &copy.blake3, &again));
        }
    }
    Ok(())
}
