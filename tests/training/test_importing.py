"""Published weights, in every form, against a CLIP that is written here from OpenAI's names and torch's own layers."""

from __future__ import annotations

import json
import os
import re
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import CLIPConfig, CLIPModel

import centerclip_pl.models
from centerclip_pl import TextVideoRetrieval
from centerclip_pl.errors import CheckpointError, ConfigError
from centerclip_pl.retrieval.heads import HEADS
from centerclip_pl.tokens import KMedoids, SegmentPooling
from centerclip_pl.training.importing import import_checkpoint, read_published
from centerclip_pl.training.optim import OptimizerOptions

pytestmark = [
    pytest.mark.filterwarnings("ignore:.*torch.jit.*deprecated.*"),
    pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning"),
]

GOLDEN = Path(__file__).parents[3] / "shared" / "golden"
needs_golden = pytest.mark.skipif(
    not GOLDEN.is_dir(), reason=f"the recordings of the published systems are not at {GOLDEN}"
)

SIDE, PATCH, WORDS, VOCABULARY, DIM = 24, 8, 12, 50, 128
FRAMES = 4


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.attn = nn.MultiheadAttention(width, width // 64, batch_first=True)
        self.ln_1 = nn.LayerNorm(width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=nn.Identity(), c_proj=nn.Linear(4 * width, width))
        )
        self.ln_2 = nn.LayerNorm(width)
        self.attn_mask = torch.full((2, 2), float("-inf"))  # no parameter, but TorchScript stores it

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        normal = self.ln_1(x)
        x = x + self.attn(normal, normal, normal, attn_mask=mask, need_weights=False)[0]
        hidden = self.mlp.c_fc(self.ln_2(x))
        return x + self.mlp.c_proj(hidden * torch.sigmoid(1.702 * hidden))


class Transformer(nn.Module):
    def __init__(self, width: int, layers: int) -> None:
        super().__init__()
        self.resblocks = nn.ModuleList(Block(width) for _ in range(layers))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        for block in self.resblocks:
            x = block(x, mask)
        return x


