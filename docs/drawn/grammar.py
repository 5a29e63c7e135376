"""The grammar as railroad diagrams, read from `occlude.lark` itself: the page always matches the parser."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import lark
import railroad

#: Rules that exist for the parser's sake alone; their one meaning is drawn where they are used.
_WORDS = ("null", "true", "false")
#: A line of a diagram in pixels, and what joins two of its items.
_WIDEST, _GAP = 560, 20
_SECTION = re.compile(r"^// (.+)\n\n", re.MULTILINE)


class Grammar:
    """A parsed `.lark` file.

    Args:
        text: the file.

    Raises:
        lark.exceptions.LarkError: it is not in Lark's own language.
    """

    def __init__(self, text: str) -> None:
        parser = lark.Lark.open(str(Path(lark.__file__).parent / "grammars" / "lark.lark"), parser="lalr")
        self.tokens: dict[str, lark.Tree[lark.Token]] = {}
        self.sections: list[tuple[str, list[str]]] = []
        self.rules: dict[str, lark.Tree[lark.Token]] = {}
        headings = list(_SECTION.finditer(text))
        for heading, following in zip(headings, [*headings[1:], None], strict=True):
            part = text[heading.end() : following.start() if following else len(text)]
            names = []
            for each in parser.parse(part + "\n").children:
                assert isinstance(each, lark.Tree)
                if each.data == "rule":
                    name = _plain(str(each.children[0]))
                    self.rules[name] = each.children[-1]  # type: ignore[assignment]
                    names.append(name)
                elif each.data == "token":
                    self.tokens[str(each.children[0])] = each.children[-1]  # type: ignore[assignment]
            if names:
                self.sections.append((heading[1], names))

    def page(self) -> str:
        """Markdown: a section for each of the file's, a diagram for each rule, and the words at the end."""
        return "\n".join(self._page())

    def _page(self) -> Iterator[str]:
        for title, names in self.sections:
            drawn = [name for name in names if name not in _WORDS]
            heading, _, said = title.partition(": " if ": " in title else ". ")
            if drawn:
                yield f"## {heading}\n"
            if drawn and said:
                yield f"{said[0].upper()}{said[1:].rstrip('.')}.\n"
            for name in drawn:
                yield f"### `{name}` {{ #{name} }}\n"
                yield f'<div class="drawn railroad">{self.diagram(name)}</div>\n'
        patterns = {name: tree for name, tree in self.tokens.items() if _keyword(tree) is None}
        yield "### The words that have a pattern { #patterns }\n"
        yield "| word | regular expression |\n|---|---|"
        for name, tree in patterns.items():
            pattern = "".join(f"&#{ord(each)};" if not each.isalnum() else each for each in _pattern(tree))
            yield f"| <span id='word-{name.lower()}'>{name}</span> | <code>{pattern}</code> |"

    def diagram(self, name: str) -> str:
        """One rule as SVG."""
        diagram = railroad.Diagram(_in_lines(self._item(self.rules[name])), type="complex")
        written: list[str] = []
        diagram.writeSvg(written.append)
        return "".join(written).replace("\n", "")

    def _item(self, tree: lark.Tree[lark.Token]) -> railroad.DiagramItem:
        children = [child for child in tree.children if child is not None]
        if tree.data == "expansions":
            return railroad.Choice(0, *(self._item(child) for child in children))  # type: ignore[arg-type]
        if tree.data == "alias":
            return self._item(children[0])  # type: ignore[arg-type]
        if tree.data == "expansion":
            return self._sequence(children)  # type: ignore[arg-type]
        if tree.data == "expr":
            return self._repeated(children)
        if tree.data == "maybe":
            return railroad.Optional(self._item(children[0]))  # type: ignore[arg-type]
        if tree.data == "literal":
            return railroad.Terminal(_literal(str(children[0])))
        if tree.data == "name":
            return self._named(str(children[0]))
        raise ValueError(f"{tree.data} is not drawn yet")

    def _sequence(self, parts: Sequence[lark.Tree[lark.Token]]) -> railroad.DiagramItem:
        """`x ("," x)*` is one loop with a comma on its way back."""
        items: list[railroad.DiagramItem] = []
        index = 0
        while index < len(parts):
            separator = _separator(parts[index], parts[index + 1]) if index + 1 < len(parts) else None
            if separator is not None:
                items.append(railroad.OneOrMore(self._item(parts[index]), railroad.Terminal(separator)))
                index += 2
            else:
                items.append(self._item(parts[index]))
                index += 1
        return railroad.Sequence(*items)

    def _repeated(self, parts: Sequence[lark.Tree[lark.Token] | lark.Token]) -> railroad.DiagramItem:
        item = self._item(parts[0])  # type: ignore[arg-type]
        how = str(parts[1]) if len(parts) > 1 else ""
        if how == "?":
            return railroad.Optional(item)
        if how == "*":
            return railroad.ZeroOrMore(item)
        return railroad.OneOrMore(item) if how == "+" else item

    def _named(self, name: str) -> railroad.DiagramItem:
        if name in self.tokens:
            word = _keyword(self.tokens[name])
            return (
                railroad.Terminal(word)
                if word is not None
                else railroad.NonTerminal(name, href=f"#word-{name.lower()}")
            )
        if name in _WORDS:
            return railroad.Terminal(name.upper())
        return railroad.NonTerminal(_plain(name), href=f"#{_plain(name)}")


def _in_lines(item: railroad.DiagramItem) -> railroad.DiagramItem:
    """A sequence that is wider than the page, broken into lines."""
    if not isinstance(item, railroad.Sequence) or item.width <= _WIDEST:
        return item
    lines: list[list[railroad.DiagramItem]] = [[]]
    for each in item.items:
        if lines[-1] and sum(other.width + _GAP for other in [*lines[-1], each]) > _WIDEST:
            lines.append([])
        lines[-1].append(each)
    return railroad.Stack(*(railroad.Sequence(*line) for line in lines))


def _plain(name: str) -> str:
    """A rule's name without the marks that say how its tree is built."""
    return name.lstrip("!?_")


def _literal(text: str) -> str:
    return str(ast.literal_eval(text.removesuffix("i")))


def _pattern(tree: lark.Tree[lark.Token]) -> str:
    (token,) = tree.scan_values(lambda value: value is not None)
    return str(token)


def _keyword(tree: lark.Tree[lark.Token]) -> str | None:
    """The word that a token always is; None where it has a pattern."""
    text = _pattern(tree)
    return _literal(text) if text.startswith('"') else None


def _separator(one: lark.Tree[lark.Token], rest: lark.Tree[lark.Token]) -> str | None:
    """`,` where the second part is `("," x)*` and the first is x."""
    if rest.data != "expr" or len(rest.children) < 2 or str(rest.children[1]) != "*":
        return None
    inner = rest.children[0]
    while isinstance(inner, lark.Tree) and inner.data == "alias":
        inner = inner.children[0]
    if not isinstance(inner, lark.Tree) or inner.data != "expansion" or len(inner.children) != 2:
        return None
    mark, again = inner.children
    if again != one or not isinstance(mark, lark.Tree):
        return None
    literal = mark.children[0]
    if isinstance(literal, lark.Tree) and literal.data == "literal":
        return _literal(str(literal.children[0]))
    return None
