"""The report's look: colours for light and dark, one column on a phone."""

from __future__ import annotations

__all__ = ["COLOURS", "CSS", "colour"]

COLOURS = {
    "reuse": "c1",
    "single-head": "c2",
    "cascaded-group": "c3",
    "element-wise": "c4",
    "dual-head": "c4",
    "ffn": "c5",
    "conv-ffn": "c5",
    "dw": "c6",
    "merge": "c7",
    "conv-pool": "c7",
    "stem": "c8",
    "conv-pool-stem": "c8",
    "head": "c9",
}
"""The class that colours an op kind or an attention type, in charts and legends alike."""


def colour(kind: str) -> str:
    """The class of a kind; grey for one that has none."""
    return COLOURS.get(kind, "c0")


CSS = """
:root{color-scheme:light dark;--bg:#fbfbf9;--card:#fff;--ink:#1c2024;--soft:#5d6670;--line:#dfe2e6;
--accent:#0a6c74;--c0:#9aa3ad;--c1:#0a7d86;--c2:#c8641b;--c3:#6c4fb3;--c4:#b0307a;--c5:#8fa3b8;
--c6:#c9b458;--c7:#5b7f3a;--c8:#7a6a5b;--c9:#444d57}
@media(prefers-color-scheme:dark){:root{--bg:#14171a;--card:#1c2024;--ink:#e8eaed;--soft:#a3abb5;
--line:#333a42;
--accent:#5cc8d1;--c0:#78828d;--c1:#3fb9c4;--c2:#f09552;--c3:#a78bf0;--c4:#ec73b4;--c5:#6f8aa6;
--c6:#d9c76a;--c7:#8fbf63;--c8:#b8a390;--c9:#c3ccd6}}*{box-sizing:border-box}
body{margin:0 auto;max-width:62rem;padding:1.2rem;background:var(--bg);color:var(--ink);
font:16px/1.5 system-ui,-apple-system,"Segoe UI",Roboto,sans-serif}
h1{font-size:1.6rem;line-height:1.2;margin:.4rem 0}h2{font-size:1.15rem;margin:2rem 0 .5rem}
p{margin:.4rem 0}.soft{color:var(--soft);font-size:.9rem}
section,.card{background:var(--card);border:1px solid var(--line);border-radius:10px;padding:1rem;
margin:1rem 0}section h2{margin-top:0}.wide{overflow-x:auto}
.facts{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.8rem;padding:0;
margin:1rem 0}
.facts div{background:var(--card);border:1px solid var(--line);border-radius:10px;
padding:.6rem .8rem}.facts dt{color:var(--soft);font-size:.8rem}
.facts dd{margin:0;font-size:1.15rem;font-weight:600}
table{border-collapse:collapse;width:100%;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.35rem .6rem;border-bottom:1px solid var(--line);text-align:right;white-space:nowrap}
th{color:var(--soft);font-weight:600}.left{text-align:left}
td.wrap{white-space:normal;text-align:left;overflow-wrap:anywhere}
code{font-family:ui-monospace,SFMono-Regular,Menlo,Consolas,monospace;font-size:.88em}
pre{overflow-x:auto;margin:.4rem 0}svg{display:block;width:100%;height:auto}
svg text{fill:var(--soft);font:12px system-ui,sans-serif}svg .name{fill:var(--ink)}
.grid{stroke:var(--line)}.axis{stroke:var(--soft)}.all{stroke:var(--c0);opacity:.35}
.front{fill:none;stroke:var(--accent);stroke-width:2}
.dot{fill:var(--accent);stroke:var(--card);stroke-width:1.5}
.budget{stroke:var(--c2);stroke-dasharray:5 4}
.preset{fill:var(--card);stroke:var(--c3);stroke-width:1.8}.error{stroke:var(--accent);opacity:.3}
.bar{display:flex;height:1.1rem;border-radius:4px;overflow:hidden;background:var(--line)}
.bar i{display:block;height:100%}.thin{display:block;height:.6rem;border-radius:3px}
.c0{background:var(--c0)}.c1{background:var(--c1)}.c2{background:var(--c2)}.c3{background:var(--c3)}
.c4{background:var(--c4)}.c5{background:var(--c5)}.c6{background:var(--c6)}.c7{background:var(--c7)}
.c8{background:var(--c8)}.c9{background:var(--c9)}
.legend{display:flex;flex-wrap:wrap;gap:.3rem .9rem;font-size:.85rem;color:var(--soft);
margin:.5rem 0;padding:0;list-style:none}
.legend i{display:inline-block;width:.8rem;height:.8rem;border-radius:3px;margin-right:.35rem;
vertical-align:-1px}details{border-top:1px solid var(--line);padding:.5rem 0}summary{cursor:pointer}
summary .bar{margin-top:.3rem}
summary:focus-visible,a:focus-visible{outline:2px solid var(--accent);outline-offset:2px}
.rows{display:grid;grid-template-columns:minmax(5rem,auto) 1fr;gap:.4rem .8rem;align-items:center;
font-size:.9rem}@media(max-width:34rem){body{padding:.7rem}section{padding:.7rem}
h1{font-size:1.3rem}svg text{font-size:15px}}@media print{details{break-inside:avoid}}
"""
