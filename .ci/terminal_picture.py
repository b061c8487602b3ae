#!/usr/bin/env python3
"""Draws what a command prints to a terminal as an SVG picture: reads the output with its SGR
sequences from standard input and writes the picture to standard output.

    soma --color always demo 2>&1 | .ci/terminal_picture.py --command "soma demo" --title "The demo"
"""

import argparse
import re
import sys
import unicodedata
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

COLUMNS = 80
CELL, LINE, FONT = 7.8, 17, 13
MARGIN, BAR = 20, 36
FONTS = "ui-monospace,SFMono-Regular,Menlo,DejaVu Sans Mono,monospace"
GROUND, TEXT, BRIGHT = "#16181d", "#c8ccd4", "#ffffff"
BUTTONS = ("#e06c75", "#e5c07b", "#98c379")
PALETTE = (
    ("#5c6370", "#e06c75", "#98c379", "#e5c07b", "#61afef", "#c678dd", "#56b6c2", "#dcdfe4"),
    ("#7f848e", "#f0868f", "#b1d895", "#f0d399", "#82c4f8", "#d99aeb", "#7fd1da", "#ffffff"),
)
"""The eight colors of a terminal, then the eight bright ones."""
NO_BREAK_SPACE = "\xa0"
STEPS = (0, 95, 135, 175, 215, 255)
SEQUENCE = re.compile(
    r"\x1b\[([0-9;:]*)m"  # colors and weights
    r"|\x1b\[[0-?]*[ -/]*[@-~]"  # what else a terminal does, such as erasing
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"  # titles and links
    r"|\x1b."
)


class Style(NamedTuple):
    """How a character looks."""

    color: str | None = None
    bold: bool = False
    dim: bool = False


def style_after(style: Style, codes: str) -> Style:
    """The style after a sequence with these codes.

    >>> style_after(Style(), "1;32")
    Style(color='#98c379', bold=True, dim=False)
    >>> style_after(Style("#98c379", True), "22;38;5;196")
    Style(color='#ff0000', bold=False, dim=False)
    >>> style_after(Style("#98c379", True, True), "")
    Style(color=None, bold=False, dim=False)
    >>> style_after(Style(), "48;2;1;2;3;2")
    Style(color=None, bold=False, dim=True)
    """
    rest = [int(code or 0) for code in codes.replace(":", ";").split(";")]
    while rest:
        code = rest.pop(0)
        if code == 0:
            style = Style()
        elif code == 1:
            style = style._replace(bold=True)
        elif code == 2:
            style = style._replace(dim=True)
        elif code == 22:
            style = style._replace(bold=False, dim=False)
        elif 30 <= code < 38 or 90 <= code < 98:
            style = style._replace(color=PALETTE[code >= 90][code % 10])
        elif code == 39:
            style = style._replace(color=None)
        elif code in (38, 48):
            color, rest = extended(rest)
            style = style._replace(color=color) if code == 38 else style
    return style


