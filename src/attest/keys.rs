//! Keys on disk, in OpenSSH's own formats: `<data>/admit/keys/<name>` (mode 0600) and `<name>.pub`.
//!
//! A private key is read from a file that is this user's and that no other user may read, used for one signature, wiped,
//! and never shown. Where `<name>.pub` stands alone, it is another person's key that this user trusts.
//!
//! Both files are written whole or not at all, the private one first: alone it is a key whose making was cut short, and
//! [`Keys::make`] completes it. The public one alone would be taken for another person's.

use std::fs::{File, Metadata};
use std::io::Read as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use ed25519_dalek::{Signer as _, SigningKey};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

use crate::error::{Error, Reason, Result};
use crate::host::files::{self, Links};
use crate::host::make_private;
use crate::record::dsse::{Envelope, Signature};
use crate::record::ids::Name;
use crate::record::sshkey::PublicKey;
use crate::root::{Lock, TEMPORARY, lock_writers, write_new};

/// Longest key file that is read, in bytes: an Ed25519 key takes about 400.
const MAX_FILE: u64 = 64 << 10;

#[derive(Clone, Debug)]
pub struct Keys {
    data_dir: PathBuf,
    dir: PathBuf,
}

#[derive(Clone, Debug)]
pub struct Named {
    pub name: Name,
    pub key: PublicKey,
    /// Whether the private half is here, too.
    pub own: bool,
}

pub struct Signing {
    key: SigningKey,
    public: PublicKey,
}

fn unusable(what: &str, path: &Path) -> Error {
    Error::new(Reason::KeyUnusable, what).at(path.display().to_string())
}

impl Signing {
    pub fn public(&self) -> &PublicKey {
        &self.public
    }

    /// Signs the envelope, after any signature that it has. With `in_toto`, the same signature stands there a second
    /// time under the name that in-toto's Python tools give the key; it counts once.
    pub fn sign(&self, envelope: &mut Envelope, in_toto: bool) {
        let sig = self.key.sign(&envelope.signed_bytes()).to_bytes().to_vec();
        let keyid = self.public.fingerprint().to_string();
        envelope.signatures.push(Signature { keyid, sig: sig.clone() });
        if in_toto {
            envelope.signatures.push(Signature { keyid: self.public.in_toto_keyid(), sig });
        }
    }
}

impl Keys {
    pub fn new(data_dir: &Path) -> Self {
        Self { data_dir: data_dir.to_owned(), dir: data_dir.join("keys") }
    }

    pub fn private_path(&self, name: &Name) -> PathBuf {
        self.dir.join(name.as_str())
    }

    pub fn public_path(&self, name: &Name) -> PathBuf {
        self.dir.join(format!("{name}.pub"))
    }

    /// Makes a key, or completes one of which only the private half was written.
    ///
    /// # Errors
    /// [`Reason::BadArgument`] where a key has that name.
    pub fn make(&self, name: &Name) -> Result<PublicKey> {
        let _lock = self.lock()?;
        if self.private_path(name).exists() && !self.public_path(name).exists() {
            let key = self.signing(name)?.public;
            write_new(&self.public_path(name), &line(&key, name), 0o644)?;
            return Ok(key);
        }
        let seed = Zeroizing::new(crate::host::random::<32>()?);
        self.keep(name, &Ed25519Keypair::from_seed(&seed))
    }

    /// Takes over an existing key file of OpenSSH: a private key, or a public one that this user trusts.
    /// Gives the key, and whether it was a private one.
    ///
    /// # Errors
    /// [`Reason::KeyUnusable`] for a private key that others may read, is encrypted, or is not Ed25519;
    /// [`Reason::BadArgument`] where a key has that name.
    pub fn import(&self, name: &Name, path: &Path) -> Result<(PublicKey, bool)> {
        let (file, bytes) = read(path)?;
        let _lock = self.lock()?;
        if !bytes.starts_with(b"-----BEGIN") {
            let key = public(&bytes, path)?;
            self.absent(name)?;
            write_new(&self.public_path(name), &line(&key, name), 0o644)?;
            return Ok((key, false));
        }
        private_mode(&file, path)?;
        let pair = private(&bytes, path)?;
        self.keep(name, &pair).map(|key| (key, true))
    }

