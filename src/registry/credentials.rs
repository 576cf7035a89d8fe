//! Whose credentials a registry is sent: what docker, podman, skopeo and oras are configured with, so that who is logged in
//! with one of them is logged in here.
//!
//! The first of these files that has something for the registry decides: `REGISTRY_AUTH_FILE` (and then no other is
//! read), `$XDG_RUNTIME_DIR/containers/auth.json`, `~/.config/containers/auth.json`, `$DOCKER_CONFIG/config.json`,
//! `~/.docker/config.json`. Entries for a path below the registry win over those for the registry, and a credential helper
//! that is named for it over what stands in the file. No value is ever shown.

use std::io::{Read as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;
use zeroize::Zeroizing;

use crate::error::{Error, Reason, Result};
use crate::host::files::{self, Links};
use crate::host::{self, Host};
use crate::record::parse_value;
use crate::record::reference::Reference;

/// Longest file, in bytes.
const MAX_FILE: u64 = 4 << 20;
/// Longest answer of a helper, in bytes.
const MAX_ANSWER: u64 = 64 << 10;
/// How long a helper may take: some ask a person, and a pipeline must not hang on that.
const HELPER: Duration = Duration::from_secs(60);

/// What is sent to a registry, or to whom it sends us for a token.
pub enum Secret {
    Basic(Zeroizing<String>, Zeroizing<String>),
    /// A token that is exchanged for another.
    Identity(Zeroizing<String>),
    /// A token that the registry itself takes.
    Bearer(Zeroizing<String>),
}

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret(..)")
    }
}

impl Secret {
    /// The `Authorization` line of a user and a password.
    pub fn basic(&self) -> Option<String> {
        let Self::Basic(user, password) = self else { return None };
        Some(format!("Basic {}", STANDARD.encode(format!("{}:{}", **user, **password))))
    }
}

/// What this user's configuration has for a repository; `None` where it has nothing.
///
/// # Errors
/// [`Reason::BadArgument`] for a file that cannot be read as one, and for a helper that is named and does not answer.
pub fn find(host: &Host, reference: &Reference) -> Result<Option<Secret>> {
    if let Some(file) = host.path_var("REGISTRY_AUTH_FILE") {
        let file = host.absolute(&file);
        return match in_file(host, &file, reference)? {
            Some(secret) => Ok(secret),
            None => Err(Error::new(
                Reason::BadArgument,
                "REGISTRY_AUTH_FILE names a file that is not there",
            )
            .at(file.display().to_string())
            .hint(format!(
                "unset REGISTRY_AUTH_FILE, or log in: skopeo login --authfile {} {}",
                host::quoted(&file.display().to_string()),
                reference.host
            ))),
        };
    }
    let home = host.home();
    let below = |dir: Option<PathBuf>, file: &str| dir.map(|dir| host.absolute(&dir).join(file));
    let at_home = |dir: &str| home.as_ref().map(|home| home.join(dir));
    let config = host.path_var("XDG_CONFIG_HOME").or_else(|| at_home(".config"));
    let places = [
        below(host.path_var("XDG_RUNTIME_DIR"), "containers/auth.json"),
        below(config, "containers/auth.json"),
        below(host.path_var("DOCKER_CONFIG").or_else(|| at_home(".docker")), "config.json"),
    ];
    for file in places.into_iter().flatten() {
        if let Some(Some(secret)) = in_file(host, &file, reference)? {
            return Ok(Some(secret));
        }
    }
    Ok(None)
}

fn bad(what: &str, place: &Path) -> Error {
    Error::new(Reason::BadArgument, what).at(place.display().to_string())
}

/// What a file has for the repository; the outer `None` where there is no file.
fn in_file(host: &Host, file: &Path, reference: &Reference) -> Result<Option<Option<Secret>>> {
    let bytes = match files::read(file, Links::Follow, MAX_FILE) {
        Err(err) if err.reason() == Reason::NotFound => return Ok(None),
        other => Zeroizing::new(other?),
    };
    // The parser's words may quote what it read.
    let config = parse_value(&bytes)
        .map_err(|_| bad("the file with the registries' credentials is no JSON", file))?;
    let names = names(reference);
    let helper = names
        .iter()
        .find_map(|name| config["credHelpers"][name].as_str())
        .or_else(|| config["credsStore"].as_str());
    if let Some(helper) = helper.filter(|helper| !helper.is_empty())
        && let Some(secret) = ask(host, helper, reference, file)?
    {
        return Ok(Some(Some(secret)));
    }
    let entry = names.iter().find_map(|name| config["auths"].get(name));
    Ok(Some(entry.map(|entry| read(entry, file)).transpose()?.flatten()))
}

