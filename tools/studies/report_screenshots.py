"""Photograph a report and two of its viewer pages, and print the report, as docs/results/report.md shows them.

medssl demo --out demo
python tools/studies/report_screenshots.py demo/report.html --out docs/results --pdf report.pdf

The demo's data is the ICBM 152 template that nilearn's package ships: an average of many brains, and so no one's.
"""

from __future__ import annotations

import argparse
import io
from pathlib import Path

from chromium import Page, chromium
from PIL import Image

from medssl.core.files import write_bytes

_WIDTH, _HEIGHT = 1000, 960
_MOST_BYTES = 300_000


def save(page: Page, target: Path) -> None:
    """Write what the window shows; with 256 colours where it would be too large for the repository otherwise."""
    picture = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    content = min((_png(picture), _png(picture.quantize(256))), key=lambda each: (len(each) > _MOST_BYTES, -len(each)))
    if len(content) > _MOST_BYTES:
        raise SystemExit(f"{target}: expected at most {_MOST_BYTES} bytes, found {len(content)}")
    write_bytes(target, content)
    print(f"{target}: {len(content) / 1000:.0f} kB")


def _png(picture: Image.Image) -> bytes:
    stream = io.BytesIO()
    picture.save(stream, format="PNG", optimize=True)
    return stream.getvalue()


def photograph_report(page: Page, report: Path, out: Path) -> list[str]:
    """Photograph the head and the cases of a report; return the addresses of its viewer pages."""
    page.open(report.resolve().as_uri())
    save(page, out / "report_scores.png")
    page.evaluate("document.getElementById('cases').scrollIntoView()")
    save(page, out / "report_cases.png")
    for file in (report, *sorted(report.with_name(f"{report.stem}_viewer").iterdir())):
        print(f"{file.name}: {file.stat().st_size / 1e6:.1f} MB")
    return page.evaluate("[...document.querySelectorAll('.viewer a')].map(link => link.href)")


def photograph_viewer(page: Page, address: str, target: Path) -> None:
    """Open a viewer page, wait until its volumes are there, and photograph it."""
    page.open(address)
    page.wait_for("document.body.dataset.state !== undefined")
    if page.errors or page.evaluate("document.body.dataset.state") != "ready":
        raise SystemExit(f"{address}: does not open. {page.errors}")
    page.evaluate("viewer.drawScene()")
    save(page, target)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="A report written with --viewers.")
    parser.add_argument("--out", type=Path, required=True, help="Folder of the pictures.")
    parser.add_argument("--pdf", type=Path, help="Where the printed report goes.")
    options = parser.parse_args()
    # Minutes, not seconds: without a GPU a whole head takes a while
    with chromium(width=_WIDTH, height=_HEIGHT, seconds=600) as page:
        page.resize(_WIDTH, _HEIGHT)
        viewers = photograph_report(page, options.report, options.out)
        if options.pdf:
            write_bytes(options.pdf, page.pdf())
        for address, name in ((viewers[0], "report_viewer_worst.png"), (viewers[-1], "report_viewer_whole.png")):
            photograph_viewer(page, address, options.out / name)


if __name__ == "__main__":
    main()