class Visual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        tokens = (SIDE // PATCH) ** 2 + 1
        self.conv1 = nn.Conv2d(3, 64, PATCH, PATCH, bias=False)
        self.class_embedding = nn.Parameter(torch.randn(64))
        self.positional_embedding = nn.Parameter(torch.randn(tokens, 64))
        self.ln_pre = nn.LayerNorm(64)
        self.transformer = Transformer(64, 3)
        self.ln_post = nn.LayerNorm(64)
        self.proj = nn.Parameter(torch.randn(64, DIM) / 8)

    def forward(self, pictures: Tensor) -> Tensor:
        patches = self.conv1(pictures).flatten(2).transpose(1, 2)
        cls = self.class_embedding.expand(len(patches), 1, 64)
        x = self.ln_pre(torch.cat([cls, patches], dim=1) + self.positional_embedding)
        x = self.transformer(x, torch.zeros(x.shape[1], x.shape[1], dtype=x.dtype))
        return self.ln_post(x[:, 0]) @ self.proj


class Published(nn.Module):
    """A CLIP of 3 vision blocks of 64 channels and 5 text blocks of 128, with OpenAI's names."""

    def __init__(self) -> None:
        super().__init__()
        self.visual = Visual()
        self.token_embedding = nn.Embedding(VOCABULARY, 128)
        self.positional_embedding = nn.Parameter(torch.randn(WORDS, 128))
        self.transformer = Transformer(128, 5)
        self.ln_final = nn.LayerNorm(128)
        self.text_projection = nn.Parameter(torch.randn(128, DIM) / 12)
        self.logit_scale = nn.Parameter(torch.tensor(3.25))
        for name, size in (("input_resolution", SIDE), ("context_length", WORDS), ("vocab_size", VOCABULARY)):
            self.register_buffer(name, torch.tensor(size), persistent=False)

    def forward(self, pictures: Tensor) -> Tensor:
        return self.visual(pictures)

    def encode_text(self, ids: Tensor, ends: Tensor) -> Tensor:
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        x = self.transformer(x, torch.full((ids.shape[1], ids.shape[1]), float("-inf")).triu(1))
        return self.ln_final(x[torch.arange(len(x)), ends]) @ self.text_projection


@pytest.fixture(scope="module")
def published() -> Published:
    """With weights that fp16 can hold, so that every form has the same."""
    torch.manual_seed(0)
    model = Published()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" in name or name.endswith("bias"):  # whose starts would hide a mix-up
                parameter.add_(0.1 * torch.randn_like(parameter))
            parameter.copy_(parameter.half())
    return model.eval()


def inputs() -> tuple[Tensor, Tensor, Tensor]:
    """Frames ``[2, T, 3, H, W]``, ids and mask ``[3, 6]``."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.tensor([[48, 1, 2, 3, 4, 49], [48, 5, 49, 0, 0, 0], [48, 49, 0, 0, 0, 0]])
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [1, 1, 1, 0, 0, 0], [1, 1, 0, 0, 0, 0]])
    return torch.randn(2, FRAMES, 3, SIDE, SIDE, generator=generator), ids, mask


@torch.no_grad()
def assert_same(module: TextVideoRetrieval, published: Published) -> None:
    """Embeddings, scale, and what every import promises."""
    frames, ids, mask = inputs()
    expected = published(frames.flatten(0, 1)).view(2, FRAMES, DIM)
    torch.testing.assert_close(module.encode_video(frames).segments, expected, rtol=1e-4, atol=1e-5)
    expected = published.encode_text(ids, mask.sum(dim=1) - 1)
    torch.testing.assert_close(module.encode_text(ids, mask), expected, rtol=1e-4, atol=1e-5)
    assert module.logit_scale.item() == 3.25
    assert not module.training
    assert {(t.dtype, t.device.type) for t in module.parameters()} == {(torch.float32, "cpu")}


def weights(published: Published, prefix: str = "", dtype: torch.dtype = torch.float32) -> dict[str, Tensor]:
    return {prefix + name: tensor.to(dtype, copy=True) for name, tensor in published.state_dict().items()}


def save(content: Any, path: Path, **options: Any) -> Path:
    torch.save(content, path, **options)
    return path


# OpenAI, CLIP4Clip, CenterCLIP ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
@pytest.mark.parametrize("new_format", [True, False])
@pytest.mark.parametrize("prefix", ["", "module.", "clip.", "module.clip."])
def test_state_dicts(published: Published, tmp_path: Path, prefix: str, new_format: bool, dtype: torch.dtype) -> None:
    content = weights(published, prefix, dtype)
    path = save(content, tmp_path / "pytorch_model.bin.3", _use_new_zipfile_serialization=new_format)
    assert_same(import_checkpoint(path, num_frames=FRAMES), published)
    found = read_published(path)
    assert found.format == f"{'CLIP4Clip' if 'clip.' in prefix else 'OpenAI CLIP'}, torch.save"
    assert (found.weights, found.new) == (len(content), ())
    assert found.dtypes == str(dtype).removeprefix("torch.")


@pytest.mark.parametrize("how", ["script", "trace"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_torchscript(published: Published, tmp_path: Path, how: str, dtype: torch.dtype) -> None:
    model = Published()
    model.load_state_dict(published.state_dict())
    model = model.to(dtype).eval()
    for name in ("input_resolution", "context_length", "vocab_size"):  # as it is in OpenAI's
        number = getattr(model, name)
        delattr(model, name)
        model.register_buffer(name, number)
    if how == "script":
        torch.jit.script(model).save(str(tmp_path / "ViT.pt"))
    else:
        pictures = inputs()[0].flatten(0, 1).to(dtype)
        torch.jit.trace(model, pictures, check_trace=False).save(str(tmp_path / "ViT.pt"))
    found = read_published(tmp_path / "ViT.pt", num_frames=FRAMES)
    assert_same(found.module, published)
    assert found.format == "OpenAI CLIP, TorchScript"
    assert found.weights == len(published.state_dict())


@pytest.mark.parametrize("prefix", ["clip.", "module.clip."])
def test_centerclip(published: Published, tmp_path: Path, prefix: str) -> None:
    content = {"epoch": 2, "arch": "CLIp4Clip", "best_acc1": 44.2, "state_dict": weights(published, prefix)}
    path = save(content, tmp_path / "ckpt.best.pth.tar")
    found = read_published(path, num_frames=FRAMES, segment_mask="last")
    assert_same(found.module, published)
    assert found.format == "CenterCLIP, torch.save"
    assert found.module.video.mask_rule == "last"


def test_the_public_name(published: Published, tmp_path: Path) -> None:
    path = save(weights(published), tmp_path / "x.pt")
    assert centerclip_pl.models.import_checkpoint is import_checkpoint
    assert_same(centerclip_pl.models.import_checkpoint(str(path)), published)
    with pytest.raises(AttributeError, match="no attribute 'export_checkpoint'"):
        _ = centerclip_pl.models.export_checkpoint  # type: ignore[attr-defined]


def test_options_are_those_of_the_class(published: Published, tmp_path: Path) -> None:
    path = save(weights(published), tmp_path / "x.pt")
    recipe = OptimizerOptions(learning_rate=1e-4)
    module = import_checkpoint(
        path, reduction=KMedoids(1, 2, 3), num_frames=FRAMES, optimizer=recipe, attention="eager", max_logit_scale=4.0
    )
    assert module.encode_video(inputs()[0]).segments.shape == (2, 2, DIM)
    assert (module.optimizer_options, module.attention, module.max_logit_scale) == (recipe, "eager", 4.0)
    with pytest.raises(ConfigError, match="no option heads"):
        import_checkpoint(path, heads="meanP")
    with pytest.raises(ConfigError, match="no option backbone"):
        import_checkpoint(path, backbone="openai/clip-vit-base-patch32")
    with pytest.raises(ConfigError, match="segments"):
        import_checkpoint(path, reduction=KMedoids(1, 3, 3), num_frames=FRAMES)


# Heads ---------------------------------------------------------------------------------------------------------------

LSTM = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")


def head_weights(head: str, layers: int = 4) -> dict[str, Tensor]:
    """A head's weights as CLIP4Clip names them, all different."""
    torch.manual_seed(3)
    found: dict[str, Tensor] = {}
    if head in ("seqLSTM", "seqTransf"):  # one of which has no use for it
        found["frame_position_embeddings.weight"] = torch.randn(WORDS, DIM)
    if head == "seqLSTM":
        found |= {f"lstm_visual.{name}": getattr(nn.LSTM(DIM, DIM), name).detach() for name in LSTM}
    if head == "tightTransf":
        found |= {
            "cross.embeddings.position_embeddings.weight": torch.randn(WORDS, DIM),
            "cross.pooler.ln_pool.weight": torch.randn(DIM),
            "cross.pooler.ln_pool.bias": torch.randn(DIM),
            "cross.pooler.dense.weight": torch.randn(DIM, DIM),
            "cross.pooler.dense.bias": torch.randn(DIM),
            "similarity_dense.weight": torch.randn(1, DIM),
            "similarity_dense.bias": torch.randn(1),
        }
    if head in ("seqTransf", "tightTransf"):
        blocks = Transformer(DIM, layers).state_dict()
        start = "transformerClip" if head == "seqTransf" else "cross.transformer"
        found |= {f"{start}.{name}": torch.randn_like(tensor) for name, tensor in blocks.items()}
    return found


def assert_head(module: TextVideoRetrieval, head: str, stored: dict[str, Tensor]) -> None:
    found = {name: tensor.detach() for name, tensor in module.similarity_head.state_dict().items()}
    if head == "seqLSTM":
        expected = {f"lstm.{name}": stored[f"lstm_visual.{name}"] for name in LSTM}
    else:
        start = "transformerClip" if head == "seqTransf" else "cross.transformer"
        table = {"ln_1": "layer_norm1", "ln_2": "layer_norm2", "attn.out_proj": "self_attn.out_proj"}
        table |= {"mlp.c_fc": "mlp.fc1", "mlp.c_proj": "mlp.fc2"}
        expected = {}
        for block in range(4):
            for kind in ("weight", "bias"):
                there, here = f"{start}.resblocks.{block}.", f"blocks.{block}."
                expected |= {f"{here}{b}.{kind}": stored[f"{there}{a}.{kind}"] for a, b in table.items()}
                fused = stored[f"{there}attn.in_proj_{kind}"].split(DIM)
                expected |= {f"{here}self_attn.{n}_proj.{kind}": t for n, t in zip("qkv", fused, strict=True)}
        if head == "seqTransf":
            expected["positions.weight"] = stored["frame_position_embeddings.weight"]
        else:
            expected["positions.weight"] = stored["cross.embeddings.position_embeddings.weight"]
            expected |= {f"norm.{kind}": stored[f"cross.pooler.ln_pool.{kind}"] for kind in ("weight", "bias")}
            expected |= {f"dense.{kind}": stored[f"cross.pooler.dense.{kind}"] for kind in ("weight", "bias")}
            expected |= {f"score.{kind}": stored[f"similarity_dense.{kind}"] for kind in ("weight", "bias")}
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


WITH_WEIGHTS = [head for head in HEADS if head != "meanP"]


@pytest.mark.parametrize("module_prefix", ["", "module."])
@pytest.mark.parametrize("head", WITH_WEIGHTS)
def test_a_head_is_read_off_the_file(published: Published, tmp_path: Path, head: str, module_prefix: str) -> None:
    stored = head_weights(head)
    content = {module_prefix + name: t for name, t in (weights(published, "clip.") | stored).items()}
    found = read_published(save(content, tmp_path / "x"), num_frames=FRAMES)
    assert found.module.head == head
    assert found.new == ()
    assert_same(found.module, published)
    assert_head(found.module, head, stored)
    import_checkpoint(tmp_path / "x", head=head)  # may be said


@pytest.mark.parametrize("head", WITH_WEIGHTS)
def test_a_head_that_the_file_does_not_have_starts_from_its_clip(
    published: Published, tmp_path: Path, head: str
) -> None:
    found = read_published(save(weights(published), tmp_path / "x"), head=head, num_frames=FRAMES)
    module = found.module
    assert found.new == ("head",)
    assert not module.similarity_head.training
    assert_same(module, published)
    if head == "seqLSTM":
        return
    state, text = module.similarity_head.state_dict(), module.text.text.state_dict()
    assert torch.equal(state["positions.weight"], published.positional_embedding)
    for block in range(4):
        name = f"{block}.self_attn.k_proj.weight"
        assert torch.equal(state[f"blocks.{name}"], text[f"encoder.layers.{name}"])
        expected = published.transformer.resblocks[block].attn.in_proj_weight[DIM : 2 * DIM]
        assert torch.equal(state[f"blocks.{name}"], expected)


def test_heads_that_contradict_the_file(published: Published, tmp_path: Path) -> None:
    path = save(weights(published, "clip.") | head_weights("seqTransf"), tmp_path / "x")
    for head in ("meanP", "seqLSTM", "tightTransf"):
        with pytest.raises(CheckpointError, match=f"weights are of head 'seqTransf', but head='{head}' was asked for"):
            import_checkpoint(path, head=head)
    with pytest.raises(ConfigError, match="head is 'magic'"):
        import_checkpoint(save(weights(published), tmp_path / "y"), head="magic")


def test_a_part_of_a_head(published: Published, tmp_path: Path) -> None:
    stored = head_weights("seqTransf")
    del stored["frame_position_embeddings.weight"], stored["transformerClip.resblocks.1.attn.in_proj_bias"]
    path = save(weights(published, "clip.") | stored, tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"missing \(2\): ") as caught:
        import_checkpoint(path)
    for name in ("frame_position_embeddings.weight", "transformerClip.resblocks.1.attn.in_proj_bias"):
        assert name in caught.value.problem


def test_a_head_of_another_depth(published: Published, tmp_path: Path) -> None:
    path = save(weights(published, "clip.") | head_weights("seqTransf", layers=5), tmp_path / "x")
    with pytest.raises(CheckpointError, match=r"unexpected \(12\): transformerClip\.resblocks\.4\..* and 2 more"):
        import_checkpoint(path)


# 3D patches -----------------------------------------------------------------------------------------------------------

KERNEL = "video.vision.embeddings.patch_embedding.weight"


def test_3d_patches_of_the_file(published: Published, tmp_path: Path) -> None:
    volume = torch.randn(64, 3, 3, PATCH, PATCH)
    content = weights(published, "clip.") | {"clip.visual.conv2.weight": volume}
    found = read_published(save(content, tmp_path / "x"), num_frames=FRAMES)
    assert found.module.patch == "3d"
    assert torch.equal(found.module.state_dict()[KERNEL], volume)
    assert found.weights == len(content) - 1  # without the 2D kernel
    del content["clip.visual.conv1.weight"]
    assert import_checkpoint(save(content, tmp_path / "x"), patch="3d").patch == "3d"
    with pytest.raises(CheckpointError, match="weights are of patch '3d', but patch='2d' was asked for"):
        import_checkpoint(tmp_path / "x", patch="2d")
    content["clip.visual.conv2.weight"] = volume[:, :, :2]
    with pytest.raises(CheckpointError, match=r"of another shape \(1\): clip.visual.conv2.weight \(\[64, 3, 2, 8, 8\]"):
        import_checkpoint(save(content, tmp_path / "x"))


def test_2d_patches_become_3d_ones(published: Published, tmp_path: Path) -> None:
    path = save(weights(published), tmp_path / "x")
    module = import_checkpoint(path, patch="3d", num_frames=FRAMES)
    assert torch.equal(module.state_dict()[KERNEL][:, :, 1], published.visual.conv1.weight)
    assert not module.state_dict()[KERNEL][:, :, ::2].any()
    assert_same(module, published)  # the frames before and after count for nothing yet
    assert import_checkpoint(path).patch == "2d"


# Cluster embeddings ---------------------------------------------------------------------------------------------------


def reducer(after_block: int = 1, clusters: int = 5, embedding: bool = True) -> KMedoids:
    return KMedoids(after_block, 2, clusters, cluster_embedding=embedding)


def test_cluster_embeddings(published: Published, tmp_path: Path) -> None:
    stored = [torch.randn(5, 64), torch.randn(3, 64)]
    names = [f"clip.visual.transformer.resblocks.{block}.deepcluster.cluster_embed" for block in (1, 2)]
    path = save(weights(published, "clip.") | dict(zip(names, stored, strict=True)), tmp_path / "x")
    module = import_checkpoint(path, reduction=[reducer(), reducer(2, 3)], num_frames=FRAMES)
    for index, expected in enumerate(stored):
        assert torch.equal(module.state_dict()[f"video.reducers.{index}.embedding"], expected)
    for reduction in (None, SegmentPooling(1, 2), reducer(embedding=False)):
        with pytest.raises(CheckpointError, match=rf"unexpected \(2\): {names[0]}, {names[1]}"):
            import_checkpoint(path, reduction=reduction, num_frames=FRAMES)
    with pytest.raises(CheckpointError, match=rf"unexpected \(1\): {names[1]}"):
        import_checkpoint(path, reduction=reducer(), num_frames=FRAMES)
    with pytest.raises(CheckpointError, match=r"of another shape \(1\): \S+ \(\[3, 64\] instead of \[4, 64\]\)"):
        import_checkpoint(path, reduction=[reducer(), reducer(2, 4)], num_frames=FRAMES)


def test_a_cluster_embedding_that_the_file_does_not_have_starts_from_its_clip(
    published: Published, tmp_path: Path
) -> None:
    path = save(weights(published), tmp_path / "x")
    found = read_published(path, reduction=reducer(clusters=9), num_frames=FRAMES)
    assert found.new == ("reduction",)
    embedding = found.module.state_dict()["video.reducers.0.embedding"]
    torch.testing.assert_close(embedding, published.visual.positional_embedding[1:].detach())
    trained = found.module.reducers[0]  # which a user may hand on: it keeps what it has
    with torch.no_grad():
        trained.embedding.fill_(7.0)
    again = import_checkpoint(path, reduction=trained, num_frames=FRAMES)
    assert (again.state_dict()["video.reducers.0.embedding"] == 7).all()


# Hugging Face ---------------------------------------------------------------------------------------------------------


def small_config() -> CLIPConfig:
    """Two heads of 8 and of 16 channels, GELU: what shapes do not say."""
    shared = {"num_attention_heads": 2, "hidden_act": "gelu", "layer_norm_eps": 1e-3}
    vision = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3, "image_size": SIDE, "patch_size": 8}
    text = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2, "vocab_size": 50}
    ids = {"max_position_embeddings": WORDS, "bos_token_id": 48, "eos_token_id": 49}
    return CLIPConfig(vision_config=vision | shared, text_config=text | shared | ids, projection_dim=20)


