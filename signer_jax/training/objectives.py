"""What each stage minimises: `objective(params, batch, rng) -> (loss, metrics)`.

The terms are plain functions that return one value an example; masks are in them, weights and means are here. `joint`
is the paper's whole objective (2.3, end): the diffusion loss reaches the stabiliser, the gates and SLUL's encoder
through the soft blend of candidates and the differentiable control picture, and through the cross attention.
"""

from dataclasses import asdict
from typing import Any

import jax
import jax.numpy as jnp
from jax import Array

from signer_jax.data.streams import to_model_range
from signer_jax.masked import masked_mean
from signer_jax.model import Model
from signer_jax.renderer import vae_losses
from signer_jax.renderer.conditions import encoder, without
from signer_jax.renderer.losses import flow_matching
from signer_jax.renderer.render import GUIDED
from signer_jax.renderer.sampler import colour, shared_noise
from signer_jax.renderer.schedule import interpolate, velocity, velocity_weight
from signer_jax.renderer.variants import frames_of
from signer_jax.settings import Loss, Rendering, Settings, Slul
from signer_jax.slp_moe import losses as pose_losses
from signer_jax.slp_moe.experts import blend, top
from signer_jax.slul.linker import LinkerOutput, gloss_queries, linker_forward
from signer_jax.slul.losses import linker_losses
from signer_jax.training.loop import Objective

Terms = dict[str, Any]  # name -> array [b]


def weighted(terms: Terms, weights: dict[str, float]) -> tuple[Array, dict[str, Array]]:
    """The weighted sum of the terms' batch means, and the means themselves."""
    means = {name: value.astype(jnp.float32).mean() for name, value in terms.items()}
    total = jnp.sum(jnp.stack([weights.get(name, 1.0) * mean for name, mean in means.items()]))
    return total, means


def understand(
    model: Model, params: Any, batch: dict, rng: Any, c: Slul, weights: Loss, mask_id: int, *, twice: bool = False
) -> tuple[LinkerOutput, Terms]:
    """SLUL on a batch with glosses: its output and its four losses (paper 2.2), a fifth where it reads `twice`.

    What no weight counts is not computed, and its loss is not among them.
    """
    masks, dropout = jax.random.split(rng)
    output = linker_forward(
        model.slul, params["slul"], batch["source"], batch["target"],
        jax.random.uniform(masks, batch["target"].shape), c.mask_rate, mask_id,
        train=True, dropout_rng=dropout, contrastive_cross=c.contrastive_cross,
        masks=bool(weights.sagm or weights.kl), contrasts=bool(weights.contrastive), twice=twice,
    )  # fmt: skip
    terms = linker_losses(
        output, batch["target"], temperature=c.temperature, stop_anchor_gradient=c.stop_anchor_gradient,
        label_smoothing=c.label_smoothing, z_loss=c.z_loss, over_tokens=c.over_tokens,
    )  # fmt: skip
    return output, terms


def semantic(model: Model, params: Any, batch: dict) -> tuple[Array | None, Array | None]:
    """H and its mask, without dropout; (None, None) where the run has no SLUL."""
    if model.slul is None or "source" not in batch:
        return None, None
    H = model.slul.apply({"params": params["slul"]}, batch["source"], method="encode")
    return H, batch["source"] != 0


def blended_pose(
    model: Model, params: Any, batch: dict, H: Array, mask: Array, follow: str
) -> tuple[Array, Array, Array, Array]:
    """SLP-MoE's blend and the stabilised pose: (P_pose, its confidence, weights, P̂).

    `follow` "soft": P_pose is the gates' soft blend, as the paper writes it. "chosen": P_pose is the candidate that the
    ground truth follows (the top expert where that is unknown), and gradients pass to the gates as if it were the soft
    blend (straight through): the stabiliser then learns on what it is given at inference, one candidate, no average.
    """
    query = None
    if model.slp_moe.gating == "gloss":
        glosses = batch["candidate_mask"].shape[1]
        query = gloss_queries(model.slul, params["slul"], batch["target"], batch["target_gloss"], H, mask, glosses)
    # The gates decide for the whole sentence, as they do at inference; only what follows is the window's.
    weights = model.slp_moe.apply(
        {"params": params["slp_moe"]}, H, mask, batch["candidate_features"], batch["candidate_mask"],
        gloss_query=query, method="weigh",
    )  # fmt: skip
    used = weights
    if follow == "chosen":
        truth = jax.nn.one_hot(batch["chosen"], weights.shape[-1]) * batch["candidate_mask"]
        picked = jnp.where(truth.any(axis=-1, keepdims=True), truth, top(weights))
        used = picked + weights - jax.lax.stop_gradient(weights)
    pose, confidence = map(
        jnp.asarray, blend(used, batch["frame_gloss"], batch["candidates"], batch["candidate_confidence"])
    )
    stable = model.stabiliser.apply({"params": params["stabiliser"]}, pose, confidence, batch["valid"])
    return pose, confidence, weights, stable


