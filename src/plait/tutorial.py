"""The models of a multimodal tutorial under their usual names, composed from plait's parts.

Each smaller class lives in its part's own file. Masks are keywords, True (or 1) = valid. ``docs/tutorial.md`` tells
which test guards against which fault that such models often have.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from plait.alignment.contrastive import ContrastiveMultiModal as ContrastiveMultiModal
from plait.alignment.metrics import compute_alignment_metrics as compute_alignment_metrics
from plait.alignment.metrics import measure_modality_gap as measure_modality_gap
from plait.diagnose.plots import plot_modality_embeddings as plot_modality_embeddings
from plait.diagnose.plots import visualize_cross_attention as visualize_cross_attention
from plait.encoders.backbone import TimmConfig
from plait.encoders.language import HuggingFaceConfig, LstmConfig
from plait.encoders.tokenizer import Tokenizer
from plait.fusion.cross_attention import CrossModalAttention
from plait.fusion.early import EarlyFusion as EarlyFusion
from plait.fusion.hierarchical import HierarchicalMultiModal as HierarchicalMultiModal
from plait.fusion.late import LateFusion as LateFusion
from plait.fusion.unified import MultiModalTransformer as MultiModalTransformer
from plait.fusion.unified import TransformerBlock as TransformerBlock
from plait.memory.recurrent import ContextAwareMultiModal as ContextAwareMultiModal
from plait.nn.device import pick_device
from plait.nn.pooling import masked_mean
from plait.types import Mask, Tokens, check_below, flags

WIDTH = 768  # of everything that attends


class VLAMultiModal(nn.Module):
    """Patches and words attend to each other; the means of both become one action.

    >>> model = VLAMultiModal(vision_dim=768, language_dim=768, action_dim=7)
    >>> model(torch.randn(2, 196, 768), torch.randn(2, 20, 768)).shape
    torch.Size([2, 7])

    Args:
        vision_dim, language_dim: widths of the features; other widths than 768 are projected to it first.
        action_dim: entries of the action; the usual 7 are x, y, z, rx, ry, rz and the gripper.
        dropout: after each hidden layer of the perceptron.
    """

    def __init__(self, vision_dim: int = WIDTH, language_dim: int = WIDTH, action_dim: int = 7, dropout: float = 0.0):
        super().__init__()
        self.vision, self.language = (
            nn.Identity() if width == WIDTH else nn.Linear(width, WIDTH) for width in (vision_dim, language_dim)
        )
        self.attention = CrossModalAttention(WIDTH, n_heads=8)
        self.head = nn.Sequential(
            *(nn.Linear(2 * WIDTH, 512), nn.ReLU(), nn.Dropout(dropout)),
            *(nn.Linear(512, 256), nn.ReLU(), nn.Dropout(dropout)),
            nn.Linear(256, action_dim),
        )

    def forward(
        self,
        vision_obs: Float[Tensor, "b n v"],
        language_instruction: Float[Tensor, "b m l"],
        vision_mask: Mask | None = None,
        text_mask: Mask | None = None,
    ) -> Float[Tensor, "b a"]:
        """Masks: True = valid, omitted = everything is; what stands at other positions has no influence."""
        seen = _tokens(self.vision, vision_obs, vision_mask)
        told = _tokens(self.language, language_instruction, text_mask)
        vision, words = self.attention(seen.data, told.data, seen.mask, told.mask)
        pooled = masked_mean(Tokens(vision, seen.mask)), masked_mean(Tokens(words, told.mask))
        return self.head(torch.cat(pooled, dim=-1))

    def weights(
        self,
        vision_obs: Float[Tensor, "b n v"],
        language_instruction: Float[Tensor, "b m l"],
        vision_mask: Mask | None = None,
        text_mask: Mask | None = None,
    ) -> dict[str, Tensor]:
        """The attention weights that ``forward`` uses, as ``visualize_cross_attention`` takes them."""
        seen = _tokens(self.vision, vision_obs, vision_mask)
        told = _tokens(self.language, language_instruction, text_mask)
        return self.attention.weights(seen.data, told.data, seen.mask, told.mask)


class SimpleMultiModalVLA(nn.Module):
    """Image and words to an action: a backbone's feature map, a text encoder, and ``VLAMultiModal`` with dropout 0.1.

    >>> model = SimpleMultiModalVLA(vision_backbone="resnet50", language_model="bert-base", action_dim=7)
    >>> words = torch.tensor([[5, 8, 2, 9], [5, 8, 0, 0]])
    >>> model(torch.randn(2, 3, 224, 224), words).shape
    torch.Size([2, 7])
    >>> {way: tuple(weights.shape) for way, weights in model.weights(torch.randn(2, 3, 224, 224), words).items()}
    {'vision_to_text': (2, 8, 49, 4), 'text_to_vision': (2, 8, 4, 49)}

    Args:
        vision_backbone: a model of timm. Its patches, 7 x 7 of ResNet-50, are what the words look at.
        language_model: ``"bert-base"`` is an embedding of 10,000 words and an LSTM of width 768, which are trained.
            Anything else is a text model of the Hugging Face hub or the folder of one, which stays as it is.
        action_dim: entries of the action.
        weights: of the backbone: ``"hub"`` downloads those that timm has for it, anything else is the path of a
            .safetensors file; it then stays as it is, batch-norm statistics included. Empty: it is trained from
            scratch, for which much more data is needed.

    Raises:
        ValueError: a name that neither timm nor the hub knows, or weights that do not fit.
    """

    def __init__(
        self,
        vision_backbone: str = "resnet50",
        language_model: str = "bert-base",
        action_dim: int = 7,
        weights: str = "",
    ):
        super().__init__()
        self.vision = TimmConfig(vision_backbone, weights, frozen=bool(weights)).build((224, 224))
        if language_model == "bert-base":
            self.language, self.vocabulary = LstmConfig(WIDTH).build(10_000, length=512), 10_000
        else:
            language, tokenizer = HuggingFaceConfig(language_model).resolve(Tokenizer.build([]))
            self.language = language.build(len(tokenizer.vocabulary), tokenizer.length)
            self.vocabulary = self.language.model.config.vocab_size
        self.policy = VLAMultiModal(self.vision.shapes[0].dim, self.language.shape.dim, action_dim, dropout=0.1)

    def forward(
        self, image: Float[Tensor, "b 3 h w"], instruction_ids: Int[Tensor, "b m"], text_mask: Mask | None = None
    ) -> Float[Tensor, "b a"]:
        """One action per row.

        Args:
            image: standardised per channel, as the backbone expects it (for ResNet-50: ImageNet's mean and deviation).
            instruction_ids: numbers of words; 0 is padding, which stands on the right.
            text_mask: True = valid; omitted, every number but 0 is.
        """
        return self.policy(*self._encode(image, instruction_ids, text_mask))

    def weights(
        self, image: Float[Tensor, "b 3 h w"], instruction_ids: Int[Tensor, "b m"], text_mask: Mask | None = None
    ) -> dict[str, Tensor]:
        """The attention weights that ``forward`` uses, as ``visualize_cross_attention`` takes them."""
        return self.policy.weights(*self._encode(image, instruction_ids, text_mask))

    def _encode(self, image: Tensor, ids: Tensor, mask: Tensor | None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        if not ids.shape[1]:
            raise ValueError("instruction_ids without words: give at least one column; 0 is padding")
        check_below(self.vocabulary, ids, "instruction_ids", f"the vocabulary has words 0 to {self.vocabulary - 1}")
        (seen,) = self.vision.encode(image)
        told = self.language(ids, ids != 0 if mask is None else flags(mask))
        return seen.data, told.data, seen.mask, told.mask


def train_multimodal_vla(
    model: nn.Module, dataloader: Iterable[Mapping[str, Any]], epochs: int = 10, device: str = "auto"
) -> list[float]:
    """Train with AdamW (1e-4) on the mean squared error, and tell the mean loss of each epoch.

    ``plait train`` does the same with validation, checkpoints, exact resume, mixed precision and averaged weights.

    >>> batch = {"image": torch.randn(2, 196, 768), "instruction": torch.randn(2, 20, 768), "action": torch.zeros(2, 7)}
    >>> losses = train_multimodal_vla(VLAMultiModal(), [batch], epochs=1)  # doctest: +ELLIPSIS
    epoch 1 of 1: loss 0...

    Args:
        model: takes image and instruction; it is left on the device, in evaluation mode.
        dataloader: batches with the keys image, instruction and action; it is read once each epoch, so not an iterator.
        device: cpu, cuda, ...; auto = cuda where there is one.
    """
    where = pick_device(device)
    optimizer = torch.optim.AdamW(model.to(where).parameters(), lr=1e-4)
    means = []
    try:
        for epoch in range(1, epochs + 1):
            model.train()
            losses = []
            for batch in dataloader:
                image, instruction, action = (batch[key].to(where) for key in ("image", "instruction", "action"))
                given = model(image, instruction)
                if given.shape != action.shape:
                    raise ValueError(f"action of shape {tuple(action.shape)}: the model's is {tuple(given.shape)}")
                loss = nn.functional.mse_loss(given, action)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                losses.append(loss.detach())
            if not losses:
                raise ValueError(f"no batches in epoch {epoch}: give a DataLoader or a list with some, not an iterator")
            means.append(torch.stack(losses).mean().item())
            print(f"epoch {epoch} of {epochs}: loss {means[-1]:.4f}")
    finally:
        model.eval()
    return means


def _tokens(project: nn.Module, data: Tensor, mask: Tensor | None) -> Tokens:
    tokens = Tokens.of(data, mask)
    return Tokens(project(tokens.cleaned()), tokens.mask)
