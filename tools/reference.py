#!/usr/bin/env python3
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later

"""Writes docs/reference from the roles' argument specs, the plugins' documentation and the code that resolves sites."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT / "docs" / "reference"
COLLECTIONS = ROOT / ".collections"
COLLECTION = "nearby.mirrors"
KINDS = {"role": "roles", "module": "plugins/modules", "lookup": "plugins/lookup", "filter": "plugins/filter"}
NOTE = "<!-- Made by tools/reference.py; edit what it reads, and run it again. -->\n"
# A site of every type, below names that are reserved for examples.
EXAMPLE = [
    {"type": "pypi", "upstream": "https://index.example.org", "origins": ["https://files.example.org"]},
    {"type": "npm", "upstream": "https://registry.example.org", "origins": []},
    {"type": "golang", "upstream": "https://proxy.example.org"},
    {"type": "rpm", "upstream": "https://rpm.example.org/pub"},
    {"type": "maven", "upstream": "https://repository.example.org/maven2"},
    {"type": "cargo", "upstream": "https://crates.example.org", "origins": ["https://files.example.org"]},
    {"type": "deb", "name": "debian", "upstream": "http://archive.example.org/debian", "suites": ["stable", "stable-updates"]},
    {"type": "gem", "upstream": "https://gems.example.org"},
    {"type": "generic", "name": "tools", "upstream": "https://downloads.example.org/tools", "immutable": [r"v[0-9.]+/.*"]},
]
LEARNT = {"debian": {"components": ["main", "contrib"], "vendor": "debian"}}


def markup(text: str) -> str:
    """Ansible's semantic markup as Markdown; source: ansible-core, "Ansible markup"."""
    text = re.sub(r"\b[OCVE]\((?:ignore:)?((?:\\.|[^)\\])*)\)|\bRV\(((?:\\.|[^)\\])*)\)", lambda m: code(m[1] or m[2] or ""), text)
    text = re.sub(
        rf"\b[MP]\({re.escape(COLLECTION)}\.(\w+)(?:#(\w+))?\)", lambda m: f"[`{COLLECTION}.{m[1]}`]({m[2] or 'module'}-{m[1]}.md)", text
    )
    return re.sub(r"\bL\(([^,)]+), ?([^)]+)\)", r"[\1](\2)", text)


def code(text: str) -> str:
    plain = re.sub(r"\\(.)", r"\1", text)
    return f"`{plain}`" if plain else "empty"


def sentences(description: str | list[str] | None) -> list[str]:
    return [markup(part.strip()) for part in ([description] if isinstance(description, str) else description or [])]


def cell(lines: list[str]) -> str:
    return "<br>".join(lines).replace("|", r"\|").replace("\n", " ")


def value(given: Any) -> str:
    return code(given if isinstance(given, str) and given else json.dumps(given))


