//! A toolchain that no lock holds yet: the integrity comes from the registry's own metadata, the digest of the program
//! from the package that has this integrity. Used by `admit lock` alone; a build only reads what a lock says.

use std::fmt;
use std::io::Read;

use serde::de::{Deserialize as _, DeserializeSeed, Deserializer, IgnoredAny, MapAccess, Visitor};
use serde_json::Value;

use super::Fetcher;
use super::published::unpack;
use crate::download::client::HttpRequest;
use crate::error::{Error, Reason, Result};
use crate::record::ids::{Algorithm, Digest, RelPath, Sha256, Sri};
use crate::record::lockfile::{BunPackage, BunToolchain, Platform};
use crate::store::Hashes;
use crate::store::sink::Sink;

/// A package's metadata of all versions is read up to this size.
const METADATA_BYTES: u64 = 64 << 20;
/// And with so many values; the largest packages have some hundred thousand.
const METADATA_VALUES: usize = 1_500_000;

impl Fetcher<'_> {
    pub fn toolchain(&self, version: &str, platforms: &[Platform]) -> Result<BunToolchain> {
        let pin = |platform: &Platform| Ok((*platform, self.pin_bun(version, *platform)?));
        let platforms = platforms.iter().map(pin).collect::<Result<_>>()?;
        Ok(BunToolchain { version: version.to_owned(), platforms })
    }

    /// Looks up Bun `version` for `platform` and digests the program in it.
    ///
    /// # Errors
    /// [`Reason::NotFound`] where the registry has no such version; [`Reason::WeakIntegrity`]; those of
    /// [`crate::download::client::Client::fetch`] and of the archive.
    pub fn pin_bun(&self, version: &str, platform: Platform) -> Result<BunPackage> {
        let package = format!("@oven/bun-{platform}");
        let (_, integrity, _) = self.published_version(&package, Some(version))?;
        let mut packed = self.published_tarball(&package, version, &integrity)?;
        let mut sink = ProgramDigest(None);
        unpack(&mut packed, &package, &mut sink)?;
        let binary_sha256 = sink.0.as_ref().and_then(Sha256::from_digest).ok_or_else(|| {
            Error::new(Reason::HostileArchive, "the package holds no Bun")
                .at(package.clone())
                .expected("bin/bun")
        })?;
        Ok(BunPackage { package, integrity, binary_sha256 })
    }

    /// A package's version (absent: the one that the registry calls `latest`) with the integrity of its tarball, and
    /// its manifest.
    ///
    /// # Errors
    /// [`Reason::NotFound`] where the registry has no such version; [`Reason::WeakIntegrity`]; those of
    /// [`crate::download::client::Client::fetch`].
    pub fn published_version(
        &self,
        package: &str,
        version: Option<&str>,
    ) -> Result<(String, Sri, Value)> {
        // The name is checked by the same rule that makes a tarball's address of it.
        self.npm.tarball_url(package, version.unwrap_or("0"))?;
        let url = format!("{}{}", self.npm.registry_for(package), package.replace('/', "%2f"));
        self.progress.stage("lock", &format!("{package} {}", version.unwrap_or("latest")));
        let mut request = HttpRequest::get(&url, METADATA_BYTES).told(self.progress);
        request.authorization = self.npm.authorization(&url);
        let bytes = self.client.fetch_bytes(&request)?;
        // Each value but the first follows one of these.
        if bytes.iter().filter(|byte| b",:[{".contains(byte)).count() > METADATA_VALUES {
            return Err(Error::new(Reason::LimitHit, "the registry's metadata is too large")
                .at(package.to_owned())
                .expected(format!("at most {METADATA_VALUES} values")));
        }
        let at = |place: &[&str]| {
            let mut reader = serde_json::Deserializer::from_slice(&bytes);
            At(place).deserialize(&mut reader).map(Option::unwrap_or_default).map_err(|err| {
                Error::new(Reason::BadRecord, "the registry's metadata is not what registries send")
                    .at(package.to_owned())
                    .caused_by(err)
            })
        };
        let version = match version {
            Some(version) => version.to_owned(),
            None => at(&["dist-tags", "latest"])?.as_str().unwrap_or_default().to_owned(),
        };
        let manifest = at(&["versions", &version])?;
        let text = manifest["dist"]["integrity"].as_str().ok_or_else(|| {
            Error::new(Reason::NotFound, "the registry has no such version with an integrity")
                .at(package.to_owned())
                .found(version.clone())
        })?;
        let integrity: Sri = text.parse().map_err(|err| {
            Error::new(
                Reason::WeakIntegrity,
                "the registry's integrity is not one that admit accepts",
            )
            .at(package.to_owned())
            .caused_by(err)
        })?;
        Ok((version, integrity, manifest))
    }
}

/// Digests `bin/bun` and keeps nothing.
struct ProgramDigest(Option<Digest>);

impl Sink for ProgramDigest {
    fn file(&mut self, path: &RelPath, _: u32, _: u64, data: &mut dyn Read) -> Result<()> {
        if path.as_str() == "bin/bun" {
            let digests = Hashes::read(data, &[Algorithm::Sha256])
                .map_err(|err| Error::io("read", path.as_str(), err))?;
            self.0 = digests.get(Algorithm::Sha256).cloned();
        }
        Ok(())
    }
}

/// The value at a place of nested objects; all else is read over and not kept.
struct At<'a>(&'a [&'a str]);

impl<'de> DeserializeSeed<'de> for At<'_> {
    type Value = Option<Value>;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Self::Value, D::Error> {
        match self.0.is_empty() {
            true => Value::deserialize(from).map(Some),
            false => from.deserialize_map(self),
        }
    }
}

impl<'de> Visitor<'de> for At<'_> {
    type Value = Option<Value>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
        let mut found = None;
        while let Some(key) = map.next_key::<String>()? {
            match self.0.split_first() {
                Some((first, rest)) if *first == key => found = map.next_value_seed(At(rest))?,
                _ => drop(map.next_value::<IgnoredAny>()?),
            }
        }
        Ok(found)
    }
}
