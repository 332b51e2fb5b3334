# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write clients' configuration files so that the first originals can be put back, byte for byte.

`<saved>/state.json` holds what was there before the first run:

    {"version": 1, "directories": [path, ...],
     "files": {path: {"before": entry, "written": [sha256, ...], "ours": text}}}

An entry is `{"kind": "absent"}` or `{"kind": "file" or "link", "target", "mode" (octal), "uid", "gid", "mtime_ns",
"content" (base64)}`; what a link leads to is kept as its content. Paths are as the configured system sees them, without
`root`, so an image that was configured from outside can be put back from inside.
"""

from __future__ import annotations

import base64
import configparser
import contextlib
import fnmatch
import glob
import hashlib
import json
import os
import re
import shlex
import stat
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import ModuleType
from typing import Any
from xml.etree import ElementTree

from . import apt

tomllib: ModuleType | None
try:
    import tomllib
except ImportError:  # Python 3.10 and older
    tomllib = None

VERSION = 1
LISTS = ("trusted-host",)
EXISTING = ("apt", "rpm")  # what is merged into files that are there, and makes none
GEM_SOURCES = ":sources:"
NPMRC = "/etc/npmrc"  # what NPM_CONFIG_GLOBALCONFIG names
MAX_LINKS = 16


class ConfigError(Exception):
    """Nothing was changed. The text is one sentence without a full stop."""


# -- what a file should say ---------------------------------------------------------------------------------------


def merge_nothing(base: str, ours: str, old: str = "") -> str:
    """The file is ours alone."""
    return ours


def merge_pip(base: str, ours: str, old: str = "") -> str:
    """`base` with the options of `ours` set; everything else, comments and order too, stays as it is.

    Options in LISTS gain our values and lose those of `old`, what an earlier run had added. Source: pip, "Configuration".
    Raises ConfigError where `base` is not what pip reads.
    """
    if not base.strip():
        return ours
    before, wanted, former = (_pip_options(text) for text in (base, ours, old))
    expected = dict(before)
    for key in {**former, **wanted}:
        value = wanted.get(key)
        if key[1] in LISTS:
            gone, added = former.get(key, "").split(), (value or "").split()
            kept = [item for item in before.get(key, "").split() if item not in gone and item not in added]
            value = " ".join(kept + added) or None
        elif key not in wanted:
            continue
        expected.pop(key, None)
        if value is not None:
            expected[key] = value
    lines = base.splitlines(keepends=True)
    for key in {**former, **wanted}:
        if expected.get(key) != before.get(key):
            lines = _set_pip_option(lines, key, expected.get(key))
    text = "".join(lines)
    if _pip_options(text) != expected:
        raise ConfigError("has a form that cannot be merged with the mirror's settings; put its options into plain lines")
    return text


def _pip_options(text: str) -> dict[tuple[str, str], str]:
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
    except configparser.Error as error:
        raise ConfigError(f"is not a configuration that pip reads ({_one_line(error)})") from error
    return {(section, _pip_name(name)): value for section in parser.sections() for name, value in parser.items(section)}


def _pip_name(name: str) -> str:
    name = name.strip().lower().replace("_", "-")
    return name[2:] if name.startswith("--") else name


def _pip_lines(lines: Iterable[str]) -> Iterator[tuple[str, str, str]]:
    """`(section, option, line)`; the option is "" for headers, comments and empty lines. Nesting as in configparser."""
    section = option = ""
    depth = 0
    for line in lines:
        content, indent = line.strip(), len(line) - len(line.lstrip())
        if not content or content[0] in "#;":
            yield section, "", line
        elif option and indent > depth:
            yield section, option, line
        elif content.startswith("[") and "]" in content:
            section, option = content[1 : content.rindex("]")], ""
            yield section, "", line
        else:
            option, depth = _pip_name(re.split("[=:]", content, maxsplit=1)[0]), indent
            yield section, option, line


def _set_pip_option(lines: list[str], key: tuple[str, str], value: str | None) -> list[str]:
    """The lines with the option set, at its present place or right below its section's header; None removes it.

    It is indented like its neighbours, since configparser takes what is indented deeper for a continuation.
    """
    newline = "\r\n" if any(line.endswith("\r\n") for line in lines) else "\n"
    result: list[str] = []
    place = header = -1
    indent = None
    for section, option, line in _pip_lines(lines):
        if section == key[0] and option and (indent is None or place < 0 and option == key[1]):
            indent = line[: len(line) - len(line.lstrip())]
        if (section, option) == key:
            place = len(result) if place < 0 else place
            continue
        result.append(line if line.endswith("\n") else line + newline)
        if section == key[0] and header < 0:
            header = len(result)
    if value is None:
        return result
    if place < 0 and header < 0:
        result.append(f"[{key[0]}]{newline}")
        header = len(result)
    place = header if place < 0 else place
    return result[:place] + [f"{indent or ''}{key[1]} = {value}{newline}"] + result[place:]


def merge_uv(base: str, ours: str, old: str = "") -> str:
    """`base` with our `[[index]]` in front of every table, so that it is the first of the default indexes: uv uses
    that one. What an earlier run had put in (`old`) is taken out. Raises ConfigError.

    Source: uv, "Configuration files" and "Package indexes".
    """
    if old:
        base = base.replace(old + "\n", "").replace(old, "")
    if not base.strip():
        return ours
    before = _toml(base)
    if re.search(r"(?m)^\s*index\s*=", base):
        raise ConfigError("defines index as an inline list; write [[index]] tables instead")
    lines = base.splitlines(keepends=True)
    header = re.compile(r"\s*\[{1,2}\s*[\w.\"' -]+\s*\]{1,2}\s*(#.*)?$")
    place = next((at for at, line in enumerate(lines) if header.match(line)), len(lines))
    while 0 < place < len(lines) and lines[place - 1].lstrip().startswith("#"):
        place -= 1
    head, tail = "".join(lines[:place]), "".join(lines[place:])
    if head and not head.endswith("\n"):
        head += "\n"
    text = head + ours + ("\n" + tail if tail else "")
    if before is not None:
        expected = dict(before, index=(_toml(ours) or {}).get("index", []) + before.get("index", []))
        if _toml(text) != expected:
            raise ConfigError("has a form that cannot be merged with the mirror's index; put [[index]] tables last")
    return text


# An option, with the lines that go on with its value.
_BASEURL = re.compile(r"(?m)^(baseurl[ \t]*=[ \t]*)(.*(?:\n[ \t]+\S.*)*)")
_CREDENTIALS = re.compile(r"(?m)^(?:username|password|sslclientcert|sslclientkey)[ \t]*=[ \t]*\S")
_DISABLED = re.compile(r"(?m)^enabled[ \t]*=[ \t]*(?:0|no|false|off)\b")
_LISTED = re.compile(r"(?m)^(metalink|mirrorlist)[ \t]*=[ \t]*\S")
_SERVERS = re.compile(r"(?m)^(?:baseurl|metalink|mirrorlist)[ \t]*=.*(?:\n[ \t]+\S.*)*")
_ASIDE = "# nearby-mirrors: "


def merge_rpm(base: str, ours: str, old: str = "") -> str:
    """`base` with the mirror's URL in front of the URLs of each repository that it mirrors; everything else stays, to the byte.

    `ours` has a line `<upstream> <mirror's URL>` for each site, and so has `old`, by which an earlier run did the same. dnf tries
    the URLs of a `baseurl` in their order, and none of them where there is a list of mirrors: so a list becomes a comment, behind a
    `baseurl`, where `ours` has a line `[<repository>] <its URLs>`. What is fetched with credentials is left alone: they would go to
    the mirror. Source: dnf.conf(5).
    """
    named = {line.partition(" ")[0]: line.partition(" ")[2] for line in reversed(ours.splitlines())}

    def section(text: str) -> str:
        text = re.sub(rf"(?m)^baseurl=.*\n(?={_ASIDE})|^{_ASIDE}", "", text)
        new = "" if _CREDENTIALS.search(text) or _LISTED.search(text) else ours
        urls = named.get(text.partition("]")[0] + "]")
        if urls and not new and not _CREDENTIALS.search(text):
            text = _SERVERS.sub(lambda match: re.sub("(?m)^", _ASIDE, match[0]), text)
            return text.replace(_ASIDE, f"baseurl={urls}\n{_ASIDE}", 1)

        def fronted(match: re.Match[str]) -> str:
            value = match[2]
            if former := " ".join(_mirrored(value, old)):
                value = value.removeprefix(former).removeprefix(" ") if value.startswith(former) else value
            added = " ".join(url for url in _mirrored(value, new) if url not in re.split(r"[\s,]+", value))
            return match[1] + added + (" " if added and value[:1].strip() else "") + value

        return _BASEURL.sub(fronted, text)

    return "".join(section(text) for text in _sections(base))


def _sections(text: str) -> list[str]:
    return re.split(r"(?m)^(?=\[)", text)


def _mirrored(value: str, sites: str) -> list[str]:
    """What the mirror has of the URLs in a `baseurl`, by the deepest upstream that each is below, whatever its scheme."""
    pairs = sorted((line.split() for line in sites.splitlines() if line.startswith("http")), key=lambda pair: -len(pair[0]))
    found = []
    for url in re.split(r"[\s,]+", value):
        for upstream, mirror in pairs:
            below = re.fullmatch(rf"https?{re.escape(upstream[upstream.index(':') :])}(?:/(.*))?", url)
            if below:
                found.append(mirror + (below[1] or ""))
                break
    return found


def merge_cargo(base: str, ours: str, old: str = "") -> str:
    """`base` with the tables of `ours` after all others, and in the place of those that have their names. What an earlier run
    had put in (`old`) is taken out. Raises ConfigError.

    Source: the Cargo book, "Configuration" and "Source Replacement".
    """
    if old:
        base = base.replace("\n" + old, "").replace(old, "")
    if not base.strip():
        return ours
    before, wanted = _toml(base), _toml(ours)
    text = "".join(_without_tables(base, ours))
    text += ("" if text.endswith("\n") or not text else "\n") + ("\n" if text else "") + ours
    if before is not None and wanted is not None:
        sources = before.get("source", {}) | wanted["source"]
        with contextlib.suppress(ConfigError):
            if _toml(text) == before | {"source": sources}:
                return text
        raise ConfigError("has a form that cannot be merged with the mirror's source; write its sources as [source.<name>] tables")
    return text


def merge_buildkit(base: str, ours: str, old: str = "") -> str:
    """`base` with those tables of `ours` after all others whose names it has not: what it says of a registry may be how that one is
    trusted. What an earlier run had put in (`old`) is taken out. Raises ConfigError.

    Source: BuildKit, "buildkitd.toml".
    """
    note, *tables = _sections(ours)
    for table in _sections(old)[1:]:
        base = base.replace(table, "")
    base = "" if base == note else base.removesuffix("\n" + note)
    if not base.strip():
        return ours
    before, wanted = _toml(base), _toml(ours)
    named = {_table(line).split(".keypair]")[0].strip("[]") for line in base.splitlines()}
    added = "".join(table for table in tables if _table(table.splitlines()[0]).strip("[]") not in named)
    if not added:
        return base
    text = base + ("" if base.endswith("\n") else "\n") + "\n" + note + added
    if before is not None and wanted is not None:
        with contextlib.suppress(ConfigError):
            if _toml(text) == before | {"registry": wanted["registry"] | before.get("registry", {})}:
                return text
        raise ConfigError("has a form that cannot be merged with the mirror's registries; write its own as [registry.<name>] tables")
    return text


def merge_containerd(base: str, ours: str, old: str = "") -> str:
    """`base` with our host in front of its own, which is the order that containerd asks them in; all else stays, its `server` too.
    What an earlier run had put in (`old`) is taken out. Raises ConfigError.

    Source: containerd, "Registry Configuration".
    """
    if old:
        base = base.replace(_host(old) + "\n", "").replace(_host(old), "")
    if not base.strip():
        return ours
    before, wanted = _toml(base), _toml(ours)
    lines = _without_tables(base, ours)
    place = next((at for at, line in enumerate(lines) if _table(line)), len(lines))
    while 0 < place < len(lines) and lines[place - 1].lstrip().startswith("#"):
        place -= 1
    head, tail = "".join(lines[:place]), "".join(lines[place:])
    head += "" if not head or head.endswith("\n") else "\n"
    text = head + _host(ours) + ("\n" + tail if tail else "")
    if before is not None and wanted is not None:
        with contextlib.suppress(ConfigError):
            if _toml(text) == before | {"host": before.get("host", {}) | wanted["host"]}:
                return text
        raise ConfigError("has a form that cannot be merged with the mirror's host; write its hosts as [host.<name>] tables")
    return text


def _host(text: str) -> str:
    """The table of our host, in what is written where there was nothing."""
    return text[text.index("[host.") :]


def hosts_of_containerd(folder: str, text: str) -> Iterator[tuple[str, str]]:
    """The file of each registry below `folder`, and what it says where there was none before.

    `text` has a line `<registry> <mirror's URL> <upstream>` for each. The URL has the path that containerd would add.
    """
    note = "".join(line for line in text.splitlines(keepends=True) if line.startswith("#"))
    for registry, mirror, upstream in (line.split() for line in text.splitlines() if line and not line.startswith("#")):
        host = f'[host."{mirror.rstrip("/")}"]\ncapabilities = ["pull", "resolve"]\noverride_path = true\n'
        yield f"{folder}/{registry}/hosts.toml", f'{note}server = "{upstream}"\n\n{host}'


def _without_tables(text: str, ours: str) -> list[str]:
    """The lines of `text` but for its tables that have the names of those in `ours`; comments stay."""
    named = {_table(line) for line in ours.splitlines()} - {""}
    kept, table = [], ""
    for line in text.splitlines(keepends=True):
        table = _table(line) or table
        if table not in named or line.lstrip().startswith("#"):
            kept.append(line)
    return kept


def merge_docker(base: str, ours: str, old: str = "") -> str:
    """`base` with what the lists of `ours` have in front of its own; all else stays. What an earlier run had put in (`old`) is taken
    out. Raises ConfigError.

    Source: Docker, "dockerd", "Daemon configuration file".
    """
    if not base.strip():
        return ours
    settings, wanted, former = (_settings(text or "{}") for text in (base, ours, old))
    merged = dict(settings)
    for name in {**former, **wanted}:
        there = settings.get(name, [])
        if not isinstance(there, list):
            raise ConfigError(f"has {name} as no list; make it one")
        front = wanted.get(name, [])
        merged[name] = front + [value for value in there if value not in front + former.get(name, [])]
        if not merged[name]:
            del merged[name]
    return base if merged == settings else json.dumps(merged, indent=4, ensure_ascii=False) + "\n"


def _settings(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except ValueError as error:
        raise ConfigError(f"is not valid JSON ({_one_line(error)})") from error
    if not isinstance(found, dict):
        raise ConfigError("is not a JSON object")
    return found


def _table(line: str) -> str:
    """The header of a table without its spaces, quotes and comment; empty where the line is none."""
    return re.sub(r"[\s\"']|#.*", "", line) if line.lstrip().startswith("[") else ""


def _toml(text: str) -> dict[str, Any] | None:
    if tomllib is None:
        return None
    try:
        return tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"is not valid TOML ({_one_line(error)})") from error


def merge_options(base: str, ours: str, old: str = "") -> str:
    """`base` with our lines of `name=value` in place of its own; all others stay, but for those that an earlier run had put in (`old`).

    Source: npm, "npmrc"; pam_env(8), which takes `export name=value`, too; go, "GOENV".
    """
    set_here, gone = {_option(line) for line in ours.splitlines()}, old.splitlines()
    lines = base.splitlines(keepends=True)
    return ours + "".join(line for line in lines if _option(line) not in set_here and line.rstrip("\r\n") not in gone)


def _option(line: str) -> str:
    """The name in a line of `name=value`; of another one, such as a comment, the whole."""
    return line.partition("=")[0].strip().removeprefix("export ").strip()


YARN_LISTS = ("unsafeHttpWhitelist",)
_YARN_SETTING = re.compile(r"(\"|'|)([A-Za-z]\w*)\1:(?=\s)")
_YARN_ADVICE = "has a form that cannot be merged with the mirror's settings; put each of its settings and items on a line of its own"


def merge_yarn(base: str, ours: str, old: str = "") -> str:
    """`base` with our settings in place of its own, and our items in front of those of YARN_LISTS; all others stay. What an earlier run
    had put in (`old`) is taken out.

    Source: yarn, "Settings (.yarnrc.yml)". Raises ConfigError where `base` is not in plain lines.
    """
    named, gone = dict(_yarn_settings(ours)), dict(_yarn_settings(old))
    text, theirs = "", dict.fromkeys(named, "")
    for name, block in _yarn_settings(base):
        if name in named:
            theirs[name] += block
        elif gone.get(name) != block:
            text += block
    for name, block in named.items():
        text += block
        if name in YARN_LISTS:
            without = _yarn_items(block) + _yarn_items(gone.get(name, ""))
            text += "".join(f'  - "{item}"\n' for item in _yarn_items(theirs[name]) if item not in without)
    return text


def _yarn_settings(text: str) -> list[list[str]]:
    """Name and lines of each setting at the left margin; a comment between two of them has no name.

    Python's own library reads no YAML, so what is not plain is refused. Raises ConfigError.
    """
    found: list[list[str]] = []
    for line in text.splitlines():
        setting = _YARN_SETTING.match(line + "\n")
        if setting:
            found.append([setting[2], ""])
        elif line.startswith("#") or line.strip() in ("", "---") and not any(name for name, _block in found):
            found.append(["", ""])
        elif line[:1].isspace() or line.startswith("- "):
            within = ""
            while found and not found[-1][0]:
                within = found.pop()[1] + within
            if not found:
                raise ConfigError(_YARN_ADVICE)
            found[-1][1] += within
        elif line:
            raise ConfigError(_YARN_ADVICE)
        found[-1][1] += line + "\n"
    return found


def _yarn_items(block: str) -> list[str]:
    """The items of a list, in either form of YAML. Raises ConfigError."""
    value = re.sub(r"(?m)(?:^|\s)#.*$", "", block.partition(":")[2]).strip()
    lines = value.strip("[]").split(",") if re.fullmatch(r"\[[^][{}]*\]", value) else value.splitlines()
    items = [line.strip().removeprefix("- ").strip().strip("\"'") for line in lines if line.strip()]
    if value[:1] not in ("", "[", "-") or not all(re.fullmatch(r"[\w.:*?\[\]-]+", item) for item in items):
        raise ConfigError(_YARN_ADVICE)
    return items


MAVEN_ID = "nearby-mirrors"


def merge_maven(base: str, ours: str, old: str = "") -> str:
    """`base` with our `<mirror>` in front of all others, in the place of an earlier run's; everything else stays as it is.

    Of the mirrors that name a repository Maven uses the first, and any of them rather than one with a pattern. Source: Maven,
    "Settings Reference" and "Using Mirrors for Repositories". Raises ConfigError where `base` is not what Maven reads.
    """
    if not base.strip():
        return ours
    (rest, mirrors), (_rest, wanted) = _maven_settings(base), _maven_settings(ours)
    # What only looks like an element is blanked, so that all places stay the same.
    plain = re.sub(r"(?s)<!--.*?-->|<!\[CDATA\[.*?\]\]>", lambda found: " " * len(found[0]), base)
    earlier = rf"(?s)\s*<mirror>(?:(?!</mirror>).)*<id>\s*{MAVEN_ID}\s*</id>.*?</mirror>"
    for found in reversed(list(re.finditer(earlier, plain))):
        base, plain = (text[: found.start()] + text[found.end() :] for text in (base, plain))
    inner, whole = (re.findall(rf"(?s){part}", ours)[0] for part in (r"(?<=<mirrors>).*</mirror>", r" *<mirrors>.*</mirrors>\n"))
    for place, added in (r"(?<=<mirrors>)", inner), (r" *<mirrors */>\r?\n?", whole), (r"(?=</settings>)", whole):
        if there := re.search(place, plain):
            newline = "\r\n" if "\r\n" in base else "\n"
            base = base[: there.start()] + added.replace("\n", newline) + base[there.end() :]
            break
    kept = [mirror for mirror in mirrors if f"<id>{MAVEN_ID}</id>" not in mirror]
    if _maven_settings(base) != (rest, wanted + kept):
        raise ConfigError("has a form that cannot be merged with the mirror's settings; give it one plain <mirrors> element")
    return base


def _maven_settings(text: str) -> tuple[list[str], list[str]]:
    """All elements but the mirrors, and the mirrors, each in one form without namespaces and comments. Raises ConfigError."""
    try:
        root = ElementTree.fromstring(text.encode("utf-8", "surrogateescape"))
    except (ElementTree.ParseError, LookupError, ValueError) as error:
        raise ConfigError(f"is not well-formed XML ({_one_line(error)})") from error
    for element in root.iter():
        element.tag, element.tail = element.tag.rpartition("}")[2], None
    if root.tag != "settings":
        raise ConfigError(f"is not a settings file of Maven: it holds <{root.tag}>")

    def told(elements: Iterable[ElementTree.Element]) -> list[str]:
        return [ElementTree.canonicalize(ElementTree.tostring(element), strip_text=True) for element in elements]

    return told(element for element in root if element.tag != "mirrors"), told(root.iterfind("mirrors[1]/*"))


def merge_gem(base: str, ours: str, old: str = "") -> str:
    """`base` with our source in front of its own ones; gone are that of `old`, what an earlier run had put in, and the registry that
    the mirror stands in for, which a comment of `ours` names. All else stays as it is. Raises ConfigError.

    Source: `gem help environment`, "Configuration".
    """
    if old:
        base = base.replace(old[: old.index(GEM_SOURCES)], "")
    if not base.strip():
        return ours
    start, end, entries = _gem_sources(base)
    gone = [*_gem_urls(ours), *_gem_urls(old), *re.findall(r"(?m)^# In the place of (\S+)$", ours)]
    kept = [line for url, line in entries if url.rstrip("/") not in [other.rstrip("/") for other in gone]]
    lines = base.splitlines(keepends=True)
    head = "".join(lines[:start])
    if head and not head.endswith("\n"):
        head += "\n"
    return head + ours + "".join(kept) + "".join(lines[end:])


def _gem_sources(text: str) -> tuple[int, int, list[tuple[str, str]]]:
    """The lines from and to which `:sources:` is said, the end where it is not, and `(url, line)` of each. Raises ConfigError."""
    lines = text.splitlines()
    strange = next((line for line in lines if not re.match(r"---\s*(#|$)|:?[\w-]+:(\s|$)|\s|-\s|#|$", line)), None)
    if strange is not None:
        raise ConfigError(f"is not a configuration that gem reads ({strange[:60]!r})")
    places = [number for number, line in enumerate(lines) if re.match(rf"{GEM_SOURCES}(\s|$)", line)]
    if not places:
        return len(lines), len(lines), []
    start = end = places[0]
    value = lines[start][len(GEM_SOURCES) :].strip()
    inline = re.fullmatch(r"\[(.*)\]\s*(?:#.*)?", value)
    found = [f"- {item.strip()}" for item in inline[1].split(",") if item.strip()] if inline else []
    for number in range(start + 1, len(lines)):
        if re.match(r"\s*-\s", lines[number]):
            found += [line.strip() for line in lines[end + 1 : number + 1] if line.strip()]
            end = number
        elif lines[number].strip() and not lines[number].lstrip().startswith("#"):
            break
    entries = [(_gem_url(line), line + "\n") for line in found]
    if len(places) > 1 or value[:1] not in ("", "#", "[") or (value[:1] == "[" and not inline) or None in [url for url, _line in entries]:
        raise ConfigError("names sources in a form that cannot be merged; put each of them on a line of its own")
    return start, end + 1, [(url or "", line) for url, line in entries]


def _gem_url(line: str) -> str | None:
    """Of a line of a list; empty for a comment, None for what is no plain text."""
    match = re.fullmatch(r"""-\s+(?:"([^"\s]+)"|'([^'\s]+)'|([^\s"'&*!|>{\[][^\s]*))(?:\s+#.*)?""", line)
    return "" if line.startswith("#") else next(filter(None, match.groups())) if match else None