@pytest.fixture(scope="module")
def clip() -> CLIPModel:
    torch.manual_seed(5)
    return CLIPModel(small_config()).eval()


@torch.no_grad()
def assert_same_as(module: TextVideoRetrieval, clip: CLIPModel) -> None:
    frames, ids, mask = inputs()
    expected = clip(input_ids=ids, attention_mask=mask, pixel_values=frames.flatten(0, 1))
    segments = nn.functional.normalize(module.encode_video(frames).segments.flatten(0, 1), dim=-1)
    torch.testing.assert_close(segments, expected.image_embeds, rtol=1e-4, atol=1e-5)
    text = nn.functional.normalize(module.encode_text(ids, mask), dim=-1)
    torch.testing.assert_close(text, expected.text_embeds, rtol=1e-4, atol=1e-5)


Forms = dict[str, Callable[[dict[str, Tensor]], dict[str, Tensor]]]
FORMS: Forms = {
    "transformers 5": lambda state: state,
    "transformers 4": lambda state: (
        state
        | {
            "text_model.embeddings.position_ids": torch.arange(WORDS)[None],
            "vision_model.embeddings.position_ids": torch.arange(10)[None],
        }
    ),
    "within another model": lambda state: {f"clip.{name}": t for name, t in state.items()},
    "wrapped": lambda state: {f"module.{name}": t for name, t in state.items()},
    "tower models": lambda state: {re.sub(r"^(\w+_model\.)", r"\1\1", name): t for name, t in state.items()},
    "fp16": lambda state: {name: t.half() for name, t in state.items()},
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("file", ["model.safetensors", "pytorch_model.bin"])
def test_hugging_face(clip: CLIPModel, tmp_path: Path, file: str, form: str) -> None:
    clip.config.save_pretrained(tmp_path)
    state = {name: t.contiguous() for name, t in FORMS[form](clip.state_dict()).items()}
    if file == "model.safetensors":
        save_file(state, tmp_path / file)
    else:
        torch.save(state, tmp_path / file)
    reference = CLIPModel(clip.config).eval()
    reference.load_state_dict({name: t.half() if form == "fp16" else t for name, t in clip.state_dict().items()})
    for path in (tmp_path, tmp_path / file):
        assert_same_as(import_checkpoint(path), reference)
    if form in ("transformers 5", "transformers 4", "within another model", "tower models"):  # what it reads, too
        assert_same_as(import_checkpoint(path), CLIPModel.from_pretrained(tmp_path))
    if form == "transformers 5":
        with torch.device("meta"):
            assert state.keys() == CLIPModel(clip.config).state_dict().keys()


def test_hugging_face_without_a_description(published: Published, tmp_path: Path) -> None:
    module = import_checkpoint(save(weights(published), tmp_path / "x"), num_frames=FRAMES)
    clip = CLIPModel(module.clip_config)
    clip.vision_model.load_state_dict(module.video.vision.state_dict())
    clip.text_model.load_state_dict(module.text.text.state_dict())
    clip.visual_projection.load_state_dict(module.video.projection.state_dict())
    clip.text_projection.load_state_dict(module.text.projection.state_dict())
    clip.logit_scale.data.fill_(3.25)
    clip.save_pretrained(tmp_path / "folder")
    assert_same(import_checkpoint(tmp_path / "folder"), published)
    (tmp_path / "folder/config.json").unlink()
    assert_same(import_checkpoint(tmp_path / "folder"), published)


def test_a_description_of_another_model(clip: CLIPModel, tmp_path: Path) -> None:
    clip.save_pretrained(tmp_path)
    content = json.loads((tmp_path / "config.json").read_text())
    content["text_config"]["num_hidden_layers"] = 3
    (tmp_path / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match=r"text_config.num_hidden_layers is 3 there and 2 by the weights"):
        import_checkpoint(tmp_path)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(CheckpointError, match=r"config\.json: cannot be read"):
        import_checkpoint(tmp_path)


@pytest.mark.parametrize("tower", ["vision_model", "text_model"])
def test_one_tower_alone(clip: CLIPModel, tmp_path: Path, tower: str) -> None:
    state = {name: t for name, t in clip.state_dict().items() if name.startswith(tower)}
    with pytest.raises(CheckpointError, match="is no whole CLIP: it has no "):
        import_checkpoint(save(state, tmp_path / "x"))


# Our own checkpoints --------------------------------------------------------------------------------------------------


def ours(module: TextVideoRetrieval, path: Path, **changes: Any) -> Path:
    content = {"state_dict": module.state_dict() | changes}
    module.on_save_checkpoint(content)
    return save(content, path)


def trained(**options: Any) -> TextVideoRetrieval:
    torch.manual_seed(7)
    return TextVideoRetrieval(small_config(), num_frames=FRAMES, **options)


@torch.no_grad()
@pytest.mark.parametrize("head", ["meanP", "seqLSTM"])
@pytest.mark.parametrize("patch", ["2d", "3d"])
def test_our_own(tmp_path: Path, head: Any, patch: Any) -> None:
    module = trained(
        reduction=[reducer()], head=head, patch=patch, segment_mask="last", attention="eager", max_logit_scale=4.0
    ).eval()
    found = read_published(ours(module, tmp_path / "x.ckpt"))
    assert found.module.architecture() == module.architecture()
    frames, ids, mask = inputs()
    video, text = module.encode_video(frames), module.encode_text(ids, mask)
    again = found.module.encode_video(frames), found.module.encode_text(ids, mask)
    assert torch.equal(video.segments, again[0].segments)
    assert torch.equal(module.similarity(text, video), found.module.similarity(again[1], again[0]))
    assert found.format == "centerclip_pl checkpoint"
    assert found.new == ()


def test_options_replace_those_of_the_training(tmp_path: Path) -> None:
    path = ours(trained(reduction=KMedoids(1, 2, 5), segment_mask="last", attention="eager"), tmp_path / "x.ckpt")
    module = import_checkpoint(path, reduction=None, segment_mask="any", num_frames=6, attention="sdpa")
    assert (len(module.reducers), module.num_frames, module.video.mask_rule) == (0, 6, "any")
    assert module.attention == "sdpa"
    module = import_checkpoint(path, reduction=SegmentPooling(2, 4))
    assert isinstance(module.reducers[0], SegmentPooling)
    assert import_checkpoint(path).video.mask_rule == "last"


def test_options_that_our_weights_do_not_fit(tmp_path: Path) -> None:
    path = ours(trained(reduction=reducer(), head="seqLSTM", patch="3d"), tmp_path / "x.ckpt")
    for options, says in (
        ({"head": "meanP"}, "weights are of head 'seqLSTM'"),
        ({"head": "seqTransf"}, "weights are of head 'seqLSTM'"),
        ({"patch": "2d"}, "weights are of patch '3d'"),
        ({"reduction": None}, r"unexpected \(1\): video\.reducers\.0\.embedding"),
        ({"reduction": reducer(clusters=4)}, r"of another shape \(1\): video\.reducers\.0\.embedding"),
    ):
        with pytest.raises(CheckpointError, match=f"checkpoint {path}.*: .*{says}"):
            import_checkpoint(path, **options)
    module = import_checkpoint(path, reduction=reducer(after_block=2))  # the same weights elsewhere
    assert module.reducers[0].after_block == 2


def test_our_own_with_new_parts(tmp_path: Path) -> None:
    before = trained()
    found = read_published(ours(before, tmp_path / "x.ckpt"), head="seqLSTM", patch="3d", reduction=reducer(clusters=9))
    assert found.new == ("head", "reduction")
    assert torch.equal(found.module.state_dict()[KERNEL][:, :, 1], before.state_dict()[KERNEL])
    positions = before.state_dict()["video.vision.embeddings.position_embedding.weight"]
    torch.testing.assert_close(found.module.state_dict()["video.reducers.0.embedding"], positions[1:])


def test_a_reducers_weights_that_are_missing(tmp_path: Path) -> None:
    content = torch.load(ours(trained(reduction=reducer()), tmp_path / "x.ckpt"), weights_only=True)
    del content["state_dict"]["video.reducers.0.embedding"]
    with pytest.raises(CheckpointError, match=r"missing \(1\): video\.reducers\.0\.embedding"):
        import_checkpoint(save(content, tmp_path / "x.ckpt"))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"version": 99}, "has format version 99"),
        ({"head": None, "num_frames": None}, "its description lacks head, num_frames"),
        ({"clip_config": {"vision_config": 7}}, "its description of CLIP cannot be read"),
        ({"clip_config": {"projection_dim": 21}}, "its description .* is of another model"),
        ({"reduction": [{"name": "Magic", "options": {}}]}, "needs the reducer 'Magic'"),
    ],
)
def test_descriptions_that_cannot_be_followed(tmp_path: Path, changes: dict[str, Any], says: str) -> None:
    content = torch.load(ours(trained(), tmp_path / "x.ckpt"), weights_only=True)
    content["centerclip"] |= changes
    content["centerclip"] = {name: value for name, value in content["centerclip"].items() if value is not None}
    with pytest.raises(CheckpointError, match=says):
        import_checkpoint(save(content, tmp_path / "x.ckpt"))
    if "reduction" in changes:  # replaced by one that this version has
        import_checkpoint(tmp_path / "x.ckpt", reduction=None)


