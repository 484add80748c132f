"""``fit``, ``validate``, ``test`` and ``predict``: LightningCLI with this package's model, data and reports."""

from __future__ import annotations

import copy
import logging
import os
import sys
import time
import warnings
from argparse import ArgumentError
from pathlib import Path
from pydoc import locate
from typing import Any, Literal

import yaml
from jsonargparse import Namespace, set_parsing_settings
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback, LearningRateMonitor, ModelCheckpoint
from lightning.pytorch.cli import LightningArgumentParser, LightningCLI
from lightning.pytorch.loggers import Logger
from transformers.utils.logging import disable_progress_bar

from centerclip_pl.cli.backbones import image_size_of
from centerclip_pl.cli.going_on import hold, keep_seed, let_go, unfinished_run
from centerclip_pl.cli.parse_errors import with_near_names
from centerclip_pl.cli.run_config import SaveRunConfig
from centerclip_pl.cli.run_folder import (
    current_run_dir,
    forget_run_dir,
    new_run_dir,
    remove_if_empty,
    requeued_run_dir,
    runs_folder,
    started_by_others,
    use_run_dir,
)
from centerclip_pl.cli.selection import SELECT_HELP, Rule, refuse_rule, settle_rule
from centerclip_pl.data import RetrievalDataModule
from centerclip_pl.data.query_bank import training_clips
from centerclip_pl.errors import ConfigError
from centerclip_pl.launch import is_first_process
from centerclip_pl.training.callbacks import BadVideoTable, ExampleTable, ResultsWriter, ThroughputLogger
from centerclip_pl.training.checkpoint_files import LAST_NAME, DurableCheckpointIO
from centerclip_pl.training.checkpoints import check_fits, read_checkpoint
from centerclip_pl.training.disk_space import DiskSpaceCheck
from centerclip_pl.training.failing_ranks import FailingRanks, wait_at_most
from centerclip_pl.training.last_checkpoint import LastCheckpoint
from centerclip_pl.training.loggers import make_loggers
from centerclip_pl.training.module import TextVideoRetrieval
from centerclip_pl.training.nonfinite import NonFiniteGuard
from centerclip_pl.training.postprocess import PostProcessing
from centerclip_pl.training.predictions import EmbeddingWriter
from centerclip_pl.training.ranks_writer import RankWriter
from centerclip_pl.training.resuming import ContinuedMetrics, MovedCheckpoints, SayHowToResume, last_good_checkpoint
from centerclip_pl.training.selection import SelectionRule, recorded_rule
from centerclip_pl.training.sharding import ShardedStrategy, strategy_by_name
from centerclip_pl.training.stopping import StopRequests
from centerclip_pl.training.table import format_table

# `${tokens.segments}` in an experiment file is looked up in the command's own options.
set_parsing_settings(omegaconf_absolute_to_relative_paths=True)


# CLIP has nothing that they could start from, or not all of it.
_UNTRAINED_HEADS = ("seqLSTM", "tightTransf")
NO_DATASET = "no dataset was given", "add --config=experiments/datasets/NAME.yaml, or --data=CLASS"


