#!/usr/bin/env python3
"""A scripted model on the loopback for real agents: one tool call that solves the fixture, then the result. With a fault, it
answers the probe well and does to the agent what the fault says; with the fault `by-name`, what stands behind the last dot
of the model's name. Where SCRIPTED_ACCOUNT names a file with an account, it is served as the real one of `openai-codex` is, by
token and account. Runs COMMAND beside itself with its address in CTO_HARNESS_CASE_LOCAL_BASE_URL, and ends as that ends.

usage: model.py REFERENCE_PATCH FAULT LOG ADDRESS COMMAND...
"""

import base64
import http.server
import json
import os
import subprocess
import sys
import threading
import time

PATCH, FAULT, LOG, ADDRESS = sys.argv[1:5]
# `account`: its id. `logins`: one token after the other, each with how many replies it holds for.
SERVED = json.load(open(os.environ["SCRIPTED_ACCOUNT"])) if "SCRIPTED_ACCOUNT" in os.environ else None
BASE = "backend-api" if SERVED else "v1"
COMMAND = (
    "echo %s | base64 -d | git apply && git add -A && git -c user.name=a -c user.email=a@localhost commit -q -m done"
    % base64.b64encode(open(PATCH, "rb").read()).decode()
)
HALF = "touch half-tool-call-ran && git add -A && git -c user.name=a -c user.email=a@localhost commit -qm half; " + COMMAND
RESULT = (
    "Done.\n\n<<<AGENT_RESULT\n"
    + json.dumps(
        {
            "status": "completed",
            "summary": "slugify follows the README",
            "artifacts": {
                "commit": None, "filesChanged": ["strings.py"], "testsPassed": True, "screenshotUrls": [],
                "evidenceMarkers": [], "prUrl": None, "prNumber": None,
            },
            "error": None,
        }
    )
    + "\nAGENT_RESULT>>>\n"
)


def shell_tool(body):
    """The agent's own shell tool: its name, and the key of its command."""
    for tool in body.get("tools") or []:
        tool = tool.get("function") or tool
        if tool.get("name") in ("bash", "exec_command", "shell"):
            keys = (tool.get("parameters") or {}).get("properties") or {}
            return tool["name"], "cmd" if "cmd" in keys else "command"
    return None, None