# Files that do not fit ------------------------------------------------------------------------------------------------


def test_missing_and_unexpected_weights_are_listed_by_the_files_own_names(published: Published, tmp_path: Path) -> None:
    content = weights(published, "module.clip.")
    del content["module.clip.ln_final.bias"], content["module.clip.visual.transformer.resblocks.1.attn.in_proj_weight"]
    content["module.clip.visual.proj"] = content["module.clip.visual.proj"][:63]
    content["module.clip.visual.extra"] = torch.zeros(1)
    with pytest.raises(CheckpointError) as caught:
        import_checkpoint(save({"state_dict": content}, tmp_path / "x.tar"))
    for says in (
        r"missing \(2\): module\.clip\.\S+, module\.clip\.\S+;",
        r"module\.clip\.ln_final\.bias",
        r"module\.clip\.visual\.transformer\.resblocks\.1\.attn\.in_proj_weight",
        r"unexpected \(1\): module\.clip\.visual\.extra;",
        r"of another shape \(1\): module\.clip\.visual\.proj \(\[63, 128\] instead of \[64, 128\]\)",
    ):
        assert re.search(says, caught.value.problem), caught.value.problem
    content = weights(published)
    del content["ln_final.bias"]
    with pytest.raises(CheckpointError, match=r"missing \(1\): ln_final\.bias\n"):
        import_checkpoint(save(content, tmp_path / "x.pt"))


