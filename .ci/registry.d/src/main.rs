//! What the crate `oci-client` makes of a build in a registry: the manifest of a tag and its digest, every blob under the
//! digest that the manifest gives, and the statements about it as clients find them where there is no list of referrers.
//! Prints them as JSON; ends with 1 and the crate's own words where it refuses one.
//!
//!     reads HOST/PATH:TAG

use std::process::ExitCode;

use oci_client::client::{ClientConfig, ClientProtocol};
use oci_client::secrets::RegistryAuth;
use oci_client::{Client, Reference};
use serde_json::{Value, json};

type Failed = Box<dyn std::error::Error>;

async fn read(reference: Reference) -> Result<Value, Failed> {
    let config = ClientConfig { protocol: ClientProtocol::Http, ..ClientConfig::default() };
    let client = Client::new(config);
    let (manifest, digest, config) =
        client.pull_manifest_and_config(&reference, &RegistryAuth::Anonymous).await?;
    let mut layers = Vec::new();
    for layer in &manifest.layers {
        let mut bytes = Vec::new();
        client.pull_blob(&reference, layer, &mut bytes).await?;
        layers.push(json!({ "digest": layer.digest, "media_type": layer.media_type, "size": bytes.len() }));
    }
    let subject = reference.clone_with_digest(digest.clone());
    let mut about = Vec::new();
    for one in client.pull_referrers(&subject, None).await?.manifests {
        let statement = reference.clone_with_digest(one.digest.clone());
        let (manifest, digest) = client.pull_image_manifest(&statement, &RegistryAuth::Anonymous).await?;
        let mut payload = Vec::new();
        for layer in &manifest.layers {
            client.pull_blob(&statement, layer, &mut payload).await?;
        }
        about.push(json!({
            "digest": digest,
            "type": manifest.artifact_type,
            "subject": manifest.subject.map(|subject| subject.digest),
            "payload": String::from_utf8(payload)?,
        }));
    }
    Ok(json!({ "manifest": digest, "config": config, "layers": layers, "about": about }))
}

fn main() -> Result<ExitCode, Failed> {
    let given = std::env::args().nth(1).ok_or("reads HOST/PATH:TAG")?;
    rustls::crypto::ring::default_provider().install_default().map_err(|_| "there is a provider already")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(match runtime.block_on(read(given.parse()?)) {
        Ok(found) => {
            println!("{found}");
            ExitCode::SUCCESS
        }
        Err(err) => {
            eprintln!("refused: {err}");
            ExitCode::FAILURE
        }
    })
}
