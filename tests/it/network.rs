//! Models in a network of one's own, the whole way as `docs/models.md` has it: its commands and files as they stand there, in
//! a network namespace that has such an address, with a key and with an account. What the page needs and is not at hand is
//! put in: the stand-in for the agent, a script for the model, a helper's own login.

use std::path::Path;
use std::sync::{Arc, Mutex};

use admit::proxy::mock::{Mock, MockServer};
use admit::record::fixture::Script;
use serde_json::Value;

use crate::account::{ACCOUNT, helper, prints, server_of, token};
use crate::files::{self, below, mode};
use crate::namespace::{entered, lead};
use crate::run::{built, directory, reads_back, row};
use crate::upstream::key;
use crate::util::{World, project};

/// The line of the page that begins so; one that goes on is one.
fn typed(begin: &str) -> String {
    let text = std::fs::read_to_string(project().join("docs/models.md")).unwrap();
    let text = text.replace("\\\n", " ");
    let line = text.lines().map(str::trim).find(|line| line.starts_with(begin));
    line.unwrap_or_else(|| panic!("{begin} in docs/models.md")).to_owned()
}

fn done(world: &World, line: &str) {
    world.shell(line).expect(0);
}

/// The value of a variable that the page exports.
fn exported(begin: &str) -> String {
    let line = typed(begin);
    let (_, value) = line.split_once('=').unwrap();
    value.split_whitespace().next().unwrap().to_owned()
}

/// The end of a run with this model, read back, in which none of `hidden` stands.
fn runs(world: &World, model: &str, network: &str, hidden: &[&str]) -> Value {
    let args = ["run", "stage2", "--provider", "understudy", "--model", model, "--json"];
    let outcome = world.admit(&args).expect(0).json();
    let report = &outcome["report"];
    // The stand-in can lead to no pass, whoever answers it.
    assert_eq!(report["status"], "rehearsed", "{report:#}");
    assert_eq!(report["case_model_admission_status"], "admitted");
    let dir = directory(&outcome);
    assert_eq!(files::json(dir.join("backend/bridge.json"))["network_class"], network);
    reads_back(world, &outcome);
    world.admit(&["verify", dir.to_str().unwrap(), "--accept", "rehearsed"]).expect(0);
    shows_none(&dir, hidden);
    outcome
}

fn shows_none(dir: &Path, hidden: &[&str]) {
    for path in below(dir) {
        let bytes = std::fs::read(&path).unwrap();
        for text in hidden {
            let there = bytes.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!there, "{} shows {text}", path.display());
        }
    }
}

#[test]
fn the_page_of_models_is_followed_in_a_network_of_ones_own() {
    // What needs the network is made before.
    drop(built());
    let test = "network::the_page_of_models_is_followed_in_a_network_of_ones_own";
    if !entered(test, &["192.168.7.20/24"]) {
        return;
    }
    let mut world = World::with_shared_store();
    done(&world, "admit init .");
    let network: String =
        ["[[network]]", "name = ", "addresses = "].map(|begin| typed(begin) + "\n").concat();
    let config = world.cwd().join("admit.toml");
    let text = std::fs::read_to_string(&config).unwrap() + "\n" + &network;
    std::fs::write(&config, text).unwrap();
    done(&world, "admit trust .");
    done(&world, "admit build understudy --record");

    let script = std::fs::read(project().join("fixtures/r1-string-slugify/script.json")).unwrap();
    let script: Script = admit::record::parse(&script).unwrap();
    let model = MockServer::start(Mock::new(script, "some-model")).unwrap();
    lead("192.168.7.20:8000", model.addr);
    let file = world.path().join("lab.key");
    std::fs::write(&file, key()).unwrap();
    mode(&file, 0o600);
    world.set("ADMIT_MODEL_KEY_FILE", file.display().to_string());
    // Another server that is the same, since the script's turns are for the run.
    let looked_at = MockServer::start(Mock::saying("ready", "some-model")).unwrap();
    lead("192.168.7.20:8002", looked_at.addr);
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", "http://192.168.7.20:8002/v1");
    done(&world, &typed("admit model add lab/some-model --probe"));
    world.admit(&["model", "show", "lab/some-model"]).expect(2);
    done(&world, &typed("admit model add lab/some-model --network"));
    let endpoint = exported("export CTO_HARNESS_CASE_LOCAL_BASE_URL=http:");
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", &endpoint);
    runs(&world, "lab/some-model", "lab", &[&key(), "192.168.7.20"]);

    // One address beside the network is refused with its ranges.
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", "http://127.0.0.1:8000/v1");
    let args = ["run", "stage2", "--provider", "understudy", "--model", "lab/some-model", "--json"];
    let outcome = world.admit(&args).expect(3).json();
    assert_eq!(outcome["report"]["failure_class"], "network_not_allowed");
    let gate = row(&outcome["report"]["gates"], "network_class");
    assert!(gate["expected"].as_str().unwrap().contains("192.168.7.0/24"), "{gate:#}");

    // The account, whose server is in this network here, and asks for no TLS.
    let bin = world.home().join("bin");
    std::fs::create_dir(&bin).unwrap();
    let login = helper(&bin, &prints(ACCOUNT, ""));
    std::fs::rename(login, bin.join("codex-account")).unwrap();
    let add = typed("admit model add openai-codex/gpt-5.5").replace("public-tls", "lab");
    if !rustix::process::geteuid().is_root() {
        // In this user's own user namespace the directories above belong to nobody who is known, so that the helper is
        // refused. The account's run is that of root's namespace; on the loopback any user's tests have it (`account`).
        let run = world.shell(&add);
        assert!(run.code() != Some(0) && run.stderr().contains("credential_unusable"), "{run}");
        return;
    }
    done(&world, &add);
    let server = server_of("gpt-5.5", Arc::new(Mutex::new(1)), |_| {});
    lead("192.168.7.20:8001", server.addr());
    let endpoint = exported("3. `export CTO_HARNESS_CASE_LOCAL_BASE_URL=https:");
    let path = endpoint.trim_start_matches("https://HOST").trim_end_matches([',', '`']);
    world.set("CTO_HARNESS_CASE_LOCAL_BASE_URL", format!("http://192.168.7.20:8001{path}"));
    world.set("CTO_HARNESS_CASE_OPENAI_CODEX_AUTH_BRIDGE", "1");
    let outcome =
        runs(&world, "openai-codex/gpt-5.5", "lab", &[&token(1), ACCOUNT, "192.168.7.20"]);
    let gate = row(&outcome["report"]["gates"], "auth_bridge");
    assert_eq!(gate["found"], "the record's credential helper", "{gate:#}");
    // Without it, the claim proves nothing and no model is asked.
    std::fs::remove_file(bin.join("codex-account")).unwrap();
    let before = server.count();
    let args = ["run", "stage2", "--provider", "understudy", "--model", "openai-codex/gpt-5.5"];
    let outcome = world.admit(&[&args[..], &["--json"]].concat()).expect(3).json();
    assert_eq!(outcome["report"]["failure_class"], "auth_unavailable", "{outcome:#}");
    assert_eq!(server.count(), before);
}