def flat(options: Mapping[str, Any], inner: str, prefix: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Options or return values with those inside them, each under its full name."""
    for name, option in options.items():
        yield f"{prefix}{name}", option
        below = option.get(inner) or {}
        yield from flat(below, inner, f"{prefix}{name}{'[]' if option.get('type') == 'list' else ''}.")


def type_of(option: Mapping[str, Any]) -> str:
    elements = f" of {option['elements']}" if option.get("elements") not in (None, "raw") else ""
    return f"{option.get('type', 'str')}{elements}"


def options_table(options: Mapping[str, Any]) -> str:
    rows = ["| Option | Type | Default | What it says |", "|---|---|---|---|"]
    for name, option in flat(options, "options" if any("options" in entry for entry in options.values()) else "suboptions"):
        lines = sentences(option.get("description"))
        if option.get("choices"):
            lines.append(f"One of {', '.join(value(choice) for choice in option['choices'])}.")
        default = "required" if option.get("required") else value(option["default"]) if option.get("default") is not None else ""
        rows.append(f"| `{name}` | {type_of(option)} | {default} | {cell(lines)} |")
    return "\n".join(rows)


def returns_table(returned: Mapping[str, Any]) -> str:
    rows = ["| Key | Type | Returned | What it says |", "|---|---|---|---|"]
    for name, entry in flat(returned, "contains"):
        rows.append(f"| `{name}` | {type_of(entry)} | {markup(entry.get('returned', ''))} | {cell(sentences(entry.get('description')))} |")
    return "\n".join(rows)


def paragraphs(title: str, *parts: str) -> str:
    return "\n\n".join([NOTE + f"# {title}", *(part for part in parts if part)]) + "\n"


def listed(description: str | list[str] | None) -> str:
    return "\n".join(f"- {line}" for line in sentences(description))


def role_page(name: str, main: Mapping[str, Any]) -> str:
    described = [f"Role. {markup(main['short_description'])}.", listed(main.get("description"))]
    return paragraphs(f"{COLLECTION}.{name}", *described, "## Variables", options_table(main["options"]))


def plugin_page(kind: str, name: str, entry: Mapping[str, Any]) -> str:
    doc = entry["doc"]
    attributes = [
        f"- `{key}`: {attribute['support']}. {' '.join(sentences(attribute.get('description')))}"
        for key, attribute in (doc.get("attributes") or {}).items()
    ]
    notes = "## Notes\n\n" + listed(doc["notes"]) if doc.get("notes") else ""
    return paragraphs(
        f"{COLLECTION}.{name}",
        f"{kind.capitalize()}. {markup(doc['short_description']).rstrip('.')}.",
        listed(doc["description"]),
        "## Options\n\n" + options_table(doc["options"]) if doc.get("options") else "",
        "## Returns\n\n" + returns_table(entry["return"]) if entry.get("return") else "",
        "## Attributes\n\n" + "\n".join(attributes) if attributes else "",
        notes,
        "## Examples\n\n```yaml\n" + entry["examples"].strip("\n") + "\n```" if entry.get("examples") else "",
    )


def site_page() -> str:
    """What the lookup returns and what a mirror publishes, as this code makes them."""
    sys.path.insert(0, str(COLLECTIONS))
    from ansible_collections.nearby.mirrors.plugins.module_utils import mirror_document as code_of_document
    from ansible_collections.nearby.mirrors.plugins.module_utils import sites as code_of_sites

    sites = code_of_sites.resolve_sites(EXAMPLE, lambda _type: None, LEARNT, [], 80)
    document = code_of_document.build(sites, "mirror01.region-a.example.org", "region-a", "http://mirror01.region-a.example.org", "nginx")

    def dumped(data: Any) -> str:
        return yaml.safe_dump(data, sort_keys=False, width=120)

    return paragraphs(
        "Sites, resolved and published",
        "What an operator writes as `mirror_sites`:",
        f"```yaml\n{dumped(EXAMPLE)}```",
        "## Resolved sites",
        f"What the lookup [`{COLLECTION}.sites`](lookup-sites.md) makes of it and of what was learnt from the registries; "
        "the engine's configuration is rendered from this.",
        f"```yaml\n{dumped(sites)}```",
        "## Mirror document",
        "What the mirror publishes at `/mirror.json`. It is the one contract between a mirror and everything that uses it. "
        "`mirror_info` has the shape of Zuul's `zuul_site_mirror_info`.",
        f"```json\n{json.dumps(document, indent=2)}\n```",
    )


def engines_page() -> str:
    """The limits of each engine, from the list that the behaviour table and preflight read."""
    from ansible_collections.nearby.mirrors.plugins.module_utils.engines import ENGINES

    return paragraphs(
        "Engines, and what they cannot do",
        "Both render every route, and hold what a mirror promises (`tests/behaviour`), but for what stands here. A site that asks by an "
        "option of its own for what an engine lacks is refused.",
        *(
            f"## {engine.capitalize()}\n\n| limit | |\n|---|---|\n" + "\n".join(f"| {limit.key} | {limit.sentence} |" for limit in limits)
            for engine, limits in ENGINES.items()
        ),
    )


def documented(kind: str, names: list[str]) -> dict[str, Any]:
    """By name, a role's argument spec, in its own order, or what ansible-doc says of a plugin."""
    if kind == "role":
        specs = {name: (ROOT / f"roles/{name}/meta/argument_specs.yml").read_text(encoding="utf-8") for name in names}
        return {name: yaml.safe_load(text)["argument_specs"]["main"] for name, text in specs.items()}
    environment = {**os.environ, "ANSIBLE_COLLECTIONS_PATH": str(COLLECTIONS), "ANSIBLE_NOCOLOR": "1"}
    command = [str(Path(sys.executable).parent / "ansible-doc"), "--json", "--type", kind, *(f"{COLLECTION}.{name}" for name in names)]
    answer = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=False)
    if answer.returncode:
        raise SystemExit(f"{' '.join(command)} failed: {answer.stderr.strip()}")
    return {name.removeprefix(f"{COLLECTION}."): entry for name, entry in json.loads(answer.stdout).items()}


def names_of(kind: str) -> list[str]:
    entries = (ROOT / KINDS[kind]).iterdir()
    return sorted(
        entry.stem for entry in entries if (entry.is_dir() if kind == "role" else entry.suffix == ".py") and entry.stem[0] not in "_."
    )


def pages() -> dict[str, str]:
    """All pages by their file names, as they should be."""
    found, index = {}, []
    for kind in KINDS:
        names = names_of(kind)
        index.append(f"\n## {kind.capitalize()}s\n")
        for name, entry in sorted(documented(kind, names).items()):
            found[f"{kind}-{name}.md"] = role_page(name, entry) if kind == "role" else plugin_page(kind, name, entry)
            short = entry.get("doc", entry)["short_description"]
            index.append(f"- [`{COLLECTION}.{name}`]({kind}-{name}.md): {markup(short).rstrip('.')}")
    index.append("\n## Shapes\n\n- [Sites, resolved and published](site.md)\n- [Engines, and what they cannot do](engines.md)")
    found["site.md"] = site_page()
    found["engines.md"] = engines_page()
    found["README.md"] = NOTE + "# Reference\n" + "\n".join(index) + "\n"
    return found


def main() -> None:
    wanted = pages()
    FOLDER.mkdir(parents=True, exist_ok=True)
    for name, text in wanted.items():
        (FOLDER / name).write_text(text, encoding="utf-8")
    for stale in set(FOLDER.glob("*.md")) - {FOLDER / name for name in wanted}:
        stale.unlink()


if __name__ == "__main__":
    main()
