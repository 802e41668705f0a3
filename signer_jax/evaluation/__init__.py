"""A run's figures on a split: glosses, poses, videos, a file each, beside the baselines that give them meaning."""

from signer_jax.evaluation.figures import Evaluation
from signer_jax.evaluation.glosses import evaluate_glosses
from signer_jax.evaluation.poses import evaluate_poses
from signer_jax.evaluation.published import score_published
from signer_jax.evaluation.signed_texts import SignedTexts, sign_films, sign_poses
from signer_jax.evaluation.signed_videos import score_signed
from signer_jax.evaluation.videos import evaluate_videos
from signer_jax.pipeline import Signer
from signer_jax.training.partitioning import on_mesh_of

__all__ = ["Evaluation", "evaluate", "from_texts"]


def evaluate(signer: Signer, split: str) -> Evaluation:
    """Every figure that the run's stages allow. Raises `SignerError` for a split that the corpus lacks."""
    result = Evaluation(joints=signer.settings.pose.joints)
    corpus, c = signer.corpus, signer.settings.evaluate
    corpus.texts(split)  # one clear line for a split that is not there
    with on_mesh_of(signer.params):
        if signer.model.slul is not None and corpus.count(split, "text"):
            evaluate_glosses(signer, split, c.sentences, result, noise=c.noise)
        if signer.model.slp_moe is not None and corpus.count(split, "pose"):
            evaluate_poses(signer, split, c.poses, result)
        # A clip is rendered from its pose.
        if signer.model.renderer is not None and corpus.count(split, "video") and corpus.count(split, "pose"):
            evaluate_videos(signer, split, c.videos, result)
    return result


def from_texts(signer: Signer, split: str, result: Evaluation) -> SignedTexts:
    """What `evaluate` leaves out, since a training's end waits for it: poses of texts by published scores, and videos
    of texts. Returns what was signed, to be written as files.
    """
    c = signer.settings.evaluate
    poses = sign_poses(signer, split, c.poses)
    score_published(signer, poses, result)
    films = sign_films(signer, split, c.videos)
    if signer.model.slp_moe is not None and films:
        score_signed(signer, [one.truth for one in films.values()], [one.made for one in films.values()], result)
    return SignedTexts(poses, films)
