"""Small `transformers` models with random weights, exported by torch's dynamo exporter and kept in ``.cache``.

Nothing is downloaded: a configuration and a seed make the model. ``RECIPES`` lists them; ``module(recipe)`` is the
torch module with tensors in and tensors out, ``export(recipe)`` its ONNX model.
"""

from __future__ import annotations

import hashlib
import logging
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import onnx
import torch
import transformers
from torch import Tensor, nn

from tests.nets._spec import randomise

__all__ = ["RECIPES", "Recipe", "example", "export", "module"]

CACHE = Path(__file__).resolve().parent.parent / ".cache" / "transformers"
TINY = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128}
TEXT = {**TINY, "vocab_size": 500, "max_position_embeddings": 64}
IMAGE = {**TINY, "image_size": 32, "patch_size": 8}
GROUPED = {**TEXT, "num_key_value_heads": 2}


@dataclass(frozen=True)
class Recipe:
    """A configuration class and what is set in it.

    ``inputs``: what the model reads: "ids", "image", "audio" (a waveform), "mel", "spectrogram". ``model``: the class
    to make, the one that `AutoModel` chooses by default.
    """

    name: str
    config: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    inputs: str = "ids"
    model: str = "AutoModel"

    @property
    def key(self) -> str:
        """A hash over all that decides what the export looks like."""
        text = repr((self, [metadata.version(p) for p in ("torch", "transformers", "onnxscript")]))
        return hashlib.sha256(text.encode()).hexdigest()[:12]