    /// The key that signs.
    ///
    /// # Errors
    /// [`Reason::KeyUnusable`] where it is not there or cannot be used.
    pub fn signing(&self, name: &Name) -> Result<Signing> {
        let path = self.private_path(name);
        if is_absent(&path) {
            let error = unusable("there is no such signing key", &path)
                .expected(format!("a private key called {name}"));
            return Err(match self.public_path(name).exists() {
                true => {
                    error.found("a public key alone").hint("which of the keys sign: admit key show")
                }
                false => error.found("none").hint(format!("admit key new {name}")),
            });
        }
        let (file, bytes) = read(&path)?;
        private_mode(&file, &path)?;
        let seed = Zeroizing::new(private(&bytes, &path)?.private.to_bytes());
        let key = SigningKey::from_bytes(&seed);
        let public = PublicKey::from_bytes(key.verifying_key().as_bytes())
            .ok_or_else(|| unusable("the key is no valid one", &path))?;
        Ok(Signing { key, public })
    }

    /// The public key of that name.
    ///
    /// # Errors
    /// [`Reason::KeyUnusable`] where it is not there or is no key.
    pub fn public(&self, name: &Name) -> Result<Named> {
        let path = self.public_path(name);
        if is_absent(&path) {
            return Err(unusable("there is no such key", &path)
                .expected(format!("a key called {name}"))
                .found("none")
                .hint(format!("admit key new {name}, or import one: admit key import --help")));
        }
        let (file, bytes) = read(&path)?;
        let meta = file.metadata().map_err(|err| Error::io("look at", &path, err))?;
        self.trusted(&path, &meta)?;
        let key = public(&bytes, &path)?;
        let own = self.private_path(name).exists();
        Ok(Named { name: name.clone(), key, own })
    }

    /// A key counts because this user put it there: nobody else could have.
    fn trusted(&self, path: &Path, meta: &Metadata) -> Result<()> {
        let me = rustix::process::geteuid().as_raw();
        let dir =
            self.dir.symlink_metadata().map_err(|err| Error::io("look at", &self.dir, err))?;
        for (path, meta) in [(&*self.dir, &dir), (path, meta)] {
            if meta.uid() != me || meta.mode() & 0o022 != 0 {
                let place = crate::host::quoted(&path.display().to_string());
                return Err(unusable(
                    "another user owns or can write what says whom to trust",
                    path,
                )
                .expected(format!("owned by uid {me}, not writable by group or others"))
                .found(format!("uid {}, mode {:o}", meta.uid(), meta.mode() & 0o7777))
                .hint(match meta.uid() == me {
                    true => format!("chmod go-w {place}"),
                    false => format!("look at what lies there, then: chown {me} {place}"),
                }));
            }
        }
        Ok(())
    }

    /// Every key, by name: this user's own and those that this user trusts.
    ///
    /// # Errors
    /// Where one of them cannot be read: a key left out would be an answer to another question.
    pub fn all(&self) -> Result<Vec<Named>> {
        let entries = match std::fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(err) if err.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(err) => return Err(Error::io("list the keys", &self.dir, err)),
        };
        let mut out = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|err| Error::io("list the keys", &self.dir, err))?;
            let file = entry.file_name();
            let Some(name) = file.to_str().and_then(|file| file.strip_suffix(".pub")) else {
                continue;
            };
            let name: Name = name
                .parse()
                .map_err(|err| unusable("a key's name", &entry.path()).found(format!("{err}")))?;
            out.push(self.public(&name)?);
        }
        out.sort_by(|a, b| a.name.cmp(&b.name));
        Ok(out)
    }

    /// The right to write keys. What a call that was killed left unfinished goes: it may hold a private key.
    fn lock(&self) -> Result<Option<Lock>> {
        let lock = lock_writers(&self.data_dir)?;
        make_private(&self.dir)?;
        let list = |err| Error::io("list the keys", &self.dir, err);
        for entry in std::fs::read_dir(&self.dir).map_err(list)?.flatten() {
            if entry.file_name().to_string_lossy().starts_with(TEMPORARY) {
                let path = entry.path();
                std::fs::remove_file(&path).map_err(|err| Error::io("remove", &path, err))?;
            }
        }
        Ok(lock)
    }

    fn absent(&self, name: &Name) -> Result<()> {
        for path in [self.private_path(name), self.public_path(name)] {
            if std::fs::symlink_metadata(&path).is_ok() {
                return Err(Error::new(Reason::BadArgument, "there is a key of this name")
                    .at(path.display().to_string())
                    .hint("choose another name: a key is never written over"));
            }
        }
        Ok(())
    }

    fn keep(&self, name: &Name, pair: &Ed25519Keypair) -> Result<PublicKey> {
        let path = self.private_path(name);
        let key = PublicKey::from_bytes(&pair.public.0)
            .ok_or_else(|| unusable("the key is no valid one", &path))?;
        self.absent(name)?;
        let text = PrivateKey::new(KeypairData::from(pair.clone()), name.as_str())
            .and_then(|private| private.to_openssh(LineEnding::LF))
            .map_err(|err| Error::new(Reason::Internal, "write a key").found(err.to_string()))?;
        write_new(&path, text.as_bytes(), 0o600)?;
        write_new(&self.public_path(name), &line(&key, name), 0o644)?;
        Ok(key)
    }
}