class RetrievalCLI(LightningCLI):
    """LightningCLI with a folder for each run and this package's callbacks."""

    run_dir: Path
    rule: str | None = None
    """By what the weights of a training are chosen: ``"val"``, ``"test"`` or ``"last"``."""

    def __init__(self, args: list[str], and_test: bool = False) -> None:
        self.started = time.perf_counter()
        self.and_test = and_test
        self.words = args
        super().__init__(
            TextVideoRetrieval,
            RetrievalDataModule,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            save_config_callback=SaveRunConfig,
            seed_everything_default=0,
            trainer_defaults={"gradient_clip_val": 1.0, "enable_model_summary": False, "log_every_n_steps": 10},
            parser_kwargs={
                "parser_mode": "omegaconf+",
                "exit_on_error": False,
                "allow_abbrev": False,
                "prog": "centerclip",
            },
            args=args,
        )

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for part in ("dataset", "method", "backbone"):
            parser.add_argument(
                f"--experiment.{part}", type=str | None, help=f"name of the {part}, for folders and reports"
            )
        for part, what in (
            ("after_block", "blocks that run before the reduction"),
            ("segments", "segments of a video"),
            ("clusters", "tokens kept of a segment"),
        ):
            parser.add_argument(
                f"--tokens.{part}", type=int | None, help=f"{what}; methods refer to it as ${{tokens.{part}}}"
            )
        parser.add_argument("--select", type=Rule | None, help=SELECT_HELP)
        parser.add_argument("--run_dir", type=str | None, help="the run's folder; default: a new one below runs/")
        parser.add_argument(
            "--resume.auto", type=bool, default=True, help="`train` goes on with an unfinished run of the same options"
        )
        parser.add_argument(
            "--resume.every_minutes", type=float | None, default=10.0, help="write last.ckpt within an epoch as well"
        )
        parser.add_argument("--resume.every_steps", type=int | None, help="and after so many steps of the optimizer")
        parser.add_argument(
            "--process_timeout", type=float, default=1800.0, help="seconds that processes wait for one that hangs"
        )
        parser.add_argument("--wandb.enabled", type=bool, default=True, help="log to Weights & Biases")
        parser.add_argument("--wandb.project", type=str, default="centerclip_pl", help="its project")
        parser.add_argument("--wandb.name", type=str | None, help="the run's name; default: from the experiment")
        _add_postprocessing(parser)
        parser.add_lightning_class_args(ModelCheckpoint, "checkpoint")
        parser.set_defaults(
            {
                "checkpoint.monitor": "val/t2v/R@1",
                "checkpoint.mode": "max",
                "checkpoint.filename": "best",
                "checkpoint.enable_version_counter": False,
                "checkpoint.auto_insert_metric_name": False,
            }
        )
        parser.link_arguments("model.backbone", "data.init_args.tokenizer", _tokenizer_of)
        parser.link_arguments("data.init_args.num_frames", "model.num_frames")
        parser.link_arguments("model.image_size", "data.init_args.image_size", apply_on="instantiate")

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        """Parses; an option that does not exist is refused with the name of one that does."""
        try:
            super().parse_arguments(parser, args)
        except ArgumentError as error:
            named = with_near_names(error, self.option_names(args[0], by_name=self.and_test))
            if named is error:
                raise
            raise named from error

    def option_names(self, command: str, *, by_name: bool) -> list[str]:
        """The options of a command, ``--tokens.segments``; `by_name`: and those of ``train``."""
        parser = self._subcommand_parsers.get(command)
        names = [] if parser is None else [name for name in parser._option_string_actions if name.startswith("--")]
        return [*names, *(f"--{part}" for part in ("dataset", "method", "backbone", "experiments") if by_name)]

    def _parse_ckpt_path(self) -> None:
        # Lightning's would read the file for hyperparameters, of which ours have none, and fail on damaged ones.
        pass

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand]
        self.postprocessing = PostProcessing(**config.postprocess.as_dict(), clips=training_clips)
        if config.data is None:
            raise ConfigError(*NO_DATASET)
        self._checkpoint = None if config.ckpt_path is None else read_checkpoint(config.ckpt_path)
        self._held: Path | None = None
        if self.subcommand == "fit":
            self._go_on()
            self.rule = settle_rule(config, self.words, recorded_rule(self._checkpoint or {}))
        else:
            refuse_rule("eval" if self.subcommand == "test" else str(self.subcommand), self.words)
        validates = self.rule != "last"
        image_size = image_size_of(config.model.backbone)
        _check_data(config.data, str(self.subcommand), self.and_test, image_size, validates=validates)
        if config.run_dir is None:
            self.run_dir = new_run_dir(Path("runs"), *self._run_names())
        else:
            self.run_dir = Path(config.run_dir)
            if self.run_dir.exists() and not self.run_dir.is_dir():
                raise ConfigError(f"run_dir is {self.run_dir}, which is a file", "name a folder")
            self.run_dir.mkdir(parents=True, exist_ok=True)
        if self.run_dir != self._held:
            hold(self.run_dir)
        config.trainer.default_root_dir = str(self.run_dir)
        config.checkpoint.dirpath = config.checkpoint.dirpath or str(self.run_dir / "checkpoints")
        self._checkpoint_dir = str(config.checkpoint.dirpath)
        config.weights_only = True  # checkpoints hold tensors and plain values; code in one is refused
        if self.subcommand == "predict":
            config.return_predictions = False  # EmbeddingWriter keeps what it writes; twice would be too much
        self.save_config_kwargs = {"run_dir": self.run_dir}

    def _run_names(self) -> tuple[str, str]:
        experiment = self.config[self.subcommand].experiment
        kind = experiment.method if self.subcommand == "fit" else f"{self.subcommand}-{experiment.method or 'model'}"
        return experiment.dataset or "run", "_".join(filter(None, (kind, experiment.backbone)))

    def _go_on(self) -> None:
        """Goes on with the run of the folder that was named, of this job before it was queued again, or with the
        newest unfinished one of these options."""
        config = self.config[self.subcommand]
        if config.ckpt_path is not None:
            return
        run_dir = config.run_dir or requeued_run_dir(Path("runs"), *self._run_names()) or self._unfinished()
        folder = config.checkpoint.dirpath or (run_dir and Path(run_dir) / "checkpoints")
        if run_dir is not None and Path(run_dir).is_dir():  # before anything in it is read or mended
            self._held = Path(run_dir)
            hold(self._held)
        found = None if folder is None else last_good_checkpoint(folder, mend=is_first_process())
        if found is None:
            return
        path, self._checkpoint = found
        config.ckpt_path = str(path)
        keep_seed(config, self._checkpoint.get("centerclip_seed"))
        if is_first_process():
            print(f"going on from {path}, step {self._checkpoint['global_step']}", file=sys.stderr, flush=True)

    def _unfinished(self) -> Path | None:
        config = self.config[self.subcommand]
        if not is_first_process():
            return current_run_dir()
        if not self.and_test or not config.resume.auto or config.checkpoint.dirpath is not None or started_by_others():
            return None
        settled = copy.deepcopy(config)
        settle_rule(settled, self.words)
        options = yaml.safe_load(self._parser(self.subcommand).dump(settled, skip_unset=False))
        found = unfinished_run(runs_folder(Path("runs"), *self._run_names()), options)
        if found is not None:
            print(
                f"note: {found} has these options and is not finished; --resume.auto=false begins a new run",
                file=sys.stderr,
            )
            use_run_dir(found)
        return found

    def instantiate_classes(self) -> None:
        super().instantiate_classes()
        if self._checkpoint is not None:
            path = self.config[self.subcommand].ckpt_path
            check_fits(self._checkpoint, self.model, path, go_on=self.subcommand == "fit")
            self._checkpoint = None
        elif self.subcommand != "fit" and self.model.head in _UNTRAINED_HEADS:
            print(
                f"note: the head {self.model.head} starts from random weights: "
                "without a checkpoint its scores mean nothing",
                file=sys.stderr,
                flush=True,
            )
        words, context = self.datamodule.tokenizer.max_words, self.model.text.context_length
        if words > context:
            raise ConfigError(
                f"max_words is {words}, but the backbone's text transformer takes {context} tokens",
                f"set --data.max_words={context} or lower",
            )

    def instantiate_trainer(self, **kwargs: Any) -> Trainer:
        given = self._get(self.config_init, "trainer", default={})
        kwargs["strategy"] = strategy_by_name(given.get("strategy", "auto"))
        if isinstance(kwargs["strategy"], ShardedStrategy) and self.model.grad_cache and self._drops():
            raise ConfigError(
                "fsdp with grad_cache needs batches of one size, and on_bad_video=drop shortens some",
                "set --data.on_bad_video=resample",
            )
        if given.get("logger") is None:
            kwargs["logger"] = self._loggers()
        callbacks = given.get("callbacks") or []
        # Behind the best one (Lightning appends the defaults), so that it remembers which that is; and apart from it,
        # because `save_last` there would keep the last checkpoint that was the best when it was written.
        if given.get("enable_checkpointing") is not False:
            resume = self.config[self.subcommand].resume
            stop = StopRequests()
            self.trainer_defaults["callbacks"] = [
                stop,
                LastCheckpoint(self._checkpoint_dir, stop, resume.every_minutes, resume.every_steps),
            ]
            plugins = given.get("plugins") or []
            kwargs["plugins"] = [*(plugins if isinstance(plugins, list) else [plugins]), DurableCheckpointIO()]
        kwargs["callbacks"] = [*(callbacks if isinstance(callbacks, list) else [callbacks]), *self._callbacks()]
        trainer = super().instantiate_trainer(**kwargs)
        wait_at_most(trainer.strategy, self.config[self.subcommand].process_timeout)
        return trainer

    def _drops(self) -> bool:
        return self.config[self.subcommand].data.init_args.get("on_bad_video") == "drop"

    def _loggers(self) -> list[Logger]:
        config = self.config[self.subcommand]
        shown = yaml.safe_load(self._parser(self.subcommand).dump(config, skip_unset=False))
        name = config.wandb.name or "-".join(self.run_dir.parts[-3:])
        return make_loggers(self.run_dir, config.wandb.project, name, shown, wandb=config.wandb.enabled)

    def _callbacks(self) -> list[Callback]:
        self.results = ResultsWriter(self.run_dir, started=self.started, postprocessing=self.postprocessing)
        logging_off = self._get(self.config_init, "trainer").get("logger") is False
        rates: list[Callback] = [] if logging_off else [LearningRateMonitor("step")]
        return [
            *rates,
            DiskSpaceCheck(),
            NonFiniteGuard(self.run_dir, Path(self._checkpoint_dir) / LAST_NAME),
            ThroughputLogger(),
            BadVideoTable(),
            self.postprocessing,
            RankWriter(self.run_dir, self.postprocessing),  # before results.json, whose presence says that all is there
            self.results,
            ExampleTable(),
            EmbeddingWriter(self.run_dir / "predictions"),
            MovedCheckpoints(self._checkpoint_dir),
            ContinuedMetrics(),
            SayHowToResume(self.run_dir, self._checkpoint_dir),
            SelectionRule(self.rule),
            FailingRanks(self.run_dir),  # ends the process, so nothing comes after it
        ]

    @property
    def chosen_checkpoint(self) -> str | None:
        """The checkpoint that the run's rule chooses; None: the weights as they are now, which are the last ones."""
        callbacks = [c for c in self.trainer.checkpoint_callbacks if isinstance(c, ModelCheckpoint)]
        if self.rule == "last":
            return next((c.best_model_path for c in callbacks if isinstance(c, LastCheckpoint)), None) or None
        best = next((c.best_model_path for c in callbacks if c.monitor and c.best_model_path), None)
        if best is None and callbacks and self.trainer.is_global_zero:
            print("note: nothing was validated, so the weights as training left them are tested", file=sys.stderr)
        return best

    def after_test(self) -> None:
        """Prints the table."""
        self.print_results()

    def print_results(self) -> None:
        """Prints what the last test found and where it lies."""
        if self.trainer.is_global_zero and self.results.results is not None:
            print(format_table(self.results.results), flush=True)

    def after_predict(self) -> None:
        """Says where the embeddings lie."""
        if self.trainer.is_global_zero:
            print(f"embeddings: {self.run_dir / 'predictions'}", flush=True)


