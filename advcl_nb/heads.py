"""Keep what fine-tuning put on an encoder, and rebuild the classifier behind a card."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import torch

from advcl_nb._check import require, require_is
from advcl_nb._saved import read_file, write_file
from advcl_nb.cards import Card, named_file
from advcl_nb.checkpoint import committed_folders, load_encoder
from advcl_nb.models import Classifier

PARTS = ("linear.weight", "linear.bias", "shift", "scale")


def save_head(classifier: Classifier, path: str | Path, *, encoder: Path) -> Path:
    """Write the linear layer and the standardisation of a classifier, in float32: a few kilobytes. Returns the path.

    encoder: the file of `save_encoder` that holds the classifier's encoder; its name and sha256 are noted.
    """
    require_is(classifier, "classifier", Classifier)
    require_is(encoder, "encoder", Path)
    state = classifier.state_dict()
    weights = {name: state[name].float() for name in PARTS}
    content = {"kind": "head", "encoder": named_file(encoder), "branch": classifier.branch, "weights": weights}
    return write_file(content, path)


def load_classifier(card: Card, *, device: str | torch.device = "cpu") -> Classifier:
    """Return the classifier whose scores a card holds, in float32 and eval mode: its encoder with its head.

    Both files are found by name in ``data/checkpoints`` or in the package. Raises ValueError where the card names no
    head or a file is not the one that was scored, and FileNotFoundError where one is missing.
    """
    require_is(card, "card", Card, "Take one of adv.read_cards().")
    found = f"one without: {card.method}, {card.protocol}, {card.note}"
    require(card.head is not None, "card", "a card that names its head", found, "Fine-tune its encoder instead.")
    head = read_file(_committed(card.head))
    whole = head["kind"] == "head" and set(head["weights"]) == set(PARTS)
    require(whole, "card", f"a head with {', '.join(PARTS)}", head["kind"], "Write it with adv.save_head.")
    encoder = load_encoder(_committed(head["encoder"]), device=device)
    classes = len(head["weights"]["linear.bias"])
    model = Classifier(encoder, classes, generator=torch.Generator().manual_seed(0), branch=head["branch"]).to(device)
    model.load_state_dict(model.state_dict() | head["weights"])
    return model.eval()


def _committed(named: Mapping[str, str]) -> Path:
    """Find a file by the name and sha256 that a card or a head gives it."""
    files = [folder / named["file"] for folder in committed_folders()]
    file = next((file for file in files if file.is_file()), None)
    if file is None:
        raise FileNotFoundError(f"card: expected {named['file']} in data/checkpoints, got none. Make it again.")
    require(named_file(file) == dict(named), "card", f"{file.name} as it was scored", "another", "Restore the file.")
    return file
