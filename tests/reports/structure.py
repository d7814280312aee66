"""Read a page as a screen reader walks through it: landmarks, headings, tables, images, labels."""

from __future__ import annotations

from collections import Counter
from html.parser import HTMLParser

_VOID = {"meta", "link", "img", "br", "hr", "input", "rect", "line"}
_HEADINGS = {f"h{level}" for level in range(1, 7)}


class Structure(HTMLParser):
    """Elements in order, each with its attributes, its parents and its text."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[dict] = []
        self._open: list[dict] = []
        self.unbalanced: list[str] = []
        self.feed(text)
        self.unbalanced += [element["tag"] for element in self._open]

    def handle_starttag(self, tag, attributes):
        parents = [element["tag"] for element in self._open]
        element = {"tag": tag, "parents": parents, "text": "", "children": [], **dict(attributes)}
        if self._open:
            self._open[-1]["children"].append(element)
        self.elements.append(element)
        if tag not in _VOID:
            self._open.append(element)

    def handle_endtag(self, tag):
        if tag in _VOID:
            return
        if not self._open or self._open[-1]["tag"] != tag:
            self.unbalanced.append(f"/{tag}")
            return
        self._open.pop()

    def handle_data(self, data):
        for element in self._open:
            element["text"] += data

    def named(self, *tags):
        return [element for element in self.elements if element["tag"] in tags]

    def problems(self) -> list[str]:
        """Return what would leave a reader without sight, mouse or colours behind, in words."""
        checks = (self._whole, self._headings, self._tables, self._images, self._references, self._labels)
        return [problem for check in checks for problem in check()]

    def _whole(self):
        if [element.get("lang") for element in self.named("html")] != ["en"]:
            yield "html has no lang"
        yield from (f"not closed, or closed twice: {tag}" for tag in self.unbalanced)
        for landmark in ("header", "main", "footer", "title"):
            if len(self.named(landmark)) != 1:
                yield f"{len(self.named(landmark))} times {landmark}"
        for element in self.named("section", "nav", "form"):
            if not (element.get("aria-labelledby") or element.get("aria-label")):
                yield f"{element['tag']} without a name"

    def _headings(self):
        headings = self.named(*_HEADINGS)
        levels = [int(element["tag"][1]) for element in headings]
        if levels.count(1) != 1 or levels[:1] != [1]:
            yield f"headings begin {levels[:3]} with {levels.count(1)} of the first level"
        for before, after, element in zip(levels, levels[1:], headings[1:], strict=False):
            if after > before + 1:
                yield f"heading {element['text']!r} skips from level {before} to {after}"
        counts = Counter(element["text"].strip() for element in headings)
        yield from (f"heading {text!r} {count} times" for text, count in counts.items() if count > 1 or not text)

    def _tables(self):
        captions = Counter()
        for table in self.named("table"):
            first = table["children"][0]
            if first["tag"] != "caption" or not first["text"].strip():
                yield f"table without a caption: {table['text'][:60]!r}"
            captions[first["text"].strip()] += 1
        yield from (f"caption {text!r} {count} times" for text, count in captions.items() if count > 1)
        for cell in self.named("th"):
            if cell.get("scope") not in {"row", "col"}:
                yield f"th without scope: {cell['text']!r}"

    def _images(self):
        texts = Counter(image.get("alt") for image in self.named("img"))
        yield from (f"alt text {text!r} {count} times" for text, count in texts.items() if count > 1 or not text)
        for drawing in self.named("svg"):
            if drawing.get("aria-hidden") != "true":
                yield "svg that is neither hidden nor described"
        for canvas in self.named("canvas"):
            if not (canvas.get("aria-label") and canvas.get("role")):
                yield "canvas without a name"

    def _references(self):
        ids = Counter(element["id"] for element in self.elements if element.get("id"))
        yield from (f"id {name} {count} times" for name, count in ids.items() if count > 1)
        for element in self.elements:
            links = [element["href"][1:]] if (element.get("href") or "").startswith("#") else []
            for name in [element.get("for"), element.get("aria-labelledby"), *links]:
                if name is not None and name not in ids:
                    yield f"{element['tag']} points to {name!r}, which is not there"

    def _labels(self):
        labelled = {element.get("for") for element in self.named("label")}
        for element in self.named("input", "select"):
            if "label" not in element["parents"] and element.get("id") not in labelled:
                yield f"{element['tag']} {element.get('id')} without a label"