def test_of_many_the_first_ten_and_their_number(published: Published, tmp_path: Path) -> None:
    content = weights(published) | {f"extra.{number}": torch.zeros(1) for number in range(13)}
    with pytest.raises(CheckpointError, match=r"unexpected \(13\): extra\.0, .*extra\.9, and 3 more\n"):
        import_checkpoint(save(content, tmp_path / "x"))


def test_weights_beside_clip_that_are_no_head(published: Published, tmp_path: Path) -> None:
    content = weights(published, "clip.") | {"time_embedding.weight": torch.zeros(3)}
    with pytest.raises(CheckpointError, match=r"unexpected \(1\): time_embedding\.weight"):
        import_checkpoint(save(content, tmp_path / "x"))


def test_a_gigantic_number_of_a_block_builds_no_gigantic_model(published: Published, tmp_path: Path) -> None:
    content = weights(published) | {"visual.transformer.resblocks.99999999.ln_1.bias": torch.zeros(64)}
    with pytest.raises(CheckpointError, match=r"unexpected \(1\): visual\.transformer\.resblocks\.99999999"):
        import_checkpoint(save(content, tmp_path / "x"))


def test_sizes_that_do_not_belong_together_build_no_gigantic_model(published: Published, tmp_path: Path) -> None:
    content = weights(published)
    content["visual.conv1.weight"] = torch.zeros(1).expand(64_000_000, 3, 8, 8)
    with pytest.raises(CheckpointError, match=r"of another shape .*: .*visual\.class_embedding"):
        import_checkpoint(save(content, tmp_path / "x"))


