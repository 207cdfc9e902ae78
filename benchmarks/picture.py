"""How do a few figures look side by side? Bars on a logarithmic scale, as SVG that needs nothing to be seen."""

import math
from collections.abc import Sequence
from html import escape

_LEFT, _WIDTH, _ROW, _BAR = 280, 420, 30, 18
_STYLE = (
    "<style>text{font:13px sans-serif;fill:#333}line{stroke:#ddd}rect{fill:#8aa6c1}.ours{fill:#2f6f4f}"
    "@media(prefers-color-scheme:dark){text{fill:#ddd}line{stroke:#444}}</style>"
)


def bars(title: str, rows: Sequence[tuple[str, float]]) -> str:
    """Draw one bar a row; those of chatproxy stand out."""
    low = 10 ** math.floor(math.log10(min(value for _, value in rows)))
    high = 10 ** math.ceil(math.log10(max(value for _, value in rows)))
    scale = _WIDTH / math.log10(high / low)
    height = _ROW * (len(rows) + 2)
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_LEFT + _WIDTH + 80} {height}" role="img">',
        f"<title>{escape(title)}</title>{_STYLE}",
        f'<text x="{_LEFT}" y="18">{escape(title)}, logarithmic</text>',
    ]
    for power in range(round(math.log10(low)), round(math.log10(high)) + 1):
        x = _LEFT + (power - math.log10(low)) * scale
        lines.append(f'<line x1="{x:.0f}" y1="26" x2="{x:.0f}" y2="{height - 22}"/>')
        lines.append(f'<text x="{x:.0f}" y="{height - 6}" text-anchor="middle">{10**power:,}</text>')
    for number, (name, value) in enumerate(rows):
        y = 32 + number * _ROW
        width = math.log10(value / low) * scale
        ours = ' class="ours"' if name.startswith("chatproxy") else ""
        lines.append(f'<text x="{_LEFT - 8}" y="{y + 14}" text-anchor="end">{escape(name)}</text>')
        lines.append(f'<rect x="{_LEFT}" y="{y}" width="{width:.0f}" height="{_BAR}"{ours}/>')
        lines.append(f'<text x="{_LEFT + width + 6:.0f}" y="{y + 14}">{value:,.0f}</text>')
    return "\n".join([*lines, "</svg>", ""])