def _gem_urls(text: str) -> list[str]:
    return [url for url, _line in _gem_sources(text)[2] if url]


MERGES: dict[str, Callable[[str, str, str], str]] = {
    "none": merge_nothing,
    "environment": merge_nothing,
    "variables": merge_options,
    "pip": merge_pip,
    "uv": merge_uv,
    "npm": merge_options,
    "yarn": merge_yarn,
    "rpm": merge_rpm,
    "cargo": merge_cargo,
    "containerd": merge_containerd,
    "docker": merge_docker,
    "buildkit": merge_buildkit,
    "maven": merge_maven,
    "apt": apt.merge_apt,
    "gem": merge_gem,
}


def without_npmrc(text: str) -> str:
    """`text` without NPM_CONFIG_GLOBALCONFIG, which would hide the options of another file for all of a node's npms."""
    return re.sub(r"(?m)^(?:export |)NPM_CONFIG_GLOBALCONFIG=.*\n", "", text)


def with_trusted_hosts(text: str, hosts: Sequence[str]) -> str:
    """`text` with PIP_TRUSTED_HOST extended by `hosts`: the variable hides the option of pip.conf instead of adding to
    it, and what pip.conf trusts has to stay trusted.
    """

    def extended(match: re.Match[str]) -> str:
        export, value = match.group(1), shlex.split(match.group(2)) if match.group(1) else match.group(2).split()
        union = " ".join([host for host in hosts if host not in value] + list(value))
        return f"{export}PIP_TRUSTED_HOST={shlex.quote(union) if export else union}"

    return re.sub(r"(?m)^(export |)PIP_TRUSTED_HOST=(.*)$", extended, text)


