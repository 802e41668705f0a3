"""Rules on paths: what they choose, how the tree is cut and joined by them, and rules that name nothing."""

import numpy as np
import pytest
import small_stage
from flax.traverse_util import flatten_dict

from signer_jax.errors import SignerError
from signer_jax.training import trained
from signer_jax.training.loop import cut

BLOCK = {"self_attention": {"query": {"kernel": (2, 8, 8), "bias": (2, 8)}}, "wi": {"kernel": (2, 8, 16)}}
SHAPES = {
    "renderer": {
        "transformer": {"layers": BLOCK, "text_in": {"kernel": (4, 8)}, "semantics": {"kernel": (4, 8)}},
        "control": {"mid": {"conv": {"kernel": (3, 3, 8, 8)}}},
    },
    "vae": {"out": {"kernel": (4, 4)}},
}
Q = "renderer/transformer/layers/self_attention/query"


def filled(shapes, start=0.0):
    return {n: filled(v) if isinstance(v, dict) else np.full(v, start, np.float32) for n, v in shapes.items()}


PARAMS = filled(SHAPES, 1.0)


def names(tree) -> set[str]:
    """Adapters too."""
    return set(flatten_dict(tree, sep="/"))


@pytest.mark.parametrize(
    ("trains", "expected"),
    [
        (("full",), {"transformer", "control"}),
        (("branch",), {"renderer/control/mid/conv/kernel", "renderer/transformer/semantics/kernel"}),
        (("query/bias$",), {f"{Q}/bias"}),
        (("query/bias$", "branch"),
         {f"{Q}/bias", "renderer/control/mid/conv/kernel", "renderer/transformer/semantics/kernel"}),
        (("semantics",), {"renderer/transformer/semantics/kernel"}),
        (("lora", "semantics"), {"renderer/transformer/semantics/kernel"}),
        (("lora",), set()),
    ],
)  # fmt: skip
def test_what_rules_choose(trains, expected):
    found = trained.chosen(PARAMS, ("renderer",), trains, "here")
    if trains == ("full",):
        expected = set(trained.paths(PARAMS, ("renderer",)))
    assert found == expected


def test_semantics_is_nothing_in_a_run_without_slul_but_not_alone():
    alone = {"renderer": {"transformer": {"layers": PARAMS["renderer"]["transformer"]["layers"]}}}
    assert trained.chosen(alone, ("renderer",), ("lora", "semantics"), "here") == set()
    assert trained.chosen(alone, ("renderer",), ("query/bias$", "semantics"), "here") == {f"{Q}/bias"}
    with pytest.raises(SignerError, match="here: 'semantics' matches no parameter"):
        trained.chosen(alone, ("renderer",), ("semantics",), "here")


@pytest.mark.parametrize(
    ("rule", "says"),
    [
        ("renderer/contrl/.*", "matches no parameter .did you mean 'renderer/control/mid/conv/kernel'"),
        (r"self_attention/querry/kernel$", "did you mean"),
        ("vae/.*", r"matches no parameter"),  # not this stage's
        ("xyz", r"there are renderer/control, renderer/transformer"),
    ],
)
def test_a_rule_that_names_nothing_is_refused_with_the_closest(rule, says):
    with pytest.raises(SignerError, match=says) as error:
        trained.chosen(PARAMS, ("renderer",), (rule,), "config.train.renderer.trains")
    assert str(error.value).startswith("config.train.renderer.trains: ") and "\n" not in str(error.value)


def test_the_branch_of_a_model_without_one_is_refused():
    with pytest.raises(SignerError, match="'branch' matches no parameter"):
        trained.chosen({"slul": {"a": {"kernel": np.ones(3)}}}, ("slul",), ("branch",), "here")


def test_a_tree_that_was_cut_joins_to_the_same():
    chosen = trained.chosen(PARAMS, ("renderer",), ("branch", "wi"), "here")
    inside, outside = trained.split(PARAMS, chosen)
    assert names(inside) == chosen and names(inside) | names(outside) == names(PARAMS)
    assert not names(inside) & names(outside)
    joined = trained.join(outside, inside)
    assert names(joined) == names(PARAMS)
    assert joined["vae"]["out"]["kernel"] is PARAMS["vae"]["out"]["kernel"]
    other = trained.join(PARAMS, {"vae": {"out": {"kernel": 3}}})
    assert other["vae"]["out"]["kernel"] == 3 and PARAMS["vae"]["out"]["kernel"] is not other["vae"]["out"]["kernel"]


def test_a_stage_cuts_out_adapters_too_and_refuses_a_rate_for_what_stays():
    stage = small_stage.stage(None, ("renderer",), trains=("lora", "branch"), rates=("control=0.1",))
    moving, frozen = cut(stage, PARAMS, 0)
    adapters = {f"{Q}/lora_a", f"{Q}/lora_b", Q.replace("self_attention/query", "wi") + "/lora_a"}
    assert adapters < names(moving) and "renderer/control/mid/conv/kernel" in names(moving)
    assert f"{Q}/kernel" in names(frozen) and not names(moving) & names(frozen)
    # What trains itself gets no adapter.
    moving, _ = cut(small_stage.stage(None, ("renderer",), trains=("lora", "query/kernel$")), PARAMS, 0)
    assert f"{Q}/kernel" in names(moving) and f"{Q}/lora_a" not in names(moving)
    with pytest.raises(SignerError, match=r"rates: 'text_in=2' matches no parameter"):
        cut(small_stage.stage(None, ("renderer",), trains=("lora",), rates=("text_in=2",)), PARAMS, 0)


def test_a_rates_pattern_may_hold_an_equals_sign():
    assert trained.rate_of("a=b=0.5") == ("a=b", 0.5)