def refusal(path, headers, body):
    """Why the server of an account does not answer: status and code."""
    if path != f"/{BASE}/codex/responses":
        return 404, "not_found"
    login = SERVED["logins"][0]
    if headers["authorization"] != f"Bearer {login['token']}":
        return 401, "token_expired"
    if headers["chatgpt-account-id"] != SERVED["account"]:
        return 403, "account_unknown"
    # codex of this version says what pi says in `instructions` as a developer's message.
    wanted = body.get("store") is False and body.get("stream") is True and isinstance(body.get("instructions", ""), str)
    if not wanted or "max_output_tokens" in body or headers["openai-beta"] is None or headers["originator"] is None:
        return 400, "unsupported_parameter"
    login["holds"] -= 1
    if login["holds"] == 0 and len(SERVED["logins"]) > 1:
        SERVED["logins"].pop(0)
    return None


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        models = [{"id": "scripted-for-agents", "object": "model"}]
        self.whole(200, {"object": "list", "data": models})

    def do_POST(self):
        body = json.loads(self.rfile.read(int(self.headers.get("content-length", 0))))
        responses = self.path.endswith("/responses")
        text = json.dumps(body)
        agent = "slugify" in text
        asked = body["model"].rpartition(".")[2] if FAULT == "by-name" else FAULT
        items = body.get("input") if responses else body.get("messages")
        done = any(
            isinstance(item, dict) and (item.get("role") == "tool" or item.get("type") == "function_call_output")
            for item in items or []
        )
        with open(LOG, "a") as log:
            log.write(json.dumps({"at": time.time(), "path": self.path, "model": body["model"], "agent": agent, "done": done}) + "\n")
        if SERVED and (no := refusal(self.path, self.headers, body)):
            return self.whole(no[0], {"error": {"code": no[1], "message": "the account's own words"}})
        fault = asked if agent else "none"
        if fault.isdigit():
            return self.whole(int(fault), {"error": {"message": "scripted fault", "type": "scripted"}})
        model = "another-model" if fault == "other_model" else body["model"]
        name, key = shell_tool(body)
        # A call that cannot be read is asked for again, else the agent recovers from it.
        if not agent or name is None or (done and fault != "malformed"):
            call, say = None, (RESULT if agent else "Yes.")
        else:
            command = HALF if fault in ("half_call", "half_by_length", "whole_by_length") else COMMAND
            call, say = (name, json.dumps({key: command})), None
        if fault == "empty":
            call, say = None, ""
        if fault == "no_result":
            call, say = None, "Done."
        if fault in ("malformed", "half_by_length") and call:
            call = (call[0], call[1][: len(call[1]) // 2])
        if fault == "reasoning":
            call, say = None, None
        if not body.get("stream"):
            return self.plain(responses, model, say or "Yes.")
        thought = "One could call a tool." if fault == "reasoning" else None
        events = (self.as_responses if responses else self.as_chat)(model, call, say, thought)
        if fault in ("half_by_length", "whole_by_length"):
            # As servers say that the token budget ended the call.
            words = (
                ('"finish_reason": "tool_calls"', '"finish_reason": "length"'),
                ('"response.completed"', '"response.incomplete"'),
                ("event: response.completed", "event: response.incomplete"),
                ('"status": "completed"', '"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}'),
            )
            # Where the call itself was whole, its own events say so.
            whole = len(events) - 1 if responses and fault == "whole_by_length" else 0
            for old, new in words:
                events[whole:] = [event.replace(old, new) for event in events[whole:]]
        self.send_response(200)
        self.send_header("content-type", "text/event-stream")
        self.send_header("transfer-encoding", "chunked")
        self.end_headers()
        if fault in ("cut", "reset", "half_call", "error", "stall"):
            # Up to the finish; of a half call, half of its arguments.
            events = events[: max(1, len(events) // 2)]
        if fault == "error":
            error = {"message": "scripted fault", "type": "server_error", "code": "overloaded"}
            events.append("data: " + json.dumps({"type": "error", "error": error}) + "\n\n")
        for event in events:
            self.chunk(event.encode())
        if fault == "stall":
            self.wfile.flush()
            # As long as the one that asked is there.
            self.connection.recv(1)
        if fault in ("reset", "half_call"):
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(2)
            return
        self.wfile.write(b"0\r\n\r\n")
        self.wfile.flush()

    def chunk(self, data):
        self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))

    def whole(self, status, value):
        data = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("content-type", "application/json")
        self.send_header("content-length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def plain(self, responses, model, say):
        if responses:
            item = {
                "type": "message", "id": "m1", "role": "assistant", "status": "completed",
                "content": [{"type": "output_text", "text": say, "annotations": []}],
            }
            return self.whole(200, self.response(model, "completed", [item]))
        choice = {"index": 0, "message": {"role": "assistant", "content": say}, "finish_reason": "stop"}
        usage = {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2}
        self.whole(200, {"id": "c1", "object": "chat.completion", "created": 1, "model": model, "choices": [choice], "usage": usage})

    @staticmethod
    def as_chat(model, call, say, thought):
        # No tokens for nothing: else it would be reasoning that nobody shows.
        tokens = 1 if call or say or thought else 0

        def chunk(choices, **more):
            head = {"id": "c1", "object": "chat.completion.chunk", "created": 1, "model": model}
            return "data: " + json.dumps({**head, "choices": choices, **more}) + "\n\n"

        def delta(delta, finish=None):
            return chunk([{"index": 0, "delta": delta, "finish_reason": finish}])

        out = [delta({"role": "assistant"})]
        if thought:
            out += [delta({"reasoning_content": thought}), delta({}, "stop")]
        elif call:
            name, arguments = call
            half = len(arguments) // 2
            head = {"index": 0, "id": "call_1", "type": "function", "function": {"name": name, "arguments": ""}}
            out.append(delta({"tool_calls": [head]}))
            for part in (arguments[:half], arguments[half:]):
                out.append(delta({"tool_calls": [{"index": 0, "function": {"arguments": part}}]}))
            out.append(delta({}, "tool_calls"))
        else:
            out += [delta({"content": say})] if say else []
            out.append(delta({}, "stop"))
        usage = {"prompt_tokens": 1, "completion_tokens": tokens, "total_tokens": 1 + tokens}
        out.append(chunk([], usage=usage))
        out.append("data: [DONE]\n\n")
        return out

    @staticmethod
    def response(model, status, output):
        usage = {
            "input_tokens": 1, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": len(output),
            "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 1 + len(output),
        }
        head = {"id": "r1", "object": "response", "created_at": 1, "model": model, "status": status, "output": output}
        return {**head, "usage": usage if status == "completed" else None}

    @classmethod
    def as_responses(cls, model, call, say, thought):
        out, number = [], 0

        def event(name, **data):
            nonlocal number
            out.append("event: %s\ndata: %s\n\n" % (name, json.dumps({"type": name, "sequence_number": number, **data})))
            number += 1

        event("response.created", response=cls.response(model, "in_progress", []))
        items = []
        if thought:
            item = {"type": "reasoning", "id": "rs_1", "summary": [{"type": "summary_text", "text": thought}]}
            event("response.output_item.added", output_index=0, item={**item, "summary": []})
            event("response.output_item.done", output_index=0, item=item)
            items.append(item)
        elif call:
            name, arguments = call
            item = {"type": "function_call", "id": "fc_1", "call_id": "call_1", "name": name, "arguments": "", "status": "in_progress"}
            event("response.output_item.added", output_index=0, item=item)
            half = len(arguments) // 2
            for part in (arguments[:half], arguments[half:]):
                event("response.function_call_arguments.delta", item_id="fc_1", output_index=0, delta=part)
            event("response.function_call_arguments.done", item_id="fc_1", output_index=0, arguments=arguments)
            item = {**item, "arguments": arguments, "status": "completed"}
            event("response.output_item.done", output_index=0, item=item)
            items.append(item)
        elif say:
            part = {"type": "output_text", "text": "", "annotations": []}
            item = {"type": "message", "id": "m1", "role": "assistant", "status": "in_progress", "content": []}
            event("response.output_item.added", output_index=0, item=item)
            event("response.content_part.added", item_id="m1", output_index=0, content_index=0, part=part)
            event("response.output_text.delta", item_id="m1", output_index=0, content_index=0, delta=say)
            event("response.output_text.done", item_id="m1", output_index=0, content_index=0, text=say)
            part = {**part, "text": say}
            event("response.content_part.done", item_id="m1", output_index=0, content_index=0, part=part)
            item = {**item, "status": "completed", "content": [part]}
            event("response.output_item.done", output_index=0, item=item)
            items.append(item)
        event("response.completed", response=cls.response(model, "completed", items))
        return out


server = http.server.ThreadingHTTPServer((ADDRESS, 0), Handler)
server.daemon_threads = True
threading.Thread(target=server.serve_forever, daemon=True).start()
url = f"http://{ADDRESS}:{server.server_address[1]}/{BASE}"
env = {**os.environ, "CTO_HARNESS_CASE_LOCAL_BASE_URL": url}
sys.exit(subprocess.run(sys.argv[5:], env=env, stdin=subprocess.DEVNULL, check=False).returncode)
