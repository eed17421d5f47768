"""Contrastive pretraining: SimCLR, RoCL, ACL and AdvCL with one engine.

The methods share views, optimiser and schedule. Each is a short function that returns its named loss parts;
`pretrain_step` is the rest of an update, and `pretrain_epochs` the loop around it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn

from advcl_nb._check import require, require_device, require_is
from advcl_nb._loop import Row, make_optimizer, require_batch, run, undone_if_broken_off
from advcl_nb._ranks import Ranks
from advcl_nb.attacks import pgd
from advcl_nb.config import Config, PretrainConfig
from advcl_nb.data import Images, batches, to_float
from advcl_nb.losses import multi_view_nt_xent, pseudo_label_loss
from advcl_nb.models import AdvCLModel, Encoder, build_model
from advcl_nb.rng import Streams
from advcl_nb.views import Views, draw_views, make_views


@dataclass
class PretrainState:
    """Everything that changes in a run; saving it is saving the run.

    step: finished updates. history: the rows so far. sums: loss parts since the last row. ranks: the processes that
    train together (see `join`); saved_to: the last file it was saved to or loaded from. These two are not saved.
    """

    config: Config
    model: AdvCLModel
    optimizer: torch.optim.Optimizer
    step: int = 0
    history: list[Row] = field(default_factory=list)
    sums: dict[str, Tensor | float] = field(default_factory=dict)
    ranks: Ranks = Ranks()
    saved_to: Path | None = None

    @classmethod
    def start(cls, config: Config, *, device: str | torch.device = "cpu") -> PretrainState:
        """Begin a run: weights drawn from the seed's "init" stream, precision and layout set once, here."""
        require_is(config, "config", Config, "Write adv.preset(), or adv.Config(pretrain=config).")
        require_device(device)
        settings = config.pretrain
        model = build_model(config.model, generator=Streams(settings.seed)("init")).to(device)
        model.encoder.branch = settings.branch
        model.encoder.precision = getattr(torch, settings.precision)
        if settings.channels_last:
            model.encoder.to(memory_format=torch.channels_last)
        if settings.compile:
            model.encoder.compile()
        return cls(config, model, make_optimizer(settings, model.parameters()))

    def join(self, fabric: object) -> None:
        """Train on in every process of a launched Lightning `Fabric`, each with its share of every batch.

        All processes call it with the same state (ValueError otherwise), and then `pretrain_epochs` with the same
        images. Negatives and gradients are those of the whole batch; so is batch norm on GPUs, while on the CPU each
        process has its own. Attacks start where one process's would (L-inf from a uniform start, on the CPU, not ACL's
        pairs), or elsewhere at random.
        """
        self.ranks = Ranks(fabric)
        self.ranks.require_same(self.step, self.model)
        if self.ranks.count > 1 and next(self.model.parameters()).is_cuda:
            self.model = nn.SyncBatchNorm.convert_sync_batchnorm(self.model)

    @property
    def encoder(self) -> Encoder:
        """The encoder being trained."""
        return self.model.encoder

    @property
    def settings(self) -> PretrainConfig:
        """The run's `PretrainConfig`."""
        return self.config.pretrain


def pretrain_step(state: PretrainState, images: Tensor, labels: Tensor | None = None) -> dict[str, Tensor]:
    """Make one update from uint8 images ``(n, c, h, w)`` and, for AdvCL, their pseudo-labels ``(n, k)``.

    Returns the loss and its parts as scalars on the device, and counts the step. The learning rate is the
    optimiser's; `pretrain_epochs` sets it.
    """
    _check(state, images, labels)
    streams = Streams(state.settings.seed)
    draw = draw_views(len(images), *images.shape[2:], state.settings.views, generator=streams("views", state.step))
    mine = state.ranks.share(len(images))
    views = make_views(to_float(images[mine]), state.ranks.share_draw(draw, len(images)))
    labels = None if labels is None else labels[mine]
    state.model.train()
    with undone_if_broken_off(state.model, state.optimizer):
        parts = LOSSES[state.settings.method](state, views, labels)
        loss = torch.stack(list(parts.values())).sum()
        state.optimizer.zero_grad()
        loss.backward()
        state.ranks.mean_gradients(state.model.parameters())
        state.optimizer.step()
    state.step += 1
    return state.ranks.mean({name: part.detach() for name, part in ({"loss": loss} | parts).items()})