def _add_postprocessing(parser: LightningArgumentParser) -> None:
    for name, kind, default, what in (
        ("methods", list[Literal["dual_softmax", "qb_norm"]], [], "revise the test's similarities, transductively"),
        ("temperature", float, 1.0, "of the dual softmax; it divides the model's scores"),
        ("beta", float, 20.0, "inverse temperature of QB-Norm, for cosines"),
        ("bank_size", int | None, None, "training captions in QB-Norm's bank; null: all"),
        ("video_bank", bool, False, "QB-Norm from video to text too: embed training videos, at most bank_size"),
        ("seed", int, 0, "of the bank's sample"),
    ):
        parser.add_argument(f"--postprocess.{name}", type=kind, default=default, help=what)


def _check_data(data: Namespace, stage: str, and_test: bool, image_size: int | None, *, validates: bool) -> None:
    # Before the weights are loaded (or downloaded), a run folder is made and W&B is told of a run.
    if is_first_process(of_machine=True):
        kind: Any = locate(data.class_path)
        options = data.init_args.as_dict()
        if image_size is not None:
            options["image_size"] = image_size
        elif options.get("cache") is not None:
            return  # whether its frames have the right size is known when the model is
        kind(**options).check(stage, and_test=and_test, validates=validates)


def _tokenizer_of(backbone: Any) -> str:
    if not isinstance(backbone, str):
        raise ConfigError(
            "model.backbone must be a folder or a hub id on the command line", "save the model to a folder"
        )
    return backbone