fn is_absent(path: &Path) -> bool {
    let meta = std::fs::symlink_metadata(path);
    meta.is_err_and(|err| err.kind() == std::io::ErrorKind::NotFound)
}

fn line(key: &PublicKey, name: &Name) -> Vec<u8> {
    (key.line(name.as_str()) + "\n").into_bytes()
}

/// The file and its bytes, through no link.
fn read(path: &Path) -> Result<(File, Zeroizing<Vec<u8>>)> {
    let file = files::open(path, Links::Refuse)?;
    // Capacity for all of it at once: a buffer that grows would leave parts of a private key behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(MAX_FILE as usize + 1));
    let read = (&file).take(MAX_FILE + 1).read_to_end(&mut bytes);
    read.map_err(|err| Error::io("read the key file", path, err))?;
    if bytes.len() as u64 > MAX_FILE {
        return Err(unusable("the file is longer than any key", path));
    }
    Ok((file, bytes))
}

/// A private key belongs to this user, and no other user may read it.
fn private_mode(file: &File, path: &Path) -> Result<()> {
    let meta = file.metadata().map_err(|err| Error::io("look at", path, err))?;
    if meta.mode() & 0o077 != 0 {
        return Err(unusable("others may read the private key", path)
            .expected("mode 0600")
            .found(format!("mode {:04o}", meta.mode() & 0o7777))
            .hint(format!("chmod 600 {}", path.display())));
    }
    let user = rustix::process::geteuid().as_raw();
    if meta.uid() != user {
        return Err(unusable("the private key belongs to another user", path)
            .expected(format!("uid {user}"))
            .found(format!("uid {}", meta.uid())));
    }
    Ok(())
}

fn private(bytes: &[u8], path: &Path) -> Result<Ed25519Keypair> {
    // The library's own message never holds key material; ours does not hold the text either.
    let key = PrivateKey::from_openssh(bytes).map_err(|err| {
        unusable("it is no private key in OpenSSH's format", path)
            .expected("an unencrypted Ed25519 key, as ssh-keygen -t ed25519 writes it")
            .found(err.to_string())
    })?;
    if key.is_encrypted() {
        return Err(unusable("the private key is encrypted", path)
            .expected("a key without a passphrase")
            .found(format!("encrypted with {}", key.cipher()))
            .hint("import a copy from which ssh-keygen -p took the passphrase, or make a key for this purpose: admit key new --help"));
    }
    match key.key_data() {
        KeypairData::Ed25519(pair) => Ok(pair.clone()),
        _ => Err(unusable("the private key is not Ed25519", path)
            .expected("ssh-ed25519")
            .found(key.algorithm().to_string())
            .hint("make one: admit key new --help")),
    }
}