@pytest.mark.parametrize(
    ("value", "says"), [(float("nan"), "NaN"), (float("inf"), "infinity"), (-float("inf"), "infinity")]
)
def test_values_that_are_no_numbers(published: Published, tmp_path: Path, value: float, says: str) -> None:
    content = weights(published, "clip.")
    content["clip.transformer.resblocks.2.mlp.c_fc.weight"][3, 4] = value
    with pytest.raises(CheckpointError, match=rf"clip\.transformer\.resblocks\.2\.mlp\.c_fc\.weight has .* {says}"):
        import_checkpoint(save(content, tmp_path / "x"))


def test_whole_numbers_in_place_of_weights(published: Published, tmp_path: Path) -> None:
    content = weights(published) | {"ln_final.bias": torch.zeros(128, dtype=torch.int64)}
    with pytest.raises(CheckpointError, match=r"ln_final\.bias is no plain floating-point tensor"):
        import_checkpoint(save(content, tmp_path / "x"))


def test_a_resnet(tmp_path: Path) -> None:
    content = {"visual.conv1.weight": torch.zeros(4, 3, 3, 3), "visual.layer1.0.conv1.weight": torch.zeros(4, 4, 1, 1)}
    with pytest.raises(CheckpointError, match=r"CLIP with a ResNet \(visual\.layer1") as caught:
        import_checkpoint(save(content, tmp_path / "RN50.pt"))
    assert "ViT" in str(caught.value.next_step)


