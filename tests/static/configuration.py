# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A web server's configuration as a tree of directives, for either engine."""

from __future__ import annotations

import dataclasses
import re
import typing as t
from pathlib import Path

import crossplane


@dataclasses.dataclass(frozen=True)
class Directive:
    """One directive; a block holds others. ``above`` are the blocks around it, the outermost first."""

    name: str
    arguments: tuple[str, ...]
    line: int
    above: tuple[Directive, ...] = dataclasses.field(default=(), repr=False)
    inner: list[Directive] = dataclasses.field(default_factory=list, compare=False, repr=False)

    def __str__(self) -> str:
        """How a complaint names it."""
        return f"line {self.line}: {' '.join((self.name, *self.arguments))}"

    @property
    def value(self) -> str:
        return " ".join(self.arguments)

    def walk(self) -> t.Iterator[Directive]:
        """All that the block holds, at any depth."""
        for directive in self.inner:
            yield directive
            if directive.inner:
                yield from directive.walk()

    def all(self, *names: str) -> list[Directive]:
        """All of those names within, at any depth."""
        wanted = {name.lower() for name in names}
        return [directive for directive in self.walk() if directive.name.lower() in wanted]

    def own(self, *names: str) -> list[Directive]:
        """Those of these names that stand directly in the block."""
        wanted = {name.lower() for name in names}
        return [directive for directive in self.inner if directive.name.lower() in wanted]

    def inherited(self, name: str) -> list[Directive]:
        """Those that hold in the block as Nginx inherits: of the innermost block around it that has any."""
        for block in (self, *reversed(self.above)):
            if found := block.own(name):
                return found
        return []

    def add(self, name: str, arguments: t.Iterable[str], line: int) -> Directive:
        self.inner.append(new := Directive(name, tuple(arguments), line, (*self.above, self)))
        return new


def nginx(path: Path) -> Directive:
    """Parse one file of Nginx's, leaving out what it includes. Raises crossplane.errors.NgxParserBaseException."""

    def fill(block: Directive, parsed: list[dict[str, t.Any]]) -> None:
        for item in parsed:
            fill(block.add(item["directive"], item["args"], item["line"]), item.get("block", []))

    payload = crossplane.parse(str(path), single=True, catch_errors=False)
    fill(root := Directive("", (), 0), payload["config"][0]["parsed"])
    return root


def apache(path: Path) -> Directive:
    """Parse one file of Apache's, leaving out what it includes. Raises ValueError where its sections do not nest."""
    block = root = Directive("", (), 0)
    lines = enumerate(path.read_text().splitlines(), 1)
    for number, line in lines:
        while line.endswith("\\"):
            line = line[:-1] + next(lines)[1]
        if not (line := line.strip()) or line.startswith("#"):
            continue
        section = re.fullmatch(r"<(/?)(\w+)\s*(.*)>", line)
        name, rest = (section[2], section[3]) if section else (line.split(maxsplit=1) + [""])[:2]
        # A word; or what is between two equal quotes, in which a backslash protects a quote.
        words = re.findall(r"""(?:"((?:\\.|[^"\\])*)"|'((?:\\.|[^'\\])*)'|(\S+))""", rest)
        if section and section[1]:
            if block.name.lower() != name.lower():
                raise ValueError(f"{path}:{number}: </{name}> ends <{block.name}>")
            block = block.above[-1]
            continue
        new = block.add(name, ("".join(word) for word in words), number)
        block = new if section else block
    if block is not root:
        raise ValueError(f"{path}: <{block.name}> has no end")
    return root


PARSERS: dict[str, t.Callable[[Path], Directive]] = {"nginx": nginx, "apache": apache}
