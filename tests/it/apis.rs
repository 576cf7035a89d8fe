//! A run over each wire API: the stand-in does its whole work over it, and no agent runs half of a tool call. What else a
//! server of an API can do wrong is in the table of `faults.rs`.

use std::sync::{Arc, Mutex};

use admit::proxy::api::{WireApi, list};
use admit::record::admission::Api;
use admit::record::evidence::RunStatus;

use crate::loopback::Server;
use crate::trial::{QUICK, Trial, real_case, understudy};
use crate::upstream::{Behaviour, MODEL, Mock, raw, stream};

#[test]
fn the_stand_in_does_its_work_over_every_api() {
    for api in Api::ALL {
        let left = Trial::understudy().speaking(api).scripted();
        let report = left.report();
        assert_eq!(report.status, RunStatus::Rehearsed, "{api:?}: {:#?}", report.blockers);
        assert_eq!(report.wire_api.as_deref(), Some(api.as_str()));
        assert!(report.tests_passed && left.code == 0, "{api:?}");
        let path = format!("POST [base]{} ", list::of(api).path());
        // The first may be a WebSocket that was refused.
        let sent = ["0001", "0002"].map(|n| left.text(&format!("backend/wire/{n}.request")));
        assert!(sent.iter().any(|request| request.starts_with(&path)), "{api:?}: {sent:?}");
    }
}

/// Asked by a request, what a tool gave: that the call before was run.
const RESULTS: [&str; 3] = ["\"role\":\"tool\"", "\"function_call_output\"", "\"tool_result\""];

/// A server at which every tool call is cut in half, and the requests that came after the probe's.
fn cuts(api: &'static dyn WireApi, fault: Behaviour) -> (Server, Arc<Mutex<Vec<String>>>) {
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    let mock = Mock::saying("ready", MODEL).speaking(api).misbehaving(fault).during(1..u32::MAX);
    let mock = Mutex::new((mock, 0));
    let server = raw(move |request| {
        let (mock, number) = &mut *mock.lock().unwrap();
        if *number > 0 {
            seen.lock().unwrap().push(String::from_utf8(request.body.clone()).unwrap());
        }
        let body = String::from_utf8(mock.reply(*number, true).body()).unwrap();
        *number += 1;
        // Only the connection's end ends it: what some clients would take for an end however it comes.
        stream("", body.as_bytes())
    });
    (server, asked)
}

#[test]
fn a_half_tool_call_is_run_by_no_agent() {
    let agents = [Some(("stand-in", understudy())), real_case().map(|built| ("Case", built))];
    for (name, built) in agents.into_iter().flatten() {
        for api in Api::ALL {
            for (fault, detail) in
                [(Behaviour::BadTool, "arguments_not_json"), (Behaviour::CutTool, "cut_by_length")]
            {
                let (server, asked) = cuts(list::of(api), fault);
                let mut trial = Trial::built(built.clone()).task(QUICK).speaking(api);
                // What asks for ever is ended by a limit, which is not the cause.
                trial.proxy.requests = 20;
                let left = trial.served_at(server.url("/v1"));
                left.ends("malformed_tool_call", detail, 8);
                let asked = asked.lock().unwrap();
                let ran = |body: &String| RESULTS.iter().any(|result| body.contains(result));
                assert!(!asked.is_empty() && !asked.iter().any(ran), "{name} {api:?} {fault:?}");
            }
        }
    }
}
