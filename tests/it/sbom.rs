//! `admit sbom`: what stands in the bill of materials of the stand-in provider. That it is CycloneDX is asked of
//! a foreign validator (`.ci/foreign-verifiers`).

use std::collections::BTreeMap;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::Value;

use crate::util::{World, project};

#[test]
fn everything_that_went_in_is_named_with_its_digest() {
    let world = World::with_shared_store();
    let report = world.admit(&["build", "understudy", "--record", "--json"]).expect(0).json();
    let run = world.admit(&["sbom", "understudy"]).expect(0);
    let bom = run.json();
    assert_eq!((&bom["bomFormat"], &bom["specVersion"]), (&"CycloneDX".into(), &"1.6".into()));
    assert!(bom.get("serialNumber").is_none() && bom["metadata"].get("timestamp").is_none());

    let output = &bom["metadata"]["component"];
    assert_eq!(output["version"], report["report"]["pinned_commit"]);
    assert_eq!(output["hashes"][0]["alg"], "SHA-256");
    assert_eq!(output["hashes"][0]["content"], report["report"]["sha256"]);
    let components: BTreeMap<&str, &Value> = (bom["components"].as_array().unwrap().iter())
        .map(|one| (one["bom-ref"].as_str().unwrap(), one))
        .collect();

    // Each package of this platform, with the integrity of bun.lock in hex.
    let lock = std::fs::read_to_string(project().join("fixtures/understudy/bun.lock")).unwrap();
    let packages: Vec<_> = components.keys().filter(|name| !name.contains("bun-linux")).collect();
    assert_eq!(packages.len(), 7, "six packages and the source: {packages:?}");
    for (reference, one) in &components {
        if one["type"] != "library" {
            continue;
        }
        let name = match one["group"].as_str() {
            Some(group) => format!("{group}/{}", one["name"].as_str().unwrap()),
            None => one["name"].as_str().unwrap().to_owned(),
        };
        let row = lock.lines().find(|line| line.contains(&format!("\"{name}\": ["))).unwrap();
        let sri = row.split("\"sha512-").nth(1).unwrap().split('"').next().unwrap();
        let bytes = hex::decode(one["hashes"][0]["content"].as_str().unwrap()).unwrap();
        assert_eq!((bytes.len(), &*STANDARD.encode(&bytes)), (64, sri), "{reference}");
        assert_eq!(one["purl"], *reference);
        assert_eq!(one["licenses"][0]["license"]["id"], "MIT", "{reference}");
    }
    // Bun is what the lock pins.
    let bun = components["pkg:npm/%40oven/bun-linux-x64@1.3.14"];
    let sha256 = report["report"]["bun_sha256"].as_str().unwrap();
    assert!(bun["properties"].to_string().contains(sha256), "{bun}");

    // The graph: the output needs what the source asks for; a native addon that is in the output is proven to be.
    let needs: BTreeMap<&str, &Value> = (bom["dependencies"].as_array().unwrap().iter())
        .map(|one| (one["ref"].as_str().unwrap(), &one["dependsOn"]))
        .collect();
    assert_eq!(needs.len(), components.len() + 1);
    let direct = needs["output"].as_array().unwrap();
    assert!(direct.contains(&"pkg:npm/app-root-path@3.1.0".into()), "{direct:?}");
    let addon = "pkg:npm/%40node-rs/crc32-linux-x64-gnu@1.10.8";
    assert!(!direct.contains(&addon.into()), "{direct:?}");
    assert!(needs["pkg:npm/%40node-rs/crc32@1.10.8"].to_string().contains(addon));
    let embedded = serde_json::json!({ "name": "admit:embedded-files", "value": "1" });
    assert!(components[addon]["properties"].as_array().unwrap().contains(&embedded));
    assert!(!components["pkg:npm/parse-ms@4.0.0"].to_string().contains("embedded-files"));

    // The same bytes from another build, from the recorded report, and in a file.
    world.admit(&["build", "understudy", "--rebuild"]).expect(0);
    assert_eq!(world.admit(&["sbom", "understudy"]).expect(0).stdout(), run.stdout());
    let recorded = report["recorded"].as_str().unwrap();
    world.admit(&["sbom", "--report", recorded, "--out", "bom.json"]).expect(0);
    assert_eq!(std::fs::read_to_string(world.cwd().join("bom.json")).unwrap(), run.stdout());

    // A report of something else is no source of one.
    let of_other = |field: &str, value: String| {
        let mut other = crate::files::json(recorded);
        other[field] = value.into();
        std::fs::write(world.cwd().join("other.json"), other.to_string()).unwrap();
        world.admit(&["sbom", "--report", "other.json"]).refuse(5, "digest_mismatch")
    };
    of_other("plan_digest", format!("sha256:{}", "0".repeat(64)));
    // Nor is one of another binary by the same plan.
    of_other("sha256", "0".repeat(64)).told("lock.json (embedded): sha256");
    let name = format!("unbuilt-{}", std::process::id());
    world.admit(&["lock", &name, "--like", "understudy"]).expect(0);
    world.admit(&["sbom", &name]).refuse(2, "not_found");
    world.admit(&["sbom"]).expect(2);
}