def pretrain_epochs(
    state: PretrainState, images: Images | Tensor, labels: Tensor | None = None, *, every: int | None = None
) -> Iterator[Row]:
    """Train to the config's last epoch, and yield a row each `every` steps (once per epoch by default).

    A row has epoch, step, the loss and its parts averaged since the last row, learning rate, images per second and
    seconds left. Break off when you like: `state` stays usable, and a new call goes on from ``state.step``, also in
    mid-epoch. `labels` are pseudo-labels ``(n, k)``, a column for each of the model's cluster_counts.
    """
    x = images.x if isinstance(images, Images) else images
    _check(state, x, labels)
    if state.settings.uses_pseudo_labels:
        counts = torch.tensor(state.config.model.cluster_counts, device=labels.device)
        inside = labels.dtype == torch.int64 and bool(((labels >= 0) & (labels < counts)).all())
        require(inside, "labels", f"int64 from 0, below {counts.tolist()} by column", labels, "Columns in that order?")
    state.ranks.share(min(len(chosen) for chosen in batches(len(x), state.settings.batch_size, generator=None)))
    step = lambda chosen: pretrain_step(state, x[chosen], None if labels is None else labels[chosen])  # noqa: E731
    yield from run(state, state.settings, len(x), step, every)


def simclr_loss(state: PretrainState, views: Views, labels: Tensor | None) -> dict[str, Tensor]:
    """SimCLR (Chen et al. 2020): two clean views attract."""
    embeddings = [state.model(view, "clean") for view in (views.view1, views.view2)]
    return {"contrast": _contrast(state, embeddings)}


def rocl_loss(state: PretrainState, views: Views, labels: Tensor | None) -> dict[str, Tensor]:
    """RoCL (Kim et al. 2020): an adversarial view of `view1` joins both views, all in the "clean" branch.

    The attack drives it away from `view2`; a small term pulls it back there. Constants as in the release's loss.py and
    attack_lib.py: the sum over both positives (twice our mean), and 1/256 of the second term. The release passes the
    gradient through one side of each similarity only; here it passes through both.
    """
    embed = lambda view: state.model(view, "clean")  # noqa: E731
    adversarial = _attack(state, lambda x: _contrast(state, [embed(x), embed(views.view2)]), views.view1, "clean")
    first, second, third = embed(views.view1), embed(views.view2), embed(adversarial)
    return {
        "contrast": 2 * _contrast(state, [first, second, third]),
        "adversarial_to_view": _contrast(state, [third, second]) / 256,
    }


def acl_loss(state: PretrainState, views: Views, labels: Tensor | None) -> dict[str, Tensor]:
    """ACL, dual stream (Jiang et al. 2020): a clean pair and an adversarial pair, each through its own branch.

    The attack perturbs both views together to maximise their contrastive loss; the mean of both losses is trained.
    """
    pair = torch.cat([views.view1, views.view2])
    embed = lambda pair, branch: [state.model(view, branch) for view in pair.chunk(2)]  # noqa: E731
    adversarial = _attack(state, lambda x: _contrast(state, embed(x, "adv")), pair, "adv")
    return {
        "contrast_clean": _contrast(state, embed(pair, "clean")) / 2,
        "contrast_adv": _contrast(state, embed(adversarial, "adv")) / 2,
    }