def pose_terms(model: Model, batch: dict, confidence: Array, weights: Array, stable: Array, order: int) -> Terms:
    """The losses of SLP-MoE (over the sentence's glosses) and of the stabiliser (the window's frames; paper 2.3)."""
    both = batch["confidence"] * (confidence > 0)
    valid = batch["valid"]
    return {
        "moe": pose_losses.moe_loss(weights, batch["chosen"]),
        "entropy": pose_losses.negative_entropy(weights, batch["candidate_mask"].any(axis=-1)),
        "smooth": pose_losses.smoothness(stable, confidence, order=order, frame_mask=valid),
        "hand": pose_losses.hand_loss(stable, batch["pose"], both, model.hands, frame_mask=valid),
        "velocity": pose_losses.velocity_loss(stable, confidence, frame_mask=valid),
        "pose": pose_losses.pose_reconstruction(stable, batch["pose"], both, frame_mask=valid),
    }


def gate_figures(batch: dict, weights: Array) -> dict[str, Array]:
    """How the gates decide: their mean entropy in nats over glosses that have a candidate, and each expert's share."""
    there = batch["candidate_mask"].any(axis=-1)  # [b, n]
    shares = masked_mean(weights.astype(jnp.float32), there[..., None], axis=(0, 1))  # [e]
    entropy = masked_mean(-pose_losses.negative_entropy(weights, there), there.any(axis=-1), axis=0)
    return {"gates/entropy": entropy, **{f"gates/expert_{k}": share for k, share in enumerate(shares)}}


def frames_from(values: Array, start: Array, last: Array, length: int) -> Array:
    """`length` frames of each example `[b, t, ...]` from its own `start [b]`; what lies past `last [b]` repeats it."""
    at = jnp.minimum(start[:, None] + jnp.arange(length), last[:, None])
    return jax.vmap(lambda one, places: one[places])(values, at)


def diffusion(
    model: Model, params: Any, batch: dict, pose: Array, confidence: Array, H: Array | None, mask: Array | None,
    rng: Any, c: Rendering,
) -> Array:  # fmt: skip
    """The flow matching loss `[b]`: the velocity's squared error at levels that the schedule draws.

    It weighs more at hands and face (`hand_weight`, `face_weight`), and less at the lowest levels
    (`schedule.velocity_weight`). Pose and text are dropped together for a share `condition_dropout`, and each condition
    alone for its of `dropout_each`, which guidance needs.
    """
    renderer = model.renderer
    assert renderer is not None
    reference = batch["reference"]
    if renderer.variant.first:  # the clip's own first frame, where it is shown
        reference = batch["latents"][:, 0] * jnp.asarray(batch.get("shown", jnp.ones(1)))[:, None, None, None]
    clean = renderer.whole(batch["latents"], reference)
    if "view" in batch:  # of a clip that was resized and cut to its bucket
        pose = pose[..., :2] * batch["view"][:, None, None, 0] + batch["view"][:, None, None, 1]
    levels, noises, drops = jax.random.split(rng, 3)
    b = clean.shape[0]
    high, boundary = None, renderer.variant.boundary
    if boundary is None:
        sigma = renderer.schedule.draw(levels, b)
    else:  # one of two experts learns from a batch, and one alone is run
        sigma, high = renderer.schedule.draw_side(levels, b, boundary)
    noise = shared_noise(noises, clean.shape, shared=c.shared_noise)
    if renderer.hybrid is not None:  # published weights know white noise alone
        noise = colour(noise, batch["noise_factor"])
    keep = (jax.random.uniform(drops, (b,)) >= c.condition_dropout).astype(jnp.float32)
    drawn = renderer.draw(pose, confidence, clean.shape[2:4])
    normalise = None
    if "constants" in batch:  # the same for every example
        mean, std = batch["constants"][0]
        normalise = lambda latents: (latents - mean) / std  # noqa: E731
    conditions = renderer.conditions(
        reference, drawn, renderer.text(H, mask, b), encode=encoder(model.vae, params, normalise),
        states=batch.get("text_states"), null=batch.get("text_null"), clip=batch.get("clip"),
        blank=batch.get("blank"),
        **{name: to_model_range(batch[name]) for name in ("picture", "face") if name in batch},
    )  # fmt: skip
    conditions = without(conditions, GUIDED, keep)
    for i, (name, share) in enumerate(vars(c.dropout_each).items()):
        if share:
            alone = jax.random.uniform(jax.random.fold_in(drops, i), (b,)) >= share
            conditions = without(conditions, {name}, alone.astype(jnp.float32))
    noisy = interpolate(clean, noise, sigma)
    predicted = renderer.velocity(params["renderer"], noisy, sigma, conditions, high=high)
    weight = renderer.loss_weight(
        pose, confidence, drawn, clean.shape[2:4], conditions.reference, hand=c.hand_weight, face=c.face_weight
    )
    return velocity_weight(sigma, c.velocity_floor) * flow_matching(predicted, velocity(clean, noise), weight)