fn public(bytes: &[u8], path: &Path) -> Result<PublicKey> {
    let text = std::str::from_utf8(bytes).unwrap_or_default();
    text.parse().map_err(|err: crate::record::ids::ParseError| {
        unusable("it is no Ed25519 public key in OpenSSH's format", path)
            .expected("one line: ssh-ed25519, base64, a comment")
            .found(err.to_string())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    fn keys() -> (tempfile::TempDir, Keys) {
        let dir = tempfile::tempdir().unwrap();
        let keys = Keys::new(dir.path());
        (dir, keys)
    }

    fn name(text: &str) -> Name {
        text.parse().unwrap()
    }

    #[test]
    fn a_key_is_made_once_and_signs() {
        let (_dir, keys) = keys();
        let made = keys.make(&name("k")).unwrap();
        assert_eq!(keys.make(&name("k")).unwrap_err().reason(), Reason::BadArgument);
        let mode = keys.private_path(&name("k")).metadata().unwrap().permissions().mode();
        assert_eq!(mode & 0o7777, 0o600);
        let signing = keys.signing(&name("k")).unwrap();
        assert_eq!(*signing.public(), made);
        assert!(keys.public(&name("k")).unwrap().own);
        let mut envelope = Envelope::new("t", b"text".to_vec());
        signing.sign(&mut envelope, true);
        let [first, second] = &envelope.signatures[..] else { panic!("{envelope:?}") };
        assert!(made.verifies(&envelope.signed_bytes(), &first.sig));
        assert_eq!((&first.sig, first.keyid.as_str()), (&second.sig, made.fingerprint().as_str()));
        assert_eq!(second.keyid, made.in_toto_keyid());
        // Ed25519 is deterministic (RFC 8032): the same input gives the same envelope.
        let mut again = Envelope::new("t", b"text".to_vec());
        signing.sign(&mut again, true);
        assert_eq!(again.line(), envelope.line());
    }

    #[test]
    fn a_private_key_that_others_may_read_is_refused() {
        let (_dir, keys) = keys();
        keys.make(&name("k")).unwrap();
        let path = keys.private_path(&name("k"));
        for mode in [0o640, 0o604, 0o620, 0o700 | 0o010] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            let err = keys.signing(&name("k")).err().unwrap();
            assert_eq!(
                (err.reason(), err.expected_value()),
                (Reason::KeyUnusable, Some("mode 0600"))
            );
            let copied = keys.import(&name("l"), &path).unwrap_err();
            assert_eq!(copied.reason(), Reason::KeyUnusable, "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(keys.signing(&name("k")).is_ok());
    }

    #[test]
    fn only_unencrypted_ed25519_is_taken_and_nothing_is_written_over() {
        let (dir, keys) = keys();
        assert_eq!(keys.signing(&name("k")).err().unwrap().reason(), Reason::KeyUnusable);
        assert_eq!(keys.public(&name("k")).err().unwrap().reason(), Reason::KeyUnusable);
        assert!(keys.all().unwrap().is_empty());
        let file = dir.path().join("x");
        for text in ["", "-----BEGIN OPENSSH PRIVATE KEY-----\n", "ssh-rsa AAAA", "\u{0}"] {
            std::fs::write(&file, text).unwrap();
            std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
            let err = keys.import(&name("k"), &file).unwrap_err();
            assert_eq!(err.reason(), Reason::KeyUnusable, "{text:?}");
        }
        std::fs::write(&file, vec![b'a'; MAX_FILE as usize + 1]).unwrap();
        assert!(keys.import(&name("k"), &file).unwrap_err().what().contains("longer"));
        let other = keys.make(&name("other")).unwrap();
        let public = keys.public_path(&name("other"));
        assert!(!keys.import(&name("k"), &public).unwrap().1);
        assert_eq!(keys.public(&name("k")).unwrap().key, other);
        let listed = keys.all().unwrap();
        assert_eq!(
            listed.iter().map(|k| (k.name.as_str(), k.own)).collect::<Vec<_>>(),
            [("k", false), ("other", true)]
        );
        assert_eq!(keys.import(&name("k"), &public).unwrap_err().reason(), Reason::BadArgument);
        // A link could lead to a file that another user changes.
        let link = dir.path().join("link");
        std::os::unix::fs::symlink(&public, &link).unwrap();
        assert!(keys.import(&name("l"), &link).is_err());
    }

    #[test]
    fn a_making_that_was_cut_short_is_completed_and_leaves_nothing_behind() {
        let (_dir, keys) = keys();
        let made = keys.make(&name("k")).unwrap();
        // As if killed between the two files, and before the first one of another key.
        std::fs::remove_file(keys.public_path(&name("k"))).unwrap();
        let rest = keys.dir.join(format!("{TEMPORARY}Ab12Cd"));
        std::fs::write(&rest, "-----BEGIN OPENSSH PRI").unwrap();
        assert!(keys.all().unwrap().is_empty());
        assert_eq!(keys.make(&name("k")).unwrap(), made);
        assert_eq!(keys.public(&name("k")).unwrap().key, made);
        assert!(!rest.exists());
    }
}