def remarks(path: str, merge: str, text: str, ours: str = "") -> list[str]:
    """What in a merged file still leads its client past the mirror, a sentence each."""
    found = []
    if merge == "pip":
        for (section, option), value in _pip_options(text).items():
            name = f"{path}: [{section}] {option}"
            if option == "extra-index-url":
                found.append(name + " is kept, and pip takes packages from there as well as from the mirror")
            elif option == "no-index" and value.strip().lower() not in ("false", "no", "off", "0", ""):
                found.append(name + " is kept, and pip asks no index at all, not even the mirror")
            elif option == "index-url" and section != "global":
                found.append(name + " is kept, and pip prefers it to the mirror")
    elif merge == "npm":
        for scope in re.findall(r"(?m)^\s*(@[^:\s]+):registry\s*=", text):
            found.append(f"{path}: the registry of {scope} is kept, and npm takes its packages from there")
    elif merge == "uv":
        parsed = _toml(text) or {}
        others = [str(index.get("url")) for index in parsed.get("index", []) if not index.get("default")]
        for url in others + list(parsed.get("extra-index-url", [])):
            found.append(f"{path}: the index {url} is kept, and uv asks it before the mirror")
        if parsed.get("no-index"):
            found.append(f"{path}: no-index is kept, and uv asks no index at all, not even the mirror")
    elif merge == "rpm":
        for section in _sections(text):
            listed = None if _DISABLED.search(section) else _LISTED.search(section)
            if listed and any(_mirrored(match[2], ours) for match in _BASEURL.finditer(re.sub("(?m)^#[ \\t]*", "", section))):
                advice = "to have it ask the mirror, name it in the repositories of the mirror's site"
                found.append(f"{path}: {section.partition(']')[0]}] is kept, and dnf asks its {listed[1]} and not its baseurl; {advice}")
    elif merge == "cargo" and ((_toml(text) or {}).get("net") or {}).get("offline"):
        found.append(f"{path}: net.offline is kept, and cargo asks no index at all, not even the mirror")
    elif merge == "buildkit":
        told = (_toml(text) or {}).get("registry", {})
        for name, table in ((_toml(ours) or {}) if told else {}).get("registry", {}).items():
            if told[name] != table:
                found.append(f"{path}: what it says of the registry {name} is kept, and buildkitd asks that as it says there")
    elif merge == "maven" and "<offline>true</offline>" in _maven_settings(text)[0]:
        found.append(f"{path}: <offline> is kept, and Maven asks no repository at all, not even the mirror")
    elif merge == "gem":
        for url in _gem_urls(text)[1:]:
            found.append(f"{path}: the source {url} is kept, and gem takes packages from there as well as from the mirror")
    return found


