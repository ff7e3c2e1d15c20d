"""The style sheet of the page: readable without a network, on light and on dark screens, and on paper."""

from kaggle_cryoet.report.style import DARK, LIGHT, Theme

RULES = """
* { box-sizing: border-box; }
body { margin: 0; background: var(--background); color: var(--text); line-height: 1.55;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", "DejaVu Sans", sans-serif; }
main { max-width: 74rem; margin: 0 auto; padding: 2.5rem 1.5rem 5rem; }
h1 { margin: .1rem 0 .4rem; font-size: 2.1rem; line-height: 1.2; letter-spacing: -.015em; overflow-wrap: anywhere; }
h2 { margin: 3.2rem 0 .3rem; font-size: 1.3rem; letter-spacing: -.01em; }
p { margin: .3rem 0 1rem; max-width: 46rem; }
.muted, .note { color: var(--muted); }
.note { font-size: .92rem; }
a { color: var(--accent); text-underline-offset: .2em; text-decoration-thickness: 1px; }
code, pre { font: .88em/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { margin: .5rem 0 1rem; padding: .9rem 1.1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
pre, .box, .tile { background: var(--surface); border: 1px solid var(--rule); border-radius: .6rem; }
.box { overflow: auto; max-height: 40rem; margin: .6rem 0 1rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .9rem; margin: 1.8rem 0 0; }
.tile { padding: .9rem 1.1rem 1rem; }
.tile b { display: block; font-size: 2rem; line-height: 1.25; letter-spacing: -.02em;
  font-variant-numeric: tabular-nums; }
.tile span { color: var(--muted); font-size: .9rem; }
.tile.main b { color: var(--accent); }
.tile.wrong b { color: var(--wrong); }
table { border-collapse: collapse; width: 100%; font-size: .93rem; font-variant-numeric: tabular-nums; }
th, td { padding: .5rem .85rem; text-align: right; white-space: nowrap; border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child, table.words td { text-align: left; }
table.words td { white-space: normal; overflow-wrap: anywhere; }
table.words td:first-child { width: 1%; white-space: nowrap; font-weight: 600; }
thead th { position: sticky; top: 0; background: var(--surface); color: var(--muted); font-weight: 600;
  font-size: .85rem; white-space: normal;
  vertical-align: bottom; box-shadow: inset 0 -1px var(--rule); border-bottom: 0; }
tbody tr:last-child > *, tfoot tr:last-child > * { border-bottom: 0; }
tbody th { font-weight: 500; }
tfoot th, tfoot td { font-weight: 700; border-top: 2px solid var(--rule); }
td.bar { background: linear-gradient(var(--accent), var(--accent)) no-repeat left .85rem bottom .28rem;
  background-size: calc(var(--share) * (100% - 1.7rem)) 2px; }
td small { color: var(--muted); font-size: .86em; }
td small.wrong { color: var(--wrong); margin-left: .35em; }
abbr { text-decoration: underline dotted var(--faint); text-underline-offset: .25em; cursor: help; }
.dot { display: inline-block; width: .72em; height: .72em; border-radius: 50%; margin-right: .55em;
  border: .17em solid var(--colour); }
.alert { border-left: .3rem solid var(--wrong); }
figure { margin: .8rem 0 0; }
figure.box { padding: .9rem; max-height: none; }
img { display: block; max-width: 100%; height: auto; margin: 0 auto; }
figcaption { color: var(--muted); font-size: .92rem; margin-top: .5rem; max-width: 46rem; }
details { border-top: 1px solid var(--rule); padding: .2rem 0; }
details:last-of-type { border-bottom: 1px solid var(--rule); }
summary { padding: .55rem 0; cursor: pointer; font-weight: 600; overflow-wrap: anywhere; }
summary span { font-weight: 400; color: var(--muted); margin-left: .7em; }
.slices { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(30rem, 100%), 1fr)); gap: 1rem;
  padding: .4rem 0 1.2rem; }
.slices img { width: 100%; border-radius: .6rem; }
footer { margin-top: 4rem; padding-top: 1rem; border-top: 1px solid var(--rule); color: var(--muted);
  font-size: .88rem; }
@media print { .box { max-height: none; } details, .tile { break-inside: avoid; } }
"""


def stylesheet() -> str:
    """The rules, and the colours of `style` as their variables."""
    dark = f"@media (prefers-color-scheme: dark) {{ :root {{ {_variables(DARK)} }} }}"
    return f":root {{ color-scheme: light dark; {_variables(LIGHT)} }}\n{dark}{RULES}"


def _variables(theme: Theme) -> str:
    names = ("background", "surface", "text", "muted", "faint", "rule", "accent", "wrong")
    colours = {name: getattr(theme, name) for name in names}
    colours |= {f"particle-{label}": colour for label, colour in enumerate(theme.particles)}
    return " ".join(f"--{name}: {colour};" for name, colour in colours.items())
