"""A whole chain beside diffusers' pipelines: a pose or a picture in, the pixels of a video out, segment by segment.

Both have the same noise, levels, states of the text and tokens of the picture; what lies between is each one's own.
"""

import numpy as np
import pytest
from PIL import Image
from renderer.tiny_wan import CLIP, TEXT, Z, built, config_of, write_transformer, write_vae

from signer_jax import model as models
from signer_jax.pose.skeleton import on_joints
from signer_jax.renderer.latents import LatentStore
from signer_jax.renderer.references import ReferenceBank
from signer_jax.stations import render as station
from signer_jax.stations.render import render_many
from signer_jax.stations.studio import Studio
from signer_jax.types import Pose

torch = pytest.importorskip("torch")
diffusers = pytest.importorskip("diffusers")
pytestmark = pytest.mark.parity

SIZE, GRID, WINDOW, STEPS = 32, 8, 13, 2
ANIMATE = "wan2.2-animate-14b"


class Chain:
    """Our chain of a variant, what both are given, and diffusers' pipeline of the same folders."""

    def __init__(self, name: str, folder, overlap: int, guidance: float, frames: int):
        rng = np.random.default_rng(1)
        c = config_of(name, write_transformer(folder / "wan", name), write_vae(folder / "vae"))
        c.data.size, c.renderer.window, c.renderer.overlap, c.renderer.control_size = SIZE, WINDOW, overlap, SIZE
        c.renderer.control = "variant" if name == ANIMATE else "none"
        c.renderer.steps, c.renderer.solver = STEPS, "euler"
        self.folder, self.overlap, self.guidance, self.frames = folder, overlap, guidance, frames
        model, params, settings = built(c)
        self.renderer, self.joints = model.renderer, model.joints
        self.picture = rng.integers(0, 255, (SIZE // 8, SIZE // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
        self.tokens = rng.normal(size=(1, 257, CLIP)).astype(np.float32)
        self.states, self.null = np.zeros((1, 512, TEXT), np.float32), np.zeros((1, 512, TEXT), np.float32)
        self.states[:, :9], self.null[:, :1] = rng.normal(size=(9, TEXT)), rng.normal(size=(1, TEXT))
        self.faces = rng.integers(0, 255, (frames, 16, 16, 3), np.uint8)
        moves = rng.normal(0, 0.1, (1, 128, 3)) + rng.normal(0, 0.05, (frames, 128, 3)).cumsum(axis=0)
        self.pose = Pose(moves.astype(np.float32), np.ones((frames, 128), np.float32), 16.0)
        j = len(model.joints)
        bank = ReferenceBank(
            np.zeros((1, GRID, GRID, Z), np.float32), np.zeros((1, j, 2), np.float32), np.ones((1, j), np.float32),
            np.arange(1),
        )  # fmt: skip
        store = LatentStore(folder, "", *models.latent_constants(model, settings), {"a": bank}, np.eye(Z, dtype="f"))
        self.studio = Studio.of(
            model.renderer, model.vae, params, store, model.joints, 2, size=(SIZE, SIZE), window=WINDOW,
            overlap=overlap, guidance=1.0, share_noise=False, seed=0, guidance_each={"text": guidance},
            null=self.null[0, :1], see=lambda _: self.tokens[0] if self.renderer.variant.clip_dim else None,
        )  # fmt: skip

    def ours(self) -> np.ndarray:
        look = station.style(self.studio, picture=self.picture)
        faces = {"faces": [self.faces]} if self.renderer.variant.face else {}
        return render_many([self.pose], [look], None, None, self.studio, [self.states[0, :9]], **faces)[0].video

    # ---- Theirs ------------------------------------------------------------------------------------------------------
    def parts(self):
        """Autoencoder, and a scheduler with our levels: theirs end elsewhere (docs/wan.md)."""
        levels = list(map(float, self.renderer.schedule.levels()[:-1]))

        class Levels(diffusers.FlowMatchEulerDiscreteScheduler):
            def set_timesteps(self, count=None, device=None, **_):
                super().set_timesteps(sigmas=levels, device=device)

        vae = diffusers.AutoencoderKLWan.from_pretrained(self.folder / "vae")
        vae.register_to_config(scale_factor_temporal=4, scale_factor_spatial=4)
        return vae, Levels()

    def made(self, pipe, **given) -> np.ndarray:
        pipe.set_progress_bar_config(disable=True)
        pipe.encode_image = lambda *_, **__: torch.from_numpy(self.tokens)
        with torch.no_grad():
            video = pipe(
                prompt_embeds=torch.from_numpy(self.states), negative_prompt_embeds=torch.from_numpy(self.null),
                height=SIZE, width=SIZE, num_inference_steps=STEPS, guidance_scale=self.guidance, output_type="np",
                **given,
            ).frames[0]  # fmt: skip
        return video

    def noise(self):
        return torch.from_numpy(np.moveaxis(np.asarray(self.studio.noise), -1, 1).copy())

    def animated(self) -> np.ndarray:
        vae, scheduler = self.parts()
        model = diffusers.WanAnimateTransformer3DModel.from_pretrained(self.folder / "wan" / "transformer")
        pipe = diffusers.WanAnimatePipeline(None, None, vae, scheduler, None, None, model)
        pipe.prepare_latents = lambda *_, **__: self.noise()
        # Ours repeats the last frame where a segment is longer than what is left; theirs goes back and forth.
        pipe.pad_video_frames = lambda frames, count: frames + [frames[-1]] * (count - len(frames))
        seen = on_joints(self.pose, self.joints, 2)
        drawn = self.renderer.draw(seen.coordinates[None], seen.confidence[None], (GRID, GRID))
        drawn = (np.asarray(drawn)[0] * 255 + 0.5).astype(np.uint8)
        return self.made(
            pipe, image=Image.fromarray(self.picture), pose_video=list(map(Image.fromarray, drawn)),
            face_video=list(map(Image.fromarray, self.faces)), segment_frame_length=WINDOW,
            prev_segment_conditioning_frames=self.overlap,
        )  # fmt: skip

    def from_picture(self) -> np.ndarray:
        """Their pipeline makes one segment; the next begins with its last frame, as it is before it is rounded."""
        (vae, scheduler), record = self.parts(), self.renderer.variant
        kind = diffusers.WanTransformer3DModel
        models_ = [kind.from_pretrained(self.folder / "wan" / "transformer")]
        if record.experts:
            models_.append(kind.from_pretrained(self.folder / "wan" / "transformer_2"))
        pipe = diffusers.WanImageToVideoPipeline(
            None, None, vae, scheduler, None, None, *models_, boundary_ratio=record.boundary,
            expand_timesteps=record.time == "token",
        )  # fmt: skip
        made, image = [], Image.fromarray(self.picture)
        for start in range(0, max(self.frames - self.overlap, 1), WINDOW - self.overlap):
            video = self.made(pipe, image=image, num_frames=WINDOW, latents=self.noise())
            made.append(video[self.overlap if start else 0 : self.frames - start])
            image = torch.from_numpy(np.moveaxis(video[-1:], -1, 1).copy())
        return np.concatenate(made)


@pytest.mark.parametrize(
    ("name", "overlap", "guidance", "frames"),
    [(ANIMATE, 5, 2.0, 20), ("wan2.1-i2v-14b", 1, 2.0, 21), ("wan2.2-ti2v-5b", 1, 2.0, 21)],
)
def test_a_long_video_is_that_of_diffusers_pipeline(tmp_path, name, overlap, guidance, frames):
    """To hundredths of a grey level; Animate's, whose pose pictures are drawn in whole levels, to tenths."""
    chain = Chain(name, tmp_path, overlap, guidance, frames)
    ours = chain.ours()
    theirs = (chain.animated if name == ANIMATE else chain.from_picture)()
    theirs = (theirs * 255 + 0.5).astype(np.uint8)
    assert ours.shape == theirs.shape == (frames, SIZE, SIZE, 3) and ours.std() > 20
    apart = np.abs(ours.astype(float) - theirs).mean((1, 2, 3))
    repeated = np.abs(ours[WINDOW:].astype(float) - ours[overlap : frames - WINDOW + overlap]).mean()
    assert apart.max() < (0.3 if name == ANIMATE else 0.05) < 5 < repeated, (apart.round(3), repeated)