def extended(codes: list[int]) -> tuple[str | None, list[int]]:
    """The color that codes after 38 or 48 name, and the codes after those.

    >>> extended([5, 244]), extended([2, 1, 2, 255, 1]), extended([5])
    (('#808080', []), ('#0102ff', [1]), (None, []))
    """
    match codes:
        case [5, index, *rest] if index < 16:
            return PALETTE[index // 8][index % 8], rest
        case [5, index, *rest] if index < 232:
            index -= 16
            parts = (STEPS[index // 36], STEPS[index // 6 % 6], STEPS[index % 6])
        case [5, index, *rest]:
            parts = (8 + 10 * (min(index, 255) - 232),) * 3
        case [2, red, green, blue, *rest]:
            parts = (red, green, blue)
        case _:
            return None, []
    return "#" + "".join(f"{min(part, 255):02x}" for part in parts), rest


def width(character: str) -> int:
    """How many cells a character takes.

    >>> [width(character) for character in "a\\xe9\\u2713\\u4e16\\u0301"]
    [1, 1, 1, 2, 0]
    """
    if unicodedata.combining(character) or unicodedata.category(character) in ("Cc", "Cf"):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def lines_of(output: str) -> list[list[tuple[int, str, Style]]]:
    """The lines of a terminal with this output: runs of characters of one style, each with the
    column where it begins. Long lines continue on the next one.

    >>> lines_of("a \\x1b[1mb\\x1b[0m\\r\\n\\x1b[2mc\\x1b[K\\n")
    [[(0, 'a ', Style(color=None, bold=False, dim=False)),
      (2, 'b', Style(color=None, bold=True, dim=False))],
     [(0, 'c', Style(color=None, bold=False, dim=True))]]
    >>> [line[0][1] for line in lines_of("x" * 81)] == ["x" * 80, "x"]
    True
    >>> lines_of("wait\\rdone\\n") == lines_of("done")
    True
    """
    lines, style, column = [[]], Style(), 0
    place = 0
    output = output.rstrip("\n").replace("\r\n", "\n").expandtabs(8)
    while place < len(output):
        if found := SEQUENCE.match(output, place):
            style = style if found[1] is None else style_after(style, found[1])
            place = found.end()
            continue
        character = output[place]
        place += 1
        if character == "\n":
            lines.append([])
            column = 0
        elif character == "\r":
            lines[-1], column = [], 0
        else:
            if column + width(character) > COLUMNS:
                lines.append([])
                column = 0
            add(lines[-1], column, character, style)
            column += width(character)
    return lines


def add(line: list[tuple[int, str, Style]], column: int, character: str, style: Style) -> None:
    """Adds a character to a line; control characters have no picture."""
    if unicodedata.category(character) == "Cc":
        return
    if line and line[-1][2] == style:
        line[-1] = (line[-1][0], line[-1][1] + character, style)
    else:
        line.append((column, character, style))


def drawn(column: int, text: str, style: Style) -> str:
    """A run of characters in a line.

    >>> drawn(2, "a<b", Style("#98c379", True))
    '<tspan x="35.6" textLength="23.4" fill="#98c379" font-weight="bold">a&lt;b</tspan>'
    """
    color = style.color or (BRIGHT if style.bold else None)
    attributes = f' fill="{color}"' if color else ""
    attributes += ' font-weight="bold"' if style.bold else ""
    attributes += ' opacity="0.6"' if style.dim else ""
    cells = sum(map(width, text))
    place = f'x="{MARGIN + column * CELL:.4g}" textLength="{cells * CELL:.4g}"'
    # Pictures collapse spaces, whatever they say about that.
    return f"<tspan {place}{attributes}>{escape(text).replace(' ', NO_BREAK_SPACE)}</tspan>"


def picture(output: str, title: str) -> str:
    """An SVG picture of a terminal with this output.

    >>> print(picture("\\x1b[32mok\\x1b[0m\\n", "A & B"))  # doctest: +ELLIPSIS
    <svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label="A &amp; B" width="664"...
    <title>A &amp; B</title>
    <rect width="664" height="73" rx="8" fill="#16181d"/>
    <circle cx="20" cy="18" r="5" fill="#e06c75"/>...
    <text y="48"><tspan x="20" textLength="15.6" fill="#98c379">ok</tspan></text>
    </g>
    </svg>
    """
    lines = lines_of(output)
    across = round(2 * MARGIN + COLUMNS * CELL)
    down = BAR + LINE * len(lines) + MARGIN
    size = f'width="{across}" height="{down}" viewBox="0 0 {across} {down}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" role="img" aria-label={quoteattr(title)} {size}>',
        f"<title>{escape(title)}</title>",
        f'<rect width="{across}" height="{down}" rx="8" fill="{GROUND}"/>',
        "".join(
            f'<circle cx="{MARGIN + 18 * place}" cy="18" r="5" fill="{color}"/>'
            for place, color in enumerate(BUTTONS)
        ),
        f'<g font-family="{FONTS}" font-size="{FONT}" fill="{TEXT}">',
    ]
    for number, line in enumerate(lines):
        runs = "".join(drawn(*run) for run in line if run[1].strip())
        if runs:
            parts.append(f'<text y="{BAR + 12 + LINE * number}">{runs}</text>')
    return "\n".join([*parts, "</g>", "</svg>"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split(":")[0])
    parser.add_argument("--title", required=True, help="what the picture shows, in words")
    parser.add_argument("--command", help="shown as what was typed")
    arguments = parser.parse_args()
    typed = f"\x1b[1m$ {arguments.command}\x1b[0m\n" if arguments.command else ""
    sys.stdin.reconfigure(encoding="utf-8", newline="")
    sys.stdout.reconfigure(encoding="utf-8")
    print(picture(typed + sys.stdin.read(), arguments.title))


if __name__ == "__main__":
    main()
