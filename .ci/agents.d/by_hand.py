#!/usr/bin/env python3
"""Starts an agent as a person would who has no admit: the same program, arguments, variables and files as in the run that
LAUNCH is of, in no sandbox, with no proxy before the server in CTO_HARNESS_CASE_LOCAL_BASE_URL. Prints the seconds that it
took, and ends with 1 where it left no commit.

usage: by_hand.py LAUNCH RUN_SECTION PROGRAM WORKSPACE
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

launch, section = (json.loads(pathlib.Path(path).read_text()) for path in sys.argv[1:3])
program, workspace = sys.argv[3:5]
door = os.environ["CTO_HARNESS_CASE_LOCAL_BASE_URL"].removesuffix("/v1")
with tempfile.TemporaryDirectory(prefix="admit-by-hand-") as top:
    # Where it was in the sandbox, here.
    here = lambda text: text.replace("/work/", f"{top}/").replace("http://127.0.0.1:8080", door)
    env = {key: here(value) for key, value in launch["env"].items()}
    work = pathlib.Path(here(launch["directory"] + "/"))
    for name in ("home", "tmp", "task"):
        (pathlib.Path(top) / name).mkdir()
    shutil.copytree(workspace, work)
    git = lambda *args: subprocess.run(["git", "-C", work, *args], env=env, check=True, capture_output=True, text=True).stdout
    git("init", "-q")
    git("add", "-A")
    git("-c", "user.name=a", "-c", "user.email=a@localhost", "commit", "-q", "-m", "before")
    values = {"home": env["HOME"], "work": str(work), "door": door, "key": "by-hand", "model": launch["model"]}
    for path, text in section["command"].get("files", {}).items():
        for name, value in values.items():
            path, text = path.replace(f"{{{name}}}", value), text.replace(f"{{{name}}}", value)
        pathlib.Path(path).parent.mkdir(parents=True, exist_ok=True)
        pathlib.Path(path).write_text(text)
    # What the store holds is no program that could be started by accident.
    shutil.copy(program, pathlib.Path(top) / "agent")
    (pathlib.Path(top) / "agent").chmod(0o755)
    argv = [f"{top}/agent", *map(here, launch["argv"][1:])]
    began = time.monotonic()
    done = subprocess.run(argv, cwd=work, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60)
    print(round(time.monotonic() - began, 2))
    if len(git("log", "--oneline").splitlines()) != 2:
        sys.exit(f"no commit; ended {done.returncode}\n{done.stdout[-800:]}{done.stderr[-1500:]}")
