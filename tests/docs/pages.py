"""The Markdown pages, cut into the pieces that the tests look at."""

import re
import shlex
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = [
    path
    for pattern in ("*.md", "docs/**/*.md", "src/**/*.md", "benchmarks/*.md", "tools/*.md")
    for path in sorted(ROOT.glob(pattern))
    if "_build" not in path.parts
]
IDS = [str(path.relative_to(ROOT)) for path in PAGES]

FENCE = re.compile(r"^(```+)(\S*)\n(.*?)^\1$", re.MULTILINE | re.DOTALL)
COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)
CODE_SPAN = re.compile(r"`([^`\n]+)`")
PROGRAM = re.compile(r"(?:digitnet-\w+|python(?:3)? (?:-m )?\S+|tensorboard|pip install|make) \S|make \w+$")


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    language: str
    content: str

    @property
    def file(self) -> str | None:
        """The name of the file that the block shows: a comment in its first line, or below Hydra's header."""
        found = re.match(r"(?:# @package \w+\n)?# ([\w/.-]+\.(?:py|yaml))\n", self.content)
        return found[1] if found else None


def blocks(page: Path, language: str) -> list[Block]:
    """Return the fenced blocks of a page in one language."""
    return [Block(name, content) for _, name, content in FENCE.findall(page.read_text()) if name == language]


def prose(page: Path) -> str:
    """Return a page without its fenced blocks and comments."""
    return COMMENT.sub("", FENCE.sub("", page.read_text()))


def command_lines(page: Path) -> list[str]:
    """Return the commands of a page: the lines of its bash blocks, and the code spans that are whole commands."""
    shown = [line for block in blocks(page, "bash") for line in block.content.replace("\\\n", " ").splitlines()]
    return [line for line in shown if line.strip()] + [
        span for span in CODE_SPAN.findall(prose(page)) if PROGRAM.match(span) and span != "python -m"
    ]


def words(line: str) -> list[list[str]]:
    """Return the words of each command of a line, in which commands are joined by `&&`."""
    commands: list[list[str]] = [[]]
    for word in shlex.split(line):
        if word == "&&":
            commands.append([])
        else:
            commands[-1].append(word)
    return commands