# -- what is on the disk ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Entry:
    """One path: `kind` is absent, file or link. `content` of a link is that of the file it leads to."""

    kind: str = "absent"
    content: bytes = b""
    mode: int = 0o644
    uid: int = -1
    gid: int = -1
    mtime_ns: int = 0
    target: str = ""

    @property
    def text(self) -> str:
        return self.content.decode("utf-8", "surrogateescape")

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.content).hexdigest() if self.kind == "file" else ""

    def same(self, other: Entry) -> bool:
        """Whether both are the same to whoever reads them; the time of change is left out."""
        if self.kind == "file" == other.kind:
            return (self.content, self.mode, self.uid, self.gid) == (other.content, other.mode, other.uid, other.gid)
        return (self.kind, self.target) == (other.kind, other.target)

    def as_json(self) -> dict[str, Any]:
        if self.kind == "absent":
            return {"kind": "absent"}
        return {
            "kind": self.kind,
            "target": self.target,
            "mode": f"{self.mode:04o}",
            "uid": self.uid,
            "gid": self.gid,
            "mtime_ns": self.mtime_ns,
            "content": base64.b64encode(self.content).decode("ascii"),
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Entry:
        if data["kind"] == "absent":
            return cls()
        return cls(
            data["kind"],
            base64.b64decode(data["content"]),
            int(data["mode"], 8),
            data["uid"],
            data["gid"],
            data["mtime_ns"],
            data["target"],
        )


@dataclass(frozen=True)
class Change:
    """One path from `before` to `after`; `action` is the word for it: written, restored, removed, kept or recorded."""

    path: str
    before: Entry
    after: Entry
    action: str


class Tree:
    """The files below `root`, named by the paths that the configured system sees; nothing outside is ever touched."""

    def __init__(self, root: str = "", home: str = "") -> None:
        self.root = os.path.realpath(root).rstrip("/") if root else ""
        self.home = os.path.normpath(home) if home else ""
        if root and (not os.path.isabs(root) or not os.path.isdir(root)):
            raise ConfigError(f"the root {root} (configure_mirrors_root) is not a directory with an absolute path")
        if home and not os.path.isabs(home):
            raise ConfigError(f"the home {home} (configure_mirrors_home) is not an absolute path")

    def absolute(self, path: str) -> str:
        """`path` as the configured system sees it; a relative one is below the home."""
        return os.path.normpath(path if os.path.isabs(path) else os.path.join(self.home, path))

    def private(self, path: str) -> bool:
        return bool(self.home) and self.absolute(path).startswith(self.home + "/")

    def real(self, path: str) -> str:
        """Where `path` is on this host. Raises ConfigError where a link leads out of the root."""
        real = self.root + self.absolute(path)
        if self.root:
            parent = os.path.realpath(os.path.dirname(real))
            if parent != self.root and not parent.startswith(self.root + "/"):
                raise ConfigError(f"{path} leads out of {self.root} by a symbolic link")
        return real

    def read(self, path: str) -> Entry:
        real = self.real(path)
        try:
            status = os.lstat(real)
            target = os.readlink(real) if stat.S_ISLNK(status.st_mode) else ""
            if target:
                end = self._follow(real)
                if not os.path.exists(end):
                    return Entry("link", target=target)
                status, real = os.stat(end), end
            if not stat.S_ISREG(status.st_mode):
                raise ConfigError(f"{path} is not a file")
            with open(real, "rb") as stream:
                content = stream.read()
        except (FileNotFoundError, NotADirectoryError):
            return Entry()
        except OSError as error:
            raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
        mode = stat.S_IMODE(status.st_mode)
        kind = "link" if target else "file"
        return Entry(kind, content, mode, status.st_uid, status.st_gid, status.st_mtime_ns, target)

    def _follow(self, real: str) -> str:
        for _hop in range(MAX_LINKS):
            if not os.path.islink(real):
                return real
            target = os.readlink(real)
            real = self.root + target if os.path.isabs(target) else os.path.join(os.path.dirname(real), target)
            real = self.real(os.path.normpath(real)[len(self.root) :])
        raise ConfigError(f"{real[len(self.root) :]} is a loop of symbolic links")

    def glob(self, pattern: str) -> list[str]:
        """The files that fit a pattern, as `read` wants them."""
        return [path[len(self.root) :] for path in sorted(glob.glob(glob.escape(self.root) + pattern))]

    def exists(self, path: str) -> bool:
        return os.path.lexists(self.real(path))

    def ancestor(self, path: str) -> str:
        """The nearest folder above `path` that is there."""
        folder = os.path.dirname(self.real(path))
        while not os.path.lexists(folder):
            folder = os.path.dirname(folder)
        return folder

    def missing(self, path: str) -> list[str]:
        """The folders above `path` that have to be made, outermost first."""
        found, folder = [], os.path.dirname(self.absolute(path))
        while not os.path.lexists(self.real(folder)) and folder != "/":
            found.append(folder)
            folder = os.path.dirname(folder)
        return found[::-1]

    def check_writable(self, path: str) -> None:
        """Raises ConfigError where `path` could not be written."""
        folder = self.ancestor(path)
        if not os.path.isdir(folder):
            raise ConfigError(f"{path} cannot be written, because {folder} is not a directory")
        if not os.access(folder, os.W_OK | os.X_OK):
            raise ConfigError(f"{path} cannot be written by user {os.geteuid()}: become root, or set configure_mirrors_scope to user")

    def owner(self, path: str) -> tuple[int, int]:
        """Whom a new file at `path` belongs to: the owner of the folder it is put in, as far as this user may say."""
        if os.geteuid() != 0:
            return os.geteuid(), os.getegid()
        status = os.stat(self.ancestor(path))
        return status.st_uid, status.st_gid

    def make_folder(self, path: str, mode: int) -> None:
        real, (uid, gid) = self.real(path), self.owner(path)
        os.mkdir(real)
        os.chmod(real, mode)
        if os.geteuid() == 0:
            os.chown(real, uid, gid)

    def remove_folder(self, path: str) -> None:
        """Remove a folder that is empty; another one stays."""
        with contextlib.suppress(OSError):
            os.rmdir(self.real(path))

    def put(self, path: str, entry: Entry) -> None:
        """Make `path` be `entry`, in one step: a reader sees the old one or the new one."""
        real = self.real(path)
        if entry.kind == "absent":
            if os.path.lexists(real):
                os.unlink(real)
            return
        folder = os.path.dirname(real)
        if entry.kind == "link":
            temporary = os.path.join(folder, f".nearby-{os.getpid()}")
            os.symlink(entry.target, temporary)
        else:
            temporary = self._temporary(folder, entry)
        os.replace(temporary, real)

    @staticmethod
    def _temporary(folder: str, entry: Entry) -> str:
        handle, path = tempfile.mkstemp(prefix=".nearby-", dir=folder)
        try:
            with os.fdopen(handle, "wb") as stream:
                stream.write(entry.content)
                stream.flush()
                os.fsync(stream.fileno())
            status = os.stat(path)
            if (status.st_uid, status.st_gid) != (entry.uid, entry.gid):
                os.chown(path, entry.uid, entry.gid)
            os.chmod(path, entry.mode)
            if entry.mtime_ns:
                os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))
        except OSError:
            os.unlink(path)
            raise
        return path


