from __future__ import annotations

from pathlib import Path

import pytest

from centerclip_pl.cli import main

REPOSITORY = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ("data verify demo --data.rot=x", "Demo has no option --data.rot\n  -> did you mean --data.root?"),
        ("data verify demo --data.trian=3", "Demo has no option --data.trian\n  -> did you mean --data.train?"),
        ("data verify demo --data.decoder=foo", "--data.decoder=foo: must be one of decord, pyav, torchcodec\n"),
        ("data verify demo --data.num_frames=x", "--data.num_frames=x: must be a whole number\n"),
        ("data verify demo --data.fps=fast", "--data.fps=fast: must be a number\n"),
        ("data verify demo --jobs=two", "--jobs=two: must be a whole number\n"),
        ("data download demo --only=foo", "--only=foo: must be one of annotations, videos\n"),
        ("data verify demo --jobss=2", "unrecognized arguments: --jobss=2\n"),
        (
            "train --tokens.segmens=2",
            "unrecognized arguments: --tokens.segmens=2\n  -> did you mean --tokens.segments?\n",
        ),
        ("train --datset=demo", "unrecognized arguments: --datset=demo\n  -> did you mean --dataset?\n"),
        (
            "train --trainer.max_epoch=2",
            "unrecognized arguments: --trainer.max_epoch=2\n  -> did you mean --trainer.max_epochs?\n",
        ),
        (
            "train --method=baseline --model.reduction.p=1",
            "--model.reduction.p=1 has nothing to belong to: --model.reduction is null\n",
        ),
        (
            "train --postprocess.methods=dual_softmax",
            "--postprocess.methods=dual_softmax: must be a list, in brackets: [a,b]\n",
        ),
        ("train --select=best", "--select=best: must be one of val, test, last\n"),
        ("train --dataset demo --data.rot=x", "Demo has no option --data.rot\n  -> did you mean --data.root?"),
        ("train --dataset demo --data.batch_size=many", "--data.batch_size=many: must be a whole number\n"),
        ("train --dataset demo --trainer.max_epochs=few", "--trainer.max_epochs=few: must be a whole number\n"),
        ("train --dataset demo --model.head=meanQ", "--model.head=meanQ: must be one of meanP"),
    ],
)
def test_one_sentence_with_the_option_and_what_it_takes(
    words: str, said: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(REPOSITORY)
    with pytest.raises(SystemExit) as stopped:
        main(words.split())
    assert stopped.value.code == 2
    message = capsys.readouterr().err
    assert f"error: {said}" in message
    assert "jsonargparse" not in message
    assert "<class" not in message
    assert message.rstrip().endswith("lists the options")
