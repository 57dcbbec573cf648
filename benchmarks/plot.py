"""Lines over commits as an SVG picture for the documentation."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise

WIDTH, HEIGHT = 360, 200
LEFT, TOP, RIGHT, BOTTOM = 46, 28, 12, 26
COLOURS = ("#0b6e99", "#d9730d")


def panels(
    titles: Sequence[str], series: Mapping[str, Sequence[Sequence[float]]], x_of: Sequence[int]
) -> str:
    """Return one panel for each title, two in a row, with one line for each series.

    Args:
        titles: What is shown, with its unit.
        series: Name → one list of values for each title, each as long as `x_of`.
        x_of: Where on the horizontal axis the values belong.

    """
    rows = -(-len(titles) // 2)
    size = f'width="{2 * WIDTH}" height="{rows * HEIGHT + 24}"'
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" {size} font-family="sans-serif" font-size="11">',
        f'<rect {size} fill="white"/>',
    ]
    for number, name in enumerate(series):
        parts.append(
            f'<text x="{LEFT + number * 200}" y="16" fill="{COLOURS[number]}">{escape(name)}</text>'
        )
    for number, title in enumerate(titles):
        lines = [values[number] for values in series.values()]
        x, y = (number % 2) * WIDTH, (number // 2) * HEIGHT + 24
        parts.append(f'<g transform="translate({x},{y})">{_panel(title, lines, x_of)}</g>')
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(title: str, lines: Sequence[Sequence[float]], x_of: Sequence[int]) -> str:
    top = max(max(line) for line in lines) or 1.0
    last = x_of[-1]
    bottom_y = HEIGHT - BOTTOM

    def point(x: float, y: float) -> tuple[float, float]:
        across = LEFT + (WIDTH - LEFT - RIGHT) * x / last
        return across, bottom_y - (bottom_y - TOP) * y / top

    parts = [
        f'<text x="{LEFT}" y="{TOP - 10}" font-weight="bold">{escape(title)}</text>',
        f'<path d="M{LEFT} {TOP}V{bottom_y}H{WIDTH - RIGHT}" fill="none" stroke="#999"/>',
        f'<text x="{LEFT - 4}" y="{TOP + 4}" text-anchor="end">{top:,.0f}</text>',
        f'<text x="{LEFT - 4}" y="{bottom_y}" text-anchor="end">0</text>',
        f'<text x="{WIDTH - RIGHT}" y="{HEIGHT - 8}" text-anchor="end">{last:,} commits</text>',
    ]
    for line, colour in zip(lines, COLOURS, strict=False):
        points = [point(x, y) for x, y in zip(x_of, line, strict=True)]
        path = "".join(f"L{x:.1f} {y:.1f}" for _, (x, y) in pairwise([points[0], *points]))
        parts.append(
            f'<path d="M{points[0][0]:.1f} {points[0][1]:.1f}{path}" fill="none" '
            f'stroke="{colour}" stroke-width="1.5"/>'
        )
    return "".join(parts)
