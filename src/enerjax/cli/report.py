"""Figures and the self-contained HTML report: matplotlib pictures inlined as PNG, one chapter per pillar."""

import base64
import html
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure


@dataclass
class Chapter:
    """One pillar's part of the tour.

    Attributes:
        name: key of its entry in `enerjax tour --json`.
        title: heading.
        text: paragraphs.
        numbers: what was measured; goes into the JSON and into a table.
        figures: (caption, matplotlib figure) pairs.
    """

    name: str
    title: str
    text: list[str]
    numbers: dict[str, Any]
    figures: list[tuple[str, Figure]] = field(default_factory=list)


def figure(columns: int = 1, rows: int = 1, width: float = 4.2, height: float = 3.2):
    """A matplotlib figure and its axes [rows × columns, flattened], without pyplot's global state."""
    fig = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = fig.subplots(rows, columns, squeeze=False).ravel()
    for ax in axes:
        ax.grid(True, alpha=0.25, linewidth=0.6)
        ax.spines[["top", "right"]].set_visible(False)
    return fig, axes


def save(fig: Figure, path: str | Path, dpi: int = 130) -> None:
    """Write a figure to a file, whole or not at all."""
    path = Path(path)
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    fig.savefig(part, dpi=dpi)
    part.replace(path)


def _inline(fig: Figure) -> str:
    buffer = io.BytesIO()
    fig.savefig(buffer, format="png", dpi=130)
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode()


_STYLE = """
body{font:16px/1.55 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
h1{font-size:1.9rem}h2{margin-top:2.6rem;border-bottom:1px solid #d8dee4;padding-bottom:.3rem}
img{max-width:100%}figure{margin:1.2rem 0}figcaption{color:#57606a;font-size:.92rem}
table{border-collapse:collapse;font-variant-numeric:tabular-nums}
td{padding:.15rem 1.2rem .15rem 0;border-bottom:1px solid #eaeef2}
code{background:#f0f2f5;padding:.1rem .3rem;border-radius:4px}nav a{margin-right:1.2rem}
"""


def _cell(value: Any) -> str:
    return html.escape(f"{value:.5g}" if isinstance(value, float) else str(value))


def _chapter(chapter: Chapter) -> str:
    rows = "".join(
        f"<tr><td>{html.escape(k.replace('_', ' '))}</td><td>{_cell(v)}</td></tr>"
        for k, v in chapter.numbers.items()
        if not isinstance(v, list | dict)
    )
    figures = "".join(
        f'<figure><img alt="{html.escape(caption)}" src="{_inline(fig)}">'
        f"<figcaption>{html.escape(caption)}</figcaption></figure>"
        for caption, fig in chapter.figures
    )
    text = "".join(f"<p>{html.escape(p)}</p>" for p in chapter.text)
    heading = f"<h2>{html.escape(chapter.title)}</h2>"
    return f'<section id="{chapter.name}">{heading}{text}{figures}<table>{rows}</table></section>'


def write_report(path: str | Path, title: str, chapters: Sequence[Chapter]) -> None:
    """One HTML file that needs no other: styles and figures are inside it. Written whole or not at all."""
    links = "".join(f'<a href="#{c.name}">{html.escape(c.title)}</a>' for c in chapters)
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_STYLE}</style></head><body><h1>{html.escape(title)}</h1><nav>{links}</nav>"
        + "".join(map(_chapter, chapters))
        + "</body></html>"
    )
    path = Path(path)
    part = path.with_name(f".{path.name}.part")
    part.write_text(page)
    part.replace(path)