def make_objective(stage: str, model: Model, settings: Settings, mask_id: int) -> Objective:
    """The stage's objective; settings and modules are fixed, parameters and batch are not."""
    weights = asdict(settings.loss)

    def slul(params: Any, batch: dict, rng: Any) -> tuple[Array, dict[str, Array]]:
        r_drop = settings.train.slul.r_drop
        terms = understand(model, params, batch, rng, settings.slul, settings.loss, mask_id, twice=r_drop > 0)[1]
        return weighted(terms, {**weights, "r_drop": r_drop})

    def pose(params: Any, batch: dict, rng: Any) -> tuple[Array, dict[str, Array]]:
        H, mask = semantic(model, params, batch)
        assert H is not None and mask is not None
        _, confidence, gates, stable = blended_pose(model, params, batch, H, mask, settings.pose.follow)
        terms = pose_terms(model, batch, confidence, gates, stable, settings.pose.smooth_order)
        loss, means = weighted(terms, weights)
        return loss, means | gate_figures(batch, gates)

    def vae(params: Any, batch: dict, rng: Any) -> tuple[Array, dict[str, Array]]:
        variables = {"params": params["vae"]}
        mean, logvar = model.vae.apply(variables, batch["video"], method="encode")
        latents = mean + jnp.exp(0.5 * logvar) * jax.random.normal(rng, mean.shape)
        decoded = model.vae.apply(variables, latents, clip=False, method="decode")
        terms = {
            "reconstruction": vae_losses.reconstruction(decoded, batch["video"]),
            "sharpness": vae_losses.sharpness(decoded, batch["video"]),
            "divergence": vae_losses.kl(mean, logvar),
        }
        return weighted(terms, {"sharpness": settings.vae.sharpness_weight, "divergence": settings.vae.kl_weight})

    def renderer(params: Any, batch: dict, rng: Any) -> tuple[Array, dict[str, Array]]:
        H, mask = semantic(model, params, batch)
        loss = diffusion(model, params, batch, batch["pose"], batch["confidence"], H, mask, rng, settings.renderer)
        return weighted({"diffusion": loss}, {})

    def joint(params: Any, batch: dict, rng: Any) -> tuple[Array, dict[str, Array]]:
        linker_rng, diffusion_rng = jax.random.split(rng)
        linked, terms = understand(model, params, batch, linker_rng, settings.slul, settings.loss, mask_id)
        H, mask = linked.H, linked.source_mask
        _, confidence, gates, stable = blended_pose(model, params, batch, H, mask, settings.pose.follow)
        terms |= pose_terms(model, batch, confidence, gates, stable, settings.pose.smooth_order)
        # The pose's losses are of the frames around the clip too, as long as those that the stabiliser grew up on.
        # Past a short clip's end a signer stands still, in these latents and in signing.
        frames = frames_of(batch["latents"].shape[1], model.vae.temporal_ratio)
        drawn, shown = (frames_from(a, batch["latents_start"], batch["last"], frames) for a in (stable, confidence))
        terms["diffusion"] = diffusion(
            model, params, batch, drawn, shown, H, mask, diffusion_rng, settings.renderer
        )  # fmt: skip
        loss, means = weighted(terms, weights)
        return loss, means | gate_figures(batch, gates)

    objectives = {"slul": slul, "pose": pose, "vae": vae, "images": renderer, "renderer": renderer, "joint": joint}
    return objectives[stage]
