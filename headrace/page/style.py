"""The style sheet of model cards, for light and dark screens and for paper."""

STYLE = """
:root { --ink: #1d2733; --muted: #66727f; --line: #dde3e9; --page: #f6f8fa; --paper: #fff; --bar: #3b7dd8;
  --right: #2f7d5b; --wrong: #c8452f; --on: #fff; color-scheme: light dark; }
@media (prefers-color-scheme: dark) { :root { --ink: #e4e9ee; --muted: #95a1ad; --line: #313a44; --page: #12171c;
  --paper: #1a2128; --bar: #5b9bf0; --right: #46a57b; --wrong: #e0664f; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--ink); font: 15px/1.5 system-ui, sans-serif; }
main { max-width: 1120px; margin: 0 auto; padding: 32px 24px 64px; }
h1 { font-size: 30px; margin: 0 0 4px; overflow-wrap: anywhere; } h1 small { color: var(--muted); font-weight: 400; }
h2 { font-size: 19px; margin: 40px 0 12px; } h3 { font-size: 16px; margin: 20px 0 8px; }
p { margin: 0 0 12px; color: var(--muted); }
dl { display: grid; grid-template-columns: repeat(auto-fill, minmax(240px, 1fr)); gap: 12px 24px; margin: 16px 0 0; }
dt { color: var(--muted); font-size: 13px; } dd { margin: 0; overflow-wrap: anywhere; }
.scores { display: flex; flex-wrap: wrap; gap: 12px; margin-bottom: 12px; }
.scores div { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 10px 18px; }
.scores b { display: block; font-size: 22px; font-variant-numeric: tabular-nums; } .scores span { color: var(--muted); }
.grid { display: grid; grid-template-columns: repeat(auto-fill, minmax(300px, 1fr)); gap: 16px; align-items: start; }
figure { margin: 0; background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; }
figure.wide { grid-column: span 2; } figure p { font-size: 13px; margin: 0 0 6px; }
figcaption { font-weight: 600; margin-bottom: 4px; overflow-wrap: anywhere; }
@media (max-width: 680px) { figure.wide { grid-column: auto; } }
svg { display: block; width: 100%; height: auto; }
svg text { font: 11px system-ui, sans-serif; fill: var(--ink); } svg .muted { fill: var(--muted); }
svg .strong { fill: var(--on); }
.bar { fill: var(--bar); } .right { fill: var(--right); } .wrong { fill: var(--wrong); }
.cell { fill: var(--page); } .axis { stroke: var(--line); } .cut { stroke: var(--muted); }
.ideal { stroke: var(--muted); stroke-dasharray: 4 4; } .points { fill: var(--bar); fill-opacity: .5; }
details { margin-top: 6px; } summary { color: var(--muted); font-size: 13px; cursor: pointer; }
table { border-collapse: collapse; width: 100%; font-size: 13px; font-variant-numeric: tabular-nums; }
td { border-top: 1px solid var(--line); padding: 3px 0; overflow-wrap: anywhere; } td + td { text-align: right; }
pre { background: var(--paper); border: 1px solid var(--line); border-radius: 8px; padding: 12px 16px; margin: 0;
  overflow-x: auto; font: 13px/1.5 ui-monospace, monospace; }
@media print { main { padding: 0; } figure { break-inside: avoid; } }
"""
