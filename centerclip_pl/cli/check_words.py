"""Options looked at without a run: what can be known to fail is found in a tenth of a second."""

from __future__ import annotations

from argparse import ArgumentError
from functools import cache
from pydoc import locate
from typing import Any

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from centerclip_pl.cli.backbones import vision_shape_of
from centerclip_pl.cli.lightning import NO_DATASET, RetrievalCLI, quieten
from centerclip_pl.cli.parse_errors import find_mistake, plain_message, with_near_names
from centerclip_pl.cli.selection import settle_rule
from centerclip_pl.data.query_bank import training_clips
from centerclip_pl.errors import ConfigError
from centerclip_pl.tokens import Reducer, SegmentReducer, check_plan
from centerclip_pl.tokens.segments import frames_per_segment
from centerclip_pl.training.optim import OptimizerOptions
from centerclip_pl.training.postprocess import PostProcessing


class _ParserAlone(RetrievalCLI):
    """RetrievalCLI's parser, without a run."""

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        self.config = Namespace(subcommand=None)

    def _set_seed(self) -> None:
        pass

    def before_instantiate_classes(self) -> None:
        pass

    def instantiate_classes(self) -> None:
        pass


@cache  # a tenth of a second, for each of a sweep's trials
def _parser_alone() -> _ParserAlone:
    return _ParserAlone([])


def check_words(words: list[str]) -> Namespace:
    """Parses a LightningCLI command and refuses what can be known to fail before anything is read or loaded.

    The values of the data's options and of the recipe are looked at, the reducers, and whether they can divide frames
    and tokens as they say (tokens and blocks: where the backbone is a folder or one of OpenAI's). Nothing runs: no run
    folder, no videos, no weights. A tenth of a second.

    Args:
        words: as :func:`centerclip_pl.cli.lightning.run` takes them: ``["fit", "--config", FILE, "--option=value"]``.

    Returns:
        The options by name, e.g. ``.model.reduction.init_args.clusters``, without the subcommand's name before them.

    Raises:
        ConfigError: the first thing that is wrong, in one sentence, with a near name for an unknown one.
    """
    quieten()
    cli = _parser_alone()
    try:
        parsed = cli.parser.parse_args(words)
    except ArgumentError as error:
        error = with_near_names(error, cli.option_names(words[0], by_name=True))
        raise ConfigError(find_mistake(error) or plain_message(error)) from error
    options: Namespace = parsed[parsed.subcommand]
    if options.data is None:
        raise ConfigError(*NO_DATASET)
    if parsed.subcommand == "fit":
        settle_rule(options, words)
    data: Any = locate(options.data.class_path)
    data(**options.data.init_args.as_dict())
    if options.model.optimizer is not None:
        OptimizerOptions(**options.model.optimizer.as_dict())
    reduction = options.model.reduction
    reducers = [
        _made(each) for each in (reduction if isinstance(reduction, list) else [reduction] if reduction else [])
    ]
    frames, shape = options.data.init_args.num_frames, vision_shape_of(options.model.backbone)
    if shape is not None:
        blocks, patches = shape
        check_plan(reducers, frames, patches, blocks)
    for reducer in reducers:
        if isinstance(reducer, SegmentReducer):
            frames_per_segment(frames, reducer.segments)
            frames = reducer.segments
    PostProcessing(**options.postprocess.as_dict(), clips=training_clips)
    return options


def _made(reducer: Namespace) -> Reducer:
    kind: Any = locate(reducer.class_path)
    made: Reducer = kind(**reducer.get("init_args", Namespace()).as_dict())
    return made
