"""Draws the pictures of a study, and prints its table and its comparisons.

python experiments/studies/draw.py experiments/studies/demo docs/study
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd

from centerclip_pl.plots import differences, heat_map, pareto
from centerclip_pl.plots.naming import setting_names
from centerclip_pl.plots.single_seeds import against_reference
from centerclip_pl.plots.style import save
from centerclip_pl.runs import read_runs
from centerclip_pl.statistics import summarise

METRIC = "t2v/R@1"


def table(summary: pd.DataFrame) -> str:
    """The settings as Markdown, best first."""
    lines = [
        "| method | segments | kept of each | text to video R@1 (± over seeds) | 95 % over queries | GMACs | ms |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for _, row in summary.sort_values(METRIC, ascending=False).iterrows():
        cells = [str(row["method"])]
        cells += ["" if pd.isna(row[name]) else f"{row[name]:.0f}" for name in ("segments", "clusters")]
        cells += [f"{row[METRIC]:.1f} ± {row[f'{METRIC} std']:.1f}"]
        cells += [f"{row[f'{METRIC} low']:.1f} to {row[f'{METRIC} high']:.1f}"]
        cells += [f"{row['gmacs']:.2f}", f"{row['encode_ms']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main(runs_folder: str, pictures: str) -> None:
    """Reads, prints and draws."""
    runs = read_runs(runs_folder)
    summary = summarise(runs)
    print(table(summary))
    names = setting_names(summary)
    reference = summary["method"].tolist().index("baseline")
    against = against_reference(runs, summary, reference, METRIC, resamples=10_000)
    against = against.sort_values("difference", ascending=False)
    print(against.round(3).to_string(index=False))
    save(pareto(summary, "gmacs", METRIC), Path(f"{pictures}-pareto"), formats=("svg",))
    kmedoids = summary[summary["method"] == "kmedoids"]
    save(heat_map(kmedoids, METRIC), Path(f"{pictures}-segments"), formats=("svg",))
    figure = differences(
        against["setting"],
        against["difference"],
        against["low"],
        against["high"],
        reference=names[reference],
        value=METRIC,
        told=against["verdict"] != "cannot be told",
        notes=[f"p = {p:.3f}" if p >= 0.001 else "p < 0.001" for p in against["p (Holm)"]],
        small="bars: 95 % intervals of each difference by itself, over videos and seeds; filled and p: after Holm's "
        f"correction over {len(against)} comparisons",
    )
    save(figure, Path(f"{pictures}-differences"), formats=("svg",))


if __name__ == "__main__":
    main(*sys.argv[1:])
