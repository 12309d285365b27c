"""The code in our documents: fenced blocks, the command lines in them, and commands within a sentence."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = (ROOT / "README.md", ROOT / "README.ko.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md")))
SHELLS = {"sh", "bash", "console"}
FENCE = re.compile(
    r"^(?P<fence>```+|~~~+)[ \t]*(?P<language>\S*)[^\n]*\n(?P<text>.*?)^(?P=fence)[ \t]*$", re.DOTALL | re.MULTILINE
)
INLINE = re.compile(r"`(?:[\w./-]*/)?((?:claude-proxy|docker|make|helm|kubectl) [^`\n]+)`")
ASSIGNMENT = re.compile(r"([A-Za-z_]\w*)=(.*)", re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: where it begins, the word behind the fence, what is in it."""

    document: Path
    line: int
    language: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.document.relative_to(ROOT)}:{self.line}"


@dataclass(frozen=True)
class Command:
    """One command line without comment and prompt, in one piece; the places are kept out of comparisons.

    output: the lines that the document shows as its answer.
    """

    text: str
    output: tuple[str, ...] = ()
    place: str = field(default="", compare=False)

    @property
    def environ(self) -> dict[str, str]:
        """The variables in front of it."""
        found = {}
        for word in shlex.split(self.text):
            match = ASSIGNMENT.fullmatch(word)
            if match is None:
                break
            found[match[1]] = match[2]
        return found

    @property
    def words(self) -> list[str]:
        """Its words behind the variables."""
        return shlex.split(self.text)[len(self.environ) :]


@cache
def blocks() -> list[Block]:
    """Every fenced block of every document."""
    return [block for document in DOCUMENTS for block in blocks_of(document)]


def blocks_of(document: Path) -> list[Block]:
    text = document.read_text(encoding="utf-8")
    return [Block(document, text.count("\n", 0, m.start()) + 1, m["language"], m["text"]) for m in FENCE.finditer(text)]


@cache
def commands() -> list[Command]:
    """The command lines of all shell blocks, each once."""
    found = [command for block in blocks() if block.language in SHELLS for command in commands_of(block)]
    return list(dict.fromkeys(found))


def commands_of(block: Block) -> Iterator[Command]:
    """In a `console` block `$ ` begins a command and all else is output; elsewhere each line is a command."""
    text = re.sub(r"\\\n\s*", "", block.text)
    command, output = "", list[str]()
    for line in text.splitlines():
        if block.language == "console" and not line.startswith("$ "):
            output.append(line)
            continue
        if command:
            yield Command(command, tuple(output), block.place)
        command, output = without_comment(line.removeprefix("$ ")), []
    if command:
        yield Command(command, tuple(output), block.place)


def without_comment(line: str) -> str:
    """The line up to a `#` that stands outside quotes and begins a word."""
    quote = ""
    for at, sign in enumerate(line):
        if quote:
            quote = "" if sign == quote else quote
        elif sign in "\"'":
            quote = sign
        elif sign == "#" and (at == 0 or line[at - 1].isspace()):
            return line[:at].rstrip()
    return line.rstrip()


@cache
def inline() -> list[Command]:
    """Commands within sentences and tables, each once."""
    found = []
    for document in DOCUMENTS:
        prose = FENCE.sub("", document.read_text(encoding="utf-8"))
        found += [Command(match[1], place=document.name) for match in INLINE.finditer(prose)]
    return list(dict.fromkeys(found))
