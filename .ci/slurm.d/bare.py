#!/usr/bin/env python3
"""The side of .ci/slurm.d/figure that has no admit: what a person would put into an array who trusts the binary, the agent and
everything that it runs.

    bare.py serve SCRIPT                     the scripted model on the loopback, one conversation a path; prints its port
    bare.py prepare RUN FIXTURE PROGRAM PYTEST PORT OUT
                                             from a sealed run: OUT/task.sh, which does task $SLURM_ARRAY_TASK_ID with the same
                                             program, arguments, variables and files in no sandbox, and runs the tests once on
                                             the change that was committed
"""

import collections
import http.server
import json
import pathlib
import shlex
import shutil
import sys
import threading


class Model(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    script = {}
    asked = collections.Counter()
    lock = threading.Lock()

    def log_message(self, *_):
        pass

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers["content-length"])))
        with self.lock:
            number = self.asked[self.path]
            self.asked[self.path] += 1
        turns = self.script["turns"]
        turn = turns[number] if number < len(turns) else self.script["closing"]
        calls = [{"index": at, "id": f"call_{number}_{at}", "type": "function",
                  "function": {"name": call["name"], "arguments": json.dumps(call["arguments"])}}
                 for at, call in enumerate(turn.get("tool_calls", []))]
        deltas = [{"role": "assistant", "content": turn.get("text")}] + ([{"tool_calls": calls}] if calls else [])
        pieces = [{"index": 0, "delta": delta, "finish_reason": None} for delta in deltas]
        pieces.append({"index": 0, "delta": {}, "finish_reason": "tool_calls" if calls else "stop"})
        events = [json.dumps({"id": "bare", "object": "chat.completion.chunk", "created": 0, "model": body["model"], "choices": [piece]})
                  for piece in pieces] + ["[DONE]"]
        data = "".join(f"data: {event}\n\n" for event in events).encode()
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


def serve(script):
    Model.script = json.loads(pathlib.Path(script).read_text())
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Model)
    print(server.server_port, flush=True)
    server.serve_forever()


def prepare(run, fixture, program, pytest, port, out):
    run, fixture, out = pathlib.Path(run), pathlib.Path(fixture), pathlib.Path(out)
    launch = json.loads((run / "backend/launch.json").read_text())
    files = out / "files"
    files.mkdir(parents=True)
    for name in ("home", "tmp"):
        (files / name).mkdir()
    below = launch["directory"].removeprefix("/work/")
    shutil.copytree(fixture / "workspace", files / below)
    shutil.copytree(fixture / "workspace", out / "pristine")
    shutil.copytree(run / "backend/case-data", files / "case-data")
    shutil.copytree(run / "backend/task", files / below / ".case/tasks/active")
    for path in files.rglob("*.json"):
        text = path.read_text().replace("/work/", "@TOP@/").replace("http://127.0.0.1:8080", f"http://127.0.0.1:{port}/@TASK@")
        path.write_text(text)
    values = dict(launch["env"], PYTHONPATH=pytest)
    # Everything but the run's own place and number stands in the script already.
    env = " ".join(f'{key}="{value}"'.replace("/work/", "$top/") for key, value in sorted(values.items()))
    argv = " ".join(f'"{word}"'.replace("/work/", "$top/") for word in launch["argv"][1:])
    (out / "task.sh").write_text(f"""#!/bin/sh
#SBATCH --ntasks=1
set -e
top=$(mktemp -d)
trap 'rm -rf "$top"' EXIT
cp -r {shlex.quote(str(files))}/. "$top"
sed -i "s|@TOP@|$top|g; s|@TASK@|$SLURM_ARRAY_TASK_ID|g" "$top"/case-data/*.json "$top"/case-data/pi-agent/*.json "$top/{below}"/.case/tasks/active/*
cd "$top/{below}"
export GIT_AUTHOR_NAME=a GIT_AUTHOR_EMAIL=a@localhost GIT_COMMITTER_NAME=a GIT_COMMITTER_EMAIL=a@localhost
printf '.case/\\n' >.git-exclude
git init -q . && mv .git-exclude .git/info/exclude && git add -A && git commit -q -m before
git config user.name a && git config user.email a@localhost
env -i {env} {shlex.quote(program)} {argv} >"$top/stdout" 2>"$top/stderr" || {{ cat "$top/stdout" "$top/stderr"; exit 1; }}
[ "$(git rev-list --count HEAD)" = 2 ]
cp -r {shlex.quote(str(out))}/pristine "$top/judged"
git diff HEAD~1 HEAD -- strings.py >"$top/patch"
cd "$top/judged"
git apply "$top/patch"
env -i {env} python3 -m pytest -q -p no:cacheprovider >"$top/tests"
echo done
""")


if __name__ == "__main__":
    {"serve": serve, "prepare": prepare}[sys.argv[1]](*sys.argv[2:])
