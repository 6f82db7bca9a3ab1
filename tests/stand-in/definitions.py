"""Reads game definitions as far as the stand-in needs them, with nothing but Python itself.

A reader for the YAML that the definitions are written in: block and flow mappings and sequences,
plain and quoted scalars, comments. No anchors, no tags, no block scalars, no documents.
"""

import os
import re


def parse(text):
    lines = []
    for raw in text.splitlines():
        line = _without_comment(raw)
        if line.strip():
            lines.append((len(line) - len(line.lstrip(" ")), line.strip()))
    # A flow that goes on over lines is one line.
    joined = []
    for indent, line in lines:
        if joined and _is_open(joined[-1][1]):
            joined[-1] = (joined[-1][0], joined[-1][1] + " " + line)
        else:
            joined.append((indent, line))
    value, rest = _block(joined, 0, joined[0][0] if joined else 0)
    if rest != len(joined):
        raise ValueError(f"not understood: {joined[rest][1]!r}")
    return value


def _without_comment(line):
    quote = None
    for at, c in enumerate(line):
        if quote == '"' and c == "\\":
            continue
        if quote:
            if c == quote and not (quote == '"' and _escaped(line, at)):
                quote = None
        elif c in "\"'" and (at == 0 or line[at - 1] in " [{,:"):
            quote = c
        elif c == "#" and (at == 0 or line[at - 1] == " "):
            return line[:at]
    return line


def _escaped(line, at):
    count = 0
    while at > 0 and line[at - 1] == "\\":
        count, at = count + 1, at - 1
    return count % 2 == 1


def _is_open(line):
    depth, quote = 0, None
    for at, c in enumerate(line):
        if quote:
            if c == quote and not (quote == '"' and _escaped(line, at)):
                quote = None
        elif c in "\"'" and (at == 0 or line[at - 1] in " [{,:"):
            quote = c
        elif c in "[{" and (depth or at == 0 or line[at - 1] == " "):
            depth += 1
        elif c in "]}" and depth:
            depth -= 1
    return depth > 0


def _block(lines, at, indent):
    if at >= len(lines) or lines[at][0] < indent:
        return None, at
    if lines[at][1].startswith("- ") or lines[at][1] == "-":
        return _sequence(lines, at, lines[at][0])
    if _key(lines[at][1]) is None:
        return _scalar_or_flow(lines[at][1]), at + 1
    return _mapping(lines, at, lines[at][0])


def _sequence(lines, at, indent):
    items = []
    while at < len(lines) and lines[at][0] == indent and (lines[at][1].startswith("- ") or lines[at][1] == "-"):
        rest = lines[at][1][1:].strip()
        inner = indent + len(lines[at][1]) - len(lines[at][1][1:].lstrip(" ")) if rest else indent + 2
        if rest and _key(rest) is not None and rest[0] not in "{[":
            lines[at] = (inner, rest)
            value, at = _mapping(lines, at, inner)
        elif rest:
            value, at = _scalar_or_flow(rest), at + 1
        else:
            value, at = _block(lines, at + 1, indent + 1)
        items.append(value)
    return items, at


def _mapping(lines, at, indent):
    mapping = {}
    while at < len(lines) and lines[at][0] == indent and not lines[at][1].startswith("- "):
        found = _key(lines[at][1])
        if found is None:
            raise ValueError(f"not understood: {lines[at][1]!r}")
        key, rest = found
        at += 1
        if rest:
            mapping[key] = _scalar_or_flow(rest)
        elif at < len(lines) and (lines[at][0] > indent or lines[at][0] == indent and lines[at][1].startswith("- ")):
            mapping[key], at = _block(lines, at, lines[at][0])
        else:
            mapping[key] = None
    return mapping, at


def _key(line):
    if line[0] in "{[":
        return None
    if line[0] in "\"'":
        value, end = _quoted(line, 0)
        rest = line[end:].lstrip()
        return (value, rest[1:].strip()) if rest.startswith(":") else None
    found = re.match(r"([^:]+(?::[^ :][^:]*)*?):(?: +(.*))?$", line)
    return (found.group(1).strip(), (found.group(2) or "").strip()) if found else None


def _scalar_or_flow(text):
    value, end = _flow(text, 0, top=True)
    if text[end:].strip():
        raise ValueError(f"not understood: {text!r}")
    return value


def _flow(text, at, top=False):
    at = _blanks(text, at)
    if text[at] == "[":
        items, at = [], _blanks(text, at + 1)
        while text[at] != "]":
            value, at = _flow(text, at)
            items.append(value)
            at = _blanks(text, at)
            if text[at] == ",":
                at = _blanks(text, at + 1)
        return items, at + 1
    if text[at] == "{":
        mapping, at = {}, _blanks(text, at + 1)
        while text[at] != "}":
            if text[at] in "\"'":
                key, at = _quoted(text, at)
            else:
                end = text.index(":", at)
                key, at = text[at:end].strip(), end
            at = _blanks(text, at)
            if text[at] != ":":
                raise ValueError(f"not understood: {text!r}")
            mapping[key], at = _flow(text, at + 1)
            at = _blanks(text, at)
            if text[at] == ",":
                at = _blanks(text, at + 1)
        return mapping, at + 1
    if text[at] in "\"'":
        return _quoted(text, at)
    end = len(text)
    if not top:
        stop = re.compile(r"[,\]}]").search(text, at)
        end = stop.start() if stop else end
    return _plain(text[at:end].strip()), end


def _blanks(text, at):
    while at < len(text) and text[at] == " ":
        at += 1
    return at


def _quoted(text, at):
    quote, out, at = text[at], [], at + 1
    while True:
        c = text[at]
        if quote == "'" and c == "'":
            if text[at + 1 : at + 2] == "'":
                out.append("'")
                at += 2
                continue
            return "".join(out), at + 1
        if quote == '"' and c == '"':
            return "".join(out), at + 1
        if quote == '"' and c == "\\":
            following = text[at + 1]
            if following == "x":
                out.append(chr(int(text[at + 2 : at + 4], 16)))
                at += 4
                continue
            out.append({"n": "\n", "t": "\t", "r": "\r", "0": "\0"}.get(following, following))
            at += 2
            continue
        out.append(c)
        at += 1


def _plain(text):
    if re.fullmatch(r"-?[0-9]+", text):
        return int(text)
    return {"true": True, "false": False, "": None, "null": None, "~": None}.get(text, text)


def folders(here):
    """Where definitions are looked for; STEAMCMD_STANDIN_GAMES (paths with `:` between) comes first."""
    named = os.environ.get("STEAMCMD_STANDIN_GAMES", "").split(":")
    return [f for f in [*named, os.path.join(here, "games"), os.path.join(here, "..", "..", "manman-host", "games")] if f]


def all_steam(here):
    """By app id: the definition of each game that SteamCMD installs."""
    found = {}
    for folder in folders(here):
        try:
            names = sorted(os.listdir(folder))
        except OSError:
            continue
        for name in names:
            if not name.endswith((".yaml", ".yml")):
                continue
            with open(os.path.join(folder, name), encoding="utf-8") as file:
                text = file.read()
            game = re.search(r"^game: *[\"']?steamcmd:([0-9]{1,10})\b", text, re.M)
            if game and int(game.group(1)) not in found:
                found[int(game.group(1))] = text
    return found
