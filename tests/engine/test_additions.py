"""What is added to a checkpoint: LoRA files merged into its weights, and other autoencoders."""

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderKL, StableDiffusionPipeline
from safetensors.torch import save_file
from torch import nn
from torch.nn import functional

from engine.errors import EditError
from engine.models.checkpoint import Checkpoint, load
from protocol.models import Model
from tests.engine.families import FAMILIES, make

CPU = torch.device("cpu")
RANK, ALPHA = 2, 3.0
BLOCK = "down_blocks.1.attentions.0.transformer_blocks.0"
LAYERS = {
    f"unet.{BLOCK}.attn1.to_q": (16, 16),
    f"unet.{BLOCK}.attn2.to_k": (16, 16),
    f"unet.{BLOCK}.attn2.to_out.0": (16, 16),
    f"unet.{BLOCK}.ff.net.0.proj": (128, 16),
    "unet.down_blocks.1.attentions.0.proj_in": (16, 16, 1),
    "unet.up_blocks.2.resnets.1.conv1": (16, 32, 3),
    "text_encoder.text_model.encoder.layers.1.self_attn.q_proj": (16, 16),
    "text_encoder.text_model.encoder.layers.0.mlp.fc1": (64, 16),
}
"""Names as diffusers has them, and (out, in[, kernel])."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return make(tmp_path_factory.mktemp("lora") / "checkpoint", FAMILIES["1.4"])


@pytest.fixture(scope="module")
def plain(folder) -> Checkpoint:
    return load(str(folder), CPU, torch.float32)


def pairs() -> dict[str, tuple[torch.Tensor, torch.Tensor]]:
    """For each layer (down, up): (rank, in[, k, k]) and (out, rank[, 1, 1])."""
    generator, made = torch.Generator().manual_seed(0), {}
    for name, (out, width, *kernel) in LAYERS.items():
        down = torch.randn(RANK, width, *kernel * 2, generator=generator)
        made[name] = down, torch.randn(out, RANK, *[1] * 2 * len(kernel), generator=generator)
    return made


def kohya() -> dict[str, torch.Tensor]:
    tensors = {}
    for name, (down, up) in pairs().items():
        flat = name.replace("unet.", "lora_unet_", 1).replace("text_encoder.", "lora_te_", 1).replace(".", "_")
        tensors |= {
            f"{flat}.lora_down.weight": down,
            f"{flat}.lora_up.weight": up,
            f"{flat}.alpha": torch.tensor(ALPHA),
        }
    return tensors


def peft() -> dict[str, torch.Tensor]:
    return {f"{name}.lora_{letter}.weight": half for name, pair in pairs().items() for letter, half in zip("AB", pair)}


def layer(checkpoint: Checkpoint, name: str) -> nn.Module:
    part, inner = name.split(".", 1)
    return getattr(checkpoint, part).get_submodule(inner.removeprefix("text_model."))


def check_merged(plain: Checkpoint, merged: Checkpoint, scale: float) -> None:
    """Every layer computes what it did plus its low-rank change; nothing else is changed."""
    for name, (down, up) in pairs().items():
        before, after = layer(plain, name), layer(merged, name)
        if isinstance(before, nn.Linear):
            x = torch.randn(4, before.in_features)
            change = x @ down.T @ up.T
        else:
            x = torch.randn(2, before.in_channels, 5, 5)
            change = functional.conv2d(functional.conv2d(x, down, padding=before.padding), up)
        torch.testing.assert_close(after(x), before(x) + scale * change, rtol=1e-4, atol=1e-4)
    changed = [
        name
        for part in ("unet", "text_encoder")
        for name, tensor in getattr(plain, part).state_dict().items()
        if not torch.equal(tensor, getattr(merged, part).state_dict()[name])
    ]
    assert len(changed) == len(LAYERS)


@pytest.mark.parametrize("weight", [0.6, -1.0])
def test_kohyas_names_are_merged_with_their_alpha(folder, plain, tmp_path, weight):
    save_file(kohya(), tmp_path / "style.safetensors")
    model = Model(str(folder), loras=((str(tmp_path / "style.safetensors"), weight),))
    check_merged(plain, load(model, CPU, torch.float32), weight * ALPHA / RANK)


@pytest.mark.parametrize("alpha", [None, 5.0])
def test_pefts_names_are_merged_with_the_alpha_of_their_metadata(folder, plain, tmp_path, alpha):
    said = {} if alpha is None else {"unet.lora_alpha": alpha, "text_encoder.lora_alpha": alpha, "unet.r": RANK}
    save_file(peft(), tmp_path / "style.safetensors", {"format": "pt", "lora_adapter_metadata": json.dumps(said)})
    model = Model(str(folder), loras=((str(tmp_path / "style.safetensors"), 0.5),))
    check_merged(plain, load(model, CPU, torch.float32), 0.5 * (1.0 if alpha is None else alpha / RANK))


def adapters(folder: Path, **config) -> dict[str, Path]:
    """The same LoRA as PEFT itself saves it: a folder for each part, whose names do not say which it is."""
    files = {}
    for part in ("unet", "text_encoder"):
        files[part] = folder / part / "adapter_model.safetensors"
        files[part].parent.mkdir(parents=True)
        tensors = {name: tensor for name, tensor in peft().items() if name.startswith(f"{part}.")}
        save_file({name.replace(part, "base_model.model", 1): tensor for name, tensor in tensors.items()}, files[part])
        said = {"peft_type": "LORA", "r": RANK, "lora_alpha": ALPHA, "use_rslora": False, "alpha_pattern": {}} | config
        files[part].with_name("adapter_config.json").write_text(json.dumps(said))
    return files


def test_pefts_own_adapters_are_merged_with_the_alpha_beside_them(folder, plain, tmp_path):
    files = adapters(tmp_path, rank_pattern={"to_q": RANK})
    files["unet"] = files["unet"].rename(files["unet"].with_suffix(".SAFETENSORS"))
    model = Model(str(folder), loras=tuple((str(file), 0.5) for file in files.values()))
    merged = load(model, CPU, torch.float32)
    check_merged(plain, merged, 0.5 * ALPHA / RANK)
    before = merged.files.digest(tmp_path / "digests")
    config = files["text_encoder"].with_name("adapter_config.json")
    config.write_text(config.read_text().replace("3.0", "6.0"))
    assert not merged.files.unchanged()
    assert load(model, CPU, torch.float32).files.digest(tmp_path / "digests") != before


@pytest.mark.parametrize(
    ("config", "words"),
    [
        (None, "how strong it is: adapter_config.json is not beside it. Put the adapter_config.json that it came with"),
        ({"lora_alpha": None}, "its adapter_config.json has no number as lora_alpha"),
        ({"use_rslora": True}, "in a way that cannot be merged here (use_rslora)"),
        ({"alpha_pattern": {"to_q": 8}}, "in a way that cannot be merged here (alpha_pattern)"),
        ({"use_dora": True}, "in a way that cannot be merged here (use_dora)"),
    ],
)
def test_adapters_of_unknown_strength_are_refused(folder, tmp_path, config, words):
    file = adapters(tmp_path, **config or {})["unet"]
    if config is None:
        file.with_name("adapter_config.json").unlink()
    with pytest.raises(EditError) as caught:
        load(Model(str(folder), loras=((str(file), 1.0),)), CPU, torch.float32)
    assert words in str(caught.value)


def test_kohyas_names_mean_what_diffusers_takes_them_for(folder, plain, tmp_path):
    """diffusers' own conversion gives names of older kinds; they are merged alike."""
    save_file(kohya(), tmp_path / "style.safetensors")
    converted, alphas = StableDiffusionPipeline.lora_state_dict(str(tmp_path / "style.safetensors"))
    assert set(alphas.values()) == {ALPHA} and any(".processor.to_q_lora.down" in name for name in converted)
    save_file({name: tensor.contiguous() for name, tensor in converted.items()}, tmp_path / "converted.safetensors")
    model = Model(str(folder), loras=((str(tmp_path / "converted.safetensors"), 1.0),))
    check_merged(plain, load(model, CPU, torch.float32), 1.0)