/// The keys under which a repository's entry may stand, the nearest first.
fn names(reference: &Reference) -> Vec<String> {
    let whole = format!("{}/{}", reference.host, reference.repository);
    let mut out = vec![whole.clone()];
    let mut rest = whole.as_str();
    while let Some((above, _)) = rest.rsplit_once('/') {
        out.push(above.to_owned());
        rest = above;
    }
    for form in ["https://{}", "https://{}/", "https://{}/v1/", "https://{}/v2/"] {
        out.push(form.replace("{}", &reference.host));
    }
    out
}

/// An entry of `auths`; `None` where it is empty, as docker leaves it where a helper has the value.
fn read(entry: &Value, file: &Path) -> Result<Option<Secret>> {
    let text = |key: &str| entry[key].as_str().filter(|text| !text.is_empty());
    let hidden = |text: &str| Zeroizing::new(text.to_owned());
    if let Some(token) = text("registrytoken") {
        return Ok(Some(Secret::Bearer(hidden(token))));
    }
    if let Some(token) = text("identitytoken") {
        return Ok(Some(Secret::Identity(hidden(token))));
    }
    if let Some(auth) = text("auth") {
        let pair = STANDARD.decode(auth).ok().and_then(|bytes| String::from_utf8(bytes).ok());
        let pair = Zeroizing::new(pair.unwrap_or_default());
        // Docker's own files may end in zero bytes.
        let Some((user, password)) = pair.trim_end_matches('\0').split_once(':') else {
            return Err(bad(
                "an entry of the registries' credentials is not base64 of user:password",
                file,
            ));
        };
        return Ok(Some(Secret::Basic(hidden(user), hidden(password))));
    }
    Ok(match (text("username"), text("password")) {
        (Some(user), Some(password)) => Some(Secret::Basic(hidden(user), hidden(password))),
        _ => None,
    })
}

