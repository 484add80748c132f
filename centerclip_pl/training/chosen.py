"""Whose weights were tested, in words: the same in results.json, in the printed table and in reports."""

from __future__ import annotations

from centerclip_pl.training.results import Selection


def chosen_in_words(selection: Selection) -> str:
    """How the weights of a test were chosen, e.g. ``best checkpoint of epoch 1, val/t2v/R@1 74, chosen on validation``.

    Args:
        selection: of ``results.json``.
    """
    rule, monitor, value = selection["rule"], selection["monitor"], selection["value"]
    if rule == "zero-shot":
        return "as pretrained, not trained on this dataset (zero-shot)"
    epoch = "" if selection["epoch"] is None else f" of epoch {selection['epoch']}"
    if rule == "last":
        step = "" if selection["step"] is None else f", step {selection['step']}"
        return f"last checkpoint{epoch}{step}: as training left them, chosen by no metric"
    if rule == "given":
        return f"{selection['path']}{epoch}"
    score = "" if monitor is None or value is None else f", {monitor} {value:.4g}"
    on = {"val": ", chosen on validation", "test": ", chosen on test, as published: optimistic"}
    return f"best checkpoint{epoch}{score}{on.get(str(selection['selected_on']), '')}"