def test_other_models(tmp_path: Path) -> None:
    for content, says in (
        ({"conv1.weight": torch.zeros(1), "fc.bias": torch.zeros(1)}, "not named as those of a CLIP: conv1.weight, fc"),
        ({}, "holds no weights"),
        ({"state_dict": {}}, "holds no weights"),
        ({"epoch": 3}, "its entry 'epoch' is a int, not a tensor"),
    ):
        with pytest.raises(CheckpointError, match=says):
            import_checkpoint(save(content, tmp_path / "x"))


class Harm:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.marker),))


@pytest.mark.parametrize("new_format", [True, False])
def test_code_in_a_file_is_not_run(published: Published, tmp_path: Path, new_format: bool) -> None:
    marker = tmp_path / "marker"
    for content in ({"state_dict": weights(published), "args": Harm(marker)}, weights(published) | {"x": Harm(marker)}):
        path = save(content, tmp_path / "x", _use_new_zipfile_serialization=new_format)
        with pytest.raises(CheckpointError, match="could run code: not loaded"):
            import_checkpoint(path)
        assert not marker.exists()


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such file"):
        import_checkpoint(tmp_path / "ViT-B-32.pt")


# The published systems themselves -------------------------------------------------------------------------------------


def difference(found: Tensor, expected: Tensor) -> float:
    return float((found - expected).norm() / expected.norm())


