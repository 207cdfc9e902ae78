"""Bars as SVG: a picture beside numbers that stand in a table, so nothing here is needed to know them."""

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup, escape

_WIDTH, _HEIGHT = 720, 160
_FOOT, _TOP = 18, 14
_GAP = 0.18


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar: its ``label`` below, what it is called in full, and its layers from the bottom, as (class, value)."""

    label: str
    title: str
    layers: Sequence[tuple[str, float]]

    @property
    def height(self) -> float:
        """All layers together."""
        return sum(value for _, value in self.layers)


def bar_chart(bars: Sequence[Bar], *, caption: str) -> Markup:
    """Draw bars side by side. Colours are those of the classes; *caption* says what is to be seen to who cannot see it."""
    highest = max((bar.height for bar in bars), default=0) or 1
    step = _WIDTH / max(1, len(bars))
    room = _HEIGHT - _FOOT - _TOP
    drawn = []
    for number, bar in enumerate(bars):
        left, base = number * step + step * _GAP / 2, float(_HEIGHT - _FOOT)
        layers = []
        for name, value in bar.layers:
            size = room * value / highest
            if size > 0:
                base -= size
                layers.append(
                    f'<rect class="{escape(name)}" x="{left:.1f}" y="{base:.1f}" '
                    f'width="{step * (1 - _GAP):.1f}" height="{max(size, 1):.1f}"/>'
                )
        label = (
            f'<text class="{"first" if number == 0 else ""}" '
            f'x="{number * step + (step / 2 if number else 0):.1f}" y="{_HEIGHT - 4}">{escape(bar.label)}</text>'
            if bar.label
            else ""
        )
        drawn.append(f"<g><title>{escape(bar.title)}</title>{''.join(layers)}{label}</g>")
    return Markup(  # noqa: S704 - of numbers, and of texts that are escaped
        f'<svg class="chart" viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{escape(caption)}">'
        f'<line class="ground" x1="0" x2="{_WIDTH}" y1="{_HEIGHT - _FOOT}" y2="{_HEIGHT - _FOOT}"/>'
        f'<text class="most" x="0" y="{_TOP - 4}">{highest:,.0f}</text>{"".join(drawn)}</svg>'
    )