def run(words: list[str], and_test: bool = False) -> RetrievalCLI:
    """Runs a LightningCLI command.

    Args:
        words: its name and options.
        and_test: whether the caller is going to test what ``fit`` trains, so that the test split must be there, and to
            let the run's folder go (`centerclip_pl.cli.going_on.let_go`).
    """
    quieten()
    forget_run_dir()
    let_go()
    try:
        cli = RetrievalCLI(words, and_test)
    except BaseException as error:
        let_go()
        if isinstance(error, Exception):
            remove_if_empty()  # a mistake that was found before the run began leaves no folder
        raise
    if not and_test:
        let_go()
    return cli


def quieten() -> None:
    """Silences advice that users of this package cannot follow, or that is not about their run."""
    for message in (
        ".*does not have many workers.*",
        ".*isinstance\\(treespec, LeafSpec\\).*",
        ".*Checkpoint directory .* exists and is not empty.*",
        ".*number of training batches .* is smaller than the logging interval.*",
        ".*Using `DistributedSampler` with the dataloaders.*",  # metrics drop what it repeats
        ".*The dirpath has changed from.*",  # a test has a folder of its own
        ".*could not find the monitored key.*",  # a training that is not validated, as --select=last allows
        ".*LightningCLI's args parameter is intended to run from within Python.*",
    ):
        warnings.filterwarnings("ignore", message)
    # Hardware that was found, tips, and bars for loading a few weights.
    logging.getLogger("lightning.pytorch.utilities.rank_zero").setLevel(logging.WARNING)
    logging.getLogger("lightning.fabric.utilities.seed").setLevel(logging.WARNING)
    disable_progress_bar()
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def fit(words: list[str]) -> None:
    """Trains."""
    run(["fit", *words])


def validate(words: list[str]) -> None:
    """Metrics on the validation split."""
    run(["validate", *words])


def test(words: list[str]) -> None:
    """Metrics, cost and results.json on the test split."""
    run(["test", *words])


def predict(words: list[str]) -> None:
    """Embeddings of videos and captions."""
    run(["predict", *words])
