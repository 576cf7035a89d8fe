"""What the programs of this directory share: packages pinned by digest, and a home of its own for admit."""

import hashlib
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
PROJECT = HERE.parent.parent
FIXTURE = "r1-string-slugify"
# Of a private network, in a namespace that is made for it (apart.py).
PRIVATE = "10.23.0.9"


def libraries(pins):
    """The pinned packages, installed once for each list of pins."""
    cache = pathlib.Path(os.environ["ADMIT_CI_CACHE"])
    place = cache / f"python-{sys.version_info[0]}{sys.version_info[1]}-{hashlib.sha256(pins.read_bytes()).hexdigest()}"
    if not place.is_dir():
        scratch = pathlib.Path(tempfile.mkdtemp(dir=cache))
        subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--require-hashes",
                        "--only-binary", ":all:", "--target", scratch / "lib", "--requirement", pins], check=True)
        (scratch / "lib").rename(place)
        scratch.rmdir()
    return place


class Home:
    """An empty home with the package clients' own configuration, and admit in it."""

    def __init__(self, admit, store):
        self.program, self.store = admit, store
        self.home = pathlib.Path(tempfile.mkdtemp(prefix="admit-agents-"))
        keep = ("PATH", "LANG", "SSL_CERT_FILE", "HTTPS_PROXY", "HTTP_PROXY", "NO_PROXY", "https_proxy", "http_proxy", "no_proxy")
        self.env = {k: os.environ[k] for k in keep if k in os.environ}
        self.env["HOME"] = str(self.home)
        npmrc = pathlib.Path(os.environ.get("HOME", "/")) / ".npmrc"
        config = os.environ.get("NPM_CONFIG_USERCONFIG") or (str(npmrc) if npmrc.is_file() else None)
        if config:
            self.env["NPM_CONFIG_USERCONFIG"] = config
        for pip in (".config/pip/pip.conf", ".pip/pip.conf"):
            path = pathlib.Path(os.environ.get("HOME", "/")) / pip
            if path.is_file():
                (self.home / pip).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(path, self.home / pip)
        self.root = self.home / ".local/share/admit/root"

    def admit(self, *args, **env):
        argv = [self.program, "--store", self.store, *args]
        return subprocess.run(argv, env={**self.env, **env}, cwd=self.home, capture_output=True, text=True, timeout=500)

    def put(self, path, data):
        path = self.root / path
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(data)

    def admit_model(self, provider, model, network, **more):
        """The model on record as one that is served."""
        record = json.loads((PROJECT / "admissions/models/scripted--understudy-script.json").read_text())
        del record["allowed_network_class"], record["credential_source_class"]
        record |= {"provider": provider, "model": model, "kind": "served", "schema": "admit.model-admission/2"}
        record |= {"network": network, "credential": {"kind": "none"}, **more}
        self.put(f"admissions/models/{provider}--{model}.json", json.dumps(record))

    def end(self):
        subprocess.run(["chmod", "-R", "u+w", str(self.home)], check=False)
        shutil.rmtree(self.home, ignore_errors=True)


def left_by(done):
    """What a run left: report, events in order, directory; nothing where it left none."""
    try:
        directory = pathlib.Path(json.loads(done.stdout)["directory"])
    except ValueError:
        return {}
    report = json.loads((directory / "report.json").read_text())
    events = [json.loads(line) for line in (directory / "events.normalized.jsonl").read_text().splitlines()]
    return {"report": report, "events": events, "directory": directory}