def advcl_loss(state: PretrainState, views: Views, labels: Tensor | None) -> dict[str, Tensor]:
    """AdvCL (Fan et al. 2021, section 3): clean, high-pass and adversarial views attract; heads learn pseudo-labels.

    Two independent attacks start from the base view: one maximises the contrastive loss of all views, the other the
    pseudo-label loss (the release's joint attack decouples into these, for the gradient's sign is all it uses). The
    clean embeddings do not depend on the attack, so they are computed once.
    """
    model, settings = state.model, state.settings
    clean = [views.view1, views.view2, views.high] if settings.high_view else [views.view1, views.view2]
    before = running_statistics(model.encoder, "clean")
    embeddings = [model(view, "clean") for view in clean]
    if settings.bn_updates == "release" and settings.attacked_in == "train":  # in eval mode nothing would move
        repeat_updates(model.encoder, "clean", before, len(clean), settings.attack.steps)
    fixed = [z.detach() for z in embeddings]
    adversarial = _attack(state, lambda x: _contrast(state, [model(x, "adv"), *fixed]), views.base, "adv")
    parts = {"contrast": _contrast(state, [model(adversarial, "adv"), *embeddings])}
    if settings.uses_pseudo_labels:
        weight = settings.pseudo_weight
        loss = lambda x: weight * pseudo_label_loss(model.head_logits(x, "adv_pseudo"), labels)  # noqa: E731
        parts["pseudo"] = loss(_attack(state, loss, views.base, "adv_pseudo"))
    return parts


LOSSES: dict[str, Callable] = {"simclr": simclr_loss, "rocl": rocl_loss, "acl": acl_loss, "advcl": advcl_loss}


def running_statistics(encoder: Encoder, branch: str) -> list[tuple[Tensor, Tensor]]:
    """Return each norm layer's running tensors of `branch` with a copy of what they hold now."""
    norms = [module for name, module in encoder.named_modules() if name.endswith(f"branches.{branch}")]
    tensors = [t for norm in norms for t in (norm.running_mean, norm.running_var, norm.num_batches_tracked)]
    return [(tensor, tensor.clone()) for tensor in tensors]


def repeat_updates(
    encoder: Encoder, branch: str, before: list[tuple[Tensor, Tensor]], forwards: int, times: int
) -> None:
    """Move the running statistics as if the `forwards` made since `before` were made `times` more, in closed form.

    The release encodes the clean views again in each attack step; weights and views stay the same, so only running
    statistics move. One round takes r to q r + c with q = 0.9^forwards; t further rounds take r1 to
    q^t r1 + (1 - q^t) / (1 - q) c.
    """
    q = (1 - torch.nn.BatchNorm2d(1).momentum) ** forwards
    for tensor, old in before:
        if tensor.is_floating_point():
            constant = tensor - q * old
            # .data: autograd has saved these tensors but does not read them in train mode, so they may change
            tensor.data.mul_(q**times).add_(constant, alpha=(1 - q**times) / (1 - q))
        else:
            tensor.add_(forwards * times)


def _check(state: PretrainState, images: Tensor, labels: Tensor | None) -> None:
    require_is(state, "state", PretrainState, "Begin with adv.PretrainState.start(config).")
    require_batch(images, state.config.model.channels, least=2)  # batch norm cannot take one
    if state.settings.uses_pseudo_labels:
        shape = (len(images), len(state.config.model.cluster_counts))
        todo = "Make them with adv.pseudo_labels(features, config.model.cluster_counts, seed=0)."
        fits = isinstance(labels, Tensor) and labels.shape == shape
        require(fits, "labels", f"pseudo-labels of shape {shape}", labels, todo)


def _attack(state: PretrainState, loss: Callable[[Tensor], Tensor], images: Tensor, branch: str) -> Tensor:
    """Run the config's attack in its batch-norm mode; under bn_updates="once" it leaves no trace in the statistics."""
    before = running_statistics(state.encoder, branch)
    dice = Streams(state.settings.seed)("attack", state.step, int(branch == "adv_pseudo"))
    generator = state.ranks.skip(images, dice)
    state.model.train(state.settings.attacked_in == "train")
    try:
        return pgd(loss, images, state.settings.attack, generator=generator)
    finally:
        state.model.train()
        if state.settings.bn_updates == "once":
            for tensor, old in before:
                tensor.copy_(old)


def _contrast(state: PretrainState, embeddings: list[Tensor]) -> Tensor:
    gathered = [state.ranks.gather(z) for z in embeddings]
    return state.settings.contrast_scale * multi_view_nt_xent(gathered, state.settings.temperature)