@torch.no_grad()
def assert_golden(module: TextVideoRetrieval, system: str, case: str) -> None:
    given, expected = (
        load_file(GOLDEN / system / "inputs.safetensors"),
        load_file(GOLDEN / system / f"{case}.safetensors"),
    )
    for batch in ("full", "padded"):
        video = module.encode_video(given[f"{batch}.frames"].float(), given[f"{batch}.frame_mask"])
        text = module.encode_text(given[f"{batch}.input_ids"], given[f"{batch}.attention_mask"])
        assert difference(video.segments, expected[f"{batch}.video"]) < 1e-4
        assert difference(text, expected[f"{batch}.text"]) < 1e-4
        assert difference(module.similarity(text, video), expected[f"{batch}.logits"]) < 1e-4


@needs_golden
@pytest.mark.parametrize(
    ("case", "options"),
    [
        ("baseline_meanP", {}),
        ("kmedoids_b2_s4", {"reduction": KMedoids(2, 4, 16)}),
        ("patch3d_meanP", {"patch": "3d"}),
    ],
)
def test_centerclips_own_numbers(case: str, options: dict[str, Any]) -> None:
    path = GOLDEN / "centerclip/ckpt.best.pth.tar"
    assert_golden(import_checkpoint(path, segment_mask="last", **options), "centerclip", case)


@needs_golden
def test_clip4clips_own_numbers() -> None:
    module = import_checkpoint(GOLDEN / "clip4clip/seqLSTM.pytorch_model.bin.0")
    assert module.head == "seqLSTM"
    assert_golden(module, "clip4clip", "seqLSTM")