# -- what is to be done -------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Plan:
    """`changes` in the order in which they are made, `folders` to make before, `obsolete` ones to remove after them if they are empty."""

    changes: list[Change]
    warnings: list[str]
    folders: list[str]
    obsolete: list[str]

    @property
    def changed(self) -> bool:
        return bool(self.changes)

    @property
    def visible(self) -> list[Change]:
        """The changes but for the bookkeeping's own."""
        return [change for change in self.changes if change.action != "recorded"]

    def files(self) -> list[dict[str, str]]:
        return [{"path": change.path, "action": change.action} for change in self.visible]

    def diff(self) -> list[dict[str, str]]:
        return [
            {
                "before_header": _header(change.path, change.before),
                "after_header": _header(change.path, change.after),
                "before": change.before.text,
                "after": change.after.text,
            }
            for change in self.visible
        ]


def _header(path: str, entry: Entry) -> str:
    shown = {"absent": " (absent)", "link": " -> " + entry.target, "file": f" ({entry.mode:04o})"}
    return path + shown[entry.kind]


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


class Keeper:
    """Plans and makes the changes to one node's files; `saved` is the folder of the bookkeeping."""

    def __init__(self, tree: Tree, saved: str) -> None:
        self.tree = tree
        self.state_path = tree.absolute(os.path.join(saved, "state.json"))

    def load(self) -> dict[str, Any]:
        entry = self.tree.read(self.state_path)
        if entry.kind == "absent":
            return {"version": VERSION, "directories": [], "files": {}}
        try:
            state = json.loads(entry.text)
            if state["version"] != VERSION:
                raise ConfigError(
                    "{} has version {}, and this release of nearby.mirrors reads version {}".format(
                        self.state_path, state["version"], VERSION
                    )
                )
            for record in state["files"].values():
                Entry.from_json(record["before"])
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise ConfigError(f"{self.state_path}, which holds the originals, is damaged") from error
        return state

    def present(self, files: Iterable[Mapping[str, Any]]) -> Plan:
        """`files` are `{path, content, merge, needs, instead, shadowed_by}`; a file that is no longer among them is put back.

        What somebody else made of a file since the last run stays where it can be merged, else it is kept beside it. The path of
        what is merged as one of EXISTING may be a pattern.
        Raises ConfigError.
        """
        state = self.load()
        known = json.dumps(state)
        changes: list[Change] = []
        warnings: list[str] = []
        trusted: list[str] = []
        hidden: list[str] = []
        wanted: list[str] = []
        for file in self._expanded(files, state["files"], warnings):
            path, merge, ours = self.tree.absolute(file["path"]), file["merge"], file["content"]
            if file.get("needs") and not self.tree.exists(file["needs"]):
                state["files"].pop(path, None)  # what it was part of is gone, and it with that
                continue
            if file.get("instead") and self.tree.exists(file["instead"]) and not self.tree.exists(path):
                path = self.tree.absolute(file["instead"])
            wanted.append(path)
            current = self.tree.read(path)
            if merge in EXISTING and current.kind == "absent":
                continue
            record = state["files"].get(path)
            original = Entry.from_json(record["before"]) if record else current
            edited = bool(record) and _edited(current, record)
            base = current if edited else original
            if merge == "environment":
                ours = with_trusted_hosts(ours, trusted)
            if merge in ("environment", "variables") and hidden:
                ours = without_npmrc(ours)
                if merge == "variables":
                    hiding = "NPM_CONFIG_GLOBALCONFIG would hide the other options of " + ", ".join(hidden)
                    warnings.append(f"{path}: {hiding}, and is not set; an npm of another prefix asks its registry itself")
            try:
                text = MERGES[merge](base.text, ours, record["ours"] if record and edited else "")
                if merge == "pip":
                    trusted = _pip_options(text).get(("global", "trusted-host"), "").split()
                elif merge == "npm" and os.path.basename(path) == os.path.basename(NPMRC) and path != NPMRC:
                    others = {line for line in text.splitlines() if line.strip()[:1] not in ("", "#", ";")} - {*ours.splitlines()}
                    hidden += [path] if others else []
                warnings += remarks(path, merge, text, ours)
            except ConfigError as error:
                raise ConfigError(f"{path} {error}") from error
            for other in file.get("shadowed_by") or []:
                if self.tree.exists(other):
                    warnings.append(f"{other} is there, and its client reads it instead of {path}")
            content = text.encode("utf-8", "surrogateescape")
            if current.kind != "absent" and current.content == content:
                continue
            if edited and merge in ("none", "environment"):
                warnings.append(self._keep(path, current, changes))
            model = original if current.kind == "absent" else current
            if model.uid < 0:
                uid, gid = self.tree.owner(path)
                model = Entry("file", uid=uid, gid=gid)
            after = replace(model, kind="file", content=content, mtime_ns=0, target="")
            changes.append(Change(path, current, after, "written"))
            record = state["files"].setdefault(path, {"before": current.as_json(), "written": []})
            record["ours"] = ours
            # What somebody else's edit is part of is not ours: it is to be kept the next time, too.
            if after.digest not in record["written"] and not (edited and merge not in ("none", "environment")):
                record["written"].append(after.digest)
        left = [path for path in state["files"] if path not in wanted]
        for path in left:
            changes += self._restore(path, state["files"][path], warnings)
        folders: list[str] = []
        for path in [change.path for change in changes if change.after.kind != "absent"]:
            folders += [folder for folder in self.tree.missing(path) if folder not in folders]
        if changes:
            folders += [folder for folder in self.tree.missing(self.state_path) if folder not in folders]
        state["directories"] += [folder for folder in folders if folder not in state["directories"]]
        held = (*(path for path in state["files"] if path not in left), self.state_path)
        obsolete = [folder for folder in state["directories"] if not any(path.startswith(folder + "/") for path in held)]
        saved = self.tree.read(self.state_path)
        if json.dumps(state) != known:
            changes.insert(0, self._record(state, saved))
            saved = changes[0].after
        if left:  # until its file is back, a record has the only copy of the original
            state["files"] = {path: record for path, record in state["files"].items() if path not in left}
            changes.append(self._record(state, saved))
        return self._checked(Plan(changes, warnings, folders, sorted(obsolete, key=len, reverse=True)))

    def _record(self, state: Mapping[str, Any], before: Entry) -> Change:
        uid, gid = self.tree.owner(self.state_path)
        content = (json.dumps(state, indent=1, sort_keys=True) + "\n").encode("utf-8")
        return Change(self.state_path, before, Entry("file", content, 0o600, uid, gid), "recorded")

    def _expanded(self, files: Iterable[Mapping[str, Any]], known: Mapping[str, Any], warnings: list[str]) -> Iterator[Mapping[str, Any]]:
        """The files, with all that fit it in the place of a pattern, and those of apt and of containerd in the place of their folders."""
        for file in files:
            if file["merge"] == "apt":
                yield from self._of_apt(file, known, warnings)
            elif file["merge"] == "containerd":
                hosts = hosts_of_containerd(self.tree.absolute(file["path"]), file["content"])
                yield from ({**file, "path": path, "content": text} for path, text in hosts)
            elif file["merge"] == "rpm":
                yield from ({**file, "path": path} for path in self._fitting(self.tree.absolute(file["path"]), known))
            else:
                yield file

    def _of_apt(self, file: Mapping[str, Any], known: Mapping[str, Any], warnings: list[str]) -> Iterator[Mapping[str, Any]]:
        """A list of mirrors for each archive that is mirrored, and the sources."""
        folder = self.tree.absolute(file["path"])
        paths = [path for pattern in (*apt.SOURCES, apt.LISTS) for path in self._fitting(f"{folder}/{pattern}", known)]
        texts = [self.tree.read(path).text for path in paths]
        texts += [Entry.from_json(known[path]["before"]).text for path in paths if path in known]
        sources = dict.fromkeys(uri.rstrip("/") for text in texts for uri in apt.uris(text))
        named = {apt.key(uri) for uri in (*sources, *(uri for text in texts for uri in apt.listed(text)))}
        archives = apt.mirrored(file["content"])
        for upstream, url, path in archives:
            there = dict.fromkeys((*apt.listed(self.tree.read(path).text), *sources))
            behind = [uri for uri in there if apt.key(uri) == apt.key(upstream)]
            if behind:
                yield {"path": path, "content": apt.list_of(url, behind), "merge": "none"}
        upstreams = [upstream for upstream, _url, _path in archives]
        if named & set(map(apt.key, upstreams)):
            yield {"path": f"{folder}/{apt.SETTINGS}", "content": apt.FAIL_OVER, "merge": "none"}
        elif paths and upstreams:
            warnings.append(f"no source of {folder} is what the mirror mirrors ({', '.join(upstreams)}), so apt does not use it")
        yield from ({"path": path, "content": file["content"], "merge": "apt"} for path in paths)

    def _fitting(self, pattern: str, known: Iterable[str]) -> list[str]:
        """The files that fit a pattern, and those that did when they were configured."""
        there = {*self.tree.glob(pattern), *fnmatch.filter(known, pattern)}
        return sorted(path for path in there if not os.path.basename(path).startswith(apt.OURS))

    def absent(self) -> Plan:
        """Put back every file that was ever written, and forget. Raises ConfigError."""
        current = self.tree.read(self.state_path)
        state = self.load()
        changes: list[Change] = []
        warnings: list[str] = []
        if current.kind == "absent":
            return Plan(changes, warnings, [], [])
        for path, record in state["files"].items():
            changes += self._restore(path, record, warnings)
        folders: list[str] = []
        for path in [change.path for change in changes if change.after.kind != "absent"]:
            folders += [folder for folder in self.tree.missing(path) if folder not in folders]
        changes.append(Change(self.state_path, current, Entry(), "recorded"))
        obsolete = sorted(state["directories"], key=len, reverse=True)
        return self._checked(Plan(changes, warnings, folders, obsolete))

    def _restore(self, path: str, record: Mapping[str, Any], warnings: list[str]) -> list[Change]:
        current, original = self.tree.read(path), Entry.from_json(record["before"])
        if current.same(original):
            return []
        changes: list[Change] = []
        if _edited(current, record):
            warnings.append(self._keep(path, current, changes))
        return changes + [Change(path, current, original, "removed" if original.kind == "absent" else "restored")]

    def _keep(self, path: str, current: Entry, changes: list[Change]) -> str:
        """Put what somebody else made of a file beside it; returns the sentence that says so."""
        number, kept = 0, path + ".edited"
        while self.tree.exists(kept):
            number += 1
            kept = f"{path}.edited.{number}"
        changes.append(Change(kept, Entry(), replace(current, kind="file", target=""), "kept"))
        return f"{path} was edited since it was configured; the edited file is kept as {kept}"

    def _checked(self, plan: Plan) -> Plan:
        for change in plan.changes:
            self.tree.check_writable(change.path)
        return plan

    def make(self, plan: Plan) -> None:
        """Make the changes of a plan, or none of them. Raises ConfigError."""
        made: list[str] = []
        done: list[Change] = []
        path = ""
        try:
            for path in plan.folders:
                saved = path == os.path.dirname(self.state_path)
                self.tree.make_folder(path, 0o700 if saved or self.tree.private(path) else 0o755)
                made.append(path)
            for change in plan.changes:
                path = change.path
                self.tree.put(path, change.after)
                done.append(change)
        except OSError as error:
            for change in reversed(done):
                self.tree.put(change.path, change.before)
            for folder in reversed(made):
                self.tree.remove_folder(folder)
            raise ConfigError(f"{path} cannot be written: {error.strerror}") from error
        for folder in plan.obsolete:
            self.tree.remove_folder(folder)


def _edited(current: Entry, record: Mapping[str, Any]) -> bool:
    """Whether a file holds neither what was there first nor what this collection ever wrote."""
    original = Entry.from_json(record["before"])
    if current.kind == "absent" or current.same(original):
        return False
    if current.kind == original.kind == "file" and current.content == original.content:
        return False
    return current.digest not in record["written"]
