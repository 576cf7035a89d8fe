#!/usr/bin/env python3
"""What an archive has besides the program: a bill of materials of admit itself, and the licences of everything in it.

    release-parts.py DIR VERSION COMMIT     (in the source's directory)
"""

import json
import subprocess
import sys
import tomllib
from pathlib import Path

out, version, commit = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
host = [line.split()[1] for line in subprocess.run(["rustc", "-vV"], capture_output=True, text=True, check=True).stdout.splitlines() if line.startswith("host:")][0]
command = ["cargo", "metadata", "--format-version", "1", "--locked", "--offline", "--filter-platform", host]
metadata = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
checksums = {}
for package in tomllib.loads(Path("Cargo.lock").read_text())["package"]:
    checksums[package["name"], package["version"]] = package.get("checksum")

# What is linked or runs while building; crates that only tests use are in no archive.
nodes = {node["id"]: node for node in metadata["resolve"]["nodes"]}
root = metadata["resolve"]["root"]
seen, todo = set(), [root]
while todo:
    here = todo.pop()
    if here in seen:
        continue
    seen.add(here)
    for dep in nodes[here]["deps"]:
        if any(kind["kind"] != "dev" for kind in dep["dep_kinds"]):
            todo.append(dep["pkg"])
packages = sorted((p for p in metadata["packages"] if p["id"] in seen and p["id"] != root), key=lambda p: (p["name"], p["version"]))
refs = {p["id"]: f"pkg:cargo/{p['name']}@{p['version']}" for p in packages}
refs[root] = f"pkg:cargo/admit@{version}"

components = []
for package in packages:
    component = {"type": "library", "bom-ref": refs[package["id"]], "name": package["name"], "version": package["version"], "purl": refs[package["id"]]}
    if package["license"]:
        component["licenses"] = [{"expression": package["license"].replace("/", " OR ")}]
    checksum = checksums.get((package["name"], package["version"]))
    if checksum:
        component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
    components.append(component)
dependencies = [
    {"ref": refs[here], "dependsOn": sorted(refs[dep["pkg"]] for dep in nodes[here]["deps"] if dep["pkg"] in seen and any(kind["kind"] != "dev" for kind in dep["dep_kinds"]))}
    for here in sorted(seen, key=lambda one: refs[one])
]
bom = {
    "bomFormat": "CycloneDX",
    "specVersion": "1.6",
    "version": 1,
    "metadata": {
        "component": {
            "type": "application", "bom-ref": refs[root], "name": "admit", "version": version, "purl": refs[root],
            "licenses": [{"expression": "MIT OR Apache-2.0"}],
            "properties": [{"name": "admit:commit", "value": commit}, {"name": "admit:target", "value": host}],
        }
    },
    "components": components,
    "dependencies": dependencies,
}
(out / "admit.cdx.json").write_text(json.dumps(bom, indent=2, sort_keys=True) + "\n")

with open(out / "LICENSES-THIRD-PARTY.txt", "w") as text:
    text.write("The crates that admit is made of, with their licences.\n")
    for package in packages:
        text.write(f"\n{'=' * 100}\n{package['name']} {package['version']}: {package['license'] or 'see below'}\n")
        place = Path(package["manifest_path"]).parent
        for file in sorted(place.iterdir()):
            if file.is_file() and file.name.upper().startswith(("LICENSE", "LICENCE", "COPYING", "NOTICE", "UNLICENSE")):
                text.write(f"\n--- {file.name}\n\n{file.read_text(errors='replace').strip()}\n")