/// Asks `docker-credential-NAME get`; `None` where it has nothing for the registry.
fn ask(host: &Host, helper: &str, reference: &Reference, file: &Path) -> Result<Option<Secret>> {
    let name = format!("docker-credential-{helper}");
    let plain = helper.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
    let no = |what: &str| {
        let err = bad(what, file).found(name.escape_debug().to_string());
        err.hint("log in again, or take the helper out of that file")
    };
    let program = plain.then(|| host.program(&name)).flatten();
    let program = program.ok_or_else(|| no("the credential helper is not on this machine"))?;
    let mut child = Command::new(program)
        .arg("get")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .map_err(|err| no("the credential helper does not start").caused_by(err))?;
    if let Some(mut stdin) = child.stdin.take() {
        // One that reads nothing is judged by its answer.
        let _ = stdin.write_all(reference.host.as_bytes());
    }
    let stdout = child.stdout.take();
    let reader = std::thread::spawn(move || {
        let mut out = Zeroizing::new(Vec::new());
        if let Some(stdout) = stdout {
            let _ = stdout.take(MAX_ANSWER).read_to_end(&mut out);
        }
        out
    });
    let Some(status) = host::wait_until(&mut child, Instant::now() + HELPER) else {
        let _ = child.kill();
        let _ = child.wait();
        return Err(no("the credential helper does not answer"));
    };
    let out = reader.join().map_err(|_| no("the credential helper's answer cannot be read"))?;
    if !status.success() {
        // This one line, and status 1, is how helpers say that they have nothing.
        let said = String::from_utf8_lossy(&out);
        if said.contains("credentials not found") {
            return Ok(None);
        }
        return Err(no("the credential helper failed"));
    }
    let answer = parse_value(&out).map_err(|_| no("the credential helper's answer is no JSON"))?;
    let text = |key: &str| answer[key].as_str().map(|text| Zeroizing::new(text.to_owned()));
    match (text("Username"), text("Secret")) {
        (Some(user), Some(token)) if user.as_str() == "<token>" => {
            Ok(Some(Secret::Identity(token)))
        }
        (Some(user), Some(password)) => Ok(Some(Secret::Basic(user, password))),
        _ => Err(no("the credential helper's answer has no Username and Secret")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::tests::program;

    fn world(files: &[(&str, &str)], env: &[(&str, &str)]) -> (tempfile::TempDir, Host) {
        let dir = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = dir.path().join(name);
            program(path, text);
        }
        let home = dir.path().display().to_string();
        let mut all = vec![("HOME".to_owned(), home.clone())];
        all.extend(env.iter().map(|(k, v)| ((*k).to_owned(), v.replace("@", &home))));
        let host = Host::with(all, dir.path());
        (dir, host)
    }

    fn basic(host: &Host, reference: &str) -> Option<String> {
        let secret = find(host, &reference.parse().unwrap()).unwrap()?;
        assert!(!format!("{secret:?}").contains("hidden-pw"));
        match secret {
            Secret::Basic(user, password) => Some(format!("{}:{}", *user, *password)),
            Secret::Identity(token) => Some(format!("identity {}", *token)),
            Secret::Bearer(token) => Some(format!("bearer {}", *token)),
        }
    }

    fn auth(pair: &str) -> String {
        format!(r#"{{"auth":"{}"}}"#, STANDARD.encode(pair))
    }

    #[test]
    fn the_nearest_entry_of_the_first_file_that_has_one_decides() {
        let docker = format!(
            r#"{{"auths":{{"r.example":{},"https://old.example/v1/":{},"t.example":{{"identitytoken":"it"}}}}}}"#,
            auth("docker:hidden-pw"),
            auth("old:hidden-pw")
        );
        let podman = format!(
            r#"{{"auths":{{"r.example/team":{},"r.example":{},"e.example":{{}}}}}}"#,
            auth("team:hidden-pw:with:colons"),
            auth("podman:hidden-pw")
        );
        let files =
            [(".docker/config.json", docker.as_str()), (".config/containers/auth.json", &podman)];
        let (_dir, host) = world(&files, &[]);
        let of = |reference| basic(&host, reference);
        assert_eq!(of("oci://r.example/team/a").unwrap(), "team:hidden-pw:with:colons");
        assert_eq!(of("oci://r.example/teams/a").unwrap(), "podman:hidden-pw");
        assert_eq!(of("oci://old.example/a").unwrap(), "old:hidden-pw");
        assert_eq!(of("oci://t.example/a").unwrap(), "identity it");
        for nothing in ["oci://e.example/a", "oci://r.example.evil/a", "oci://r.example:8443/a"] {
            assert_eq!(of(nothing), None, "{nothing}");
        }
        // A file that is named is the only one.
        let (_dir, host) =
            world(&[files[0], ("own.json", &podman)], &[("REGISTRY_AUTH_FILE", "@/own.json")]);
        assert_eq!(basic(&host, "oci://r.example/a").unwrap(), "podman:hidden-pw");
        assert_eq!(basic(&host, "oci://old.example/a"), None);
        let (_dir, host) = world(&[files[0]], &[("REGISTRY_AUTH_FILE", "@/none.json")]);
        let err = find(&host, &"oci://r.example/a".parse().unwrap()).unwrap_err();
        assert_eq!(err.reason(), Reason::BadArgument);
    }

    #[test]
    fn a_helper_is_asked_and_one_that_fails_is_named() {
        let config = r#"{"credHelpers":{"h.example":"good","x.example":"none","b.example":"bad","g.example":"gone","e.example":"../evil"},
                         "auths":{"x.example":{"username":"u","password":"hidden-pw"}}}"#;
        let answer = "#!/bin/sh\nread host\necho \"{\\\"Username\\\":\\\"$1 $host\\\",\\\"Secret\\\":\\\"hidden-pw\\\"}\"\n";
        let files = [
            (".docker/config.json", config),
            ("bin/docker-credential-good", answer),
            (
                "bin/docker-credential-none",
                "#!/bin/sh\necho credentials not found in native keychain\nexit 1\n",
            ),
            ("bin/docker-credential-bad", "#!/bin/sh\necho hidden-pw\nexit 1\n"),
        ];
        let (_dir, host) = world(&files, &[("PATH", "@/bin:/usr/bin:/bin")]);
        assert_eq!(basic(&host, "oci://h.example/a").unwrap(), "get h.example:hidden-pw");
        assert_eq!(basic(&host, "oci://x.example/a").unwrap(), "u:hidden-pw");
        for bad in ["b", "g", "e"] {
            let reference = format!("oci://{bad}.example/a").parse().unwrap();
            let err = find(&host, &reference).unwrap_err();
            assert_eq!(err.reason(), Reason::BadArgument);
            assert!(!err.to_json().to_string().contains("hidden-pw"), "{err}");
        }
    }

    #[test]
    fn a_file_that_is_none_is_named_and_not_quoted() {
        for bad in ["{", r#"{"auths":{"r.example":{"auth":"hidden-pw"}}}"#] {
            let (_dir, host) = world(&[(".docker/config.json", bad)], &[]);
            let err = find(&host, &"oci://r.example/a".parse().unwrap()).unwrap_err();
            assert_eq!(err.reason(), Reason::BadArgument, "{bad}");
            assert!(!err.to_json().to_string().contains("hidden-pw"));
        }
    }
}