class Tensors(nn.Module):
    """A model as exporters like it: tensors in, its first output out, no cache."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: Tensor) -> Tensor:
        """The first output: hidden states or logits."""
        found = self.model(x, return_dict=False)
        while not isinstance(found, Tensor):
            found = found[0]
        return found


def _text(name: str, config: str, **settings: Any) -> Recipe:
    return Recipe(name, config, {**TEXT, **settings})


def _grouped(name: str, config: str, **settings: Any) -> Recipe:
    return Recipe(name, config, {**GROUPED, **settings})


def _vision(name: str, config: str, **settings: Any) -> Recipe:
    return Recipe(name, config, {**IMAGE, **settings}, "image")


def _convolutional(name: str, config: str, **settings: Any) -> Recipe:
    return Recipe(name, config, settings, "image")


RECIPES = (
    _text("bert", "BertConfig"),
    Recipe("distilbert", "DistilBertConfig", {
        "vocab_size": 500, "dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "max_position_embeddings": 64,
    }),
    _text("roberta", "RobertaConfig"),
    _text("xlm_roberta", "XLMRobertaConfig"),
    _text("electra", "ElectraConfig", embedding_size=32),
    _text("albert", "AlbertConfig", embedding_size=32),
    _text("mpnet", "MPNetConfig"),
    _text("deberta_v2", "DebertaV2Config"),
    _text("mobilebert", "MobileBertConfig", embedding_size=32, intra_bottleneck_size=32, true_hidden_size=32),
    _text("squeezebert", "SqueezeBertConfig", embedding_size=64),
    _text("fnet", "FNetConfig"),
    Recipe("bert_classifier", "BertConfig", TEXT, model="AutoModelForSequenceClassification"),
    Recipe("gpt2", "GPT2Config", {"vocab_size": 500, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64}),
    Recipe("gpt2_lm", "GPT2Config", {"vocab_size": 500, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64},
           model="AutoModelForCausalLM"),
    Recipe("gpt_neo", "GPTNeoConfig", {
        "vocab_size": 500, "hidden_size": 64, "num_layers": 2, "num_heads": 4, "max_position_embeddings": 64,
        "attention_types": [[["global", "local"], 1]], "window_size": 8,
    }),
    _text("gpt_neox", "GPTNeoXConfig"),
    Recipe("gptj", "GPTJConfig", {"vocab_size": 500, "n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 64,
                                  "rotary_dim": 8}),
    Recipe("opt", "OPTConfig", {
        "vocab_size": 500, "hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "ffn_dim": 128,
        "max_position_embeddings": 64, "word_embed_proj_dim": 64,
    }),
    Recipe("bloom", "BloomConfig", {"vocab_size": 500, "hidden_size": 64, "n_layer": 2, "n_head": 4}),
    _grouped("llama", "LlamaConfig"),
    Recipe("llama_lm", "LlamaConfig", GROUPED, model="AutoModelForCausalLM"),
    _grouped("mistral", "MistralConfig"),
    _grouped("mixtral", "MixtralConfig", num_local_experts=4, experts_implementation="batched_mm"),
    _grouped("qwen2", "Qwen2Config"),
    _grouped("qwen3", "Qwen3Config", head_dim=16),
    _grouped("gemma", "GemmaConfig", head_dim=16),
    _grouped("gemma2", "Gemma2Config", head_dim=16),
    _text("phi", "PhiConfig"),
    _grouped("phi3", "Phi3Config", pad_token_id=0),
    _grouped("stablelm", "StableLmConfig"),
    _text("falcon", "FalconConfig"),
    _grouped("olmo", "OlmoConfig"),
    _grouped("granite", "GraniteConfig"),
    Recipe("t5_encoder", "T5Config", {"vocab_size": 500, "d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2,
                                      "num_heads": 4}, model="T5EncoderModel"),
    Recipe("clip_text", "CLIPTextConfig", TEXT, model="CLIPTextModel"),
    Recipe("clip_vision", "CLIPVisionConfig", IMAGE, "image", "CLIPVisionModel"),
    _vision("siglip_vision", "SiglipVisionConfig"),
    _vision("vit", "ViTConfig"),
    Recipe("vit_classifier", "ViTConfig", IMAGE, "image", "AutoModelForImageClassification"),
    _vision("deit", "DeiTConfig"),
    _vision("beit", "BeitConfig"),
    _vision("dinov2", "Dinov2Config"),
    _vision("yolos", "YolosConfig", image_size=[32, 32], num_detection_tokens=5),
    _convolutional("swin", "SwinConfig", image_size=32, patch_size=2, embed_dim=32, depths=[2, 2], num_heads=[2, 4],
                   window_size=4),
    _convolutional("swinv2", "Swinv2Config", image_size=32, patch_size=2, embed_dim=32, depths=[2, 2],
                   num_heads=[2, 4], window_size=4),
    _convolutional("segformer", "SegformerConfig", num_encoder_blocks=2, depths=[1, 1], sr_ratios=[4, 2],
                   hidden_sizes=[32, 64], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 4],
                   mlp_ratios=[2, 2]),
    _convolutional("pvt", "PvtConfig", image_size=32, num_encoder_blocks=2, depths=[1, 1],
                   sequence_reduction_ratios=[2, 1], hidden_sizes=[32, 64], patch_sizes=[4, 2], strides=[4, 2],
                   num_attention_heads=[2, 4], mlp_ratios=[2, 2]),
    _convolutional("convnext", "ConvNextConfig", hidden_sizes=[32, 64], depths=[2, 2], num_stages=2),
    _convolutional("convnextv2", "ConvNextV2Config", hidden_sizes=[32, 64], depths=[2, 2], num_stages=2),
    _convolutional("resnet", "ResNetConfig", embedding_size=16, hidden_sizes=[32, 64], depths=[2, 2]),
    _convolutional("regnet", "RegNetConfig", embedding_size=16, hidden_sizes=[32, 64], depths=[2, 2], groups_width=16),
    _convolutional("bit", "BitConfig", embedding_size=32, hidden_sizes=[64, 128], depths=[1, 1], num_groups=8),
    _convolutional("mobilenet_v1", "MobileNetV1Config", depth_multiplier=0.5),
    _convolutional("mobilenet_v2", "MobileNetV2Config", depth_multiplier=0.5),
    _convolutional("mobilevit", "MobileViTConfig", image_size=64, hidden_sizes=[32, 48, 64],
                   neck_hidden_sizes=[8, 16, 24, 32, 48, 64, 128]),
    _convolutional("efficientnet", "EfficientNetConfig", image_size=64, width_coefficient=0.5, depth_coefficient=0.5,
                   hidden_dim=640),
    _convolutional("poolformer", "PoolFormerConfig", hidden_sizes=[16, 32, 32, 64], depths=[1, 1, 1, 1]),
    _convolutional("cvt", "CvtConfig", embed_dim=[16, 32, 64], num_heads=[1, 2, 4], depth=[1, 2, 3]),
    _convolutional("levit", "LevitConfig", image_size=64, hidden_sizes=[32, 48, 64], num_attention_heads=[2, 3, 4],
                   depths=[1, 1, 1], key_dim=[8, 8, 8]),
    Recipe("whisper_encoder", "WhisperConfig", {
        "d_model": 64, "encoder_layers": 2, "decoder_layers": 1, "encoder_attention_heads": 4, "encoder_ffn_dim": 128,
        "decoder_attention_heads": 4, "decoder_ffn_dim": 128, "vocab_size": 500, "num_mel_bins": 16,
        "max_source_positions": 32, "max_target_positions": 16, "pad_token_id": 0, "bos_token_id": 1,
        "eos_token_id": 2, "decoder_start_token_id": 1,
    }, "mel", "WhisperEncoder"),
    Recipe("wav2vec2", "Wav2Vec2Config", {
        **TINY, "conv_dim": [32, 32], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4,
    }, "audio"),
    Recipe("hubert", "HubertConfig", {
        **TINY, "conv_dim": [32, 32], "conv_kernel": [10, 3], "conv_stride": [5, 2], "num_feat_extract_layers": 2,
        "num_conv_pos_embeddings": 8, "num_conv_pos_embedding_groups": 4,
    }, "audio"),
    Recipe("ast", "ASTConfig", {**TINY, "patch_size": 8, "num_mel_bins": 16, "max_length": 32}, "spectrogram"),
)  # fmt: skip


def example(recipe: Recipe, batch: int = 2) -> Tensor:
    """A seeded input of the kind and size that the recipe asks for."""
    rng = torch.Generator().manual_seed(1)
    if recipe.inputs == "ids":
        return torch.randint(3, 500, (batch, 12), generator=rng)
    size = recipe.settings.get("image_size", 32)
    side = size if isinstance(size, int) else size[0]
    shapes = {"image": (3, side, side), "audio": (400,), "mel": (16, 64), "spectrogram": (32, 16)}
    return torch.randn(batch, *shapes[recipe.inputs], generator=rng)


def module(recipe: Recipe) -> nn.Module:
    """The torch module, every parameter drawn from a seed, in eval mode."""
    torch.manual_seed(0)
    config = getattr(transformers, recipe.config)(**recipe.settings)
    model = _maker(recipe.model)(config)
    if hasattr(model.config, "use_cache"):
        model.config.use_cache = False
    randomise(model, 0)
    return Tensors(model).eval().requires_grad_(requires_grad=False)


def _maker(name: str) -> Callable[[Any], nn.Module]:
    if name == "WhisperEncoder":
        from transformers.models.whisper import modeling_whisper  # noqa: PLC0415  (not in transformers' own names)

        return modeling_whisper.WhisperEncoder
    found = getattr(transformers, name)
    return found.from_config if name.startswith("Auto") else found


def export(recipe: Recipe) -> onnx.ModelProto:
    """The ONNX model with a fixed batch of 2, from the cache where nothing has changed."""
    path = CACHE / f"{recipe.name}-{recipe.key}.onnx"
    if not path.exists():
        proto = _export(recipe)
        CACHE.mkdir(parents=True, exist_ok=True)
        for old in CACHE.glob(f"{recipe.name}-????????????.onnx"):
            old.unlink()
        partial = path.with_suffix(f".{os.getpid()}.tmp")
        partial.write_bytes(proto.SerializeToString())
        partial.replace(path)
    return onnx.load(path)


def _export(recipe: Recipe) -> onnx.ModelProto:
    threshold = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module(recipe), (example(recipe),), dynamo=True, opset_version=18, verbose=False,
                input_names=["x"], output_names=["y"],
            )  # fmt: skip
    finally:
        logging.disable(threshold)
    if program is None:
        raise ValueError(f"{recipe.name}: the exporter gave nothing back")
    return program.model_proto