def test_several_are_added_up_and_half_precision_is_rounded_last(folder, plain, tmp_path):
    save_file(kohya(), tmp_path / "style.safetensors")
    once = (str(tmp_path / "style.safetensors"), 0.5)
    check_merged(plain, load(Model(str(folder), loras=(once, once)), CPU, torch.float32), ALPHA / RANK)
    half = load(Model(str(folder), loras=(once,)), CPU, torch.bfloat16)
    full = load(Model(str(folder), loras=(once,)), CPU, torch.float32)
    for name in LAYERS:
        assert torch.equal(layer(half, name).weight, layer(full, name).weight.bfloat16())


def without(tensors, end):
    return {name: tensor for name, tensor in tensors.items() if not name.endswith(end)}


@pytest.mark.parametrize(
    ("tensors", "words"),
    [
        ({"lora_unet_x.hada_w1_a": torch.zeros(1)}, "is a LoHa, which cannot be merged"),
        ({"lora_unet_x.lokr_w1": torch.zeros(1)}, "is a LoKr, which cannot be merged"),
        ({"lora_unet_x.dora_scale": torch.zeros(1)}, "is a DoRA, which cannot be merged"),
        ({"lora_te2_x.alpha": torch.zeros(1)}, "is a LoRA for Stable Diffusion XL"),
        ({"transformer.x.lora_A.weight": torch.zeros(1)}, "Stable Diffusion 3's or Flux's"),
        ({"bundle_emb.ink.string_to_param.*": torch.zeros(1)}, "comes with embeddings"),
        ({"emb_params": torch.zeros(1)}, "belongs to no LoRA ('emb_params')"),
        ({"unet.mid.to_q.lora_A.weight": torch.zeros(2, 3)}, "a layer that this checkpoint does not have (unet: mid_to_q)"),
        (without(peft(), "attn1.to_q.lora_B.weight"), "is incomplete"),
        (peft() | {f"unet.{BLOCK}.attn1.to_q.lora_A.weight": torch.zeros(RANK, 320)}, "made for a model with other sizes"),
    ],
)  # fmt: skip
def test_files_that_do_not_fit_are_refused(folder, tmp_path, tensors, words):
    save_file(tensors, tmp_path / "bad.safetensors")
    with pytest.raises(EditError) as caught:
        load(Model(str(folder), loras=((str(tmp_path / "bad.safetensors"), 1.0),)), CPU, torch.float32)
    assert caught.value.code == "checkpoint"
    assert "The LoRA 'bad.safetensors'" in caught.value.sentence and words in caught.value.sentence


def test_another_autoencoder_stands_in_for_the_checkpoints_own(folder, tmp_path):
    other = make(tmp_path / "other", FAMILIES["1.5 with another autoencoder"])
    expected = AutoencoderKL.from_pretrained(other / "vae").state_dict()
    for given in (other / "vae", other):
        checkpoint = load(Model(str(folder), vae=str(given)), CPU, torch.float32)
        assert checkpoint.vae.config.scaling_factor == 0.13025
        assert all(torch.equal(tensor, expected[name]) for name, tensor in checkpoint.vae.state_dict().items())
    (other / "vae" / "config.json").write_text(json.dumps({"_class_name": "AutoencoderTiny"}))
    with pytest.raises(EditError, match="of the kind 'AutoencoderTiny'"):
        load(Model(str(folder), vae=str(other)), CPU, torch.float32)
    with pytest.raises(EditError, match="lacks config.json"):
        load(Model(str(folder), vae=str(tmp_path)), CPU, torch.float32)
